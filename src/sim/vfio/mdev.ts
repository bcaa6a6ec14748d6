import { EEXIST, EINVAL, ENODEV } from '../../uapi/sys.ts';
import { type Completion, Pending } from '../completion.ts';
import { Attribute } from '../fs/attribute.ts';
import { ClassDevice, powerDirectory, shows, synthUevent, ueventAttribute } from '../fs/class-device.ts';
import { Directory } from '../fs/directory.ts';
import { NodeLink } from '../fs/link.ts';
import { kstrtoull, line } from '../fs/text.ts';
import { addToGroup, removeFromGroup } from '../iommu/sysfs.ts';
import type { Process } from '../process.ts';
import type { System } from '../system.ts';
import type { VfioDevice } from './device.ts';
import type { VfioCore } from './vfio-main.ts';

const UUID_LENGTH = 36;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** A kind of mediated device a parent can make. */
export interface MdevType {
  /** Behind the driver's name: mdev_supported_types/mtty-1 is '1'. */
  readonly name: string;
  readonly prettyName: string;
}

/** `struct mdev_driver`, and what mediates for it. */
export interface MdevDriver<T extends MdevType> {
  readonly name: string;
  readonly deviceApi: string;
  readonly types: readonly T[];
  /** How many more of this type there can be. */
  available(type: T): number;
  /** The device, or −errno. */
  make(uuid: string, type: T): VfioDevice | number;
  /** It is gone: what it took is free again. */
  removed(device: VfioDevice): void;
  /** Its own directories in the device's. */
  attributes(uuid: string, directory: Directory): void;
}

/** A device made by `create`. */
interface Mdev {
  readonly device: VfioDevice;
  readonly directory: Directory;
  /** devices/ of its type. */
  readonly siblings: Directory;
}

/** The parent of mediated devices with its driver, and the bus they are on (drivers/vfio/mdev). */
export class MdevParent<T extends MdevType> {
  readonly #system: System;
  readonly #core: VfioCore;
  readonly #driver: MdevDriver<T>;
  readonly #directory: Directory;
  readonly #drivers: Directory;
  readonly #devices: Map<string, Mdev> = new Map();

  constructor(system: System, core: VfioCore, driver: MdevDriver<T>) {
    this.#system = system;
    this.#core = core;
    this.#driver = driver;
    const { name } = driver;
    this.#directory = new ClassDevice(system, { class: name, name }).directory;
    system.fs.mkdirp('/sys/class/mdev_bus').add(name, new NodeLink(this.#directory));
    this.#addBus();
    this.#drivers = system.fs.mkdirp(`/sys/bus/mdev/drivers/${name}`);
    this.#drivers.add('uevent', new Attribute(0o200, { store: (_p, text) => synthUevent(text) }));
    for (const file of ['bind', 'unbind']) {
      const what = `${file} of the mdev driver ${name}`;
      this.#drivers.add(file, new Attribute(0o200, { store: () => system.notModelled(what, -ENODEV) }));
    }
    const types = this.#directory.add('mdev_supported_types', new Directory());
    for (const type of driver.types) this.#addType(types, type);
  }

  #addBus(): void {
    const { fs } = this.#system;
    const bus = fs.mkdirp('/sys/bus/mdev');
    fs.mkdirp('/sys/bus/mdev/devices');
    bus.add('uevent', new Attribute(0o200, { store: (_p, text) => synthUevent(text) }));
    bus.add(
      'drivers_autoprobe',
      shows(0o644, () => 1),
    );
    // No driver matches by itself: what finds a device finds none for it.
    const probe = (text: string): number => (this.#devices.has(line(text)) ? text.length : -ENODEV);
    bus.add('drivers_probe', new Attribute(0o200, { store: (_p, text) => probe(text) }));
  }

  #addType(types: Directory, type: T): void {
    const { name, deviceApi } = this.#driver;
    const directory = types.add(`${name}-${type.name}`, new Directory());
    const devices = directory.add('devices', new Directory());
    directory.add('create', new Attribute(0o200, { store: (_p, text) => this.#create(type, devices, text) }));
    directory.add(
      'device_api',
      shows(0o444, () => deviceApi),
    );
    directory.add(
      'name',
      shows(0o444, () => type.prettyName),
    );
    directory.add(
      'available_instances',
      shows(0o444, () => this.#driver.available(type)),
    );
  }

  /** create_store: a UUID, and a newline perhaps. */
  #create(type: T, siblings: Directory, text: string): number {
    if (text.length < UUID_LENGTH || text.length > UUID_LENGTH + 1) return -EINVAL;
    const uuid = text.slice(0, UUID_LENGTH).toLowerCase();
    if (!UUID.test(uuid)) return -EINVAL;
    if (this.#devices.has(uuid)) return -EEXIST;
    const device = this.#driver.make(uuid, type);
    if (typeof device === 'number') return device;
    const directory = this.#directory.add(uuid, new Directory());
    const error = this.#core.registerDevice(device, directory);
    if (error < 0) {
      this.#directory.remove(uuid);
      this.#driver.removed(device);
      return error;
    }
    this.#devices.set(uuid, { device, directory, siblings });
    this.#addDevice(uuid, directory, siblings);
    addToGroup(this.#system, device.group.iommuGroup!, uuid, directory);
    return text.length;
  }

  #addDevice(uuid: string, directory: Directory, siblings: Directory): void {
    const { name } = this.#driver;
    const { fs } = this.#system;
    directory.add('driver', new NodeLink(this.#drivers));
    directory.add('mdev_type', new NodeLink(siblings.parent!));
    directory.add('power', powerDirectory());
    directory.add('subsystem', new NodeLink(fs.mkdirp('/sys/bus/mdev')));
    directory.add(
      'uevent',
      ueventAttribute(() => `DRIVER=${name}\n`),
    );
    directory.add('remove', new Attribute(0o200, { store: (p, text) => this.#remove(p, uuid, text) }));
    this.#driver.attributes(uuid, directory);
    this.#drivers.add(uuid, new NodeLink(directory));
    siblings.add(uuid, new NodeLink(directory));
    fs.mkdirp('/sys/bus/mdev/devices').add(uuid, new NodeLink(directory));
  }

  /** remove_store: waits for the users of the device. */
  #remove(p: Process, uuid: string, text: string): number | Pending {
    const value = kstrtoull(text);
    if (typeof value !== 'bigint') return -EINVAL;
    const mdev = this.#devices.get(uuid);
    if (value === 0n || mdev === undefined) return text.length;
    // The file removes itself: a second writer finds it gone.
    mdev.directory.remove('remove');
    mdev.directory.remove('driver');
    this.#drivers.remove(uuid);
    const { iommuGroup } = mdev.device.group;
    const gone: Completion = this.#core.unregisterDevice(p, mdev.device);
    const pending = new Pending(gone, () => {
      removeFromGroup(this.#system, iommuGroup!, uuid, mdev.directory);
      this.#system.fs.mkdirp('/sys/bus/mdev/devices').remove(uuid);
      mdev.siblings.remove(uuid);
      this.#directory.remove(uuid);
      this.#devices.delete(uuid);
      this.#driver.removed(mdev.device);
      return text.length;
    });
    pending.over.whenDone(() => this.#system.runner.wake());
    return pending;
  }
}
