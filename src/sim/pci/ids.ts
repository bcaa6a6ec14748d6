import type { PciDev } from './pci-dev.ts';

/** What the PCI core knows of a device's identity: not always what its registers say. */
export interface PciIds {
  readonly vendor: number;
  readonly device: number;
  readonly subvendor: number;
  readonly subdevice: number;
  /** 24 bits. */
  readonly class: number;
}

const PCI_BRIDGE = 0x0604;
/** The capability in which bridges tell their subsystem. */
const SSVID = 0x0d;

/** A PCI-to-PCI bridge. */
export function isBridge({ fn: { spec } }: PciDev): boolean {
  return spec.class >> 8 === PCI_BRIDGE;
}

/** pci_setup_device, pci_iov_add_virtfn: virtual functions have the vendor of their physical one, and the device id its SR-IOV capability gives. */
export function idsOf(dev: PciDev): PciIds {
  const { spec } = dev.fn;
  const { physfn } = dev;
  const at = isBridge(dev) ? dev.findCapability(SSVID) : 0;
  return {
    vendor: physfn?.fn.spec.vendor ?? spec.vendor,
    device: physfn?.sriov?.vfDevice ?? spec.device,
    subvendor: at === 0 ? (spec.subsystemVendor ?? 0) : dev.readConfig(at + 4, 2),
    subdevice: at === 0 ? (spec.subsystemDevice ?? 0) : dev.readConfig(at + 6, 2),
    class: spec.class,
  };
}
