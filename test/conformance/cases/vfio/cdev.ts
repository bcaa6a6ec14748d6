/** The device's own node and iommufd: BIND, ATTACH and DETACH, each check in order, and what binding excludes. */
import type { Kernel } from 'kvio';
import {
  EFD_NONBLOCK,
  IOMMU_DESTROY,
  IOMMU_HWPT_ALLOC,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_IOAS_ALLOC,
  MAP_SHARED,
  O_RDONLY,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
  VFIO_DEVICE_ATTACH_IOMMUFD_PT,
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_DEVICE_DETACH_IOMMUFD_PT,
  VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
  VFIO_DEVICE_PCI_HOT_RESET,
  VFIO_DEVICE_RESET,
} from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { UNSAFE } from '../../machine.ts';
import {
  attempt,
  ConfigSpace,
  cdevOf,
  groupPath,
  join,
  NOWHERE,
  openGroup,
  region,
  s32,
  setContainer,
  setTrigger,
  status,
  u32s,
  u64s,
  view,
  withDevices,
} from '../../vfio.ts';

interface Bind {
  argsz?: number;
  flags?: number;
  iommufd?: number;
  token?: bigint;
  room?: Uint8Array;
}

/** VFIO_DEVICE_BIND_IOMMUFD: what it returned, and the id it gave. */
function bind(kernel: Kernel, device: number, one: Bind): { returned: string | number; devid: number } {
  const { argsz = 24, flags = 0, iommufd = -1, token = 0n, room = new Uint8Array(0) } = one;
  const bytes = join(u32s(argsz, flags), s32(iommufd), u32s(0xeeee), u64s(token), room);
  const returned = attempt(() => kernel.ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, bytes, UNSAFE));
  return { returned, devid: view(bytes).getUint32(12, true) };
}

function newIoas(kernel: Kernel, iommufd: number): number {
  const bytes = u32s(12, 0, 0);
  kernel.ioctl(iommufd, IOMMU_IOAS_ALLOC, bytes);
  return view(bytes).getUint32(8, true);
}

function attach(
  kernel: Kernel,
  device: number,
  pt_id: number,
  argsz = 12,
  flags = 0,
  pasid = 0,
): { returned: string | number; pt_id: number } {
  const bytes = u32s(argsz, flags, pt_id, pasid);
  const returned = attempt(() => kernel.ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, bytes, UNSAFE));
  return { returned, pt_id: view(bytes).getUint32(8, true) };
}

const detach = (kernel: Kernel, device: number, argsz = 8, flags = 0, pasid = 0): string | number =>
  attempt(() => kernel.ioctl(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, u32s(argsz, flags, pasid), UNSAFE));

