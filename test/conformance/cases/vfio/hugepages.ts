/** Memory of huge pages for a device: mapped by type1 and by an iommufd, charged by pages of 4 KiB, cut by what was mapped and by nothing else. */
import type { Kernel, Memory, Ram } from 'kvio';
import * as u from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { computes, copies, interrupts, isLockedOut } from '../../edu.ts';
import { exhausted, GIANT, giant, giantMemory, HUGE, hugeMemory, pool, since } from '../../hugepages.ts';
import { FIXED, RW } from '../../iommufd.ts';
import { show } from '../../parts.ts';
import { ConfigSpace, mapDma, mapRegion, openDevice, openGroup, unmapDma, view, withDevices } from '../../vfio.ts';
import { bound } from './iommufd.ts';

const section = 'Huge pages';
const PAGE = 0x1000n;
const BIG = BigInt(HUGE);
const IOVA = 0x2000000n;

const SHARED = u.MAP_SHARED | u.MAP_ANONYMOUS | u.MAP_HUGETLB;

function locked(kernel: Kernel): number {
  return Number(/^VmLck:\s+(\d+) kB/m.exec(show(kernel, '/proc/self/status'))![1]) / 4;
}

async function dma(kernel: Kernel, see: Observer, [edu]: string[]): Promise<void> {
  const { container, device } = openDevice(kernel, edu!);
  const bar = await computes(kernel, see, device);
  const eventfd = await interrupts(kernel, see, device, bar);
  const memory = kernel.mmap({ length: HUGE, flags: SHARED }) as Ram;
  const before = locked(kernel);
  see.call('MAP_DMA', () => mapDma(kernel, container, { vaddr: memory.address, iova: IOVA, size: BIG }));
  see.note('charged', locked(kernel) - before);
  await copies(kernel, see, bar, eventfd, memory, IOVA);
  see.note('UNMAP_DMA', unmapDma(kernel, container, { iova: IOVA, size: BIG }));
  see.note('charged then', locked(kernel) - before);
  await isLockedOut(kernel, see, bar, eventfd, memory, IOVA);
}

async function dmaByIommufd(kernel: Kernel, see: Observer, [edu]: string[]): Promise<void> {
  const { iommufd, device, attach } = bound(kernel, edu!);
  const ioas = iommufd.ioas();
  see.note('attached', typeof attach(ioas));
  const bar = await computes(kernel, see, device);
  const eventfd = await interrupts(kernel, see, device, bar);
  const fd = kernel.memfd('dma', u.MFD_HUGETLB);
  kernel.ftruncate(fd, 2 * HUGE);
  const memory = kernel.mmap({ fd, length: 2 * HUGE }) as Ram;
  see.note('MAP_FILE', iommufd.mapFile({ ioas_id: ioas, fd, start: 0n, length: 2n * BIG, iova: IOVA, flags: RW | FIXED }));
  await copies(kernel, see, bar, eventfd, memory, IOVA);
  see.note('UNMAP', iommufd.unmap(ioas, IOVA, 2n * BIG));
  see.note('MAP', iommufd.mapAt(ioas, memory.address + BIG, IOVA, BIG));
  see.note('UNMAP of a page', iommufd.unmap(ioas, IOVA, PAGE));
  see.note('UNMAP of it all', iommufd.unmap(ioas, IOVA, BIG));
  await isLockedOut(kernel, see, bar, eventfd, memory, IOVA);
}

/** What version 1 and version 2 make of a part of a mapping: the size of the pages behind it is nothing to either. */
function cuts(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const memory = hugeMemory(kernel, 2);
  for (const [name, type] of [
    ['type1', u.VFIO_TYPE1_IOMMU],
    ['type1v2', u.VFIO_TYPE1v2_IOMMU],
  ] as const) {
    const { container, group } = openGroup(kernel, edu!, type);
    const info = new Uint8Array(24);
    view(info).setUint32(0, 24, true);
    kernel.ioctl(container, u.VFIO_IOMMU_GET_INFO, info);
    see.note(`${name}: page sizes`, u.vfio_iommu_type1_info.decode(info).iova_pgsizes);
    const map = (at: bigint, size: bigint): number =>
      mapDma(kernel, container, { vaddr: memory.address + at, iova: IOVA + at, size });
    const unmap = (at: bigint, size: bigint): unknown => unmapDma(kernel, container, { iova: IOVA + at, size });
    map(0n, 2n * BIG);
    see.note(`${name}: a page from the start`, unmap(0n, PAGE));
    see.note(`${name}: a page in the middle`, unmap(BIG, PAGE));
    see.note(`${name}: the second huge page`, unmap(BIG, BIG));
    see.note(`${name}: all of it`, unmap(0n, 2n * BIG));
    map(PAGE, BIG);
    see.note(`${name}: a mapping across two huge pages`, [unmap(BIG, PAGE), unmap(0n, 2n * BIG)]);
    kernel.close(group);
    kernel.close(container);
  }
}

