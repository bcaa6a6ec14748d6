import { E2BIG, EBADF, EBADFD, EFAULT, EINVAL, EOPNOTSUPP } from '../../uapi/sys.ts';
import { VFIO_DEVICE_BIND_IOMMUFD_PRIVATE } from '../../uapi/tee-io/xu-jan25.ts';
import * as v from '../../uapi/vfio.ts';
import type { Process } from '../process.ts';
import type { VfioDevice, VfioDeviceFile } from './device.ts';
import { isIommufdFile } from './iommufd-context.ts';

/** Through out_devid: shorter is EINVAL. */
const BIND_MIN = 16;
const UUID_SIZE = 16;

/** VFIO_DEVICE_BIND_IOMMUFD: access to the device, once per open file (drivers/vfio/device_cdev.c). */
export function bindIommufd(file: VfioDeviceFile, p: Process, arg: bigint): number {
  const { device } = file;
  const bind = copyBind(p, arg);
  if (typeof bind === 'number') return bind;
  if ((bind.flags & ~v.VFIO_DEVICE_BIND_FLAG_TOKEN) !== 0 || bind.iommufd < 0) return -EINVAL;
  if (file.from === 'group') return -EINVAL;
  // vfio_device_block_group: bound devices and an open group file exclude each other.
  const { group } = device;
  const blocked = group.block();
  if (blocked < 0) return blocked;
  const error = bindDevice(file, p, arg, bind);
  if (error < 0) group.unblock();
  return error;
}

function bindDevice(file: VfioDeviceFile, p: Process, arg: bigint, bind: v.vfio_device_bind_iommufd): number {
  const { device } = file;
  if (file.accessGranted) return -EINVAL;
  const isPrivate = asksPrivate(p, bind);
  const refused = checkToken(device, p, isPrivate ? { ...bind, flags: 0 } : bind);
  if (refused < 0) return refused;
  const iommufd = p.fds.get(bind.iommufd);
  if (iommufd === undefined) return -EBADF;
  if (!isIommufdFile(iommufd)) return -EBADFD;
  file.context = iommufd.iommufd.get();
  const error = device.open(p, file, file.kvm);
  if (error < 0) {
    forget(file, p);
    return error;
  }
  if (!p.mm.write32(arg + BigInt(v.vfio_device_bind_iommufd.offsetOf('out_devid')), device.bound!.id)) {
    device.close(p);
    forget(file, p);
    return -EFAULT;
  }
  device.isPrivate = isPrivate;
  file.accessGranted = true;
  return 0;
}

/** RFC: bit 0 of a struct as it was before tokens is PRIVATE, of a longer one TOKEN. */
function asksPrivate({ system }: Process, { argsz, flags }: v.vfio_device_bind_iommufd): boolean {
  return system.machine.teeIo !== undefined && argsz === BIND_MIN && (flags & VFIO_DEVICE_BIND_IOMMUFD_PRIVATE) !== 0;
}

/** vfio_df_unbind_iommufd, when the file goes. One that was never bound has nothing to give back. */
export function unbindIommufd(file: VfioDeviceFile, p: Process): void {
  if (!file.accessGranted) return;
  file.device.close(p);
  file.device.isPrivate = false;
  forget(file, p);
  file.device.group.unblock();
}

function forget(file: VfioDeviceFile, p: Process): void {
  file.context!.put(p);
  file.context = undefined;
}

/** copy_struct_from_user: what is missing is zero, what is too much must be. */
function copyBind(p: Process, arg: bigint): v.vfio_device_bind_iommufd | number {
  const argsz = p.mm.read32(arg);
  if (argsz === null) return -EFAULT;
  if (argsz < BIND_MIN) return -EINVAL;
  const { size } = v.vfio_device_bind_iommufd;
  const zero = checkZeroed(p, arg + BigInt(size), argsz - size);
  if (zero < 0) return zero;
  const bytes = new Uint8Array(size);
  if (!p.mm.readInto(arg, bytes.subarray(0, Math.min(size, argsz)))) return -EFAULT;
  return v.vfio_device_bind_iommufd.decode(bytes);
}

