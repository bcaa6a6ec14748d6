/** RFC: SEV-TIO v1, bind in the KVM-VFIO device (`SERIES.aikV1`). */
import type { Struct } from '../struct.ts';
import { struct } from '../struct.ts';

/** RFC, SEV-TIO v1: `kvm_device_attr.group` of a KVM-VFIO device. */
export const KVM_DEV_VFIO_DEVICE = 2;
/** RFC, SEV-TIO v1: `kvm_device_attr.attr`; `addr` points to a kvm_vfio_tsm_bind. */
export const KVM_DEV_VFIO_DEVICE_TDI_BIND = 1;
/** RFC, SEV-TIO v1: `kvm_device_attr.attr`; `addr` points to a kvm_vfio_tsm_bind. */
export const KVM_DEV_VFIO_DEVICE_TDI_UNBIND = 2;
/** RFC, SEV-TIO v1: `kvm_run.exit_reason`. In mainline 40 is KVM_EXIT_TDX. */
export const KVM_EXIT_VMGEXIT = 40;
/** RFC, SEV-TIO v1: `kvm_user_vmgexit.type`, the one the series adds. */
export const KVM_USER_VMGEXIT_TIO_REQ = 4;
/** RFC, SEV-TIO v1: GHCB exit code, `sw_exit_code`. */
export const SVM_VMGEXIT_SEV_TIO_GUEST_REQUEST = 0x80000020;

/** RFC, SEV-TIO v1: what TDI_BIND and TDI_UNBIND read. Packed. */
export interface kvm_vfio_tsm_bind {
  /** The guest's requester id of the device. */
  guest_rid: number;
  /** A VFIO device's descriptor. */
  devfd: number;
}
/** RFC, SEV-TIO v1: what TDI_BIND and TDI_UNBIND read. Packed. */
export const kvm_vfio_tsm_bind: Struct<kvm_vfio_tsm_bind> = struct(
  'kvm_vfio_tsm_bind',
  'struct',
  8,
  1,
  `
  0 __u32 guest_rid;
  4 __s32 devfd;
`,
);

/** RFC, SEV-TIO v1: what lies in the union of kvm_run with KVM_EXIT_VMGEXIT, of type KVM_USER_VMGEXIT_TIO_REQ. Packed; that `ret` has 32 bits is inferred. */
export interface kvm_user_vmgexit {
  type: number;
  guest_rid: number;
  ret: number;
}
/** RFC, SEV-TIO v1: what lies in the union of kvm_run with KVM_EXIT_VMGEXIT, of type KVM_USER_VMGEXIT_TIO_REQ. Packed; that `ret` has 32 bits is inferred. */
export const kvm_user_vmgexit: Struct<kvm_user_vmgexit> = struct(
  'kvm_user_vmgexit',
  'struct',
  12,
  1,
  `
  0 __u32 type;
  4 __u32 guest_rid;
  8 __u32 ret;
`,
);