function bindOrder(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const device = kernel.open(cdevOf(kernel, edu!));
  const iommufd = kernel.open('/dev/iommu');
  const ask = (label: string, one: Bind): void => see.note(label, bind(kernel, device, { iommufd, ...one }));
  see.call('pointer 0', () => kernel.ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, 0, UNSAFE));
  see.call('a pointer to nowhere', () => kernel.ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, NOWHERE, UNSAFE));
  ask('argsz 0', { argsz: 0 });
  ask('argsz 15', { argsz: 15 });
  ask('argsz 32, more than zeros', { argsz: 32, room: new Uint8Array(8).fill(1) });
  ask('argsz 15, iommufd -1', { argsz: 15, iommufd: -1 });
  ask('flags 2', { flags: 2 });
  ask('iommufd -1', { iommufd: -1 });
  ask('iommufd -1, flags 2', { iommufd: -1, flags: 2 });
  ask('a number nobody has', { iommufd: 999 });
  ask('an eventfd', { iommufd: kernel.eventfd() });
  ask('a container', { iommufd: kernel.open('/dev/vfio/vfio') });
  ask('the device', { iommufd: device });
  ask('a token, pointer 0', { flags: 1 });
  const token = kernel.guestRam(4096);
  ask('a token', { flags: 1, token: token.address });
  ask('a token, a number nobody has', { flags: 1, token: token.address, iommufd: 999 });
  const group = kernel.open(groupPath(kernel, edu!));
  ask('the group is open', {});
  ask('the group is open, a number nobody has', { iommufd: 999 });
  kernel.close(group);
  ask('argsz 16', { argsz: 16 });
  ask('again', {});
  ask('again, a number nobody has', { iommufd: 999 });
  ask('again, argsz 0', { argsz: 0 });
  see.call('the group, bound', () => kernel.open(groupPath(kernel, edu!)));
  const other = kernel.open(cdevOf(kernel, edu!));
  see.note('another descriptor: the same iommufd', bind(kernel, other, { iommufd }));
  see.note('another descriptor: a number nobody has', bind(kernel, other, { iommufd: 999 }));
  see.note('another descriptor: an eventfd', bind(kernel, other, { iommufd: kernel.eventfd() }));
  see.note('another descriptor: another iommufd', bind(kernel, other, { iommufd: kernel.open('/dev/iommu') }));
  see.call('another descriptor: read', () => kernel.pread(other, new Uint8Array(2), region(7)));
  see.note('read', new ConfigSpace(kernel, device).read16(0));
  kernel.close(device);
  see.note('closed: the other one', bind(kernel, other, { iommufd }));
  kernel.close(other);
  see.descriptor('closed: the group', () => kernel.open(groupPath(kernel, edu!)));
}

function attachOrder(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const device = kernel.open(cdevOf(kernel, edu!));
  const iommufd = kernel.open('/dev/iommu');
  see.note('before BIND: ATTACH', attach(kernel, device, 1).returned);
  see.note('before BIND: DETACH', detach(kernel, device));
  const { devid } = bind(kernel, device, { iommufd });
  see.note('device id', devid);
  const ioas = newIoas(kernel, iommufd);
  see.note('IOAS id', ioas);
  const ask = (label: string, ...args: [pt_id: number, argsz?: number, flags?: number, pasid?: number]): void =>
    see.note(label, attach(kernel, device, ...args));
  see.call('pointer 0', () => kernel.ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, 0, UNSAFE));
  ask('argsz 0', ioas, 0);
  ask('argsz 11', ioas, 11);
  ask('flags 2', ioas, 12, 2);
  ask('PASID, argsz 12', ioas, 12, 1);
  ask('PASID, argsz 15', ioas, 15, 1);
  ask('PASID 1', ioas, 16, 1, 1);
  ask('PASID 2^31', ioas, 16, 1, 0x80000000);
  ask('an id nobody has', 99);
  ask('id 0', 0);
  ask('the device’s own id', devid);
  ask('the IOAS', ioas);
  ask('the IOAS again', ioas);
  const second = newIoas(kernel, iommufd);
  ask('a second IOAS: replaces', second);
  see.note(
    'DESTROY of the first IOAS',
    attempt(() => kernel.ioctl(iommufd, IOMMU_DESTROY, u32s(8, ioas))),
  );
  see.note(
    'DESTROY of the second',
    attempt(() => kernel.ioctl(iommufd, IOMMU_DESTROY, u32s(8, second))),
  );
  see.note(
    'DESTROY of the device’s id',
    attempt(() => kernel.ioctl(iommufd, IOMMU_DESTROY, u32s(8, devid))),
  );
  ask('an id nobody has, attached', 99);
}

