import { EBADF } from '../uapi/sys.ts';
import { descriptor } from './arguments.ts';
import { KernelError, rangeError } from './errors.ts';
import { Handle } from './handle.ts';
import type { Kernel } from './kernel.ts';

/** A descriptor by its number, or the object that holds it. */
export type Descriptor = number | Handle;

/** The number, for a struct that goes to `kernel`. A closed handle is EBADF: its −1 would mean "none" to many ioctls. */
export function fdOf(value: Descriptor, name: string, kernel: Kernel): number {
  if (!(value instanceof Handle)) return descriptor(value, name);
  if (value.closed) throw new KernelError(EBADF, 'ioctl', { note: `${name}: this ${value.constructor.name} is closed` });
  if (!sameProcess(value.kernel, kernel))
    throw rangeError(`${name}: this ${value.constructor.name} belongs to another kernel, where its number means something else`);
  return value.fd;
}

/** The same, with null for none: −1 in a struct. */
export function fdOrNone(value: Descriptor | null, name: string, kernel: Kernel): number {
  return value === null ? -1 : fdOf(value, name, kernel);
}

/** Real kernels of one process have its descriptors in common; each simulated one is a process of its own. */
function sameProcess(one: Kernel, other: Kernel): boolean {
  return one === other || (one.kind !== 'sim' && other.kind !== 'sim');
}
