/** VFIO_IOMMU_UNMAP_DMA: its checks in order, and what becomes of a mapping that is not covered whole, by type1 v1 and v2. */
import type { Kernel } from 'kvio';
import {
  VFIO_DMA_MAP_FLAG_VADDR,
  VFIO_IOMMU_DIRTY_PAGES,
  VFIO_IOMMU_UNMAP_DMA,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1v2_IOMMU,
} from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { UNSAFE } from '../../machine.ts';
import { ASSISTED, type Dma, mapDma, NOWHERE, openGroup, u32s, unmapDma, withDevices } from '../../vfio.ts';

const IOVA = 0x100000n;
const PAGE = 0x1000n;
const TOP = 0xffff_ffff_ffff_ffffn;
const BITMAP = 1;
const ALL = 2;
const VADDR = 4;

function order(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { container } = openGroup(kernel, edu!);
  const ram = kernel.guestRam(0x10000);
  const map = (iova: bigint, size = PAGE): number => mapDma(kernel, container, { vaddr: ram.address, iova, size });
  const unmap = (label: string, dma: Dma & { bitmap?: (bigint | number)[] }): void =>
    see.note(label, unmapDma(kernel, container, { iova: IOVA, size: PAGE, ...dma }));
  see.call('pointer 0', () => kernel.ioctl(container, VFIO_IOMMU_UNMAP_DMA, 0, UNSAFE));
  see.call('a pointer to nowhere', () => kernel.ioctl(container, VFIO_IOMMU_UNMAP_DMA, NOWHERE, UNSAFE));
  unmap('nothing mapped', {});
  unmap('nothing mapped, ALL', { flags: ALL, iova: 0, size: 0 });
  map(IOVA);
  unmap('argsz 0', { argsz: 0 });
  unmap('argsz 23', { argsz: 23 });
  unmap('unknown flag 8', { flags: 8 });
  unmap('all flags', { flags: 0xffffffff });
  unmap('bitmap and ALL', { flags: BITMAP | ALL });
  unmap('bitmap and VADDR', { flags: BITMAP | VADDR });
  unmap('ALL and VADDR, with a range', { flags: ALL | VADDR });
  unmap('iova unaligned', { iova: IOVA + 1n });
  unmap('iova unaligned, size 0', { iova: IOVA + 1n, size: 0 });
  unmap('ALL, iova unaligned', { flags: ALL, iova: 1, size: 0 });
  unmap('ALL, with a size', { flags: ALL, iova: 0 });
  unmap('ALL, with an iova', { flags: ALL, size: 0 });
  unmap('size 0', { size: 0 });
  unmap('size unaligned', { size: PAGE + 1n });
  unmap('size below a page', { size: 0x800 });
  unmap('wraps', { iova: TOP - 0xfffn, size: 2n * PAGE });
  unmap('size unaligned, wraps', { iova: TOP - 0xfffn, size: TOP });
  unmap('ends at the top', { iova: TOP - 0xfffn });
  unmap('from 0 to the last page', { iova: 0, size: TOP - 0xfffn });
  map(IOVA);
  unmap('elsewhere', { iova: 0 });
  unmap('done', {});
  unmap('again', {});
  map(IOVA);
  unmap('argsz 1000', { argsz: 1000 });
  const bitmap = ram.address + 0xf000n;
  map(IOVA);
  const flags = BITMAP;
  unmap('bitmap, argsz 47', { flags, argsz: 47, bitmap: [PAGE, 8, bitmap] });
  unmap('bitmap, tracking off', { flags, bitmap: [PAGE, 8, bitmap] });
  unmap('bitmap, data nowhere', { flags, bitmap: [PAGE, 8, NOWHERE] });
  unmap('bitmap, data unmapped', { flags, bitmap: [PAGE, 8, 0] });
  unmap('bitmap, size 0', { flags, bitmap: [PAGE, 0, bitmap] });
  unmap('bitmap, size 7', { flags, bitmap: [PAGE, 7, bitmap] });
  unmap('bitmap, size above 256 MiB', { flags, bitmap: [PAGE, (1 << 28) + 1, bitmap] });
  unmap('bitmap, page size 0', { flags, bitmap: [0, 8, bitmap] });
  unmap('bitmap, page size 1', { flags, bitmap: [1, 8, bitmap] });
  unmap('bitmap, page size 8192', { flags, bitmap: [8192, 8, bitmap] });
  kernel.ioctl(container, VFIO_IOMMU_DIRTY_PAGES, u32s(8, 1));
  unmap('tracking: page size 8192', { flags, bitmap: [8192, 8, bitmap] });
  unmap('tracking: page size 8192, size unaligned', { flags, size: PAGE + 1n, bitmap: [8192, 8, bitmap] });
  unmap('tracking: iova unaligned', { flags, iova: IOVA + 1n, bitmap: [PAGE, 8, bitmap] });
  unmap('tracking: nothing there', { flags, iova: 0, bitmap: [PAGE, 8, bitmap] });
  see.note('the bitmap of nothing', ram.bytes.slice(0xf000, 0xf010));
  unmap('tracking: data unmapped', { flags, bitmap: [PAGE, 8, 0] });
  ram.bytes.fill(0, 0xf000, 0xf010);
  unmap('tracking: done', { flags, bitmap: [PAGE, 8, bitmap] });
  see.note('the bitmap', ram.bytes.slice(0xf000, 0xf010));
}

