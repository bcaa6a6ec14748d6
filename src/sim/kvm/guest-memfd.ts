import type { Stat } from '../../kernel/backend.ts';
import {
  GUEST_MEMFD_FLAG_INIT_SHARED,
  GUEST_MEMFD_FLAG_MMAP,
  KVM_CAP_GUEST_MEMFD_FLAGS,
  kvm_create_guest_memfd,
} from '../../uapi/kvm.ts';
import {
  EBADF,
  EEXIST,
  EFAULT,
  EHWPOISON,
  EINVAL,
  EMFILE,
  ENODEV,
  ENOMEM,
  EOPNOTSUPP,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  O_LARGEFILE,
  O_RDWR,
  S_IFREG,
} from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import { type Backing, File, type FileMap } from '../file.ts';
import type { Machine } from '../machine.ts';
import type { GuestPages } from '../mm/guest-pages.ts';
import { PageSet } from '../mm/page-set.ts';
import { PAGE_SIZE, type PageRef, PageStore } from '../mm/pages.ts';
import type { Process } from '../process.ts';
import type { Vm } from './vm.ts';

const PAGE = BigInt(PAGE_SIZE);
const PAGE_MASK = PAGE - 1n;

/** The pages of a guest_memfd. The guest has them all; a mapping only if the file began shared (GUEST_MEMFD_FLAG_INIT_SHARED). */
export class GuestMemfdInode extends PageStore {
  readonly size: bigint;
  readonly flags: bigint;
  readonly ino: bigint;
  /** RFC: pages that private DMA may reach. Whatever takes one from the guest takes it out. */
  readonly committed: PageSet = new PageSet();
  readonly #poisoned: Set<number> = new Set();

  constructor(size: bigint, flags: bigint, ino: bigint) {
    super(Number(size / PAGE));
    this.size = size;
    this.flags = flags;
    this.ino = ino;
  }

  get mappable(): boolean {
    return (this.flags & GUEST_MEMFD_FLAG_MMAP) !== 0n;
  }

  get initShared(): boolean {
    return (this.flags & GUEST_MEMFD_FLAG_INIT_SHARED) !== 0n;
  }

  /** kvm_gmem_fault_user_mapping. */
  override page(index: number, write: boolean): PageRef | null {
    return this.initShared && !this.#poisoned.has(index) ? super.page(index, write) : null;
  }

  override openView(index: number, count: number): PageRef | undefined {
    return this.initShared ? super.openView(index, count) : undefined;
  }

