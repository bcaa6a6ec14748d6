/** Memory of huge pages behind mock devices: what is pinned and charged, entries of large pages, dirty bits of them, queues in one piece. */
import type { Kernel, Memory } from 'kvio';
import * as u from 'kvio/uapi';
import { type Case, define, type Observer } from '../../case.ts';
import { exhausted, HUGE, huge, hugeMemory, peek, pool, since } from '../../hugepages.ts';
import { attempt, FIXED, Iommufd, MOCK, op, READ, RW } from '../../iommufd.ts';
import { UNSAFE } from '../../machine.ts';
import { show } from '../../parts.ts';

const section = 'Huge pages';
const PAGE = 0x1000n;
const HALF = 0x800n;
const BIG = BigInt(HUGE);
const IOVA = 0x2000000n;
const PUNCH = u.FALLOC_FL_PUNCH_HOLE | u.FALLOC_FL_KEEP_SIZE;
const { IOMMU_HWPT_ALLOC_DIRTY_TRACKING: DIRTY } = u;
/** iommu_hwpt_selftest: its data type, and the format with pages of 4 KiB and 1 MiB. */
const SELFTEST = 0xdead;
const HUGE_FORMAT = 1;

function scene(kernel: Kernel, tables = 1) {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  const mocks = Array.from({ length: tables }, () => iommufd.mock(ioas));
  const refs = (memory: Memory, count: number): unknown =>
    iommufd.test(op.MD_CHECK_REFS, 0, [
      [16, BigInt(memory.length)],
      [24, memory.address],
      [32, count],
    ]).returned;
  return { iommufd, ioas, mocks, mock: mocks[0]!, refs };
}

function pages(kernel: Kernel, name: string): number {
  const [, kilobytes] = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(show(kernel, '/proc/self/status'))!;
  return Number(kilobytes) / 4;
}

/** Memory that is pinned before anybody has touched it is touched so. */
function mappedAndPinned(kernel: Kernel, see: Observer): void {
  for (const [name, flags] of [
    ['shared', u.MAP_SHARED],
    ['private', u.MAP_PRIVATE],
  ] as const) {
    const { iommufd, ioas, mock, refs } = scene(kernel);
    const [before, pinned] = [pool(kernel), pages(kernel, 'VmPin')];
    const memory = hugeMemory(kernel, 3, { flags });
    see.note(`${name}: mapped`, iommufd.mapAt(ioas, memory.address + PAGE, IOVA, BIG));
    see.note(`${name}: taken, pinned`, [since(kernel, before), pages(kernel, 'VmPin') - pinned]);
    see.note(`${name}: translates`, iommufd.checkMap(mock.hwpt, IOVA, BIG, memory.address + PAGE));
    see.note(`${name}: pins of large pages are not looked at`, [refs(memory, 0), refs(memory, 7)]);
    see.note(`${name}: read-only`, iommufd.mapAt(ioas, memory.address + 2n * BIG, IOVA + BIG, PAGE, READ));
    see.note(`${name}: taken too`, since(kernel, before));
    memory.close();
    see.note(`${name}: the memory is gone, and is pinned`, since(kernel, before));
    see.note(`${name}: unmapped`, [iommufd.unmap(ioas, IOVA, BIG), since(kernel, before)]);
    see.note(`${name}: all`, [iommufd.unmapAll(ioas), since(kernel, before), pages(kernel, 'VmPin') - pinned]);
    iommufd.close();
  }
}

/** MADV_DONTNEED gives a promise back with the page it was kept by; pinned, the page is not the pool's yet, and the promise is there twice. */
function letGo(kernel: Kernel, see: Observer): void {
  for (const [name, flags] of [
    ['promised', u.MAP_PRIVATE],
    ['not promised', u.MAP_PRIVATE | u.MAP_NORESERVE],
  ] as const) {
    const { iommufd, ioas, mock } = scene(kernel);
    const before = pool(kernel);
    const memory = hugeMemory(kernel, 1, { flags });
    memory.write(5, Uint8Array.of(7));
    see.note(`${name}: mapped`, [iommufd.mapAt(ioas, memory.address, IOVA, PAGE), since(kernel, before)]);
    kernel.madvise(memory, u.MADV_DONTNEED);
    see.note(`${name}: MADV_DONTNEED`, since(kernel, before));
    see.note(`${name}: touched`, [peek(memory, 5), since(kernel, before)]);
    see.note(`${name}: is another page`, iommufd.checkMap(mock.hwpt, IOVA, PAGE, memory.address));
    kernel.madvise(memory, u.MADV_DONTNEED);
    see.note(`${name}: MADV_DONTNEED again`, since(kernel, before));
    see.note(`${name}: not pinned any more`, [iommufd.unmapAll(ioas), since(kernel, before)]);
    iommufd.close();
    memory.close();
    see.note(`${name}: gone`, since(kernel, before));
  }
}

