/** Fast system calls, the bases of FS and GS, and what looks at selectors without loading them. */
import type { Core } from '../core.ts';
import { Fault, GP, UD } from '../fault.ts';
import type { Exec } from '../insn.ts';
import { readDescriptor } from '../segments.ts';
import {
  AC,
  CANONICAL_LOW,
  CANONICAL_TOP,
  CR4_FSGSBASE,
  CS,
  EFER_SCE,
  FS,
  GS,
  IF,
  IP,
  IP_HI,
  LDT,
  RCX,
  RDX,
  RF,
  RSP,
  type Segment,
  SS,
  VM,
  ZF,
} from '../state.ts';
import { rdtsc } from './system.ts';

const MSR_SYSENTER_CS = 0x174;
const MSR_SYSENTER_ESP = 0x175;
const MSR_SYSENTER_EIP = 0x176;
const MSR_STAR = 0xc0000081;
const MSR_LSTAR = 0xc0000082;
const MSR_CSTAR = 0xc0000083;
const MSR_SYSCALL_MASK = 0xc0000084;
const MSR_KERNEL_GS_BASE = 0xc0000102;
const R11 = 11;

interface Pair {
  readonly lo: number;
  readonly hi: number;
}
const NOTHING: Pair = { lo: 0, hi: 0 };
const msr = (c: Core, index: number): Pair => c.bus.ownMsr(index) ?? NOTHING;

/** The flat segments these instructions load without looking at any table. */
const flat = (selector: number, type: number, dpl: number, l: number, db: number): Segment => ({
  selector,
  base: 0n,
  limit: 0xffffffff,
  type,
  present: 1,
  dpl,
  db,
  s: 1,
  l,
  g: 1,
  avl: 0,
  unusable: 0,
});

function enter(c: Core, code: Segment, stack: Segment, lo: number, hi: number): void {
  c.segments[CS] = code;
  c.segments[SS] = stack;
  c.refreshSegment(CS);
  c.refreshSegment(SS);
  c.r32[IP] = lo;
  c.r32[IP_HI] = hi;
  c.endBlock();
}

const set64 = (c: Core, n: number, lo: number, hi: number): void => {
  c.r32[n] = lo;
  c.r32[n + 16] = hi;
};

/** SYSCALL; Intel's processors have it in 64-bit mode only. */
export const syscall: Exec = (c) => {
  if (c.emulated && c.native) throw c.notModelled('SYSCALL from level 3 on the paravirtual KVM');
  if (!(c.efer & EFER_SCE) || !c.protectedMode || c.fl & VM || (c.intel && !c.long)) throw new Fault(UD);
  const star = msr(c, MSR_STAR);
  const selector = star.hi & 0xfffc;
  const stack = flat(selector + 8, 3, 0, 0, 1);
  if (!c.longMode) {
    c.putReg(RCX, 4, c.r32[IP]!);
    c.fl &= ~(IF | RF | VM);
    enter(c, flat(selector, 11, 0, 0, 1), stack, star.lo, 0);
    return;
  }
  const flags = c.flags() & ~RF;
  set64(c, RCX, c.r32[IP]!, c.long ? c.r32[IP_HI]! : 0);
  set64(c, R11, flags, 0);
  const target = msr(c, c.long ? MSR_LSTAR : MSR_CSTAR);
  c.setFlags(flags & ~msr(c, MSR_SYSCALL_MASK).lo & ~RF);
  enter(c, flat(selector, 11, 0, 1, 0), stack, target.lo, target.hi);
};

