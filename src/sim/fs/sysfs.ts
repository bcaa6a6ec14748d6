import { deviceNodes } from '../machine.ts';
import { addModules, type Parameters } from '../parameters.ts';
import type { System } from '../system.ts';
import { addHugePages } from './hugepages.ts';

/** Modules that come with a device node. */
const modules: Readonly<Record<string, readonly (keyof Parameters)[]>> = {
  '/dev/vfio/vfio': ['vfio', 'vfio_iommu_type1', 'vfio_pci'],
  '/dev/iommu': ['iommufd'],
};

/** The directories of /sys that are there whatever the machine has, and the modules it has. */
export function makeSys(system: System): void {
  for (const path of ['bus', 'class', 'dev/char', 'devices/virtual', 'kernel', 'module']) system.fs.mkdirp(`/sys/${path}`);
  const present = deviceNodes(system.machine).flatMap((path) => modules[path] ?? []);
  const { vfioNoiommu = true, vfioVga = false } = system.machine;
  const absent = [...(vfioNoiommu ? [] : ['enable_unsafe_noiommu_mode']), ...(vfioVga ? [] : ['disable_vga'])];
  addModules(system.fs, system.parameters, present, absent);
  addHugePages(system);
}