/** Ranges of halves of a page around borders of huge pages, in two tables, with a third made meanwhile. */
function everyRange(kernel: Kernel, see: Observer): void {
  for (const file of [false, true]) {
    const { iommufd, ioas, mocks, refs } = scene(kernel, 2);
    const fd = file ? kernel.memfd('huge', u.MFD_HUGETLB) : undefined;
    if (fd !== undefined) kernel.ftruncate(fd, 2 * HUGE);
    const memory = fd === undefined ? hugeMemory(kernel, 2) : hugeMemory(kernel, 2, { fd });
    const starts = [0n, HALF, PAGE, BIG / 8n, BIG - PAGE, BIG - HALF, BIG, BIG + HALF, BIG + BIG / 8n + PAGE];
    const ends = [PAGE, BIG / 8n, BIG - HALF, BIG, BIG + HALF, BIG + PAGE, BIG + BIG / 4n, 2n * BIG];
    const counts: Record<string, number> = {};
    for (const start of starts) {
      for (const end of ends.filter((one) => one > start)) {
        const length = end - start;
        const at =
          fd === undefined
            ? iommufd.mapAt(ioas, memory.address + start, IOVA, length)
            : iommufd.mapFile({ ioas_id: ioas, fd, start, length, iova: IOVA, flags: RW | FIXED });
        const third = iommufd.hwpt({ dev_id: mocks[0]!.idev, pt_id: ioas });
        const translates = [...mocks.map(({ hwpt }) => hwpt), Number(third)].map((hwpt) =>
          iommufd.checkMap(hwpt, IOVA, length, memory.address + start),
        );
        const answer = [at === IOVA, ...translates, iommufd.destroy(Number(third)), iommufd.unmap(ioas, IOVA, length) === length];
        counts[answer.join()] = (counts[answer.join()] ?? 0) + 1;
      }
    }
    see.note(`${file ? 'file' : 'memory'}: mapped, translates in three tables, unmapped`, counts);
    see.note(`${file ? 'file' : 'memory'}: pins`, refs(memory, 0));
    see.note(
      `${file ? 'file' : 'memory'}: automatic placement`,
      iommufd.map({ ioas_id: ioas, user_va: memory.address, length: 2n * BIG }),
    );
    iommufd.close();
    memory.close();
    if (fd !== undefined) kernel.close(fd);
  }
}

function ofFile(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, mock } = scene(kernel);
  const before = pool(kernel);
  const fd = kernel.memfd('huge', u.MFD_HUGETLB);
  kernel.ftruncate(fd, 3 * HUGE);
  const map = (start: bigint, length: bigint, iova = IOVA): unknown =>
    iommufd.mapFile({ ioas_id: ioas, fd, start, length, iova, flags: RW | FIXED });
  see.note('past the end', map(2n * BIG, BIG + PAGE));
  see.note('from the middle of a page nobody has touched', map(BIG + BIG / 2n, PAGE));
  see.note('taken', [since(kernel, before), kernel.fstat(fd).blocks]);
  see.note('unmapped', [iommufd.unmapAll(ioas), since(kernel, before), kernel.fstat(fd).blocks]);
  const memory = hugeMemory(kernel, 3, { fd });
  see.note('promised', since(kernel, before));
  see.note('a promised page', [map(0n, BIG), since(kernel, before)]);
  memory.write(5, Uint8Array.of(7));
  kernel.fallocate(fd, PUNCH, 0n, BIG);
  see.note('a hole under it', [peek(memory, 5), since(kernel, before)]);
  see.note('is another page', iommufd.checkMap(mock.hwpt, IOVA, PAGE, memory.address));
  see.note('let go', [iommufd.unmapAll(ioas), since(kernel, before)]);
  kernel.ftruncate(fd, HUGE);
  memory.close();
  kernel.ftruncate(fd, 0);
  kernel.ftruncate(fd, 2 * HUGE);
  exhausted(kernel, () => {
    see.note('of a pool that is empty', map(0n, PAGE));
    const lost = hugeMemory(kernel, 1, { flags: u.MAP_SHARED | u.MAP_NORESERVE });
    see.note('memory of such a pool', iommufd.mapAt(ioas, lost.address, IOVA, PAGE));
  });
  see.note('and again, when there are some', map(0n, PAGE));
}

