import { nameOf, noteFile } from '../host/holders.ts';
import { type Descriptor, fdOf } from '../kernel/descriptor.ts';
import { Handle } from '../kernel/handle.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { rfcCall } from '../kernel/rfc.ts';
import { withMemory } from '../kernel/temporary.ts';
import {
  KVM_DEV_VFIO_FILE,
  KVM_DEV_VFIO_FILE_ADD,
  KVM_DEV_VFIO_FILE_DEL,
  KVM_GET_DEVICE_ATTR,
  KVM_SET_DEVICE_ATTR,
  kvm_device_attr,
} from '../uapi/kvm.ts';
import {
  KVM_DEV_VFIO_DEVICE,
  KVM_DEV_VFIO_DEVICE_TDI_BIND,
  KVM_DEV_VFIO_DEVICE_TDI_UNBIND,
  kvm_vfio_tsm_bind,
} from '../uapi/tee-io/aik-v1.ts';
import { KVM_DEV_VFIO_ADD_GROUP, KVM_DEV_VFIO_DEL_GROUP } from '../uapi/tee-io/kvm-vfio-2013.ts';
import { type DeviceAttr, encodeAttr, hasAttr } from './device-attr.ts';

/** A device in the kernel, made by KVM_CREATE_DEVICE: nothing but attributes. Its descriptor keeps the VM. */
export class KvmDevice extends Handle {
  /** KVM_DEV_TYPE_*; undefined for a descriptor from outside. */
  readonly type: number | undefined;

  constructor(kernel: Kernel, fd: number, type?: number) {
    super(kernel, fd);
    this.type = type;
  }

  /** A descriptor from outside. `close()` closes it; `kernel.close()` does not. */
  static fromFd(kernel: Kernel, fd: number): KvmDevice {
    return new KvmDevice(kernel, kernel.adopt(fd));
  }

  /** KVM_SET_DEVICE_ATTR: the kernel reads the attribute where `addr` (or `memory`) says. ENXIO: no such attribute. EPERM: none can be set. */
  setDeviceAttr(attr: DeviceAttr): void {
    this.ioctl(KVM_SET_DEVICE_ATTR, encodeAttr(this.kernel, attr));
  }

  /** KVM_GET_DEVICE_ATTR: writes the attribute where `addr` (or `memory`) says. ENXIO: no such attribute. EPERM: none can be read. */
  getDeviceAttr(attr: DeviceAttr): void {
    this.ioctl(KVM_GET_DEVICE_ATTR, encodeAttr(this.kernel, attr));
  }

  /** KVM_HAS_DEVICE_ATTR: false where the kernel says ENXIO. `addr` is not looked at. */
  hasDeviceAttr(attr: { flags?: number; group: number; attr: bigint; addr?: bigint }): boolean {
    return hasAttr(this, attr);
  }
}

/**
 * The KVM-VFIO device (KVM_DEV_TYPE_VFIO), one per VM: which VFIO groups and devices belong to the VM. A device learns its VM when it is opened
 * for the first time after its file was added. WBINVD of the guest is executed while one of them has DMA that bypasses the caches.
 */
export class KvmVfio extends KvmDevice {
  /** Devices whose files are held here. */
  readonly #devices: Set<string> = new Set();

  /**
   * KVM_DEV_VFIO_FILE_ADD of a VFIO group or device descriptor, whose file is held until it is deleted or this device is closed.
   * EBADF: not open. EINVAL: no such file. EEXIST: added already.
   */
  addFile(fd: Descriptor): void {
    this.#file(KVM_DEV_VFIO_FILE_ADD, fd);
    this.#holds(fd);
  }

  /** KVM_DEV_VFIO_FILE_DEL: by any descriptor of the same open file. ENOENT: not added. */
  delFile(fd: Descriptor): void {
    const name = nameOf(this.kernel, fdOf(fd, 'fd', this.kernel));
    this.#file(KVM_DEV_VFIO_FILE_DEL, fd);
    if (name !== undefined) this.#devices.delete(name);
  }

