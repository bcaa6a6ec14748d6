/** The real kernel of this host. Loads no simulator, which is half of the package: inside a lab every module costs. */
import { readFileSync } from 'node:fs';
import { findKernels, openKernel } from 'kvio';
import type { Candidate } from './run-cases.ts';

export type Found = { readonly candidate: Candidate } | { readonly missing: string };

/** By one of two roads; or why it cannot be had. */
export function realKernel(kind: 'native' | 'ffi'): Found {
  const found = findKernels(['/dev/kvm']).find((one) => one.kind === kind)!;
  if (!found.available) return { missing: found.reason };
  const { arch } = process;
  // On SVM some guests of the cases never leave KVM_RUN: that, too, is an answer.
  return {
    candidate: withBudget({ name: kind, arch, nofile: openFileLimit(), open: () => openKernel({ kernel: kind }) }, 10_000),
  };
}

/** The same kernel, whose guests come back after so many milliseconds, where it can end a run: with EINTR, as a fact. */
export function withBudget(candidate: Candidate, budget: number): Candidate {
  return {
    ...candidate,
    open() {
      const kernel = candidate.open();
      if (!kernel.features.kick) return kernel;
      const run = kernel.run.bind(kernel);
      kernel.run = (vcpu, options) => run(vcpu, { budget, ...options });
      return kernel;
    },
  };
}

/** What a machine is asked that differs from another in these cases alone. */
const only: Readonly<Record<string, readonly string[]>> = {
  hotplug: ['vfio/surprise/', 'vfio/slots/'],
  smmuv3: ['vfio/smmuv3/'],
};

/** A kernel on a machine of the lab, as a candidate for the cases of devices. */
export function ofMachine(release: string, machine: string): Pick<Candidate, 'machine' | 'identity' | 'only'> {
  const cases = only[machine];
  const identity = `${/^\d+\.\d+/.exec(release)?.[0] ?? 'unknown'}@${machine}`;
  return { machine, identity, ...(cases === undefined ? {} : { only: cases }) };
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
