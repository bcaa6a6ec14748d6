import { type Descriptor, fdOf } from '../kernel/descriptor.ts';
import { Handle } from '../kernel/handle.ts';
import type { Kernel, MmapOptions } from '../kernel/kernel.ts';
import type { Memory } from '../kernel/memory.ts';
import { rfcCall } from '../kernel/rfc.ts';
import { withMemory, withRoom } from '../kernel/temporary.ts';
import type { FdKind } from '../uapi/ioctls.ts';
import {
  IOMMU_DESTROY,
  IOMMU_FAULT_QUEUE_ALLOC,
  IOMMU_GET_HW_INFO,
  IOMMU_HW_INFO_FLAG_INPUT_TYPE,
  IOMMU_HWPT_ALLOC,
  IOMMU_HWPT_DATA_NONE,
  IOMMU_HWPT_FAULT_ID_VALID,
  IOMMU_IOAS_ALLOC,
  IOMMU_IOAS_CHANGE_PROCESS,
  IOMMU_OPTION,
  IOMMU_OPTION_OP_GET,
  IOMMU_OPTION_OP_SET,
  IOMMU_OPTION_RLIMIT_MODE,
  IOMMU_VFIO_IOAS,
  IOMMU_VFIO_IOAS_CLEAR,
  IOMMU_VFIO_IOAS_GET,
  IOMMU_VFIO_IOAS_SET,
  IOMMU_VIOMMU_ALLOC,
  IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV,
  iommu_destroy,
  iommu_fault_alloc,
  iommu_hw_info,
  iommu_hwpt_alloc,
  iommu_ioas_alloc,
  iommu_ioas_change_process,
  iommu_option,
  iommu_vfio_ioas,
  iommu_viommu_alloc,
  iommu_viommu_tegra241_cmdqv,
} from '../uapi/iommufd.ts';
import {
  IOMMU_OPTION_EXCLUSIVE_RANGES,
  IOMMU_VIOMMU_KVM_FD,
  iommu_viommu_alloc as rfc_viommu_alloc,
} from '../uapi/tee-io/aneesh-v1.ts';
import { decodeHwInfo, encodeNested, type HwInfoStructs, type NestedData } from './data.ts';
import { FaultQueue } from './events.ts';
import { Hwpt } from './hwpt.ts';
import { Ioas } from './ioas.ts';
import { type HasId, idOf, noteDestroyed, type ObjectId } from './object.ts';
import { Viommu } from './viommu.ts';

const KVM_FD = { series: 'aneeshV2', what: 'IOMMU_VIOMMU_KVM_FD', unknown: ['EOPNOTSUPP', 'E2BIG', 'ENOTTY'] } as const;
const EXCLUSIVE_RANGES = { series: 'aneeshV1', what: 'IOMMU_OPTION_EXCLUSIVE_RANGES', unknown: ['EOPNOTSUPP'] } as const;

/** What IOMMU_HWPT_ALLOC makes a page table of. */
export interface HwptRequest {
  /** IOMMU_HWPT_ALLOC_NEST_PARENT, …_DIRTY_TRACKING, …_PASID; IOMMU_HWPT_FAULT_ID_VALID is added where there is a `fault`. Default 0. */
  flags?: number;
  /** The device it is made for: what `VfioDevice.bindIommufd` gave. */
  dev_id: number;
  /** An IOAS; or a page table made as IOMMU_HWPT_ALLOC_NEST_PARENT, or a vIOMMU, for a nested one. */
  pt: ObjectId;
  /** Of a nested one: its IOMMU's struct. */
  data?: NestedData;
  fault?: FaultQueue;
}

/** What IOMMU_VIOMMU_ALLOC makes a vIOMMU of. */
export interface ViommuRequest {
  /** IOMMU_VIOMMU_TYPE_*. */
  type: number;
  dev_id: number;
  hwpt: ObjectId;
  data?: Uint8Array;
  /** RFC (aneeshV2): the VM it belongs to. */
  vm?: Descriptor;
}

