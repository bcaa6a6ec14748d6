import { text } from '../kernel/arguments.ts';
import { type Descriptor, fdOf } from '../kernel/descriptor.ts';
import { Handle } from '../kernel/handle.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { FdKind } from '../uapi/ioctls.ts';
import {
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  vfio_group_status,
} from '../uapi/vfio.ts';
import { VfioDevice } from './device.ts';
import { printable } from './show.ts';

/** An IOMMU group: the devices that can only be given away together. One open at a time; a device opened from it keeps the group open. */
export class VfioGroup extends Handle {
  /** Opens `/dev/vfio/N` of this kernel, by its number or path (`/dev/vfio/noiommu-N`). EBUSY: open elsewhere, or a device of it is bound through its own node. */
  static open(kernel: Kernel, group: number | string): VfioGroup {
    return new VfioGroup(kernel, kernel.open(typeof group === 'number' ? `/dev/vfio/${group}` : group));
  }

  /** A group descriptor from outside. `close()` closes it; `kernel.close()` does not. */
  static fromFd(kernel: Kernel, fd: number): VfioGroup {
    return new VfioGroup(kernel, kernel.adopt(fd));
  }

  protected override get kind(): FdKind {
    return 'vfio-group';
  }

  /** VFIO_GROUP_GET_STATUS: VFIO_GROUP_FLAGS_VIABLE where no driver of the host holds a device of the group, …_CONTAINER_SET. ENODEV: its last device was unbound. */
  getStatus(): { readonly flags: number } {
    const bytes = vfio_group_status.encode({ argsz: vfio_group_status.size, flags: 0 });
    this.ioctl(VFIO_GROUP_GET_STATUS, bytes);
    return printable('vfio_group_status', { flags: vfio_group_status.decode(bytes).flags });
  }

  /**
   * VFIO_GROUP_SET_CONTAINER: the group's DMA goes through this container (or iommufd), and VFIO owns the group. EPERM: it is not viable, or one of the two has no IOMMU.
   * EINVAL: it has a container. EBADFD: neither a container nor an iommufd.
   */
  setContainer(container: Descriptor): void {
    this.ioctl(VFIO_GROUP_SET_CONTAINER, Int32Array.of(fdOf(container, 'container', this.kernel)));
  }

  /** VFIO_GROUP_UNSET_CONTAINER. EBUSY while a device of the group is open (a mapping of it too). EINVAL without a container. */
  unsetContainer(): void {
    this.ioctl(VFIO_GROUP_UNSET_CONTAINER);
  }

  /**
   * VFIO_GROUP_GET_DEVICE_FD: a device by its name: `0000:01:00.0`, of a mediated one its UUID; behind the name ` vf_token=UUID` where SR-IOV needs it.
   * ENODEV: not in this group, or not bound to a VFIO driver. EINVAL: no container, or no IOMMU set. EAGAIN: it is being reset or unbound.
   */
  getDeviceFd(name: string): VfioDevice {
    const fd = this.ioctl(VFIO_GROUP_GET_DEVICE_FD, Buffer.from(`${text(name, 'name')}\0`, 'latin1'));
    return new VfioDevice(this.kernel, fd, name);
  }
}
