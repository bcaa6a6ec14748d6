// Command queues of VMs beside an SMMUv3 (NVIDIA Tegra241 CMDQ-V): what its driver gives out, and what a guest sees on the page it is given. Read, as all of this.
import { bindDriver, type Memory, PCI_COMMAND_MASTER, pciDevice, VfioDevice } from 'kvio';
import {
  IOMMU_HW_INFO_TYPE_ARM_SMMUV3,
  IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV,
  IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV,
  IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
  IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV,
  iommu_viommu_tegra241_cmdqv,
  MAP_ANONYMOUS,
  MAP_HUGETLB,
  MAP_PRIVATE,
  PROT_READ,
} from 'kvio/uapi';
import { expect, it } from 'vitest';
import { GPA, registers, SID, scene } from './smmuv3-kit.ts';

/** Four interfaces of two queues each, two StreamIDs. */
const cmdqv = { version: 1, log2vintfs: 2, log2vcmdqs: 3, log2vsids: 1 };
const [CONS, PROD, CONFIG, STATUS, GERROR, GERRORN] = [0, 4, 8, 12, 16, 20];
const ILL = 1 << 24;
const SYNC = 0x46n;

function cmdq(more: Parameters<typeof scene>[0] = {}) {
  const host = scene({ cmdqv, ...more }, { [2 ** 21]: 2 });
  const { iommufd, dev_id, ioas, ram } = host;
  const parent = iommufd.hwptAlloc({ dev_id, pt: ioas, flags: IOMMU_HWPT_ALLOC_NEST_PARENT });
  const alloc = (data: Uint8Array | undefined = new Uint8Array(16)) =>
    iommufd.viommuAlloc({
      type: IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV,
      dev_id,
      hwpt: parent,
      ...(data === undefined ? {} : { data }),
    });
  const place = (data: Uint8Array) => iommu_viommu_tegra241_cmdqv.decode(data);
  const queueOf = (viommu: ReturnType<typeof alloc>, index: number, length = 0x1000n, offset = BigInt(index) * 0x1000n) =>
    viommu.hwQueueAlloc({ type: IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV, index, nesting_parent_iova: GPA + offset, length });
  const put = (at: number, commands: readonly bigint[], second = 0n): void => {
    for (const [i, command] of commands.entries()) {
      ram.write64(at + i * 16, command);
      ram.write64(at + i * 16 + 8, second);
    }
  };
  return { ...host, parent, alloc, place, queueOf, put };
}

/** The same with a vIOMMU, its page and one queue of 256 commands. */
function vm() {
  const made = cmdq();
  const { iommufd, dev_id, parent, queueOf } = made;
  const interface0 = iommufd.viommuAllocTegra241Cmdqv({ dev_id, hwpt: parent });
  const { viommu, out_vintf_mmap_offset: offset, out_vintf_mmap_length: length } = interface0;
  const page: Memory = iommufd.mmap({ offset: Number(offset), length: Number(length), view: false });
  const queue = queueOf(viommu, 0);
  const events = viommu.veventqAlloc({ type: IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV, veventq_depth: 8 });
  const maps = () => events.read().map(({ tegra241_cmdqv }) => [...tegra241_cmdqv!.lvcmdq_err_map]);
  return { ...made, viommu, page, queue, events, maps };
}

it('the hardware says how many there are, by a type of its own', () => {
  const { iommufd, dev_id } = cmdq();
  expect(iommufd.getHwInfo(dev_id).type).toBe(IOMMU_HW_INFO_TYPE_ARM_SMMUV3);
  const { type, data, tegra241_cmdqv } = iommufd.getHwInfo(dev_id, IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV);
  expect([type, data.length]).toEqual([IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV, 8]);
  expect(tegra241_cmdqv).toMatchObject({ flags: 0, version: 1, log2vcmdqs: 1, log2vsids: 1 });
  const without = scene();
  expect(() => without.iommufd.getHwInfo(without.dev_id, IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV)).toThrow(/EOPNOTSUPP/);
});

it('an interface for each vIOMMU, as long as there are any', () => {
  const { alloc, place, parent, iommufd } = cmdq();
  expect(() => iommufd.viommuAlloc({ type: IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV, dev_id: 1, hwpt: parent })).toThrow(/EINVAL/);
  for (const length of [8, 24]) expect(() => alloc(new Uint8Array(length))).toThrow(/EINVAL/);
  const all = [0, 1, 2].map(() => {
    const data = new Uint8Array(16);
    return { viommu: alloc(data), ...place(data) };
  });
  expect(all.map(({ out_vintf_mmap_offset: offset }) => offset)).toEqual([0x1000n, 0x11000n, 0x21000n]);
  expect(all.map(({ out_vintf_mmap_length: length }) => length)).toEqual([0x10000n, 0x10000n, 0x10000n]);
  expect(() => alloc()).toThrow(/ENOSPC/);
  all[1]!.viommu.destroy();
  const data = new Uint8Array(16);
  alloc(data);
  expect(place(data).out_vintf_mmap_offset).toBe(0x11000n);
});