function detachOrder(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const device = kernel.open(cdevOf(kernel, edu!));
  const iommufd = kernel.open('/dev/iommu');
  bind(kernel, device, { iommufd });
  see.call('pointer 0', () => kernel.ioctl(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, 0, UNSAFE));
  see.note('argsz 7', detach(kernel, device, 7));
  see.note('flags 2', detach(kernel, device, 8, 2));
  see.note('not attached', detach(kernel, device));
  see.note('not attached, PASID, argsz 8', detach(kernel, device, 8, 1));
  see.note('not attached, PASID 1', detach(kernel, device, 12, 1, 1));
  const ioas = newIoas(kernel, iommufd);
  see.note('ATTACH', attach(kernel, device, ioas));
  see.note('DETACH', detach(kernel, device));
  see.note('DETACH again', detach(kernel, device));
  see.note('ATTACH again: the lowest id', attach(kernel, device, ioas));
  kernel.close(device);
  see.note(
    'DESTROY of the IOAS',
    attempt(() => kernel.ioctl(iommufd, IOMMU_DESTROY, u32s(8, ioas))),
  );
}

function excluded(kernel: Kernel, see: Observer, [edu, second]: string[]): void {
  const iommufd = kernel.open('/dev/iommu');
  const device = kernel.open(cdevOf(kernel, edu!));
  bind(kernel, device, { iommufd });
  const other = kernel.open(cdevOf(kernel, second!));
  see.note('the sibling to another iommufd', bind(kernel, other, { iommufd: kernel.open('/dev/iommu') }));
  see.note('the sibling to the same', bind(kernel, other, { iommufd }));
  const [one, two] = [newIoas(kernel, iommufd), newIoas(kernel, iommufd)];
  see.note('ATTACH of the first', attach(kernel, device, one));
  see.note('ATTACH of the sibling, another IOAS', attach(kernel, other, two));
  see.note('ATTACH of the sibling, the same', attach(kernel, other, one));
  see.note('ATTACH of the sibling, now another: both move', attach(kernel, other, two));
  see.note('ATTACH of the first, where it is', attach(kernel, device, two));
  see.call('the group', () => kernel.open(groupPath(kernel, edu!)));
}

/** Bound, it is a device like any other. */
function works(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const device = kernel.open(cdevOf(kernel, edu!));
  bind(kernel, device, { iommufd: kernel.open('/dev/iommu') });
  see.note('configuration', new ConfigSpace(kernel, device).read32(0));
  see.call('DEVICE_RESET', () => kernel.ioctl(device, VFIO_DEVICE_RESET));
  see.call('SET_IRQS, MSI', () => setTrigger(kernel, device, 1, kernel.eventfd(0, EFD_NONBLOCK)));
  see.call('mmap', () => {
    kernel.mmap({ fd: device, length: 4096, offset: region(0), view: false }).close();
    return 0;
  });
  see.call('mmap to execute', () => {
    kernel
      .mmap({ fd: device, length: 4096, offset: region(0), prot: PROT_READ | PROT_EXEC, flags: MAP_SHARED, view: false })
      .close();
    return 0;
  });
  see.call('an unknown ioctl', () => kernel.ioctl(device, 0x3bff, 0, UNSAFE));
}

function readOnly(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const device = kernel.open(cdevOf(kernel, edu!), O_RDONLY);
  see.note('BIND', bind(kernel, device, { iommufd: kernel.open('/dev/iommu') }).returned);
  see.call('pread', () => kernel.pread(device, new Uint8Array(4), region(7)));
  see.call('pwrite', () => kernel.pwrite(device, new Uint8Array(4), region(7)));
  for (const [label, prot] of [
    ['to read', PROT_READ],
    ['to write', PROT_READ | PROT_WRITE],
  ] as const)
    see.call(`mmap ${label}`, () =>
      kernel.mmap({ fd: device, length: 4096, offset: region(0), prot, flags: MAP_SHARED, view: false }),
    );
}

/** Its registers can be code, where /dev is mounted so; those of a descriptor of a group never. */
function executable(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const device = kernel.open(cdevOf(kernel, edu!));
  const map = (label: string, prot: number): unknown =>
    see.call(label, () =>
      kernel.mmap({ fd: device, length: 4096, offset: region(0), prot, flags: MAP_SHARED, view: false }).close(),
    );
  map('before BIND', PROT_READ | PROT_EXEC);
  see.note('BIND', bind(kernel, device, { iommufd: kernel.open('/dev/iommu') }).returned);
  map('to execute', PROT_READ | PROT_EXEC);
  map('to execute only', PROT_EXEC);
  map('for everything', PROT_READ | PROT_WRITE | PROT_EXEC);
}

