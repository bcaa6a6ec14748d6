import { IOMMU_HW_INFO_FLAG_INPUT_TYPE, IOMMUFD_PAGE_RESP_INVALID, type iommu_hw_info } from '../../uapi/iommufd.ts';
import { EBUSY, EFAULT, EINVAL, ENOENT, EOPNOTSUPP } from '../../uapi/sys.ts';
import type { AssignedFunction } from '../assigned-function.ts';
import type { Process } from '../process.ts';
import type { Call } from './call.ts';
import type { IommufdContext } from './context.ts';
import type { IommuOps } from './driver.ts';
import { Hwpt, pagingAlloc } from './hw-pagetable.ts';
import { Ioas } from './ioas.ts';
import { IommufdObject } from './objects.ts';
import { PendingFaults } from './pending-faults.ts';
import type { Vdevice } from './viommu.ts';

/** "No PASID": what a device does under its requester id alone. */
export const RID = 0;

/** `struct iommufd_attach`: what the devices of a group are attached to, under one PASID. */
interface Attachment {
  hwpt: Hwpt;
  readonly devices: Set<Idev>;
}

/** `struct iommufd_group`: the devices of one IOMMU group that are bound to one context. They can only be attached to the same. */
export class IommufdGroup {
  readonly devices: Set<Idev> = new Set();
  readonly attachments: Map<number, Attachment> = new Map();

  get pasids(): boolean {
    return [...this.attachments.keys()].some((pasid) => pasid !== RID);
  }

  /** The limit of PASIDs: the smallest of the members that have any; 0: none has. */
  get maxPasids(): number {
    const limits = [...this.devices].map(({ ops }) => ops.maxPasids).filter((limit) => limit > 0);
    return limits.length === 0 ? 0 : Math.min(...limits);
  }
}

/** `struct iommufd_device`: a device that is bound. Its driver holds it until it unbinds. */
export class Idev extends IommufdObject {
  override readonly kind = 'device';
  readonly ctx: IommufdContext;
  readonly group: IommufdGroup;
  readonly ops: IommuOps;
  vdevice: Vdevice | undefined;
  /** RFC: VFIO's side of it, where its TDI can be bound. */
  readonly assigned: AssignedFunction | undefined;
  /** RFC: IOMMU_OPTION_EXCLUSIVE_RANGES. */
  exclusiveRanges = false;
  readonly faults: PendingFaults = new PendingFaults(this);
  readonly #unbound: () => void;

  /** `unbound`: what the binding took from elsewhere (DMA ownership, the context's file) is given back. */
  constructor(ctx: IommufdContext, group: IommufdGroup, ops: IommuOps, unbound: () => void, assigned?: AssignedFunction) {
    super();
    this.assigned = assigned;
    this.ctx = ctx;
    this.group = group;
    this.ops = ops;
    this.#unbound = unbound;
    this.users = 1;
    group.devices.add(this);
    ops.reportPageRequests?.((request, answer) => this.faults.report(request, answer, IOMMUFD_PAGE_RESP_INVALID));
    ctx.objects.publish(ctx.objects.reserve(), this);
  }

  /** iommufd_device_unbind. A vDEVICE it still has is destroyed, and its id stays taken. */
  unbind(p: Process): void {
    this.vdevice?.bury(p);
    this.users--;
    this.ctx.objects.drop(p, this);
  }

  override destroy(_p: Process): void {
    this.ops.reportPageRequests?.(undefined);
    this.group.devices.delete(this);
    this.#unbound();
  }

  attached(pasid: number): Hwpt | undefined {
    const attachment = this.group.attachments.get(pasid);
    return attachment?.devices.has(this) === true ? attachment.hwpt : undefined;
  }

  /** iommufd_device_attach: the id of the HWPT it is attached to now, or −errno. */
  attach(p: Process, pasid: number, id: number): number {
    return this.#change(p, id, true, (hwpt) => this.#attachTo(pasid, hwpt));
  }

