import { ENODEV } from '../../uapi/sys.ts';
import type { PciBus } from './bus.ts';
import { idOf, idOfClass, matches, PCI_ANY_ID, type PciDeviceId, type PciDriver } from './driver.ts';
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

/** A driver of which only the name is known: it has what the machine says it has at boot. */
class BootDriver extends HostDriver {
  constructor(name: string) {
    super(name, []);
  }

  override match(dev: PciDev): boolean {
    return dev.bootDriver === this.name;
  }
}

/** Drivers of the kernel itself, by name, with whom they are for. A machine lists those it has. */
const makers: Readonly<Record<string, () => PciDriver>> = {
  pcieport: () => new PortDriver('pcieport', [idOfClass(0x060400), idOfClass(0x060401)], { managesDma: true }),
  'pci-stub': () => new HostDriver('pci-stub', [], { managesDma: true, enables: false }),
  'virtio-pci': () => new HostDriver('virtio-pci', [idOf(0x1af4, PCI_ANY_ID)]),
  nvme: () => new HostDriver('nvme', [idOfClass(0x010802)]),
  ahci: () => new HostDriver('ahci', [idOfClass(0x010601)]),
  xhci_hcd: () => new HostDriver('xhci_hcd', [idOfClass(0x0c0330)]),
  e1000e: () => new HostDriver('e1000e', [idOf(0x8086, 0x10d3)]),
  igb: () => new SriovHostDriver('igb', [idOf(0x8086, 0x10c9)]),
  igbvf: () => new HostDriver('igbvf', [idOf(0x8086, 0x10ca)]),
};

/** Those a kernel of a distribution has. */
export const HOST_DRIVERS: readonly string[] = Object.keys(makers);

export function registerHostDrivers(bus: PciBus, names: readonly string[] = HOST_DRIVERS): void {
  for (const name of names) bus.register(makers[name]?.() ?? new BootDriver(name));
}
