import {
  IOMMU_HW_CAP_DIRTY_TRACKING,
  IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
} from '../../uapi/iommufd.ts';
import { EEXIST, EFAULT, EINVAL, EIO, ENOENT, ENOMEM, EOPNOTSUPP } from '../../uapi/sys.ts';
import type { DmaTarget } from '../hardware/dma-target.ts';
import type { Interval } from '../interval-tree.ts';
import { PAGE_SIZE, PageStore } from '../mm/pages.ts';
import type { Process } from '../process.ts';
import { type DomainFormat, PagingDomain } from './domain.ts';
import {
  copyUserArray,
  copyUserData,
  type HardwareDomain,
  type Invalidated,
  type IommuOps,
  type NestedDomain,
  type UserArray,
  type UserData,
  type ViommuOps,
  type ViommuState,
} from './driver.ts';

/** The mock IOMMU of drivers/iommu/iommufd/selftest.c: all its devices are behind one instance. */
const MOCK_IOMMU = {};

export const MOCK_FLAGS_NO_DIRTY = 1;
export const MOCK_FLAGS_PASID = 4;
const MOCK_PASIDS = 1 << 20;
/** Every other time a device is attached to this PASID there is no memory. */
const MOCK_FAILING_PASID = 1024;

const HWPT_TYPE = 0xdead;
const HW_INFO_TYPE = 0xfeed_beef;
const HW_INFO_REGISTER = 0xdead_beef;
const INVALIDATE_TYPE = 0xdead_beef;
const VIOMMU_TYPE = 0xdead_beef;
const QUEUE_TYPE = 0xdead_beef;
export const VEVENTQ_TYPE = 0xbeef_beef;

const CACHES = 4;
const IOTLBS = 4;
const FIRST_CACHE = 0xba_ddad;
/** Of an invalidation: all entries. */
const INVALIDATE_ALL = 1;
const VIOMMU_MMAP = 2 * PAGE_SIZE;

const MOCK_PAGE = 2048n;
const MIB = 1n << 20n;

/** iommu_hwpt_selftest: iotlb, pagetable_type. */
const DATA = { least: 4, size: 8 };

const formats: readonly DomainFormat[] = [
  {
    // Every power of two from half a page to 64 GiB.
    pageSizes: ((1n << 37n) - 1n) & -MOCK_PAGE,
    aperture: { first: 0x100_0000n, last: 0x7fff_ffffn },
    enforcesCoherency: false,
    dirtyTracking: false,
    item: (page) => (page < MIB ? MOCK_PAGE : page < 512n * MIB ? MIB : 512n * MIB),
  },
  {
    pageSizes: MIB | 4096n,
    aperture: { first: 0n, last: (1n << 38n) - 1n },
    enforcesCoherency: false,
    dirtyTracking: false,
    item: (page) => (page < MIB ? MOCK_PAGE : MIB),
  },
];

/** A nested domain: four entries of a cache that userspace invalidates. Nothing translates by it. */
export class MockNested implements NestedDomain {
  readonly iotlb: Uint32Array;
  readonly viommu: ViommuState | undefined;

  constructor(iotlb: number, viommu: ViommuState | undefined) {
    this.iotlb = new Uint32Array(IOTLBS).fill(iotlb);
    this.viommu = viommu;
  }

  translate(): DmaTarget | undefined {
    return undefined;
  }

  invalidate(p: Process, { type, uptr, entryLength, count }: UserArray): Invalidated {
    if (type !== INVALIDATE_TYPE) return { done: 0, error: -EINVAL };
    if (count > 0 && entryLength !== 8) return { done: 0, error: -EINVAL };
    for (let done = 0; done < count; done++) {
      const entry = p.mm.copyFrom(uptr + BigInt(done * entryLength), 8);
      if (entry === null) return { done, error: -EFAULT };
      const view = new DataView(entry.buffer);
      const [flags, id] = [view.getUint32(0, true), view.getUint32(4, true)];
      if (flags & ~INVALIDATE_ALL) return { done, error: -EOPNOTSUPP };
      if (id >= IOTLBS) return { done, error: -EINVAL };
      if (flags & INVALIDATE_ALL) this.iotlb.fill(0);
      else this.iotlb[id] = 0;
    }
    return { done: count, error: 0 };
  }
}

function allocNested(p: Process, flags: number, data: UserData, viommu: ViommuState | undefined): NestedDomain | number {
  if (flags & ~IOMMU_HWPT_ALLOC_PASID || data.type !== HWPT_TYPE) return -EOPNOTSUPP;
  const bytes = copyUserData(p, data, HWPT_TYPE, DATA.least, DATA.size);
  return typeof bytes === 'number' ? bytes : new MockNested(new DataView(bytes.buffer).getUint32(0, true), viommu);
}

