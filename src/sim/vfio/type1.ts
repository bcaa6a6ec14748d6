import { EBUSY, EINVAL, ENODEV, ENOTTY, EOVERFLOW, EPERM } from '../../uapi/sys.ts';
import * as v from '../../uapi/vfio.ts';
import { has } from '../changes.ts';
import type { DmaTarget, IommuDomain } from '../hardware/dma-target.ts';
import type { IommuHardware } from '../hardware/iommu.ts';
import { IntervalTree } from '../interval-tree.ts';
import { RequestTable } from '../ioctl-table.ts';
import type { IommuGroup } from '../iommu/group.ts';
import type { Process } from '../process.ts';
import type { System } from '../system.ts';
import type { IommuBackend, IommuDriver } from './container.ts';
import type { VfioGroup } from './group.ts';
import { exclude, expand, type IovaList, refresh, reserved, resize } from './iova-list.ts';
import { dirtyPages } from './type1-dirty.ts';
import type { VfioDma } from './type1-dma.ts';
import { getInfo } from './type1-info.ts';
import { mapDma, unmapDma } from './type1-map.ts';

/** PAGE_MASK: what a container without a domain can map, and the sizes of those with one that are a page or more. */
const WHOLE_PAGES = 0xffff_ffff_ffff_f000n;
const PAGE_SIZE = 0x1000n;

/** `struct vfio_domain`: page tables that some of the container's groups share. Every domain has all mappings. */
class Type1Domain implements IommuDomain {
  readonly iommu: IommuHardware;
  readonly enforceCoherency: boolean;
  readonly groups: Set<IommuGroup> = new Set();
  readonly #type1: Type1;

  constructor(type1: Type1, iommu: IommuHardware, enforceCoherency: boolean) {
    this.#type1 = type1;
    this.iommu = iommu;
    this.enforceCoherency = enforceCoherency;
  }

  translate(iova: bigint, length: number, write: boolean): DmaTarget | undefined {
    const dma = this.#type1.mappings.find(iova);
    if (dma === undefined || !(write ? dma.write : dma.read)) return undefined;
    return dma.translate(iova, Number(dma.last - iova) + 1 < length ? Number(dma.last - iova) + 1 : length);
  }
}

/** `struct vfio_iommu`, of either version: the mappings of a container, and the domains of its groups (drivers/vfio/vfio_iommu_type1.c). */
export class Type1 implements IommuBackend {
  readonly v2: boolean;
  readonly system: System;
  readonly mappings: IntervalTree<VfioDma> = new IntervalTree();
  domains: readonly Type1Domain[] = [];
  /** iova_pgsizes. */
  pageSizes: bigint = WHOLE_PAGES;
  /** The smallest of them: what everything is aligned to. */
  pageSize: bigint = PAGE_SIZE;
  /** Where mappings may lie; none: anywhere. */
  iovas: IovaList = [];
  /** Mappings that may yet be made: `dma_entry_limit`, as it was when the type was set. */
  dmaAvail: number;
  invalidVaddrs = 0;
  dirtyTracking = false;
  /** Groups whose devices write memory without telling which. */
  nonPinnedGroups = 0;
  readonly #nesting: boolean;
  readonly #emulated: Set<IommuGroup> = new Set();

  constructor(system: System, v2: boolean, nesting = false) {
    this.system = system;
    this.v2 = v2;
    this.#nesting = nesting;
    this.dmaAvail = system.parameters.vfio_iommu_type1.dma_entry_limit;
  }

  /** What a range is that ends behind the last address. */
  get wraps(): number {
    return has(this.system.machine, 'type1WrapOverflows') ? -EOVERFLOW : -EINVAL;
  }

  get hasEmulated(): boolean {
    return this.#emulated.size > 0;
  }

  /** A mapping lies across a border of [first, last]. */
  cutsMapping(first: bigint, last: bigint): boolean {
    const low = this.mappings.overlap(first, last);
    if (low === undefined) return false;
    if (low.first < first || low.last >= last) return low.first < first || low.last > last;
    const high = this.mappings.find(last);
    return high !== undefined && high.last > last;
  }

  checkExtension(arg: bigint): number {
    if (arg === BigInt(v.VFIO_UPDATE_VADDR)) return this.hasEmulated ? 0 : 1;
    if (arg === BigInt(v.VFIO_DMA_CC_IOMMU)) return this.domains.every(({ enforceCoherency }) => enforceCoherency) ? 1 : 0;
    return type1Driver.checkExtension(this.system, arg);
  }

  ioctl(p: Process, request: number, arg: bigint): number {
    return type1Ioctls.dispatch(this, p, request, arg);
  }

  /** vfio_iommu_type1_attach_group. */
  attachGroup(_p: Process, { type, iommuGroup }: VfioGroup): number {
    const group = iommuGroup!;
    if (this.invalidVaddrs > 0) return -EBUSY;
    if (type === 'emulated') {
      this.#emulated.add(group);
      return 0;
    }
    // iommu_enable_nesting: of no processor's but Arm's.
    if (this.#nesting) return -EINVAL;
    const domain = new Type1Domain(this, group.iommu!, group.enforceCoherency);
    const attached = group.attach(domain);
    if (attached < 0) return attached;
    const error = this.#admit(group, domain);
    if (error < 0) group.detach();
    return error;
  }

  #admit(group: IommuGroup, domain: Type1Domain): number {
    const [first, last] = domain.iommu.machine.aperture;
    if (this.#apertureConflicts(first, last)) return -EINVAL;
    for (const region of reserved([group])) if (this.mappings.overlap(region.start, region.last) !== undefined) return -EINVAL;
    const iovas = exclude(resize(this.iovas, first, last), [group]);
    if (iovas.length === 0) return -EINVAL;
    const { allow_unsafe_interrupts } = this.system.parameters.vfio_iommu_type1;
    if (!allow_unsafe_interrupts && !group.msiIsolated) return -EPERM;
    const error = this.#join(group, domain);
    if (error < 0) return error;
    this.iovas = iovas;
    this.nonPinnedGroups++;
    return 0;
  }

  /** A domain that is compatible takes the group; else it stays in its own, which gets all mappings. */
  #join(group: IommuGroup, own: Type1Domain): number {
    for (const domain of this.domains) {
      if (domain.iommu !== own.iommu || domain.enforceCoherency !== own.enforceCoherency) continue;
      group.detach();
      if (group.attach(domain) >= 0) {
        domain.groups.add(group);
        return 0;
      }
      const back = group.attach(own);
      if (back < 0) return back;
    }
    const error = this.#replay();
    if (error < 0) return error;
    own.groups.add(group);
    this.#setDomains([own, ...this.domains]);
    return 0;
  }

