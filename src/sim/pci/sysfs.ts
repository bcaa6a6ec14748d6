import { EINVAL } from '../../uapi/sys.ts';
import { Completion, Pending } from '../completion.ts';
import { Attribute } from '../fs/attribute.ts';
import { powerDirectory, ueventAttribute } from '../fs/class-device.ts';
import { Directory } from '../fs/directory.ts';
import { NodeLink } from '../fs/link.ts';
import type { FsNode } from '../fs/node.ts';
import { addToGroup, IommuSysfs, removeFromGroup } from '../iommu/sysfs.ts';
import type { Process } from '../process.ts';
import type { System } from '../system.ts';
import { type Context, hex, resettable, storeRescan, storeResetMethod, textFiles, uevent } from './attributes.ts';
import { PciBus } from './bus.ts';
import { addIomem } from './iomem.ts';
import type { PciDev } from './pci-dev.ts';
import type { PciSubsystem } from './pci-subsystem.ts';
import { runtimePm } from './runtime-pm.ts';
import { addBinaryFiles } from './sysfs-binary.ts';

/** A device's directory: what comes and goes with its interrupts is looked for when somebody asks. */
class PciDirectory extends Directory {
  readonly #dev: PciDev;

  constructor(dev: PciDev) {
    super();
    this.#dev = dev;
  }

  override get(name: string, p?: Process): FsNode | undefined {
    return name === 'msi_irqs' ? this.#msiIrqs() : super.get(name, p);
  }

  override names(): string[] {
    return [...super.names(), ...(this.#msiIrqs() === undefined ? [] : ['msi_irqs'])];
  }

  /** msi_irqs: a file for each vector. It is there from when the driver has asked for the first. */
  #msiIrqs(): Directory | undefined {
    const { irq } = this.#dev;
    if (!irq.asked) return undefined;
    const directory = new Directory();
    directory.attach(this, 'msi_irqs');
    const mode = `${irq.kind}\n`;
    for (const vector of irq.vectors) directory.add(String(irq.irqOf(vector)), new Attribute(0o444, { show: () => mode }));
    return directory;
  }
}

/** /sys of PCI devices. It follows the devices of the subsystem, and gives them to the bus. */
export class PciSysfs {
  readonly bus: PciBus;
  readonly #pci: PciSubsystem;
  readonly #system: System;
  readonly #iommu: IommuSysfs;

