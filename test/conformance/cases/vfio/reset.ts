/** DEVICE_RESET and hot reset: who can, whom it takes along, and what is left afterwards. */
import type { Kernel } from 'kvio';
import {
  EFD_NONBLOCK,
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
  VFIO_DEVICE_PCI_HOT_RESET,
  VFIO_DEVICE_RESET,
} from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { UNSAFE } from '../../machine.ts';
import { hardware16, type Part, pci, show, store } from '../../parts.ts';
import {
  ASSISTED,
  attempt,
  awaited,
  ConfigSpace,
  cdevOf,
  getDevice,
  groupOf,
  join,
  mapRegion,
  NOWHERE,
  openDevice,
  openGroup,
  region,
  s32,
  setIrqs,
  setTrigger,
  u32s,
  view,
  withDevices,
} from '../../vfio.ts';

const COMMAND = 4;

function reset(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const info = u32s(24, 0, 0, 0, 0, 0);
  kernel.ioctl(device, VFIO_DEVICE_GET_INFO, info);
  see.note('GET_INFO: flags', view(info).getUint32(4, true));
  see.call('reset_method', () => show(kernel, `${pci(address!)}/reset_method`));
  see.call('DEVICE_RESET', () => kernel.ioctl(device, VFIO_DEVICE_RESET));
  see.call('DEVICE_RESET, with an argument', () => kernel.ioctl(device, VFIO_DEVICE_RESET, 1, UNSAFE));
  const config = new ConfigSpace(kernel, device);
  config.write16(COMMAND, 0x7);
  const bar = mapRegion(kernel, device, 0);
  config.write32(0x10, 0xfffff000);
  config.put(0x3c, 0x55);
  see.call('DEVICE_RESET, again', () => kernel.ioctl(device, VFIO_DEVICE_RESET));
  see.note('COMMAND', config.read16(COMMAND).toString(16));
  see.note('BAR 0, as written', config.read32(0x10).toString(16));
  see.note('interrupt line, as written', config.read8(0x3c));
  see.note(
    'the mapping',
    attempt(() => (bar.read32(0) === undefined ? 1 : 0)),
  );
  config.write16(COMMAND, 0);
  see.call('DEVICE_RESET with decoding off', () => kernel.ioctl(device, VFIO_DEVICE_RESET));
  see.note('COMMAND, afterwards', config.read16(COMMAND).toString(16));
  see.note(
    'the mapping, afterwards',
    attempt(() => (bar.read32(0) === undefined ? 1 : 0)),
  );
}

/** GET_PCI_HOT_RESET_INFO: the entries with group ids as relations. */
function hotInfo(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const group = Number(groupOf(kernel, address!));
  const ask = (label: string, argsz: number): void => {
    const bytes = new Uint8Array(256).fill(0xee);
    bytes.set(u32s(argsz, 0xffffffff, 0xffffffff));
    see.call(`INFO, ${label}`, () => kernel.ioctl(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, bytes, UNSAFE));
    const data = view(bytes);
    see.note(
      `${label}: argsz, flags, count`,
      [0, 4, 8].map((at) => data.getUint32(at, true)),
    );
    const count = data.getUint32(8, true);
    const entries = Array.from({ length: Math.min(4, count === 0xffffffff ? 0 : count) }, (_, n) => 12 + 8 * n);
    see.note(
      `${label}: entries`,
      entries.map((at) => ({
        id:
          data.getUint32(at, true) === group ? 'its group' : data.getUint32(at, true) === 0xeeeeeeee ? 'not written' : 'another',
        segment: data.getUint16(at + 4, true),
        bus: data.getUint8(at + 6),
        devfn: data.getUint8(at + 7),
      })),
    );
  };
  see.call('INFO, pointer 0', () => kernel.ioctl(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, 0, UNSAFE));
  for (const argsz of [0, 11, 12, 19, 20, 27, 28, 256]) ask(`argsz ${argsz}`, argsz);
}

const hot = (kernel: Kernel, device: number, argsz: number, flags: number, count: number, ...fds: number[]): number =>
  kernel.ioctl(device, VFIO_DEVICE_PCI_HOT_RESET, join(u32s(argsz, flags, count), s32(...fds, 0, 0)), UNSAFE);

function hotReset(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { container, group, device } = openDevice(kernel, address!);
  see.call('HOT_RESET, pointer 0', () => kernel.ioctl(device, VFIO_DEVICE_PCI_HOT_RESET, 0, UNSAFE));
  see.call('a pointer to nowhere', () => kernel.ioctl(device, VFIO_DEVICE_PCI_HOT_RESET, NOWHERE, UNSAFE));
  const ask = (label: string, ...args: [argsz: number, flags: number, count: number, ...fds: number[]]): unknown =>
    see.call(label, () => hot(kernel, device, ...args));
  ask('argsz 0', 0, 0, 1, group);
  ask('argsz 11', 11, 0, 1, group);
  ask('flags 1', 16, 1, 1, group);
  ask('count 0', 12, 0, 0);
  ask('count 100', 16, 0, 100, group);
  ask('count of more than there are devices', 24, 0, 3, group, group, group);
  ask('a number nobody has', 16, 0, 1, 999);
  ask('a negative number', 16, 0, 1, -1);
  ask('an eventfd', 16, 0, 1, kernel.eventfd());
  ask('the container', 16, 0, 1, container);
  ask('the device', 16, 0, 1, device);
  ask('argsz 12: the descriptors are read all the same', 12, 0, 1, group);
  ask('the group', 16, 0, 1, group);
}

