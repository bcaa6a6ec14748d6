/** What keeps what: containers, groups, devices, mappings of BARs and of DMA, closed in every order. */
import type { Kernel } from 'kvio';
import {
  VFIO_GROUP_UNSET_CONTAINER,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_SET_IOMMU,
  VFIO_TYPE1v2_IOMMU,
} from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { UNSAFE } from '../../machine.ts';
import {
  ASSISTED,
  attempt,
  ConfigSpace,
  getDevice,
  groupPath,
  mapDma,
  mapRegion,
  openDevice,
  openGroup,
  setContainer,
  status,
  unmapDma,
  withDevices,
} from '../../vfio.ts';

const IOVA = 0x100000n;

/** Every order in which container, group and device are closed: who still answers after each, and whether the group can be had again. */
function orders(kernel: Kernel, see: Observer, [address]: string[]): void {
  const kinds = ['container', 'group', 'device'] as const;
  for (const first of kinds)
    for (const second of kinds.filter((kind) => kind !== first)) {
      const order = [first, second, ...kinds.filter((kind) => kind !== first && kind !== second)];
      const files = openDevice(kernel, address!);
      const open = new Set<string>(kinds);
      for (const kind of order) {
        kernel.close(files[kind]);
        open.delete(kind);
        const label = `${order.join(', ')}: ${kind} closed`;
        const again = attempt(() => kernel.open(groupPath(kernel, address!)));
        if (typeof again === 'number') kernel.close(again);
        see.note(label, {
          'the group again': typeof again === 'number' ? 'opens' : again,
          ...(open.has('container') && {
            container: attempt(() => kernel.ioctl(files.container, VFIO_IOMMU_GET_INFO, 0, UNSAFE)),
          }),
          ...(open.has('group') && { group: status(kernel, files.group) }),
          ...(open.has('device') && { device: new ConfigSpace(kernel, files.device).read16(0) }),
        });
      }
    }
}

/** The container closed first: mappings stay, and the group is in it still. */
function containerFirst(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { container, group } = openGroup(kernel, address!);
  const ram = kernel.guestRam(0x10000);
  mapDma(kernel, container, { vaddr: ram.address, iova: IOVA, size: 0x4000 });
  kernel.close(container);
  see.note('GET_STATUS', status(kernel, group));
  const device = see.descriptor('GET_DEVICE_FD', () => getDevice(kernel, group, address!));
  see.note('it answers', new ConfigSpace(kernel, device).read16(0));
  see.call('UNSET_CONTAINER', () => kernel.ioctl(group, VFIO_GROUP_UNSET_CONTAINER));
  kernel.close(device);
  see.call('UNSET_CONTAINER, the device closed', () => kernel.ioctl(group, VFIO_GROUP_UNSET_CONTAINER));
  see.note('GET_STATUS, afterwards', status(kernel, group));
}

/** The last group to leave takes the mappings; a new one finds an empty container. */
function lastGroup(kernel: Kernel, see: Observer, [address, second]: string[]): void {
  const { container, group } = openGroup(kernel, address!);
  const ram = kernel.guestRam(0x10000);
  mapDma(kernel, container, { vaddr: ram.address, iova: IOVA, size: 0x4000 });
  const other = kernel.open(groupPath(kernel, second!));
  setContainer(kernel, other, container);
  kernel.close(group);
  see.call('one of two groups closed: MAP over it', () =>
    mapDma(kernel, container, { vaddr: ram.address, iova: IOVA, size: 0x4000 }),
  );
  kernel.close(other);
  see.call('both closed: MAP', () => kernel.ioctl(container, VFIO_IOMMU_MAP_DMA, 0, UNSAFE));
  see.call('SET_IOMMU', () => kernel.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
  const again = kernel.open(groupPath(kernel, address!));
  see.call('SET_CONTAINER', () => setContainer(kernel, again, container));
  see.call('SET_IOMMU, another type', () => kernel.ioctl(container, VFIO_SET_IOMMU, 1));
  see.note('nothing is mapped', unmapDma(kernel, container, { flags: 2 }));
}

/** A mapping of a BAR keeps device and group; with it they go. */
function mapped(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { container, group, device } = openDevice(kernel, address!);
  const bar = mapRegion(kernel, device, 0);
  kernel.close(device);
  kernel.close(group);
  kernel.close(container);
  see.note(
    'all closed, the mapping reads',
    attempt(() => (bar.read32(0) === undefined ? 1 : 0)),
  );
  see.call('the group', () => kernel.open(groupPath(kernel, address!)));
  bar.close();
  see.descriptor('unmapped: the group', () => kernel.open(groupPath(kernel, address!)));
}

/** dup: the same file. */
function dups(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { container, group, device } = openDevice(kernel, address!);
  const copies = [container, group, device].map((fd) => kernel.dup(fd));
  for (const fd of [container, group, device]) kernel.close(fd);
  see.note('GET_STATUS by a dup', status(kernel, copies[1]!));
  see.note('the device by a dup', new ConfigSpace(kernel, copies[2]!).read16(0));
  see.call('MAP by a dup', () => mapDma(kernel, copies[0]!, { vaddr: kernel.guestRam(4096).address, iova: IOVA, size: 4096 }));
  see.call('UNSET_CONTAINER, the device open by a dup', () => kernel.ioctl(copies[1]!, VFIO_GROUP_UNSET_CONTAINER));
}

/** Closing the memory that is mapped does not unmap it, and what comes later at its place is not what the device sees. */
function memoryGone(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { container } = openGroup(kernel, address!);
  const ram = kernel.mmap({ length: 0x4000, view: false });
  see.call('MAP', () => mapDma(kernel, container, { vaddr: ram.address, iova: IOVA, size: 0x4000 }));
  ram.close();
  see.call('MAP again, the memory closed', () => mapDma(kernel, container, { vaddr: ram.address, iova: IOVA, size: 0x4000 }));
  see.call('MAP elsewhere, the memory closed', () => mapDma(kernel, container, { vaddr: ram.address, iova: 0, size: 0x4000 }));
  see.note('UNMAP', unmapDma(kernel, container, { iova: IOVA, size: 0x4000 }));
}

export const lifetimeCases: readonly Case[] = [
  withDevices('vfio/lifetimes/orders', 'Lifetimes', ['edu'], orders, ASSISTED),
  withDevices('vfio/lifetimes/container-first', 'Lifetimes', ['edu'], containerFirst, ASSISTED),
  withDevices('vfio/lifetimes/last-group', 'Lifetimes', ['edu', 'second edu'], lastGroup, ASSISTED),
  withDevices('vfio/lifetimes/mapped', 'Lifetimes', ['edu'], mapped),
  withDevices('vfio/lifetimes/dups', 'Lifetimes', ['edu'], dups, ASSISTED),
  withDevices('vfio/lifetimes/memory-gone', 'Lifetimes', ['edu'], memoryGone, ASSISTED),
];
