/** All cases, in the order in which the interface is explained. */
import type { Case } from '../case.ts';
import { coalescedCases } from './coalesced.ts';
import { dirtyLogCases } from './dirty-log.ts';
import { dirtyRingCases } from './dirty-ring.ts';
import { eventfdMemfdCases } from './eventfd-memfd.ts';
import { fileCases } from './files.ts';
import { fuzzedCases } from './fuzzed.ts';
import { guestCases } from './guests.ts';
import { lapicCases } from './lapic.ts';
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

/** Of any architecture, in files whose other cases are x86's. */
const anywhere = new Set(
  ['api-version', 'vcpu-mmap-size', 'create-vm', 'create-vm-emfile', 'capabilities', 'check-extension-odd'].map(
    (name) => `kvm/system/${name}`,
  ),
);

/** What speaks of x86's registers, lists, instructions or requests says nothing elsewhere. */
function x86(all: readonly Case[]): Case[] {
  return all.map((one) => (anywhere.has(one.name) ? one : { ...one, needs: { ...one.needs, arch: 'x64' as const } }));
}

export const cases: readonly Case[] = [
  ...fileCases,
  ...x86(systemCases),
  ...x86(vcpuCases),
  ...memslotCases,
  ...x86(registerCases),
  ...x86(stateCases),
  ...x86(otherStateCases),
  ...x86(settingsCases),
  ...x86(runCases),
  ...x86(guestCases),
  ...x86(memoryCases),
  ...x86(lapicCases),
  ...eventfdMemfdCases,
  ...x86(refusalCases),
  ...x86(dirtyLogCases),
  ...x86(dirtyRingCases),
  ...x86(coalescedCases),
  ...x86(fuzzedCases),
];
