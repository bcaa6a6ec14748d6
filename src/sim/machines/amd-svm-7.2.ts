import type { Machine } from '../machine.ts';
import { hardwareCapabilities, hardwareCpuid } from './hardware.ts';
import { pvm618 } from './pvm-6.18.ts';

/** An AMD host with nested paging, Linux 7.2, `kvm_amd.nested=0`. Read in the source: no such host was asked. */
export const amdSvm72: Machine = {
  ...pvm618,
  name: 'amd-svm-7.2',
  release: '7.2.13',
  backend: 'svm',
  kvm: {
    capabilities: hardwareCapabilities,
    // 'AuthenticAMD'.
    cpuid: hardwareCpuid([0x6874_7541, 0x444d_4163, 0x6974_6e65], { ecx: 1 << 2, edx: 0 }),
    emulatedCpuid: pvm618.kvm.emulatedCpuid,
    msrs: pvm618.kvm.msrs,
    // DE_CFG: LFENCE is serializing.
    featureMsrs: [[0xc0011029, 2n], ...pvm618.kvm.featureMsrs],
    mceCap: pvm618.kvm.mceCap,
    tscKhz: 2_500_000,
    gpaBits: 48,
    vmTypes: 3,
  },
};
