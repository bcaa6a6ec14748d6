/**
 * The instruction table: every encoding, what its operands are, what it does. The decoder, the interpreter and the tests read it.
 *
 * A row is [mnemonic, semantics, encodings, options]. Encodings are separated by `|`; one is an opcode and its operands:
 *
 *   opcode    `[f3:|f2:|66:|np:][0f.]XX[+r|+c][/D][m|r]` — mandatory prefix, map, byte; +r: the low three bits name a register, +c: the low four
 *             a condition; /D: extension in the reg field of ModRM; m, r: only with a memory, a register operand in ModRM
 *   operands  E ModRM r/m, G its reg field, M memory only, R register only, Z register of the opcode, I immediate, J branch displacement,
 *             O absolute offset, A far pointer, S C D segment, control, debug register of the reg field; then the size: b w d 1/2/4 bytes,
 *             v operand size, z operand size for immediates, s imm8 sign-extended, p far pointer. `Es`: a register of operand size or a word
 *             in memory. `~b ~v`: no operand, but this width. Registers by name; `1` is the constant.
 *
 * An opcode no row names is a real instruction that is not modelled, or one nobody looked at: it is reported, never guessed. Encodings that
 * every processor rejects are rows of `ud`.
 */
import type { Exec, Form } from './insn.ts';
import * as arith from './ops/arith.ts';
import * as flow from './ops/flow.ts';
import * as io from './ops/io.ts';
import * as move from './ops/move.ts';
import * as shift from './ops/shift.ts';
import * as system from './ops/system.ts';
import * as virt from './ops/virt.ts';
import { AF, CF, OF, PF, SF, ZF } from './state.ts';

interface Options {
  lock?: boolean;
  ends?: boolean;
  protectedOnly?: boolean;
  /** Flags left undefined. */
  undef?: number;
  /** A plain computation on registers and memory: no privilege, exit or transfer. */
  plain?: boolean;
}

type Row = readonly [name: string, exec: Exec | undefined, encodings: string, options?: Options];

const PLAIN: Options = { plain: true };
const LOCK: Options = { plain: true, lock: true };
const ENDS: Options = { ends: true };
const SHIFT: Options = { plain: true, undef: AF };

/** The eight operations that share one pattern of six opcodes and three group entries. */
const classic = (n: number): string => {
  const at = (k: number): string => (n * 8 + k).toString(16).padStart(2, '0');
  return `${at(0)} Eb,Gb | ${at(1)} Ev,Gv | ${at(2)} Gb,Eb | ${at(3)} Gv,Ev | ${at(4)} AL,Ib | ${at(5)} rAX,Iz | 80/${n} Eb,Ib | 81/${n} Ev,Iz | 82/${n} Eb,Ib | 83/${n} Ev,Is`;
};

const shiftForms = (n: number): string =>
  `c0/${n} Eb,Ib | c1/${n} Ev,Ib | d0/${n} Eb | d1/${n} Ev | d2/${n} Eb,CL | d3/${n} Ev,CL`;

