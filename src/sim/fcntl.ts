import {
  EBADF,
  EINVAL,
  ENOTDIR,
  F_ADD_SEALS,
  F_DUPFD,
  F_DUPFD_CLOEXEC,
  F_GET_SEALS,
  F_GETFD,
  F_GETFL,
  F_GETLEASE,
  F_GETOWN,
  F_GETPIPE_SZ,
  F_GETSIG,
  F_NOTIFY,
  F_SETFD,
  F_SETFL,
  F_SETLEASE,
  F_SETOWN,
  F_SETPIPE_SZ,
  F_SETSIG,
  F_UNLCK,
  FD_CLOEXEC,
  O_APPEND,
  O_DIRECT,
  O_NOATIME,
  O_NONBLOCK,
} from '../uapi/sys.ts';
import type { File } from './file.ts';
import type { Process } from './process.ts';

/** What F_SETFL can change. O_ASYNC is dropped: no file here has a fasync operation. */
const SETFL_MASK = O_APPEND | O_NONBLOCK | O_NOATIME;
const HIGHEST_SIGNAL = 64;

type Command = (p: Process, fd: number, file: File, arg: number) => number;

const commands: ReadonlyMap<number, Command> = new Map<number, Command>([
  [F_DUPFD, (p, fd, _file, arg) => p.fds.dup(fd, false, arg)],
  [F_DUPFD_CLOEXEC, (p, fd, _file, arg) => p.fds.dup(fd, true, arg)],
  [F_GETFD, (p, fd) => (p.fds.cloexec(fd) ? FD_CLOEXEC : 0)],
  [
    F_SETFD,
    (p, fd, _file, arg) => {
      p.fds.setCloexec(fd, (arg & FD_CLOEXEC) !== 0);
      return 0;
    },
  ],
  [F_GETFL, (_p, _fd, file) => file.flags],
  [
    F_SETFL,
    (_p, _fd, file, arg) => {
      // Nothing here can do direct I/O.
      if ((arg & O_DIRECT) !== 0) return -EINVAL;
      file.flags = (file.flags & ~SETFL_MASK) | (arg & SETFL_MASK);
      return 0;
    },
  ],
  [F_ADD_SEALS, (_p, _fd, file, arg) => file.addSeals(arg)],
  [F_GET_SEALS, (_p, _fd, file) => file.getSeals()],
  [F_GETOWN, () => 0],
  [F_SETOWN, (p, _fd, _file, arg) => (arg === 0 ? 0 : p.system.notModelled('F_SETOWN', 0))],
  [F_GETSIG, (_p, _fd, file) => file.ownerSignal],
  [
    F_SETSIG,
    (_p, _fd, file, arg) => {
      if (arg < 0 || arg > HIGHEST_SIGNAL) return -EINVAL;
      file.ownerSignal = arg;
      return 0;
    },
  ],
  [F_GETLEASE, () => F_UNLCK],
  [F_SETLEASE, (p, _fd, file) => (file.regular ? p.system.notModelled('F_SETLEASE', -EINVAL) : -EINVAL)],
  [F_NOTIFY, (_p, _fd, _file, arg) => (arg === 0 ? 0 : -ENOTDIR)],
  [F_SETPIPE_SZ, () => -EBADF],
  [F_GETPIPE_SZ, () => -EBADF],
]);

/** fcntl(2) with an integer argument. */
export function fcntl(p: Process, fd: number, command: number, arg: number): number {
  const file = p.fds.get(fd);
  if (file === undefined) return -EBADF;
  return commands.get(command)?.(p, fd, file, arg) ?? -EINVAL;
}
