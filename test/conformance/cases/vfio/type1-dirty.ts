/** VFIO_IOMMU_DIRTY_PAGES: its checks in order, and the bits: whole words, every page of a device that pins nothing, and stale ones. */
import type { Kernel } from 'kvio';
import { VFIO_IOMMU_DIRTY_PAGES, VFIO_TYPE1_IOMMU } from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { UNSAFE } from '../../machine.ts';
import { ASSISTED, join, mapDma, NOWHERE, openGroup, u32s, u64s, unmapDma, withDevices } from '../../vfio.ts';

const PAGE = 0x1000n;
const TOP = 0xffff_ffff_ffff_ffffn;
const START = 1;
const STOP = 2;
const GET = 4;

interface Get {
  argsz?: number;
  flags?: number;
  iova?: bigint | number;
  size?: bigint | number;
  pgsize?: bigint | number;
  bytes?: bigint | number;
  data?: bigint | number;
}

function dirty(kernel: Kernel, container: number, get: Get): number {
  const { argsz = 48, flags = GET, iova = 0, size = 0, pgsize = PAGE, bytes = 8, data = 0 } = get;
  return kernel.ioctl(container, VFIO_IOMMU_DIRTY_PAGES, join(u32s(argsz, flags), u64s(iova, size, pgsize, bytes, data)), UNSAFE);
}

function order(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { container } = openGroup(kernel, edu!);
  const ram = kernel.guestRam(0x10000);
  mapDma(kernel, container, { vaddr: ram.address, iova: 0, size: 0x4000 });
  const ask = (label: string, get: Get): unknown =>
    see.call(label, () => dirty(kernel, container, { size: 0x4000, data: ram.address + 0x8000n, ...get }));
  see.call('pointer 0', () => kernel.ioctl(container, VFIO_IOMMU_DIRTY_PAGES, 0, UNSAFE));
  ask('argsz 0', { argsz: 0 });
  ask('argsz 7', { argsz: 7, flags: START });
  ask('flags 0', { flags: 0 });
  ask('START and STOP', { flags: START | STOP });
  ask('START and GET', { flags: START | GET });
  ask('all three', { flags: 7 });
  ask('unknown flag 8', { flags: 8 });
  ask('unknown flag 8 and START', { flags: 8 | START });
  ask('STOP before START', { flags: STOP, argsz: 8 });
  ask('GET, off', {});
  ask('GET, off, page size 8192', { pgsize: 8192 });
  ask('GET, off, cuts', { size: 0x2000 });
  ask('START', { flags: START, argsz: 8 });
  ask('START again', { flags: START, argsz: 8 });
  ask('argsz 8', { argsz: 8 });
  ask('argsz 47', { argsz: 47 });
  ask('size 0', { size: 0 });
  ask('size 0, iova unaligned', { size: 0, iova: 1 });
  ask('wraps', { iova: TOP - 0xfffn, size: 0x2000 });
  ask('data nowhere', { data: NOWHERE });
  ask('data nowhere, page size 8192', { data: NOWHERE, pgsize: 8192 });
  ask('page size 0', { pgsize: 0 });
  ask('page size 1', { pgsize: 1 });
  ask('page size 3', { pgsize: 3 });
  ask('page size 2048', { pgsize: 2048 });
  ask('page size 8192', { pgsize: 8192 });
  ask('bitmap of 0 bytes', { bytes: 0 });
  ask('bitmap of 7 bytes', { bytes: 7 });
  ask('bitmap of 9 bytes', { bytes: 9 });
  ask('bitmap of 256 MiB', { bytes: 1 << 28 });
  ask('bitmap of more', { bytes: (1 << 28) + 1 });
  ask('bitmap too small for its pages', { size: 65n * PAGE });
  ask('bitmap of 16 bytes for 65 pages', { size: 65n * PAGE, bytes: 16 });
  ask('iova unaligned', { iova: 1 });
  ask('size unaligned', { size: 0x4001 });
  ask('cuts its end', { size: 0x2000 });
  ask('cuts its start', { iova: 0x2000, size: 0x4000 });
  ask('inside', { iova: 0x1000, size: 0x1000 });
  ask('nothing there', { iova: 0x100000 });
  ask('data unmapped', { data: 0 });
  ask('data unmapped, nothing there', { iova: 0x100000, data: 0 });
  ask('GET', {});
  ask('STOP', { flags: STOP, argsz: 8 });
  ask('STOP again', { flags: STOP, argsz: 8 });
  ask('GET, off again', {});
}

function ofV1(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { container } = openGroup(kernel, edu!, VFIO_TYPE1_IOMMU);
  see.call('pointer 0', () => kernel.ioctl(container, VFIO_IOMMU_DIRTY_PAGES, 0, UNSAFE));
  see.call('START', () => dirty(kernel, container, { argsz: 8, flags: START }));
  see.call('flags 0', () => dirty(kernel, container, { argsz: 8, flags: 0 }));
}

