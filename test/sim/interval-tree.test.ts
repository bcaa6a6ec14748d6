import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Interval, IntervalTree } from '../../src/sim/interval-tree.ts';

const SPACE = 64n;

/** The same by looking at everything. */
class Naive {
  items: Interval[] = [];

  insert(item: Interval): void {
    this.items.push(item);
    this.items.sort((a, b) => Number(a.first - b.first));
  }

  holes(first: bigint, last: bigint): [bigint, bigint][] {
    const holes: [bigint, bigint][] = [];
    let at = first;
    for (const item of this.items) {
      if (item.last < at) continue;
      if (item.first > last) break;
      if (item.first > at) holes.push([at, item.first - 1n]);
      at = item.last + 1n;
    }
    if (at <= last) holes.push([at, last]);
    return holes;
  }
}

const address = fc.bigInt({ min: 0n, max: SPACE - 1n });
const step = fc.record({ remove: fc.boolean(), first: address, length: fc.bigInt({ min: 1n, max: 9n }) });

describe('IntervalTree', () => {
  test('agrees with a list', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), address, address, fc.bigInt({ min: 1n, max: 12n }), (steps, a, b, least) => {
        const tree = new IntervalTree<Interval>();
        const naive = new Naive();
        for (const { remove, first, length } of steps) {
          const item = { first, last: first + length - 1n };
          const taken = naive.items.filter((other) => other.first <= item.last && item.first <= other.last);
          expect([...tree.within(item.first, item.last)]).toEqual(taken);
          if (remove) {
            for (const other of taken) tree.remove(other);
            naive.items = naive.items.filter((other) => !taken.includes(other));
          } else if (taken.length === 0) {
            tree.insert(item);
            naive.insert(item);
          }
        }
        expect(tree.size).toBe(naive.items.length);
        expect([...tree.within()]).toEqual(naive.items);
        expect(tree.find(a)).toBe(naive.items.find((item) => item.first <= a && a <= item.last));
        expect(tree.before(a)).toBe(naive.items.filter((item) => item.first < a).at(-1));
        const [first, last] = a < b ? [a, b] : [b, a];
        const seen: [bigint, bigint][] = [];
        tree.hole(first, last, least, (from, to) => {
          seen.push([from, to]);
          return undefined;
        });
        const expected = naive.holes(first, last).filter(([from, to]) => to - from + 1n >= least);
        expect(seen).toEqual(expected);
        expect(tree.hole(first, last, least, (from) => from)).toBe(expected[0]?.[0]);
      }),
      { numRuns: 2000, seed: 1 },
    );
  });

  test('holds the last address there is', () => {
    const tree = new IntervalTree<Interval>();
    const last = (1n << 64n) - 1n;
    const item = { first: last - 4095n, last };
    tree.insert(item);
    expect([...tree.within()]).toEqual([item]);
    expect(tree.hole(0n, last, 1n, (from, to) => [from, to])).toEqual([0n, last - 4096n]);
    expect(tree.hole(last - 4095n, last, 1n, (from) => from)).toBeUndefined();
  });
});
