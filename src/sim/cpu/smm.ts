/**
 * System management mode: what an SMI saves, the state its handler begins in, RSM. Layouts and values are KVM's, loosely those of AMD64
 * (arch/x86/kvm/smm.h); the 64-bit one is used where the guest's CPUID has long mode.
 */
import type { Core } from './core.ts';
import { ABANDON, Fault, STOP_EXIT, UD } from './fault.ts';
import type { Exec } from './insn.ts';
import { TRIPLE_FAULT } from './interrupts.ts';
import { CR0_PE, CR0_PG, CS, DS, EFER_LMA, EFER_LME, ES, FS, GS, LDT, type Segment, SS, TR } from './state.ts';

/** The state save area: 512 bytes at SMBASE + 0xfe00. */
const AREA = 0xfe00;
const AREA_SIZE = 0x200;
const HANDLER = 0x8000n;
/** CR0.EM and CR0.TS. */
const CR0_EM_TS = 0xc;
const DR7_FIXED = 0x400n;

/** Offsets in the area. */
const LONG = {
  segments: [
    [ES, 0x00],
    [CS, 0x10],
    [SS, 0x20],
    [DS, 0x30],
    [FS, 0x40],
    [GS, 0x50],
    [LDT, 0x70],
    [TR, 0x90],
  ],
  gdtr: 0x60,
  idtr: 0x80,
  shadow: 0xcb,
  efer: 0xd0,
  revision: 0xfc,
  smbase: 0x100,
  cr4: 0x148,
  cr3: 0x150,
  cr0: 0x158,
  dr7: 0x160,
  dr6: 0x168,
  rflags: 0x170,
  rip: 0x178,
  /** R15 first. */
  gprs: 0x180,
} as const;

const SHORT = {
  /** Register, flags with limit and base, selector. */
  segments: [
    [DS, 0x12c, 0x1b4],
    [FS, 0x138, 0x1b8],
    [GS, 0x144, 0x1bc],
    [TR, 0x15c, 0x1c4],
    [LDT, 0x178, 0x1c0],
    [ES, 0x184, 0x1a8],
    [CS, 0x190, 0x1ac],
    [SS, 0x19c, 0x1b0],
  ],
  smbase: 0xf8,
  revision: 0xfc,
  cr4: 0x114,
  shadow: 0x11a,
  idtr: 0x150,
  gdtr: 0x16c,
  dr7: 0x1c8,
  dr6: 0x1cc,
  /** EAX first. */
  gprs: 0x1d0,
  eip: 0x1f0,
  eflags: 0x1f4,
  cr3: 0x1f8,
  cr0: 0x1fc,
} as const;

const hasLongMode = (c: Core): boolean => (c.bus.cpuid(0x80000001, 0).edx & (1 << 29)) !== 0;

/** Guest-physical memory of the current address space, page by page; false where it is no RAM. */
function eachByte(
  c: Core,
  gpa: number,
  access: 'read' | 'write',
  touch: (ram: Uint8Array, at: number, i: number) => void,
): boolean {
  for (let i = 0; i < AREA_SIZE; ) {
    const page = Math.floor((gpa + i) / 4096);
    const ram = c.bus.page(page, access);
    if (ram === null) return false;
    if (access === 'write') c.bus.written?.(page);
    do {
      touch(ram.u8, ram.offset + ((gpa + i) & 0xfff), i);
      i++;
    } while (i < AREA_SIZE && (gpa + i) & 0xfff);
  }
  return true;
}

const attributes = (s: Segment): number =>
  (s.g << 23) | (s.db << 22) | (s.l << 21) | (s.avl << 20) | (s.present << 15) | (s.dpl << 13) | (s.s << 12) | (s.type << 8);

/** A task register is busy, whatever it was loaded as. */
const savedSegment = (c: Core, n: number): Segment =>
  n === TR ? { ...c.segments[n]!, type: c.segments[n]!.type | 2 } : c.segments[n]!;

function segmentOf(selector: number, flags: number, limit: number, base: bigint): Segment {
  const bit = (n: number): number => (flags >>> n) & 1;
  return {
    selector,
    base,
    limit,
    type: (flags >>> 8) & 15,
    s: bit(12),
    dpl: (flags >>> 13) & 3,
    present: bit(15),
    avl: bit(20),
    l: bit(21),
    db: bit(22),
    g: bit(23),
    unusable: 1 - bit(15),
  };
}

