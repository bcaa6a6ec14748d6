import { S_IFLNK } from '../../uapi/sys.ts';
import type { File } from '../file.ts';
import type { Process } from '../process.ts';
import { FsNode } from './node.ts';

/** A link to a path, relative to the directory it is in or absolute. */
export class Symlink extends FsNode {
  readonly type: number = S_IFLNK;
  readonly #target: string;

  constructor(target: string) {
    super(0o777);
    this.#target = target;
  }

  target(_p: Process): string {
    return this.#target;
  }

  /** Never asked: a walk ends behind a link or fails with it. */
  override open(): number {
    throw new Error(`${this.path} is a link`);
  }
}

/** sysfs_create_link: a link to another node of the tree, relative and without links in between. */
export class NodeLink extends Symlink {
  readonly node: FsNode;
  #text: string | undefined;

  constructor(node: FsNode) {
    super('');
    this.node = node;
  }

  override target(): string {
    return (this.#text ??= relative(this.parent!.path, this.node.path));
  }
}

function relative(from: string, to: string): string {
  const [there, here] = [to, from].map((path) => path.split('/').slice(1)) as [string[], string[]];
  let same = 0;
  while (same < there.length - 1 && same < here.length && there[same] === here[same]) same++;
  return [...here.slice(same).map(() => '..'), ...there.slice(same)].join('/');
}

/** /proc/PID/fd/N: leads to an open file itself, whatever the text of the link says. */
export class MagicLink extends Symlink {
  readonly file: File;

  constructor(file: File) {
    super('');
    this.file = file;
  }

  override target(): string {
    return this.file.link;
  }
}
