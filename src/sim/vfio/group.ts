import { EBADF, EBADFD, EBUSY, EFAULT, EINVAL, EMFILE, ENODEV, ENOTTY, EPERM, O_RDWR } from '../../uapi/sys.ts';
import * as v from '../../uapi/vfio.ts';
import { has } from '../changes.ts';
import { CharFile } from '../char-device.ts';
import { RequestTable } from '../ioctl-table.ts';
import type { IommuGroup } from '../iommu/group.ts';
import type { Process } from '../process.ts';
import type { CharDevice } from '../system.ts';
import type { KvmReference, VfioOperations } from '../vfio-file.ts';
import { type Container, ContainerFile } from './container.ts';
import { type VfioDevice, VfioDeviceFile } from './device.ts';
import { type IommufdContext, isIommufdFile } from './iommufd-context.ts';

/** strndup_user of a name: a page, its terminating NUL included. */
const NAME_MAX = 4096;

/** `enum vfio_group_type`. */
export type VfioGroupType = 'iommu' | 'emulated' | 'noiommu';

/** `struct vfio_group`: the VFIO devices of one IOMMU group, and what their users have in common. */
export class VfioGroup {
  readonly type: VfioGroupType;
  /** Undefined once the last device is unbound: the group is dead, whoever still has it open. */
  iommuGroup: IommuGroup | undefined;
  /** Those that GET_DEVICE_FD finds. */
  readonly devices: Set<VfioDevice> = new Set();
  /** Bound devices, also those that are being unbound. */
  drivers = 1;
  openedFile: VfioGroupFile | undefined;
  /** Devices bound through their character devices. */
  cdevOpenCount = 0;
  container: Container | undefined;
  /** One of the container's own, and one per open device. */
  containerUsers = 0;
  iommufd: IommufdContext | undefined;
  kvm: KvmReference | null = null;

  constructor(type: VfioGroupType, iommuGroup: IommuGroup) {
    this.type = type;
    this.iommuGroup = iommuGroup;
  }

  get hasIommu(): boolean {
    return this.container !== undefined || this.iommufd !== undefined;
  }

  /** vfio_group_enforced_coherent. */
  get enforcedCoherent(): boolean {
    return [...this.devices].every((device) => device.enforcesCoherency);
  }

  /** vfio_device_block_group: a device is bound through its character device. */
  block(): number {
    if (this.openedFile !== undefined) return -EBUSY;
    this.cdevOpenCount++;
    return 0;
  }

  unblock(): void {
    this.cdevOpenCount--;
  }

  /** vfio_device_get_from_name. */
  find(name: string): VfioDevice | number {
    for (const device of this.devices) {
      const matches = device.match(name);
      if (typeof matches === 'number') return matches;
      if (matches && device.tryGet()) return device;
    }
    return -ENODEV;
  }

  /** vfio_df_group_open. */
  openDevice(p: Process, device: VfioDevice, file: VfioDeviceFile): number {
    if (!this.hasIommu) return -EINVAL;
    file.context = this.iommufd;
    const first = device.openCount === 0;
    if (this.iommufd !== undefined && this.type === 'noiommu' && first) {
      // No compat IOAS: nobody may expect translation.
      if (!p.capable('CAP_SYS_RAWIO') || this.iommufd.compatIoas() >= 0) return -EPERM;
    }
    const error = device.open(p, file, this.kvm);
    if (error < 0) return error;
    if (first && device.bound !== undefined) {
      const ioas = this.iommufd!.compatIoas();
      const attached = ioas < 0 ? ioas : device.bound.attach(p, ioas);
      if (attached < 0) {
        device.close(p);
        return attached;
      }
    }
    file.accessGranted = true;
    return 0;
  }

  /** vfio_df_group_close. */
  closeDevice(p: Process, file: VfioDeviceFile): void {
    if (file.accessGranted) file.device.close(p);
  }

  /** vfio_group_use_container and vfio_device_container_register: with a native container an open device holds the group's file. */
  useContainer(p: Process, device: VfioDevice): number {
    const backend = this.container?.backend;
    if (backend === undefined) return -EINVAL;
    if (this.type === 'noiommu' && !p.capable('CAP_SYS_RAWIO')) return -EPERM;
    this.openedFile!.ref();
    this.containerUsers++;
    backend.registerDevice?.(device);
    return 0;
  }

  unuseContainer(p: Process, device: VfioDevice): void {
    this.container?.backend?.unregisterDevice?.(device);
    this.containerUsers--;
    this.openedFile!.unref(p);
  }

  /** vfio_group_detach_container, or the iommufd in its place. */
  detach(p: Process): void {
    if (this.container !== undefined) this.container.detachGroup(p, this);
    this.iommufd?.put(p);
    this.iommufd = undefined;
  }
}

/** `/dev/vfio/N` or `/dev/vfio/noiommu-N`, open. The one file of its group; open devices of a native container hold it. */
export class VfioGroupFile extends CharFile {
  readonly group: VfioGroup;
  readonly vfio: VfioOperations;

