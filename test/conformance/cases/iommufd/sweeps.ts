/** What holds for every length, place and size of some range, told as where the answer changes. */
import type { Kernel } from 'kvio';
import * as u from 'kvio/uapi';
import { type Case, define, type Observer } from '../../case.ts';
import { attempt, buffer, FIXED, IOMMUFD, Iommufd, MOCK, op, READ, RW, U64_MAX } from '../../iommufd.ts';
import { UNSAFE } from '../../machine.ts';

const PAGE = 0x1000n;
const HALF = 0x800n;
const IOVA = 0x2000000n;
/** An IOVA by the number of an area and an offset in it: on kernels that have IOMMU_TEST_CMD. */
const BY_AREA = 0x1_0000;

/** Answers by what was asked, only where they change. */
function changes<T>(asked: readonly T[], answer: (one: T) => unknown): unknown[] {
  const found: unknown[] = [];
  let before: unknown;
  for (const one of asked) {
    const now = answer(one);
    if (found.length === 0 || now !== before) found.push([one, now]);
    before = now;
  }
  return found;
}

/** How often there was each answer. */
function counted(answers: readonly unknown[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const answer of answers) counts[String(answer)] = (counts[String(answer)] ?? 0) + 1;
  return counts;
}

function fileMemory(kernel: Kernel, length: number) {
  const fd = kernel.memfd('sweep');
  kernel.ftruncate(fd, length);
  return kernel.mmap({ fd, length });
}

/** Lengths around every power of two to two pages, and some between. */
const lengths: readonly number[] = Array.from({ length: 8191 }, (_, i) => i + 1).filter(
  (length) => length % 61 === 0 || [0x7ff, 0, 1].includes(length % 0x800) || length < 6,
);

function everyLength(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas_id = iommufd.ioas();
  const ram = buffer(kernel);
  const place = (length: number): unknown => {
    const iova = iommufd.map({ ioas_id, user_va: ram.address, length: BigInt(length) });
    if (typeof iova === 'bigint') iommufd.unmap(ioas_id, iova, BigInt(length));
    return iova;
  };
  see.note('without a domain', changes(lengths, place));
  iommufd.mock(ioas_id);
  see.note('with one', changes(lengths, place));
}

/** Each range of halves of a page within eight pages: it translates, and its pages are pinned as long as it is there. */
function everyRange(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  const mock = iommufd.mock(ioas);
  const memory = fileMemory(kernel, 0x8000);
  const refs = (start: bigint, end: bigint, count: number): unknown => {
    const [first, last] = [start & -PAGE, (end + PAGE - 1n) & -PAGE];
    const words = [
      [16, last - first],
      [24, memory.address + first],
      [32, count],
    ] as const;
    return iommufd.test(op.MD_CHECK_REFS, 0, words).returned;
  };
  const ranges = Array.from({ length: 16 }, (_, i) =>
    Array.from({ length: 16 - i }, (_, n) => [BigInt(i) * HALF, BigInt(i + n + 1) * HALF] as const),
  ).flat();
  const answers = (whileMapped: () => unknown) =>
    ranges.map(([start, end]) => {
      const length = end - start;
      const mapped = iommufd.mapAt(ioas, memory.address + start, IOVA + start, length) === IOVA + start;
      const translates = iommufd.checkMap(mock.hwpt, IOVA + start, length, memory.address + start);
      const more = whileMapped();
      const pinned = refs(start, end, 1);
      const unmapped = iommufd.unmap(ioas, IOVA + start, length) === length;
      return [mapped, translates, more, pinned, unmapped, refs(start, end, 0)];
    });
  see.note('mapped, translates, pinned, unmapped, not pinned', counted(answers(() => 0)));
  const twoTables = (): unknown => {
    const hwpt = iommufd.hwpt({ dev_id: mock.idev, pt_id: ioas });
    return typeof hwpt === 'number' ? iommufd.destroy(hwpt) : hwpt;
  };
  see.note('with a second table made and destroyed', counted(answers(twoTables)));
}

