/** RFC, SEV-TIO v1: TDIs that are bound by way of the KVM-VFIO device. */
import { EBADF, EFAULT, ENODEV, ENOENT, EPERM } from '../../uapi/sys.ts';
import { aikV1 } from '../../uapi/tee-io.ts';
import type { AssignedFunction } from '../assigned-function.ts';
import type { File } from '../file.ts';
import type { Process } from '../process.ts';
import { isVfioFile } from '../vfio-file.ts';
import type { Vm } from './vm.ts';

/** The descriptor's file, and the requester id the guest knows the device by. */
interface Asked {
  readonly file: File;
  readonly rid: number;
}

/** Each keeps its device's file from TDI_BIND to whatever ends it: TDI_UNBIND, the close of the KVM-VFIO device, the device's own door. */
export class KvmVfioTdis {
  readonly #vm: Vm;
  readonly #bound: Map<File, AssignedFunction> = new Map();

  constructor(vm: Vm) {
    this.#vm = vm;
  }

  /** KVM_DEV_VFIO_DEVICE_TDI_BIND. A VM without private memory has no context in the firmware. */
  bind(p: Process, addr: bigint): number {
    const asked = copyIn(p, addr);
    if (typeof asked === 'number') return asked;
    const { file, rid } = asked;
    const assigned = isVfioFile(file) ? file.vfio.assigned : undefined;
    if (assigned === undefined) return -ENOENT;
    if (assigned.tdi === undefined) return -ENODEV;
    if (!this.#vm.hasPrivateMemory) return -EPERM;
    const another = assigned.tdi.binding !== undefined;
    const ended = (): void => {
      if (this.#bound.delete(file)) file.unref(p);
    };
    const error = assigned.bind({ door: 'kvm-vfio', kvm: this.#vm, virtId: BigInt(rid), exclusive: false, ended });
    if (error === 0 && !another) this.#bound.set(file.ref(), assigned);
    return error;
  }

  /** KVM_DEV_VFIO_DEVICE_TDI_UNBIND. */
  unbind(p: Process, addr: bigint): number {
    const asked = copyIn(p, addr);
    if (typeof asked === 'number') return asked;
    const assigned = this.#bound.get(asked.file);
    if (assigned === undefined) return -ENOENT;
    assigned.unbind();
    return 0;
  }

  release(): void {
    for (const assigned of [...this.#bound.values()]) assigned.unbind();
  }
}

function copyIn(p: Process, addr: bigint): Asked | number {
  const bytes = p.mm.copyFrom(addr, aikV1.kvm_vfio_tsm_bind.size);
  if (bytes === null) return -EFAULT;
  const { guest_rid: rid, devfd } = aikV1.kvm_vfio_tsm_bind.decode(bytes);
  const file = p.fds.get(devfd);
  return file === undefined ? -EBADF : { file, rid };
}
