import {
  EEXIST,
  EINVAL,
  EISDIR,
  ENAMETOOLONG,
  ENOENT,
  ENOTDIR,
  O_ACCMODE,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_LARGEFILE,
  O_NOCTTY,
  O_PATH,
  O_RDONLY,
  O_TMPFILE,
  O_TRUNC,
} from '../uapi/sys.ts';
import type { File } from './file.ts';
import type { Process } from './process.ts';
import type { CharDevice } from './system.ts';

const PATH_MAX = 4096;
/** Not kept in F_GETFL. */
const CREATION_FLAGS = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC;
const directories: ReadonlySet<string> = new Set(['/', '/dev', '/proc', '/proc/self', '/proc/self/fd']);

type Node =
  | { readonly kind: 'device'; readonly device: CharDevice }
  | { readonly kind: 'link'; readonly file: File }
  | { readonly kind: 'directory' };

/** The few paths a simulated machine has: device nodes, and /proc/self/fd. −errno where the walk ends. */
function lookup(p: Process, path: string): Node | number {
  if (path === '') return -ENOENT;
  if (Buffer.byteLength(path) >= PATH_MAX) return -ENAMETOOLONG;
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    const parent = `/${parts.join('/')}`;
    if (!isDirectory(parent)) return found(p, parent) === undefined ? -ENOENT : -ENOTDIR;
    if (part === '..') parts.pop();
    else if (Buffer.byteLength(part) > 255) return -ENAMETOOLONG;
    else parts.push(part);
  }
  const plain = `/${parts.join('/')}`;
  if (isDirectory(plain)) return { kind: 'directory' };
  const node = found(p, plain);
  if (node === undefined) return -ENOENT;
  return path.endsWith('/') && node.kind !== 'directory' ? -ENOTDIR : node;
}

function isDirectory(path: string): boolean {
  return directories.has(path);
}

function found(p: Process, path: string): Node | undefined {
  const device = p.system.device(path);
  if (device !== undefined) return { kind: 'device', device };
  const number = /^\/proc\/self\/fd\/(0|[1-9]\d*)$/.exec(path)?.[1];
  const file = number === undefined ? undefined : p.fds.get(Number(number));
  return file === undefined ? undefined : { kind: 'link', file };
}

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
  if ((flags & O_PATH) !== 0) return p.system.notModelled('O_PATH', -EINVAL);
  if ((flags & (O_TMPFILE & ~O_DIRECTORY)) !== 0) return p.system.notModelled('O_TMPFILE', -EINVAL);
  const kept = (flags & ~CREATION_FLAGS) | O_LARGEFILE;
  const node = lookup(p, path);
  if (typeof node === 'number') {
    return node === -ENOENT && path !== '' && (flags & O_CREAT) !== 0
      ? p.system.notModelled(`creating files ('${path}')`, node)
      : node;
  }
  if ((flags & (O_CREAT | O_EXCL)) === (O_CREAT | O_EXCL)) return -EEXIST;
  if (node.kind === 'directory') {
    if ((flags & O_CREAT) !== 0 || (flags & O_ACCMODE) !== O_RDONLY) return -EISDIR;
    return p.system.notModelled(`directories ('${path}')`, -EISDIR);
  }
  if ((flags & O_DIRECTORY) !== 0) return -ENOTDIR;
  return node.kind === 'device' ? node.device.open(p, kept) : node.file.reopen(p, kept | (flags & O_TRUNC));
}

/** readlink(2). */
export function readlink(p: Process, path: string): string | number {
  if (/^\/proc\/self\/?$/.test(path)) return path.endsWith('/') ? -EINVAL : String(p.pid);
  const node = lookup(p, path);
  if (typeof node === 'number') return node;
  return node.kind === 'link' ? node.file.link : -EINVAL;
}
