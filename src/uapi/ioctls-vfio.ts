/**
 * VFIO requests: containers, groups, devices, migration data fds. All are `_IO(';', 100 + n)` whatever they take, and the numbers
 * are used again for other kinds of fd. `argsz` is the caller's word for how long its buffer is. Rules: linux/vfio.h, drivers/vfio of 7.2.
 */
import type { Expression, FdKind, IoctlRow, Tail } from './ioctl-row.ts';
import type { Struct } from './struct.ts';
import * as v from './vfio.ts';

type Columns = Partial<IoctlRow>;

/** `minsz` bytes are copied in whatever argsz says; a smaller argsz is EINVAL, a larger one means nothing. */
const fixed = (
  name: string,
  request: number,
  fd: FdKind,
  struct: Struct<unknown>,
  dir: 'in' | 'inout',
  minsz: number,
  extra: Columns = {},
): IoctlRow => ({
  ...{ name, request, fds: [fd], arg: 'pointer', struct, dir, size: minsz, errnos: ['EINVAL'] },
  ...extra,
});

/** The kernel may write as far as argsz allows: later fields, and a chain of capabilities behind the struct. */
const upToArgsz = (minsz: number, dir: 'in' | 'out' | 'inout'): Tail => ({ length: ['-', 'argsz', minsz], dir });
const chained = (...args: Parameters<typeof fixed>): IoctlRow => ({ ...fixed(...args), tail: upToArgsz(args[5], 'out') });

const value = (name: string, request: number, fds: readonly FdKind[], arg: 'int' | 'none', extra: Columns = {}): IoctlRow => ({
  ...{ name, request, fds, arg, size: 0 },
  ...extra,
});

const COMPAT: readonly FdKind[] = ['vfio-container', 'iommufd'];

