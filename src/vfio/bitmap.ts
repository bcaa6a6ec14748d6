import { wide } from '../kernel/arguments.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Memory } from '../kernel/memory.ts';
import { addressOf } from '../kernel/memory-argument.ts';
import type { vfio_bitmap } from '../uapi/vfio.ts';

/** Where the kernel writes a bit per page: an address with `size`, or a `Memory` (all of it, unless `size` says less). */
export interface DirtyBitmap {
  /** Bytes a bit stands for: the smallest page of the IOMMU. */
  pgsize: number | bigint;
  /** In bytes, a multiple of 8. */
  size?: number | bigint;
  data: bigint | Memory;
}

export function plainBitmap(kernel: Kernel, { pgsize, size, data }: DirtyBitmap): vfio_bitmap {
  const whole = typeof data === 'bigint' ? 0 : data.length;
  return {
    pgsize: wide(pgsize, 'pgsize'),
    size: wide(size ?? whole, 'size'),
    data: typeof data === 'bigint' ? data : addressOf(kernel, data),
  };
}
