/** The kernels that can be judged here. */
import { readFileSync } from 'node:fs';
import { findKernels, type KernelKind, openKernel } from 'kvio';
import { openSim } from 'kvio/sim';
import type { Candidate } from './run-cases.ts';

export type Found = { readonly candidate: Candidate } | { readonly missing: string };

/** A kernel by name: `native`, `ffi`, `sim`; or why it cannot be had. */
export function candidate(kind: KernelKind): Found {
  const found = findKernels(['/dev/kvm']).find((one) => one.kind === kind)!;
  if (!found.available) return { missing: found.reason };
  if (kind === 'sim') {
    const nofile = openSim().machine.limits.nofile;
    return { candidate: { name: kind, nofile, open: () => openSim() } };
  }
  return { candidate: { name: kind, nofile: openFileLimit(), open: () => openKernel({ kernel: kind }) } };
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