const container = (): readonly IoctlRow[] => [
  value('VFIO_GET_API_VERSION', v.VFIO_GET_API_VERSION, COMPAT, 'none', { since: '3.6' }),
  value('VFIO_CHECK_EXTENSION', v.VFIO_CHECK_EXTENSION, COMPAT, 'int', { since: '3.6', errnos: ['ENODEV'] }),
  value('VFIO_SET_IOMMU', v.VFIO_SET_IOMMU, COMPAT, 'int', { since: '3.6', errnos: ['EINVAL', 'ENODEV', 'EPERM', 'EBUSY'] }),
  chained('VFIO_IOMMU_GET_INFO', v.VFIO_IOMMU_GET_INFO, 'vfio-container', v.vfio_iommu_type1_info, 'inout', 16, {
    fds: COMPAT,
    since: '3.6',
    errnos: ['EINVAL', 'ENODEV'],
  }),
  fixed('VFIO_IOMMU_MAP_DMA', v.VFIO_IOMMU_MAP_DMA, 'vfio-container', v.vfio_iommu_type1_dma_map, 'in', 32, {
    fds: COMPAT,
    since: '3.6',
    errnos: ['EINVAL', 'EEXIST', 'ENOENT', 'ENOSPC', 'EFAULT', 'EOVERFLOW', 'EPERM', 'ENODEV'],
    pointers: [{ field: 'vaddr', dir: 'inout', length: 'size', when: 'size' }],
  }),
  {
    ...fixed('VFIO_IOMMU_UNMAP_DMA', v.VFIO_IOMMU_UNMAP_DMA, 'vfio-container', v.vfio_iommu_type1_dma_unmap, 'inout', 24),
    fds: COMPAT,
    since: '3.6',
    errnos: ['EINVAL', 'E2BIG', 'ENOENT', 'EBUSY', 'ENODEV'],
    tail: {
      length: ['if', ['and', ['&', 'flags', v.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP], ['<=', 48, 'argsz']], v.vfio_bitmap.size, 0],
      dir: 'in',
    },
    pointers: [
      {
        field: 'data<vfio_bitmap>.data',
        dir: 'out',
        length: 'data<vfio_bitmap>.size',
        when: ['and', ['&', 'flags', v.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP], ['<=', 48, 'argsz']],
      },
    ],
  },
  {
    ...fixed('VFIO_IOMMU_DIRTY_PAGES', v.VFIO_IOMMU_DIRTY_PAGES, 'vfio-container', v.vfio_iommu_type1_dirty_bitmap, 'in', 8),
    since: '5.8',
    errnos: ['EINVAL', 'E2BIG', 'ENOENT', 'ENOTTY'],
    tail: {
      length: [
        'if',
        ['and', ['&', 'flags', v.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP], ['<=', 48, 'argsz']],
        v.vfio_iommu_type1_dirty_bitmap_get.size,
        0,
      ],
      dir: 'in',
    },
    pointers: [
      {
        field: 'data<vfio_iommu_type1_dirty_bitmap_get>.bitmap.data',
        dir: 'out',
        length: 'data<vfio_iommu_type1_dirty_bitmap_get>.bitmap.size',
        when: ['and', ['&', 'flags', v.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP], ['<=', 48, 'argsz']],
      },
    ],
  },
  value('VFIO_IOMMU_ENABLE', v.VFIO_IOMMU_ENABLE, ['vfio-container'], 'none', { arch: 'powerpc', since: '3.12' }),
  value('VFIO_IOMMU_DISABLE', v.VFIO_IOMMU_DISABLE, ['vfio-container'], 'none', { arch: 'powerpc', since: '3.12' }),
  fixed(
    'VFIO_IOMMU_SPAPR_TCE_GET_INFO',
    v.VFIO_IOMMU_SPAPR_TCE_GET_INFO,
    'vfio-container',
    v.vfio_iommu_spapr_tce_info,
    'inout',
    16,
    {
      arch: 'powerpc',
      since: '3.12',
      tail: upToArgsz(16, 'out'),
    },
  ),
  fixed('VFIO_EEH_PE_OP', v.VFIO_EEH_PE_OP, 'vfio-container', v.vfio_eeh_pe_op, 'in', 12, {
    arch: 'powerpc',
    since: '3.17',
    tail: upToArgsz(12, 'in'),
  }),
  fixed(
    'VFIO_IOMMU_SPAPR_REGISTER_MEMORY',
    v.VFIO_IOMMU_SPAPR_REGISTER_MEMORY,
    'vfio-container',
    v.vfio_iommu_spapr_register_memory,
    'in',
    24,
    {
      arch: 'powerpc',
      since: '4.2',
      pointers: [{ field: 'vaddr', dir: 'inout', length: 'size', when: 'size' }],
    },
  ),
  fixed(
    'VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY',
    v.VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY,
    'vfio-container',
    v.vfio_iommu_spapr_register_memory,
    'in',
    24,
    {
      arch: 'powerpc',
      since: '4.2',
      note: 'vaddr and size are compared with what was registered',
    },
  ),
  fixed(
    'VFIO_IOMMU_SPAPR_TCE_CREATE',
    v.VFIO_IOMMU_SPAPR_TCE_CREATE,
    'vfio-container',
    v.vfio_iommu_spapr_tce_create,
    'inout',
    40,
    { arch: 'powerpc', since: '4.2' },
  ),
  fixed('VFIO_IOMMU_SPAPR_TCE_REMOVE', v.VFIO_IOMMU_SPAPR_TCE_REMOVE, 'vfio-container', v.vfio_iommu_spapr_tce_remove, 'in', 16, {
    arch: 'powerpc',
    since: '4.2',
  }),
];

const group = (): readonly IoctlRow[] => [
  fixed('VFIO_GROUP_GET_STATUS', v.VFIO_GROUP_GET_STATUS, 'vfio-group', v.vfio_group_status, 'inout', 8, {
    since: '3.6',
    errnos: ['EINVAL', 'ENODEV'],
  }),
  {
    name: 'VFIO_GROUP_SET_CONTAINER',
    request: v.VFIO_GROUP_SET_CONTAINER,
    fds: ['vfio-group'],
    arg: 'pointer',
    dir: 'in',
    size: 4,
    inFds: [{ field: 0 }],
    since: '3.6',
    errnos: ['EBADF', 'EINVAL', 'ENODEV', 'EPERM', 'EBUSY', 'EBADFD'],
    note: 'a pointer to an s32 fd: a container, or an iommufd',
  },
  value('VFIO_GROUP_UNSET_CONTAINER', v.VFIO_GROUP_UNSET_CONTAINER, ['vfio-group'], 'none', {
    since: '3.6',
    errnos: ['EINVAL', 'EBUSY'],
  }),
  {
    name: 'VFIO_GROUP_GET_DEVICE_FD',
    request: v.VFIO_GROUP_GET_DEVICE_FD,
    fds: ['vfio-group'],
    arg: 'pointer',
    dir: 'in',
    size: 0,
    tail: { length: ['string', 4096], dir: 'in' },
    returns: 'vfio-device',
    since: '3.6',
    errnos: ['EINVAL', 'ENODEV', 'EMFILE', 'EPERM', 'EACCES', 'EAGAIN', 'EADDRINUSE'],
    note: 'a pointer to a string that ends in NUL: the device, and options',
  },
];

