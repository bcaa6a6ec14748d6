// Where a device finds memory: IO address spaces of /dev/iommu, placed by the kernel and by hand, shared, narrowed by a device. `dma-map [bdf]`
import { bindDriver, Iommufd, type KernelError, openKernel, pciDevice, VfioDevice } from 'kvio';

const [bdf = '0000:00:02.0'] = process.argv.slice(2);
const kernel = openKernel({ devices: ['/dev/iommu'], machine: 'lab-vtd-7.2' }); // the machine, should it be a simulated one
const hex = (value: bigint): string => `0x${value.toString(16)}`;
const ranges = (ioas: { iovaRanges(): { ranges: { start: bigint; last: bigint }[] } }): string =>
  ioas
    .iovaRanges()
    .ranges.map(({ start, last }) => `${hex(start)}-${hex(last)}`)
    .join(', ');

const iommufd = Iommufd.open(kernel);
const ioas = iommufd.ioasAlloc();
const memory = kernel.memfd('dma-map');
kernel.ftruncate(memory, 0x10000);

console.log(`empty: ${ranges(ioas)}`);
console.log(`a place the kernel chose: ${hex(ioas.mapFile(memory, { length: 0x4000n }))}`);
console.log(`a place of ours: ${hex(ioas.mapFile(memory, { start: 0x4000n, length: 0x2000n, iova: 0x100000n }))}`);
const other = iommufd.ioasAlloc();
console.log(`part of it elsewhere too: ${hex(other.copy(ioas, { src_iova: 0x101000n, length: 0x1000n, iova: 0x7000n }))}`);
ioas.allowIovas([{ start: 0x200000n, last: 0x2fffffn }]);
console.log(`where it may be: ${hex(ioas.mapFile(memory, { length: 0x1000n }))}`);
ioas.allowIovas([]);

{
  using _bound = bindDriver(kernel, bdf, 'vfio-pci');
  using device = VfioDevice.open(kernel, pciDevice(kernel, bdf).vfio_device!);
  const dev_id = device.bindIommufd({ iommufd });
  const pt_id = device.attachIommufdPt({ pt_id: ioas.id });
  console.log(`the device is object ${dev_id}, its page table object ${pt_id}`);
  const { ranges: left } = ioas.iovaRanges();
  console.log(
    `interrupts are at 0xfee00000: ${left.some(({ start, last }) => start <= 0xfee00000n && last >= 0xfee00000n) ? 'free' : 'reserved'}`,
  );
  try {
    ioas.mapFile(memory, { length: 0x1000n, iova: 0xfee00000n });
  } catch (error) {
    console.log(`mapping there: ${(error as KernelError).code}`);
  }
  device.attachIommufdPt({ pt_id: other.id });
  console.log(`moved to the other address space; unmapped of the first: ${hex(ioas.unmapAll())}`);
}
console.log(`gone with the device: ${ranges(other)}`);
kernel.close();
