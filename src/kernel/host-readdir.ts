import { readdirSync } from 'node:fs';
import { EIO } from '../uapi/sys.ts';

/** The names in a directory of the host, or −errno: what Node's own file system calls read, whatever back end makes the others. */
export function hostReaddir(path: string): string[] | number {
  try {
    return readdirSync(path);
  } catch (error) {
    // libuv's errno is the kernel's, negative; an error of another kind (a path with a NUL) has none.
    const { errno } = error as NodeJS.ErrnoException;
    if (errno === undefined) throw error;
    return errno < 0 ? errno : -EIO;
  }
}