/** What the IOMMU of a device tells of itself. */
export interface HwInfo extends HwInfoStructs {
  /** IOMMU_HW_INFO_TYPE_*: whose struct `data` is. */
  readonly type: number;
  readonly data: Uint8Array;
  /** IOMMU_HW_CAP_*. */
  readonly capabilities: bigint;
  readonly max_pasid_log2: number;
}

/** Room for what an IOMMU driver tells, before it has said how much that is. */
const HW_INFO_ROOM = 256;

/**
 * `/dev/iommu`: IO address spaces, the page tables of IOMMUs, and the devices that go through them. Everything made here has an id, and lives until it is destroyed or the
 * last holder of this descriptor goes: bound devices, event queues and mappings are such holders.
 */
export class Iommufd extends Handle {
  /** Opens `/dev/iommu` of this kernel: every open is a world of its own. */
  static open(kernel: Kernel, path = '/dev/iommu'): Iommufd {
    return new Iommufd(kernel, kernel.open(path));
  }

  /** A descriptor from outside. `close()` closes it; `kernel.close()` does not. */
  static fromFd(kernel: Kernel, fd: number): Iommufd {
    return new Iommufd(kernel, kernel.adopt(fd));
  }

  protected override get kind(): FdKind {
    return 'iommufd';
  }

  /** IOMMU_DESTROY: ENOENT, there is no such object; EBUSY, something refers to it, or it is a bound device. */
  destroy(object: HasId): void {
    const struct = iommu_destroy;
    this.ioctl(IOMMU_DESTROY, struct.encode({ size: struct.size, id: idOf(object, 'object', this) }));
    if (typeof object === 'object') noteDestroyed(object);
  }

  /** IOMMU_IOAS_ALLOC: a new, empty IO address space. */
  ioasAlloc(): Ioas {
    const struct = iommu_ioas_alloc;
    const bytes = struct.encode({ size: struct.size, flags: 0, out_ioas_id: 0 });
    this.ioctl(IOMMU_IOAS_ALLOC, bytes);
    return new Ioas(this, struct.decode(bytes).out_ioas_id);
  }

  /** IOMMU_HWPT_ALLOC: a page table. EINVAL: no such `pt`, or not one this device can have. EOPNOTSUPP: the IOMMU cannot do what `flags` or `data` ask. */
  hwptAlloc({ flags = 0, dev_id, pt, data: given, fault }: HwptRequest): Hwpt {
    const struct = iommu_hwpt_alloc;
    const data = given === undefined ? undefined : encodeNested(given);
    return withMemory(this.kernel, data?.bytes ?? new Uint8Array(0), (address) => {
      const bytes = struct.encode({
        ...{ size: struct.size, flags: fault === undefined ? flags : flags | IOMMU_HWPT_FAULT_ID_VALID },
        ...{ dev_id, pt_id: idOf(pt, 'pt', this), out_hwpt_id: 0, data_type: data?.type ?? IOMMU_HWPT_DATA_NONE },
        ...{
          data_len: data?.bytes.length ?? 0,
          data_uptr: data === undefined ? 0n : address,
          fault_id: fault === undefined ? 0 : idOf(fault, 'fault', this),
        },
      });
      this.ioctl(IOMMU_HWPT_ALLOC, bytes);
      return new Hwpt(this, struct.decode(bytes).out_hwpt_id);
    });
  }

  /** IOMMU_GET_HW_INFO: what the IOMMU of this device is and can do. `type`: IOMMU_HW_INFO_TYPE_*, where the driver has several. */
  getHwInfo(dev_id: number, type?: number): HwInfo {
    const first = this.#hwInfo(dev_id, type, HW_INFO_ROOM);
    const whole = first.whole > HW_INFO_ROOM ? this.#hwInfo(dev_id, type, first.whole) : first;
    return whole.info;
  }

