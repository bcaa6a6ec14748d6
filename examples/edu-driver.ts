// A driver for QEMU's teaching device (1234:11e8) on VFIO: registers, an interrupt, DMA both ways. `edu-driver group` (the default) or `edu-driver cdev`.
import { bindDriver, type Eventfd, type Memory, openKernel, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY, pciDevice } from 'kvio';
import { VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_MSI_IRQ_INDEX } from 'kvio/uapi';
import { type OpenedDevice, openDevice, type Way } from './parts/open-device.ts';

const [way = 'group', bdf = '0000:00:02.0'] = process.argv.slice(2) as [Way?, string?];

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
const DMA_TO_MEMORY = 2;
const DMA_IRQ = 4;
/** The device's own buffer of 4 KiB, in addresses of its DMA engine. QEMU before 9 ends when a transfer touches its last byte. */
const BUFFER = 0x40000n;

class Edu {
  readonly #opened: OpenedDevice;
  readonly #registers: Memory;
  readonly #interrupt: Eventfd;

  constructor(opened: OpenedDevice) {
    this.#opened = opened;
    const { device } = opened;
    device.config.setCommand(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER); // without bus mastering there is no DMA and no message
    this.#registers = device.region(VFIO_PCI_BAR0_REGION_INDEX).mmap();
    this.#interrupt = device.irqs(VFIO_PCI_MSI_IRQ_INDEX).enable()[0]!;
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

const hex = (value: number): string => `0x${value.toString(16)}`;

const kernel = openKernel({ devices: [way === 'cdev' ? '/dev/iommu' : '/dev/vfio/vfio'], machine: 'lab-vtd-7.2' }); // the machine, should it be a simulated one
if (!kernel.features.async) {
  console.log(`the ${kernel.kind} kernel has synchronous calls only`);
  process.exit(0);
}
const before = pciDevice(kernel, bdf);
{
  using _bound = bindDriver(kernel, bdf, 'vfio-pci');
  const opened = openDevice(kernel, bdf, way);
  const edu = new Edu(opened);
  try {
    await demonstrate(edu, opened);
  } finally {
    edu.close();
  }
}
const after = pciDevice(kernel, bdf);
const same = before.driver === after.driver && before.driver_override === after.driver_override;
console.log(`the host is ${same ? 'as it was' : 'not as it was'}`);
kernel.close();

async function demonstrate(edu: Edu, { map, unmap }: OpenedDevice): Promise<void> {
  console.log(`identification ${hex(edu.id)}, alive: ${edu.isAlive(0x12345678)}`);
  console.log(`10! is ${edu.factorial(10)}`);
  console.log(`interrupt, its bits ${hex(await edu.raise(0x5a))}`);

  const IOVA = 0x100000n;
  const LENGTH = 0x800;
  const ram = kernel.guestRam(0x2000);
  for (let at = 0; at < LENGTH; at++) ram.bytes[at] = (at * 7) & 0xff;
  map(ram, IOVA);
  await edu.transfer(IOVA, BUFFER, LENGTH, 0);
  await edu.transfer(BUFFER, IOVA + 0x1000n, LENGTH, DMA_TO_MEMORY);
  const [sent, came] = [ram.read(0, LENGTH), ram.read(0x1000, LENGTH)];
  console.log(`${LENGTH} bytes to the device and back: ${Buffer.compare(sent, came) === 0 ? 'the same' : 'others'}`);

  ram.bytes.fill(0xee, 0x1000);
  unmap(ram, IOVA);
  await edu.transfer(BUFFER, IOVA + 0x1000n, LENGTH, DMA_TO_MEMORY);
  const untouched = ram.read(0x1000, LENGTH).every((byte) => byte === 0xee);
  console.log(`unmapped, the device ${untouched ? 'reaches nothing' : 'still writes'}`);
}
