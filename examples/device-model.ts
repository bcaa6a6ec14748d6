// A device of your own, for the simulator: the model of a checksum engine, a driver for it, and a test of the driver with faults injected at the device's back door.
import {
  bindDriver,
  type Eventfd,
  type Memory,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  type Ram,
  type Region,
  type VfioDevice,
} from 'kvio';
import { openSim, PciFunction } from 'kvio/sim';
import { VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_MSI_IRQ_INDEX } from 'kvio/uapi';
import { openDevice } from './parts/open-device.ts';

// What device and driver have agreed on: registers in BAR 0.
const ID = 0x00;
const ID_VALUE = 0xc5ec;
const SOURCE = 0x08;
const LENGTH = 0x10;
const COMMAND = 0x14;
const COMMAND_START = 1;
const STATUS = 0x18;
const STATUS_DONE = 1;
const STATUS_ERROR = 2;
const RESULT = 0x1c;

/** The device: adds up the bytes of a buffer in memory, and says by MSI that it is done. */
class ChecksumEngine extends PciFunction {
  /** The back door: answers that are wrong by this much, interrupts that never come. */
  wrongBy = 0;
  silent = false;
  #source = 0n;
  #length = 0;
  #status = 0;
  #result = 0;

  constructor() {
    super({
      vendor: 0x1234,
      device: 0xc5ec,
      class: 0x120000,
      express: true,
      flr: true,
      bars: { 0: { size: 0x1000, space: 'mem32' } },
      msi: { vectors: 1 },
    });
  }

  override read(bar: number, offset: number, width: 1 | 2 | 4 | 8): number | bigint {
    if (width !== 4) return super.read(bar, offset, width);
    const registers: Record<number, number> = { [ID]: ID_VALUE, [STATUS]: this.#status, [RESULT]: this.#result };
    return registers[offset] ?? 0;
  }

  override write(_bar: number, offset: number, width: 1 | 2 | 4 | 8, value: number | bigint): void {
    if (offset === SOURCE && width === 8) this.#source = BigInt(value);
    else if (offset === LENGTH) this.#length = Number(value);
    else if (offset === STATUS) this.#status &= ~Number(value);
    else if (offset === COMMAND && (Number(value) & COMMAND_START) !== 0) this.after(20_000, () => this.#run());
  }

  override reset(): void {
    this.#source = 0n;
    this.#length = this.#status = this.#result = 0;
  }

  #run(): void {
    const bytes = this.dma.read(this.#source, this.#length);
    if (bytes === undefined) this.#status |= STATUS_ERROR;
    else this.#result = bytes.reduce((sum, byte) => (sum + byte) >>> 0, this.wrongBy);
    this.#status |= STATUS_DONE;
    if (!this.silent) this.raise();
  }
}

/** The driver: knows nothing of the model, and would drive the real device as well. */
class Checksum {
  readonly #device: VfioDevice;
  readonly #registers: Region;
  readonly #interrupt: Eventfd;

  constructor(device: VfioDevice) {
    this.#device = device;
    device.config.setCommand(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    this.#registers = device.region(VFIO_PCI_BAR0_REGION_INDEX);
    if (this.#registers.read32(ID) !== ID_VALUE) throw new Error('this is no checksum engine');
    this.#interrupt = device.irqs(VFIO_PCI_MSI_IRQ_INDEX).enable()[0];
  }

  async sum(iova: bigint, length: number): Promise<number> {
    this.#registers.write64(SOURCE, iova);
    this.#registers.write32(LENGTH, length);
    this.#registers.write32(COMMAND, COMMAND_START);
    await this.#interrupt.wait({ signal: AbortSignal.timeout(500) }).catch(() => this.#unanswered());
    const status = this.#registers.read32(STATUS);
    this.#registers.write32(STATUS, status);
    if ((status & STATUS_ERROR) !== 0) throw new Error('the device could not read its buffer');
    return this.#registers.read32(RESULT);
  }

  /** All ones is what nobody answers. */
  #unanswered(): never {
    if (this.#registers.read32(ID) === 0xffff_ffff) throw new Error('the device is gone');
    this.#device.reset();
    throw new Error('the device did not answer, and was reset');
  }
}

const AT = '0000:00:10.0';
const IOVA = 0x10_0000n;
const engine = new ChecksumEngine();
const kernel = openSim({ machine: 'lab-vtd-7.2', pci: [{ at: AT, device: engine }] });
const bound = bindDriver(kernel, AT, 'vfio-pci');
const opened = openDevice(kernel, AT, 'group');
const ram = kernel.guestRam(0x1000);
fill(ram);
opened.map(ram, IOVA);
const driver = new Checksum(opened.device);

await show('the sum of 1000 bytes', () => driver.sum(IOVA, 1000));
engine.wrongBy = 1;
await show('with a device that miscounts', () => driver.sum(IOVA, 1000));
engine.wrongBy = 0;
await show('beyond what is mapped', () => driver.sum(IOVA, 0x2000));
engine.silent = true;
await show('with a device that forgets its interrupt', () => driver.sum(IOVA, 1000));
engine.silent = false;
opened.device.config.setCommand(PCI_COMMAND_MASTER);
await show('after the reset', () => driver.sum(IOVA, 1000));
kernel.unplug(engine);
await show('without the device', () => driver.sum(IOVA, 1000));
opened.close();
bound.restore();
kernel.close();

async function show(what: string, run: () => Promise<number>): Promise<void> {
  const outcome = await run().catch((error: Error) => error.message);
  console.log(`${what}: ${outcome}`);
}

function fill(memory: Memory & Pick<Ram, 'bytes'>): void {
  for (let at = 0; at < memory.length; at++) memory.bytes[at] = at & 0xff;
}
