import { describe, expect, it } from 'vitest';
import { type AcceptedMmio, AcceptedRanges } from '../../../../src/sim/hardware/tsm/accepted-mmio.ts';

const PAGE = 0x1000n;
const GPA = 0xe000_0000n;
const PA = 0x8000_0000n;

/** Pages [from, from + count) of the guest, with those of the device from `device` on. */
const range = (from: number, count: number, device: number): AcceptedMmio => ({
  gpaBase: GPA + BigInt(from) * PAGE,
  gpaTop: GPA + BigInt(from + count) * PAGE,
  paBase: PA + BigInt(device) * PAGE,
});

function of(...ranges: readonly AcceptedMmio[]): AcceptedRanges {
  const accepted = new AcceptedRanges();
  for (const one of ranges) accepted.add(one);
  return accepted;
}

describe('device memory a guest has accepted', () => {
  it('what goes on in both address spaces is one piece', () => {
    expect(of(range(0, 1, 0), range(2, 1, 2), range(1, 1, 1)).list()).toEqual([range(0, 3, 0)]);
    expect(of(range(0, 1, 0), range(1, 1, 2)).list()).toEqual([range(0, 1, 0), range(1, 1, 2)]);
  });

  it('a page is at one frame: where it was accepted last', () => {
    expect(of(range(0, 4, 0), range(8, 1, 1)).list()).toEqual([range(0, 1, 0), range(2, 2, 2), range(8, 1, 1)]);
  });

  it('a frame has one page: the one it has got last', () => {
    expect(of(range(0, 4, 0), range(1, 1, 8)).list()).toEqual([range(0, 1, 0), range(1, 1, 8), range(2, 2, 2)]);
  });

  it('frames go one by one', () => {
    const accepted = of(range(0, 4, 0), range(8, 2, 8));
    accepted.remove(GPA + 3n * PAGE, GPA + 9n * PAGE);
    expect(accepted.list()).toEqual([range(0, 3, 0), range(9, 1, 9)]);
    accepted.remove(0n, 1n << 64n);
    expect(accepted.list()).toEqual([]);
  });

  it('at random: a map of frames to pages, and back', () => {
    const accepted = new AcceptedRanges();
    const pages = new Map<number, number>();
    let state = 7;
    const below = (n: number): number => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      return Math.floor((state / 2 ** 32) * n);
    };
    for (let i = 0; i < 2000; i++) {
      const [from, count, device] = [below(40), 1 + below(6), below(16)];
      if (below(4) === 0) {
        accepted.remove(GPA + BigInt(from) * PAGE, GPA + BigInt(from + count) * PAGE);
        for (let page = from; page < from + count; page++) pages.delete(page);
      } else {
        accepted.add(range(from, count, device));
        for (const [frame, page] of pages) if (page >= device && page < device + count) pages.delete(frame);
        for (let page = 0; page < count; page++) pages.set(from + page, device + page);
      }
      const found = accepted.list().flatMap(({ gpaBase, gpaTop, paBase }) => {
        const length = Number((gpaTop - gpaBase) / PAGE);
        const [guest, first] = [Number((gpaBase - GPA) / PAGE), Number((paBase - PA) / PAGE)];
        return Array.from({ length }, (_, page): [number, number] => [guest + page, first + page]);
      });
      expect(found).toEqual([...pages].sort(([a], [b]) => a - b));
    }
  });
});
