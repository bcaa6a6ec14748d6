import { EBUSY, EEXIST, EINVAL, ENODEV, ENOENT } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import { Completion, Pending } from '../completion.ts';
import { Attribute } from '../fs/attribute.ts';
import { synthUevent } from '../fs/class-device.ts';
import type { Directory } from '../fs/directory.ts';
import { NodeLink } from '../fs/link.ts';
import { line } from '../fs/text.ts';
import { Process } from '../process.ts';
import type { System } from '../system.ts';
import { matches, matchesIds, PCI_ANY_ID, type PciDeviceId, type PciDriver } from './driver.ts';
import type { PciDev } from './pci-dev.ts';
import { runtimePm } from './runtime-pm.ts';

/** A driver that is registered. */
interface Entry {
  readonly driver: PciDriver;
  /** /sys/bus/pci/drivers/NAME. */
  readonly directory: Directory;
  /** From `new_id`, and `ids=`. */
  readonly dynamic: PciDeviceId[];
}

/** Pid of what the kernel does by itself: hot-plug, boot. */
const KTHREAD = 2;

/**
 * `pci_bus_type` and the driver core (drivers/base/{bus,dd}.c, drivers/pci/pci-driver.c): which driver has which device, and the files of /sys/bus/pci by which that is
 * changed.
 */
export class PciBus {
  readonly system: System;
  /** Acts for the kernel where no process does. */
  readonly kthread: Process;
  readonly directory: Directory;
  autoprobe = true;
  /** BUS_NOTIFY_ADD_DEVICE: told of a device before any driver is asked. */
  readonly notifiers: Set<(dev: PciDev) => void> = new Set();
  readonly #drivers: Map<string, Entry> = new Map();
  readonly #devices: Map<string, { readonly dev: PciDev; readonly directory: Directory }> = new Map();
  /** device_lock, where it is held longer than a call: complete when it is given back. */
  readonly #locked: Map<PciDev, Completion> = new Map();

