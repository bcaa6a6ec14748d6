/** A device pulled out of its slot while it is used: what is asked of it before the kernel knows, while the kernel waits for its user, and after. */
import type { Kernel, Memory } from 'kvio';
import * as u from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { storeLater } from '../../later.ts';
import { UNSAFE } from '../../machine.ts';
import { bindToVfio, driverOf, exists, pci, show, store } from '../../parts.ts';
import { nobody, SLOTS, Slot, untilPresent } from '../../slot.ts';
import {
  attempt,
  awaited,
  ConfigSpace,
  cdevOf,
  feature,
  getDevice,
  groupPath,
  irqInfo,
  join,
  mapDma,
  mapRegion,
  type Opened,
  openDevice,
  region,
  regionInfo,
  s32,
  setContainer,
  setIrqs,
  setTrigger,
  status,
  taken,
  u32s,
  u64s,
  unmapDma,
  view,
  withDevices,
} from '../../vfio.ts';

const IOVA = 0x100000n;
const TRIGGER = u.VFIO_IRQ_SET_DATA_NONE | u.VFIO_IRQ_SET_ACTION_TRIGGER;
const IRQS = ['INTx', 'MSI', 'MSI-X', 'ERR', 'REQ'] as const;

const pause = (milliseconds = 50): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** A device in use: everything a driver sets up. */
function inUse(kernel: Kernel, address: string, index: number) {
  const opened = openDevice(kernel, address);
  const config = new ConfigSpace(kernel, opened.device);
  config.enable();
  const ram = kernel.guestRam(0x4000);
  mapDma(kernel, opened.container, { vaddr: ram.address, iova: IOVA, size: 0x1000 });
  const [irq, request, error] = [0, 0, 0].map(() => kernel.eventfd(0, u.EFD_NONBLOCK)) as [number, number, number];
  setTrigger(kernel, opened.device, index, irq);
  setTrigger(kernel, opened.device, u.VFIO_PCI_REQ_IRQ_INDEX, request);
  if (config.find(0x10) !== 0) setTrigger(kernel, opened.device, u.VFIO_PCI_ERR_IRQ_INDEX, error);
  return { ...opened, address, index, config, ram, irq, request, error, bar: mapRegion(kernel, opened.device, 0) };
}

type InUse = ReturnType<typeof inUse>;

/** Registers: virtual ones, those of the hardware, the header of each capability. */
function askConfig(see: Observer, config: ConfigSpace, capabilities: Readonly<Record<string, number>>): void {
  const bar = config.read32(0x10);
  see.note('ids', hex(config.bytes(0, 4)));
  see.note('COMMAND and STATUS', hex(config.bytes(4, 4)));
  see.note('class, header type', [hex(config.bytes(8, 4)), hex(config.bytes(0x0c, 4))]);
  see.note('subsystem', hex(config.bytes(0x2c, 4)));
  // The interrupt line is what firmware has written, or has not, in a device that was plugged in later.
  see.note('first capability, interrupt pin', [config.read8(0x34), config.read8(0x3d)]);
  for (const [name, at] of Object.entries(capabilities)) see.note(`capability ${name}`, hex(config.bytes(at, 12)));
  see.call('writing COMMAND', () => config.write16(4, 7));
  see.note('COMMAND, written', config.read16(4).toString(16));
  see.call('writing BAR 0', () => config.write32(0x10, 0xffff_ffff));
  see.note('its size', config.read32(0x10).toString(16));
  config.write32(0x10, bar);
}

/** BAR 0: by the descriptor, by the mapping that was there, by a new one. */
function askBar(kernel: Kernel, see: Observer, { device, bar }: { device: number; bar: Memory }): void {
  const word = new Uint8Array(4);
  see.note('GET_REGION_INFO', { ...regionInfo(kernel, device, 0), offset: 0n });
  see.call('pread', () => kernel.pread(device, word, region(0)));
  see.note('what was read', nobody(view(word).getUint32(0, true)));
  see.call('pwrite', () => kernel.pwrite(device, word, region(0, 8)));
  see.call('the mapping', () => nobody(bar.read32(0)));
  see.call('a store to it', () => bar.write32(8, 0));
  see.call('a new mapping', () => {
    const fresh = mapRegion(kernel, device, 0);
    const value = nobody(fresh.read32(0));
    fresh.close();
    return value;
  });
}

