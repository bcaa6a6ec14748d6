import type { System } from '../system.ts';

/** The directories of /sys that are there whatever the machine has. */
export function makeSys(system: System): void {
  for (const path of ['bus', 'class', 'dev/char', 'devices/virtual', 'kernel', 'module']) system.fs.mkdirp(`/sys/${path}`);
}
