import type { Width } from '../../kernel/memory.ts';
import {
  IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV,
  IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV,
  IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV,
  IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV,
  iommu_hw_info_tegra241_cmdqv,
  iommu_viommu_tegra241_cmdqv,
} from '../../uapi/iommufd.ts';
import { EEXIST, EFAULT, EINVAL, EIO, ENOSPC, EOPNOTSUPP } from '../../uapi/sys.ts';
import type { Backing } from '../file.ts';
import { type CmdqvMachine, VINTF_PAGE0, Vintf } from '../hardware/smmuv3/cmdqv.ts';
import type { Smmu } from '../hardware/smmuv3/smmu.ts';
import type { Process } from '../process.ts';
import { copyUserData, type QueueMemory, type ReadyQueue, type UserData, type ViommuOps, type ViommuState } from './driver.ts';
import { PAGE } from './iova.ts';

/** SID_MATCH: bits of a virtual StreamID. */
const MOST_VSID = 0xf_ffffn;
const COMMAND_LOG2 = 4;
const LEAST_QUEUE = 32n;
/** VCMDQ_BASE: a queue begins at a multiple of 32. */
const BASE_ALIGNMENT = 32n;

/** Registers of an interface's first page, as a mapping has them. */
class Page0 implements Backing {
  readonly notifiers: Set<(truncatedFrom?: number) => void> = new Set();
  readonly #vintf: Vintf;

  constructor(vintf: Vintf) {
    this.#vintf = vintf;
  }

  page(): null {
    return null;
  }

  load(offset: number, width: Width): number {
    return this.#vintf.load(offset, width);
  }

  store(offset: number, width: Width, value: number | bigint): number {
    return this.#vintf.store(offset, width, value);
  }
}

/**
 * drivers/iommu/arm/arm-smmu-v3/tegra241-cmdqv.c: an SMMUv3 whose VMs have command queues of their own. Interface 0 is the host's. Read, not observed. What no driver says of the
 * registers is not modelled.
 */
export class Tegra241Cmdqv {
  readonly #machine: CmdqvMachine;
  readonly #smmu: Smmu;
  readonly #vintfs: Map<ViommuState, Vintf> = new Map();
  readonly ops: ViommuOps;

  /** `base`: what an SMMUv3's own vIOMMU does, and this one too. `streamOf`: the StreamID of a device that has one. */
  constructor(machine: CmdqvMachine, smmu: Smmu, base: ViommuOps, streamOf: (device: object) => number | undefined) {
    this.#machine = machine;
    this.#smmu = smmu;
    this.ops = {
      ...base,
      init: (p, viommu, data) => this.#init(p, viommu, data),
      destroy: (viommu) => this.#vintfs.delete(viommu),
      initVdevice: (viommu, device, virtId) => this.#initVdevice(this.#vintfs.get(viommu)!, streamOf(device), virtId),
      queueTypes: new Set([IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV]),
      initQueue: (viommu, queue) => this.#initQueue(this.#vintfs.get(viommu)!, queue),
    };
  }

  /** tegra241_cmdqv_hw_info. */
  get hwInfo(): { readonly type: number; readonly data: Uint8Array } {
    const { version, log2vsids } = this.#machine;
    const fields = { flags: 0, version, log2vcmdqs: Math.log2(this.#queues), log2vsids, __reserved: 0 };
    return { type: IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV, data: iommu_hw_info_tegra241_cmdqv.encode(fields) };
  }

  /** Of an interface. */
  get #queues(): number {
    return 2 ** (this.#machine.log2vcmdqs - this.#machine.log2vintfs);
  }

  /** tegra241_cmdqv_init_vintf_user. −EINVAL, there must be data. −ENOSPC, no interface is left. */
  #init(p: Process, viommu: ViommuState, data: UserData | undefined): number {
    if (data === undefined) return -EINVAL;
    const struct = iommu_viommu_tegra241_cmdqv;
    const bytes = copyUserData(p, data, IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV, struct.size, struct.size);
    if (typeof bytes === 'number') return bytes;
    const taken = new Set([...this.#vintfs.values()].map(({ index }) => index));
    let index = 1;
    while (taken.has(index)) index++;
    if (index >= 2 ** this.#machine.log2vintfs) return -ENOSPC;
    const vintf = new Vintf(index, this.#smmu, viommu.parent.format.vmid ?? 0, (map) =>
      viommu.report(IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV, new Uint8Array(map.buffer)),
    );
    const out_vintf_mmap_offset = viommu.offer(new Page0(vintf), VINTF_PAGE0);
    if (!p.mm.copyTo(data.uptr, struct.encode({ out_vintf_mmap_offset, out_vintf_mmap_length: BigInt(VINTF_PAGE0) })))
      return -EFAULT;
    this.#vintfs.set(viommu, vintf);
    return 0;
  }

  /** tegra241_vintf_init_vsid: a pair of SID_MATCH and SID_REPLACE. */
  #initVdevice({ streams }: Vintf, physical: number | undefined, virtId: bigint): (() => void) | number {
    if (virtId > MOST_VSID) return -EINVAL;
    if (physical === undefined) return -EOPNOTSUPP;
    let slot = 0;
    while (streams.has(slot)) slot++;
    if (slot >= 2 ** this.#machine.log2vsids) return -ENOSPC;
    streams.set(slot, { virtual: Number(virtId), physical });
    return () => streams.delete(slot);
  }

  /** tegra241_vintf_alloc_lvcmdq_user: in ascending order, and gone in descending order. */
  #initQueue(vintf: Vintf, { index, length, address, page }: QueueMemory): ReadyQueue | number {
    if (index >= this.#queues) return -EINVAL;
    if (vintf.queues.has(index)) return -EEXIST;
    if (index > 0 && !vintf.queues.has(index - 1)) return -EIO;
    const most = 1n << BigInt(this.#smmu.registers.commandQueueLog2 + COMMAND_LOG2);
    if ((length & (length - 1n)) !== 0n || length < LEAST_QUEUE || length > most) return -EINVAL;
    if (address % BASE_ALIGNMENT !== 0n || address % length !== 0n) return -EINVAL;
    vintf.map(index, { page, offset: Number(address % PAGE), log2: Math.log2(Number(length)) - COMMAND_LOG2 });
    return { dependsOn: index === 0 ? undefined : index - 1, destroy: () => vintf.queues.delete(index) };
  }
}
