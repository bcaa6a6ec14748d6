import type { Machine } from '../machine.ts';

/** How many bytes of the machine's memory pools of huge pages may take, and have taken. */
export interface HugeRoom {
  readonly bytes: number;
  taken: number;
}

/** An object that is mapped with a view, through which a store goes unseen. */
export interface Viewed {
  /** Takes account of what was stored through views. */
  discover(): void;
}

/**
 * `struct hstate`: the huge pages of one size. Reservations are promises: a page that is free may be spoken for, and only `free − reserved` are anybody's. Surplus
 * pages come from the machine's memory on demand, as many as the overcommit limit lets, and go back there when they are free.
 */
export class HugePool {
  readonly pageSize: number;
  /** nr_overcommit_hugepages. */
  overcommit = 0;
  /** Persistent pages as of the last resize: what vm.nr_hugepages reads. */
  wanted: number;
  readonly viewed: Set<Viewed> = new Set();
  readonly #room: HugeRoom;
  #total = 0;
  #free = 0;
  #reserved = 0;
  #surplus = 0;

  constructor(pageSize: number, pages: number, room: HugeRoom) {
    this.pageSize = pageSize;
    this.#room = room;
    while (this.#total < pages && this.#fresh()) this.#free++;
    this.wanted = this.#total;
  }

  /** nr_hugepages: surplus pages are among them. */
  get total(): number {
    return this.#total;
  }

  /** free_hugepages: reserved ones are among them. */
  get free(): number {
    this.#discover();
    return this.#free;
  }

  /** resv_hugepages. It can be below 0 for a while: what a private mapping loses while it is pinned takes its promise back only when the pin goes. */
  get reserved(): number {
    this.#discover();
    return this.#reserved;
  }

  get surplus(): number {
    this.#discover();
    return this.#surplus;
  }

  /** hugetlb_acct_memory: promises pages, surplus ones where those that are free do not do. False: there are not so many. */
  reserve(pages: number): boolean {
    const needed = this.#reserved + pages - this.#free;
    for (let made = 0; made < needed; made++) {
      if (this.#makeSurplus()) continue;
      while (made-- > 0) this.#dropSurplus();
      return false;
    }
    if (needed > 0) this.#free += needed;
    this.#reserved += pages;
    return true;
  }

  /** return_unused_surplus_pages: promises that are not needed any more, and the surplus pages kept for them. */
  unreserve(pages: number): void {
    this.#reserved -= pages;
    for (let left = Math.min(pages, this.#surplus); left > 0 && this.#free > 0; left--) {
      this.#free--;
      this.#dropSurplus();
    }
  }

  /** alloc_hugetlb_folio: takes a page, a promised one or one that is nobody's. False: there is none. */
  take(promised: boolean): boolean {
    if (this.#free > 0 && (promised || this.#free !== this.#reserved)) this.#free--;
    else if (!this.#makeSurplus()) return false;
    if (promised) this.#reserved--;
    return true;
  }

  /** free_huge_folio. `restore`: whoever had it has its promise back. */
  give(restore: boolean): void {
    if (restore) this.#reserved++;
    if (this.#surplus > 0) this.#dropSurplus();
    else this.#free++;
  }

  /**
   * set_max_huge_pages: as many persistent pages as the machine has memory for, up to `count`; here memory is never in pieces too small. Pages in use, or promised, cannot go: they become surplus, and go when
   * they are free.
   */
  resize(count: number): void {
    this.#discover();
    while (this.#surplus > 0 && count > this.#persistent) this.#surplus--;
    while (count > this.#persistent && this.#fresh()) this.#free++;
    const persistentFree = this.#free > this.#persistent ? Math.max(0, this.#free - this.#surplus) : this.#free;
    const least = Math.max(count, this.#reserved + this.#persistent - persistentFree);
    while (least < this.#persistent && this.#free > 0) {
      this.#free--;
      this.#release();
    }
    while (count < this.#persistent && this.#surplus < this.#total) this.#surplus++;
    this.wanted = this.#persistent;
  }

  /** demote: a free page of nobody's becomes free pages of another pool. False: there is none. */
  demote(into: HugePool): boolean {
    this.#discover();
    if (this.#free - this.#reserved <= 0) return false;
    this.#free--;
    this.#release();
    this.wanted--;
    for (let left = this.pageSize / into.pageSize; left > 0; left--) {
      into.#fresh();
      into.#free++;
      into.wanted++;
    }
    return true;
  }

  get #persistent(): number {
    return this.#total - this.#surplus;
  }

  #discover(): void {
    for (const object of this.viewed) object.discover();
  }

  #fresh(): boolean {
    if (this.#room.taken + this.pageSize > this.#room.bytes) return false;
    this.#room.taken += this.pageSize;
    this.#total++;
    return true;
  }

  #release(): void {
    this.#room.taken -= this.pageSize;
    this.#total--;
  }

  #makeSurplus(): boolean {
    if (this.#surplus >= this.overcommit || !this.#fresh()) return false;
    this.#surplus++;
    return true;
  }

  #dropSurplus(): void {
    this.#release();
    this.#surplus--;
  }
}

/** The pools of a machine by page size, with the pages it has at boot. */
export function makePools({ hugePages, limits }: Machine): ReadonlyMap<number, HugePool> {
  const room: HugeRoom = { bytes: limits.memory, taken: 0 };
  return new Map(Object.entries(hugePages).map(([size, pages]) => [Number(size), new HugePool(Number(size), pages, room)]));
}