/** check_zeroed_user: −E2BIG or −EFAULT, whichever comes first. */
function checkZeroed(p: Process, address: bigint, length: number): number {
  const piece = 4096;
  for (let at = 0; at < length; at += piece) {
    const bytes = p.mm.copyFrom(address + BigInt(at), Math.min(piece, length - at));
    if (bytes === null) return -EFAULT;
    if (bytes.some((byte) => byte !== 0)) return -E2BIG;
  }
  return 0;
}

/** vfio_df_check_token. */
function checkToken(device: VfioDevice, p: Process, bind: v.vfio_device_bind_iommufd): number {
  const given = (bind.flags & v.VFIO_DEVICE_BIND_FLAG_TOKEN) !== 0;
  if (device.matchToken === undefined) return given ? -EINVAL : 0;
  if (!given) return device.matchToken(undefined);
  const token = p.mm.copyFrom(bind.token_uuid_ptr, UUID_SIZE);
  return token === null ? -EFAULT : device.matchToken(token);
}

/** The ioctls that only a bound character device has; undefined: another one. */
export function cdevIoctl(file: VfioDeviceFile, p: Process, request: number, arg: bigint): number | undefined {
  if (request === v.VFIO_DEVICE_ATTACH_IOMMUFD_PT) return attach(file.device, p, arg);
  return request === v.VFIO_DEVICE_DETACH_IOMMUFD_PT ? detach(file.device, p, arg) : undefined;
}

/** VFIO_DEVICE_ATTACH_IOMMUFD_PT. Where the id cannot be written, it is the device that is detached, also when it was for a PASID: that one stays. */
function attach(device: VfioDevice, p: Process, arg: bigint): number {
  const layout = v.vfio_device_attach_iommufd_pt;
  const bytes = new Uint8Array(layout.size);
  const asked = prefix(device, p, arg, bytes, layout.offsetOf('pasid'));
  if (typeof asked === 'number') return asked;
  const { pt_id, pasid } = layout.decode(bytes);
  const attached = device.bound!.attach(p, pt_id, asked.pasid ? pasid : undefined);
  if (attached < 0) return attached;
  if (p.mm.write32(arg + BigInt(layout.offsetOf('pt_id')), attached)) return 0;
  device.bound!.detach(p);
  return -EFAULT;
}

/** VFIO_DEVICE_DETACH_IOMMUFD_PT: what is not attached is detached already. */
function detach(device: VfioDevice, p: Process, arg: bigint): number {
  const layout = v.vfio_device_detach_iommufd_pt;
  const bytes = new Uint8Array(layout.size);
  const asked = prefix(device, p, arg, bytes, layout.offsetOf('pasid'));
  if (typeof asked === 'number') return asked;
  device.bound!.detach(p, asked.pasid ? layout.decode(bytes).pasid : undefined);
  return 0;
}

/** The checks both have. The first `minsz` bytes are all that is read, and the pasid behind them with VFIO_DEVICE_ATTACH_PASID. */
function prefix(device: VfioDevice, p: Process, arg: bigint, into: Uint8Array, minsz: number): { pasid: boolean } | number {
  if (!p.mm.readInto(arg, into.subarray(0, minsz))) return -EFAULT;
  const view = new DataView(into.buffer);
  const argsz = view.getUint32(0, true);
  if (argsz < minsz) return -EINVAL;
  const flags = view.getUint32(4, true);
  if ((flags & ~v.VFIO_DEVICE_ATTACH_PASID) !== 0) return -EINVAL;
  if ((flags & v.VFIO_DEVICE_ATTACH_PASID) === 0) return { pasid: false };
  if (!device.pasidCapable) return -EOPNOTSUPP;
  if (argsz < into.length) return -EINVAL;
  return p.mm.readInto(arg + BigInt(minsz), into.subarray(minsz)) ? { pasid: true } : -EFAULT;
}
