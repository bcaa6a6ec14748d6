import * as kvm from '../../uapi/kvm.ts';
import type { Machine } from '../machine.ts';
import { hardwareCapabilities, hardwareCpuid } from './hardware.ts';
import { pvm618 } from './pvm-6.18.ts';

/** Leaf 0x80000001 bits Intel processors do not have. */
const AMD_ONLY = { ecx: ~0x0000_0121, edx: ~0x2810_0800 };

/** A recent Intel host with EPT and unrestricted guests, Linux 7.2, `kvm_intel.nested=0`. Read in the source: no such host was asked. */
export const intelVmx72: Machine = {
  ...pvm618,
  name: 'intel-vmx-7.2',
  release: '7.2.13',
  backend: 'vmx',
  kvm: {
    capabilities: { ...hardwareCapabilities, [kvm.KVM_CAP_X86_BUS_LOCK_EXIT]: 3, [kvm.KVM_CAP_X86_NOTIFY_VMEXIT]: 1 },
    // 'GenuineIntel'.
    cpuid: hardwareCpuid([0x756e_6547, 0x6c65_746e, 0x4965_6e69], AMD_ONLY),
    emulatedCpuid: pvm618.kvm.emulatedCpuid,
    msrs: pvm618.kvm.msrs.filter((index) => index < 0xc001_0000),
    featureMsrs: pvm618.kvm.featureMsrs.map(([index, value]) => [index, index === 0x8b ? 1n << 32n : value]),
    // MCG_CTL_P, MCG_CMCI_P, MCG_SER_P, MCG_LMCE_P.
    mceCap: 0x0900_0500n,
    tscKhz: 2_500_000,
    gpaBits: 46,
    vmTypes: 3,
  },
};
