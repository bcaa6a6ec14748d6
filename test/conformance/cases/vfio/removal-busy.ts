/** A device taken off the bus (`remove`) while it transfers, while interrupts are set, while somebody waits for one; and found again (`rescan`). */
import type { Kernel } from 'kvio';
import {
  EFD_NONBLOCK,
  POLLIN,
  VFIO_DEVICE_GET_INFO,
  VFIO_GROUP_GET_STATUS,
  VFIO_IOMMU_GET_INFO,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_REQ_IRQ_INDEX,
} from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { storeLater } from '../../later.ts';
import { UNSAFE } from '../../machine.ts';
import { bindToVfio, exists, pci, store } from '../../parts.ts';
import {
  ASSISTED,
  attempt,
  awaited,
  ConfigSpace,
  getDevice,
  mapDma,
  mapRegion,
  type Opened,
  openDevice,
  setTrigger,
  u32s,
  unmapDma,
  withDevices,
} from '../../vfio.ts';

const IOVA = 0x100000n;
const LIVENESS = 4;
const IRQ_ACK = 0x64;
const DMA = 0x80;
const BUFFER = 0x40000;
const LENGTH = 0x800;
/** Begin; to memory; an interrupt at the end. */
const COMMAND = 7;
const DONE = 0x100;

const pause = (milliseconds = 50): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** The device asked to go: what `remove` says in the end. */
async function removing(kernel: Kernel, address: string, device: number) {
  const request = kernel.eventfd(0, EFD_NONBLOCK);
  setTrigger(kernel, device, VFIO_PCI_REQ_IRQ_INDEX, request);
  const remove = await storeLater(kernel, `${pci(address)}/remove`, '1');
  await awaited(kernel, request);
  return remove;
}

/** What is left when the device is closed: nothing on the bus, a group that is dead, a container without an IOMMU; and after `rescan` the device again. */
async function gone(
  kernel: Kernel,
  see: Observer,
  address: string,
  { container, group }: Opened,
  ended: () => Promise<number | string>,
): Promise<void> {
  see.note('remove', await ended());
  see.note('the device is there', exists(kernel, pci(address)));
  see.call('GET_STATUS', () => kernel.ioctl(group, VFIO_GROUP_GET_STATUS, u32s(8, 0)));
  see.call('GET_DEVICE_FD', () => getDevice(kernel, group, address));
  see.call('IOMMU_GET_INFO', () => kernel.ioctl(container, VFIO_IOMMU_GET_INFO, 0, UNSAFE));
  kernel.close(group);
  kernel.close(container);
  store(kernel, '/sys/bus/pci/rescan', '1');
  see.note('the device is there, after rescan', exists(kernel, pci(address)));
  bindToVfio(kernel, address);
  const again = openDevice(kernel, address);
  see.note('it answers', new ConfigSpace(kernel, again.device).read32(0));
  for (const fd of [again.device, again.group, again.container]) kernel.close(fd);
}

/** It goes on to transfer, and to answer, until it is closed. */
async function duringDma(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const opened = openDevice(kernel, address!);
  const { container, device } = opened;
  const config = new ConfigSpace(kernel, device);
  config.enable();
  const ram = kernel.guestRam(0x2000);
  ram.bytes.fill(0xee);
  mapDma(kernel, container, { vaddr: ram.address, iova: IOVA, size: 0x1000 });
  const done = kernel.eventfd(0, EFD_NONBLOCK);
  setTrigger(kernel, device, VFIO_PCI_MSI_IRQ_INDEX, done);
  const bar = mapRegion(kernel, device, 0);
  const words = [BUFFER, 0, Number(IOVA), 0, LENGTH, 0, COMMAND];
  for (const [i, word] of words.entries()) bar.write32(DMA + 4 * i, word);
  const remove = await removing(kernel, address!, device);
  see.note('the transfer ends', (await awaited(kernel, done)) > 0);
  bar.write32(IRQ_ACK, DONE);
  see.note('what came', ram.bytes[0] !== 0xee);
  see.call('GET_INFO', () => kernel.ioctl(device, VFIO_DEVICE_GET_INFO, u32s(24, 0, 0, 0, 0, 0)));
  bar.write32(LIVENESS, 1);
  see.note('its BAR', bar.read32(LIVENESS));
  see.call('MAP_DMA', () => mapDma(kernel, container, { vaddr: ram.address, iova: IOVA + 0x1000n, size: 0x1000 }));
  see.note('UNMAP_DMA', unmapDma(kernel, container, { iova: IOVA, size: 0x1000 }));
  await pause();
  see.note('remove waits', remove.answer === undefined);
  bar.close();
  kernel.close(device);
  await gone(kernel, see, address!, opened, () => remove.ended());
}

