import { EFAULT, EINVAL, ENOTTY, EOPNOTSUPP, O_NONBLOCK } from '../uapi/sys.ts';
import { has } from './changes.ts';
import type { File } from './file.ts';
import type { Process } from './process.ts';

/** do_vfs_ioctl: requests every file answers before its own handler is asked (asm-generic/ioctls.h, linux/fs.h; checked on 6.18). */
type Handler = (p: Process, fd: number, file: File, arg: bigint) => number | undefined;

const isRegular = (p: Process, file: File): boolean =>
  file.regular && !(file.anonymousInode && has(p.system.machine, 'anonInodesNotRegular'));

const cloexec =
  (on: boolean): Handler =>
  (p, fd) => {
    p.fds.setCloexec(fd, on);
    return 0;
  };

const handlers: ReadonlyMap<number, Handler> = new Map<number, Handler>([
  /** FIOCLEX, FIONCLEX: the argument is not looked at. */
  [0x5451, cloexec(true)],
  [0x5450, cloexec(false)],
  [
    0x5421, // FIONBIO
    (p, _fd, file, arg) => {
      const on = p.mm.read32(arg);
      if (on === null) return -EFAULT;
      file.flags = on === 0 ? file.flags & ~O_NONBLOCK : file.flags | O_NONBLOCK;
      return 0;
    },
  ],
  [
    0x5452, // FIOASYNC: no file here has a fasync operation, so it can only stay off
    (p, _fd, _file, arg) => {
      const on = p.mm.read32(arg);
      if (on === null) return -EFAULT;
      return on === 0 ? 0 : -ENOTTY;
    },
  ],
  [
    0x5460, // FIOQSIZE: the bytes that files and directories take
    (p, _fd, file, arg) => {
      if (!isRegular(p, file)) return -ENOTTY;
      const size = new Uint8Array(8);
      new DataView(size.buffer).setBigInt64(0, file.stat(p).blocks * 512n, true);
      return p.mm.copyTo(arg, size) ? 0 : -EFAULT;
    },
  ],
  [
    0x541b, // FIONREAD: what is left of a regular file behind its position; other files answer it themselves
    (p, _fd, file, arg) => {
      if (!isRegular(p, file)) return undefined;
      const left = BigInt.asUintN(32, file.stat(p).size - file.position);
      return p.mm.write32(arg, Number(left)) ? 0 : -EFAULT;
    },
  ],
  /** FIGETBSZ: the block size of the file system the inode is on. */
  [2, (p, _fd, _file, arg) => (p.mm.write32(arg, 4096) ? 0 : -EFAULT)],
  /** FIFREEZE, FITHAW, FS_IOC_FIEMAP: none of these file systems can. */
  [0xc0045877, () => -EOPNOTSUPP],
  [0xc0045878, () => -EINVAL],
  [0xc020660b, () => -EOPNOTSUPP],
]);

/** The answer, or undefined where the file's own handler decides. */
export function vfsIoctl(p: Process, fd: number, file: File, request: number, arg: bigint): number | undefined {
  return handlers.get(request)?.(p, fd, file, arg);
}
