/** The files of a slot whose hot-plug controller the kernel drives, and a slot that is turned off: empty, under a driver, under a device somebody has open. */
import type { Kernel } from 'kvio';
import * as u from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { storeLater } from '../../later.ts';
import { driverOf, exists, link, pci, show, store } from '../../parts.ts';
import { nobody, SLOTS, Slot, slotDirectory, untilPresent } from '../../slot.ts';
import { awaited, ConfigSpace, cdevOf, getDevice, mapRegion, openDevice, setTrigger, status, withDevices } from '../../vfio.ts';

const section = 'Slots';

const pause = (milliseconds = 50): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** The files, and what may be done to them. */
function files(kernel: Kernel, see: Observer, [address]: string[]): void {
  const directory = slotDirectory(kernel, address!)!;
  const names = kernel.readdir(directory).sort();
  see.note('files', names);
  see.note('address', show(kernel, `${directory}/address`));
  for (const name of names) {
    const path = `${directory}/${name}`;
    const target = link(kernel, path);
    if (target !== undefined) {
      see.note(`${name}, a link to`, target);
      continue;
    }
    const fd = kernel.open(path, u.O_RDONLY);
    see.note(`${name}: mode`, (kernel.fstat(fd).mode & 0o7777).toString(8));
    kernel.close(fd);
    if (name !== 'address') see.note(name, show(kernel, path));
    see.call(`${name}: opened to write`, () => {
      kernel.close(kernel.open(path, u.O_WRONLY));
      return 'done';
    });
  }
  see.note('the port’s slot', new Slot(kernel, address!).lamps);
}

const ATTENTION = [
  '1',
  '2\n',
  '3',
  '0',
  '4',
  '5',
  '6',
  '255',
  '256',
  '257',
  '18446744073709551617',
  '0x1',
  '010',
  '+1',
  '-1',
  ' 1',
  '1 2',
  'x',
  '\n',
  '',
];

/** simple_strtoul with base 10, of which eight bits are used. */
function attention(kernel: Kernel, see: Observer, [address]: string[]): void {
  const path = `${slotDirectory(kernel, address!)}/attention`;
  const slot = new Slot(kernel, address!);
  const before = show(kernel, path);
  for (const text of ATTENTION) {
    store(kernel, path, '2');
    see.call(`${JSON.stringify(text)} written`, () => store(kernel, path, text));
    see.note(`${JSON.stringify(text)}: attention`, [show(kernel, path), slot.lamps]);
  }
  store(kernel, path, before);
  see.note('as before', show(kernel, path) === before);
}

function look(kernel: Kernel, see: Observer, directory: string, slot: Slot, label: string): void {
  const read = (name: string): string => show(kernel, `${directory}/${name}`);
  see.note(label, {
    power: read('power'),
    adapter: read('adapter'),
    attention: read('attention'),
    lamps: slot.lamps,
    ...slot.presence,
  });
}

/** Off, with a driver that lets go at once: the card goes. Neither off nor on is for a slot without one. */
async function off(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const directory = slotDirectory(kernel, address!)!;
  const slot = new Slot(kernel, address!);
  const power = (text: string): number => store(kernel, `${directory}/power`, text);
  look(kernel, see, directory, slot, 'on');
  for (const text of ['1', '257', '2', '255', '1x']) see.call(`${JSON.stringify(text)}, it is on`, () => power(text));
  see.call('"0"', () => power('0'));
  see.note('in /sys', exists(kernel, pci(address!)));
  look(kernel, see, directory, slot, 'off');
  for (const text of ['0', 'x', '256', '1', '2', '18446744073709551616', '18446744073709551617'])
    see.call(`${JSON.stringify(text)}, it is off`, () => power(text));
  see.call('rescan', () => store(kernel, '/sys/bus/pci/rescan', '1'));
  see.note('rescan: in /sys', exists(kernel, pci(address!)));
  see.note('attention of an empty slot', [store(kernel, `${directory}/attention`, '1'), show(kernel, `${directory}/attention`)]);
  store(kernel, `${directory}/attention`, '0');
}

/** Text that is no number is 0. */
function offByText(kernel: Kernel, see: Observer, [address]: string[]): void {
  const directory = slotDirectory(kernel, address!)!;
  see.call('"-1"', () => store(kernel, `${directory}/power`, '-1'));
  see.note('in /sys', exists(kernel, pci(address!)));
}

