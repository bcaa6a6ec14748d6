import { IOMMU_PGFAULT_FLAGS_LAST_PAGE, IOMMU_PGFAULT_FLAGS_PASID_VALID } from '../../uapi/iommufd.ts';
import { type Idev, RID } from './device.ts';

/** A device's page request, as PCI's Page Request Interface carries it. */
export interface PageRequest {
  readonly pasid?: number;
  readonly grpid: number;
  /** IOMMU_PGFAULT_PERM_*. */
  readonly perm: number;
  readonly addr: bigint;
  /** The last of its group: only this one is answered. */
  readonly last: boolean;
}

/** One record of a group, as userspace reads it. */
export interface Fault {
  readonly flags: number;
  readonly pasid: number;
  readonly grpid: number;
  readonly perm: number;
  readonly addr: bigint;
}

/** What the device is told of a group: IOMMU_PAGE_RESP_*. */
export type Answer = (code: number) => void;

/** drivers/iommu/io-pgfault.c for one device: requests wait until the last of their group has come, and go to whoever answers for their address space. */
export class PendingFaults {
  readonly #idev: Idev;
  readonly #partial: Fault[] = [];

  constructor(idev: Idev) {
    this.#idev = idev;
  }

  /** iommu_report_device_fault. Where nobody can answer, INVALID is the answer. */
  report(request: PageRequest, answer: Answer, invalid: number): void {
    const { pasid, grpid, perm, addr, last } = request;
    const flags = (pasid === undefined ? 0 : IOMMU_PGFAULT_FLAGS_PASID_VALID) | (last ? IOMMU_PGFAULT_FLAGS_LAST_PAGE : 0);
    const fault = { flags, pasid: pasid ?? 0, grpid, perm, addr };
    if (!last) {
      this.#partial.push(fault);
      return;
    }
    const mine = this.#partial.filter((other) => other.grpid === grpid);
    for (const one of mine) this.#partial.splice(this.#partial.indexOf(one), 1);
    const route = this.#route(pasid);
    if (route === undefined) answer(invalid);
    else route.queue.deliver({ idev: this.#idev, pasid: route.pasid, faults: [...mine, fault], answer });
  }

  /** By its PASID's attachment; where it has none, and the guest has PASID tables of its own, by the nested HWPT of the device itself. */
  #route(pasid: number | undefined) {
    const { group } = this.#idev;
    const own = pasid === undefined ? undefined : group.attachments.get(pasid);
    const rid = group.attachments.get(RID);
    const hwpt = own?.hwpt ?? (pasid === undefined || rid?.hwpt.kind === 'hwpt-nested' ? rid?.hwpt : undefined);
    const queue = hwpt?.fault;
    return queue === undefined ? undefined : { queue, pasid: own === undefined ? RID : pasid! };
  }
}