it('data that cannot be written back leaves nothing', () => {
  const { kernel, alloc, iommufd, dev_id, parent } = cmdq();
  const page = kernel.mmap({ length: 4096, prot: PROT_READ, view: false });
  const bytes = new Uint8Array(40);
  const view = new DataView(bytes.buffer);
  for (const [i, word] of [40, 0, IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV, dev_id, parent.id, 0, 16, 0].entries())
    view.setUint32(i * 4, word, true);
  view.setBigUint64(32, page.address, true);
  expect(() => iommufd.ioctl(0x3b90, bytes)).toThrow(/EFAULT/);
  for (let i = 0; i < 3; i++) alloc();
});

it('StreamIDs of 20 bits, two of them', () => {
  const { alloc, iommufd, dev_id, kernel } = cmdq();
  const viommu = alloc();
  expect(() => viommu.vdeviceAlloc({ dev_id, virt_id: 1n << 20n })).toThrow(/EINVAL/);
  const first = viommu.vdeviceAlloc({ dev_id, virt_id: 0xfffffn });
  const others = ['0000:00:02.0', '0000:00:03.0'].map((bdf) => {
    bindDriver(kernel, bdf, 'vfio-pci');
    const device = VfioDevice.open(kernel, pciDevice(kernel, bdf).vfio_device!);
    return device.bindIommufd({ iommufd });
  });
  viommu.vdeviceAlloc({ dev_id: others[0]!, virt_id: 2n });
  expect(() => viommu.vdeviceAlloc({ dev_id: others[1]!, virt_id: 3n })).toThrow(/ENOSPC/);
  first.destroy();
  viommu.vdeviceAlloc({ dev_id: others[1]!, virt_id: 3n });
});

it('queues in order, aligned to their length', () => {
  const { alloc, queueOf, ioas, iommufd, dev_id, parent } = cmdq();
  const viommu = alloc();
  expect(() => queueOf(viommu, 2)).toThrow(/EINVAL/);
  expect(() => queueOf(viommu, 1)).toThrow(/EIO/);
  for (const length of [16n, 48n, 33n]) expect(() => queueOf(viommu, 0, length)).toThrow(/EINVAL/);
  for (const offset of [0x10n, 0x100n]) expect(() => queueOf(viommu, 0, 0x200n, offset)).toThrow(/EINVAL/);
  expect(() => queueOf(viommu, 0, 0x2000n)).toThrow(/EFAULT/);
  const first = queueOf(viommu, 0, 32n, 0xfe0n);
  expect(() => queueOf(viommu, 0)).toThrow(/EEXIST/);
  const second = queueOf(viommu, 1);
  expect(() => first.destroy()).toThrow(/EBUSY/);
  expect(() => ioas.unmapAll()).toThrow(/EBUSY/);
  second.destroy();
  first.destroy();
  queueOf(viommu, 0);
  const plain = iommufd.viommuAlloc({ type: IOMMU_VIOMMU_TYPE_ARM_SMMUV3, dev_id, hwpt: parent });
  expect(() => queueOf(plain, 0)).toThrow(/EOPNOTSUPP/);
  expect(() => viommu.hwQueueAlloc({ type: 9, index: 1, nesting_parent_iova: GPA, length: 32n })).toThrow(/EOPNOTSUPP/);
});

it('no queue is longer than the SMMU’s', () => {
  const { alloc, queueOf } = cmdq({ hwInfo: registers(1, 0x1f << 21, 4 << 21) });
  const viommu = alloc();
  expect(() => queueOf(viommu, 0, 512n)).toThrow(/EINVAL/);
  queueOf(viommu, 0, 256n);
});

it('commands are carried out as PROD says, with the host’s tags', () => {
  const { page, put, hardware, viommu, dev_id } = vm();
  viommu.vdeviceAlloc({ dev_id, virt_id: 0x33n });
  put(0, [0x11n | (9n << 48n), 0x12n | (5n << 32n), 0x40n | (0x33n << 32n), SYNC], 0x77n);
  page.write32(PROD, 4);
  expect([page.read32(CONS), page.read32(STATUS)]).toEqual([0, 0]);
  page.write32(CONFIG, 1);
  expect([page.read32(CONS), page.read32(STATUS), page.read32(CONFIG)]).toEqual([4, 1, 1]);
  expect(hardware.smmu!.commands).toEqual([
    [0x11n | (1n << 32n) | (9n << 48n), 0x77n],
    [0x12n | (1n << 32n), 0x77n],
    [0x40n | (SID << 32n), 0x77n],
  ]);
  put(4 * 16, [0x11n]);
  page.write32(PROD, 5);
  expect([page.read32(CONS), hardware.smmu!.commands.length]).toEqual([5, 4]);
});

