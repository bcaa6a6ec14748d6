import { EINVAL } from '../../uapi/sys.ts';
import type { Backing } from '../file.ts';
import { PageRanges } from './page-ranges.ts';
import { PageSet } from './page-set.ts';
import { PagePin, PinIndex, type PinnedObject, type PinnedRange } from './pin.ts';

export const PAGE_SHIFT = 12;
export const PAGE_SIZE = 4096;

/** One 4 KiB page, or the first of several in one piece: byte `i` is `u8[offset + i]`. Buffer and views reach farther than the page. */
export interface PageRef {
  readonly buffer: SharedArrayBuffer;
  readonly u8: Uint8Array;
  readonly view: DataView;
  readonly offset: number;
  /** A view that does not share every page with the backing: only its accessors are exact. */
  readonly apart?: boolean;
}

/** The longest piece of memory one view can cover here: one SharedArrayBuffer (4 GiB on Node 20). */
export const MAX_VIEW: number = 2 ** 32;

/** Pages per extent where nobody asked for more: a stray touch in a 1 TiB guest costs 256 KiB of address space, one page of memory. */
const CHUNK_PAGES = 64;

/** An object of up to 64 MiB becomes one piece with its first view, however short. */
const GENEROUS_PAGES = 16384;

/** Past every byte a file can have. */
const END_OF_FILES = 1n << 63n;

const zeros = new Uint8Array(64 * 1024);
const zeroBuffer: Buffer = Buffer.from(zeros.buffer);

/** Pages [first, first + count) in one shared buffer. The operating system commits it page by page, on touch. */
class Extent implements PageRef {
  readonly offset = 0;
  readonly first: number;
  readonly count: number;
  readonly buffer: SharedArrayBuffer;
  readonly u8: Uint8Array;
  readonly view: DataView;
  /** Which pages the object has (what st_blocks counts). */
  readonly present: Uint8Array;
  views = 0;

  constructor(first: number, count: number) {
    this.first = first;
    this.count = count;
    this.buffer = new SharedArrayBuffer(count * PAGE_SIZE);
    this.u8 = new Uint8Array(this.buffer);
    this.view = new DataView(this.buffer);
    this.present = new Uint8Array(count);
  }

  get end(): number {
    return this.first + this.count;
  }

  at(index: number): PageRef {
    return { buffer: this.buffer, u8: this.u8, view: this.view, offset: (index - this.first) * PAGE_SIZE };
  }

  page(index: number): Uint8Array {
    const start = (index - this.first) * PAGE_SIZE;
    return this.u8.subarray(start, start + PAGE_SIZE);
  }

  /** A store through a view allocates without telling us: a page that is not zero is there. Skips untouched memory without committing it. */
  discover(): void {
    if (this.views === 0) return;
    for (const index of nonZeroPages(this.u8)) this.present[index] = 1;
  }

  drop(index: number): void {
    this.present[index - this.first] = 0;
    zero(this.page(index));
  }
}

/** Fills with zeros what is not zero already, so that untouched pages stay uncommitted. */
function zero(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += zeros.length) {
    const piece = bytes.subarray(at, at + zeros.length);
    if (zeroBuffer.compare(piece, 0, piece.length, 0, piece.length) !== 0) piece.fill(0);
  }
}

/** Of one page. */
function isZero(page: Uint8Array): boolean {
  return zeroBuffer.compare(page, 0, PAGE_SIZE, 0, PAGE_SIZE) === 0;
}

function* nonZeroPages(bytes: Uint8Array): Generator<number> {
  for (let at = 0; at < bytes.length; at += zeros.length) {
    const piece = bytes.subarray(at, at + zeros.length);
    if (zeroBuffer.compare(piece, 0, piece.length, 0, piece.length) === 0) continue;
    for (let page = 0; page < piece.length; page += PAGE_SIZE) {
      if (zeroBuffer.compare(piece, page, page + PAGE_SIZE, 0, PAGE_SIZE) !== 0) yield (at + page) >> PAGE_SHIFT;
    }
  }
}

/**
 * Pages of one object (a memfd, anonymous memory, a driver's pages): the page cache of its inode. Sparse: what was never touched is a
 * hole that reads as zeros. Page numbers and sizes are plain numbers; files are at most 2^63 bytes, so page numbers are exact.
 *
 * Most pages live in small extents. A view (`Memory.bytes`) needs its pages in one piece, so `openView` moves them into one extent, and the
 * close of the last view moves them out again and zeroes it: a stale view reads zeros while the object keeps its bytes.
 */
