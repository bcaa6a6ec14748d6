import type { MappedMemory } from './mapped-memory.ts';

/** The live `Memory` of a kernel, ordered by address: which one holds a range is asked for every pointer that passes the guard. */
export class LiveMemory {
  /** Sorted by address; ranges never overlap. */
  readonly #sorted: MappedMemory[] = [];

  get size(): number {
    return this.#sorted.length;
  }

  add(memory: MappedMemory): MappedMemory {
    this.#sorted.splice(this.#after(memory.address), 0, memory);
    return memory;
  }

  remove(memory: MappedMemory): void {
    const index = this.#after(memory.address) - 1;
    if (this.#sorted[index] === memory) this.#sorted.splice(index, 1);
  }

  has(memory: MappedMemory): boolean {
    return this.#sorted[this.#after(memory.address) - 1] === memory;
  }

  /** The one that holds all of [address, address + length), whole pages counted. */
  find(address: bigint, length: bigint): MappedMemory | undefined {
    const memory = this.#sorted[this.#after(address) - 1];
    return memory !== undefined && address + length <= memory.address + memory.span ? memory : undefined;
  }

  all(): readonly MappedMemory[] {
    return [...this.#sorted];
  }

  /** Index of the first whose address is above `address`. */
  #after(address: bigint): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#sorted[middle]!.address <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
