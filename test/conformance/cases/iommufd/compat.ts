/** VFIO's type1 requests on the iommufd's descriptor. */
import type { Kernel } from 'kvio';
import * as u from 'kvio/uapi';
import { type Case, define, type Observer } from '../../case.ts';
import { attempt, buffer, FIXED, IOMMUFD, Iommufd, MOCK, op, RW as READ_WRITE, U64_MAX } from '../../iommufd.ts';
import { UNSAFE } from '../../machine.ts';

const PAGE = 0x1000n;
const IOVA = 0x2000000n;
const RW = u.VFIO_DMA_MAP_FLAG_READ | u.VFIO_DMA_MAP_FLAG_WRITE;

function compat(kernel: Kernel) {
  const iommufd = new Iommufd(kernel);
  const ask = (request: number, arg: number | bigint | Uint8Array) =>
    attempt(() => kernel.ioctl(iommufd.fd, request, arg, UNSAFE));
  const map = (vaddr: bigint, iova: bigint, size: bigint, flags: number = RW, argsz = 32) =>
    ask(u.VFIO_IOMMU_MAP_DMA, u.vfio_iommu_type1_dma_map.encode({ argsz, flags, vaddr, iova, size }));
  const unmap = (iova: bigint, size: bigint, flags = 0, argsz = 24) => {
    const bytes = new Uint8Array(24);
    Object.assign(u.vfio_iommu_type1_dma_unmap.view(bytes) as object, { argsz, flags, iova, size });
    const returned = ask(u.VFIO_IOMMU_UNMAP_DMA, bytes);
    return { returned, size: new DataView(bytes.buffer).getBigUint64(16, true) };
  };
  const info = (argsz: number, length = argsz) => {
    const bytes = new Uint8Array(Math.max(length, 16)).fill(0xee);
    new DataView(bytes.buffer).setUint32(0, argsz, true);
    return { returned: ask(u.VFIO_IOMMU_GET_INFO, bytes), bytes };
  };
  const set = (op: number, ioas_id = 0, more = {}) => {
    const { returned, out } = iommufd.call(u.IOMMU_VFIO_IOAS, u.iommu_vfio_ioas, { op, ioas_id, ...more });
    return op === u.IOMMU_VFIO_IOAS_GET && returned === 0 ? out.ioas_id : returned;
  };
  return { iommufd, ask, map, unmap, info, set };
}

function vfioIoas(kernel: Kernel, see: Observer): void {
  const { iommufd, set } = compat(kernel);
  see.note('reserved', set(9, 0, { __reserved: 1 }));
  see.note('GET of none', set(u.IOMMU_VFIO_IOAS_GET));
  see.note('SET of none', set(u.IOMMU_VFIO_IOAS_SET, 5));
  see.note('unknown', set(3));
  const [one, two] = [iommufd.ioas(), iommufd.ioas()];
  see.note('SET', [set(u.IOMMU_VFIO_IOAS_SET, one), set(u.IOMMU_VFIO_IOAS_GET)]);
  see.note('SET of another', [set(u.IOMMU_VFIO_IOAS_SET, two), set(u.IOMMU_VFIO_IOAS_GET)]);
  see.note('it holds nothing', [iommufd.destroy(two), set(u.IOMMU_VFIO_IOAS_GET)]);
  see.note('CLEAR of none', set(u.IOMMU_VFIO_IOAS_CLEAR));
  see.note('CLEAR', [set(u.IOMMU_VFIO_IOAS_SET, one), set(u.IOMMU_VFIO_IOAS_CLEAR), set(u.IOMMU_VFIO_IOAS_GET)]);
}

function withoutIoas(kernel: Kernel, see: Observer): void {
  const { ask, map, unmap, info } = compat(kernel);
  see.note('GET_API_VERSION', ask(u.VFIO_GET_API_VERSION, 0));
  for (let extension = 0; extension <= 11; extension++)
    see.note(`CHECK_EXTENSION ${extension}`, ask(u.VFIO_CHECK_EXTENSION, extension));
  for (const type of [0, 1, 2, 3, 8, 9]) see.note(`SET_IOMMU ${type}`, ask(u.VFIO_SET_IOMMU, type));
  see.note('MAP_DMA, short', map(0n, 0n, PAGE, RW, 31));
  see.note('MAP_DMA, flags', map(0n, 0n, PAGE, 8));
  see.note('MAP_DMA', map(0n, 0n, PAGE));
  see.note('UNMAP_DMA, short', unmap(0n, PAGE, 0, 23));
  see.note('UNMAP_DMA, flags', unmap(0n, PAGE, 1));
  see.note('UNMAP_DMA', unmap(0n, PAGE));
  see.note('GET_INFO, short', info(15));
  see.note('GET_INFO', info(24));
  see.note('DIRTY_PAGES', ask(u.VFIO_IOMMU_DIRTY_PAGES, 0));
  see.note(
    'nowhere',
    [u.VFIO_IOMMU_MAP_DMA, u.VFIO_IOMMU_UNMAP_DMA, u.VFIO_IOMMU_GET_INFO].map((request) => ask(request, 0)),
  );
}

