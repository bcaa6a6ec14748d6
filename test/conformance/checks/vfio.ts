/** What VFIO's containers and groups check, in the order in which they do. */
import type { Check, Checks } from './check.ts';

const empty = 'vfio/container/empty';
const grouped = 'vfio/container/with-a-group';
const mapOrder = 'vfio/type1/map-order';
const unmap = 'vfio/type1/unmap-order';
const dirty = 'vfio/type1/dirty-order';
const limit = 'vfio/type1/entry-limit';
const info = 'vfio/type1/info';
const setContainer = 'vfio/group/set-container';
const device = 'vfio/group/get-device';
const status = 'vfio/group/get-status';

const noIommu = (name: string): Check => ['EINVAL', 'the container has no IOMMU', empty, `empty: ${name}`];

export const vfioContainerChecks: Checks = {
  'VFIO_GET_API_VERSION (vfio-container)': [['0', 'always, whatever the argument', empty, 'GET_API_VERSION, with an argument']],
  'VFIO_CHECK_EXTENSION (vfio-container)': [
    ['0 or 1', 'no IOMMU: what any IOMMU there is says', empty, 'CHECK_EXTENSION'],
    ['0 or 1', 'a group of an IOMMU: type1 alone is asked', grouped, 'with a group: CHECK_EXTENSION'],
    ['1', 'NOIOMMU: the module’s parameter, without a group', 'vfio/container/noiommu-mode', 'CHECK_EXTENSION(NOIOMMU)'],
    ['0 or 1', 'UPDATE_VADDR: only with an IOMMU set', grouped, 'type1: CHECK_EXTENSION'],
    ['0', 'UPDATE_VADDR: a mediated device is in the container', 'vfio/mtty/type1', 'CHECK_EXTENSION(10)'],
  ],
  'VFIO_SET_IOMMU (vfio-container)': [
    ['EINVAL', 'no group', empty, 'SET_IOMMU(1) without a group'],
    ['EINVAL', 'an IOMMU is set', grouped, 'SET_IOMMU(1) again'],
    ['EINVAL', 'UNMAP_ALL, which is an extension and no IOMMU', grouped, 'SET_IOMMU(9)'],
    ['ENODEV', 'nobody is this IOMMU', grouped, 'SET_IOMMU(2)'],
    ['ENODEV', 'a type1 for a group without an IOMMU', 'vfio/container/with-a-noiommu-group', 'SET_IOMMU(1)'],
    ['EPERM', 'no-IOMMU without CAP_SYS_RAWIO'],
    ['EPERM', 'interrupts are not isolated, and that is not allowed'],
    ['0', 'with all groups', 'vfio/container/two-groups', 'SET_IOMMU with two groups'],
  ],
  'VFIO_IOMMU_GET_INFO (vfio-container)': [
    noIommu('IOMMU_GET_INFO'),
    ['EFAULT', 'the struct cannot be read', info, 'pointer 0'],
    ['EINVAL', 'argsz below 16', info, 'GET_INFO, argsz 15'],
    ['0', 'argsz below what the capabilities need: argsz says how much, there are none', info, 'GET_INFO, argsz 119'],
    ['0', 'no more than argsz is written', info, 'GET_INFO, argsz 19'],
  ],
  'VFIO_IOMMU_MAP_DMA (vfio-container)': [
    noIommu('IOMMU_MAP_DMA'),
    ['EFAULT', 'the struct cannot be read', mapOrder, 'pointer 0'],
    ['EINVAL', 'argsz below 32', mapOrder, 'argsz 31'],
    ['EINVAL', 'unknown flags', mapOrder, 'unknown flag 8'],
    ['EINVAL', 'size 0', mapOrder, 'size 0, iova at the top'],
    ['EOVERFLOW', 'IOVA or address wrap', mapOrder, 'iova wraps'],
    ['EINVAL', 'neither READ nor WRITE nor VADDR', mapOrder, 'flags 0'],
    ['EINVAL', 'VADDR with READ or WRITE', mapOrder, 'VADDR and READ'],
    ['EINVAL', 'not of whole pages of the IOMMU', mapOrder, 'vaddr unaligned'],
    ['ENOENT', 'VADDR: no mapping there', mapOrder, 'VADDR of nothing'],
    ['EINVAL', 'VADDR: the mapping has its address', mapOrder, 'VADDR, not invalidated'],
    ['EINVAL', 'VADDR: another range', 'vfio/type1/unmap-vaddr', 'MAP VADDR, another size'],
    ['EEXIST', 'over a mapping, whatever the address', mapOrder, 'again, nowhere'],
    ['ENOSPC', 'dma_entry_limit is reached, wherever it should be', limit, 'fourth, in the hole'],
    ['EINVAL', 'not within one range', mapOrder, 'in the hole, nowhere'],
    ['EFAULT', 'no memory there', mapOrder, 'nowhere'],
    ['EFAULT', 'a huge page that the pool has not', 'vfio/hugepages/pins', 'MAP_DMA where there is no page'],
    ['EFAULT', 'WRITE to what is read-only', 'vfio/type1/map-protections', 'read-only memory, WRITE'],
    ['EFAULT', 'a BAR whose memory is not decoded', 'vfio/type1/map-a-bar', 'with memory decode off'],
    ['ENOMEM', 'more than RLIMIT_MEMLOCK, without CAP_IPC_LOCK'],
    ['0', 'a failure leaves nothing', limit, 'two unmapped'],
  ],
  'VFIO_IOMMU_UNMAP_DMA (vfio-container)': [
    noIommu('IOMMU_UNMAP_DMA'),
    ['EFAULT', 'the struct cannot be read', unmap, 'pointer 0'],
    ['EINVAL', 'argsz below 24, or 48 with a bitmap', unmap, 'argsz 23'],
    ['EINVAL', 'unknown flags, or a bitmap with ALL or VADDR', unmap, 'bitmap and ALL'],
    ['EINVAL', 'a bitmap nowhere, or of no or too large a size', unmap, 'bitmap, size 0'],
    ['EBUSY', 'VADDR, and a mediated device is in the container', 'vfio/mtty/type1', 'UNMAP VADDR'],
    ['EINVAL', 'IOVA not of whole pages', unmap, 'iova unaligned'],
    ['EINVAL', 'ALL with a range', unmap, 'ALL, with a size'],
    ['EINVAL', 'size 0, or not of whole pages', unmap, 'size unaligned, wraps'],
    ['EOVERFLOW', 'the range wraps', unmap, 'wraps'],
    ['EINVAL', 'a bitmap, and nothing is tracked', unmap, 'bitmap, tracking off'],
    ['EINVAL', 'v2: the range cuts a mapping', 'vfio/type1/unmap-cuts-v2', 'the second page of the first'],
    ['0', 'v1: the range begins within a mapping: nothing', 'vfio/type1/unmap-cuts-v1', 'the second page of the first'],
    ['0', 'v1: the range ends within a mapping: all of it', 'vfio/type1/unmap-cuts-v1', 'the first page of the first'],
    [
      'EINVAL',
      'VADDR of what has none: what this call did is taken back',
      'vfio/type1/unmap-vaddr',
      'VADDR of three, one of them invalid',
    ],
    ['EFAULT', 'the bitmap cannot be written', unmap, 'tracking: data unmapped'],
    ['0', 'nothing there', unmap, 'again'],
  ],
  'VFIO_IOMMU_DIRTY_PAGES (vfio-container)': [
    noIommu('DIRTY_PAGES'),
    ['EACCES', 'type1 v1, before the argument is read', 'vfio/type1/dirty-v1', 'pointer 0'],
    ['EFAULT', 'the struct cannot be read', dirty, 'pointer 0'],
    ['EINVAL', 'argsz below 8', dirty, 'argsz 7'],
    ['EINVAL', 'unknown flags', dirty, 'unknown flag 8 and START'],
    ['EINVAL', 'not one of the three', dirty, 'START and STOP'],
    ['0', 'START when started, STOP when stopped', dirty, 'START again'],
    ['EINVAL', 'GET: argsz below 48', dirty, 'argsz 47'],
    ['EINVAL', 'GET: size 0', dirty, 'size 0'],
    ['EOVERFLOW', 'GET: the range wraps', dirty, 'wraps'],
    ['EINVAL', 'GET: a bitmap that is too small, or too large', dirty, 'bitmap too small for its pages'],
    ['EINVAL', 'GET: another page size than the smallest', dirty, 'page size 8192'],
    ['EINVAL', 'GET: not of whole pages', dirty, 'iova unaligned'],
    ['EINVAL', 'GET: nothing is tracked', dirty, 'GET, off'],
    ['EINVAL', 'GET: the range cuts a mapping', dirty, 'cuts its end'],
    ['EFAULT', 'GET: the bitmap cannot be written', dirty, 'data unmapped'],
    ['0', 'GET: whole words, every page of a device that pins none', 'vfio/type1/dirty-bits', 'over bits that were there'],
  ],
};