function saveLong(c: Core, view: DataView): void {
  const put = (at: number, value: bigint): void => view.setBigUint64(at, value, true);
  for (let n = 0; n < 16; n++) put(LONG.gprs + 8 * n, c.reg(15 - n));
  put(LONG.rip, c.rip);
  put(LONG.rflags, BigInt(c.flags() >>> 0));
  put(LONG.dr6, c.dr[6]!);
  put(LONG.dr7, c.dr[7]!);
  put(LONG.cr0, BigInt(c.cr0));
  put(LONG.cr3, c.cr3);
  put(LONG.cr4, c.cr4);
  put(LONG.efer, c.efer);
  view.setUint32(LONG.smbase, c.smi.base, true);
  view.setUint32(LONG.revision, 0x20064, true);
  for (const [n, at] of LONG.segments) {
    const segment = savedSegment(c, n);
    view.setUint16(at, segment.selector, true);
    view.setUint16(at + 2, attributes(segment) >>> 8, true);
    view.setUint32(at + 4, segment.limit, true);
    put(at + 8, segment.base);
  }
  for (const [table, at] of [
    [c.gdt, LONG.gdtr],
    [c.idt, LONG.idtr],
  ] as const) {
    view.setUint32(at + 4, table.limit, true);
    put(at + 8, table.base);
  }
  view.setUint8(LONG.shadow, c.shadow);
}

function saveShort(c: Core, view: DataView): void {
  const put = (at: number, value: bigint | number): void => view.setUint32(at, Number(BigInt.asUintN(32, BigInt(value))), true);
  for (let n = 0; n < 8; n++) put(SHORT.gprs + 4 * n, c.reg(n));
  put(SHORT.eip, c.rip);
  put(SHORT.eflags, c.flags());
  put(SHORT.dr6, c.dr[6]!);
  put(SHORT.dr7, c.dr[7]!);
  put(SHORT.cr0, c.cr0);
  put(SHORT.cr3, c.cr3);
  put(SHORT.cr4, c.cr4);
  put(SHORT.smbase, c.smi.base);
  put(SHORT.revision, 0x20000);
  for (const [n, at, selector] of SHORT.segments) {
    const segment = savedSegment(c, n);
    put(at, attributes(segment));
    put(at + 4, segment.limit);
    put(at + 8, segment.base);
    put(selector, segment.selector);
  }
  for (const [table, at] of [
    [c.gdt, SHORT.gdtr],
    [c.idt, SHORT.idtr],
  ] as const) {
    put(at + 4, table.limit);
    put(at + 8, table.base);
  }
  view.setUint8(SHORT.shadow, c.shadow);
}

/** An SMI is taken. Where the state cannot be saved, KVM gives the whole VM up; older kernels do not look. */
export function enterSmm(c: Core): void {
  const view = new DataView(new ArrayBuffer(AREA_SIZE));
  const long = hasLongMode(c);
  if (long) saveLong(c, view);
  else saveShort(c, view);
  const bytes = new Uint8Array(view.buffer);
  c.smi.pending = false;
  c.setSmm(true);
  const saved = eachByte(c, c.smi.base + AREA, 'write', (ram, at, i) => {
    ram[at] = bytes[i]!;
  });
  if (!saved && !c.bus.losesSmmState) {
    c.outcome = { kind: 'dead' };
    c.stop |= STOP_EXIT;
    throw ABANDON;
  }
  const { nmi } = c.events;
  c.smi.insideNmi = nmi.masked;
  nmi.masked = true;
  c.setFlags(2);
  c.rip = HANDLER;
  c.shadow = 0;
  c.cr0 = (c.cr0 & ~(CR0_PE | CR0_PG | CR0_EM_TS)) >>> 0;
  c.cr4 = 0n;
  Object.assign(c.idt, { base: 0n, limit: 0 });
  c.dr[7] = DR7_FIXED;
  const flat = segmentOf(0, 0x809300, 0xffffffff, 0n);
  for (const n of [DS, ES, FS, GS, SS]) c.segments[n] = { ...flat };
  c.segments[CS] = { ...flat, selector: (c.smi.base >>> 4) & 0xffff, base: BigInt(c.smi.base) };
  // A data segment's type, in CS too.
  if (long) c.efer = 0n;
  c.refresh();
  c.forgetPages();
  c.endBlock();
}

/** CR0, CR3, CR4 and EFER as they were saved; false where a processor would shut down. */
function enterMode(c: Core, cr0: bigint, cr3: bigint, cr4: bigint, efer: bigint): boolean {
  const low = Number(cr0 & 0xffffffffn);
  if (cr0 >> 32n || (low & CR0_PG && !(low & CR0_PE)) || (low & 0x20000000 && !(low & 0x40000000))) return false;
  c.efer = efer & ~EFER_LMA;
  if (low & CR0_PG && efer & EFER_LME) c.efer |= EFER_LMA;
  c.cr3 = cr3;
  c.cr4 = cr4;
  c.cr0 = (low | 0x10) >>> 0;
  c.refresh();
  return true;
}

