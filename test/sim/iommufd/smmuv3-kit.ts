// A device behind an SMMUv3, in a VM: the guest's memory as the parent's addresses, with a context descriptor and tables of 4 KiB in it.
import { bindDriver, Iommufd, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY, pciDevice, VfioDevice } from 'kvio';
import { type IommuMachine, openSim, PciFunction, profiles, type SimKernel } from 'kvio/sim';
import {
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_VEVENTQ_TYPE_ARM_SMMUV3,
  IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
  iommu_hw_info_arm_smmuv3,
} from 'kvio/uapi';
import { afterEach } from 'vitest';

export const BDF = '0000:00:10.0';
/** Its requester id. */
export const SID = 0x80n;
export const PAGE = 4096;
/** The guest's memory, in the parent's addresses. */
export const GPA = 0x4000_0000n;
export const IOVA = 0x1234_5000n;
export const VSID = 0x77n;

/** STE, first word: valid, stage 1. */
export const V = 1n;
export const S1 = V | (5n << 1n);
export const BYPASS = V | (4n << 1n);
export const ABORT = V;

/** CD, first word: 48 bits of 4 KiB pages below, nothing above; 48 bits out; VMSAv8-64; faults are recorded and abort. */
export const CD = 16n | (1n << 30n) | (1n << 31n) | (5n << 32n) | (1n << 41n) | (1n << 45n) | (1n << 46n) | (1n << 47n);
export const TABLE = 3n;
/** A page: for the unprivileged, accessed. */
export const LEAF = 3n | (1n << 6n) | (1n << 10n);
export const BLOCK = LEAF & ~2n;

/** Pages of the guest's memory: contexts, tables of the four levels, data. */
export const at = { contexts: 0, tables: 1, data: 8 } as const;

export class Master extends PciFunction {}

const kernels: SimKernel[] = [];
afterEach(() => {
  for (const kernel of kernels.splice(0)) kernel.close();
});

const PASID_CAP = { id: 0x1b, bytes: Uint8Array.of(0, 20, 0, 0) };

/** Registers with some bits of one of them otherwise. */
export function registers(index: number, mask: number, value: number): NonNullable<IommuMachine['hwInfo']> {
  const { type, bytes } = profiles['smmuv3-7.2']!.iommu!.hwInfo!;
  const info = iommu_hw_info_arm_smmuv3.decode(bytes);
  const idr = info.idr.map((word, i) => (i === index ? ((word & ~mask) | value) >>> 0 : word));
  return { type, bytes: iommu_hw_info_arm_smmuv3.encode({ ...info, idr }) };
}

export function scene(more: Partial<IommuMachine> = {}, hugePages: Readonly<Record<number, number>> = {}) {
  const fn = new Master({
    ...{ vendor: 0x1234, device: 0x5678, class: 0xff0000, express: true, bars: { 0: { size: 0x1000, space: 'mem32' } } },
    extended: [PASID_CAP],
  });
  const base = profiles['smmuv3-7.2']!;
  const kernel = openSim({
    machine: { ...base, hugePages: { ...base.hugePages, ...hugePages }, iommu: { ...base.iommu!, ...more } },
    pci: [{ at: BDF, device: fn }],
  });
  kernels.push(kernel);
  bindDriver(kernel, BDF, 'vfio-pci');
  const iommufd = Iommufd.open(kernel);
  const device = VfioDevice.open(kernel, pciDevice(kernel, BDF).vfio_device!);
  const dev_id = device.bindIommufd({ iommufd });
  device.config.setCommand(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
  const ioas = iommufd.ioasAlloc();
  const ram = kernel.guestRam(0x40_0000);
  ioas.map(ram, { iova: GPA });
  const hardware = kernel.process.system.pci.iommu!;
  return { kernel, fn, iommufd, device, dev_id, ioas, ram, hardware };
}

/** The same, with a vIOMMU that knows the device by VSID, and its events. */
export function guest(more: Partial<IommuMachine> = {}) {
  const host = scene(more);
  const { iommufd, device, dev_id, ioas, ram, hardware } = host;
  const parent = iommufd.hwptAlloc({ dev_id, pt: ioas, flags: IOMMU_HWPT_ALLOC_NEST_PARENT });
  const viommu = iommufd.viommuAlloc({ type: IOMMU_VIOMMU_TYPE_ARM_SMMUV3, dev_id, hwpt: parent });
  const vdevice = viommu.vdeviceAlloc({ dev_id, virt_id: VSID });
  const queue = viommu.veventqAlloc({ type: IOMMU_VEVENTQ_TYPE_ARM_SMMUV3, veventq_depth: 16 });
  const gpa = (page: number): bigint => GPA + BigInt(page * PAGE);
  const nested = (first: bigint, second = 0n) =>
    iommufd.hwptAlloc({ dev_id, pt: viommu, data: { arm_smmuv3: { ste: [first, second] } } });
  const attach = (first: bigint, second = 0n) => device.attachIommufdPt({ pt_id: nested(first, second).id });
  const entry = (level: number, iova: bigint): number =>
    (at.tables + level) * PAGE + Number((iova >> BigInt(12 + 9 * (3 - level))) & 0x1ffn) * 8;
  const context = (word: bigint, index = 0, ttb0 = gpa(at.tables)): void => {
    ram.write64(at.contexts * PAGE + index * 64, word);
    ram.write64(at.contexts * PAGE + index * 64 + 8, ttb0);
  };
  context(CD);
  for (let level = 0; level < 3; level++) ram.write64(entry(level, IOVA), gpa(at.tables + level + 1) | TABLE);
  ram.write64(entry(3, IOVA), gpa(at.data) | LEAF);
  /** Records that came since the last time, as words. */
  const events = (): bigint[][] => queue.read().map(({ arm_smmuv3 }) => [...arm_smmuv3!.evt]);
  /** The numbers of those events. */
  const ids = (): number[] => events().map(([word]) => Number(word! & 0xffn));
  const recorded = () => hardware.faults.at(-1)?.event;
  return { ...host, parent, viommu, vdevice, queue, gpa, nested, attach, entry, context, events, ids, recorded };
}
