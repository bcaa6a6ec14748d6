import type { IommuHardware } from '../hardware/iommu.ts';
import type { PciFunction } from '../hardware/pci-function.ts';
import type { IommuGroup } from '../iommu/group.ts';
import type { PciDev } from './pci-dev.ts';

/** Told of functions that come and go: the bus's sysfs, its drivers. */
export interface PciListener {
  added(dev: PciDev): void;
  /** The device is gone already (surprise removal), or is asked to go (`remove`): drivers let go of it. */
  removed(dev: PciDev): void;
}

/** The PCI devices of a system (`pci_bus_type`'s list), its IOMMU and groups. `system.pci`. */
export interface PciSubsystem {
  /** In the order of enumeration. */
  readonly devices: readonly PciDev[];
  readonly groups: readonly IommuGroup<PciDev>[];
  readonly iommu: IommuHardware | undefined;
  find(bdf: string): PciDev | undefined;
  /** Hot-plug of a function at a free place. */
  plug(fn: PciFunction, at: string): PciDev;
  /** Surprise removal: reads answer all ones from now on. */
  unplug(fn: PciFunction): void;
  /** sysfs `remove`, after its driver has let go: the kernel forgets the device; what is soldered stays, and `rescan` finds it again. */
  remove(dev: PciDev): void;
  /** pci_rescan_bus: functions that are there and not known. */
  rescan(): void;
  /** Adds a listener, which is told of the devices that are there. Returns what removes it. */
  listen(listener: PciListener): () => void;
}
