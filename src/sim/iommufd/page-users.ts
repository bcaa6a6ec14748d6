import { type Interval, IntervalTree } from '../interval-tree.ts';

interface Run extends Interval {
  readonly users: number;
}

/** How many need each page of an object: runs of pages that have as many. What is in no run is needed by nobody. */
export class PageUsers {
  readonly #runs: IntervalTree<Run> = new IntervalTree();

  /** Pages [first, last] are needed once more. */
  add(first: bigint, last: bigint): void {
    this.#change(first, last, 1);
  }

  /** Pages [first, last], which are needed, are needed once less: those nobody needs any more, ascending. */
  remove(first: bigint, last: bigint): Interval[] {
    return this.#change(first, last, -1).filter(({ users }) => users === 0);
  }

  /** The runs that [first, last] is now. Two that touch have another number of users, also those beside it. */
  #change(first: bigint, last: bigint, by: 1 | -1): readonly Run[] {
    const made: Run[] = [];
    const put = (from: bigint, to: bigint, users: number): void => {
      const previous = made.at(-1);
      if (previous?.users === users && previous.last === from - 1n)
        made[made.length - 1] = { first: previous.first, last: to, users };
      else made.push({ first: from, last: to, users });
    };
    let [from, to] = [first, last];
    const before = this.#runs.find(first - 1n);
    const behind = this.#runs.find(last + 1n);
    const touched = new Set(this.#runs.within(first, last));
    if (before !== undefined) {
      touched.add(before);
      from = before.first;
      put(before.first, first - 1n, before.users);
    }
    let at = first;
    for (const run of this.#runs.within(first, last)) {
      const [low, high] = [run.first > first ? run.first : first, run.last < last ? run.last : last];
      if (low > at) put(at, low - 1n, by);
      put(low, high, run.users + by);
      at = high + 1n;
    }
    if (at <= last) put(at, last, by);
    if (behind !== undefined) {
      touched.add(behind);
      to = behind.last;
      put(last + 1n, behind.last, behind.users);
    }
    for (const run of touched) this.#runs.remove(run);
    for (const run of made) if (run.users > 0) this.#runs.insert(run);
    return from === first && to === last
      ? made
      : made.map((run) => clip(run, first, last)).filter((run) => run.first <= run.last);
  }
}

function clip({ first, last, users }: Run, from: bigint, to: bigint): Run {
  return { first: first > from ? first : from, last: last < to ? last : to, users };
}
