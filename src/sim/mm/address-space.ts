import type { MapRequest } from '../../kernel/backend.ts';
import {
  EACCES,
  EAGAIN,
  EBADF,
  EFAULT,
  EINVAL,
  ENOMEM,
  EOPNOTSUPP,
  EOVERFLOW,
  EPERM,
  MAP_ANONYMOUS,
  MAP_DROPPABLE,
  MAP_GROWSDOWN,
  MAP_HUGE_MASK,
  MAP_HUGE_SHIFT,
  MAP_HUGETLB,
  MAP_LOCKED,
  MAP_NONBLOCK,
  MAP_NORESERVE,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  MAP_SHARED_VALIDATE,
  MAP_TYPE,
  PROT_EXEC,
  PROT_GROWSDOWN,
  PROT_GROWSUP,
  PROT_READ,
  PROT_SEM,
  PROT_WRITE,
} from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import { AnonFile, type Backing, type File } from '../file.ts';
import { atLeast, type Limits, type Machine } from '../machine.ts';
import type { Process } from '../process.ts';
import { LEGACY_MAP_MASK, madvise } from './advice.ts';
import { HugePrivate } from './huge-pages.ts';
import { createHugeAnonymous, HugeFile } from './hugetlb.ts';
import { SimMapping } from './mapping.ts';
import { MAX_VIEW, PAGE_SHIFT, PAGE_SIZE, type PageRef, PageStore } from './pages.ts';
import { DevicePin, DriverPin, type PinnedRange } from './pin.ts';
import { TASK_SIZE, UserMemory } from './user-memory.ts';
import { AnonymousMemory, type Vma, VmaList } from './vma.ts';

/** mmap places downwards from here: the stack is above, with 16 GiB to begin somewhere in and 128 MiB to grow (mmap_base). */
const MMAP_BASE = 0x7ffb_f000_0000;
/** mmap places nothing below; the program, its heap and the scratch windows live there. */
const MMAP_FLOOR = 0x110_0000_0000;

const POPULATE_PAGES = 2 ** 30 / PAGE_SIZE;

const PROT_RWX = PROT_READ | PROT_WRITE | PROT_EXEC;

/**
 * `struct mm_struct`: what a process maps, and the kernel's way to its memory. A pointer that leads nowhere is EFAULT, as it is for
 * a real kernel; nothing here can fault for real.
 */
export class AddressSpace extends UserMemory {
  /** Moves whenever any earlier answer of `resolve` may have become wrong. */
  generation = 1;
  readonly #process: Process;
  readonly #limits: Limits;
  readonly #anonInodesNoexec: boolean;
  readonly #vmas = new VmaList();
  /** Backings in use, each with its number of VMAs and our notifier. */
  readonly #backings = new Map<Backing, { count: number; notify: (truncatedFrom?: number) => void }>();
  /** Pages of VMAs with VM_LOCKED. */
  #mlocked = 0;
  #charged = 0;
  /** mm->pinned_vm, in pages. */
  pinnedVm = 0;

  constructor(process: Process, limits: Limits) {
    super();
    this.#process = process;
    this.#limits = limits;
    this.#anonInodesNoexec = has(process.system.machine, 'anonInodesNoexec');
  }

  /** VMAs ascending, for tests and /proc/self/maps. */
  get vmas(): readonly Readonly<Vma>[] {
    return this.#vmas.all();
  }

  /**
   * The page that holds `address`, faulted in for this access; null where the process would get SIGSEGV or SIGBUS. `offset` is that of the
   * page's first byte. Good until `generation` moves. The fast path for guest RAM.
   */
  resolve(address: bigint | number, write: boolean): PageRef | null {
    const at = Number(address);
    const vma = this.#vmas.find(at);
    if (vma === undefined) return null;
    // x86 page tables have no write-only or execute-only pages without protection keys.
    if (write ? (vma.prot & PROT_WRITE) === 0 : (vma.prot & PROT_RWX) === 0) return null;
    return this.#fault(vma, Math.floor(at / PAGE_SIZE), write);
  }

  /**
   * The page of `address` can be stored to without a fault once it is mapped for reading: the process's own, if somebody has stored to it, or
   * that of a file mapped shared. What get_user_page_fast_only tells KVM of a page the guest only reads.
   */
  mappedWritable(address: bigint | number): boolean {
    const vma = this.#vmas.find(Number(address));
    if (vma === undefined || (vma.prot & PROT_WRITE) === 0) return false;
    const page = Math.floor(Number(address) / PAGE_SIZE);
    const { backing } = vma;
    if (backing instanceof AnonymousMemory || backing instanceof HugePrivate)
      return backing.stored(vma.page + page - vma.start / PAGE_SIZE);
    return vma.shared || vma.cow?.has(page) === true;
  }

