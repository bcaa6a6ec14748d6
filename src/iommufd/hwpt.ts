import { unsigned } from '../kernel/arguments.ts';
import { KernelError, rangeError } from '../kernel/errors.ts';
import type { Memory } from '../kernel/memory.ts';
import { addressOf } from '../kernel/memory-argument.ts';
import { withMemory, withRoom } from '../kernel/temporary.ts';
import {
  IOMMU_HWPT_DIRTY_TRACKING_ENABLE,
  IOMMU_HWPT_GET_DIRTY_BITMAP,
  IOMMU_HWPT_INVALIDATE,
  IOMMU_HWPT_SET_DIRTY_TRACKING,
  iommu_hwpt_get_dirty_bitmap,
  iommu_hwpt_invalidate,
  iommu_hwpt_set_dirty_tracking,
} from '../uapi/iommufd.ts';
import { EBADF, ENOTTY } from '../uapi/sys.ts';
import { encodeInvalidations, type InvalidateRequest } from './data.ts';
import { IommufdObject } from './object.ts';

export interface DirtyBitmapRequest {
  /** Bit 0 stands for the bytes from here on. */
  iova: bigint;
  /** In bytes. */
  length: number | bigint;
  /** Bytes a bit stands for: a power of two. */
  page_size: number | bigint;
  /** IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR. Default 0. */
  flags?: number;
}

/** An invalidation that stopped half-way: so many were done. */
export class InvalidationIncomplete extends KernelError {
  readonly done: number;

  constructor(errno: number, done: number, fd: number) {
    super(errno, 'ioctl', { request: 'IOMMU_HWPT_INVALIDATE', fd, note: `${done} of the requests were done` });
    this.name = 'InvalidationIncomplete';
    this.done = done;
  }
}

/** IOMMU_HWPT_INVALIDATE of a page table or a vIOMMU: throws InvalidationIncomplete where it ended early. */
export function invalidate(object: IommufdObject, request: InvalidateRequest): void {
  const { data_type, entries, entry_len } = encodeInvalidations(request);
  const { iommufd, liveId: id } = object;
  const entry_num = entry_len === 0 ? 0 : Math.floor(entries.length / entry_len);
  const struct = iommu_hwpt_invalidate;
  withMemory(iommufd.kernel, entries, (data_uptr) => {
    const bytes = struct.encode({ size: struct.size, hwpt_id: id, data_uptr, data_type, entry_len, entry_num });
    const result = iommufd.tryIoctl(IOMMU_HWPT_INVALIDATE, bytes);
    // Whoever knows the request writes entry_num back; a closed descriptor and a kernel before 6.8 leave it as it was.
    if (result === -EBADF || result === -ENOTTY)
      throw new KernelError(-result, 'ioctl', { request: 'IOMMU_HWPT_INVALIDATE', fd: iommufd.fd });
    if (result < 0) throw new InvalidationIncomplete(-result, struct.decode(bytes).entry_num, iommufd.fd);
  });
}

/** A page table: of an IO address space, or one that a guest keeps itself over such a one (nested). */
export class Hwpt extends IommufdObject {
  /** IOMMU_HWPT_SET_DIRTY_TRACKING. EOPNOTSUPP: it was not made with IOMMU_HWPT_ALLOC_DIRTY_TRACKING. Turning it on forgets what was dirty. */
  setDirtyTracking(enable: boolean): void {
    const struct = iommu_hwpt_set_dirty_tracking;
    const flags = enable ? IOMMU_HWPT_DIRTY_TRACKING_ENABLE : 0;
    this.iommufd.ioctl(IOMMU_HWPT_SET_DIRTY_TRACKING, struct.encode({ size: struct.size, flags, hwpt_id: this.liveId }));
  }

  /**
   * IOMMU_HWPT_GET_DIRTY_BITMAP: a bit for each `page_size` bytes from `iova` that a device has written to since the last time, in a new array; or ORed into `data`. The
   * kernel stops at the first hole, and says nothing of it.
   */
  getDirtyBitmap(request: DirtyBitmapRequest): Uint8Array;
  getDirtyBitmap(request: DirtyBitmapRequest, data: Memory): void;
  getDirtyBitmap(request: DirtyBitmapRequest, data?: Memory): Uint8Array | undefined {
    const { kernel } = this.iommufd;
    const length = unsigned(request.length, 'length');
    const page_size = unsigned(request.page_size, 'page_size');
    if (page_size === 0n || (page_size & (page_size - 1n)) !== 0n)
      throw rangeError(`page_size must be a power of two, not ${page_size}`);
    if (data !== undefined) {
      this.#getDirtyBitmap({ ...request, length, page_size }, addressOf(kernel, data));
      return undefined;
    }
    const bits = (length + page_size - 1n) / page_size;
    const bytes = Number((bits + 63n) / 64n) * 8;
    return withRoom(kernel, bytes, (room) => {
      this.#getDirtyBitmap({ ...request, length, page_size }, room.address);
      return room.read(0, bytes);
    });
  }

  /** IOMMU_HWPT_INVALIDATE: a nested page table's cached entries are forgotten. Throws InvalidationIncomplete where it stopped half-way. */
  invalidate(request: InvalidateRequest): void {
    invalidate(this, request);
  }

  #getDirtyBitmap(
    { iova, length, page_size, flags = 0 }: DirtyBitmapRequest & { length: bigint; page_size: bigint },
    data: bigint,
  ): void {
    const struct = iommu_hwpt_get_dirty_bitmap;
    const bytes = struct.encode({ size: struct.size, hwpt_id: this.liveId, flags, iova, length, page_size, data });
    this.iommufd.ioctl(IOMMU_HWPT_GET_DIRTY_BITMAP, bytes);
  }
}
