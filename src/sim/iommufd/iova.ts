import { EINVAL, ENOSPC, EOVERFLOW } from '../../uapi/sys.ts';
import type { Interval } from '../interval-tree.ts';

export const PAGE = 4096n;
export const U64_MAX: bigint = (1n << 64n) - 1n;
/** What automatic placement aligns to at most: HPAGE_PMD_SIZE. */
const HPAGE = 2n << 20n;
/** The window of automatic placement where no IOVAs are allowed in particular. */
const FIRST = PAGE;
const LAST = U64_MAX - PAGE;

/** check_add_overflow of `first` and `length` − 1: the last address, or undefined. `length` > 0. */
export function lastOf(first: bigint, length: bigint): bigint | undefined {
  const last = first + length - 1n;
  return last > U64_MAX ? undefined : last;
}

function powerOfTwoFrom(value: bigint): bigint {
  return 1n << BigInt((value - 1n).toString(2).length - (value === 1n ? 1 : 0));
}

/** Overlapping and touching intervals merged, ascending. */
export function merged(intervals: Iterable<Interval>): Interval[] {
  const sorted = [...intervals].sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0));
  const runs: { first: bigint; last: bigint }[] = [];
  for (const { first, last } of sorted) {
    const run = runs.at(-1);
    if (run !== undefined && first <= run.last + 1n) {
      if (last > run.last) run.last = last;
    } else runs.push({ first, last });
  }
  return runs;
}

/** What of [first, last] lies in none of these intervals, which are merged and ascending. */
export function* complement(intervals: Iterable<Interval>, first: bigint, last: bigint): Generator<Interval> {
  let at = first;
  for (const interval of intervals) {
    if (interval.last < at) continue;
    if (interval.first > last) break;
    if (interval.first > at) yield { first: at, last: interval.first - 1n };
    at = interval.last + 1n;
  }
  if (at <= last) yield { first: at, last };
}

export interface Placement {
  readonly length: bigint;
  /** The address behind the mapping, or the offset in its file. 0: none. */
  readonly hint: bigint;
  /** iova_alignment of the address space. */
  readonly alignment: bigint;
  /** Merged. Empty: no restriction. */
  readonly allowed: readonly Interval[];
  /** Merged. */
  readonly reserved: readonly Interval[];
  /** The lowest hole between areas of [first, last], of at least `length`, that `accept` wants. */
  hole(
    first: bigint,
    last: bigint,
    length: bigint,
    accept: (first: bigint, last: bigint) => bigint | undefined,
  ): bigint | undefined;
}

/**
 * iopt_alloc_iova: the lowest place that suits, aligned to the length or to what the address behind it is aligned to, with the same offset in its page. Or −errno.
 */
export function place({ length, hint, alignment, allowed, reserved, hole }: Placement): bigint | number {
  if (length === 0n || length % alignment !== 0n) return -EINVAL;
  if (length >= U64_MAX / 2n) return -EOVERFLOW;
  let align = powerOfTwoFrom(length);
  const lowest = hint & -hint;
  if (hint !== 0n && lowest < align) align = lowest;
  if (align > HPAGE) align = HPAGE;
  if (align < alignment) return -EINVAL;
  const offset = hint % PAGE;

  const settle = (first: bigint, last: bigint): bigint | undefined => {
    const start = ((first + align - 1n) / align) * align;
    if (start > U64_MAX) return undefined;
    const at = start | offset;
    return at >= last || last - at < length - 1n ? undefined : at;
  };

  const windows = allowed.length === 0 ? [{ first: FIRST, last: LAST }] : allowed;
  for (const window of windows) {
    const last = window.last < LAST ? window.last : LAST;
    const from = settle(window.first > FIRST ? window.first : FIRST, last);
    if (from === undefined) continue;
    for (const free of complement(reserved, from, last)) {
      const iova = hole(free.first, free.last, length, settle);
      if (iova !== undefined) return iova;
    }
  }
  return -ENOSPC;
}
