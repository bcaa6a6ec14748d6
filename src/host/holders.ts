import type { Kernel } from '../kernel/kernel.ts';
import { findAttribute, linkName, namesIn } from './sysfs.ts';

/**
 * Descriptors of this process through which a device is open: its own node, or one whose fdinfo names it (older kernels name none). A mapping that outlived its descriptor holds the
 * device as well, and is not found.
 */
export function openBy(kernel: Kernel, bdf: string): number[] {
  const found: number[] = [];
  for (const fd of namesIn(kernel, '/proc/self/fd').map(Number)) {
    const name = linkName(kernel, `/proc/self/fd/${fd}`);
    if (name === undefined || !/vfio/.test(name)) continue;
    const syspath = /^vfio-device-syspath:\s*(\S+)$/m.exec(findAttribute(kernel, `/proc/self/fdinfo/${fd}`) ?? '')?.[1];
    const device = syspath?.slice(syspath.lastIndexOf('/') + 1) ?? linkName(kernel, `/sys/class/vfio-dev/${name}/device`);
    if (device === bdf) found.push(fd);
  }
  return found;
}
