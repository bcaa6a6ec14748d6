/** The kernels that can be judged here. */
import type { Kernel } from 'kvio';
import { openSim, profiles } from 'kvio/sim';
import { type Found, ofMachine, realKernel, withBudget } from './real-kernel.ts';
import type { Candidate } from './run-cases.ts';

/** Every kernel by name: the two roads to the host's, and a simulated one for each machine there is a profile of, but for those with what no released kernel has. */
export function candidates(): ReadonlyMap<string, Found> {
  const found = new Map<string, Found>([
    ['native', hostKernel('native')],
    ['ffi', hostKernel('ffi')],
  ]);
  for (const [profile, { teeIo }] of Object.entries(profiles))
    if (teeIo === undefined) found.set(`sim ${profile}`, { candidate: simulated(profile) });
  return found;
}

/** What a program on this host can open: its kernel by one of two roads, or the simulated one. */
export type HostKernel = 'native' | 'ffi' | 'sim';

/** A kernel to be had on this host; or why it cannot. */
export function hostKernel(kind: HostKernel): Found {
  return kind === 'sim' ? { candidate: simulated() } : realKernel(kind);
}

/** The recordings profiles were captured beside, of kernels that have what no simulated machine has. */
const recordings: Readonly<Record<string, string>> = {
  'amd-svm-7.2': '7.2-svm+smm+tdp+hyperv+swprot',
  'iommufd-selftest': '7.2-svm+smm+tdp+hyperv+swprot',
  'amd-svm-6.12': '6.12-svm+smm+tdp+hyperv+xen',
  'amd-svm-6.1': '6.1-svm+smm+hyperv',
};

/** As many as the lab has (scripts/lab/test.mjs). */
const HUGE_PAGES = { [2 ** 21]: 80, [2 ** 30]: 1 };

/** A simulated machine, with few enough descriptors for the cases that use them all up, and huge pages for those that want some. */
function simulated(profile?: string): Candidate {
  const nofile = 1024;
  const { machine } = openSim(profile === undefined ? {} : { machine: profile });
  const hugePages = { ...machine.hugePages, ...HUGE_PAGES };
  const small = { ...machine, hugePages, limits: { ...machine.limits, nofile } };
  const name = profile === undefined ? 'sim' : `sim ${profile}`;
  const identity = recordings[machine.name];
  const open = (): Kernel => openSim({ machine: small });
  const lab = /^(?:lab-(.*)|(smmuv3))-\d/
    .exec(machine.name)
    ?.slice(1)
    .find((part) => part !== undefined);
  const whose = lab === undefined ? (identity === undefined ? {} : { identity }) : ofMachine(machine.release, lab);
  const only = machine.name === 'iommufd-selftest' ? { only: ['iommufd/'] } : {};
  return withBudget({ name, arch: 'x64', nofile, open, ...whose, ...only }, 100);
}