/** What a mock vIOMMU does. Its devices' caches are invalidated by virtual id. */
const viommuOps: ViommuOps = {
  init(p, viommu, data) {
    if (data === undefined) return 0;
    const bytes = copyUserData(p, { ...data, type: VIOMMU_TYPE }, VIOMMU_TYPE, 8, 24);
    if (typeof bytes === 'number') return bytes;
    const view = new DataView(bytes.buffer);
    const given = view.getUint32(0, true);
    const pages = new PageStore(VIOMMU_MMAP / PAGE_SIZE);
    view.setUint32(4, given, true);
    view.setBigUint64(8, viommu.offer(pages, VIOMMU_MMAP), true);
    view.setBigUint64(16, BigInt(VIOMMU_MMAP), true);
    pages.write(0, bytes.subarray(0, 4));
    return p.mm.copyTo(data.uptr, bytes.subarray(0, data.length)) ? 0 : -EFAULT;
  },
  allocNested: (p, viommu, flags, data) => allocNested(p, flags, data, viommu),
  queueTypes: new Set([QUEUE_TYPE]),
  initQueue({ queues }, { index }) {
    if (index > 1) return -EINVAL;
    if (queues.has(index)) return -EEXIST;
    if (index > 0 && !queues.has(index - 1)) return -EIO;
    return { dependsOn: index === 0 ? undefined : index - 1 };
  },
  invalidate(p, viommu, requests) {
    if (requests.type !== INVALIDATE_TYPE) return { done: 0, error: -EINVAL };
    const entries = copyUserArray(p, requests, 12);
    if (typeof entries === 'number') return { done: 0, error: entries };
    for (const [done, entry] of entries.entries()) {
      const view = new DataView(entry.buffer);
      const [flags, device, cache] = [view.getUint32(0, true), view.getUint32(4, true), view.getUint32(8, true)];
      if (flags & ~INVALIDATE_ALL) return { done, error: -EOPNOTSUPP };
      if (cache >= CACHES) return { done, error: -EINVAL };
      const ops = viommu.vdevice(BigInt(device));
      if (!(ops instanceof MockDevice)) return { done, error: -EINVAL };
      if (flags & INVALIDATE_ALL) ops.cache.fill(0);
      else ops.cache[cache] = 0;
    }
    return { done: entries.length, error: 0 };
  },
};

/** A mock device: nothing but what iommufd's core asks of a driver. */
export class MockDevice implements IommuOps {
  readonly iommu: object = MOCK_IOMMU;
  readonly reserved: readonly Interval[] = [];
  readonly maxPasids: number;
  readonly capabilities: bigint;
  readonly cache: Uint32Array = new Uint32Array(CACHES).fill(FIRST_CACHE);
  /** The vIOMMU it has been attached under, and its id there: kept until its page table is another vIOMMU's. */
  viommu: ViommuState | undefined;
  virtId = 0n;
  #failNext = false;
  readonly #dirty: boolean;
  readonly #virtIdOf: (viommu: ViommuState) => bigint | undefined;

  constructor(flags: number, virtIdOf: (viommu: ViommuState) => bigint | undefined) {
    this.#dirty = (flags & MOCK_FLAGS_NO_DIRTY) === 0;
    this.#virtIdOf = virtIdOf;
    this.maxPasids = flags & MOCK_FLAGS_PASID ? MOCK_PASIDS : 1;
    this.capabilities = BigInt((this.#dirty ? IOMMU_HW_CAP_DIRTY_TRACKING : 0) | IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED);
  }

  hwInfo(type: number): { type: number; data: Uint8Array } | number {
    if (type !== 0 && type !== HW_INFO_TYPE) return -EOPNOTSUPP;
    const data = new DataView(new ArrayBuffer(8));
    data.setUint32(4, HW_INFO_REGISTER, true);
    return { type: HW_INFO_TYPE, data: new Uint8Array(data.buffer) };
  }

  allocPaging(p: Process, flags: number, data: UserData | undefined): DomainFormat | number {
    if (flags & ~(IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_ALLOC_DIRTY_TRACKING | IOMMU_HWPT_ALLOC_PASID)) return -EOPNOTSUPP;
    if (data !== undefined && data.type !== HWPT_TYPE) return -EOPNOTSUPP;
    const bytes = data === undefined ? new Uint8Array(DATA.size) : copyUserData(p, data, HWPT_TYPE, DATA.least, DATA.size);
    if (typeof bytes === 'number') return bytes;
    const format = formats[new DataView(bytes.buffer).getUint32(4, true)];
    if (format === undefined) return -EOPNOTSUPP;
    return { ...format, dirtyTracking: (flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING) !== 0 };
  }

  allocNested(p: Process, _parent: PagingDomain, flags: number, data: UserData): NestedDomain | number {
    return allocNested(p, flags, data, undefined);
  }

  viommuOps(type: number): ViommuOps | undefined {
    return type === VIOMMU_TYPE ? viommuOps : undefined;
  }

  attach(domain: HardwareDomain): number {
    if (domain instanceof PagingDomain && domain.format.dirtyTracking && !this.#dirty) return -EINVAL;
    const viommu = domain instanceof MockNested ? domain.viommu : undefined;
    if (viommu === this.viommu) return 0;
    const virtId = viommu === undefined ? 0n : this.#virtIdOf(viommu);
    if (virtId === undefined) return -ENOENT;
    this.viommu = viommu;
    this.virtId = virtId;
    return 0;
  }

  detach(): void {
    this.viommu = undefined;
    this.virtId = 0n;
  }

  attachPasid(pasid: number): number {
    if (pasid !== MOCK_FAILING_PASID) return 0;
    this.#failNext = !this.#failNext;
    return this.#failNext ? 0 : -ENOMEM;
  }

  detachPasid(pasid: number): void {
    if (pasid === MOCK_FAILING_PASID) this.#failNext = false;
  }
}
