import {
  KVM_CAP_HYPERV,
  KVM_CAP_HYPERV_CPUID,
  KVM_CAP_HYPERV_DIRECT_TLBFLUSH,
  KVM_CAP_HYPERV_ENFORCE_CPUID,
  KVM_CAP_HYPERV_ENLIGHTENED_VMCS,
  KVM_CAP_HYPERV_EVENTFD,
  KVM_CAP_HYPERV_SEND_IPI,
  KVM_CAP_HYPERV_SPIN,
  KVM_CAP_HYPERV_SYNIC,
  KVM_CAP_HYPERV_SYNIC2,
  KVM_CAP_HYPERV_TIME,
  KVM_CAP_HYPERV_TLBFLUSH,
  KVM_CAP_HYPERV_VAPIC,
  KVM_CAP_HYPERV_VP_INDEX,
  KVM_CAP_NESTED_STATE,
  KVM_CAP_SYS_HYPERV_CPUID,
  KVM_CAP_XEN_HVM,
} from '../../uapi/kvm.ts';

const NESTED = 'nested virtualisation is not simulated: answered as by a host without it';
const XEN = 'Xen guests are not simulated: answered as by a kernel without CONFIG_KVM_XEN';
const HYPERV = 'what a Hyper-V guest needs is not simulated: answered as by a kernel without CONFIG_KVM_HYPERV';

const hyperv = {
  KVM_CAP_HYPERV,
  KVM_CAP_HYPERV_VAPIC,
  KVM_CAP_HYPERV_SPIN,
  KVM_CAP_HYPERV_TIME,
  KVM_CAP_HYPERV_SYNIC,
  KVM_CAP_HYPERV_SYNIC2,
  KVM_CAP_HYPERV_VP_INDEX,
  KVM_CAP_HYPERV_EVENTFD,
  KVM_CAP_HYPERV_TLBFLUSH,
  KVM_CAP_HYPERV_SEND_IPI,
  KVM_CAP_HYPERV_ENLIGHTENED_VMCS,
  KVM_CAP_HYPERV_CPUID,
  KVM_CAP_HYPERV_DIRECT_TLBFLUSH,
  KVM_CAP_SYS_HYPERV_CPUID,
  KVM_CAP_HYPERV_ENFORCE_CPUID,
};

/** Requests the table has for x86's VMs that KVM answers as unknown: on other architectures, or before, they were known. */
export const unknownRequests: Readonly<Record<string, string>> = {
  'KVM_SET_DEVICE_ATTR (vm)': 'VMs of x86 have no attributes: ENOTTY',
  'KVM_GET_DEVICE_ATTR (vm)': 'VMs of x86 have no attributes: ENOTTY',
  'KVM_HAS_DEVICE_ATTR (vm)': 'VMs of x86 have no attributes: ENOTTY',
};

/** Capabilities a captured profile may have and no simulated machine has: 0 everywhere, and what depends on them is unknown. Why. */
export const absentCapabilities: ReadonlyMap<number, { readonly name: string; readonly reason: string }> = new Map([
  [KVM_CAP_NESTED_STATE, { name: 'KVM_CAP_NESTED_STATE', reason: NESTED }],
  [KVM_CAP_XEN_HVM, { name: 'KVM_CAP_XEN_HVM', reason: XEN }],
  ...Object.entries(hyperv).map(([name, cap]) => [cap, { name, reason: HYPERV }] as const),
]);
