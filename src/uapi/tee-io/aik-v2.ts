/** RFC: SEV-TIO v2, bind in iommufd (`SERIES.aikV2`). Each of its iommufd and SEV numbers belongs to something else in mainline. */
import type { Struct } from '../struct.ts';
import { struct } from '../struct.ts';

/** RFC, SEV-TIO v2, ioctl on an iommufd: iommu_vdevice_tsm_bind. In mainline 0x93 is IOMMU_VEVENTQ_ALLOC. */
export const IOMMU_VDEVICE_TSM_BIND = 0x3b93;
/** RFC, SEV-TIO v2, ioctl on an iommufd: iommu_vdevice_tsm_guest_request. In mainline 0x94 is IOMMU_HW_QUEUE_ALLOC. */
export const IOMMU_VDEVICE_TSM_GUEST_REQUEST = 0x3b94;
/** RFC, SEV-TIO v2: `iommu_viommu_alloc.type`. In mainline 2 is IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV. */
export const IOMMU_VIOMMU_TYPE_TSM = 2;
/** RFC, SEV-TIO v2: `kvm_sev_cmd.id`; its data is a kvm_sev_snp_mmio_rmp_update. In mainline 103 is KVM_SEV_SNP_ENABLE_REQ_CERTS. */
export const KVM_SEV_SNP_MMIO_RMP_UPDATE = 103;
/** RFC, SEV-TIO v2: `kvm_sev_snp_mmio_rmp_update.flags`. */
export const KVM_SEV_SNP_MMIO_RMP_UPDATE_PRIVATE = 0x1;
/** RFC, SEV-TIO v2: `kvm_run.exit_reason`. In mainline 40 is KVM_EXIT_TDX. */
export const KVM_EXIT_VMGEXIT = 40;
/** RFC, SEV-TIO v2: `kvm_user_vmgexit.type`, the one the series adds. */
export const KVM_USER_VMGEXIT_TIO_REQ = 4;
/** RFC, SEV-TIO v2: `tio_req.flags`: the state is asked for. */
export const KVM_USER_VMGEXIT_TIO_REQ_FLAG_STATUS = 0x1;
/** RFC, SEV-TIO v2: `tio_req.flags`: MMIO is to be validated. */
export const KVM_USER_VMGEXIT_TIO_REQ_FLAG_MMIO_VALIDATE = 0x2;
/** RFC, SEV-TIO v2: `tio_req.flags`: MMIO is to be configured. */
export const KVM_USER_VMGEXIT_TIO_REQ_FLAG_MMIO_CONFIG = 0x4;
/** RFC, SEV-TIO v2: GHCB exit code, `sw_exit_code`. */
export const SVM_VMGEXIT_SEV_TIO_GUEST_REQUEST = 0x80000020;

/** RFC, SEV-TIO v2: IOMMU_VDEVICE_TSM_BIND. Packed. */
export interface iommu_vdevice_tsm_bind {
  size: number;
  viommu_id: number;
  dev_id: number;
  vdevice_id: number;
  kvmfd: number;
  pad: number;
}
/** RFC, SEV-TIO v2: IOMMU_VDEVICE_TSM_BIND. Packed. */
export const iommu_vdevice_tsm_bind: Struct<iommu_vdevice_tsm_bind> = struct(
  'iommu_vdevice_tsm_bind',
  'struct',
  24,
  1,
  `
  0 __u32 size;
  4 __u32 viommu_id;
  8 __u32 dev_id;
  12 __u32 vdevice_id;
  16 __s32 kvmfd;
  20 __u32 pad;
`,
);

/** RFC, SEV-TIO v2: IOMMU_VDEVICE_TSM_GUEST_REQUEST. Packed. */
export interface iommu_vdevice_tsm_guest_request {
  size: number;
  viommu_id: number;
  dev_id: number;
  vdevice_id: number;
  req: bigint;
  rsp: bigint;
  rsp_len: number;
  req_len: number;
  /** Out. */
  fw_err: number;
}
/** RFC, SEV-TIO v2: IOMMU_VDEVICE_TSM_GUEST_REQUEST. Packed. */
export const iommu_vdevice_tsm_guest_request: Struct<iommu_vdevice_tsm_guest_request> = struct(
  'iommu_vdevice_tsm_guest_request',
  'struct',
  44,
  1,
  `
  0 __u32 size;
  4 __u32 viommu_id;
  8 __u32 dev_id;
  12 __u32 vdevice_id;
  16 __u64 @req;
  24 __u64 @rsp;
  32 __u32 rsp_len;
  36 __u32 req_len;
  40 __s32 fw_err;
`,
);

/** RFC, SEV-TIO v2: the data of KVM_SEV_SNP_MMIO_RMP_UPDATE. */
export interface kvm_sev_snp_mmio_rmp_update {
  flags: number;
  pad: number;
  useraddr: bigint;
  gpa: bigint;
  size: bigint;
}
/** RFC, SEV-TIO v2: the data of KVM_SEV_SNP_MMIO_RMP_UPDATE. */
export const kvm_sev_snp_mmio_rmp_update: Struct<kvm_sev_snp_mmio_rmp_update> = struct(
  'kvm_sev_snp_mmio_rmp_update',
  'struct',
  32,
  8,
  `
  0 __u32 flags;
  4 __u32 pad;
  8 __u64 @useraddr;
  16 __u64 gpa;
  24 __u64 size;
`,
);

/** RFC, SEV-TIO v2: what lies in the union of kvm_run with KVM_EXIT_VMGEXIT, of type KVM_USER_VMGEXIT_TIO_REQ. Packed outside, natural inside. */
export interface kvm_user_vmgexit {
  type: number;
  tio_req: {
    guest_rid: number;
    ret: number;
    flags: number;
    /** Out. */
    tdi_status: number;
    data_gpa: bigint;
    /** In and out. */
    data_npages: bigint;
    req_spa: bigint;
    rsp_spa: bigint;
    mmio_gpa: bigint;
    /** Out. */
    fw_err: number;
  };
}
/** RFC, SEV-TIO v2: what lies in the union of kvm_run with KVM_EXIT_VMGEXIT, of type KVM_USER_VMGEXIT_TIO_REQ. Packed outside, natural inside. */
export const kvm_user_vmgexit: Struct<kvm_user_vmgexit> = struct(
  'kvm_user_vmgexit',
  'struct',
  60,
  1,
  `
  0 __u32 type;
  4 struct 56,8 {
    0 __u32 guest_rid;
    4 __u16 ret;
    6 __u8 flags;
    7 __u8 tdi_status;
    8 __u64 data_gpa;
    16 __u64 data_npages;
    24 __u64 req_spa;
    32 __u64 rsp_spa;
    40 __u64 mmio_gpa;
    48 __s32 fw_err;
  } tio_req;
`,
);
