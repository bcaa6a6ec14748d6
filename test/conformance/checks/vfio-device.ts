/** What an opened VFIO device checks, in the order in which it does: vfio-pci, and what is common to all. */
import type { Check, Checks } from './check.ts';

const irqs = 'vfio/irqs/order';
const nowhere = 'vfio/irqs/data-nowhere';
const intx = 'vfio/irqs/intx';
const vectors = 'vfio/irqs/vectors-counts';
const ranges = 'vfio/irqs/vectors-ranges';
const io = 'vfio/ioeventfds/order';
const hot = 'vfio/reset/hot-reset of nvme';
const hotInfo = 'vfio/reset/hot-reset-info of nvme';
const features = 'vfio/features/table of edu';
const dmaBuf = 'vfio/features/dma-buf-order';
const bind = 'vfio/cdev/bind';
const attach = 'vfio/cdev/attach';
const detach = 'vfio/cdev/detach';

const unbound: Check = ['EINVAL', 'a cdev that is not bound', 'vfio/nodes/cdev', 'unbound: GET_INFO'];

export const vfioDeviceChecks: Checks = {
  'VFIO_DEVICE_GET_INFO (vfio-device)': [
    unbound,
    ['EFAULT', 'the struct cannot be read', 'vfio/device-info/info of edu', 'GET_INFO, pointer 0'],
    ['EINVAL', 'argsz below 16', 'vfio/device-info/info of edu', 'GET_INFO, argsz 15'],
    ['0', 'no more than argsz is written', 'vfio/device-info/info of edu', 'GET_INFO, argsz 16'],
  ],
  'VFIO_DEVICE_GET_REGION_INFO (vfio-device)': [
    unbound,
    ['EFAULT', 'the struct cannot be read', 'vfio/device-info/regions of edu', 'GET_REGION_INFO, pointer 0'],
    ['EINVAL', 'argsz below 32', 'vfio/device-info/regions of edu', 'argsz too small, index too large'],
    ['EINVAL', 'no such region', 'vfio/device-info/regions of edu', 'region 9'],
    ['EINVAL', 'VGA of a device that is none', 'vfio/device-info/regions of edu', 'region 8'],
    ['size 0', 'a BAR that is not there', 'vfio/device-info/regions of edu', 'region 1'],
  ],
  'VFIO_DEVICE_GET_IRQ_INFO (vfio-device)': [
    unbound,
    ['EFAULT', 'the struct cannot be read', 'vfio/device-info/interrupts of edu', 'GET_IRQ_INFO, pointer 0'],
    ['EINVAL', 'argsz below 16', 'vfio/device-info/interrupts of edu', 'interrupt 1, argsz 15'],
    ['EINVAL', 'no such interrupt; ERR of a device without PCIe', 'vfio/device-info/interrupts of edu', 'interrupt 3'],
  ],
  'VFIO_DEVICE_SET_IRQS (vfio-device)': [
    unbound,
    ['EFAULT', 'the struct cannot be read', irqs, 'pointer 0'],
    ['EINVAL', 'argsz below 20', irqs, 'argsz 19'],
    ['EINVAL', 'no such index', irqs, 'index 5'],
    ['EINVAL', 'start and count wrap', irqs, 'count so large that it wraps'],
    ['EINVAL', 'unknown flags', irqs, 'unknown flag 40'],
    ['EINVAL', 'beyond the vectors there are; also with count 0', irqs, 'start 1'],
    ['EINVAL', 'not one kind of data', irqs, 'two data'],
    ['EINVAL', 'argsz has no room for the data', irqs, 'EVENTFD, argsz too small'],
    ['EFAULT', 'the data cannot be read', nowhere, 'EVENTFD, no data there, no action'],
    ['ENOTTY', 'not one action', irqs, 'two actions'],
    ['ENOTTY', 'MASK or UNMASK of anything but INTx', irqs, 'MASK of MSI'],
    ['EINVAL', 'another interrupt is enabled', intx, 'other indices meanwhile: MSI on'],
    ['EBADF', 'a number nobody has, before INTx changes', intx, 'on: a number nobody has'],
    ['EBUSY', 'INTx has an unmask eventfd', 'vfio/irqs/unmask-eventfd', 'another'],
    ['ERANGE', 'MSI or MSI-X of no vectors', 'vfio/irqs/msi', 'off: EVENTFD count 0'],
    ['1', 'more vectors of MSI than the one there is without interrupt remapping; none is on', vectors, '4 of 16'],
    ['1', 'the same, before the descriptors are looked at', ranges, 'four, the first a number nobody has'],
    ['EINVAL', 'MSI is on: a vector beyond those it was enabled with', 'vfio/irqs/vectors-active', 'the second besides'],
    ['EINVAL', 'a vector that cannot be had in D3', 'vfio/irqs/asleep', 'D3: MSI-X'],
    ['EBADF', 'half-way: the triggers before it are gone', 'vfio/irqs/msix', 'three, the second of them bad'],
    ['EINVAL', 'ERR or REQ: a negative number other than −1', 'vfio/irqs/err-and-req of e1000e', 'ERR: fd -2'],
  ],
  'VFIO_DEVICE_RESET (vfio-device)': [
    unbound,
    ['EINVAL', 'no reset worked when it was opened', 'vfio/reset/reset of edu', 'DEVICE_RESET'],
    ['EAGAIN', 'the device’s lock is held'],
    ['0', 'whatever the argument', 'vfio/reset/reset of nvme', 'DEVICE_RESET, with an argument'],
  ],
  'VFIO_DEVICE_GET_PCI_HOT_RESET_INFO (vfio-device)': [
    unbound,
    ['EFAULT', 'the struct cannot be read', hotInfo, 'INFO, pointer 0'],
    ['EINVAL', 'argsz below 12', hotInfo, 'INFO, argsz 11'],
    ['ENODEV', 'neither slot nor bus can be reset', 'vfio/reset/hot-reset-info of edu', 'INFO, argsz 256'],
    ['ENOSPC', 'no room for all: the count is written', hotInfo, 'INFO, argsz 19'],
    ['0', 'every function of the bus', hotInfo, 'INFO, argsz 20'],
  ],
  'VFIO_DEVICE_PCI_HOT_RESET (vfio-device)': [
    unbound,
    ['EFAULT', 'the struct cannot be read', hot, 'HOT_RESET, pointer 0'],
    ['EINVAL', 'argsz below 12, or flags', hot, 'flags 1'],
    ['EINVAL', 'no groups', hot, 'count 0'],
    ['EINVAL', 'groups, from a cdev', 'vfio/cdev/hot-reset', 'HOT_RESET, count 1'],
    ['ENODEV', 'neither slot nor bus can be reset', 'vfio/reset/hot-reset of edu', 'a number nobody has'],
    ['EINVAL', 'more groups than devices', hot, 'count of more than there are devices'],
    ['EBADF', 'a number nobody has', hot, 'a number nobody has'],
    ['EINVAL', 'it is no group', hot, 'the container'],
    ['EINVAL', 'a device that is not bound', 'vfio/reset/hot-reset of half', 'HOT_RESET: the other is not bound'],
    ['0', 'one group of both devices', 'vfio/reset/hot-reset of two', 'the group'],
  ],
  'VFIO_DEVICE_IOEVENTFD (vfio-device)': [
    unbound,
    ['EFAULT', 'the struct cannot be read', io, 'pointer 0'],
    ['EINVAL', 'argsz below 28', io, 'argsz 27'],
    ['EINVAL', 'unknown flags, or not one width', io, 'widths 3'],
    ['EINVAL', 'a negative number other than −1', io, 'fd -2'],
    ['EINVAL', 'no BAR', io, 'region 7'],
    ['EINVAL', 'beyond its end', io, 'over the end'],
    ['EINVAL', 'on the table of MSI-X', 'vfio/ioeventfds/msix-table of nvme', 'over its start'],
    ['EINVAL', 'width 8', io, 'width 8'],
    ['EEXIST', 'the same is there', io, 'the same, a number nobody has'],
    ['ENODEV', 'to remove, and it is not there', io, 'remove what is not there'],
    ['ENOSPC', 'there are 1000', 'vfio/ioeventfds/many', 'one more, bad fd'],
    ['EBADF', 'a number nobody has', io, 'a number nobody has'],
    ['EINVAL', 'no eventfd', io, 'a memfd'],
  ],
  'VFIO_DEVICE_FEATURE (vfio-device)': [
    unbound,
    ['EFAULT', 'the struct cannot be read', features, 'pointer 0'],
    ['EINVAL', 'argsz below 8', features, 'argsz 7'],
    ['EINVAL', 'unknown flags', features, 'unknown flag 80000'],
    ['ENOTTY', 'a feature nobody knows', features, 'feature 0xffff'],
    ['EFAULT', 'DMA_BUF: the ranges cannot be read', dmaBuf, 'ranges nowhere'],
    ['EINVAL', 'DMA_BUF: argsz below 24', dmaBuf, 'argsz 23'],
    ['EINVAL', 'DMA_BUF: no ranges, or flags', dmaBuf, 'no ranges, region 9'],
    ['ENODEV', 'DMA_BUF: no BAR', dmaBuf, 'region 9, an absurd count'],
    ['EINVAL', 'DMA_BUF: length 0, or not of whole pages', dmaBuf, 'the second of length 0'],
    ['EINVAL', 'DMA_BUF: an I/O BAR', 'vfio/features/dma-buf-bars of e1000e', 'BAR 2, an I/O BAR'],
    ['EOVERFLOW', 'DMA_BUF: an address that wraps', dmaBuf, 'offset at the top'],
    ['EINVAL', 'DMA_BUF: beyond the BAR’s end', dmaBuf, 'over the end'],
    ['EINVAL', 'LOW_POWER_ENTRY when entered', 'vfio/features/low-power of nvme', 'ENTRY again'],
    ['EBADF', 'WITH_WAKEUP: a number nobody has', 'vfio/features/low-power of nvme', 'WITH_WAKEUP, a number nobody has'],
  ],
  'VFIO_DEVICE_BIND_IOMMUFD (vfio-device)': [
    ['EFAULT', 'argsz cannot be read', bind, 'pointer 0'],
    ['EINVAL', 'argsz below 16', bind, 'argsz 15'],
    ['E2BIG', 'more than zeros behind the struct', bind, 'argsz 32, more than zeros'],
    ['EINVAL', 'unknown flags, or a negative descriptor', bind, 'flags 2'],
    ['EBUSY', 'the group is open', bind, 'the group is open, a number nobody has'],
    ['EINVAL', 'it is bound', bind, 'again, a number nobody has'],
    ['EINVAL', 'a token for a device that has none', bind, 'a token, a number nobody has'],
    ['EBADF', 'a number nobody has', bind, 'a number nobody has'],
    ['EBADFD', 'no iommufd', bind, 'an eventfd'],
    ['EINVAL', 'the device is open by another descriptor', bind, 'another descriptor: the same iommufd'],
    ['EPERM', 'another owns a device of the group', 'vfio/cdev/siblings', 'the sibling to another iommufd'],
  ],
  'VFIO_DEVICE_ATTACH_IOMMUFD_PT (vfio-device)': [
    ['EINVAL', 'not bound', attach, 'before BIND: ATTACH'],
    ['EFAULT', 'the struct cannot be read', attach, 'pointer 0'],
    ['EINVAL', 'argsz below 12', attach, 'argsz 11'],
    ['EINVAL', 'unknown flags', attach, 'flags 2'],
    ['EINVAL', 'PASID: argsz below 16', attach, 'PASID, argsz 15'],
    ['ENOENT', 'nobody has this id', attach, 'an id nobody has'],
    ['EINVAL', 'it is neither an IOAS nor a page table', attach, 'the device’s own id'],
    ['EINVAL', 'a device of the group has another', 'vfio/cdev/siblings', 'ATTACH of the sibling, another IOAS'],
    ['ENOSPC', 'a PASID of 2^31 or more', attach, 'PASID 2^31'],
    ['EBUSY', 'PASID 0 is the device', 'vfio/cdev/pasids', 'PASID 0'],
    ['EINVAL', 'a PASID to an IOAS, or to a table that is not for PASIDs', 'vfio/cdev/pasids', 'to the IOAS'],
    ['EINVAL', 'the device to such a table while it has PASIDs', 'vfio/cdev/pasids', 'the device to another table meanwhile'],
    ['0', 'attached: replaces', attach, 'a second IOAS: replaces'],
    [
      'EFAULT',
      'the id cannot be written: the device is detached',
      'vfio/cdev/attach-faults',
      'ATTACH whose id cannot be written',
    ],
    ['EFAULT', 'for a PASID too, which stays', 'vfio/cdev/attach-faults', 'of a PASID whose id cannot be written'],
  ],
  'VFIO_DEVICE_DETACH_IOMMUFD_PT (vfio-device)': [
    ['EINVAL', 'not bound', attach, 'before BIND: DETACH'],
    ['EFAULT', 'the struct cannot be read', detach, 'pointer 0'],
    ['EINVAL', 'argsz below 8', detach, 'argsz 7'],
    ['EINVAL', 'unknown flags', detach, 'flags 2'],
    ['0', 'not attached', detach, 'not attached'],
  ],
  'VFIO_MIG_GET_PRECOPY_INFO (vfio-migration)': [
    ['ENOTTY', 'a descriptor that is written', 'vfio/mtty/stream', 'PRECOPY_INFO of what is written'],
    ['EINVAL', 'argsz below 24', 'vfio/mtty/stream', 'PRECOPY_INFO, argsz 23'],
    ['EINVAL', 'not in a state before it stops', 'vfio/mtty/stream', 'PRECOPY_INFO outside of it'],
    ['0', 'how much there is', 'vfio/mtty/stream', 'PRECOPY_INFO'],
  ],
};
