/** What instructions are written in: operands, stack, arithmetic with flags, control transfer. */
import type { CpuBus, CpuEvents, CpuOptions, GuestDebug, Smi } from './bus.ts';
import { Fault, GP, STOP_BLOCK } from './fault.ts';
import { type Insn, K_IMM, K_IMM64, K_M8, K_M16, K_M32, K_M64, K_R8, K_R16, K_R32, K_R64 } from './insn.ts';
import { Memory } from './memory.ts';
import { CS, IP, IP_HI, NONE, RF, RSP, SS } from './state.ts';

/** Where system management RAM begins at reset. */
const SMBASE = 0x30000;

export abstract class Core extends Memory {
  /** Interrupt shadow: KVM_X86_SHADOW_INT_MOV_SS (1) or KVM_X86_SHADOW_INT_STI (2). It lasts for one instruction. */
  shadow = 0;
  /** Instructions and REP iterations left in this `run`, the current one included. */
  fuel = 0;
  protected executedBefore = 0;
  protected fuelAtEntry = 0;
  /** `executed` when the emulator's turn under way began: with KVM_RUN, the end of the last one, or a fault of the guest. */
  turnBegan = 0;
  /** An OUT that has exited with IP still on it: skipped by the next `run`. */
  skip: { linear: number; length: number } | null = null;
  /** What KVM's emulator has read from ports, and still has of what it read before. */
  readonly readAhead: Uint8Array = new Uint8Array(1024);
  /** Where an INS whose data has come stores the first of it, if not at RDI. */
  decodedAt: number | null = null;
  /** IP of the REP instruction that was left between two elements; −1 when the last one has retired. */
  suspended = -1;
  /** RF outlives the instruction that has just been executed. */
  keepRf = false;
  /** The shadow was loaded by the instruction that has just been executed (RSM). */
  keepShadow = false;
  /** The processor's hypercall instruction is VMCALL; otherwise VMMCALL. */
  readonly vmcall: boolean;
  readonly events: CpuEvents = {
    exception: { injected: false, pending: false, nr: 0, hasErrorCode: false, errorCode: 0, hasPayload: false, payload: 0n },
    interrupt: { injected: false, nr: 0, soft: false },
    nmi: { injected: false, pending: 0, masked: false },
  };
  readonly guestDebug: GuestDebug = { control: 0, db: new BigUint64Array(4), dr7: 0x400n, steppedFrom: -1n };
  readonly smi: Smi = { active: false, requested: false, pending: false, insideNmi: false, base: SMBASE };

  constructor(bus: CpuBus, options: CpuOptions = {}) {
    super(bus, options);
    this.vmcall = options.vmcall ?? false;
  }

  /**
   * The instruction is not finished: it will be found again at the same place. Where KVM's emulator executes it, RF is set meanwhile: on
   * hardware, string I/O and what leaves for userspace.
   */
  again(emulated: boolean): void {
    this.rewind();
    this.suspended = this.ip0;
    this.stop |= STOP_BLOCK;
    this.keepRf = true;
    if (emulated) this.fl |= RF;
  }

  /** Instructions, and iterations of string instructions, executed since creation. */
  get executed(): number {
    return this.executedBefore + this.fuelAtEntry - this.fuel;
  }

  /** Moves RIP from the instruction being executed to the next. */
  protected pass(length: number): void {
    const next = (this.ip0 + length) | 0;
    this.r32[IP] = next;
    if (this.long && next >>> 0 < this.ip0 >>> 0) this.r32[IP_HI] = this.ip0High + 1;
  }

  /** RIP back on the instruction being executed. */
  rewind(): void {
    this.r32[IP] = this.ip0;
    this.r32[IP_HI] = this.ip0High;
  }

  /** A non-string OUT has made its exit. KVM_X86_QUIRK_OUT_7E_INC_RIP: one to port 0x7e is behind it already. */
  outExits(port: number): void {
    if (this.emulated || port === 0x7e) return;
    this.skip = { linear: this.linear0, length: (this.r32[IP]! - this.ip0) | 0 };
    this.rewind();
  }

  /** Debug registers have changed; `live`: by an instruction of the guest's. */
  abstract debugChanged(live: boolean): void;

  /** Whether the CPU sees the address space of system management mode. */
  abstract setSmm(active: boolean): void;

  /** IRET opens the way for the next NMI. */
  returned(): void {
    this.events.nmi.masked = false;
  }

  // Operands.

  /** Offset of the memory operand in its segment. */
  ea(i: Insn): number {
    const r = this.r32;
    if (i.asize === 8) {
      const lo = this.ea64(i);
      return this.hi * 0x1_0000_0000 + (lo >>> 0);
    }
    return ((i.disp + r[i.base]! + (r[i.index]! << i.scale)) & i.mask) >>> 0;
  }

  /** An offset moved on within the address size. */
  moved(i: Insn, offset: number, by: number): number {
    return i.asize === 8 ? offset + by : ((offset + by) & i.mask) >>> 0;
  }

