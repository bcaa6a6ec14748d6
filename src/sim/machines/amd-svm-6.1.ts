// Captured from the lab's /dev/kvm by scripts/sim/capture-profile.mjs; the APIC ids of the CPU that answered are masked.
import type { Machine } from '../machine.ts';
import { amdSvm612 } from './amd-svm-6.12.ts';
import { capabilities, changedLeaves, HYPERV_CAPABILITIES, LBR_MSRS, msrsWithout } from './tables.ts';

export const amdSvm61: Machine = {
  ...amdSvm612,
  name: 'amd-svm-6.1',
  release: '6.1.0',
  limits: { nofile: 1024, maps: 65530, memory: 3913 * 2 ** 20, memlock: Infinity },
  kvm: {
    ...amdSvm612.kvm,
    capabilities: capabilities([...HYPERV_CAPABILITIES, 9, 117, 196], {
      66: 1024,
      118: 2,
      128: 4096,
      129: 3,
      143: 15,
      157: 4224,
      213: 127,
    }),
    cpuid: changedLeaves(amdSvm612.kvm.cpuid, [
      [0x80000005, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0],
      [0x80000008, 0x0, 0x0, 0x3928, 0x4000000, 0x0, 0x0],
      [0x8000000a, 0x0, 0x0, 0x1, 0x8, 0x0, 0x10010021],
    ]),
    hvCpuid: changedLeaves(amdSvm612.kvm.hvCpuid, [
      [0x40000003, 0x0, 0x0, 0x2aff, 0x830, 0x0, 0x80d12],
      [0x40000005, 0x0, 0x0, 0x400, 0x40, 0x0, 0x0],
      [0x4000000a, 0x0, 0x0, 0x80000, 0x1, 0x0, 0x0],
    ]),
    msrs: msrsWithout(LBR_MSRS, [0x40000118]),
  },
};
