import type { Width } from '../../../kernel/memory.ts';
import { PciFunction, type ResetKind } from '../pci-function.ts';
import { admin, type Command, type Completion, input, Status } from './nvme-commands.ts';

const CAP = 0x00;
const VS = 0x08;
const INTMS = 0x0c;
const INTMC = 0x10;
const CC = 0x14;
const CSTS = 0x1c;
const AQA = 0x24;
const ASQ = 0x28;
const ACQ = 0x30;
const DOORBELLS = 0x1000;

const CC_EN = 1;
const CC_SHN = 0xc000;
const CSTS_RDY = 1;
const CSTS_CFS = 2;
const CSTS_SHST_COMPLETE = 8;

/** 2048 entries a queue, contiguous; 7.5 s to become ready at most; NVM commands; pages of 4 KiB to 64 KiB. */
const CAPABILITIES = 0x0040_1820_0f01_07ffn;
const VERSION = 0x0001_0400;
const SUBMISSION_ENTRY = 64;
const COMPLETION_ENTRY = 16;

export interface NvmeOptions {
  /** Bytes of the RAM disk; default 16 MiB. */
  readonly size?: number;
  readonly serial?: string;
  readonly model?: string;
  readonly firmware?: string;
  /** PCI Express Device Capabilities: extended tags, as QEMU has them since 8.0. */
  readonly extendedTag?: boolean;
  /** What a command takes, in nanoseconds. */
  readonly latency?: number;
}

interface CompletionQueue {
  readonly id: number;
  readonly base: bigint;
  readonly size: number;
  readonly vector: number;
  readonly interrupts: boolean;
  head: number;
  tail: number;
  phase: number;
  /** Completions that found it full. */
  readonly waiting: (() => void)[];
}

interface SubmissionQueue {
  readonly id: number;
  readonly base: bigint;
  readonly size: number;
  readonly completions: CompletionQueue;
  head: number;
  tail: number;
}

/** An NVMe controller of version 1.4 with one namespace, a RAM disk of blocks of 512 bytes; 1b36:0010, as QEMU's nvme finds itself on the bus. */
export class Nvme extends PciFunction {
  readonly options: Required<NvmeOptions>;
  /** Statuses the next commands of the I/O queues end with, instead of being done. */
  readonly failures: number[] = [];
  readonly features: Map<number, number> = new Map();
  readonly #submissions = new Map<number, SubmissionQueue>();
  readonly #completions = new Map<number, CompletionQueue>();
  #mask = 0;
  #configuration = 0;
  #status = 0;
  #adminAttributes = 0;
  #adminSubmission = 0n;
  #adminCompletion = 0n;
  #disk: Uint8Array | undefined;

  constructor(options: NvmeOptions = {}) {
    const { size = 16 << 20, serial = 'kvio', model = 'QEMU NVMe Ctrl', firmware = '7.2.22' } = options;
    const { extendedTag = true, latency = 10_000 } = options;
    super({
      vendor: 0x1b36,
      device: 0x0010,
      subsystemVendor: 0x1af4,
      subsystemDevice: 0x1100,
      class: 0x010802,
      revision: 2,
      interruptPin: 1,
      bars: { 0: { size: 0x4000, space: 'mem64' } },
      msix: { at: 0x40, vectors: 65, tableBar: 0, table: 0x2000, pbaBar: 0, pba: 0x3000 },
      pm: { at: 0x60, noSoftReset: true },
      express: {
        at: 0x80,
        deviceCapabilities: extendedTag ? 0x8020 : 0x8000,
        deviceControl: 0,
        linkControl: 0,
        deviceCapabilities2: 0x30_0000,
        deviceControl2: 0x8000,
      },
      flr: true,
      chain: [0x40, 0x80, 0x60],
      gaps: 'writable',
    });
    this.options = { size, serial, model, firmware, extendedTag, latency };
  }

  /** The RAM disk: the back door. There with the first look at it. */
  get disk(): Uint8Array {
    this.#disk ??= new Uint8Array(this.options.size);
    return this.#disk;
  }

  /** The disk stays; so does, as QEMU has it, what was said of the admin queues, unless it was just plugged in. */
  override reset(kind: ResetKind): void {
    this.#stop();
    this.#mask = this.#configuration = this.#status = 0;
    if (kind !== 'power') return;
    this.#adminAttributes = 0;
    this.#adminSubmission = this.#adminCompletion = 0n;
  }

  /** The next command of an I/O queue ends with this status (type << 8 | code); default: a write fault of the media. */
  failNext(status: number = Status.WRITE_FAULT): void {
    this.failures.push(status);
  }

