import { EFAULT, EINVAL, ENOMEM, EOVERFLOW } from '../../uapi/sys.ts';
import type { File } from '../file.ts';
import type { DmaTarget } from '../hardware/dma-target.ts';
import { type Interval, IntervalTree } from '../interval-tree.ts';
import type { AddressSpace } from '../mm/address-space.ts';
import { PAGE_SIZE, type PageRef, type PageStore } from '../mm/pages.ts';
import type { PinnedRange } from '../mm/pin.ts';
import type { Process } from '../process.ts';
import { complement, PAGE, U64_MAX } from './iova.ts';
import { PageUsers } from './page-users.ts';

/** Who pays for pinned pages: nobody (CAP_IPC_LOCK), the user, or the process's mm. */
export type Accounting = 'none' | 'user' | 'mm';

/** Pages [first, last] of a pages object that are pinned. */
interface Run extends Interval {
  readonly pins: PinnedRange;
}

/**
 * `struct iopt_pages`: the memory one IOMMU_IOAS_MAP named. Areas share it (a copy does not pin again); what domains and accesses need of it is pinned, each
 * page once. Counted by its areas and accesses.
 */
export abstract class IoptPages {
  /** IOMMU_IOAS_MAP_WRITEABLE of the mapping: pinned for writing, and copies may write too. */
  readonly writable: boolean;
  /** Address or file offset of byte 0: what automatic placement goes by. */
  abstract readonly hint: bigint;
  /** Memory of a device, by a dma-buf: not for the CPU. */
  readonly dmabuf: boolean = false;
  #references = 0;
  readonly #runs: IntervalTree<Run> = new IntervalTree();
  /** How many domains' areas and accesses need each page. */
  readonly #users: PageUsers = new PageUsers();

  constructor(writable: boolean) {
    this.writable = writable;
  }

  get(): void {
    this.#references++;
  }