/** 64 MiB and 128 MiB of huge pages, every other megabyte dirty: an entry is one bit for the driver, and all its pages for who asks. */
function dirty(kernel: Kernel, see: Observer, count: number): void {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  const mock = iommufd.mock(ioas);
  const memory = hugeMemory(kernel, count, { flags: u.MAP_SHARED | u.MAP_POPULATE });
  const length = BigInt(memory.length);
  see.note('mapped', iommufd.mapAt(ioas, memory.address, IOVA, length));
  const bits = Number(length / HALF);
  const bitmap = kernel.guestRam(bits / 8 + 0x2000);
  const data = u.iommu_hwpt_get_dirty_bitmap;
  const selftest = kernel.guestRam(0x1000);
  selftest.write(4, Uint8Array.of(HUGE_FORMAT));
  const fields = { dev_id: mock.idev, pt_id: ioas, flags: DIRTY, data_type: SELFTEST, data_len: 8, data_uptr: selftest.address };
  const hwpt = iommufd.mustHwpt(fields);
  const track = (on: number): unknown =>
    iommufd.call(u.IOMMU_HWPT_SET_DIRTY_TRACKING, u.iommu_hwpt_set_dirty_tracking, { hwpt_id: hwpt, flags: on }).returned;
  see.note('tracking', track(1));
  for (const [name, at, flags] of [
    ['aligned', 0, 0],
    ['in the second half of a page', 0x800, 0],
    ['unaligned', 0xff1, 0],
    ['without clearing', 0, 1],
  ] as const) {
    const address = bitmap.address + BigInt(at);
    bitmap.bytes.fill(0);
    // Every other MiB: 512 bits of 2 KiB each.
    for (let bit = 0; bit < bits; bit += 1024) bitmap.bytes[at + bit / 8] = 1;
    const words = [
      [24, IOVA],
      [32, length],
      [40, HALF],
      [48, address],
    ] as const;
    const { returned, view } = iommufd.test(op.DIRTY, hwpt, words);
    see.note(`${name}: marked`, [returned, view.getBigUint64(56, true)]);
    const get = (): unknown => {
      bitmap.bytes.fill(0);
      const { returned: got } = iommufd.call(u.IOMMU_HWPT_GET_DIRTY_BITMAP, data, {
        ...{ hwpt_id: hwpt, iova: IOVA, length, page_size: HALF, data: address, flags },
      });
      return [got, runs(bitmap.bytes.subarray(at, at + bits / 8))];
    };
    see.note(`${name}: read`, get());
    see.note(`${name}: read again`, get());
  }
  see.note('destroyed', [track(0), iommufd.destroy(hwpt)]);
}

/** Runs of ones in a bitmap by their length, and of zeros between them. */
function runs(bytes: Uint8Array): Record<string, number> {
  const found: Record<string, number> = {};
  let [length, before] = [0, -1];
  const end = (): void => {
    if (length > 0)
      found[`${before === 1 ? 'ones' : 'zeros'} ${length}`] = (found[`${before === 1 ? 'ones' : 'zeros'} ${length}`] ?? 0) + 1;
  };
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const now = (bytes[bit >> 3]! >> (bit & 7)) & 1;
    if (now !== before) {
      end();
      length = 0;
      before = now;
    }
    length++;
  }
  end();
  return found;
}

