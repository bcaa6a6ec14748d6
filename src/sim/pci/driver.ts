import type { Process } from '../process.ts';
import type { PciDev } from './pci-dev.ts';

/** `struct pci_driver`. */
export interface PciDriver {
  readonly name: string;
  /** By its id table; driver_override and dynamic ids are the bus's. */
  match(dev: PciDev): boolean;
  /** 0 or −errno. */
  probe(p: Process, dev: PciDev): number;
  remove(p: Process, dev: PciDev): void;
  /** driver_managed_dma: binding does not use the group's default domain. */
  readonly managesDma: boolean;
}
