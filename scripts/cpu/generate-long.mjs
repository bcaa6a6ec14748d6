// Random 64-bit instructions, made from the CPU's own table.
import { random } from './guest.mjs';
import { ALIAS, DATA } from './long-guest.mjs';

const NEAR = new Set(['jcc', 'jmp', 'call', 'ret', 'loop', 'loope', 'loopne', 'jcxz', 'pushf', 'lahf', 'ud']);
const MORE = new Set(['tzcnt', 'lzcnt', 'popcnt', 'movbe', 'lfence', 'mfence', 'sfence', 'clflush', 'cmpxchg8b']);
const STRINGS = new Set(['movs', 'cmps', 'stos', 'lods', 'scas']);
/** Registers that hold addresses in the data; RSP always does. Small numbers for an index. */
const POINTERS = [3, 5, 6, 7, 12, 13, 14];
const INDEXES = [2, 9];

/** POPF may set TF or AC; a far pointer loads a segment register. */
const LEFT_OUT = new Set(['popf']);

export const candidates = (forms) =>
  forms.filter(
    (form) =>
      !form.opcode.startsWith('!') &&
      !LEFT_OUT.has(form.name) &&
      (form.testable || NEAR.has(form.name) || MORE.has(form.name)) &&
      !/^(np:)?4[08]\+r$/.test(form.opcode),
  );

const ENCODING = /^[!@]?(?:(np|66|f3|f2):)?(0f\.)?(38\.)?([0-9a-f]{2})(\+[rc])?(?:\/=([0-9a-f]{2})|(?:\/([0-7])?)?([mr])?)$/;

function encode(form, next) {
  const pick = (list) => list[next() % list.length];
  const chance = (percent) => next() % 100 < percent;
  const [, prefix, map, map38, hex, plus, exact, digit, where] = ENCODING.exec(form.opcode);
  const bytes = [];
  const string = STRINGS.has(form.name);
  // Double shifts of 16 bits by more than 16 are undefined, and so is a 16-bit BSWAP.
  const no66 = [
    'shld',
    'shrd',
    'bswap',
    'enter',
    'leave',
    'ret',
    'call',
    'jmp',
    'jcc',
    'loop',
    'loope',
    'loopne',
    'jcxz',
  ].includes(form.name);
  const has66 = prefix === '66' || (prefix !== 'np' && !no66 && chance(15));
  if (has66) bytes.push(0x66);
  const has67 = chance(8);
  if (has67) bytes.push(0x67);
  if (chance(4)) bytes.push(pick([0x26, 0x2e, 0x36, 0x3e]));
  if (prefix === 'f3' || prefix === 'f2') bytes.push(Number.parseInt(prefix, 16));
  if (string && chance(60)) bytes.push(pick([0xf2, 0xf3]));
  const hasModrm =
    exact !== undefined ||
    digit !== undefined ||
    where !== undefined ||
    form.operands.some((o) => /^[EGMRSCD][bwdlqvysp]$/.test(o));
  const mod = where === 'm' ? next() % 3 : where === 'r' ? 3 : pick([0, 1, 2, 3, 3]);
  const memory = form.operands.some((o) => /^[EM]/.test(o)) && hasModrm && mod !== 3;
  if (form.lock && memory && /^[EM]/.test(form.operands[0]) && chance(10)) bytes.push(0xf0);
  const wide = !has66 && chance(55);
  let rex = wide ? 8 : 0;
  const tail = [];
  const put = (value, n) => {
    for (let k = 0; k < n; k++) tail.push(Number((BigInt(value) >> BigInt(8 * k)) & 0xffn));
  };
  if (hasModrm) {
    const reg = digit !== undefined ? Number(digit) : next() % 8;
    if (digit === undefined && chance(40)) rex |= 4;
    if (exact !== undefined) tail.push(Number.parseInt(exact, 16));
    else if (!memory) {
      if (chance(40)) rex |= 1;
      tail.push(0xc0 | (reg << 3) | (next() % 8));
    } else {
      const base = chance(92) ? pick(POINTERS) : next() % 16;
      const relative = mod === 0 && chance(15);
      const sib = (base & 7) === 4 || chance(40);
      if (relative) {
        tail.push((reg << 3) | 5);
        put(0x900 + (next() % 0x600), 4);
      } else {
        // Without displacement base 5 is none at all.
        const real = mod === 0 && (base & 7) === 5 ? 1 : mod;
        if (base & 8) rex |= 1;
        tail.push((real << 6) | (reg << 3) | (sib ? 4 : base & 7));
        if (sib) {
          const index = chance(60) ? pick(INDEXES) : 4;
          if (index & 8) rex |= 2;
          tail.push(((next() % 4) << 6) | ((index & 7) << 3) | (base & 7));
        }
        if (real === 1) put(next() & 0xff, 1);
        if (real === 2) put((next() % 0x1000) - 0x800, 4);
      }
    }
  } else if (plus && form.operands[0]?.[0] === 'Z' && chance(40)) rex |= 1;
  if (rex || chance(25)) tail.unshift(0x40 | rex);
  const opcode = [...(map ? [0x0f] : []), ...(map38 ? [0x38] : [])];
  const span = plus === '+r' ? 8 : plus === '+c' ? 16 : 1;
  opcode.push(Number.parseInt(hex, 16) + (next() % span));
  const rexByte = tail[0] >> 4 === 4 && (rex || tail.length > 0) && (rex !== 0 || tail[0] === 0x40) ? [tail.shift()] : [];
  bytes.push(...rexByte, ...opcode, ...tail.splice(0));
  const osize = wide ? 8 : has66 ? 2 : 4;
  for (const operand of form.operands) {
    const value = chance(30) ? next() % 80 : next();
    if (operand === 'Ib' || operand === 'Is') put(value, 1);
    else if (operand === 'Iw') put(value & 0x3f, 2);
    else if (operand === 'Iz') put(value, osize === 2 ? 2 : 4);
    else if (operand === 'Iv') put((BigInt(next()) << 32n) | BigInt(value), osize);
    else if (operand === 'Jb') put(pick([0x10, 0x20, 0x7f, 0x80, 0xc0]), 1);
    else if (operand === 'Jz') put((next() % 0x1000) - 0x600, 4);
    else if (operand[0] === 'O') put((has67 ? ALIAS : DATA) + BigInt(next() % 0xfff0), has67 ? 4 : 8);
  }
  return [...bytes, ...tail];
}