  /** The VMA around an address. */
  vmaAt(address: bigint | number): Readonly<Vma> | undefined {
    return this.#vmas.find(Number(address));
  }

  // ---- pinned pages

  /**
   * pin_user_pages(FOLL_LONGTERM) of every page that has a byte in [address, address + length): the pieces in order, or −EFAULT with nothing pinned. A read
   * breaks copy-on-write as a store would (FAULT_FLAG_UNSHARE): the device goes on sharing the page with the process. Device memory is in
   * the result, for callers that take it.
   */
  pin(address: bigint, length: number, write: boolean): PinnedRange[] | number {
    const { pieces, missing } = this.#pinWhatIsThere(address, length, write);
    if (missing === 0 && length <= this.#limits.memory) return pieces;
    for (const piece of pieces) piece.unpin();
    return missing > 0 ? -EFAULT : -ENOMEM;
  }

  /** How many pages from `address` on could be pinned, up to the first that could not. */
  pinnable(address: bigint, length: number, write: boolean): number {
    const { pieces } = this.#pinWhatIsThere(address, length, write);
    for (const piece of pieces) piece.unpin();
    return pieces.reduce((sum, { pages }) => sum + pages, 0);
  }

  #pinWhatIsThere(address: bigint, length: number, write: boolean): { pieces: PinnedRange[]; missing: number } {
    const pieces: PinnedRange[] = [];
    const start = Math.floor(Number(address) / PAGE_SIZE) * PAGE_SIZE;
    const end = roundUp(Number(address) + length);
    let at = start;
    while (at < end) {
      const vma = this.#vmas.find(at);
      const piece = vma === undefined ? undefined : this.#pin(vma, at, Math.min(end, vma.end), write);
      if (piece === undefined) break;
      pieces.push(piece);
      at += piece.pages * PAGE_SIZE;
    }
    return { pieces, missing: (end - at) / PAGE_SIZE };
  }

  /** As many pages from `start` on as are there; undefined: not even the first. */
  #pin(vma: Vma, start: number, end: number, write: boolean): PinnedRange | undefined {
    if ((vma.prot & (write ? PROT_WRITE : PROT_READ)) === 0) return undefined;
    const { backing } = vma;
    const first = vma.page + (start - vma.start) / PAGE_SIZE;
    const count = (end - start) / PAGE_SIZE;
    if (backing.pfn !== undefined) {
      const device = backing.pfn(first);
      if (device === null) return undefined;
      let pages = 1;
      while (pages < count && backing.pfn(first + pages) !== null) pages++;
      return new DevicePin(device, pages);
    }
    if (backing instanceof PageStore && (vma.shared || backing.anonymous)) {
      const pages = backing.populate(first, count);
      return pages > 0 ? backing.pin(first, pages) : undefined;
    }
    const from = start / PAGE_SIZE;
    let pages = 0;
    while (pages < count && this.#fault(vma, from + pages, true) !== null) pages++;
    if (pages === 0) return undefined;
    return vma.shared ? new DriverPin(backing, first, pages) : vma.cow!.pin(from, pages);
  }

  /** How many pins there are of the page behind an address; null: there is no page. */
  pinCount(address: bigint): number | null {
    const vma = this.#vmas.find(Number(address));
    if (vma === undefined || this.resolve(address, false) === null) return null;
    const page = Math.floor(Number(address) / PAGE_SIZE);
    if (!vma.shared && vma.backing.anonymous !== true && vma.cow?.has(page) === true) return vma.cow.pinCount(page);
    return vma.backing instanceof PageStore ? vma.backing.pinCount(vma.page + page - vma.start / PAGE_SIZE) : 0;
  }

  /** mm->locked_vm in pages: what MAP_LOCKED and long-term pins have locked together. */
  get lockedVm(): number {
    return this.#mlocked + this.#charged;
  }

  /** account_locked_vm: −ENOMEM where the limit has no room for `pages` more. A process with CAP_IPC_LOCK has no limit. */
  chargeLocked(pages: number): number {
    if (!this.canLock(pages)) return -ENOMEM;
    this.#charged += pages;
    return 0;
  }

