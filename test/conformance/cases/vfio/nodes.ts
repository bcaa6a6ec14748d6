/** /dev/vfio: what opens, how often, and what a generic file call answers on each kind of descriptor. */
import type { Kernel } from 'kvio';
import {
  F_GETFD,
  F_GETFL,
  MAP_PRIVATE,
  MAP_SHARED,
  O_RDONLY,
  POLLIN,
  POLLOUT,
  PROT_READ,
  VFIO_DEVICE_GET_INFO,
  VFIO_GET_API_VERSION,
} from 'kvio/uapi';
import { type Case, define, type Observer } from '../../case.ts';
import { UNSAFE } from '../../machine.ts';
import { link, pci, show } from '../../parts.ts';
import { ASSISTED, cdevOf, groupOf, groupPath, openDevice, region, u32s, vfioName, withDevices } from '../../vfio.ts';

const S_IFMT = 0o170000;

const node = (kernel: Kernel, path: string, flags = O_RDONLY) => {
  const fd = kernel.open(path, flags);
  const { mode, rdev } = kernel.fstat(fd);
  kernel.close(fd);
  const [major, minor] = [Number((rdev >> 8n) & 0xfffn), Number((rdev & 0xffn) | ((rdev >> 12n) & 0xfff00n))];
  return { kind: (mode & S_IFMT).toString(8), permissions: (mode & 0o777).toString(8), major, minor };
};

function containerNode(kernel: Kernel, see: Observer): void {
  see.call('/dev/vfio/vfio', () => node(kernel, '/dev/vfio/vfio'));
  see.note('sysfs says', show(kernel, '/sys/class/misc/vfio/dev'));
  see.call('/dev/vfio itself cannot be opened for writing', () => kernel.open('/dev/vfio'));
  see.call('/dev/vfio/99', () => kernel.open('/dev/vfio/99'));
  see.call('/dev/vfio/devices/vfio99', () => kernel.open('/dev/vfio/devices/vfio99'));
  const one = see.descriptor('open', () => kernel.open('/dev/vfio/vfio'));
  see.descriptor('open again: another container', () => kernel.open('/dev/vfio/vfio'));
  see.descriptor('read-only', () => kernel.open('/dev/vfio/vfio', O_RDONLY));
  see.call('ioctl on a read-only one', () => kernel.ioctl(kernel.open('/dev/vfio/vfio', O_RDONLY), VFIO_GET_API_VERSION));
  see.note('F_GETFL', kernel.fcntl(one, F_GETFL) & 3);
}

function groupNode(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const path = groupPath(kernel, edu!);
  const { major, minor, ...modes } = node(kernel, path);
  see.note('the group', modes);
  const group = groupOf(kernel, edu!);
  see.note('sysfs says the same number', show(kernel, `/sys/class/vfio/${path.split('/').at(-1)}/dev`) === `${major}:${minor}`);
  see.note('its minor, the lowest', minor);
  const uevent = show(kernel, `/sys/class/vfio/${path.split('/').at(-1)}/uevent`).replace(`MAJOR=${major}`, 'MAJOR=M');
  see.note('uevent', uevent.replace(new RegExp(`${group}$`), 'N').split('\n'));
  const fd = see.descriptor('open', () => kernel.open(path));
  see.call('open again', () => kernel.open(path));
  see.call('open again, read-only', () => kernel.open(path, O_RDONLY));
  const copy = kernel.dup(fd);
  kernel.close(fd);
  see.call('a dup keeps it', () => kernel.open(path));
  kernel.close(copy);
  const reader = see.descriptor('closed, read-only', () => kernel.open(path, O_RDONLY));
  see.call('that excludes others, too', () => kernel.open(path));
  kernel.close(reader);
}

function cdevNode(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const path = cdevOf(kernel, edu!);
  const { major, minor, ...modes } = node(kernel, path);
  see.note('the device', modes);
  const name = path.split('/').at(-1)!;
  see.note('its name, the lowest', name);
  see.note('sysfs says the same number', show(kernel, `/sys/class/vfio-dev/${name}/dev`) === `${major}:${minor}`);
  see.note('uevent', show(kernel, `/sys/class/vfio-dev/${name}/uevent`).replace(`MAJOR=${major}`, 'MAJOR=M').split('\n'));
  const device = see.descriptor('open', () => kernel.open(path));
  see.descriptor('open again', () => kernel.open(path));
  const group = see.descriptor('the group, meanwhile', () => kernel.open(groupPath(kernel, edu!)));
  see.descriptor('open, with the group open', () => kernel.open(path));
  kernel.close(group);
  see.call('unbound: GET_INFO', () => kernel.ioctl(device, VFIO_DEVICE_GET_INFO, u32s(24, 0, 0, 0, 0, 0)));
  see.call('unbound: GET_INFO, pointer 0', () => kernel.ioctl(device, VFIO_DEVICE_GET_INFO, 0));
  see.call('unbound: an unknown ioctl', () => kernel.ioctl(device, 0x3bff, 0, UNSAFE));
  see.call('unbound: read of nothing', () => kernel.pread(device, new Uint8Array(0), region(7)));
  see.call('unbound: read', () => kernel.pread(device, new Uint8Array(4), region(7)));
  see.call('unbound: write', () => kernel.pwrite(device, new Uint8Array(4), region(7)));
  see.call('unbound: mmap', () => kernel.mmap({ fd: device, length: 4096, view: false }));
  see.note('unbound: poll', kernel.poll([{ fd: device, events: POLLIN | POLLOUT }]));
}

