import type { Width } from '../../kernel/memory.ts';
import type { Backing } from '../file.ts';
import type { DeviceMemory } from './device-memory.ts';
import { PAGE_SIZE, type PageRef } from './pages.ts';

/**
 * Pages that pin_user_pages(FOLL_LONGTERM) took, all of one mapping. Each stays the page it was: what the process later unmaps, punches out or
 * truncates is gone for the process alone. Pages still mapped are shared with it.
 */
export interface PinnedRange {
  readonly pages: number;
  /** A page's bytes. Ask again for each access: views of the object move them. */
  ref(page: number): PageRef;
  unpin(): void;
  /** The pages around one that are next to each other in physical memory: more than are pinned, where a part of a huge page is. */
  run(page: number): { readonly first: number; readonly count: number };
  /** The first `pages` of it and the rest, each with an unpin of its own; this one is used up. */
  split(pages: number): readonly [PinnedRange, PinnedRange];
  /** A VM_PFNMAP mapping, which pin_user_pages refuses and follow_pfnmap_start takes: no pages, and nothing is charged for them. */
  readonly device?: DeviceMemory & { readonly offset: number };
}

/** What a pin asks of the object its pages are from. */
export interface PinnedObject {
  /** How many of its pages are one in physical memory. */
  readonly grain: number;
  page(index: number, write: boolean): PageRef | null;
  unpinned(pin: PagePin): void;
  /** Both halves take the place of the whole. */
  divided(pin: PagePin, low: PagePin, high: PagePin): void;
}

/** Pages [first, end) of a pin that its object has lost, and who keeps them now. */
interface Kept {
  readonly first: number;
  readonly end: number;
  readonly by: PinnedObject;
}

/** A pin of pages [first, first + pages) of an object. */
export class PagePin implements PinnedRange {
  readonly first: number;
  readonly pages: number;
  readonly #object: PinnedObject;
  /** Ascending, disjoint. */
  #kept: Kept[] | undefined;
  /** The list of its bucket. */
  previous: PagePin | undefined;
  next: PagePin | undefined;

  constructor(object: PinnedObject, first: number, pages: number) {
    this.#object = object;
    this.first = first;
    this.pages = pages;
  }

  get end(): number {
    return this.first + this.pages;
  }