  canLock(pages: number): boolean {
    return (this.lockedVm + pages) * PAGE_SIZE <= this.#limits.memlock;
  }

  unchargeLocked(pages: number): void {
    this.#charged -= pages;
  }

  // ---- system calls

  /** mmap(2) without a wish for the address. Checks in the order of ksys_mmap_pgoff, do_mmap and mmap_region. */
  mmap(request: MapRequest): SimMapping | number {
    const { flags } = request;
    if (request.offset % BigInt(PAGE_SIZE) !== 0n) return -EINVAL;
    let file: File | undefined;
    if ((flags & MAP_ANONYMOUS) === 0) {
      file = this.#process.fds.get(request.fd);
      if (file === undefined) return -EBADF;
      if ((flags & MAP_HUGETLB) !== 0 && !(file instanceof HugeFile)) return -EINVAL;
    } else if ((flags & MAP_HUGETLB) !== 0) return this.#hugeAnonymous(request);
    return this.#doMmap(request, file);
  }

  /** munmap(2). */
  munmap(address: bigint | number, length: number): number {
    const start = Number(address);
    if (start % PAGE_SIZE !== 0 || length > TASK_SIZE || start > TASK_SIZE - length) return -EINVAL;
    const end = start + roundUp(length);
    if (end === start) return -EINVAL;
    if (this.#cutsPage(start) || this.#cutsPage(end)) return -EINVAL;
    for (const vma of this.#carve(start, end)) this.#remove(vma);
    return 0;
  }

  /** mprotect(2). A gap or a refusal half-way leaves the part before it changed. */
  mprotect(address: bigint | number, length: number, prot: number): number {
    const start = Number(address);
    const grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
    if (grows === (PROT_GROWSDOWN | PROT_GROWSUP)) return -EINVAL;
    if (start % PAGE_SIZE !== 0) return -EINVAL;
    if (length === 0) return 0;
    const end = start + roundUp(length);
    const plain = prot & ~grows;
    if (end >= 2 ** 64) return -ENOMEM;
    if ((plain & ~(PROT_RWX | PROT_SEM)) !== 0) return -EINVAL;
    if (this.#vmas.find(start) === undefined) return -ENOMEM;
    if (grows !== 0) return -EINVAL;
    const wanted = plain & PROT_RWX;
    let at = start;
    for (const vma of this.#vmas.within(start, end)) {
      if (vma.start > at) return -ENOMEM;
      if ((wanted & ~vma.may) !== 0) return -EACCES;
      at = vma.end;
      if (vma.prot === wanted) continue;
      const parts = this.cut(Math.max(start, vma.start), Math.min(end, vma.end));
      if (parts === undefined) return -EINVAL;
      for (const part of parts) part.prot = wanted;
      this.generation++;
    }
    return at < end ? -ENOMEM : 0;
  }

  /** madvise(2). */
  madvise(address: bigint | number, length: number, advice: number): number {
    return madvise(this, Number(address), length, advice);
  }

  /** exit_mmap. */
  exit(): void {
    for (const vma of [...this.#vmas.all()]) this.#remove(vma);
  }

  // ---- for advice.ts

  get machine(): Machine {
    return this.#process.system.machine;
  }

  /** More than the machine's RAM cannot be faulted in. */
  fits(bytes: number): boolean {
    return bytes <= this.#limits.memory;
  }

  within(start: number, end: number): Vma[] {
    return this.#vmas.within(start, end);
  }

  /** vma_modify: the VMAs of [start, end), cut at its borders; undefined where those are inside a huge page. */
  cut(start: number, end: number): Vma[] | undefined {
    return this.#cutsPage(start) || this.#cutsPage(end) ? undefined : this.#carve(start, end);
  }

  /** zap_page_range: private pages are gone, the next touch faults again. */
  zap(vma: Vma, start: number, end: number): void {
    if (vma.backing.anonymous === true && vma.backing instanceof PageStore) {
      const base = vma.page * PAGE_SIZE - vma.start;
      vma.backing.punch(base + start, base + end);
    } else vma.cow?.punch(start, end);
    this.generation++;
  }

  // ---- inside

  #doMmap(request: MapRequest, file: File | undefined): SimMapping | number {
    const { length, prot, flags } = request;
    if (length === 0) return -EINVAL;
    const grain = file instanceof HugeFile ? file.pageSize : PAGE_SIZE;
    const span = Math.ceil(length / grain) * grain;
    const page = Number(request.offset >> BigInt(PAGE_SHIFT));
    if (this.#vmas.count > this.#limits.maps) return -ENOMEM;
    const start = this.#vmas.gap(span, MMAP_FLOOR, MMAP_BASE, grain);
    if (start < 0) return -ENOMEM;
    const locked = (flags & MAP_LOCKED) !== 0;
    if (locked && this.lockedVm * PAGE_SIZE + span > this.#limits.memlock) return this.#limits.memlock === 0 ? -EPERM : -EAGAIN;
    const type = flags & MAP_TYPE;
    const shared = type === MAP_SHARED || (type === MAP_SHARED_VALIDATE && file !== undefined);
    const wanted = prot & PROT_RWX;
    let may = PROT_RWX;
    let backing: Backing | number;
    if (file !== undefined) {
      if (span / PAGE_SIZE + page > file.maxMapPages) return -EOVERFLOW;
      if (type === MAP_SHARED_VALIDATE && (flags & ~LEGACY_MAP_MASK) !== 0) return -EOPNOTSUPP;
      if (!shared && type !== MAP_PRIVATE) return -EINVAL;
      if (shared && (wanted & PROT_WRITE) !== 0 && !file.writable) return -EACCES;
      if (shared && !file.writable) may &= ~PROT_WRITE;
      if (!file.readable) return -EACCES;
      if (file.noexec && (this.#anonInodesNoexec || !(file instanceof AnonFile))) {
        if ((wanted & PROT_EXEC) !== 0) return -EPERM;
        may &= ~PROT_EXEC;
      }
      if ((flags & MAP_GROWSDOWN) !== 0) return -EINVAL;
      const sealed = file.mapAllowed(shared, wanted);
      if (sealed < 0) return sealed;
      may &= ~file.mapForbids(shared);
      // hugetlb accounts for itself.
      if (grain === PAGE_SIZE && !this.#affordable(span, wanted, flags, shared)) return -ENOMEM;
      const noreserve = (flags & MAP_NORESERVE) !== 0;
      backing = file.mmap(this.#process, { page, pages: span / PAGE_SIZE, prot: wanted, shared, noreserve });
      if (typeof backing === 'number') return backing;
    } else {
      const droppable = type === MAP_DROPPABLE && atLeast(this.machine, '6.11');
      if (!shared && type !== MAP_PRIVATE && !droppable) return -EINVAL;
      if (droppable && locked) return -EINVAL;
      if ((shared || droppable) && (flags & MAP_GROWSDOWN) !== 0) return -EINVAL;
      if (!this.#affordable(span, shared ? PROT_WRITE : wanted, droppable ? MAP_NORESERVE : flags, false)) return -ENOMEM;
      backing = new AnonymousMemory(span, shared);
    }
    const vma: Vma = {
      start,
      end: start + span,
      page: file === undefined ? 0 : page,
      prot: wanted,
      may,
      shared,
      locked: locked && grain === PAGE_SIZE,
      grain,
      advised: 0,
      file: file?.ref(),
      backing,
      cow: undefined,
    };
    this.#insert(vma);
    if ((flags & (MAP_POPULATE | MAP_NONBLOCK)) === MAP_POPULATE || locked) this.#populate(vma);
    return this.#mapping(vma, request);
  }

  /** MAP_HUGETLB without a file makes one for it, as long as whole huge pages. */
  #hugeAnonymous(request: MapRequest): SimMapping | number {
    const p = this.#process;
    const pool = p.system.hugePool((request.flags >>> MAP_HUGE_SHIFT) & MAP_HUGE_MASK);
    if (pool === undefined) return -EINVAL;
    const file = createHugeAnonymous(p, Math.ceil(request.length / pool.pageSize) * pool.pageSize, pool);
    const mapping = this.#doMmap(request, file);
    file.unref(p);
    return mapping;
  }

  #mapping(vma: Vma, request: MapRequest): SimMapping {
    const pages = (vma.end - vma.start) / PAGE_SIZE;
    const direct = vma.shared || vma.backing.anonymous === true;
    const readWrite = (vma.prot & (PROT_READ | PROT_WRITE)) === (PROT_READ | PROT_WRITE);
    const view =
      request.view && direct && readWrite && pages * PAGE_SIZE <= MAX_VIEW ? vma.backing.openView?.(vma.page, pages) : undefined;
    return new SimMapping(this, vma, request.length, view);
  }

  /** Heuristic overcommit refuses only what all of RAM and swap could not hold. */
  #affordable(span: number, prot: number, flags: number, shared: boolean): boolean {
    const accountable = (prot & PROT_WRITE) !== 0 && !shared && (flags & MAP_NORESERVE) === 0;
    return !accountable || span <= this.#limits.memory;
  }

  /** MAP_POPULATE and MAP_LOCKED fault pages in until one fails, and nobody is told; so it may also end when a GiB is there. */
  #populate(vma: Vma): void {
    const huge = vma.grain > PAGE_SIZE;
    if (vma.prot === 0 || (vma.backing.anonymous === true && !huge)) return;
    const write = !vma.shared && (vma.prot & PROT_WRITE) !== 0;
    const first = vma.start / PAGE_SIZE;
    const end = huge ? vma.end / PAGE_SIZE : Math.min(vma.end / PAGE_SIZE, first + POPULATE_PAGES);
    for (let page = first; page < end; page += vma.grain / PAGE_SIZE) {
      if (this.#fault(vma, page, write) === null) return;
    }
  }

  #fault(vma: Vma, addressPage: number, write: boolean): PageRef | null {
    const index = vma.page + addressPage - vma.start / PAGE_SIZE;
    if (vma.shared || vma.backing.anonymous === true) return vma.backing.page(index, write);
    if (vma.cow?.has(addressPage)) return vma.cow.page(addressPage, write);
    const page = vma.backing.page(index, false);
    if (page === null || !write) return page;
    vma.cow ??= this.#privateCopies(vma);
    const copy = vma.cow.page(addressPage, true)!;
    copy.u8.set(page.u8.subarray(page.offset, page.offset + PAGE_SIZE), copy.offset);
    this.generation++;
    return copy;
  }

  /** One store for every part of what was one mapping: a later split shares it. */
  #privateCopies(vma: Vma): PageStore {
    const copies = new PageStore(TASK_SIZE / PAGE_SIZE);
    vma.cow = copies;
    return copies;
  }

  #insert(vma: Vma): void {
    this.#vmas.insert(vma);
    if (vma.locked) this.#mlocked += (vma.end - vma.start) / PAGE_SIZE;
    vma.backing.opened?.(vma.shared, (vma.may & PROT_WRITE) !== 0);
    const used = this.#backings.get(vma.backing);
    if (used !== undefined) used.count++;
    else {
      const notify = (truncatedFrom?: number): void => this.#changed(vma.backing, truncatedFrom);
      vma.backing.notifiers.add(notify);
      this.#backings.set(vma.backing, { count: 1, notify });
    }
    this.generation++;
  }

  #remove(vma: Vma): void {
    this.#vmas.remove(vma);
    if (vma.locked) this.#mlocked -= (vma.end - vma.start) / PAGE_SIZE;
    if (vma.backing.anonymous === true || vma.cow !== undefined) this.zap(vma, vma.start, vma.end);
    const used = this.#backings.get(vma.backing)!;
    if (--used.count === 0) {
      this.#backings.delete(vma.backing);
      vma.backing.notifiers.delete(used.notify);
    }
    vma.backing.closed?.(vma.shared, (vma.may & PROT_WRITE) !== 0, vma.page, (vma.end - vma.start) / PAGE_SIZE);
    vma.file?.unref(this.#process);
    this.generation++;
  }

  /** A border inside a huge page: vm_ops->may_split refuses. */
  #cutsPage(border: number): boolean {
    return border % (this.#vmas.find(border)?.grain ?? PAGE_SIZE) !== 0;
  }

  /** The VMAs of [start, end), cut at its borders. */
  #carve(start: number, end: number): Vma[] {
    for (const border of [start, end]) {
      const vma = this.#vmas.find(border);
      if (vma === undefined || vma.start === border) continue;
      this.#vmas.split(vma, border);
      this.#backings.get(vma.backing)!.count++;
    }
    return this.#vmas.within(start, end);
  }

  /** A backing's pages moved or went. Truncation takes private copies with it; a punched hole does not. */
  #changed(backing: Backing, truncatedFrom: number | undefined): void {
    this.generation++;
    if (truncatedFrom === undefined) return;
    for (const vma of this.#vmas.all()) {
      if (vma.backing !== backing || vma.cow === undefined) continue;
      const from = Math.max(vma.start, vma.start + (truncatedFrom - vma.page) * PAGE_SIZE);
      if (from < vma.end) vma.cow.punch(from, vma.end);
    }
  }
}

function roundUp(length: number): number {
  return Math.ceil(length / PAGE_SIZE) * PAGE_SIZE;
}
