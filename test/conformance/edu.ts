/** QEMU's teaching device, 1234:11e8: registers in BAR 0, a factorial engine, an interrupt, DMA between memory and a buffer of 4 KiB. */
import type { Kernel, Memory } from 'kvio';
import { POLLIN, VFIO_DEVICE_GET_INFO, VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_MSI_IRQ_INDEX, vfio_device_info } from 'kvio/uapi';
import type { Observer } from './case.ts';
import { ConfigSpace, irqInfo, mapRegion, regionInfo, setTrigger } from './vfio.ts';

type Ram = ReturnType<Kernel['guestRam']>;

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
/** Where the device's own buffer is, in addresses of its DMA engine. */
const DEVICE_BUFFER = 0x40000n;
/** QEMU before 9 ends with a hardware error when a transfer reaches the last byte of the buffer. */
const TRANSFER = 0x800;

/** Waits for an event, but not for ever: a lost interrupt is a fact, not a hang. */
async function signalled(kernel: Kernel, eventfd: number): Promise<{ revents: number; count: bigint } | 'nothing came'> {
  try {
    const revents = await kernel.waitAsync(eventfd, POLLIN, { signal: AbortSignal.timeout(20_000) });
    const counter = new Uint8Array(8);
    kernel.read(eventfd, counter);
    return { revents, count: new DataView(counter.buffer).getBigUint64(0, true) };
  } catch (error) {
    if ((error as Error).name === 'TimeoutError' || (error as Error).name === 'AbortError') return 'nothing came';
    throw error;
  }
}

