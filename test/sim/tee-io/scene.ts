// A confidential VM and an assigned device with TEE-IO, up to where its TDI can be bound: every call as a VMM makes it.
import type { TdiContext } from '../../../src/sim/hardware/tsm/tdi-context.ts';
import { openSim, type SimKernel, type TeeIoOption } from '../../../src/sim/index.ts';
import type { VmFile } from '../../../src/sim/kvm/vm.ts';
import * as u from '../../../src/uapi/index.ts';
import { O_RDWR } from '../../../src/uapi/sys.ts';
import { join } from '../vfio/kit.ts';
import { answer, bind, Opened, words } from '../vfio/pci/kit.ts';

export { answer, join, words };

export const ACCELERATOR = '0000:01:00.0';
export const OTHER = '0000:02:00.0';
export const VIRT_ID = 0x10n;

export const BIND = 1;
export const UNBIND = 2;

export function kernelOf(teeIo: TeeIoOption = 'rfc'): SimKernel {
  return openSim({ machine: 'tee-io-7.2', teeIo });
}

/** A VM with private memory, and its KVM-VFIO device. */
export class Guest {
  readonly kernel: SimKernel;
  readonly fd: number;
  readonly vfio: number;

  constructor(kernel: SimKernel) {
    this.kernel = kernel;
    const kvm = kernel.open('/dev/kvm', O_RDWR);
    this.fd = kernel.ioctl(kvm, u.KVM_CREATE_VM, u.KVM_X86_SW_PROTECTED_VM);
    kernel.close(kvm);
    const bytes = u.kvm_create_device.encode({ type: u.KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 });
    kernel.ioctl(this.fd, u.KVM_CREATE_DEVICE, bytes);
    this.vfio = u.kvm_create_device.decode(bytes).fd;
  }

  get vm(): VmFile['vm'] {
    return (this.kernel.process.fds.get(this.fd) as VmFile).vm;
  }

  file(attr: number, fd: number): unknown {
    const memory = this.kernel.guestRam(4096);
    memory.write32(0, fd);
    const arg = u.kvm_device_attr.encode({ flags: 0, group: u.KVM_DEV_VFIO_FILE, attr: BigInt(attr), addr: memory.address });
    return answer(() => this.kernel.ioctl(this.vfio, u.KVM_SET_DEVICE_ATTR, arg));
  }

  /** A slot of private memory: `pages` of a guest_memfd at `gpa`. Its descriptor. */
  memory(slot: number, gpa: bigint, pages: number): number {
    const size = BigInt(pages * 4096);
    const create = u.kvm_create_guest_memfd.alloc();
    u.kvm_create_guest_memfd.view(create).size = size;
    const fd = this.kernel.ioctl(this.fd, u.KVM_CREATE_GUEST_MEMFD, create);
    const region = u.kvm_userspace_memory_region2.alloc();
    const view = u.kvm_userspace_memory_region2.view(region);
    view.slot = slot;
    view.flags = u.KVM_MEM_GUEST_MEMFD;
    view.guest_phys_addr = gpa;
    view.memory_size = size;
    view.userspace_addr = this.kernel.guestRam(Number(size)).address;
    view.guest_memfd = fd;
    this.kernel.ioctl(this.fd, u.KVM_SET_USER_MEMORY_REGION2, region);
    return fd;
  }
}

export interface SceneOptions {
  readonly teeIo?: TeeIoOption;
  readonly kernel?: SimKernel;
  readonly guest?: Guest | null;
  readonly bdf?: string;
  /** KVM_DEV_VFIO_FILE_ADD before BIND_IOMMUFD. Default true. */
  readonly fileAdd?: boolean;
}

/** Bound to an iommufd, attached to a nesting parent, with vIOMMU and vDEVICE. */
export class Scene extends Opened {
  readonly guest: Guest | undefined;
  readonly bdf: string;
  readonly iommufd: number;
  readonly devId: number;
  readonly ioas: number;
  readonly hwpt: number;
  viommu = 0;
  vdevice = 0;

