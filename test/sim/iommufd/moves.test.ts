// A device that is moved between what its transfers are made of: where each goes, and what the IOMMU stops. The same of edu and nvme, in the lab too, is examples/replace.ts.
import { bindDriver, Iommufd, type Kernel, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY, pciDevice, VfioDevice } from 'kvio';
import { openSim, PciFunction, profiles } from 'kvio/sim';
import { expect, it } from 'vitest';

const BDF = '0000:00:10.0';
const IOVA = 0x100000n;
const PAGE = 4096;

/** Writes a burst of pieces, and lets others act between two of them. */
class Burst extends PciFunction {
  between: (piece: number) => void = () => {};

  constructor() {
    super({ vendor: 0x1234, device: 0x5678, class: 0xff0000, bars: { 0: { size: 0x1000, space: 'mem32' } } });
  }

  /** Which pieces arrived. */
  burst(pieces: number): boolean[] {
    return Array.from({ length: pieces }, (_, piece) => {
      this.between(piece);
      return this.dma.write(IOVA + BigInt(piece * 16), new Uint8Array(16).fill(piece + 1));
    });
  }
}

function scene() {
  const fn = new Burst();
  const kernel = openSim({ machine: profiles['lab-vtd-7.2']!, pci: [{ at: BDF, device: fn }] });
  bindDriver(kernel, BDF, 'vfio-pci');
  const iommufd = Iommufd.open(kernel);
  const device = VfioDevice.open(kernel, pciDevice(kernel, BDF).vfio_device!);
  const dev_id = device.bindIommufd({ iommufd });
  device.config.setCommand(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
  const space = (kernel: Kernel) => {
    const ioas = iommufd.ioasAlloc();
    const ram = kernel.guestRam(PAGE);
    ioas.map(ram, { iova: IOVA });
    return { ioas, ram, pieces: () => [...ram.read(0, 64)].filter((_, at) => at % 16 === 0) };
  };
  const moveTo = (id: number): number => device.attachIommufdPt({ pt_id: id });
  const faults = () => kernel.process.system.pci.iommu!.faults.map(({ iova, write, reason }) => ({ iova, write, reason }));
  return { fn, iommufd, device, dev_id, first: space(kernel), second: space(kernel), moveTo, faults };
}

it('a replacement between two pieces of a transfer: each goes where the device is attached then, and none is lost', () => {
  const { fn, iommufd, dev_id, first, second, moveTo, faults } = scene();
  moveTo(first.ioas.id);
  const table = iommufd.hwptAlloc({ dev_id, pt: first.ioas });
  const ways = [first.ioas.id, second.ioas.id, table.id, second.ioas.id];
  fn.between = (piece) => moveTo(ways[piece]!);
  expect(fn.burst(4)).toEqual([true, true, true, true]);
  expect([first.pieces(), second.pieces()]).toEqual([
    [1, 0, 3, 0],
    [0, 2, 0, 4],
  ]);
  expect(faults()).toEqual([]);
});

it('a mapping that goes between two pieces: what comes behind it is stopped, and told', () => {
  const { fn, first, moveTo, faults } = scene();
  moveTo(first.ioas.id);
  fn.between = (piece) => {
    if (piece === 2) first.ioas.unmap(IOVA, BigInt(PAGE));
  };
  expect(fn.burst(4)).toEqual([true, true, false, false]);
  expect(first.pieces()).toEqual([1, 2, 0, 0]);
  expect(faults()).toEqual([32n, 48n].map((at) => ({ iova: IOVA + at, write: true, reason: 'no translation' })));
});

it('detached between two pieces: blocked', () => {
  const { fn, device, first, moveTo, faults } = scene();
  moveTo(first.ioas.id);
  fn.between = (piece) => {
    if (piece === 3) device.detachIommufdPt();
  };
  expect(fn.burst(4)).toEqual([true, true, true, false]);
  expect(faults()).toEqual([{ iova: IOVA + 48n, write: true, reason: 'blocked' }]);
});

it('a replacement that fails leaves the device where it was', () => {
  const { fn, iommufd, first, moveTo } = scene();
  moveTo(first.ioas.id);
  const reserved = iommufd.ioasAlloc();
  reserved.map(first.ram, { iova: 0xfee00000n });
  fn.between = (piece) => {
    if (piece === 1) expect(() => moveTo(reserved.id)).toThrow(/EADDRINUSE/);
  };
  expect(fn.burst(2)).toEqual([true, true]);
  expect(first.pieces()).toEqual([1, 2, 0, 0]);
});