export const ROWS: readonly Row[] = [
  ['add', arith.add, classic(0), LOCK],
  ['or', arith.or, classic(1), { ...LOCK, undef: AF }],
  ['adc', arith.adc, classic(2), LOCK],
  ['sbb', arith.sbb, classic(3), LOCK],
  ['and', arith.and, classic(4), { ...LOCK, undef: AF }],
  ['sub', arith.sub, classic(5), LOCK],
  ['xor', arith.xor, classic(6), { ...LOCK, undef: AF }],
  ['cmp', arith.cmp, classic(7), PLAIN],
  [
    'test',
    arith.test,
    '84 Eb,Gb | 85 Ev,Gv | a8 AL,Ib | a9 rAX,Iz | f6/0 Eb,Ib | f7/0 Ev,Iz | f6/1 Eb,Ib | f7/1 Ev,Iz',
    { plain: true, undef: AF },
  ],
  ['inc', arith.inc, '40+r Zv | fe/0 Eb | ff/0 Ev', LOCK],
  ['dec', arith.dec, '48+r Zv | fe/1 Eb | ff/1 Ev', LOCK],
  ['not', arith.not, 'f6/2 Eb | f7/2 Ev', LOCK],
  ['neg', arith.neg, 'f6/3 Eb | f7/3 Ev', LOCK],
  ['mul', arith.mul, 'f6/4 Eb | f7/4 Ev', { plain: true, undef: SF | ZF | AF | PF }],
  ['imul', arith.imul1, 'f6/5 Eb | f7/5 Ev', { plain: true, undef: SF | ZF | AF | PF }],
  ['imul', arith.imul2, '0f.af Gv,Ev', { plain: true, undef: SF | ZF | AF | PF }],
  ['imul', arith.imul3, '69 Gv,Ev,Iz | 6b Gv,Ev,Is', { plain: true, undef: SF | ZF | AF | PF }],
  ['div', arith.div, 'f6/6 Eb | f7/6 Ev', { plain: true, undef: CF | OF | SF | ZF | AF | PF }],
  ['idiv', arith.idiv, 'f6/7 Eb | f7/7 Ev', { plain: true, undef: CF | OF | SF | ZF | AF | PF }],
  ['xadd', arith.xadd, '0f.c0 Eb,Gb | 0f.c1 Ev,Gv', LOCK],
  ['cmpxchg', arith.cmpxchg, '0f.b0 Eb,Gb | 0f.b1 Ev,Gv', LOCK],
  ['cmpxchg8b', arith.cmpxchg8b, '0f.c7/1m Md', LOCK],
  ['cbw', arith.cbw, '98', PLAIN],
  ['cwd', arith.cwd, '99', PLAIN],
  ['daa', arith.daa, '27', { plain: true, undef: OF }],
  ['das', arith.das, '2f', { plain: true, undef: OF }],
  ['aaa', arith.aaa, '37', { plain: true, undef: OF | SF | ZF | PF }],
  ['aas', arith.aas, '3f', { plain: true, undef: OF | SF | ZF | PF }],
  ['aam', arith.aam, 'd4 Ib', { plain: true, undef: OF | AF | CF }],
  ['aad', arith.aad, 'd5 Ib', { plain: true, undef: OF | AF | CF }],

  ['rol', shift.rol, shiftForms(0), PLAIN],
  ['ror', shift.ror, shiftForms(1), PLAIN],
  ['rcl', shift.rcl, shiftForms(2), PLAIN],
  ['rcr', shift.rcr, shiftForms(3), PLAIN],
  ['shl', shift.shl, shiftForms(4), SHIFT],
  ['shr', shift.shr, shiftForms(5), SHIFT],
  ['shl', shift.shl, shiftForms(6), SHIFT],
  ['sar', shift.sar, shiftForms(7), SHIFT],
  ['shld', shift.shld, '0f.a4 Ev,Gv,Ib | 0f.a5 Ev,Gv,CL', SHIFT],
  ['shrd', shift.shrd, '0f.ac Ev,Gv,Ib | 0f.ad Ev,Gv,CL', SHIFT],
  ['bt', shift.bt, '0f.a3 Ev,Gv | 0f.ba/4 Ev,Ib', { plain: true, undef: OF | SF | AF | PF }],
  ['bts', shift.bts, '0f.ab Ev,Gv | 0f.ba/5 Ev,Ib', { plain: true, lock: true, undef: OF | SF | AF | PF }],
  ['btr', shift.btr, '0f.b3 Ev,Gv | 0f.ba/6 Ev,Ib', { plain: true, lock: true, undef: OF | SF | AF | PF }],
  ['btc', shift.btc, '0f.bb Ev,Gv | 0f.ba/7 Ev,Ib', { plain: true, lock: true, undef: OF | SF | AF | PF }],
  ['bsf', shift.bsf, '0f.bc Gv,Ev', { plain: true, undef: CF | OF | SF | AF | PF }],
  ['bsr', shift.bsr, '0f.bd Gv,Ev', { plain: true, undef: CF | OF | SF | AF | PF }],

  // BSF and BSR on processors without BMI1 and LZCNT: which it is must come from CPUID.
  ['tzcnt', undefined, 'f3:0f.bc Gv,Ev'],
  ['lzcnt', undefined, 'f3:0f.bd Gv,Ev'],

  ['mov', move.mov, '88 Eb,Gb | 89 Ev,Gv | 8a Gb,Eb | 8b Gv,Ev | a0 AL,Ob | a1 rAX,Ov | a2 Ob,AL | a3 Ov,rAX', PLAIN],
  ['mov', move.mov, 'b0+r Zb,Ib | b8+r Zv,Iv | c6/0 Eb,Ib | c7/0 Ev,Iz', PLAIN],
  ['movzx', move.mov, '0f.b6 Gv,Eb | 0f.b7 Gv,Ew', PLAIN],
  ['movsx', move.movsx, '0f.be Gv,Eb | 0f.bf Gv,Ew', PLAIN],
  ['lea', move.lea, '8d/m Gv,Mv', PLAIN],
  ['xchg', move.xchg, '86 Eb,Gb | 87 Ev,Gv | 90+r Zv,rAX', LOCK],
  [
    'nop',
    move.nop,
    '90 | 0f.0d/m Ev | 0f.18 Ev | 0f.19 Ev | 0f.1a Ev | 0f.1b Ev | 0f.1c Ev | 0f.1d Ev | 0f.1e Ev | 0f.1f Ev',
    PLAIN,
  ],
  ['bswap', move.bswap, '0f.c8+r Zv', PLAIN],
  ['cmov', move.cmov, '0f.40+c Gv,Ev', PLAIN],
  ['setcc', move.setcc, '0f.90+c Eb', PLAIN],
  ['xlat', move.xlat, 'd7', PLAIN],
  ['push', move.push, '50+r Zv | 68 Iz | 6a Is | ff/6 Ev', PLAIN],
  ['pop', move.pop, '58+r Zv | 8f/0 Ev', PLAIN],
  ['pusha', move.pusha, '60', PLAIN],
  ['popa', move.popa, '61', PLAIN],
  ['pushf', move.pushf, '9c ~v'],
  ['popf', move.popf, '9d ~v', ENDS],
  ['enter', move.enter, 'c8 Iw,Ib', PLAIN],
  ['leave', move.leave, 'c9', PLAIN],
  ['lahf', move.lahf, '9f', PLAIN],
  ['sahf', move.sahf, '9e', PLAIN],
  ['clc', move.clc, 'f8', PLAIN],
  ['stc', move.stc, 'f9', PLAIN],
  ['cmc', move.cmc, 'f5', PLAIN],
  ['cld', move.cld, 'fc', PLAIN],
  ['std', move.std, 'fd', PLAIN],
  ['salc', move.salc, 'd6', PLAIN],
  ['movs', move.movs, 'a4 ~b | a5 ~v', PLAIN],
  ['cmps', move.cmps, 'a6 ~b | a7 ~v', PLAIN],
  ['stos', move.stos, 'aa ~b | ab ~v', PLAIN],
  ['lods', move.lods, 'ac ~b | ad ~v', PLAIN],
  ['scas', move.scas, 'ae ~b | af ~v', PLAIN],
  [
    'ud',
    move.ud,
    '0f.0b | 0f.b9 Ev,Gv | 0f.ff Ev,Gv | fe/2 | fe/3 | fe/4 | fe/5 | fe/6 | fe/7 | ff/7 | 0f.ba/0 | 0f.ba/1 | 0f.ba/2 | 0f.ba/3',
    ENDS,
  ],
  [
    'ud',
    move.ud,
    '8d/r Ev | ff/3r | ff/5r | 0f.b2/r | 0f.b4/r | 0f.b5/r | c6/1 | c6/2 | c6/3 | c6/4 | c6/5 | c6/6 | c7/1 | c7/2 | c7/3 | c7/4 | c7/5 | c7/6',
    ENDS,
  ],

  ['jcc', flow.jcc, '70+c Jb | 0f.80+c Jz', ENDS],
  ['jmp', flow.jmp, 'eb Jb | e9 Jz', ENDS],
  ['jmp', flow.jmpIndirect, 'ff/4 Ev', ENDS],
  ['call', flow.call, 'e8 Jz', ENDS],
  ['call', flow.callIndirect, 'ff/2 Ev', ENDS],
  ['ret', flow.ret, 'c2 Iw | c3', ENDS],
  ['jmpf', flow.jmpFar, 'ea Ap', ENDS],
  ['jmpf', flow.jmpFarIndirect, 'ff/5m Mp', ENDS],
  ['callf', flow.callFar, '9a Ap', ENDS],
  ['callf', flow.callFarIndirect, 'ff/3m Mp', ENDS],
  ['retf', flow.retf, 'ca Iw | cb', ENDS],
  ['loopne', flow.loopne, 'e0 Jb', ENDS],
  ['loope', flow.loope, 'e1 Jb', ENDS],
  ['loop', flow.loop, 'e2 Jb', ENDS],
  ['jcxz', flow.jcxz, 'e3 Jb', ENDS],
  ['int3', flow.int3, 'cc', ENDS],
  ['int', flow.int, 'cd Ib', ENDS],
  ['into', flow.into, 'ce', ENDS],
  ['iret', flow.iret, 'cf', ENDS],

  ['in', io.inPort, 'e4 AL,Ib | e5 eAX,Ib | ec AL,DX | ed eAX,DX', ENDS],
  ['out', io.outPort, 'e6 Ib,AL | e7 Ib,eAX | ee DX,AL | ef DX,eAX', ENDS],
  ['ins', io.ins, '6c ~b | 6d ~d', ENDS],
  ['outs', io.outs, '6e ~b | 6f ~d', ENDS],

  ['mov', system.movFromSegment, '8c Es,Sw'],
  ['mov', system.movToSegment, '8e Sw,Ew', ENDS],
  ['push', system.pushSegment, '06 ES | 0e CS | 16 SS | 1e DS | 0f.a0 FS | 0f.a8 GS'],
  ['pop', system.popSegment, '07 ES | 17 SS | 1f DS | 0f.a1 FS | 0f.a9 GS', ENDS],
  ['les', system.loadFarPointer, 'c4/m Gv,Mp', ENDS],
  ['lds', system.loadFarPointer, 'c5/m Gv,Mp', ENDS],
  ['lss', system.loadFarPointer, '0f.b2/m Gv,Mp', ENDS],
  ['lfs', system.loadFarPointer, '0f.b4/m Gv,Mp', ENDS],
  ['lgs', system.loadFarPointer, '0f.b5/m Gv,Mp', ENDS],
  ['sldt', system.sldt, '0f.00/0 Es', { protectedOnly: true }],
  ['str', system.str, '0f.00/1 Es', { protectedOnly: true }],
  ['lldt', system.lldt, '0f.00/2 Ew', { protectedOnly: true, ends: true }],
  ['ltr', system.ltr, '0f.00/3 Ew', { protectedOnly: true, ends: true }],
  ['sgdt', system.sgdt, '0f.01/0m Mp'],
  ['sidt', system.sidt, '0f.01/1m Mp'],
  ['lgdt', system.lgdt, '0f.01/2m Mp', ENDS],
  ['lidt', system.lidt, '0f.01/3m Mp', ENDS],
  ['smsw', system.smsw, '0f.01/4 Es'],
  ['lmsw', system.lmsw, '0f.01/6 Ew', ENDS],
  ['invlpg', system.privilegedNop, '0f.01/7m Mb'],
  ['clts', system.clts, '0f.06'],
  ['vmcall', virt.group0, '0f.01/0r Rd', ENDS],
  ['monitor', virt.group1, '0f.01/1r Rd', ENDS],
  ['vmmcall', virt.group3, '0f.01/3r Rd', ENDS],
  ['invd', virt.wbinvd, '0f.08'],
  ['wbinvd', virt.wbinvd, '0f.09'],
  ['mov', system.movFromControl, '0f.20 Rd,Cd'],
  ['mov', system.movFromDebug, '0f.21 Rd,Dd'],
  ['mov', system.movToControl, '0f.22 Cd,Rd', ENDS],
  ['mov', system.movToDebug, '0f.23 Dd,Rd', ENDS],
  ['wrmsr', virt.wrmsr, '0f.30', ENDS],
  ['rdtsc', system.rdtsc, '0f.31'],
  ['rdmsr', virt.rdmsr, '0f.32', ENDS],
  ['cpuid', system.cpuid, '0f.a2'],
  ['bound', system.bound, '62/m Gv,Mv'],
  ['cli', system.cli, 'fa'],
  ['sti', system.sti, 'fb', ENDS],
  ['hlt', system.hlt, 'f4', ENDS],
];

