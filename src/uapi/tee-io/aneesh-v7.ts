/**
 * RFC: vIOMMUs and TSM guest requests for confidential guests, v7, October 2026 (`SERIES.aneeshV7`), known from secondary sources: the request of June 2026 with its
 * operations numbered anew. 3 and 4 are inferred from the order.
 */
import type { Struct } from '../struct.ts';
import { struct } from '../struct.ts';

export {
  IOMMU_VDEVICE_TSM_REQ,
  IOMMU_VDEVICE_TSM_TVM_ARCH_CCA,
  IOMMU_VDEVICE_TSM_TVM_ARCH_SEV,
  IOMMU_VDEVICE_TSM_TVM_ARCH_TDX,
  iommu_vdevice_tsm_req,
} from './aneesh-jun26.ts';

/** RFC, iommufd TSM v7: `iommu_vdevice_tsm_req.op`; tsm_validate_mmio, no response. */
export const IOMMU_VDEVICE_TSM_VALIDATE_MMIO = 1;
/** RFC, iommufd TSM v7: `iommu_vdevice_tsm_req.op`; a `__u32` state. */
export const IOMMU_VDEVICE_TSM_SET_TDI_STATE = 2;
/** RFC, iommufd TSM v7: `iommu_vdevice_tsm_req.op`, SEV only; inferred. */
export const IOMMU_VDEVICE_TSM_SEV_ENABLE_DMA = 3;
/** RFC, iommufd TSM v7: `iommu_vdevice_tsm_req.op`, SEV only; inferred. */
export const IOMMU_VDEVICE_TSM_SEV_DISABLE_DMA = 4;
/** RFC, iommufd TSM v7: `iommu_vdevice_tsm_req.op`; tsm_read_object, the response is the object's bytes. */
export const IOMMU_VDEVICE_TSM_READ_OBJECT = 5;
/** RFC, iommufd TSM v7: `iommu_vdevice_tsm_req.op`; tsm_regen_object. */
export const IOMMU_VDEVICE_TSM_REGEN_OBJECT = 6;
/** RFC, iommufd TSM v7: `iommu_vdevice_tsm_req.op`; a `__u32` object id, the response is 4 bytes. */
export const IOMMU_VDEVICE_TSM_OBJECT_INFO = 7;
/** RFC, iommufd TSM v7: object id: the negotiated SPDM versions, capabilities and algorithms. */
export const IOMMU_VDEVICE_TSM_OBJECT_VCA = 0;
/** RFC, iommufd TSM v7: object id: the certificate chain. */
export const IOMMU_VDEVICE_TSM_OBJECT_CERT = 1;
/** RFC, iommufd TSM v7: object id: the measurements. */
export const IOMMU_VDEVICE_TSM_OBJECT_MEASUREMENT = 2;
/** RFC, iommufd TSM v7: object id: the interface report. */
export const IOMMU_VDEVICE_TSM_OBJECT_REPORT = 3;
/** RFC, iommufd TSM v7: state of SET_TDI_STATE. */
export const IOMMU_VDEVICE_TSM_TDI_UNLOCKED = 0;
/** RFC, iommufd TSM v7: state of SET_TDI_STATE. */
export const IOMMU_VDEVICE_TSM_TDI_LOCKED = 1;
/** RFC, iommufd TSM v7: state of SET_TDI_STATE. */
export const IOMMU_VDEVICE_TSM_TDI_RUN = 2;

/** RFC, iommufd TSM v7: the request of VALIDATE_MMIO; `gpa_top` is exclusive. */
export interface tsm_validate_mmio {
  gpa_base: bigint;
  gpa_top: bigint;
  pa_base: bigint;
}
/** RFC, iommufd TSM v7: the request of VALIDATE_MMIO; `gpa_top` is exclusive. */
export const tsm_validate_mmio: Struct<tsm_validate_mmio> = struct(
  'tsm_validate_mmio',
  'struct',
  24,
  8,
  `
  0 __u64 gpa_base;
  8 __u64 gpa_top;
  16 __u64 pa_base;
`,
);

/** RFC, iommufd TSM v7: the request of READ_OBJECT. */
export interface tsm_read_object {
  type: number;
  rsvd: number;
  offset: bigint;
}
/** RFC, iommufd TSM v7: the request of READ_OBJECT. */
export const tsm_read_object: Struct<tsm_read_object> = struct(
  'tsm_read_object',
  'struct',
  16,
  8,
  `
  0 __u32 type;
  4 __u32 rsvd;
  8 __u64 offset;
`,
);

/** RFC, iommufd TSM v7: the request of REGEN_OBJECT; `nonce` points to 32 bytes. */
export interface tsm_regen_object {
  type: number;
  rsvd: number;
  flags: bigint;
  nonce: bigint;
}
/** RFC, iommufd TSM v7: the request of REGEN_OBJECT; `nonce` points to 32 bytes. */
export const tsm_regen_object: Struct<tsm_regen_object> = struct(
  'tsm_regen_object',
  'struct',
  24,
  8,
  `
  0 __u32 type;
  4 __u32 rsvd;
  8 __u64 flags;
  16 __u64 @nonce;
`,
);
