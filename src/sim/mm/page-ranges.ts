/** A set of page numbers, as ascending ranges that neither overlap nor touch: cheap where pages come in runs. */
export class PageRanges {
  /** first, end, first, end … */
  readonly #borders: number[] = [];
  #total = 0;

  /** How many pages are in the set. */
  get total(): number {
    return this.#total;
  }

  has(page: number): boolean {
    return (this.#above(page) & 1) === 1;
  }

  /** The part of [first, end) that is in the set, ascending. */
  *within(first: number, end: number): Generator<readonly [first: number, end: number]> {
    for (let at = this.#above(first) & ~1; at < this.#borders.length && this.#borders[at]! < end; at += 2)
      yield [Math.max(first, this.#borders[at]!), Math.min(end, this.#borders[at + 1]!)];
  }

  add(first: number, end: number): void {
    this.#set(first, end, true);
  }

  remove(first: number, end: number): void {
    this.#set(first, end, false);
  }

  clear(): void {
    this.#borders.length = 0;
    this.#total = 0;
  }

  #set(first: number, end: number, on: boolean): void {
    if (first >= end) return;
    for (const [from, to] of this.within(first, end)) this.#total -= to - from;
    if (on) this.#total += end - first;
    // Borders at `first` and `end` themselves go: a range that only touches is joined.
    const low = this.#above(first - 1);
    const high = this.#above(end);
    const opens = (low & 1) === (on ? 0 : 1);
    const closes = (high & 1) === (on ? 0 : 1);
    this.#borders.splice(low, high - low, ...(opens ? [first] : []), ...(closes ? [end] : []));
  }

  /** How many borders are at or below a page: odd inside a range. */
  #above(page: number): number {
    let low = 0;
    let high = this.#borders.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#borders[middle]! <= page) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