/** Words of the bitmap before and after: pages of mappings, holes, and neighbours. */
function bits(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { container } = openGroup(kernel, edu!);
  const ram = kernel.guestRam(0x100000);
  const map = (first: bigint, count: bigint): number =>
    mapDma(kernel, container, { vaddr: ram.address, iova: first * PAGE, size: count * PAGE });
  map(0n, 3n);
  map(10n, 2n);
  map(64n, 64n);
  map(200n, 70n);
  kernel.ioctl(container, VFIO_IOMMU_DIRTY_PAGES, u32s(8, START));
  const at = 0xf0000;
  const get = (label: string, first: bigint, count: bigint, fill = 0, words = Number((count + 63n) / 64n) + 1): void => {
    ram.bytes.fill(fill, at, at + 8 * words);
    see.call(label, () =>
      dirty(kernel, container, {
        iova: first * PAGE,
        size: count * PAGE,
        bytes: Math.ceil(Number(count) / 64) * 8,
        data: ram.address + BigInt(at),
      }),
    );
    see.note(`${label}: words`, [...new BigUint64Array(ram.bytes.slice(at, at + 8 * words).buffer)]);
  };
  get('one mapping', 0n, 3n);
  get('one mapping, again: still dirty', 0n, 3n);
  get('over bits that were there', 0n, 3n, 0xff);
  get('two in a word', 0n, 64n);
  get('two in a word, over bits that were there', 0n, 64n, 0xff);
  get('a hole', 20n, 40n);
  get('a hole, over bits that were there', 20n, 40n, 0xff);
  get('from a hole', 5n, 20n);
  get('from a hole, over bits that were there', 5n, 20n, 0xff);
  get('the second alone', 10n, 2n);
  get('the second alone: no stale bits yet', 10n, 2n);
  get('all', 0n, 300n);
  get('all, over bits that were there', 0n, 300n, 0xff);
  get('the last alone, after it was shifted', 200n, 70n);
  get('from 190', 190n, 100n);
  get('the last alone, after it was shifted again', 200n, 70n);
  get('the second alone, with stale bits', 10n, 2n);
  get('half a word behind', 64n, 64n);
  get('from 32', 32n, 96n);
  get('and alone', 64n, 64n);
  kernel.ioctl(container, VFIO_IOMMU_DIRTY_PAGES, u32s(8, STOP));
  kernel.ioctl(container, VFIO_IOMMU_DIRTY_PAGES, u32s(8, START));
  get('stopped and started: nothing stale', 10n, 2n);
  map(150n, 5n);
  get('mapped while tracking', 150n, 5n);
  see.call('half mapped over a page that is written to', () => dirty(kernel, container, { size: 0x3000, data: ram.address }));
}

/** The bitmap of UNMAP: by mapping, before it goes. */
function unmapped(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { container } = openGroup(kernel, edu!);
  const ram = kernel.guestRam(0x100000);
  const at = 0xf0000;
  const fresh = (): void => {
    unmapDma(kernel, container, { flags: 2 });
    for (const [first, count] of [
      [0n, 3n],
      [10n, 2n],
      [60n, 10n],
    ] as const)
      mapDma(kernel, container, { vaddr: ram.address, iova: first * PAGE, size: count * PAGE });
  };
  kernel.ioctl(container, VFIO_IOMMU_DIRTY_PAGES, u32s(8, START));
  const unmap = (label: string, first: bigint, count: bigint, fill = 0): void => {
    fresh();
    ram.bytes.fill(fill, at, at + 32);
    const bitmap = [PAGE, 16, ram.address + BigInt(at)];
    see.note(label, unmapDma(kernel, container, { flags: 1, iova: first * PAGE, size: count * PAGE, bitmap }));
    see.note(`${label}: words`, [...new BigUint64Array(ram.bytes.slice(at, at + 32).buffer)]);
  };
  unmap('the first', 0n, 3n);
  unmap('the second', 10n, 2n);
  unmap('the first two', 0n, 12n);
  unmap('all three', 0n, 70n);
  unmap('all three, over bits that were there', 0n, 70n, 0xff);
  unmap('the last two, from before them', 5n, 70n);
  unmap('cuts the last', 0n, 65n);
}

export const dirtyCases: readonly Case[] = [
  withDevices('vfio/type1/dirty-order', 'IOMMU type1', ['edu'], order, ASSISTED),
  withDevices('vfio/type1/dirty-v1', 'IOMMU type1', ['edu'], ofV1, ASSISTED),
  withDevices('vfio/type1/dirty-bits', 'IOMMU type1', ['edu'], bits, ASSISTED),
  withDevices('vfio/type1/dirty-unmap', 'IOMMU type1', ['edu'], unmapped, ASSISTED),
];
