/** Cases of VFIO, in the order in which the interface is explained. */
import type { Case } from '../../case.ts';
import { assignedCases } from './assigned.ts';
import { configCases } from './config.ts';
import { containerCases } from './container.ts';
import { deviceInfoCases } from './device-info.ts';
import { groupCases } from './group.ts';
import { irqCases } from './irqs.ts';
import { kvmVfioCases } from './kvm-vfio.ts';
import { nodeCases } from './nodes.ts';
import { dirtyCases } from './type1-dirty.ts';
import { mapCases } from './type1-map.ts';
import { unmapCases } from './type1-unmap.ts';

export const vfioCases: readonly Case[] = [
  ...nodeCases,
  ...containerCases,
  ...mapCases,
  ...unmapCases,
  ...dirtyCases,
  ...groupCases,
  ...deviceInfoCases,
  ...irqCases,
  ...configCases,
  ...assignedCases,
  ...kvmVfioCases,
];
