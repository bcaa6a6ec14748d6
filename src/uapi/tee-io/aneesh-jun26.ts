/** RFC: the revised request of the v5 thread, 2 June 2026 (`SERIES.aneeshJun26`): an operation and an architecture instead of a scope. */
import type { Struct } from '../struct.ts';
import { struct } from '../struct.ts';

/** RFC, iommufd TSM June 2026, ioctl on an iommufd: iommu_vdevice_tsm_req. */
export const IOMMU_VDEVICE_TSM_REQ = 0x3b96;
/** RFC, iommufd TSM June 2026: `iommu_vdevice_tsm_req.tvm_arch`. */
export const IOMMU_VDEVICE_TSM_TVM_ARCH_CCA = 1;
/** RFC, iommufd TSM June 2026: `iommu_vdevice_tsm_req.tvm_arch`. */
export const IOMMU_VDEVICE_TSM_TVM_ARCH_SEV = 2;
/** RFC, iommufd TSM June 2026: `iommu_vdevice_tsm_req.tvm_arch`. */
export const IOMMU_VDEVICE_TSM_TVM_ARCH_TDX = 3;
/** RFC, iommufd TSM June 2026: `iommu_vdevice_tsm_req.op`. */
export const IOMMU_VDEVICE_TSM_READ_OBJECT = 1;
/** RFC, iommufd TSM June 2026: `iommu_vdevice_tsm_req.op`. */
export const IOMMU_VDEVICE_TSM_REGEN_OBJECT = 2;
/** RFC, iommufd TSM June 2026: `iommu_vdevice_tsm_req.op`. */
export const IOMMU_VDEVICE_TSM_OBJECT_INFO = 3;
/** RFC, iommufd TSM June 2026: `iommu_vdevice_tsm_req.op`. */
export const IOMMU_VDEVICE_TSM_VALIDATE_MMIO = 4;
/** RFC, iommufd TSM June 2026: `iommu_vdevice_tsm_req.op`. */
export const IOMMU_VDEVICE_TSM_SET_TDI_STATE = 5;
/** RFC, iommufd TSM June 2026: `iommu_vdevice_tsm_req.op`, SEV only. */
export const IOMMU_VDEVICE_TSM_SEV_ENABLE_DMA = 6;
/** RFC, iommufd TSM June 2026: `iommu_vdevice_tsm_req.op`, SEV only. */
export const IOMMU_VDEVICE_TSM_SEV_DISABLE_DMA = 7;

/** RFC, iommufd TSM June 2026: IOMMU_VDEVICE_TSM_REQ. The ioctl returns how many bytes of the response were not used. */
export interface iommu_vdevice_tsm_req {
  size: number;
  vdevice_id: number;
  op: number;
  tvm_arch: number;
  req_len: number;
  resp_len: number;
  req_uptr: bigint;
  resp_uptr: bigint;
  /** Out, also when the backend refuses. */
  tsm_code: bigint;
}
/** RFC, iommufd TSM June 2026: IOMMU_VDEVICE_TSM_REQ. The ioctl returns how many bytes of the response were not used. */
export const iommu_vdevice_tsm_req: Struct<iommu_vdevice_tsm_req> = struct(
  'iommu_vdevice_tsm_req',
  'struct',
  48,
  8,
  `
  0 __u32 size;
  4 __u32 vdevice_id;
  8 __u32 op;
  12 __u32 tvm_arch;
  16 __u32 req_len;
  20 __u32 resp_len;
  24 __u64 @req_uptr;
  32 __u64 @resp_uptr;
  40 __u64 tsm_code;
`,
);
