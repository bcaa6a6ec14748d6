import { KVM_CREATE_DEVICE_TEST, KVM_DEV_TYPE_VFIO, kvm_create_device, kvm_device_attr } from '../../uapi/kvm.ts';
import { EFAULT, EIO, EMFILE, ENODEV, ENOTTY, EPERM, O_RDWR } from '../../uapi/sys.ts';
import { AnonFile } from '../file.ts';
import type { Process } from '../process.ts';
import { IoctlTable } from './ioctl-table.ts';
import { KvmVfio } from './kvm-vfio.ts';
import type { Vm } from './vm.ts';

type Attribute = kvm_device_attr;

/** `struct kvm_device`. The accessors it does not have are EPERM before their argument is read. */
export interface Device {
  readonly name: string;
  setAttr?(p: Process, attr: Attribute): number;
  getAttr?(p: Process, attr: Attribute): number;
  hasAttr?(p: Process, attr: Attribute): number;
  /** The last reference to its file is gone. */
  release(p: Process): void;
}

/** `struct kvm_device_ops`: makes the device, or −errno. */
type Create = (vm: Vm) => Device | number;

/** kvm_device_ops_table of x86, by KVM_DEV_TYPE_*. */
const types: ReadonlyMap<number, Create> = new Map([[KVM_DEV_TYPE_VFIO, KvmVfio.create]]);

/** A descriptor made by KVM_CREATE_DEVICE. It keeps the VM. */
export class DeviceFile extends AnonFile {
  readonly vm: Vm;
  readonly device: Device;

  constructor(vm: Vm, device: Device) {
    super(`anon_inode:${device.name}`, O_RDWR);
    this.vm = vm.get();
    this.device = device;
  }

  override release(p: Process): void {
    this.vm.devices.delete(this.device);
    this.device.release(p);
    this.vm.put();
  }

  override ioctl(p: Process, request: number, arg: bigint): number {
    if (p.mm !== this.vm.mm || this.vm.dead) return -EIO;
    return deviceIoctls.dispatch(this.device, p, request, arg);
  }
}

type Accessor = 'setAttr' | 'getAttr' | 'hasAttr';

/** kvm_device_ioctl_attr. */
const through =
  (name: Accessor) =>
  (device: Device, p: Process, arg: bigint): number => {
    if (device[name] === undefined) return -EPERM;
    const bytes = p.mm.copyFrom(arg, kvm_device_attr.size);
    return bytes === null ? -EFAULT : device[name](p, kvm_device_attr.decode(bytes));
  };

/** Every request a device descriptor knows. */
export const deviceIoctls: IoctlTable<Device> = new IoctlTable<Device>('kvm-device', ENOTTY, {
  KVM_SET_DEVICE_ATTR: through('setAttr'),
  KVM_GET_DEVICE_ATTR: through('getAttr'),
  KVM_HAS_DEVICE_ATTR: through('hasAttr'),
});

/** KVM_CREATE_DEVICE. Of `flags` only KVM_CREATE_DEVICE_TEST is looked at: then nothing is made, whatever there is already. */
export function createDevice(vm: Vm, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_create_device.size);
  if (bytes === null) return -EFAULT;
  const asked = kvm_create_device.view(bytes);
  const create = types.get(asked.type);
  if (create === undefined) return -ENODEV;
  if ((asked.flags & KVM_CREATE_DEVICE_TEST) === 0) {
    const device = create(vm);
    if (typeof device === 'number') return device;
    const fd = p.fds.reserve(true);
    if (fd < 0) return -EMFILE;
    vm.devices.add(device);
    p.fds.set(fd, new DeviceFile(vm, device));
    asked.fd = fd;
  }
  // The descriptor is open already: where its number cannot be written, nobody learns it.
  return p.mm.copyTo(arg, bytes) ? 0 : -EFAULT;
}
