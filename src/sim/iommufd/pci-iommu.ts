import {
  IOMMU_HW_CAP_DIRTY_TRACKING,
  IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED,
  IOMMU_HW_CAP_PCI_PASID_EXEC,
  IOMMU_HW_CAP_PCI_PASID_PRIV,
  IOMMU_HW_INFO_TYPE_AMD,
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_PGFAULT_PERM_EXEC,
  IOMMU_PGFAULT_PERM_PRIV,
  IOMMU_PGFAULT_PERM_READ,
  IOMMU_PGFAULT_PERM_WRITE,
  IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
  IOMMUFD_PAGE_RESP_SUCCESS,
  iommu_hw_info_vtd,
} from '../../uapi/iommufd.ts';
import { EBUSY, EOPNOTSUPP } from '../../uapi/sys.ts';
import { IOMMU_VIOMMU_TYPE_TSM } from '../../uapi/tee-io/aik-v2.ts';
import { IOMMU_VIOMMU_TYPE_ARM_REALM_SMMUV3 } from '../../uapi/tee-io/cca-v4.ts';
import type { IommuHardware } from '../hardware/iommu.ts';
import type { IommuMachine } from '../hardware/machine-pci.ts';
import type { TeeIo } from '../hardware/tsm/switches.ts';
import type { Interval } from '../interval-tree.ts';
import type { IommuGroup } from '../iommu/group.ts';
import type { PciDev } from '../pci/pci-dev.ts';
import type { Process } from '../process.ts';
import type { DomainFormat, PagingDomain } from './domain.ts';
import type { HardwareDomain, IommuOps, NestedDomain, UserData, ViommuOps } from './driver.ts';
import type { PageRequest } from './pending-faults.ts';
import { VtdNested } from './vtd-nested.ts';

const NEST = IOMMU_HWPT_ALLOC_NEST_PARENT;
const DIRTY = IOMMU_HWPT_ALLOC_DIRTY_TRACKING;
const PASID = IOMMU_HWPT_ALLOC_PASID;

/** Which combinations of IOMMU_HWPT_ALLOC_* a driver takes; what the hardware must have for them is asked besides. */
const takes: Readonly<Record<IommuMachine['kind'], (flags: number, machine: IommuMachine) => boolean>> = {
  vtd: (flags) => (flags & ~(NEST | DIRTY | PASID)) === 0,
  // Where the hardware has PASIDs: such a table is of another format there.
  amd: (flags, { pasidBits }) => (flags & ~(NEST | DIRTY)) === 0 || (flags === PASID && pasidBits > 0),
  smmuv3: (flags) => flags === NEST || (flags & ~(DIRTY | PASID)) === 0,
  virtio: (flags) => flags === 0,
  none: () => false,
};

function viommuTypes({ vendor, dialects }: TeeIo): readonly number[] {
  return [
    IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
    ...(vendor === 'cca' ? [IOMMU_VIOMMU_TYPE_ARM_REALM_SMMUV3] : []),
    ...(dialects.includes('aik-v2') ? [IOMMU_VIOMMU_TYPE_TSM] : []),
  ];
}

const PCI_EXT_CAP_ID_PASID = 0x1b;
/** Maximum PASID width, and the two kinds of access a function may ask for, in the capability's second half. */
const PASID_CAP = 4;
const PASID_EXEC = 2;
const PASID_PRIV = 4;

/** A PCI function behind the machine's IOMMU, as its driver (intel-iommu, AMD, SMMUv3 …) serves it to iommufd. */
export class PciIommuDevice implements IommuOps {
  readonly pci: PciDev;
  protected readonly group: IommuGroup<PciDev>;
  protected readonly hardware: IommuHardware;
  readonly capabilities: bigint;
  readonly maxPasids: number;
  /** VT-d's alone: the drivers of others make a nested table for a vIOMMU. */
  readonly allocNested?: (p: Process, parent: PagingDomain, flags: number, data: UserData) => NestedDomain | number;

  constructor(pci: PciDev, group: IommuGroup<PciDev>, hardware: IommuHardware) {
    this.pci = pci;
    this.group = group;
    this.hardware = hardware;
    const { kind, nesting = false, dirtyTracking, pasidBits } = hardware.machine;
    if (kind === 'vtd')
      this.allocNested = (p, parent, flags, data) => (nesting ? VtdNested.alloc(p, parent, flags, data) : -EOPNOTSUPP);
    const at = pci.findExtCapability(PCI_EXT_CAP_ID_PASID);
    const pasid = at === 0 || pasidBits === 0 ? 0 : pci.readConfig(at + PASID_CAP, 2);
    const width = pasid === 0 ? 0 : Math.min(pasidBits, (pasid >> 8) & 0x1f);
    this.maxPasids = width === 0 ? 0 : 2 ** width;
    this.capabilities = BigInt(
      IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED |
        (dirtyTracking ? IOMMU_HW_CAP_DIRTY_TRACKING : 0) |
        (pasid & PASID_EXEC ? IOMMU_HW_CAP_PCI_PASID_EXEC : 0) |
        (pasid & PASID_PRIV ? IOMMU_HW_CAP_PCI_PASID_PRIV : 0),
    );
  }