async function until(condition: () => boolean, milliseconds = 20_000): Promise<boolean> {
  const end = Date.now() + milliseconds;
  while (!condition()) {
    if (Date.now() > end) return false;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  return true;
}

/** What can be asked of an opened edu before it does anything. */
export function describe(kernel: Kernel, see: Observer, device: number): void {
  see.call('DEVICE_GET_INFO', () => {
    const bytes = vfio_device_info.encode({ argsz: vfio_device_info.size, flags: 0, num_regions: 0, num_irqs: 0, cap_offset: 0 });
    kernel.ioctl(device, VFIO_DEVICE_GET_INFO, bytes);
    return vfio_device_info.decode(bytes);
  });
  see.call('GET_REGION_INFO of BAR 0', () => regionInfo(kernel, device, VFIO_PCI_BAR0_REGION_INDEX));
  see.call('GET_IRQ_INFO of MSI', () => irqInfo(kernel, device, VFIO_PCI_MSI_IRQ_INDEX));
}

/** Registers: through pread and through the mapping. */
export async function computes(kernel: Kernel, see: Observer, device: number): Promise<Memory> {
  see.call('memory and bus mastering on', () => new ConfigSpace(kernel, device).enable());
  const { offset } = regionInfo(kernel, device, VFIO_PCI_BAR0_REGION_INDEX);
  const bytes = new Uint8Array(4);
  see.call('pread of the identification', () => kernel.pread(device, bytes, offset));
  see.note('identification, read', bytes);
  const bar = mapRegion(kernel, device, VFIO_PCI_BAR0_REGION_INDEX);
  see.note('BAR 0 has no view', bar.bytes === undefined);
  see.note('identification, mapped', BigInt(bar.read32(ID)));
  bar.write32(LIVENESS, 0x12345678);
  see.note('what was written comes back inverted', BigInt(bar.read32(LIVENESS)));
  bar.write32(FACTORIAL, 10);
  see.note('factorial ends', await until(() => (bar.read32(STATUS) & STATUS_COMPUTING) === 0));
  see.note('10!', bar.read32(FACTORIAL));
  // 34! is 0 in 32 bits: as the register was found, since edu has no reset.
  bar.write32(FACTORIAL, 34);
  await until(() => (bar.read32(STATUS) & STATUS_COMPUTING) === 0);
  return bar;
}

/** MSI by eventfd. Returns the eventfd. */
export async function interrupts(kernel: Kernel, see: Observer, device: number, bar: Memory): Promise<number> {
  const eventfd = kernel.eventfd();
  see.call('SET_IRQS, MSI', () => setTrigger(kernel, device, VFIO_PCI_MSI_IRQ_INDEX, eventfd));
  bar.write32(IRQ_RAISE, 1);
  see.note('the eventfd after a raised interrupt', await signalled(kernel, eventfd));
  see.note('interrupt status', bar.read32(IRQ_STATUS));
  bar.write32(IRQ_ACK, 1);
  see.note('interrupt status, acknowledged', bar.read32(IRQ_STATUS));
  bar.write32(IRQ_RAISE, 2);
  see.note('the eventfd after another', await signalled(kernel, eventfd));
  bar.write32(IRQ_ACK, 2);
  return eventfd;
}

async function transfer(
  kernel: Kernel,
  bar: Memory,
  eventfd: number,
  from: bigint,
  to: bigint,
  command: number,
): Promise<unknown> {
  bar.write32(DMA_SOURCE, Number(from & 0xffffffffn));
  bar.write32(DMA_SOURCE + 4, Number(from >> 32n));
  bar.write32(DMA_DESTINATION, Number(to & 0xffffffffn));
  bar.write32(DMA_DESTINATION + 4, Number(to >> 32n));
  bar.write32(DMA_COUNT, TRANSFER);
  bar.write32(DMA_COMMAND, command | DMA_START | DMA_IRQ);
  const event = await signalled(kernel, eventfd);
  bar.write32(IRQ_ACK, bar.read32(IRQ_STATUS));
  return event;
}

/** Two pages at `iova`: the first goes to the device and comes back in the second. */
export async function copies(kernel: Kernel, see: Observer, bar: Memory, eventfd: number, ram: Ram, iova: bigint): Promise<void> {
  for (let at = 0; at < 0x1000; at++) ram.bytes[at] = (at * 7 + (at >> 8)) & 0xff;
  see.note('DMA memory to device', await transfer(kernel, bar, eventfd, iova, DEVICE_BUFFER, 0));
  see.note('DMA device to memory', await transfer(kernel, bar, eventfd, DEVICE_BUFFER, iova + 0x1000n, DMA_TO_MEMORY));
  const [sent, came] = [ram.bytes.subarray(0, TRANSFER), ram.bytes.subarray(0x1000, 0x1000 + TRANSFER)];
  see.note('the bytes came back', Buffer.compare(sent, came) === 0);
  see.note(
    'and no more',
    ram.bytes.subarray(0x1000 + TRANSFER).every((byte: number) => byte === 0),
  );
}

/** After the mapping is gone, the device reaches nothing: the transfer ends, memory stays as it is. */
export async function isLockedOut(
  kernel: Kernel,
  see: Observer,
  bar: Memory,
  eventfd: number,
  ram: Ram,
  iova: bigint,
): Promise<void> {
  ram.bytes.fill(0xee, 0x1000, 0x2000);
  see.note('DMA to an IOVA no longer mapped', await transfer(kernel, bar, eventfd, DEVICE_BUFFER, iova + 0x1000n, DMA_TO_MEMORY));
  see.note(
    'memory is as it was',
    ram.bytes.subarray(0x1000, 0x2000).every((byte: number) => byte === 0xee),
  );
}

/** A transfer of some bytes from the device's buffer to an IOVA or, `back`, from there into it, without an interrupt. False: it does not end. */
export async function moves(bar: Memory, iova: bigint, length: number, back = false): Promise<boolean> {
  bar.write64(DMA_SOURCE, back ? iova : DEVICE_BUFFER);
  bar.write64(DMA_DESTINATION, back ? DEVICE_BUFFER : iova);
  bar.write64(DMA_COUNT, BigInt(length));
  bar.write64(DMA_COMMAND, BigInt(DMA_START | (back ? 0 : DMA_TO_MEMORY)));
  return until(() => (bar.read64(DMA_COMMAND) & BigInt(DMA_START)) === 0n);
}