it('round and round', () => {
  const { page, put, hardware } = vm();
  page.write32(CONS, 254);
  page.write32(PROD, 254);
  page.write32(CONFIG, 1);
  put(254 * 16, [0x11n, 0x11n]);
  put(0, [0x11n]);
  page.write32(PROD, 0x101);
  expect([page.read32(CONS), hardware.smmu!.commands.length]).toEqual([0x101, 3]);
  expect(() => page.write32(PROD, 0x102 ^ 0x100)).toThrow(/room/);
});

it('a command that is not for VMs stops the queue, and the guest is told', () => {
  const { page, put, hardware, maps } = vm();
  put(0, [0x11n, 0x30n, 0x11n]);
  page.write32(CONFIG, 1);
  page.write32(PROD, 3);
  expect([page.read32(CONS), page.read32(GERROR), page.read32(GERRORN)]).toEqual([1 | ILL, 1, 0]);
  expect([maps(), hardware.smmu!.commands.length]).toEqual([[[1n, 0n]], 1]);
  page.write32(PROD, 3);
  expect([page.read32(CONS), maps()]).toEqual([1 | ILL, []]);
  put(16, [SYNC]);
  page.write32(GERRORN, 1);
  expect([page.read32(CONS), hardware.smmu!.commands.length, page.read32(GERROR)]).toEqual([3, 2, 1]);
});

it('what nobody says of the registers is not modelled', () => {
  const { page, put } = vm();
  expect(() => page.read32(0x18)).toThrow(/not model/);
  expect(() => page.read64(0)).toThrow(/not model/);
  expect(() => page.read32(0x80)).toThrow(/not allocated/);
  page.write32(CONFIG, 1);
  expect(() => page.write32(CONS, 0)).toThrow(/CONS/);
  put(0, [0x40n | (5n << 32n)]);
  expect(() => page.write32(PROD, 1)).toThrow(/StreamID/);
});

it('the page holds the vIOMMU; a queue that goes takes its state along', () => {
  const { page, queue, viommu, events, queueOf, put } = vm();
  put(0, [0x11n]);
  page.write32(CONFIG, 1);
  page.write32(PROD, 1);
  queue.destroy();
  expect(() => page.read32(CONS)).toThrow(/not allocated/);
  const again = queueOf(viommu, 0);
  expect([page.read32(CONS), page.read32(PROD), page.read32(STATUS)]).toEqual([0, 0, 0]);
  again.destroy();
  events.destroy();
  expect(() => viommu.destroy()).toThrow(/EBUSY/);
  page.close();
  viommu.destroy();
});

it('its tables and invalidations are the SMMU’s own', () => {
  const { viommu, device, dev_id, iommufd, fn, ram } = vm();
  const table = iommufd.hwptAlloc({ dev_id, pt: viommu, data: { arm_smmuv3: { ste: [1n | (4n << 1n), 0n] } } });
  device.attachIommufdPt({ pt_id: table.id });
  device.config.setCommand(PCI_COMMAND_MASTER);
  expect(fn.dma.write(GPA + 0x9000n, Uint8Array.of(3))).toBe(true);
  expect(ram.read8(0x9000)).toBe(3);
  viommu.invalidate({ arm_smmuv3: [{ cmd: [0x30n, 0n] }] });
});

it('a queue of several pages wants a huge one', () => {
  const { kernel, iommufd, dev_id, ioas, page, hardware } = vm();
  const huge = kernel.mmap({ length: 2 ** 21, flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB });
  const at = 0x8000_0000n;
  ioas.map(huge, { iova: at });
  const parent = iommufd.hwptAlloc({ dev_id, pt: ioas, flags: IOMMU_HWPT_ALLOC_NEST_PARENT });
  page.close();
  const { viommu, out_vintf_mmap_offset, out_vintf_mmap_length } = iommufd.viommuAllocTegra241Cmdqv({ dev_id, hwpt: parent });
  const alloc = (offset: bigint) =>
    viommu.hwQueueAlloc({
      ...{ type: IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV, index: 0 },
      ...{ nesting_parent_iova: at + offset, length: 0x4000n },
    });
  expect(() => alloc(0x1000n)).toThrow(/EINVAL/);
  alloc(0x4000n);
  const registers = iommufd.mmap({ offset: Number(out_vintf_mmap_offset), length: Number(out_vintf_mmap_length), view: false });
  for (let i = 0; i < 600; i++) huge.write64(0x4000 + i * 16, 0x11n | (BigInt(i) << 48n));
  registers.write32(CONFIG, 1);
  registers.write32(PROD, 600);
  expect(registers.read32(CONS)).toBe(600);
  expect(hardware.smmu!.commands.at(-1)).toEqual([0x11n | (2n << 32n) | (599n << 48n), 0n]);
});
