import type { Kernel } from '../kernel/kernel.ts';
import type { Memory } from '../kernel/memory.ts';
import { addressOf } from '../kernel/memory-argument.ts';

/** Where KVM_GET_DIRTY_LOG puts the bitmap of a slot: a bit a page, in whole 64-bit words. */
export interface DirtyLog {
  /** Bits 15:0 the slot id, bits 31:16 the address space. */
  slot: number;
  /** Memory of 8 bytes for each 64 pages of the slot, or begun 64; or its address. */
  dirty_bitmap: Memory | bigint;
}

/** Which pages KVM_CLEAR_DIRTY_LOG clears: those whose bits are set in the bitmap. */
export interface ClearDirtyLog extends DirtyLog {
  /** The page of the slot that bit 0 stands for, a multiple of 64; default 0. */
  first_page?: number | bigint;
  /** Pages, from `first_page` on: a multiple of 64, or all to the end of the slot. */
  num_pages: number;
}

/**
 * The numbers of the pages whose bits are set, ascending: what a bitmap of KVM_GET_DIRTY_LOG says of a slot, one of IOMMU_HWPT_GET_DIRTY_BITMAP, VFIO_IOMMU_DIRTY_PAGES and
 * DMA_LOGGING_REPORT of what lies from its first IOVA on.
 */
export function* dirtyPages(bitmap: Uint8Array): Generator<number, undefined> {
  for (let at = 0; at < bitmap.length; at++) {
    for (let bits = bitmap[at]!; bits !== 0; bits &= bits - 1) yield at * 8 + 31 - Math.clz32(bits & -bits);
  }
}

/** Where this kernel finds the bitmap. */
export function bitmapAddress(kernel: Kernel, bitmap: Memory | bigint): bigint {
  return typeof bitmap === 'bigint' ? bitmap : addressOf(kernel, bitmap);
}
