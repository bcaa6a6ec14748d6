import type { DmaTarget, IommuDomain } from '../hardware/dma-target.ts';
import { type Interval, IntervalTree } from '../interval-tree.ts';
import type { Process } from '../process.ts';
import type { Area, IoPageTable } from './io-pagetable.ts';
import { lastOf, PAGE, U64_MAX } from './iova.ts';

/** What an IOMMU's page tables can do. */
export interface DomainFormat {
  /** Bit map of page sizes. */
  readonly pageSizes: bigint;
  readonly aperture: Interval;
  readonly enforcesCoherency: boolean;
  readonly dirtyTracking: boolean;
  /** Entries of several items, as AMD's format has them: how long an item is for a page of this length. Absent: an entry is one item. */
  item?(pageSize: bigint): bigint;
  /** The tag of an SMMUv3's second stage. */
  readonly vmid?: number;
  /** The table goes. */
  free?(): void;
}

/** A mapped entry of a page table: a store to it marks all of it. */
interface Entry extends Interval {
  readonly item: bigint;
}

/**
 * The page table of a HWPT_PAGING. What it maps are the areas of its IO address space, so that it holds nothing itself but what a device has
 * written to.
 */
export class PagingDomain implements IommuDomain {
  readonly format: DomainFormat;
  readonly #iopt: IoPageTable;
  #tracking = false;
  readonly #dirty: IntervalTree<Entry> = new IntervalTree();

  constructor(iopt: IoPageTable, format: DomainFormat) {
    this.#iopt = iopt;
    this.format = format;
  }

  get aperture(): Interval {
    return this.format.aperture;
  }

  get minimumPage(): bigint {
    return this.format.pageSizes & -this.format.pageSizes;
  }

  get tracking(): boolean {
    return this.#tracking;
  }

  translate(iova: bigint, length: number, write: boolean): DmaTarget | undefined {
    const area = this.#iopt.areas.find(iova);
    if (area === undefined || !(write ? area.write : area.read)) return undefined;
    const left = area.last - iova + 1n;
    const target = area.pages.target(area.byte(iova), left < BigInt(length) ? Number(left) : length);
    if (target !== undefined && write && this.#tracking) {
      const last = iova + BigInt(target.length) - 1n;
      for (let at = iova; at <= last; ) at = this.#mark(area, at).last + 1n;
    }
    return target;
  }

  /** set_dirty_tracking: what is dirty is forgotten, then it begins. */
  track(on: boolean): void {
    if (on) this.#dirty.clear();
    this.#tracking = on;
  }

  /** An area is unmapped. */
  forget(area: Area): void {
    for (const entry of this.#dirty.within(area.first, area.last)) this.#dirty.remove(entry);
  }

  /** Marks what is mapped at an IOVA; nothing where there is nothing. */
  mark(iova: bigint): void {
    const area = this.#iopt.areas.find(iova);
    if (area?.filled === true) this.#mark(area, iova);
  }

  /**
   * read_and_clear_dirty over [first, first + length): ORs a bit for each `pageSize` bytes into the bitmap at `data`, which begins at `first`. It ends at the
   * first address that is not mapped, and tells nobody; nor where `data` cannot be written: the bits are lost then.
   */
  readDirty(p: Process, first: bigint, last: bigint, pageSize: bigint, data: bigint, clear: boolean): void {
    const end = this.#mappedUntil(first, last);
    if (end === undefined) return;
    for (const entry of this.#dirty.within(first, end)) {
      const whole = entry.last <= end;
      const reported = whole && this.format.item !== undefined ? entry.last - entry.item : entry.last;
      const from = entry.first > first ? entry.first : first;
      const to = reported < end ? reported : end;
      if (from <= to) setBits(p, data, (from - first) / pageSize, (to - first) / pageSize);
      if (clear) this.#dirty.remove(entry);
    }
  }

  #mappedUntil(first: bigint, last: bigint): bigint | undefined {
    let end: bigint | undefined;
    for (const area of this.#iopt.areas.within(first, last)) {
      if (area.first > (end === undefined ? first : end + 1n)) break;
      end = area.last;
    }
    return end === undefined || end < last ? end : last;
  }

  #mark(area: Area, iova: bigint): Entry {
    const known = this.#dirty.find(iova);
    if (known !== undefined) return known;
    const entry = this.#entry(area, iova);
    this.#dirty.insert(entry);
    return entry;
  }

  /** The entry that maps an IOVA: the largest page that its alignment, that of the memory behind it and the rest of both allow, from where the memory begins on. */
  #entry(area: Area, iova: bigint): Entry {
    const run = area.pages.run(Number(area.byte(iova) / PAGE));
    const runFirst = area.first + (BigInt(run.first) * PAGE - area.start);
    const runLast = runFirst + BigInt(run.count) * PAGE - 1n;
    const last = runLast < area.last ? runLast : area.last;
    for (let at = runFirst > area.first ? runFirst : area.first; ; ) {
      const size = this.#pageSize(at, at - runFirst, last - at + 1n);
      if (iova < at + size) {
        const item = this.format.item?.(size) ?? size;
        return { first: at, last: at + size - 1n, item: item < size ? item : 0n };
      }
      at += size;
    }
  }

  #pageSize(iova: bigint, physical: bigint, left: bigint): bigint {
    const align = iova | physical;
    let best = this.minimumPage;
    const limit = this.#iopt.largePages ? U64_MAX : PAGE;
    for (let size = best; size <= left && size <= limit && (align & (size - 1n)) === 0n; size <<= 1n)
      if (this.format.pageSizes & size) best = size;
    return best;
  }
}

/** Sets bits [from, to] of a bitmap in user memory; false: it cannot be written. */
function setBits(p: Process, data: bigint, from: bigint, to: bigint): boolean {
  const address = data + from / 8n;
  const bytes = p.mm.copyFrom(address, Number(to / 8n - from / 8n) + 1);
  if (bytes === null || lastOf(address, BigInt(bytes.length)) === undefined) return false;
  const base = (from / 8n) * 8n;
  for (let bit = Number(from - base); bit <= Number(to - base); bit++) bytes[bit >> 3]! |= 1 << (bit & 7);
  return p.mm.copyTo(address, bytes);
}