/** A feature that is got or set, by the flags of VFIO_DEVICE_FEATURE: PROBE alone looks at no data. */
const feature = (index: number, operation: number): Expression => [
  'and',
  ['==', ['&', 'flags', v.VFIO_DEVICE_FEATURE_MASK], index],
  ['==', ['&', 'flags', v.VFIO_DEVICE_FEATURE_PROBE], 0],
  ['&', 'flags', operation],
];

const device = (): readonly IoctlRow[] => [
  chained('VFIO_DEVICE_GET_INFO', v.VFIO_DEVICE_GET_INFO, 'vfio-device', v.vfio_device_info, 'inout', 16, { since: '3.6' }),
  chained('VFIO_DEVICE_GET_REGION_INFO', v.VFIO_DEVICE_GET_REGION_INFO, 'vfio-device', v.vfio_region_info, 'inout', 32, {
    since: '3.6',
  }),
  fixed('VFIO_DEVICE_GET_IRQ_INFO', v.VFIO_DEVICE_GET_IRQ_INFO, 'vfio-device', v.vfio_irq_info, 'inout', 16, { since: '3.6' }),
  {
    ...fixed('VFIO_DEVICE_SET_IRQS', v.VFIO_DEVICE_SET_IRQS, 'vfio-device', v.vfio_irq_set, 'in', 20),
    inFds: [{ field: 'data', count: ['if', ['&', 'flags', v.VFIO_IRQ_SET_DATA_EVENTFD], 'count', 0] }],
    since: '3.6',
    errnos: ['EINVAL', 'EBADF', 'ENOTTY', 'EBUSY', 'ENOSPC'],
    tail: {
      length: [
        'if',
        ['&', 'flags', v.VFIO_IRQ_SET_DATA_EVENTFD],
        ['*', 'count', 4],
        ['if', ['&', 'flags', v.VFIO_IRQ_SET_DATA_BOOL], 'count', 0],
      ],
      dir: 'in',
    },
    note: 'data: nothing, a u8 or an s32 eventfd for each of count; argsz must cover it',
  },
  value('VFIO_DEVICE_RESET', v.VFIO_DEVICE_RESET, ['vfio-device'], 'none', {
    since: '3.6',
    errnos: ['EINVAL', 'EIO', 'EAGAIN'],
    blocks: true,
  }),
  chained(
    'VFIO_DEVICE_GET_PCI_HOT_RESET_INFO',
    v.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
    'vfio-device',
    v.vfio_pci_hot_reset_info,
    'inout',
    12,
    {
      since: '3.12',
      errnos: ['EINVAL', 'ENODEV', 'ENOSPC', 'EPERM'],
    },
  ),
  {
    ...fixed('VFIO_DEVICE_PCI_HOT_RESET', v.VFIO_DEVICE_PCI_HOT_RESET, 'vfio-device', v.vfio_pci_hot_reset, 'in', 12),
    inFds: [{ field: 'group_fds', count: 'count' }],
    since: '3.12',
    tail: { length: ['*', 'count', 4], dir: 'in' },
    errnos: ['EINVAL', 'ENODEV', 'EBADF', 'EPERM'],
    blocks: true,
    note: 'group fds; none where the device was opened through its own node',
  },
  fixed('VFIO_DEVICE_QUERY_GFX_PLANE', v.VFIO_DEVICE_QUERY_GFX_PLANE, 'vfio-device', v.vfio_device_gfx_plane_info, 'inout', 60, {
    since: '4.16',
    tail: upToArgsz(60, 'inout'),
    errnos: ['EINVAL', 'ENOTTY'],
  }),
  {
    name: 'VFIO_DEVICE_GET_GFX_DMABUF',
    request: v.VFIO_DEVICE_GET_GFX_DMABUF,
    fds: ['vfio-device'],
    arg: 'pointer',
    dir: 'in',
    size: 4,
    returns: 'dma-buf',
    since: '4.16',
    errnos: ['EINVAL', 'ENOTTY'],
    note: 'a pointer to a u32 dmabuf_id',
  },
  fixed('VFIO_DEVICE_IOEVENTFD', v.VFIO_DEVICE_IOEVENTFD, 'vfio-device', v.vfio_device_ioeventfd, 'in', 28, {
    inFds: [{ field: 'fd' }],
    since: '4.17',
    errnos: ['EINVAL', 'EBADF', 'EEXIST', 'ENODEV', 'ENOSPC', 'ENOTTY'],
  }),
  {
    ...fixed('VFIO_DEVICE_FEATURE', v.VFIO_DEVICE_FEATURE, 'vfio-device', v.vfio_device_feature, 'inout', 8),
    since: '5.7',
    tail: upToArgsz(8, 'inout'),
    errnos: ['EINVAL', 'ENOTTY', 'EOPNOTSUPP', 'ENODEV', 'EBADF', 'EMFILE'],
    pointers: [
      {
        field: 'data<vfio_device_feature_dma_logging_control>.ranges',
        dir: 'in',
        length: ['*', 'data<vfio_device_feature_dma_logging_control>.num_ranges', 16],
        when: feature(v.VFIO_DEVICE_FEATURE_DMA_LOGGING_START, v.VFIO_DEVICE_FEATURE_SET),
      },
      {
        field: 'data<vfio_device_feature_dma_logging_report>.bitmap',
        dir: 'out',
        length: [
          '*',
          [
            'ceil',
            [
              'ceil',
              'data<vfio_device_feature_dma_logging_report>.length',
              'data<vfio_device_feature_dma_logging_report>.page_size',
            ],
            64,
          ],
          8,
        ],
        when: feature(v.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, v.VFIO_DEVICE_FEATURE_GET),
      },
    ],
    returns: 'dma-buf',
    returnsWhen: feature(v.VFIO_DEVICE_FEATURE_DMA_BUF, v.VFIO_DEVICE_FEATURE_GET),
    outFds: [
      {
        field: 'data<vfio_device_feature_mig_state>.data_fd',
        kind: 'vfio-migration',
        when: feature(v.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, v.VFIO_DEVICE_FEATURE_SET),
      },
    ],
    note: 'GET of DMA_BUF returns a dma-buf fd; SET of MIG_DEVICE_STATE may hand out data_fd',
  },
  {
    ...fixed('VFIO_DEVICE_BIND_IOMMUFD', v.VFIO_DEVICE_BIND_IOMMUFD, 'vfio-device', v.vfio_device_bind_iommufd, 'inout', 4),
    inFds: [{ field: 'iommufd' }],
    since: '6.6',
    tail: { length: ['if', ['<=', 16, 'argsz'], ['-', 'argsz', 4], 0], dir: 'inout' },
    errnos: ['EINVAL', 'E2BIG', 'EBADF', 'EBADFD', 'EPERM', 'EACCES', 'EBUSY'],
    pointers: [
      {
        field: 'token_uuid_ptr',
        dir: 'in',
        length: 16,
        when: ['and', ['&', 'flags', v.VFIO_DEVICE_BIND_FLAG_TOKEN], ['<=', 24, 'argsz']],
      },
    ],
    note: 'argsz longer than the kernel knows must be zeros there (E2BIG)',
  },
  fixed(
    'VFIO_DEVICE_ATTACH_IOMMUFD_PT',
    v.VFIO_DEVICE_ATTACH_IOMMUFD_PT,
    'vfio-device',
    v.vfio_device_attach_iommufd_pt,
    'inout',
    12,
    {
      since: '6.6',
      tail: { length: ['if', ['and', ['&', 'flags', v.VFIO_DEVICE_ATTACH_PASID], ['<=', 16, 'argsz']], 4, 0], dir: 'in' },
      errnos: ['EINVAL', 'ENOENT', 'EBUSY', 'EADDRINUSE', 'EOPNOTSUPP', 'ENOTTY'],
    },
  ),
  fixed(
    'VFIO_DEVICE_DETACH_IOMMUFD_PT',
    v.VFIO_DEVICE_DETACH_IOMMUFD_PT,
    'vfio-device',
    v.vfio_device_detach_iommufd_pt,
    'in',
    8,
    {
      since: '6.6',
      tail: { length: ['if', ['and', ['&', 'flags', v.VFIO_DEVICE_DETACH_PASID], ['<=', 12, 'argsz']], 4, 0], dir: 'in' },
      errnos: ['EINVAL', 'EOPNOTSUPP', 'ENOTTY'],
    },
  ),
];

const migration = (): readonly IoctlRow[] => [
  fixed('VFIO_MIG_GET_PRECOPY_INFO', v.VFIO_MIG_GET_PRECOPY_INFO, 'vfio-migration', v.vfio_precopy_info, 'inout', 24, {
    since: '6.2',
    errnos: ['EINVAL', 'ENOTTY', 'ENODEV'],
  }),
];

export const vfioIoctls = (): readonly IoctlRow[] => [...container(), ...group(), ...device(), ...migration()];
