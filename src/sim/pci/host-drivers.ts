import { ENODEV } from '../../uapi/sys.ts';
import type { PciBus } from './bus.ts';
import { matches, type PciDeviceId, type PciDriver } from './driver.ts';
import { hostDriverIds } from './host-driver-ids.ts';
import { idsOf } from './ids.ts';
import type { PciDev } from './pci-dev.ts';
import { hasHotplug, Pciehp } from './pciehp.ts';

/** Holds a device and does nothing with it: for the kernel's part of what a driver is, not for what it drives. */
class HostDriver implements PciDriver {
  readonly name: string;
  readonly managesDma: boolean;
  /** It turns the device on for as long as it has it. */
  readonly #enables: boolean;
  readonly ids: readonly PciDeviceId[];

  constructor(name: string, ids: readonly PciDeviceId[], { managesDma = false, enables = true } = {}) {
    this.name = name;
    this.ids = ids;
    this.managesDma = managesDma;
    this.#enables = enables;
  }

  match(dev: PciDev): boolean {
    return this.ids.some((id) => matches(id, dev));
  }

  probe(_p: unknown, dev: PciDev): number {
    if (!this.#enables) return 0;
    const error = dev.enableDevice();
    if (error === 0) dev.setMaster(true);
    return error;
  }

  remove(_p: unknown, dev: PciDev): undefined {
    if (this.#enables) dev.disableDevice();
  }
}

/** A host's network card, whose driver hands out virtual functions itself. */
class SriovHostDriver extends HostDriver {
  sriovConfigure(_p: unknown, dev: PciDev, count: number): number {
    const sriov = dev.sriov;
    if (sriov === undefined) return 0;
    if (count === 0) {
      sriov.disable();
      return 0;
    }
    const error = sriov.enable(count);
    return error < 0 ? error : count;
  }

  override remove(p: unknown, dev: PciDev): undefined {
    dev.sriov?.disable();
    super.remove(p, dev);
  }
}

/** A host's PCI Express port: bridges that are ports of the hierarchy, not those that lead to conventional PCI. */
class PortDriver extends HostDriver {
  readonly #slots = new Map<PciDev, Pciehp>();

  override probe(p: unknown, dev: PciDev): number {
    const at = dev.findCapability(EXPRESS);
    const type = at === 0 ? -1 : (dev.readConfig(at + 2, 2) >> 4) & 0xf;
    if (!PORTS.has(type)) return -ENODEV;
    const error = super.probe(p, dev);
    if (error === 0 && hasHotplug(dev)) this.#slots.set(dev, new Pciehp(dev));
    return error;
  }

  override remove(p: unknown, dev: PciDev): undefined {
    this.#slots.get(dev)?.remove();
    this.#slots.delete(dev);
    super.remove(p, dev);
  }
}

const EXPRESS = 0x10;
/** Device/port types: root port, upstream and downstream switch port, root complex event collector. */
const PORTS: ReadonlySet<number> = new Set([4, 5, 6, 0xa]);

/** virtio-pci: its table has all devices of the vendor, of which it takes those whose ids are virtio's, transitional and modern. */
class VirtioDriver extends HostDriver {
  override probe(p: unknown, dev: PciDev): number {
    const error = super.probe(p, dev);
    const { device } = idsOf(dev);
    if (error < 0 || (device >= 0x1000 && device <= 0x107f)) return error;
    super.remove(p, dev);
    return -ENODEV;
  }
}

/** A driver of which only the name is known: it has what the machine says it has at boot. */
class BootDriver extends HostDriver {
  constructor(name: string) {
    super(name, []);
  }

  override match(dev: PciDev): boolean {
    return dev.bootDriver === this.name;
  }
}

const idsFor = (name: string): readonly PciDeviceId[] => hostDriverIds[name]!;

/** Drivers of the kernel itself, by name. A machine lists those it has. */
const makers: Readonly<Record<string, () => PciDriver>> = {
  pcieport: () => new PortDriver('pcieport', idsFor('pcieport'), { managesDma: true }),
  'pci-stub': () => new HostDriver('pci-stub', [], { managesDma: true, enables: false }),
  'virtio-pci': () => new VirtioDriver('virtio-pci', idsFor('virtio-pci')),
  nvme: () => new HostDriver('nvme', idsFor('nvme')),
  ahci: () => new HostDriver('ahci', idsFor('ahci')),
  xhci_hcd: () => new HostDriver('xhci_hcd', idsFor('xhci_hcd')),
  e1000e: () => new HostDriver('e1000e', idsFor('e1000e')),
  igb: () => new SriovHostDriver('igb', idsFor('igb')),
  igbvf: () => new HostDriver('igbvf', idsFor('igbvf')),
};

/** Those a kernel of a distribution has. */
export const HOST_DRIVERS: readonly string[] = Object.keys(makers);

export function registerHostDrivers(bus: PciBus, names: readonly string[] = HOST_DRIVERS): void {
  for (const name of names) bus.register(makers[name]?.() ?? new BootDriver(name));
}
