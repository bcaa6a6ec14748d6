import { showAs } from '../kernel/inspect.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { pciPath } from './pci.ts';
import { findAttribute, namesIn, writeAttribute } from './sysfs.ts';

/**
 * A TSM (TEE security manager) of the host, `/sys/class/tsm/tsmN`: the firmware, with its driver, that can trust PCI devices. Linux has such since 6.19, where there is a driver. A device must be
 * connected, by the host's administrator, before a TDI of it is bound.
 */
export class TsmDevice {
  readonly kernel: Kernel;
  /** `tsm0` */
  readonly name: string;

  constructor(kernel: Kernel, name: string) {
    this.kernel = kernel;
    this.name = name;
  }

  /** write(2) of `tsm/connect` of a PCI device: a session with it, and keys for its link. EBUSY: connected. ENOENT: it cannot be trusted, or this kernel has no TSM. ENXIO: this TSM has no links. */
  connect(bdf: string): void {
    writeAttribute(this.kernel, `${pciPath(bdf)}/tsm/connect`, this.name);
  }

  /** write(2) of `tsm/disconnect`: TDIs of the device are unbound first. EINVAL: connected to another. ENXIO: not connected. */
  disconnect(bdf: string): void {
    writeAttribute(this.kernel, `${pciPath(bdf)}/tsm/disconnect`, this.name);
  }

  /** read(2) of `tsm/connect`: whether the device is connected to this one. */
  isConnected(bdf: string): boolean {
    return findAttribute(this.kernel, `${pciPath(bdf)}/tsm/connect`) === this.name;
  }
}

showAs(TsmDevice, (tsm) => `TsmDevice { ${tsm.name} }`);

/** The TSMs of this kernel; none where it has no driver of one. */
export function listTsmDevices(kernel: Kernel): TsmDevice[] {
  return namesIn(kernel, '/sys/class/tsm')
    .sort()
    .map((name) => new TsmDevice(kernel, name));
}