/** What read, write, mmap and poll answer on each. */
function generic(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { container, group, device } = openDevice(kernel, edu!);
  for (const [name, fd] of Object.entries({ container, group, device })) {
    see.note(`${name}: flags`, { access: kernel.fcntl(fd, F_GETFL) & 3, cloexec: kernel.fcntl(fd, F_GETFD) });
    see.note(`${name}: poll`, kernel.poll([{ fd, events: POLLIN | POLLOUT }]));
    if (name !== 'device') {
      see.call(`${name}: read`, () => kernel.read(fd, new Uint8Array(4)));
      see.call(`${name}: write`, () => kernel.write(fd, new Uint8Array(4)));
      see.call(`${name}: pread`, () => kernel.pread(fd, new Uint8Array(4), 0));
      see.call(`${name}: pwrite`, () => kernel.pwrite(fd, new Uint8Array(4), 0));
    }
    see.call(`${name}: mmap at 0, private`, () =>
      kernel.mmap({ fd, length: 4096, flags: MAP_PRIVATE, prot: PROT_READ, view: false }),
    );
    see.call(`${name}: ftruncate`, () => kernel.ftruncate(fd, 0));
    see.call(`${name}: fallocate`, () => kernel.fallocate(fd, 0, 0, 4096));
  }
  see.call('container: mmap, shared', () => kernel.mmap({ fd: container, length: 4096, flags: MAP_SHARED, view: false }));
  see.call('group: mmap, shared', () => kernel.mmap({ fd: group, length: 4096, flags: MAP_SHARED, view: false }));
  const bytes = new Uint8Array(4);
  see.call('device: read begins at BAR 0', () => kernel.read(device, bytes));
  see.note('device: what was read', bytes);
  const next = new Uint8Array(4);
  kernel.read(device, next);
  const second = new Uint8Array(4);
  kernel.pread(device, second, 4);
  see.note('device: read goes on behind it', Buffer.compare(next, second) === 0);
}

function readOnlyCdev(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const fd = kernel.open(cdevOf(kernel, edu!), O_RDONLY);
  see.call('unbound: pwrite', () => kernel.pwrite(fd, new Uint8Array(4), 0));
  see.call('unbound: pread', () => kernel.pread(fd, new Uint8Array(4), 0));
}

function appear(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const path = groupPath(kernel, edu!);
  const name = vfioName(kernel, edu!);
  const cdev = `/dev/vfio/devices/${name}`;
  see.note('its number among VFIO devices', name);
  see.call('the cdev opens', () => kernel.close(kernel.open(cdev)));
  see.call('the group opens', () => kernel.close(kernel.open(path)));
  see.note('driver', link(kernel, `${pci(edu!)}/driver`));
  const fd = kernel.open(`${pci(edu!)}/driver/unbind`, 1);
  see.call('unbind', () => kernel.write(fd, Buffer.from(edu!)));
  see.note('driver, afterwards', link(kernel, `${pci(edu!)}/driver`) ?? 'none');
  see.call('the group, afterwards', () => kernel.open(path));
  see.call('the cdev, afterwards', () => kernel.open(cdev));
  see.note('vfio-dev, afterwards', link(kernel, `/sys/class/vfio-dev/${name}/device`) ?? 'none');
}

export const nodeCases: readonly Case[] = [
  define('vfio/nodes/container', 'Nodes', containerNode, { needs: { devices: ['/dev/vfio/vfio'] } }),
  withDevices('vfio/nodes/group', 'Nodes', ['edu'], groupNode),
  withDevices('vfio/nodes/cdev', 'Nodes', ['edu'], cdevNode, ASSISTED),
  withDevices('vfio/nodes/read-only-cdev', 'Nodes', ['edu'], readOnlyCdev, ASSISTED),
  withDevices('vfio/nodes/generic', 'Nodes', ['edu'], generic, ASSISTED),
  withDevices('vfio/nodes/generic-noiommu', 'Nodes', ['edu'], generic, { needs: { iommu: false } }),
  withDevices('vfio/nodes/come-and-go', 'Nodes', ['edu'], appear),
];
