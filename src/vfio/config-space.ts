import {
  PCI_CAPABILITY_LIST,
  PCI_CFG_SPACE_SIZE,
  PCI_CLASS_PROG,
  PCI_COMMAND,
  PCI_DEVICE_ID,
  PCI_REVISION_ID,
  PCI_STATUS,
  PCI_STATUS_CAP_LIST,
  PCI_SUBSYSTEM_ID,
  PCI_SUBSYSTEM_VENDOR_ID,
  PCI_VENDOR_ID,
} from './pci-regs.ts';
import { Region } from './region.ts';

/** What configuration space says a device is. */
export interface PciIds {
  readonly vendor: number;
  readonly device: number;
  /** 24 bits: class, subclass, programming interface. */
  readonly class: number;
  readonly revision: number;
  readonly subsystem_vendor: number;
  readonly subsystem_device: number;
}

/** A capability in configuration space: `id` is PCI_CAP_ID_*, or of an `extended` one PCI_EXT_CAP_ID_*. */
export interface PciCapability {
  readonly id: number;
  readonly extended: boolean;
  /** Of an extended one; 0 of others. */
  readonly version: number;
  /** Where it begins. */
  readonly offset: number;
}

/**
 * A PCI device's configuration space, as VFIO lets one see it: BARs and much of the MSI capability are the kernel's fiction, and what is not the user's to change
 * takes writes without an effect (drivers/vfio/pci/vfio_pci_config.c).
 */
export class ConfigSpace extends Region {
  /** pread(2) of the identification. */
  ids(): PciIds {
    return {
      vendor: this.read16(PCI_VENDOR_ID),
      device: this.read16(PCI_DEVICE_ID),
      class: this.read8(PCI_CLASS_PROG) | (this.read16(PCI_CLASS_PROG + 1) << 8),
      revision: this.read8(PCI_REVISION_ID),
      subsystem_vendor: this.read16(PCI_SUBSYSTEM_VENDOR_ID),
      subsystem_device: this.read16(PCI_SUBSYSTEM_ID),
    };
  }

  /** pread(2) and pwrite(2) of PCI_COMMAND: sets and clears PCI_COMMAND_* bits; the register as it then reads. A device starts with bus mastering off. */
  setCommand(set: number, clear = 0): number {
    this.write16(PCI_COMMAND, (this.read16(PCI_COMMAND) & ~clear) | set);
    return this.read16(PCI_COMMAND);
  }

  /** pread(2) along both chains: the capabilities in their order. */
  capabilities(): PciCapability[] {
    return [...this.#standard(), ...this.#extended()];
  }

  /** pread(2) along the chain: where a standard capability begins, undefined where there is none of this id. */
  findCapability(id: number): number | undefined {
    return this.#standard().find((capability) => capability.id === id)?.offset;
  }

  #standard(): PciCapability[] {
    if ((this.read16(PCI_STATUS) & PCI_STATUS_CAP_LIST) === 0) return [];
    const found = new Map<number, PciCapability>();
    for (let offset = this.read8(PCI_CAPABILITY_LIST) & 0xfc; offset >= 0x40 && !found.has(offset); ) {
      found.set(offset, { id: this.read8(offset), extended: false, version: 0, offset });
      offset = this.read8(offset + 1) & 0xfc;
    }
    return [...found.values()];
  }

  /** A header of zeros ends the chain; the first one may be a gap (id 0) that only leads on. */
  #extended(): PciCapability[] {
    if (this.size <= PCI_CFG_SPACE_SIZE) return [];
    const found = new Map<number, PciCapability>();
    for (let offset = PCI_CFG_SPACE_SIZE; offset >= PCI_CFG_SPACE_SIZE && !found.has(offset); ) {
      const header = this.read32(offset);
      if (header === 0 || header === 0xffff_ffff) break;
      found.set(offset, { id: header & 0xffff, extended: true, version: (header >>> 16) & 0xf, offset });
      offset = (header >>> 20) & 0xffc;
    }
    return [...found.values()].filter(({ id }) => id !== 0);
  }
}
