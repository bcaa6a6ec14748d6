// A small NVMe driver on VFIO: identifies the disk, writes blocks and reads them back through an I/O queue in DMA memory, by interrupts. `nvme group` or `nvme cdev`.
import { bindDriver, openKernel } from 'kvio';
import { DATA_PAGES, Nvme, PAGE } from './parts/nvme.ts';
import { openDevice, type Way } from './parts/open-device.ts';

const [way = 'group', bdf = '0000:01:00.0'] = process.argv.slice(2) as [Way?, string?];

const kernel = openKernel({ devices: [way === 'cdev' ? '/dev/iommu' : '/dev/vfio/vfio'], machine: 'lab-vtd-7.2' }); // the machine, should it be a simulated one
if (!kernel.features.async) {
  console.log(`the ${kernel.kind} kernel has synchronous calls only`);
  process.exit(0);
}
{
  using _bound = bindDriver(kernel, bdf, 'vfio-pci');
  const nvme = await Nvme.start(openDevice(kernel, bdf, way));
  try {
    await demonstrate(nvme);
  } finally {
    nvme.stop();
  }
}
kernel.close();

async function demonstrate(nvme: Nvme): Promise<void> {
  const { serial, blocks, blockSize } = await nvme.identify();
  console.log(`disk '${serial}': ${blocks} blocks of ${blockSize} bytes`);
  for (const [block, length] of [
    [7, blockSize],
    [100, 2 * PAGE],
    [1000, DATA_PAGES * PAGE],
  ] as const) {
    const sent = Uint8Array.from({ length }, (_, at) => (at * 31 + block) & 0xff);
    await nvme.write(block, blockSize, sent);
    const came = await nvme.read(block, blockSize, length);
    console.log(
      `${length} bytes at block ${block}: ${Buffer.compare(sent, came) === 0 ? 'read back as written' : 'not the same'}`,
    );
  }
  const untouched = await nvme.read(8, blockSize, blockSize);
  console.log(`block 8 is ${untouched.every((byte) => byte === 0) ? 'zeros, as it was' : 'changed'}`);
  const beyond = await nvme.read(Number(blocks), blockSize, blockSize).catch((error: Error) => error.message);
  console.log(`beyond the end: ${beyond}`);
}
