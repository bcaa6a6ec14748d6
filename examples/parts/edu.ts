// A driver for QEMU's teaching device (1234:11e8): registers, an interrupt, DMA both ways.
import { type Eventfd, type Memory, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY } from 'kvio';
import { VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_MSI_IRQ_INDEX } from 'kvio/uapi';
import type { OpenedDevice } from './open-device.ts';

type Opened = Pick<OpenedDevice, 'device' | 'close'>;

/** Registers in BAR 0, 32 bits wide; those of the DMA engine 64. */
const ID = 0x00;
const LIVENESS = 0x04;
const FACTORIAL = 0x08;
const STATUS = 0x20;
const STATUS_COMPUTING = 0x01;
const IRQ_STATUS = 0x24;
const IRQ_RAISE = 0x60;
const IRQ_ACK = 0x64;
const DMA_SOURCE = 0x80;
const DMA_DESTINATION = 0x88;
const DMA_COUNT = 0x90;
const DMA_COMMAND = 0x98;
const DMA_START = 1;
export const DMA_TO_MEMORY = 2;
const DMA_IRQ = 4;
/** The device's own buffer of 4 KiB, in addresses of its DMA engine. QEMU before 9 ends when a transfer touches its last byte. */
export const BUFFER = 0x40000n;

export class Edu {
  readonly #opened: Opened;
  readonly #registers: Memory;
  readonly #interrupt: Eventfd;

  constructor(opened: Opened) {
    this.#opened = opened;
    const { device } = opened;
    device.config.setCommand(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER); // without bus mastering there is no DMA and no message
    this.#registers = device.region(VFIO_PCI_BAR0_REGION_INDEX).mmap();
    this.#interrupt = device.irqs(VFIO_PCI_MSI_IRQ_INDEX).enable()[0];
  }

  get id(): number {
    return this.#registers.read32(ID);
  }

  isAlive(value: number): boolean {
    this.#registers.write32(LIVENESS, value);
    return this.#registers.read32(LIVENESS) === ~value >>> 0;
  }

  factorial(n: number): number {
    this.#registers.write32(FACTORIAL, n);
    while ((this.#registers.read32(STATUS) & STATUS_COMPUTING) !== 0);
    return this.#registers.read32(FACTORIAL);
  }

  /** Has the device raise an interrupt of these bits. */
  raise(bits: number): Promise<number> {
    this.#registers.write32(IRQ_RAISE, bits);
    return this.#acknowledged();
  }

  /** Copies between an IOVA and the device's buffer. */
  async transfer(source: bigint, destination: bigint, length: number, direction: 0 | typeof DMA_TO_MEMORY): Promise<void> {
    this.#registers.write64(DMA_SOURCE, source);
    this.#registers.write64(DMA_DESTINATION, destination);
    this.#registers.write64(DMA_COUNT, BigInt(length));
    this.#registers.write64(DMA_COMMAND, BigInt(DMA_START | DMA_IRQ | direction));
    await this.#acknowledged();
  }

  /** The next interrupt's bits. */
  async #acknowledged(): Promise<number> {
    await this.#interrupt.wait({ signal: AbortSignal.timeout(60_000) });
    const bits = this.#registers.read32(IRQ_STATUS);
    this.#registers.write32(IRQ_ACK, bits);
    return bits;
  }

  close(): void {
    this.#registers.close(); // a mapping keeps the device open
    this.#interrupt.close();
    this.#opened.close();
  }
}
