/** What iommufd's address spaces check, in the order in which they do. */
import type { Check, Checks } from './check.ts';

const sizes = 'iommufd/contract/sizes';
const ranges = 'iommufd/ioas/ranges';
const allow = 'iommufd/ioas/allow';
const mapOrder = 'iommufd/ioas/map-order';
const onDomain = 'iommufd/ioas/map-on-a-domain';
const fileOrder = 'iommufd/files/map-order';
const fileOnDomain = 'iommufd/files/map-on-a-domain';
const dmaBufs = 'iommufd/files/dma-bufs';
const copy = 'iommufd/ioas/copy';
const sweeps = 'iommufd/sweeps/copies';
const unmap = 'iommufd/ioas/unmap';
const options = 'iommufd/ioas/options';
const compat = 'iommufd/compat/vfio-ioas';

/** What every request of /dev/iommu asks first. */
export const structOf = (name: string): Check[] => [
  ['EFAULT', 'the struct’s size cannot be read', sizes, `${name}: nowhere`],
  ['EINVAL', 'it is less than the least', sizes, `${name}: one less than the least`],
  ['E2BIG', 'something behind the struct that is not zero', sizes, `${name}: one more than all, not zero`],
];

export const iommufdChecks: Checks = {
  'IOMMU_DESTROY (iommufd)': [
    ...structOf('IOMMU_DESTROY'),
    ['ENOENT', 'nobody has this id', 'iommufd/objects/ids', 'DESTROY 0'],
    ['ENOENT', 'a vDEVICE whose device has gone', 'iommufd/viommu/tombstone', 'DESTROY of the vDEVICE'],
    ['EBUSY', 'an IOAS with a table', 'iommufd/objects/references', 'DESTROY the IOAS'],
    ['EBUSY', 'an automatic table', 'iommufd/objects/references', 'DESTROY the automatic HWPT'],
    ['EBUSY', 'a bound device', 'iommufd/objects/references', 'DESTROY the device'],
    ['EBUSY', 'an access', 'iommufd/viommu/queues', 'the access is nobody’s to destroy'],
    ['EBUSY', 'a parent of nested tables', 'iommufd/hwpt/nested', 'DESTROY of the parent'],
    ['EBUSY', 'a queue whose descriptor is open', 'iommufd/events/fault-queue', 'DESTROY while it is open'],
    ['EBUSY', 'a fault queue a table reports to', 'iommufd/events/page-requests', 'closed, with a table that uses it'],
    ['EBUSY', 'a vIOMMU whose memory is mapped', 'iommufd/viommu/driver-memory', 'DESTROY while it is mapped'],
    ['EBUSY', 'a vIOMMU with tables, vDEVICEs or queues', 'iommufd/viommu/vdevices', 'DESTROY of the vIOMMU'],
    ['EBUSY', 'a hardware queue another depends on', 'iommufd/viommu/queues', 'DESTROY of the first'],
    ['0', 'an IOAS with mappings', 'iommufd/objects/ids', 'DESTROY of an IOAS with mappings'],
    ['0', 'a vDEVICE in use', 'iommufd/viommu/vdevices', 'DESTROY of the vDEVICE in use'],
  ],
  'IOMMU_IOAS_ALLOC (iommufd)': [
    ...structOf('IOMMU_IOAS_ALLOC'),
    ['EOPNOTSUPP', 'flags', 'iommufd/ioas/alloc', 'flags 1'],
    ['EFAULT', 'the id cannot be written: it is free again', 'iommufd/contract/written-back', 'IOAS_ALLOC, read-only'],
  ],
  'IOMMU_IOAS_ALLOW_IOVAS (iommufd)': [
    ...structOf('IOMMU_IOAS_ALLOW_IOVAS'),
    ['EOPNOTSUPP', 'the reserved field', allow, 'reserved field'],
    ['ENOENT', 'no IOAS', allow, 'no IOAS'],
    ['EFAULT', 'a range cannot be read', allow, 'one, pointer 0'],
    ['EINVAL', 'a range of one byte, or none', allow, 'start = last'],
    ['EINVAL', 'two overlap', allow, 'overlap'],
    ['EADDRINUSE', 'one meets what is reserved: the old list stays', allow, 'a new list, which must not meet what is reserved'],
    ['0', 'none: the pointer is not read', allow, 'none, pointer 0'],
  ],
  'IOMMU_IOAS_IOVA_RANGES (iommufd)': [
    ...structOf('IOMMU_IOAS_IOVA_RANGES'),
    ['EOPNOTSUPP', 'the reserved field', ranges, 'reserved'],
    ['ENOENT', 'no IOAS', ranges, 'no IOAS'],
    ['EFAULT', 'a range cannot be written', ranges, 'room nowhere'],
    ['EMSGSIZE', 'too little room: what fits is written, and how many there are', ranges, 'room for one'],
    ['0', 'everything is reserved: none', ranges, 'no ranges are left but one'],
  ],
  'IOMMU_IOAS_MAP (iommufd)': [
    ...structOf('IOMMU_IOAS_MAP'),
    ['EOPNOTSUPP', 'unknown flags', mapOrder, 'unknown flag, all else wrong'],
    ['EOPNOTSUPP', 'the reserved field', mapOrder, 'reserved, all else wrong'],
    ['EOVERFLOW', 'iova or length U64_MAX, whether it is used or not', mapOrder, 'iova U64_MAX, not fixed, no permission'],
    ['EINVAL', 'neither READABLE nor WRITEABLE', mapOrder, 'no permission, no IOAS'],
    ['ENOENT', 'no IOAS', mapOrder, 'no IOAS, user_va overflows'],
    ['EOVERFLOW', 'user_va + length is 2^64 or more', mapOrder, 'user_va + length = 2^64'],
    ['EINVAL', 'length 0', mapOrder, 'length 0'],
    ['EINVAL', 'longer than all but a page', mapOrder, 'length U64_MAX - page + 1'],
    ['EINVAL', 'length not aligned', onDomain, 'length not aligned'],
    ['EINVAL', 'fixed: iova not aligned', onDomain, 'iova not aligned'],
    ['EOVERFLOW', 'fixed: the range wraps', mapOrder, 'iova + length overflows'],
    ['EINVAL', 'fixed: it meets what is reserved', mapOrder, 'reserved and mapped'],
    ['EEXIST', 'fixed: it meets an area', mapOrder, 'again'],
    ['EOVERFLOW', 'placed: half of the space or more', 'iommufd/ioas/placement', 'half of the space'],
    ['ENOSPC', 'placed: no room', allow, 'no room'],
    ['EINVAL', 'the address’s offset in its page is not aligned', onDomain, 'address not aligned'],
    ['EFAULT', 'with a table: no memory there', onDomain, 'nobody has the address'],
    ['EFAULT', 'with a table: writable, of what is not', onDomain, 'writable, of memory that is not'],
    ['EFAULT', 'with a table: a huge page that the pool has not', 'iommufd/hugepages/files', 'memory of such a pool'],
    ['0', 'without one nobody looks', mapOrder, 'an address nobody has'],
    ['ENOMEM', 'more than RLIMIT_MEMLOCK, without CAP_IPC_LOCK'],
    ['EFAULT', 'the iova cannot be written: the mapping stays', 'iommufd/contract/written-back', 'IOAS_MAP, read-only'],
  ],
  'IOMMU_IOAS_MAP_FILE (iommufd)': [
    ...structOf('IOMMU_IOAS_MAP_FILE'),
    ['EOPNOTSUPP', 'unknown flags', fileOrder, 'unknown flag'],
    ['EOVERFLOW', 'iova or length U64_MAX', fileOrder, 'iova U64_MAX'],
    ['EINVAL', 'neither READABLE nor WRITEABLE', fileOrder, 'no permission'],
    ['ENOENT', 'no IOAS', fileOrder, 'no IOAS'],
    ['EINVAL', 'length 0', fileOrder, 'length 0, no file'],
    ['EOVERFLOW', 'the range of the file wraps', fileOrder, 'overflow, no file'],
    ['EINVAL', 'over a dma-buf’s end', dmaBufs, 'over its end'],
    ['EOPNOTSUPP', 'a dma-buf of somebody else’s than VFIO'],
    ['ENODEV', 'a dma-buf that is revoked', dmaBufs, 'mapped while revoked'],
    ['EOPNOTSUPP', 'a dma-buf of several ranges'],
    ['EBADF', 'no such descriptor', fileOrder, 'no file'],
    ['EINVAL', 'longer than all but a page', fileOrder, 'nearly everything'],
    ['EEXIST', 'where it should be, as for IOMMU_IOAS_MAP', fileOrder, 'over it'],
    ['EINVAL', 'the offset in its page is not aligned', fileOnDomain, 'not aligned'],
    ['EINVAL', 'with a table: no memfd, and nothing like one', fileOnDomain, '/dev/zero'],
    ['EINVAL', 'with a table: a guest_memfd', 'iommufd/files/guest-memfd', 'mapped for it'],
    ['EINVAL', 'with a table: over the end of the file', fileOnDomain, 'over the end'],
    [
      'ENOMEM',
      'with a table: a page of a pool of huge pages that is empty',
      'iommufd/hugepages/files',
      'of a pool that is empty',
    ],
    ['ENOMEM', 'more than RLIMIT_MEMLOCK, without CAP_IPC_LOCK'],
  ],
  'IOMMU_IOAS_COPY (iommufd)': [
    ...structOf('IOMMU_IOAS_COPY'),
    ['EOPNOTSUPP', 'unknown flags', copy, 'unknown flag'],
    ['EOVERFLOW', 'length or one of the iovas U64_MAX', copy, 'dst_iova U64_MAX, not fixed'],
    ['EINVAL', 'neither READABLE nor WRITEABLE', copy, 'no permission, no source'],
    ['ENOENT', 'no source', copy, 'no source, length 0'],
    ['EINVAL', 'length 0', copy, 'length 0'],
    ['EOVERFLOW', 'the source’s range wraps', copy, 'source overflows'],
    ['ENOENT', 'not all of it is mapped', copy, 'source mapped in part'],
    ['ENOENT', 'no target', copy, 'no target'],
    ['EEXIST', 'where it should be, as for IOMMU_IOAS_MAP', copy, 'over it'],
    ['EPERM', 'writable, of what was mapped without', sweeps, 'writable, of what was mapped without'],
    ['EFAULT', 'with a table: the memory is gone'],
  ],
  'IOMMU_IOAS_UNMAP (iommufd)': [
    ...structOf('IOMMU_IOAS_UNMAP'),
    ['ENOENT', 'no IOAS', unmap, 'no IOAS'],
    ['EOVERFLOW', 'iova or length U64_MAX, but for everything', unmap, 'length U64_MAX'],
    ['EINVAL', 'length 0', unmap, 'length 0'],
    ['EOVERFLOW', 'the range wraps', unmap, 'overflow'],
    ['EBUSY', 'a hardware queue is in it', 'iommufd/viommu/queues', 'unmapping it'],
    ['ENOENT', 'it cuts an area: those before it are gone', unmap, 'cuts the second: the first is gone'],
    ['ENOENT', 'nothing there', unmap, 'nothing there'],
    ['EDEADLK', 'a driver does not give its pins back'],
    ['EFAULT', 'the length cannot be written', 'iommufd/contract/written-back', 'IOAS_UNMAP, read-only'],
  ],
  'IOMMU_OPTION (iommufd)': [
    ...structOf('IOMMU_OPTION'),
    ['EOPNOTSUPP', 'the reserved field', options, 'reserved'],
    ['EOPNOTSUPP', 'no such option', options, 'unknown option'],
    ['EOPNOTSUPP', 'RLIMIT_MODE: of an object', options, 'RLIMIT_MODE of an object'],
    ['EPERM', 'RLIMIT_MODE, SET: without CAP_SYS_RESOURCE'],
    ['EBUSY', 'RLIMIT_MODE, SET: there is an object', options, 'RLIMIT_MODE, SET with an object there'],
    ['EINVAL', 'RLIMIT_MODE, SET: neither 0 nor 1', options, 'RLIMIT_MODE, SET 2'],
    ['EOPNOTSUPP', 'RLIMIT_MODE: neither GET nor SET', options, 'RLIMIT_MODE, another operation'],
    ['ENOENT', 'HUGE_PAGES: no IOAS', options, 'HUGE_PAGES of nothing, another operation'],
    ['EINVAL', 'HUGE_PAGES, SET 0: a table and an area', 'iommufd/ioas/options-on-a-domain', 'SET 0 with an area'],
    ['EADDRINUSE', 'HUGE_PAGES, SET 0: an area of no whole pages', options, 'HUGE_PAGES, SET 0 over it'],
    ['EINVAL', 'HUGE_PAGES, SET: neither 0 nor 1', options, 'HUGE_PAGES, SET 2'],
    ['EOPNOTSUPP', 'HUGE_PAGES: neither GET nor SET', options, 'HUGE_PAGES, another operation'],
  ],
  'IOMMU_VFIO_IOAS (iommufd)': [
    ...structOf('IOMMU_VFIO_IOAS'),
    ['EOPNOTSUPP', 'the reserved field', compat, 'reserved'],
    ['ENODEV', 'GET: there is none', compat, 'GET of none'],
    ['ENOENT', 'SET: no IOAS', compat, 'SET of none'],
    ['EOPNOTSUPP', 'none of the three', compat, 'unknown'],
    ['0', 'CLEAR of none', compat, 'CLEAR of none'],
  ],
  'IOMMU_IOAS_CHANGE_PROCESS (iommufd)': [
    ...structOf('IOMMU_IOAS_CHANGE_PROCESS'),
    ['EOPNOTSUPP', 'the reserved field', 'iommufd/ioas/change-process', 'reserved'],
    ['EINVAL', 'something is mapped by address', 'iommufd/ioas/change-process', 'memory by address'],
    ['EINVAL', 'a dma-buf is mapped', dmaBufs, 'CHANGE_PROCESS'],
    ['ENOMEM', 'more than the caller’s RLIMIT_MEMLOCK'],
    ['0', 'nothing is mapped', 'iommufd/ioas/change-process', 'nothing mapped'],
  ],
};
