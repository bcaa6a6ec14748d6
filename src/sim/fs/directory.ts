import type { Stat } from '../../kernel/backend.ts';
import { EISDIR, S_IFDIR } from '../../uapi/sys.ts';
import { File } from '../file.ts';
import type { Process } from '../process.ts';
import { type FileSystem, FsNode } from './node.ts';

/** Names by which nodes are found. What depends on the process that looks overrides `get` and `names`. */
export class Directory extends FsNode {
  readonly type: number = S_IFDIR;
  readonly #nodes: Map<string, FsNode> = new Map();
  readonly #mounted: FileSystem | undefined;
  #later: (() => void) | undefined;

  constructor(mode = 0o755, mounted?: FileSystem) {
    super(mode);
    this.#mounted = mounted;
  }

  override get fileSystem(): FileSystem {
    return this.#mounted ?? super.fileSystem;
  }

  protected override get nlink(): number {
    if (this.unlinked) return 0;
    // What was below it went first.
    if (this.removed) return 2;
    return 2 + [...this.#all.values()].filter(({ type }) => type === S_IFDIR).length;
  }

  protected override get size(): number {
    return this.fileSystem.directorySize(this.#all.size);
  }

  /** What `fill` adds is made when somebody looks for it: the files of most devices nobody ever opens. */
  lazily(fill: () => void): void {
    this.#later = fill;
  }

  get #all(): Map<string, FsNode> {
    const fill = this.#later;
    if (fill !== undefined) {
      this.#later = undefined;
      fill();
    }
    return this.#nodes;
  }

  /** Adds a node under a name; what had the name before is taken out. */
  add<N extends FsNode>(name: string, node: N): N {
    this.#nodes.get(name)?.detach();
    this.#nodes.delete(name);
    this.#nodes.set(name, node);
    node.attach(this, name);
    return node;
  }

  /** Takes a node and all below it out. Nothing of that name: nothing happens. */
  remove(name: string): void {
    this.#all.get(name)?.detach();
    this.#nodes.delete(name);
  }

  get(name: string, _p?: Process): FsNode | undefined {
    return this.#all.get(name);
  }

  names(_p?: Process): string[] {
    return [...this.#all.keys()];
  }

  get empty(): boolean {
    return this.#all.size === 0;
  }

  override open(_p: Process, flags: number): File | number {
    return new DirectoryFile(this, flags);
  }
}

/** An open directory: something to stat, and to find other files by. */
export class DirectoryFile extends File {
  override readonly noexec: boolean = false;
  override readonly seekable: boolean = true;
  readonly node: Directory;

  constructor(node: Directory, flags: number) {
    super(node.path, flags);
    this.node = node;
  }

  override read(): number {
    return -EISDIR;
  }

  override pread(): number {
    return -EISDIR;
  }

  override reopen(_p: Process, flags: number): File {
    return new DirectoryFile(this.node, flags);
  }

  override stat(): Stat {
    return this.node.stat();
  }
}
