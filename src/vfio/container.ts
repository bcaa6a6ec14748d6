import { wide } from '../kernel/arguments.ts';
import { typeError } from '../kernel/errors.ts';
import { Handle, withWord } from '../kernel/handle.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Memory } from '../kernel/memory.ts';
import { rangeOf } from '../kernel/memory-argument.ts';
import type { FdKind } from '../uapi/ioctls.ts';
import {
  VFIO_CHECK_EXTENSION,
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_WRITE,
  VFIO_DMA_UNMAP_FLAG_ALL,
  VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
  VFIO_GET_API_VERSION,
  VFIO_IOMMU_DIRTY_PAGES,
  VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
  VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION,
  VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
  VFIO_IOMMU_UNMAP_DMA,
  VFIO_SET_IOMMU,
  vfio_bitmap,
  vfio_iommu_type1_dirty_bitmap,
  vfio_iommu_type1_dirty_bitmap_get,
  vfio_iommu_type1_dma_map,
  vfio_iommu_type1_dma_unmap,
  vfio_iommu_type1_info,
  vfio_iommu_type1_info_cap_iova_range,
  vfio_iommu_type1_info_cap_migration,
  vfio_iommu_type1_info_dma_avail,
  type vfio_iova_range,
} from '../uapi/vfio.ts';
import { type DirtyBitmap, plainBitmap } from './bitmap.ts';
import { decodeChain, getChained, type RawCapability } from './capabilities.ts';
import { printable } from './show.ts';

/** What VFIO_IOMMU_GET_INFO tells of a type1 IOMMU. */
export interface IommuInfo {
  /** VFIO_IOMMU_INFO_*. */
  readonly flags: number;
  /** A bit for each size of page the IOMMU can map. */
  readonly iova_pgsizes: bigint;
  readonly caps: {
    /** What MAP_DMA takes: ends are inclusive. Absent where anything goes (mediated devices alone). */
    readonly iova_ranges?: readonly vfio_iova_range[];
    readonly migration?: { readonly flags: number; readonly pgsize_bitmap: bigint; readonly max_dirty_bitmap_size: bigint };
    /** How many mappings more. */
    readonly dma_avail?: number;
    readonly other: readonly RawCapability[];
  };
}

/** A mapping of process memory: an address, or a `Memory` (all of it, or `size` bytes from `offset`). */
export type DmaMap = {
  /** VFIO_DMA_MAP_FLAG_*, seen from the device; default READ and WRITE. */
  flags?: number;
  iova: bigint;
} & ({ vaddr: bigint; size: number | bigint } | { memory: Memory; offset?: number | bigint; size?: number | bigint });

/** A range, or with VFIO_DMA_UNMAP_FLAG_ALL everything. */
export type DmaUnmap =
  | {
      /** VFIO_DMA_UNMAP_FLAG_*; GET_DIRTY_BITMAP is added where there is a `bitmap`. Default 0. */
      flags?: number;
      iova: bigint;
      size: number | bigint;
      bitmap?: DirtyBitmap;
    }
  | { flags: number };

/** VFIO_IOMMU_DIRTY_PAGES_FLAG_START, …_STOP, or …_GET_BITMAP with a range and where to write. */
export type DirtyPagesRequest = { flags: number } | { flags: number; iova: bigint; size: number | bigint; bitmap: DirtyBitmap };

/**
 * A container: one address space for the DMA of the groups that are set into it. Its mappings live until the last group leaves; closing the
 * descriptor ends none of them. The same ioctls are served by `/dev/iommu`, with differences (drivers/iommu/iommufd/vfio_compat.c).
 */
export class VfioContainer extends Handle {
  /** Opens `/dev/vfio/vfio` of this kernel: every open is a new container. */
  static open(kernel: Kernel, path = '/dev/vfio/vfio'): VfioContainer {
    return new VfioContainer(kernel, kernel.open(path));
  }

  /** A container descriptor from outside. `close()` closes it; `kernel.close()` does not. */
  static fromFd(kernel: Kernel, fd: number): VfioContainer {
    return new VfioContainer(kernel, kernel.adopt(fd));
  }

  protected override get kind(): FdKind {
    return 'vfio-container';
  }

  /** VFIO_GET_API_VERSION: 0, on every kernel. */
  getApiVersion(): number {
    return this.ioctl(VFIO_GET_API_VERSION);
  }

  /** VFIO_CHECK_EXTENSION: VFIO_TYPE1v2_IOMMU, VFIO_UNMAP_ALL …; 0 for what is absent. Depends on the groups that are set. */
  checkExtension(extension: number): number {
    return withWord(this, VFIO_CHECK_EXTENSION, extension, 'extension');
  }

  /**
   * VFIO_SET_IOMMU: VFIO_TYPE1v2_IOMMU, VFIO_TYPE1_IOMMU or, for groups without an IOMMU, VFIO_NOIOMMU_IOMMU. EINVAL before a group is set, and the
   * second time; ENODEV for a type these groups have not; EPERM where a device could forge interrupts (no interrupt remapping) and
   * `vfio_iommu_type1.allow_unsafe_interrupts` is off.
   */
  setIommu(type: number): void {
    withWord(this, VFIO_SET_IOMMU, type, 'type');
  }

