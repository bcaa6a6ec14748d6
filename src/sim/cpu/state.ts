/**
 * The architectural state: general registers, flags, segment caches, control registers; and its shape as `struct kvm_regs` and
 * `struct kvm_sregs`.
 *
 * 64-bit registers are two 32-bit halves in one Int32Array: slot n is the low half of register n, slot 16 + n the high half, so that
 * bytes and words of the low half alias in `r8` and `r16`. RIP is such a pair too: code outside 64-bit mode looks at its low half only.
 *
 * A 64-bit *value* in flight is its low half as a signed number, the high half in `hi` (see memory.ts). An *address* or offset is one
 * number: unsigned below 2^32 outside 64-bit mode; in 64-bit mode signed, so that the canonical ones are −2^47 … 2^47 − 1 and exact, and what
 * is not canonical is merely out of range. `wide` and `setWide` convert between a register and such a number.
 */

/** Slots of `r32` after the sixteen registers' halves, each with its high half 16 further. `NONE` always reads 0: an absent base or index. */
export const IP = 32;
export const IP_HI = 48;
export const NONE = 33;

export const RAX = 0;
export const RCX = 1;
export const RDX = 2;
export const RBX = 3;
export const RSP = 4;
export const RBP = 5;
export const RSI = 6;
export const RDI = 7;

export const ES = 0;
export const CS = 1;
export const SS = 2;
export const DS = 3;
export const FS = 4;
export const GS = 5;
export const TR = 6;
export const LDT = 7;

export const CF = 0x1;
export const PF = 0x4;
export const AF = 0x10;
export const ZF = 0x40;
export const SF = 0x80;
export const TF = 0x100;
export const IF = 0x200;
export const DF = 0x400;
export const OF = 0x800;
export const IOPL = 0x3000;
export const NT = 0x4000;
export const RF = 0x10000;
export const VM = 0x20000;
export const AC = 0x40000;
export const ID = 0x200000;
/** The six flags of arithmetic; all others are kept as they are in `fl`. */
export const ARITH: number = CF | PF | AF | ZF | SF | OF;

export const CR0_PE = 1;
export const CR0_TS = 8;
export const CR0_WP = 0x10000;
export const CR0_PG = 0x80000000;
export const CR4_TSD = 0x4n;
export const CR4_DE = 0x8n;
export const CR4_PSE = 0x10n;
export const CR4_PAE = 0x20n;
export const CR4_PGE = 0x80n;
export const CR4_UMIP = 0x800n;
export const CR4_LA57 = 0x1000n;
export const CR4_FSGSBASE = 0x10000n;
export const CR4_PCIDE = 0x20000n;
export const CR4_OSXSAVE = 0x40000n;
export const CR4_SMEP = 0x100000n;
export const CR4_SMAP = 0x200000n;
export const EFER_SCE = 1n;
export const EFER_LME = 0x100n;
export const EFER_LMA = 0x400n;
export const EFER_NX = 0x800n;
export const EFER_SVME = 0x1000n;

/** Canonical addresses of 48 bits, as signed numbers. */
export const CANONICAL_LOW: number = -(2 ** 47);
export const CANONICAL_TOP: number = 2 ** 47 - 1;

/** A segment register with its hidden part, fields as in `struct kvm_segment`. */
export interface Segment {
  selector: number;
  base: bigint;
  limit: number;
  type: number;
  present: number;
  dpl: number;
  db: number;
  s: number;
  l: number;
  g: number;
  avl: number;
  unusable: number;
}

/** Register order of `struct kvm_regs`. */
const KVM_REGS = [RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP, 8, 9, 10, 11, 12, 13, 14, 15];
/** Segment order of `struct kvm_sregs`. */
const KVM_SEGMENTS = [CS, DS, ES, FS, GS, SS, TR, LDT];
/** The u8 fields of `struct kvm_segment` from offset 14 on. */
const SEGMENT_BYTES = ['type', 'present', 'dpl', 'db', 's', 'l', 'g', 'avl', 'unusable'] as const;

