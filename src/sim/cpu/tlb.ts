/**
 * Remembered translations: linear page to the bytes behind it. Direct-mapped, 4 KiB entries whatever the page size. One `Tlb` for each way of
 * looking at the page tables (user, supervisor, supervisor under SMAP), so that a change of privilege drops nothing.
 *
 * 32-bit addresses are found by an integer tag, 64-bit ones by a double: both kinds share a slot's view, and filling a slot for one
 * empties it for the other.
 */
export const TLB_SIZE = 1024;

const NO_VIEW = new DataView(new ArrayBuffer(8));

export class Tlb {
  /** Tags of 32-bit linear addresses: address >>> 12. */
  readonly read: Int32Array = new Int32Array(TLB_SIZE).fill(-1);
  readonly write: Int32Array = new Int32Array(TLB_SIZE).fill(-1);
  /** Tags of 64-bit ones: the address of the page's first byte, as a signed number. */
  readonly longRead: Float64Array = new Float64Array(TLB_SIZE).fill(NaN);
  readonly longWrite: Float64Array = new Float64Array(TLB_SIZE).fill(NaN);
  readonly view: DataView[] = Array.from({ length: TLB_SIZE }, () => NO_VIEW);
  private filled = false;

  flush(): void {
    if (!this.filled) return;
    this.read.fill(-1);
    this.longRead.fill(NaN);
    this.flushWrites();
    this.filled = false;
  }

  /** From now on every store passes the slow way once more. */
  flushWrites(): void {
    this.write.fill(-1);
    this.longWrite.fill(NaN);
  }

  /** `linear`: any address in the page; unsigned 32 bits, or signed where `long`. */
  fill(linear: number, view: DataView, writable: boolean, long: boolean): void {
    const low = linear | 0;
    const slot = (low >>> 12) & (TLB_SIZE - 1);
    this.filled = true;
    if (long) {
      const page = linear - (low & 0xfff);
      if (writable) this.longWrite[slot] = page;
      else if (this.longWrite[slot] !== page) this.longWrite[slot] = NaN;
      this.longRead[slot] = page;
      this.read[slot] = this.write[slot] = -1;
    } else {
      const page = low >>> 12;
      if (writable) this.write[slot] = page;
      else if (this.write[slot] !== page) this.write[slot] = -1;
      this.read[slot] = page;
      this.longRead[slot] = this.longWrite[slot] = NaN;
    }
    this.view[slot] = view;
  }
}