  constructor(system: System) {
    this.system = system;
    this.kthread = new Process(system, KTHREAD);
    this.directory = system.fs.mkdirp('/sys/bus/pci');
    system.fs.mkdirp('/sys/bus/pci/devices');
    system.fs.mkdirp('/sys/bus/pci/drivers');
    this.directory.add(
      'drivers_autoprobe',
      new Attribute(0o644, {
        show: () => `${this.autoprobe ? 1 : 0}\n`,
        store: (_p, text) => {
          this.autoprobe = text[0] !== '0';
          return text.length;
        },
      }),
    );
    this.directory.add('drivers_probe', new Attribute(0o200, { store: (p, text) => this.#driversProbe(p, text) }));
    this.directory.add('uevent', new Attribute(0o200, { store: (_p, text) => synthUevent(text) }));
  }

  // ---- devices

  find(name: string): PciDev | undefined {
    return this.#devices.get(name)?.dev;
  }

  /** The device's directory in /sys. */
  directoryOf(dev: PciDev): Directory | undefined {
    return this.#devices.get(dev.bdf)?.directory;
  }

  /** device_add, for the bus: `directory` is in place already. Probes it. */
  add(dev: PciDev, directory: Directory): void {
    this.#devices.set(dev.bdf, { dev, directory });
    this.system.fs.mkdirp('/sys/bus/pci/devices').add(dev.bdf, new NodeLink(directory));
    directory.add('subsystem', new NodeLink(this.directory));
    for (const notify of this.notifiers) notify(dev);
    if (this.autoprobe || !has(this.system.machine, 'newDevicesAutoprobed')) this.attach(this.kthread, dev);
  }

  /** device_del, for the bus: complete when its driver has let go and it is off the bus. */
  remove(p: Process, dev: PciDev): Completion {
    const gone = new Completion();
    this.#whenUnlocked(dev, () => {
      this.#detach(p, dev).whenDone(() => {
        this.#devices.delete(dev.bdf);
        this.system.fs.mkdirp('/sys/bus/pci/devices').remove(dev.bdf);
        gone.complete();
      });
      return 0;
    });
    return gone;
  }

  // ---- drivers

  /** pci_register_driver: its directory, and a probe of every device it matches. */
  register(driver: PciDriver, ids: readonly PciDeviceId[] = []): void {
    const directory = this.system.fs.mkdirp(`/sys/bus/pci/drivers/${driver.name}`);
    const entry: Entry = { driver, directory, dynamic: [...ids] };
    this.#drivers.set(driver.name, entry);
    const files: Record<string, (p: Process, text: string) => number | Pending> = {
      bind: (p, text) => this.#bind(p, entry, text),
      unbind: (p, text) => this.#unbind(p, entry, text),
      new_id: (p, text) => this.#newId(p, entry, text),
      remove_id: (_p, text) => removeId(entry, text),
      uevent: (_p, text) => synthUevent(text),
    };
    for (const [name, store] of Object.entries(files)) directory.add(name, new Attribute(0o200, { store }));
    const module =
      this.system.machine.modular === true ? this.system.fs.at(`/sys/module/${driver.name.replace('-', '_')}`) : undefined;
    if (module !== undefined) directory.add('module', new NodeLink(module));
    if (this.autoprobe) this.#driverAttach(this.kthread, entry);
  }

  /** pci_match_device: an override is for one driver alone, and for it always. */
  matches(driver: PciDriver, dev: PciDev): boolean {
    const entry = this.#drivers.get(driver.name);
    return entry !== undefined && this.#matches(entry, dev);
  }

  /** device_attach: the first driver that takes it. 1, 0 where none did, or −errno before any was asked. */
  attach(p: Process, dev: PciDev): number {
    if (dev.driver !== undefined) return 1;
    for (const entry of this.#drivers.values()) {
      if (!this.#matches(entry, dev)) continue;
      const { error, probed } = this.#probe(p, entry, dev);
      if (error === 0) return 1;
      // What a probe answers is for this driver only; what comes before it ends the search.
      if (!probed) return error;
    }
    return 0;
  }

  /** device_release_driver: complete when the device is free. */
  release(p: Process, dev: PciDev): Completion {
    const free = new Completion();
    this.#whenUnlocked(dev, () => {
      this.#detach(p, dev).whenDone(() => free.complete());
      return 0;
    });
    return free;
  }

  /** Waits for the device's lock: what a write to another of its files does meanwhile. */
  locked(dev: PciDev, then: () => number | Pending): number | Pending {
    return this.#whenUnlocked(dev, then);
  }

  #matches({ driver, dynamic }: Entry, dev: PciDev): boolean {
    if (dev.driverOverride !== null) return dev.driverOverride === driver.name;
    return dynamic.some((id) => matches(id, dev)) || driver.match(dev);
  }

  /** really_probe. `probed`: the driver itself was asked. */
  #probe(p: Process, { driver, directory }: Entry, dev: PciDev): { error: number; probed: boolean } {
    const group = driver.managesDma ? undefined : dev.iommuGroup;
    const error = group?.useDefaultDomain() ?? 0;
    if (error < 0) return { error, probed: false };
    dev.driver = driver;
    const power = runtimePm(dev);
    power.get();
    const answer = canProbe(dev) ? driver.probe(p, dev) : -ENODEV;
    if (answer < 0) {
      dev.driver = undefined;
      power.put();
      group?.unuseDefaultDomain();
      return { error: answer, probed: true };
    }
    const own = this.directoryOf(dev);
    if (own !== undefined) {
      own.add('driver', new NodeLink(directory));
      directory.add(dev.bdf, new NodeLink(own));
    }
    return { error: 0, probed: true };
  }

  /** __device_release_driver: the links go at once, the driver when its users are gone. */
  #detach(p: Process, dev: PciDev): Completion {
    const free = new Completion();
    const { driver } = dev;
    if (driver === undefined) {
      free.complete();
      return free;
    }
    this.#drivers.get(driver.name)?.directory.remove(dev.bdf);
    this.directoryOf(dev)?.remove('driver');
    this.#locked.set(dev, free);
    const finish = (): void => {
      dev.driver = undefined;
      dev.irq.driverGone();
      runtimePm(dev).put();
      if (!driver.managesDma) dev.iommuGroup?.unuseDefaultDomain();
      this.#locked.delete(dev);
      free.complete();
      this.system.runner.wake();
    };
    const users = driver.remove(p, dev);
    if (users === undefined) finish();
    else users.whenDone(finish);
    return free;
  }

  /** The rest, when nobody has the lock of the device any more. */
  #whenUnlocked(dev: PciDev, then: () => number | Pending): number | Pending {
    const held = this.#locked.get(dev);
    return held === undefined ? then() : new Pending(held, () => this.#whenUnlocked(dev, then));
  }

  /** driver_attach: every device that has none. */
  #driverAttach(p: Process, entry: Entry): void {
    for (const { dev } of this.#devices.values()) {
      if (dev.driver === undefined && !this.#locked.has(dev) && this.#matches(entry, dev)) this.#probe(p, entry, dev);
    }
  }

  // ---- files

  #bind(p: Process, entry: Entry, text: string): number | Pending {
    const dev = this.find(line(text));
    if (dev === undefined || !this.#matches(entry, dev)) return -ENODEV;
    return this.#whenUnlocked(dev, () => {
      if (this.find(dev.bdf) !== dev) return -ENODEV;
      if (dev.driver !== undefined) return -EBUSY;
      const { error } = this.#probe(p, entry, dev);
      return error < 0 ? error : text.length;
    });
  }

  #unbind(p: Process, { driver }: Entry, text: string): number | Pending {
    const dev = this.find(line(text));
    if (dev === undefined || dev.driver !== driver) return -ENODEV;
    return this.#whenUnlocked(dev, () => {
      if (dev.driver !== driver) return text.length;
      return new Pending(this.#detach(p, dev), () => text.length);
    });
  }

  #driversProbe(p: Process, text: string): number | Pending {
    const dev = this.find(line(text));
    if (dev === undefined) return -ENODEV;
    if (dev.driver !== undefined && !this.#locked.has(dev)) return text.length;
    return this.#whenUnlocked(dev, () => (this.attach(p, dev) < 0 ? -EINVAL : text.length));
  }

  #newId(p: Process, entry: Entry, text: string): number {
    const fields = hexFields(text);
    if (fields.length < 2) return -EINVAL;
    const id = idOfFields(fields);
    // With driver_data given nobody looks whether the id is there already.
    if (fields.length < 7 && this.#knows(entry, id)) return -EEXIST;
    if ((fields[6] ?? 0) !== 0) return -EINVAL;
    entry.dynamic.push(id);
    this.#driverAttach(p, entry);
    return text.length;
  }

  /** Whether a device with these very ids would match by now. */
  #knows({ driver, dynamic }: Entry, id: PciDeviceId): boolean {
    const ids = { ...id, subvendor: id.subvendor & 0xffff, subdevice: id.subdevice & 0xffff };
    return [...dynamic, ...(driver.ids ?? [])].some((other) => matchesIds(other, ids));
  }
}

