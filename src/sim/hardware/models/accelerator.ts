import { loadWidth, storeWidth } from '../../../kernel/by-width.ts';
import type { Width } from '../../../kernel/memory.ts';
import type { FunctionSpec } from '../function-spec.ts';
import { PciFunction } from '../pci-function.ts';

/** Registers in BAR 0. */
const ID = 0x00;
const CONTROL = 0x08;
const STATUS = 0x0c;
const QUEUE_BASE = 0x10;
const QUEUE_SIZE = 0x18;
const HEAD = 0x1c;
const TAIL = 0x20;
const ERROR = 0x24;
const MEMORY_SIZE = 0x28;

/** 'KVAC'. */
const MAGIC = 0x4341_564b;
const VERSION = 1;
const CONTROL_ENABLE = 1;
const STATUS_BUSY = 1;
const STATUS_ERROR = 2;

/** A command takes 64 bytes of the queue. */
export const COMMAND_SIZE = 64;
const MAX_QUEUE = 1024;

export const Opcode: Readonly<Record<'NOP' | 'COPY' | 'FILL' | 'XOR' | 'SUM', number>> = {
  NOP: 0,
  COPY: 1,
  FILL: 2,
  XOR: 3,
  SUM: 4,
};
export const Flag: Readonly<Record<'INTERRUPT' | 'FROM_DEVICE' | 'TO_DEVICE', number>> = {
  INTERRUPT: 1,
  FROM_DEVICE: 2,
  TO_DEVICE: 4,
};
/** What a completion, and the register ERROR, say. */
export const AcceleratorError: Readonly<Record<'NONE' | 'OPCODE' | 'DMA' | 'RANGE' | 'QUEUE', number>> = {
  NONE: 0,
  OPCODE: 1,
  DMA: 2,
  RANGE: 3,
  QUEUE: 4,
};

export interface AcceleratorOptions {
  /** Bytes of the memory behind BAR 2, a power of two; default 64 KiB. */
  readonly memory?: number;
  /** What a command takes, in nanoseconds. */
  readonly latency?: number;
  /** More of its description: capabilities, ids. */
  readonly spec?: Partial<FunctionSpec>;
}

interface Command {
  readonly opcode: number;
  readonly flags: number;
  readonly source: bigint;
  readonly destination: bigint;
  readonly length: number;
  readonly argument: bigint;
  readonly completion: bigint;
}

/** What of an accelerator moves with it, besides its memory. */
export interface AcceleratorRegisters {
  control: number;
  error: number;
  base: bigint;
  size: number;
  head: number;
  tail: number;
}

const NOTHING: AcceleratorRegisters = { control: 0, error: 0, base: 0n, size: 0, head: 0, tail: 0 };

/**
 * An accelerator of no vendor, 1234:acc1: memory behind BAR 2, and a queue of commands in the host's memory that copy, fill, combine and sum up between that memory
 * and the host's. Its PCI Express capability says that it can be a trusted device (TEE-IO Supported). docs/device-models.md has its registers.
 */
export class Accelerator extends PciFunction {
  /** The back door: what is behind BAR 2. */
  readonly memory: Uint8Array;
  protected registers: AcceleratorRegisters = { ...NOTHING };
  readonly #latency: number;
  readonly #view: DataView;
  #failures = 0;
  #cancel: (() => void) | undefined;

  constructor({ memory = 0x1_0000, latency = 2000, spec = {} }: AcceleratorOptions = {}) {
    super({
      vendor: 0x1234,
      device: 0xacc1,
      subsystemVendor: 0x1234,
      class: 0x120000,
      interruptPin: 1,
      bars: {
        0: { size: 0x4000, space: 'mem64' },
        2: { size: memory, space: 'mem64', prefetchable: true },
      },
      pm: { noSoftReset: true },
      msix: { vectors: 2, tableBar: 0, table: 0x2000, pbaBar: 0, pba: 0x3000 },
      express: { deviceCapabilities: 0x4000_8020 },
      flr: true,
      aer: true,
      ...spec,
    });
    this.#latency = latency;
    this.memory = new Uint8Array(memory);
    this.#view = new DataView(this.memory.buffer);
  }

