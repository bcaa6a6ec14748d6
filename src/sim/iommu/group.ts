import { EBUSY, EINVAL, EPERM } from '../../uapi/sys.ts';
import type { IommuDomain } from '../hardware/dma-target.ts';
import type { Attachment, IommuHardware } from '../hardware/iommu.ts';
import type { PciFunction } from '../hardware/pci-function.ts';

/** A device of a group as the group sees it: a PCI device (`PciDev`), or one that does no DMA of its own (a mediated device). */
export interface IommuMember {
  readonly fn?: PciFunction;
  readonly driver?: object | undefined;
}

export interface ReservedRange {
  readonly start: bigint;
  /** Inclusive. */
  readonly last: bigint;
  readonly type: string;
}

/** `struct iommu_group`: functions the IOMMU cannot tell apart, and who owns their DMA (drivers/iommu/iommu.c). */
export class IommuGroup<D extends IommuMember = IommuMember> {
  readonly id: number;
  readonly name: string | undefined;
  readonly iommu: IommuHardware | undefined;
  readonly #devices = new Set<D>();
  readonly #pasids = new Map<D, Map<number, IommuDomain>>();
  #owner: object | undefined;
  /** owner_cnt: drivers on the default domain, or claims of the owner. */
  #count = 0;
  #domain: Attachment = 'default';
  #type: string;

  constructor(id: number, name?: string, iommu?: IommuHardware) {
    this.id = id;
    this.name = name;
    this.iommu = iommu;
    this.#type = iommu?.machine.defaultType ?? 'unknown';
  }

  get devices(): ReadonlySet<D> {
    return this.#devices;
  }

  /** iommu_group_add_device: it gets the domain the group is on. */
  add(dev: D): void {
    this.#devices.add(dev);
    this.#install(dev);
  }

  remove(dev: D): void {
    this.#devices.delete(dev);
    this.#pasids.delete(dev);
  }

  /** Of all devices, by address. */
  get reservedRegions(): readonly ReservedRange[] {
    return this.iommu?.machine.reserved ?? [];
  }

  /** sysfs `type`: that of the default domain. */
  get type(): string {
    return this.#type;
  }

  /** iommu_setup_default_domain, of a group nobody holds: 0; −EINVAL without an IOMMU. */
  setType(type: 'identity' | 'DMA' | 'DMA-FQ' | 'auto'): number {
    if (this.iommu === undefined) return -EINVAL;
    this.#type = type === 'auto' ? this.iommu.machine.defaultType : type;
    return 0;
  }

  /** iommu_group_has_isolated_msi. */
  get msiIsolated(): boolean {
    return this.iommu?.machine.interruptRemapping ?? false;
  }

  /** IOMMU_CAP_CACHE_COHERENCY. */
  get cacheCoherent(): boolean {
    return this.iommu?.machine.coherent ?? false;
  }

  /** A domain can enforce it (enforce_cache_coherency). */
  get enforceCoherency(): boolean {
    return this.iommu?.machine.enforceCoherency ?? false;
  }

  // ---- ownership

  /** Who claimed the group; undefined while drivers use the default domain, or nobody uses it. */
  get owner(): object | undefined {
    return this.#owner;
  }

  /** iommu_group_dma_owner_claimed is false: nobody holds a count. */
  get viable(): boolean {
    return this.#count === 0;
  }

  /** owner_cnt. */
  get ownerCount(): number {
    return this.#count;
  }

  /** iommu_group_claim_dma_owner: 0; −EPERM, a count is held; −EBUSY, not on its default domain. */
  claimDma(owner: object): number {
    return this.#count > 0 ? -EPERM : this.#take(owner);
  }

  /** iommu_device_claim_dma_owner: the same owner counts up, another is −EPERM. */
  claimDeviceDma(_dev: D, owner: object): number {
    if (this.#count === 0) return this.#take(owner);
    if (this.#owner !== owner) return -EPERM;
    this.#count++;
    return 0;
  }

  /** The release of either. With the last claim the group is back on its default domain. */
  releaseDma(owner: object): void {
    if (this.#owner !== owner || this.#count === 0) throw new Error(`group ${this.id}: released by one who does not own it`);
    if (--this.#count > 0) return;
    this.#owner = undefined;
    this.#setDomain('default');
  }

  /** iommu_device_use_default_domain, a host driver binds: −EBUSY when somebody owns the group or has attached something else. */
  useDefaultDomain(): number {
    const taken = this.#owner !== undefined || this.#domain !== 'default' || this.#hasPasids();
    if (this.#count > 0 && taken) return -EBUSY;
    this.#count++;
    return 0;
  }

  unuseDefaultDomain(): void {
    if (this.#count > 0 && this.#owner === undefined) this.#count--;
  }

  #take(owner: object): number {
    if (this.#domain !== 'default' || this.#hasPasids()) return -EBUSY;
    this.#setDomain('blocked');
    this.#owner = owner;
    this.#count++;
    return 0;
  }

  // ---- domains

  /** What the devices' requests are translated by. */
  get domain(): Attachment {
    return this.#domain;
  }

  /** iommu_attach_group: 0; −EBUSY where a domain is attached. */
  attach(domain: IommuDomain): number {
    if (typeof this.#domain !== 'string') return -EBUSY;
    this.#setDomain(domain);
    return 0;
  }

  /** iommu_replace_group_handle: from one domain to the next without a gap. */
  replace(domain: IommuDomain): number {
    this.#setDomain(domain);
    return 0;
  }

  /** iommu_detach_group: blocked while the group is owned, else the default domain. */
  detach(): void {
    this.#setDomain(this.#owner === undefined ? 'default' : 'blocked');
  }

  /** iommu_attach_device_pasid: 0; −EINVAL past the IOMMU's PASIDs, −EBUSY where one is attached. */
  attachPasid(dev: D, pasid: number, domain: IommuDomain): number {
    const bits = this.iommu?.machine.pasidBits ?? 0;
    if (bits === 0 || pasid >= 2 ** bits || dev.fn === undefined) return -EINVAL;
    let own = this.#pasids.get(dev);
    if (own === undefined) this.#pasids.set(dev, (own = new Map()));
    if (own.has(pasid)) return -EBUSY;
    own.set(pasid, domain);
    this.iommu?.setPasid(dev.fn, pasid, domain);
    return 0;
  }

  /** iommu_replace_device_pasid: from one domain to the next; −EINVAL where none is attached. */
  replacePasid(dev: D, pasid: number, domain: IommuDomain): number {
    const own = this.#pasids.get(dev);
    if (dev.fn === undefined || own?.has(pasid) !== true) return -EINVAL;
    own.set(pasid, domain);
    this.iommu?.setPasid(dev.fn, pasid, domain);
    return 0;
  }

  hasPasid(dev: D, pasid: number): boolean {
    return this.#pasids.get(dev)?.has(pasid) === true;
  }

  detachPasid(dev: D, pasid: number): void {
    this.#pasids.get(dev)?.delete(pasid);
    if (dev.fn !== undefined) this.iommu?.setPasid(dev.fn, pasid, undefined);
  }

  #hasPasids(): boolean {
    return [...this.#pasids.values()].some((own) => own.size > 0);
  }

  #setDomain(domain: Attachment): void {
    this.#domain = domain;
    for (const dev of this.#devices) this.#install(dev);
  }

  #install(dev: D): void {
    if (dev.fn !== undefined) this.iommu?.setDomain(dev.fn, this.#domain);
  }
}