/** pci_device_can_probe: virtual functions, where their physical one lets them. */
function canProbe(dev: PciDev): boolean {
  return dev.physfn?.sriov?.driversAutoprobe !== false || dev.driverOverride !== null;
}

function removeId(entry: Entry, text: string): number {
  const fields = hexFields(text);
  if (fields.length < 2) return -EINVAL;
  const id = idOfFields(fields);
  const any = (wanted: number, value: number): boolean => wanted === PCI_ANY_ID || wanted === value;
  const at = entry.dynamic.findIndex(
    (other) =>
      other.vendor === id.vendor &&
      other.device === id.device &&
      any(id.subvendor, other.subvendor) &&
      any(id.subdevice, other.subdevice) &&
      ((other.class ^ id.class) & id.classMask) === 0,
  );
  if (at < 0) return -ENODEV;
  entry.dynamic.splice(at, 1);
  return text.length;
}

/** sscanf of up to seven `%x`: it ends with the first field that is none. */
function hexFields(text: string): number[] {
  const fields: number[] = [];
  let rest = text;
  while (fields.length < 7) {
    const [whole, digits] = /^\s*(?:0[xX])?([0-9a-fA-F]+)/.exec(rest) ?? [];
    if (whole === undefined) break;
    fields.push(Number(BigInt.asUintN(32, BigInt(`0x${digits}`))));
    rest = rest.slice(whole.length);
  }
  return fields;
}

function idOfFields([vendor, device, subvendor, subdevice, code, classMask]: readonly number[]): PciDeviceId {
  return {
    vendor: vendor!,
    device: device!,
    subvendor: subvendor ?? PCI_ANY_ID,
    subdevice: subdevice ?? PCI_ANY_ID,
    class: code ?? 0,
    classMask: classMask ?? 0,
  };
}

/** sriov_numvfs (drivers/pci/iov.c). */
export function sriovConfigure(p: Process, dev: PciDev, count: number): number {
  const sriov = dev.sriov!;
  if (count === sriov.numVfs) return 0;
  if (dev.driver?.sriovConfigure === undefined) return -ENOENT;
  if (count > 0 && sriov.numVfs > 0) return -EBUSY;
  const made = dev.driver.sriovConfigure(p, dev, count);
  return made < 0 ? made : 0;
}
