import type { Width } from '../../../kernel/memory.ts';
import { PciFunction } from '../pci-function.ts';

const ID = 0x0100_00ed;
const STATUS_COMPUTING = 0x01;
const STATUS_IRQ_FACTORIAL = 0x80;
const FACTORIAL_IRQ = 0x001;
const DMA_IRQ = 0x100;
const DMA_RUN = 1n;
const DMA_TO_MEMORY = 2n;
const DMA_RAISES = 4n;
/** Where the buffer is, in addresses of the DMA engine. */
const BUFFER = 0x40000n;
const BUFFER_SIZE = 4096;

export interface EduOptions {
  /** Address bits the DMA engine drives; default 28. */
  readonly dmaMask?: bigint;
  readonly multifunction?: boolean;
  /** How long a factorial takes, and a transfer, in nanoseconds. */
  readonly factorialTime?: number;
  readonly dmaTime?: number;
}

/** QEMU's teaching device, 1234:11e8: a factorial engine, an interrupt that can be raised, DMA between memory and a buffer of 4 KiB. */
export class Edu extends PciFunction {
  readonly #options: EduOptions;
  /** The back door: the buffer of the DMA engine. */
  readonly buffer: Uint8Array = new Uint8Array(BUFFER_SIZE);
  #inverted = 0;
  #factorial = 0;
  #status = 0;
  #irqStatus = 0;
  readonly #dma = { source: 0n, destination: 0n, count: 0n, command: 0n };

  constructor(options: EduOptions = {}) {
    super({
      vendor: 0x1234,
      device: 0x11e8,
      subsystemVendor: 0x1af4,
      subsystemDevice: 0x1100,
      class: 0x00ff00,
      revision: 0x10,
      interruptPin: 1,
      bars: { 0: { size: 0x10_0000, space: 'mem32' } },
      msi: { vectors: 1, at: 0x40 },
      gaps: 'writable',
      multifunction: options.multifunction ?? false,
    });
    this.#options = options;
  }

  override reset(): void {
    this.#inverted = this.#factorial = this.#status = this.#irqStatus = 0;
    Object.assign(this.#dma, { source: 0n, destination: 0n, count: 0n, command: 0n });
    this.buffer.fill(0);
  }

  /** Bytes and words are no accesses this device knows: they read as zero. */
  override read(_bar: number, offset: number, width: Width): number | bigint {
    if (width < 4) return 0;
    const none = width === 8 ? 0xffff_ffff_ffff_ffffn : 0xffff_ffff;
    if (offset >= 0x80) return this.#readDma(offset, width) ?? none;
    if (width !== 4) return none;
    return this.#readers[offset]?.() ?? none;
  }

  override write(_bar: number, offset: number, width: Width, value: number | bigint): void {
    if (width < 4) return;
    if (offset >= 0x80) this.#writeDma(offset, BigInt(value));
    else if (width === 4) this.#writers[offset]?.(Number(value));
  }

  readonly #readers: Readonly<Record<number, () => number>> = {
    0: () => ID,
    4: () => this.#inverted,
    8: () => this.#factorial,
    32: () => this.#status,
    36: () => this.#irqStatus,
  };

  readonly #writers: Readonly<Record<number, (value: number) => void>> = {
    4: (value) => {
      this.#inverted = ~value >>> 0;
    },
    8: (value) => this.#compute(value),
    32: (value) => {
      this.#status = (this.#status & STATUS_COMPUTING) | (value & STATUS_IRQ_FACTORIAL);
    },
    96: (value) => this.#raise(value),
    100: (value) => this.#lower(value),
  };

  #compute(n: number): void {
    if ((this.#status & STATUS_COMPUTING) !== 0) return;
    this.#factorial = n;
    this.#status |= STATUS_COMPUTING;
    this.after(this.#options.factorialTime ?? 5000, () => {
      let product = 1;
      for (let i = n; i > 0 && product !== 0; i--) product = Math.imul(product, i) >>> 0;
      this.#factorial = product;
      this.#status &= ~STATUS_COMPUTING;
      if ((this.#status & STATUS_IRQ_FACTORIAL) !== 0) this.#raise(FACTORIAL_IRQ);
    });
  }

  #raise(value: number): void {
    this.#irqStatus = (this.#irqStatus | value) >>> 0;
    if (this.#irqStatus === 0) return;
    if (this.messages) this.raise();
    else this.setIntx(true);
  }

  #lower(value: number): void {
    this.#irqStatus = (this.#irqStatus & ~value) >>> 0;
    if (this.#irqStatus === 0 && !this.messages) this.setIntx(false);
  }

  #readDma(offset: number, width: Width): number | bigint | undefined {
    const { source, destination, count, command } = this.#dma;
    const value = new Map([
      [0x80, source],
      [0x88, destination],
      [0x90, count],
      [0x98, command],
    ]).get(offset);
    return value === undefined || width === 8 ? value : Number(BigInt.asUintN(32, value));
  }

  /** Nothing changes while a transfer runs. */
  #writeDma(offset: number, value: bigint): void {
    const dma = this.#dma;
    if ((dma.command & DMA_RUN) !== 0n) return;
    if (offset === 0x80) dma.source = value;
    else if (offset === 0x88) dma.destination = value;
    else if (offset === 0x90) dma.count = value;
    else if (offset === 0x98 && (value & DMA_RUN) !== 0n) {
      dma.command = value;
      this.after(this.#options.dmaTime ?? 100_000, () => this.#transfer());
    }
  }

  /** A transfer that leaves the buffer is not done; it ends all the same. */
  #transfer(): void {
    const dma = this.#dma;
    const mask = this.#options.dmaMask ?? 0xfff_ffffn;
    const toMemory = (dma.command & DMA_TO_MEMORY) !== 0n;
    const at = (toMemory ? dma.source : dma.destination) - BUFFER;
    if (at >= 0n && at + dma.count <= BigInt(BUFFER_SIZE)) {
      const [start, length] = [Number(at), Number(dma.count)];
      if (toMemory) this.dma.write(dma.destination & mask, this.buffer.slice(start, start + length));
      else this.buffer.set(this.dma.read(dma.source & mask, length) ?? [], start);
    }
    dma.command &= ~DMA_RUN;
    if ((dma.command & DMA_RAISES) !== 0n) this.#raise(DMA_IRQ);
  }
}
