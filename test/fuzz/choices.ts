/**
 * A tape of random words that a step spends on its decisions. A spent tape gives zeros, and zero always means the first, simplest
 * option: so a tape that fast-check shrinks makes the step simpler, and every tape is a valid one.
 */
export class Choices {
  readonly #tape: readonly number[];
  #at = 0;

  constructor(tape: readonly number[]) {
    this.#tape = tape;
  }

  /** A word of 32 bits. */
  word(): number {
    return (this.#tape[this.#at++] ?? 0) >>> 0;
  }

  /** 0 … n − 1; a smaller word never gives a larger number. */
  below(n: number): number {
    return Math.floor((this.word() / 2 ** 32) * n);
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  /** True in `p` of the cases, false where the tape is spent. */
  chance(p: number): boolean {
    return this.word() / 2 ** 32 >= 1 - p;
  }

  /** By weight; the first is the simplest. */
  weighted<T>(list: readonly (readonly [weight: number, option: T])[]): T {
    let at = this.below(list.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, option] of list) {
      at -= weight;
      if (at < 0) return option;
    }
    return list[0]![1];
  }

  u64(): bigint {
    return (BigInt(this.word()) << 32n) | BigInt(this.word());
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }
}

const PAGE = 0x1000n;
const edges = [0n, 1n, 2n, 3n, 4n, 7n, 8n, 15n, 16n, 31n, 32n, 63n, 64n, 0x7fn, 0x80n, 0xffn, 0x100n, 0x101n];
const wide = [0xfffn, PAGE, PAGE + 1n, 2n * PAGE, 0x7fffn, 0x8000n, 0xffffn, 0x10000n];
const wider = [0x7fffffffn, 0x80000000n, 0xfffff000n, 0xffffffffn];
const widest = [
  ...[1n << 32n, (1n << 32n) + 1n, (1n << 36n) - 1n, 1n << 36n, 1n << 47n, (1n << 47n) - PAGE, 1n << 48n, 1n << 52n],
  ...[0xffff_8000_0000_0000n, 1n << 62n, (1n << 63n) - 1n, 1n << 63n, (1n << 64n) - PAGE, (1n << 64n) - 1n],
];

const interesting: Readonly<Record<number, readonly bigint[]>> = {
  1: edges.filter((value) => value < 256n),
  2: [...edges, ...wide].filter((value) => value < 65536n),
  4: [...edges, ...wide, ...wider],
  8: [...edges, ...wide, ...wider, ...widest],
};

/** A value of so many bytes, most often one at which some rule begins or ends; else one bit, else anything. */
export function oddValue(c: Choices, size: number): bigint {
  const bits = size * 8;
  const value = c.weighted([
    [6, () => c.pick(interesting[size] ?? interesting[8]!)],
    [2, () => 1n << BigInt(c.below(bits))],
    [1, () => BigInt.asUintN(bits, c.u64())],
  ])();
  return BigInt.asUintN(bits, value);
}