function withIoas(kernel: Kernel, see: Observer): void {
  const { iommufd, ask, map, unmap, info, set } = compat(kernel);
  const ram = buffer(kernel);
  const ioas = iommufd.ioas();
  set(u.IOMMU_VFIO_IOAS_SET, ioas);
  see.note('DMA_CC', ask(u.VFIO_CHECK_EXTENSION, u.VFIO_DMA_CC_IOMMU));
  for (const type of [0, 1, 2, 3, 8]) see.note(`SET_IOMMU ${type}`, ask(u.VFIO_SET_IOMMU, type));
  see.note('huge pages', iommufd.option(1, 1, ioas));
  iommufd.option(1, 0, ioas, 1n);
  for (const argsz of [16, 20, 24, 40, 71, 72, 100]) see.note(`GET_INFO of ${argsz}`, info(argsz));
  see.note('MAP_DMA', map(ram.address, 0x10000n, PAGE));
  see.note('MAP_DMA again', map(ram.address, 0x10000n, PAGE));
  see.note('MAP_DMA of nothing', map(ram.address, 0x20000n, 0n));
  see.note('MAP_DMA, vaddr overflows', map(U64_MAX, 0x20000n, PAGE));
  see.note('MAP_DMA, iova overflows', map(ram.address, U64_MAX, 2n));
  see.note('MAP_DMA not aligned', map(ram.address + 1n, 0x20001n, 0x801n));
  see.note('MAP_DMA of no permission', map(ram.address, 0x30000n, PAGE, 0));
  see.note('which no domain takes', iommufd.mock(ioas).returned);
  see.note('UNMAP_DMA that cuts', unmap(0x10000n, 0x800n));
  see.note('UNMAP_DMA of nothing there', unmap(0x90000n, PAGE));
  see.note('UNMAP_DMA of no length', unmap(0x10000n, 0n));
  see.note('UNMAP_DMA, overflow', unmap(U64_MAX, 2n));
  see.note('UNMAP_DMA of the first and a part of the second', unmap(0x10000n, 0x10100n));
  see.note('UNMAP_DMA of all, with a length', unmap(0n, PAGE, 2));
  see.note('UNMAP_DMA of all', unmap(0n, 0n, 2));
  see.note('UNMAP_DMA of all again', unmap(0n, 0n, 2));
}

/** Whether every page table of the address space keeps DMA coherent: a mock device's does not, though the device is coherent. */
function coherency(kernel: Kernel, see: Observer): void {
  const { iommufd, ask, set } = compat(kernel);
  const ioas = iommufd.ioas();
  set(u.IOMMU_VFIO_IOAS_SET, ioas);
  const coherent = () => ask(u.VFIO_CHECK_EXTENSION, u.VFIO_DMA_CC_IOMMU);
  see.note('without a table', coherent());
  const mock = iommufd.mock(ioas);
  see.note('with one', coherent());
  see.note('gone again', [iommufd.destroy(mock.stdev), coherent()]);
}

/** Version 1 may cut a mapping: large pages are off. */
function cutting(kernel: Kernel, see: Observer): void {
  const { iommufd, ask, map, unmap, set, info } = compat(kernel);
  const memory = kernel.memfd('cut');
  kernel.ftruncate(memory, 0x20000);
  const ram = kernel.mmap({ fd: memory, length: 0x20000 });
  const ioas = iommufd.ioas();
  const mock = iommufd.mock(ioas);
  set(u.IOMMU_VFIO_IOAS_SET, ioas);
  see.note('GET_INFO', info(120));
  see.note('SET_IOMMU 1', ask(u.VFIO_SET_IOMMU, 1));
  see.note('huge pages', iommufd.option(1, 1, ioas));
  see.note('GET_INFO then', info(24));
  see.note('MAP_DMA', map(ram.address, IOVA, 0x10000n));
  see.note('half a page out of the middle', unmap(IOVA + 0x2800n, PAGE));
  see.note('a page out of the middle', unmap(IOVA + 0x2000n, PAGE));
  see.note('it translates around it', [
    iommufd.checkMap(mock.hwpt, IOVA, 0x2000n, ram.address),
    iommufd.checkMap(mock.hwpt, IOVA + 0x2000n, PAGE, ram.address + 0x2000n),
    iommufd.checkMap(mock.hwpt, IOVA + 0x3000n, 0xd000n, ram.address + 0x3000n),
  ]);
  see.note('the end, and more', unmap(IOVA + 0xf000n, 0x10000n));
  see.note('the beginning, and more', unmap(IOVA - 0x1000n, 0x2000n));
  see.note('all', unmap(0n, 0n, 2));
  see.note('SET_IOMMU 3', ask(u.VFIO_SET_IOMMU, 3));
  see.note('huge pages stay off', iommufd.option(1, 1, ioas));
}

