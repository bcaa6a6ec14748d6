/**
 * How an instruction reaches memory: segment check, linear address, physical page, RAM or MMIO.
 *
 * Instructions are restartable: one that needs data from outside (MMIO read, IN) is abandoned before it has changed a register, and
 * executed again from the start when the data is there; what it had already obtained is replayed in order. Stores to MMIO are
 * queued and become exits after the instruction is done. Stores to RAM go through at once: repeating them stores the same again.
 * So every instruction reads all it needs and makes every check that can fault before it changes a register or a flag.
 */
import type { CpuBus, Outcome } from './bus.ts';
import { CS, SS, State } from './state.ts';

/** An exception on its way to the guest. `errorCode` −1: this one has none. */
export class Fault {
  readonly vector: number;
  readonly errorCode: number;
  constructor(vector: number, errorCode = -1) {
    this.vector = vector;
    this.errorCode = errorCode;
  }
}

/** Thrown to abandon an instruction because of an exit; `outcome` says which. */
export const ABANDON: unique symbol = Symbol('abandon');

export const DE = 0;
export const DB = 1;
export const BP = 3;
export const UD = 6;
export const NM = 7;
export const DOUBLE_FAULT = 8;
export const TS = 10;
export const NP = 11;
export const STACK = 12;
export const GP = 13;

/** Reasons to leave the current block after this instruction: an exit is ready; code or mode changed; a REP stands still. */
export const STOP_EXIT = 1;
export const STOP_BLOCK = 2;

interface Answer {
  readonly key: string;
  readonly data: Uint8Array;
}

/** One page of guest-physical address space as this CPU last saw it. */
export interface PhysicalPage {
  readonly number: number;
  readonly read: DataView | null;
  write: DataView | null | undefined;
  fetch: DataView | null | undefined;
  /** Bytes of the page that cached blocks were decoded from; null: none. */
  code: Uint8Array | null;
}

const TLB_SIZE = 1024;
const NO_VIEW = new DataView(new ArrayBuffer(8));

export abstract class Memory extends State {
  readonly bus: CpuBus;
  generation = -1;
  stop = 0;
  /** Offset of the instruction being executed; `r32[IP]` is already behind it. */
  ip0 = 0;
  outcome: Outcome | null = null;
  /** High half of the last 64-bit value read. */
  hi = 0;

  readonly tlbRead: Int32Array = new Int32Array(TLB_SIZE).fill(-1);
  readonly tlbWrite: Int32Array = new Int32Array(TLB_SIZE).fill(-1);
  readonly tlbView: DataView[] = Array.from({ length: TLB_SIZE }, () => NO_VIEW);
  readonly pages: Map<number, PhysicalPage> = new Map();
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

  constructor(bus: CpuBus) {
    super();
    this.bus = bus;
  }

  abstract invalidateCode(page: PhysicalPage): void;

  /** KVM cannot emulate half of an event's delivery: INTERNAL_ERROR, suberror 3 (DELIVERY_EV), before anything has changed. */
  private vectoringFailure(gpa: number, isWrite: boolean): typeof ABANDON {
    this.outcome = { kind: 'internalError', suberror: 3, insnBytes: new Uint8Array(0), gpa, isWrite };
    this.stop |= STOP_EXIT;
    return ABANDON;
  }

  flushTlb(): void {
    this.tlbRead.fill(-1);
    this.tlbWrite.fill(-1);
  }

  physical(number: number): PhysicalPage {
    let page = this.pages.get(number);
    if (page === undefined) {
      const ram = this.bus.page(number, 'read');
      const read = ram && new DataView(ram.view.buffer, ram.view.byteOffset + ram.offset, 4096);
      page = { number, read, write: undefined, fetch: undefined, code: null };
      this.pages.set(number, page);
    }
    return page;
  }

  /** The page as code can be fetched from it; null: it cannot. */
  fetchable(page: PhysicalPage): DataView | null {
    if (page.fetch === undefined) {
      const ram = this.bus.page(page.number, 'fetch');
      page.fetch = ram && new DataView(ram.view.buffer, ram.view.byteOffset + ram.offset, 4096);
    }
    return page.fetch;
  }

  private writable(page: PhysicalPage): DataView | null {
    if (page.write === undefined) {
      const ram = this.bus.page(page.number, 'write');
      page.write = ram && new DataView(ram.view.buffer, ram.view.byteOffset + ram.offset, 4096);
    }
    return page.write;
  }

  /** Guest-physical address of a linear one. Without paging they are the same. */
  translate(linear: number, _write: boolean): number {
    return linear >>> 0;
  }