  /** `ea` with 64-bit addressing, modulo 2^64: low half, the high one in `hi`. */
  ea64(i: Insn): number {
    const r = this.r32;
    let lo = (i.disp >>> 0) + (r[i.base]! >>> 0);
    let hi = i.dispHigh + r[i.base + 16]!;
    if (i.index !== NONE) {
      const x = r[i.index]!;
      lo += (x << i.scale) >>> 0;
      hi += (r[i.index + 16]! << i.scale) | ((x >>> 1) >>> (31 - i.scale));
    }
    this.hi = (hi + (lo > 0x1_ffff_ffff ? 2 : lo > 0xffff_ffff ? 1 : 0)) | 0;
    return lo | 0;
  }

  read(i: Insn, kind: number, n: number): number {
    switch (kind) {
      case K_R32:
        return this.r32[n]!;
      case K_IMM:
        return i.imm;
      case K_M32:
        return this.load32(i.seg, this.ea(i));
      case K_R8:
        return this.r8[n]!;
      case K_R16:
        return this.r16[n]!;
      case K_M8:
        return this.load8(i.seg, this.ea(i));
      case K_M16:
        return this.load16(i.seg, this.ea(i));
      case K_R64:
        this.hi = this.r32[n + 16]!;
        return this.r32[n]!;
      case K_M64:
        return this.load64(i.seg, this.ea(i));
      case K_IMM64:
        this.hi = i.imm2;
        return i.imm;
      default:
        throw new Error(`operand kind ${kind} of ${i.form.name} cannot be read`);
    }
  }

  /** 32-bit results clear the upper half of the register. For 64 bits `hi` holds the upper half. */
  write(i: Insn, kind: number, n: number, value: number): void {
    switch (kind) {
      case K_R32:
        this.r32[n] = value;
        this.r32[n + 16] = 0;
        break;
      case K_M32:
        this.store32(i.seg, this.ea(i), value);
        break;
      case K_R8:
        this.r8[n] = value;
        break;
      case K_R16:
        this.r16[n] = value;
        break;
      case K_M8:
        this.store8(i.seg, this.ea(i), value);
        break;
      case K_M16:
        this.store16(i.seg, this.ea(i), value);
        break;
      case K_R64:
        this.r32[n] = value;
        this.r32[n + 16] = this.hi;
        break;
      case K_M64: {
        // Computing the address uses `hi` too.
        const hi = this.hi;
        this.store64(i.seg, this.ea(i), value, hi);
        break;
      }
      default:
        throw new Error(`operand kind ${kind} of ${i.form.name} cannot be written`);
    }
  }

  readA(i: Insn): number {
    return this.read(i, i.ak, i.an);
  }

  readB(i: Insn): number {
    return this.read(i, i.bk, i.bn);
  }

  writeA(i: Insn, value: number): void {
    this.write(i, i.ak, i.an, value);
  }

  /** Reads operand A to be written after: what the write would raise is raised now. */
  modifyA(i: Insn): number {
    if (i.ak >= K_M8 && i.ak <= K_M64) this.probeWrite(i.seg, this.ea(i), i.width);
    return this.read(i, i.ak, i.an);
  }

  /** The accumulator as wide as the operand. */
  accumulator(width: number): number {
    if (width === 8) return this.getReg(0, 8);
    return width === 4 ? this.r32[0]! : width === 2 ? this.r16[0]! : this.r8[0]!;
  }

  /** Register n, `width` bytes of it; 1 means its low byte. */
  getReg(n: number, width: number): number {
    if (width === 8) {
      this.hi = this.r32[n + 16]!;
      return this.r32[n]!;
    }
    return width === 4 ? this.r32[n]! : width === 2 ? this.r16[n * 2]! : this.r8[n * 4]!;
  }

  /** With 8 bytes the high half is taken from `hi`. */
  putReg(n: number, width: number, value: number): void {
    if (width === 8) {
      this.r32[n] = value;
      this.r32[n + 16] = this.hi;
    } else if (width === 4) {
      this.r32[n] = value;
      this.r32[n + 16] = 0;
    } else if (width === 2) this.r16[n * 2] = value;
    else this.r8[n * 4] = value;
  }

  // Arithmetic. Operands may have any bits above their width; shift is 32 − width in bits.

  add(a: number, b: number, carry: number, shift: number): number {
    const result = (a + b + carry) | 0;
    this.fz = this.fs = result << shift;
    this.fp = result;
    this.fa = a ^ b ^ result;
    this.fc = ((a & b) | ((a | b) & ~result)) << shift;
    return result;
  }

  sub(a: number, b: number, borrow: number, shift: number): number {
    const result = (a - b - borrow) | 0;
    this.fz = this.fs = result << shift;
    this.fp = result;
    this.fa = a ^ b ^ result;
    this.fc = ((~a & b) | (~(a ^ b) & result)) << shift;
    return result;
  }

  logic(result: number, shift: number): number {
    this.fz = this.fs = result << shift;
    this.fp = result;
    this.fa = 0;
    this.fc = 0;
    return result;
  }

