import { EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, ENOSPC } from '../../uapi/sys.ts';
import * as v from '../../uapi/vfio.ts';
import type { Process } from '../process.ts';
import { allows } from './iova-list.ts';
import type { Type1 } from './type1.ts';
import { bitmapFits, copyOutDirty, MAX_BITMAP_PAGES, userRange } from './type1-dirty.ts';
import { VfioDma } from './type1-dma.ts';

const MAP_READ_WRITE = v.VFIO_DMA_MAP_FLAG_READ | v.VFIO_DMA_MAP_FLAG_WRITE;
const MAP_FLAGS = MAP_READ_WRITE | v.VFIO_DMA_MAP_FLAG_VADDR;
const UNMAP_EXCLUSIVE = v.VFIO_DMA_UNMAP_FLAG_ALL | v.VFIO_DMA_UNMAP_FLAG_VADDR;
const UNMAP_FLAGS = UNMAP_EXCLUSIVE | v.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
const MAX = (1n << 64n) - 1n;

/** VFIO_IOMMU_MAP_DMA: vfio_dma_do_map. What fails undoes all it did. */
export function mapDma(type1: Type1, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, v.vfio_iommu_type1_dma_map.size);
  if (bytes === null) return -EFAULT;
  const { argsz, flags, vaddr, iova, size } = v.vfio_iommu_type1_dma_map.decode(bytes);
  if (argsz < v.vfio_iommu_type1_dma_map.size || (flags & ~MAP_FLAGS) !== 0) return -EINVAL;
  if (size === 0n) return -EINVAL;
  if (iova + size - 1n > MAX || vaddr + size - 1n > MAX) return type1.wraps;
  const setVaddr = (flags & v.VFIO_DMA_MAP_FLAG_VADDR) !== 0;
  if (setVaddr === ((flags & MAP_READ_WRITE) !== 0)) return -EINVAL;
  if (((size | iova | vaddr) & (type1.pageSize - 1n)) !== 0n) return -EINVAL;
  const found = type1.mappings.overlap(iova, iova + size - 1n);
  if (setVaddr) return updateVaddr(type1, p, found, { vaddr, iova, size });
  if (found !== undefined) return -EEXIST;
  if (type1.dmaAvail === 0) return -ENOSPC;
  if (!allows(type1.iovas, iova, iova + size - 1n)) return -EINVAL;
  const read = (flags & v.VFIO_DMA_MAP_FLAG_READ) !== 0;
  const write = (flags & v.VFIO_DMA_MAP_FLAG_WRITE) !== 0;
  const dma = new VfioDma(p.mm, vaddr, iova, size, read, write);
  // Nobody looks at the memory of a container without an IOMMU.
  const error = type1.domains.length === 0 ? 0 : dma.pin();
  if (error < 0) return error;
  if (type1.dirtyTracking && size / type1.pageSize > MAX_BITMAP_PAGES) {
    dma.unpin();
    return -EINVAL;
  }
  type1.dmaAvail--;
  type1.mappings.insert(dma);
  return 0;
}

/** VFIO_DMA_MAP_FLAG_VADDR: the mapping as a whole, after its vaddr was made invalid. */
function updateVaddr(
  type1: Type1,
  p: Process,
  dma: VfioDma | undefined,
  { vaddr, iova, size }: { vaddr: bigint; iova: bigint; size: bigint },
): number {
  if (dma === undefined) return -ENOENT;
  if (!dma.vaddrInvalid || dma.first !== iova || dma.size !== size) return -EINVAL;
  const error = dma.changeOwner(p.mm);
  if (error < 0) return error;
  dma.vaddr = vaddr;
  dma.vaddrInvalid = false;
  type1.invalidVaddrs--;
  return 0;
}

interface Unmap {
  readonly flags: number;
  readonly first: bigint;
  readonly last: bigint;
  readonly bitmap: v.vfio_bitmap | undefined;
}

