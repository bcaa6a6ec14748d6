import { kvm_coalesced_mmio, kvm_coalesced_mmio_ring } from '../uapi/kvm.ts';

const HEADER = kvm_coalesced_mmio_ring.size;
const ENTRY = kvm_coalesced_mmio.size;

/** A write the kernel has kept for later. */
export interface CoalescedWrite {
  /** The guest-physical address, or the port. */
  readonly phys_addr: bigint;
  readonly pio: boolean;
  readonly data: Uint8Array;
}

/**
 * The ring of coalesced MMIO and PIO writes: one of a VM, which every vCPU's mapping shows. Take what is in it before you look at an exit: the
 * writes it holds came earlier. When it is full (169 entries) the guest leaves as without it.
 */
export class CoalescedRing {
  readonly #page: Uint8Array;
  readonly #words: Int32Array;
  readonly #entries: number;
  readonly #first: number = kvm_coalesced_mmio_ring.offsetOf('first') / 4;
  readonly #last: number = kvm_coalesced_mmio_ring.offsetOf('last') / 4;

  /** `page`: the ring's page of a vCPU mapping. */
  constructor(page: Uint8Array) {
    this.#page = page;
    this.#words = new Int32Array(page.buffer, page.byteOffset, 2);
    this.#entries = Math.floor((page.length - HEADER) / ENTRY);
  }

  /** Writes that wait. */
  get length(): number {
    return (this.#index(this.#last) - this.#index(this.#first) + this.#entries) % this.#entries;
  }

  /** All writes that wait, in order, and takes them out of the ring. */
  drain(): CoalescedWrite[] {
    const writes: CoalescedWrite[] = [];
    let first = this.#index(this.#first);
    for (const last = this.#index(this.#last); first !== last; first = (first + 1) % this.#entries) {
      const at = HEADER + first * ENTRY;
      const { phys_addr, pio, len, data } = kvm_coalesced_mmio.decode(this.#page.subarray(at, at + ENTRY));
      writes.push({ phys_addr, pio: pio !== 0, data: data.slice(0, len) });
    }
    Atomics.store(this.#words, this.#first, first);
    return writes;
  }

  /** What is out of range was not put there by the kernel: the ring is empty then. */
  #index(word: number): number {
    return (Atomics.load(this.#words, word) >>> 0) % this.#entries;
  }
}
