import type { IommuHardware } from '../hardware/iommu.ts';
import type { PciFunction } from '../hardware/pci-function.ts';
import type { IommuDomain } from './domain.ts';

/** A device of a group as the group sees it: a PCI device (`PciDev`), or one that does no DMA of its own (a mediated device). */
export interface IommuMember {
  readonly fn?: PciFunction;
}

/** `struct iommu_group`: functions the IOMMU cannot tell apart, and who owns their DMA (drivers/iommu/iommu.c). */
export interface IommuGroup<D extends IommuMember = IommuMember> {
  readonly id: number;
  readonly name: string | undefined;
  readonly devices: ReadonlySet<D>;
  readonly iommu: IommuHardware | undefined;
  readonly reservedRegions: readonly { readonly start: bigint; readonly last: bigint; readonly type: string }[];
  /** sysfs `type`. */
  readonly type: string;
  /** iommu_setup_default_domain, of a group nobody holds: 0 or −errno. */
  setType?(type: 'identity' | 'DMA' | 'DMA-FQ' | 'auto'): number;
  readonly msiIsolated: boolean;
  /** IOMMU_CAP_CACHE_COHERENCY. */
  readonly cacheCoherent: boolean;
  readonly enforceCoherency: boolean;
  /** iommu_group_claim_dma_owner: 0; −EPERM, a count is held; −EBUSY, not on its default domain. */
  claimDma(owner: object): number;
  /** iommu_device_claim_dma_owner: the same owner counts up, another is −EPERM. */
  claimDeviceDma(dev: D, owner: object): number;
  /** The release of either. */
  releaseDma(owner: object): void;
  readonly owner: object | undefined;
  /** iommu_group_dma_owner_claimed is false: nobody holds a count. */
  readonly viable: boolean;
  /** iommu_device_use_default_domain, a host driver binds: −EBUSY when somebody owns the group. */
  useDefaultDomain(): number;
  unuseDefaultDomain(): void;
  /** iommu_attach_group: 0 or −EBUSY. */
  attach(domain: IommuDomain): number;
  /** The same where a domain is attached already (iommu_replace_group_handle). */
  replace(domain: IommuDomain): number;
  detach(): void;
  attachPasid(dev: D, pasid: number, domain: IommuDomain): number;
  detachPasid(dev: D, pasid: number): void;
  readonly domain: IommuDomain | 'default' | 'blocked';
}