const PARITY = Uint8Array.from({ length: 256 }, (_, i) => {
  let n = i;
  n ^= n >> 4;
  n ^= n >> 2;
  n ^= n >> 1;
  return n & 1 ? 0 : PF;
});

const resetSegment = (type: number): Segment => ({
  selector: 0,
  base: 0n,
  limit: 0xffff,
  type,
  present: 1,
  dpl: 0,
  db: 0,
  s: 1,
  l: 0,
  g: 0,
  avl: 0,
  unusable: 0,
});

export class State {
  readonly r32: Int32Array;
  readonly r16: Uint16Array;
  readonly r8: Uint8Array;

  /** RFLAGS without the six arithmetic flags. */
  fl = 2;
  /**
   * The arithmetic flags, lazily: ZF is `fz === 0`, SF the sign of `fs`, PF the parity of the low byte of `fp`, AF bit 4 of `fa`;
   * `fc` is the vector of carries (borrows) out of each bit, aligned so that bit 31 is the carry out of the operand's top bit: CF is
   * its bit 31, OF its bit 31 ≠ bit 30.
   */
  fz = 1;
  fs = 0;
  fp = 1;
  fa = 0;
  fc = 0;

  readonly segments: Segment[];
  readonly gdt: { base: bigint; limit: number } = { base: 0n, limit: 0xffff };
  readonly idt: { base: bigint; limit: number } = { base: 0n, limit: 0xffff };
  cr0 = 0x60000010;
  cr2 = 0n;
  cr3 = 0n;
  cr4 = 0n;
  cr8 = 0n;
  efer = 0n;
  readonly dr: BigUint64Array = new BigUint64Array(8);

  /** Low half of each segment's base, and the offsets it lets through: low … readTop for loads, low … writeTop for stores. */
  readonly segBase: Int32Array = new Int32Array(8);
  readonly segLow: Float64Array = new Float64Array(8);
  readonly segReadTop: Float64Array = new Float64Array(8);
  readonly segWriteTop: Float64Array = new Float64Array(8);
  /** What 64-bit mode adds to an offset: the bases of FS and GS, signed; 0 for the others. */
  readonly longBase: Float64Array = new Float64Array(8);
  /** 64-bit mode: EFER.LMA and CS.L. Limits and types of data segments do not matter then. */
  long = false;
  /** Highest offset code may be fetched from. */
  codeTop = 0xffff;
  /** SS.B: the stack pointer is 32 bits wide (mask of its offsets). */
  stackMask = 0xffff;
  cpl = 0;

  constructor() {
    const buffer = new ArrayBuffer(50 * 4);
    this.r32 = new Int32Array(buffer);
    this.r16 = new Uint16Array(buffer);
    this.r8 = new Uint8Array(buffer);
    this.segments = Array.from({ length: 8 }, () => resetSegment(3));
    this.reset();
  }

  /** The state kvm.md §6 gives a new vCPU (VMX and 6.18 variants where back ends differ). */
  reset(): void {
    this.r32.fill(0);
    this.r32[RDX] = 0x600;
    this.r32[IP] = 0xfff0;
    this.setFlags(2);
    for (let n = 0; n < 8; n++) this.segments[n] = resetSegment(3);
    Object.assign(this.segments[CS]!, { selector: 0xf000, base: 0xffff0000n, type: 11 });
    Object.assign(this.segments[TR]!, { type: 11, s: 0 });
    Object.assign(this.segments[LDT]!, { type: 2, s: 0 });
    Object.assign(this.gdt, { base: 0n, limit: 0xffff });
    Object.assign(this.idt, { base: 0n, limit: 0xffff });
    this.cr0 = 0x60000010;
    this.cr2 = this.cr3 = this.cr4 = this.cr8 = this.efer = 0n;
    this.dr.fill(0n);
    this.dr[6] = 0xffff0ff0n;
    this.dr[7] = 0x400n;
    this.refresh();
  }

  /** RFLAGS. */
  flags(): number {
    return this.fl | this.arith();
  }

  arith(): number {
    return (
      (this.fc >>> 31) |
      PARITY[this.fp & 0xff]! |
      (this.fa & AF) |
      (this.fz === 0 ? ZF : 0) |
      ((this.fs >>> 24) & SF) |
      (((this.fc ^ (this.fc << 1)) >>> 20) & OF)
    );
  }

