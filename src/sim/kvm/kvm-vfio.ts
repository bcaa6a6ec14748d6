import { KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_ADD, KVM_DEV_VFIO_FILE_DEL, type kvm_device_attr } from '../../uapi/kvm.ts';
import { EBADF, EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, ENXIO } from '../../uapi/sys.ts';
import type { File } from '../file.ts';
import type { Process } from '../process.ts';
import { isVfioFile, type VfioFile } from '../vfio-file.ts';
import type { Device } from './devices.ts';
import type { Vm } from './vm.ts';

const ADD = BigInt(KVM_DEV_VFIO_FILE_ADD);
const DEL = BigInt(KVM_DEV_VFIO_FILE_DEL);

/** The KVM-VFIO device: which VFIO files belong to the VM. One per VM; the files it lists are held until they are deleted or it is released. */
export class KvmVfio implements Device {
  readonly name = 'kvm-vfio';
  readonly #vm: Vm;
  readonly #files: VfioFile[] = [];
  /** It has told the VM of DMA that is not coherent with the caches. */
  #noncoherent = false;

  private constructor(vm: Vm) {
    this.#vm = vm;
  }

  static create(vm: Vm): KvmVfio | number {
    for (const device of vm.devices) if (device instanceof KvmVfio) return -EBUSY;
    return new KvmVfio(vm);
  }

  /** `flags` is not looked at. */
  hasAttr(_p: Process, { group, attr }: kvm_device_attr): number {
    return group === KVM_DEV_VFIO_FILE && (attr === ADD || attr === DEL) ? 0 : -ENXIO;
  }

  setAttr(p: Process, wanted: kvm_device_attr): number {
    const known = this.hasAttr(p, wanted);
    if (known < 0) return known;
    const fd = p.mm.read32(wanted.addr);
    if (fd === null) return -EFAULT;
    const file = p.fds.get(fd | 0);
    if (file === undefined) return -EBADF;
    return wanted.attr === ADD ? this.#add(file) : this.#delete(p, file);
  }

  release(p: Process): void {
    for (const file of this.#files) {
      file.vfio.setKvm(null);
      file.unref(p);
    }
    this.#files.length = 0;
    this.#updateCoherency();
  }

  /** What counts is the open file: a dup is the same one. */
  #add(file: File): number {
    if (!isVfioFile(file)) return -EINVAL;
    if (this.#files.includes(file)) return -EEXIST;
    this.#files.push(file.ref());
    file.vfio.setKvm(this.#vm);
    this.#updateCoherency();
    return 0;
  }

  #delete(p: Process, file: File): number {
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
