// Random instructions, made from the CPU's own table.
import { CODE_IP, random } from './guest.mjs';

/** Control transfers that stay in the code segment or go through the interrupt table. */
const NEAR = new Set([
  'jcc',
  'jmp',
  'call',
  'ret',
  'loop',
  'loope',
  'loopne',
  'jcxz',
  'int',
  'int3',
  'into',
  'pushf',
  'ud',
  'bound',
]);
const STRINGS = new Set(['movs', 'cmps', 'stos', 'lods', 'scas']);
const isMemory = (operand) => operand !== undefined && /^[EM]/.test(operand) && operand !== 'ES';

/**
 * The decimal adjustments: KVM's emulator has DAS, AAM and AAD in C, with other flags than processors (a 16-bit OR, where the manual says AL).
 * decimal.c asks the processor.
 */
const NOT_JUDGED = new Set(['daa', 'das', 'aaa', 'aas', 'aam', 'aad']);

export const candidates = (forms) => forms.filter((form) => (form.testable || NEAR.has(form.name)) && !NOT_JUDGED.has(form.name));

/** The 16-bit double shifts by more than 16 have an undefined result: only counts below that are tried. */
const isDouble = (form) => form.name === 'shld' || form.name === 'shrd';
/**
 * KVM's emulator pushes 32 bits for a software interrupt with a 66 prefix in real mode, where processors push 16; and 16 bits for ENTER
 * with a 66 prefix, where they push 32.
 */
const NO_66 = new Set(['int', 'int3', 'into', 'enter']);

const NO_TABLE = new Set(['int', 'int3', 'into', 'ud', 'bound']);

function encode(form, next, mode) {
  const pick = (list) => list[next() % list.length];
  const chance = (percent) => next() % 100 < percent;
  const match = /^(?:(np|66|f3|f2):)?(0f\.)?([0-9a-f]{2})(\+[rc])?(?:\/([0-7])?)?([mr])?$/.exec(form.opcode);
  const [, prefix, map, hex, plus, digit, where] = match;
  const bytes = [];
  const string = STRINGS.has(form.name);
  const [narrow, wide] = mode === 1 ? [4, 2] : [2, 4];
  let osize = narrow;
  let asize = narrow;
  if (prefix === 'f3' || prefix === 'f2') bytes.push(Number.parseInt(prefix, 16));
  if (!NO_66.has(form.name) && chance(40)) {
    bytes.push(0x66);
    osize = wide;
  }
  if (chance(20)) {
    bytes.push(0x67);
    asize = wide;
  }
  if (chance(10)) bytes.push(pick([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65]));
  if (string && chance(50)) bytes.push(pick([0xf2, 0xf3]));
  const mod = where === 'm' ? next() % 3 : where === 'r' ? 3 : pick([0, 1, 2, 3, 3]);
  if (form.lock && isMemory(form.operands[0]) && mod !== 3 && chance(10)) bytes.push(0xf0);
  if (map) bytes.push(0x0f);
  const span = plus === '+r' ? 8 : plus === '+c' ? 16 : 1;
  bytes.push(Number.parseInt(hex, 16) + (next() % span));
  const hasModrm = digit !== undefined || where !== undefined || form.operands.some((o) => /^[EGMRSCD][bwdvsp]$/.test(o));
  const immediate = (n) => {
    const value = chance(30) ? next() % 32 : next();
    for (let k = 0; k < n; k++) bytes.push((value >>> (8 * k)) & 0xff);
  };
  if (hasModrm) {
    const reg = digit !== undefined ? Number(digit) : next() % 8;
    const rm = next() % 8;
    bytes.push((mod << 6) | (reg << 3) | rm);
    if (mod !== 3) {
      let displacement = mod === 1 ? 1 : mod === 2 ? asize : 0;
      if (asize === 2 && mod === 0 && rm === 6) displacement = 2;
      if (asize === 4) {
        let base = rm;
        if (rm === 4) {
          const sib = next() & 0xff;
          bytes.push(sib);
          base = sib & 7;
        }
        if (mod === 0 && base === 5) displacement = 4;
      }
      const value = next() & (chance(80) ? 0x7fff : -1);
      for (let k = 0; k < displacement; k++) bytes.push((value >>> (8 * k)) & 0xff);
    }
  }
  for (const operand of form.operands) {
    if (operand === 'Ib' && isDouble(form)) bytes.push(next() & 15);
    else if (operand === 'Ib' || operand === 'Is') immediate(1);
    else if (operand === 'Iw') immediate(2);
    else if (operand === 'Iz' || operand === 'Iv') immediate(osize);
    else if (operand === 'Jb') bytes.push(pick([0x10, 0x20, 0x7f, 0x80, 0xc0]));
    else if (operand === 'Jz') {
      const to = next() & 0x7fff;
      for (let k = 0; k < osize; k++) bytes.push((to >>> (8 * k)) & 0xff);
    } else if (operand[0] === 'O') {
      const to = next() & 0xffff;
      for (let k = 0; k < asize; k++) bytes.push((to >>> (8 * k)) & 0xff);
    }
  }
  return bytes;
}

const EDGES = [0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];

/** One case: up to three instructions in a row, registers and flags to start with. */
export function makeCase(forms, seed, mode) {
  const next = random(seed);
  const chance = (percent) => next() % 100 < percent;
  // Without an interrupt table there is nothing to learn of software interrupts.
  const list = candidates(forms).filter((form) => mode === 0 || !NO_TABLE.has(form.name));
  const first = list[next() % list.length];
  const chosen = [first];
  const ends = (form) => form.ends || STRINGS.has(form.name);
  while (chosen.length < 3 && !ends(chosen.at(-1)) && chance(60)) {
    const form = list[next() % list.length];
    if (!STRINGS.has(form.name) && !isDouble(form)) chosen.push(form);
  }
  const wide = chance(50);
  const regs = Array.from({ length: 8 }, () => {
    if (chance(25)) return EDGES[next() % EDGES.length];
    return wide ? next() : next() & 0xffff;
  });
  regs[6] = (next() & 0x7ffe) + 0x4000;
  if (STRINGS.has(first.name)) {
    regs[2] = next() % 24;
    if (chance(90)) for (const k of [4, 5]) regs[k] &= 0xffff;
  }
  if (isDouble(first)) regs[2] = (regs[2] & 0xffffff0f) >>> 0;
  const code = chosen.flatMap((form) => encode(form, next, mode));
  const flags = 2 | (next() & 0xcd5);
  return { code: Uint8Array.from(code), regs, flags, forms: chosen, ip: CODE_IP };
}
