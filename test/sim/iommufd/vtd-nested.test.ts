// A guest's own page tables over the host's (VT-d, scalable mode): what a device reaches through both. No lab has such an IOMMU: these are the rules as read.
import {
  bindDriver,
  type InvalidationIncomplete,
  Iommufd,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  pciDevice,
  VfioDevice,
} from 'kvio';
import { openSim, PciFunction, profiles } from 'kvio/sim';
import {
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_DATA_VTD_S1,
  IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
  IOMMU_VTD_S1_SRE,
  iommu_hwpt_vtd_s1,
  iommu_hwpt_vtd_s1_invalidate,
} from 'kvio/uapi';
import { expect, it } from 'vitest';

const BDF = '0000:00:10.0';
const PAGE = 4096;
/** The guest's memory, in the parent's addresses. */
const GPA = 0x10_0000n;
const [P, W, U, LARGE] = [1n, 2n, 4n, 0x80n];
const IOVA = 0x1234_5000n;

class Master extends PciFunction {}

function scene() {
  const fn = new Master({ vendor: 0x1234, device: 0x5678, class: 0xff0000, bars: { 0: { size: 0x1000, space: 'mem32' } } });
  const lab = profiles['lab-vtd-7.2']!;
  const machine = { ...lab, iommu: { ...lab.iommu!, nesting: true, dirtyTracking: true } };
  const kernel = openSim({ machine, pci: [{ at: BDF, device: fn }] });
  bindDriver(kernel, BDF, 'vfio-pci');
  const iommufd = Iommufd.open(kernel);
  const device = VfioDevice.open(kernel, pciDevice(kernel, BDF).vfio_device!);
  const dev_id = device.bindIommufd({ iommufd });
  device.config.setCommand(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
  const ioas = iommufd.ioasAlloc();
  const ram = kernel.guestRam(0x40_0000);
  ioas.map(ram, { iova: GPA });
  const parent = iommufd.hwptAlloc({ dev_id, pt: ioas, flags: IOMMU_HWPT_ALLOC_NEST_PARENT });
  const nested = (fields: Partial<iommu_hwpt_vtd_s1> = {}) =>
    iommufd.hwptAlloc({
      dev_id,
      pt: parent,
      data: {
        type: IOMMU_HWPT_DATA_VTD_S1,
        bytes: iommu_hwpt_vtd_s1.encode({ flags: 0n, pgtbl_addr: GPA, addr_width: 48, __reserved: 0, ...fields }),
      },
    });
  /** Tables of four levels in pages 0 to 3, and IOVA at page 8. */
  const entry = (level: number, at: bigint) => (4 - level) * PAGE + Number((at >> BigInt(12 + 9 * (level - 1))) & 0x1ffn) * 8;
  const gpa = (page: number) => GPA + BigInt(page * PAGE);
  for (let level = 4; level > 1; level--) ram.write64(entry(level, IOVA), gpa(5 - level) | P | W | U);
  ram.write64(entry(1, IOVA), gpa(8) | P | W | U);
  const attach = (id: number): number => device.attachIommufdPt({ pt_id: id });
  const faults = () => kernel.process.system.pci.iommu!.faults.length;
  return { kernel, fn, iommufd, dev_id, ioas, ram, parent, nested, entry, gpa, attach, faults };
}

it('DMA goes through both stages, and marks what it used', () => {
  const { fn, ram, nested, entry, attach } = scene();
  attach(nested().id);
  expect(fn.dma.write(IOVA + 0x10n, Uint8Array.of(1, 2, 3))).toBe(true);
  expect(ram.read(8 * PAGE + 0x10, 3)).toEqual(Uint8Array.of(1, 2, 3));
  expect(fn.dma.read(IOVA + 0x10n, 3)).toEqual(Uint8Array.of(1, 2, 3));
  expect([4, 3, 2, 1].map((level) => ram.read64(entry(level, IOVA)) & 0x60n)).toEqual([0x20n, 0x20n, 0x20n, 0x60n]);
});

it('what either stage does not have is stopped', () => {
  const { fn, ioas, ram, nested, entry, gpa, attach, faults } = scene();
  attach(nested().id);
  const write = (at: bigint) => fn.dma.write(at, Uint8Array.of(9));
  expect(write(IOVA + 0x1000n)).toBe(false);
  for (const bits of [W | U, P | U, P | W]) {
    ram.write64(entry(1, IOVA), gpa(8) | bits);
    expect(write(IOVA)).toBe(false);
  }
  ram.write64(entry(1, IOVA), gpa(8) | P | U);
  expect(fn.dma.read(IOVA, 1)).toEqual(Uint8Array.of(0));
  ram.write64(entry(1, IOVA), 0x4000_0000n | P | W | U);
  expect(write(IOVA)).toBe(false);
  expect(write(1n << 47n)).toBe(false);
  const before = faults();
  ioas.unmapAll();
  expect([write(IOVA), faults() - before]).toEqual([false, 1]);
});

it('a large page of the guest’s', () => {
  const { fn, ram, nested, entry, attach } = scene();
  ram.write64(entry(2, IOVA), 0x20_0000n | LARGE | P | W | U);
  attach(nested().id);
  expect(fn.dma.write(IOVA, Uint8Array.of(7))).toBe(true);
  expect(ram.read8(Number(0x20_0000n + (IOVA & 0x1f_ffffn) - GPA))).toBe(7);
});

it('a device is moved between the guest’s table and the host’s', () => {
  const { fn, ram, nested, parent, attach } = scene();
  const table = nested();
  attach(parent.id);
  expect(fn.dma.write(GPA + 0x9000n, Uint8Array.of(5))).toBe(true);
  expect(fn.dma.write(IOVA, Uint8Array.of(5))).toBe(false);
  attach(table.id);
  expect(fn.dma.write(IOVA, Uint8Array.of(6))).toBe(true);
  expect([ram.read8(9 * PAGE), ram.read8(8 * PAGE)]).toEqual([5, 6]);
  expect(() => parent.destroy()).toThrow(/EBUSY/);
});

it('what it is made of is looked at when it is made, what it says when it is attached', () => {
  const { iommufd, dev_id, ioas, parent, nested, attach } = scene();
  const data = (type: number, length: number) => ({ type, bytes: new Uint8Array(length) });
  const plain = iommufd.hwptAlloc({ dev_id, pt: ioas });
  for (const [pt, given, errno] of [
    [plain, data(IOMMU_HWPT_DATA_VTD_S1, 24), /EINVAL/],
    [parent, data(2, 24), /EOPNOTSUPP/],
    [parent, data(IOMMU_HWPT_DATA_VTD_S1, 16), /EINVAL/],
    [parent, data(IOMMU_HWPT_DATA_VTD_S1, 32), /EINVAL/],
  ] as const)
    expect(() => iommufd.hwptAlloc({ dev_id, pt, data: given })).toThrow(errno);
  for (const fields of [{ addr_width: 39 }, { addr_width: 57 }, { flags: BigInt(IOMMU_VTD_S1_SRE) }])
    expect(() => attach(nested(fields).id)).toThrow(/EINVAL/);
});

it('invalidations are checked one by one', () => {
  const { nested } = scene();
  const table = nested();
  const one = (fields: Partial<iommu_hwpt_vtd_s1_invalidate> = {}) =>
    iommu_hwpt_vtd_s1_invalidate.encode({ addr: 0n, npages: 1n, flags: 0, __reserved: 0, ...fields });
  const ask = (entries: Uint8Array[], data_type = IOMMU_HWPT_INVALIDATE_DATA_VTD_S1, entry_len = 24): [string, number] => {
    try {
      table.invalidate({ data_type, entries: Uint8Array.from(entries.flatMap((bytes) => [...bytes])), entry_len });
      return ['done', entries.length];
    } catch (error) {
      const { code, done } = error as InvalidationIncomplete;
      return [code, done];
    }
  };
  const all = (1n << 64n) - 1n;
  expect(ask([one(), one({ addr: 0x5000n, flags: 1 }), one({ npages: all })])).toEqual(['done', 3]);
  expect(ask([one(), one({ addr: 0x10n })])).toEqual(['EINVAL', 1]);
  expect(ask([one(), one(), one({ addr: 0x1000n, npages: all })])).toEqual(['EINVAL', 2]);
  expect(ask([one({ flags: 2 })])).toEqual(['EOPNOTSUPP', 0]);
  expect(ask([one({ __reserved: 1 })])).toEqual(['EOPNOTSUPP', 0]);
  expect(ask([one()], 1)).toEqual(['EINVAL', 0]);
  expect(ask([one().slice(0, 16)], undefined, 16)).toEqual(['EINVAL', 0]);
  expect(ask([Uint8Array.of(...one(), ...new Uint8Array(8))], undefined, 32)).toEqual(['EINVAL', 0]);
});
