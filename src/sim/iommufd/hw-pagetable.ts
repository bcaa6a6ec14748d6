import {
  IOMMU_HW_CAP_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_HWPT_DATA_NONE,
  IOMMU_HWPT_DIRTY_TRACKING_ENABLE,
  IOMMU_HWPT_FAULT_ID_VALID,
  IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR,
  type iommu_hwpt_alloc,
  type iommu_hwpt_get_dirty_bitmap,
  type iommu_hwpt_invalidate,
  type iommu_hwpt_set_dirty_tracking,
} from '../../uapi/iommufd.ts';
import { EFAULT, EINVAL, ENOENT, EOPNOTSUPP, EOVERFLOW } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import type { Call } from './call.ts';
import type { Idev } from './device.ts';
import { PagingDomain } from './domain.ts';
import type { HardwareDomain, Invalidated, NestedDomain, UserArray, UserData } from './driver.ts';
import type { FaultQueue } from './fault-queue.ts';
import { Ioas } from './ioas.ts';
import { lastOf, PAGE } from './iova.ts';
import { IommufdObject } from './objects.ts';
import { Viommu } from './viommu.ts';

/** What an IOMMU knows: any number of paging HWPTs flags. */
const PAGING_FLAGS =
  IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_ALLOC_DIRTY_TRACKING | IOMMU_HWPT_FAULT_ID_VALID | IOMMU_HWPT_ALLOC_PASID;
const NESTED_FLAGS = IOMMU_HWPT_FAULT_ID_VALID | IOMMU_HWPT_ALLOC_PASID;
/** IOMMU_HWPT_INVALIDATE takes so many requests at most. */
const MAX_REQUESTS = 1 << 19;

/** `struct iommufd_hw_pagetable`. */
export abstract class Hwpt extends IommufdObject {
  abstract readonly domain: HardwareDomain;
  /** The IO address space below. */
  abstract readonly ioas: Ioas;
  /** The IOMMU it was made for. */
  readonly iommu: object;
  /** IOMMU_HWPT_ALLOC_PASID: fit for PASIDs, and for a device that uses them. */
  readonly pasidCompatible: boolean;
  #fault: FaultQueue | undefined;

  constructor(iommu: object, flags: number) {
    super();
    this.iommu = iommu;
    this.pasidCompatible = (flags & IOMMU_HWPT_ALLOC_PASID) !== 0;
  }

  get fault(): FaultQueue | undefined {
    return this.#fault;
  }

  set fault(fault: FaultQueue) {
    this.#fault = fault;
    fault.users++;
  }

  override destroy(_p: Process): void {
    if (this.#fault !== undefined) this.#fault.users--;
  }

  /** Attached no more: an automatic one goes with its last device. */
  put(_p: Process): void {
    this.users--;
  }
}

export class HwptPaging extends Hwpt {
  override readonly kind = 'hwpt-paging';
  override readonly ioas: Ioas;
  override readonly domain: PagingDomain;
  /** Made by an attach to an IOAS. */
  readonly auto: boolean;
  readonly nestParent: boolean;

  constructor(ioas: Ioas, iommu: object, domain: PagingDomain, flags: number, auto: boolean) {
    super(iommu, flags);
    this.ioas = ioas;
    this.domain = domain;
    this.auto = auto;
    this.nestParent = (flags & IOMMU_HWPT_ALLOC_NEST_PARENT) !== 0;
    ioas.users++;
    ioas.hwpts.push(this);
  }

  override destroy(p: Process): void {
    super.destroy(p);
    const { ioas } = this;
    ioas.hwpts.splice(ioas.hwpts.indexOf(this), 1);
    if (ioas.iopt.domains.includes(this.domain)) ioas.iopt.removeDomain(this.domain);
    this.domain.format.free?.();
    ioas.users--;
  }

  override put(p: Process): void {
    super.put(p);
    if (this.auto && this.users === 0) this.ioas.ctx.objects.drop(p, this);
  }
}

export class HwptNested extends Hwpt {
  override readonly kind = 'hwpt-nested';
  override readonly domain: NestedDomain;
  /** What it is made on, and holds. */
  readonly parent: HwptPaging | Viommu;