/** Whether the line is asserted is asked of the device. */
function askMask(kernel: Kernel, see: Observer, device: number, irq: number): void {
  const act = (action: number): number =>
    setIrqs(kernel, device, { flags: u.VFIO_IRQ_SET_DATA_NONE | action, index: u.VFIO_PCI_INTX_IRQ_INDEX, count: 1 });
  see.call('MASK', () => act(u.VFIO_IRQ_SET_ACTION_MASK));
  see.call('UNMASK', () => act(u.VFIO_IRQ_SET_ACTION_UNMASK));
  see.note('events, unmasked', taken(kernel, irq));
  see.call('UNMASK, again', () => act(u.VFIO_IRQ_SET_ACTION_UNMASK));
  see.note('events, unmasked again', taken(kernel, irq));
}

/** The interrupt that is set up, taken away, and each kind set up again. */
function askIrqs(kernel: Kernel, see: Observer, { device, index, irq, request }: InUse): void {
  for (const [n, name] of IRQS.entries())
    see.note(
      `GET_IRQ_INFO, ${name}`,
      attempt(() => irqInfo(kernel, device, n).count),
    );
  see.call('loopback', () => setIrqs(kernel, device, { flags: TRIGGER, index, count: 1 }));
  see.note('its eventfd', taken(kernel, irq));
  if (index === u.VFIO_PCI_INTX_IRQ_INDEX) askMask(kernel, see, device, irq);
  see.call('another eventfd', () => setTrigger(kernel, device, index, irq));
  see.call('the interrupt off', () => setTrigger(kernel, device, index));
  for (const [n, name] of IRQS.slice(0, 3).entries()) {
    see.call(`${name} on`, () => setTrigger(kernel, device, n, irq));
    see.call(`${name}, loopback`, () => setIrqs(kernel, device, { flags: TRIGGER, index: n, count: 1 }));
    see.call(`${name} off`, () => setTrigger(kernel, device, n));
  }
  see.note('all events', taken(kernel, irq));
  see.call('the interrupt on again', () => setTrigger(kernel, device, index, irq));
  see.call('REQ, again', () => setTrigger(kernel, device, u.VFIO_PCI_REQ_IRQ_INDEX, request));
}

function askDevice(kernel: Kernel, see: Observer, { device, group }: InUse): void {
  see.call('GET_INFO', () => {
    const bytes = u32s(16, 0, 0, 0);
    kernel.ioctl(device, u.VFIO_DEVICE_GET_INFO, bytes);
    return [4, 8, 12].map((at) => view(bytes).getUint32(at, true));
  });
  see.call('GET_PCI_HOT_RESET_INFO', () => {
    const bytes = join(u32s(20, 0, 0), new Uint8Array(8));
    kernel.ioctl(device, u.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, bytes, UNSAFE);
    return view(bytes).getUint32(8, true);
  });
  const probe = (number: number): Uint8Array => u32s(8, u.VFIO_DEVICE_FEATURE_PROBE | u.VFIO_DEVICE_FEATURE_SET | number);
  see.call('FEATURE, LOW_POWER_ENTRY probed', () => feature(kernel, device, probe(u.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY)));
  const eventfd = kernel.eventfd();
  const ioeventfd = join(u32s(40, 4), u64s(region(0, 4), 1), s32(eventfd, 0));
  see.call('IOEVENTFD', () => kernel.ioctl(device, u.VFIO_DEVICE_IOEVENTFD, ioeventfd, UNSAFE));
  see.call('its eventfd written', () => kernel.write(eventfd, u64s(1)));
  see.note(
    'GET_STATUS',
    attempt(() => status(kernel, group)),
  );
}

/** Mappings are the container's, not the device's. */
function askContainer(kernel: Kernel, see: Observer, { container, ram }: InUse): void {
  see.call('MAP_DMA', () => mapDma(kernel, container, { vaddr: ram.address, iova: IOVA + 0x1000n, size: 0x1000 }));
  see.call('MAP_DMA, again', () => mapDma(kernel, container, { vaddr: ram.address, iova: IOVA, size: 0x1000 }));
  see.note('UNMAP_DMA', unmapDma(kernel, container, { iova: IOVA + 0x1000n, size: 0x1000 }));
  see.note('UNMAP_DMA of what was there', unmapDma(kernel, container, { iova: IOVA, size: 0x1000 }));
  see.call('MAP_DMA of it', () => mapDma(kernel, container, { vaddr: ram.address, iova: IOVA, size: 0x1000 }));
}

