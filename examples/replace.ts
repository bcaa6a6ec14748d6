// Devices that are moved while they work: to another address space, to a page table made by hand, and where nothing is mapped. `replace`, `replace edu`, `replace nvme`
import { bindDriver, type Ioas, Iommufd, type Memory, openKernel, pciDevice, type Ram, VfioDevice } from 'kvio';
import { BUFFER, DMA_TO_MEMORY, Edu } from './parts/edu.ts';
import { DATA, DATA_PAGES, IOVA, Nvme, PAGE } from './parts/nvme.ts';

const [only] = process.argv.slice(2);
const kernel = openKernel({ devices: ['/dev/iommu'], machine: 'lab-vtd-7.2' }); // the machine, should it be a simulated one
if (!kernel.features.async) {
  console.log(`the ${kernel.kind} kernel has synchronous calls only`);
  process.exit(0);
}
if (only !== 'nvme') await moveEdu('0000:00:02.0');
if (only !== 'edu') await moveNvme('0000:01:00.0');
kernel.close();

interface Spaces {
  readonly device: VfioDevice;
  readonly first: Ioas;
  readonly second: Ioas;
  readonly empty: Ioas;
  /** A page table of the first. */
  readonly table: { readonly id: number };
  /** From one to the other in one step: ATTACH of what is attached replaces. */
  moveTo(pt: { readonly id: number }): void;
  close(): void;
}

/** A device on the first of three address spaces. */
function open(bdf: string): Spaces {
  const iommufd = Iommufd.open(kernel);
  const device = VfioDevice.open(kernel, pciDevice(kernel, bdf).vfio_device!);
  const dev_id = device.bindIommufd({ iommufd });
  const [first, second, empty] = [iommufd.ioasAlloc(), iommufd.ioasAlloc(), iommufd.ioasAlloc()];
  const moveTo = (pt: { readonly id: number }): void => void device.attachIommufdPt({ pt_id: pt.id });
  moveTo(first);
  const table = iommufd.hwptAlloc({ dev_id, pt: first });
  const close = (): void => {
    device.close();
    iommufd.close();
  };
  return { device, first, second, empty, table, moveTo, close };
}

async function moveEdu(bdf: string): Promise<void> {
  using _bound = bindDriver(kernel, bdf, 'vfio-pci');
  const { device, first, second, empty, table, moveTo, close } = open(bdf);
  const edu = new Edu({ device, close });
  const pattern = Uint8Array.from({ length: 0x800 }, (_, at) => (at * 7) & 0xff);
  const rams: [Ram, Ram] = [kernel.guestRam(PAGE), kernel.guestRam(PAGE)];
  first.map(rams[0], { iova: IOVA });
  second.map(rams[1], { iova: IOVA });
  rams[0].write(0, pattern);
  await edu.transfer(IOVA, BUFFER, pattern.length, 0);
  const write = (): Promise<void> => edu.transfer(BUFFER, IOVA, pattern.length, DMA_TO_MEMORY);
  const clear = (): void => {
    for (const ram of rams) ram.bytes.fill(0xee);
  };

  for (const [title, pt] of [
    ['the second address space', second],
    ['a table of the first, made by hand', table],
    ['the second again', second],
    ['one where nothing is mapped', empty],
    ['the first', first],
  ] as const) {
    clear();
    moveTo(pt);
    await write();
    console.log(`edu, moved to ${title}: writes to ${reached(rams, pattern)}`);
  }

  const seen = new Set<string>();
  for (let round = 0; round < 8; round++) {
    clear();
    const written = write();
    moveTo(round % 2 === 0 ? second : table);
    await written;
    seen.add(reached(rams, pattern));
  }
  // From one table to another an IOMMU may have none for a moment: then nothing has come, but never a part.
  const whole = ['the first', 'the second'].some((where) => seen.has(where)) && !seen.has('a part of one');
  console.log(`edu, moved 8 times while it wrote: what came is ${whole ? 'whole' : 'torn'}`);
  edu.close();
}

/** Which memory has the bytes. */
function reached(rams: readonly [Ram, Ram], pattern: Uint8Array): string {
  const whole = rams.map((ram) => Buffer.compare(ram.read(0, pattern.length), pattern) === 0);
  const untouched = rams.map((ram) => ram.bytes.every((byte) => byte === 0xee));
  if (whole[0] && untouched[1]) return 'the first';
  if (whole[1] && untouched[0]) return 'the second';
  return untouched.every(Boolean) ? 'nothing' : 'a part of one';
}

async function moveNvme(bdf: string): Promise<void> {
  using _bound = bindDriver(kernel, bdf, 'vfio-pci');
  const { device, first, second, table, moveTo, close } = open(bdf);
  const length = DATA_PAGES * PAGE;
  const other = kernel.guestRam(length);
  let own!: Memory;
  /** The driver's memory in both; its pages for blocks in the first alone: the second has others there. */
  const map = (memory: Memory, iova: bigint): void => {
    own = memory;
    const data = iova + BigInt(DATA * PAGE);
    first.map(memory, { iova, length: DATA * PAGE });
    first.map(memory, { iova: data, offset: DATA * PAGE, length });
    second.copy(first, { src_iova: iova, length: BigInt(DATA * PAGE), iova });
    second.map(other, { iova: data });
  };
  const nvme = await Nvme.start({ device, map, unmap: () => void first.unmapAll(), close });
  const { serial, blockSize } = await nvme.identify();
  const sent = Uint8Array.from({ length }, (_, at) => (at * 13) & 0xff);
  await nvme.write(2000, blockSize, sent);
  const places = [
    ['the first', own, DATA * PAGE],
    ['the second', other, 0],
  ] as const;

  for (const [title, pt] of [
    ['the second address space', second],
    ['a table of the first, made by hand', table],
    ['the second again', second],
  ] as const) {
    for (const [, memory, at] of places) memory.write(at, new Uint8Array(length));
    moveTo(pt);
    await nvme.fetch(2000, blockSize, length);
    const where = places.filter(([, memory, at]) => Buffer.compare(memory.read(at, length), sent) === 0);
    console.log(`nvme, moved to ${title}: ${length} bytes read to ${where.map(([name]) => name).join(' and ') || 'nothing'}`);
  }
  console.log(`nvme: the disk is still ${(await nvme.identify()).serial === serial ? 'the same' : 'another'}`);
  nvme.stop();
}
