import { descriptor } from '../kernel/arguments.ts';
import { KernelError } from '../kernel/errors.ts';
import { Handle } from '../kernel/handle.ts';
import { EBADF } from '../uapi/sys.ts';

/** A descriptor by its number, or the object that holds it. */
export type Descriptor = number | Handle;

/** The number. A closed handle is EBADF: its −1 would mean "none" to many ioctls. */
export function fdOf(value: Descriptor, name: string): number {
  if (!(value instanceof Handle)) return descriptor(value, name);
  if (value.closed) throw new KernelError(EBADF, 'ioctl', { note: `${name}: this ${value.constructor.name} is closed` });
  return value.fd;
}

/** The same, with null for none: −1 in a struct. */
export function fdOrNone(value: Descriptor | null, name: string): number {
  return value === null ? -1 : fdOf(value, name);
}
