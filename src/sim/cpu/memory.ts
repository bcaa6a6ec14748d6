/**
 * How an instruction reaches memory: segment check, linear address, physical page, RAM or MMIO.
 *
 * `load8 … load64`, `store8 … store64` take a segment register and an offset, in every mode; 64-bit mode ignores all of the segment but the
 * bases of FS and GS, and checks that the address is canonical. `linear16 … linear64` and `linearStore8 … 64` take a linear address: they
 * are the processor's own accesses to descriptor tables and the TSS, privileged whatever CPL is. Addresses are numbers as state.ts says; a
 * 64-bit value is its low half, with the high half in `hi`.
 *
 * Instructions are restartable: one that needs data from outside (MMIO read, IN) is abandoned before it has changed a register, and
 * executed again from the start when the data is there; what it had already obtained is replayed in order. Stores to MMIO are
 * queued and become exits after the instruction is done. Stores to RAM go through at once: repeating them stores the same again.
 * So every instruction reads all it needs and makes every check that can fault before it changes a register or a flag.
 */
import type { Outcome } from './bus.ts';
import { ABANDON, Fault, GP, REDO, STACK, STOP_BLOCK, STOP_EXIT, UD } from './fault.ts';
import { Mmu } from './mmu.ts';
import { FETCH, READ, SYSTEM, WRITE } from './paging.ts';
import { CANONICAL_LOW, CANONICAL_TOP, CS, DS, SS } from './state.ts';
import { TLB_SIZE } from './tlb.ts';

interface Answer {
  readonly key: string;
  readonly data: Uint8Array;
}

export abstract class Memory extends Mmu {
  /** Offset of the instruction being executed, low and high half; RIP is already behind it. */
  ip0 = 0;
  ip0High = 0;
  outcome: Outcome | null = null;
  /** High half of the last 64-bit value read, or to be written. */
  hi = 0;
  private readonly scratch = new DataView(new ArrayBuffer(16));

  /** Data obtained for the current instruction, in order, and how much of it this execution has used. */
  replay: Answer[] = [];
  replayed = 0;
  /** What the guest waits for: the key of the next answer. */
  wanted: string | null = null;
  wantedLength = 0;
  /** MMIO stores of the current instruction not yet reported. */
  stores: Outcome[] = [];
  /** Hardware delivers an event: what it needs for that has to be RAM. */
  vectoring = false;

  segmentFault(segment: number): Fault {
    return new Fault(segment === SS ? STACK : GP, 0);
  }

  /** KVM cannot emulate half of an event's delivery: INTERNAL_ERROR, suberror 3 (DELIVERY_EV), before anything has changed. */
  private vectoringFailure(gpa: number, isWrite: boolean): typeof ABANDON {
    this.outcome = { kind: 'internalError', suberror: 3, insnBytes: new Uint8Array(0), gpa, isWrite };
    this.stop |= STOP_EXIT;
    return ABANDON;
  }

  // Loads. Results are unsigned for 8 and 16 bits, signed for 32.