function loadLong(c: Core, view: DataView): boolean {
  const get = (at: number): bigint => view.getBigUint64(at, true);
  for (let n = 0; n < 16; n++) c.setReg(15 - n, get(LONG.gprs + 8 * n));
  c.rip = get(LONG.rip);
  if (get(LONG.dr6) >> 32n || get(LONG.dr7) >> 32n) return false;
  c.dr[6] = (get(LONG.dr6) & 0x1e00fn) | 0xffff0ff0n;
  c.dr[7] = (get(LONG.dr7) & 0xffff2bffn) | DR7_FIXED;
  c.smi.base = view.getUint32(LONG.smbase, true);
  for (const [table, at] of [
    [c.gdt, LONG.gdtr],
    [c.idt, LONG.idtr],
  ] as const) {
    Object.assign(table, { limit: view.getUint32(at + 4, true) & 0xffff, base: get(at + 8) });
  }
  if (!enterMode(c, get(LONG.cr0), get(LONG.cr3), get(LONG.cr4), get(LONG.efer))) return false;
  for (const [n, at] of LONG.segments) {
    const flags = view.getUint16(at + 2, true) << 8;
    c.segments[n] = segmentOf(view.getUint16(at, true), flags, view.getUint32(at + 4, true), get(at + 8));
  }
  c.setFlags(Number(get(LONG.rflags) & 0xffffffffn) | 2);
  c.shadow = view.getUint8(LONG.shadow);
  return true;
}

function loadShort(c: Core, view: DataView): boolean {
  const get = (at: number): bigint => BigInt(view.getUint32(at, true));
  for (let n = 0; n < 8; n++) c.setReg(n, get(SHORT.gprs + 4 * n));
  c.rip = get(SHORT.eip);
  c.dr[6] = (get(SHORT.dr6) & 0x1e00fn) | 0xffff0ff0n;
  c.dr[7] = (get(SHORT.dr7) & 0xffff2bffn) | DR7_FIXED;
  c.smi.base = view.getUint32(SHORT.smbase, true);
  for (const [table, at] of [
    [c.gdt, SHORT.gdtr],
    [c.idt, SHORT.idtr],
  ] as const) {
    Object.assign(table, { limit: view.getUint32(at + 4, true) & 0xffff, base: get(at + 8) });
  }
  if (!enterMode(c, get(SHORT.cr0), get(SHORT.cr3), get(SHORT.cr4), c.efer)) return false;
  for (const [n, at, selector] of SHORT.segments) {
    c.segments[n] = segmentOf(Number(get(selector)) & 0xffff, Number(get(at)), Number(get(at + 4)), get(at + 8));
  }
  c.setFlags(view.getInt32(SHORT.eflags, true) | 2);
  c.shadow = view.getUint8(SHORT.shadow);
  return true;
}

function codeIsPresent(view: DataView, long: boolean): boolean {
  const [, at] = (long ? LONG : SHORT).segments.find(([n]) => n === CS)!;
  const flags = long ? view.getUint16(at + 2, true) << 8 : view.getUint32(at, true);
  return segmentOf(0, flags, 0, 0n).present === 1;
}

/** RSM: #UD outside; a state that makes no sense shuts the processor down. */
export const rsm: Exec = (c) => {
  if (!c.smi.active) throw new Fault(UD);
  const view = new DataView(new ArrayBuffer(AREA_SIZE));
  const bytes = new Uint8Array(view.buffer);
  const read = eachByte(c, c.smi.base + AREA, 'read', (ram, at, i) => {
    bytes[i] = ram[at]!;
  });
  if (!read) throw TRIPLE_FAULT;
  const long = hasLongMode(c);
  // Of such code QEMU's processor fetches all, others what the limit allows; KVM's emulator fetches none, and does not come past a HLT of it.
  if (!codeIsPresent(view, long)) throw c.notModelled('RSM to a code segment that is not present');
  if (!c.smi.insideNmi) c.events.nmi.masked = false;
  c.smi.insideNmi = false;
  c.setSmm(false);
  if (!(long ? loadLong : loadShort)(c, view)) throw TRIPLE_FAULT;
  c.refresh();
  c.forgetPages();
  c.keepShadow = true;
  c.keepRf = true;
  c.endBlock();
};