/** SYSRET: with a 64-bit operand to 64-bit code, otherwise to 32-bit code. AMD's leaves all of SS but its selector alone. */
const sysretTo =
  (wide: boolean): Exec =>
  (c) => {
    // The emulator fails, and the backend leaves by a road of its own, whatever EFER.SCE and the mode are.
    if (c.emulated && !c.longMode) throw c.notModelled('SYSRET outside long mode on the paravirtual KVM');
    if (!(c.efer & EFER_SCE) || !c.protectedMode || (c.intel && !c.long)) throw new Fault(UD);
    c.privileged();
    if (c.emulated && !wide) throw c.notModelled('SYSRET to 32-bit code on the paravirtual KVM');
    const base = (msr(c, MSR_STAR).hi >>> 16) | 3;
    if (wide && c.intel) {
      const rip = c.wide(RCX);
      if (rip < CANONICAL_LOW || rip > CANONICAL_TOP) throw new Fault(GP, 0);
    }
    if (c.longMode) c.setFlags((c.r32[R11]! & 0x3c7fd7) | 2);
    else c.fl |= IF;
    const code = wide ? flat((base + 16) & 0xffff, 11, 3, 1, 0) : flat(base, 11, 3, 0, 1);
    const stack = flat((base + 8) & 0xffff, 3, 3, 0, 1);
    enter(c, code, stack, c.r32[RCX]!, wide ? c.r32[RCX + 16]! : 0);
  };

export const sysret: Exec = sysretTo(false);
export const sysret64: Exec = sysretTo(true);

/** SYSENTER. AMD's processors do not have it in long mode. */
export const sysenter: Exec = (c) => {
  // The #UD goes to KVM, whose emulator does not try it in 64-bit mode.
  if (c.long && (!c.native || !c.intel)) throw c.emulationFailure();
  if (c.longMode && !c.intel) throw new Fault(UD);
  const cs = msr(c, MSR_SYSENTER_CS).lo & 0xfffc;
  if (!c.protectedMode || cs === 0) throw new Fault(GP, 0);
  const target = msr(c, MSR_SYSENTER_EIP);
  const sp = msr(c, MSR_SYSENTER_ESP);
  const long = Number(c.longMode);
  c.fl &= ~(VM | IF | RF);
  enter(c, flat(cs, 11, 0, long, 1 - long), flat(cs + 8, 3, 0, 0, 1), target.lo, long ? target.hi : 0);
  set64(c, RSP, sp.lo, long ? sp.hi : 0);
};

const sysexitTo =
  (wide: boolean): Exec =>
  (c) => {
    if (c.longMode && !c.intel) throw new Fault(UD);
    const cs = msr(c, MSR_SYSENTER_CS).lo & 0xfffc;
    if (!c.protectedMode || cs === 0 || c.cpl !== 0) throw new Fault(GP, 0);
    if (wide) {
      for (const n of [RCX, RDX]) if (c.wide(n) < CANONICAL_LOW || c.wide(n) > CANONICAL_TOP) throw new Fault(GP, 0);
    }
    const selector = cs + (wide ? 32 : 16);
    const lo = c.r32[RDX]!;
    const hi = wide ? c.r32[RDX + 16]! : 0;
    set64(c, RSP, c.r32[RCX]!, wide ? c.r32[RCX + 16]! : 0);
    enter(c, flat(selector | 3, 11, 3, Number(wide), Number(!wide)), flat((selector + 8) | 3, 3, 3, 0, 1), lo, hi);
  };

export const sysexit: Exec = sysexitTo(false);
export const sysexit64: Exec = sysexitTo(true);

// The bases of FS and GS.

const pair = (value: bigint): Pair => ({ lo: Number(value & 0xffffffffn) | 0, hi: Number((value >> 32n) & 0xffffffffn) | 0 });

