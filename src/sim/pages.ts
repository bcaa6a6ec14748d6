import { EINVAL } from '../uapi/sys.ts';
import type { Backing } from './file.ts';

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
export class PageStore implements Backing {
  readonly notifiers: Set<(truncatedFrom?: number) => void> = new Set();
  readonly anonymous: boolean;
  /** In pages. A touch of a page past it is SIGBUS. */
  #pages: number;
  readonly #chunks = new Map<number, Extent>();
  /** Extents with live views; few. They win over chunks. */
  readonly #viewed: Extent[] = [];

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
    if (extent === undefined) return false;
    if (extent.present[index - extent.first] === 0) extent.discover();
    return extent.present[index - extent.first] === 1;
  }

  /** Somebody has stored to the page. A store of zeros through a view leaves no trace. */
  stored(index: number): boolean {
    const extent = this.#find(index);
    if (extent === undefined) return false;
    if (extent.present[index - extent.first] === 1) return true;
    return extent.views > 0 && zeroBuffer.compare(extent.page(index), 0, PAGE_SIZE, 0, PAGE_SIZE) !== 0;
  }

  /** Number of pages that are there. */
  get allocated(): number {
    let sum = 0;
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

  /** Allocates pages [first, end) as zeros, past the end of the object too (fallocate with KEEP_SIZE). */
  reserve(first: number, end: number): void {
    for (let index = first; index < end; index++) {
      const extent = this.#extent(index);
      extent.present[index - extent.first] = 1;
    }
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
    this.#drop(within > 0 ? first + 1 : first, last);
    this.notify();
  }

  remove(from: number, to: number): number {
    if (this.anonymous) return -EINVAL;
    this.punch(from, to);
    return 0;
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
      const target = this.#extent(extent.first + i);
      target.present[extent.first + i - target.first] = 1;
      target.page(extent.first + i).set(extent.page(extent.first + i));
    }
    zero(extent.u8);
    this.notify();
  }

  /** Nobody can reach the object any more: what stale views still hold reads zeros. */
  destroy(): void {
    for (const extent of this.#viewed) zero(extent.u8);
    for (const extent of this.#chunks.values()) zero(extent.u8);
    this.#viewed.length = 0;
    this.#chunks.clear();
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
    return chunk;
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
    this.notify();
    return extent;
  }

  /** Pages [first, end) become holes. */
  #drop(first: number, end: number): void {
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
