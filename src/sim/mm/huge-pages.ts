import { HugePins } from './huge-pins.ts';
import type { HugePool, Viewed } from './huge-pool.ts';
import { MemfdInode } from './memfd.ts';
import { PageRanges } from './page-ranges.ts';
import { PAGE_SIZE, type PageRef, PageStore } from './pages.ts';
import type { PagePin } from './pin.ts';

/** Past every page a file can have. */
const EVER: number = Number.MAX_SAFE_INTEGER;

/** The views that are open, by huge page, of an object that learns of stores through them by what it finds there. */
class Views {
  readonly #open: (readonly [first: number, end: number])[] = [];
  readonly #pool: HugePool;
  readonly #object: Viewed;
  readonly #grain: number;

  constructor(pool: HugePool, object: Viewed) {
    this.#pool = pool;
    this.#object = object;
    this.#grain = pool.pageSize / PAGE_SIZE;
  }

  /** The huge pages of a view. */
  range(index: number, count: number): readonly [first: number, end: number] {
    return [Math.floor(index / this.#grain), Math.ceil((index + count) / this.#grain)];
  }

  open(index: number, count: number): void {
    this.#open.push(this.range(index, count));
    this.#pool.viewed.add(this.#object);
  }

  close(index: number, count: number): void {
    const [first, end] = this.range(index, count);
    const at = this.#open.findIndex(([from, to]) => from === first && to === end);
    if (at >= 0) this.#open.splice(at, 1);
    if (this.#open.length === 0) this.#pool.viewed.delete(this.#object);
  }

  /**
   * Takes the huge pages that have come to hold something. Where the pool has none the store would have been SIGBUS: a view cannot tell that, and shows that nothing was
   * stored.
   */
  settle({ there, holds, take, drop }: Settling): void {
    for (const [first, end] of this.#open) {
      for (let huge = first; huge < end; huge++) {
        const [from, to] = [huge * this.#grain, (huge + 1) * this.#grain];
        if (!there(huge) && holds(from, to) && !take(huge)) drop(from, to);
      }
    }
  }
}

/** What an object with views does: by huge page, and for its pages [from, to). */
interface Settling {
  there(huge: number): boolean;
  holds(from: number, to: number): boolean;
  /** False: the pool has no page. */
  take(huge: number): boolean;
  drop(from: number, to: number): void;
}

/**
 * The inode of a file on hugetlbfs: pages come from a pool, a whole huge one at a time. `resv_map`: the pages that are promised to the file by shared mappings, or
 * were allocated. The promise of a page outlives the mapping that made it; a hole punched into a page takes it away, truncation those of all that is cut off.
 */
export class HugeInode extends MemfdInode implements Viewed {
  override readonly grain: number;
  readonly pool: HugePool;
  readonly pageSize: number;
  /** In the page cache. */
  readonly #there = new Set<number>();
  readonly #accounted = new PageRanges();
  readonly #pins: HugePins;
  readonly #views: Views;
  /** Private mappings: truncation and holes take their pages too. */
  readonly privates: Set<HugePrivate> = new Set();
  /** That of memory without a file: there is no descriptor of it. */
  readonly unnamed: boolean;

  constructor(ino: bigint, mode: number, seals: number, pool: HugePool, unnamed = false) {
    super(ino, mode, seals);
    this.unnamed = unnamed;
    this.pool = pool;
    this.pageSize = pool.pageSize;
    this.grain = pool.pageSize / PAGE_SIZE;
    this.#pins = new HugePins(pool);
    this.#views = new Views(pool, this);
  }

  /** Huge pages up to i_size, which need not be a multiple of one. */
  get #end(): number {
    return Math.ceil(Number(this.size) / this.pageSize);
  }

  /** hugetlb_no_page: there is a page to be had. Of a last one that i_size cuts there is none, unless it was allocated. */
  within(huge: number): boolean {
    return BigInt(huge + 1) * BigInt(this.pageSize) <= this.size;
  }

  /** How many 4 KiB pages are there. */
  override get allocated(): number {
    this.discover();
    return this.#there.size * this.grain;
  }

  hasHuge(huge: number): boolean {
    this.discover();
    return this.#there.has(huge);
  }

  override has(index: number): boolean {
    return this.hasHuge(Math.floor(index / this.grain));
  }

  /** hugetlb_no_page of a shared mapping. */
  override page(index: number, write: boolean): PageRef | null {
    const huge = Math.floor(index / this.grain);
    if (!this.#there.has(huge) && !(this.within(huge) && this.allocate(huge))) return null;
    return super.page(index, write);
  }

  override populate(first: number, count: number, asFile = false): number {
    return populate(first, count, this.grain, (index) =>
      asFile ? this.allocate(index / this.grain) : this.page(index, true) !== null,
    );
  }

  /** A huge page for the page cache, past the end too: a promised one, or one that is nobody's. False: the pool has none. */
  allocate(huge: number): boolean {
    if (this.#there.has(huge)) return true;
    if (!this.pool.take(this.#accounted.has(huge))) return false;
    this.#there.add(huge);
    this.#accounted.add(huge, huge + 1);
    if ((huge + 1) * this.grain > this.pages) this.extend((huge + 1) * this.grain);
    this.fill(huge * this.grain, (huge + 1) * this.grain);
    return true;
  }

  /** hugetlb_reserve_pages for a shared mapping of huge pages [first, end): false where the pool cannot promise so many. */
  reserveHuge(first: number, end: number): boolean {
    let promised = 0;
    for (const [from, to] of this.#accounted.within(first, end)) promised += to - from;
    if (!this.pool.reserve(end - first - promised)) return false;
    this.#accounted.add(first, end);
    return true;
  }

  override grow(size: bigint): void {
    this.size = size;
    this.extend(Math.max(this.pages, this.#end * this.grain));
  }

  /** hugetlb_vmtruncate to whole huge pages, a longer file too: what was allocated or promised past its new end goes. */
  resize(size: bigint): void {
    this.size = size;
    this.#lose(this.#end, EVER, true);
    this.extend(this.#end * this.grain);
    this.notify();
  }

  override shrink(size: bigint): void {
    this.resize(size);
  }

  /** hugetlbfs_punch_hole: whole huge pages go, with their promises; of others the bytes become zeros. */
  override punch(from: number | bigint, to: number | bigint): void {
    const [start, stop] = [Number(from), Number(to)];
    const first = Math.ceil(start / this.pageSize);
    const end = Math.floor(stop / this.pageSize);
    this.discover();
    if (start < first * this.pageSize) this.#clear(start, Math.min(stop, first * this.pageSize));
    if (stop > end * this.pageSize && stop > first * this.pageSize) this.#clear(end * this.pageSize, stop);
    if (end > first) this.#lose(first, end, false);
    this.notify();
  }

  override openView(index: number, count: number): PageRef | undefined {
    const [first, end] = this.#views.range(index, count);
    if (!this.within(end - 1) || ![...this.#accounted.within(first, end)].some(([from, to]) => from === first && to === end))
      return undefined;
    const view = super.openView(index, count);
    if (view !== undefined) this.#views.open(index, count);
    return view;
  }

  override closeView(index: number, count: number): void {
    this.discover();
    this.#views.close(index, count);
    super.closeView(index, count);
  }

  discover(): void {
    this.#views.settle({
      there: (huge) => this.#there.has(huge),
      holds: (from, to) => super.stores(from, to),
      take: (huge) => this.allocate(huge),
      drop: (from, to) => this.drop(from, to),
    });
  }

  override unpinned(pin: PagePin): void {
    super.unpinned(pin);
    this.#pins.unpinned(pin);
  }

  override divided(pin: PagePin, low: PagePin, high: PagePin): void {
    super.divided(pin, low, high);
    this.#pins.divided(pin, [low, high]);
  }

  override destroy(): void {
    this.#lose(0, EVER, true);
    super.destroy();
  }

  #clear(from: number, to: number): void {
    if (this.#there.has(Math.floor(from / this.pageSize))) this.clear(from, to);
  }

  /** remove_inode_hugepages: what a truncation does not find is given back as a promise, what a hole does not find stays promised. */
  #lose(first: number, end: number, truncating: boolean): void {
    this.discover();
    for (const mapping of this.privates) mapping.lose(first, end);
    const gone = [...this.#there].filter((huge) => huge >= first && huge < end);
    for (const huge of gone) {
      const [from, to] = [huge * this.grain, (huge + 1) * this.grain];
      const pins = this.pinsOf(from, to);
      this.drop(from, to);
      this.#there.delete(huge);
      if (!truncating) this.#accounted.remove(huge, huge + 1);
      this.#pins.lose(from, to, pins, false);
    }
    if (!truncating) return;
    const before = this.#accounted.total;
    this.#accounted.remove(first, end);
    this.pool.unreserve(before - this.#accounted.total - gone.length);
  }
}

/**
 * What a private mapping of a file on hugetlbfs has of its own: a page it has stored to, or that the file did not have when it was touched. With a reservation each of its
 * pages is promised to it once (`#used`: the promises that were kept); without, it takes what is nobody's.
 */
export class HugePrivate extends PageStore implements Viewed {
  override readonly grain: number;
  readonly #inode: HugeInode;
  readonly #pool: HugePool;
  readonly #reserved: boolean;
  readonly #restores: boolean;
  /** Its own pages, and whether they can be stored to without a fault. */
  readonly #own = new Map<number, boolean>();
  readonly #used = new PageRanges();
  readonly #pins: HugePins;
  readonly #views: Views;
  readonly #stale = (): void => this.notify();
  #vmas = 0;

  /**
   * `end`: the page of the file where the mapping ends. `reserved`: the pool has promised a page for each of its pages; `restores`: again, when one is
   * lost.
   */
  constructor(inode: HugeInode, end: number, reserved: boolean, restores: boolean) {
    super(end, { anonymous: true });
    this.grain = inode.grain;
    this.#inode = inode;
    this.#pool = inode.pool;
    this.#reserved = reserved;
    this.#restores = reserved && restores;
    this.#pins = new HugePins(inode.pool);
    this.#views = new Views(inode.pool, this);
    inode.privates.add(this);
    inode.notifiers.add(this.#stale);
  }

  override page(index: number, write: boolean): PageRef | null {
    const huge = Math.floor(index / this.grain);
    if (!this.#own.has(huge)) {
      const shared = this.#inode.hasHuge(huge);
      if (shared && !write) return this.#inode.page(index, false);
      if (!shared && !this.#inode.within(huge)) return null;
      if (!this.#allocate(huge)) return null;
      if (shared) this.#copy(huge);
    }
    if (write) this.#own.set(huge, true);
    return super.page(index, write);
  }

  override populate(first: number, count: number): number {
    return populate(first, count, this.grain, (index) => this.page(index, true) !== null);
  }

  override has(index: number): boolean {
    this.discover();
    return this.#own.has(Math.floor(index / this.grain));
  }

  override stored(index: number): boolean {
    this.discover();
    return this.#own.get(Math.floor(index / this.grain)) === true;
  }

  /** __unmap_hugepage_range, of whole huge pages: what was promised is promised again, as long as nothing is surplus. */
  override punch(from: number | bigint, to: number | bigint): void {
    this.lose(Number(from) / this.#inode.pageSize, Number(to) / this.#inode.pageSize);
  }

  lose(first: number, end: number): void {
    this.discover();
    const restore = this.#restores && this.#pool.surplus === 0;
    for (const huge of [...this.#own.keys()]) {
      if (huge < first || huge >= end) continue;
      const [from, to] = [huge * this.grain, (huge + 1) * this.grain];
      const pins = this.pinsOf(from, to);
      this.drop(from, to);
      this.#own.delete(huge);
      if (restore) this.#used.remove(huge, huge + 1);
      this.#pins.lose(from, to, pins, restore);
    }
    this.notify();
  }

  /** Its pages are not the file's: a view would not show what the file has, or gets. */
  override openView(index: number, count: number): PageRef | undefined {
    if (!this.#reserved || !this.#inode.unnamed) return undefined;
    const [, end] = this.#views.range(index, count);
    if (!this.#inode.within(end - 1)) return undefined;
    const view = super.openView(index, count);
    if (view !== undefined) this.#views.open(index, count);
    return view;
  }

  override closeView(index: number, count: number): void {
    this.discover();
    this.#views.close(index, count);
    super.closeView(index, count);
  }

  discover(): void {
    this.#views.settle({
      there: (huge) => this.#own.has(huge),
      holds: (from, to) => super.stores(from, to),
      take: (huge) => this.#allocate(huge, true),
      drop: (from, to) => this.drop(from, to),
    });
  }

  override unpinned(pin: PagePin): void {
    super.unpinned(pin);
    this.#pins.unpinned(pin);
  }

  override divided(pin: PagePin, low: PagePin, high: PagePin): void {
    super.divided(pin, low, high);
    this.#pins.divided(pin, [low, high]);
  }

  opened(): void {
    this.#vmas++;
  }

  /** hugetlb_vm_op_close: what was promised to the part that goes and never taken is the pool's again. */
  closed(_shared: boolean, _mayWrite: boolean, first: number, count: number): void {
    if (this.#reserved) {
      let left = count / this.grain;
      for (const [from, to] of this.#used.within(first / this.grain, (first + count) / this.grain)) left -= to - from;
      if (left > 0) this.#pool.unreserve(left);
    }
    if (--this.#vmas > 0) return;
    this.#inode.privates.delete(this);
    this.#inode.notifiers.delete(this.#stale);
    this.destroy();
  }

  #allocate(huge: number, storable = false): boolean {
    if (!this.#pool.take(this.#reserved && !this.#used.has(huge))) return false;
    if (this.#reserved) this.#used.add(huge, huge + 1);
    this.#own.set(huge, storable);
    this.fill(huge * this.grain, (huge + 1) * this.grain);
    return true;
  }

  #copy(huge: number): void {
    const bytes = new Uint8Array(64 * PAGE_SIZE);
    const start = huge * this.#inode.pageSize;
    for (let at = start; at < start + this.#inode.pageSize; at += bytes.length) {
      this.#inode.read(at, bytes);
      if (bytes.some((byte) => byte !== 0)) this.write(at, bytes);
    }
    this.notify();
  }
}

/** Gets huge pages one by one, each by its first page: how many pages of [first, first + count) are there then. */
function populate(first: number, count: number, grain: number, get: (index: number) => boolean): number {
  for (let at = Math.floor(first / grain) * grain; at < first + count; at += grain) if (!get(at)) return Math.max(0, at - first);
  return count;
}
