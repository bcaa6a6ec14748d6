/** All cases, in the order in which the interface is explained. */
import type { Case } from '../case.ts';
import { eventfdMemfdCases } from './eventfd-memfd.ts';
import { fileCases } from './files.ts';
import { guestCases } from './guests.ts';
import { memoryCases } from './memory.ts';
import { memslotCases } from './memslots.ts';
import { otherStateCases } from './other-state.ts';
import { refusalCases } from './refusals.ts';
import { registerCases } from './registers.ts';
import { runCases } from './run.ts';
import { settingsCases } from './settings.ts';
import { stateCases } from './state.ts';
import { systemCases } from './system.ts';
import { vcpuCases } from './vcpu.ts';

export const cases: readonly Case[] = [
  ...fileCases,
  ...systemCases,
  ...vcpuCases,
  ...memslotCases,
  ...registerCases,
  ...stateCases,
  ...otherStateCases,
  ...settingsCases,
  ...runCases,
  ...guestCases,
  ...memoryCases,
  ...eventfdMemfdCases,
  ...refusalCases,
];