function hotReset(kernel: Kernel, see: Observer, [nvme]: string[]): void {
  const device = kernel.open(cdevOf(kernel, nvme!));
  const { devid } = bind(kernel, device, { iommufd: kernel.open('/dev/iommu') });
  const bytes = new Uint8Array(64);
  bytes.set(u32s(64));
  see.call('INFO', () => kernel.ioctl(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, bytes));
  see.note(
    'flags, count',
    [4, 8].map((at) => view(bytes).getUint32(at, true)),
  );
  see.note('its id', view(bytes).getUint32(12, true) === devid);
  const reset = (label: string, count: number, ...fds: number[]): unknown =>
    see.call(label, () => kernel.ioctl(device, VFIO_DEVICE_PCI_HOT_RESET, join(u32s(16, 0, count), s32(...fds, 0)), UNSAFE));
  reset('HOT_RESET, count 1', 1, device);
  reset('HOT_RESET, count 0', 0);
}

/** Requests in memory that can only be read: what was done, and what is taken back. */
function attachFaults(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const device = kernel.open(cdevOf(kernel, edu!));
  const iommufd = kernel.open('/dev/iommu');
  const page = kernel.mmap({ length: 0x1000, view: false });
  page.write(0, join(u32s(24, 0), s32(iommufd), u32s(0xeeee, 0, 0)));
  kernel.mprotect(page, PROT_READ);
  const ask = (request: number, offset = 0): string | number =>
    attempt(() => kernel.ioctl(device, request, page.address + BigInt(offset), UNSAFE));
  const destroy = (id: number): string | number => attempt(() => kernel.ioctl(iommufd, IOMMU_DESTROY, u32s(8, id)));
  see.note('BIND whose id cannot be written', ask(VFIO_DEVICE_BIND_IOMMUFD));
  see.note('it is not bound', attach(kernel, device, 1).returned);
  const { devid } = bind(kernel, device, { iommufd });
  see.note('BIND', devid);
  const [one, two] = [newIoas(kernel, iommufd), newIoas(kernel, iommufd)];
  const put = (offset: number, ...words: number[]): void => {
    kernel.mprotect(page, PROT_READ | PROT_WRITE);
    page.write(offset, u32s(...words));
    kernel.mprotect(page, PROT_READ);
  };
  put(64, 12, 0, one);
  see.note('ATTACH whose id cannot be written', ask(VFIO_DEVICE_ATTACH_IOMMUFD_PT, 64));
  see.note('it is not attached', destroy(one));
  const third = newIoas(kernel, iommufd);
  see.note('ATTACH', attach(kernel, device, third).returned);
  put(64, 12, 0, two);
  see.note('a replacement whose id cannot be written', ask(VFIO_DEVICE_ATTACH_IOMMUFD_PT, 64));
  see.note('it is attached to neither', [destroy(third), destroy(two)]);
  const ioas = newIoas(kernel, iommufd);
  const fit = tableForPasids(kernel, see, iommufd, devid, ioas);
  if (fit === undefined) return;
  see.note('ATTACH to a table for PASIDs', attach(kernel, device, fit).returned);
  put(64, 16, 1, fit, 5);
  see.note('of a PASID whose id cannot be written', ask(VFIO_DEVICE_ATTACH_IOMMUFD_PT, 64));
  see.note('the PASID keeps the device from a table that is not for PASIDs', attach(kernel, device, ioas).returned);
  see.note('DESTROY of the table, which the PASID has', destroy(fit));
  see.note('DETACH of the PASID', detach(kernel, device, 12, 1, 5));
  see.note('DESTROY of the table then: the device has left it', destroy(fit));
}

