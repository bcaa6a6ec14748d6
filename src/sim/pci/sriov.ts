import * as r from '../../uapi/pci-regs.ts';
import { EINVAL } from '../../uapi/sys.ts';
import type { PciDev } from './pci-dev.ts';

/** `struct pci_sriov` (drivers/pci/iov.c). */
export class PciSriov {
  readonly #dev: PciDev;
  readonly #at: number;
  /** sriov_drivers_autoprobe: new virtual functions are probed. */
  driversAutoprobe = true;

  constructor(dev: PciDev) {
    this.#dev = dev;
    this.#at = dev.fn.positions.sriov;
  }

  get totalVfs(): number {
    return this.#dev.readConfig(this.#at + r.PCI_SRIOV_TOTAL_VF, 2);
  }

  get offset(): number {
    return this.#dev.readConfig(this.#at + r.PCI_SRIOV_VF_OFFSET, 2);
  }

  get stride(): number {
    return this.#dev.readConfig(this.#at + r.PCI_SRIOV_VF_STRIDE, 2);
  }

  get vfDevice(): number {
    return this.#dev.readConfig(this.#at + r.PCI_SRIOV_VF_DID, 2);
  }

  get numVfs(): number {
    return this.vfs.length;
  }

  /** Those that are there, by their index. */
  get vfs(): readonly PciDev[] {
    return this.#dev.subsystem.devices.filter(({ physfn }) => physfn === this.#dev);
  }

  /** pci_enable_sriov: the functions come, and are found. 0; −EINVAL when it is on, or the device has not so many. */
  enable(count: number): number {
    if (count === 0) return 0;
    if (this.numVfs > 0 || count > this.totalVfs) return -EINVAL;
    const { fn, parent, subsystem } = this.#dev;
    this.#dev.writeConfig(this.#at + r.PCI_SRIOV_NUM_VF, 2, count);
    this.#dev.writeConfig(this.#at + r.PCI_SRIOV_CTRL, 2, r.PCI_SRIOV_CTRL_VFE | r.PCI_SRIOV_CTRL_MSE);
    for (const virtual of subsystem.fabric.virtualOf(fn)) subsystem.found(virtual, parent, this.#dev);
    return 0;
  }

  /** pci_disable_sriov: their drivers let go, then they are gone. */
  disable(): void {
    for (const virtual of this.vfs) this.#dev.subsystem.lost(virtual);
    this.#dev.writeConfig(this.#at + r.PCI_SRIOV_CTRL, 2, 0);
    this.#dev.writeConfig(this.#at + r.PCI_SRIOV_NUM_VF, 2, 0);
  }
}
