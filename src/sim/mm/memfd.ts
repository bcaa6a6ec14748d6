import type { Stat } from '../../kernel/backend.ts';
import {
  EBUSY,
  EFBIG,
  EINVAL,
  ENOMEM,
  EOPNOTSUPP,
  EPERM,
  F_SEAL_EXEC,
  F_SEAL_FUTURE_WRITE,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  F_SEAL_WRITE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  MFD_ALLOW_SEALING,
  MFD_NOEXEC_SEAL,
  O_APPEND,
  O_LARGEFILE,
  O_RDWR,
  O_TRUNC,
  PROT_WRITE,
  S_IFREG,
} from '../../uapi/sys.ts';
import { type Backing, File, type FileMap } from '../file.ts';
import type { Process } from '../process.ts';
import { PAGE_SIZE, PageStore } from './pages.ts';

const ALL_SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_EXEC;
const WRITE_SEALS = F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;
/** MAX_LFS_FILESIZE. */
export const MAX_FILE_SIZE = 0x7fff_ffff_ffff_ffffn;
const PAGE = BigInt(PAGE_SIZE);

/** The inode of a memfd: size, pages and seals, shared by every description of it (dup, /proc/self/fd/N). */
export class MemfdInode extends PageStore {
  readonly ino: bigint;
  readonly mode: number;
  size = 0n;
  seals: number;
  /** i_mmap_writable: shared mappings that are writable or may become it. */
  #writableMaps = 0;
  #files = 0;

  constructor(ino: bigint, mode: number, seals: number) {
    super(0);
    this.ino = ino;
    this.mode = mode;
    this.seals = seals;
  }

  get writeSealed(): boolean {
    return (this.seals & WRITE_SEALS) !== 0;
  }

  get growSealed(): boolean {
    return (this.seals & F_SEAL_GROW) !== 0;
  }

  get mappedWritable(): boolean {
    return this.#writableMaps > 0;
  }

  enter(): void {
    this.#files++;
  }

  leave(): void {
    if (--this.#files === 0) this.destroy();
  }

  opened(shared: boolean, mayWrite: boolean): void {
    if (shared && mayWrite) this.#writableMaps++;
  }

  closed(shared: boolean, mayWrite: boolean): void {
    if (shared && mayWrite) this.#writableMaps--;
  }

  grow(size: bigint): void {
    this.size = size;
    this.extend(Number((size + PAGE - 1n) / PAGE));
  }

  shrink(size: bigint): void {
    this.size = size;
    this.truncate(size);
  }

  override remove(from: number, to: number): number {
    if (this.writeSealed) return -EPERM;
    return super.remove(from, to);
  }
}

/** memfd_create: a file on the kernel's internal tmpfs. */
export class MemfdFile extends File {
  override readonly noexec: boolean = false;
  override readonly regular: boolean = true;
  override readonly seekable: boolean = true;
  override readonly maxMapPages: number = 2 ** 51 - 1;
  protected readonly inode: MemfdInode;
  #position = 0n;

  override get position(): bigint {
    return this.#position;
  }

  constructor(link: string, flags: number, inode: MemfdInode) {
    super(link, flags);
    this.inode = inode;
    inode.enter();
  }

  /** `flags`: MFD_*, already checked. */
  static create(p: Process, name: string, flags: number): MemfdFile {
    const { link, status, mode, seals } = MemfdFile.parts(name, flags);
    return new MemfdFile(link, status, new MemfdInode(p.system.newInode(), mode, seals));
  }

  /** What memfd_create makes of its arguments, whatever file system the file is on. */
  static parts(name: string, flags: number): { link: string; status: number; mode: number; seals: number } {
    const noexec = (flags & MFD_NOEXEC_SEAL) !== 0;
    const sealable = noexec || (flags & MFD_ALLOW_SEALING) !== 0;
    const mode = S_IFREG | (noexec ? 0o666 : 0o777);
    const seals = (sealable ? 0 : F_SEAL_SEAL) | (noexec ? F_SEAL_EXEC : 0);
    return { link: `/memfd:${name} (deleted)`, status: O_RDWR | O_LARGEFILE, mode, seals };
  }

  override release(): void {
    this.inode.leave();
  }

  override get pageCache(): PageStore {
    return this.inode;
  }

  /** Another description of the same inode. */
  protected again(flags: number): MemfdFile {
    return new MemfdFile(this.link, flags, this.inode);
  }

  override reopen(p: Process, flags: number): File | number {
    const file = this.again(flags & ~O_TRUNC);
    if ((flags & O_TRUNC) === 0) return file;
    const error = file.#truncate(0n);
    if (error < 0) file.unref(p);
    return error < 0 ? error : file;
  }

