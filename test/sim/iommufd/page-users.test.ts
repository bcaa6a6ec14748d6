import fc from 'fast-check';
import { expect, it } from 'vitest';
import { PageUsers } from '../../../src/sim/iommufd/page-users.ts';

const PAGES = 12;
const range = fc.tuple(fc.nat(PAGES - 1), fc.nat(PAGES - 1)).map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);

it('counts as an array of counters does, and tells what nobody needs any more', () => {
  fc.assert(
    fc.property(fc.array(range, { maxLength: 30 }), fc.infiniteStream(fc.nat()), (ranges, choices) => {
      const users = new PageUsers();
      const counts = new Array<number>(PAGES).fill(0);
      const held: (readonly [number, number])[] = [];
      const release = (): void => {
        const [[first, last]] = held.splice(choices.next().value! % held.length, 1) as [readonly [number, number]];
        const unused: number[] = [];
        for (let page = first; page <= last; page++) if (--counts[page]! === 0) unused.push(page);
        const told = users.remove(BigInt(first), BigInt(last));
        expect(
          told.flatMap((run) => Array.from({ length: Number(run.last - run.first) + 1 }, (_, n) => Number(run.first) + n)),
        ).toEqual(unused);
      };
      for (const [first, last] of ranges) {
        users.add(BigInt(first), BigInt(last));
        for (let page = first; page <= last; page++) counts[page]!++;
        held.push([first, last]);
        if (choices.next().value! % 3 === 0) release();
      }
      while (held.length > 0) release();
      expect(counts.every((count) => count === 0)).toBe(true);
    }),
  );
});