/** Interrupts can be set, swapped and taken away meanwhile. */
async function duringSetIrqs(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const opened = openDevice(kernel, address!);
  const { device } = opened;
  const [first, second] = [kernel.eventfd(), kernel.eventfd()];
  const swap = (times: number): string | number => {
    for (let i = 0; i < times; i++) {
      const answer = attempt(() => setTrigger(kernel, device, VFIO_PCI_MSI_IRQ_INDEX, i % 2 === 0 ? first : second));
      if (answer !== 0) return answer;
    }
    return attempt(() => setTrigger(kernel, device, VFIO_PCI_MSI_IRQ_INDEX));
  };
  const request = kernel.eventfd(0, EFD_NONBLOCK);
  see.call('SET_IRQS, REQ', () => setTrigger(kernel, device, VFIO_PCI_REQ_IRQ_INDEX, request));
  const remove = await storeLater(kernel, `${pci(address!)}/remove`, '1');
  const answers = new Set<string | number>();
  let asked = 0;
  for (const end = Date.now() + 20_000; asked === 0 && Date.now() < end; await pause(2)) {
    answers.add(swap(20));
    const count = new Uint8Array(8);
    asked = attempt(() => kernel.read(request, count)) === 8 ? count[0]! : 0;
  }
  answers.add(swap(20));
  see.note('SET_IRQS', [...answers]);
  see.note('asked to go', asked > 0);
  see.call('REQ taken away', () => setTrigger(kernel, device, VFIO_PCI_REQ_IRQ_INDEX));
  await pause();
  see.note('remove waits', remove.answer === undefined);
  kernel.close(device);
  await gone(kernel, see, address!, opened, () => remove.ended());
}

/** Who waits for an interrupt that never comes is told nothing; and keeps nobody. */
async function duringRead(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const opened = openDevice(kernel, address!);
  const { device } = opened;
  const eventfd = kernel.eventfd();
  setTrigger(kernel, device, VFIO_PCI_MSI_IRQ_INDEX, eventfd);
  const stop = new AbortController();
  let ready = false;
  const wait = kernel.waitAsync(eventfd, POLLIN, { signal: stop.signal }).then(
    () => void (ready = true),
    () => {},
  );
  const remove = await removing(kernel, address!, device);
  kernel.close(device);
  await gone(kernel, see, address!, opened, () => remove.ended());
  see.note('the wait has ended', ready);
  see.call('the eventfd is one still', () => kernel.write(eventfd, new Uint8Array(new BigUint64Array([3n]).buffer)));
  await Promise.race([wait, pause(20_000)]);
  see.note('signalled by us, it has', ready);
  stop.abort();
}

export const busyRemovalCases: readonly Case[] = [
  withDevices('vfio/removal/during-dma', 'Removal', ['second edu'], duringDma, ASSISTED),
  withDevices('vfio/removal/during-set-irqs', 'Removal', ['second edu'], duringSetIrqs, ASSISTED),
  withDevices('vfio/removal/during-a-wait', 'Removal', ['second edu'], duringRead, ASSISTED),
];
