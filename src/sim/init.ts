import { O_LARGEFILE, O_RDWR } from '../uapi/sys.ts';
import { absentDriver, nullDevice, zeroDevice } from './char-device.ts';
import { Process } from './process.ts';
import type { System } from './system.ts';

/** The pid of the simulated program. */
const PID = 1000;

/** Device nodes every machine has, and those its description lists: a driver that registers later takes its place. */
export function makeNodes(system: System): void {
  system.register(nullDevice);
  system.register(zeroDevice);
  for (const [path, present] of Object.entries(system.machine.devices)) {
    if (present && system.device(path) === undefined) system.register(absentDriver(path));
  }
}

/** The process a program on kvio is: descriptors 0, 1 and 2 are taken, as a shell leaves them. */
export function firstProcess(system: System): Process {
  const p = new Process(system, PID);
  const terminal = nullDevice.open(p, O_RDWR | O_LARGEFILE);
  if (typeof terminal === 'number') throw new Error('/dev/null cannot be opened');
  p.fds.install(terminal, false);
  p.fds.dup(0, false);
  p.fds.dup(0, false);
  return p;
}
