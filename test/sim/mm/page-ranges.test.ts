import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PageRanges } from '../../../src/sim/mm/page-ranges.ts';
import { PageSet } from '../../../src/sim/mm/page-set.ts';

describe('PageSet', () => {
  it('is a set of pages', () => {
    const step = fc.record({ on: fc.boolean(), first: fc.nat(200), length: fc.oneof(fc.nat(3), fc.nat(120)) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const set = new PageSet();
        const model = new Set<number>();
        for (const { on, first, length } of steps) {
          if (on) set.add(first, first + length);
          else set.remove(first, first + length);
          for (let page = first; page < first + length; page++) {
            if (on) model.add(page);
            else model.delete(page);
          }
          expect(set.total).toBe(model.size);
        }
        for (let page = 0; page < 330; page++) expect(set.has(page)).toBe(model.has(page));
        const listed = [...set.within(20, 170)].flatMap(([first, end]) =>
          Array.from({ length: end - first }, (_, i) => first + i),
        );
        expect(listed.sort((a, b) => a - b)).toEqual([...model].filter((page) => page >= 20 && page < 170).sort((a, b) => a - b));
      }),
    );
  });
});

describe('PageRanges', () => {
  it('is a set of pages', () => {
    const step = fc.record({ on: fc.boolean(), first: fc.nat(60), length: fc.nat(12) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const ranges = new PageRanges();
        const model = new Set<number>();
        for (const { on, first, length } of steps) {
          if (on) ranges.add(first, first + length);
          else ranges.remove(first, first + length);
          for (let page = first; page < first + length; page++) {
            if (on) model.add(page);
            else model.delete(page);
          }
        }
        expect(ranges.total).toBe(model.size);
        for (let page = 0; page < 80; page++) expect(ranges.has(page)).toBe(model.has(page));
        const listed = [...ranges.within(5, 50)];
        expect(listed.every(([first, end]) => first < end)).toBe(true);
        for (let i = 1; i < listed.length; i++) expect(listed[i]![0]).toBeGreaterThan(listed[i - 1]![1]);
        const pages = listed.flatMap(([first, end]) => Array.from({ length: end - first }, (_, i) => first + i));
        expect(pages).toEqual([...model].filter((page) => page >= 5 && page < 50).sort((a, b) => a - b));
      }),
    );
  });
});
