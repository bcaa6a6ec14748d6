import type { Stat } from '../../kernel/backend.ts';
import { EACCES, EAGAIN, EFBIG, EIO, ENODEV, POLLERR, POLLPRI, S_IFREG } from '../../uapi/sys.ts';
import type { Pending } from '../completion.ts';
import { type Backing, DEFAULT_POLLMASK, File, type FileMap } from '../file.ts';
import type { Process } from '../process.ts';
import { WaitQueue } from '../wait-queue.ts';
import { FsNode } from './node.ts';

/** kernfs hands at most this much of one read or write to an attribute. */
const PAGE = 4096;
const READABLE = 0o444;
const WRITABLE = 0o222;

export interface AttributeOps {
  /** The whole text, or −errno. Asked again whenever a file is read from its start. */
  show?(p: Process): string | number;
  /** `text`: what was written, up to a page, one character a byte. The bytes taken, −errno, or what the call waits for. */
  store?(p: Process, text: string): number | Pending;
}

/** A file of text that the kernel makes when it is read: an attribute of sysfs, a file of /proc. */
export class Attribute extends FsNode {
  readonly type: number = S_IFREG;
  readonly ops: AttributeOps;

  constructor(mode: number, ops: AttributeOps) {
    super(mode);
    this.ops = ops;
  }

  protected override get size(): number {
    return this.fileSystem.strict ? PAGE : 0;
  }

  override open(_p: Process, flags: number): File | number {
    const { show, store } = this.ops;
    return checked(this, new AttributeFile(this, flags), show !== undefined, store !== undefined);
  }
}

export interface BinaryOps {
  /** At most a page at a time, within `size`. Bytes or −errno. */
  read?(p: Process, into: Uint8Array, offset: number): number;
  write?(p: Process, from: Uint8Array, offset: number): number;
  mmap?(p: Process, map: FileMap): Backing | number;
}

/** Bytes of a device: config, resourceN, rom. `size` 0: the operations know where it ends. */
export class BinaryAttribute extends FsNode {
  readonly type: number = S_IFREG;
  readonly length: number;
  readonly ops: BinaryOps;

  constructor(mode: number, length: number, ops: BinaryOps) {
    super(mode);
    this.length = length;
    this.ops = ops;
  }

  protected override get size(): number {
    return this.length;
  }

  override open(_p: Process, flags: number): File | number {
    const { read, write, mmap } = this.ops;
    return checked(this, new BinaryFile(this, flags), (read ?? mmap) !== undefined, (write ?? mmap) !== undefined);
  }
}

/** kernfs_fop_open: what an attribute has no operation for, or no mode bit, cannot be opened so, by root neither. */
function checked(node: FsNode, file: File, reads: boolean, writes: boolean): File | number {
  if (!node.fileSystem.strict) return file;
  if (file.writable && ((node.mode & WRITABLE) === 0 || !writes)) return -EACCES;
  if (file.readable && ((node.mode & READABLE) === 0 || !reads)) return -EACCES;
  return file;
}

/** A file with a position that belongs to a node, and is of no use once that is gone. */
abstract class NodeFile<N extends FsNode> extends File {
  override readonly regular: boolean = true;
  override readonly seekable: boolean = true;
  override readonly wait: WaitQueue = new WaitQueue();
  readonly node: N;
  /** What is there has been read: poll tells of nothing new. */
  protected seen = false;
  #position = 0;

  constructor(node: N, flags: number) {
    super(node.path, flags);
    this.node = node;
  }