  constructor(system: System, pci: PciSubsystem) {
    this.#system = system;
    this.#pci = pci;
    this.bus = new PciBus(system);
    this.#iommu = new IommuSysfs(system);
    addIomem(system, () => pci.devices);
    system.fs.mkdirp('/sys/bus/pci/slots');
    this.bus.directory.add('rescan', new Attribute(0o200, { store: (_p, text) => storeRescan(pci, text) }));
    const alignment = 'resource_alignment of PCI devices';
    const store = (): number => system.notModelled(alignment, -EINVAL);
    this.bus.directory.add('resource_alignment', new Attribute(0o644, { show: () => '', store }));
    pci.listen({ added: (dev) => this.#added(dev), removed: (dev) => this.#removed(dev) });
  }

  /** sysfs `remove`: the file itself goes first; then, as their users let go, what is behind the device, and the device. */
  #remove(p: Process, dev: PciDev, answer: number): Pending {
    this.bus.directoryOf(dev)?.remove('remove');
    return new Pending(
      this.#pci.rescanRemove.run(() => this.#stop(p, dev)),
      () => answer,
    );
  }

  /** pci_stop_and_remove_bus_device: the last child first. */
  #stop(p: Process, dev: PciDev): Completion {
    const gone = new Completion();
    const child = this.#pci.devices.findLast(({ parent }) => parent === dev);
    if (child !== undefined) this.#stop(p, child).whenDone(() => this.#stop(p, dev).whenDone(() => gone.complete()));
    else {
      this.#release(p, dev).whenDone(() => {
        this.#pci.remove(dev);
        gone.complete();
      });
    }
    return gone;
  }

  /** /sys/devices/pci0000:00/0000:00:04.0/0000:01:00.0: below the bridge it is behind. */
  #place(dev: PciDev): Directory {
    if (dev.parent !== undefined) return this.bus.directoryOf(dev.parent) ?? this.#place(dev.parent);
    return this.#system.fs.mkdirp(`/sys/devices/pci${hex(dev.segment, 4)}:${hex(dev.bus, 2)}`);
  }

  #added(dev: PciDev): void {
    const directory = this.#place(dev).add(dev.bdf, new PciDirectory(dev));
    const remove = (p: Process, which: PciDev, answer: number): Pending => this.#remove(p, which, answer);
    const context: Context = { dev, bus: this.bus, pci: this.#pci, remove };
    directory.lazily(() => addFiles(directory, context));
    if (dev.physfn !== undefined) this.#linkVirtual(dev, dev.physfn, directory);
    if (dev.iommuGroup !== undefined) {
      addToGroup(this.#system, dev.iommuGroup, dev.bdf, directory);
      this.#iommu.link(dev.bdf, directory);
    }
    this.#iommu.found(dev.bdf, directory);
    this.bus.add(dev, directory);
  }

  #linkVirtual(dev: PciDev, physfn: PciDev, directory: Directory): void {
    const above = this.bus.directoryOf(physfn);
    if (above === undefined) return;
    directory.add('physfn', new NodeLink(above));
    above.add(`virtfn${virtualIndex(dev, physfn)}`, new NodeLink(directory));
  }

  /** It is gone, by surprise or because `remove` asked for it: its driver lets go when its users do. */
  #removed(dev: PciDev): Completion | undefined {
    return this.bus.directoryOf(dev) === undefined ? undefined : this.#release(this.bus.kthread, dev);
  }

  /** device_del: complete when it is off the bus and out of /sys. */
  #release(p: Process, dev: PciDev): Completion {
    const directory = this.bus.directoryOf(dev)!;
    const gone = new Completion();
    this.bus.remove(p, dev).whenDone(() => {
      const { physfn, iommuGroup } = dev;
      if (physfn !== undefined) this.bus.directoryOf(physfn)?.remove(`virtfn${virtualIndex(dev, physfn)}`);
      if (iommuGroup !== undefined) removeFromGroup(this.#system, iommuGroup, dev.bdf, directory);
      this.#iommu.unlink(dev.bdf);
      directory.parent!.remove(dev.bdf);
      gone.complete();
    });
    return gone;
  }
}

function virtualIndex(dev: PciDev, physfn: PciDev): number {
  const { offset, stride } = physfn.sriov!;
  const id = ({ bus, devfn }: PciDev): number => bus * 256 + devfn;
  return stride === 0 ? 0 : (id(dev) - id(physfn) - offset) / stride;
}

const text = (shown: string | number): string | number => (typeof shown === 'number' && shown < 0 ? shown : `${shown}\n`);

/** The files every device has, and those of this one. */
function addFiles(directory: Directory, context: Context): void {
  const { dev } = context;
  for (const { name, mode, show, store, when } of textFiles) {
    if (when?.(dev) === false) continue;
    const shows = show === undefined ? {} : { show: () => text(show(context)) };
    const stores = store === undefined ? {} : { store: (p: Process, given: string) => store(context, p, given) };
    directory.add(name, new Attribute(mode, { ...shows, ...stores }));
  }
  if (resettable(dev)) {
    const show = (): string => (dev.resetMethods.length === 0 ? '' : `${dev.resetMethods.join(' ')}\n`);
    directory.add('reset_method', new Attribute(0o644, { show, store: (_p, given) => storeResetMethod(dev, given) }));
  }
  directory.add(
    'uevent',
    ueventAttribute(() => uevent(dev)),
  );
  directory.add('power', powerDirectory(runtimePm(dev)));
  addBinaryFiles(directory, dev);
}
