import type { Case } from '../../case.ts';
import { accessCases } from './access.ts';
import { compatCases } from './compat.ts';
import { contractCases } from './contract.ts';
import { deviceCases } from './devices.ts';
import { dirtyCases } from './dirty.ts';
import { eventCases } from './events.ts';
import { fileCases } from './files.ts';
import { hugepageCases } from './hugepages.ts';
import { hwptCases } from './hwpt.ts';
import { ioasCases } from './ioas.ts';
import { sweepCases } from './sweeps.ts';
import { teardownCases } from './teardown.ts';
import { viommuCases } from './viommu.ts';

/** /dev/iommu, from the contract of its requests to the events of a vIOMMU; most of it with the mock devices of a test kernel. */
export const iommufdCases: Case[] = [
  ...contractCases,
  ...ioasCases,
  ...fileCases,
  ...hwptCases,
  ...dirtyCases,
  ...deviceCases,
  ...viommuCases,
  ...eventCases,
  ...accessCases,
  ...teardownCases,
  ...compatCases,
  ...sweepCases,
  ...hugepageCases,
];
