import { EBUSY, EFAULT, EINVAL, ENOENT, ENXIO } from '../../../uapi/sys.ts';
import {
  VFIO_DEVICE_TSM_BIND,
  VFIO_DEVICE_TSM_UNBIND,
  vfio_pci_tsm_bind,
  vfio_pci_tsm_unbind,
} from '../../../uapi/tee-io/xu-may25.ts';
import type { AssignedFunction, BindRequest } from '../../assigned-function.ts';
import type { Coverage } from '../../coverage.ts';
import type { TdiBinding } from '../../hardware/tsm/binding.ts';
import type { TeeIo } from '../../hardware/tsm/switches.ts';
import type { TdiContext } from '../../hardware/tsm/tdi-context.ts';
import { isTvm, type Tvm } from '../../hardware/tsm/tvm.ts';
import type { PciDev } from '../../pci/pci-dev.ts';
import type { Process } from '../../process.ts';
import type { KvmReference } from '../../vfio-file.ts';
import type { BoundDevice } from '../iommufd-context.ts';
import { BarClaims } from './bar-claims.ts';

/** Through vdevice_id. */
const BIND_MIN = 12;
const COMMAND_MEMORY = 2;
const COMMAND_MASTER = 4;
const PCI_COMMAND = 4;

/** The assigned device a TDI belongs to. */
export interface TdiOwner {
  readonly pdev: PciDev;
  readonly kvm: KvmReference | null;
  readonly bound: BoundDevice | undefined;
  memoryGoesDown(): void;
  memoryComesUp(): void;
}

/** RFC. The TDI of an assigned function as its driver has it: who may reach the BARs, how it is bound, and what must not be done to the function while it is. */
export class VfioPciTdi implements AssignedFunction {
  readonly claims: BarClaims = new BarClaims();
  readonly #owner: TdiOwner;
  readonly #teeIo: TeeIo;

  constructor(owner: TdiOwner, teeIo: TeeIo) {
    this.#owner = owner;
    this.#teeIo = teeIo;
  }

  get kvm(): Tvm | undefined {
    const { kvm } = this.#owner;
    return isTvm(kvm) ? kvm : undefined;
  }

  get tdi(): TdiContext | undefined {
    const { pdev } = this.#owner;
    return pdev.system.tsm?.tdiOf(pdev.fn);
  }

  /** By VFIO's door the BARs are claimed already; by another they are where it asks for that, and nobody may have used one. */
  bind({ door, kvm, virtId, exclusive, ended }: BindRequest): number {
    const { tdi, claims } = this;
    if (tdi === undefined) return -ENXIO;
    const claiming = exclusive && door !== 'vfio' && tdi.binding === undefined && tdi.connected;
    const refused = claiming ? claims.claimAll() : 0;
    if (refused < 0) return refused;
    const binding: TdiBinding = {
      ...{ door, kvm, virtId },
      revoke: () => this.#owner.memoryGoesDown(),
      restore: () => this.#owner.memoryComesUp(),
      ended: () => {
        if (exclusive) claims.releaseAll();
        ended();
      },
    };
    const error = tdi.bind(binding);
    if (claiming && tdi.binding !== binding) claims.releaseAll();
    return error;
  }

  unbind(): void {
    this.tdi?.unbind();
  }

  /** The last close: before anything of the device is taken down. */
  close(): void {
    this.unbind();
    this.claims.forget();
  }

  // ---- while it is bound (teeIo.whileBound)

  get #isBound(): boolean {
    return this.tdi?.binding !== undefined;
  }

  /** Memory or state of the function is about to go: 0, and it is unbound where that comes first; −EBUSY, it must not. */
  disturb(): number {
    if (!this.#isBound) return 0;
    if (this.#teeIo.whileBound === 'block') return -EBUSY;
    if (this.#teeIo.whileBound === 'auto-unbind') this.unbind();
    return 0;
  }

  /** COMMAND as it may be written. Bus mastering is nobody's reason to unbind. */
  command(value: number): number {
    if (!this.#isBound) return value;
    if (this.#teeIo.whileBound === 'block') {
      const { pdev } = this.#owner;
      return value | (pdev.readConfig(PCI_COMMAND, 1) & (COMMAND_MEMORY | COMMAND_MASTER));
    }
    if ((value & COMMAND_MEMORY) === 0) this.disturb();
    return value;
  }

  // ---- ioctls

  /** Undefined: another request. */
  ioctl(p: Process, request: number, arg: bigint): number | undefined {
    if (request === VFIO_DEVICE_TSM_BIND) return this.#bind(p, arg);
    return request === VFIO_DEVICE_TSM_UNBIND ? this.#unbind(p, arg) : undefined;
  }

  static cover(coverage: Coverage): void {
    for (const name of ['VFIO_DEVICE_TSM_BIND', 'VFIO_DEVICE_TSM_UNBIND']) coverage.add('RFC ioctl', `${name} (vfio-device)`);
    for (const name of ['VFIO_DEVICE_BIND_IOMMUFD_PRIVATE', 'VFIO_REGION_INFO_FLAG_PRIVATE']) coverage.add('RFC flag', name);
  }

  /** VFIO_DEVICE_TSM_BIND. A device that was opened through a container has no iommufd, which is found out late. */
  #bind(p: Process, arg: bigint): number {
    const bytes = p.mm.copyFrom(arg, BIND_MIN);
    if (bytes === null) return -EFAULT;
    const padded = new Uint8Array(vfio_pci_tsm_bind.size);
    padded.set(bytes);
    const { argsz, flags, vdevice_id } = vfio_pci_tsm_bind.decode(padded);
    if (argsz < BIND_MIN || flags !== 0) return -EINVAL;
    if (this.kvm === undefined) return -ENOENT;
    const claimed = this.claims.claimAll();
    if (claimed < 0) return claimed;
    const error = this.#owner.bound?.bindTdi?.(vdevice_id) ?? -EINVAL;
    if (error < 0) this.claims.releaseAll();
    return error;
  }

  /** VFIO_DEVICE_TSM_UNBIND, by whatever door it was bound. */
  #unbind(p: Process, arg: bigint): number {
    const bytes = p.mm.copyFrom(arg, vfio_pci_tsm_unbind.size);
    if (bytes === null) return -EFAULT;
    const { argsz, flags } = vfio_pci_tsm_unbind.decode(bytes);
    if (argsz < vfio_pci_tsm_unbind.size || flags !== 0) return -EINVAL;
    this.unbind();
    return 0;
  }
}
