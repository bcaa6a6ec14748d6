/** RFC: Arm CCA device assignment v1, July 2025 (`SERIES.aneeshV1`): TSM operations, guest requests and private mapping by iommufd. */
import type { Struct } from '../struct.ts';
import { struct } from '../struct.ts';

/** RFC, CCA assignment v1, ioctl on an iommufd: iommu_vdevice_tsm_op. */
export const IOMMU_VDEVICE_TSM_OP = 0x3b95;
/** RFC, CCA assignment v1, ioctl on an iommufd: iommu_vdevice_tsm_guest_request. */
export const IOMMU_VDEVICE_TSM_GUEST_REQUEST = 0x3b96;
/** RFC, CCA assignment v1, ioctl on an iommufd: iommu_vdevice_tsm_map. */
export const IOMMU_VDEVICE_TSM_MAP = 0x3b97;
/** RFC, CCA assignment v1: `iommu_vdevice_tsm_op.op`; VDEICE is the posting's own spelling. */
export const IOMMU_VDEICE_TSM_BIND = 1;
/** RFC, CCA assignment v1: `iommu_vdevice_tsm_op.op`; VDEICE is the posting's own spelling. */
export const IOMMU_VDEICE_TSM_UNBIND = 2;
/** RFC, CCA assignment v1: `iommu_viommu_alloc.flags`: `kvm_vm_fd` is given. */
export const IOMMU_VIOMMU_KVM_FD = 0x1;
/** RFC, CCA assignment v1: `iommu_option.option_id` of a device: later mmaps of its BARs exclude other mappers. */
export const IOMMU_OPTION_EXCLUSIVE_RANGES = 2;

/** RFC, CCA assignment v1: IOMMU_VIOMMU_ALLOC with the VM it belongs to: mainline's 40 bytes, and these. */
export interface iommu_viommu_alloc {
  size: number;
  flags: number;
  type: number;
  dev_id: number;
  hwpt_id: number;
  /** Out. */
  out_viommu_id: number;
  data_len: number;
  __reserved: number;
  data_uptr: bigint;
  /** A VM's descriptor, read with IOMMU_VIOMMU_KVM_FD. */
  kvm_vm_fd: number;
}
/** RFC, CCA assignment v1: IOMMU_VIOMMU_ALLOC with the VM it belongs to: mainline's 40 bytes, and these. */
export const iommu_viommu_alloc: Struct<iommu_viommu_alloc> = struct(
  'iommu_viommu_alloc',
  'struct',
  48,
  8,
  `
  0 __u32 size;
  4 __u32 flags;
  8 __u32 type;
  12 __u32 dev_id;
  16 __u32 hwpt_id;
  20 __u32 out_viommu_id;
  24 __u32 data_len;
  28 __u32 __reserved;
  32 __u64 @data_uptr;
  40 __s32 kvm_vm_fd;
`,
);

/** RFC, CCA assignment v1: IOMMU_VDEVICE_TSM_OP. */
export interface iommu_vdevice_tsm_op {
  size: number;
  op: number;
  flags: number;
  vdevice_id: number;
}
/** RFC, CCA assignment v1: IOMMU_VDEVICE_TSM_OP. */
export const iommu_vdevice_tsm_op: Struct<iommu_vdevice_tsm_op> = struct(
  'iommu_vdevice_tsm_op',
  'struct',
  16,
  4,
  `
  0 __u32 size;
  4 __u32 op;
  8 __u32 flags;
  12 __u32 vdevice_id;
`,
);

/** RFC, CCA assignment v1: IOMMU_VDEVICE_TSM_GUEST_REQUEST. `resp_len` in: room; out: bytes written. */
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
/** RFC, CCA assignment v1: IOMMU_VDEVICE_TSM_GUEST_REQUEST. `resp_len` in: room; out: bytes written. */
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

/** RFC, CCA assignment v1: IOMMU_VDEVICE_TSM_MAP; `size` at least 28. Addresses are the guest's, `end_gpa` exclusive. */
export interface iommu_vdevice_tsm_map {
  size: number;
  flags: number;
  start_gpa: bigint;
  end_gpa: bigint;
  vdevice_id: number;
}
/** RFC, CCA assignment v1: IOMMU_VDEVICE_TSM_MAP; `size` at least 28. Addresses are the guest's, `end_gpa` exclusive. */
export const iommu_vdevice_tsm_map: Struct<iommu_vdevice_tsm_map> = struct(
  'iommu_vdevice_tsm_map',
  'struct',
  32,
  8,
  `
  0 __u32 size;
  4 __u32 flags;
  8 __u64 start_gpa;
  16 __u64 end_gpa;
  24 __u32 vdevice_id;
`,
);