/** A window of half a page over twelve pages with a hole: a source is a part of what is mapped, or it is nothing. */
function copies(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const [source, target] = [iommufd.ioas(), iommufd.ioas()];
  const ram = buffer(kernel);
  iommufd.mapAt(source, ram.address, 0x10000n, 0x4000n);
  iommufd.mapAt(source, ram.address + 0x4000n, 0x14000n, 0x2000n);
  iommufd.mapAt(source, ram.address + 0x8000n, 0x18000n, 0x3000n);
  const places = Array.from({ length: 110 }, (_, i) => 0xf000n + 511n * BigInt(i));
  const base = { dst_ioas_id: target, src_ioas_id: source, length: HALF, dst_iova: IOVA, flags: RW | FIXED };
  const copy = (src_iova: bigint): unknown => {
    const iova = iommufd.copy({ ...base, src_iova });
    if (typeof iova === 'bigint') return iommufd.unmapAll(target);
    return iova;
  };
  see.note('copied', changes(places, copy));
  iommufd.mapAt(source, ram.address, 0x20000n, PAGE, READ);
  see.note('writable, of what was mapped without', iommufd.copy({ ...base, src_iova: 0x20000n }));
  iommufd.mapAt(target, ram.address, IOVA, PAGE);
  see.note('and there is no place for it', iommufd.copy({ ...base, src_iova: 0x20000n }));
}

function copyByArea(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  const ram = buffer(kernel);
  iommufd.mapAt(ioas, ram.address, 0x10000n, PAGE);
  iommufd.mapAt(ioas, ram.address + PAGE, 0x20000n, PAGE);
  const base = { dst_ioas_id: ioas, src_ioas_id: ioas, length: HALF, flags: RW | BY_AREA };
  const from = (area: number, offset: number): bigint => (BigInt(offset) << 32n) | BigInt(area);
  see.note('the flag is taken', iommufd.copy({ ...base, flags: RW | FIXED | BY_AREA, dst_iova: 0x30000n, src_iova: from(1, 0) }));
  see.note('of no such IOAS', iommufd.copy({ ...base, src_ioas_id: 99, src_iova: from(0, 0) }));
  see.note('MAP does not take it', iommufd.map({ ioas_id: ioas, user_va: ram.address, length: PAGE, flags: RW | BY_AREA }));
}

function reservedToTheTop(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas_id = iommufd.ioas();
  const ram = buffer(kernel);
  see.note('all but the first page', iommufd.reserve(ioas_id, 0x1000n, U64_MAX - 0x1000n));
  see.note('ranges', iommufd.ranges(ioas_id));
  for (const length of [1n, PAGE, 0x5000n])
    see.note(`no room for 0x${length.toString(16)}`, iommufd.map({ ioas_id, user_va: ram.address, length }));
  const other = iommufd.ioas();
  see.note('a page is left', [
    iommufd.reserve(other, 0n, 0x10000n),
    iommufd.reserve(other, 0x11000n, U64_MAX - 0x11000n),
    iommufd.map({ ioas_id: other, user_va: ram.address, length: 0x5000n }),
    iommufd.map({ ioas_id: other, user_va: ram.address, length: PAGE }),
  ]);
}