  put(): void {
    if (--this.#references === 0) this.release();
  }

  /** Nothing refers to it any more. */
  protected release(): void {}

  /** Pages [first, last] are needed; what of them is not pinned yet is pinned now. −errno: nothing has changed. */
  pin(first: number, last: number): number {
    const [from, to] = [BigInt(first), BigInt(last)];
    const taken: Run[] = [];
    const undo = (error: number): number => {
      for (const run of taken) run.pins.unpin();
      return error;
    };
    let count = 0;
    for (const gap of complement(this.#runs.within(from, to), from, to)) {
      const pieces = this.take(Number(gap.first), Number(gap.last));
      if (typeof pieces === 'number') return undo(pieces);
      let at = gap.first;
      for (const pins of pieces) {
        taken.push({ first: at, last: at + BigInt(pins.pages) - 1n, pins });
        at += BigInt(pins.pages);
        count += pins.pages;
      }
    }
    if (count > 0 && this.charge(count) < 0) return undo(-ENOMEM);
    for (const run of taken) this.#runs.insert(run);
    this.#users.add(from, to);
    return 0;
  }

  /** The same pages are needed once less. */
  unpin(first: number, last: number): void {
    for (const unused of this.#users.remove(BigInt(first), BigInt(last))) this.#drop(unused.first, unused.last);
  }

  /** The pinned page, wherever a domain or an access has asked for it. */
  pinned(page: number): PageRef | undefined {
    const run = this.#runs.find(BigInt(page));
    return run?.pins.ref(page - Number(run.first));
  }

  /** What DMA to this byte reaches. */
  target(byte: bigint, length: number): DmaTarget | undefined {
    const page = this.pinned(Number(byte / PAGE));
    if (page === undefined) return undefined;
    const within = Number(byte % PAGE);
    return { length: Math.min(length, PAGE_SIZE - within), page, at: page.offset + within };
  }

  /** A page for the CPU, whether it is pinned or not; −errno. */
  peek(page: number, write: boolean): PageRef | number {
    return this.pinned(page) ?? this.look(page, write);
  }

  /** The pages around this one, which is pinned, that are next to each other in physical memory too. */
  run(page: number): { readonly first: number; readonly count: number } {
    const piece = this.#runs.find(BigInt(page));
    if (piece === undefined) return { first: page, count: 1 };
    const { first, count } = piece.pins.run(page - Number(piece.first));
    return { first: Number(piece.first) + first, count };
  }

  protected abstract take(first: number, last: number): PinnedRange[] | number;
  protected abstract look(page: number, write: boolean): PageRef | number;
  protected abstract charge(pages: number): number;
  protected abstract uncharge(pages: number): void;

  /** Nobody needs pages [first, last], which are pinned. */
  #drop(first: bigint, last: bigint): void {
    let count = 0;
    for (const run of [...this.#runs.within(first, last)]) {
      this.#runs.remove(run);
      let { pins } = run;
      if (run.first < first) {
        const [below, rest] = pins.split(Number(first - run.first));
        this.#runs.insert({ first: run.first, last: first - 1n, pins: below });
        pins = rest;
      }
      if (run.last > last) {
        const [rest, above] = pins.split(pins.pages - Number(run.last - last));
        this.#runs.insert({ first: last + 1n, last: run.last, pins: above });
        pins = rest;
      }
      count += pins.pages;
      pins.unpin();
    }
    this.uncharge(count);
  }
}

/** Memory that is for devices only: nobody is charged for it, and the CPU gets none of it. */
export abstract class DeviceOnlyPages extends IoptPages {
  override readonly dmabuf = true;

  override pin(_first: number, _last: number): number {
    return 0;
  }

  override unpin(): void {}

  protected override take(): number {
    return -EINVAL;
  }

  protected override look(): number {
    return -EINVAL;
  }

  protected override charge(): number {
    return 0;
  }

  protected override uncharge(): void {}
}

/** The mapper of a pages object: whose memory and limits they are, whoever pins later. */
abstract class OwnedPages extends IoptPages {
  protected readonly process: Process;
  readonly accounting: Accounting;

  constructor(p: Process, writable: boolean, accounting: Accounting) {
    super(writable);
    this.process = p;
    this.accounting = accounting;
  }

  protected override charge(pages: number): number {
    const { mm, system } = this.process;
    const error =
      this.accounting === 'mm'
        ? mm.chargeLocked(pages)
        : this.accounting === 'user'
          ? system.userLocked.charge(this.process, pages)
          : 0;
    if (error === 0) mm.pinnedVm += pages;
    return error;
  }

  protected override uncharge(pages: number): void {
    const { mm, system } = this.process;
    if (this.accounting === 'mm') mm.unchargeLocked(pages);
    if (this.accounting === 'user') system.userLocked.uncharge(this.process, pages);
    mm.pinnedVm -= pages;
  }
}

/** Memory of a process by address. Nobody looks at it before it has to be pinned. */
export class UserPages extends OwnedPages {
  readonly hint: bigint;
  readonly #mm: AddressSpace;

  /** `address` is a page's. */
  constructor(p: Process, address: bigint, writable: boolean, accounting: Accounting) {
    super(p, writable, accounting);
    this.hint = address;
    this.#mm = p.mm;
  }

  protected override take(first: number, last: number): PinnedRange[] | number {
    const address = this.hint + BigInt(first) * PAGE;
    // pin_user_pages_fast adds them up before it looks where they are.
    if (address + BigInt(last - first + 1) * PAGE > U64_MAX) return -EOVERFLOW;
    const pieces = this.#mm.pin(address, (last - first + 1) * PAGE_SIZE, this.writable);
    if (typeof pieces === 'number') return pieces;
    // Device memory by page frame numbers (the mmap of a BAR) cannot be pinned.
    if (pieces.every(({ device }) => device === undefined)) return pieces;
    for (const piece of pieces) piece.unpin();
    return -EFAULT;
  }

  protected override look(page: number, write: boolean): PageRef | number {
    return this.#mm.resolve(this.hint + BigInt(page) * PAGE, write) ?? -EFAULT;
  }
}

/** Memory of a memfd by offset. Of what file it is, and how long that is, matters only when pages are pinned; how it was opened never does. */
export class FilePages extends OwnedPages {
  readonly hint: bigint;
  readonly #file: File;

  constructor(p: Process, file: File, offset: bigint, writable: boolean, accounting: Accounting) {
    super(p, writable, accounting);
    this.hint = offset;
    this.#file = file.ref();
  }

  protected override release(): void {
    this.#file.unref(this.process);
  }

  protected override take(first: number, last: number): PinnedRange[] | number {
    const store = this.#store(last);
    if (typeof store === 'number') return store;
    const [from, count] = [Number(this.hint / PAGE) + first, last - first + 1];
    return store.populate(from, count, true) < count ? -ENOMEM : [store.pin(from, count)];
  }

  protected override look(page: number, write: boolean): PageRef | number {
    const store = this.#store(page);
    return typeof store === 'number' ? store : (store.page(Number(this.hint / PAGE) + page, write) ?? -ENOMEM);
  }

  /** memfd_pin_folios takes shmem and hugetlbfs, and whole pages up to i_size. */
  #store(last: number): PageStore | number {
    const store = this.#file.pageCache;
    if (store === undefined) return -EINVAL;
    const end = this.hint + BigInt(last + 1) * PAGE;
    return end <= this.#file.stat(this.process).size ? store : -EINVAL;
  }
}
