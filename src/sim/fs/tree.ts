import { EACCES, ENOENT, S_IFCHR } from '../../uapi/sys.ts';
import type { File } from '../file.ts';
import type { Process } from '../process.ts';
import type { CharDevice } from '../system.ts';
import { Directory } from './directory.ts';
import { type FileSystem, FsNode, fileSystem } from './node.ts';

/** A tmpfs directory counts 20 bytes a name, '.' and '..' too. */
const tmpfsSize = (names: number): number => 20 * (names + 2);
const none = (): number => 0;

/** The mounts of the simulated machine, with the numbers that stat tells of them. */
const mounts = {
  '/': (): FileSystem =>
    fileSystem({ dev: 1n, blksize: 4096, mount: 1, directorySize: tmpfsSize, create: undefined, strict: false }),
  '/dev': (): FileSystem =>
    fileSystem({ dev: 6n, blksize: 4096, mount: 32, directorySize: tmpfsSize, create: undefined, strict: false }),
  '/proc': (): FileSystem =>
    fileSystem({ dev: 21n, blksize: 1024, mount: 35, directorySize: none, create: -ENOENT, strict: false }),
  '/sys': (keepsLinks = false): FileSystem =>
    fileSystem({ dev: 22n, blksize: 4096, mount: 36, directorySize: none, create: -EACCES, strict: true, keepsLinks }),
};
/** The kernel's own mount of anonymous inodes. */
const ANONYMOUS_MOUNT = 14;
/** Directories of mode 0555: nobody makes files in them. */
const closed: ReadonlySet<string> = new Set(['/proc', '/sys']);

/** The node of a character device. */
export class DeviceNode extends FsNode {
  readonly type: number = S_IFCHR;
  readonly device: CharDevice;

  constructor(device: CharDevice) {
    super(device.mode);
    this.device = device;
  }

  protected override get rdev(): bigint {
    const { major, minor } = this.device;
    return BigInt((major << 8) | (minor & 0xff) | ((minor & ~0xff) << 12));
  }

  override open(p: Process, flags: number): File | number {
    return this.device.open(p, flags);
  }
}

/** The names a process finds files by: one tree, with /dev, /proc and /sys mounted in it. */
export class FsTree {
  readonly root: Directory = new Directory(0o755, mounts['/']());
  readonly #nodes: WeakMap<CharDevice, DeviceNode> = new WeakMap();

  /** `keepsLinks`: of what is gone from /sys. */
  constructor(keepsLinks: boolean) {
    this.root.add('tmp', new Directory(0o1777));
    for (const [path, make] of Object.entries(mounts)) {
      if (path !== '/') this.root.add(path.slice(1), new Directory(closed.has(path) ? 0o555 : 0o755, make(keepsLinks)));
    }
  }

  /** The directory at an absolute path without links; those that are not there are made. */
  mkdirp(path: string): Directory {
    let at = this.root;
    for (const name of path.split('/').filter((part) => part !== '')) {
      const found = at.get(name) ?? at.add(name, new Directory());
      if (!(found instanceof Directory)) throw new Error(`${found.path} is not a directory`);
      at = found;
    }
    return at;
  }

  /** What is at an absolute path without links. */
  at(path: string): FsNode | undefined {
    let node: FsNode | undefined = this.root;
    for (const name of path.split('/').filter((part) => part !== '')) {
      node = node instanceof Directory ? node.get(name) : undefined;
    }
    return node;
  }

  /** devtmpfs: makes the node of a device, and the directories to it. */
  addDevice(device: CharDevice): void {
    const [directory, name] = split(device.path);
    this.#nodes.set(device, this.mkdirp(directory).add(name, new DeviceNode(device)));
  }

  /** The node goes, and with it each directory below /dev that holds nothing else. What has it open keeps it open. */
  removeDevice(path: string): void {
    const [directory, name] = split(path);
    let at = this.mkdirp(directory);
    at.remove(name);
    while (at.empty && at.parent !== undefined && at.parent !== this.root) {
      const { parent } = at;
      parent.remove(at.name);
      at = parent;
    }
  }

  /** The mount's id of a st_dev. */
  mountOf(dev: bigint): number {
    const mounted = [this.root, this.at('/dev'), this.at('/proc'), this.at('/sys')];
    return mounted.find((node) => node?.fileSystem.dev === dev)?.fileSystem.mount ?? ANONYMOUS_MOUNT;
  }

  /** The node of a device that is registered, or has been. */
  nodeOf(device: CharDevice): DeviceNode {
    const node = this.#nodes.get(device);
    if (node === undefined) throw new Error(`${device.path} was never registered`);
    return node;
  }
}

/** The directory of a path, and the last name. */
export function split(path: string): [directory: string, name: string] {
  const at = path.lastIndexOf('/');
  return [path.slice(0, at), path.slice(at + 1)];
}
