import { EINVAL, ENODEV, ENOENT, ENOSPC, EPERM } from '../../uapi/sys.ts';
import type { PciDev } from '../pci/pci-dev.ts';
import type { Process } from '../process.ts';
import type { VfioDevice } from '../vfio/device.ts';
import type { BoundDevice, IommufdContext as VfioIommufd } from '../vfio/iommufd-context.ts';
import { Access } from './access.ts';
import type { IommufdContext } from './context.ts';
import { groupOf, Idev, RID } from './device.ts';
import { PciIommuDevice } from './pci-iommu.ts';
import { ArmSmmu, ArmSmmuMaster } from './smmuv3.ts';
import { bindByVfio } from './tsm.ts';
import { createCompatIoas, setNoIommu } from './vfio-compat.ts';

/** PASIDs VFIO gives out are below: its own table of them is that long. */
const PASIDS = 2 ** 31;

/** What VFIO sees of a context: drivers/vfio/iommufd.c's half of the contract. */
export class VfioContext implements VfioIommufd {
  readonly #ctx: IommufdContext;

  constructor(ctx: IommufdContext) {
    this.#ctx = ctx;
  }

  get(): this {
    this.#ctx.file.ref();
    return this;
  }

  put(p: Process): void {
    this.#ctx.file.unref(p);
  }

  createCompatIoas(): number {
    return createCompatIoas(this.#ctx);
  }

  setNoIommu(): number {
    return setNoIommu(this.#ctx);
  }

  compatIoas(): number {
    return this.#ctx.vfioIoas?.id ?? -ENODEV;
  }

  bind(p: Process, device: VfioDevice): BoundDevice | number {
    return device.pci === undefined ? new BoundAccess(this, this.#ctx, device) : this.#bindPci(p, device, device.pci);
  }

  /** iommufd_device_bind. */
  #bindPci(p: Process, { assigned }: VfioDevice, pci: PciDev): BoundDevice | number {
    const ctx = this.#ctx;
    const group = pci.iommuGroup;
    if (group?.cacheCoherent === false) return -EINVAL;
    if (group?.iommu === undefined) return -ENODEV;
    if (!group.msiIsolated && !p.system.parameters.iommufd.allow_unsafe_interrupts) return -EPERM;
    const error = group.claimDeviceDma(pci, ctx);
    if (error < 0) return error;
    ctx.file.ref();
    const smmu = ArmSmmu.of(group.iommu);
    const ops = smmu === undefined ? new PciIommuDevice(pci, group, group.iommu) : new ArmSmmuMaster(pci, group, smmu);
    const unbound = (): void => {
      group.releaseDma(ctx);
      ctx.file.unref(p);
    };
    return new BoundIdev(this, new Idev(ctx, groupOf(ctx, group), ops, unbound, assigned));
  }
}

/** A PCI device that is bound: an object of type DEVICE. */
class BoundIdev implements BoundDevice {
  readonly context: VfioIommufd;
  readonly #idev: Idev;
  readonly #pasids: Set<number> = new Set();

  constructor(context: VfioIommufd, idev: Idev) {
    this.context = context;
    this.#idev = idev;
  }

  get id(): number {
    return this.#idev.id;
  }

  attach(p: Process, pt: number, pasid?: number): number {
    if (pasid === undefined)
      return this.#idev.attached(RID) === undefined ? this.#idev.attach(p, RID, pt) : this.#idev.replace(p, RID, pt);
    if (pasid >= PASIDS) return -ENOSPC;
    if (this.#pasids.has(pasid)) return this.#idev.replace(p, pasid, pt);
    const attached = this.#idev.attach(p, pasid, pt);
    if (attached >= 0) this.#pasids.add(pasid);
    return attached;
  }

  detach(p: Process, pasid?: number): void {
    if (pasid === undefined) this.#idev.detach(p, RID);
    else if (this.#pasids.delete(pasid)) this.#idev.detach(p, pasid);
  }

  bindTdi(vdevice: number): number {
    return bindByVfio(this.#idev, vdevice);
  }

  unbind(p: Process): void {
    for (const pasid of [...this.#pasids]) this.detach(p, pasid);
    this.detach(p);
    this.#idev.unbind(p);
  }
}

/** A mediated device: an object of type ACCESS, which takes an IOAS only. */
class BoundAccess implements BoundDevice {
  readonly context: VfioIommufd;
  readonly #access: Access;
  readonly #ctx: IommufdContext;

  constructor(context: VfioIommufd, ctx: IommufdContext, device: VfioDevice) {
    this.context = context;
    this.#ctx = ctx;
    ctx.file.ref();
    this.#access = new Access(ctx, true, (iova, length) => device.dmaUnmap?.(iova, length));
  }

  get id(): number {
    return this.#access.id;
  }

  attach(_p: Process, pt: number, pasid?: number): number {
    if (pasid !== undefined) return -ENOENT;
    return this.#access.attach(pt) || pt;
  }

  detach(): void {
    this.#access.detach();
  }

  unbind(p: Process): void {
    this.#access.close(p);
    this.#ctx.file.unref(p);
  }
}