  override read(p: Process, into: Uint8Array): number {
    const got = this.pread(p, into, this.#position);
    if (got > 0) this.#position += BigInt(got);
    return got;
  }

  /** The position moves only with what was written: a refused append leaves it. */
  override write(_p: Process, from: Uint8Array): number {
    const at = (this.flags & O_APPEND) !== 0 ? this.inode.size : this.#position;
    const put = this.#write(from, at);
    if (put > 0) this.#position = at + BigInt(put);
    return put;
  }

  override pread(_p: Process, into: Uint8Array, offset: bigint): number {
    const left = this.inode.size - offset;
    if (left <= 0n) return 0;
    const length = left < BigInt(into.length) ? Number(left) : into.length;
    this.inode.read(offset, into.subarray(0, length));
    return length;
  }

  /** pwrite on a file opened with O_APPEND appends, whatever the offset. */
  override pwrite(_p: Process, from: Uint8Array, offset: bigint): number {
    return this.#write(from, (this.flags & O_APPEND) !== 0 ? this.inode.size : offset);
  }

  /** Page by page, as generic_perform_write does: a seal met half-way leaves a short write. */
  #write(from: Uint8Array, offset: bigint): number {
    const inode = this.inode;
    if (from.length === 0) return 0;
    if (offset >= MAX_FILE_SIZE) return -EFBIG;
    if (inode.writeSealed) return -EPERM;
    let length = from.length;
    if (offset + BigInt(length) > MAX_FILE_SIZE) length = Number(MAX_FILE_SIZE - offset);
    if (inode.growSealed && offset + BigInt(length) > inode.size) {
      const pageEnd = (inode.size / PAGE) * PAGE;
      length = pageEnd > offset ? Number(pageEnd - offset) : 0;
      if (length === 0) return -EPERM;
    }
    const end = offset + BigInt(length);
    if (end > inode.size) inode.grow(end);
    inode.write(offset, from.subarray(0, length));
    return length;
  }

  override mapAllowed(shared: boolean, prot: number): number {
    return shared && (prot & PROT_WRITE) !== 0 && this.inode.writeSealed ? -EPERM : 0;
  }

  override mapForbids(shared: boolean): number {
    return shared && this.inode.writeSealed ? PROT_WRITE : 0;
  }

  override mmap(_p: Process, _map: FileMap): Backing | number {
    return this.inode;
  }

  override addSeals(seals: number): number {
    const inode = this.inode;
    if (!this.writable) return -EPERM;
    if ((seals & ~ALL_SEALS) !== 0) return -EINVAL;
    if ((inode.seals & F_SEAL_SEAL) !== 0) return -EPERM;
    let wanted = seals;
    // SEAL_EXEC on an executable file implies W^X: its contents may not change any more.
    if ((wanted & F_SEAL_EXEC) !== 0 && (inode.mode & 0o111) !== 0) wanted |= F_SEAL_SHRINK | F_SEAL_GROW | WRITE_SEALS;
    if ((wanted & F_SEAL_WRITE) !== 0 && (inode.seals & F_SEAL_WRITE) === 0 && inode.mappedWritable) return -EBUSY;
    inode.seals |= wanted;
    return 0;
  }

  override getSeals(): number {
    return this.inode.seals;
  }

  override ftruncate(_p: Process, length: bigint): number {
    return this.#truncate(length);
  }

  #truncate(length: bigint): number {
    const { size, seals } = this.inode;
    if (length < size && (seals & F_SEAL_SHRINK) !== 0) return -EPERM;
    if (length > size && (seals & F_SEAL_GROW) !== 0) return -EPERM;
    // Pages preallocated past the end go even where the size stays.
    if (length > size) this.inode.grow(length);
    else this.inode.shrink(length);
    return 0;
  }

  override fallocate(p: Process, mode: number, offset: bigint, length: bigint): number {
    const inode = this.inode;
    if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)) !== 0) return -EOPNOTSUPP;
    const end = offset + length;
    if ((mode & FALLOC_FL_PUNCH_HOLE) !== 0) {
      if (inode.writeSealed) return -EPERM;
      inode.punch(offset, end);
      return 0;
    }
    if (inode.growSealed && end > inode.size) return -EPERM;
    if (length > BigInt(p.system.machine.limits.memory)) return -ENOMEM;
    inode.fill(Number(offset / PAGE), Number((end + PAGE - 1n) / PAGE));
    if ((mode & FALLOC_FL_KEEP_SIZE) === 0 && end > inode.size) inode.grow(end);
    return 0;
  }

  override stat(): Stat {
    const { ino, mode, size } = this.inode;
    const blocks = BigInt(this.inode.allocated) * (PAGE / 512n);
    return { dev: 1n, ino, mode, nlink: 0, uid: 0, gid: 0, rdev: 0n, size, blksize: PAGE_SIZE, blocks };
  }
}