  // ---- registers

  override read(_bar: number, offset: number, width: Width): number | bigint {
    if (width === 8) return BigInt(this.#read32(offset)) | (BigInt(this.#read32(offset + 4)) << 32n);
    const value = this.#read32(offset & ~3) >>> (8 * (offset & 3));
    return width === 4 ? value : value & (width === 2 ? 0xffff : 0xff);
  }

  #read32(offset: number): number {
    return this.#readers[offset]?.() ?? 0;
  }

  readonly #readers: Readonly<Record<number, () => number>> = {
    [CAP]: () => Number(CAPABILITIES & 0xffff_ffffn),
    [CAP + 4]: () => Number(CAPABILITIES >> 32n),
    [VS]: () => VERSION,
    [INTMS]: () => this.#mask,
    [INTMC]: () => this.#mask,
    [CC]: () => this.#configuration,
    [CSTS]: () => this.#status,
    [AQA]: () => this.#adminAttributes,
    [ASQ]: () => Number(this.#adminSubmission & 0xffff_ffffn),
    [ASQ + 4]: () => Number(this.#adminSubmission >> 32n),
    [ACQ]: () => Number(this.#adminCompletion & 0xffff_ffffn),
    [ACQ + 4]: () => Number(this.#adminCompletion >> 32n),
  };

  override write(_bar: number, offset: number, width: Width, value: number | bigint): void {
    if (width === 8) {
      this.#write32(offset, Number(BigInt.asUintN(32, BigInt(value))));
      this.#write32(offset + 4, Number(BigInt(value) >> 32n));
    } else if (width === 4 || offset >= DOORBELLS) this.#write32(offset, Number(value));
  }

  #write32(offset: number, value: number): void {
    if (offset >= DOORBELLS) this.#doorbell((offset - DOORBELLS) >> 2, value & 0xffff);
    else this.#writers[offset]?.(value);
  }

  readonly #writers: Readonly<Record<number, (value: number) => void>> = {
    [INTMS]: (value) => this.#setMask(this.#mask | value),
    [INTMC]: (value) => this.#setMask(this.#mask & ~value),
    [CC]: (value) => this.#configure(value),
    [AQA]: (value) => {
      this.#adminAttributes = value & 0x0fff_0fff;
    },
    [ASQ]: (value) => {
      this.#adminSubmission = half(this.#adminSubmission, value, 0n);
    },
    [ASQ + 4]: (value) => {
      this.#adminSubmission = half(this.#adminSubmission, value, 32n);
    },
    [ACQ]: (value) => {
      this.#adminCompletion = half(this.#adminCompletion, value, 0n);
    },
    [ACQ + 4]: (value) => {
      this.#adminCompletion = half(this.#adminCompletion, value, 32n);
    },
  };

  #setMask(mask: number): void {
    this.#mask = mask >>> 0;
    this.#updateLine();
  }

