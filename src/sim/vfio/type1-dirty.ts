import { EACCES, EFAULT, EINVAL } from '../../uapi/sys.ts';
import * as v from '../../uapi/vfio.ts';
import { TASK_SIZE } from '../mm/user-memory.ts';
import type { Process } from '../process.ts';
import type { Type1 } from './type1.ts';
import type { VfioDma } from './type1-dma.ts';

/** DIRTY_BITMAP_PAGES_MAX: INT_MAX. */
export const MAX_BITMAP_PAGES = 0x7fff_ffffn;
/** DIRTY_BITMAP_SIZE_MAX, in bytes. */
export const MAX_BITMAP_SIZE = 0x1000_0000n;

const FLAGS = v.VFIO_IOMMU_DIRTY_PAGES_FLAG_START | v.VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP | v.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
const MAX = (1n << 64n) - 1n;

/** VFIO_IOMMU_DIRTY_PAGES. Version 1 refuses before it reads anything. */
export function dirtyPages(type1: Type1, p: Process, arg: bigint): number {
  if (!type1.v2) return -EACCES;
  const layout = v.vfio_iommu_type1_dirty_bitmap;
  const bytes = p.mm.copyFrom(arg, layout.size);
  if (bytes === null) return -EFAULT;
  const { argsz, flags } = layout.decode(bytes);
  if (argsz < layout.size || (flags & ~FLAGS) !== 0) return -EINVAL;
  if (flags === v.VFIO_IOMMU_DIRTY_PAGES_FLAG_START) return start(type1);
  if (flags === v.VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP) return stop(type1);
  return flags === v.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP ? getBitmap(type1, p, arg, argsz) : -EINVAL;
}

function start(type1: Type1): number {
  if (type1.dirtyTracking) return 0;
  for (const dma of type1.mappings.within()) if (dma.size / type1.pageSize > MAX_BITMAP_PAGES) return -EINVAL;
  type1.dirtyTracking = true;
  return 0;
}

function stop(type1: Type1): number {
  type1.dirtyTracking = false;
  for (const dma of type1.mappings.within()) dma.bitmap = undefined;
  return 0;
}

/** VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP: the range is given behind the header, and must cover each mapping it touches. */
function getBitmap(type1: Type1, p: Process, arg: bigint, argsz: number): number {
  const header = v.vfio_iommu_type1_dirty_bitmap.size;
  const layout = v.vfio_iommu_type1_dirty_bitmap_get;
  if (argsz < header + layout.size) return -EINVAL;
  const bytes = p.mm.copyFrom(arg + BigInt(header), layout.size);
  if (bytes === null) return -EFAULT;
  const { iova, size, bitmap } = layout.decode(bytes);
  if (size === 0n) return -EINVAL;
  const last = iova + size - 1n;
  if (last > MAX) return type1.wraps;
  if (!userRange(bitmap)) return -EINVAL;
  if (!bitmapFits(bitmap, size)) return -EINVAL;
  if (bitmap.pgsize !== type1.pageSize) return -EINVAL;
  if (((iova | size) & (type1.pageSize - 1n)) !== 0n) return -EINVAL;
  if (!type1.dirtyTracking) return -EINVAL;
  if (type1.cutsMapping(iova, last)) return -EINVAL;
  for (const dma of type1.mappings.within(iova, last)) {
    const error = copyOutDirty(type1, p, dma, iova, bitmap.data);
    if (error < 0) return error;
    clear(dma.bitmap!, Number(dma.size / type1.pageSize));
  }
  return 0;
}

/** access_ok of the bitmap. */
export function userRange({ data, size }: v.vfio_bitmap): boolean {
  return data + size <= BigInt(TASK_SIZE);
}

/** verify_bitmap_size: pages of the caller's size in `length` bytes, one bit for each, in whole 64-bit words. */
export function bitmapFits({ pgsize, size }: v.vfio_bitmap, length: bigint): boolean {
  const pages = length >> lowestBit(pgsize);
  return pages > 0n && size > 0n && size <= MAX_BITMAP_SIZE && size >= ((pages + 63n) / 64n) * 8n;
}

/** __ffs; of 0 what TZCNT and a shift by it make. */
function lowestBit(value: bigint): bigint {
  let bit = 0n;
  while (bit < 64n && ((value >> bit) & 1n) === 0n) bit++;
  return bit % 64n;
}

/**
 * update_user_bitmap: the pages of a mapping, at their place in the bitmap of a range that begins at `base`. Whole words are written; the bits below the mapping's
 * first one in its first word are taken from what the user has there. The shift happens in the mapping's own bitmap: bits that leave its pages stay in it until STOP.
 */
export function copyOutDirty(type1: Type1, p: Process, dma: VfioDma, base: bigint, data: bigint): number {
  const pages = Number(dma.size / type1.pageSize);
  const offset = Number((dma.first - base) / type1.pageSize);
  const shift = offset % 64;
  const words = (dma.bitmap ??= new Uint32Array(2 * (Math.ceil(pages / 64) + 1)));
  // A device that masters the bus may have written anywhere, unless its driver tells of the pages it pins.
  if (type1.nonPinnedGroups > 0 && dma.iommuMapped) set(words, pages);
  const count = Math.ceil((pages + shift) / 64);
  const address = data + BigInt(Math.floor(offset / 64) * 8);
  if (shift > 0) {
    shiftLeft(words, 2 * count, shift);
    const before = p.mm.copyFrom(address, 8);
    if (before === null) return -EFAULT;
    const own = new Uint32Array(before.buffer);
    words[0] = words[0]! | own[0]!;
    words[1] = words[1]! | own[1]!;
  }
  return p.mm.copyTo(address, new Uint8Array(words.buffer, 0, 8 * count)) ? 0 : -EFAULT;
}

/** bitmap_set of bits [0, count). */
function set(words: Uint32Array, count: number): void {
  words.fill(0xffff_ffff, 0, count >>> 5);
  if (count % 32 > 0) words[count >>> 5] = words[count >>> 5]! | (2 ** (count % 32) - 1);
}

/** bitmap_clear of bits [0, count). */
function clear(words: Uint32Array, count: number): void {
  words.fill(0, 0, count >>> 5);
  if (count % 32 > 0) words[count >>> 5] = words[count >>> 5]! & ~(2 ** (count % 32) - 1);
}

/** bitmap_shift_left in place, of `length` halves, by less than 64. */
function shiftLeft(words: Uint32Array, length: number, shift: number): void {
  const off = shift >>> 5;
  const rest = shift % 32;
  for (let to = length - 1; to >= 0; to--) {
    const from = to - off;
    const upper = from >= 0 ? words[from]! << rest : 0;
    const lower = rest > 0 && from > 0 ? words[from - 1]! >>> (32 - rest) : 0;
    words[to] = upper | lower;
  }
}