/** What the kernel says of the device to everybody. */
function askEverybody(kernel: Kernel, see: Observer, address: string, cdev: string): void {
  see.note('in /sys', exists(kernel, pci(address)));
  see.note('its driver', exists(kernel, pci(address)) ? (driverOf(kernel, address) ?? 'none') : 'gone');
  see.call('config in /sys', () => {
    const fd = kernel.open(`${pci(address)}/config`, u.O_RDONLY);
    const bytes = new Uint8Array(4);
    kernel.pread(fd, bytes, 0n);
    kernel.close(fd);
    return hex(bytes);
  });
  see.call('power_state', () => show(kernel, `${pci(address)}/power_state`));
  const node = see.descriptor('opening the cdev', () => kernel.open(cdev));
  if (node >= 0) kernel.close(node);
}

/** Each label after what it belongs to. */
function under(see: Observer, topic: string): Observer {
  const labelled = (label: string): string => `${topic}: ${label}`;
  return {
    facts: see.facts,
    note: (label, value) => see.note(labelled(label), value),
    call: (label, make) => see.call(labelled(label), make),
    descriptor: (label, make) => see.descriptor(labelled(label), make),
    wait: (label, make) => see.wait(labelled(label), make),
  };
}

/** The device is let go: the kernel ends what it was waiting with, and the container is another device's. */
async function letGo(kernel: Kernel, see: Observer, used: InUse, other: string): Promise<void> {
  const { address, container, group, device, bar } = used;
  const path = groupPath(kernel, address);
  see.note('before: in /sys', exists(kernel, pci(address)));
  kernel.close(device);
  await pause();
  see.note('closed, a mapping left: in /sys', exists(kernel, pci(address)));
  see.call('closed: the mapping', () => nobody(bar.read32(0)));
  bar.close();
  see.note('unmapped: in /sys', await untilPresent(kernel, address, false));
  see.note('its group in /dev', exists(kernel, path));
  see.call('GET_STATUS', () => status(kernel, group));
  see.call('GET_DEVICE_FD', () => getDevice(kernel, group, address));
  see.call('MAP_DMA', () => mapDma(kernel, container, { vaddr: used.ram.address, iova: 0, size: 0x1000 }));
  see.call('UNSET_CONTAINER', () => kernel.ioctl(group, u.VFIO_GROUP_UNSET_CONTAINER));
  kernel.close(group);
  await another(kernel, see, container, other);
}

/** A container without a group takes another one. */
async function another(kernel: Kernel, see: Observer, container: number, other: string): Promise<void> {
  bindToVfio(kernel, other);
  const group = kernel.open(groupPath(kernel, other));
  see.call('another group: SET_CONTAINER', () => setContainer(kernel, group, container));
  see.call('another group: SET_IOMMU', () => kernel.ioctl(container, u.VFIO_SET_IOMMU, u.VFIO_TYPE1v2_IOMMU));
  const ram = kernel.guestRam(0x1000);
  see.call('another group: MAP_DMA', () => mapDma(kernel, container, { vaddr: ram.address, iova: IOVA, size: 0x1000 }));
  see.note('another group: its device', hex(new ConfigSpace(kernel, getDevice(kernel, group, other)).bytes(0, 4)));
}

function capabilitiesOf(config: ConfigSpace): Record<string, number> {
  const ids = { PM: 1, MSI: 5, Express: 0x10, 'MSI-X': 0x11 };
  return Object.fromEntries(
    Object.entries(ids).flatMap(([name, id]) => (config.find(id) === 0 ? [] : [[name, config.find(id)]])),
  );
}

