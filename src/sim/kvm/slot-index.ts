import type { Memslot } from './memslots.ts';

/** Slots of one run; it is cut in two when it grows past this. */
const RUN = 256;

/**
 * The slots of one address space by guest frame, in sorted runs of bounded length: what changes moves a few hundred entries, whatever there are in
 * all.
 */
export class SlotIndex {
  readonly byId: Map<number, Memslot> = new Map();
  /** None is empty. */
  readonly #runs: Memslot[][] = [];

  /** All slots, ascending. */
  list(): readonly Memslot[] {
    return this.#runs.flat();
  }

  find(gfn: number): Memslot | undefined {
    const slots = this.#runs[firstAbove(this.#runs, gfn, lastOf)];
    const slot = slots?.[firstAbove(slots, gfn, itself)];
    return slot !== undefined && slot.base_gfn <= gfn ? slot : undefined;
  }

  overlaps(base_gfn: number, npages: number, except: Memslot | undefined): boolean {
    let [run, at] = this.#above(base_gfn);
    for (; run < this.#runs.length; run++, at = 0) {
      const slots = this.#runs[run]!;
      for (; at < slots.length; at++) {
        const slot = slots[at]!;
        if (slot.base_gfn >= base_gfn + npages) return false;
        if (slot !== except) return true;
      }
    }
    return false;
  }

  insert(slot: Memslot): void {
    this.byId.set(slot.id, slot);
    const last = this.#runs.length - 1;
    if (last < 0) {
      this.#runs.push([slot]);
      return;
    }
    let [run, at] = this.#above(slot.base_gfn);
    if (run > last) [run, at] = [last, this.#runs[last]!.length];
    const slots = this.#runs[run]!;
    slots.splice(at, 0, slot);
    if (slots.length > RUN) this.#runs.splice(run + 1, 0, slots.splice(slots.length >>> 1));
  }

  remove(slot: Memslot): void {
    this.byId.delete(slot.id);
    const [run, at] = this.#above(slot.base_gfn);
    const slots = this.#runs[run]!;
    slots.splice(at, 1);
    if (slots.length === 0) this.#runs.splice(run, 1);
  }

  /** Where the first slot that ends above `gfn` stands: its run, and its place in it. */
  #above(gfn: number): [run: number, at: number] {
    const run = firstAbove(this.#runs, gfn, lastOf);
    const slots = this.#runs[run];
    return [run, slots === undefined ? 0 : firstAbove(slots, gfn, itself)];
  }
}

const itself = (slot: Memslot): Memslot => slot;
const lastOf = (run: readonly Memslot[]): Memslot => run[run.length - 1]!;

/** Index of the first entry whose slot ends above `gfn`. */
function firstAbove<T>(entries: readonly T[], gfn: number, slotOf: (entry: T) => Memslot): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const slot = slotOf(entries[middle]!);
    if (slot.base_gfn + slot.npages <= gfn) low = middle + 1;
    else high = middle;
  }
  return low;
}
