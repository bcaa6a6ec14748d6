/** /dev/vfio: containers, groups and a device that is really there, driven in any order. */
import { fileSteps } from '../files.ts';
import type { Area, WeightedStep } from '../step.ts';
import { bindAll, containerSteps, ready } from './containers.ts';
import { deviceSteps, tellAll } from './devices.ts';

/** What a device’s descriptor must not be given at random: a write to a register of edu may make it transfer, which ends QEMU before 9, and registers of other devices have no model. `deviceSteps` have their own. */
const elsewhere = new Set([
  'write',
  'pread',
  'pwrite',
  'store',
  'mmap',
  'eventfd',
  'madvise',
  'mprotect',
  'load',
  'look',
  'read',
]);

const files: readonly WeightedStep[] = fileSteps.filter(({ name }) => !elsewhere.has(name));

export const vfioArea: Area = {
  name: 'vfio',
  devices: ['/dev/vfio/vfio'],
  steps: [...containerSteps, ...deviceSteps, ...files],
  scenes: [ready, ready, ready, function* () {}],
  prepare: bindAll,
  lasting: true,
  whole: true,
  last: tellAll,
};