/** A page table of the device's own: its id, or the errno. */
function newTable(kernel: Kernel, iommufd: number, dev_id: number, pt_id: number, flags: number): string | number {
  const bytes = u32s(48, flags, dev_id, pt_id, ...new Array<number>(8).fill(0));
  const returned = attempt(() => kernel.ioctl(iommufd, IOMMU_HWPT_ALLOC, bytes));
  return returned === 0 ? view(bytes).getUint32(16, true) : returned;
}

/** A table that PASIDs may have, where the IOMMU's driver makes such. */
function tableForPasids(kernel: Kernel, see: Observer, iommufd: number, dev_id: number, ioas: number): number | undefined {
  const made = newTable(kernel, iommufd, dev_id, ioas, IOMMU_HWPT_ALLOC_PASID);
  see.note('HWPT_ALLOC of a table for PASIDs', typeof made === 'string' ? made : 'an id');
  return typeof made === 'string' ? undefined : made;
}

/** A device that has no PASIDs takes any, on a table that is for them. */
function pasids(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const device = kernel.open(cdevOf(kernel, edu!));
  const iommufd = kernel.open('/dev/iommu');
  const { devid } = bind(kernel, device, { iommufd });
  const ioas = newIoas(kernel, iommufd);
  const fit = tableForPasids(kernel, see, iommufd, devid, ioas);
  if (fit === undefined) return;
  const unfit = Number(newTable(kernel, iommufd, devid, ioas, 0));
  const ask = (label: string, pt: number, pasid: number): void =>
    see.note(label, attach(kernel, device, pt, 16, 1, pasid).returned);
  ask('PASID 7 without the device', fit, 7);
  see.note('DETACH of it', detach(kernel, device, 12, 1, 7));
  see.note('ATTACH to a table for PASIDs', attach(kernel, device, fit).returned);
  ask('PASID 7', fit, 7);
  ask('PASID 7 again', fit, 7);
  ask('PASID 0', fit, 0);
  ask('PASID 2^31 - 1', fit, 0x7fffffff);
  ask('to the IOAS', ioas, 8);
  ask('to another table', unfit, 8);
  see.note('the device to another table meanwhile', attach(kernel, device, unfit).returned);
  see.note('DETACH of the device', detach(kernel, device));
  see.note(
    'DESTROY of the table its PASIDs have',
    attempt(() => kernel.ioctl(iommufd, IOMMU_DESTROY, u32s(8, fit))),
  );
  kernel.close(device);
  see.note(
    'closed: DESTROY of the table',
    attempt(() => kernel.ioctl(iommufd, IOMMU_DESTROY, u32s(8, fit))),
  );
}

/** A bound device keeps what is the iommufd's: ids go on to mean what they did. */
function iommufdFirst(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const device = kernel.open(cdevOf(kernel, edu!));
  const iommufd = kernel.open('/dev/iommu');
  bind(kernel, device, { iommufd });
  const [one, two] = [newIoas(kernel, iommufd), newIoas(kernel, iommufd)];
  see.note('ATTACH', attach(kernel, device, one).returned);
  kernel.close(iommufd);
  see.note('closed: ATTACH by id', attach(kernel, device, two).returned);
  see.note('ATTACH to an id nobody has', attach(kernel, device, 99).returned);
  see.note('DETACH', detach(kernel, device));
  see.note(
    'another iommufd has none of it',
    attempt(() => kernel.ioctl(kernel.open('/dev/iommu'), IOMMU_DESTROY, u32s(8, one))),
  );
}

