/** Segment registers, control registers, descriptor tables, MSRs and the rest of the system. */
import type { Core } from '../core.ts';
import type { Exec } from '../insn.ts';
import { Fault, GP, STOP_EXIT, UD } from '../memory.ts';
import { loadSegment, loadSystemSegment } from '../segments.ts';
import { CR0_PE, CR0_PG, CR0_TS, CS, IF, IOPL, LDT, RAX, RBX, RCX, RDX, SS, TR } from '../state.ts';
import { farPointer } from './flow.ts';

// Segment registers.

export const movFromSegment: Exec = (c, i) => c.writeA(i, c.segments[i.bn]!.selector);

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

/** A 32-bit push of a segment register writes only the low word of its slot. */
export const pushSegment: Exec = (c, i) => {
  const sp = c.below(c.sp, i.osize);
  c.store16(SS, sp, c.segments[i.an]!.selector);
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
  c.putReg(i.an >> (i.osize === 2 ? 1 : 0), i.osize, offset);
  afterSegment(c, n);
};

const SEGMENT_OF: Record<string, number> = { les: 0, lss: 2, lds: 3, lfs: 4, lgs: 5 };

// Descriptor tables.

const storeTable =
  (name: 'gdt' | 'idt'): Exec =>
  (c, i) => {
    const at = c.ea(i);
    const table = c[name];
    c.probeWrite(i.seg, at, 6);
    c.store16(i.seg, at, table.limit);
    c.store32(i.seg, ((at + 2) & i.mask) >>> 0, Number(table.base & 0xffffffffn) | 0);
  };

/** With a 16-bit operand size the base has 24 bits. */
const loadTable =
  (name: 'gdt' | 'idt'): Exec =>
  (c, i) => {
    c.privileged();
    const at = c.ea(i);
    const limit = c.load16(i.seg, at);
    const base = c.load32(i.seg, ((at + 2) & i.mask) >>> 0);
    c[name].limit = limit;
    c[name].base = BigInt((i.osize === 2 ? base & 0xffffff : base) >>> 0);
  };

export const sgdt: Exec = storeTable('gdt');
export const sidt: Exec = storeTable('idt');
export const lgdt: Exec = loadTable('gdt');
export const lidt: Exec = loadTable('idt');

export const sldt: Exec = (c, i) => c.writeA(i, c.segments[LDT]!.selector);
export const str: Exec = (c, i) => c.writeA(i, c.segments[TR]!.selector);
export const lldt: Exec = (c, i) => {
  c.privileged();
  loadSystemSegment(c, LDT, c.readA(i) & 0xffff);
};
export const ltr: Exec = (c, i) => {
  c.privileged();
  loadSystemSegment(c, TR, c.readA(i) & 0xffff);
};

// Control and debug registers.

const setCr0 = (c: Core, value: number): void => {
  const next = (value | 0x10) & 0xe005003f;
  if (next & CR0_PG && !(next & CR0_PE)) throw new Fault(GP, 0);
  if (next & 0x20000000 && !(next & 0x40000000)) throw new Fault(GP, 0);
  if (next & CR0_PG) throw c.notModelled('paging');
  c.cr0 = next >>> 0;
  c.refresh();
  c.endBlock();
};

const CR4_KNOWN = 0x0177ffff;

export const movFromControl: Exec = (c, i) => {
  c.privileged();
  const values: Record<number, bigint> = { 0: BigInt(c.cr0), 2: c.cr2, 3: c.cr3, 4: c.cr4 };
  const value = values[i.bn];
  if (value === undefined) throw new Fault(UD);
  c.putReg(i.an, 4, Number(value & 0xffffffffn) | 0);
};

export const movToControl: Exec = (c, i) => {
  c.privileged();
  const value = c.r32[i.bn]! >>> 0;
  if (i.an === 0) setCr0(c, value);
  else if (i.an === 2) c.cr2 = BigInt(value);
  else if (i.an === 3) c.cr3 = BigInt(value);
  else if (i.an === 4) {
    if (value & ~CR4_KNOWN) throw new Fault(GP, 0);
    c.cr4 = BigInt(value);
  } else throw new Fault(UD);
};

export const smsw: Exec = (c, i) => c.writeA(i, i.ak === 6 ? c.cr0 & 0xffff : c.cr0);

/** LMSW sets PE, MP, EM, TS and cannot clear PE. */
export const lmsw: Exec = (c, i) => {
  c.privileged();
  const value = c.readA(i) & 15;
  setCr0(c, (c.cr0 & ~14) | value);
};

export const clts: Exec = (c) => {
  c.privileged();
  c.cr0 = (c.cr0 & ~CR0_TS) >>> 0;
};

/** DR4 and DR5 are other names of DR6 and DR7 unless CR4.DE. */
const debugRegister = (c: Core, n: number): number => {
  if (n !== 4 && n !== 5) return n;
  if (c.cr4 & 8n) throw new Fault(UD);
  return n + 2;
};

export const movFromDebug: Exec = (c, i) => {
  c.privileged();
  c.putReg(i.an, 4, Number(c.dr[debugRegister(c, i.bn)]! & 0xffffffffn) | 0);
};

export const movToDebug: Exec = (c, i) => {
  c.privileged();
  const n = debugRegister(c, i.an);
  const value = c.r32[i.bn]! >>> 0;
  if (n === 7 && value & 0x20ff) throw c.notModelled('hardware breakpoints');
  c.dr[n] = BigInt(n === 6 ? (value & 0x1e00f) | 0xffff0ff0 : n === 7 ? (value & 0xffff0fff) | 0x400 : value) & 0xffffffffn;
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
  if (c.cr4 & 4n && c.cpl !== 0) throw new Fault(GP, 0);
  const now = c.bus.tsc();
  putPair(c, Number(now & 0xffffffffn) | 0, Number((now >> 32n) & 0xffffffffn) | 0);
};

export const privilegedNop: Exec = (c) => c.privileged();

/** BOUND: #BR (5) when the index lies outside the pair of bounds in memory. KVM's emulator does not have it. */
export const bound: Exec = (c, i) => {
  if (c.emulated) throw c.emulationFailure();
  const at = c.ea(i);
  const next = ((at + i.osize) & i.mask) >>> 0;
  const index = i.osize === 2 ? (c.readA(i) << 16) >> 16 : c.readA(i);
  const low = i.osize === 2 ? (c.load16(i.seg, at) << 16) >> 16 : c.load32(i.seg, at);
  const high = i.osize === 2 ? (c.load16(i.seg, next) << 16) >> 16 : c.load32(i.seg, next);
  if (index < low || index > high) throw new Fault(5);
};
