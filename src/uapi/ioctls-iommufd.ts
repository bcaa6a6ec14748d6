/**
 * iommufd, dma-buf and udmabuf requests. iommufd's are all `_IO(';', 0x80 + n)` and take a struct whose first u32 is its size: too short is
 * EINVAL with only that word read, longer than the kernel knows must be zeros there (E2BIG). Rules: linux/iommufd.h, drivers/iommu/iommufd of 7.2.
 */
import * as d from './dma-buf.ts';
import type { IoctlRow } from './ioctl-row.ts';
import * as i from './iommufd.ts';
import type { Struct } from './struct.ts';

const sized = (
  name: string,
  request: number,
  struct: Struct<unknown>,
  least: number,
  dir: 'in' | 'inout',
  since: string,
  errnos: readonly string[],
  extra: Partial<IoctlRow> = {},
): IoctlRow => ({
  ...{ name, request, fds: ['iommufd'], arg: 'pointer', struct, dir, size: 4, since, errnos },
  tail: { length: ['if', ['<=', least, 'size'], ['-', 'size', 4], 0], dir },
  ...extra,
});

const PLACEMENT = ['EOPNOTSUPP', 'EOVERFLOW', 'EINVAL', 'ENOENT', 'ENOSPC', 'EEXIST'];
const OWNED = ['EOPNOTSUPP', 'EINVAL', 'ENOENT'];