  /** VFIO_IOMMU_GET_INFO with its capabilities. EINVAL before `setIommu`. */
  getInfo(): IommuInfo {
    const empty = { argsz: 0, flags: 0, iova_pgsizes: 0n, cap_offset: 0 };
    const answer = getChained(this, VFIO_IOMMU_GET_INFO, vfio_iommu_type1_info, empty);
    const { flags, iova_pgsizes } = answer.info;
    return printable('vfio_iommu_type1_info', { flags, iova_pgsizes, caps: decodeChain<IommuInfo['caps']>(answer, iommuCaps) });
  }

  /**
   * VFIO_IOMMU_MAP_DMA: the device reaches this memory at `iova` from now on. Its pages are pinned, and the kernel layer keeps them mapped, also
   * when the `Memory` is closed, until the mapping is undone or the container closed. EINVAL: not whole IOMMU pages, or outside the IOVA ranges. EEXIST: overlaps.
   * ENOSPC: `dma_entry_limit` mappings. EFAULT: no such memory. ENOMEM: RLIMIT_MEMLOCK.
   */
  mapDma(map: DmaMap): void {
    const { flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, ...rest } = map;
    const plain = 'memory' in rest ? plainMap(this.kernel, rest) : { ...rest, size: wide(rest.size, 'size') };
    this.ioctl(VFIO_IOMMU_MAP_DMA, vfio_iommu_type1_dma_map.encode({ argsz: vfio_iommu_type1_dma_map.size, flags, ...plain }));
  }

  /**
   * VFIO_IOMMU_UNMAP_DMA: how many bytes were unmapped. Whole mappings only: with VFIO_TYPE1v2_IOMMU a range that cuts one is EINVAL. With a
   * `bitmap` the pages that were dirty are reported before they go.
   */
  unmapDma(unmap: DmaUnmap): bigint {
    const { flags = 0, bitmap, size, ...range } = unmap as Extract<DmaUnmap, { iova: bigint }>;
    const everything = (flags & VFIO_DMA_UNMAP_FLAG_ALL) !== 0;
    const data = bitmap === undefined ? new Uint8Array(0) : vfio_bitmap.encode(plainBitmap(this.kernel, bitmap));
    const bytes = vfio_iommu_type1_dma_unmap.encode({
      argsz: vfio_iommu_type1_dma_unmap.size + data.length,
      flags: bitmap === undefined ? flags : flags | VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
      data,
      ...(everything ? { iova: 0n, ...(range as object) } : range),
      size: everything ? wide(size ?? 0n, 'size') : wide(size, 'size'),
    });
    this.ioctl(VFIO_IOMMU_UNMAP_DMA, bytes);
    return vfio_iommu_type1_dma_unmap.decode(bytes).size;
  }

  /**
   * VFIO_IOMMU_DIRTY_PAGES: tracking on (FLAG_START), off (FLAG_STOP), or the bitmap of a range of whole mappings (FLAG_GET_BITMAP), a bit for each
   * page of `pgsize` bytes. Every page of a device that does not tell which it wrote to is dirty, every time. EACCES with VFIO_TYPE1_IOMMU.
   */
  dirtyPages(request: DirtyPagesRequest): void {
    const { flags, ...range } = request;
    const data =
      'bitmap' in range
        ? vfio_iommu_type1_dirty_bitmap_get.encode({
            ...{ ...range, size: wide(range.size, 'size') },
            bitmap: plainBitmap(this.kernel, range.bitmap),
          })
        : new Uint8Array((flags & VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP) === 0 ? 0 : vfio_iommu_type1_dirty_bitmap_get.size);
    const argsz = vfio_iommu_type1_dirty_bitmap.size + data.length;
    this.ioctl(VFIO_IOMMU_DIRTY_PAGES, vfio_iommu_type1_dirty_bitmap.encode({ argsz, flags, data }));
  }
}

const iommuCaps = {
  [VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE]: [
    'iova_ranges',
    (bytes: Uint8Array, { at }: { at: number }) => vfio_iommu_type1_info_cap_iova_range.decode(bytes, at).iova_ranges,
  ],
  [VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION]: [
    'migration',
    (bytes: Uint8Array, { at }: { at: number }) => {
      const { flags, pgsize_bitmap, max_dirty_bitmap_size } = vfio_iommu_type1_info_cap_migration.decode(bytes, at);
      return { flags, pgsize_bitmap, max_dirty_bitmap_size };
    },
  ],
  [VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL]: [
    'dma_avail',
    (bytes: Uint8Array, { at }: { at: number }) => vfio_iommu_type1_info_dma_avail.decode(bytes, at).avail,
  ],
} as const;

function plainMap(kernel: Kernel, map: Extract<DmaMap, { memory: Memory }>): { vaddr: bigint; size: bigint; iova: bigint } {
  const { memory, offset, size, ...rest } = map;
  if ('vaddr' in rest) throw typeError('mapDma takes memory or vaddr, not both');
  const { userspace_addr, memory_size } = rangeOf(kernel, memory, offset, size);
  return { ...rest, vaddr: userspace_addr, size: memory_size };
}