  /** Another command of the queue fails as if its data could not be reached. */
  failNext(): void {
    this.#failures++;
  }

  override reset(): void {
    this.registers = { ...NOTHING };
    this.memory.fill(0);
    this.#failures = 0;
    this.#cancel = undefined;
  }

  /** Aborts the command under way; the queue is none any more. */
  override quiesce(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    this.registers = { ...NOTHING };
  }

  override scrub(): void {
    this.memory.fill(0);
  }

  // ---- registers

  override read(bar: number, offset: number, width: Width): number | bigint {
    if (bar === 2) return this.#readMemory(offset, width);
    const aligned = offset & ~7;
    const pair = BigInt(this.#read32(aligned)) | (BigInt(this.#read32(aligned + 4)) << 32n);
    const value = (pair >> BigInt(8 * (offset - aligned))) & ((1n << BigInt(8 * width)) - 1n);
    return width === 8 ? value : Number(value);
  }

  #read32(offset: number): number {
    const { control, error, base, size, head, tail } = this.registers;
    const busy = head !== tail && (control & CONTROL_ENABLE) !== 0;
    const values: Readonly<Record<number, number>> = {
      [ID]: MAGIC,
      [ID + 4]: VERSION,
      [CONTROL]: control,
      [STATUS]: (busy ? STATUS_BUSY : 0) | (error === 0 ? 0 : STATUS_ERROR),
      [QUEUE_BASE]: Number(base & 0xffff_ffffn),
      [QUEUE_BASE + 4]: Number(base >> 32n),
      [QUEUE_SIZE]: size,
      [HEAD]: head,
      [TAIL]: tail,
      [ERROR]: error,
      [MEMORY_SIZE]: this.memory.length,
    };
    return values[offset] ?? 0;
  }

  override write(bar: number, offset: number, width: Width, value: number | bigint): void {
    if (bar === 2) this.#writeMemory(offset, width, value);
    else if (width === 8) {
      this.#write32(offset, Number(BigInt.asUintN(32, BigInt(value))));
      this.#write32(offset + 4, Number(BigInt(value) >> 32n));
    } else if (width === 4) this.#write32(offset, Number(value));
  }