  /** KVM_SET_DEVICE_ATTR of KVM_DEV_VFIO_ADD_GROUP (RFC, kvmVfio2013): a VFIO group, by the number itself. EBADF, EEXIST. ENXIO: a kernel without the series. */
  addGroup(fd: Descriptor): void {
    this.#group('KVM_DEV_VFIO_ADD_GROUP', KVM_DEV_VFIO_ADD_GROUP, fd);
  }

  /** KVM_SET_DEVICE_ATTR of KVM_DEV_VFIO_DEL_GROUP (RFC, kvmVfio2013). ENOENT: not added. */
  delGroup(fd: Descriptor): void {
    this.#group('KVM_DEV_VFIO_DEL_GROUP', KVM_DEV_VFIO_DEL_GROUP, fd);
  }

  /** KVM_SET_DEVICE_ATTR of KVM_DEV_VFIO_DEVICE_TDI_BIND (RFC, aikV1): binds the TDI of a VFIO device. ENOENT: no such device. ENODEV: it has no TDI. ENXIO: a kernel without the series. */
  tdiBind(bind: { guest_rid: number; devfd: Descriptor }): void {
    this.#tdi('KVM_DEV_VFIO_DEVICE_TDI_BIND', KVM_DEV_VFIO_DEVICE_TDI_BIND, bind);
  }

  /** KVM_SET_DEVICE_ATTR of KVM_DEV_VFIO_DEVICE_TDI_UNBIND (RFC, aikV1). ENOENT: not bound here. */
  tdiUnbind(bind: { guest_rid: number; devfd: Descriptor }): void {
    this.#tdi('KVM_DEV_VFIO_DEVICE_TDI_UNBIND', KVM_DEV_VFIO_DEVICE_TDI_UNBIND, bind);
  }

  /** A device whose file is held here is open, whatever becomes of its descriptor: its driver waits for that. */
  #holds(fd: Descriptor): void {
    const name = nameOf(this.kernel, fdOf(fd, 'fd', this.kernel));
    if (name === undefined) return;
    this.#devices.add(name);
    const [weak, devices] = [new WeakRef(this), this.#devices];
    noteFile(this.kernel, name, () => {
      const { closed = true, fd: own } = weak.deref() ?? {};
      return closed || !devices.has(name) ? undefined : `the KVM-VFIO device, descriptor ${own}`;
    });
  }

  #group(what: string, group: number, fd: Descriptor): void {
    const addr = BigInt.asUintN(64, BigInt(fdOf(fd, 'fd', this.kernel)));
    const bytes = kvm_device_attr.encode({ flags: 0, group, attr: 0n, addr });
    rfcCall({ series: 'kvmVfio2013', what, unknown: ['ENXIO'] }, () => this.ioctl(KVM_SET_DEVICE_ATTR, bytes, { unsafe: true }));
  }

  #tdi(what: string, attr: number, { guest_rid, devfd }: { guest_rid: number; devfd: Descriptor }): void {
    const bind = kvm_vfio_tsm_bind.encode({ guest_rid, devfd: fdOf(devfd, 'devfd', this.kernel) });
    const rfc = { series: 'aikV1', what, unknown: ['ENXIO'] } as const;
    rfcCall(rfc, () => this.#set(KVM_DEV_VFIO_DEVICE, attr, bind));
  }

  #file(attr: number, fd: Descriptor): void {
    const number = Int32Array.of(fdOf(fd, 'fd', this.kernel));
    this.#set(KVM_DEV_VFIO_FILE, attr, new Uint8Array(number.buffer));
  }

  #set(group: number, attr: number, bytes: Uint8Array): void {
    withMemory(this.kernel, bytes, (addr) => this.setDeviceAttr({ flags: 0, group, attr: BigInt(attr), addr }));
  }
}
