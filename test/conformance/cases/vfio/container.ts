/** The container: which ioctl it answers before and after it has an IOMMU, what it says it can, and what it accepts as an IOMMU. */
import type { Kernel } from 'kvio';
import {
  VFIO_CHECK_EXTENSION,
  VFIO_DEVICE_GET_INFO,
  VFIO_GET_API_VERSION,
  VFIO_GROUP_UNSET_CONTAINER,
  VFIO_IOMMU_DIRTY_PAGES,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNMAP_DMA,
  VFIO_NOIOMMU_IOMMU,
  VFIO_SET_IOMMU,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1v2_IOMMU,
} from 'kvio/uapi';
import { type Case, define, NotHere, type Observer } from '../../case.ts';
import { UNSAFE } from '../../machine.ts';
import { exists, show } from '../../parts.ts';
import { ASSISTED, attempt, groupPath, openGroup, setContainer, status, withDevices } from '../../vfio.ts';

const EXTENSIONS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 100, 0x7fffffff, 0xffffffff, 0x1_0000_0001n];

function extensions(kernel: Kernel, see: Observer, label: string, container: number): void {
  see.note(
    label,
    Object.fromEntries(EXTENSIONS.map((arg) => [String(arg), attempt(() => kernel.ioctl(container, VFIO_CHECK_EXTENSION, arg))])),
  );
}

const requests = {
  GET_API_VERSION: VFIO_GET_API_VERSION,
  IOMMU_GET_INFO: VFIO_IOMMU_GET_INFO,
  IOMMU_MAP_DMA: VFIO_IOMMU_MAP_DMA,
  IOMMU_UNMAP_DMA: VFIO_IOMMU_UNMAP_DMA,
  DIRTY_PAGES: VFIO_IOMMU_DIRTY_PAGES,
  'GROUP_UNSET_CONTAINER (a group’s)': VFIO_GROUP_UNSET_CONTAINER,
  'DEVICE_GET_INFO (a device’s)': VFIO_DEVICE_GET_INFO,
  'an unknown one of VFIO': 0x3bff,
  'one of another family': 0x5401,
  0: 0,
};

/** Every request with pointer 0: EFAULT shows that the request is known. */
function sweep(kernel: Kernel, see: Observer, when: string, container: number): void {
  for (const [name, request] of Object.entries(requests))
    see.call(`${when}: ${name}`, () => kernel.ioctl(container, request, 0, UNSAFE));
}

function empty(kernel: Kernel, see: Observer): void {
  const container = kernel.open('/dev/vfio/vfio');
  sweep(kernel, see, 'empty', container);
  see.call('GET_API_VERSION, with an argument', () => kernel.ioctl(container, VFIO_GET_API_VERSION, 1, UNSAFE));
  extensions(kernel, see, 'CHECK_EXTENSION', container);
  for (const type of [0, 1, 2, 3, 4, 6, 8, 9, 10, 77])
    see.call(`SET_IOMMU(${type}) without a group`, () => kernel.ioctl(container, VFIO_SET_IOMMU, type));
}

function unsafeMode(kernel: Kernel, see: Observer): void {
  const parameter = '/sys/module/vfio/parameters/enable_unsafe_noiommu_mode';
  if (!exists(kernel, parameter)) throw new NotHere('this kernel has no no-IOMMU mode');
  see.note('enable_unsafe_noiommu_mode', show(kernel, parameter));
  const container = kernel.open('/dev/vfio/vfio');
  see.call('CHECK_EXTENSION(NOIOMMU)', () => kernel.ioctl(container, VFIO_CHECK_EXTENSION, VFIO_NOIOMMU_IOMMU));
}

