/**
 * The instruction table: every encoding, what its operands are, what it does. The decoder, the interpreter and the tests read it.
 *
 * A row is [mnemonic, semantics, encodings, options]. Encodings are separated by `|`; one is an opcode and its operands:
 *
 *   opcode    `[!|@][f3:|f2:|66:|np:][0f.|0f.38.|v38.|v3a.]XX[+r|+c][/D][m|r]` — !: not in 64-bit mode, @: only there; mandatory prefix, map, byte; +r: the
 *             low three bits name a register, +c: the low four a condition; /D: extension in the reg field of ModRM, or a whole ModRM byte
 *             after /=; m, r: only with a memory, a register operand in ModRM
 *   operands  E ModRM r/m, B the register of a VEX prefix, G its reg field, M memory only, R register only, Z register of the opcode, I immediate, J branch displacement,
 *             O absolute offset, A far pointer, S C D segment, control, debug register of the reg field; then the size: b w l q 1/2/4/8 bytes,
 *             d 4 bytes, of a control register 8 in 64-bit mode, v operand size, y the same but at least 4 bytes, z operand size for immediates
 *             (4 bytes for 64), s imm8 sign-extended, p far pointer. `Es`: a register of operand size or a word
 *             in memory. `~b ~v`: no operand, but this width. Registers by name; `1` is the constant.
 *
 * An opcode no row names is a real instruction that is not modelled, or one nobody looked at: it is reported, never guessed. Encodings that
 * every processor rejects are rows of `ud`.
 */
import type { Exec, Form } from './insn.ts';
import * as arith from './ops/arith.ts';
import * as arith64 from './ops/arith64.ts';
import * as bmi from './ops/bmi.ts';
import * as control from './ops/control.ts';
import * as flow from './ops/flow.ts';
import * as io from './ops/io.ts';
import * as long from './ops/long.ts';
import * as move from './ops/move.ts';
import * as shift from './ops/shift.ts';
import * as shift64 from './ops/shift64.ts';
import * as system from './ops/system.ts';
import * as virt from './ops/virt.ts';
import * as smm from './smm.ts';
import { AF, CF, OF, PF, SF, ZF } from './state.ts';

interface Options {
  /** Semantics with a 64-bit operand size; true: the same. */
  wide?: Exec | true;
  /** The operand size in 64-bit mode is 64 bits without REX.W: always ('near' branches), or unless a 66 prefix makes it 16 ('stack'). */
  sized?: 'near' | 'stack';
  lock?: boolean;
  ends?: boolean;
  protectedOnly?: boolean;
  /** KVM's emulator does not know it at all. */
  absent?: boolean;
  /** Flags left undefined. */
  undef?: number;
  /** A plain computation on registers and memory: no privilege, exit or transfer. */
  plain?: boolean;
}

type Row = readonly [name: string, exec: Exec | undefined, encodings: string, options?: Options];

const PLAIN: Options = { plain: true };
const LOCK: Options = { plain: true, lock: true };
const ENDS: Options = { ends: true };
const NEAR: Options = { ends: true, sized: 'near' };
const STACK: Options = { plain: true, wide: true, sized: 'stack' };
const VEX_FORM: Options = { wide: true, protectedOnly: true, undef: AF | PF | SF };
const SHIFT: Options = { plain: true, undef: AF };

/** The eight operations that share one pattern of six opcodes and three group entries. */
const classic = (n: number): string => {
  const at = (k: number): string => (n * 8 + k).toString(16).padStart(2, '0');
  return `${at(0)} Eb,Gb | ${at(1)} Ev,Gv | ${at(2)} Gb,Eb | ${at(3)} Gv,Ev | ${at(4)} AL,Ib | ${at(5)} rAX,Iz | 80/${n} Eb,Ib | 81/${n} Ev,Iz | !82/${n} Eb,Ib | 83/${n} Ev,Is`;
};

const shiftForms = (n: number): string =>
  `c0/${n} Eb,Ib | c1/${n} Ev,Ib | d0/${n} Eb | d1/${n} Ev | d2/${n} Eb,CL | d3/${n} Ev,CL`;