  /** CC: enabling takes the admin queues as they are described, disabling forgets all queues; a shutdown is complete at once. */
  #configure(value: number): void {
    const before = this.#configuration;
    this.#configuration = value;
    if ((before & CC_EN) === 0 && (value & CC_EN) !== 0) this.#start();
    if ((before & CC_EN) !== 0 && (value & CC_EN) === 0) {
      this.#stop();
      this.#status = 0;
    }
    if ((value & CC_SHN) !== 0 && (before & CC_SHN) === 0) this.#status |= CSTS_SHST_COMPLETE;
  }

  #start(): void {
    const submission = (this.#adminAttributes & 0xfff) + 1;
    const completion = ((this.#adminAttributes >>> 16) & 0xfff) + 1;
    const aligned = ((this.#adminSubmission | this.#adminCompletion) & 0xfffn) === 0n;
    const sizes = ((this.#configuration >>> 16) & 0xff) === 0x46;
    if (submission < 2 || completion < 2 || !aligned || this.#adminSubmission === 0n || !sizes) {
      this.#status = CSTS_CFS;
      return;
    }
    this.after(this.options.latency, () => {
      if ((this.#configuration & CC_EN) === 0) return;
      this.createCompletionQueue(0, this.#adminCompletion, completion, 0, true);
      this.createSubmissionQueue(0, this.#adminSubmission, submission, 0);
      this.#status |= CSTS_RDY;
    });
  }

  #stop(): void {
    this.#submissions.clear();
    this.#completions.clear();
    this.features.clear();
    this.setIntx(false);
  }

  // ---- queues, also for the admin commands

  /** Bytes of a page as CC.MPS has it. */
  get pageSize(): number {
    return 4096 << ((this.#configuration >>> 7) & 0xf);
  }

  hasSubmissionQueue(id: number): boolean {
    return this.#submissions.has(id);
  }

  hasCompletionQueue(id: number): boolean {
    return this.#completions.has(id);
  }

  createCompletionQueue(id: number, base: bigint, size: number, vector: number, interrupts: boolean): void {
    this.#completions.set(id, { id, base, size, vector, interrupts, head: 0, tail: 0, phase: 1, waiting: [] });
  }

  createSubmissionQueue(id: number, base: bigint, size: number, completions: number): void {
    this.#submissions.set(id, { id, base, size, completions: this.#completions.get(completions)!, head: 0, tail: 0 });
  }

  deleteSubmissionQueue(id: number): void {
    this.#submissions.delete(id);
  }

  /** False: a submission queue still completes to it. */
  deleteCompletionQueue(id: number): boolean {
    for (const { completions } of this.#submissions.values()) if (completions.id === id) return false;
    this.#completions.delete(id);
    this.#updateLine();
    return true;
  }

  /** Even ones are tails of submission queues, odd ones heads of completion queues. */
  #doorbell(index: number, value: number): void {
    const id = index >> 1;
    if ((index & 1) === 0) {
      const queue = this.#submissions.get(id);
      if (queue === undefined || value >= queue.size) return;
      queue.tail = value;
      this.after(this.options.latency, () => this.#fetch(queue));
    } else {
      const queue = this.#completions.get(id);
      if (queue === undefined || value >= queue.size) return;
      queue.head = value;
      for (const post of queue.waiting.splice(0)) post();
      this.#updateLine();
    }
  }

  /** Takes what is between head and tail, in order. */
  #fetch(queue: SubmissionQueue): void {
    while (queue.head !== queue.tail && this.#submissions.get(queue.id) === queue) {
      const entry = this.dma.read(queue.base + BigInt(queue.head * SUBMISSION_ENTRY), SUBMISSION_ENTRY);
      if (entry === undefined) {
        this.#status |= CSTS_CFS;
        return;
      }
      queue.head = (queue.head + 1) % queue.size;
      const command = decode(entry);
      const failure = queue.id === 0 ? undefined : this.failures.shift();
      const done = failure !== undefined ? { status: failure } : queue.id === 0 ? admin(this, command) : input(this, command);
      if (done !== undefined) this.#complete(queue, command, done);
    }
  }

  #complete(queue: SubmissionQueue, { identifier }: Command, { status, result = 0 }: Completion): void {
    const { completions } = queue;
    if ((completions.tail + 1) % completions.size === completions.head) {
      completions.waiting.push(() => this.#complete(queue, { identifier } as Command, { status, result }));
      return;
    }
    const entry = new Uint8Array(COMPLETION_ENTRY);
    const view = new DataView(entry.buffer);
    view.setUint32(0, result, true);
    view.setUint16(8, queue.head, true);
    view.setUint16(10, queue.id, true);
    view.setUint16(12, identifier, true);
    view.setUint16(14, (status << 1) | completions.phase, true);
    if (!this.dma.write(completions.base + BigInt(completions.tail * COMPLETION_ENTRY), entry)) {
      this.#status |= CSTS_CFS;
      return;
    }
    completions.tail = (completions.tail + 1) % completions.size;
    if (completions.tail === 0) completions.phase ^= 1;
    if (completions.interrupts && this.messages) this.raise(completions.vector);
    this.#updateLine();
  }

  /** INTx stands while a completion queue that interrupts has entries nobody has taken, and its vector is not masked. */
  #updateLine(): void {
    if (this.messages) return;
    let level = false;
    for (const { head, tail, vector, interrupts } of this.#completions.values()) {
      if (interrupts && head !== tail && ((this.#mask >>> vector) & 1) === 0) level = true;
    }
    if (level !== this.intx) this.setIntx(level);
  }
}

function half(before: bigint, value: number, shift: bigint): bigint {
  return (before & ~(0xffff_ffffn << shift)) | (BigInt(value >>> 0) << shift);
}

function decode(entry: Uint8Array): Command {
  const view = new DataView(entry.buffer);
  return {
    opcode: view.getUint8(0),
    flags: view.getUint8(1),
    identifier: view.getUint16(2, true),
    namespace: view.getUint32(4, true),
    prp1: view.getBigUint64(24, true),
    prp2: view.getBigUint64(32, true),
    dwords: [10, 11, 12, 13, 14, 15].map((index) => view.getUint32(4 * index, true)),
  };
}
