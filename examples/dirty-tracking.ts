// Which pages a device has written to: a page table with dirty tracking, a device that writes, and the bitmap. The lab's IOMMU cannot: this machine is simulated.
import { bindDriver, dirtyPages, Iommufd, pciDevice, VfioDevice } from 'kvio';
import { openSim, PciFunction, profiles } from 'kvio/sim';
import { IOMMU_HW_CAP_DIRTY_TRACKING, IOMMU_HWPT_ALLOC_DIRTY_TRACKING } from 'kvio/uapi';

/** A device that writes wherever it is told. */
class Writer extends PciFunction {
  constructor() {
    super({ vendor: 0x1234, device: 0x5678, class: 0xff0000, bars: { 0: { size: 0x1000, space: 'mem32' } } });
  }

  /** A doorbell: the page at this number gets a byte. */
  override write(_bar: number, _offset: number, _width: number, value: number | bigint): void {
    this.dma.write(IOVA + BigInt(value) * PAGE, Uint8Array.of(0x5a));
  }
}

const IOVA = 0x1000000n;
const PAGE = 0x1000n;
const LENGTH = 0x40000n;
const bdf = '0000:00:10.0';
const lab = profiles['lab-vtd-7.2']!;
const machine = { ...lab, name: 'with dirty tracking', iommu: { ...lab.iommu!, dirtyTracking: true } };
const kernel = openSim({ machine, pci: [{ at: bdf, device: new Writer() }] });

bindDriver(kernel, bdf, 'vfio-pci');
const device = VfioDevice.open(kernel, pciDevice(kernel, bdf).vfio_device!);
const iommufd = Iommufd.open(kernel);
const dev_id = device.bindIommufd({ iommufd });
const { capabilities } = iommufd.getHwInfo(dev_id);
console.log(`the IOMMU can track what is dirty: ${(capabilities & BigInt(IOMMU_HW_CAP_DIRTY_TRACKING)) !== 0n}`);

const ioas = iommufd.ioasAlloc();
const table = iommufd.hwptAlloc({ dev_id, pt: ioas, flags: IOMMU_HWPT_ALLOC_DIRTY_TRACKING });
device.attachIommufdPt({ pt_id: table.id });
device.config.setCommand(0x6); // memory, bus master
const ram = kernel.guestRam(LENGTH);
ioas.map(ram, { iova: IOVA });
const doorbell = device.region(0);

const dirty = (): string => {
  const bitmap = table.getDirtyBitmap({ iova: IOVA, length: LENGTH, page_size: PAGE });
  const pages = [...dirtyPages(bitmap)];
  return pages.length === 0 ? 'none' : pages.join(' ');
};

table.setDirtyTracking(true);
console.log(`before: ${dirty()}`);
for (const page of [3, 0, 17, 3, 63]) doorbell.write32(0, page);
console.log(`the device wrote to: ${dirty()}`);
console.log(`since then: ${dirty()}`);
doorbell.write32(0, 5);
console.log(`and again: ${dirty()}; the byte there is 0x${ram.bytes[5 * 0x1000]!.toString(16)}`);
device.close();
kernel.close();