/** An iommufd in place of a container. */
function compatExtensions(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const iommufd = kernel.open('/dev/iommu');
  const extensions = (when: string): void =>
    see.note(
      when,
      Object.fromEntries(
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11].map((arg) => [arg, attempt(() => kernel.ioctl(iommufd, 0x3b65, arg))]),
      ),
    );
  see.call('GET_API_VERSION', () => kernel.ioctl(iommufd, 0x3b64));
  extensions('empty');
  see.call('empty: SET_IOMMU', () => kernel.ioctl(iommufd, 0x3b66, 1));
  see.call('empty: IOMMU_GET_INFO', () => kernel.ioctl(iommufd, 0x3b70, u32s(24, 0, 0, 0, 0, 0)));
  see.call('empty: an unknown ioctl', () => kernel.ioctl(iommufd, 0x3bff, 0, UNSAFE));
  const group = kernel.open(groupPath(kernel, edu!));
  see.call('SET_CONTAINER', () => setContainer(kernel, group, iommufd));
  extensions('with a group');
  see.note('GET_STATUS', status(kernel, group));
  for (const type of [0, 1, 3, 8, 9]) see.call(`SET_IOMMU(${type})`, () => kernel.ioctl(iommufd, 0x3b66, type));
  see.call('DIRTY_PAGES', () => kernel.ioctl(iommufd, 0x3b75, u32s(8, 1)));
}

function compatLifetimes(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const iommufd = kernel.open('/dev/iommu');
  const group = kernel.open(groupPath(kernel, edu!));
  setContainer(kernel, group, iommufd);
  const device = see.descriptor('GET_DEVICE_FD without SET_IOMMU', () => kernel.ioctl(group, 0x3b6a, Buffer.from(`${edu}\0`)));
  see.call('UNSET_CONTAINER with the device open', () => kernel.ioctl(group, 0x3b69));
  see.note(
    'the device answers',
    attempt(() => new ConfigSpace(kernel, device).read16(0)),
  );
  kernel.close(group);
  const again = see.descriptor('closed, the group again at once', () => kernel.open(groupPath(kernel, edu!)));
  see.note('GET_STATUS', status(kernel, again));
  see.call('SET_CONTAINER to a container', () => setContainer(kernel, again, kernel.open('/dev/vfio/vfio')));
  kernel.close(device);
  see.call('the device closed: SET_CONTAINER', () => setContainer(kernel, again, kernel.open('/dev/vfio/vfio')));
}

/** The group by its container keeps the cdev from being bound. */
function groupFirst(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { group, container } = openGroup(kernel, edu!);
  const device = kernel.open(cdevOf(kernel, edu!));
  see.note('BIND', bind(kernel, device, { iommufd: kernel.open('/dev/iommu') }).returned);
  kernel.close(group);
  see.note('the group closed: BIND', bind(kernel, device, { iommufd: kernel.open('/dev/iommu') }).returned);
  kernel.close(container);
}

const of = (
  what: string,
  parts: Parameters<typeof withDevices>[2],
  body: (kernel: Kernel, see: Observer, addresses: string[]) => void,
): Case =>
  withDevices(`vfio/${what}`, 'Device cdev', parts, body, { needs: { devices: ['/dev/vfio/vfio', '/dev/iommu'], iommu: true } });

export const cdevCases: readonly Case[] = [
  of('cdev/bind', ['edu'], bindOrder),
  of('cdev/attach', ['edu'], attachOrder),
  of('cdev/detach', ['edu'], detachOrder),
  of('cdev/siblings', ['shared edu', 'shared testdev'], excluded),
  of('cdev/attach-faults', ['edu'], attachFaults),
  of('cdev/pasids', ['edu'], pasids),
  of('cdev/iommufd-first', ['edu'], iommufdFirst),
  of('cdev/works', ['edu'], works),
  of('cdev/read-only', ['edu'], readOnly),
  of('cdev/executable', ['edu'], executable),
  of('cdev/hot-reset', ['nvme'], hotReset),
  of('cdev/group-first', ['edu'], groupFirst),
  of('compat/extensions', ['edu'], compatExtensions),
  of('compat/lifetimes', ['edu'], compatLifetimes),
];
