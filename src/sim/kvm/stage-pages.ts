import type { RamPage } from '../cpu/bus.ts';
import type { Memslot, Memslots } from './memslots.ts';

/** A leaf of the second-level page tables. */
interface Spte {
  readonly page: RamPage;
  writable: boolean;
}

/**
 * What hardware paging has mapped of guest memory, as far as dirty logging lets it be seen. A page counts as dirty when it is mapped writable, and
 * that is not only at a store: a load or a fetch that faults it in maps it writable too where the host page is. Once protected it stays
 * mapped, and only a store tells of it again.
 */
export class StagePages {
  readonly #memslots: Memslots;
  readonly #leaves = new Map<number, Map<number, Spte>>();
  /** `memslots.roots` they were mapped under: a slot that goes or moves takes all of them with it. */
  #roots = 0;

  constructor(memslots: Memslots) {
    this.#memslots = memslots;
  }

  /** An access to a frame and its host page; true where it has just become writable. */
  access({ as_id }: Memslot, gfn: number, page: RamPage, write: boolean, hostWritable: boolean): boolean {
    const leaves = this.#space(as_id);
    const leaf = leaves.get(gfn);
    // Another host page than before: the notifier has taken the leaf.
    if (leaf === undefined || leaf.page.u8.buffer !== page.u8.buffer || leaf.page.offset !== page.offset) {
      const writable = write || hostWritable;
      leaves.set(gfn, { page, writable });
      return writable;
    }
    if (!write || leaf.writable) return false;
    leaf.writable = true;
    return true;
  }

  /** kvm_mmu_slot_remove_write_access. */
  protect({ as_id, base_gfn, npages }: Memslot): void {
    for (const [gfn, leaf] of this.#space(as_id)) if (gfn >= base_gfn && gfn < base_gfn + npages) leaf.writable = false;
  }

  /** kvm_mmu_write_protect_pt_masked, of one page of the slot. */
  protectPage({ as_id, base_gfn }: Memslot, page: number): void {
    const leaf = this.#space(as_id).get(base_gfn + page);
    if (leaf !== undefined) leaf.writable = false;
  }

  #space(as_id: number): Map<number, Spte> {
    if (this.#roots !== this.#memslots.roots) this.#leaves.clear();
    this.#roots = this.#memslots.roots;
    let leaves = this.#leaves.get(as_id);
    if (leaves === undefined) this.#leaves.set(as_id, (leaves = new Map()));
    return leaves;
  }
}
