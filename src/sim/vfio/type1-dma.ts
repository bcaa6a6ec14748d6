import { EFAULT, ENOMEM } from '../../uapi/sys.ts';
import type { DmaTarget } from '../hardware/dma-target.ts';
import type { Interval } from '../interval-tree.ts';
import type { AddressSpace } from '../mm/address-space.ts';
import { PAGE_SHIFT, PAGE_SIZE } from '../mm/pages.ts';
import type { PinnedRange } from '../mm/pin.ts';

const PAGE_MASK = BigInt(PAGE_SIZE - 1);

/** `struct vfio_dma`: one VFIO_IOMMU_MAP_DMA. It belongs to the container; the memory is that of the process that made it. */
export class VfioDma implements Interval {
  readonly first: bigint;
  readonly last: bigint;
  vaddr: bigint;
  readonly read: boolean;
  readonly write: boolean;
  vaddrInvalid = false;
  /** Pinned, and in every domain. */
  iommuMapped = false;
  /** Dirty pages, in 64-bit words of two halves; undefined: none yet. */
  bitmap: Uint32Array | undefined;
  #mm: AddressSpace;
  #pieces: readonly PinnedRange[] = [];
  /** Pages charged to the mm. */
  #locked = 0;

  constructor(mm: AddressSpace, vaddr: bigint, iova: bigint, size: bigint, read: boolean, write: boolean) {
    this.first = iova;
    this.last = iova + size - 1n;
    this.vaddr = vaddr;
    this.read = read;
    this.write = write;
    this.#mm = mm;
  }

  get size(): bigint {
    return this.last - this.first + 1n;
  }

  get mm(): AddressSpace {
    return this.#mm;
  }

  /**
   * vfio_pin_map_dma: page by page in the kernel, so that what comes first decides: −EFAULT for a page that is not there, −ENOMEM where RLIMIT_MEMLOCK is used up.
   * Device memory is not charged.
   */
  pin(): number {
    const length = Number(this.size);
    const pieces = this.#mm.pin(this.vaddr, length, this.write);
    if (typeof pieces === 'number') {
      const before = pieces === -EFAULT ? this.#mm.pinnable(this.vaddr, length, this.write) : 0;
      return this.#mm.canLock(before) ? pieces : -ENOMEM;
    }
    const locked = pieces.reduce((sum, piece) => sum + (piece.device === undefined ? piece.pages : 0), 0);
    const error = this.#mm.chargeLocked(locked);
    if (error < 0) {
      for (const piece of pieces) piece.unpin();
      return error;
    }
    this.#pieces = pieces;
    this.#locked = locked;
    this.iommuMapped = true;
    return 0;
  }

  unpin(): void {
    for (const piece of this.#pieces) piece.unpin();
    this.#mm.unchargeLocked(this.#locked);
    this.#pieces = [];
    this.#locked = 0;
    this.iommuMapped = false;
  }

  /** vfio_change_dma_owner: the charge goes to the mm of the process that gives a new vaddr. */
  changeOwner(mm: AddressSpace): number {
    if (mm === this.#mm) return 0;
    const error = mm.chargeLocked(this.#locked);
    if (error < 0) return error;
    this.#mm.unchargeLocked(this.#locked);
    this.#mm = mm;
    return 0;
  }

  translate(iova: bigint, length: number): DmaTarget {
    const offset = iova - this.first;
    let page = Number(offset >> BigInt(PAGE_SHIFT));
    const within = Number(offset & PAGE_MASK);
    let piece = this.#pieces[0]!;
    for (let i = 0; page >= piece.pages; piece = this.#pieces[++i]!) page -= piece.pages;
    if (piece.device !== undefined) {
      const rest = (piece.pages - page) * PAGE_SIZE - within;
      return { length: Math.min(length, rest), device: piece.device, offset: piece.device.offset + page * PAGE_SIZE + within };
    }
    const ref = piece.ref(page);
    return { length: Math.min(length, PAGE_SIZE - within), page: ref, at: ref.offset + within };
  }
}