  constructor(parent: HwptPaging | Viommu, iommu: object, domain: NestedDomain, flags: number) {
    super(iommu, flags);
    this.parent = parent;
    this.domain = domain;
    parent.users++;
  }

  override get ioas(): Ioas {
    return this.parent instanceof Viommu ? this.parent.hwpt.ioas : this.parent.ioas;
  }

  override destroy(p: Process): void {
    super.destroy(p);
    this.parent.users--;
  }
}

/**
 * iommufd_hwpt_paging_alloc: a page table of the IOAS for the device. `attach` is asked once there is one, before it is filled. The id is the caller's.
 */
export function pagingAlloc(
  p: Process,
  ioas: Ioas,
  idev: Idev,
  flags: number,
  data: UserData | undefined,
  auto: boolean,
  attach?: (hwpt: HwptPaging) => number,
): HwptPaging | number {
  const { ops } = idev;
  if (flags & ~PAGING_FLAGS) return -EOPNOTSUPP;
  if (flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING && !(ops.capabilities & BigInt(IOMMU_HW_CAP_DIRTY_TRACKING))) return -EOPNOTSUPP;
  if (flags & IOMMU_HWPT_FAULT_ID_VALID && flags & IOMMU_HWPT_ALLOC_NEST_PARENT) return -EOPNOTSUPP;
  const format = ops.allocPaging(p, flags & ~IOMMU_HWPT_FAULT_ID_VALID, data);
  if (typeof format === 'number') return format;
  const hwpt = new HwptPaging(ioas, ops.iommu, new PagingDomain(ioas.iopt, format), flags, auto);
  let error = attach?.(hwpt) ?? 0;
  const attached = attach !== undefined && error === 0;
  if (error === 0) error = ioas.iopt.addDomain(hwpt.domain);
  if (error === 0) return hwpt;
  if (attached) idev.detachFrom(p, 0, hwpt);
  hwpt.destroy(p);
  return error;
}

function nestedAlloc(p: Process, parent: HwptPaging, idev: Idev, flags: number, data: UserData | undefined) {
  const { ops } = idev;
  if (flags & ~NESTED_FLAGS || data === undefined || ops.allocNested === undefined) return -EOPNOTSUPP;
  if (parent.auto || !parent.nestParent || parent.iommu !== ops.iommu) return -EINVAL;
  const domain = ops.allocNested(p, parent.domain, flags & ~IOMMU_HWPT_FAULT_ID_VALID, data);
  return typeof domain === 'number' ? domain : new HwptNested(parent, ops.iommu, domain, flags);
}

function viommuAlloc(p: Process, viommu: Viommu, idev: Idev, flags: number, data: UserData | undefined) {
  if (viommu.iommu !== idev.ops.iommu) return -EINVAL;
  if (flags & ~NESTED_FLAGS || data === undefined || viommu.ops.allocNested === undefined) return -EOPNOTSUPP;
  const domain = viommu.ops.allocNested(p, viommu, flags & ~IOMMU_HWPT_FAULT_ID_VALID, data);
  return typeof domain === 'number' ? domain : new HwptNested(viommu, viommu.iommu, domain, flags);
}

/** IOMMU_HWPT_ALLOC. The data's type and length must agree before any id is looked at, the fault queue comes last. */
export function hwptAlloc(call: Call, cmd: iommu_hwpt_alloc): number {
  const { ctx, p } = call;
  const { objects } = ctx;
  const { flags, data_type, data_len } = cmd;
  if (cmd.__reserved !== 0) return -EOPNOTSUPP;
  if ((data_type === IOMMU_HWPT_DATA_NONE) !== (data_len === 0)) return -EINVAL;
  const idev = objects.get<Idev>(cmd.dev_id, 'device');
  if (idev === undefined) return -ENOENT;
  const target = objects.any(cmd.pt_id);
  const data = data_len === 0 ? undefined : { type: data_type, uptr: cmd.data_uptr, length: data_len };
  const id = objects.reserve();
  let hwpt: Hwpt | number = -EINVAL;
  if (target instanceof Ioas) hwpt = pagingAlloc(p, target, idev, flags, data, false);
  else if (target instanceof HwptPaging) hwpt = nestedAlloc(p, target, idev, flags, data);
  else if (target instanceof Viommu) hwpt = viommuAlloc(p, target, idev, flags, data);
  if (typeof hwpt === 'number') {
    objects.free(id);
    return hwpt;
  }
  let error = 0;
  if (flags & IOMMU_HWPT_FAULT_ID_VALID) {
    const fault = objects.get<FaultQueue>(cmd.fault_id, 'fault');
    if (fault === undefined) error = -ENOENT;
    else hwpt.fault = fault;
  }
  cmd.out_hwpt_id = id;
  if (error === 0) error = call.respond();
  if (error === 0) {
    objects.publish(id, hwpt);
    return 0;
  }
  objects.free(id);
  hwpt.destroy(p);
  return error;
}

/** IOMMU_HWPT_SET_DIRTY_TRACKING. */
export function hwptSetDirtyTracking({ ctx }: Call, cmd: iommu_hwpt_set_dirty_tracking): number {
  if (cmd.flags & ~IOMMU_HWPT_DIRTY_TRACKING_ENABLE) return -EOPNOTSUPP;
  const hwpt = ctx.objects.get<HwptPaging>(cmd.hwpt_id, 'hwpt-paging');
  if (hwpt === undefined) return -ENOENT;
  if (!hwpt.domain.format.dirtyTracking) return -EOPNOTSUPP;
  hwpt.domain.track((cmd.flags & IOMMU_HWPT_DIRTY_TRACKING_ENABLE) !== 0);
  return 0;
}

/** IOMMU_HWPT_GET_DIRTY_BITMAP. */
export function hwptGetDirtyBitmap({ ctx, p }: Call, cmd: iommu_hwpt_get_dirty_bitmap): number {
  const { flags, iova, length, page_size, data } = cmd;
  if (flags & ~IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR || cmd.__reserved !== 0) return -EOPNOTSUPP;
  const hwpt = ctx.objects.get<HwptPaging>(cmd.hwpt_id, 'hwpt-paging');
  if (hwpt === undefined) return -ENOENT;
  const last = length === 0n && iova === 0n ? (1n << 64n) - 1n : length === 0n ? undefined : lastOf(iova, length);
  if (last === undefined) return -EOVERFLOW;
  const { alignment } = hwpt.ioas.iopt;
  if (iova % alignment !== 0n || (iova + length) % alignment !== 0n) return -EINVAL;
  if (page_size === 0n) return -EINVAL;
  if (iova & (page_size - 1n) || (iova + length) & (page_size - 1n)) return -EINVAL;
  if (!hwpt.domain.format.dirtyTracking) return -EOPNOTSUPP;
  const clear = (flags & IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR) === 0;
  hwpt.domain.readDirty(p, iova, last, page_size & -page_size, data, clear);
  return 0;
}

/** IOMMU_HWPT_INVALIDATE. `entry_num` is written back whatever happens. */
export function hwptInvalidate(call: Call, cmd: iommu_hwpt_invalidate): number {
  const { done, error } = invalidate(call, cmd);
  cmd.entry_num = done;
  return call.respond() < 0 ? -EFAULT : error;
}

function invalidate({ ctx, p }: Call, cmd: iommu_hwpt_invalidate): Invalidated {
  const { entry_num, entry_len, data_uptr } = cmd;
  const refused = (errno: number): Invalidated => ({ done: 0, error: -errno });
  if (cmd.__reserved !== 0) return refused(EOPNOTSUPP);
  if (entry_num !== 0 && (data_uptr === 0n || entry_len === 0 || entry_len > Number(PAGE) || entry_num > MAX_REQUESTS))
    return refused(EINVAL);
  const object = ctx.objects.any(cmd.hwpt_id);
  if (object === undefined) return refused(ENOENT);
  const requests: UserArray = { type: cmd.data_type, uptr: data_uptr, entryLength: entry_len, count: entry_num };
  if (object instanceof HwptNested) return object.domain.invalidate?.(p, requests) ?? refused(EOPNOTSUPP);
  if (object instanceof Viommu) return object.ops.invalidate?.(p, object, requests) ?? refused(EOPNOTSUPP);
  return refused(EINVAL);
}
