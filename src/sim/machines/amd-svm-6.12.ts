// Captured from the lab's /dev/kvm by scripts/sim/capture-profile.mjs; the APIC ids of the CPU that answered are masked.
import type { Machine } from '../machine.ts';
import { amdSvm72 } from './amd-svm-7.2.ts';
import { capabilities, changedLeaves, HYPERV_CAPABILITIES, LBR_MSRS, msrsWithout, PMU_MSRS } from './tables.ts';

export const amdSvm612: Machine = {
  name: 'amd-svm-6.12',
  release: '6.12.117',
  backend: 'svm',
  cpus: 1,
  instructionsPerMs: 100_000,
  limits: { nofile: 1024, maps: 65530, memory: 3920 * 2 ** 20, memlock: Infinity },
  hugePages: { 2097152: 0, 1073741824: 0 },
  numa: true,
  ksm: true,
  memfdNoexec: 0,
  devices: { '/dev/kvm': true, '/dev/vfio/vfio': true },
  kvm: {
    capabilities: capabilities([...HYPERV_CAPABILITIES, 9, 89, 117, 196, 226, 231, 232, 235, 236, 237, 238], {
      38: 511,
      66: 4096,
      118: 2,
      128: 16384,
      129: 3,
      143: 15,
      157: 4224,
      213: 2047,
      233: [8, 0],
      234: [1, 0],
    }),
    vmTypeCapabilities: {},
    cpuid: changedLeaves(amdSvm72.kvm.cpuid, [
      [0x1, 0x0, 0x0, 0x60fb1, 0x800, 0x76f83203, 0xf8bfbfd],
      [0x80000001, 0x0, 0x0, 0x60fb1, 0x0, 0x75, 0xedd3fbfd],
      [0x80000008, 0x0, 0x0, 0x283928, 0x4000000, 0x0, 0x0],
    ]),
    emulatedCpuid: amdSvm72.kvm.emulatedCpuid,
    msrs: msrsWithout(PMU_MSRS, LBR_MSRS),
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
    sevVmsaFeatures: 0x0n,
  },
};
