import type { Backing, File } from '../file.ts';
import { PAGE_SIZE, PageStore } from './pages.ts';

/** `struct vm_area_struct`. Addresses are plain numbers: user space ends below 2^47. */
export interface Vma {
  start: number;
  end: number;
  /** Page of the backing that `start` shows. */
  page: number;
  /** PROT_* now. */
  prot: number;
  /** PROT_* that mprotect may give: VM_MAYREAD, VM_MAYWRITE, VM_MAYEXEC. */
  readonly may: number;
  /** MAP_SHARED of something writable (VM_SHARED), or shared and read-only: stores would reach the object. */
  readonly shared: boolean;
  readonly locked: boolean;
  /** Bytes of a page of its own kind: it can be cut between those alone. */
  readonly grain: number;
  /** What madvise has set of a VMA of huge pages: flags of advice.ts. */
  advised: number;
  readonly file: File | undefined;
  readonly backing: Backing;
  /** Private copies of a file's pages, by page of the address space (split VMAs share the store). */
  cow: PageStore | undefined;
}

/** Memory without a file. Nobody forks, so private and shared differ for madvise only. Ends with its last VMA. */
export class AnonymousMemory extends PageStore {
  #vmas = 0;

  constructor(length: number, shared: boolean) {
    super(length / PAGE_SIZE, { anonymous: !shared });
  }

  opened(): void {
    this.#vmas++;
  }

  closed(): void {
    if (--this.#vmas === 0) this.destroy();
  }
}

/** VMAs in order of address, none overlapping. */
export class VmaList {
  readonly #list: Vma[] = [];

  get count(): number {
    return this.#list.length;
  }

  find(address: number): Vma | undefined {
    const vma = this.#list[this.#above(address)];
    return vma !== undefined && vma.start <= address ? vma : undefined;
  }

  /** VMAs that share a byte with [start, end), ascending. */
  within(start: number, end: number): Vma[] {
    const from = this.#above(start);
    let to = from;
    while (to < this.#list.length && this.#list[to]!.start < end) to++;
    return this.#list.slice(from, to);
  }

  all(): readonly Vma[] {
    return this.#list;
  }

  insert(vma: Vma): void {
    this.#list.splice(this.#above(vma.start), 0, vma);
  }

  remove(vma: Vma): void {
    this.#list.splice(this.#list.indexOf(vma), 1);
  }

  /** Cuts at `address`, which lies inside `vma`; returns the upper part. */
  split(vma: Vma, address: number): Vma {
    const upper: Vma = { ...vma, start: address, page: vma.page + (address - vma.start) / PAGE_SIZE };
    vma.end = address;
    this.insert(upper);
    upper.file?.ref();
    upper.backing.opened?.(upper.shared, (upper.may & 2) !== 0);
    return upper;
  }

  /** The start of the highest gap of `length` bytes in [floor, ceiling), as vm_unmapped_area does it top-down, at a multiple of `align` with room to spare for it; or −1. */
  gap(length: number, floor: number, ceiling: number, align: number): number {
    const room = length + align - PAGE_SIZE;
    let top = ceiling;
    for (let i = this.#list.length - 1; i >= 0; i--) {
      const vma = this.#list[i]!;
      if (vma.start >= top) continue;
      if (top - vma.end >= room) break;
      top = vma.start;
    }
    if (top - room < floor) return -1;
    return Math.floor((top - length) / align) * align;
  }

  /** Index of the first VMA that ends above `address`. */
  #above(address: number): number {
    let low = 0;
    let high = this.#list.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#list[middle]!.end > address) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