/** What a user finds after a hot reset: configuration, mapping and interrupts are his. */
async function afterHotReset(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const { group, device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  config.write16(COMMAND, 0x406);
  config.write32(0x10, 0xfffff000);
  const bar = mapRegion(kernel, device, 0);
  const eventfd = kernel.eventfd(0, EFD_NONBLOCK);
  see.call('SET_IRQS, MSI-X', () => setTrigger(kernel, device, 2, eventfd));
  see.call('HOT_RESET', () => hot(kernel, device, 16, 0, 1, group));
  see.note('COMMAND', config.read16(COMMAND).toString(16));
  see.note('BAR 0, as written', config.read32(0x10).toString(16));
  see.note(
    'the mapping',
    attempt(() => (bar.read32(0) === undefined ? 1 : 0)),
  );
  see.call('NONE count 1', () => setIrqs(kernel, device, { flags: 0x21, index: 2, count: 1 }));
  see.note('signalled', await awaited(kernel, eventfd, 1000));
  const other = getDevice(kernel, group, address!);
  see.call('through another descriptor of the device', () => hot(kernel, other, 16, 0, 1, group));
  const copy = kernel.dup(group);
  see.call('a dup of the group', () => hot(kernel, device, 16, 0, 1, copy));
}

/** Two functions: both must be bound, one group descriptor is enough. */
function together(kernel: Kernel, see: Observer, [edu, testdev]: string[]): void {
  const { group } = openGroup(kernel, edu!);
  const device = getDevice(kernel, group, edu!);
  const bytes = new Uint8Array(64);
  bytes.set(u32s(64));
  see.call('INFO', () => kernel.ioctl(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, bytes));
  const data = view(bytes);
  see.note('count', data.getUint32(8, true));
  see.note(
    'devfns',
    [19, 27].map((at) => data.getUint8(at)),
  );
  see.note('one group', data.getUint32(12, true) === data.getUint32(20, true));
  see.call('the group', () => hot(kernel, device, 16, 0, 1, group));
  see.call('the group twice', () => hot(kernel, device, 20, 0, 2, group, group));
  see.call('three times', () => hot(kernel, device, 24, 0, 3, group, group, group));
  const other = getDevice(kernel, group, testdev!);
  const bar = mapRegion(kernel, other, 0);
  see.call('the other opened, too', () => hot(kernel, device, 16, 0, 1, group));
  see.note(
    'its mapping',
    attempt(() => (bar.read32(0) === undefined ? 1 : 0)),
  );
  see.call('by the other', () => hot(kernel, other, 16, 0, 1, group));
}

function halfBound(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { group } = openGroup(kernel, edu!);
  const device = getDevice(kernel, group, edu!);
  const bytes = new Uint8Array(64);
  bytes.set(u32s(64));
  see.call('INFO', () => kernel.ioctl(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, bytes));
  see.note('count', view(bytes).getUint32(8, true));
  see.call('HOT_RESET: the other is not bound', () => hot(kernel, device, 16, 0, 1, group));
}

/** CAP, VS, INTMS, CC, CSTS, AQA, ASQ, ACQ. */
const NVME = [0, 4, 8, 0xc, 0x14, 0x1c, 0x24, 0x28, 0x2c, 0x30, 0x34] as const;
const MSIX_TABLE = 0x2000;

/** What an NVMe controller forgets, by each way to reset it: its registers, the table of MSI-X, and what configuration space has of its own. */
function registersAfter(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { group, device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const [express, msix, pm] = [0x10, 0x11, 0x01].map((id) => config.find(id)) as [number, number, number];
  const bar = mapRegion(kernel, device, 0);
  const registers = (): string => NVME.map((at) => bar.read32(at).toString(16)).join(' ');
  const table = (): string => [0, 4, 8, 12].map((at) => bar.read32(MSIX_TABLE + at).toString(16)).join(' ');
  const hardware = (): string =>
    [COMMAND, express + 8, express + 0x10, express + 0x28, msix + 2, pm + 4]
      .map((at) => hardware16(kernel, address!, at).toString(16))
      .join(' ');
  const ways: readonly (readonly [name: string, reset: () => number])[] = [
    ['DEVICE_RESET', () => kernel.ioctl(device, VFIO_DEVICE_RESET)],
    ['sysfs reset', () => store(kernel, `${pci(address!)}/reset`, '1')],
    ['the FLR bit of Device Control', () => config.write16(express + 8, config.read16(express + 8) | 0x8000)],
    ['PCI_HOT_RESET', () => hot(kernel, device, 16, 0, 1, group)],
    ['D3hot and back', () => config.write16(pm + 4, 3) + config.write16(pm + 4, 0)],
  ];
  for (const [name, reset] of ways) {
    config.write16(COMMAND, 0x6);
    config.write16(express + 8, 0x2810);
    for (const [at, value] of [
      [0xc, 5],
      [0x24, 0x1f_001f],
      [0x28, 0x10_0000],
      [0x2c, 1],
      [0x30, 0x20_0000],
      [0x34, 2],
    ] as const)
      bar.write32(at, value);
    for (const [at, value] of [
      [0, 0xfee0_0000],
      [4, 0],
      [8, 0x4141],
      [12, 1],
    ] as const)
      bar.write32(MSIX_TABLE + at, value);
    bar.write32(0x14, 0x46_0001);
    for (const end = Date.now() + 20_000; (bar.read32(0x1c) & 1) === 0 && Date.now() < end; );
    see.note(`${name}: before`, [registers(), table(), hardware()]);
    see.call(name, reset);
    see.note(`${name}: registers`, registers());
    see.note(`${name}: table`, table());
    see.note(`${name}: configuration`, hardware());
    see.note(`${name}: Device Control as VFIO has it`, config.read16(express + 8).toString(16));
    bar.write32(0x14, 0);
  }
}

/** Userspace resets a device of VFIO's by /sys, and keeps it awake: one that sleeps, and one that is open. */
async function bySysfs(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const file = (name: string): string => `${pci(address!)}/${name}`;
  const power = async (): Promise<string[]> => {
    await new Promise((resolve) => setTimeout(resolve, 200)); // whoever puts a device to sleep does so in a while
    return ['power_state', 'power/runtime_status', 'power/control'].map((name) => show(kernel, file(name)));
  };
  const stores: readonly (readonly [what: string, file: string, text: string])[] = [
    ['asleep, reset', 'reset', '1'],
    ['asleep, 2 to reset', 'reset', '2'],
    ['kept awake', 'power/control', 'on'],
    ['awake, reset', 'reset', '1'],
    ['let sleep', 'power/control', 'auto'],
  ];
  see.note('not open', await power());
  for (const [what, name, text] of stores) {
    see.call(what, () => store(kernel, file(name), text));
    see.note(`${what}: then`, await power());
  }
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  see.note('open', await power());
  config.write16(COMMAND, 6);
  config.write32(0x10, 0xfffff000);
  see.call('open: reset', () => store(kernel, file('reset'), '1'));
  see.note('open: then', [...(await power()), config.read16(COMMAND).toString(16), config.read32(0x10).toString(16)]);
  see.note('open: COMMAND as hardware has it', hardware16(kernel, address!, COMMAND).toString(16));
  see.note(
    'open: its BAR',
    attempt(() => kernel.pread(device, new Uint8Array(4), region(0))),
  );
  kernel.close(device);
}

/** A cdev that is not bound is asked in vain. */
function unbound(kernel: Kernel, see: Observer, [address]: string[]): void {
  const device = kernel.open(cdevOf(kernel, address!));
  see.call('DEVICE_RESET', () => kernel.ioctl(device, VFIO_DEVICE_RESET));
  see.call('HOT_RESET', () => hot(kernel, device, 12, 0, 0));
  see.call('read', () => kernel.pread(device, new Uint8Array(4), region(7)));
}

const each = (
  what: string,
  of: readonly Part[],
  body: (kernel: Kernel, see: Observer, addresses: string[]) => void | Promise<void>,
) => of.map((part) => withDevices(`vfio/reset/${what} of ${part.replace(' ', '-')}`, 'Reset', [part], body));

export const resetCases: readonly Case[] = [
  ...each('reset', ['edu', 'nvme', 'e1000e', 'testdev', 'shared edu'], reset),
  ...each('hot-reset-info', ['edu', 'nvme', 'e1000e', 'shared edu'], hotInfo),
  ...each('hot-reset', ['edu', 'nvme', 'e1000e'], hotReset),
  ...each('after-hot-reset', ['nvme', 'e1000e'], afterHotReset),
  withDevices('vfio/reset/registers of nvme', 'Reset', ['nvme'], registersAfter),
  withDevices('vfio/reset/hot-reset of two', 'Reset', ['shared edu', 'shared testdev'], together, ASSISTED),
  withDevices('vfio/reset/hot-reset of half', 'Reset', ['shared edu'], halfBound),
  ...each('by-sysfs', ['edu', 'nvme', 'e1000e', 'xhci'], bySysfs),
  withDevices('vfio/reset/unbound', 'Reset', ['nvme'], unbound, ASSISTED),
];
