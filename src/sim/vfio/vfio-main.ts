import { EINVAL } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import { Completion } from '../completion.ts';
import { ClassDevice } from '../fs/class-device.ts';
import type { Directory } from '../fs/directory.ts';
import type { IommuGroup, IommuMember } from '../iommu/group.ts';
import { addToGroup, removeFromGroup } from '../iommu/sysfs.ts';
import { atLeast } from '../machine.ts';
import type { Process } from '../process.ts';
import type { CharDevice, System } from '../system.ts';
import { ContainerFile, containerIoctls } from './container.ts';
import { openCdev, type VfioDevice } from './device.ts';
import { groupIoctls, VfioGroup, VfioGroupFile, type VfioGroupType } from './group.ts';
import { type1Ioctls } from './type1.ts';

/** The name an IOMMU group has that VFIO made: for a device without IOMMU, and for a mediated one too. */
const VFIO_GROUP_NAME = 'vfio-noiommu';
/** TAINT_USER. */
const TAINT_USER = 1n << 6n;
/** How often, in simulated milliseconds, users are asked to give a device back. */
const REQUEST_INTERVAL = 10_000;

/** Groups that can be made and given devices (drivers/iommu/iommu.c). */
export interface IommuGroupSource {
  create(name: string): IommuGroup;
  remove(group: IommuGroup, dev: IommuMember): void;
}

interface Entry {
  readonly group: VfioGroup;
  readonly minor: number;
  readonly node: ClassDevice;
}

/** What is there of VFIO in a system: groups and devices that drivers have registered, with their nodes (drivers/vfio/{vfio_main,group}.c). */
export class VfioCore {
  readonly system: System;
  readonly #source: IommuGroupSource;
  readonly #groups: Map<IommuGroup, Entry> = new Map();
  readonly #devices: Map<VfioDevice, ClassDevice> = new Map();
  readonly #indexes: Set<number> = new Set();
  readonly #groupMajor: number;
  readonly #deviceMajor: number;

  constructor(system: System, source: IommuGroupSource) {
    this.system = system;
    this.#source = source;
    this.#groupMajor = system.allocMajor('vfio');
    this.#deviceMajor = this.#hasCdevs ? system.allocMajor('vfio-dev') : 0;
  }

  get groups(): VfioGroup[] {
    return [...this.#groups.values()].map(({ group }) => group);
  }

  /** Those that are registered; also those that are being unregistered. */
  get devices(): VfioDevice[] {
    return [...this.#devices.keys()];
  }

  /** The group of an IOMMU group. */
  group(iommuGroup: IommuGroup): VfioGroup | undefined {
    return this.#groups.get(iommuGroup)?.group;
  }

  /**
   * vfio_register_group_dev, vfio_register_emulated_iommu_dev: the nodes, and what /sys has in the device's directory. −EINVAL where there is no IOMMU group, or
   * the IOMMU does not keep caches coherent.
   */
  registerDevice(device: VfioDevice, directory: Directory): number {
    const group = this.#groupOf(device);
    if (typeof group === 'number') return group;
    if (group.type === 'iommu' && !group.iommuGroup!.cacheCoherent) {
      this.#putGroup(group);
      return -EINVAL;
    }
    device.group = group;
    device.directory = directory;
    device.index = lowestFree(this.#indexes);
    this.#indexes.add(device.index);
    this.#devices.set(device, this.#addDevice(device, directory));
    device.registered();
    group.devices.add(device);
    if (group.type === 'noiommu') addToGroup(this.system, group.iommuGroup!, device.name, directory);
    return 0;
  }

  /**
   * vfio_unregister_group_dev. At once nobody can open the device any more (on older kernels, when the last of its users has gone), and its users are asked to give it
   * back, again each ten seconds; complete when the last of them has, and the group is gone with its last device.
   */
  unregisterDevice(p: Process, device: VfioDevice): Completion {
    const done = new Completion();
    const { group } = device;
    const leave = (): void => {
      group.devices.delete(device);
      this.#devices.get(device)!.remove();
    };
    const atOnce = has(this.system.machine, 'unregisteredAtOnce');
    if (atOnce) leave();
    device.unregistering = true;
    device.put();
    const cancel = this.#ask(device, 0);
    device.released.whenDone(() => {
      cancel();
      if (!atOnce) leave();
      const { parent } = this.#devices.get(device)!;
      if (group.type === 'noiommu') removeFromGroup(this.system, group.iommuGroup!, device.name, parent!);
      this.#devices.delete(device);
      this.#indexes.delete(device.index);
      device.index = -1;
      device.unregistering = false;
      this.#removeFromGroup(p, device, group);
      done.complete();
    });
    return done;
  }

  #ask(device: VfioDevice, count: number): () => void {
    if (device.released.done) return () => {};
    device.request?.(count);
    const { runner } = this.system;
    let cancel = runner.remind(REQUEST_INTERVAL, () => {
      cancel = this.#ask(device, count + 1);
    });
    return () => cancel();
  }

  /** vfio_device_set_group. */
  #groupOf(device: VfioDevice): VfioGroup | number {
    if (device.emulatedIommu) return this.#ownGroup(device, 'emulated');
    const { iommuGroup } = device.pci!;
    if (iommuGroup === undefined) {
      if (!this.system.parameters.vfio.enable_unsafe_noiommu_mode) return -EINVAL;
      this.system.tainted |= TAINT_USER;
      return this.#ownGroup(device, 'noiommu');
    }
    const found = this.#groups.get(iommuGroup)?.group;
    if (found === undefined) return this.#createGroup('iommu', iommuGroup);
    found.drivers++;
    return found;
  }

  /** vfio_noiommu_group_alloc. */
  #ownGroup(device: VfioDevice, type: VfioGroupType): VfioGroup {
    const iommuGroup = this.#source.create(VFIO_GROUP_NAME);
    iommuGroup.add(device.member);
    device.ownGroup(iommuGroup);
    return this.#createGroup(type, iommuGroup);
  }