  ref(page: number): PageRef {
    const index = this.first + page;
    return (this.#keeper(index) ?? this.#object).page(index, true)!;
  }

  unpin(): void {
    this.#object.unpinned(this);
  }

  run(page: number): { first: number; count: number } {
    const { grain } = this.#object;
    const within = (this.first + page) % grain;
    return { first: page - within, count: grain };
  }

  split(pages: number): readonly [PinnedRange, PinnedRange] {
    const at = this.first + pages;
    const low = new PagePin(this.#object, this.first, pages);
    const high = new PagePin(this.#object, at, this.end - at);
    for (const { first, end, by } of this.#kept ?? []) {
      if (first < at) low.keep(first, Math.min(end, at), by);
      if (end > at) high.keep(Math.max(first, at), end, by);
    }
    this.#object.divided(this, low, high);
    return [low, high];
  }

  /** The parts of [first, end) that it still has from its object. */
  attached(first: number, end: number): (readonly [first: number, end: number])[] {
    const parts: (readonly [number, number])[] = [];
    let at = Math.max(first, this.first);
    const to = Math.min(end, this.end);
    for (const kept of this.#kept ?? []) {
      if (kept.end <= at || kept.first >= to) continue;
      if (kept.first > at) parts.push([at, kept.first]);
      at = kept.end;
    }
    if (at < to) parts.push([at, to]);
    return parts;
  }

  /** The object is about to lose [first, end), which was attached. */
  keep(first: number, end: number, by: PinnedObject): void {
    this.#kept ??= [];
    this.#kept.splice(this.#above(first), 0, { first, end, by });
  }

  #keeper(index: number): PinnedObject | undefined {
    if (this.#kept === undefined) return undefined;
    const kept = this.#kept[this.#above(index) - 1];
    return kept !== undefined && index < kept.end ? kept.by : undefined;
  }

  /** How many kept pieces begin at or below a page. */
  #above(index: number): number {
    const kept = this.#kept!;
    let low = 0;
    let high = kept.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (kept[middle]!.first <= index) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/**
 * The pins of an object, by where they lie: each in the bucket of its first page on the level of its length, so that taking and giving
 * back costs the same however many there are, and a search looks at two buckets more than the range has.
 */
export class PinIndex {
  readonly #levels: (Map<number, PagePin> | undefined)[] = [];

  add(pin: PagePin): void {
    const level = levelOf(pin.pages);
    const buckets = (this.#levels[level] ??= new Map());
    const key = bucketOf(pin.first, level);
    const head = buckets.get(key);
    pin.next = head;
    if (head !== undefined) head.previous = pin;
    buckets.set(key, pin);
  }

  remove(pin: PagePin): void {
    const level = levelOf(pin.pages);
    const buckets = this.#levels[level]!;
    if (pin.next !== undefined) pin.next.previous = pin.previous;
    if (pin.previous !== undefined) pin.previous.next = pin.next;
    else if (pin.next !== undefined) buckets.set(bucketOf(pin.first, level), pin.next);
    else buckets.delete(bucketOf(pin.first, level));
    pin.next = undefined;
    pin.previous = undefined;
  }

  /** Every pin that shares a page with [first, end). */
  overlapping(first: number, end: number): PagePin[] {
    const found: PagePin[] = [];
    for (const [level, buckets] of this.#levels.entries()) {
      if (buckets === undefined || buckets.size === 0) continue;
      const from = bucketOf(first, level) - 1;
      const to = bucketOf(end - 1, level);
      if (to - from < buckets.size) for (let key = from; key <= to; key++) collect(buckets.get(key), first, end, found);
      else for (const head of buckets.values()) collect(head, first, end, found);
    }
    return found;
  }
}

function collect(head: PagePin | undefined, first: number, end: number, found: PagePin[]): void {
  for (let pin = head; pin !== undefined; pin = pin.next) if (pin.first < end && first < pin.end) found.push(pin);
}

/** A pin of level n is at most 2^n pages long. */
function levelOf(pages: number): number {
  return Math.ceil(Math.log2(pages));
}

function bucketOf(page: number, level: number): number {
  return Math.floor(page / 2 ** level);
}

/** Pages of a driver's own, which it never loses. */
export class DriverPin implements PinnedRange {
  readonly pages: number;
  readonly #backing: Backing;
  readonly #first: number;

  constructor(backing: Backing, first: number, pages: number) {
    this.#backing = backing;
    this.#first = first;
    this.pages = pages;
  }

  ref(page: number): PageRef {
    return this.#backing.page(this.#first + page, true)!;
  }

  unpin(): void {}

  run(page: number): { first: number; count: number } {
    return { first: page, count: 1 };
  }

  split(pages: number): readonly [PinnedRange, PinnedRange] {
    return [
      new DriverPin(this.#backing, this.#first, pages),
      new DriverPin(this.#backing, this.#first + pages, this.pages - pages),
    ];
  }
}

/** A piece of a device's memory that was mapped by page frame numbers. */
export class DevicePin implements PinnedRange {
  readonly pages: number;
  readonly device: DeviceMemory & { readonly offset: number };

  constructor(device: DeviceMemory & { readonly offset: number }, pages: number) {
    this.device = device;
    this.pages = pages;
  }

  ref(_page: number): PageRef {
    throw new Error('device memory has no pages');
  }

  unpin(): void {}

  run(page: number): { first: number; count: number } {
    return { first: page, count: 1 };
  }

  split(pages: number): readonly [PinnedRange, PinnedRange] {
    const { device } = this;
    const rest = {
      load: (offset: number, width: Width) => device.load(offset, width),
      store: (offset: number, width: Width, value: number | bigint) => device.store(offset, width, value),
      offset: device.offset + pages * PAGE_SIZE,
    };
    return [new DevicePin(device, pages), new DevicePin(rest, this.pages - pages)];
  }
}
