import { wide, word } from '../kernel/arguments.ts';
import { KernelError } from '../kernel/errors.ts';
import { setStruct } from '../kernel/handle.ts';
import {
  KVM_CREATE_DEVICE,
  KVM_CREATE_DEVICE_TEST,
  KVM_CREATE_GUEST_MEMFD,
  KVM_DEV_TYPE_VFIO,
  KVM_SET_MEMORY_ATTRIBUTES,
  kvm_create_device,
  kvm_create_guest_memfd,
  kvm_memory_attributes,
} from '../uapi/kvm.ts';
import { KvmDevice, KvmVfio } from './device.ts';
import { GuestMemfd } from './guest-memfd.ts';
import { VmState } from './vm-state.ts';

/** Private memory of a VM, and the other descriptors it makes besides vCPUs: guest_memfds and devices. */
export abstract class VmMemory extends VmState {
  /**
   * KVM_CREATE_GUEST_MEMFD: a file of `size` bytes with memory for this VM's guest. `flags`: GUEST_MEMFD_FLAG_* that KVM_CAP_GUEST_MEMFD_FLAGS
   * names. EINVAL: other flags, a size that is no multiple of the page size. Nothing is allocated yet. KVM_CAP_GUEST_MEMFD.
   */
  createGuestMemfd(size: number | bigint, flags = 0n): GuestMemfd {
    const origin = { size: word(size, 'size'), flags };
    return new GuestMemfd(this.kernel, setStruct(this, KVM_CREATE_GUEST_MEMFD, kvm_create_guest_memfd, origin), origin);
  }

  /**
   * KVM_SET_MEMORY_ATTRIBUTES of guest-physical memory, backed or not: 0 shared, KVM_MEMORY_ATTRIBUTE_PRIVATE private. Nothing is copied or
   * cleared. EINVAL: an attribute that KVM_CAP_MEMORY_ATTRIBUTES of this VM does not name, `address` or `size` no multiple of the page size. ENOTTY where
   * KVM has no attributes. A real kernel takes time and memory for each page.
   */
  setMemoryAttributes(range: { address: bigint; size: number | bigint; attributes: bigint; flags?: bigint }): void {
    const whole = { flags: 0n, ...range, size: wide(range.size, 'size') };
    setStruct(this, KVM_SET_MEMORY_ATTRIBUTES, kvm_memory_attributes, whole);
  }

  /**
   * KVM_CREATE_DEVICE: `type` is one of KVM_DEV_TYPE_*. ENODEV: this architecture has no such device. EBUSY: the VM has one, and cannot have two.
   * KVM_CAP_DEVICE_CTRL.
   */
  createDevice(type: typeof KVM_DEV_TYPE_VFIO): KvmVfio;
  createDevice(type: number): KvmDevice;
  createDevice(type: number): KvmDevice {
    const bytes = kvm_create_device.encode({ type, fd: 0, flags: 0 });
    this.ioctl(KVM_CREATE_DEVICE, bytes);
    const { fd } = kvm_create_device.view(bytes);
    return type === KVM_DEV_TYPE_VFIO ? new KvmVfio(this.kernel, fd, type) : new KvmDevice(this.kernel, fd, type);
  }

  /** KVM_CREATE_DEVICE with KVM_CREATE_DEVICE_TEST: whether this kernel has the type (false where it says ENODEV). Nothing is made. */
  hasDevice(type: number): boolean {
    try {
      setStruct(this, KVM_CREATE_DEVICE, kvm_create_device, { type, fd: 0, flags: KVM_CREATE_DEVICE_TEST });
      return true;
    } catch (error) {
      if (KernelError.isKernelError(error) && error.code === 'ENODEV') return false;
      throw error;
    }
  }
}
