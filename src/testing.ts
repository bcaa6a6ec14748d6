import type { KernelKind } from './kernel/backend.ts';
import type { Kernel } from './kernel/kernel.ts';
import { findKernels, type OpenOptions, openKernel } from './open.ts';

/** A kernel to run a test on, or the reason why it cannot be run here. */
export interface TestKernel {
  readonly kind: KernelKind;
  /** Absent where the test can run; otherwise what is missing. */
  readonly skip: string | undefined;
  /** For the name of a test: `native`, or `ffi (not run: …)`. */
  readonly title: string;
  open(): Kernel;
}

/**
 * Every kernel, for tests that are to pass on the real one and on the simulator alike:
 *
 *     for (const { title, skip, open } of testKernels()) {
 *       describe.skipIf(skip)(title, () => { … open() … });
 *     }
 *
 * `devices` as in `openKernel`; `options` are the simulator's (`machine: 'lab-vtd-7.2'`), which can always be run.
 */
export function testKernels(devices?: readonly string[], options: Omit<OpenOptions, 'kernel' | 'devices'> = {}): TestKernel[] {
  return findKernels(devices).map(({ kind, available, reason }) => ({
    kind,
    skip: available ? undefined : reason,
    title: available ? kind : `${kind} (not run: ${reason})`,
    open: () => openKernel({ ...options, kernel: kind, ...(devices === undefined ? {} : { devices }) }),
  }));
}