  /** iommufd_device_replace: all members of the group move. */
  replace(p: Process, pasid: number, id: number): number {
    return this.#change(p, id, false, (hwpt) => this.#replaceBy(p, pasid, hwpt));
  }

  /** iommufd_device_detach: nothing where it is not attached. */
  detach(p: Process, pasid: number): void {
    const hwpt = this.attached(pasid);
    if (hwpt !== undefined) this.detachFrom(p, pasid, hwpt)?.put(p);
  }

  /** iommufd_hw_pagetable_detach: the HWPT, whose reference is the caller's to drop. */
  detachFrom(p: Process, pasid: number, hwpt: Hwpt): Hwpt | undefined {
    const attachment = this.group.attachments.get(pasid);
    if (attachment?.devices.delete(this) !== true) return undefined;
    this.users--;
    if (pasid === RID) hwpt.ioas.iopt.unreserve(this);
    if (attachment.devices.size === 0) {
      this.group.attachments.delete(pasid);
      if (pasid === RID) this.ops.detach();
      else if (this.#usesPasids) this.ops.detachPasid?.(pasid);
    }
    hwpt.fault?.drop(p, this, pasid);
    return hwpt;
  }

  get #usesPasids(): boolean {
    return this.group.maxPasids > 0;
  }

  /**
   * The target by id: a HWPT, or an IOAS, whose automatic HWPTs are tried in order; the last resort is a new one. `first`: it is attached to that before it is
   * filled; a replacement is filled first.
   */
  #change(p: Process, id: number, first: boolean, to: (hwpt: Hwpt) => number): number {
    const { objects } = this.ctx;
    const target = objects.any(id);
    if (target === undefined) return -ENOENT;
    if (target instanceof Hwpt) return to(target) || target.id;
    if (!(target instanceof Ioas)) return -EINVAL;
    for (const hwpt of [...target.hwpts]) {
      if (!hwpt.auto) continue;
      const error = to(hwpt);
      if (error !== -EINVAL) return error || hwpt.id;
    }
    const hwptId = objects.reserve();
    const hwpt = pagingAlloc(p, target, this, 0, undefined, true, first ? to : undefined);
    let error = typeof hwpt === 'number' ? hwpt : 0;
    if (typeof hwpt !== 'number' && !first) {
      error = to(hwpt);
      if (error < 0) hwpt.destroy(p);
    }
    if (error < 0 || typeof hwpt === 'number') {
      objects.free(hwptId);
      return error;
    }
    objects.publish(hwptId, hwpt);
    return hwptId;
  }

  #attachTo(pasid: number, hwpt: Hwpt): number {
    const attachment = this.group.attachments.get(pasid);
    if (attachment?.devices.has(this) === true) return -EBUSY;
    if (attachment !== undefined && attachment.hwpt !== hwpt) return -EINVAL;
    let error = pasid === RID ? this.#enforceReserved(hwpt) : 0;
    if (error === 0 && attachment === undefined) {
      error = this.#compatible(pasid, hwpt) || this.#program(pasid, hwpt);
      if (error < 0 && pasid === RID) hwpt.ioas.iopt.unreserve(this);
    }
    if (error < 0) return error;
    if (attachment === undefined) this.group.attachments.set(pasid, { hwpt, devices: new Set([this]) });
    else attachment.devices.add(this);
    this.users++;
    hwpt.users++;
    return 0;
  }

  #replaceBy(p: Process, pasid: number, hwpt: Hwpt): number {
    const attachment = this.group.attachments.get(pasid);
    if (attachment?.devices.has(this) !== true) return -EINVAL;
    const old = attachment.hwpt;
    if (old === hwpt) return 0;
    const moves = pasid === RID && old.ioas !== hwpt.ioas;
    let error = moves ? this.#enforceAll(attachment, hwpt) : 0;
    if (error === 0) error = this.#compatible(pasid, hwpt) || this.#program(pasid, hwpt);
    if (error < 0) {
      if (moves) for (const member of attachment.devices) hwpt.ioas.iopt.unreserve(member);
      return error;
    }
    attachment.hwpt = hwpt;
    for (const member of attachment.devices) {
      if (moves) old.ioas.iopt.unreserve(member);
      old.fault?.drop(p, member, pasid);
      hwpt.users++;
      old.put(p);
    }
    return 0;
  }

  #enforceAll(attachment: Attachment, hwpt: Hwpt): number {
    for (const member of attachment.devices) {
      const error = member.#enforceReserved(hwpt);
      if (error < 0) return error;
    }
    return 0;
  }

  /** iopt_table_enforce_dev_resv_regions. */
  #enforceReserved(hwpt: Hwpt): number {
    const { iopt } = hwpt.ioas;
    for (const { first, last } of this.ops.reserved) {
      const error = iopt.reserve(first, last, this);
      if (error < 0) {
        iopt.unreserve(this);
        return error;
      }
    }
    return 0;
  }

  /** iommufd_hwpt_pasid_compat, and whose page table it is. */
  #compatible(pasid: number, hwpt: Hwpt): number {
    const { group } = this;
    if (pasid === RID) {
      if (group.pasids && !hwpt.pasidCompatible) return -EINVAL;
    } else {
      if (!hwpt.pasidCompatible) return -EINVAL;
      if (group.attachments.get(RID)?.hwpt.pasidCompatible === false) return -EINVAL;
    }
    return hwpt.iommu === this.ops.iommu ? 0 : -EINVAL;
  }

  /** A group whose members have no PASIDs takes one without a word to its driver. */
  #program(pasid: number, hwpt: Hwpt): number {
    if (pasid === RID) return this.ops.attach(hwpt.domain);
    if (this.ops.attachPasid === undefined) return -EOPNOTSUPP;
    const limit = this.group.maxPasids;
    if (limit === 0) return 0;
    return pasid >= limit ? -EINVAL : this.ops.attachPasid(pasid, hwpt.domain);
  }
}

