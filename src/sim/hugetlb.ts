import type { Stat } from '../kernel/backend.ts';
import { EINVAL, ENOMEM, ENOSPC, EOPNOTSUPP, EPERM, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from '../uapi/sys.ts';
import type { Backing, FileMap } from './file.ts';
import { MemfdFile, type MemfdInode } from './memfd.ts';
import { PAGE_SIZE } from './pages.ts';
import type { Process } from './process.ts';

/**
 * memfd_create with MFD_HUGETLB: a file on hugetlbfs. Size, seals and reading of holes are whole; a page can only come from a
 * pool that is empty, which is refused as the kernel refuses it. A pool with pages is not modelled.
 */
export class HugeMemfdFile extends MemfdFile {
  readonly #pageSize: number;
  readonly #free: number;

  constructor(link: string, flags: number, inode: MemfdInode, pageSize: number, free: number) {
    super(link, flags, inode);
    this.#pageSize = pageSize;
    this.#free = free;
  }

  protected override again(flags: number): MemfdFile {
    return new HugeMemfdFile(this.link, flags, this.inode, this.#pageSize, this.#free);
  }

  /** hugetlbfs has no write operation. */
  override write(): number {
    return -EINVAL;
  }

  override pwrite(): number {
    return -EINVAL;
  }

  override ftruncate(p: Process, length: bigint): number {
    return length % BigInt(this.#pageSize) !== 0n ? -EINVAL : super.ftruncate(p, length);
  }

  /** Pages are reserved here, unless MAP_NORESERVE puts that off to the touch. */
  override mmap(p: Process, { page, noreserve }: FileMap): Backing | number {
    if ((page * PAGE_SIZE) % this.#pageSize !== 0) return -EINVAL;
    return this.#free === 0 && !noreserve ? -ENOMEM : p.system.notModelled('mappings of a MFD_HUGETLB file', -ENOMEM);
  }

  override fallocate(p: Process, mode: number, offset: bigint, length: bigint): number {
    if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)) !== 0) return -EOPNOTSUPP;
    if ((mode & FALLOC_FL_PUNCH_HOLE) !== 0) return this.inode.writeSealed ? -EPERM : 0;
    if (this.inode.growSealed && offset + length > this.inode.size) return -EPERM;
    return this.#free === 0 ? -ENOSPC : p.system.notModelled('fallocate of a MFD_HUGETLB file', -ENOSPC);
  }

  override stat(): Stat {
    return { ...super.stat(), blksize: this.#pageSize };
  }
}

/** A new file; `log2` of its page size, which exists. */
export function createHugeMemfd(p: Process, name: string, flags: number, log2: number): HugeMemfdFile {
  const { pageSize, free } = p.system.hugePool(log2)!;
  const { link, flags: status, inode } = MemfdFile.parts(p, name, flags);
  return new HugeMemfdFile(link, status, inode, pageSize, free);
}