function pins(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { container } = openGroup(kernel, edu!);
  const before = pool(kernel);
  const memory = hugeMemory(kernel, 2, { flags: u.MAP_PRIVATE });
  see.call('MAP_DMA of memory nobody has touched', () =>
    mapDma(kernel, container, { vaddr: memory.address + BIG - PAGE, iova: IOVA, size: 2n * PAGE }),
  );
  see.note('taken', since(kernel, before));
  memory.close();
  see.note('unmapped by the process', since(kernel, before));
  see.note('UNMAP_DMA', [unmapDma(kernel, container, { iova: IOVA, size: 2n * PAGE }), since(kernel, before)]);
  exhausted(kernel, () => {
    const lost = hugeMemory(kernel, 1, { flags: u.MAP_SHARED | u.MAP_NORESERVE });
    see.call('MAP_DMA where there is no page', () => mapDma(kernel, container, { vaddr: lost.address, iova: IOVA, size: PAGE }));
  });
}

/** A page of 1 GiB is charged by pages of 4 KiB too, and reached to its end. */
async function giants(kernel: Kernel, see: Observer, [edu]: string[]): Promise<void> {
  const { container, device } = openDevice(kernel, edu!);
  new ConfigSpace(kernel, device).enable();
  const memory = giantMemory(kernel);
  const size = BigInt(GIANT);
  const iova = size;
  const before = locked(kernel);
  see.call('MAP_DMA', () => mapDma(kernel, container, { vaddr: memory.address, iova, size }));
  see.note('charged', locked(kernel) - before);
  const bar = mapRegion(kernel, device, 0);
  const last = GIANT - 0x1000;
  memory.write(last, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
  see.note('a transfer ends', await transfer(bar, iova + BigInt(last), BUFFER, 1));
  see.note('and back', await transfer(bar, BUFFER, iova + BigInt(last) + 0x800n, 3));
  see.note('what came', memory.read(last + 0x800, 8));
  see.note('UNMAP_DMA of 2 MiB', unmapDma(kernel, container, { iova, size: BIG }));
  see.note('UNMAP_DMA', unmapDma(kernel, container, { iova, size }));
  see.note('charged then', locked(kernel) - before);
}

/** edu's buffer, in addresses of its DMA engine. */
const BUFFER = 0x40000n;

/** Eight bytes by edu's DMA engine: whether it came to an end. */
async function transfer(bar: Memory, source: bigint, destination: bigint, command: number): Promise<boolean> {
  const words = [source & 0xffff_ffffn, source >> 32n, destination & 0xffff_ffffn, destination >> 32n, 8n, 0n, BigInt(command)];
  for (const [at, word] of words.entries()) bar.write32(0x80 + 4 * at, Number(word));
  for (const end = Date.now() + 20_000; (bar.read32(0x98) & 1) !== 0 && Date.now() < end; )
    await new Promise((resolve) => setTimeout(resolve, 2));
  return (bar.read32(0x98) & 1) === 0;
}

const assisted = (hugepages: number, more = {}) => ({ needs: { iommu: true, hugepages, ...more } });

export const hugepageCases: Case[] = [
  withDevices('vfio/hugepages/dma', section, ['edu'], dma, assisted(2)),
  withDevices('vfio/hugepages/dma-by-iommufd', section, ['edu'], dmaByIommufd, assisted(4, { devices: ['/dev/iommu'] })),
  withDevices('vfio/hugepages/giants', section, ['edu'], giants, giant({ iommu: true })),
  withDevices('vfio/hugepages/cuts', section, ['edu'], cuts, assisted(2)),
  withDevices('vfio/hugepages/pins', section, ['edu'], pins, assisted(4)),
];
