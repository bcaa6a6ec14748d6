/** What iommufd checks of page tables, event queues and vIOMMUs, in the order in which it does. */
import type { Checks } from './check.ts';
import { structOf } from './iommufd.ts';

const alloc = 'iommufd/hwpt/alloc-order';
const areas = 'iommufd/hwpt/over-areas';
const nested = 'iommufd/hwpt/nested';
const invalidate = 'iommufd/hwpt/invalidate';
const info = 'iommufd/hwpt/hw-info';
const dirty = 'iommufd/hwpt/dirty-order';
const faults = 'iommufd/events/fault-queue';
const requests = 'iommufd/events/page-requests';
const veventq = 'iommufd/events/veventq';
const viommu = 'iommufd/viommu/alloc';
const vdevices = 'iommufd/viommu/vdevices';
const caches = 'iommufd/viommu/caches';
const queues = 'iommufd/viommu/queues';
const memory = 'iommufd/viommu/driver-memory';

export const iommufdHwptChecks: Checks = {
  'IOMMU_HWPT_ALLOC (iommufd)': [
    ...structOf('IOMMU_HWPT_ALLOC'),
    ['EOPNOTSUPP', 'the reserved field', alloc, 'reserved, all else wrong'],
    ['EINVAL', 'a type without data, or data without a type', alloc, 'a type without data'],
    ['ENOENT', 'no device', alloc, 'no device'],
    ['EINVAL', 'no such pt_id', alloc, 'no table'],
    ['EINVAL', 'pt_id is neither an IOAS, nor a table for it, nor a vIOMMU', alloc, 'a device for a table'],
    ['EOPNOTSUPP', 'on an IOAS: flags or data the IOMMU cannot', alloc, 'all flags'],
    ['EOPNOTSUPP', 'on an IOAS: DIRTY_TRACKING, and the device cannot', alloc, 'DIRTY for a device without'],
    ['EOPNOTSUPP', 'on an IOAS: a fault queue for a parent', alloc, 'a fault queue for a parent'],
    ['EADDRINUSE', 'on an IOAS: an area outside of its aperture', areas, 'an area below the aperture'],
    ['EADDRINUSE', 'on an IOAS: an area that is not aligned', areas, 'an area that is not aligned'],
    ['EADDRINUSE', 'on an IOAS: an allowed range outside', areas, 'an allowed range below'],
    ['EFAULT', 'on an IOAS: an area’s memory is not there', areas, 'memory nobody has'],
    ['EOPNOTSUPP', 'on a table: other flags than FAULT_ID_VALID and PASID', nested, 'a flag a nested table has not'],
    ['EOPNOTSUPP', 'on a table: without data', nested, 'without data'],
    ['EINVAL', 'on a table: an automatic one', alloc, 'nested on an automatic table'],
    ['EINVAL', 'on a table: it is no parent', alloc, 'nested on one that is no parent'],
    ['EINVAL', 'on a nested table', nested, 'nested on nested'],
    ['EINVAL', 'on a vIOMMU: the device is behind another IOMMU'],
    ['EOPNOTSUPP', 'on a vIOMMU: other flags', vdevices, 'flags it has not'],
    ['EOPNOTSUPP', 'on a vIOMMU: without data', vdevices, 'without data'],
    ['EOPNOTSUPP', 'data of a type the IOMMU has not', nested, 'data of another type'],
    ['EINVAL', 'too little data', nested, 'too little'],
    ['EFAULT', 'data that cannot be read', nested, 'nowhere'],
    ['ENOENT', 'no fault queue, when all else is done', alloc, 'no such fault queue'],
    ['EOPNOTSUPP', 'SMMUv3: a parent with DIRTY_TRACKING or PASID, or where there is one stage'],
    ['ENOSPC', 'SMMUv3: a parent, and no VMID is left'],
    ['EOPNOTSUPP', 'SMMUv3: on a vIOMMU, with PASID'],
    ['EINVAL', 'SMMUv3: on a vIOMMU, data of another type, or not of 16 bytes'],
    [
      'EIO',
      'SMMUv3: a stream table entry with bits a guest may not set, a Config other than abort, bypass and stage 1, or EATS other than off and full',
    ],
    ['EOPNOTSUPP', 'SMMUv3: on a table, AMD: on a table or a vIOMMU; VT-d: on a vIOMMU, which it has not'],
  ],
  'IOMMU_GET_HW_INFO (iommufd)': [
    ...structOf('IOMMU_GET_HW_INFO'),
    ['EOPNOTSUPP', 'unknown flags', info, 'unknown flag'],
    ['EOPNOTSUPP', 'a reserved byte', info, 'reserved'],
    ['ENOENT', 'no device', info, 'no device'],
    ['EOPNOTSUPP', 'a type the IOMMU has not', info, 'another type'],
    ['EFAULT', 'data cannot be written', info, 'nowhere'],
    ['0', 'no room: data_len says how much there is', info, 'none'],
    ['0', 'SMMUv3: the registers by default, Tegra241’s queues by their own type'],
  ],
  'IOMMU_HWPT_SET_DIRTY_TRACKING (iommufd)': [
    ...structOf('IOMMU_HWPT_SET_DIRTY_TRACKING'),
    ['EOPNOTSUPP', 'unknown flags', dirty, 'SET, unknown flag'],
    ['ENOENT', 'no table of an IOAS', dirty, 'SET of an IOAS'],
    ['EOPNOTSUPP', 'it was not made with DIRTY_TRACKING', dirty, 'SET where there is none'],
    ['0', 'again', dirty, 'SET'],
  ],
  'IOMMU_HWPT_GET_DIRTY_BITMAP (iommufd)': [
    ...structOf('IOMMU_HWPT_GET_DIRTY_BITMAP'),
    ['EOPNOTSUPP', 'unknown flags', dirty, 'GET, unknown flag'],
    ['EOPNOTSUPP', 'the reserved field', dirty, 'GET, reserved'],
    ['ENOENT', 'no table of an IOAS', dirty, 'GET of nothing'],
    ['EOVERFLOW', 'the range wraps, or is none', dirty, 'GET, length 0'],
    ['EINVAL', 'the range is not aligned', dirty, 'GET, not aligned'],
    ['EINVAL', 'page_size 0', dirty, 'GET, page_size 0'],
    ['EINVAL', 'the range is not of such pages', dirty, 'GET, iova inside a page'],
    ['EOPNOTSUPP', 'it was not made with DIRTY_TRACKING', dirty, 'GET where there is none'],
    ['0', 'a hole: it ends there', dirty, 'GET of a hole'],
    ['0', 'the bitmap cannot be written: the bits are lost', 'iommufd/dirty/lost', 'read to nowhere'],
  ],
  'IOMMU_HWPT_INVALIDATE (iommufd)': [
    ...structOf('IOMMU_HWPT_INVALIDATE'),
    ['EFAULT', 'the count cannot be written, whatever else was wrong', 'iommufd/hwpt/invalidate-faults', 'read-only'],
    ['EOPNOTSUPP', 'the reserved field', invalidate, 'reserved'],
    ['EINVAL', 'entries nowhere, of no length, or longer than a page', invalidate, 'no address'],
    ['EINVAL', 'more than 524288', invalidate, 'too many'],
    ['ENOENT', 'nobody has this id', invalidate, 'no table'],
    ['EINVAL', 'it is neither a nested table nor a vIOMMU', invalidate, 'a paging table'],
    ['EOPNOTSUPP', 'the IOMMU needs no such thing'],
    ['EINVAL', 'a type the IOMMU has not, of no entries too', invalidate, 'none, of another type'],
    ['EINVAL', 'an entry that is none: entry_num says how many were done', invalidate, 'two of four'],
    ['E2BIG', 'vIOMMU: longer entries that are not zero at the end', caches, 'longer, not zeros'],
    ['EFAULT', 'entries cannot be read', caches, 'nowhere'],
    ['EINVAL', 'VT-d: entries not of 24 bytes'],
    ['EINVAL', 'SMMUv3: no entries'],
    [
      'EIO',
      'SMMUv3: a command that is not a guest’s, or for a StreamID it has no device of; entry_num says how many came before',
    ],
  ],
  'IOMMU_FAULT_QUEUE_ALLOC (iommufd)': [
    ...structOf('IOMMU_FAULT_QUEUE_ALLOC'),
    ['EOPNOTSUPP', 'flags', faults, 'flags'],
    ['EMFILE', 'no descriptor is left'],
  ],
  'IOMMU_VIOMMU_ALLOC (iommufd)': [
    ...structOf('IOMMU_VIOMMU_ALLOC'),
    ['EOPNOTSUPP', 'flags', viommu, 'unknown flag'],
    ['EOPNOTSUPP', 'type 0', viommu, 'type 0'],
    ['ENOENT', 'no device', viommu, 'no device'],
    ['EOPNOTSUPP', 'a type its IOMMU has not', viommu, 'unknown type'],
    ['ENOENT', 'no table of an IOAS', viommu, 'an IOAS for a table'],
    ['EINVAL', 'it is no parent', viommu, 'the automatic table'],
    ['EINVAL', 'too little data, or too much', viommu, 'too little data'],
    ['EFAULT', 'data cannot be read', viommu, 'data nowhere'],
    ['EOPNOTSUPP', 'SMMUv3: devices may not be coherent, and stage 2 cannot force write-back'],
    ['0', 'AMD, with CONFIG_AMD_IOMMU_IOMMUFD: any type'],
    ['EINVAL', 'Tegra241 CMDQV: no data, or not of 16 bytes'],
    ['ENOSPC', 'Tegra241 CMDQV: no interface is left'],
  ],
  'IOMMU_VDEVICE_ALLOC (iommufd)': [
    ...structOf('IOMMU_VDEVICE_ALLOC'),
    ['ENOENT', 'no vIOMMU', vdevices, 'of no vIOMMU'],
    ['ENOENT', 'no device', vdevices, 'of no device'],
    ['EINVAL', 'the device is behind another IOMMU'],
    ['EEXIST', 'it has one, on whatever vIOMMU', vdevices, 'on another vIOMMU'],
    ['EEXIST', 'the id is taken', vdevices, 'the same id for another device'],
    ['EOPNOTSUPP', 'SMMUv3: the device has several StreamIDs'],
    ['EINVAL', 'Tegra241 CMDQV: a StreamID of more than 20 bits'],
    ['ENOSPC', 'Tegra241 CMDQV: no pair of StreamIDs is left'],
  ],
  'IOMMU_VEVENTQ_ALLOC (iommufd)': [
    ...structOf('IOMMU_VEVENTQ_ALLOC'),
    ['EOPNOTSUPP', 'flags', veventq, 'unknown flag'],
    ['EOPNOTSUPP', 'the reserved field', veventq, 'reserved'],
    ['EOPNOTSUPP', 'type 0', veventq, 'type 0'],
    ['EINVAL', 'depth 0, or more than 524288', veventq, 'depth 0'],
    ['ENOENT', 'no vIOMMU', veventq, 'no vIOMMU'],
    ['EEXIST', 'it has a queue of this type', veventq, 'of the same type'],
    ['0', 'of a type that never comes', veventq, 'of a type that never comes'],
  ],
  'IOMMU_HW_QUEUE_ALLOC (iommufd)': [
    ...structOf('IOMMU_HW_QUEUE_ALLOC'),
    ['EOPNOTSUPP', 'flags', queues, 'unknown flag'],
    ['EOPNOTSUPP', 'type 0', queues, 'type 0'],
    ['EINVAL', 'length 0', queues, 'length 0'],
    ['EOVERFLOW', 'the range wraps', queues, 'overflow'],
    ['ENOENT', 'no vIOMMU', queues, 'no vIOMMU'],
    ['EOPNOTSUPP', 'a type its IOMMU has not', queues, 'unknown type'],
    ['EADDRINUSE', 'an area of no whole pages', queues, 'half a page, which is in the way'],
    ['ENOENT', 'not mapped', queues, 'not mapped'],
    ['EPERM', 'not readable', queues, 'not readable'],
    ['EFAULT', 'not in one piece of physical memory'],
    ['EEXIST', 'the index is taken', queues, 'index 0 again'],
    ['EINVAL', 'Tegra241 CMDQV: an index past the interface’s queues'],
    ['EIO', 'Tegra241 CMDQV: the one before it is not there'],
    ['EINVAL', 'Tegra241 CMDQV: a length that is no power of two from 32 on, or more than IDR1.CMDQS; not aligned to it'],
  ],
  'read(2) of a fault queue': [
    ['ESPIPE', 'not of whole records', faults, 'read of nothing'],
    ['0', 'none there, whether it may wait or not', faults, 'read of nothing'],
    ['EINVAL', 'no room for the first group', requests, 'too small'],
  ],
  'write(2) to a fault queue': [
    ['ESPIPE', 'not of whole records', faults, 'write'],
    ['EINVAL', 'an unknown code', requests, 'unknown code'],
    ['EINVAL', 'nobody waits for this cookie', requests, 'twice'],
    ['0', 'a record after others that is wrong: what was done', requests, 'answers, one of them wrong'],
  ],
  'read(2) of a vEVENTQ': [
    ['EINVAL', 'less than a header, whether there is one or not', veventq, 'read of nothing'],
    ['EINVAL', 'no room for the first', veventq, 'too small'],
  ],
  'write(2) to a vEVENTQ': [['EINVAL', 'always', veventq, 'write']],
  'mmap(2) of /dev/iommu': [
    ['EINVAL', 'not MAP_SHARED', memory, 'private'],
    ['EPERM', 'PROT_EXEC', memory, 'executable'],
    ['ENXIO', 'nothing there', memory, 'at 0'],
    ['ENXIO', 'a part, or more', memory, 'a part'],
  ],
};
