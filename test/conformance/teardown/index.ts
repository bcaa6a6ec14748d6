/** The scenes whose orders are gone through, by name. */
import { iommufdFiles, iommufdIds } from './iommufd.ts';
import { kvmVm } from './kvm.ts';
import type { Scene } from './scene.ts';
import { vfioByGroup, vfioByNode } from './vfio.ts';

export const scenes: readonly Scene[] = [kvmVm, vfioByGroup, vfioByNode, iommufdFiles, iommufdIds];
