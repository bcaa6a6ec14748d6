import type { Stat } from '../kernel/backend.ts';
import type { Width } from '../kernel/memory.ts';
import {
  EINVAL,
  ENODEV,
  ENOTTY,
  ENXIO,
  EOPNOTSUPP,
  EPERM,
  ESPIPE,
  O_ACCMODE,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  POLLIN,
  POLLOUT,
  POLLRDNORM,
  POLLWRNORM,
} from '../uapi/sys.ts';
import type { DeviceMemory } from './mm/device-memory.ts';
import type { GuestPages } from './mm/guest-pages.ts';
import type { PageRef, PageStore } from './mm/pages.ts';
import type { Process } from './process.ts';
import type { WaitQueue } from './wait-queue.ts';

/** What do_mmap hands to a file's mmap operation, after its own checks. Lengths in whole pages. */
export interface FileMap {
  /** First page of the file that is mapped. */
  readonly page: number;
  readonly pages: number;
  readonly prot: number;
  /** VM_SHARED | VM_MAYSHARE: stores reach the file. */
  readonly shared: boolean;
  /** MAP_NORESERVE. */
  readonly noreserve: boolean;
}

/**
 * What lies behind a mapping: the twin of `struct address_space` plus `vm_operations_struct`. `PageStore` is the one for
 * ordinary memory; a driver may write its own.
 */
export interface Backing {
  /**
   * The fault handler: page `index` of the object, allocated if need be. Null is SIGBUS. A `PageRef` stays good until the backing calls its
   * `notifiers`.
   */
  page(index: number, write: boolean): PageRef | null;
  /** One piece of memory for all of [index, index + count), none of which can fault: what `Memory.bytes` needs. Paired with `closeView`. */
  openView?(index: number, count: number): PageRef | undefined;
  /** The view's mapping is gone. What the view still reaches reads as zeros from now on, unless another live view shares it. */
  closeView?(index: number, count: number): void;
  /** vm_ops->open: a VMA of this backing came to be (mmap, or a split). `mayWrite`: it is shared and can be made writable. */
  opened?(shared: boolean, mayWrite: boolean): void;
  /** vm_ops->close, of the VMA of pages [first, first + count). */
  closed?(shared: boolean, mayWrite: boolean, first: number, count: number): void;
  /** MADV_REMOVE of bytes [from, to) of the object; 0 or −errno. Absent: −ENODEV. */
  remove?(from: number, to: number): number;
  /** Private memory of one VMA: MADV_DONTNEED throws its pages away. */
  readonly anonymous?: boolean;
  /** Called when any `PageRef` handed out may have become wrong: the MMU notifier. After truncation: from which page on nothing is left. */
  readonly notifiers: Set<(truncatedFrom?: number) => void>;
  /** Device memory: accesses of exact width instead of pages (`page` answers null). A negative number is −errno: the access faults. */
  load?(offset: number, width: Width): number | bigint;
  store?(offset: number, width: Width, value: number | bigint): number;
  /**
   * VM_PFNMAP, follow_pfnmap_start: what page `index` shows, as it lies on the bus, where `offset` is that of the page; the driver may zap its mappings and this
   * stays. Null: the page cannot be faulted in now.
   */
  pfn?(index: number): (DeviceMemory & { readonly offset: number }) | null;
}

/** POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM: what poll says of a file without a poll operation. */
export const DEFAULT_POLLMASK: number = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;

/**
 * An open file description. It begins with one reference, its creator's; descriptors, mappings and holders inside the kernel each have one;
 * `release` runs with the last. Operations return ≥ 0 or −errno; the defaults are what the VFS does for a file without the operation.
 */
export abstract class File {
  /** F_GETFL: access mode and status flags; the creation flags (O_CREAT, O_EXCL, O_NOCTTY, O_TRUNC) and O_CLOEXEC are not kept. */
  flags: number;
  /** The target of /proc/self/fd/N: 'anon_inode:kvm-vm', '/memfd:name (deleted)', a path. */
  link: string;
  /** The inode lives on a mount without exec: PROT_EXEC mappings are EPERM. Anonymous inodes do since 6.16 (`anonInodesNoexec`). */
  readonly noexec: boolean = true;
  /** S_ISREG: can be truncated and allocated. */
  readonly regular: boolean = false;
  /** S_ANON_INODE: regular for all but the requests that ask for a size. */
  readonly anonymousInode: boolean = false;

  /** f_pos. */
  get position(): bigint {
    return 0n;
  }

  /** F_SETSIG. */
  ownerSignal = 0;
  /** FMODE_PREAD | FMODE_PWRITE; without it pread and pwrite are ESPIPE before anything else is asked. */
  readonly seekable: boolean = false;