  setFlags(value: number): void {
    this.fl = (value & ~ARITH) | 2;
    this.setArith(value);
  }

  setArith(value: number): void {
    this.fz = value & ZF ? 0 : 1;
    this.fs = value & SF ? -1 : 0;
    this.fp = value & PF ? 0 : 1;
    this.fa = value & AF;
    this.setCarryOverflow(value & CF, value & OF);
  }

  /** Sets CF and OF, leaving the other four. */
  setCarryOverflow(cf: number, of: number): void {
    this.fc = (cf ? 0x80000000 | 0 : 0) | (!cf !== !of ? 0x40000000 : 0);
  }

  cf(): number {
    return this.fc >>> 31;
  }

  of(): number {
    return ((this.fc ^ (this.fc << 1)) >>> 31) & 1;
  }

  /** Condition codes 0 … 15 of Jcc, SETcc and CMOVcc. */
  condition(code: number): boolean {
    let met: boolean;
    switch (code >> 1) {
      case 0:
        met = (this.fc ^ (this.fc << 1)) < 0;
        break;
      case 1:
        met = this.fc < 0;
        break;
      case 2:
        met = this.fz === 0;
        break;
      case 3:
        met = this.fc < 0 || this.fz === 0;
        break;
      case 4:
        met = this.fs < 0;
        break;
      case 5:
        met = PARITY[this.fp & 0xff] !== 0;
        break;
      case 6:
        met = (this.fs ^ this.fc ^ (this.fc << 1)) < 0;
        break;
      default:
        met = this.fz === 0 || (this.fs ^ this.fc ^ (this.fc << 1)) < 0;
    }
    return met !== ((code & 1) === 1);
  }

  get protectedMode(): boolean {
    return (this.cr0 & CR0_PE) !== 0;
  }

  get longMode(): boolean {
    return (this.efer & EFER_LMA) !== 0n;
  }

  /** Recomputes what is derived from segments and control registers. To be called after changing any of them. */
  refresh(): void {
    for (let n = 0; n < 8; n++) this.refreshSegment(n);
  }

  refreshSegment(n: number): void {
    const segment = this.segments[n]!;
    this.segBase[n] = Number(segment.base & 0xffffffffn) | 0;
    const code = (segment.type & 8) !== 0;
    let low = 0;
    let top = segment.limit;
    if (!code && segment.type & 4) {
      low = segment.limit + 1;
      top = segment.db ? 0xffffffff : 0xffff;
    }
    // A segment that reaches the end of the address space lets an access wrap around it.
    const data = top === 0xffffffff ? 0x200000000 : top;
    const readable = !segment.unusable && (!code || (segment.type & 2) !== 0);
    // Real mode does not look at the code bit: a store through CS is allowed there.
    const writable = !segment.unusable && (segment.type & 2) !== 0 && !(code && this.protectedMode);
    this.segLow[n] = low;
    this.segReadTop[n] = readable ? data : -1;
    this.segWriteTop[n] = writable ? data : -1;
    if (n === FS || n === GS) this.longBase[n] = Number(BigInt.asIntN(64, segment.base));
    if (n === CS) {
      this.long = segment.l === 1 && this.longMode;
      this.codeTop = this.long ? CANONICAL_TOP : segment.limit;
    }
    if (n === SS) {
      this.stackMask = segment.db ? -1 : 0xffff;
      this.cpl = this.fl & VM ? 3 : this.protectedMode ? segment.dpl : 0;
    }
  }

  /** Register n as 64 bits. */
  reg(n: number): bigint {
    return (BigInt(this.r32[n + 16]! >>> 0) << 32n) | BigInt(this.r32[n]! >>> 0);
  }

  setReg(n: number, value: bigint): void {
    this.r32[n] = Number(value & 0xffffffffn) | 0;
    this.r32[n + 16] = Number((value >> 32n) & 0xffffffffn) | 0;
  }

  /** Register n as a signed number; exact wherever it is a canonical address. */
  wide(n: number): number {
    return this.r32[n + 16]! * 0x1_0000_0000 + (this.r32[n]! >>> 0);
  }