/** VFIO's UNMAP_DMA of a sixteenth here and there. */
function holes(kernel: Kernel, see: Observer): void {
  const memory = fileMemory(kernel, 0x20000);
  for (const type of [u.VFIO_TYPE1_IOMMU, u.VFIO_TYPE1v2_IOMMU]) {
    const iommufd = new Iommufd(kernel);
    const ioas = iommufd.ioas();
    const mock = iommufd.mock(ioas);
    iommufd.call(u.IOMMU_VFIO_IOAS, u.iommu_vfio_ioas, { op: u.IOMMU_VFIO_IOAS_SET, ioas_id: ioas });
    const ask = (request: number, arg: number | Uint8Array): unknown =>
      attempt(() => kernel.ioctl(iommufd.fd, request, arg, UNSAFE));
    ask(u.VFIO_SET_IOMMU, type);
    const range = { argsz: 32, flags: 3, vaddr: memory.address, iova: IOVA, size: 0x20000n };
    see.note(`type ${type}: MAP_DMA`, ask(u.VFIO_IOMMU_MAP_DMA, u.vfio_iommu_type1_dma_map.encode(range)));
    const unmap = (iova: bigint, size: bigint, flags = 0): unknown => {
      const bytes = new Uint8Array(24);
      Object.assign(u.vfio_iommu_type1_dma_unmap.view(bytes) as object, { argsz: 24, flags, iova, size });
      const returned = ask(u.VFIO_IOMMU_UNMAP_DMA, bytes);
      return [returned, new DataView(bytes.buffer).getBigUint64(16, true)];
    };
    const order = [3, 0, 15, 8, 4, 2];
    see.note(
      `type ${type}: holes`,
      order.map((at) => unmap(IOVA + BigInt(at) * 0x2000n, 0x2000n)),
    );
    see.note(
      `type ${type}: what translates`,
      Array.from({ length: 16 }, (_, at) => {
        const offset = BigInt(at) * 0x2000n;
        return iommufd.checkMap(mock.hwpt, IOVA + offset, 0x2000n, memory.address + offset);
      }),
    );
    see.note(`type ${type}: all of it, with its holes`, unmap(IOVA, 0x20000n));
    see.note(
      `type ${type}: small ones, in any order`,
      Array.from({ length: 16 }, (_, at) => at).map((at) => {
        const one = { ...range, iova: IOVA + BigInt(at) * PAGE, size: PAGE };
        return ask(u.VFIO_IOMMU_MAP_DMA, u.vfio_iommu_type1_dma_map.encode(one));
      }),
    );
    see.note(
      `type ${type}: and gone`,
      Array.from({ length: 16 }, (_, at) => (at * 7) % 16).map((at) => unmap(IOVA + BigInt(at) * PAGE, PAGE)),
    );
    iommufd.close();
  }
}

function compatMap(kernel: Kernel, iommufd: Iommufd, flags: number, vaddr: bigint, iova: bigint, size: bigint = PAGE): unknown {
  const range = u.vfio_iommu_type1_dma_map.encode({ argsz: 32, flags, vaddr, iova, size });
  return attempt(() => kernel.ioctl(iommufd.fd, u.VFIO_IOMMU_MAP_DMA, range, UNSAFE));
}

/** What nobody may touch is an area all the same, until a table has to be filled with it. */
function noPermission(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  const ram = buffer(kernel);
  iommufd.call(u.IOMMU_VFIO_IOAS, u.iommu_vfio_ioas, { op: u.IOMMU_VFIO_IOAS_SET, ioas_id: ioas });
  see.note('MAP_DMA, flags 0', compatMap(kernel, iommufd, 0, ram.address, IOVA));
  see.note('a device', iommufd.mock(ioas).returned);
  iommufd.unmapAll(ioas);
  see.note('without it', iommufd.mock(ioas).returned);
  see.note('MAP_DMA, flags 0, with a device', compatMap(kernel, iommufd, 0, ram.address, IOVA));
  see.note('nothing is there', iommufd.unmapAll(ioas));
  see.note('flags 0, no memory', compatMap(kernel, iommufd, 0, 0n, IOVA));
  const file = kernel.memfd('a page');
  kernel.ftruncate(file, 0x1000);
  const { address } = kernel.mmap({ fd: file, length: 0x2000, view: false });
  see.note('flags 0, a page and then none', compatMap(kernel, iommufd, 0, address, IOVA, 2n * PAGE));
}

