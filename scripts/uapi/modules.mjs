// Which header feeds which generated module, and what the headers cannot say of their structs.

const PARA = ['linux/kvm_para.h', 'asm/kvm_para.h'];

/** One generated file each. `take` filters names of headers that hold much more than is needed. */
export const MODULES = [
  { file: 'kvm', headers: ['linux/kvm.h', 'asm/kvm.h', ...PARA], title: 'KVM: linux/kvm.h, asm/kvm.h, kvm_para.h' },
  { file: 'vfio', headers: ['linux/vfio.h'], title: 'VFIO: linux/vfio.h' },
  { file: 'iommufd', headers: ['linux/iommufd.h'], title: 'iommufd: linux/iommufd.h' },
  { file: 'dma-buf', headers: ['linux/dma-buf.h', 'linux/udmabuf.h'], title: 'dma-buf: linux/dma-buf.h, linux/udmabuf.h' },
  {
    file: 'sys',
    headers: [
      ...[
        'asm-generic/errno-base.h',
        'asm-generic/errno.h',
        'linux/eventfd.h',
        'linux/memfd.h',
        'linux/falloc.h',
        'linux/mman.h',
      ],
      ...['asm/mman.h', 'asm-generic/mman.h', 'asm-generic/mman-common.h', 'asm-generic/hugetlb_encode.h', 'asm-generic/poll.h'],
      ...['linux/fcntl.h', 'asm/fcntl.h', 'asm-generic/fcntl.h', 'linux/stat.h', 'linux/fs.h'],
    ],
    title: 'System calls: errno, open, fcntl, eventfd, memfd, fallocate, mmap, madvise, poll, stat',
    take: /^(E[A-Z0-9]+|EFD_.*|MFD_.*|F_.*|FD_CLOEXEC|FALLOC_FL_.*|MAP_.*|PROT_.*|MADV_.*|MREMAP_.*|MLOCK_.*|MCL_.*|O_.*|POLL.*|AT_.*|S_I[FSRWX].*|SEEK_.*|LOCK_.*|pollfd|flock)$/,
  },
];

/** What is included, in this order, before anything is asked. asm/fcntl.h and asm/errno.h pull in the generic ones. */
export const INCLUDES = [
  ...['linux/kvm.h', 'linux/kvm_para.h', 'linux/vfio.h', 'linux/iommufd.h', 'linux/dma-buf.h', 'linux/udmabuf.h', 'asm/errno.h'],
  ...[
    'linux/eventfd.h',
    'linux/memfd.h',
    'linux/falloc.h',
    'linux/mman.h',
    'linux/poll.h',
    'linux/fcntl.h',
    'linux/stat.h',
    'linux/fs.h',
  ],
];

export const SOURCE = `${INCLUDES.map((header) => `#include <${header}>`).join('\n')}\n`;

/** The header a path of the tree names: linux/kvm.h, asm/kvm.h. */
export const headerName = (path) => /(?:usr\/include|uapi\/\w+)\/(.+)$/.exec(path)?.[1];

/** Flexible arrays: how many elements, as the layout text writes it; '' is all the room there is. */
export const FLEXIBLE = {
  'kvm_msrs.entries': 'nmsrs',
  'kvm_msr_list.indices': 'nmsrs',
  'kvm_cpuid.entries': 'nent',
  'kvm_cpuid2.entries': 'nent',
  'kvm_irq_routing.entries': 'nr',
  'kvm_reg_list.reg': 'n',
  'kvm_signal_mask.sigset': 'len',
  'kvm_pmu_event_filter.events': 'nevents',
  'kvm_coalesced_mmio_ring.coalesced_mmio': '',
  'kvm_stats_desc.name': '',
  'kvm_xsave.extra': '',
  'kvm_nested_state.data.vmx': '',
  'kvm_nested_state.data.svm': '',
  'vfio_region_info_cap_sparse_mmap.areas': 'nr_areas',
  'vfio_irq_set.data': 'argsz-20',
  'vfio_pci_hot_reset_info.devices': 'count',
  'vfio_pci_hot_reset.group_fds': 'count',
  'vfio_device_feature.data': 'argsz-8',
  'vfio_iommu_type1_info_cap_iova_range.iova_ranges': 'nr_iovas',
  'vfio_iommu_type1_dma_unmap.data': 'argsz-24',
  'vfio_iommu_type1_dirty_bitmap.data': 'argsz-8',
  'vfio_device_feature_dma_buf.dma_ranges': 'nr_ranges',
  'udmabuf_create_list.list': 'count',
};
