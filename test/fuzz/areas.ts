/** What can be fuzzed, by the name given as `--area`. An area is steps and scenes; a new one is a row here. */
import { allocatorArea, iommufdArea } from './iommufd/area.ts';
import { kvmArea } from './kvm/area.ts';
import type { Area } from './step.ts';
import { vfioArea } from './vfio/area.ts';

export const areas: Readonly<Record<string, Area | { readonly notRun: string }>> = {
  kvm: kvmArea,
  vfio: vfioArea,
  iommufd: iommufdArea,
  allocator: allocatorArea,
};
