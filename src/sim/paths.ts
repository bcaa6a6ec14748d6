import {
  EACCES,
  EEXIST,
  EINVAL,
  EISDIR,
  ELOOP,
  ENOENT,
  ENOTDIR,
  O_ACCMODE,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_LARGEFILE,
  O_NOCTTY,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  O_TMPFILE,
  O_TRUNC,
  O_WRONLY,
} from '../uapi/sys.ts';
import { has } from './changes.ts';
import type { File } from './file.ts';
import { Directory } from './fs/directory.ts';
import { MagicLink, Symlink } from './fs/link.ts';
import { MAY_READ, MAY_WRITE, permitted } from './fs/permission.ts';
import { lookup, walk } from './fs/walk.ts';
import type { Process } from './process.ts';

/** Not kept in F_GETFL. */
const CREATION_FLAGS = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC;

/** open(2): the descriptor is taken before the path is looked at (EMFILE beats ENOENT). */
export function open(p: Process, path: string, flags: number): number {
  const fd = p.fds.reserve((flags & O_CLOEXEC) !== 0);
  if (fd < 0) return fd;
  let file: File | number;
  try {
    file = openFile(p, path, flags);
  } catch (error) {
    p.fds.unreserve(fd);
    throw error;
  }
  if (typeof file === 'number') p.fds.unreserve(fd);
  else p.fds.set(fd, file);
  return typeof file === 'number' ? file : fd;
}

function openFile(p: Process, path: string, flags: number): File | number {
  const asked = (flag: number): boolean => (flags & flag) !== 0;
  if (asked(O_PATH)) return p.system.notModelled('O_PATH', -EINVAL);
  if (asked(O_TMPFILE & ~O_DIRECTORY)) return p.system.notModelled('O_TMPFILE', -EINVAL);
  if (asked(O_CREAT) && asked(O_DIRECTORY) && has(p.system.machine, 'creatDirectoryInvalid')) return -EINVAL;
  const node = walk(p, path, !asked(O_NOFOLLOW) && !(asked(O_CREAT) && asked(O_EXCL)));
  if (typeof node === 'number') return node;
  if ('missing' in node) {
    if (!asked(O_CREAT)) return lookup(p, path, true) as number;
    if (path.endsWith('/')) return -EISDIR;
    return node.in.fileSystem.create ?? p.system.notModelled(`creating files ('${path}')`, -ENOENT);
  }
  if (asked(O_CREAT) && asked(O_EXCL)) return -EEXIST;
  if (asked(O_DIRECTORY) && !(node instanceof Directory)) return -ENOTDIR;
  const kept = (flags & ~CREATION_FLAGS) | O_LARGEFILE;
  if (node instanceof Directory) {
    if (asked(O_CREAT | O_TRUNC) || (flags & O_ACCMODE) !== O_RDONLY) return -EISDIR;
  } else if (node instanceof Symlink) {
    if (!(node instanceof MagicLink) || asked(O_NOFOLLOW)) return -ELOOP;
    return node.file.reopen(p, kept | (flags & O_TRUNC));
  }
  return permitted(p, node, wanted(flags)) ? node.open(p, kept) : -EACCES;
}

/** ACC_MODE: the access mode 3 wants both, and so does O_TRUNC want writing. */
function wanted(flags: number): number {
  const mode = flags & O_ACCMODE;
  const read = mode === O_WRONLY ? 0 : MAY_READ;
  return read | (mode === O_RDONLY && (flags & O_TRUNC) === 0 ? 0 : MAY_WRITE);
}

/** readlink(2). */
export function readlink(p: Process, path: string): string | number {
  const node = lookup(p, path, false);
  if (typeof node === 'number') return node;
  return node instanceof Symlink ? node.target(p) : -EINVAL;
}

/** open(O_DIRECTORY), getdents64(2) to the end, close(2). */
export function readdir(p: Process, path: string): string[] | number {
  const fd = p.fds.reserve(true);
  if (fd < 0) return fd;
  p.fds.unreserve(fd);
  const node = lookup(p, path, true);
  if (typeof node === 'number') return node;
  if (!(node instanceof Directory)) return -ENOTDIR;
  return permitted(p, node, MAY_READ) ? node.names(p) : -EACCES;
}
