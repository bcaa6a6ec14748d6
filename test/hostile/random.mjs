/** A seeded source of choices: the same seed, the same calls. */
export class Random {
  #state;

  constructor(seed) {
    this.#state = seed >>> 0;
  }

  /** 32 bits (mulberry32). */
  next() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }

  /** 0 … n − 1. */
  below(n) {
    return this.next() % n;
  }

  chance(probability) {
    return this.next() < probability * 0x1_0000_0000;
  }

  /** An element, or undefined of none. */
  pick(list) {
    return list.length === 0 ? undefined : list[this.below(list.length)];
  }

  /** The value of one of `[weight, value]`. */
  weighted(table) {
    let at = this.below(table.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, value] of table) if ((at -= weight) < 0) return value;
    throw new Error('no weights');
  }

  u64() {
    return (BigInt(this.next()) << 32n) | BigInt(this.next());
  }

  fill(bytes) {
    for (let at = 0; at < bytes.length; at++) bytes[at] = this.next();
    return bytes;
  }
}
