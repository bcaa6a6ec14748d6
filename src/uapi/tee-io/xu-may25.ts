/** RFC: host side support for TDISP using TSM, May 2025 (`SERIES.xuMay25`): bind by VFIO, guest requests by iommufd. */
import type { Struct } from '../struct.ts';
import { struct } from '../struct.ts';

export {
  KVM_MEM_VFIO_DMABUF,
  VFIO_DEVICE_FEATURE_DMA_BUF,
  vfio_device_feature_dma_buf,
  vfio_region_dma_range,
} from './xu-jan25.ts';

/** RFC, TDISP using TSM, ioctl on a VFIO device: vfio_pci_tsm_bind. */
export const VFIO_DEVICE_TSM_BIND = 0x3b7a;
/** RFC, TDISP using TSM, ioctl on a VFIO device: vfio_pci_tsm_unbind. */
export const VFIO_DEVICE_TSM_UNBIND = 0x3b7b;
/** RFC, TDISP using TSM, ioctl on an iommufd: iommu_vdevice_tsm_guest_request. In mainline 0x94 is IOMMU_HW_QUEUE_ALLOC. */
export const IOMMU_VDEVICE_TSM_GUEST_REQUEST = 0x3b94;
/** RFC, TDISP using TSM: `iommu_vdevice_tsm_guest_request.type`: TDX Connect. */
export const PCI_TSM_GUEST_REQ_TDXC = 0;

/** RFC, TDISP using TSM: VFIO_DEVICE_TSM_BIND; `argsz` at least 12. */
export interface vfio_pci_tsm_bind {
  argsz: number;
  flags: number;
  /** Of IOMMU_VDEVICE_ALLOC. */
  vdevice_id: number;
  pad: number;
}
/** RFC, TDISP using TSM: VFIO_DEVICE_TSM_BIND; `argsz` at least 12. */
export const vfio_pci_tsm_bind: Struct<vfio_pci_tsm_bind> = struct(
  'vfio_pci_tsm_bind',
  'struct',
  16,
  4,
  `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u32 vdevice_id;
  12 __u32 pad;
`,
);

/** RFC, TDISP using TSM: VFIO_DEVICE_TSM_UNBIND. */
export interface vfio_pci_tsm_unbind {
  argsz: number;
  flags: number;
}
/** RFC, TDISP using TSM: VFIO_DEVICE_TSM_UNBIND. */
export const vfio_pci_tsm_unbind: Struct<vfio_pci_tsm_unbind> = struct(
  'vfio_pci_tsm_unbind',
  'struct',
  8,
  4,
  `
  0 __u32 argsz;
  4 __u32 flags;
`,
);

/** RFC, TDISP using TSM: IOMMU_VDEVICE_TSM_GUEST_REQUEST. `resp_len` in: room; out: bytes written. */
export interface iommu_vdevice_tsm_guest_request {
  size: number;
  vdevice_id: number;
  type: number;
  type_info_len: number;
  req_len: number;
  resp_len: number;
  type_info_uptr: bigint;
  req_uptr: bigint;
  resp_uptr: bigint;
}
/** RFC, TDISP using TSM: IOMMU_VDEVICE_TSM_GUEST_REQUEST. `resp_len` in: room; out: bytes written. */
export const iommu_vdevice_tsm_guest_request: Struct<iommu_vdevice_tsm_guest_request> = struct(
  'iommu_vdevice_tsm_guest_request',
  'struct',
  48,
  8,
  `
  0 __u32 size;
  4 __u32 vdevice_id;
  8 __u32 type;
  12 __u32 type_info_len;
  16 __u32 req_len;
  20 __u32 resp_len;
  24 __u64 @type_info_uptr;
  32 __u64 @req_uptr;
  40 __u64 @resp_uptr;
`,
);