/** The kernel knows, and waits for its user, whom it asks to go. */
const told =
  (index: number) =>
  async (kernel: Kernel, see: Observer, [address, other]: string[]): Promise<void> => {
    const used = inUse(kernel, address!, index);
    const cdev = cdevOf(kernel, address!);
    const capabilities = capabilitiesOf(used.config);
    const slot = new Slot(kernel, address!);
    slot.pull();
    see.note('asked to go', (await awaited(kernel, used.request)) > 0);
    see.note('ERR', taken(kernel, used.error));
    see.note('a card in the slot', slot.presence.present);
    askEverybody(kernel, under(see, 'everybody'), address!, cdev);
    askDevice(kernel, under(see, 'device'), used);
    see.call('GET_DEVICE_FD', () => getDevice(kernel, used.group, address!));
    see.call('DEVICE_RESET', () => kernel.ioctl(used.device, u.VFIO_DEVICE_RESET));
    see.call('PCI_HOT_RESET', () =>
      kernel.ioctl(used.device, u.VFIO_DEVICE_PCI_HOT_RESET, join(u32s(16, 0, 1), s32(used.group)), UNSAFE),
    );
    askBar(kernel, under(see, 'BAR 0'), used);
    askConfig(under(see, 'config'), used.config, capabilities);
    askIrqs(kernel, under(see, 'SET_IRQS'), used);
    askContainer(kernel, under(see, 'container'), used);
    await letGo(kernel, under(see, 'let go'), used, other!);
  };

/** Nobody has told the kernel: registers read as all ones, and it believes them. */
const untold =
  (index: number) =>
  async (kernel: Kernel, see: Observer, [address, other]: string[]): Promise<void> => {
    const used = inUse(kernel, address!, index);
    const cdev = cdevOf(kernel, address!);
    const capabilities = capabilitiesOf(used.config);
    const slot = new Slot(kernel, address!);
    slot.pullQuietly();
    see.note('a card in the slot', slot.presence);
    askEverybody(kernel, under(see, 'everybody'), address!, cdev);
    askDevice(kernel, under(see, 'device'), used);
    askBar(kernel, under(see, 'BAR 0'), used);
    askConfig(under(see, 'config'), used.config, capabilities);
    askIrqs(kernel, under(see, 'SET_IRQS'), used);
    askContainer(kernel, under(see, 'container'), used);
    see.note('nobody asked it to go', taken(kernel, used.request));
    slot.tell();
    see.note('told: asked to go', (await awaited(kernel, used.request)) > 0);
    see.note('told: ERR', taken(kernel, used.error));
    await letGo(kernel, under(see, 'let go'), used, other!);
  };

