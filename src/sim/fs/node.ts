import type { Stat } from '../../kernel/backend.ts';
import type { File } from '../file.ts';
import type { Process } from '../process.ts';
import type { Directory } from './directory.ts';

/** What the nodes of one mount have in common. */
export interface FileSystem {
  /** st_dev. */
  readonly dev: bigint;
  readonly blksize: number;
  /** The mount's id, as fdinfo tells it. */
  readonly mount: number;
  /** st_size of a directory with so many names. */
  directorySize(names: number): number;
  /** O_CREAT of a name that is not there; undefined: a file would be made. */
  readonly create: number | undefined;
  /** kernfs: an open for reading (writing) needs an attribute that can be read (written), whoever asks. */
  readonly strict: boolean;
  /** What is taken out of it keeps its count of links. */
  readonly keepsLinks?: boolean;
  newIno(): bigint;
}

/** A file system of the simulated machine, numbering its inodes from 1. */
export function fileSystem(fs: Omit<FileSystem, 'newIno'>): FileSystem {
  let last = 0n;
  return { ...fs, newIno: () => ++last };
}

/** An inode with its one name. */
export abstract class FsNode {
  /** S_IFMT bits. */
  abstract readonly type: number;
  /** Permission bits. */
  declare mode: number;
  declare uid: number;
  declare gid: number;
  declare name: string;
  declare parent: Directory | undefined;
  /** It, or a directory above it, has been taken out of the tree; open files of it may remain. */
  #removed = false;
  #ino: bigint | undefined;

  /** Assigned here, and not defined as fields are: of so many classes one after the other V8 takes many times as long over definitions. */
  constructor(mode: number) {
    this.mode = mode;
    this.uid = 0;
    this.gid = 0;
    this.name = '';
    this.parent = undefined;
  }

  get ino(): bigint {
    return (this.#ino ??= this.fileSystem.newIno());
  }

  /** Where a directory is mounted it says itself; the rest is on that of the directory it is in. */
  get fileSystem(): FileSystem {
    if (this.parent === undefined) throw new Error(`'${this.name}' is not in a tree`);
    return this.parent.fileSystem;
  }

  /** The path by which d_path knows it: without links. */
  get path(): string {
    if (this.parent === undefined) return '/';
    return this.parent.parent === undefined ? `/${this.name}` : `${this.parent.path}/${this.name}`;
  }

  get removed(): boolean {
    return this.#removed || this.parent?.removed === true;
  }

  attach(parent: Directory, name: string): void {
    this.parent = parent;
    this.name = name;
    this.#removed = false;
  }

  detach(): void {
    this.#removed = true;
  }

  protected get unlinked(): boolean {
    return this.removed && this.fileSystem.keepsLinks !== true;
  }

  protected get nlink(): number {
    return this.unlinked ? 0 : 1;
  }

  protected get size(): number {
    return 0;
  }

  protected get rdev(): bigint {
    return 0n;
  }

  stat(): Stat {
    const { dev, blksize } = this.fileSystem;
    const { ino, uid, gid, nlink, rdev } = this;
    return { dev, ino, mode: this.type | this.mode, nlink, uid, gid, rdev, size: BigInt(this.size), blksize, blocks: 0n };
  }

  /** The inode's open operation, after all checks of open(2). `flags`: those F_GETFL shall give. */
  abstract open(p: Process, flags: number): File | number;
}
