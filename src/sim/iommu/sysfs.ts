import { EACCES, EBUSY, EINVAL, EPERM } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import { Attribute } from '../fs/attribute.ts';
import { ClassDevice, shows } from '../fs/class-device.ts';
import { Directory } from '../fs/directory.ts';
import { NodeLink } from '../fs/link.ts';
import { line } from '../fs/text.ts';
import type { IommuMachine } from '../hardware/machine-pci.ts';
import type { Process } from '../process.ts';
import type { System } from '../system.ts';
import type { IommuGroup } from './group.ts';

/** What /sys/kernel/iommu_groups tells of a group; those VFIO makes for devices without an IOMMU are of this kind too. */
export type GroupEntry = Pick<IommuGroup, 'id' | 'name' | 'type' | 'reservedRegions' | 'viable'> &
  Partial<Pick<IommuGroup, 'setType' | 'devices'>>;

const GROUPS = '/sys/kernel/iommu_groups';
const TYPES: ReadonlySet<string> = new Set(['identity', 'DMA', 'DMA-FQ', 'auto']);

/** iommu_group_add_device: the links between a group and a device's directory. The group's own directory comes with its first device. */
export function addToGroup(system: System, group: GroupEntry, name: string, device: Directory): void {
  const directory = system.fs.at(`${GROUPS}/${group.id}`) ?? addGroup(system, group);
  const devices = (directory as Directory).get('devices') as Directory;
  devices.add(name, new NodeLink(device));
  device.add('iommu_group', new NodeLink(directory));
}

/** iommu_group_remove_device. The group goes with its last one. */
export function removeFromGroup(system: System, group: GroupEntry, name: string, device: Directory): void {
  const groups = system.fs.mkdirp(GROUPS);
  const devices = system.fs.at(`${GROUPS}/${group.id}/devices`) as Directory | undefined;
  devices?.remove(name);
  device.remove('iommu_group');
  if (devices?.empty === true) groups.remove(String(group.id));
}

function addGroup(system: System, group: GroupEntry): Directory {
  const directory = system.fs.mkdirp(GROUPS).add(String(group.id), new Directory());
  directory.add('devices', new Directory());
  directory.add('reserved_regions', new Attribute(0o444, { show: () => reservedRegions(group) }));
  directory.add('type', new Attribute(0o644, { show: () => `${group.type}\n`, store: (p, text) => storeType(group, p, text) }));
  if (group.name !== undefined) {
    const { name } = group;
    directory.add(
      'name',
      shows(0o444, () => name),
    );
  }
  return directory;
}

function reservedRegions({ reservedRegions }: GroupEntry): string {
  const word = (value: bigint): string => `0x${value.toString(16).padStart(16, '0')}`;
  return reservedRegions.map(({ start, last, type }) => `${word(start)} ${word(last)} ${type}\n`).join('');
}

function ownedGroup({ viable }: GroupEntry, inPlace: boolean): number {
  return inPlace || viable ? 0 : -EPERM;
}

/** Older kernels: one device, without a driver. */
function boundDevice({ devices }: GroupEntry, inPlace: boolean): number {
  const [device, another] = devices ?? [];
  if (device === undefined || another !== undefined) return -EINVAL;
  return inPlace || device.driver === undefined ? 0 : -EBUSY;
}

/** iommu_group_store_type. */
function storeType(group: GroupEntry, p: Process, text: string): number {
  if (!p.capable('CAP_SYS_ADMIN') || !p.capable('CAP_SYS_RAWIO')) return -EACCES;
  if (group.setType === undefined) return -EINVAL;
  const type = line(text);
  if (!TYPES.has(type)) return -EINVAL;
  // A flush queue is added in place, whoever uses the domain.
  const inPlace = type === 'DMA-FQ' && group.type === 'DMA';
  const refused = has(p.system.machine, 'iommuTypeOfUnowned') ? ownedGroup(group, inPlace) : boundDevice(group, inPlace);
  if (refused < 0) return refused;
  const error = group.setType(type as Parameters<NonNullable<GroupEntry['setType']>>[0]);
  return error < 0 ? error : text.length;
}

/** iommu_device_sysfs_add: /sys/class/iommu/NAME with what this kind tells of itself. */
function addIommu(system: System, described: NonNullable<IommuMachine['sysfs']>, parent?: Directory): Directory {
  const { directory } = new ClassDevice(system, { class: 'iommu', name: described.name, ...(parent && { parent }) });
  directory.add('devices', new Directory());
  if (described.group === undefined) return directory;
  const files = directory.add(described.group, new Directory());
  for (const [name, text] of Object.entries(described.files)) {
    files.add(
      name,
      shows(0o444, () => text),
    );
  }
  return directory;
}

/** The machine's IOMMU in sysfs, where it shows there, and the devices it has. One that is a PCI function comes with it: devices before it wait. */
export class IommuSysfs {
  readonly #system: System;
  readonly #described: IommuMachine['sysfs'];
  readonly #waiting: (() => void)[] = [];
  #directory: Directory | undefined;

  constructor(system: System) {
    this.#system = system;
    this.#described = system.machine.iommu?.sysfs;
    if (this.#described !== undefined && this.#described.below === undefined) this.#directory = addIommu(system, this.#described);
  }

  /** A PCI function is in sysfs: the IOMMU perhaps. */
  found(name: string, directory: Directory): void {
    if (this.#described?.below !== name) return;
    const { via } = this.#described;
    const parent = via === undefined ? directory : directory.add(via, new Directory());
    this.#directory = addIommu(this.#system, this.#described, parent);
    for (const link of this.#waiting.splice(0)) link();
  }

  /** iommu_device_link. */
  link(name: string, device: Directory): void {
    if (this.#described === undefined) return;
    const iommu = this.#directory;
    if (iommu === undefined) {
      this.#waiting.push(() => this.link(name, device));
      return;
    }
    (iommu.get('devices') as Directory).add(name, new NodeLink(device));
    device.add('iommu', new NodeLink(iommu));
  }

  unlink(name: string): void {
    (this.#directory?.get('devices') as Directory | undefined)?.remove(name);
  }
}