export class PageStore implements Backing, PinnedObject {
  readonly notifiers: Set<(truncatedFrom?: number) => void> = new Set();
  readonly anonymous: boolean;
  /** How many pages are one in physical memory. */
  readonly grain: number = 1;
  /** In pages. A touch of a page past it is SIGBUS. */
  #pages: number;
  readonly #chunks = new Map<number, Extent>();
  /** Extents with live views; few. They win over chunks. */
  readonly #viewed: Extent[] = [];
  /** Pages that are there as zeros, and in no extent yet: what a pin of a long range has allocated. */
  readonly #blank: PageSet = new PageSet();
  #pins: PinIndex | undefined;
  #pinned = 0;
  /** Who keeps the pages that were dropped while they were pinned. */
  #keeper: PageStore | undefined;

  constructor(pages: number, options: { anonymous?: boolean } = {}) {
    this.#pages = pages;
    this.anonymous = options.anonymous ?? false;
  }

  /** How many pages the object spans, there or not. */
  get pages(): number {
    return this.#pages;
  }

  /** A load from memory without a file sees the page of zeros: only a store makes it a page of its own. */
  page(index: number, write: boolean): PageRef | null {
    if (index < 0 || index >= this.#pages) return null;
    const extent = this.#extent(index);
    if (write || !this.anonymous) extent.present[index - extent.first] = 1;
    return extent.at(index);
  }

  /** True when the page is there: what SEEK_DATA and st_blocks see. */
  has(index: number): boolean {
    const extent = this.#find(index);
    if (extent === undefined) return this.#blank.has(index);
    if (extent.present[index - extent.first] === 0) extent.discover();
    return extent.present[index - extent.first] === 1;
  }

  /** Somebody has stored to the page. A store of zeros through a view leaves no trace. */
  stored(index: number): boolean {
    const extent = this.#find(index);
    if (extent === undefined) return this.#blank.has(index);
    if (extent.present[index - extent.first] === 1) return true;
    return extent.views > 0 && !isZero(extent.page(index));
  }

  /** Number of pages that are there. */
  get allocated(): number {
    let sum = this.#blank.total;
    for (const extent of [...this.#viewed, ...this.#chunks.values()]) {
      extent.discover();
      for (const one of extent.present) sum += one;
    }
    return sum;
  }

  /** Copies without filling holes; the caller keeps within the size. */
  read(position: number | bigint, into: Uint8Array): void {
    eachPage(position, into.length, (index, within, at, length) => {
      const extent = this.#find(index);
      if (extent === undefined) into.fill(0, at, at + length);
      else into.set(extent.page(index).subarray(within, within + length), at);
    });
  }

  write(position: number | bigint, from: Uint8Array): void {
    eachPage(position, from.length, (index, within, at, length) => {
      const extent = this.#extent(index);
      extent.present[index - extent.first] = 1;
      extent.page(index).set(from.subarray(at, at + length), within);
    });
  }

  /** The object becomes `pages` long; nothing is dropped. */
  extend(pages: number): void {
    this.#pages = pages;
  }

  /** The object now ends at byte `size`: all pages beyond are dropped, the rest of the last one is zeroed. */
  truncate(size: bigint): void {
    this.#pages = pageOf(size + BigInt(PAGE_SIZE - 1));
    this.punch(size, END_OF_FILES);
    this.notify(this.#pages);
  }

  /** Bytes [from, to) become zeros; pages wholly inside become holes. */
  punch(from: number | bigint, to: number | bigint): void {
    const [first, within] = split(from);
    const [last, tail] = split(to);
    if (first === last) {
      this.#find(first)?.page(first).fill(0, within, tail);
      return;
    }
    if (within > 0) this.#find(first)?.page(first).fill(0, within);
    if (tail > 0) this.#find(last)?.page(last).fill(0, 0, tail);
    this.drop(within > 0 ? first + 1 : first, last);
    this.notify();
  }

  remove(from: number, to: number): number {
    if (this.anonymous) return -EINVAL;
    this.punch(from, to);
    return 0;
  }

  /**
   * How many of the pages [first, first + count) can be had, for the caller to pin. `asFile`: by the file, whose end the caller has looked at, and not by a
   * mapping of it.
   */
  populate(first: number, count: number, _asFile = false): number {
    return Math.max(0, Math.min(count, this.#pages - first));
  }

  /** Pages [first, first + count), which are allocated, stay what they are until unpinned, whatever becomes of the object. */
  pin(first: number, count: number): PinnedRange {
    this.fill(first, first + count);
    const pin = new PagePin(this, first, count);
    this.#pins ??= new PinIndex();
    this.#pins.add(pin);
    this.#pinned++;
    return pin;
  }

  unpinned(pin: PagePin): void {
    this.#pins!.remove(pin);
    if (--this.#pinned === 0) this.#keeper = undefined;
  }

  divided(pin: PagePin, low: PagePin, high: PagePin): void {
    this.#pins!.remove(pin);
    this.#pins!.add(low);
    this.#pins!.add(high);
    this.#pinned++;
  }

  /** How many pins there are of a page as the object has it now. */
  pinCount(index: number): number {
    return this.pinsOf(index, index + 1).length;
  }

  /** The pins that have one of the pages [first, end) as the object has it now. */
  protected pinsOf(first: number, end: number): PagePin[] {
    if (this.#pinned === 0) return [];
    return this.#pins!.overlapping(first, end).filter((pin) => pin.attached(first, end).length > 0);
  }

  /** Something was stored to one of the pages [first, end), or they were allocated. */
  protected stores(first: number, end: number): boolean {
    for (const extent of this.#extents(first, end)) {
      const [from, to] = [Math.max(first, extent.first), Math.min(end, extent.end)];
      for (let index = from; index < to; index++)
        if (extent.present[index - extent.first] === 1 || !isZero(extent.page(index))) return true;
    }
    return false;
  }

  /** Bytes [from, to) become zeros; the pages stay. */
  protected clear(from: number, to: number): void {
    eachPage(from, to - from, (index, within, _at, length) => {
      this.#find(index)
        ?.page(index)
        .fill(0, within, within + length);
    });
  }

  openView(index: number, count: number): PageRef | undefined {
    if (index + count > this.#pages) return undefined;
    const holder = this.#viewed.find((extent) => extent.first <= index && index + count <= extent.end);
    if (holder !== undefined) {
      holder.views++;
      return holder.at(index);
    }
    const taken = this.#viewed.some((other) => other.first < index + count && index < other.end);
    // The whole object in one piece where that is not out of proportion: later views of other parts of it then share it.
    const whole = this.#viewed.length === 0 && this.#pages <= Math.max(4 * count, GENEROUS_PAGES);
    const extent = taken ? undefined : ((whole ? this.#gather(0, this.#pages) : undefined) ?? this.#gather(index, count));
    if (extent === undefined) return undefined;
    extent.views = 1;
    this.#viewed.push(extent);
    return extent.at(index);
  }

  closeView(index: number, count: number): void {
    const at = this.#viewed.findIndex((extent) => extent.first <= index && index + count <= extent.end);
    const extent = this.#viewed[at];
    if (extent === undefined || --extent.views > 0) return;
    extent.views = 1;
    extent.discover();
    this.#viewed.splice(at, 1);
    for (let i = 0; i < extent.count; i++) {
      if (extent.present[i] === 0) continue;
      const page = extent.page(extent.first + i);
      if (!isZero(page))
        this.#extent(extent.first + i)
          .page(extent.first + i)
          .set(page);
      this.fill(extent.first + i, extent.first + i + 1);
    }
    zero(extent.u8);
    this.notify();
  }

  /** Nobody can reach the object any more: what stale views still hold reads zeros. */
  destroy(): void {
    this.#keepPinned(0, Number.MAX_SAFE_INTEGER);
    for (const extent of this.#viewed) zero(extent.u8);
    for (const extent of this.#chunks.values()) zero(extent.u8);
    this.#viewed.length = 0;
    this.#chunks.clear();
    this.#blank.clear();
    this.#pages = 0;
    this.notify();
  }

  notify(truncatedFrom?: number): void {
    for (const notifier of this.notifiers) notifier(truncatedFrom);
  }

  #find(index: number): Extent | undefined {
    for (const extent of this.#viewed) if (extent.first <= index && index < extent.end) return extent;
    return this.#chunks.get(Math.floor(index / CHUNK_PAGES));
  }

  #extent(index: number): Extent {
    const found = this.#find(index);
    if (found !== undefined) return found;
    const key = Math.floor(index / CHUNK_PAGES);
    const chunk = new Extent(key * CHUNK_PAGES, CHUNK_PAGES);
    this.#chunks.set(key, chunk);
    this.#unblank(chunk);
    return chunk;
  }

  /** Allocates pages [first, end), past the end of the object too (fallocate with KEEP_SIZE). It takes no memory for those that would only hold zeros. */
  fill(first: number, end: number): void {
    if (end - first === 1) {
      const only = this.#find(first);
      if (only === undefined) this.#blank.add(first, end);
      else only.present[first - only.first] = 1;
      return;
    }
    const holes = new PageRanges();
    holes.add(first, end);
    for (const extent of this.#extents(first, end)) {
      for (const [from, to] of holes.within(extent.first, extent.end))
        extent.present.fill(1, from - extent.first, to - extent.first);
      holes.remove(extent.first, extent.end);
    }
    for (const [from, to] of holes.within(first, end)) this.#blank.add(from, to);
  }

  /** A new extent gets what was blank in its range. */
  #unblank(extent: Extent): void {
    if (this.#blank.total === 0) return;
    for (const [first, end] of this.#blank.within(extent.first, extent.end))
      extent.present.fill(1, first - extent.first, end - extent.first);
    this.#blank.remove(extent.first, extent.end);
  }

  /** The extents that share a page with [first, end); those with views, which win, come first. */
  #extents(first: number, end: number): Extent[] {
    const found = this.#viewed.filter((extent) => extent.first < end && first < extent.end);
    const from = Math.floor(first / CHUNK_PAGES);
    const to = Math.floor((end - 1) / CHUNK_PAGES);
    if (to - from < this.#chunks.size) {
      for (let key = from; key <= to; key++) if (this.#chunks.has(key)) found.push(this.#chunks.get(key)!);
    } else for (const chunk of this.#chunks.values()) if (chunk.first < end && first < chunk.end) found.push(chunk);
    return found;
  }

  /** Pages [first, end) are about to go: whoever has pinned one keeps it, with its bytes, and all who have it keep the same one. */
  #keepPinned(first: number, end: number): void {
    if (this.#pinned === 0) return;
    const lost = new PageRanges();
    const parts = this.#pins!.overlapping(first, end).map((pin) => ({ pin, pages: pin.attached(first, end) }));
    for (const { pages } of parts) for (const [from, to] of pages) lost.add(from, to);
    if (lost.total === 0) return;
    const ranges = [...lost.within(first, end)];
    if (this.#keeper === undefined || ranges.some(([from, to]) => this.#keeper!.#any(from, to)))
      this.#keeper = new PageStore(Number.MAX_SAFE_INTEGER);
    for (const [from, to] of ranges) this.#keeper.#copy(this, from, to);
    for (const { pin, pages } of parts) for (const [from, to] of pages) pin.keep(from, to, this.#keeper);
  }

  /** Some page of [first, end) is there. */
  #any(first: number, end: number): boolean {
    if (!this.#blank.within(first, end).next().done) return true;
    return this.#extents(first, end).some(({ present, first: base }) =>
      present.subarray(Math.max(0, first - base), end - base).includes(1),
    );
  }

  /** Takes over what another store has of pages [first, end), all of which are allocated here then. */
  #copy(from: PageStore, first: number, end: number): void {
    for (const extent of from.#extents(first, end)) {
      for (let index = Math.max(first, extent.first); index < Math.min(end, extent.end); index++) {
        const page = extent.page(index);
        if (extent.present[index - extent.first] === 1 && !isZero(page)) this.#extent(index).page(index).set(page);
      }
    }
    this.fill(first, end);
  }

  /** Moves [first, first + count) into one new extent; undefined where there is no room for it. */
  #gather(first: number, count: number): Extent | undefined {
    if (count * PAGE_SIZE > MAX_VIEW) return undefined;
    let extent: Extent;
    try {
      extent = new Extent(first, count);
    } catch {
      return undefined;
    }
    for (const [key, chunk] of this.#chunks) {
      const start = Math.max(first, chunk.first);
      const stop = Math.min(first + count, chunk.end);
      for (let index = start; index < stop; index++) {
        if (chunk.present[index - chunk.first] === 0) continue;
        extent.present[index - first] = 1;
        extent.page(index).set(chunk.page(index));
        chunk.drop(index);
      }
      if (start <= chunk.first && chunk.end <= stop) this.#chunks.delete(key);
    }
    this.#unblank(extent);
    this.notify();
    return extent;
  }

  /** Pages [first, end) become holes. */
  protected drop(first: number, end: number): void {
    this.#keepPinned(first, end);
    this.#blank.remove(first, end);
    for (const extent of [...this.#viewed, ...this.#chunks.values()]) {
      const start = Math.max(first, extent.first);
      const stop = Math.min(end, extent.end);
      if (start >= stop) continue;
      zero(extent.u8.subarray((start - extent.first) * PAGE_SIZE, (stop - extent.first) * PAGE_SIZE));
      extent.present.fill(0, start - extent.first, stop - extent.first);
      if (extent.views === 0 && stop - start === extent.count) this.#chunks.delete(extent.first / CHUNK_PAGES);
    }
  }
}

/** The page that holds byte `position` of an object, and the offset in it. Exact up to 2^63. */
function split(position: number | bigint): [page: number, within: number] {
  if (typeof position === 'bigint') return [pageOf(position), Number(position & BigInt(PAGE_SIZE - 1))];
  return [Math.floor(position / PAGE_SIZE), position % PAGE_SIZE];
}

function pageOf(position: bigint): number {
  return Number(position >> BigInt(PAGE_SHIFT));
}

/** Splits [position, position + length) at page boundaries: page, offset in it, offset in the whole, length. */
export function eachPage(
  position: number | bigint,
  length: number,
  visit: (index: number, within: number, at: number, length: number) => void,
): void {
  let [index, within] = split(position);
  for (let at = 0; at < length; within = 0, index++) {
    const piece = Math.min(length - at, PAGE_SIZE - within);
    visit(index, within, at, piece);
    at += piece;
  }
}
