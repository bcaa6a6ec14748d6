/** What a naive simulator of VFIO gets wrong, and the cases that show what is right. See traps.ts for what a trap is. */
import type { Trap } from './traps.ts';

export const vfioTraps: readonly Trap[] = [
  [
    'a cdev that is not bound answers EINVAL to everything, an unknown ioctl and a read of nothing too',
    'vfio/nodes/cdev',
    'vfio/reset/unbound',
  ],
  [
    'a container without an IOMMU answers EINVAL, not ENOTTY, to what it does not know',
    'vfio/container/empty',
    'vfio/container/with-a-group',
  ],
  ['SET_IOMMU(9) is EINVAL, while other types that are none are ENODEV', 'vfio/container/with-a-group'],
  [
    'GET_DEVICE_FD looks up the name first, then a descriptor, then the container',
    'vfio/group/get-device',
    'vfio/group/get-device-emfile',
  ],
  {
    trap: 'SET_IRQS can return how many vectors there are, and leave the interrupt off',
    why: 'it takes a device with several MSI vectors and no interrupt remapping, which no machine of the lab has; test/sim/vfio/pci/fixtures.test.ts has both',
  },
  ['SET_IRQS that fails in a range takes the triggers from its start along', 'vfio/irqs/msix', 'vfio/irqs/msi'],
  [
    'no action, or two, is ENOTTY; no data, or two, EINVAL; data that cannot be read EFAULT before either',
    'vfio/irqs/order',
    'vfio/irqs/data-nowhere',
  ],
  [
    'INTx is enabled by a negative descriptor too; ERR and REQ take none but −1',
    'vfio/irqs/intx',
    'vfio/irqs/err-and-req of e1000e',
  ],
  [
    'INTx by loopback ignores the mask and sets none; the device’s masks itself; mtty’s is the other way round',
    'vfio/irqs/intx',
    'vfio/irqs/intx-level',
    'vfio/mtty/intx',
  ],
  ['DisINTx is VFIO’s own: it masks, and stops loopback', 'vfio/irqs/intx-level', 'vfio/irqs/intx', 'vfio/config/command of edu'],
  [
    'the MSI capability is a fiction that can be written; MSI-X’s is the device’s, and read-only',
    'vfio/config/msi of edu',
    'vfio/config/msix of e1000e',
  ],
  [
    'configuration space over its end is EFAULT with nothing done; a BAR over its end is short, at its end EINVAL',
    'vfio/config/extents of edu',
    'vfio/regions/offsets',
  ],
  ['writes to read-only bytes succeed; STATUS cannot be cleared', 'vfio/config/masks of e1000e', 'vfio/config/command of edu'],
  [
    'BAR registers begin with the host’s addresses, size as hardware does, move nothing, and survive a reset',
    'vfio/device-info/fixture of e1000e',
    'vfio/config/bars of e1000e',
  ],
  [
    'memory decode off: EIO from a BAR, an I/O BAR works, mmap succeeds and faults when touched, and the mapping comes back',
    'vfio/regions/decode',
    'vfio/regions/io of testdev',
  ],
  [
    'REGION_INFO leaves cap_offset alone without capabilities; GET_INFO of 16 bytes writes 16',
    'vfio/device-info/regions of edu',
    'vfio/device-info/info of edu',
  ],
  [
    'a DEVICE_RESET that cannot be is EINVAL; HOT_RESET_INFO on the root bus ENODEV; ENOSPC still writes the count',
    'vfio/reset/reset of edu',
    'vfio/reset/hot-reset-info of edu',
    'vfio/reset/hot-reset-info of nvme',
  ],
  [
    'UNMAP of a part: v2 EINVAL and the size as it was; v1 success with size 0, or with the whole mapping',
    'vfio/type1/unmap-cuts-v2',
    'vfio/type1/unmap-cuts-v1',
  ],
  [
    'MAP over a mapping is EEXIST after alignment, and before ENOSPC, the ranges and the address',
    'vfio/type1/map-order',
    'vfio/type1/entry-limit',
  ],
  ['a container of mediated devices only looks at no address, and has no ranges', 'vfio/mtty/type1'],
  [
    'mappings outlive the container’s descriptor and the memory; they go with the last group',
    'vfio/lifetimes/container-first',
    'vfio/lifetimes/last-group',
    'vfio/lifetimes/memory-gone',
  ],
  ['a mapping of a BAR keeps device and group after close', 'vfio/lifetimes/mapped', 'vfio/removal/in-use'],
  [
    'iommufd as a container: UNSET_CONTAINER with open devices, the group again at once',
    'vfio/compat/lifetimes',
    'vfio/compat/extensions',
  ],
  [
    'a read-only cdev maps nothing, not even to read; PROT_EXEC is EPERM on a descriptor of a group',
    'vfio/cdev/read-only',
    'vfio/regions/mmap',
  ],
  ['bus mastering is off after the first open, and MSI does not arrive without it', 'vfio/irqs/bus-master'],
  ['feature 12 is EINVAL where others are ENOTTY, to PROBE too', 'vfio/features/table of edu'],
  [
    'DMA_BUF returns the descriptor; argsz may leave out the ranges; an I/O BAR is EINVAL, no BAR ENODEV; a close is for good',
    'vfio/features/dma-buf-order',
    'vfio/features/dma-buf-bars of e1000e',
    'vfio/features/dma-buf-life',
  ],
  [
    'low power twice is EINVAL, left without being entered 0; pread works meanwhile, mappings do not',
    'vfio/features/low-power of nvme',
  ],
  ['ATTACH of what is attached is a replacement; DETACH of what is not is 0', 'vfio/cdev/attach', 'vfio/cdev/detach'],
  ['an open cdev keeps the driver, and leaves the group alone', 'vfio/removal/open-cdev', 'vfio/group/beside-a-cdev'],
  [
    'GET_BITMAP writes whole words, with stale bits of neighbours; a device that pins nothing has every page dirty; v1 is EACCES before anything',
    'vfio/type1/dirty-bits',
    'vfio/type1/dirty-v1',
  ],
  ['dma_entry_limit is asked at SET_IOMMU', 'vfio/type1/entry-limit'],
  ['IOEVENTFD: no width 8, ENODEV to remove what is not there, no alignment', 'vfio/ioeventfds/order'],
  ['mtty’s interrupts fail until GET_INFO was asked once', 'vfio/mtty/irqs'],
  ['the group of a mediated device is called vfio-noiommu, and is none', 'vfio/mtty/sysfs'],
  ['VADDR of a mapping that lost it already takes back what it did, and is EINVAL', 'vfio/type1/unmap-vaddr'],
];
