import { E2BIG, EFAULT, EINVAL } from '../../uapi/sys.ts';
import type { Backing } from '../file.ts';
import type { IommuDomain } from '../hardware/dma-target.ts';
import type { Interval } from '../interval-tree.ts';
import type { PageRef } from '../mm/pages.ts';
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
 * iommu_copy_struct_from_user: −EINVAL, of another type (unless the driver has said −EOPNOTSUPP to it before), too short, or too long, zeros or not; −EFAULT. A struct that ends early is
 * filled up with zeros.
 */
export function copyUserData(p: Process, data: UserData, type: number, min: number, size: number): Uint8Array | number {
  if (data.type !== type) return -EINVAL;
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

/** iommu_copy_struct_from_full_user_array: all requests, each as long as the driver's struct. −EFAULT; −E2BIG, more than zeros behind one. None is not copied. */
export function copyUserArray(p: Process, { uptr, entryLength, count }: UserArray, size: number): Uint8Array[] | number {
  const entries: Uint8Array[] = [];
  for (let i = 0; i < count; i++) {
    const bytes = p.mm.copyFrom(uptr + BigInt(i * entryLength), entryLength);
    if (bytes === null) return -EFAULT;
    if (bytes.subarray(size).some((byte) => byte !== 0)) return -E2BIG;
    const entry = new Uint8Array(size);
    entry.set(bytes.subarray(0, size));
    entries.push(entry);
  }
  return entries;
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
  /** After `init` has made it. */
  destroy?(viommu: ViommuState): void;
  /** What is to be done when the vDEVICE goes, or −errno: there is none. */
  initVdevice?(viommu: ViommuState, device: IommuOps, virtId: bigint): (() => void) | number;
  allocNested?(p: Process, viommu: ViommuState, flags: number, data: UserData): NestedDomain | number;
  invalidate?(p: Process, viommu: ViommuState, requests: UserArray): Invalidated;
  /** Sizes of hardware queues' types: absent, it has none of this type. */
  readonly queueTypes?: ReadonlySet<number>;
  initQueue?(viommu: ViommuState, queue: QueueMemory): ReadyQueue | number;
}

/** Memory of a VM that shall be a hardware queue: it lies in one piece. */
export interface QueueMemory {
  readonly index: number;
  readonly length: bigint;
  /** Its physical address, as far as it is known here: bytes from the beginning of the piece of memory it lies in, which is aligned to its own size. */
  readonly address: bigint;
  /** Of its memory, from the page it begins in: to be asked for at each access. */
  page(index: number): PageRef;
}

/** A hardware queue: the one that has to outlive it, and what is to be done when it goes. */
export interface ReadyQueue {
  readonly dependsOn: number | undefined;
  destroy?(): void;
}

/** The vIOMMU as its driver sees it. */
export interface ViommuState {
  /** The page table of the VM's memory. */
  readonly parent: PagingDomain;
  /** Offers a region of mmap(2) on /dev/iommu: its offset. It pins the vIOMMU while it is mapped. */
  offer(backing: Backing, length: number): bigint;
  /** Devices by their virtual id. */
  vdevice(virtId: bigint): IommuOps | undefined;
  /** iommufd_viommu_get_vdev_id: the virtual id of a device; undefined: it has no vDEVICE here. */
  virtIdOf(is: (device: IommuOps) => boolean): bigint | undefined;
  /** iommufd_viommu_report_event: to the queue of this type, if there is one. */
  report(type: number, payload: Uint8Array): void;
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