const EDGES = [0n, 1n, 2n, 0x7fn, 0x80n, 0xffn, 0x7fffn, 0x8000n, 0xffffn, 0x7fffffffn, 0x80000000n, 0xffffffffn, 0x100000000n];
const HIGH_EDGES = [0x7fffffffffffffffn, 0x8000000000000000n, 0xffffffffffffffffn, 0xffffffff80000000n, 0xffffffff7fffffffn];

/** One case: up to three instructions in a row, registers and flags to start with. */
export function makeCase(forms, seed) {
  const next = random(seed);
  const chance = (percent) => next() % 100 < percent;
  const list = candidates(forms);
  const chosen = [list[next() % list.length]];
  const ends = (form) => form.ends || STRINGS.has(form.name);
  while (chosen.length < 3 && !ends(chosen.at(-1)) && chance(50)) {
    const form = list[next() % list.length];
    if (!STRINGS.has(form.name)) chosen.push(form);
  }
  const any = () => (BigInt(next()) << 32n) | BigInt(next());
  const regs = Array.from({ length: 16 }, (_, n) => {
    if (n === 4 || (POINTERS.includes(n) && chance(85))) return (chance(85) ? DATA : ALIAS) + BigInt(0x1000 + (next() % 0xe000));
    if (INDEXES.includes(n) && chance(60)) return BigInt.asUintN(64, BigInt(next() % 256) - 128n);
    if (chance(20)) return EDGES[next() % EDGES.length];
    if (chance(10)) return HIGH_EDGES[next() % HIGH_EDGES.length];
    return chance(60) ? any() : BigInt(next());
  });
  regs[4] = DATA + 0x8000n + BigInt(next() % 0x1000);
  if (STRINGS.has(chosen[0].name)) {
    regs[1] = BigInt(next() % 24);
    regs[6] = DATA + BigInt(0x1000 + (next() % 0xe000));
    regs[7] = DATA + BigInt(0x1000 + (next() % 0xe000));
  }
  const code = chosen.flatMap((form) => encode(form, next));
  const flags = BigInt(2 | (next() & 0xcd5));
  return { code: Uint8Array.from(code), regs, flags, forms: chosen };
}