  get iommu(): object {
    return this.hardware;
  }

  /** What firmware says may be used once the device is somebody else's does not count. */
  get reserved(): readonly Interval[] {
    return this.group.reservedRegions
      .filter(({ type }) => type !== 'direct-relaxable')
      .map(({ start, last }) => ({ first: start, last }));
  }

  hwInfo(type: number): { readonly type: number; readonly data: Uint8Array } | number {
    const { hwInfo } = this.hardware.machine;
    if (hwInfo === undefined) return { type: 0, data: new Uint8Array() };
    return type !== 0 && type !== hwInfo.type ? -EOPNOTSUPP : { type: hwInfo.type, data: hwInfo.bytes };
  }

  allocPaging(_p: Process, flags: number, data: UserData | undefined): DomainFormat | number {
    const { machine } = this.hardware;
    const { kind, dirtyTracking, nesting = false, pageSizes, aperture } = machine;
    if (data !== undefined || !takes[kind](flags, machine)) return -EOPNOTSUPP;
    if ((flags & DIRTY && !dirtyTracking) || (flags & NEST && !nesting)) return -EOPNOTSUPP;
    return {
      pageSizes,
      aperture: { first: aperture[0], last: aperture[1] },
      enforcesCoherency: this.group.enforceCoherency,
      dirtyTracking: (flags & DIRTY) !== 0,
    };
  }

  /**
   * amd_iommufd_get_viommu_size does not look at the type: with CONFIG_AMD_IOMMU_IOMMUFD, of which IOMMU_GET_HW_INFO tells, any will do. Linux 7.2 has the code for a guest's own device table
   * entry (drivers/iommu/amd/nested.c), and no operation that leads to it: no nested tables, no invalidation, no queues.
   *
   * RFC. No series has given the IOMMUs of x86 a type of vIOMMU; so that there is something for a vDEVICE to belong to, those of a machine with confidential device assignment take
   * Arm's: the plain one, the realm's where the TSM is CCA's, and SEV-TIO v2's own in its dialect. They are for the ids alone: no nested tables, no events, no queues.
   */
  viommuOps(type: number): ViommuOps | undefined {
    const { kind, hwInfo } = this.hardware.machine;
    if (kind === 'amd' && hwInfo?.type === IOMMU_HW_INFO_TYPE_AMD) return {};
    const { teeIo } = this.pci.system.machine;
    return teeIo !== undefined && viommuTypes(teeIo).includes(type) ? {} : undefined;
  }

  reportPageRequests(report: ((request: PageRequest, answer: (code: number) => void) => void) | undefined): void {
    const { fn } = this.pci;
    if (report === undefined) {
      this.hardware.setPageRequests(fn, undefined);
      return;
    }
    this.hardware.setPageRequests(
      fn,
      ({ iova, read = true, write, execute, privileged, pasid, group = 0, last = true }, answer) => {
        const perm =
          (read ? IOMMU_PGFAULT_PERM_READ : 0) |
          (write === true ? IOMMU_PGFAULT_PERM_WRITE : 0) |
          (execute === true ? IOMMU_PGFAULT_PERM_EXEC : 0) |
          (privileged === true ? IOMMU_PGFAULT_PERM_PRIV : 0);
        const request = { grpid: group, perm, addr: iova & -4096n, last, ...(pasid === undefined ? {} : { pasid }) };
        report(request, (code) => answer(code === IOMMUFD_PAGE_RESP_SUCCESS));
      },
    );
  }

  attach(domain: HardwareDomain): number {
    const error = this.#refuses(domain);
    if (error < 0) return error;
    return typeof this.group.domain === 'object' ? this.group.replace(domain) : this.group.attach(domain);
  }

  detach(): void {
    this.group.detach();
  }

  attachPasid(pasid: number, domain: HardwareDomain): number {
    const error = this.#refuses(domain);
    if (error < 0) return error;
    if (this.pci.removed) return -EBUSY;
    const { group, pci } = this;
    return group.hasPasid(pci, pasid) ? group.replacePasid(pci, pasid, domain) : group.attachPasid(pci, pasid, domain);
  }

  detachPasid(pasid: number): void {
    this.group.detachPasid(this.pci, pasid);
  }

  /** What a guest's table asks of the hardware: CAP and ECAP are what IOMMU_GET_HW_INFO tells. */
  #refuses(domain: HardwareDomain): number {
    if (!(domain instanceof VtdNested)) return 0;
    const { bytes } = this.hardware.machine.hwInfo ?? { bytes: new Uint8Array(iommu_hw_info_vtd.size) };
    const { cap_reg, ecap_reg } = iommu_hw_info_vtd.decode(bytes);
    return domain.attachable(cap_reg, ecap_reg);
  }
}