/** VFIO_IOMMU_UNMAP_DMA. `size` is written back where it succeeds: how many bytes went, or lost their vaddr. */
export function unmapDma(type1: Type1, p: Process, arg: bigint): number {
  const layout = v.vfio_iommu_type1_dma_unmap;
  const bytes = p.mm.copyFrom(arg, layout.size);
  if (bytes === null) return -EFAULT;
  const unmap = layout.view(bytes);
  const { argsz, flags } = unmap;
  if (argsz < layout.size || (flags & ~UNMAP_FLAGS) !== 0) return -EINVAL;
  const dirty = (flags & v.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) !== 0;
  if (dirty && (flags & UNMAP_EXCLUSIVE) !== 0) return -EINVAL;
  const bitmap = dirty ? copyBitmap(p, arg, argsz, unmap.size) : undefined;
  if (typeof bitmap === 'number') return bitmap;
  const range = checkUnmap(type1, { flags, iova: unmap.iova, size: unmap.size }, bitmap);
  if (typeof range === 'number') return range;
  const asked: Unmap = { flags, bitmap, first: unmap.iova, last: range.last };
  const unmapped = (flags & v.VFIO_DMA_UNMAP_FLAG_VADDR) !== 0 ? invalidate(type1, asked) : remove(type1, p, asked);
  if (typeof unmapped === 'number') return unmapped;
  unmap.size = BigInt.asUintN(64, unmapped);
  return p.mm.copyTo(arg, bytes) ? 0 : -EFAULT;
}

/** The `struct vfio_bitmap` behind the request, as far as it can be checked without the container. */
function copyBitmap(p: Process, arg: bigint, argsz: number, size: bigint): v.vfio_bitmap | number {
  const { size: minsz } = v.vfio_iommu_type1_dma_unmap;
  if (argsz < minsz + v.vfio_bitmap.size) return -EINVAL;
  const bytes = p.mm.copyFrom(arg + BigInt(minsz), v.vfio_bitmap.size);
  if (bytes === null) return -EFAULT;
  const bitmap = v.vfio_bitmap.decode(bytes);
  return userRange(bitmap) && bitmapFits(bitmap, size) ? bitmap : -EINVAL;
}

/** The checks of vfio_dma_do_unmap up to the mappings; the last address. */
function checkUnmap(
  type1: Type1,
  { flags, iova, size }: { flags: number; iova: bigint; size: bigint },
  bitmap: v.vfio_bitmap | undefined,
): { last: bigint } | number {
  const mask = type1.pageSize - 1n;
  if ((flags & v.VFIO_DMA_UNMAP_FLAG_VADDR) !== 0 && type1.hasEmulated) return -EBUSY;
  if ((iova & mask) !== 0n) return -EINVAL;
  if ((flags & v.VFIO_DMA_UNMAP_FLAG_ALL) !== 0) return iova !== 0n || size !== 0n ? -EINVAL : { last: MAX };
  if (size === 0n || (size & mask) !== 0n) return -EINVAL;
  const last = iova + size - 1n;
  if (last > MAX) return type1.wraps;
  if (bitmap !== undefined && (!type1.dirtyTracking || bitmap.pgsize !== type1.pageSize)) return -EINVAL;
  return type1.v2 && type1.cutsMapping(iova, last) ? -EINVAL : { last };
}

/** The mappings of a range; of version 1 none from the first on that it does not cover from its start. */
function* covered({ mappings, v2 }: Type1, { first, last }: Unmap): Generator<VfioDma, void> {
  for (const dma of mappings.within(first, last)) {
    if (!v2 && first > dma.first) return;
    yield dma;
  }
}

/** VFIO_DMA_UNMAP_FLAG_VADDR. One that is invalid already undoes what this call did. */
function invalidate(type1: Type1, asked: Unmap): bigint | number {
  const done: VfioDma[] = [];
  let size = 0n;
  for (const dma of covered(type1, asked)) {
    if (dma.vaddrInvalid) {
      for (const one of done) one.vaddrInvalid = false;
      type1.invalidVaddrs -= done.length;
      return -EINVAL;
    }
    dma.vaddrInvalid = true;
    type1.invalidVaddrs++;
    done.push(dma);
    size += dma.size;
  }
  return size;
}

/** What was removed before a bitmap could not be written stays removed. */
function remove(type1: Type1, p: Process, asked: Unmap): bigint | number {
  let size = 0n;
  for (const dma of covered(type1, asked)) {
    if (asked.bitmap !== undefined) {
      const error = copyOutDirty(type1, p, dma, asked.first, asked.bitmap.data);
      if (error < 0) return error;
    }
    size += dma.size;
    type1.remove(dma);
  }
  return size;
}
