import type { Completion } from '../completion.ts';
import type { Process } from '../process.ts';
import { idsOf, type PciIds } from './ids.ts';
import type { PciDev } from './pci-dev.ts';

/** `struct pci_driver`. */
export interface PciDriver {
  readonly name: string;
  /** Its id table, where it has one. */
  readonly ids?: readonly PciDeviceId[];
  /** By its id table; driver_override and dynamic ids are the bus's. */
  match(dev: PciDev): boolean;
  /** 0 or −errno. `dev.driver` is this one already. */
  probe(p: Process, dev: PciDev): number;
  /**
   * Lets go of the device. Where users hold it, what is complete once they are gone: until then the device stays bound, and whoever writes `unbind` or `remove`
   * waits.
   */
  remove(p: Process, dev: PciDev): Completion | undefined;
  /** driver_managed_dma: binding does not use the group's default domain. */
  readonly managesDma: boolean;
  /** err_handler's reset_done: the function was reset, and has its registers again. */
  resetDone?(dev: PciDev): void;
  /** sriov_configure: that many virtual functions from now on. How many there are, or −errno. Absent: sriov_numvfs is −ENOENT. */
  sriovConfigure?(p: Process, dev: PciDev, count: number): number;
}

/** `struct pci_device_id`. 0xffffffff matches anything. */
export interface PciDeviceId {
  readonly vendor: number;
  readonly device: number;
  readonly subvendor: number;
  readonly subdevice: number;
  readonly class: number;
  readonly classMask: number;
}

export const PCI_ANY_ID = 0xffff_ffff;

/** pci_match_one_device. */
export function matches(id: PciDeviceId, dev: PciDev): boolean {
  return matchesIds(id, idsOf(dev));
}

/** The same for a device that need not exist. */
export function matchesIds(id: PciDeviceId, has: PciIds): boolean {
  const is = (wanted: number, value: number): boolean => wanted === PCI_ANY_ID || wanted === value;
  return (
    is(id.vendor, has.vendor) &&
    is(id.device, has.device) &&
    is(id.subvendor, has.subvendor) &&
    is(id.subdevice, has.subdevice) &&
    ((id.class ^ has.class) & id.classMask) === 0
  );
}

/** `ids=` of a module: 'vendor:device[:subvendor[:subdevice[:class[:class_mask]]]]', separated by commas; what is not so is ignored. */
export function parseIds(text: string): PciDeviceId[] {
  return text.split(',').flatMap((entry) => {
    const fields = entry.split(':').map((field) => (/^[0-9a-fA-F]+$/.test(field) ? Number.parseInt(field, 16) : Number.NaN));
    const [vendor, device, subvendor = PCI_ANY_ID, subdevice = PCI_ANY_ID, code = 0, classMask = 0] = fields;
    if (vendor === undefined || device === undefined || fields.some(Number.isNaN)) return [];
    return [{ vendor, device, subvendor, subdevice, class: code, classMask }];
  });
}

/** An id that matches one vendor and device. */
export function idOf(vendor: number, device: number, more: Partial<PciDeviceId> = {}): PciDeviceId {
  return { vendor, device, subvendor: PCI_ANY_ID, subdevice: PCI_ANY_ID, class: 0, classMask: 0, ...more };
}

/** An id that matches a class; `mask` leaves bits of it open. */
export function idOfClass(code: number, mask = 0xff_ffff): PciDeviceId {
  return idOf(PCI_ANY_ID, PCI_ANY_ID, { class: code, classMask: mask });
}