  #write32(offset: number, value: number): void {
    const { registers } = this;
    if (offset === CONTROL) {
      registers.control = value & CONTROL_ENABLE;
      if (registers.control === 0) Object.assign(registers, { head: 0, tail: 0, error: 0 });
    } else if (offset === QUEUE_BASE) registers.base = (registers.base & ~0xffff_ffffn) | BigInt(value);
    else if (offset === QUEUE_BASE + 4) registers.base = (registers.base & 0xffff_ffffn) | (BigInt(value) << 32n);
    else if (offset === QUEUE_SIZE) registers.size = Math.min(value, MAX_QUEUE);
    else if (offset === TAIL && value < registers.size) registers.tail = value;
    this.work();
  }

  #readMemory(offset: number, width: Width): number | bigint {
    return loadWidth(this.#view, offset, width);
  }

  #writeMemory(offset: number, width: Width, value: number | bigint): void {
    storeWidth(this.#view, offset, width, value);
    this.memoryWritten(offset, width);
  }

  // ---- what a migratable one wants to know, and decides

  /** Bytes of its own memory have changed. */
  protected memoryWritten(_offset: number, _length: number): void {}

  /** Memory of the host was written. */
  protected hostWritten(_iova: bigint, _length: number): void {}

  /** Commands may be taken from the queue. */
  protected get mayWork(): boolean {
    return true;
  }

  // ---- commands

  /** Takes the next command, if there is one and none under way. */
  protected work(): void {
    const { control, head, tail, error } = this.registers;
    if (this.#cancel !== undefined || !this.mayWork || (control & CONTROL_ENABLE) === 0 || head === tail || error !== 0) return;
    this.#cancel = this.after(this.#latency, () => {
      this.#cancel = undefined;
      if (!this.mayWork || (this.registers.control & CONTROL_ENABLE) === 0 || this.registers.head === this.registers.tail) return;
      this.#next();
      this.work();
    });
  }

  /** A queue that cannot be read stops the device until it is disabled; a command that fails says so in its completion. */
  #next(): void {
    const { registers } = this;
    const entry = this.dma.read(registers.base + BigInt(registers.head * COMMAND_SIZE), COMMAND_SIZE);
    if (entry === undefined) {
      registers.error = AcceleratorError.QUEUE;
      this.raise(1);
      return;
    }
    const command = decode(entry);
    const index = registers.head;
    registers.head = (registers.head + 1) % registers.size;
    const { error, result } = this.#execute(command);
    if (command.completion !== 0n) this.#store(command.completion, completion(index, error, result));
    if ((command.flags & Flag.INTERRUPT) !== 0) this.raise(0);
  }

  #execute(command: Command): { error: number; result: bigint } {
    const { opcode, length, argument, flags, source, destination } = command;
    const failed = (error: number): { error: number; result: bigint } => ({ error, result: 0n });
    if (this.#failures > 0) {
      this.#failures--;
      return failed(AcceleratorError.DMA);
    }
    if (opcode === Opcode.NOP) return { error: 0, result: 0n };
    if (opcode > Opcode.SUM) return failed(AcceleratorError.OPCODE);
    if (length > this.memory.length) return failed(AcceleratorError.RANGE);
    const bytes = opcode === Opcode.FILL ? new Uint8Array(length) : this.#load(source, length, (flags & Flag.FROM_DEVICE) !== 0);
    if (!(bytes instanceof Uint8Array)) return failed(bytes);
    if (opcode === Opcode.SUM) return { error: 0, result: sum(bytes) };
    if (opcode !== Opcode.COPY) combine(bytes, argument);
    const error = this.#put(destination, bytes, (flags & Flag.TO_DEVICE) !== 0);
    return { error, result: 0n };
  }

  #load(at: bigint, length: number, own: boolean): Uint8Array | number {
    if (!own) return this.dma.read(at, length) ?? AcceleratorError.DMA;
    if (at + BigInt(length) > BigInt(this.memory.length)) return AcceleratorError.RANGE;
    return this.memory.slice(Number(at), Number(at) + length);
  }

  #put(at: bigint, bytes: Uint8Array, own: boolean): number {
    if (!own) return this.#store(at, bytes) ? 0 : AcceleratorError.DMA;
    if (at + BigInt(bytes.length) > BigInt(this.memory.length)) return AcceleratorError.RANGE;
    this.memory.set(bytes, Number(at));
    this.memoryWritten(Number(at), bytes.length);
    return 0;
  }

  #store(iova: bigint, bytes: Uint8Array): boolean {
    this.hostWritten(iova, bytes.length);
    return this.dma.write(iova, bytes);
  }
}

/** Eight bytes of argument, over and over. On zeros it is a fill. */
function combine(bytes: Uint8Array, argument: bigint): void {
  for (let i = 0; i < bytes.length; i++) bytes[i]! ^= Number((argument >> BigInt(8 * (i & 7))) & 0xffn);
}

function sum(bytes: Uint8Array): bigint {
  let total = 0n;
  for (const byte of bytes) total += BigInt(byte);
  return total;
}

/** Index and error, then the result: 16 bytes. */
function completion(index: number, error: number, result: bigint): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, index, true);
  view.setUint32(4, error | 0x8000_0000, true);
  view.setBigUint64(8, result, true);
  return bytes;
}

function decode(entry: Uint8Array): Command {
  const view = new DataView(entry.buffer, entry.byteOffset);
  return {
    opcode: view.getUint32(0, true),
    flags: view.getUint32(4, true),
    source: view.getBigUint64(8, true),
    destination: view.getBigUint64(16, true),
    length: view.getUint32(24, true),
    argument: view.getBigUint64(32, true),
    completion: view.getBigUint64(40, true),
  };
}
