import * as kvm from '../../uapi/kvm.ts';
import type { CpuidLeaf, Machine } from '../machine.ts';
import { amdSvm72 } from './amd-svm-7.2.ts';
import { pvm618 } from './pvm-6.18.ts';
import { leaves } from './tables.ts';

/** Leaf 0x80000001 bits Intel processors do not have. */
const AMD_ONLY = { ecx: ~0x0000_0121, edx: ~0x2810_0800 };
/** Leaf 0's EBX, ECX, EDX: 'GenuineIntel'. */
const GENUINE_INTEL = [0x756e_6547, 0x6c65_746e, 0x4965_6e69] as const;

/** The table of a recent processor: that of 'pvm-6.18', whose leaves 1, 7 and 0xD are the silicon's, with another vendor. */
function cpuid(): readonly CpuidLeaf[] {
  const of = (leaf: number): CpuidLeaf => pvm618.kvm.cpuid.find((entry) => entry.function === leaf)!;
  const native1 = pvm618.kvm.nativeCpuid.find((leaf) => leaf.function === 1)!;
  const features = of(0x8000_0001);
  return [
    ...leaves([[0, 0, 0, 0xd, ...GENUINE_INTEL]]),
    { ...of(1), ecx: (native1.ecx | 0x8120_2000) >>> 0, edx: native1.edx },
    ...pvm618.kvm.nativeCpuid.filter((leaf) => leaf.function === 7 || leaf.function === 0xd),
    ...leaves([[0x8000_0000, 0, 0, 0x8000_0008, ...GENUINE_INTEL]]),
    { ...features, ecx: (features.ecx & ~AMD_ONLY.ecx) >>> 0, edx: (features.edx & ~AMD_ONLY.edx) >>> 0 },
    of(0x8000_0008),
    of(0x4000_0000),
    of(0x4000_0001),
  ];
}

/**
 * A recent Intel host with EPT, unrestricted guests and TSC scaling, Linux 7.2, `kvm_intel.nested=0`. *Read* in the source: no such host was
 * asked. What does not depend on the vendor module is as observed on 'amd-svm-7.2'.
 */
export const intelVmx72: Machine = {
  ...pvm618,
  name: 'intel-vmx-7.2',
  release: amdSvm72.release,
  devices: amdSvm72.devices,
  backend: 'vmx',
  kvm: {
    ...amdSvm72.kvm,
    capabilities: {
      ...amdSvm72.kvm.capabilities,
      [kvm.KVM_CAP_TSC_CONTROL]: 1,
      [kvm.KVM_CAP_VM_TSC_CONTROL]: 1,
      [kvm.KVM_CAP_X86_DISABLE_EXITS]: 0x1f,
      [kvm.KVM_CAP_NESTED_STATE]: 0,
      [kvm.KVM_CAP_PMU_CAPABILITY]: 1,
      [kvm.KVM_CAP_X86_BUS_LOCK_EXIT]: 3,
      [kvm.KVM_CAP_X86_NOTIFY_VMEXIT]: 1,
    },
    cpuid: cpuid(),
    msrs: amdSvm72.kvm.msrs.filter((index) => index < 0xc001_0000),
    featureMsrs: pvm618.kvm.featureMsrs.map(([index, value]) => [index, index === 0x8b ? 1n << 32n : value]),
    // MCG_CTL_P, MCG_CMCI_P, MCG_SER_P, MCG_LMCE_P.
    mceCap: 0x0900_0500n,
    tscKhz: 2_500_000,
    gpaBits: 46,
    hvaBits: 47,
  },
};