  override get position(): bigint {
    return BigInt(this.#position);
  }

  /** Nothing here waits for the file to become ready. */
  override get mayWait(): boolean {
    return false;
  }

  override read(p: Process, into: Uint8Array): number {
    return this.#advance(this.readAt(p, into, this.#position));
  }

  override write(p: Process, from: Uint8Array): number {
    return this.#advance(this.writeAt(p, from, this.#position));
  }

  override pread(p: Process, into: Uint8Array, offset: bigint): number {
    return this.readAt(p, into, Number(offset));
  }

  override pwrite(p: Process, from: Uint8Array, offset: bigint): number {
    return this.writeAt(p, from, Number(offset));
  }

  protected abstract readAt(p: Process, into: Uint8Array, offset: number): number;
  protected abstract writeAt(p: Process, from: Uint8Array, offset: number): number;

  override reopen(p: Process, flags: number): File | number {
    return this.node.open(p, flags);
  }

  /** kernfs_fop_poll: a file that was not read yet has news. Files of /proc are always ready. */
  override poll(): number {
    const news = this.node.fileSystem.strict && (this.node.removed || !this.seen);
    return news ? DEFAULT_POLLMASK | POLLERR | POLLPRI : DEFAULT_POLLMASK;
  }

  /** setattr of a file whose size nobody keeps. */
  override ftruncate(): number {
    return 0;
  }

  override stat(): Stat {
    return this.node.stat();
  }

  #advance(done: number): number {
    if (done > 0) this.#position += done;
    return done;
  }
}

class AttributeFile extends NodeFile<Attribute> {
  /** seq_file: what was shown last, and where the next read goes on in it. */
  #shown: Uint8Array = new Uint8Array(0);
  #next = 0;
  /** Writes that wait, by their buffer. */
  readonly #pending: Map<Uint8Array, Pending> = new Map();

  override get mayWait(): boolean {
    return this.#pending.size > 0;
  }

  protected override readAt(p: Process, into: Uint8Array, offset: number): number {
    const { node } = this;
    if (into.length === 0) return 0;
    if (node.removed) return -ENODEV;
    if (offset === 0 || offset !== this.#next) {
      const text = node.ops.show?.(p) ?? -EIO;
      if (typeof text === 'number') return text;
      this.#shown = Buffer.from(text, 'latin1');
      this.seen = true;
    }
    const piece = this.#shown.subarray(offset, offset + into.length);
    into.set(piece);
    this.#next = offset + piece.length;
    return piece.length;
  }

  /** The position means nothing to an attribute: each write is a whole value. */
  protected override writeAt(p: Process, from: Uint8Array): number {
    const waiting = this.#pending.get(from);
    return waiting === undefined ? this.#store(p, from) : this.#look(from, waiting);
  }

  #store(p: Process, from: Uint8Array): number {
    const { node } = this;
    if (node.removed) return -ENODEV;
    if (from.length === 0) return 0;
    const text = Buffer.from(from.buffer, from.byteOffset, Math.min(from.length, PAGE)).toString('latin1');
    const result = node.ops.store?.(p, text) ?? -EIO;
    if (typeof result === 'number') return result;
    this.#pending.set(from, result);
    return this.#look(from, result);
  }

  #look(from: Uint8Array, pending: Pending): number {
    if (!pending.over.done) return -EAGAIN;
    this.#pending.delete(from);
    return pending.result!;
  }
}

class BinaryFile extends NodeFile<BinaryAttribute> {
  protected override readAt(p: Process, into: Uint8Array, offset: number): number {
    const { node } = this;
    if (node.removed) return -ENODEV;
    const room = node.length === 0 ? PAGE : Math.max(0, node.length - offset);
    const count = Math.min(into.length, PAGE, room);
    if (count === 0) return 0;
    this.seen = true;
    return node.ops.read?.(p, into.subarray(0, count), offset) ?? -EIO;
  }

  protected override writeAt(p: Process, from: Uint8Array, offset: number): number {
    const { node } = this;
    if (node.removed) return -ENODEV;
    if (from.length === 0 && node.length === 0) return 0;
    if (node.length > 0 && offset >= node.length) return -EFBIG;
    const count = Math.min(from.length, PAGE, node.length === 0 ? PAGE : node.length - offset);
    if (count === 0) return 0;
    return node.ops.write?.(p, from.subarray(0, count), offset) ?? -EIO;
  }

  override mmap(p: Process, map: FileMap): Backing | number {
    if (this.node.ops.mmap === undefined || this.node.removed) return -ENODEV;
    return this.node.ops.mmap(p, map);
  }
}