const ROWS: readonly Row[] = [
  ['add', arith.add, classic(0), { ...LOCK, wide: arith64.add }],
  ['or', arith.or, classic(1), { ...LOCK, wide: arith64.or, undef: AF }],
  ['adc', arith.adc, classic(2), { ...LOCK, wide: arith64.adc }],
  ['sbb', arith.sbb, classic(3), { ...LOCK, wide: arith64.sbb }],
  ['and', arith.and, classic(4), { ...LOCK, wide: arith64.and, undef: AF }],
  ['sub', arith.sub, classic(5), { ...LOCK, wide: arith64.sub }],
  ['xor', arith.xor, classic(6), { ...LOCK, wide: arith64.xor, undef: AF }],
  ['cmp', arith.cmp, classic(7), { ...PLAIN, wide: arith64.cmp }],
  [
    'test',
    arith.test,
    '84 Eb,Gb | 85 Ev,Gv | a8 AL,Ib | a9 rAX,Iz | f6/0 Eb,Ib | f7/0 Ev,Iz | f6/1 Eb,Ib | f7/1 Ev,Iz',
    { plain: true, wide: arith64.test, undef: AF },
  ],
  ['inc', arith.inc, '40+r Zv | fe/0 Eb | ff/0 Ev', { ...LOCK, wide: arith64.inc }],
  ['dec', arith.dec, '48+r Zv | fe/1 Eb | ff/1 Ev', { ...LOCK, wide: arith64.dec }],
  ['not', arith.not, 'f6/2 Eb | f7/2 Ev', { ...LOCK, wide: arith64.not }],
  ['neg', arith.neg, 'f6/3 Eb | f7/3 Ev', { ...LOCK, wide: arith64.neg }],
  ['mul', arith.mul, 'f6/4 Eb | f7/4 Ev', { plain: true, wide: arith64.mul, undef: SF | ZF | AF | PF }],
  ['imul', arith.imul1, 'f6/5 Eb | f7/5 Ev', { plain: true, wide: arith64.imul1, undef: SF | ZF | AF | PF }],
  ['imul', arith.imul2, '0f.af Gv,Ev', { plain: true, wide: arith64.imul2, undef: SF | ZF | AF | PF }],
  ['imul', arith.imul3, '69 Gv,Ev,Iz | 6b Gv,Ev,Is', { plain: true, wide: arith64.imul3, undef: SF | ZF | AF | PF }],
  ['div', arith.div, 'f6/6 Eb | f7/6 Ev', { plain: true, wide: arith64.div, undef: CF | OF | SF | ZF | AF | PF }],
  ['idiv', arith.idiv, 'f6/7 Eb | f7/7 Ev', { plain: true, wide: arith64.idiv, undef: CF | OF | SF | ZF | AF | PF }],
  ['xadd', arith.xadd, '0f.c0 Eb,Gb | 0f.c1 Ev,Gv', { ...LOCK, wide: arith64.xadd }],
  ['cmpxchg', arith.cmpxchg, '0f.b0 Eb,Gb | 0f.b1 Ev,Gv', { ...LOCK, wide: arith64.cmpxchg }],
  ['cmpxchg8b', arith.cmpxchg8b, '0f.c7/1m Mv', { ...LOCK, wide: arith64.cmpxchg16b }],
  ['cbw', arith.cbw, '98', { ...PLAIN, wide: arith64.cbw }],
  ['cwd', arith.cwd, '99', { ...PLAIN, wide: arith64.cwd }],
  ['daa', arith.daa, '27', { plain: true, undef: OF }],
  ['das', arith.das, '!2f', { plain: true, undef: OF }],
  ['aaa', arith.aaa, '37', { plain: true, undef: OF | SF | ZF | PF }],
  ['aas', arith.aas, '3f', { plain: true, undef: OF | SF | ZF | PF }],
  ['aam', arith.aam, '!d4 Ib', { plain: true, undef: OF | AF | CF }],
  ['aad', arith.aad, '!d5 Ib', { plain: true, undef: OF | AF | CF }],

  ['rol', shift.rol, shiftForms(0), { ...PLAIN, wide: shift64.rol }],
  ['ror', shift.ror, shiftForms(1), { ...PLAIN, wide: shift64.ror }],
  ['rcl', shift.rcl, shiftForms(2), { ...PLAIN, wide: shift64.rcl }],
  ['rcr', shift.rcr, shiftForms(3), { ...PLAIN, wide: shift64.rcr }],
  ['shl', shift.shl, shiftForms(4), { ...SHIFT, wide: shift64.shl }],
  ['shr', shift.shr, shiftForms(5), { ...SHIFT, wide: shift64.shr }],
  ['shl', shift.shl, shiftForms(6), { ...SHIFT, wide: shift64.shl }],
  ['sar', shift.sar, shiftForms(7), { ...SHIFT, wide: shift64.sar }],
  ['shld', shift.shld, '0f.a4 Ev,Gv,Ib | 0f.a5 Ev,Gv,CL', { ...SHIFT, wide: shift64.shld }],
  ['shrd', shift.shrd, '0f.ac Ev,Gv,Ib | 0f.ad Ev,Gv,CL', { ...SHIFT, wide: shift64.shrd }],
  ['bt', shift.bt, '0f.a3 Ev,Gv | 0f.ba/4 Ev,Ib', { plain: true, wide: shift64.bt, undef: OF | SF | AF | PF }],
  ['bts', shift.bts, '0f.ab Ev,Gv | 0f.ba/5 Ev,Ib', { plain: true, wide: shift64.bts, lock: true, undef: OF | SF | AF | PF }],
  ['btr', shift.btr, '0f.b3 Ev,Gv | 0f.ba/6 Ev,Ib', { plain: true, wide: shift64.btr, lock: true, undef: OF | SF | AF | PF }],
  ['btc', shift.btc, '0f.bb Ev,Gv | 0f.ba/7 Ev,Ib', { plain: true, wide: shift64.btc, lock: true, undef: OF | SF | AF | PF }],
  ['bsf', shift.bsf, '0f.bc Gv,Ev', { plain: true, wide: shift64.bsf, undef: CF | OF | SF | AF | PF }],
  ['bsr', shift.bsr, '0f.bd Gv,Ev', { plain: true, wide: shift64.bsr, undef: CF | OF | SF | AF | PF }],

  ['tzcnt', shift.tzcnt, 'f3:0f.bc Gv,Ev', { wide: shift64.tzcnt, undef: OF | SF | AF | PF }],
  ['lzcnt', shift.lzcnt, 'f3:0f.bd Gv,Ev', { wide: shift64.lzcnt, undef: OF | SF | AF | PF }],
  ['popcnt', shift64.popcnt, 'f3:0f.b8 Gv,Ev', { wide: true }],

  [
    'mov',
    move.mov,
    '88 Eb,Gb | 89 Ev,Gv | 8a Gb,Eb | 8b Gv,Ev | a0 AL,Ob | a1 rAX,Ov | a2 Ob,AL | a3 Ov,rAX',
    { ...PLAIN, wide: true },
  ],
  ['mov', move.mov, 'b0+r Zb,Ib | b8+r Zv,Iv | c6/0 Eb,Ib | c7/0 Ev,Iz', { ...PLAIN, wide: true }],
  ['movzx', move.mov, '0f.b6 Gv,Eb | 0f.b7 Gv,Ew', { ...PLAIN, wide: move.movzx64 }],
  ['movsx', move.movsx, '0f.be Gv,Eb | 0f.bf Gv,Ew', { ...PLAIN, wide: move.movsx64 }],
  ['movsxd', move.movsxd, '@63 Gv,El', { ...PLAIN, wide: move.movsx64 }],
  ['lea', move.lea, '8d/m Gv,Mv', { ...PLAIN, wide: move.lea64 }],
  ['xchg', move.xchg, '86 Eb,Gb | 87 Ev,Gv | 90+r Zv,rAX', { ...LOCK, wide: move.xchg64 }],
  [
    'nop',
    move.nop,
    '90 | 0f.0d/m Ev | 0f.18 Ev | 0f.19 Ev | 0f.1a Ev | 0f.1b Ev | 0f.1c Ev | 0f.1d Ev | 0f.1e Ev | 0f.1f Ev',
    { ...PLAIN, wide: true },
  ],
  ['bswap', move.bswap, '0f.c8+r Zv', { ...PLAIN, wide: move.bswap64 }],
  [
    'movbe',
    move.movbe,
    'np:0f.38.f0/m Gv,Mv | np:0f.38.f1/m Mv,Gv | 66:0f.38.f0/m Gv,Mv | 66:0f.38.f1/m Mv,Gv',
    { wide: move.movbe64 },
  ],
  ['cmov', move.cmov, '0f.40+c Gv,Ev', { ...PLAIN, wide: move.cmov64 }],
  ['setcc', move.setcc, '0f.90+c Eb', PLAIN],
  ['xlat', move.xlat, 'd7', PLAIN],
  ['push', move.push, '50+r Zv | 68 Iz | 6a Is | ff/6 Ev', STACK],
  ['pop', move.pop, '58+r Zv | 8f/0 Ev', STACK],
  ['pusha', move.pusha, '!60', PLAIN],
  ['popa', move.popa, '!61', PLAIN],
  ['pushf', move.pushf, '9c ~v', { wide: true, sized: 'stack' }],
  ['popf', move.popf, '9d ~v', { ...ENDS, wide: true, sized: 'stack' }],
  ['enter', move.enter, 'c8 Iw,Ib', STACK],
  ['leave', move.leave, 'c9', STACK],
  ['lahf', move.lahf, '9f', PLAIN],
  ['sahf', move.sahf, '9e', PLAIN],
  ['clc', move.clc, 'f8', PLAIN],
  ['stc', move.stc, 'f9', PLAIN],
  ['cmc', move.cmc, 'f5', PLAIN],
  ['cld', move.cld, 'fc', PLAIN],
  ['std', move.std, 'fd', PLAIN],
  ['salc', move.salc, '!d6', PLAIN],
  ['movs', move.movs, 'a4 ~b | a5 ~v', { ...PLAIN, wide: true }],
  ['cmps', move.cmps, 'a6 ~b | a7 ~v', { ...PLAIN, wide: true }],
  ['stos', move.stos, 'aa ~b | ab ~v', { ...PLAIN, wide: true }],
  ['lods', move.lods, 'ac ~b | ad ~v', { ...PLAIN, wide: true }],
  ['scas', move.scas, 'ae ~b | af ~v', { ...PLAIN, wide: true }],
  [
    'ud',
    move.ud,
    'ff/7 | ff/3r | ff/5r | 0f.b2/r | 0f.b4/r | 0f.b5/r | c6/1 | c6/2 | c6/3 | c6/4 | c6/5 | c6/6 | c7/1 | c7/2 | c7/3 | c7/4 | c7/5 | c7/6',
    { ...ENDS, wide: true },
  ],
  ['ud', move.ud2, '0f.0b', { ...ENDS, wide: true }],
  [
    'ud',
    move.absent,
    '0f.b9 Ev,Gv | 0f.ff Ev,Gv | fe/2 | fe/3 | fe/4 | fe/5 | fe/6 | fe/7 | 0f.ba/0 | 0f.ba/1 | 0f.ba/2 | 0f.ba/3 | 8d/r Ev',
    { ...ENDS, wide: true },
  ],

  ['jcc', flow.jcc, '70+c Jb | 0f.80+c Jz', { ...NEAR, wide: flow.jcc64 }],
  ['jmp', flow.jmp, 'eb Jb | e9 Jz', { ...NEAR, wide: flow.jmp64 }],
  ['jmp', flow.jmpIndirect, 'ff/4 Ev', { ...NEAR, wide: flow.jmpIndirect64 }],
  ['call', flow.call, 'e8 Jz', { ...NEAR, wide: flow.call64 }],
  ['call', flow.callIndirect, 'ff/2 Ev', { ...NEAR, wide: flow.callIndirect64 }],
  ['ret', flow.ret, 'c2 Iw | c3', { ...NEAR, wide: flow.ret64 }],
  ['jmpf', flow.jmpFar, '!ea Ap', ENDS],
  ['jmpf', flow.jmpFarIndirect, 'ff/5m Mp', { ...ENDS, wide: true }],
  ['callf', flow.callFar, '!9a Ap', ENDS],
  ['callf', flow.callFarIndirect, 'ff/3m Mp', { ...ENDS, wide: true }],
  ['retf', flow.retf, 'ca Iw | cb', { ...ENDS, wide: true }],
  ['loopne', flow.loopne, 'e0 Jb', { ...NEAR, wide: flow.loopne64 }],
  ['loope', flow.loope, 'e1 Jb', { ...NEAR, wide: flow.loope64 }],
  ['loop', flow.loop, 'e2 Jb', { ...NEAR, wide: flow.loop64 }],
  ['jcxz', flow.jcxz, 'e3 Jb', { ...NEAR, wide: flow.jcxz64 }],
  ['int3', flow.int3, 'cc', ENDS],
  ['int', flow.int, 'cd Ib', ENDS],
  ['into', flow.into, '!ce', ENDS],
  ['iret', flow.iret, 'cf', { ...ENDS, wide: true }],

  ['in', io.inPort, 'e4 AL,Ib | e5 eAX,Ib | ec AL,DX | ed eAX,DX', ENDS],
  ['out', io.outPort, 'e6 Ib,AL | e7 Ib,eAX | ee DX,AL | ef DX,eAX', ENDS],
  ['ins', io.ins, '6c ~b | 6d ~d', ENDS],
  ['outs', io.outs, '6e ~b | 6f ~d', ENDS],

  ['mov', system.movFromSegment, '8c Es,Sw', { wide: true }],
  ['mov', system.movToSegment, '8e Sw,Ew', ENDS],
  ['push', system.pushSegment, '!06 ES | !0e CS | !16 SS | !1e DS | 0f.a0 FS | 0f.a8 GS', { wide: true, sized: 'stack' }],
  ['pop', system.popSegment, '!07 ES | !17 SS | !1f DS | 0f.a1 FS | 0f.a9 GS', { ...ENDS, wide: true, sized: 'stack' }],
  ['les', system.loadFarPointer, '!c4/m Gv,Mp', ENDS],
  ['lds', system.loadFarPointer, '!c5/m Gv,Mp', ENDS],
  ['lss', system.loadFarPointer, '0f.b2/m Gv,Mp', { ...ENDS, wide: true }],
  ['lfs', system.loadFarPointer, '0f.b4/m Gv,Mp', { ...ENDS, wide: true }],
  ['lgs', system.loadFarPointer, '0f.b5/m Gv,Mp', { ...ENDS, wide: true }],
  ['sldt', system.sldt, '0f.00/0 Es', { protectedOnly: true, wide: true }],
  ['str', system.str, '0f.00/1 Es', { protectedOnly: true, wide: true }],
  ['lldt', system.lldt, '0f.00/2 Ew', { protectedOnly: true, ends: true }],
  ['ltr', system.ltr, '0f.00/3 Ew', { protectedOnly: true, ends: true }],
  ['sgdt', system.sgdt, '0f.01/0m Mb'],
  ['sidt', system.sidt, '0f.01/1m Mb'],
  ['lgdt', system.lgdt, '0f.01/2m Mb', ENDS],
  ['lidt', system.lidt, '0f.01/3m Mb', ENDS],
  ['smsw', control.smsw, '0f.01/4 Es', { wide: true }],
  ['lmsw', control.lmsw, '0f.01/6 Ew', ENDS],
  ['invlpg', control.invlpg, '0f.01/7m Mb', ENDS],
  ['invpcid', control.invpcid, '66:0f.38.82/m Gb,Mb', ENDS],
  ['clts', control.clts, '0f.06'],
  ['vmcall', virt.vmcall, '0f.01/=c1', ENDS],
  ['vmmcall', virt.vmmcall, '0f.01/=d9', ENDS],
  ['vmx', virt.vmx, '0f.01/=c2 | 0f.01/=c3 | 0f.01/=c4', ENDS],
  ['svm', virt.svm, '0f.01/=d8 | 0f.01/=da | 0f.01/=db | 0f.01/=de | 0f.01/=df', ENDS],
  ['stgi', virt.stgi, '0f.01/=dc', ENDS],
  ['clgi', virt.clgi, '0f.01/=dd', ENDS],
  ['monitor', virt.monitor, '0f.01/=c8'],
  ['mwait', virt.monitor, '0f.01/=c9'],
  ['rsm', smm.rsm, '0f.aa', ENDS],
  ['icebp', flow.icebp, 'f1', ENDS],
  ['invd', virt.wbinvd, '0f.08'],
  ['wbinvd', virt.wbinvd, '0f.09'],
  ['mov', control.movFromControl, '0f.20 Rd,Cd'],
  ['mov', control.movFromDebug, '0f.21 Rd,Dd'],
  ['mov', control.movToControl, '0f.22 Cd,Rd', ENDS],
  ['mov', control.movToDebug, '0f.23 Dd,Rd', ENDS],
  ['wrmsr', virt.wrmsr, '0f.30', ENDS],
  ['rdtsc', system.rdtsc, '0f.31'],
  ['rdmsr', virt.rdmsr, '0f.32', ENDS],
  ['cpuid', system.cpuid, '0f.a2'],
  ['bound', system.bound, '!62/m Gv,Mv'],
  ['cli', system.cli, 'fa'],
  ['sti', system.sti, 'fb', ENDS],
  ['hlt', system.hlt, 'f4', ENDS],

  ['andn', bmi.andn, 'np:v38.f2 Gy,Ey', VEX_FORM],
  ['blsr', bmi.blsr, 'np:v38.f3/1 By,Ey', VEX_FORM],
  ['blsmsk', bmi.blsmsk, 'np:v38.f3/2 By,Ey', VEX_FORM],
  ['blsi', bmi.blsi, 'np:v38.f3/3 By,Ey', VEX_FORM],
  ['bzhi', bmi.bzhi, 'np:v38.f5 Gy,Ey', VEX_FORM],
  ['pext', bmi.pext, 'f3:v38.f5 Gy,Ey', VEX_FORM],
  ['pdep', bmi.pdep, 'f2:v38.f5 Gy,Ey', VEX_FORM],
  ['mulx', bmi.mulx, 'f2:v38.f6 Gy,Ey', VEX_FORM],
  ['bextr', bmi.bextr, 'np:v38.f7 Gy,Ey', VEX_FORM],
  ['shlx', bmi.shlx, '66:v38.f7 Gy,Ey', VEX_FORM],
  ['sarx', bmi.sarx, 'f3:v38.f7 Gy,Ey', VEX_FORM],
  ['shrx', bmi.shrx, 'f2:v38.f7 Gy,Ey', VEX_FORM],
  ['rorx', bmi.rorx, 'f2:v3a.f0 Gy,Ey,Ib', VEX_FORM],
  ['xgetbv', control.xgetbv, '0f.01/=d0'],
  ['xsetbv', control.xsetbv, '0f.01/=d1', ENDS],
  ['clac', long.clac, '0f.01/=ca', ENDS],
  ['stac', long.stac, '0f.01/=cb', ENDS],
  ['swapgs', long.swapgs, '@0f.01/=f8'],
  ['rdtscp', long.rdtscp, '0f.01/=f9'],
  ['syscall', long.syscall, '0f.05', ENDS],
  ['sysret', long.sysret, '0f.07', { ...ENDS, wide: long.sysret64 }],
  ['sysenter', long.sysenter, '0f.34', ENDS],
  ['sysexit', long.sysexit, '0f.35', { ...ENDS, wide: long.sysexit64 }],
  ['rdfsbase', long.rdfsbase, '@f3:0f.ae/0r Ey', { wide: true }],
  ['rdgsbase', long.rdgsbase, '@f3:0f.ae/1r Ey', { wide: true }],
  ['wrfsbase', long.wrfsbase, '@f3:0f.ae/2r Ey', { wide: true }],
  ['wrgsbase', long.wrgsbase, '@f3:0f.ae/3r Ey', { wide: true }],
  ['lar', long.lar, '0f.02 Gv,Ev', { protectedOnly: true, absent: true, wide: true }],
  ['lsl', long.lsl, '0f.03 Gv,Ev', { protectedOnly: true, absent: true, wide: true }],
  ['verr', long.verr, '0f.00/4 Ew', { protectedOnly: true, absent: true }],
  ['verw', long.verw, '0f.00/5 Ew', { protectedOnly: true, absent: true }],
  ['arpl', long.arpl, '!63 Ew,Gw', { protectedOnly: true, absent: true }],
  ['lfence', move.fence, 'np:0f.ae/5r'],
  ['mfence', move.fence, 'np:0f.ae/6r'],
  ['sfence', move.fence, 'np:0f.ae/7r'],
  ['clflush', long.clflush, 'np:0f.ae/7m Mb'],
  ['clflushopt', long.clflush, '66:0f.ae/7m Mb'],
  ['clwb', long.clflush, '66:0f.ae/6m Mb'],
];

