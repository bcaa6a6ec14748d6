/** RFC: private MMIO for private assigned devices, January 2025 (`SERIES.xuJan25`): dma-bufs in memslots, devices bound as private. */
import type { Struct } from '../struct.ts';
import { struct } from '../struct.ts';

/** RFC, private MMIO: `kvm_userspace_memory_region2.flags`: `guest_memfd` is a dma-buf, `guest_memfd_offset` 0. */
export const KVM_MEM_VFIO_DMABUF = 0x8;
/** RFC, private MMIO: feature of VFIO_DEVICE_FEATURE. Merged in 6.19 under this number, with another payload. */
export const VFIO_DEVICE_FEATURE_DMA_BUF = 11;
/** RFC, private MMIO: `vfio_device_bind_iommufd.flags`, `argsz` 16. In mainline bit 0 is VFIO_DEVICE_BIND_FLAG_TOKEN, `argsz` 24. */
export const VFIO_DEVICE_BIND_IOMMUFD_PRIVATE = 0x1;
/** RFC, private MMIO: `vfio_region_info.flags`: neither mmap nor read nor write. */
export const VFIO_REGION_INFO_FLAG_PRIVATE = 0x10;

/** RFC, private MMIO: VFIO_DEVICE_BIND_IOMMUFD as it was before tokens. */
export interface vfio_device_bind_iommufd {
  argsz: number;
  flags: number;
  iommufd: number;
  /** Out. */
  out_devid: number;
}
/** RFC, private MMIO: VFIO_DEVICE_BIND_IOMMUFD as it was before tokens. */
export const vfio_device_bind_iommufd: Struct<vfio_device_bind_iommufd> = struct(
  'vfio_device_bind_iommufd',
  'struct',
  16,
  4,
  `
  0 __u32 argsz;
  4 __u32 flags;
  8 __s32 iommufd;
  12 __u32 out_devid;
`,
);

/** RFC, private MMIO: a piece of a BAR, page aligned. */
export interface vfio_region_dma_range {
  region_index: number;
  __pad: number;
  offset: bigint;
  length: bigint;
}
/** RFC, private MMIO: a piece of a BAR, page aligned. */
export const vfio_region_dma_range: Struct<vfio_region_dma_range> = struct(
  'vfio_region_dma_range',
  'struct',
  24,
  8,
  `
  0 __u32 region_index;
  4 __u32 __pad;
  8 __u64 offset;
  16 __u64 length;
`,
);

/** RFC, private MMIO: the payload of VFIO_DEVICE_FEATURE_DMA_BUF. */
export interface vfio_device_feature_dma_buf {
  open_flags: number;
  nr_ranges: number;
  dma_ranges: vfio_region_dma_range[];
}
/** RFC, private MMIO: the payload of VFIO_DEVICE_FEATURE_DMA_BUF. */
export const vfio_device_feature_dma_buf: Struct<vfio_device_feature_dma_buf> = struct(
  'vfio_device_feature_dma_buf',
  'struct',
  8,
  8,
  `
  0 __u32 open_flags;
  4 __u32 nr_ranges;
  8 struct vfio_region_dma_range dma_ranges[nr_ranges];
`,
  [vfio_region_dma_range],
);
