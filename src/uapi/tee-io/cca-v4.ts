/** RFC: CCA TDISP host series v4, April 2026 (`SERIES.ccaV4`): as v3, with an answer in the exit and a vIOMMU of its own. */
import type { Struct } from '../struct.ts';
import { struct } from '../struct.ts';

export {
  ARM64_TIO_VALIDATE,
  CCA_TSM_REQ_OBJECT_READ,
  CCA_TSM_REQ_OBJECT_SIZE,
  CCA_TSM_REQ_SET_TDI_STATE,
  CCA_TSM_REQ_UPDATE_IF_REPORT,
  CCA_TSM_REQ_UPDATE_MEASUREMENTS,
  CCA_TSM_REQ_VDEV_MAP,
  cca_tsm_set_tdi_state,
  cca_tsm_vdev_map,
  KVM_EXIT_ARM64_TIO,
} from './cca-v3.ts';

/** RFC, CCA TDISP v4: `iommu_viommu_alloc.type`. */
export const IOMMU_VIOMMU_TYPE_ARM_REALM_SMMUV3 = 3;

/** RFC, CCA TDISP v4: what lies in the union of kvm_run with KVM_EXIT_ARM64_TIO. */
export interface arm64_tio {
  flags: bigint;
  nr: bigint;
  vdev_id: bigint;
  gpa_base: bigint;
  gpa_top: bigint;
  pa_base: bigint;
  /** In, at the next KVM_RUN: 0 accepts. */
  response: bigint;
}
/** RFC, CCA TDISP v4: what lies in the union of kvm_run with KVM_EXIT_ARM64_TIO. */
export const arm64_tio: Struct<arm64_tio> = struct(
  'arm64_tio',
  'struct',
  56,
  8,
  `
  0 __u64 flags;
  8 __u64 nr;
  16 __u64 vdev_id;
  24 __u64 gpa_base;
  32 __u64 gpa_top;
  40 __u64 pa_base;
  48 __u64 response;
`,
);