/** Off, and somebody has the device: whoever writes waits for him, who is asked to go, and has all of the device meanwhile. */
async function offInUse(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const directory = slotDirectory(kernel, address!)!;
  const slot = new Slot(kernel, address!);
  const { container, group, device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  config.enable();
  const cdev = cdevOf(kernel, address!);
  const bar = mapRegion(kernel, device, 0);
  const request = kernel.eventfd(0, u.EFD_NONBLOCK);
  setTrigger(kernel, device, u.VFIO_PCI_REQ_IRQ_INDEX, request);
  const later = await storeLater(kernel, `${directory}/power`, '0');
  see.note('asked to go', (await awaited(kernel, request)) > 0);
  see.note('who writes waits', later.answer === undefined);
  look(kernel, see, directory, slot, 'meanwhile');
  for (const text of ['0', '1', '2']) see.call(`"${text}", meanwhile`, () => store(kernel, `${directory}/power`, text));
  see.note('attention, meanwhile', [store(kernel, `${directory}/attention`, '1'), show(kernel, `${directory}/attention`)]);
  store(kernel, `${directory}/attention`, '0');
  see.note('in /sys', exists(kernel, pci(address!)));
  see.note('its driver', driverOf(kernel, address!) ?? 'none');
  see.note('its node', exists(kernel, cdev));
  see.note('the device answers', [config.read32(0).toString(16), nobody(bar.read32(0))]);
  see.call('DEVICE_RESET', () => kernel.ioctl(device, u.VFIO_DEVICE_RESET));
  see.call('GET_DEVICE_FD', () => getDevice(kernel, group, address!));
  see.call('GET_STATUS', () => status(kernel, group));
  for (const fd of [device, container]) kernel.close(fd);
  await pause();
  see.note('closed, a mapping left: who writes waits', later.answer === undefined);
  bar.close();
  see.note('unmapped: who writes', await later.ended());
  see.note('in /sys, afterwards', await untilPresent(kernel, address!, false));
  look(kernel, see, directory, slot, 'off');
  see.call('GET_STATUS, afterwards', () => status(kernel, group));
}

/** Off, and the device is pulled out while its user is waited for: nobody is told, it answers no more. */
async function pulledMeanwhile(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const directory = slotDirectory(kernel, address!)!;
  const slot = new Slot(kernel, address!);
  const { container, group, device } = openDevice(kernel, address!);
  const bar = mapRegion(kernel, device, 0);
  const request = kernel.eventfd(0, u.EFD_NONBLOCK);
  setTrigger(kernel, device, u.VFIO_PCI_REQ_IRQ_INDEX, request);
  const later = await storeLater(kernel, `${directory}/power`, '0');
  see.note('asked to go', (await awaited(kernel, request)) > 0);
  slot.pull();
  await pause();
  look(kernel, see, directory, slot, 'pulled');
  see.note('who writes waits', later.answer === undefined);
  see.note('the device', [new ConfigSpace(kernel, device).read32(0).toString(16), nobody(bar.read32(0))]);
  bar.close();
  for (const fd of [device, group, container]) kernel.close(fd);
  see.note('closed: who writes', await later.ended());
  see.note('in /sys', await untilPresent(kernel, address!, false));
  look(kernel, see, directory, slot, 'afterwards');
}

/** The power is off, and the kernel has not turned it off: it is told that it has, and goes on to list the device. */
async function offUntold(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const directory = slotDirectory(kernel, address!)!;
  const slot = new Slot(kernel, address!);
  slot.pullQuietly();
  look(kernel, see, directory, slot, 'pulled, untold');
  see.call('off', () => store(kernel, `${directory}/power`, '0'));
  see.note('in /sys', exists(kernel, pci(address!)));
  see.note('its driver', driverOf(kernel, address!) ?? 'none');
  see.call('off, again', () => store(kernel, `${directory}/power`, '0'));
  see.call('on', () => store(kernel, `${directory}/power`, '1'));
  slot.listen();
  await pause();
  see.note('told: in /sys', exists(kernel, pci(address!)));
  look(kernel, see, directory, slot, 'told');
  see.call('remove', () => store(kernel, `${pci(address!)}/remove`, '1'));
  see.note('removed: in /sys', exists(kernel, pci(address!)));
}

const EDU = ['express edu'] as const;

export const slotCases: readonly Case[] = [
  withDevices('vfio/slots/files', section, EDU, files, SLOTS),
  withDevices('vfio/slots/files of nvme', section, ['nvme'], files, SLOTS),
  withDevices('vfio/slots/attention', section, EDU, attention, SLOTS),
  withDevices('vfio/slots/off', section, EDU, off, SLOTS),
  withDevices('vfio/slots/off-by-text', section, ['e1000e'], offByText, SLOTS),
  withDevices('vfio/slots/off-in-use', section, EDU, offInUse, SLOTS),
  withDevices('vfio/slots/off-in-use of nvme', section, ['nvme'], offInUse, SLOTS),
  withDevices('vfio/slots/pulled-meanwhile', section, EDU, pulledMeanwhile, SLOTS),
  withDevices('vfio/slots/off-untold', section, EDU, offUntold, SLOTS),
];
