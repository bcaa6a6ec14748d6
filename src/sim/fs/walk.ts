import { EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import { Directory, DirectoryFile } from './directory.ts';
import { MagicLink, Symlink } from './link.ts';
import type { FsNode } from './node.ts';
import { MAY_EXEC, permitted } from './permission.ts';

const PATH_MAX = 4096;
const NAME_MAX = 255;
/** Links in one walk. */
const MAXSYMLINKS = 40;

/** Where a walk ended without finding its last name: what O_CREAT would be asked of. */
export interface Missing {
  readonly missing: string;
  readonly in: Directory;
}

/**
 * link_path_walk: from the root (every process's working directory here), component by component. The last one's link is followed with `follow`, and always where a slash
 * comes behind it. A `MagicLink` that was followed comes back itself: its file is what was found.
 */
export function walk(p: Process, path: string, follow: boolean): FsNode | Missing | number {
  if (path === '') return -ENOENT;
  if (Buffer.byteLength(path) >= PATH_MAX) return -ENAMETOOLONG;
  const { root } = p.system.fs;
  let links = 0;
  let at: FsNode = root;
  const rest = path.split('/');
  for (let part = rest.shift(); part !== undefined; part = rest.shift()) {
    if (part === '' || part === '.') {
      if (at instanceof Directory) continue;
      return -ENOTDIR;
    }
    if (!(at instanceof Directory)) return -ENOTDIR;
    if (!permitted(p, at, MAY_EXEC)) return -EACCES;
    if (part === '..') {
      at = at.parent ?? at;
      continue;
    }
    if (Buffer.byteLength(part) > NAME_MAX) return -ENAMETOOLONG;
    const found = at.get(part, p);
    if (found === undefined) return rest.every((name) => name === '') ? { missing: part, in: at } : -ENOENT;
    if (!(found instanceof Symlink) || (rest.length === 0 && !follow)) {
      at = found;
      continue;
    }
    if (++links > MAXSYMLINKS) return -ELOOP;
    if (found instanceof MagicLink) {
      const directory: Directory | undefined = found.file instanceof DirectoryFile ? found.file.node : undefined;
      at = directory ?? found;
      continue;
    }
    const target = found.target(p);
    if (target.startsWith('/')) at = root;
    rest.unshift(...target.split('/'));
  }
  return at;
}

/** The node, or −errno: ENOENT where the last name is not there. */
export function lookup(p: Process, path: string, follow: boolean): FsNode | number {
  const found = walk(p, path, follow);
  return typeof found === 'object' && 'missing' in found ? -ENOENT : found;
}
