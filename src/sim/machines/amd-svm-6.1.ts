// Captured from the lab's /dev/kvm by scripts/sim/capture-profile.mjs; the APIC ids of the CPU that answered are masked.
import type { Machine } from '../machine.ts';
import { amdSvm612 } from './amd-svm-6.12.ts';
import { capabilities, changedLeaves, HYPERV_CAPABILITIES, LBR_MSRS, msrsWithout } from './tables.ts';

export const amdSvm61: Machine = {
  name: 'amd-svm-6.1',
  release: '6.1.0',
  backend: 'svm',
  cpus: 1,
  instructionsPerMs: 100_000,
  limits: { nofile: 1024, maps: 65530, memory: 3913 * 2 ** 20, memlock: Infinity },
  hugePages: { 2097152: 0, 1073741824: 0 },
  numa: true,
  ksm: true,
  memfdNoexec: 0,
  devices: { '/dev/kvm': true, '/dev/vfio/vfio': true },
  kvm: {
    capabilities: capabilities([...HYPERV_CAPABILITIES, 9, 117, 196], {
      66: 1024,
      118: 2,
      128: 4096,
      129: 3,
      143: 15,
      157: 4224,
      213: 127,
    }),
    vmTypeCapabilities: {},
    cpuid: changedLeaves(amdSvm612.kvm.cpuid, [
      [0x80000005, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0],
      [0x80000008, 0x0, 0x0, 0x3928, 0x4000000, 0x0, 0x0],
      [0x8000000a, 0x0, 0x0, 0x1, 0x8, 0x0, 0x10010021],
    ]),
    emulatedCpuid: amdSvm612.kvm.emulatedCpuid,
    msrs: msrsWithout(LBR_MSRS, [0x40000118]),
    featureMsrs: [
      [0xc0011029, 0x2n],
      [0x8b, 0x1000065n],
      [0x10a, 0x400000000c000079n],
      [0x345, 0x0n],
    ],
    mceCap: 0x1000100n,
    hostXcr0: 0x21fn,
    mxcsrMask: 0xffff,
    tscKhz: 2596000,
    gpaBits: 40,
    hvaBits: 56,
    vmTypes: 0x1,
  },
};
