// A driver for QEMU's teaching device (1234:11e8) on VFIO: registers, an interrupt, DMA both ways. `edu-driver group` (the default) or `edu-driver cdev`.
import { bindDriver, openKernel, pciDevice } from 'kvio';
import { BUFFER, DMA_TO_MEMORY, Edu } from './parts/edu.ts';
import { type OpenedDevice, openDevice, type Way } from './parts/open-device.ts';

const [way = 'group', bdf = '0000:00:02.0'] = process.argv.slice(2) as [Way?, string?];

const hex = (value: number): string => `0x${value.toString(16)}`;

const kernel = openKernel({ devices: [way === 'cdev' ? '/dev/iommu' : '/dev/vfio/vfio'], machine: 'lab-vtd-7.2' }); // the machine, should it be a simulated one
if (!kernel.features.async) {
  console.log(`the ${kernel.kind} kernel has synchronous calls only`);
  process.exit(0);
}
const before = pciDevice(kernel, bdf);
{
  using _bound = bindDriver(kernel, bdf, 'vfio-pci');
  const opened = openDevice(kernel, bdf, way);
  const edu = new Edu(opened);
  try {
    await demonstrate(edu, opened);
  } finally {
    edu.close();
  }
}
const after = pciDevice(kernel, bdf);
const same = before.driver === after.driver && before.driver_override === after.driver_override;
console.log(`the host is ${same ? 'as it was' : 'not as it was'}`);
kernel.close();

async function demonstrate(edu: Edu, { map, unmap }: OpenedDevice): Promise<void> {
  console.log(`identification ${hex(edu.id)}, alive: ${edu.isAlive(0x12345678)}`);
  console.log(`10! is ${edu.factorial(10)}`);
  console.log(`interrupt, its bits ${hex(await edu.raise(0x5a))}`);

  const IOVA = 0x100000n;
  const LENGTH = 0x800;
  const ram = kernel.guestRam(0x2000);
  for (let at = 0; at < LENGTH; at++) ram.bytes[at] = (at * 7) & 0xff;
  map(ram, IOVA);
  await edu.transfer(IOVA, BUFFER, LENGTH, 0);
  await edu.transfer(BUFFER, IOVA + 0x1000n, LENGTH, DMA_TO_MEMORY);
  const [sent, came] = [ram.read(0, LENGTH), ram.read(0x1000, LENGTH)];
  console.log(`${LENGTH} bytes to the device and back: ${Buffer.compare(sent, came) === 0 ? 'the same' : 'others'}`);

  ram.bytes.fill(0xee, 0x1000);
  unmap(ram, IOVA);
  await edu.transfer(BUFFER, IOVA + 0x1000n, LENGTH, DMA_TO_MEMORY);
  const untouched = ram.read(0x1000, LENGTH).every((byte) => byte === 0xee);
  console.log(`unmapped, the device ${untouched ? 'reaches nothing' : 'still writes'}`);
}
