/** Control and debug registers, translations, extended control registers. */
import type { Core } from '../core.ts';
import { watchesData } from '../debug.ts';
import { DB, Fault, GP, UD } from '../fault.ts';
import type { Exec } from '../insn.ts';
import {
  CR0_PE,
  CR0_PG,
  CR0_TS,
  CR4_DE,
  CR4_LA57,
  CR4_OSXSAVE,
  CR4_PAE,
  CR4_PCIDE,
  CR4_UMIP,
  CS,
  EFER_LMA,
  EFER_LME,
  RAX,
  RCX,
  RDX,
} from '../state.ts';

/** Up to PKE. */
const CR4_KNOWN = 0x0177ffffn;
const CR0_CD = 0x40000000;
const CR0_NW = 0x20000000;

/** Writing CR0 turns long mode on and off with paging, and loads the PDPTRs. */
const setCr0 = (c: Core, value: number): void => {
  const next = ((value | 0x10) & 0xe005003f) >>> 0;
  if (next & CR0_PG && !(next & CR0_PE)) throw new Fault(GP, 0, true);
  if (next & CR0_NW && !(next & CR0_CD)) throw new Fault(GP, 0, true);
  const turnsOn = (next & ~c.cr0 & CR0_PG) !== 0;
  const turnsOff = (~next & c.cr0 & CR0_PG) !== 0;
  if (turnsOn && c.efer & EFER_LME && (!(c.cr4 & CR4_PAE) || c.segments[CS]!.l)) throw new Fault(GP, 0, true);
  if (turnsOn && !(c.efer & EFER_LME) && !c.legacyPaging) throw new Fault(GP, 0, true);
  if (turnsOff && (c.long || c.cr4 & CR4_PCIDE)) throw new Fault(GP, 0, true);
  const before = { cr0: c.cr0, efer: c.efer };
  c.cr0 = next;
  if (turnsOn && c.efer & EFER_LME) c.efer |= EFER_LMA;
  if (turnsOff) c.efer &= ~EFER_LMA;
  if ((turnsOn || (before.cr0 ^ next) & (CR0_CD | CR0_NW)) && !pointersLoaded(c)) {
    Object.assign(c, before);
    throw new Fault(GP, 0, true);
  }
  c.refresh();
  c.endBlock();
};

const pae = (c: Core): boolean => (c.cr0 & CR0_PG) !== 0 && (c.cr4 & CR4_PAE) !== 0n && !c.longMode;

/** False where PAE paging would load illegal pointers. AMD's processors look at them when they use them. */
const pointersLoaded = (c: Core): boolean => !pae(c) || c.loadPdptrs() || !(c.cachesPdptrs || c.emulated);

/** Bit 63 keeps what is cached under the PCID; nothing says that more may not be dropped. */
const setCr3 = (c: Core, value: bigint): void => {
  const next = c.cr4 & CR4_PCIDE ? value & ~(1n << 63n) : value;
  if (c.longMode && next >> BigInt(c.addressBits)) throw new Fault(GP, 0, true);
  const before = c.cr3;
  c.cr3 = next;
  if (!pointersLoaded(c)) {
    c.cr3 = before;
    throw new Fault(GP, 0, true);
  }
  c.refresh();
  c.flushTlb();
};

const setCr4 = (c: Core, value: bigint): void => {
  if (value & ~(c.bus.cr4Bits ?? CR4_KNOWN)) throw new Fault(GP, 0, true);
  if (c.longMode && (!(value & CR4_PAE) || (value ^ c.cr4) & CR4_LA57)) throw new Fault(GP, 0, true);
  if (value & ~c.cr4 & CR4_PCIDE && (!c.longMode || c.cr3 & 0xfffn)) throw new Fault(GP, 0, true);
  const before = c.cr4;
  c.cr4 = value;
  // PGE, PSE, PAE, SMEP.
  if ((before ^ value) & 0x1000b0n && !pointersLoaded(c)) {
    c.cr4 = before;
    throw new Fault(GP, 0, true);
  }
  c.refresh();
};

const wide = (c: Core, n: number): bigint => (c.long ? c.reg(n) : c.reg(n) & 0xffffffffn);

const putWide = (c: Core, n: number, value: bigint): void => {
  if (c.long) c.setReg(n, value);
  else c.putReg(n, 4, Number(value & 0xffffffffn) | 0);
};

export const movFromControl: Exec = (c, i) => {
  const values: Record<number, () => bigint> = {
    0: () => BigInt(c.cr0),
    2: () => c.cr2,
    3: () => c.cr3,
    4: () => c.cr4,
    8: () => c.cr8,
  };
  const value = values[i.bn];
  if (value === undefined) throw new Fault(UD);
  c.privileged();
  putWide(c, i.an, value());
};

