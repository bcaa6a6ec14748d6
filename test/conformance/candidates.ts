/** The kernels that can be judged here. */
import { readFileSync } from 'node:fs';
import { findKernels, openKernel } from 'kvio';
import { openSim, profiles } from 'kvio/sim';
import type { Candidate } from './run-cases.ts';

export type Found = { readonly candidate: Candidate } | { readonly missing: string };

/** Every kernel by name: the two roads to the host's, and a simulated one for each machine there is a profile of. */
export function candidates(): ReadonlyMap<string, Found> {
  const found = new Map<string, Found>([
    ['native', hostKernel('native')],
    ['ffi', hostKernel('ffi')],
  ]);
  for (const profile of Object.keys(profiles)) found.set(`sim ${profile}`, { candidate: simulated(profile) });
  return found;
}

/** The host's kernel, by one road; or why it cannot be had. */
export function hostKernel(kind: 'native' | 'ffi'): Found {
  const found = findKernels(['/dev/kvm']).find((one) => one.kind === kind)!;
  if (!found.available) return { missing: found.reason };
  return { candidate: { name: kind, nofile: openFileLimit(), open: () => openKernel({ kernel: kind }) } };
}

/** A simulated machine, with few enough descriptors for the cases that use them all up. */
function simulated(profile: string): Candidate {
  const nofile = 1024;
  const { machine } = openSim({ machine: profile });
  const small = { ...machine, limits: { ...machine.limits, nofile } };
  return { name: `sim ${profile}`, nofile, open: () => openSim({ machine: small }) };
}

/** RLIMIT_NOFILE of this process, the soft one. */
function openFileLimit(): number {
  try {
    const row = /^Max open files +(\d+|unlimited)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
    return row?.[1] === undefined || row[1] === 'unlimited' ? Number.POSITIVE_INFINITY : Number(row[1]);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