  /** IOMMU_FAULT_QUEUE_ALLOC: a queue of page requests, to be given to `hwptAlloc`. */
  faultQueueAlloc(): FaultQueue {
    const struct = iommu_fault_alloc;
    const bytes = struct.encode({ size: struct.size, flags: 0, out_fault_id: 0, out_fault_fd: 0 });
    this.ioctl(IOMMU_FAULT_QUEUE_ALLOC, bytes);
    const { out_fault_id, out_fault_fd } = struct.decode(bytes);
    return new FaultQueue(this, out_fault_id, out_fault_fd);
  }

  /**
   * IOMMU_VIOMMU_ALLOC: a VM's slice of the IOMMU the device is behind, over a page table made as IOMMU_HWPT_ALLOC_NEST_PARENT. EOPNOTSUPP: the IOMMU has no such type. `data` is written back.
   * RFC (aneeshV2): with `vm`, the vIOMMU holds the file of this VM. EBADF: it is none. EOPNOTSUPP, E2BIG: a kernel without the series.
   */
  viommuAlloc({ type, dev_id, hwpt, data, vm }: ViommuRequest): Viommu {
    const size = vm === undefined ? iommu_viommu_alloc.size : rfc_viommu_alloc.size;
    return withMemory(this.kernel, data ?? new Uint8Array(0), (address, room) => {
      const whole = rfc_viommu_alloc.encode({
        ...{ size, flags: vm === undefined ? 0 : IOMMU_VIOMMU_KVM_FD, type, dev_id, hwpt_id: idOf(hwpt, 'hwpt', this) },
        ...{ out_viommu_id: 0, data_len: data?.length ?? 0, data_uptr: data === undefined ? 0n : address },
        kvm_vm_fd: vm === undefined ? 0 : fdOf(vm, 'vm', this.kernel),
      });
      const bytes = whole.subarray(0, size);
      if (vm === undefined) this.ioctl(IOMMU_VIOMMU_ALLOC, bytes);
      else rfcCall(KVM_FD, () => this.ioctl(IOMMU_VIOMMU_ALLOC, bytes, { unsafe: true }));
      data?.set(room.read(0, data.length));
      return new Viommu(this, iommu_viommu_alloc.decode(bytes).out_viommu_id);
    });
  }

  /**
   * IOMMU_VIOMMU_ALLOC, IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV: one with command queues of its own (`hwQueueAlloc`). Their registers are what `mmap` gives for this offset and length. ENOSPC: the
   * hardware has no interface left.
   */
  viommuAllocTegra241Cmdqv(request: { dev_id: number; hwpt: ObjectId }): { viommu: Viommu } & iommu_viommu_tegra241_cmdqv {
    const data = iommu_viommu_tegra241_cmdqv.alloc();
    const viommu = this.viommuAlloc({ ...request, type: IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV, data });
    return { viommu, ...iommu_viommu_tegra241_cmdqv.decode(data) };
  }

  /** IOMMU_IOAS_CHANGE_PROCESS: what is mapped by file is this process's from now on, with its limits. EINVAL: something is mapped by address. */
  ioasChangeProcess(): void {
    const struct = iommu_ioas_change_process;
    this.ioctl(IOMMU_IOAS_CHANGE_PROCESS, struct.encode({ size: struct.size }));
  }

  /** IOMMU_OPTION, GET. */
  getOption(option_id: number, object_id = 0): bigint {
    return this.#option(option_id, IOMMU_OPTION_OP_GET, object_id, 0n);
  }

  /** IOMMU_OPTION, SET. */
  setOption(option_id: number, val64: bigint, object_id = 0): void {
    this.#option(option_id, IOMMU_OPTION_OP_SET, object_id, val64);
  }