export const movToControl: Exec = (c, i) => {
  if (![0, 2, 3, 4, 8].includes(i.an)) throw new Fault(UD);
  c.privileged();
  const value = wide(c, i.bn);
  if (i.an === 0) {
    // KVM's emulator, which SVM asks too, loses the high half.
    if (value >> 32n && c.intel) throw new Fault(GP, 0, true);
    setCr0(c, Number(value & 0xffffffffn));
  } else if (i.an === 2) c.cr2 = value;
  else if (i.an === 3) setCr3(c, value);
  else if (i.an === 4) setCr4(c, value);
  else {
    if (value > 15n) throw new Fault(GP, 0, true);
    c.cr8 = value;
  }
  c.endBlock();
};

/** UMIP keeps user code from SGDT, SIDT, SLDT, STR and SMSW. */
export const readable = (c: Core): void => {
  if (c.cr4 & CR4_UMIP && c.cpl > 0) throw new Fault(GP, 0);
};

export const smsw: Exec = (c, i) => {
  readable(c);
  c.hi = 0;
  c.writeA(i, i.ak === 6 ? c.cr0 & 0xffff : c.cr0);
};

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
  if (n > 7) throw new Fault(UD);
  if (n !== 4 && n !== 5) return n;
  if (c.cr4 & CR4_DE) throw new Fault(UD);
  return n + 2;
};

const DR7_GD = 0x2000n;
const DR6_BD = 0x2000n;

/** DR7.GD guards the debug registers: #DB, which clears it. QEMU's processor does not have it. */
const guarded = (c: Core): void => {
  c.privileged();
  if (c.qemu || !(c.dr[7]! & DR7_GD)) return;
  c.dr[6] = (c.dr[6]! & ~0xe00fn) | 0xffff0ff0n | DR6_BD;
  c.dr[7] = c.dr[7]! & ~DR7_GD;
  throw new Fault(DB);
};

export const movFromDebug: Exec = (c, i) => {
  const n = debugRegister(c, i.bn);
  guarded(c);
  putWide(c, i.an, c.dr[n]!);
};

export const movToDebug: Exec = (c, i) => {
  const n = debugRegister(c, i.an);
  guarded(c);
  const value = wide(c, i.bn);
  if (n >= 6 && value >> 32n) throw new Fault(GP, 0);
  if (n === 7 && !c.emulated && !(c.qemu && value & DR7_GD) && watchesData(value)) throw c.notModelled('breakpoints on data');
  const seven = (c.qemu ? value : value & 0xffff2bffn) | 0x400n;
  c.dr[n] = n === 6 ? (value & 0x1e00fn) | 0xffff0ff0n : n === 7 ? seven : value;
  c.debugChanged(true);
};

/** All translations go, not only the one asked for: more may always be dropped. */
export const invlpg: Exec = (c) => {
  c.privileged();
  c.flushTlb();
};

/** INVPCID: types 0 … 3. */
export const invpcid: Exec = (c, i) => {
  if (!c.native) throw c.emulationFailure();
  if (!(c.bus.cpuid(7, 0).ebx & 0x400)) throw new Fault(UD);
  c.privileged();
  const type = wide(c, i.an);
  const at = c.ea(i);
  const pcidLow = c.load64(i.seg, at);
  const pcidHigh = c.hi;
  const linearLow = c.load64(i.seg, at + 8);
  const linearHigh = c.hi;
  if (type > 3n || pcidLow >>> 12 || pcidHigh) throw new Fault(GP, 0);
  if (type < 2n && (pcidLow & 0xfff) !== 0 && !(c.cr4 & CR4_PCIDE)) throw new Fault(GP, 0);
  if (type === 0n && (linearHigh >> 15 !== linearHigh >> 31 || (linearLow & 0) !== 0)) throw new Fault(GP, 0);
  c.flushTlb();
};

export const xgetbv: Exec = (c) => {
  if (!c.native) throw c.emulationFailure();
  if (!(c.cr4 & CR4_OSXSAVE)) throw new Fault(UD);
  if (c.r32[RCX] !== 0) throw new Fault(GP, 0);
  const value = c.bus.xcr0 ?? 1n;
  c.putReg(RAX, 4, Number(value & 0xffffffffn) | 0);
  c.putReg(RDX, 4, Number(value >> 32n) | 0);
};

export const xsetbv: Exec = (c) => {
  if (!(c.cr4 & CR4_OSXSAVE)) throw new Fault(UD);
  c.privileged();
  const value = (BigInt(c.r32[RDX]! >>> 0) << 32n) | BigInt(c.r32[RAX]! >>> 0);
  if (c.r32[RCX] !== 0 || !c.bus.setXcr0?.(value)) throw new Fault(GP, 0);
};