  load8(segment: number, offset: number): number {
    if (this.long) return this.longLoad8(segment, offset);
    if (offset < this.segLow[segment]! || offset > this.segReadTop[segment]!) throw this.segmentFault(segment);
    const linear = (offset + this.segBase[segment]!) | 0;
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.tlbRead[slot] === linear >>> 12) return this.tlbView[slot]!.getUint8(linear & 0xfff);
    return this.loadSlow(linear >>> 0, 1, READ) & 0xff;
  }

  load16(segment: number, offset: number): number {
    if (this.long) return this.longLoad16(segment, offset);
    if (offset < this.segLow[segment]! || offset + 1 > this.segReadTop[segment]!) throw this.segmentFault(segment);
    const linear = (offset + this.segBase[segment]!) | 0;
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.tlbRead[slot] === linear >>> 12 && (linear & 0xfff) <= 0xffe) {
      return this.tlbView[slot]!.getUint16(linear & 0xfff, true);
    }
    return this.loadSlow(linear >>> 0, 2, READ) & 0xffff;
  }

  load32(segment: number, offset: number): number {
    if (this.long) return this.longLoad32(segment, offset);
    if (offset < this.segLow[segment]! || offset + 3 > this.segReadTop[segment]!) throw this.segmentFault(segment);
    const linear = (offset + this.segBase[segment]!) | 0;
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.tlbRead[slot] === linear >>> 12 && (linear & 0xfff) <= 0xffc) {
      return this.tlbView[slot]!.getInt32(linear & 0xfff, true);
    }
    return this.loadSlow(linear >>> 0, 4, READ);
  }

  /** Returns the low half; the high one is in `hi`. */
  load64(segment: number, offset: number): number {
    if (this.long) return this.longLoad64(segment, offset);
    if (offset < this.segLow[segment]! || offset + 7 > this.segReadTop[segment]!) throw this.segmentFault(segment);
    return this.loadSlow((offset + this.segBase[segment]!) >>> 0, 8, READ);
  }

  /** The linear address in 64-bit mode. KVM's emulator and the lab's processor look at the first byte only; what follows has no page. */
  private longLinear(segment: number, offset: number): number {
    const linear = offset + this.longBase[segment]!;
    if (linear < CANONICAL_LOW || linear > CANONICAL_TOP) throw this.segmentFault(this.qemu ? DS : segment);
    return linear;
  }

  private longLoad8(segment: number, offset: number): number {
    const linear = this.longLinear(segment, offset);
    const at = linear & 0xfff;
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.longRead[slot] === linear - at) return this.tlbView[slot]!.getUint8(at);
    return this.loadSlow(linear, 1, READ) & 0xff;
  }

  private longLoad16(segment: number, offset: number): number {
    const linear = this.longLinear(segment, offset);
    const at = linear & 0xfff;
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.longRead[slot] === linear - at && at <= 0xffe) return this.tlbView[slot]!.getUint16(at, true);
    return this.loadSlow(linear, 2, READ) & 0xffff;
  }

  private longLoad32(segment: number, offset: number): number {
    const linear = this.longLinear(segment, offset);
    const at = linear & 0xfff;
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.longRead[slot] === linear - at && at <= 0xffc) return this.tlbView[slot]!.getInt32(at, true);
    return this.loadSlow(linear, 4, READ);
  }

  private longLoad64(segment: number, offset: number): number {
    const linear = this.longLinear(segment, offset);
    const at = linear & 0xfff;
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.longRead[slot] === linear - at && at <= 0xff8) {
      const view = this.tlbView[slot]!;
      this.hi = view.getInt32(at + 4, true);
      return view.getInt32(at, true);
    }
    return this.loadSlow(linear, 8, READ);
  }

  /** The address `by` bytes on; outside 64-bit mode it wraps around. */
  after(linear: number, by: number): number {
    if (this.long) return linear + by;
    return this.longMode && linear + by > 0x1_0000_0000 ? linear + by : (linear + by) >>> 0;
  }

  private loadSlow(linear: number, size: number, access: number): number {
    const first = Math.min(size, 0x1000 - (linear & 0xfff));
    const gpa = this.translate(linear, access);
    const next = first < size ? this.after(linear, first) : 0;
    const gpa2 = first < size ? this.translate(next, access) : 0;
    this.scratch.setBigUint64(0, 0n);
    this.readPiece(linear, gpa, first, 0, access);
    if (first < size) this.readPiece(next, gpa2, size - first, first, access);
    this.hi = this.scratch.getInt32(4, true);
    return this.scratch.getInt32(0, true);
  }

  private readPiece(linear: number, gpa: number, length: number, at: number, access: number): void {
    const key = `mmio ${gpa} ${length}`;
    let data = this.replay.length > this.replayed ? this.answer(key) : null;
    if (data === null) {
      const page = this.physical(Math.floor(gpa / 4096));
      const view = this.readable(page);
      if (view === null && this.vectoring) throw this.vectoringFailure(gpa, false);
      if (view === null && this.emulateDevice(gpa, false)) throw REDO;
      if (view === null) data = this.deviceRead(key, gpa, length);
      else {
        if (access === READ) this.tlb.fill(linear, view, false, this.long);
        data = new Uint8Array(view.buffer, view.byteOffset + (gpa & 0xfff), length);
      }
    }
    for (let i = 0; i < length; i++) this.scratch.setUint8(at + i, data[i]!);
  }

  /** What the kernel's own devices answer is kept: should the instruction be abandoned later, it must not be asked of them again. */
  private deviceRead(key: string, gpa: number, length: number): Uint8Array {
    const data = this.bus.mmioRead?.(gpa, length) ?? null;
    if (data === null)
      throw this.ask(key, length, { kind: 'mmio', gpa, len: length, isWrite: false, data: new Uint8Array(length) });
    this.answered(key, data);
    return data;
  }

  // Stores.

  store8(segment: number, offset: number, value: number): void {
    if (this.long) {
      const wide = this.longLinear(segment, offset);
      const at = wide & 0xfff;
      const entry = (wide >>> 12) & (TLB_SIZE - 1);
      if (this.longWrite[entry] === wide - at) this.tlbView[entry]!.setUint8(at, value);
      else this.storeSlow(wide, 1, value, 0, WRITE);
      return;
    }
    if (offset < this.segLow[segment]! || offset > this.segWriteTop[segment]!) throw this.segmentFault(segment);
    const linear = (offset + this.segBase[segment]!) | 0;
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.tlbWrite[slot] === linear >>> 12) this.tlbView[slot]!.setUint8(linear & 0xfff, value);
    else this.storeSlow(linear >>> 0, 1, value, 0, WRITE);
  }

  store16(segment: number, offset: number, value: number): void {
    if (this.long) {
      const wide = this.longLinear(segment, offset);
      const at = wide & 0xfff;
      const entry = (wide >>> 12) & (TLB_SIZE - 1);
      if (this.longWrite[entry] === wide - at && at <= 0xffe) this.tlbView[entry]!.setUint16(at, value, true);
      else this.storeSlow(wide, 2, value, 0, WRITE);
      return;
    }
    if (offset < this.segLow[segment]! || offset + 1 > this.segWriteTop[segment]!) throw this.segmentFault(segment);
    const linear = (offset + this.segBase[segment]!) | 0;
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.tlbWrite[slot] === linear >>> 12 && (linear & 0xfff) <= 0xffe) {
      this.tlbView[slot]!.setUint16(linear & 0xfff, value, true);
    } else this.storeSlow(linear >>> 0, 2, value, 0, WRITE);
  }

  store32(segment: number, offset: number, value: number): void {
    if (this.long) {
      this.longStore32(segment, offset, value);
      return;
    }
    if (offset < this.segLow[segment]! || offset + 3 > this.segWriteTop[segment]!) throw this.segmentFault(segment);
    const linear = (offset + this.segBase[segment]!) | 0;
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.tlbWrite[slot] === linear >>> 12 && (linear & 0xfff) <= 0xffc) {
      this.tlbView[slot]!.setInt32(linear & 0xfff, value, true);
    } else this.storeSlow(linear >>> 0, 4, value, 0, WRITE);
  }

  private longStore32(segment: number, offset: number, value: number): void {
    const linear = this.longLinear(segment, offset);
    const at = linear & 0xfff;
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.longWrite[slot] === linear - at && at <= 0xffc) this.tlbView[slot]!.setInt32(at, value, true);
    else this.storeSlow(linear, 4, value, 0, WRITE);
  }

  store64(segment: number, offset: number, lo: number, hi: number): void {
    if (this.long) {
      this.longStore64(segment, offset, lo, hi);
      return;
    }
    if (offset < this.segLow[segment]! || offset + 7 > this.segWriteTop[segment]!) throw this.segmentFault(segment);
    this.storeSlow((offset + this.segBase[segment]!) >>> 0, 8, lo, hi, WRITE);
  }

  private longStore64(segment: number, offset: number, lo: number, hi: number): void {
    const linear = this.longLinear(segment, offset);
    const at = linear & 0xfff;
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.longWrite[slot] === linear - at && at <= 0xff8) {
      const view = this.tlbView[slot]!;
      view.setInt32(at, lo, true);
      view.setInt32(at + 4, hi, true);
    } else this.storeSlow(linear, 8, lo, hi, WRITE);
  }

  // The processor's own accesses, by linear address: signed 64 bits in long mode, otherwise any number, of which 32 bits count.

  private system(linear: number): number {
    if (!this.longMode) return linear >>> 0;
    if (linear < CANONICAL_LOW || linear > CANONICAL_TOP) throw new Fault(GP, 0);
    return linear;
  }

  linear8(linear: number): number {
    return this.loadSlow(this.system(linear), 1, SYSTEM) & 0xff;
  }

  linear16(linear: number): number {
    return this.loadSlow(this.system(linear), 2, SYSTEM) & 0xffff;
  }

  linear32(linear: number): number {
    return this.loadSlow(this.system(linear), 4, SYSTEM);
  }

  /** Low half; the high one is in `hi`. */
  linear64(linear: number): number {
    return this.loadSlow(this.system(linear), 8, SYSTEM);
  }

  linearStore8(linear: number, value: number): void {
    this.storeSlow(this.system(linear), 1, value, 0, WRITE | SYSTEM);
  }

  /** At a guest-physical address, without paging. False where that is MMIO: it then waits in `stores`. */
  physicalStore16(gpa: number, value: number): boolean {
    const first = Math.min(2, 0x1000 - (gpa % 0x1000));
    this.scratch.setInt16(0, value, true);
    this.writePiece(gpa, gpa, first, 0, WRITE | SYSTEM);
    if (first < 2) this.writePiece(gpa + first, gpa + first, 1, 1, WRITE | SYSTEM);
    return this.stores.length === 0;
  }

  linearStore32(linear: number, value: number): void {
    this.storeSlow(this.system(linear), 4, value, 0, WRITE | SYSTEM);
  }

  linearStore64(linear: number, lo: number, hi: number): void {
    this.storeSlow(this.system(linear), 8, lo, hi, WRITE | SYSTEM);
  }

  /** Raises what a store of `size` bytes would raise. Read-modify-write instructions ask before they compute. */
  probeWrite(segment: number, offset: number, size: number): void {
    let linear: number;
    if (this.long) {
      linear = this.longLinear(segment, offset);
      const page = linear - (linear & 0xfff);
      if (this.longWrite[(linear >>> 12) & (TLB_SIZE - 1)] === page && (linear & 0xfff) + size <= 0x1000) return;
    } else {
      if (offset < this.segLow[segment]! || offset + size - 1 > this.segWriteTop[segment]!) throw this.segmentFault(segment);
      linear = (offset + this.segBase[segment]!) >>> 0;
      if (this.tlbWrite[(linear >>> 12) & (TLB_SIZE - 1)] === linear >>> 12 && (linear & 0xfff) + size <= 0x1000) return;
    }
    const first = 0x1000 - (linear & 0xfff);
    this.translate(linear, WRITE);
    if (first < size) this.translate(this.after(linear, first), WRITE);
  }

  private storeSlow(linear: number, size: number, lo: number, hi: number, access: number): void {
    const first = Math.min(size, 0x1000 - (linear & 0xfff));
    const gpa = this.translate(linear, access);
    const next = first < size ? this.after(linear, first) : 0;
    // KVM's emulator stores the first page's part before it looks at the second.
    const ahead = first < size && this.native;
    let gpa2 = ahead ? this.translate(next, access) : 0;
    this.scratch.setInt32(0, lo, true);
    this.scratch.setInt32(4, hi, true);
    this.writePiece(linear, gpa, first, 0, access);
    if (first < size && !ahead) gpa2 = this.translate(next, access);
    if (first < size) this.writePiece(next, gpa2, size - first, first, access);
  }

  /** `told`: an earlier piece of the same store has told of the page. */
  private writePiece(linear: number, gpa: number, length: number, at: number, access: number, told = false): void {
    const data = new Uint8Array(this.scratch.buffer, at, length);
    const page = this.physical(Math.floor(gpa / 4096));
    const view = this.writable(page);
    if (view === null && this.vectoring) throw this.vectoringFailure(gpa, true);
    if (view === null && this.emulateDevice(gpa, true)) throw REDO;
    if (view === null) {
      if (this.bus.mmioWrite?.(gpa, data.slice())) {
        this.stop |= STOP_BLOCK;
        return;
      }
      this.stores.push({ kind: 'mmio', gpa, len: length, isWrite: true, data: data.slice() });
      this.stop |= STOP_EXIT;
      return;
    }
    const start = gpa & 0xfff;
    for (let i = 0; i < length; i++) view.setUint8(start + i, data[i]!);
    const tells = this.bus.tellsStores === true;
    if (tells && !told) this.bus.written?.(page.number);
    // The page stays out of the write TLB while it holds decoded code, so every store to it passes here.
    if (page.code !== null) this.storedTo(page, start, length);
    if (page.code === null && page.read !== null && !tells && access === WRITE) this.tlb.fill(linear, view, true, this.long);
  }

  /** Stores a run of bytes ascending from `offset` in pieces of at most 8, as KVM's emulator writes a batch of INS. */
  storeBytes(segment: number, offset: number, data: Uint8Array): void {
    let linear: number;
    if (this.long) linear = this.longLinear(segment, offset);
    else {
      if (offset < this.segLow[segment]! || offset + data.length - 1 > this.segWriteTop[segment]!)
        throw this.segmentFault(segment);
      linear = (offset + this.segBase[segment]!) >>> 0;
    }
    for (let i = 0; i < data.length; ) {
      const length = Math.min(8, data.length - i, 0x1000 - (linear & 0xfff));
      const gpa = this.translate(linear, WRITE);
      for (let k = 0; k < length; k++) this.scratch.setUint8(k, data[i + k]!);
      this.writePiece(linear, gpa, length, 0, WRITE, i > 0 && (linear & 0xfff) !== 0);
      i += length;
      linear = this.after(linear, length);
    }
  }

  // Answers from outside.

  /** The next answer obtained earlier for this instruction, if it is the one to this question. */
  answer(key: string): Uint8Array | null {
    const next = this.replay[this.replayed];
    if (next?.key !== key) return null;
    this.replayed++;
    return next.data;
  }

  /** The kernel has answered at once: what an execution from the start would be told again. */
  answered(key: string, data: Uint8Array): void {
    this.replay.push({ key, data });
    this.replayed++;
    this.stop |= STOP_BLOCK;
  }

  /** What was obtained has been used up by a completed instruction or iteration. */
  settle(): void {
    if (this.replay.length > 0) this.replay = [];
    this.replayed = 0;
  }

  /** Abandons the instruction until `completeIo` or `completeMmio` brings `length` bytes. */
  ask(key: string, length: number, outcome: Outcome): typeof ABANDON {
    this.wanted = key;
    this.wantedLength = length;
    this.outcome = outcome;
    this.stop |= STOP_EXIT;
    return ABANDON;
  }

  /** Abandons the instruction because the simulator does not have it. */
  notModelled(description: string): typeof ABANDON {
    this.outcome = { kind: 'notModelled', description, bytes: this.peekCode() };
    this.stop |= STOP_EXIT;
    return ABANDON;
  }

  /** KVM's emulator has no such instruction, though processors do: INTERNAL_ERROR 1 with what it fetched, #UD above level 0. To be thrown. */
  emulationFailure(): typeof ABANDON | Fault {
    if (this.cpl > 0) return new Fault(UD);
    this.outcome = { kind: 'internalError', suberror: 1, insnBytes: this.peekCode() };
    this.stop |= STOP_EXIT;
    return ABANDON;
  }

  /** The same of an instruction the paravirtual backend sees to after that. */
  unemulated(): void {
    if (!this.native) this.bus.emulationFailed?.(this.peekCode());
  }

  /** RIP of the instruction being executed. */
  get rip0(): bigint {
    return (BigInt(this.ip0High >>> 0) << 32n) | BigInt(this.ip0 >>> 0);
  }

  /** Linear address of the instruction being executed. */
  get linear0(): number {
    return this.long ? this.ip0High * 0x1_0000_0000 + (this.ip0 >>> 0) : (this.ip0 + this.segBase[CS]!) >>> 0;
  }

  /** Up to 15 bytes at CS:IP, as far as they are RAM. */
  peekCode(): Uint8Array {
    const bytes: number[] = [];
    for (let i = 0; i < 15; i++) {
      const gpa = this.lookUp(this.after(this.linear0, i), FETCH, this.cpl === 3);
      const view = gpa < 0 ? null : this.fetchable(this.physical(Math.floor(gpa / 4096)));
      if (view === null) break;
      bytes.push(view.getUint8(gpa & 0xfff));
    }
    return Uint8Array.from(bytes);
  }
}