/** GET_INFO of every size: what it writes, as the first byte that is as it was. */
function infoOfEverySize(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  iommufd.mock(ioas);
  iommufd.call(u.IOMMU_VFIO_IOAS, u.iommu_vfio_ioas, { op: u.IOMMU_VFIO_IOAS_SET, ioas_id: ioas });
  const ask = (argsz: number): string => {
    const bytes = new Uint8Array(160).fill(0xee);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, argsz, true);
    const returned = attempt(() => kernel.ioctl(iommufd.fd, u.VFIO_IOMMU_GET_INFO, bytes, UNSAFE));
    const beyond = bytes.subarray(argsz).some((byte) => byte !== 0xee);
    const chain = argsz < 20 ? '' : `, capabilities at ${view.getUint32(16, true)}`;
    return `${returned}, argsz ${view.getUint32(0, true)}, flags ${view.getUint32(4, true)}${chain}${beyond ? ', too much' : ''}`;
  };
  const sizes = Array.from({ length: 120 }, (_, i) => i + 16);
  see.note('by argsz', changes(sizes, ask));
}

/** A read-only mapping of a page that is the file's until somebody writes: it is the process's own from the beginning. */
function privatePage(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  const mock = iommufd.mock(ioas);
  const fd = kernel.memfd('private');
  kernel.ftruncate(fd, 0x2000);
  kernel.pwrite(fd, Uint8Array.of(1, 2, 3, 4), 0);
  const memory = kernel.mmap({ fd, length: 0x2000, flags: u.MAP_PRIVATE, view: false });
  see.note('read', memory.read(0, 4));
  see.note('mapped', iommufd.mapAt(ioas, memory.address, IOVA, PAGE, READ));
  see.note('translates', iommufd.checkMap(mock.hwpt, IOVA, PAGE, memory.address));
  memory.write(0, Uint8Array.of(9));
  see.note('and still, once it was written to', iommufd.checkMap(mock.hwpt, IOVA, PAGE, memory.address));
  const bytes = new Uint8Array(4);
  kernel.pread(fd, bytes, 0);
  see.note('the file has what it had', bytes);
  see.note('unmapped', iommufd.unmapAll(ioas));
}

/** What the test interface is asked to compare, where the process's addresses end. */
function checkAtTheTop(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const { hwpt } = iommufd.mock(iommufd.ioas());
  const refs = (uptr: bigint, length: bigint): unknown =>
    iommufd.test(op.MD_CHECK_REFS, 0, [
      [16, length],
      [24, uptr],
    ]).returned;
  for (const [label, uptr] of [
    ['the last page but one', -2n * PAGE],
    ['the last page', -PAGE],
    ['where the kernel begins', 1n << 63n],
  ] as const) {
    see.note(
      label,
      [PAGE / 2n, PAGE, 2n * PAGE].map((length) => iommufd.checkMap(hwpt, IOVA, length, BigInt.asUintN(64, uptr))),
    );
    see.note(
      `${label}, references`,
      [PAGE, 2n * PAGE].map((length) => refs(BigInt.asUintN(64, uptr), length)),
    );
  }
}

export const sweepCases: Case[] = [
  define('iommufd/sweeps/every-length', 'IOMMU_IOAS_MAP', everyLength, { needs: MOCK }),
  define('iommufd/sweeps/every-range', 'IOMMU_IOAS_MAP', everyRange, { needs: MOCK }),
  define('iommufd/sweeps/copies', 'IOMMU_IOAS_COPY', copies, { needs: IOMMUFD }),
  define('iommufd/ioas/copy-by-area', 'IOMMU_IOAS_COPY', copyByArea, { needs: MOCK }),
  define('iommufd/ioas/reserved-to-the-top', 'IOVA space', reservedToTheTop, { needs: MOCK }),
  define('iommufd/compat/holes', 'VFIO on iommufd', holes, { needs: MOCK }),
  define('iommufd/compat/no-permission', 'VFIO on iommufd', noPermission, { needs: MOCK }),
  define('iommufd/compat/info-of-every-size', 'VFIO on iommufd', infoOfEverySize, { needs: MOCK }),
  define('iommufd/selftest/check-at-the-top', 'IOMMU_TEST_CMD', checkAtTheTop, { needs: MOCK }),
  define('iommufd/files/private-page', 'Pinning', privatePage, { needs: MOCK }),
];
