import { EINVAL } from '../../uapi/sys.ts';
import type { File } from '../file.ts';
import type { DmaTarget } from '../hardware/dma-target.ts';
import type { GuestPages } from '../mm/guest-pages.ts';
import { PageSet } from '../mm/page-set.ts';
import { PAGE_SIZE } from '../mm/pages.ts';
import type { Process } from '../process.ts';
import { PAGE } from './iova.ts';
import { DeviceOnlyPages } from './pages.ts';

/**
 * RFC (teeIo.pinnedGuestMemfd). Pages of a guest_memfd by offset, as the thread of IOMMU_VDEVICE_TSM_MAP wants them: made and committed to private DMA when a domain needs them, nobody charged,
 * not for the CPU. A hole that is punched takes them out of the page tables, which is what the file tells: they come back when they are mapped anew.
 *
 * What is private to the guest is not reached by these tables, which are the host's, but by the guest's own: hardware (RMP, secure EPT, granule protection) refuses the request.
 */
export class GuestMemfdPages extends DeviceOnlyPages {
  readonly hint: bigint;
  readonly #process: Process;
  readonly #file: File;
  readonly #memory: GuestPages;
  /** Pages of the file that domains have. */
  readonly #mapped: PageSet = new PageSet();

  private constructor(p: Process, file: File, memory: GuestPages, hint: bigint, writable: boolean) {
    super(writable);
    this.#process = p;
    this.#file = file.ref();
    this.#memory = memory;
    this.hint = hint;
    memory.notifiers.add(this.#punched);
  }

  /** −EINVAL where the file ends before the range does. */
  static import(
    p: Process,
    file: File,
    memory: GuestPages,
    start: bigint,
    length: bigint,
    writable: boolean,
  ): GuestMemfdPages | number {
    if (start + length > memory.size) return -EINVAL;
    return new GuestMemfdPages(p, file, memory, start - (start % PAGE), writable);
  }

  readonly #punched = (): void => {
    const end = Number(this.#memory.size / PAGE);
    for (const [first, last] of [...this.#mapped.within(0, end)])
      for (let index = first; index < last; index++) if (!this.#memory.has(index)) this.#mapped.remove(index, index + 1);
  };

  protected override release(): void {
    this.#memory.notifiers.delete(this.#punched);
    this.#file.unref(this.#process);
  }

  override target(byte: bigint, length: number): DmaTarget | undefined {
    const index = this.#index(Number(byte / PAGE));
    const page = this.#mapped.has(index) && this.#memory.isShared(index) ? this.#memory.guestPage(index) : -EINVAL;
    if (typeof page === 'number') return undefined;
    const within = Number(byte % PAGE);
    return { length: Math.min(length, PAGE_SIZE - within), page, at: page.offset + within };
  }

  override pin(first: number, last: number): number {
    for (let index = this.#index(first); index <= this.#index(last); index++) {
      const page = this.#memory.guestPage(index);
      if (typeof page === 'number') return page;
      this.#mapped.add(index, index + 1);
      this.#memory.committed.add(index, index + 1);
    }
    return 0;
  }

  #index(page: number): number {
    return Number(this.hint / PAGE) + page;
  }
}