  #createGroup(type: VfioGroupType, iommuGroup: IommuGroup): VfioGroup {
    const group = new VfioGroup(type, iommuGroup);
    const minor = lowestFree(new Set([...this.#groups.values()].map((entry) => entry.minor)));
    const name = type === 'noiommu' ? `noiommu-${iommuGroup.id}` : `${iommuGroup.id}`;
    const device: CharDevice = {
      path: `/dev/vfio/${name}`,
      major: this.#groupMajor,
      minor,
      mode: 0o600,
      open: (p, flags) => VfioGroupFile.open(p, device, flags, group),
    };
    this.#groups.set(iommuGroup, { group, minor, node: new ClassDevice(this.system, { class: 'vfio', name, device }) });
    return group;
  }

  /** vfio_device_add: without an IOMMU there is no character device. */
  #addDevice(device: VfioDevice, parent: Directory): ClassDevice {
    const name = `vfio${device.index}`;
    if (device.group.type === 'noiommu' || !this.#hasCdevs)
      return new ClassDevice(this.system, { class: 'vfio-dev', name, parent });
    const node: CharDevice = {
      path: `/dev/vfio/devices/${name}`,
      major: this.#deviceMajor,
      minor: device.index,
      mode: 0o600,
      open: (_p, flags) => openCdev(device, node, flags),
    };
    return new ClassDevice(this.system, { class: 'vfio-dev', name, parent, device: node });
  }

  /** CONFIG_VFIO_DEVICE_CDEV, which needs iommufd. */
  get #hasCdevs(): boolean {
    const { machine } = this.system;
    return machine.devices['/dev/iommu'] === true && atLeast(machine, '6.6');
  }

  /** vfio_device_remove_group. */
  #removeFromGroup(p: Process, device: VfioDevice, group: VfioGroup): void {
    const { iommuGroup, type } = group;
    if (--group.drivers === 0) {
      this.#dropGroup(group);
      if (group.container !== undefined) group.container.detachGroup(p, group);
      group.iommuGroup = undefined;
    }
    if (type === 'iommu') return;
    device.ownGroup(undefined);
    this.#source.remove(iommuGroup!, device.member);
  }

  #putGroup(group: VfioGroup): void {
    if (--group.drivers === 0) this.#dropGroup(group);
  }

  #dropGroup(group: VfioGroup): void {
    this.#groups.get(group.iommuGroup!)!.node.remove();
    this.#groups.delete(group.iommuGroup!);
  }
}

/** ida_alloc. */
function lowestFree(taken: ReadonlySet<number>): number {
  let number = 0;
  while (taken.has(number)) number++;
  return number;
}

const CONTAINER = '/dev/vfio/vfio';

const cores = new WeakMap<System, VfioCore>();

/** Gives the system VFIO, where its machine has it, once, and tells its coverage what is modelled. */
export function registerVfio(system: System, source: IommuGroupSource): VfioCore | undefined {
  const there = cores.get(system);
  if (there !== undefined || system.machine.devices[CONTAINER] !== true) return there;
  const node: CharDevice = {
    path: CONTAINER,
    major: 10,
    minor: 196,
    mode: 0o666,
    open: (_p, flags) => new ContainerFile(node, flags, system),
  };
  system.register(node);
  for (const table of [containerIoctls, type1Ioctls, groupIoctls]) table.cover(system.coverage);
  for (const name of ['VFIO_DEVICE_BIND_IOMMUFD', 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', 'VFIO_DEVICE_DETACH_IOMMUFD_PT'])
    system.coverage.add('ioctl', `${name} (vfio-device)`);
  for (const name of ['VFIO_DEVICE_QUERY_GFX_PLANE', 'VFIO_DEVICE_GET_GFX_DMABUF'])
    system.coverage.add(
      'absent ioctl',
      `${name} (vfio-device)`,
      'of virtual displays (GVT-g): no driver simulated has one, it is ENOTTY',
    );
  const core = new VfioCore(system, source);
  cores.set(system, core);
  return core;
}
