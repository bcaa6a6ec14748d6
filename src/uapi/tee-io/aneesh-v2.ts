/** RFC: "iommufd: TSM" v2, March 2026 (`SERIES.aneeshV2`): requests have a scope; private mapping is left to KVM. */
import type { Struct } from '../struct.ts';
import { struct } from '../struct.ts';

export { IOMMU_VDEVICE_TSM_OP, IOMMU_VIOMMU_KVM_FD, iommu_vdevice_tsm_op, iommu_viommu_alloc } from './aneesh-v1.ts';

/** RFC, iommufd TSM v2, ioctl on an iommufd: iommu_vdevice_tsm_guest_request. */
export const IOMMU_VDEVICE_TSM_GUEST_REQUEST = 0x3b96;

/** RFC, iommufd TSM v2: IOMMU_VDEVICE_TSM_GUEST_REQUEST. The four bytes after `resp_len` have no name. */
export interface iommu_vdevice_tsm_guest_request {
  size: number;
  vdevice_id: number;
  scope: number;
  req_len: number;
  resp_len: number;
  req_uptr: bigint;
  resp_uptr: bigint;
}
/** RFC, iommufd TSM v2: IOMMU_VDEVICE_TSM_GUEST_REQUEST. The four bytes after `resp_len` have no name. */
export const iommu_vdevice_tsm_guest_request: Struct<iommu_vdevice_tsm_guest_request> = struct(
  'iommu_vdevice_tsm_guest_request',
  'struct',
  40,
  8,
  `
  0 __u32 size;
  4 __u32 vdevice_id;
  8 __u32 scope;
  12 __u32 req_len;
  16 __u32 resp_len;
  24 __u64 @req_uptr;
  32 __u64 @resp_uptr;
`,
);
