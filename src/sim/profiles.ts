import { rangeError, typeError } from '../kernel/errors.ts';
import type { Machine } from './machine.ts';
import { amdSvm61 } from './machines/amd-svm-6.1.ts';
import { amdSvm612 } from './machines/amd-svm-6.12.ts';
import { amdSvm72 } from './machines/amd-svm-7.2.ts';
import { intelVmx72 } from './machines/intel-vmx-7.2.ts';
import { iommufdSelftest } from './machines/iommufd-selftest.ts';
import { labAmd72, labHotplug72, labNone72, labVirtio72, labVtd72 } from './machines/lab-7.2.ts';
import { labVtd61, labVtd612 } from './machines/lab-debian.ts';
import { pvm618 } from './machines/pvm-6.18.ts';
import { smmuv372 } from './machines/smmuv3-7.2.ts';
import { teeIo72 } from './machines/tee-io-7.2.ts';

/**
 * Machines that come with kvio, by name. All but `intel-vmx-7.2` and `smmuv3-7.2`, which are read in the 7.2 source, were asked of real kernels: `pvm-6.18` on a host, the others in the lab.
 * `tee-io-7.2` (RFC) is made up: what posted series would make of such a machine. `lab-*` are the lab's machines with their PCI devices and IOMMUs, on the KVM of `amd-svm-7.2`, or
 * of Debian's kernels (`lab-vtd-6.12`, `lab-vtd-6.1`).
 */
export const profiles: Readonly<Record<string, Machine>> = Object.fromEntries(
  [
    ...[pvm618, amdSvm72, amdSvm612, amdSvm61, intelVmx72, iommufdSelftest],
    ...[labVtd72, labAmd72, labVirtio72, labNone72, labHotplug72, labVtd612, labVtd61, smmuv372, teeIo72],
  ].map((machine) => [machine.name, machine]),
);

export const DEFAULT_PROFILE: string = pvm618.name;

/** The machine meant by a name, or by a description of one's own: the fields a boot cannot do without are checked. */
export function machineOf(given: string | Machine = DEFAULT_PROFILE): Machine {
  if (typeof given === 'string') {
    const machine = profiles[given];
    if (machine === undefined)
      throw rangeError(`machine: no profile '${given}' (there are: ${Object.keys(profiles).join(', ')})`);
    return machine;
  }
  if (typeof given !== 'object' || given === null) throw typeError(`machine must be a profile's name or a Machine, not ${given}`);
  if (!/^\d+\.\d+/.test(String(given.release))) {
    throw rangeError(`machine.release must begin with a kernel version ('6.18.44'), not '${given.release}'`);
  }
  const { limits, instructionsPerMs } = given;
  for (const [name, value] of Object.entries({ ...limits, instructionsPerMs })) {
    if (!(typeof value === 'number' && value >= 0)) throw rangeError(`machine: ${name} must be a number from 0, not ${value}`);
  }
  if (!(limits?.nofile > 0 && limits.maps > 0 && limits.memory > 0 && instructionsPerMs > 0)) {
    throw rangeError('machine: limits.nofile, limits.maps, limits.memory and instructionsPerMs must be above 0');
  }
  return given;
}