function withGroup(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const container = kernel.open('/dev/vfio/vfio');
  const group = kernel.open(groupPath(kernel, edu!));
  see.call('SET_CONTAINER', () => setContainer(kernel, group, container));
  extensions(kernel, see, 'with a group: CHECK_EXTENSION', container);
  sweep(kernel, see, 'with a group', container);
  for (const type of [0, 2, 4, 5, 6, 7, 8, 9, 10, 77, 0xffffffff])
    see.call(`SET_IOMMU(${type})`, () => kernel.ioctl(container, VFIO_SET_IOMMU, type));
  see.call('SET_IOMMU(1)', () => kernel.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU));
  see.call('SET_IOMMU(1) again', () => kernel.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU));
  see.call('SET_IOMMU(3)', () => kernel.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
  extensions(kernel, see, 'type1: CHECK_EXTENSION', container);
  sweep(kernel, see, 'type1', container);
  see.call('UNSET_CONTAINER', () => kernel.ioctl(group, VFIO_GROUP_UNSET_CONTAINER));
  sweep(kernel, see, 'without the group', container);
  see.call('SET_IOMMU without the group', () => kernel.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
  see.call('SET_CONTAINER again', () => setContainer(kernel, group, container));
  see.call('SET_IOMMU(3), now', () => kernel.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
  extensions(kernel, see, 'v2: CHECK_EXTENSION', container);
  sweep(kernel, see, 'v2', container);
}

function noiommu(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const container = kernel.open('/dev/vfio/vfio');
  const group = kernel.open(groupPath(kernel, edu!));
  see.call('SET_CONTAINER', () => setContainer(kernel, group, container));
  extensions(kernel, see, 'with a group: CHECK_EXTENSION', container);
  for (const type of [0, 1, 2, 3, 4, 9, 10, 77])
    see.call(`SET_IOMMU(${type})`, () => kernel.ioctl(container, VFIO_SET_IOMMU, type));
  see.call('SET_IOMMU(8)', () => kernel.ioctl(container, VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU));
  see.call('SET_IOMMU(8) again', () => kernel.ioctl(container, VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU));
  extensions(kernel, see, 'no-IOMMU: CHECK_EXTENSION', container);
  sweep(kernel, see, 'no-IOMMU', container);
  see.note('GET_STATUS', status(kernel, group));
  see.call('UNSET_CONTAINER', () => kernel.ioctl(group, VFIO_GROUP_UNSET_CONTAINER));
}

/** Two groups in one container; one left alone keeps the IOMMU and its type. */
function twoGroups(kernel: Kernel, see: Observer, [edu, second]: string[]): void {
  const { container, group } = openGroup(kernel, edu!);
  const other = kernel.open(groupPath(kernel, second!));
  see.call('a second group, to a container that has an IOMMU', () => setContainer(kernel, other, container));
  see.note('GET_STATUS of the second', status(kernel, other));
  see.call('UNSET_CONTAINER of the first', () => kernel.ioctl(group, VFIO_GROUP_UNSET_CONTAINER));
  see.call('the IOMMU is still set', () => kernel.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
  see.call('and answers', () => kernel.ioctl(container, VFIO_IOMMU_GET_INFO, 0, UNSAFE));
  see.call('UNSET_CONTAINER of the second', () => kernel.ioctl(other, VFIO_GROUP_UNSET_CONTAINER));
  see.call('no IOMMU', () => kernel.ioctl(container, VFIO_IOMMU_GET_INFO, 0, UNSAFE));
  setContainer(kernel, group, container);
  setContainer(kernel, other, container);
  see.call('SET_IOMMU with two groups', () => kernel.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
  see.note('both are in it', [status(kernel, group), status(kernel, other)]);
}

export const containerCases: readonly Case[] = [
  define('vfio/container/empty', 'Container', empty, { needs: { devices: ['/dev/vfio/vfio'] } }),
  define('vfio/container/noiommu-mode', 'Container', unsafeMode, { needs: { devices: ['/dev/vfio/vfio'] } }),
  withDevices('vfio/container/with-a-group', 'Container', ['edu'], withGroup, ASSISTED),
  withDevices('vfio/container/with-a-noiommu-group', 'Container', ['edu'], noiommu, { needs: { iommu: false } }),
  withDevices('vfio/container/two-groups', 'Container', ['edu', 'second edu'], twoGroups, ASSISTED),
];
