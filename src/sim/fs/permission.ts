import { S_IFDIR } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import { capable } from '../user.ts';
import type { FsNode } from './node.ts';

export const MAY_EXEC = 1;
export const MAY_WRITE = 2;
export const MAY_READ = 4;
const ANY_EXEC = 0o111;

/** inode_permission: whether the process may do all of `mask` with the node. */
export function permitted({ user }: Process, node: FsNode, mask: number): boolean {
  const shift = user.uid === node.uid ? 6 : user.gid === node.gid ? 3 : 0;
  if (((node.mode >> shift) & mask) === mask) return true;
  const directory = node.type === S_IFDIR;
  if (mask === MAY_READ || (directory && (mask & MAY_WRITE) === 0)) {
    if (capable(user, 'CAP_DAC_READ_SEARCH')) return true;
  }
  // Execution of a file nobody may execute is not for the almighty either.
  if (directory || (mask & MAY_EXEC) === 0 || (node.mode & ANY_EXEC) !== 0) return capable(user, 'CAP_DAC_OVERRIDE');
  return false;
}
