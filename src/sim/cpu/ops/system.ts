/** Segment registers, control registers, descriptor tables, MSRs and the rest of the system. */
import type { Core } from '../core.ts';
import { BR, Fault, GP, STOP_EXIT, UD } from '../fault.ts';
import type { Exec, Insn } from '../insn.ts';
import { loadSegment, loadSystemSegment } from '../segments.ts';
import { CR4_TSD, CS, IF, IOPL, LDT, RAX, RBX, RCX, RDX, SS, TR } from '../state.ts';
import { readable } from './control.ts';
import { farPointer } from './flow.ts';

// Segment registers.

export const movFromSegment: Exec = (c, i) => {
  if (i.bn > 5) throw new Fault(UD);
  putSelector(c, i, c.segments[i.bn]!.selector);
};

/** A register is written whole, as wide as the operand. */
const putSelector = (c: Core, i: Insn, selector: number): void => {
  c.hi = 0;
  c.writeA(i, selector);
};

/** MOV SS and POP SS hold interrupts off for one instruction. */
const afterSegment = (c: Core, n: number): void => {
  if (n === SS) c.shadow = 1;
  c.endBlock();
};

export const movToSegment: Exec = (c, i) => {
  if (i.an === CS || i.an > 5) throw new Fault(UD);
  loadSegment(c, i.an, c.readB(i) & 0xffff);
  afterSegment(c, i.an);
};

/** A 32-bit push of a segment register writes only the low word of its slot; a 64-bit one all of it. */
export const pushSegment: Exec = (c, i) => {
  const sp = c.below(c.sp, i.osize);
  if (i.osize === 8) c.store64(SS, sp, c.segments[i.an]!.selector, 0);
  else c.store16(SS, sp, c.segments[i.an]!.selector);
  c.setSp(sp);
};

export const popSegment: Exec = (c, i) => {
  loadSegment(c, i.an, c.top(0, i.osize) & 0xffff);
  c.drop(i.osize);
  afterSegment(c, i.an);
};

export const loadFarPointer: Exec = (c, i) => {
  const [selector, offset] = farPointer(c, i);
  const n = SEGMENT_OF[i.form.name]!;
  loadSegment(c, n, selector);
  c.hi = Math.floor(offset / 0x1_0000_0000);
  c.putReg(i.an >> (i.osize === 2 ? 1 : 0), i.osize, offset);
  afterSegment(c, n);
};

const SEGMENT_OF: Record<string, number> = { les: 0, lss: 2, lds: 3, lfs: 4, lgs: 5 };

// Descriptor tables.

const storeTable =
  (name: 'gdt' | 'idt'): Exec =>
  (c, i) => {
    readable(c);
    const at = c.ea(i);
    const { base, limit } = c[name];
    c.probeWrite(i.seg, at, c.long ? 10 : 6);
    c.store16(i.seg, at, limit);
    const low = Number(base & 0xffffffffn) | 0;
    if (c.long) c.store64(i.seg, at + 2, low, Number(base >> 32n) | 0);
    else c.store32(i.seg, c.moved(i, at, 2), low);
  };

/** With a 16-bit operand size the base has 24 bits; in 64-bit mode always 64. */
const loadTable =
  (name: 'gdt' | 'idt'): Exec =>
  (c, i) => {
    c.privileged();
    const at = c.ea(i);
    const limit = c.load16(i.seg, at);
    let base: bigint;
    if (c.long) {
      const low = BigInt(c.load64(i.seg, at + 2) >>> 0);
      base = (BigInt(c.hi >>> 0) << 32n) | low;
      if (c.hi < -0x8000 || c.hi > 0x7fff) throw new Fault(GP, 0);
    } else {
      const low = c.load32(i.seg, c.moved(i, at, 2));
      base = BigInt((i.osize === 2 ? low & 0xffffff : low) >>> 0);
    }
    c[name].limit = limit;
    c[name].base = base;
  };

export const sgdt: Exec = storeTable('gdt');
export const sidt: Exec = storeTable('idt');
export const lgdt: Exec = loadTable('gdt');
export const lidt: Exec = loadTable('idt');

export const sldt: Exec = (c, i) => {
  readable(c);
  putSelector(c, i, c.segments[LDT]!.selector);
};
export const str: Exec = (c, i) => {
  readable(c);
  putSelector(c, i, c.segments[TR]!.selector);
};
export const lldt: Exec = (c, i) => {
  c.privileged();
  loadSystemSegment(c, LDT, c.readA(i) & 0xffff);
};
export const ltr: Exec = (c, i) => {
  c.privileged();
  loadSystemSegment(c, TR, c.readA(i) & 0xffff);
};

// Flags and halting.

const ioPrivileged = (c: Core): void => {
  if (c.protectedMode && c.cpl > (c.fl & IOPL) >> 12) throw new Fault(GP, 0);
};

export const cli: Exec = (c) => {
  ioPrivileged(c);
  c.fl &= ~IF;
};

/** STI holds interrupts off until the next instruction is done; in KVM's emulator and on QEMU's processor also where IF was set already. */
export const sti: Exec = (c) => {
  ioPrivileged(c);
  c.shadow = 2;
  c.fl |= IF;
  c.endBlock();
};

export const hlt: Exec = (c) => {
  c.privileged();
  c.outcome = { kind: 'hlt' };
  c.stop |= STOP_EXIT;
};

// Information.

export const cpuid: Exec = (c) => {
  const result = c.bus.cpuid(c.r32[RAX]! >>> 0, c.r32[RCX]! >>> 0);
  c.putReg(RAX, 4, result.eax);
  c.putReg(RBX, 4, result.ebx);
  c.putReg(RCX, 4, result.ecx);
  c.putReg(RDX, 4, result.edx);
};

const putPair = (c: Core, lo: number, hi: number): void => {
  c.putReg(RAX, 4, lo);
  c.putReg(RDX, 4, hi);
};

export const rdtsc: Exec = (c) => {
  if (c.cr4 & CR4_TSD && c.cpl !== 0) throw new Fault(GP, 0);
  const now = c.bus.tsc();
  putPair(c, Number(now & 0xffffffffn) | 0, Number((now >> 32n) & 0xffffffffn) | 0);
};

/** VEX and EVEX: #UD in real mode; KVM's emulator fails. */
export const vexInRealMode: Exec = (c) => {
  throw c.emulated ? c.emulationFailure() : new Fault(UD);
};

/** BOUND: #BR (5) when the index lies outside the pair of bounds in memory. KVM's emulator does not have it. */
export const bound: Exec = (c, i) => {
  if (c.emulated) throw c.emulationFailure();
  const at = c.ea(i);
  const next = ((at + i.osize) & i.mask) >>> 0;
  const index = i.osize === 2 ? (c.readA(i) << 16) >> 16 : c.readA(i);
  const low = i.osize === 2 ? (c.load16(i.seg, at) << 16) >> 16 : c.load32(i.seg, at);
  const high = i.osize === 2 ? (c.load16(i.seg, next) << 16) >> 16 : c.load32(i.seg, next);
  if (index < low || index > high) throw new Fault(BR);
};