/** Three mappings of two pages with a hole of two before the last, and ranges that cut them. */
function cuts(type: number) {
  return (kernel: Kernel, see: Observer, [edu]: string[]): void => {
    const { container } = openGroup(kernel, edu!, type);
    const ram = kernel.guestRam(0x10000);
    const pages = { a: 0n, b: 2n, c: 6n };
    const fresh = (): void => {
      unmapDma(kernel, container, { flags: ALL });
      for (const at of Object.values(pages))
        mapDma(kernel, container, { vaddr: ram.address + at * PAGE, iova: IOVA + at * PAGE, size: 2n * PAGE });
    };
    /** Which are still there: mapping one over it would be EEXIST. */
    const left = (): string =>
      Object.entries(pages)
        .filter(([, at]) => {
          try {
            mapDma(kernel, container, { vaddr: ram.address, iova: IOVA + at * PAGE, size: PAGE });
            return false;
          } catch {
            return true;
          }
        })
        .map(([name]) => name)
        .join('');
    const cut = (label: string, first: bigint, count: bigint, flags = 0): void => {
      fresh();
      const answer = unmapDma(kernel, container, { flags, iova: IOVA + first * PAGE, size: count * PAGE });
      see.note(label, { ...answer, left: left() });
    };
    cut('the first, whole', 0n, 2n);
    cut('the first page of the first', 0n, 1n);
    cut('the second page of the first', 1n, 1n);
    cut('the first and half the second', 0n, 3n);
    cut('half the first and the second', 1n, 3n);
    cut('half the first and half the second', 1n, 2n);
    cut('both', 0n, 4n);
    cut('both and the hole', 0n, 6n);
    cut('all', 0n, 8n);
    cut('all, and beyond', 0n, 100n);
    cut('from before', -10n, 12n);
    cut('from before, half the first', -10n, 11n);
    cut('the hole', 4n, 2n);
    cut('the hole and half the third', 4n, 3n);
    cut('half the second and the hole', 3n, 3n);
    cut('half the second, the hole, the third', 3n, 5n);
    cut('VADDR of half', 0n, 1n, VADDR);
    cut('VADDR of the second half', 1n, 1n, VADDR);
  };
}

function vaddr(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { container } = openGroup(kernel, edu!);
  const ram = kernel.guestRam(0x10000);
  const map = (label: string, dma: Dma): unknown =>
    see.call(label, () => mapDma(kernel, container, { vaddr: ram.address, iova: IOVA, size: PAGE, ...dma }));
  const unmap = (label: string, dma: Dma): void =>
    see.note(label, unmapDma(kernel, container, { iova: IOVA, size: PAGE, ...dma }));
  const flags = VFIO_DMA_MAP_FLAG_VADDR;
  for (const at of [0n, 1n, 2n, 4n]) mapDma(kernel, container, { vaddr: ram.address, iova: IOVA + at * PAGE, size: PAGE });
  unmap('VADDR of nothing', { flags: VADDR, iova: 0 });
  unmap('VADDR of the first', { flags: VADDR });
  unmap('VADDR of it again', { flags: VADDR });
  unmap('VADDR of three, one of them invalid', { flags: VADDR, size: 3n * PAGE });
  map('MAP VADDR of the second: its mark was taken back', { flags, iova: IOVA + PAGE });
  map('MAP VADDR, another size', { flags, size: 2n * PAGE });
  map('MAP VADDR, another iova', { flags, iova: IOVA - PAGE, size: 2n * PAGE });
  map('MAP VADDR, beside', { flags, iova: IOVA - PAGE });
  map('MAP over an invalid one', {});
  map('MAP elsewhere', { iova: 0 });
  map('MAP VADDR to nowhere', { flags, vaddr: 0n });
  map('MAP VADDR again', { flags });
  unmap('VADDR of the first, again', { flags: VADDR });
  unmap('UNMAP of an invalid one', {});
  unmap('VADDR of all, with a range', { flags: VADDR | ALL });
  unmap('VADDR of all', { flags: VADDR | ALL, iova: 0, size: 0 });
  unmap('VADDR of all, again', { flags: VADDR | ALL, iova: 0, size: 0 });
  map('MAP VADDR of the fifth', { flags, iova: IOVA + 4n * PAGE });
  unmap('VADDR of all, one of them valid', { flags: VADDR | ALL, iova: 0, size: 0 });
  unmap('ALL', { flags: ALL, iova: 0, size: 0 });
}

/** Many mappings: ALL says how many bytes they were; a range removes what it covers whole. */
function many(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { container } = openGroup(kernel, edu!);
  const ram = kernel.guestRam(0x1000);
  for (let n = 0n; n < 300n; n++) mapDma(kernel, container, { vaddr: ram.address, iova: n * 2n * PAGE, size: PAGE });
  see.note('a range over 100, with holes', unmapDma(kernel, container, { iova: 100n * PAGE, size: 200n * PAGE }));
  see.note('again', unmapDma(kernel, container, { iova: 100n * PAGE, size: 200n * PAGE }));
  see.note('ALL', unmapDma(kernel, container, { flags: ALL }));
  see.note('ALL again', unmapDma(kernel, container, { flags: ALL }));
}

export const unmapCases: readonly Case[] = [
  withDevices('vfio/type1/unmap-order', 'IOMMU type1', ['edu'], order, ASSISTED),
  withDevices('vfio/type1/unmap-cuts-v2', 'IOMMU type1', ['edu'], cuts(VFIO_TYPE1v2_IOMMU), ASSISTED),
  withDevices('vfio/type1/unmap-cuts-v1', 'IOMMU type1', ['edu'], cuts(VFIO_TYPE1_IOMMU), ASSISTED),
  withDevices('vfio/type1/unmap-vaddr', 'IOMMU type1', ['edu'], vaddr, ASSISTED),
  withDevices('vfio/type1/unmap-many', 'IOMMU type1', ['edu'], many, ASSISTED),
];
