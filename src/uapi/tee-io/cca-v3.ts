/** RFC: CCA TDISP host series v3, March 2026 (`SERIES.ccaV3`): the exit a guest's request takes, and the payloads of its guest requests. */
import type { Struct } from '../struct.ts';
import { struct } from '../struct.ts';

/** RFC, CCA TDISP v3: `kvm_run.exit_reason`. */
export const KVM_EXIT_ARM64_TIO = 44;
/** RFC, CCA TDISP v3: first word of a request of scope INFO. */
export const CCA_TSM_REQ_OBJECT_SIZE = 1;
/** RFC, CCA TDISP v3: first word of a request of scope INFO. */
export const CCA_TSM_REQ_OBJECT_READ = 2;
/** RFC, CCA TDISP v3: first word of a request of scope INFO. */
export const CCA_TSM_REQ_UPDATE_IF_REPORT = 3;
/** RFC, CCA TDISP v3: first word of a request of scope INFO. */
export const CCA_TSM_REQ_UPDATE_MEASUREMENTS = 4;
/** RFC, CCA TDISP v3: first word of a request of scope STATE_CHANGE: cca_tsm_vdev_map. */
export const CCA_TSM_REQ_VDEV_MAP = 5;
/** RFC, CCA TDISP v3: first word of a request of scope STATE_CHANGE: cca_tsm_set_tdi_state. */
export const CCA_TSM_REQ_SET_TDI_STATE = 6;
/** RFC, CCA TDISP v3: `arm64_tio.nr`: the guest validates a mapping of device memory. */
export const ARM64_TIO_VALIDATE = 0x9;

/** RFC, CCA TDISP v3: what lies in the union of kvm_run with KVM_EXIT_ARM64_TIO. */
export interface arm64_tio {
  flags: bigint;
  nr: bigint;
  vdev_id: bigint;
  gpa_base: bigint;
  gpa_top: bigint;
  pa_base: bigint;
}
/** RFC, CCA TDISP v3: what lies in the union of kvm_run with KVM_EXIT_ARM64_TIO. */
export const arm64_tio: Struct<arm64_tio> = struct(
  'arm64_tio',
  'struct',
  48,
  8,
  `
  0 __u64 flags;
  8 __u64 nr;
  16 __u64 vdev_id;
  24 __u64 gpa_base;
  32 __u64 gpa_top;
  40 __u64 pa_base;
`,
);

/** RFC, CCA TDISP v3: a request of VDEV_MAP. */
export interface cca_tsm_vdev_map {
  req_type: number;
  rsvd: number;
  gpa_base: bigint;
  gpa_top: bigint;
  pa_base: bigint;
}
/** RFC, CCA TDISP v3: a request of VDEV_MAP. */
export const cca_tsm_vdev_map: Struct<cca_tsm_vdev_map> = struct(
  'cca_tsm_vdev_map',
  'struct',
  32,
  8,
  `
  0 __u32 req_type;
  4 __u32 rsvd;
  8 __u64 gpa_base;
  16 __u64 gpa_top;
  24 __u64 pa_base;
`,
);

/** RFC, CCA TDISP v3: a request of SET_TDI_STATE; only RUN (2) is accepted. */
export interface cca_tsm_set_tdi_state {
  req_type: number;
  tdi_state: number;
}
/** RFC, CCA TDISP v3: a request of SET_TDI_STATE; only RUN (2) is accepted. */
export const cca_tsm_set_tdi_state: Struct<cca_tsm_set_tdi_state> = struct(
  'cca_tsm_set_tdi_state',
  'struct',
  8,
  4,
  `
  0 __u32 req_type;
  4 __u32 tdi_state;
`,
);