/** Index into an opcode's 64 variants: mandatory prefix (none, 66, f3, f2), reg field, memory or register. */
export const variant = (prefix: number, reg: number, isRegister: boolean): number => prefix * 16 + reg * 2 + (isRegister ? 1 : 0);

/** Everything the decoder must know of one opcode byte of one map. */
export interface Opcode {
  readonly variants: (Form | undefined)[];
  modrm: boolean;
}

const PREFIXES = ['np', '66', 'f3', 'f2'];
const MODRM_OPERANDS = /^[EGMRSCD][bwdvsp]$/;

const emptyMap = (): Opcode[] =>
  Array.from({ length: 256 }, () => ({ variants: new Array<Form | undefined>(64).fill(undefined), modrm: false }));

/** One-byte opcodes and those behind 0F. 0F38, 0F3A and VEX will be further maps. */
export const MAPS: { one: Opcode[]; two: Opcode[] } = { one: emptyMap(), two: emptyMap() };
/** All rows' encodings. */
export const FORMS: Form[] = [];

const ENCODING = /^(?:(np|66|f3|f2):)?(0f\.)?([0-9a-f]{2})(\+[rc])?(?:\/([0-7])?)?([mr])?$/;

function define([name, exec, encodings, options = {}]: Row): void {
  for (const encoding of encodings.split('|')) {
    const [code = '', list = ''] = encoding.trim().split(' ');
    const match = ENCODING.exec(code);
    if (!match) throw new Error(`instruction table: bad encoding '${code}' of ${name}`);
    const [, prefix, map, hex, plus, digit, where] = match;
    const operands = list === '' ? [] : list.split(',');
    const form: Form = {
      name,
      opcode: code,
      operands,
      exec,
      exec64: undefined,
      lock: options.lock ?? false,
      ends: options.ends ?? false,
      protectedOnly: options.protectedOnly ?? false,
      undefinedFlags: options.undef ?? 0,
      testable: options.plain ?? false,
    };
    FORMS.push(form);
    const first = Number.parseInt(hex!, 16);
    const span = plus === '+r' ? 8 : plus === '+c' ? 16 : 1;
    const opcodes = map ? MAPS.two : MAPS.one;
    for (let byte = first; byte < first + span; byte++) {
      const opcode = opcodes[byte]!;
      if (digit !== undefined || where !== undefined || operands.some((operand) => MODRM_OPERANDS.test(operand)))
        opcode.modrm = true;
      for (let p = 0; p < 4; p++) {
        if (prefix !== undefined && PREFIXES[p] !== prefix) continue;
        for (let reg = 0; reg < 8; reg++) {
          if (digit !== undefined && reg !== Number(digit)) continue;
          if (where !== 'r') opcode.variants[variant(p, reg, false)] = form;
          if (where !== 'm') opcode.variants[variant(p, reg, true)] = form;
        }
      }
    }
  }
}

ROWS.forEach(define);

/** What a prefix that does not belong there turns an instruction into. */
export const UNDEFINED: Form = FORMS.find((form) => form.name === 'ud')!;
