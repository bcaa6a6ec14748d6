/** /dev/iommu with the mock devices of a test kernel, as the lab's is. */
import { fileSteps } from '../files.ts';
import type { Area, WeightedStep } from '../step.ts';
import { allocatorLast, allocatorScenes, allocatorSteps } from './allocator.ts';
import { dirtyScene, eventScene, eventSteps } from './events.ts';
import { iommufdSteps, started, tellAll, withDevice } from './steps.ts';

/** Memory and files, closed and cut while they are mapped for devices; not what is about other descriptors. */
const wanted: ReadonlySet<string> = new Set(['close', 'dup', 'memfd', 'ftruncate', 'fallocate', 'guestRam', 'munmap']);
const files: readonly WeightedStep[] = fileSteps.filter(({ name }) => wanted.has(name));

export const iommufdArea: Area = {
  name: 'iommufd',
  devices: ['/dev/iommu'],
  whole: true,
  length: 50,
  steps: [...iommufdSteps, ...eventSteps, ...files],
  scenes: [withDevice, started, withDevice, dirtyScene, eventScene, function* () {}],
  prepare: () => new Map(),
  last: tellAll,
};

/** Its address spaces alone, and a great many calls. */
export const allocatorArea: Area = {
  ...iommufdArea,
  name: 'allocator',
  length: 100,
  steps: allocatorSteps,
  scenes: allocatorScenes,
  last: allocatorLast,
};
