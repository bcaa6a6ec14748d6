import { EFAULT, EINVAL, EOPNOTSUPP } from '../../uapi/sys.ts';
import type { Backing } from '../file.ts';
import type { Interval } from '../interval-tree.ts';
import type { IommuDomain } from '../iommu/domain.ts';
import type { Process } from '../process.ts';
import type { DomainFormat, PagingDomain } from './domain.ts';
import type { PageRequest } from './pending-faults.ts';

/** `struct iommu_user_data`: what userspace has for the driver, still in its memory. */
export interface UserData {
  readonly type: number;
  readonly uptr: bigint;
  readonly length: number;
}

/**
 * iommu_copy_struct_from_user: −EINVAL, of another type or too short; −E2BIG is −EINVAL here too, for a driver knows how long its data may be; −EFAULT. A struct that ends early is
 * filled up with zeros.
 */
export function copyUserData(p: Process, data: UserData, type: number, min: number, size: number): Uint8Array | number {
  if (data.type !== type) return -EOPNOTSUPP;
  if (data.length < min || data.length > size) return -EINVAL;
  const bytes = new Uint8Array(size);
  return p.mm.readInto(data.uptr, bytes.subarray(0, data.length)) ? bytes : -EFAULT;
}

/** An array of requests (`struct iommu_user_data_array`). */
export interface UserArray {
  readonly type: number;
  readonly uptr: bigint;
  readonly entryLength: number;
  readonly count: number;
}

/** How many of the requests were done, and what stopped them. */
export interface Invalidated {
  readonly done: number;
  readonly error: number;
}

/** A page table that userspace keeps itself, over a parent's. */
export interface NestedDomain extends IommuDomain {
  invalidate?(p: Process, requests: UserArray): Invalidated;
}

/** What a driver does for a vIOMMU. */
export interface ViommuOps {
  /** What is written back to the user's data. */
  readonly init?: (p: Process, viommu: ViommuState, data: UserData | undefined) => number;
  allocNested?(p: Process, viommu: ViommuState, flags: number, data: UserData): NestedDomain | number;
  invalidate?(p: Process, viommu: ViommuState, requests: UserArray): Invalidated;
  /** Sizes of hardware queues' types: absent, it has none of this type. */
  readonly queueTypes?: ReadonlySet<number>;
  initQueue?(viommu: ViommuState, index: number): { readonly dependsOn: number | undefined } | number;
}

/** The vIOMMU as its driver sees it. */
export interface ViommuState {
  /** Offers a region of mmap(2) on /dev/iommu: its offset. It pins the vIOMMU while it is mapped. */
  offer(backing: Backing, length: number): bigint;
  /** Devices by their virtual id. */
  vdevice(virtId: bigint): IommuOps | undefined;
  /** Hardware queues by index. */
  readonly queues: ReadonlyMap<number, object>;
}

/** What a HWPT is for the hardware. */
export type HardwareDomain = PagingDomain | NestedDomain;

/** What the IOMMU driver of one device does: `struct iommu_ops`. Results are ≥ 0 or −errno. */
export interface IommuOps {
  /** The instance the device is behind. */
  readonly iommu: object;
  /** IOMMU_HW_CAP_*. */
  readonly capabilities: bigint;
  /** dev->iommu->max_pasids; 0: it has none. */
  readonly maxPasids: number;
  /** Regions that must not be mapped while the device is attached. */
  readonly reserved: readonly Interval[];
  /** By requested type (0: the default); absent: the driver tells nothing. */
  hwInfo?(type: number): { readonly type: number; readonly data: Uint8Array } | number;
  /** domain_alloc_paging_flags; `data` undefined: none. */
  allocPaging(p: Process, flags: number, data: UserData | undefined): DomainFormat | number;
  allocNested?(p: Process, parent: PagingDomain, flags: number, data: UserData): NestedDomain | number;
  viommuOps?(type: number): ViommuOps | undefined;
  /** Of the device and all others of its group. */
  attach(domain: HardwareDomain): number;
  /** To the blocking domain. */
  detach(): void;
  /** Page requests of the device go to `report` as long as it is bound; undefined: to nobody. */
  reportPageRequests?(report: ((request: PageRequest, answer: (code: number) => void) => void) | undefined): void;
  attachPasid?(pasid: number, domain: HardwareDomain): number;
  detachPasid?(pasid: number): void;
}
