import { KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_ADD, KVM_DEV_VFIO_FILE_DEL, type kvm_device_attr } from '../../uapi/kvm.ts';
import { EBADF, EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, ENXIO } from '../../uapi/sys.ts';
import { aikV1, kvmVfio2013 } from '../../uapi/tee-io.ts';
import { has } from '../changes.ts';
import type { File } from '../file.ts';
import type { Process } from '../process.ts';
import { isVfioFile, type VfioFile } from '../vfio-file.ts';
import type { Device } from './devices.ts';
import { KvmVfioTdis } from './kvm-vfio-tdis.ts';
import type { Vm } from './vm.ts';

/** What setting an attribute does. `addr` is not looked at before. */
type Operation = (device: KvmVfio, p: Process, addr: bigint) => number;
/** By group and attribute. */
type Attributes = Readonly<Record<number, Readonly<Record<number, Operation>>>>;

/** The KVM-VFIO device: which VFIO files belong to the VM. One per VM; the files it lists are held until they are deleted or it is released. */
export class KvmVfio implements Device {
  readonly name = 'kvm-vfio';
  readonly tdis: KvmVfioTdis;
  readonly #vm: Vm;
  readonly #files: VfioFile[] = [];
  /** It has told the VM of DMA that is not coherent with the caches. */
  #noncoherent = false;

  private constructor(vm: Vm) {
    this.#vm = vm;
    this.tdis = new KvmVfioTdis(vm);
  }

  static create(vm: Vm): KvmVfio | number {
    for (const device of vm.devices) if (device instanceof KvmVfio) return -EBUSY;
    return new KvmVfio(vm);
  }

  /** `flags` is not looked at. */
  hasAttr(_p: Process, { group, attr }: kvm_device_attr): number {
    return operationOf(this.#vm, group, attr) === undefined ? -ENXIO : 0;
  }

  setAttr(p: Process, { group, attr, addr }: kvm_device_attr): number {
    return operationOf(this.#vm, group, attr)?.(this, p, addr) ?? -ENXIO;
  }

  release(p: Process): void {
    this.tdis.release();
    for (const file of this.#files) {
      file.vfio.setKvm(null);
      file.unref(p);
    }
    this.#files.length = 0;
    this.#updateCoherency();
  }

  /** What counts is the open file: a dup is the same one. */
  add(file: File): number {
    if (!isVfioFile(file) || !(file.vfio.isGroup === true || has(this.#vm.machine, 'kvmVfioTakesDevices'))) return -EINVAL;
    if (this.#files.includes(file)) return -EEXIST;
    this.#files.push(file.ref());
    file.vfio.setKvm(this.#vm);
    this.#updateCoherency();
    return 0;
  }

  delete(p: Process, file: File): number {
    const at = (this.#files as File[]).indexOf(file);
    if (at < 0) return -ENOENT;
    const [gone] = this.#files.splice(at, 1);
    gone!.vfio.setKvm(null);
    gone!.unref(p);
    this.#updateCoherency();
    return 0;
  }

  /** kvm_vfio_update_coherency. */
  #updateCoherency(): void {
    const noncoherent = this.#files.some((file) => !file.vfio.enforcedCoherent());
    if (noncoherent === this.#noncoherent) return;
    this.#noncoherent = noncoherent;
    this.#vm.noncoherentDma += noncoherent ? 1 : -1;
    // On the first and the last, memory types may have changed (KVM_X86_QUIRK_IGNORE_GUEST_PAT).
    this.#vm.zap();
  }
}

/** `addr` points to the descriptor. */
const byPointer =
  (operation: (device: KvmVfio, p: Process, file: File) => number): Operation =>
  (device, p, addr) => {
    const fd = p.mm.read32(addr);
    if (fd === null) return -EFAULT;
    const file = p.fds.get(fd | 0);
    return file === undefined ? -EBADF : operation(device, p, file);
  };

/** RFC, 2013: `addr` is the descriptor. */
const byValue =
  (operation: (device: KvmVfio, p: Process, file: File) => number): Operation =>
  (device, p, addr) => {
    const file = p.fds.get(Number(BigInt.asIntN(32, addr)));
    return file === undefined ? -EBADF : operation(device, p, file);
  };

const mainline: Attributes = {
  [KVM_DEV_VFIO_FILE]: {
    [KVM_DEV_VFIO_FILE_ADD]: byPointer((device, _p, file) => device.add(file)),
    [KVM_DEV_VFIO_FILE_DEL]: byPointer((device, p, file) => device.delete(p, file)),
  },
};

/** RFC, the posting of September 2013: groups where mainline has attributes, and VFIO groups alone. */
const posted2013: Readonly<Record<number, Operation>> = {
  [kvmVfio2013.KVM_DEV_VFIO_ADD_GROUP]: byValue((device, _p, file) =>
    isVfioFile(file) && file.vfio.isGroup === true ? device.add(file) : -EINVAL,
  ),
  [kvmVfio2013.KVM_DEV_VFIO_DEL_GROUP]: byValue((device, p, file) => device.delete(p, file)),
};

/** RFC, SEV-TIO v1. */
const sevTio: Attributes = {
  [aikV1.KVM_DEV_VFIO_DEVICE]: {
    [aikV1.KVM_DEV_VFIO_DEVICE_TDI_BIND]: ({ tdis }, p, addr) => tdis.bind(p, addr),
    [aikV1.KVM_DEV_VFIO_DEVICE_TDI_UNBIND]: ({ tdis }, p, addr) => tdis.unbind(p, addr),
  },
};

/** What an attribute is to this machine's kernel. The posting of 2013 does not look at it, and its callers pass 0. */
function operationOf({ teeIo }: Vm, group: number, attr: bigint): Operation | undefined {
  const dialect = teeIo?.kvmVfioDialect ?? 'mainline';
  if (dialect === '2013' || (dialect === 'both' && attr === 0n)) return posted2013[group];
  const number = Number(attr);
  return mainline[group]?.[number] ?? (teeIo?.dialects.includes('aik-v1') ? sevTio[group]?.[number] : undefined);
}
