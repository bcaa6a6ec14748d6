import type { HugePool } from './huge-pool.ts';
import type { PagePin } from './pin.ts';

/** A huge page that its object has lost. */
interface Lost {
  readonly first: number;
  readonly end: number;
  /** Its reservation goes back where it came from. */
  readonly restore: boolean;
  holders: number;
}

/** Huge pages that pins still hold after their object has lost them: the pool has them back with the last of the pins. */
export class HugePins {
  readonly #pool: HugePool;
  readonly #held = new Map<PagePin, Set<Lost>>();

  constructor(pool: HugePool) {
    this.#pool = pool;
  }

  /** The object loses pages [first, end), one huge page, which these pins have. */
  lose(first: number, end: number, pins: readonly PagePin[], restore: boolean): void {
    if (pins.length === 0) {
      this.#pool.give(restore);
      return;
    }
    const lost = { first, end, restore, holders: 0 };
    for (const pin of pins) this.#hold(pin, lost);
  }

  unpinned(pin: PagePin): void {
    const held = this.#held.get(pin);
    if (held === undefined) return;
    this.#held.delete(pin);
    for (const lost of held) if (--lost.holders === 0) this.#pool.give(lost.restore);
  }

  divided(pin: PagePin, halves: readonly PagePin[]): void {
    const held = this.#held.get(pin);
    if (held === undefined) return;
    this.#held.delete(pin);
    for (const lost of held) {
      lost.holders--;
      for (const half of halves) if (half.first < lost.end && lost.first < half.end) this.#hold(half, lost);
    }
  }

  #hold(pin: PagePin, lost: Lost): void {
    lost.holders++;
    const held = this.#held.get(pin);
    if (held === undefined) this.#held.set(pin, new Set([lost]));
    else held.add(lost);
  }
}