/** Resets of a device that is gone fail, after the kernel has waited for it; closed and opened again before the kernel knows, it is none any more. */
async function untoldResets(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const { container, group, device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const slot = new Slot(kernel, address!);
  slot.pullQuietly();
  see.call('DEVICE_RESET', () => kernel.ioctl(device, u.VFIO_DEVICE_RESET));
  see.call('PCI_HOT_RESET', () => kernel.ioctl(device, u.VFIO_DEVICE_PCI_HOT_RESET, join(u32s(16, 0, 1), s32(group)), UNSAFE));
  see.note('ids', hex(config.bytes(0, 4)));
  see.note('COMMAND', config.read16(4).toString(16));
  see.call('power_state', () => show(kernel, `${pci(address!)}/power_state`));
  see.call('sysfs reset', () => store(kernel, `${pci(address!)}/reset`, '1'));
  kernel.close(device);
  see.note('closed: in /sys', exists(kernel, pci(address!)));
  // The kernel puts it to sleep by and by.
  await pause(1000);
  const again = see.descriptor('opened again', () => getDevice(kernel, group, address!));
  const word = new Uint8Array(4);
  see.call('opened again: power_state', () => show(kernel, `${pci(address!)}/power_state`));
  see.call('opened again: pread of BAR 0', () => kernel.pread(again, word, region(0)));
  see.call('opened again: pwrite of it', () => kernel.pwrite(again, word, region(0)));
  see.call('opened again: MSI on', () => setTrigger(kernel, again, u.VFIO_PCI_MSI_IRQ_INDEX, kernel.eventfd()));
  see.call('opened again: DEVICE_RESET', () => kernel.ioctl(again, u.VFIO_DEVICE_RESET));
  see.note('opened again: ids', hex(new ConfigSpace(kernel, again).bytes(0, 4)));
  kernel.close(again);
  slot.tell();
  see.note('told: in /sys', await untilPresent(kernel, address!, false));
  see.note(
    'GET_STATUS',
    attempt(() => status(kernel, group)),
  );
  for (const fd of [group, container]) kernel.close(fd);
}

/** A function level reset of a device that is gone: the kernel looks for it for a minute, then for a second behind its bridge, and nothing is otherwise than before. */
async function untoldFlr(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const used = inUse(kernel, address!, u.VFIO_PCI_MSIX_IRQ_INDEX);
  const { config, device } = used;
  const capabilities = capabilitiesOf(used.config);
  const slot = new Slot(kernel, address!);
  slot.pullQuietly();
  see.call('reset_method', () => show(kernel, `${pci(address!)}/reset_method`));
  see.call('DEVICE_RESET', () => kernel.ioctl(device, u.VFIO_DEVICE_RESET));
  see.call('power_state', () => show(kernel, `${pci(address!)}/power_state`));
  askBar(kernel, under(see, 'BAR 0'), used);
  askConfig(under(see, 'config'), config, capabilities);
  see.call('loopback', () => setIrqs(kernel, device, { flags: TRIGGER, index: used.index, count: 1 }));
  see.note('its eventfd', taken(kernel, used.irq));
  slot.tell();
  see.note('told: asked to go', (await awaited(kernel, used.request)) > 0);
  see.call('told: DEVICE_RESET', () => kernel.ioctl(device, u.VFIO_DEVICE_RESET));
  used.bar.close();
  for (const fd of [device, used.group, used.container]) kernel.close(fd);
  see.note('closed: in /sys', await untilPresent(kernel, address!, false));
}

/** Bound and not open, or open by its node and bound to nothing. */
async function unopened(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const cdev = cdevOf(kernel, address!);
  const path = groupPath(kernel, address!);
  const group = kernel.open(path);
  see.note('GET_STATUS', status(kernel, group));
  new Slot(kernel, address!).pull();
  see.note('in /sys', await untilPresent(kernel, address!, false));
  see.note('its nodes', [exists(kernel, path), exists(kernel, cdev)]);
  see.call('GET_STATUS, without it', () => status(kernel, group));
  see.call('SET_CONTAINER', () => setContainer(kernel, group, kernel.open('/dev/vfio/vfio')));
  see.call('GET_DEVICE_FD', () => getDevice(kernel, group, address!));
}

/** Others who want to remove or find something wait with it, as long as its user does not go. */
async function othersWait(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const { container, group, device }: Opened = openDevice(kernel, address!);
  const request = kernel.eventfd(0, u.EFD_NONBLOCK);
  setTrigger(kernel, device, u.VFIO_PCI_REQ_IRQ_INDEX, request);
  new Slot(kernel, address!).pull();
  see.note('asked to go', (await awaited(kernel, request)) > 0);
  const rescan = await storeLater(kernel, '/sys/bus/pci/rescan', '1');
  await pause(200);
  see.note('rescan waits', rescan.answer === undefined);
  for (const fd of [container, group]) kernel.close(fd);
  await pause(200);
  see.note('group and container closed: rescan waits', rescan.answer === undefined);
  kernel.close(device);
  see.note('the device closed: rescan', await rescan.ended());
  see.note('in /sys', await untilPresent(kernel, address!, false));
}

export const surpriseCases: readonly Case[] = [
  withDevices('vfio/surprise/e1000e', 'Surprise removal', ['e1000e', 'second edu'], told(u.VFIO_PCI_MSI_IRQ_INDEX), SLOTS),
  withDevices('vfio/surprise/nvme', 'Surprise removal', ['nvme', 'second edu'], told(u.VFIO_PCI_MSIX_IRQ_INDEX), SLOTS),
  withDevices('vfio/surprise/edu', 'Surprise removal', ['express edu', 'second edu'], told(u.VFIO_PCI_INTX_IRQ_INDEX), SLOTS),
  withDevices(
    'vfio/surprise/untold-e1000e',
    'Surprise removal',
    ['e1000e', 'second edu'],
    untold(u.VFIO_PCI_MSIX_IRQ_INDEX),
    SLOTS,
  ),
  withDevices(
    'vfio/surprise/untold-edu',
    'Surprise removal',
    ['express edu', 'second edu'],
    untold(u.VFIO_PCI_MSI_IRQ_INDEX),
    SLOTS,
  ),
  withDevices('vfio/surprise/untold-resets of e1000e', 'Surprise removal', ['e1000e'], untoldResets, SLOTS),
  withDevices('vfio/surprise/untold-resets of edu', 'Surprise removal', ['express edu'], untoldResets, SLOTS),
  withDevices('vfio/surprise/untold-flr', 'Surprise removal', ['nvme'], untoldFlr, SLOTS),
  withDevices('vfio/surprise/unopened', 'Surprise removal', ['express edu'], unopened, SLOTS),
  withDevices('vfio/surprise/others-wait', 'Surprise removal', ['express edu'], othersWait, SLOTS),
];