  /** FMODE_PWRITE, where it is not as FMODE_PREAD: a file without write but with a position. */
  get writableAt(): boolean {
    return this.seekable;
  }

  /** file_mmap_ok: a mapping must end at or below this page of the file (EOVERFLOW). A device without a size: no limit. */
  readonly maxMapPages: number = 2 ** 52 - 1;
  /** Absent for files that never block. */
  readonly wait: WaitQueue | undefined = undefined;

  /** −EAGAIN of `read` and `write` is not for the caller: the call waits and tries again. */
  get mayWait(): boolean {
    return (this.flags & O_NONBLOCK) === 0 && this.wait !== undefined;
  }

  #references = 1;

  constructor(link: string, flags: number) {
    this.link = link;
    this.flags = flags;
  }

  get references(): number {
    return this.#references;
  }

  /** FMODE_READ. */
  get readable(): boolean {
    const mode = this.flags & O_ACCMODE;
    return mode === O_RDONLY || mode === O_RDWR;
  }

  /** FMODE_WRITE. */
  get writable(): boolean {
    const mode = this.flags & O_ACCMODE;
    return mode === O_WRONLY || mode === O_RDWR;
  }

  /** get_file. */
  ref(): this {
    if (this.#references === 0) throw new Error(`${this.link}: reference taken on a released file`);
    this.#references++;
    return this;
  }

  /** fput. */
  unref(p: Process): void {
    if (this.#references === 0) throw new Error(`${this.link}: released twice`);
    if (--this.#references === 0) this.release(p);
  }

  /** f_op->release: the last reference is gone. */
  release(_p: Process): void {}

  ioctl(_p: Process, _request: number, _arg: bigint): number {
    return -ENOTTY;
  }

  /** At the file's own position. −EAGAIN: nothing there yet; the system call waits, unless O_NONBLOCK is set. */
  read(_p: Process, _into: Uint8Array): number {
    return -EINVAL;
  }

  write(_p: Process, _from: Uint8Array): number {
    return -EINVAL;
  }

  /** `offset` ≥ 0. Only asked where `seekable`. */
  pread(_p: Process, _into: Uint8Array, _offset: bigint): number {
    return this.seekable ? -EINVAL : -ESPIPE;
  }

  pwrite(_p: Process, _from: Uint8Array, _offset: bigint): number {
    return this.seekable ? -EINVAL : -ESPIPE;
  }

  /** Asked by do_mmap after its own checks, before `mmap`: seals. */
  mapAllowed(_shared: boolean, _prot: number): number {
    return 0;
  }

  /** PROT_* that mprotect may never add to such a mapping. */
  mapForbids(_shared: boolean): number {
    return 0;
  }

  /** f_op->mmap. */
  mmap(_p: Process, _map: FileMap): Backing | number {
    return -ENODEV;
  }

  /** F_ADD_SEALS. */
  addSeals(_seals: number): number {
    return this.writable ? -EINVAL : -EPERM;
  }

  /** The pages memfd_pin_folios may take: those of files on tmpfs and hugetlbfs. */
  get pageCache(): PageStore | undefined {
    return undefined;
  }

  /** RFC: the guest's memory that it is. */
  get guestPages(): GuestPages | undefined {
    return undefined;
  }

  /** F_GET_SEALS. */
  getSeals(): number {
    return -EINVAL;
  }

  /** Asked of regular files open for writing; `length` ≥ 0. */
  ftruncate(_p: Process, _length: bigint): number {
    return -EINVAL;
  }

  /** Asked of regular files open for writing, after the checks of vfs_fallocate: `mode` is a legal combination. */
  fallocate(_p: Process, _mode: number, _offset: bigint, _length: bigint): number {
    return -EOPNOTSUPP;
  }

  /** open(2) through /proc/self/fd/N: another description of the same inode. Anonymous inodes cannot be opened. */
  reopen(_p: Process, _flags: number): File | number {
    return -ENXIO;
  }

  /** The EPOLL* mask that is true now. */
  poll(_p: Process): number {
    return DEFAULT_POLLMASK;
  }

  abstract stat(p: Process): Stat;

  /** show_fdinfo: lines of /proc/self/fdinfo/N behind those every file has; undefined where they are not modelled. */
  fdinfo(_p: Process): string | undefined {
    return '';
  }
}

/** A file on the anonymous inode: mode 0600 without type bits, all of them share one inode. */
export abstract class AnonFile extends File {
  override stat(p: Process): Stat {
    return p.system.anonInodeStat();
  }
}