export const iommufdIoctls = (): readonly IoctlRow[] => [
  sized('IOMMU_DESTROY', i.IOMMU_DESTROY, i.iommu_destroy, 8, 'in', '6.2', ['ENOENT', 'EBUSY']),
  sized('IOMMU_IOAS_ALLOC', i.IOMMU_IOAS_ALLOC, i.iommu_ioas_alloc, 12, 'inout', '6.2', ['EOPNOTSUPP']),
  sized('IOMMU_IOAS_ALLOW_IOVAS', i.IOMMU_IOAS_ALLOW_IOVAS, i.iommu_ioas_allow_iovas, 24, 'in', '6.2', [...OWNED, 'EADDRINUSE'], {
    pointers: [{ field: 'allowed_iovas', dir: 'in', length: ['*', 'num_iovas', i.iommu_iova_range.size], when: 'num_iovas' }],
  }),
  sized('IOMMU_IOAS_COPY', i.IOMMU_IOAS_COPY, i.iommu_ioas_copy, 40, 'inout', '6.2', [...PLACEMENT, 'EPERM']),
  sized(
    'IOMMU_IOAS_IOVA_RANGES',
    i.IOMMU_IOAS_IOVA_RANGES,
    i.iommu_ioas_iova_ranges,
    32,
    'inout',
    '6.2',
    ['EOPNOTSUPP', 'ENOENT', 'EMSGSIZE'],
    {
      pointers: [{ field: 'allowed_iovas', dir: 'out', length: ['*', 'num_iovas', i.iommu_iova_range.size], when: 'num_iovas' }],
      note: 'EMSGSIZE comes after num_iovas was set to the count needed',
    },
  ),
  sized('IOMMU_IOAS_MAP', i.IOMMU_IOAS_MAP, i.iommu_ioas_map, 40, 'inout', '6.2', PLACEMENT, {
    pointers: [{ field: 'user_va', dir: 'inout', length: 'length', when: 'length' }],
    note: 'devices read it with READABLE, write it with WRITEABLE',
  }),
  sized('IOMMU_IOAS_UNMAP', i.IOMMU_IOAS_UNMAP, i.iommu_ioas_unmap, 24, 'inout', '6.2', [
    'ENOENT',
    'EOVERFLOW',
    'EINVAL',
    'EBUSY',
    'EDEADLK',
  ]),
  sized('IOMMU_OPTION', i.IOMMU_OPTION, i.iommu_option, 24, 'inout', '6.2', [...OWNED, 'EPERM', 'EBUSY', 'EADDRINUSE'], {
    note: 'only val64 is written back',
  }),
  sized('IOMMU_VFIO_IOAS', i.IOMMU_VFIO_IOAS, i.iommu_vfio_ioas, 12, 'inout', '6.2', ['EOPNOTSUPP', 'ENODEV', 'ENOENT']),
  sized('IOMMU_HWPT_ALLOC', i.IOMMU_HWPT_ALLOC, i.iommu_hwpt_alloc, 24, 'inout', '6.6', [...OWNED, 'EADDRINUSE', 'EFAULT'], {
    pointers: [{ field: 'data_uptr', dir: 'in', length: 'data_len', when: ['and', 'data_type', 'data_len', ['<=', 40, 'size']] }],
  }),
  sized('IOMMU_GET_HW_INFO', i.IOMMU_GET_HW_INFO, i.iommu_hw_info, 32, 'inout', '6.6', ['EOPNOTSUPP', 'ENOENT'], {
    pointers: [{ field: 'data_uptr', dir: 'out', length: 'data_len', when: 'data_len' }],
    note: 'bytes the kernel has no data for are zeroed',
  }),
  sized('IOMMU_HWPT_SET_DIRTY_TRACKING', i.IOMMU_HWPT_SET_DIRTY_TRACKING, i.iommu_hwpt_set_dirty_tracking, 16, 'in', '6.7', [
    'EOPNOTSUPP',
    'ENOENT',
  ]),
  sized(
    'IOMMU_HWPT_GET_DIRTY_BITMAP',
    i.IOMMU_HWPT_GET_DIRTY_BITMAP,
    i.iommu_hwpt_get_dirty_bitmap,
    48,
    'in',
    '6.7',
    [...OWNED, 'EOVERFLOW'],
    {
      pointers: [
        {
          field: 'data',
          dir: 'inout',
          length: ['*', ['ceil', ['ceil', 'length', 'page_size'], 64], 8],
          when: ['and', 'length', 'page_size'],
        },
      ],
      note: 'bits are only set, never cleared; a bad address is not reported',
    },
  ),
  sized('IOMMU_HWPT_INVALIDATE', i.IOMMU_HWPT_INVALIDATE, i.iommu_hwpt_invalidate, 32, 'inout', '6.8', OWNED, {
    pointers: [{ field: 'data_uptr', dir: 'in', length: ['*', 'entry_len', 'entry_num'], when: 'entry_num' }],
    note: 'written back on error too: entry_num is how many were done',
  }),
  sized(
    'IOMMU_FAULT_QUEUE_ALLOC',
    i.IOMMU_FAULT_QUEUE_ALLOC,
    i.iommu_fault_alloc,
    16,
    'inout',
    '6.11',
    ['EOPNOTSUPP', 'ENFILE', 'EMFILE'],
    {
      outFds: [{ field: 'out_fault_fd', kind: 'iommufd-fault' }],
    },
  ),
  sized(
    'IOMMU_IOAS_MAP_FILE',
    i.IOMMU_IOAS_MAP_FILE,
    i.iommu_ioas_map_file,
    40,
    'inout',
    '6.13',
    [...PLACEMENT, 'EBADF', 'ENODEV'],
    { inFds: [{ field: 'fd' }] },
  ),
  sized('IOMMU_VIOMMU_ALLOC', i.IOMMU_VIOMMU_ALLOC, i.iommu_viommu_alloc, 24, 'inout', '6.13', OWNED, {
    pointers: [{ field: 'data_uptr', dir: 'inout', length: 'data_len', when: ['and', 'data_len', ['<=', 40, 'size']] }],
  }),
  sized('IOMMU_VDEVICE_ALLOC', i.IOMMU_VDEVICE_ALLOC, i.iommu_vdevice_alloc, 24, 'inout', '6.13', ['ENOENT', 'EINVAL', 'EEXIST']),
  sized('IOMMU_IOAS_CHANGE_PROCESS', i.IOMMU_IOAS_CHANGE_PROCESS, i.iommu_ioas_change_process, 8, 'in', '6.13', [
    'EOPNOTSUPP',
    'EBUSY',
    'EINVAL',
  ]),
  sized(
    'IOMMU_VEVENTQ_ALLOC',
    i.IOMMU_VEVENTQ_ALLOC,
    i.iommu_veventq_alloc,
    28,
    'inout',
    '6.15',
    [...OWNED, 'EEXIST', 'ENFILE', 'EMFILE'],
    {
      outFds: [{ field: 'out_veventq_fd', kind: 'iommufd-veventq' }],
    },
  ),
  sized('IOMMU_HW_QUEUE_ALLOC', i.IOMMU_HW_QUEUE_ALLOC, i.iommu_hw_queue_alloc, 40, 'inout', '6.17', [
    ...OWNED,
    'EOVERFLOW',
    'ERANGE',
    'EADDRINUSE',
    'EPERM',
    'EFAULT',
    'EEXIST',
    'EIO',
  ]),
];

