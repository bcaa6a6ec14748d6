/** The KVM-VFIO device given real VFIO files: groups, opened devices, and what it refuses. */
import type { Kernel } from 'kvio';
import {
  KVM_CREATE_DEVICE,
  KVM_DEV_TYPE_VFIO,
  KVM_DEV_VFIO_FILE,
  KVM_DEV_VFIO_FILE_ADD,
  KVM_DEV_VFIO_FILE_DEL,
  KVM_SET_DEVICE_ATTR,
  kvm_create_device,
  kvm_device_attr,
} from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { newVcpu } from '../../machine.ts';
import { cdevOf, groupPath, openDevice, withDevices } from '../../vfio.ts';

/** A VM with its KVM-VFIO device, and calls on it. */
function kvmVfio(kernel: Kernel) {
  const { vm } = newVcpu(kernel);
  const bytes = kvm_create_device.encode({ type: KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 });
  kernel.ioctl(vm, KVM_CREATE_DEVICE, bytes);
  const { fd } = kvm_create_device.decode(bytes);
  const set = (attr: number, file: number): number => {
    const memory = kernel.guestRam(4096);
    memory.write32(0, file >>> 0);
    const args = { flags: 0, group: KVM_DEV_VFIO_FILE, attr: BigInt(attr), addr: memory.address };
    return kernel.ioctl(fd, KVM_SET_DEVICE_ATTR, kvm_device_attr.encode(args));
  };
  return {
    vm,
    fd,
    add: (file: number) => set(KVM_DEV_VFIO_FILE_ADD, file),
    del: (file: number) => set(KVM_DEV_VFIO_FILE_DEL, file),
  };
}

function withGroup(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const path = groupPath(kernel, edu!);
  const group = kernel.open(path);
  const { vm, fd, add, del } = kvmVfio(kernel);
  see.call('DEL before ADD', () => del(group));
  see.call('ADD', () => add(group));
  see.call('ADD again', () => add(group));
  const copy = kernel.dup(group);
  see.call('ADD of a dup', () => add(copy));
  kernel.close(copy);
  see.call('the group cannot be opened again', () => kernel.open(path) >= 0);
  kernel.close(group);
  see.call('closed, KVM still holds it', () => kernel.open(path) >= 0);
  kernel.close(fd);
  kernel.close(vm);
  const other = kvmVfio(kernel);
  see.call('the KVM-VFIO descriptor closed, the VM kept by its vCPU', () => kernel.open(path) >= 0);
  see.call('ADD of the container', () => other.add(kernel.open('/dev/vfio/vfio')));
}

function andBack(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const path = groupPath(kernel, edu!);
  const group = kernel.open(path);
  const first = kvmVfio(kernel);
  const second = kvmVfio(kernel);
  see.call('ADD', () => first.add(group));
  see.call('ADD to another VM too', () => second.add(group));
  see.call('DEL', () => first.del(group));
  see.call('DEL again', () => first.del(group));
  see.call('DEL from the other', () => second.del(group));
  kernel.close(group);
  see.call('it can be opened again', () => kernel.open(path) >= 0);
}

function withCdev(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const path = cdevOf(kernel, edu!);
  const device = kernel.open(path);
  const { add, del } = kvmVfio(kernel);
  see.call('ADD of a device that is not bound', () => add(device));
  see.call('ADD of it again', () => add(device));
  see.call('ADD of another descriptor of the device', () => add(kernel.open(path)));
  see.call('ADD of an iommufd', () => add(kernel.open('/dev/iommu')));
  see.call('DEL', () => del(device));
  see.call('DEL again', () => del(device));
}

function deviceOfGroup(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { device } = openDevice(kernel, edu!);
  const { add, del } = kvmVfio(kernel);
  see.call('ADD of a device that a group gave', () => add(device));
  see.call('ADD of it again', () => add(device));
  see.call('DEL', () => del(device));
}

export const kvmVfioCases: readonly Case[] = [
  withDevices('vfio/kvm/group', 'KVM-VFIO', ['edu'], withGroup),
  withDevices('vfio/kvm/group-and-back', 'KVM-VFIO', ['edu'], andBack),
  withDevices('vfio/kvm/device-of-a-group', 'KVM-VFIO', ['edu'], deviceOfGroup),
  withDevices('vfio/kvm/cdev', 'KVM-VFIO', ['edu'], withCdev, { needs: { devices: ['/dev/iommu'], iommu: true } }),
];
