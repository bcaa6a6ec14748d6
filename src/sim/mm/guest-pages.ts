import type { PageSet } from './page-set.ts';
import type { PageRef } from './pages.ts';

/** RFC. Memory that is a guest's alone (guest_memfd), for who wants its pages without a mapping. */
export interface GuestPages {
  /** Of the file. */
  readonly size: bigint;
  /** Pages that private DMA may reach. */
  readonly committed: PageSet;
  /** Called when pages may have gone: a hole was punched. */
  readonly notifiers: Set<(truncatedFrom?: number) => void>;
  /** A page, which is made where there is none; −errno. */
  guestPage(index: number): PageRef | number;
  has(index: number): boolean;
  /** A VM has the page in a slot, at a frame that is shared: whoever gets it by other tables than the guest's takes nothing from it. */
  isShared(index: number): boolean;
}