export const vfioGroupChecks: Checks = {
  'VFIO_GROUP_GET_STATUS (vfio-group)': [
    ['EFAULT', 'the struct cannot be read', status, 'GET_STATUS, pointer 0'],
    ['EINVAL', 'argsz below 8', status, 'GET_STATUS, argsz 7'],
    ['ENODEV', 'the last device has gone', 'vfio/removal/in-use', 'the group left open: GET_STATUS'],
    ['0', 'viable', status, 'GET_STATUS, argsz 8'],
  ],
  'VFIO_GROUP_SET_CONTAINER (vfio-group)': [
    ['EFAULT', 'the descriptor cannot be read', setContainer, 'SET_CONTAINER, pointer 0'],
    ['EBADF', 'it is none', setContainer, 'SET_CONTAINER, a number nobody has'],
    ['EINVAL', 'the group has a container', setContainer, 'SET_CONTAINER, again, an eventfd'],
    ['ENODEV', 'the last device has gone', 'vfio/removal/in-use', 'SET_CONTAINER'],
    ['EBADFD', 'it is neither a container nor an iommufd', setContainer, 'SET_CONTAINER, an eventfd'],
    ['EPERM', 'a no-IOMMU group without CAP_SYS_RAWIO, or beside one of an IOMMU'],
    ['EPERM', 'another owns a device of the group'],
    [
      'EBUSY',
      'a mapping of the container has lost its address',
      'vfio/type1/a-group-joins',
      'SET_CONTAINER while a mapping has no address',
    ],
  ],
  'VFIO_GROUP_UNSET_CONTAINER (vfio-group)': [
    ['EINVAL', 'there is none', setContainer, 'UNSET_CONTAINER without one'],
    ['EBUSY', 'a device is open', 'vfio/group/unset-in-use', 'UNSET_CONTAINER, the device open'],
    ['EBUSY', 'a BAR is mapped', 'vfio/group/unset-in-use', 'UNSET_CONTAINER, a BAR mapped'],
    ['0', 'an iommufd in its place: with open devices too', 'vfio/compat/lifetimes', 'UNSET_CONTAINER with the device open'],
  ],
  'VFIO_GROUP_GET_DEVICE_FD (vfio-group)': [
    ['EFAULT', 'the name cannot be read', device, 'ready: GET_DEVICE_FD, pointer 0'],
    ['EINVAL', 'it is longer than 4095', device, 'ready: GET_DEVICE_FD, a name of 4096'],
    ['ENODEV', 'no device is called so', device, 'no container: GET_DEVICE_FD, another device'],
    ['EINVAL', 'an option nobody knows, or a token for a device that has none', device, 'ready: GET_DEVICE_FD, a token'],
    ['EMFILE', 'no descriptor is left', 'vfio/group/get-device-emfile', 'the name, no container'],
    ['EINVAL', 'no container', device, 'no container: GET_DEVICE_FD, the name'],
    ['EINVAL', 'the container has no IOMMU', device, 'no IOMMU: GET_DEVICE_FD, the name'],
    ['ENODEV', 'the driver is being taken away', 'vfio/removal/in-use', 'GET_DEVICE_FD'],
    ['ENODEV', 'the device was pulled out', 'vfio/surprise/e1000e', 'GET_DEVICE_FD'],
    ['EAGAIN', 'the device’s lock is held'],
  ],
};
