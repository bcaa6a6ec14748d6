import { rangeError } from '../kernel/errors.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Memory } from '../kernel/memory.ts';
import { KVM_DIRTY_GFN_F_DIRTY, KVM_DIRTY_GFN_F_RESET, KVM_DIRTY_LOG_PAGE_OFFSET, kvm_dirty_gfn } from '../uapi/kvm.ts';

const PAGE_SIZE = 4096;
const ENTRY = kvm_dirty_gfn.size;

/** A page that was written to, as an entry of the ring names it. */
export interface DirtyPage {
  /** Bits 15:0 the slot id, bits 31:16 the address space. */
  readonly slot: number;
  /** The page of the slot. */
  readonly offset: bigint;
}

/**
 * The dirty ring of one vCPU (KVM_CAP_DIRTY_LOG_RING), mapped behind its `kvm_run`; made by `vcpu.mapDirtyRing`. `harvest` takes what the kernel
 * has pushed; the pages are tracked again, and the room is the kernel's again, with `vm.resetDirtyRings()`.
 */
export class DirtyRing {
  readonly memory: Memory;
  /** Entries. Some of them are kept free: the vCPU leaves with 'dirty_ring_full' before all are used. */
  readonly size: number;
  /** The flags are what the kernel and we hand the entries over with: loads acquire, stores release. */
  readonly #words: Int32Array | undefined;
  readonly #flags: number = kvm_dirty_gfn.offsetOf('flags');
  readonly #slot: number = kvm_dirty_gfn.offsetOf('slot');
  readonly #offset: number = kvm_dirty_gfn.offsetOf('offset');
  #next = 0;

  constructor(memory: Memory) {
    this.memory = memory;
    this.size = memory.length / ENTRY;
    const { bytes } = memory;
    this.#words = bytes && new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  }

  /** Maps the ring of a vCPU descriptor. `bytes` as given to KVM_ENABLE_CAP. */
  static map(kernel: Kernel, fd: number, bytes: number): DirtyRing {
    if (!Number.isInteger(bytes) || bytes < PAGE_SIZE || (bytes & (bytes - 1)) !== 0) {
      throw rangeError(
        `bytes must be what KVM_CAP_DIRTY_LOG_RING was enabled with, a power of two from ${PAGE_SIZE} on, not ${bytes}`,
      );
    }
    return new DirtyRing(kernel.mmap({ fd, offset: KVM_DIRTY_LOG_PAGE_OFFSET * PAGE_SIZE, length: bytes }));
  }

  /** The pages pushed since the last harvest, at most `most`, in order; their entries are marked for KVM_RESET_DIRTY_RINGS. */
  harvest(most: number = this.size): DirtyPage[] {
    const pages: DirtyPage[] = [];
    while (pages.length < most) {
      const at = this.#next * ENTRY;
      if ((this.#load(at + this.#flags) & (KVM_DIRTY_GFN_F_DIRTY | KVM_DIRTY_GFN_F_RESET)) !== KVM_DIRTY_GFN_F_DIRTY) break;
      pages.push({ slot: this.memory.read32(at + this.#slot), offset: this.memory.read64(at + this.#offset) });
      this.#store(at + this.#flags, KVM_DIRTY_GFN_F_RESET);
      this.#next = (this.#next + 1) % this.size;
    }
    return pages;
  }

  /** Unmaps it. Idempotent. */
  close(): void {
    this.memory.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #load(at: number): number {
    return this.#words === undefined ? this.memory.read32(at) : Atomics.load(this.#words, at / 4);
  }

  #store(at: number, value: number): void {
    if (this.#words === undefined) this.memory.write32(at, value);
    else Atomics.store(this.#words, at / 4, value);
  }
}