  /** OF of a shift by more than 1 is undefined: what it was after the first step on Intel's processors, after the last one on AMD's. */
  shifted(first: number, last: number): number {
    return this.intelFlags ? first : last;
  }

  // The same for 64 bits: halves as operands, the low half of the result returned, the high one in `hi`.

  add64(a: number, ah: number, b: number, bh: number, carry: number): number {
    const lo = (a + b + carry) | 0;
    const hi = (ah + bh + (((a & b) | ((a | b) & ~lo)) >>> 31)) | 0;
    this.fz = lo | hi;
    this.fs = hi;
    this.fp = lo;
    this.fa = a ^ b ^ lo;
    this.fc = (ah & bh) | ((ah | bh) & ~hi);
    this.hi = hi;
    return lo;
  }

  sub64(a: number, ah: number, b: number, bh: number, borrow: number): number {
    const lo = (a - b - borrow) | 0;
    const hi = (ah - bh - (((~a & b) | (~(a ^ b) & lo)) >>> 31)) | 0;
    this.fz = lo | hi;
    this.fs = hi;
    this.fp = lo;
    this.fa = a ^ b ^ lo;
    this.fc = (~ah & bh) | (~(ah ^ bh) & hi);
    this.hi = hi;
    return lo;
  }

  logic64(lo: number, hi: number): number {
    this.fz = lo | hi;
    this.fs = hi;
    this.fp = lo;
    this.fa = 0;
    this.fc = 0;
    this.hi = hi;
    return lo;
  }

  /** Adds a small signed number to register n, 64 bits. */
  addWide(n: number, value: number): void {
    const r = this.r32;
    const sum = (r[n]! >>> 0) + value;
    r[n] = sum;
    if (sum < 0) r[n + 16]!--;
    else if (sum > 0xffff_ffff) r[n + 16]!++;
  }

  // Stack.

  get sp(): number {
    if (this.long) return this.wide(RSP);
    return (this.r32[RSP]! & this.stackMask) >>> 0;
  }

  setSp(value: number): void {
    if (this.long) this.setWide(RSP, value);
    else if (this.stackMask === -1) this.r32[RSP] = value;
    else this.r16[RSP * 2] = value;
  }

  /** Where a push `size` bytes below `sp` lands. */
  below(sp: number, size: number): number {
    if (this.long) return sp - size;
    return ((sp - size) & this.stackMask) >>> 0;
  }

  /** With 8 bytes the high half is taken from `hi`. */
  push(value: number, width: number): void {
    const { hi } = this;
    const sp = this.below(this.sp, width);
    if (width === 4) this.store32(SS, sp, value);
    else if (width === 8) this.store64(SS, sp, value, hi);
    else this.store16(SS, sp, value);
    this.setSp(sp);
  }

  storeStack(at: number, width: number, value: number, hi: number): void {
    if (width === 8) this.store64(SS, at, value, hi);
    else if (width === 4) this.store32(SS, at, value);
    else this.store16(SS, at, value);
  }

  loadStack(at: number, width: number): number {
    return width === 8 ? this.load64(SS, at) : width === 4 ? this.load32(SS, at) : this.load16(SS, at);
  }

  /** What a pop reads `depth` bytes above the top; the pointer does not move. */
  top(depth: number, width: number): number {
    return this.loadStack(this.long ? this.sp + depth : ((this.sp + depth) & this.stackMask) >>> 0, width);
  }

  drop(size: number): void {
    this.setSp(this.sp + size);
  }

  // Near control transfer.

  /** Where a near branch of this operand size to `target` goes, outside 64-bit mode; #GP(0) beyond the code segment. */
  near(target: number, osize: number): number {
    const offset = osize === 2 ? target & 0xffff : target >>> 0;
    if (offset > this.codeTop) throw new Fault(GP, 0);
    return offset;
  }

  jump(target: number, osize: number): void {
    this.r32[IP] = this.near(target, osize);
  }

  /** A near branch in 64-bit mode, `by` bytes from the next instruction. */
  jumpLong(by: number): void {
    const r = this.r32;
    const sum = (r[IP]! >>> 0) + by;
    if (sum < 0 || sum > 0xffff_ffff) {
      const hi = r[IP_HI]! + (sum < 0 ? -1 : 1);
      if (hi < -0x8000 || hi > 0x7fff) throw new Fault(GP, 0);
      r[IP_HI] = hi;
    }
    r[IP] = sum;
  }

  /** Leaves the block: something it was decoded under has changed. */
  endBlock(): void {
    this.stop |= STOP_BLOCK;
  }

  /** #GP(0) unless at the most privileged level. */
  privileged(): void {
    if (this.cpl !== 0) throw new Fault(GP, 0);
  }

  /** The code segment's default operand and address size in bytes; 8: 64-bit mode. */
  get codeSize(): number {
    if (this.long) return 8;
    return this.segments[CS]!.db ? 4 : 2;
  }
}
