/** RFC: "iommufd: TSM" v5, May 2026 (`SERIES.aneeshV5`). The scopes are spelled as linux/pci-tsm.h does. */
import type { Struct } from '../struct.ts';
import { struct } from '../struct.ts';

/** RFC, iommufd TSM v5, ioctl on an iommufd: iommu_vdevice_tsm_op. */
export const IOMMU_VDEVICE_TSM_OP = 0x3b95;
/** RFC, iommufd TSM v5, ioctl on an iommufd: iommu_vdevice_tsm_req. */
export const IOMMU_VDEVICE_TSM_REQ = 0x3b96;
/** RFC, iommufd TSM v5: `iommu_vdevice_tsm_op.type`. */
export const IOMMU_VDEVICE_TSM_BIND = 1;
/** RFC, iommufd TSM v5: `iommu_vdevice_tsm_op.type`. */
export const IOMMU_VDEVICE_TSM_UNBIND = 2;
/** RFC, iommufd TSM v5: `iommu_vdevice_tsm_req.scope`. */
export const PCI_TSM_REQ_INFO = 0;
/** RFC, iommufd TSM v5: `iommu_vdevice_tsm_req.scope`. */
export const PCI_TSM_REQ_STATE_CHANGE = 1;
/** RFC, iommufd TSM v5: `iommu_vdevice_tsm_req.scope`. The helper refuses it. */
export const PCI_TSM_REQ_DEBUG_READ = 2;
/** RFC, iommufd TSM v5: `iommu_vdevice_tsm_req.scope`. The helper refuses it. */
export const PCI_TSM_REQ_DEBUG_WRITE = 3;

/** RFC, iommufd TSM v5: IOMMU_VDEVICE_TSM_OP. */
export interface iommu_vdevice_tsm_op {
  size: number;
  type: number;
  flags: number;
  vdevice_id: number;
}
/** RFC, iommufd TSM v5: IOMMU_VDEVICE_TSM_OP. */
export const iommu_vdevice_tsm_op: Struct<iommu_vdevice_tsm_op> = struct(
  'iommu_vdevice_tsm_op',
  'struct',
  16,
  4,
  `
  0 __u32 size;
  4 __u32 type;
  8 __u32 flags;
  12 __u32 vdevice_id;
`,
);

/** RFC, iommufd TSM v5: IOMMU_VDEVICE_TSM_REQ. The ioctl returns how many bytes of the response were not used. */
export interface iommu_vdevice_tsm_req {
  size: number;
  vdevice_id: number;
  scope: number;
  req_len: number;
  resp_len: number;
  __reserved: number;
  req_uptr: bigint;
  resp_uptr: bigint;
}
/** RFC, iommufd TSM v5: IOMMU_VDEVICE_TSM_REQ. The ioctl returns how many bytes of the response were not used. */
export const iommu_vdevice_tsm_req: Struct<iommu_vdevice_tsm_req> = struct(
  'iommu_vdevice_tsm_req',
  'struct',
  40,
  8,
  `
  0 __u32 size;
  4 __u32 vdevice_id;
  8 __u32 scope;
  12 __u32 req_len;
  16 __u32 resp_len;
  20 __u32 __reserved;
  24 __u64 @req_uptr;
  32 __u64 @resp_uptr;
`,
);