/** What is in use, or not whole pages, or no memory, is not cut. */
function noCutting(kernel: Kernel, see: Observer): void {
  const { iommufd, ask, map, unmap, set } = compat(kernel);
  const ioas = iommufd.ioas();
  const ram = buffer(kernel);
  set(u.IOMMU_VFIO_IOAS_SET, ioas);
  see.note('SET_IOMMU 1', ask(u.VFIO_SET_IOMMU, u.VFIO_TYPE1_IOMMU));
  see.note('MAP_DMA', map(ram.address, IOVA, 0x4000n));
  const access = iommufd.test(op.CREATE_ACCESS, ioas, [[20, 1]]);
  const file = kernel.adopt(access.view.getInt32(16, true));
  const pinned = iommufd.test(op.ACCESS_PAGES, file, [
    [16, 0],
    [24, IOVA + 0x3000n],
    [32, PAGE],
    [40, 0n],
  ]).returned;
  see.note('its last page pinned', [access.returned, pinned]);
  see.note('the first page', unmap(IOVA, PAGE));
  see.note('the first two', unmap(IOVA, 2n * PAGE));
  see.note('half a page', unmap(IOVA, 0x800n));
  kernel.close(file);
  see.note('not pinned: the first page', unmap(IOVA, PAGE));
  const buf = kernel.adopt(
    Number(
      iommufd.test(op.DMABUF_GET, 0, [
        [16, 0x4000],
        [20, u.O_CLOEXEC],
      ]).returned,
    ),
  );
  see.note(
    'a dma-buf',
    iommufd.mapFile({ ioas_id: ioas, fd: buf, length: 0x4000n, iova: IOVA + 0x10000n, flags: READ_WRITE | FIXED }),
  );
  see.note('its first page', unmap(IOVA + 0x10000n, PAGE));
  see.note('all of it', unmap(IOVA + 0x10000n, 0x4000n));
}

/** A cut beside the first or the last address of a mapping is none. A range of no length, and one that wraps, is cut before it is refused. */
function oddEnds(kernel: Kernel, see: Observer): void {
  const { iommufd, ask, map, unmap, set } = compat(kernel);
  const ioas = iommufd.ioas();
  const ram = buffer(kernel);
  set(u.IOMMU_VFIO_IOAS_SET, ioas);
  see.note('SET_IOMMU 1', ask(u.VFIO_SET_IOMMU, u.VFIO_TYPE1_IOMMU));
  see.note('MAP_DMA', map(ram.address, IOVA, 0x4000n));
  see.note('its first byte', unmap(IOVA, 1n));
  see.note('its first two', unmap(IOVA, 2n));
  see.note('all but the first', unmap(IOVA + 1n, 0x3fffn));
  see.note('all but the first two', unmap(IOVA + 2n, 0x3ffen));
  see.note('all but the last', unmap(IOVA, 0x3fffn));
  see.note('all but the last two', unmap(IOVA, 0x3ffen));
  see.note('the last', unmap(IOVA + 0x3fffn, 1n));
  see.note('of no length, within a page', unmap(IOVA + 0x1800n, 0n));
  see.note('of no length', unmap(IOVA + 0x2000n, 0n));
  see.note('two mappings: the second', iommufd.unmap(ioas, IOVA + 0x2000n, 0x2000n));
  see.note('one that wraps, within a page', unmap(IOVA + 0x1800n, -IOVA & U64_MAX));
  see.note('one that wraps', unmap(IOVA + PAGE, -IOVA & U64_MAX));
  see.note('two again: the first', iommufd.unmap(ioas, IOVA, PAGE));
  see.note('all that is left', unmap(0n, 0n, 2));
}

export const compatCases: Case[] = [
  define('iommufd/compat/vfio-ioas', 'IOMMU_VFIO_IOAS', vfioIoas, { needs: IOMMUFD }),
  define('iommufd/compat/without-ioas', 'VFIO on iommufd', withoutIoas, { needs: IOMMUFD }),
  define('iommufd/compat/with-ioas', 'VFIO on iommufd', withIoas, { needs: MOCK }),
  define('iommufd/compat/cutting', 'VFIO on iommufd', cutting, { needs: MOCK }),
  define('iommufd/compat/no-cutting', 'VFIO on iommufd', noCutting, { needs: MOCK }),
  define('iommufd/compat/odd-ends', 'VFIO on iommufd', oddEnds, { needs: IOMMUFD }),
  define('iommufd/compat/coherency', 'VFIO on iommufd', coherency, { needs: MOCK }),
];