/** The group of a context that stands for this IOMMU group. */
export function groupOf(ctx: IommufdContext, iommuGroup: object): IommufdGroup {
  for (const object of ctx.objects.all())
    if (object instanceof Idev && ctx.groupKeys.get(object.group) === iommuGroup) return object.group;
  const group = new IommufdGroup();
  ctx.groupKeys.set(group, iommuGroup);
  return group;
}

/** IOMMU_GET_HW_INFO. */
export function getHwInfo(call: Call, cmd: iommu_hw_info): number {
  const { ctx, p } = call;
  if (cmd.flags & ~IOMMU_HW_INFO_FLAG_INPUT_TYPE) return -EOPNOTSUPP;
  if (cmd.__reserved.some((byte) => byte !== 0)) return -EOPNOTSUPP;
  const idev = ctx.objects.get<Idev>(cmd.dev_id, 'device');
  if (idev === undefined) return -ENOENT;
  const { ops } = idev;
  const wanted = cmd.flags & IOMMU_HW_INFO_FLAG_INPUT_TYPE ? cmd.in_data_type : 0;
  const info = ops.hwInfo?.(wanted) ?? { type: 0, data: new Uint8Array() };
  if (typeof info === 'number') return info;
  const bytes = new Uint8Array(Math.min(cmd.data_len, info.data.length)).map((_, i) => info.data[i]!);
  if (!p.mm.copyTo(cmd.data_uptr, bytes)) return -EFAULT;
  if (!clear(p, cmd.data_uptr + BigInt(bytes.length), cmd.data_len - bytes.length)) return -EFAULT;
  cmd.data_len = info.data.length;
  cmd.out_data_type = info.type;
  cmd.out_max_pasid_log2 = ops.maxPasids > 0 ? Math.floor(Math.log2(ops.maxPasids)) : 0;
  cmd.out_capabilities = ops.capabilities;
  return call.respond();
}

const zeros = new Uint8Array(4096);

/** clear_user. */
function clear(p: Process, address: bigint, length: number): boolean {
  for (let at = 0; at < length; at += zeros.length)
    if (!p.mm.copyTo(address + BigInt(at), zeros.subarray(0, Math.min(zeros.length, length - at)))) return false;
  return true;
}
