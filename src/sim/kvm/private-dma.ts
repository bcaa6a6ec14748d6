/** RFC: what private DMA finds of a guest's memory: the pages of its guest_memfds that are committed to it. */
import { EFAULT, EINVAL } from '../../uapi/sys.ts';
import type { PageRef } from '../mm/pages.ts';
import { type GuestMemfdInode, guestPage } from './guest-memfd.ts';
import type { Memslots } from './memslots.ts';

/** A page of a guest_memfd, and where. */
interface Place {
  readonly inode: GuestMemfdInode;
  readonly index: number;
}

function placeOf(memslots: Memslots, gfn: number): Place | undefined {
  const slot = memslots.find(gfn);
  if (slot?.gmem?.file === undefined) return undefined;
  return { inode: slot.gmem.file.inode, index: slot.gmem.pgoff + gfn - slot.base_gfn };
}

/** The page of a frame is made and committed, whatever the frame's attribute: 0, −EINVAL where no slot can be private, or the guest_memfd's −errno. */
export function commitPage(memslots: Memslots, gfn: number): number {
  const slot = memslots.find(gfn);
  if (slot === undefined || (slot.gmem === undefined && slot.dmaBuf === undefined)) return -EINVAL;
  if (slot.gmem === undefined) return -EFAULT;
  const page = guestPage(slot.gmem, gfn - slot.base_gfn);
  if (typeof page === 'number') return page;
  const { inode, index } = placeOf(memslots, gfn)!;
  inode.committed.add(index, index + 1);
  return 0;
}

export function isCommitted(memslots: Memslots, gfn: number): boolean {
  const place = placeOf(memslots, gfn);
  return place?.inode.committed.has(place.index) ?? false;
}

/** The page of a private frame; null where there is none, and none is to be made. */
export function privatePage(memslots: Memslots, gfn: number, populate: boolean): PageRef | null {
  const place = placeOf(memslots, gfn);
  if (place === undefined || !(populate || place.inode.has(place.index))) return null;
  const page = place.inode.guestPage(place.index);
  return typeof page === 'number' ? null : page;
}

/** Frames [start, end) are shared from now on: private DMA to them ends, and so does the guest's private MMIO. */
export function endPrivate(memslots: Memslots, start: number, end: number): void {
  for (const { gmem, dmaBuf, base_gfn, npages } of memslots.list()) {
    if (base_gfn >= end) return;
    const first = Math.max(start - base_gfn, 0);
    const last = Math.min(end - base_gfn, npages);
    if (first >= last) continue;
    gmem?.file?.inode.committed.remove(gmem.pgoff + first, gmem.pgoff + last);
    dmaBuf?.unmapPrivate(start, end);
  }
}
