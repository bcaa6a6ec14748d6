import { KernelCore } from '../kernel/core.ts';
import { NotAvailable } from '../kernel/errors.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { FfiBackend } from './backend.ts';
import { type Libc, loadLibc } from './libc.ts';

let loaded: { libc: Libc } | { reason: string } | undefined;

/** The C library through ffi-rs (an optional dependency), or the reason why not. Asked once; never throws. */
export function loadFfi(): { libc: Libc } | { reason: string } {
  return (loaded ??= loadLibc());
}

/**
 * A kernel over ffi-rs: the second road to the real kernel, for hosts that may not load the addon, and independent of it.
 * Synchronous calls only: no `runAsync`, no `waitAsync`, no kick, no budget (`kernel.features`).
 */
export function openFfi(reason: string): Kernel {
  const found = loadFfi();
  if ('reason' in found) throw new NotAvailable(`the ffi kernel is not there: ${found.reason}`);
  return new KernelCore(new FfiBackend(found.libc), reason);
}