  constructor({
    teeIo,
    kernel = kernelOf(teeIo),
    guest = new Guest(kernel),
    bdf = ACCELERATOR,
    fileAdd = true,
  }: SceneOptions = {}) {
    bind(kernel, bdf);
    const [name] = kernel.readdir(`/sys/bus/pci/devices/${bdf}/vfio-dev`);
    super(kernel, kernel.open(`/dev/vfio/devices/${name}`, O_RDWR));
    this.bdf = bdf;
    this.guest = guest ?? undefined;
    if (guest !== null && fileAdd) guest.file(u.KVM_DEV_VFIO_FILE_ADD, this.fd);
    this.iommufd = kernel.open('/dev/iommu', O_RDWR);
    const bound = words(4, 16, 0, this.iommufd, 0);
    kernel.ioctl(this.fd, u.VFIO_DEVICE_BIND_IOMMUFD, bound);
    this.devId = word(bound, 12);
    const ioas = words(4, 12, 0, 0);
    this.iommu(u.IOMMU_IOAS_ALLOC, ioas);
    this.ioas = word(ioas, 8);
    const hwpt = u.iommu_hwpt_alloc.alloc();
    const view = u.iommu_hwpt_alloc.view(hwpt);
    view.size = hwpt.length;
    view.flags = u.IOMMU_HWPT_ALLOC_NEST_PARENT;
    view.dev_id = this.devId;
    view.pt_id = this.ioas;
    this.iommu(u.IOMMU_HWPT_ALLOC, hwpt);
    this.hwpt = u.iommu_hwpt_alloc.decode(hwpt).out_hwpt_id;
    kernel.ioctl(this.fd, u.VFIO_DEVICE_ATTACH_IOMMUFD_PT, words(4, 12, 0, this.hwpt));
    this.viommuAlloc();
    this.vdeviceAlloc();
  }

  get tdi(): TdiContext {
    return this.kernel.process.system.tsm!.tdiOf(this.kernel.pci(this.bdf)!)!;
  }

  /** The TDI's state, and whether it is bound. */
  get state(): string {
    const names = ['UNLOCKED', 'LOCKED', 'RUN', 'ERROR'];
    return `${names[this.tdi.tdi.state]}${this.tdi.binding === undefined ? '' : ' bound'}`;
  }

  iommu(request: number, arg: Uint8Array): unknown {
    return answer(() => this.kernel.ioctl(this.iommufd, request, arg));
  }

  viommuAlloc({ type = 1, flags = 0, kvm = 0, size = 48 } = {}): unknown {
    const bytes = join(words(4, size, flags, type, this.devId, this.hwpt, 0, 0, 0), words(8, 0), words(4, kvm, 0));
    const result = this.iommu(u.IOMMU_VIOMMU_ALLOC, bytes);
    if (result === 0) this.viommu = word(bytes, 20);
    return result;
  }

  vdeviceAlloc(virtId: bigint = VIRT_ID): unknown {
    const bytes = join(words(4, 24, this.viommu, this.devId, 0), words(8, virtId));
    const result = this.iommu(u.IOMMU_VDEVICE_ALLOC, bytes);
    if (result === 0) this.vdevice = word(bytes, 12);
    return result;
  }

  destroy(id: number): unknown {
    return this.iommu(u.IOMMU_DESTROY, words(4, 8, id));
  }

  /** IOMMU_VDEVICE_TSM_OP. */
  op(type: number, id = this.vdevice, { flags = 0, request = 0x3b95 } = {}): unknown {
    return this.iommu(request, words(4, 16, type, flags, id));
  }

  /** VFIO_DEVICE_TSM_BIND and _UNBIND. */
  tsmBind(id = this.vdevice, argsz = 16, flags = 0): unknown {
    return this.call(u.teeIo.xuMay25.VFIO_DEVICE_TSM_BIND, words(4, argsz, flags, id, 0));
  }

  tsmUnbind(argsz = 8, flags = 0): unknown {
    return this.call(u.teeIo.xuMay25.VFIO_DEVICE_TSM_UNBIND, words(4, argsz, flags));
  }
}

export function word(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
}
