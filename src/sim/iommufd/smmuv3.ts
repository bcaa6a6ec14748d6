import {
  IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_VEVENTQ_TYPE_ARM_SMMUV3,
  IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
  IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
  IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV,
  iommu_viommu_arm_smmuv3_invalidate,
} from '../../uapi/iommufd.ts';
import { EINVAL, EIO, ENOENT, ENOSPC, EOPNOTSUPP } from '../../uapi/sys.ts';
import type { IommuHardware } from '../hardware/iommu.ts';
import {
  C_BAD_CD,
  C_BAD_STE,
  C_BAD_SUBSTREAMID,
  F_ACCESS,
  F_ADDR_SIZE,
  F_PERMISSION,
  F_STREAM_DISABLED,
  F_TRANSLATION,
} from '../hardware/smmuv3/event.ts';
import type { Smmu, SmmuCommand } from '../hardware/smmuv3/smmu.ts';
import type { IommuGroup } from '../iommu/group.ts';
import { requesterIds } from '../iommu/groups.ts';
import type { PciDev } from '../pci/pci-dev.ts';
import type { Process } from '../process.ts';
import type { DomainFormat } from './domain.ts';
import {
  copyUserArray,
  type HardwareDomain,
  type Invalidated,
  type UserArray,
  type UserData,
  type ViommuOps,
  type ViommuState,
} from './driver.ts';
import { PciIommuDevice } from './pci-iommu.ts';
import { SmmuNested } from './smmuv3-nested.ts';
import { Tegra241Cmdqv } from './tegra241-cmdqv.ts';

/** Events a guest is told of, where they are of its own stage. */
const REPORTED: ReadonlySet<bigint> = new Set(
  [C_BAD_STE, F_STREAM_DISABLED, C_BAD_SUBSTREAMID, C_BAD_CD, F_TRANSLATION, F_ADDR_SIZE, F_ACCESS, F_PERMISSION].map(BigInt),
);
const EVENT = 0xffn;
const EVENT_S2 = 1n << 39n;

const LOW = 0xffff_ffffn;
const OPCODE = 0xffn;
const VMID = 0xffffn << 32n;

/** Commands by opcode: those a guest may give, and what stands in them instead of its own. */
const TLBI_NH_ALL = 0x10n;
const TLBI_NSNH_ALL = 0x30n;
const BY_VMID: ReadonlySet<bigint> = new Set([TLBI_NH_ALL, 0x11n, 0x12n, 0x13n]);
/** CFGI_CD, CFGI_CD_ALL, ATC_INV. */
const BY_STREAM: ReadonlySet<bigint> = new Set([0x05n, 0x06n, 0x40n]);

/** Commands that are issued at once. */
const BATCH = 63;

/** Which VM a device is in, and by what StreamID it knows it there: `struct arm_smmu_vmaster`. */
interface Vmaster {
  readonly viommu: ViommuState;
  readonly stream: bigint;
}

/** `struct arm_smmu_device`: what the driver keeps for one SMMUv3. */
export class ArmSmmu {
  static readonly #all: WeakMap<IommuHardware, ArmSmmu> = new WeakMap();
  readonly hardware: IommuHardware;
  readonly smmu: Smmu;
  readonly #vmids: Set<number> = new Set();

  private constructor(hardware: IommuHardware, smmu: Smmu) {
    this.hardware = hardware;
    this.smmu = smmu;
    const { cmdqv } = hardware.machine;
    if (cmdqv !== undefined) this.cmdqv = new Tegra241Cmdqv(cmdqv, smmu, this.ops, streamOf);
  }

  /** Undefined: not an SMMUv3, or one that does not say what it is. */
  static of(hardware: IommuHardware): ArmSmmu | undefined {
    let driver = ArmSmmu.#all.get(hardware);
    if (driver === undefined && hardware.smmu !== undefined)
      ArmSmmu.#all.set(hardware, (driver = new ArmSmmu(hardware, hardware.smmu)));
    return driver;
  }

  /** The lowest free one; 0 is that of streams without a second stage. −ENOSPC. */
  allocVmid(): number {
    const end = 2 ** this.smmu.registers.vmidBits;
    let vmid = 1;
    while (this.#vmids.has(vmid)) vmid++;
    if (vmid === end) return -ENOSPC;
    this.#vmids.add(vmid);
    return vmid;
  }

  freeVmid(vmid: number): void {
    this.#vmids.delete(vmid);
  }

  /** arm_smmu_attach_commit_vmaster. The id is that of the moment: a vDEVICE that goes later takes nothing away. */
  setVmaster({ fn }: PciDev, vmaster: Vmaster | undefined): void {
    this.hardware.setEvents(fn, vmaster === undefined ? undefined : (event) => report(vmaster, event));
  }

  /** Its VMs' own command queues. */
  readonly cmdqv: Tegra241Cmdqv | undefined;

  readonly ops: ViommuOps = {
    allocNested: (p, viommu, flags, data) => SmmuNested.alloc(p, this.smmu, viommu, flags, data),
    invalidate: (p, viommu, requests) => this.#invalidate(p, viommu, requests),
    initVdevice: (_viommu, device) => (streamOf(device) === undefined ? -EOPNOTSUPP : () => {}),
  };

  /** arm_vsmmu_cache_invalidate. The commands before a bad one count as done, although those of its batch are not issued. */
  #invalidate(p: Process, viommu: ViommuState, requests: UserArray): Invalidated {
    if (requests.type !== IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3 || requests.count === 0) return { done: 0, error: -EINVAL };
    const entries = copyUserArray(p, requests, iommu_viommu_arm_smmuv3_invalidate.size);
    if (typeof entries === 'number') return { done: 0, error: entries };
    let batch: SmmuCommand[] = [];
    for (const [done, entry] of entries.entries()) {
      const [first, second] = iommu_viommu_arm_smmuv3_invalidate.decode(entry).cmd;
      const command = convert(viommu, [first!, second!]);
      if (command === undefined) return { done, error: -EIO };
      batch.push(command);
      if (batch.length < BATCH && done + 1 < entries.length) continue;
      this.smmu.issue(batch);
      batch = [];
    }
    return { done: entries.length, error: 0 };
  }
}

