import { askedKernel, findKernels, type KernelFound } from '../open.ts';
import type { Paint } from './paint.ts';

const WIDTH = 8;

const names: Readonly<Record<KernelFound['kind'], string>> = {
  native: 'this host, through the addon',
  ffi: 'this host, through ffi-rs',
  sim: 'simulated',
};

/** One line for each kernel: whether it can be used, and why (not). */
export function kernelsReport(found: readonly KernelFound[], paint: Paint): string[] {
  return found.map(({ kind, available, reason }, i) => {
    const mark = available ? paint.green('yes') : paint.red('no ');
    const why = reason === found[i - 1]?.reason ? 'for the same reason' : reason;
    return `${paint.bold(kind.padEnd(WIDTH))}${mark}  ${names[kind]}: ${available ? reason : `not run: ${why}`}`;
  });
}

/** What there is, narrowed to what KVIO_KERNEL asks for. Throws RangeError where that is no kernel's name. */
export function kernelsHere(): KernelFound[] {
  const asked = askedKernel();
  const found = findKernels();
  if (asked === undefined) return found;
  return found.map((one) => (one.kind === asked.kind ? one : { ...one, available: false, reason: asked.by }));
}
