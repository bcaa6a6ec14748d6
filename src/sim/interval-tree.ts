/** An inclusive range of 64-bit addresses. It must not change while it is in a tree. */
export interface Interval {
  readonly first: bigint;
  readonly last: bigint;
}

interface Node<T extends Interval> {
  readonly item: T;
  readonly priority: number;
  left: Node<T> | undefined;
  right: Node<T> | undefined;
  /** First and last address of the subtree. */
  min: bigint;
  max: bigint;
  /** Length of the longest hole between two intervals of the subtree. */
  gap: bigint;
}

/**
 * Disjoint intervals in order of address: what `struct interval_tree` and its span iterator are to the kernel. Finding one, its neighbours or the first hole
 * of a length takes O(log n). A treap whose priorities are a fixed sequence: the same calls give the same tree.
 */
export class IntervalTree<T extends Interval> {
  #root: Node<T> | undefined;
  #size = 0;
  #seed = 0x9e37_79b9;

  get size(): number {
    return this.#size;
  }

  /** The caller has made sure that nothing overlaps it. */
  insert(item: T): void {
    this.#root = insert(this.#root, {
      item,
      priority: this.#priority(),
      left: undefined,
      right: undefined,
      min: item.first,
      max: item.last,
      gap: 0n,
    });
    this.#size++;
  }

  remove(item: T): void {
    this.#root = erase(this.#root, item);
    this.#size--;
  }

  clear(): void {
    this.#root = undefined;
    this.#size = 0;
  }

  /** The interval that holds this address. */
  find(address: bigint): T | undefined {
    const item = this.from(address);
    return item !== undefined && item.first <= address ? item : undefined;
  }

  /** The first interval that ends at this address or behind it. */
  from(address: bigint): T | undefined {
    let found: T | undefined;
    for (let node = this.#root; node !== undefined; ) {
      if (node.item.last < address) node = node.right;
      else {
        found = node.item;
        node = node.left;
      }
    }
    return found;
  }

  /** The last interval that begins before this address. */
  before(address: bigint): T | undefined {
    let found: T | undefined;
    for (let node = this.#root; node !== undefined; ) {
      if (node.item.first >= address) node = node.left;
      else {
        found = node.item;
        node = node.right;
      }
    }
    return found;
  }

  /** The interval behind this one. */
  after(item: T): T | undefined {
    return this.from(item.last + 1n);
  }

  /** The lowest interval that shares an address with [first, last]. */
  overlap(first: bigint, last: bigint): T | undefined {
    const item = this.from(first);
    return item !== undefined && item.first <= last ? item : undefined;
  }

  /** The intervals that share an address with [first, last], ascending. The one that was given may be removed before the next is asked for. */
  *within(first = 0n, last: bigint = MAX): Generator<T, void> {
    for (let item = this.overlap(first, last); item !== undefined; ) {
      const next = item.last === MAX ? undefined : item.last + 1n;
      yield item;
      item = next === undefined || next > last ? undefined : this.overlap(next, last);
    }
  }

  /** What `accept` makes of the lowest hole of at least `length` addresses inside [first, last] that it wants; undefined: of none. */
  hole<R>(first: bigint, last: bigint, length: bigint, accept: (first: bigint, last: bigint) => R | undefined): R | undefined {
    if (first > last) return undefined;
    const search = { at: first, last, length, accept, found: undefined as R | undefined };
    if (search.at <= last && visit(this.#root, search)) return search.found;
    return last - search.at + 1n >= length ? accept(search.at, last) : undefined;
  }

  #priority(): number {
    this.#seed = Math.imul(this.#seed ^ (this.#seed >>> 15), 0x2c1b_3c6d) + 0x6d2b_79f5;
    return this.#seed >>> 0;
  }
}

/** The last 64-bit address. */
const MAX = (1n << 64n) - 1n;

function update<T extends Interval>(node: Node<T>): Node<T> {
  const { left, right, item } = node;
  let gap = 0n;
  if (left === undefined) node.min = item.first;
  else {
    node.min = left.min;
    gap = left.gap;
    const between = item.first - left.max - 1n;
    if (between > gap) gap = between;
  }
  if (right === undefined) node.max = item.last;
  else {
    node.max = right.max;
    if (right.gap > gap) gap = right.gap;
    const between = right.min - item.last - 1n;
    if (between > gap) gap = between;
  }
  node.gap = gap;
  return node;
}

function insert<T extends Interval>(at: Node<T> | undefined, node: Node<T>): Node<T> {
  if (at === undefined) return node;
  if (node.priority > at.priority) {
    [node.left, node.right] = split(at, node.item.first);
    return update(node);
  }
  if (node.item.first < at.item.first) at.left = insert(at.left, node);
  else at.right = insert(at.right, node);
  return update(at);
}

function split<T extends Interval>(at: Node<T> | undefined, first: bigint): [Node<T> | undefined, Node<T> | undefined] {
  if (at === undefined) return [undefined, undefined];
  if (at.item.first < first) {
    const [low, high] = split(at.right, first);
    at.right = low;
    return [update(at), high];
  }
  const [low, high] = split(at.left, first);
  at.left = high;
  return [low, update(at)];
}

function erase<T extends Interval>(at: Node<T> | undefined, item: T): Node<T> | undefined {
  if (at === undefined) throw new Error(`no interval at 0x${item.first.toString(16)}`);
  if (at.item === item) return merge(at.left, at.right);
  if (item.first < at.item.first) at.left = erase(at.left, item);
  else at.right = erase(at.right, item);
  return update(at);
}

function merge<T extends Interval>(low: Node<T> | undefined, high: Node<T> | undefined): Node<T> | undefined {
  if (low === undefined) return high;
  if (high === undefined) return low;
  if (low.priority > high.priority) {
    low.right = merge(low.right, high);
    return update(low);
  }
  high.left = merge(low, high.left);
  return update(high);
}

interface Search<R> {
  /** Everything below has been looked at. */
  at: bigint;
  readonly last: bigint;
  readonly length: bigint;
  readonly accept: (first: bigint, last: bigint) => R | undefined;
  found: R | undefined;
}

/** True: the search is over. Subtrees without a hole of the length are passed at once. */
function visit<T extends Interval, R>(node: Node<T> | undefined, search: Search<R>): boolean {
  if (node === undefined || node.max < search.at) return false;
  if (node.gap < search.length && node.min - search.at < search.length) {
    search.at = node.max + 1n;
    return search.at > search.last;
  }
  if (visit(node.left, search)) return true;
  const { item } = node;
  const end = item.first - 1n < search.last ? item.first - 1n : search.last;
  if (end - search.at + 1n >= search.length) search.found = search.accept(search.at, end);
  if (search.found !== undefined) return true;
  if (item.last >= search.at) search.at = item.last + 1n;
  return search.at > search.last || visit(node.right, search);
}
