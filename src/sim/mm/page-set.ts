import { PageRanges } from './page-ranges.ts';

/** Pages of a block: one bit each of a number. */
const BLOCK = 32;
const WHOLE = 0xffff_ffff;

/** A set of page numbers in which long runs are cheap, and so are many single pages in whatever order: blocks of pages that are whole, and masks of those that are not. */
export class PageSet {
  readonly #whole: PageRanges = new PageRanges();
  readonly #masks = new Map<number, number>();
  /** Pages in masks. */
  #single = 0;

  /** How many pages are in the set. */
  get total(): number {
    return this.#whole.total * BLOCK + this.#single;
  }

  has(page: number): boolean {
    const block = Math.floor(page / BLOCK);
    return ((this.#masks.get(block) ?? 0) & (1 << (page % BLOCK))) !== 0 || this.#whole.has(block);
  }

  /** The part of [first, end) that is in the set, in pieces of no particular order. */
  *within(first: number, end: number): Generator<readonly [first: number, end: number]> {
    const from = Math.floor(first / BLOCK);
    const to = Math.ceil(end / BLOCK);
    for (const [low, high] of this.#whole.within(from, to)) yield [Math.max(first, low * BLOCK), Math.min(end, high * BLOCK)];
    for (const block of this.#partial(from, to)) {
      const mask = this.#masks.get(block)! & maskOf(block, first, end);
      for (let bit = 0; bit < BLOCK; bit++) if ((mask & (1 << bit)) !== 0) yield [block * BLOCK + bit, block * BLOCK + bit + 1];
    }
  }

  add(first: number, end: number): void {
    this.#change(first, end, true);
  }

  remove(first: number, end: number): void {
    if (this.total > 0) this.#change(first, end, false);
  }

  clear(): void {
    this.#whole.clear();
    this.#masks.clear();
    this.#single = 0;
  }

  #change(first: number, end: number, on: boolean): void {
    if (first >= end) return;
    const from = Math.ceil(first / BLOCK);
    const to = Math.floor(end / BLOCK);
    if (from > to) {
      this.#touch(to, first, end, on);
      return;
    }
    this.#touch(from - 1, first, from * BLOCK, on);
    this.#touch(to, to * BLOCK, end, on);
    if (from === to) return;
    for (const block of this.#partial(from, to)) this.#setMask(block, 0);
    if (on) this.#whole.add(from, to);
    else this.#whole.remove(from, to);
  }

  /** Pages [first, end), all of one block. */
  #touch(block: number, first: number, end: number, on: boolean): void {
    if (first >= end) return;
    const pages = maskOf(block, first, end);
    if (this.#whole.has(block)) {
      if (on) return;
      this.#whole.remove(block, block + 1);
      this.#setMask(block, WHOLE & ~pages);
      return;
    }
    const before = this.#masks.get(block) ?? 0;
    const mask = on ? before | pages : before & ~pages;
    if (mask >>> 0 === WHOLE) {
      this.#setMask(block, 0);
      this.#whole.add(block, block + 1);
    } else this.#setMask(block, mask);
  }

  #setMask(block: number, mask: number): void {
    this.#single += ones(mask) - ones(this.#masks.get(block) ?? 0);
    if (mask === 0) this.#masks.delete(block);
    else this.#masks.set(block, mask);
  }

  /** Blocks of [from, to) with a mask. */
  #partial(from: number, to: number): number[] {
    if (to - from > this.#masks.size) return [...this.#masks.keys()].filter((block) => from <= block && block < to);
    return Array.from({ length: to - from }, (_, i) => from + i).filter((block) => this.#masks.has(block));
  }
}

/** The pages of [first, end) that are in a block. */
function maskOf(block: number, first: number, end: number): number {
  const low = Math.max(0, first - block * BLOCK);
  const high = Math.min(BLOCK, end - block * BLOCK);
  return high <= low ? 0 : ((WHOLE >>> (BLOCK - (high - low))) << low) >>> 0;
}

function ones(mask: number): number {
  let left = mask - ((mask >>> 1) & 0x5555_5555);
  left = (left & 0x3333_3333) + ((left >>> 2) & 0x3333_3333);
  return Math.imul((left + (left >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
}
