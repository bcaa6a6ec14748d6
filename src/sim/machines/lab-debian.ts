import type { Machine } from '../machine.ts';
import { amdSvm61 } from './amd-svm-6.1.ts';
import { amdSvm612 } from './amd-svm-6.12.ts';
import { labVtd72 } from './lab-7.2.ts';

/**
 * The lab's machine 'vtd' with Debian's own kernels, which have VFIO's groups and type 1 IOMMU: no iommufd, no device nodes for devices, no no-IOMMU mode,
 * no sample of a mediated device.
 */
function vtd(kernel: Machine, version: string): Machine {
  const { pci, pciDrivers, iommu } = labVtd72 as Required<Machine>;
  return { ...kernel, name: `lab-vtd-${version}`, pci, pciDrivers, iommu, vfioNoiommu: false, vfioVga: true, modular: true };
}

export const labVtd612: Machine = vtd(amdSvm612, '6.12');
export const labVtd61: Machine = vtd(amdSvm61, '6.1');