  constructor(device: CharDevice, flags: number, group: VfioGroup) {
    super(device, flags);
    this.group = group;
    this.vfio = {
      isGroup: true,
      enforcedCoherent: () => group.enforcedCoherent,
      setKvm: (kvm) => {
        group.kvm = kvm;
      },
    };
  }

  /** vfio_group_fops_open. */
  static open(p: Process, node: CharDevice, flags: number, group: VfioGroup): VfioGroupFile | number {
    if (group.drivers === 0) return -ENODEV;
    if (group.type === 'noiommu' && !p.capable('CAP_SYS_RAWIO')) return -EPERM;
    if (group.cdevOpenCount > 0) return -EBUSY;
    if (group.openedFile !== undefined) return -EBUSY;
    group.openedFile = new VfioGroupFile(node, flags, group);
    return group.openedFile;
  }

  override ioctl(p: Process, request: number, arg: bigint): number {
    return groupIoctls.dispatch(this.group, p, request, arg);
  }

  override release(p: Process): void {
    this.group.detach(p);
    this.group.openedFile = undefined;
  }
}

/** VFIO_GROUP_GET_STATUS. With an iommufd nothing is owned yet: VIABLE is a promise that GET_DEVICE_FD may not keep. */
function getStatus(group: VfioGroup, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, v.vfio_group_status.size);
  if (bytes === null) return -EFAULT;
  const status = v.vfio_group_status.view(bytes);
  if (status.argsz < v.vfio_group_status.size) return -EINVAL;
  if (group.iommuGroup === undefined) return -ENODEV;
  if (group.hasIommu) status.flags = v.VFIO_GROUP_FLAGS_CONTAINER_SET | v.VFIO_GROUP_FLAGS_VIABLE;
  else status.flags = group.iommuGroup.viable ? v.VFIO_GROUP_FLAGS_VIABLE : 0;
  return p.mm.copyTo(arg, bytes) ? 0 : -EFAULT;
}

/** VFIO_GROUP_SET_CONTAINER: `arg` points to the descriptor of a container, or of an iommufd in its place. */
function setContainer(group: VfioGroup, p: Process, arg: bigint): number {
  const fd = p.mm.read32(arg);
  if (fd === null) return -EFAULT;
  const file = p.fds.get(fd | 0);
  if (file === undefined) return -EBADF;
  if (group.hasIommu) return -EINVAL;
  if (group.iommuGroup === undefined) return -ENODEV;
  if (file instanceof ContainerFile) return file.container.attachGroup(p, group);
  if (!isIommufdFile(file)) return has(p.system.machine, 'groupsTakeIommufds') ? -EBADFD : -EINVAL;
  const context = file.iommufd;
  const error = group.type === 'noiommu' ? context.setNoIommu() : context.createCompatIoas(p);
  if (error < 0) return error;
  group.iommufd = context.get();
  return 0;
}

/** VFIO_GROUP_UNSET_CONTAINER. Devices opened with an iommufd are no reason to refuse: they keep it. */
function unsetContainer(group: VfioGroup, p: Process): number {
  if (!group.hasIommu) return -EINVAL;
  if (group.container !== undefined && group.containerUsers !== 1) return -EBUSY;
  group.detach(p);
  return 0;
}

/** VFIO_GROUP_GET_DEVICE_FD: `arg` is the device's name. The name is looked up before anything else is asked of the group. */
function getDeviceFd(group: VfioGroup, p: Process, arg: bigint): number {
  const name = strndupUser(p, arg, NAME_MAX);
  if (typeof name === 'number') return name;
  const device = group.find(name);
  if (typeof device === 'number') return device;
  const fd = p.fds.reserve(true);
  if (fd < 0) {
    device.put();
    return -EMFILE;
  }
  const file = new VfioDeviceFile(device, O_RDWR, { from: 'group' });
  const error = group.openDevice(p, device, file);
  if (error < 0) {
    p.fds.unreserve(fd);
    file.unref(p);
    return error;
  }
  p.fds.set(fd, file);
  return fd;
}

/** strndup_user: `max` counts the terminating NUL. −EFAULT, −EINVAL where it is longer. */
function strndupUser(p: Process, address: bigint, max: number): string | number {
  const bytes: number[] = [];
  for (let at = 0; at < max; at++) {
    const byte = p.mm.copyFrom(address + BigInt(at), 1);
    if (byte === null) return -EFAULT;
    if (byte[0] === 0) return Buffer.from(bytes).toString('latin1');
    bytes.push(byte[0]!);
  }
  return -EINVAL;
}

/** Every request a group descriptor knows. */
export const groupIoctls: RequestTable<VfioGroup> = new RequestTable<VfioGroup>('vfio-group', ENOTTY, {
  VFIO_GROUP_GET_STATUS: getStatus,
  VFIO_GROUP_SET_CONTAINER: setContainer,
  VFIO_GROUP_UNSET_CONTAINER: unsetContainer,
  VFIO_GROUP_GET_DEVICE_FD: getDeviceFd,
});
