import { O_LARGEFILE, O_RDWR } from '../uapi/sys.ts';
import { absentDriver, nullDevice, zeroDevice } from './char-device.ts';
import { makeProc } from './fs/procfs.ts';
import { makeSys } from './fs/sysfs.ts';
import { deviceNodes } from './machine.ts';
import { Process } from './process.ts';
import type { System } from './system.ts';

/** System calls that are whole, or what they leave out. */
const systemCalls: readonly (readonly [name: string, except?: string])[] = [
  ['open', 'paths are those of devices, of /proc/self, and what is simulated of /sys; O_CREAT of new files, O_TMPFILE, O_PATH'],
  ['close'],
  ['dup'],
  ['fcntl', 'commands with a pointer, F_SETOWN, leases'],
  ['ioctl'],
  ['read'],
  ['write'],
  ['pread64'],
  ['pwrite64'],
  ['eventfd2'],
  ['memfd_create'],
  ['ftruncate'],
  ['fallocate'],
  ['fstat'],
  ['poll'],
  ['readlink'],
  ['getdents64'],
  ['mmap', 'MAP_FIXED'],
  ['munmap'],
  ['mprotect'],
  ['madvise', 'MADV_HWPOISON and what else would end the process; MADV_COLLAPSE'],
];

/** Device nodes every machine has, and those its description lists: a driver that registers later takes its place. */
export function makeNodes(system: System): void {
  for (const [name, except] of systemCalls) system.coverage.add('syscall', name, except);
  makeProc(system);
  makeSys(system);
  system.register(nullDevice);
  system.register(zeroDevice);
  for (const path of deviceNodes(system.machine)) {
    if (system.device(path) === undefined) system.register(absentDriver(path));
  }
}

/** A process that a program on kvio is: descriptors 0, 1 and 2 are taken, as a shell leaves them. */
export function newProcess(system: System): Process {
  const p = new Process(system, system.newPid());
  const terminal = nullDevice.open(p, O_RDWR | O_LARGEFILE);
  if (typeof terminal === 'number') throw new Error('/dev/null cannot be opened');
  p.fds.install(terminal, false);
  p.fds.dup(0, false);
  p.fds.dup(0, false);
  return p;
}