  segmentFault(segment: number): Fault {
    return new Fault(segment === SS ? STACK : GP, 0);
  }

  // Loads. `offset` is unsigned; results are unsigned for 8 and 16 bits, signed for 32.

  load8(segment: number, offset: number): number {
    if (offset < this.segLow[segment]! || offset > this.segReadTop[segment]!) throw this.segmentFault(segment);
    const linear = (offset + this.segBase[segment]!) | 0;
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.tlbRead[slot] === linear >>> 12) return this.tlbView[slot]!.getUint8(linear & 0xfff);
    return this.loadSlow(linear, 1) & 0xff;
  }

  load16(segment: number, offset: number): number {
    if (offset < this.segLow[segment]! || offset + 1 > this.segReadTop[segment]!) throw this.segmentFault(segment);
    return this.linear16((offset + this.segBase[segment]!) | 0);
  }

  load32(segment: number, offset: number): number {
    if (offset < this.segLow[segment]! || offset + 3 > this.segReadTop[segment]!) throw this.segmentFault(segment);
    return this.linear32((offset + this.segBase[segment]!) | 0);
  }

  /** Returns the low half; the high one is in `hi`. */
  load64(segment: number, offset: number): number {
    if (offset < this.segLow[segment]! || offset + 7 > this.segReadTop[segment]!) throw this.segmentFault(segment);
    return this.loadSlow((offset + this.segBase[segment]!) | 0, 8);
  }

  linear16(linear: number): number {
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.tlbRead[slot] === linear >>> 12 && (linear & 0xfff) <= 0xffe) {
      return this.tlbView[slot]!.getUint16(linear & 0xfff, true);
    }
    return this.loadSlow(linear, 2) & 0xffff;
  }

  linear32(linear: number): number {
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.tlbRead[slot] === linear >>> 12 && (linear & 0xfff) <= 0xffc) {
      return this.tlbView[slot]!.getInt32(linear & 0xfff, true);
    }
    return this.loadSlow(linear, 4);
  }

  private loadSlow(linear: number, size: number): number {
    const first = Math.min(size, 0x1000 - (linear & 0xfff));
    const gpa = this.translate(linear, false);
    const gpa2 = first < size ? this.translate((linear + first) | 0, false) : 0;
    this.scratch.setBigUint64(0, 0n);
    this.readPiece(linear, gpa, first, 0);
    if (first < size) this.readPiece((linear + first) | 0, gpa2, size - first, first);
    this.hi = this.scratch.getInt32(4, true);
    return this.scratch.getInt32(0, true);
  }

  private readPiece(linear: number, gpa: number, length: number, at: number): void {
    const key = `mmio ${gpa} ${length}`;
    let data = this.replay.length > this.replayed ? this.answer(key) : null;
    if (data === null) {
      const page = this.physical(Math.floor(gpa / 4096));
      if (page.read === null && this.vectoring) throw this.vectoringFailure(gpa, false);
      if (page.read === null) data = this.deviceRead(key, gpa, length);
      else {
        const slot = (linear >>> 12) & (TLB_SIZE - 1);
        if (this.tlbWrite[slot] !== linear >>> 12) this.tlbWrite[slot] = -1;
        this.tlbRead[slot] = linear >>> 12;
        this.tlbView[slot] = page.read;
        data = new Uint8Array(page.read.buffer, page.read.byteOffset + (gpa & 0xfff), length);
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
    if (offset < this.segLow[segment]! || offset > this.segWriteTop[segment]!) throw this.segmentFault(segment);
    const linear = (offset + this.segBase[segment]!) | 0;
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.tlbWrite[slot] === linear >>> 12) this.tlbView[slot]!.setUint8(linear & 0xfff, value);
    else this.storeSlow(linear, 1, value, 0);
  }

  store16(segment: number, offset: number, value: number): void {
    if (offset < this.segLow[segment]! || offset + 1 > this.segWriteTop[segment]!) throw this.segmentFault(segment);
    const linear = (offset + this.segBase[segment]!) | 0;
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.tlbWrite[slot] === linear >>> 12 && (linear & 0xfff) <= 0xffe) {
      this.tlbView[slot]!.setUint16(linear & 0xfff, value, true);
    } else this.storeSlow(linear, 2, value, 0);
  }

  store32(segment: number, offset: number, value: number): void {
    if (offset < this.segLow[segment]! || offset + 3 > this.segWriteTop[segment]!) throw this.segmentFault(segment);
    const linear = (offset + this.segBase[segment]!) | 0;
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.tlbWrite[slot] === linear >>> 12 && (linear & 0xfff) <= 0xffc) {
      this.tlbView[slot]!.setInt32(linear & 0xfff, value, true);
    } else this.storeSlow(linear, 4, value, 0);
  }

  store64(segment: number, offset: number, lo: number, hi: number): void {
    if (offset < this.segLow[segment]! || offset + 7 > this.segWriteTop[segment]!) throw this.segmentFault(segment);
    this.storeSlow((offset + this.segBase[segment]!) | 0, 8, lo, hi);
  }

  /** A linear store outside any segment: descriptor accessed bits. */
  linearStore8(linear: number, value: number): void {
    this.storeSlow(linear, 1, value, 0);
  }

  /** A linear store outside any segment, of which none is to reach MMIO: false where one would. */
  linearStore16(linear: number, value: number): boolean {
    this.storeSlow(linear, 2, value, 0);
    return this.stores.length === 0;
  }

  /** Raises what a store of `size` bytes would raise. Read-modify-write instructions ask before they compute. */
  probeWrite(segment: number, offset: number, size: number): void {
    if (offset < this.segLow[segment]! || offset + size - 1 > this.segWriteTop[segment]!) throw this.segmentFault(segment);
    const linear = (offset + this.segBase[segment]!) | 0;
    const slot = (linear >>> 12) & (TLB_SIZE - 1);
    if (this.tlbWrite[slot] === linear >>> 12 && (linear & 0xfff) + size <= 0x1000) return;
    this.translate(linear, true);
    this.translate((linear + size - 1) | 0, true);
  }

  private storeSlow(linear: number, size: number, lo: number, hi: number): void {
    const first = Math.min(size, 0x1000 - (linear & 0xfff));
    const gpa = this.translate(linear, true);
    const gpa2 = first < size ? this.translate((linear + first) | 0, true) : 0;
    this.scratch.setInt32(0, lo, true);
    this.scratch.setInt32(4, hi, true);
    this.writePiece(linear, gpa, first, 0);
    if (first < size) this.writePiece((linear + first) | 0, gpa2, size - first, first);
  }

  /** `told`: an earlier piece of the same store has told of the page. */
  private writePiece(linear: number, gpa: number, length: number, at: number, told = false): void {
    const data = new Uint8Array(this.scratch.buffer, at, length);
    const page = this.physical(Math.floor(gpa / 4096));
    const view = this.writable(page);
    if (view === null && this.vectoring) throw this.vectoringFailure(gpa, true);
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
    if (page.code !== null) {
      // The page stays out of the write TLB while it holds decoded code, so every store to it passes here.
      for (let i = start; i < start + length; i++) {
        if (page.code[i]) {
          this.invalidateCode(page);
          this.stop |= STOP_BLOCK;
          break;
        }
      }
    }
    if (page.code === null && page.read !== null && !tells) {
      const slot = (linear >>> 12) & (TLB_SIZE - 1);
      this.tlbRead[slot] = this.tlbWrite[slot] = linear >>> 12;
      this.tlbView[slot] = view;
    }
  }

  /** Stores a run of bytes ascending from `offset` in pieces of at most 8, as KVM's emulator writes a batch of INS. */
  storeBytes(segment: number, offset: number, data: Uint8Array): void {
    if (offset < this.segLow[segment]! || offset + data.length - 1 > this.segWriteTop[segment]!) throw this.segmentFault(segment);
    let linear = (offset + this.segBase[segment]!) | 0;
    for (let i = 0; i < data.length; ) {
      const length = Math.min(8, data.length - i, 0x1000 - (linear & 0xfff));
      const gpa = this.translate(linear, true);
      for (let k = 0; k < length; k++) this.scratch.setUint8(k, data[i + k]!);
      this.writePiece(linear, gpa, length, 0, i > 0 && (linear & 0xfff) !== 0);
      i += length;
      linear = (linear + length) | 0;
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

  /** KVM's emulator has no such instruction, though processors do: INTERNAL_ERROR 1 with what it fetched. To be thrown. */
  emulationFailure(): typeof ABANDON {
    this.outcome = { kind: 'internalError', suberror: 1, insnBytes: this.peekCode() };
    this.stop |= STOP_EXIT;
    return ABANDON;
  }

  /** Up to 15 bytes at CS:IP, as far as they are RAM. */
  peekCode(): Uint8Array {
    const bytes: number[] = [];
    for (let i = 0; i < 15; i++) {
      const gpa = this.translate((this.ip0 + this.segBase[CS]! + i) | 0, false);
      const view = this.fetchable(this.physical(Math.floor(gpa / 4096)));
      if (view === null) break;
      bytes.push(view.getUint8(gpa & 0xfff));
    }
    return Uint8Array.from(bytes);
  }
}
