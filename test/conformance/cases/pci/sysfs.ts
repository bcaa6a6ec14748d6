/** PCI devices in /sys: what opens, what is read, what a write does, and where it is refused. */
import type { Kernel } from 'kvio';
import {
  F_GETFL,
  MAP_SHARED,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
  POLLIN,
  POLLOUT,
  POLLPRI,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
} from 'kvio/uapi';
import { type Case, define, type Needs, type Observer } from '../../case.ts';
import { UNSAFE } from '../../machine.ts';
import { exists, type Part, parts, pci, show, store } from '../../parts.ts';

type Body = (kernel: Kernel, see: Observer, directories: string[]) => void;

/** A case of these devices' directories; nothing is bound. */
export function ofDevices(name: string, section: string, which: readonly Part[], body: Body, needs: Needs = {}): Case {
  const directories = which.map((part) => pci(parts[part].at));
  return define(name, section, (kernel, see) => body(kernel, see, directories), { needs: { devices: [], pci: which, ...needs } });
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

function read(kernel: Kernel, fd: number, length: number, offset?: number): string {
  const into = new Uint8Array(length);
  const count = offset === undefined ? kernel.read(fd, into) : kernel.pread(fd, into, offset);
  return text(into.subarray(0, count));
}

function openFlags(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const attempts: [label: string, path: string, flags: number][] = [
    ['an attribute that can only be read, O_RDWR', 'vendor', O_RDWR],
    ['one that can only be read, O_WRONLY', 'vendor', O_WRONLY],
    ['one that can only be written, O_RDONLY', 'remove', O_RDONLY],
    ['one that can only be written, O_RDWR', 'remove', O_RDWR],
    ['one that can only be written, O_WRONLY', 'remove', O_WRONLY],
    ['O_DIRECTORY', 'vendor', O_DIRECTORY],
    ['O_CREAT', 'vendor', O_CREAT],
    ['O_CREAT | O_EXCL', 'vendor', O_CREAT | O_EXCL],
    ['O_TRUNC, only to be read', 'vendor', O_TRUNC],
    ['O_TRUNC', 'driver_override', O_RDWR | O_TRUNC],
    ['a slash behind it', 'vendor/', O_RDONLY],
    ['a name behind it', 'vendor/x', O_RDONLY],
    ['O_CREAT of another', 'nothing', O_CREAT | O_RDWR],
    ['O_CREAT in a directory that is not there', 'nothing/x', O_CREAT | O_RDWR],
    ['the directory', '', O_RDONLY],
    ['the directory, O_RDWR', '', O_RDWR],
    ['the directory, O_CREAT', '', O_CREAT],
    ['the directory, O_TRUNC', '', O_TRUNC],
    ['the directory, O_CREAT | O_DIRECTORY', '', O_CREAT | O_DIRECTORY],
    ['a link, O_NOFOLLOW', 'subsystem', O_NOFOLLOW],
    ['a link, O_NOFOLLOW | O_DIRECTORY', 'subsystem', O_NOFOLLOW | O_DIRECTORY],
    ['a link with a slash, O_NOFOLLOW', 'subsystem/', O_NOFOLLOW],
    ['a link, .. and back', 'subsystem/../pci/devices/0000:00:02.0/vendor', O_RDONLY],
    ['.. of where a link led to', '../0000:00:03.0/vendor', O_RDONLY],
    ['.. of the link itself', 'subsystem/0000:00:02.0', O_RDONLY],
  ];
  for (const [label, path, flags] of attempts) {
    see.call(label, () => kernel.close(kernel.open(path === '' ? edu! : `${edu}/${path}`, flags)));
  }
  see.call('O_CREAT in /proc', () => kernel.close(kernel.open('/proc/nothing', O_CREAT | O_RDWR)));
  see.call('/proc/self/fd/0, O_NOFOLLOW', () => kernel.close(kernel.open('/proc/self/fd/0', O_NOFOLLOW)));
  see.call('readdir of a file', () => kernel.readdir(`${edu}/vendor`));
  see.call('readdir of nothing', () => kernel.readdir(`${edu}/nothing`));
  see.call('readlink of a file', () => kernel.readlink(`${edu}/vendor`));
  see.call('readlink of a link with a slash', () => kernel.readlink(`${edu}/`));
}

function directory(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const fd = kernel.open(edu!, O_RDONLY | O_DIRECTORY);
  see.note('F_GETFL', kernel.fcntl(fd, F_GETFL).toString(8));
  see.note('mode', kernel.fstat(fd).mode.toString(8));
  see.note('/proc/self/fd', kernel.readlink(`/proc/self/fd/${fd}`));
  see.call('read', () => kernel.read(fd, new Uint8Array(8)));
  see.call('pread', () => kernel.pread(fd, new Uint8Array(8), 0));
  see.call('write', () => kernel.write(fd, new Uint8Array(8)));
  see.call('ioctl', () => kernel.ioctl(fd, 0x3b64, 0));
  see.call('mmap', () => kernel.mmap({ fd, length: 4096, prot: PROT_READ, view: false }));
  see.note('poll', kernel.poll([{ fd, events: POLLIN | POLLOUT | POLLPRI }]));
  see.call('a file of it, by its descriptor', () => show(kernel, `/proc/self/fd/${fd}/vendor`));
}

function reading(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const fd = kernel.open(`${edu}/vendor`, O_RDONLY);
  see.note('poll, before it was read', kernel.poll([{ fd, events: POLLIN | POLLOUT | POLLPRI }]));
  see.note('three bytes', read(kernel, fd, 3));
  see.note('poll, read', kernel.poll([{ fd, events: POLLIN | POLLOUT | POLLPRI }]));
  see.note('the next', read(kernel, fd, 100));
  see.note('at the end', read(kernel, fd, 100));
  see.note('pread in the middle', read(kernel, fd, 100, 2));
  see.note('pread behind the end', read(kernel, fd, 100, 100));
  see.note('pread of nothing', read(kernel, fd, 0, 0));
  see.call('write', () => kernel.write(fd, new Uint8Array(1)));
  see.call('ioctl', () => kernel.ioctl(fd, 0x3b64, 0));
  see.call('mmap', () => kernel.mmap({ fd, length: 4096, prot: PROT_READ, view: false }));
  see.call('ftruncate', () => kernel.ftruncate(fd, 0));
  const bytes = new Uint8Array(8);
  see.call('FIONREAD', () => kernel.ioctl(fd, 0x541b, bytes, UNSAFE));
  see.note('FIONREAD: bytes', bytes);
  see.call('FIOQSIZE', () => kernel.ioctl(fd, 0x5460, bytes, UNSAFE));
  see.note('FIOQSIZE: bytes', bytes);

  const both = kernel.open(`${edu}/driver_override`, O_RDWR);
  see.note('read, then written: the first', read(kernel, both, 3));
  see.call('the write', () => kernel.write(both, Buffer.from('abcdefghij\n')));
  see.note('read on: the position is behind', read(kernel, both, 10));
  see.note('from the start', read(kernel, both, 10, 0));
  see.note('in the middle', read(kernel, both, 10, 4));
  see.call('pwrite behind the end: a whole value', () => kernel.pwrite(both, Buffer.from('klm\n'), 100));
  see.note('read again', read(kernel, both, 10, 0));
  see.call('write of nothing', () => kernel.write(both, new Uint8Array(0)));
  see.call('ftruncate of one that can be written', () => kernel.ftruncate(both, 0));
  see.call('fallocate', () => kernel.fallocate(both, 0, 0, 10));
  kernel.write(both, Buffer.from('\n'));
  see.note('cleared', read(kernel, both, 10, 0));
}

/** What everybody reads. Interrupt numbers and addresses are the machine's. */
const files = [
  'aer_dev_correctable',
  'aer_dev_fatal',
  'aer_dev_nonfatal',
  'ari_enabled',
  'broken_parity_status',
  'class',
  'consistent_dma_mask_bits',
  'current_link_speed',
  'current_link_width',
  'd3cold_allowed',
  'device',
  'dma_mask_bits',
  'driver_override',
  'enable',
  'max_link_speed',
  'max_link_width',
  'modalias',
  'msi_bus',
  'power/control',
  'power/runtime_status',
  'power/autosuspend_delay_ms',
  'power_state',
  'reset_method',
  'revision',
  'secondary_bus_number',
  'serial_number',
  'subordinate_bus_number',
  'subsystem_device',
  'subsystem_vendor',
  'uevent',
  'vendor',
] as const;

/** Sizes and flags of the resources: where they are is up to the firmware. */
function resource(kernel: Kernel, path: string): string[] {
  return show(kernel, `${path}/resource`)
    .split('\n')
    .map((line) => {
      const [start = 0n, end = 0n, flags = 0n] = line.split(' ').map(BigInt);
      return end === 0n ? '-' : `0x${(end - start + 1n).toString(16)} 0x${flags.toString(16)}`;
    });
}

const contents =
  (names: readonly string[]): Body =>
  (kernel, see, directories) => {
    for (const [at, name] of names.entries()) {
      const path = directories[at]!;
      for (const file of files) see.call(`${name}: ${file}`, () => show(kernel, `${path}/${file}`));
      see.note(`${name}: resource`, resource(kernel, path));
      see.note(`${name}: irq is a number`, /^\d+$/.test(show(kernel, `${path}/irq`)));
    }
  };

const modes = ['config', 'driver_override', 'enable', 'remove', 'rescan', 'reset', 'reset_method', 'resource', 'resource0'];
const more = ['resource1', 'resource2', 'resource3', 'rom', 'uevent', 'vendor', 'power/control'];

const stats =
  (names: readonly string[]): Body =>
  (kernel, see, directories) => {
    for (const [at, name] of names.entries()) {
      for (const file of [...modes, ...more]) {
        see.call(`${name}: ${file}`, () => {
          const path = `${directories[at]}/${file}`;
          const fd = kernel.open(path, /^(remove|rescan|reset)$/.test(file) ? O_WRONLY : O_RDONLY);
          const { mode, size, nlink, blksize } = kernel.fstat(fd);
          kernel.close(fd);
          return [mode.toString(8), Number(size), nlink, blksize];
        });
      }
      const names = kernel.readdir(directories[at]!);
      see.note(
        `${name}: what is there`,
        [...modes, ...more, 'iommu_group', 'driver', 'subsystem', 'power'].filter((file) => names.includes(file)),
      );
    }
  };

function links(kernel: Kernel, see: Observer, directories: string[]): void {
  for (const path of directories) {
    const name = path.split('/').at(-1)!;
    see.note(name, kernel.readlink(path));
    for (const link of ['subsystem', 'driver', 'iommu_group', 'iommu']) {
      see.call(`${name}: ${link}`, () => kernel.readlink(`${path}/${link}`));
    }
  }
  see.call('the bus', () => kernel.readdir('/sys/bus/pci').sort());
  see.call('a driver', () => kernel.readdir('/sys/bus/pci/drivers/vfio-pci').sort());
}

/** Writes, and what is read afterwards; the last of each file puts it back. */
const writes: readonly (readonly [file: string, text: string])[] = [
  ['enable', 'x'],
  ['enable', '0'],
  ['enable', '1'],
  ['enable', '1\n'],
  ['enable', '0'],
  ['enable', '0x0'],
  ['enable', '-1'],
  ['msi_bus', '0'],
  ['msi_bus', 'z'],
  ['msi_bus', '1'],
  ['broken_parity_status', '5'],
  ['broken_parity_status', '0'],
  ['d3cold_allowed', '1'],
  ['d3cold_allowed', '0'],
  ['power/control', 'maybe'],
  ['power/control', 'auto'],
  ['power/control', 'on\n'],
  ['uevent', 'junk'],
  ['uevent', 'change\n'],
  ['driver_override', 'x y'],
  ['driver_override', 'ab\ncd\n'],
  ['driver_override', 'a\0b'],
  ['driver_override', '\0'],
  ['driver_override', 'x'.repeat(4095)],
  ['driver_override', 'y'.repeat(5000)],
  ['driver_override', '\n'],
];

function writing(kernel: Kernel, see: Observer, [edu]: string[]): void {
  for (const [at, [file, what]] of writes.entries()) {
    const label = `${at} ${file} ${JSON.stringify(what.length > 20 ? what.length : what)}`;
    see.call(label, () => store(kernel, `${edu}/${file}`, what));
    if (file !== 'uevent') see.note(`${label}: then`, show(kernel, `${edu}/${file}`));
  }
  see.call('driver_override, as long as may be', () => store(kernel, `${edu}/driver_override`, 'z'.repeat(4094)));
  see.note('its length', show(kernel, `${edu}/driver_override`).length);
  store(kernel, `${edu}/driver_override`, '\n');
}

const methods = ['bus', 'bus pm', 'pm pm', 'flr', 'junk', 'default', '\n', '  bus  ', 'bus\n', 'pm,bus', ''];

function resetting(kernel: Kernel, see: Observer, [e1000e, edu]: string[]): void {
  for (const what of ['1', '0', '2', 'x', '1\n']) {
    see.call(`reset ${JSON.stringify(what)}`, () => store(kernel, `${e1000e}/reset`, what));
  }
  see.call('reset of a device that cannot be', () => store(kernel, `${edu}/reset`, '1'));
  for (const method of methods) {
    see.call(`reset_method ${JSON.stringify(method)}`, () => store(kernel, `${e1000e}/reset_method`, method));
    see.note(`reset_method ${JSON.stringify(method)}: then`, show(kernel, `${e1000e}/reset_method`));
    if (method === '\n') see.call('reset without a method', () => store(kernel, `${e1000e}/reset`, '1'));
  }
  store(kernel, `${e1000e}/reset_method`, 'default');
}

function config(kernel: Kernel, see: Observer, [edu, nvme]: string[]): void {
  const fd = kernel.open(`${edu}/config`, O_RDWR);
  const bytes = new Uint8Array(8192);
  see.call('read', () => kernel.read(fd, bytes));
  see.note('ids', bytes.subarray(0, 4));
  see.call('read on', () => kernel.read(fd, bytes));
  see.call('two bytes before the end', () => kernel.pread(fd, bytes.subarray(0, 4), 254));
  see.call('at the end', () => kernel.pread(fd, bytes.subarray(0, 4), 256));
  see.call('odd offset, odd length', () => kernel.pread(fd, bytes.subarray(0, 5), 1));
  see.note('what was read', bytes.subarray(0, 5).slice(0, 2));
  const [old] = bytes.subarray(0, kernel.pread(fd, bytes.subarray(0, 1), 0x3c));
  see.call('write the interrupt line', () => kernel.pwrite(fd, Uint8Array.of(0x55), 0x3c));
  kernel.pread(fd, bytes.subarray(0, 1), 0x3c);
  see.note('the interrupt line', bytes[0]);
  kernel.pwrite(fd, Uint8Array.of(old!), 0x3c);
  see.call('write the vendor', () => kernel.pwrite(fd, Uint8Array.of(0, 0), 0));
  kernel.pread(fd, bytes.subarray(0, 2), 0);
  see.note('the vendor', bytes.subarray(0, 2));
  see.call('write over the end', () => kernel.pwrite(fd, new Uint8Array(4), 254));
  see.call('write at the end', () => kernel.pwrite(fd, new Uint8Array(4), 256));
  see.call('write nothing', () => kernel.pwrite(fd, new Uint8Array(0), 0));
  see.call('mmap', () => kernel.mmap({ fd, length: 4096, view: false }));
  const wide = kernel.open(`${nvme}/config`, O_RDONLY);
  see.call('PCIe: read', () => kernel.read(wide, bytes));
  see.call('PCIe: read on', () => kernel.read(wide, bytes));
}

function resources(kernel: Kernel, see: Observer, [edu, e1000e]: string[]): void {
  store(kernel, `${edu}/enable`, '1');
  const fd = kernel.open(`${edu}/resource0`, O_RDWR);
  const bytes = new Uint8Array(8);
  see.call('memory: read', () => kernel.pread(fd, bytes.subarray(0, 4), 0));
  see.call('memory: write', () => kernel.pwrite(fd, bytes.subarray(0, 4), 0));
  see.call('memory: read nothing', () => kernel.pread(fd, new Uint8Array(0), 0));
  see.call('memory: write nothing', () => kernel.pwrite(fd, new Uint8Array(0), 0));
  see.call('memory: read at the end', () => kernel.pread(fd, bytes, 1 << 20));
  see.call('memory: write at the end', () => kernel.pwrite(fd, bytes, 1 << 20));
  const map = (length: number, offset: number, prot = PROT_READ | PROT_WRITE): number =>
    kernel.mmap({ fd, length, offset, prot, flags: MAP_SHARED, view: false }).length;
  see.call('mmap of all', () => map(1 << 20, 0));
  see.call('mmap of the last page', () => map(4096, (1 << 20) - 4096));
  see.call('mmap behind it', () => map(4096, 1 << 20));
  see.call('mmap of more', () => map((1 << 20) + 4096, 0));
  see.call('mmap over the end', () => map(8192, (1 << 20) - 4096));
  see.call('mmap, PROT_EXEC', () => map(4096, 0, PROT_READ | PROT_WRITE | PROT_EXEC));
  const memory = kernel.mmap({ fd, length: 4096, view: false });
  see.note('the identity of edu', memory.read32(0));
  memory.write32(4, 0x1234_5678);
  see.note('its liveness check', memory.read32(4));
  store(kernel, `${edu}/enable`, '0');

  store(kernel, `${e1000e}/enable`, '1');
  const ports = kernel.open(`${e1000e}/resource2`, O_RDWR);
  for (const [length, offset] of [
    [1, 0],
    [2, 0],
    [4, 0],
    [8, 0],
    [3, 0],
    [4, 1],
    [4, 30],
    [4, 32],
    [4, 28],
  ] as const) {
    see.call(`ports: read ${length} at ${offset}`, () => kernel.pread(ports, bytes.subarray(0, length), offset));
  }
  see.call('ports: mmap', () => kernel.mmap({ fd: ports, length: 4096, view: false }));
  store(kernel, `${e1000e}/enable`, '0');
}

function group(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const path = `${edu}/iommu_group`;
  see.note('what is there', kernel.readdir(path).sort());
  see.note('devices', kernel.readdir(`${path}/devices`));
  see.note('reserved_regions', show(kernel, `${path}/reserved_regions`).split('\n'));
  const before = show(kernel, `${path}/type`);
  see.note('type', before);
  const types = ['junk', '', 'DMA', 'identity', 'DMA-FQ', 'identity\n', 'DMA', 'auto', 'blocked'];
  for (const [at, type] of types.entries()) {
    see.call(`${at} type ${JSON.stringify(type)}`, () => store(kernel, `${path}/type`, type));
    see.note(`${at} then`, show(kernel, `${path}/type`));
  }
}

function removed(kernel: Kernel, see: Observer, [testdev]: string[]): void {
  const vendor = kernel.open(`${testdev}/vendor`, O_RDONLY);
  const directory = kernel.open(testdev!, O_RDONLY);
  const group = `${testdev}/iommu_group`;
  const groupPath = exists(kernel, group) ? `/sys/kernel/iommu_groups/${kernel.readlink(group).split('/').at(-1)}` : undefined;
  see.call('remove 0', () => store(kernel, `${testdev}/remove`, '0'));
  see.note('it is there', exists(kernel, testdev!));
  see.call('remove x', () => store(kernel, `${testdev}/remove`, 'x'));
  see.call('remove 1', () => store(kernel, `${testdev}/remove`, '1\n'));
  see.note('it is gone', exists(kernel, testdev!));
  see.call('an open file of it', () => kernel.pread(vendor, new Uint8Array(8), 0));
  see.note('poll', kernel.poll([{ fd: vendor, events: POLLIN | POLLOUT | POLLPRI }]));
  see.note('its path', kernel.readlink(`/proc/self/fd/${vendor}`));
  see.note('its links', kernel.fstat(vendor).nlink);
  see.note('the links of its directory', kernel.fstat(directory).nlink);
  if (groupPath !== undefined) see.note('its group is gone', !exists(kernel, groupPath));
  see.call('rescan x', () => store(kernel, '/sys/bus/pci/rescan', 'x'));
  see.call('rescan 0', () => store(kernel, '/sys/bus/pci/rescan', '0'));
  see.note('it is still gone', exists(kernel, testdev!));
  see.call('rescan 1', () => store(kernel, '/sys/bus/pci/rescan', '1'));
  see.note('it is back', exists(kernel, testdev!));
  see.call('the open file', () => kernel.pread(vendor, new Uint8Array(8), 0));
  see.call('rescan of a device', () => store(kernel, `${testdev}/rescan`, '1'));
}

const booleans = ['y', 'N', '1', '0', 'on', 'off', 't', 'false', 'x', 'Y\n', 'nonsense', 'o', '0\n'];
const integers = ['10', '0x20', '010', '-1', '+7', '4294967295', '4294967296', '12x', '  5', '5\n', '65535'];

function parameters(kernel: Kernel, see: Observer): void {
  const set = (path: string, values: readonly string[], last: string): void => {
    const name = path.split('/').at(-1)!;
    for (const value of values) {
      see.call(`${name} ${JSON.stringify(value)}`, () => store(kernel, path, value));
      see.note(`${name} ${JSON.stringify(value)}: then`, show(kernel, path));
    }
    store(kernel, path, last);
  };
  set('/sys/module/vfio_pci/parameters/nointxmask', booleans, 'N');
  set('/sys/module/vfio_iommu_type1/parameters/dma_entry_limit', integers, '65535');
  see.call('one that cannot be written', () => store(kernel, '/sys/module/vfio_pci/parameters/disable_denylist', 'Y'));
  for (const module of ['vfio', 'vfio_iommu_type1', 'vfio_pci', 'iommufd']) {
    see.call(module, () => kernel.readdir(`/sys/module/${module}/parameters`).sort());
  }
}

function proc(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const fd = kernel.open(`${edu}/vendor`, O_RDONLY);
  read(kernel, fd, 3);
  const lines = show(kernel, `/proc/self/fdinfo/${fd}`).split('\n');
  see.note('fdinfo', lines.slice(0, 2));
  see.note(
    'fdinfo: the names',
    lines.map((line) => line.split(':')[0]!),
  );
  const devices = kernel.open('/proc/devices', O_RDWR);
  see.call('/proc/devices can be opened for writing', () => kernel.write(devices, new Uint8Array(1)));
  see.note('its size', Number(kernel.fstat(devices).size));
  see.note('its mode', kernel.fstat(devices).mode.toString(8));
  const names = show(kernel, '/proc/devices').split('\n');
  see.note('its first line', names[0]);
  see.note(
    'VFIO is there',
    ['vfio', 'vfio-dev'].map((name) => names.filter((line) => line.endsWith(` ${name}`)).length),
  );
  see.note(
    'misc',
    names.find((line) => line.endsWith(' misc')),
  );
  see.note(
    '/proc/misc knows vfio',
    show(kernel, '/proc/misc')
      .split('\n')
      .find((line) => line.endsWith(' vfio')),
  );
  see.note('tainted is a number', /^\d+$/.test(show(kernel, '/proc/sys/kernel/tainted')));
}

const ALL = ['edu', 'nvme', 'e1000e', 'testdev', 'root port'] as const;
const ASSISTED: Needs = { iommu: true };

export const sysfsCases: readonly Case[] = [
  ofDevices('pci/sysfs/open', 'PCI devices in sysfs', ['edu', 'second edu'], openFlags),
  ofDevices('pci/sysfs/directory', 'PCI devices in sysfs', ['edu'], directory),
  ofDevices('pci/sysfs/read', 'PCI devices in sysfs', ['edu'], reading),
  ofDevices('pci/sysfs/contents', 'PCI devices in sysfs', ALL, contents(ALL)),
  ofDevices('pci/sysfs/stat', 'PCI devices in sysfs', ALL, stats(ALL)),
  ofDevices('pci/sysfs/links', 'PCI devices in sysfs', ['edu', 'nvme', 'root port'], links),
  ofDevices('pci/sysfs/write', 'PCI devices in sysfs', ['edu'], writing),
  ofDevices('pci/sysfs/reset', 'PCI devices in sysfs', ['e1000e', 'edu'], resetting),
  ofDevices('pci/sysfs/config', 'PCI devices in sysfs', ['edu', 'nvme'], config),
  ofDevices('pci/sysfs/resource', 'PCI devices in sysfs', ['edu', 'e1000e'], resources),
  ofDevices('pci/sysfs/group', 'PCI devices in sysfs', ['edu'], group, ASSISTED),
  ofDevices('pci/sysfs/remove', 'PCI devices in sysfs', ['testdev'], removed),
  ofDevices('pci/sysfs/parameters', 'PCI devices in sysfs', ['edu'], parameters, { devices: ['/dev/vfio/vfio'] }),
  ofDevices('pci/sysfs/proc', 'PCI devices in sysfs', ['edu'], proc, { devices: ['/dev/vfio/vfio'] }),
];