  /** vfio_update_pgsize_bitmap: sizes below a page count as one page. */
  #setDomains(domains: readonly Type1Domain[]): void {
    this.domains = domains;
    const common = domains.reduce((sizes, { iommu }) => sizes & iommu.machine.pageSizes, (1n << 64n) - 1n);
    const small = domains.length > 0 && (common & ~WHOLE_PAGES) !== 0n;
    this.pageSizes = (common & WHOLE_PAGES) | (small ? PAGE_SIZE : 0n);
    this.pageSize = this.pageSizes & -this.pageSizes;
  }

  /** vfio_iommu_replay: what was mapped for mediated devices alone is pinned now. */
  #replay(): number {
    const pinned: VfioDma[] = [];
    for (const dma of this.mappings.within()) {
      if (dma.iommuMapped) continue;
      const error = dma.pin();
      if (error < 0) {
        for (const one of pinned) one.unpin();
        return error;
      }
      pinned.push(dma);
    }
    return 0;
  }

  /** vfio_iommu_aper_conflict. */
  #apertureConflicts(first: bigint, last: bigint): boolean {
    const low = this.iovas[0];
    const high = this.iovas.at(-1);
    if (low === undefined || high === undefined) return false;
    if (first > high.end || last < low.start) return true;
    if (first > low.start && this.mappings.overlap(low.start, first - 1n) !== undefined) return true;
    return last < high.end && this.mappings.overlap(last + 1n, high.end) !== undefined;
  }

  /** vfio_iommu_type1_detach_group. */
  detachGroup(_p: Process, { iommuGroup }: VfioGroup): void {
    const group = iommuGroup!;
    if (this.#emulated.delete(group)) {
      if (this.#emulated.size === 0 && this.domains.length === 0) this.#removeAll();
      return;
    }
    const domain = this.domains.find(({ groups }) => groups.has(group))!;
    group.detach();
    domain.groups.delete(group);
    let list = this.iovas;
    if (domain.groups.size === 0) {
      this.#setDomains(this.domains.filter((other) => other !== domain));
      if (this.domains.length === 0) this.#lastDomainGone();
      list = expand(
        list,
        this.domains.map(({ iommu }) => iommu.machine.aperture),
      );
    }
    this.iovas = refresh(
      list,
      this.domains.flatMap(({ groups }) => [...groups]),
    );
    this.nonPinnedGroups--;
  }

  /** With mediated devices left mappings stay, unpinned. */
  #lastDomainGone(): void {
    if (!this.hasEmulated) this.#removeAll();
    else for (const dma of this.mappings.within()) dma.unpin();
  }

  #removeAll(): void {
    for (const dma of this.mappings.within()) this.remove(dma);
  }

  /** vfio_remove_dma. */
  remove(dma: VfioDma): void {
    this.mappings.remove(dma);
    if (dma.iommuMapped) dma.unpin();
    if (dma.vaddrInvalid) this.invalidVaddrs--;
    this.dmaAvail++;
  }
}

/** What a container passes on to its type1 backend. */
export const type1Ioctls: RequestTable<Type1> = new RequestTable<Type1>('vfio-container', ENOTTY, {
  VFIO_IOMMU_GET_INFO: getInfo,
  VFIO_IOMMU_MAP_DMA: mapDma,
  VFIO_IOMMU_UNMAP_DMA: unmapDma,
  VFIO_IOMMU_DIRTY_PAGES: dirtyPages,
});

/** Extensions of type1 whether or not a container has it set. */
const extensions: ReadonlySet<bigint> = new Set([v.VFIO_TYPE1_IOMMU, v.VFIO_TYPE1v2_IOMMU, v.VFIO_UNMAP_ALL].map(BigInt));

const NESTING = BigInt(v.__VFIO_RESERVED_TYPE1_NESTING_IOMMU);

export const type1Driver: IommuDriver = {
  noiommu: false,
  checkExtension: ({ machine }, arg) => (extensions.has(arg) || (arg === NESTING && !has(machine, 'noType1Nesting')) ? 1 : 0),
  /** VFIO_UNMAP_ALL is an extension, and no type. */
  open(p, arg) {
    if (arg === NESTING && p.system.machine.iommu?.kind === 'smmuv3')
      return p.system.notModelled('VFIO_TYPE1_NESTING_IOMMU', -ENODEV);
    if (arg === NESTING) return new Type1(p.system, true, true);
    if (arg === BigInt(v.VFIO_TYPE1v2_IOMMU)) return new Type1(p.system, true);
    return arg === BigInt(v.VFIO_TYPE1_IOMMU) ? new Type1(p.system, false) : -EINVAL;
  },
};
