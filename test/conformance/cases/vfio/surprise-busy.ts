/** A device pulled out of its slot while it transfers, while its interrupts are set, while somebody reads; and while a guest uses it. */
import type { Kernel } from 'kvio';
import * as u from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { inThread, readLater } from '../../later.ts';
import { exists, pci } from '../../parts.ts';
import { SLOTS, Slot, untilPresent } from '../../slot.ts';
import {
  awaited,
  ConfigSpace,
  join,
  mapDma,
  mapRegion,
  openDevice,
  s32,
  setTrigger,
  taken,
  u32s,
  unmapDma,
  withDevices,
} from '../../vfio.ts';

const IOVA = 0x100000n;
const DMA = 0x80;
const BUFFER = 0x40000;
const LENGTH = 0x800;
/** Begin; to memory; an interrupt at the end. */
const COMMAND = 7;
/** edu takes a tenth of a second for a transfer. */
const TRANSFER = 400;

const pause = (milliseconds = 50): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

function requestOf(kernel: Kernel, device: number): number {
  const request = kernel.eventfd(0, u.EFD_NONBLOCK);
  setTrigger(kernel, device, u.VFIO_PCI_REQ_IRQ_INDEX, request);
  return request;
}

/** Nothing comes any more, and no end of it. */
async function duringDma(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const { container, group, device } = openDevice(kernel, address!);
  new ConfigSpace(kernel, device).enable();
  const ram = kernel.guestRam(0x2000);
  ram.bytes.fill(0xee);
  mapDma(kernel, container, { vaddr: ram.address, iova: IOVA, size: 0x1000 });
  const done = kernel.eventfd(0, u.EFD_NONBLOCK);
  setTrigger(kernel, device, u.VFIO_PCI_MSI_IRQ_INDEX, done);
  const request = requestOf(kernel, device);
  const bar = mapRegion(kernel, device, 0);
  const transfer = (): void => {
    for (const [i, word] of [BUFFER, 0, Number(IOVA), 0, LENGTH, 0, COMMAND].entries()) bar.write32(DMA + 4 * i, word);
  };
  const ends = (milliseconds: number): boolean =>
    kernel.poll([{ fd: done, events: u.POLLIN }], milliseconds)[0]! > 0 && taken(kernel, done) > 0;
  transfer();
  see.note('it is at work', ends(20_000) && ram.bytes[0] !== 0xee);
  bar.write32(0x64, 0x100);
  ram.bytes.fill(0xee);
  transfer();
  new Slot(kernel, address!).pull();
  see.note('asked to go', (await awaited(kernel, request)) > 0);
  see.note('the transfer ends', ends(TRANSFER));
  see.note(
    'memory is as it was',
    ram.bytes.every((byte: number) => byte === 0xee),
  );
  see.call('another transfer', transfer);
  see.note('it ends', ends(TRANSFER));
  see.call('MAP_DMA', () => mapDma(kernel, container, { vaddr: ram.address, iova: IOVA + 0x1000n, size: 0x1000 }));
  see.note('UNMAP_DMA', unmapDma(kernel, container, { iova: IOVA, size: 0x2000 }));
  see.note(
    'memory is as it was, in the end',
    ram.bytes.every((byte: number) => byte === 0xee),
  );
  bar.close();
  for (const fd of [device, group, container]) kernel.close(fd);
  see.note('in /sys', await untilPresent(kernel, address!, false));
}

/** Another thread swaps the eventfds of a vector all the time. */
async function duringSetIrqs(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const { container, group, device } = openDevice(kernel, address!);
  new ConfigSpace(kernel, device).enable();
  const request = requestOf(kernel, device);
  const [first, second] = [kernel.eventfd(), kernel.eventfd()];
  const flags = u.VFIO_IRQ_SET_DATA_EVENTFD | u.VFIO_IRQ_SET_ACTION_TRIGGER;
  const sets = [first, second].map((fd) => join(u32s(24, flags, u.VFIO_PCI_MSI_IRQ_INDEX, 0, 1), s32(fd)));
  see.call('SET_IRQS', () => setTrigger(kernel, device, u.VFIO_PCI_MSI_IRQ_INDEX, first));
  const counts = new Int32Array(new SharedArrayBuffer(8));
  const swaps = await inThread(
    kernel,
    (threads, data, begins) => {
      const answers = new Set<number | string>();
      threads.adopt(data.device);
      begins();
      while (Atomics.load(data.counts, 0) === 0) {
        for (const set of data.sets) {
          const answer = threads.tryIoctl(data.device, data.request, set, { unsafe: true });
          answers.add(answer);
          Atomics.add(data.counts, 1, 1);
        }
      }
      return [...answers];
    },
    { counts, sets, device, request: u.VFIO_DEVICE_SET_IRQS },
  );
  const some = async (): Promise<void> => {
    for (
      const least = Atomics.load(counts, 1) + 20, end = Date.now() + 20_000;
      Atomics.load(counts, 1) < least && Date.now() < end;
    )
      await pause(1);
  };
  await some();
  new Slot(kernel, address!).pull();
  see.note('asked to go', (await awaited(kernel, request)) > 0);
  await some();
  Atomics.store(counts, 0, 1);
  see.note('what SET_IRQS returned', await swaps.ended());
  see.note('in /sys', exists(kernel, pci(address!)));
  for (const fd of [container, group, device]) kernel.close(fd);
  see.note('closed: in /sys', await untilPresent(kernel, address!, false));
}

/** Who reads the request to go is woken; who reads for an interrupt is not, and keeps nobody. */
async function duringReads(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const { container, group, device } = openDevice(kernel, address!);
  const [irq, request] = [kernel.eventfd(), kernel.eventfd()];
  setTrigger(kernel, device, u.VFIO_PCI_MSI_IRQ_INDEX, irq);
  setTrigger(kernel, device, u.VFIO_PCI_REQ_IRQ_INDEX, request);
  const [interrupted, asked] = [await readLater(kernel, irq), await readLater(kernel, request)];
  await pause();
  see.note('both read', [interrupted.answer === undefined, asked.answer === undefined]);
  new Slot(kernel, address!).pull();
  see.note('asked to go', await asked.ended());
  await pause();
  see.note('the interrupt is read still', interrupted.answer === undefined);
  for (const fd of [device, group, container]) kernel.close(fd);
  see.note('in /sys', await untilPresent(kernel, address!, false));
  see.note('it is read still, without the device', interrupted.answer === undefined);
  kernel.write(irq, new Uint8Array(new BigUint64Array([3n]).buffer));
  see.note('signalled by us', await interrupted.ended());
}

export const busySurpriseCases: readonly Case[] = [
  withDevices('vfio/surprise/during-dma', 'Surprise removal', ['express edu'], duringDma, SLOTS),
  withDevices('vfio/surprise/during-set-irqs', 'Surprise removal', ['e1000e'], duringSetIrqs, SLOTS),
  withDevices('vfio/surprise/during-reads', 'Surprise removal', ['express edu'], duringReads, SLOTS),
];