/** Large pages off: entries of a page each, and mappings can be cut. */
function smallPages(kernel: Kernel, see: Observer): void {
  const memory = hugeMemory(kernel, 1);
  for (const type of [u.VFIO_TYPE1_IOMMU, u.VFIO_TYPE1v2_IOMMU]) {
    const { iommufd, ioas, mock } = scene(kernel);
    iommufd.call(u.IOMMU_VFIO_IOAS, u.iommu_vfio_ioas, { op: u.IOMMU_VFIO_IOAS_SET, ioas_id: ioas });
    const ask = (request: number, arg: number | Uint8Array): unknown =>
      attempt(() => kernel.ioctl(iommufd.fd, request, arg, UNSAFE));
    ask(u.VFIO_SET_IOMMU, type);
    const range = { argsz: 32, flags: 3, vaddr: memory.address, iova: IOVA, size: BIG };
    see.note(`type ${type}: MAP_DMA`, [
      iommufd.option(1, 1, ioas),
      ask(u.VFIO_IOMMU_MAP_DMA, u.vfio_iommu_type1_dma_map.encode(range)),
    ]);
    const unmap = (iova: bigint, size: bigint): unknown => {
      const bytes = u.vfio_iommu_type1_dma_unmap.encode({ argsz: 24, flags: 0, iova, size, data: new Uint8Array(0) });
      const returned = ask(u.VFIO_IOMMU_UNMAP_DMA, bytes);
      return [returned, new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(16, true)];
    };
    see.note(`type ${type}: a page of it`, unmap(IOVA + PAGE, PAGE));
    see.note(`type ${type}: what is left`, [
      iommufd.checkMap(mock.hwpt, IOVA, PAGE, memory.address),
      iommufd.checkMap(mock.hwpt, IOVA + PAGE, PAGE, memory.address + PAGE),
      iommufd.checkMap(mock.hwpt, IOVA + 2n * PAGE, BIG - 2n * PAGE, memory.address + 2n * PAGE),
    ]);
    see.note(`type ${type}: the rest`, unmap(IOVA, BIG));
    iommufd.close();
  }
}

/** A hardware queue lies in one piece: within a huge page it does, however long. */
function queue(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, mock } = scene(kernel);
  const parent = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: ioas, flags: u.IOMMU_HWPT_ALLOC_NEST_PARENT });
  const viommu = iommufd.viommu({ type: 0xdead_beef, dev_id: mock.idev, hwpt_id: parent });
  const memory = hugeMemory(kernel, 1);
  iommufd.mapAt(ioas, memory.address, IOVA, BIG);
  const alloc = (index: number, start: bigint, length: bigint): unknown => {
    const fields = { viommu_id: Number(viommu), type: 0xdead_beef, index, nesting_parent_iova: start, length };
    return iommufd.call(u.IOMMU_HW_QUEUE_ALLOC, u.iommu_hw_queue_alloc, fields).returned;
  };
  see.note('all of a huge page', alloc(0, IOVA, BIG));
  see.note('a piece of it', alloc(1, IOVA + 0x3000n, 0x8000n));
  see.note('is locked', iommufd.unmapAll(ioas));
}

/** Pins and copies of an access inside the kernel. */
function accesses(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas } = scene(kernel, 0);
  const before = pool(kernel);
  const memory = hugeMemory(kernel, 2);
  iommufd.mapAt(ioas, memory.address, IOVA, 2n * BIG);
  const { returned, view } = iommufd.test(op.CREATE_ACCESS, ioas, [[20, 1]]);
  see.note('an access', returned);
  const access = kernel.adopt(view.getUint32(16, true));
  const pin = iommufd.test(op.ACCESS_PAGES, access, [
    [16, 0],
    [24, IOVA + BIG - PAGE],
    [32, 2n * PAGE],
    [40, memory.address + BIG - PAGE],
  ]);
  see.note('across two pages', [pin.returned, since(kernel, before)]);
  see.note('mapped by a device too', iommufd.mock(ioas).returned);
  see.note('unmapped, which takes the pins', [iommufd.unmapAll(ioas), since(kernel, before)]);
}

export const hugepageCases: Case[] = [
  define('iommufd/hugepages/pinned', section, mappedAndPinned, huge(8, MOCK)),
  define('iommufd/hugepages/let-go', section, letGo, huge(4, MOCK)),
  define('iommufd/hugepages/every-range', section, everyRange, huge(8, MOCK)),
  define('iommufd/hugepages/files', section, ofFile, huge(8, MOCK)),
  define('iommufd/hugepages/dirty-64M', section, (kernel, see) => dirty(kernel, see, 32), huge(32, MOCK)),
  define('iommufd/hugepages/dirty-128M', section, (kernel, see) => dirty(kernel, see, 64), huge(64, MOCK)),
  define('iommufd/hugepages/small-pages', section, smallPages, huge(2, MOCK)),
  define('iommufd/hugepages/queue', section, queue, huge(2, MOCK)),
  define('iommufd/hugepages/accesses', section, accesses, huge(4, MOCK)),
];