/** A vDEVICE stands for one stream: undefined, the device has several. */
function streamOf(device: object): number | undefined {
  const { streams } = device instanceof ArmSmmuMaster ? device : { streams: [] };
  return streams.length === 1 ? streams[0] : undefined;
}

/** arm_vsmmu_convert_user_cmd: with the VM's tag, or the device's own StreamID. Undefined: not one for guests, or of no device of this one. */
function convert(viommu: ViommuState, [first, second]: SmmuCommand): SmmuCommand | undefined {
  const opcode = first & OPCODE;
  const vmid = BigInt(viommu.parent.format.vmid ?? 0) << 32n;
  if (opcode === TLBI_NSNH_ALL) return [TLBI_NH_ALL | vmid, 0n];
  if (BY_VMID.has(opcode)) return [(first & ~VMID) | vmid, second];
  if (!BY_STREAM.has(opcode)) return undefined;
  const device = viommu.vdevice(first >> 32n);
  const stream = device === undefined ? undefined : streamOf(device);
  return stream === undefined ? undefined : [(first & LOW) | (BigInt(stream) << 32n), second];
}

/** arm_smmu_handle_event, arm_vmaster_report_event: as the guest knows the stream. */
function report({ viommu, stream }: Vmaster, event: BigUint64Array): void {
  if (!REPORTED.has(event[0]! & EVENT) || (event[1]! & EVENT_S2) !== 0n) return;
  const words = BigUint64Array.from(event);
  words[0] = (words[0]! & LOW) | ((stream & LOW) << 32n);
  viommu.report(IOMMU_VEVENTQ_TYPE_ARM_SMMUV3, new Uint8Array(words.buffer));
}

/** A PCI function behind an SMMUv3: `struct arm_smmu_master`. */
export class ArmSmmuMaster extends PciIommuDevice {
  readonly #driver: ArmSmmu;

  constructor(pci: PciDev, group: IommuGroup<PciDev>, driver: ArmSmmu) {
    super(pci, group, driver.hardware);
    this.#driver = driver;
  }

  /** StreamIDs: its requester ids. Behind a bridge to conventional PCI there is another, the bridge's. */
  get streams(): readonly number[] {
    return requesterIds(this.pci.subsystem.fabric, this.pci.fn);
  }

  /** A table that may be a parent is one of the second stage: for physical addresses, and with a tag. */
  override allocPaging(p: Process, flags: number, data: UserData | undefined): DomainFormat | number {
    const format = super.allocPaging(p, flags, data);
    if (typeof format === 'number' || (flags & IOMMU_HWPT_ALLOC_NEST_PARENT) === 0) return format;
    const vmid = this.#driver.allocVmid();
    if (vmid < 0) return vmid;
    const last = (1n << BigInt(this.#driver.smmu.registers.outputBits)) - 1n;
    return { ...format, aperture: { first: 0n, last }, vmid, free: () => this.#driver.freeVmid(vmid) };
  }

  /** arm_smmu_get_viommu_size: only where a VM cannot get around caches, be it that no device can, or that the second stage forbids it. */
  override viommuOps(type: number): ViommuOps | undefined {
    const { machine, smmu } = this.hardware;
    const coherent = machine.enforceCoherency || smmu!.registers.forcesWriteBack;
    if (machine.nesting !== true || !coherent) return super.viommuOps(type);
    if (type === IOMMU_VIOMMU_TYPE_ARM_SMMUV3) return this.#driver.ops;
    const { cmdqv } = this.#driver;
    return type === IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV && cmdqv !== undefined ? cmdqv.ops : super.viommuOps(type);
  }

  override hwInfo(type: number): { readonly type: number; readonly data: Uint8Array } | number {
    return type === IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV ? (this.#driver.cmdqv?.hwInfo ?? -EOPNOTSUPP) : super.hwInfo(type);
  }

  /** arm_smmu_attach_prepare_vmaster of each device of the group: −ENOENT, the VM has no number for one whose accesses it translates. */
  override attach(domain: HardwareDomain): number {
    const masters = new Map<PciDev, Vmaster | undefined>();
    for (const pci of this.group.devices) {
      const viommu = domain instanceof SmmuNested ? domain.viommu : undefined;
      const stream = viommu?.virtIdOf((device) => device instanceof ArmSmmuMaster && device.pci === pci);
      if (stream === undefined && domain instanceof SmmuNested && domain.needsStream) return -ENOENT;
      masters.set(pci, viommu === undefined || stream === undefined ? undefined : { viommu, stream });
    }
    const error = super.attach(domain);
    if (error === 0) for (const [pci, vmaster] of masters) this.#driver.setVmaster(pci, vmaster);
    return error;
  }

  override detach(): void {
    for (const pci of this.group.devices) this.#driver.setVmaster(pci, undefined);
    super.detach();
  }

  /** arm_smmu_handle_ppr: the driver refuses what PCI devices ask for; a fault queue never hears of it. */
  override reportPageRequests(): void {}
}