  /** kvm_gmem_get_pfn: a page never touched is allocated as zeros. */
  guestPage(index: number): PageRef | number {
    if (this.#poisoned.has(index)) return -EHWPOISON;
    return super.page(index, true) ?? -EFAULT;
  }

  /** A memory error (kvm_gmem_error_folio): mappings of the page are zapped; who touches it next is told. A punched hole takes it away. */
  poison(index: number): void {
    this.#poisoned.add(index);
    this.committed.remove(index, index + 1);
    this.notify();
  }

  override punch(from: number | bigint, to: number | bigint): void {
    const [first, end] = [BigInt(from) / PAGE, BigInt(to) / PAGE];
    for (const index of this.#poisoned) if (first <= index && index < end) this.#poisoned.delete(index);
    this.committed.remove(Number(first), Math.min(Number(end), this.pages));
    super.punch(from, to);
  }
}

/**
 * What a memslot has of a guest_memfd. Page `n` of the slot is page `pgoff + n` of the file. The binding holds no reference: when the file
 * goes it is left dead, and the slot with it.
 */
export interface GmemBinding {
  file: GuestMemfdFile | undefined;
  readonly pgoff: number;
  readonly npages: number;
  /** KVM_MEMSLOT_GMEM_ONLY: the file can be mapped, so that all of the guest's accesses go to it, shared ones too. */
  readonly only: boolean;
}

/** A descriptor made by KVM_CREATE_GUEST_MEMFD. Descriptors and mappings keep it, and it keeps the VM. */
export class GuestMemfdFile extends File {
  override readonly regular = true;
  override readonly anonymousInode = true;
  readonly vm: Vm;
  readonly inode: GuestMemfdInode;
  readonly #bindings: Set<GmemBinding> = new Set();
  readonly #zap: () => void;

  constructor(vm: Vm, inode: GuestMemfdInode) {
    super(linkText(vm.machine), O_RDWR | O_LARGEFILE);
    this.vm = vm.get();
    this.inode = inode;
    this.#zap = () => {
      if (this.#bindings.size > 0) vm.zap();
    };
    inode.notifiers.add(this.#zap);
  }

  /** kvm_gmem_release: slots keep their place in the guest, and have no memory any more. */
  override release(_p: Process): void {
    this.#zap();
    for (const binding of this.#bindings) binding.file = undefined;
    this.#bindings.clear();
    this.inode.notifiers.delete(this.#zap);
    this.inode.destroy();
    this.vm.put();
  }

  override get guestPages(): GuestPages {
    const { vm, inode } = this;
    return {
      size: inode.size,
      committed: inode.committed,
      notifiers: inode.notifiers,
      guestPage: (index) => inode.guestPage(index),
      has: (index) => inode.has(index),
      isShared: (index) =>
        vm.memslots.list().some(({ gmem, base_gfn }) => {
          const at = index - (gmem?.pgoff ?? index);
          return gmem?.file === this && at >= 0 && at < gmem.npages && !vm.isPrivate(base_gfn + at);
        }),
    };
  }

  /** The part of kvm_gmem_bind behind the checks of the file. */
  bind(pgoff: number, npages: number): GmemBinding | undefined {
    for (const other of this.#bindings) {
      if (pgoff < other.pgoff + other.npages && other.pgoff < pgoff + npages) return undefined;
    }
    const binding: GmemBinding = { file: this, pgoff, npages, only: this.inode.mappable };
    this.#bindings.add(binding);
    return binding;
  }

  unbind(binding: GmemBinding): void {
    this.#bindings.delete(binding);
  }

  override fallocate(p: Process, mode: number, offset: bigint, length: bigint): number {
    if ((mode & FALLOC_FL_KEEP_SIZE) === 0) return -EOPNOTSUPP;
    if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)) !== 0) return -EOPNOTSUPP;
    if ((offset | length) & PAGE_MASK) return -EINVAL;
    const end = offset + length;
    if ((mode & FALLOC_FL_PUNCH_HOLE) !== 0) {
      this.inode.punch(offset, end);
      return 0;
    }
    if (end > this.inode.size) return -EINVAL;
    if (length > BigInt(p.system.machine.limits.memory)) return -ENOMEM;
    this.inode.fill(Number(offset / PAGE), Number(end / PAGE));
    return 0;
  }

  override mmap(_p: Process, { shared }: FileMap): Backing | number {
    if (!this.inode.mappable) return -ENODEV;
    return shared ? this.inode : -EINVAL;
  }

  /** Nothing counts the blocks. */
  override stat(p: Process): Stat {
    const { ino, size } = this.inode;
    const { dev, ...rest } = p.system.anonInodeStat();
    return { ...rest, dev: has(this.vm.machine, 'gmemFilesystem') ? dev + 1n : dev, ino, mode: S_IFREG | 0o600, size };
  }
}

function linkText(machine: Machine): string {
  return has(machine, 'gmemFilesystem') ? '/[kvm-gmem] (deleted)' : 'anon_inode:[kvm-gmem]';
}

/** KVM_CREATE_GUEST_MEMFD. `reserved` is not looked at; nothing is allocated yet. */
export function createGuestMemfd(vm: Vm, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_create_guest_memfd.size);
  if (bytes === null) return -EFAULT;
  const { flags, size } = kvm_create_guest_memfd.decode(bytes);
  if (flags & ~BigInt(vm.capability(KVM_CAP_GUEST_MEMFD_FLAGS))) return -EINVAL;
  if (BigInt.asIntN(64, size) <= 0n || size & PAGE_MASK) return -EINVAL;
  const fd = p.fds.reserve(false);
  if (fd < 0) return -EMFILE;
  p.fds.set(fd, new GuestMemfdFile(vm, new GuestMemfdInode(size, flags, p.system.newInode())));
  return fd;
}

/** kvm_gmem_bind: the guest_memfd part of a memslot, or −errno. The offset is a multiple of the page size, its sum with the size does not wrap. */
export function bindGuestMemfd(vm: Vm, p: Process, fd: number, offset: bigint, npages: number): GmemBinding | number {
  const file = p.fds.get(fd | 0);
  if (file === undefined) return -EBADF;
  if (!(file instanceof GuestMemfdFile) || file.vm !== vm) return -EINVAL;
  if (offset + BigInt(npages) * PAGE > file.inode.size) return -EINVAL;
  const binding = file.bind(Number(offset / PAGE), npages);
  if (binding === undefined) return has(vm.machine, 'gmemOverlapExists') ? -EEXIST : -EINVAL;
  vm.gmemOnlySlots ||= binding.only;
  return binding;
}

/** kvm_gmem_unbind: the slot goes, or never came to be. What the file holds stays in it. */
export function unbindGuestMemfd(binding: GmemBinding | undefined): void {
  binding?.file?.inode.committed.remove(binding.pgoff, binding.pgoff + binding.npages);
  binding?.file?.unbind(binding);
}

/** The page the guest has at page `n` of the slot; −errno is a memory fault. */
export function guestPage({ file, pgoff }: GmemBinding, n: number): PageRef | number {
  return file === undefined ? -EFAULT : file.inode.guestPage(pgoff + n);
}