/** Index into an opcode's 64 variants: mandatory prefix (none, 66, f3, f2), reg field, memory or register. */
export const variant = (prefix: number, reg: number, isRegister: boolean): number => prefix * 16 + reg * 2 + (isRegister ? 1 : 0);

/** Everything the decoder must know of one opcode byte of one map. */
export interface Opcode {
  readonly variants: (Form | undefined)[];
  /** The same in 64-bit mode. */
  readonly long: (Form | undefined)[];
  modrm: boolean;
  /** By the whole ModRM byte, where that names an instruction of its own. */
  exact: Map<number, { readonly legacy: Form | undefined; readonly long: Form | undefined }> | undefined;
}

const PREFIXES = ['np', '66', 'f3', 'f2'];
const MODRM_OPERANDS = /^[BEGMRSCD][bwdlqvysp]$/;

const emptyMap = (): Opcode[] =>
  Array.from({ length: 256 }, () => ({
    variants: new Array<Form | undefined>(64).fill(undefined),
    long: new Array<Form | undefined>(64).fill(undefined),
    modrm: false,
    exact: undefined,
  }));

/** One-byte opcodes, those behind 0F and 0F 38, and two maps of VEX. */
export const MAPS: { one: Opcode[]; two: Opcode[]; three: Opcode[]; vex38: Opcode[]; vex3a: Opcode[] } = {
  one: emptyMap(),
  two: emptyMap(),
  three: emptyMap(),
  vex38: emptyMap(),
  vex3a: emptyMap(),
};
/** All rows' encodings. */
export const FORMS: Form[] = [];