/** dma_buf_set_name copies a string of at most DMA_BUF_NAME_LEN bytes; the three numbers differ only in what their macro claims. */
const setName = (name: string, request: number): IoctlRow => ({
  ...{
    name,
    request,
    fds: ['dma-buf'],
    arg: 'pointer',
    dir: 'in',
    size: 0,
    since: '5.3',
    errnos: ['EINVAL'],
    note: 'a pointer to a string that ends in NUL',
  },
  tail: { length: ['string', 32], dir: 'in' },
});

const dmaBuf = (): readonly IoctlRow[] => [
  {
    name: 'DMA_BUF_IOCTL_SYNC',
    request: d.DMA_BUF_IOCTL_SYNC,
    fds: ['dma-buf'],
    arg: 'pointer',
    struct: d.dma_buf_sync,
    dir: 'in',
    size: 8,
    since: '4.6',
    errnos: ['EINVAL', 'EINTR', 'EAGAIN'],
    blocks: true,
  },
  setName('DMA_BUF_SET_NAME_A', d.DMA_BUF_SET_NAME_A),
  setName('DMA_BUF_SET_NAME_B', d.DMA_BUF_SET_NAME_B),
  setName('DMA_BUF_SET_NAME', d.DMA_BUF_SET_NAME),
  {
    name: 'DMA_BUF_IOCTL_EXPORT_SYNC_FILE',
    request: d.DMA_BUF_IOCTL_EXPORT_SYNC_FILE,
    fds: ['dma-buf'],
    arg: 'pointer',
    struct: d.dma_buf_export_sync_file,
    dir: 'inout',
    size: 8,
    outFds: [{ field: 'fd', kind: 'sync-file' }],
    since: '6.0',
    errnos: ['EINVAL', 'EMFILE'],
  },
  {
    name: 'DMA_BUF_IOCTL_IMPORT_SYNC_FILE',
    request: d.DMA_BUF_IOCTL_IMPORT_SYNC_FILE,
    fds: ['dma-buf'],
    arg: 'pointer',
    struct: d.dma_buf_import_sync_file,
    dir: 'in',
    size: 8,
    inFds: [{ field: 'fd' }],
    since: '6.0',
    errnos: ['EINVAL'],
  },
];

const udmabuf = (): readonly IoctlRow[] => [
  {
    name: 'UDMABUF_CREATE',
    request: d.UDMABUF_CREATE,
    fds: ['udmabuf'],
    arg: 'pointer',
    struct: d.udmabuf_create,
    dir: 'in',
    size: 24,
    returns: 'dma-buf',
    inFds: [{ field: 'memfd' }],
    since: '4.20',
    errnos: ['EINVAL', 'EBADF', 'EBADFD', 'EMFILE'],
    note: 'the memfd must be sealed against shrinking and not against writing',
  },
  {
    name: 'UDMABUF_CREATE_LIST',
    request: d.UDMABUF_CREATE_LIST,
    fds: ['udmabuf'],
    arg: 'pointer',
    struct: d.udmabuf_create_list,
    dir: 'in',
    size: 8,
    tail: { length: ['*', 'count', d.udmabuf_create_item.size], dir: 'in' },
    returns: 'dma-buf',
    inFds: [{ field: 'list', count: 'count', stride: d.udmabuf_create_item.size }],
    since: '4.20',
    errnos: ['EINVAL', 'EBADF', 'EBADFD', 'EMFILE'],
    note: 'more than the module parameter list_limit (1024) is EINVAL',
  },
];

export const dmaBufIoctls = (): readonly IoctlRow[] => [...dmaBuf(), ...udmabuf()];
