import type { Stat } from '../../kernel/backend.ts';
import {
  EINVAL,
  ENOMEM,
  ENOSPC,
  EOPNOTSUPP,
  EPERM,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  O_LARGEFILE,
  O_RDWR,
  PROT_WRITE,
  S_IFREG,
} from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import type { Backing, FileMap } from '../file.ts';
import type { Process } from '../process.ts';
import { HugeInode, HugePrivate } from './huge-pages.ts';
import type { HugePool } from './huge-pool.ts';
import { MemfdFile } from './memfd.ts';
import { PAGE_SIZE } from './pages.ts';

/** A file on hugetlbfs: memfd_create with MFD_HUGETLB, and what is behind memory that was mapped with MAP_HUGETLB. */
export class HugeFile extends MemfdFile {
  protected declare readonly inode: HugeInode;

  get pageSize(): number {
    return this.inode.pageSize;
  }

  protected override again(flags: number): MemfdFile {
    return new HugeFile(this.link, flags, this.inode);
  }

  /** hugetlbfs has no write operation. */
  override write(): number {
    return -EINVAL;
  }

  override pwrite(): number {
    return -EINVAL;
  }

  override ftruncate(_p: Process, length: bigint): number {
    const { size, seals } = this.inode;
    if (length % BigInt(this.pageSize) !== 0n) return -EINVAL;
    if (length < size && (seals & F_SEAL_SHRINK) !== 0) return -EPERM;
    if (length > size && (seals & F_SEAL_GROW) !== 0) return -EPERM;
    this.inode.resize(length);
    return 0;
  }

  /** hugetlbfs_file_mmap: pages are promised here, unless MAP_NORESERVE puts that off to the touch. What may be written makes the file longer, seals or not. */
  override mmap(p: Process, { page, pages, prot, shared, noreserve }: FileMap): Backing | number {
    const { inode } = this;
    const first = page / inode.grain;
    const count = pages / inode.grain;
    if (!Number.isInteger(first)) return -EINVAL;
    if (!noreserve && !(shared ? inode.reserveHuge(first, first + count) : inode.pool.reserve(count))) return -ENOMEM;
    const end = BigInt(page + pages) * BigInt(PAGE_SIZE);
    if ((prot & PROT_WRITE) !== 0 && inode.size < end) inode.grow(end);
    if (shared) return inode;
    return new HugePrivate(inode, page + pages, !noreserve, has(p.system.machine, 'hugeReservationsRestored'));
  }

  /** hugetlbfs_fallocate. What it has allocated when the pool is used up stays. */
  override fallocate(_p: Process, mode: number, offset: bigint, length: bigint): number {
    const { inode } = this;
    const end = offset + length;
    if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)) !== 0) return -EOPNOTSUPP;
    if ((mode & FALLOC_FL_PUNCH_HOLE) !== 0) {
      if (inode.writeSealed) return -EPERM;
      inode.punch(offset, end);
      return 0;
    }
    if (inode.growSealed && end > inode.size) return -EPERM;
    const size = BigInt(this.pageSize);
    for (let huge = offset / size; huge * size < end; huge++) if (!inode.allocate(Number(huge))) return -ENOSPC;
    if ((mode & FALLOC_FL_KEEP_SIZE) === 0 && end > inode.size) inode.grow(end);
    return 0;
  }

  override stat(): Stat {
    return { ...super.stat(), blksize: this.pageSize };
  }
}

/** A new file of memfd_create. */
export function createHugeMemfd(p: Process, name: string, flags: number, pool: HugePool): HugeFile {
  const { link, status, mode, seals } = MemfdFile.parts(name, flags);
  return new HugeFile(link, status, new HugeInode(p.system.newInode(), mode, seals, pool));
}

/** hugetlb_file_setup for memory without a file, of `length` bytes in whole huge pages. */
export function createHugeAnonymous(p: Process, length: number, pool: HugePool): HugeFile {
  const inode = new HugeInode(p.system.newInode(), S_IFREG | 0o777, F_SEAL_SEAL, pool, true);
  inode.grow(BigInt(length));
  return new HugeFile('/anon_hugepage (deleted)', O_RDWR | O_LARGEFILE, inode);
}