  /** IOMMU_OPTION_RLIMIT_MODE: whether pinned pages count against the process (true), or the user. EBUSY once there is any object; EPERM without CAP_SYS_RESOURCE. */
  get rlimitMode(): boolean {
    return this.getOption(IOMMU_OPTION_RLIMIT_MODE) === 1n;
  }

  set rlimitMode(process: boolean) {
    this.setOption(IOMMU_OPTION_RLIMIT_MODE, process ? 1n : 0n);
  }

  /** IOMMU_OPTION, of IOMMU_OPTION_EXCLUSIVE_RANGES (RFC, aneeshV1): whether a BAR of this device that is mapped is nobody else's. EOPNOTSUPP: a kernel without the series. */
  getExclusiveRanges(dev_id: number): boolean {
    return rfcCall(EXCLUSIVE_RANGES, () => this.getOption(IOMMU_OPTION_EXCLUSIVE_RANGES, dev_id)) === 1n;
  }

  /** IOMMU_OPTION, SET of IOMMU_OPTION_EXCLUSIVE_RANGES (RFC, aneeshV1). */
  setExclusiveRanges(dev_id: number, on: boolean): void {
    rfcCall(EXCLUSIVE_RANGES, () => this.setOption(IOMMU_OPTION_EXCLUSIVE_RANGES, on ? 1n : 0n, dev_id));
  }

  /** IOMMU_VFIO_IOAS, GET: what VFIO's own requests on this descriptor act on. ENODEV: nothing. */
  getVfioIoas(): Ioas {
    return new Ioas(this, this.#vfioIoas(IOMMU_VFIO_IOAS_GET, 0));
  }

  /** IOMMU_VFIO_IOAS, SET. */
  setVfioIoas(ioas: ObjectId): void {
    this.#vfioIoas(IOMMU_VFIO_IOAS_SET, idOf(ioas, 'ioas', this));
  }

  /** IOMMU_VFIO_IOAS, CLEAR. */
  clearVfioIoas(): void {
    this.#vfioIoas(IOMMU_VFIO_IOAS_CLEAR, 0);
  }

  /** mmap(2) of memory that a vIOMMU's driver offers, at the offset it said. The vIOMMU cannot be destroyed while it is mapped. */
  mmap(options: Omit<MmapOptions, 'fd'>): Memory {
    return this.kernel.mmap({ ...options, fd: this.descriptorToMap() });
  }

  #hwInfo(dev_id: number, type: number | undefined, room: number): { info: HwInfo; whole: number } {
    const struct = iommu_hw_info;
    return withRoom(this.kernel, room, (memory) => {
      const bytes = struct.alloc();
      const info = struct.view(bytes);
      info.size = struct.size;
      info.flags = type === undefined ? 0 : IOMMU_HW_INFO_FLAG_INPUT_TYPE;
      info.dev_id = dev_id;
      info.data_len = room;
      info.data_uptr = memory.address;
      info.in_data_type = type ?? 0;
      this.ioctl(IOMMU_GET_HW_INFO, bytes);
      const { data_len: whole, out_data_type, out_capabilities, out_max_pasid_log2 } = info;
      const data = memory.read(0, Math.min(room, whole)).slice();
      return {
        info: {
          ...decodeHwInfo(out_data_type, data),
          type: out_data_type,
          data,
          capabilities: out_capabilities,
          max_pasid_log2: out_max_pasid_log2,
        },
        whole,
      };
    });
  }

  #option(option_id: number, op: number, object_id: number, val64: bigint): bigint {
    const struct = iommu_option;
    const bytes = struct.encode({ size: struct.size, option_id, op, object_id, val64 });
    this.ioctl(IOMMU_OPTION, bytes);
    return struct.decode(bytes).val64;
  }

  #vfioIoas(op: number, ioas_id: number): number {
    const struct = iommu_vfio_ioas;
    const bytes = struct.encode({ size: struct.size, ioas_id, op });
    this.ioctl(IOMMU_VFIO_IOAS, bytes);
    return struct.decode(bytes).ioas_id;
  }
}