export const swapgs: Exec = (c) => {
  if (!c.long) throw new Fault(UD);
  c.privileged();
  const gs = c.segments[GS]!;
  const { lo, hi } = msr(c, MSR_KERNEL_GS_BASE);
  const old = pair(gs.base);
  c.bus.setOwnMsr(MSR_KERNEL_GS_BASE, old.lo >>> 0, old.hi >>> 0);
  gs.base = (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
  c.refreshSegment(GS);
};

/** KVM's emulator does not ask CR4. */
const allowed = (c: Core): void => {
  if (c.native && !(c.cr4 & CR4_FSGSBASE)) throw new Fault(UD);
};

const readBase =
  (n: number): Exec =>
  (c, i) => {
    allowed(c);
    const { lo, hi } = pair(c.segments[n]!.base);
    c.hi = hi;
    c.writeA(i, lo);
  };

const writeBase =
  (n: number): Exec =>
  (c, i) => {
    allowed(c);
    const lo = c.readA(i);
    const hi = i.osize === 8 ? c.hi : 0;
    if (hi < -0x8000 || hi > 0x7fff) throw new Fault(GP, 0);
    c.segments[n]!.base = (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
    c.refreshSegment(n);
  };

export const rdfsbase: Exec = readBase(FS);
export const rdgsbase: Exec = readBase(GS);
export const wrfsbase: Exec = writeBase(FS);
export const wrgsbase: Exec = writeBase(GS);

/** STAC and CLAC. */
const setAc =
  (on: boolean): Exec =>
  (c) => {
    if (!c.native) throw c.emulationFailure();
    if (c.cpl !== 0) throw new Fault(UD);
    if (on) c.fl |= AC;
    else c.fl &= ~AC;
    c.endBlock();
  };

export const stac: Exec = setAc(true);
export const clac: Exec = setAc(false);

const MSR_TSC_AUX = 0xc0000103;

/** RDTSCP: RDTSC, and TSC_AUX in ECX. KVM's emulator does not have it. */
export const rdtscp: Exec = (c, i) => {
  if (!c.native) throw c.emulationFailure();
  rdtsc(c, i);
  c.putReg(RCX, 4, msr(c, MSR_TSC_AUX).lo | 0);
};

/** CLFLUSH and its like touch their operand as a load does; KVM's emulator does not even do that. */
export const clflush: Exec = (c, i) => {
  if (c.native) c.load8(i.seg, c.ea(i));
};

// Selectors looked at.

const looked = (c: Core, selector: number): { hi: number; limit: number } | null => {
  if ((selector & 0xfffc) === 0) return null;
  const table = selector & 4 ? c.segments[LDT]! : c.gdt;
  if ((selector | 7) > table.limit || (selector & 4 && c.segments[LDT]!.unusable)) return null;
  return readDescriptor(c, selector);
};

const visible = (c: Core, selector: number, hi: number): boolean => {
  const conforming = (hi & 0x1c00) === 0x1c00;
  const dpl = (hi >>> 13) & 3;
  return conforming || (dpl >= c.cpl && dpl >= (selector & 3));
};

const setZf = (c: Core, on: boolean): void => c.setArith((c.arith() & ~ZF) | (on ? ZF : 0));

/** Types of system descriptors LAR and LSL know, outside and in long mode. */
const LAR_TYPES: readonly (readonly number[])[] = [
  [1, 2, 3, 4, 5, 9, 11, 12],
  [2, 9, 11, 12],
];
const LSL_TYPES: readonly (readonly number[])[] = [
  [1, 2, 3, 9, 11],
  [2, 9, 11],
];

const look =
  (types: readonly (readonly number[])[], value: (d: { hi: number; limit: number }) => number): Exec =>
  (c, i) => {
    if (!c.native) throw c.emulationFailure();
    const selector = c.readB(i) & 0xffff;
    const d = looked(c, selector);
    const known = d !== null && ((d.hi & 0x1000) !== 0 || types[Number(c.longMode)]!.includes((d.hi >>> 8) & 15));
    const found = d !== null && known && visible(c, selector, d.hi);
    if (found) {
      c.hi = 0;
      c.writeA(i, value(d));
    }
    setZf(c, found);
  };

export const lar: Exec = look(LAR_TYPES, (d) => d.hi & 0xf0ff00);
export const lsl: Exec = look(LSL_TYPES, (d) => d.limit | 0);

const verify =
  (fits: (type: number) => boolean): Exec =>
  (c, i) => {
    if (!c.native) throw c.emulationFailure();
    const selector = c.readA(i) & 0xffff;
    const d = looked(c, selector);
    setZf(c, d !== null && (d.hi & 0x1000) !== 0 && fits((d.hi >>> 8) & 15) && visible(c, selector, d.hi));
  };

export const verr: Exec = verify((type) => !(type & 8) || (type & 2) !== 0);
export const verw: Exec = verify((type) => (type & 0xa) === 2);

/** ARPL writes its selector also where it stays as it is. */
export const arpl: Exec = (c, i) => {
  if (!c.native) throw c.emulationFailure();
  const rpl = c.readB(i) & 3;
  const selector = c.modifyA(i);
  const raised = (selector & 3) < rpl;
  c.writeA(i, raised ? (selector & ~3) | rpl : selector);
  setZf(c, raised);
};
