import * as kvm from '../../uapi/kvm.ts';
import type { CapabilityValue, CpuidLeaf } from '../machine.ts';
import { pvm618 } from './pvm-6.18.ts';
import { leaves } from './tables.ts';

/*
 * What the two hardware profiles share: read in the Linux 7.2 source for a build with EPT or NPT, SMM, Hyper-V enlightenments and
 * SW_PROTECTED VMs; no host was asked.
 */

/** Capabilities where a hardware backend answers otherwise than 'pvm-6.18'. */
const changes: Readonly<Record<number, CapabilityValue>> = {
  [kvm.KVM_CAP_HYPERV]: 1,
  [kvm.KVM_CAP_HYPERV_VAPIC]: 1,
  [kvm.KVM_CAP_HYPERV_SPIN]: 1,
  [kvm.KVM_CAP_HYPERV_TIME]: 1,
  [kvm.KVM_CAP_HYPERV_SYNIC]: 1,
  [kvm.KVM_CAP_HYPERV_SYNIC2]: 1,
  [kvm.KVM_CAP_HYPERV_VP_INDEX]: 1,
  [kvm.KVM_CAP_HYPERV_EVENTFD]: 1,
  [kvm.KVM_CAP_HYPERV_TLBFLUSH]: 1,
  [kvm.KVM_CAP_HYPERV_SEND_IPI]: 1,
  [kvm.KVM_CAP_HYPERV_CPUID]: 1,
  [kvm.KVM_CAP_SYS_HYPERV_CPUID]: 1,
  [kvm.KVM_CAP_HYPERV_ENFORCE_CPUID]: 1,
  [kvm.KVM_CAP_TSC_CONTROL]: 1,
  [kvm.KVM_CAP_VM_TSC_CONTROL]: 1,
  [kvm.KVM_CAP_X86_SMM]: 1,
  [kvm.KVM_CAP_MULTI_ADDRESS_SPACE]: 2,
  [kvm.KVM_CAP_X86_DISABLE_EXITS]: 0x1f,
  [kvm.KVM_CAP_SMALLER_MAXPHYADDR]: 0,
  [kvm.KVM_CAP_PMU_CAPABILITY]: 1,
  [kvm.KVM_CAP_DISABLE_QUIRKS2]: 0xfff,
  [kvm.KVM_CAP_MEMORY_ATTRIBUTES]: [8, 0],
  [kvm.KVM_CAP_VM_TYPES]: 3,
  [kvm.KVM_CAP_PRE_FAULT_MEMORY]: 1,
};

export const hardwareCapabilities: Readonly<Record<number, CapabilityValue>> = { ...pvm618.kvm.capabilities, ...changes };

/** Leaf 1 of a guest: the silicon's features, without OSXSAVE. */
const native1 = pvm618.kvm.nativeCpuid.find((leaf) => leaf.function === 1)!;

/**
 * A CPUID table of the same silicon without a PVM in between: its leaves 1, 7 and 0xD, the extended and the hypervisor leaves. `vendor` is leaf
 * 0's EBX, ECX, EDX; `hide` clears bits of leaf 0x80000001 ECX and EDX.
 */
export function hardwareCpuid(
  vendor: readonly [ebx: number, ecx: number, edx: number],
  hide: { readonly ecx: number; readonly edx: number },
): readonly CpuidLeaf[] {
  const [ebx, ecx, edx] = vendor;
  const extended = (leaf: number): CpuidLeaf => pvm618.kvm.cpuid.find((entry) => entry.function === leaf)!;
  const features = extended(0x8000_0001);
  return [
    ...leaves([[0, 0, 0, 0xd, ebx, ecx, edx]]),
    { ...extended(1), ecx: (native1.ecx | 0x8120_2000) >>> 0, edx: native1.edx },
    ...pvm618.kvm.nativeCpuid.filter((leaf) => leaf.function === 7 || leaf.function === 0xd),
    ...leaves([[0x8000_0000, 0, 0, 0x8000_0008, ebx, ecx, edx]]),
    { ...features, ecx: (features.ecx & ~hide.ecx) >>> 0, edx: (features.edx & ~hide.edx) >>> 0 },
    extended(0x8000_0008),
    extended(0x4000_0000),
    extended(0x4000_0001),
  ];
}
