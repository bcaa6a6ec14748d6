import type { Memory } from '../kernel/memory.ts';
import { addressOf } from '../kernel/memory-argument.ts';
import type { vfio_bitmap } from '../uapi/vfio.ts';

/** Where the kernel writes a bit per page: an address with `size`, or a `Memory` (all of it, unless `size` says less). */
export interface DirtyBitmap {
  /** Bytes a bit stands for: the smallest page of the IOMMU. */
  pgsize: bigint;
  /** In bytes, a multiple of 8. */
  size?: bigint;
  data: bigint | Memory;
}

export function plainBitmap({ pgsize, size, data }: DirtyBitmap): vfio_bitmap {
  if (typeof data === 'bigint') return { pgsize, size: size ?? 0n, data };
  return { pgsize, size: size ?? BigInt(data.length), data: addressOf(data) };
}