  /** Takes a signed number of less than 2^53. */
  setWide(n: number, value: number): void {
    this.r32[n] = value;
    this.r32[n + 16] = Math.floor(value / 0x1_0000_0000);
  }

  get rip(): bigint {
    return (BigInt(this.r32[IP_HI]! >>> 0) << 32n) | BigInt(this.r32[IP]! >>> 0);
  }

  set rip(value: bigint) {
    this.r32[IP] = Number(value & 0xffffffffn) | 0;
    this.r32[IP_HI] = Number((value >> 32n) & 0xffffffffn) | 0;
  }

  /** Writes `struct kvm_regs` (144 bytes) at `at`. */
  storeRegs(view: DataView, at: number): void {
    KVM_REGS.forEach((n, i) => {
      view.setBigUint64(at + i * 8, this.reg(n), true);
    });
    view.setBigUint64(at + 128, this.rip, true);
    view.setBigUint64(at + 136, BigInt(this.flags() >>> 0), true);
  }

  /** Takes `struct kvm_regs` at `at`: no checks; RFLAGS bit 1 is forced to 1. */
  loadRegs(view: DataView, at: number): void {
    KVM_REGS.forEach((n, i) => {
      this.setReg(n, view.getBigUint64(at + i * 8, true));
    });
    this.rip = view.getBigUint64(at + 128, true);
    this.setFlags(view.getInt32(at + 136, true));
    this.refreshSegment(SS);
  }

  /** Writes `struct kvm_sregs` at `at`, but for `apic_base` (272) and `interrupt_bitmap` (280), which are KVM's. Padding stays as it is. */
  storeSregs(view: DataView, at: number): void {
    KVM_SEGMENTS.forEach((n, i) => {
      const p = at + i * 24;
      const segment = this.segments[n]!;
      view.setBigUint64(p, segment.base, true);
      view.setUint32(p + 8, segment.limit, true);
      view.setUint16(p + 12, segment.selector, true);
      SEGMENT_BYTES.forEach((field, k) => {
        view.setUint8(p + 14 + k, segment[field]);
      });
    });
    [this.gdt, this.idt].forEach((table, i) => {
      const p = at + 192 + i * 16;
      view.setBigUint64(p, table.base, true);
      view.setUint16(p + 8, table.limit, true);
    });
    view.setBigUint64(at + 224, BigInt(this.cr0), true);
    view.setBigUint64(at + 232, this.cr2, true);
    view.setBigUint64(at + 240, this.cr3, true);
    view.setBigUint64(at + 248, this.cr4, true);
    view.setBigUint64(at + 256, this.cr8, true);
    view.setBigUint64(at + 264, this.efer, true);
  }

  /**
   * Takes `struct kvm_sregs` at `at` without any check (KVM's checks, kvm.md §4.5, are the caller's), but for `apic_base`,
   * `interrupt_bitmap` and a cr8 above 15, which is ignored.
   */
  loadSregs(view: DataView, at: number): void {
    KVM_SEGMENTS.forEach((n, i) => {
      const p = at + i * 24;
      const segment = this.segments[n]!;
      segment.base = view.getBigUint64(p, true);
      segment.limit = view.getUint32(p + 8, true);
      segment.selector = view.getUint16(p + 12, true);
      SEGMENT_BYTES.forEach((field, k) => {
        segment[field] = view.getUint8(p + 14 + k);
      });
    });
    [this.gdt, this.idt].forEach((table, i) => {
      const p = at + 192 + i * 16;
      table.base = view.getBigUint64(p, true);
      table.limit = view.getUint16(p + 8, true);
    });
    this.cr0 = view.getUint32(at + 224, true);
    this.cr2 = view.getBigUint64(at + 232, true);
    this.cr3 = view.getBigUint64(at + 240, true);
    this.cr4 = view.getBigUint64(at + 248, true);
    const cr8 = view.getBigUint64(at + 256, true);
    if (cr8 <= 15n) this.cr8 = cr8;
    this.efer = view.getBigUint64(at + 264, true);
    this.refresh();
  }
}