const ENCODING =
  /^([!@])?(?:(np|66|f3|f2):)?(0f\.)?(38\.)?(?:(v38|v3a)\.)?([0-9a-f]{2})(\+[rc])?(?:\/=([0-9a-f]{2})|(?:\/([0-7])?)?([mr])?)$/;
/** Operands that follow the operand size. */
const SCALING = /[vzyp]$|^rAX$|^Es$/;
/** First operands of forms that do not, in rows whose other forms do. */
const BYTES = /^(?:[EGZM~]b|AL|Ob)$/;
/** What 64-bit mode does not have is #UD there; the row of that comes last. */
const unlong: ((ud: Form) => void)[] = [];

function define([name, exec, encodings, options = {}]: Row): void {
  for (const encoding of encodings.split('|')) {
    const [code = '', list = ''] = encoding.trim().split(' ');
    const match = ENCODING.exec(code);
    if (!match) throw new Error(`instruction table: bad encoding '${code}' of ${name}`);
    const [, mode, prefix, map, map38, vex, hex, plus, exact, digit, where] = match;
    const operands = list === '' ? [] : list.split(',');
    const { wide } = options;
    const form: Form = {
      name,
      opcode: code,
      operands,
      exec,
      exec64: wide === true ? exec : wide,
      scales: wide === undefined ? operands.some((operand) => SCALING.test(operand)) : !BYTES.test(operands[0] ?? ''),
      sized: options.sized ?? '',
      lock: options.lock ?? false,
      ends: options.ends ?? false,
      protectedOnly: options.protectedOnly ?? false,
      absent: options.absent ?? false,
      undefinedFlags: options.undef ?? 0,
      testable: options.plain ?? false,
    };
    FORMS.push(form);
    const first = Number.parseInt(hex!, 16);
    const span = plus === '+r' ? 8 : plus === '+c' ? 16 : 1;
    const opcodes = vex ? (vex === 'v38' ? MAPS.vex38 : MAPS.vex3a) : map38 ? MAPS.three : map ? MAPS.two : MAPS.one;
    for (let byte = first; byte < first + span; byte++) {
      const opcode = opcodes[byte]!;
      if (exact !== undefined) {
        opcode.modrm = true;
        opcode.exact ??= new Map();
        opcode.exact.set(Number.parseInt(exact, 16), { legacy: mode === '@' ? undefined : form, long: form });
        continue;
      }
      if (digit !== undefined || where !== undefined || operands.some((operand) => MODRM_OPERANDS.test(operand)))
        opcode.modrm = true;
      const put = (at: number): void => {
        if (mode !== '@') opcode.variants[at] = form;
        if (mode !== '!') opcode.long[at] = form;
        else unlong.push((ud) => (opcode.long[at] ??= ud));
      };
      for (let p = 0; p < 4; p++) {
        if (prefix !== undefined && PREFIXES[p] !== prefix) continue;
        for (let reg = 0; reg < 8; reg++) {
          if (digit !== undefined && reg !== Number(digit)) continue;
          if (where !== 'r') put(variant(p, reg, false));
          if (where !== 'm') put(variant(p, reg, true));
        }
      }
    }
  }
}

ROWS.forEach(define);

/** What a prefix that does not belong there turns an instruction into. */
export const UNDEFINED: Form = FORMS.find((form) => form.name === 'ud')!;
/** The same of what KVM's emulator does not know either. */
export const ABSENT: Form = { ...UNDEFINED, exec: move.absent };
/** What lies behind C4, C5 and 62 with a register form in real mode. */
export const VEX: Form = { ...UNDEFINED, name: 'vex', exec: system.vexInRealMode };
for (const fill of unlong) fill(UNDEFINED);
