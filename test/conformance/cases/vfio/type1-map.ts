/** VFIO_IOMMU_MAP_DMA: every check in its order, what may be mapped, and what a limit counts. */
import type { Kernel } from 'kvio';
import {
  MAP_PRIVATE,
  PROT_NONE,
  PROT_READ,
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_VADDR,
  VFIO_DMA_MAP_FLAG_WRITE,
  VFIO_GROUP_UNSET_CONTAINER,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_MAP_DMA,
  VFIO_SET_IOMMU,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1v2_IOMMU,
} from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { UNSAFE } from '../../machine.ts';
import { show, store } from '../../parts.ts';
import {
  ASSISTED,
  ConfigSpace,
  type Dma,
  groupPath,
  mapDma,
  mapRegion,
  NOWHERE,
  openDevice,
  openGroup,
  RW,
  setContainer,
  u32s,
  unmapDma,
  view,
  withDevices,
} from '../../vfio.ts';

const READ = VFIO_DMA_MAP_FLAG_READ;
const WRITE = VFIO_DMA_MAP_FLAG_WRITE;
const VADDR = VFIO_DMA_MAP_FLAG_VADDR;
const IOVA = 0x100000n;
const PAGE = 0x1000n;
const TOP = 0xffff_ffff_ffff_ffffn;
const LIMIT = '/sys/module/vfio_iommu_type1/parameters/dma_entry_limit';

function order(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { container } = openGroup(kernel, edu!);
  const ram = kernel.guestRam(0x10000);
  const map = (label: string, dma: Dma): unknown =>
    see.call(label, () => mapDma(kernel, container, { vaddr: ram.address, iova: IOVA, size: PAGE, ...dma }));
  see.call('pointer 0', () => kernel.ioctl(container, VFIO_IOMMU_MAP_DMA, 0, UNSAFE));
  see.call('a pointer to nowhere', () => kernel.ioctl(container, VFIO_IOMMU_MAP_DMA, NOWHERE, UNSAFE));
  map('argsz 0', { argsz: 0 });
  map('argsz 31', { argsz: 31 });
  map('argsz 31, unknown flags, size 0', { argsz: 31, flags: 0xff, size: 0 });
  map('unknown flag 8', { flags: 8 | RW });
  map('all flags', { flags: 0xffffffff });
  map('size 0, flags 0', { size: 0, flags: 0 });
  map('size 0, iova at the top', { size: 0, iova: TOP });
  map('iova wraps', { iova: TOP - 0xffen, size: PAGE });
  map('iova wraps by a page', { iova: TOP - 0xfffn, size: 2n * PAGE });
  map('iova ends at the top', { iova: TOP - 0xfffn });
  map('vaddr wraps', { vaddr: TOP - 0xffen });
  map('vaddr ends at the top', { vaddr: TOP - 0xfffn });
  map('size of all', { size: TOP });
  map('size of all, at 0', { size: TOP, iova: 0, vaddr: 0n });
  map('wraps, flags 0', { iova: TOP, size: PAGE, flags: 0 });
  map('flags 0', { flags: 0 });
  map('flags 0, unaligned', { flags: 0, iova: IOVA + 1n });
  map('VADDR and READ', { flags: VADDR | READ });
  map('VADDR and WRITE', { flags: VADDR | WRITE });
  map('VADDR of nothing', { flags: VADDR });
  map('VADDR of nothing, unaligned', { flags: VADDR, iova: IOVA + 1n });
  map('iova unaligned', { iova: IOVA + 1n });
  map('vaddr unaligned', { vaddr: ram.address + 8n });
  map('size unaligned', { size: PAGE + 1n });
  map('size below a page', { size: 0x800 });
  map('in the hole, nowhere', { iova: 0xfee00000n, vaddr: NOWHERE });
  map('beyond the last address', { iova: 1n << 60n });
  map('beyond the last address, nowhere', { iova: 1n << 60n, vaddr: NOWHERE });
  map('nowhere', { vaddr: NOWHERE });
  map('vaddr 0', { vaddr: 0n });
  map('not canonical', { vaddr: 1n << 60n });
  map('done', {});
  map('again', {});
  map('again, nowhere', { vaddr: NOWHERE });
  map('again, unaligned', { iova: IOVA + 1n });
  map('again, flags 0', { flags: 0 });
  map('overlaps its start', { iova: IOVA - PAGE, size: 2n * PAGE });
  map('overlaps its end', { iova: IOVA, size: 2n * PAGE });
  map('overlaps it, and wraps', { iova: IOVA, size: TOP });
  map('overlaps it, and reaches into the hole', { iova: IOVA, size: 0xfef00000n });
  map('beside it', { iova: IOVA + PAGE });
  map('before it', { iova: IOVA - PAGE });
  map('VADDR, not invalidated', { flags: VADDR });
  map('VADDR, another size', { flags: VADDR, size: 2n * PAGE });
  map('argsz 1000', { argsz: 1000, iova: 0 });
  map('a mapping twice elsewhere', { iova: 0x900000n });
  see.note('unmapped, all', unmapDma(kernel, container, { flags: 2 }));
}

/** The edges of what the IOMMU can address, as VFIO_IOMMU_GET_INFO tells of them. */
function ranges(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { container } = openGroup(kernel, edu!);
  const ram = kernel.guestRam(0x10000);
  const info = new Uint8Array(512);
  info.set(u32s(512));
  kernel.ioctl(container, VFIO_IOMMU_GET_INFO, info);
  const data = view(info);
  let at = data.getUint32(16, true);
  while (at !== 0 && data.getUint16(at, true) !== 1) at = data.getUint32(at + 4, true);
  const count = at === 0 ? 0 : data.getUint32(at + 8, true);
  see.note('ranges', count);
  const map = (label: string, iova: bigint, size = PAGE): void => {
    see.call(label, () => mapDma(kernel, container, { vaddr: ram.address, iova, size }));
    unmapDma(kernel, container, { flags: 2 });
  };
  for (let n = 0; n < count; n++) {
    const [first, last] = [data.getBigUint64(at + 16 + 16 * n, true), data.getBigUint64(at + 24 + 16 * n, true)];
    see.note(`range ${n}`, { first, last });
    map(`range ${n}: its first page`, first);
    map(`range ${n}: its last page`, last - 0xfffn);
    if (last !== TOP) map(`range ${n}: over its end`, last - 0xfffn, 2n * PAGE);
    if (last !== TOP) map(`range ${n}: behind its end`, last + 1n);
    if (first !== 0n) map(`range ${n}: before its start`, first - PAGE);
  }
}

function protections(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { container } = openGroup(kernel, edu!);
  const map = (label: string, vaddr: bigint, flags: number, size: bigint | number = PAGE): void => {
    see.call(label, () => mapDma(kernel, container, { vaddr, iova: IOVA, size, flags }));
    see.note(`${label}, unmapped`, unmapDma(kernel, container, { flags: 2 }).size);
  };
  const readOnly = kernel.mmap({ length: 4096, prot: PROT_READ, flags: MAP_PRIVATE, view: false });
  map('read-only memory, READ', readOnly.address, READ);
  map('read-only memory, WRITE', readOnly.address, WRITE);
  map('read-only memory, both', readOnly.address, RW);
  const none = kernel.mmap({ length: 4096, prot: PROT_NONE, flags: MAP_PRIVATE, view: false });
  map('PROT_NONE, READ', none.address, READ);
  map('PROT_NONE, WRITE', none.address, WRITE);
  const closed = kernel.mmap({ length: 0x4000, view: false });
  const { address } = closed;
  closed.close();
  map('unmapped', address, READ);
  const some = kernel.mmap({ length: 0x4000, view: false });
  kernel.mprotect(some, PROT_NONE, { offset: 0x2000, length: 0x1000 });
  map('three pages, the third of them PROT_NONE', some.address, RW, 0x3000);
  map('two pages before it', some.address, RW, 0x2000);
  const memfd = kernel.memfd('short');
  kernel.ftruncate(memfd, 0x1000);
  const short = kernel.mmap({ fd: memfd, length: 0x2000, view: false });
  map('a memfd', short.address, RW);
  map('a memfd, over its end', short.address, RW, 0x2000);
  const privately = kernel.mmap({ fd: memfd, length: 0x1000, flags: MAP_PRIVATE, view: false });
  map('a memfd, private', privately.address, RW);
  map('a memfd, private, READ', privately.address, READ);
}

function limit(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const before = show(kernel, LIMIT);
  see.note('dma_entry_limit', before);
  try {
    store(kernel, LIMIT, '3');
    const { container, group } = openGroup(kernel, edu!);
    store(kernel, LIMIT, before);
    const ram = kernel.guestRam(0x10000);
    const map = (label: string, iova: bigint, more: Dma = {}): unknown =>
      see.call(label, () => mapDma(kernel, container, { vaddr: ram.address, iova, size: PAGE, ...more }));
    const left = (): number => {
      const info = new Uint8Array(512);
      info.set(u32s(512));
      kernel.ioctl(container, VFIO_IOMMU_GET_INFO, info);
      const data = view(info);
      let at = data.getUint32(16, true);
      while (data.getUint16(at, true) !== 3) at = data.getUint32(at + 4, true);
      return data.getUint32(at + 8, true);
    };
    see.note('left', left());
    map('first', 0n);
    map('fails', 0x1000n, { vaddr: NOWHERE });
    see.note('a failure takes none', left());
    map('second', 0x1000n);
    map('third', 0x2000n);
    see.note('left, none', left());
    map('fourth', 0x3000n);
    map('fourth, unaligned', 0x3001n);
    map('fourth, overlapping', 0x2000n);
    map('fourth, in the hole', 0xfee00000n);
    map('fourth, nowhere', 0x3000n, { vaddr: NOWHERE });
    see.note('two unmapped', unmapDma(kernel, container, { iova: 0, size: 0x2000 }));
    see.note('left, two', left());
    map('one of three pages', 0n, { size: 0x2000 });
    see.note('left, one', left());
    kernel.ioctl(group, VFIO_GROUP_UNSET_CONTAINER);
    setContainer(kernel, group, container);
    kernel.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
    see.note('left, of a new IOMMU', left());
  } finally {
    store(kernel, LIMIT, before);
  }
}

/** What the process locks is what it maps, with CAP_IPC_LOCK too. */
function locked(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { container, group } = openGroup(kernel, edu!);
  const ram = kernel.guestRam(0x10000);
  const vmLck = (): number => Number(/^VmLck:\s+(\d+) kB/m.exec(show(kernel, '/proc/self/status'))![1]) / 4;
  const start = vmLck();
  const note = (label: string): void => see.note(label, vmLck() - start);
  mapDma(kernel, container, { vaddr: ram.address, iova: IOVA, size: 0x4000 });
  note('four pages');
  mapDma(kernel, container, { vaddr: ram.address, iova: 0x900000n, size: 0x4000 });
  note('the same four again');
  const half = kernel.mmap({ length: 0x4000, view: false });
  kernel.mprotect(half, PROT_NONE, { offset: 0x2000, length: 0x2000 });
  see.call('one that fails half-way', () => mapDma(kernel, container, { vaddr: half.address, iova: 0, size: 0x4000 }));
  note('and charges nothing');
  unmapDma(kernel, container, { iova: IOVA, size: 0x4000 });
  note('one unmapped');
  kernel.ioctl(group, VFIO_GROUP_UNSET_CONTAINER);
  note('the group gone');
}

/** A BAR mapped into the process can be mapped for DMA, if its memory is decoded. */
function peer(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { container, device } = openDevice(kernel, edu!);
  const config = new ConfigSpace(kernel, device);
  const bar = mapRegion(kernel, device, 0);
  const map = (label: string): unknown =>
    see.call(label, () => mapDma(kernel, container, { vaddr: bar.address, iova: IOVA, size: PAGE }));
  map('a BAR');
  see.note('unmapped', unmapDma(kernel, container, { flags: 2 }));
  config.write16(4, config.read16(4) & ~2);
  map('with memory decode off');
  config.write16(4, config.read16(4) | 2);
  map('on again');
  config.write16(4, config.read16(4) & ~2);
  see.note('off: unmapped as ever', unmapDma(kernel, container, { iova: IOVA, size: PAGE }));
}

function info(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { container } = openGroup(kernel, edu!);
  const ask = (label: string, argsz: number, length = 160): void => {
    const bytes = new Uint8Array(length).fill(0xee);
    bytes.set(u32s(argsz, 0xffffffff));
    see.call(`GET_INFO, ${label}`, () => kernel.ioctl(container, VFIO_IOMMU_GET_INFO, bytes, UNSAFE));
    see.note(`left, ${label}`, bytes);
  };
  see.call('pointer 0', () => kernel.ioctl(container, VFIO_IOMMU_GET_INFO, 0, UNSAFE));
  ask('argsz 0', 0, 16);
  ask('argsz 15', 15, 16);
  ask('argsz 16', 16, 32);
  ask('argsz 19', 19, 32);
  ask('argsz 20', 20, 32);
  ask('argsz 23', 23, 32);
  ask('argsz 24', 24, 40);
  ask('argsz 119', 119);
  ask('argsz 120', 120);
  ask('argsz 160', 160);
  const ram = kernel.guestRam(0x4000);
  mapDma(kernel, container, { vaddr: ram.address, iova: 0, size: 0x4000 });
  ask('argsz 160, with a mapping', 160);
}

/** The same container as type1 v1: what maps is the same. */
function ofV1(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const container = kernel.open('/dev/vfio/vfio');
  const group = kernel.open(groupPath(kernel, edu!));
  setContainer(kernel, group, container);
  kernel.ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU);
  const ram = kernel.guestRam(0x10000);
  const map = (label: string, dma: Dma): unknown =>
    see.call(label, () => mapDma(kernel, container, { vaddr: ram.address, iova: IOVA, size: PAGE, ...dma }));
  map('done', {});
  map('again', {});
  map('unaligned', { iova: 1 });
  map('flags 0', { iova: 0, flags: 0 });
  map('VADDR', { flags: VADDR });
  map('wraps', { iova: TOP });
}

/** A second group joins: only what it can reach too. A mapping lost its address: none joins. */
function joining(kernel: Kernel, see: Observer, [edu, second]: string[]): void {
  const { container } = openGroup(kernel, edu!);
  const ram = kernel.guestRam(0x10000);
  const other = kernel.open(groupPath(kernel, second!));
  mapDma(kernel, container, { vaddr: ram.address, iova: IOVA, size: 0x2000 });
  see.note('UNMAP VADDR', unmapDma(kernel, container, { flags: 4, iova: IOVA, size: 0x2000 }));
  see.call('SET_CONTAINER while a mapping has no address', () => setContainer(kernel, other, container));
  see.call('MAP elsewhere, meanwhile', () => mapDma(kernel, container, { vaddr: ram.address, iova: 0, size: PAGE }));
  see.call('MAP VADDR', () => mapDma(kernel, container, { flags: VADDR, vaddr: ram.address, iova: IOVA, size: 0x2000 }));
  see.call('SET_CONTAINER', () => setContainer(kernel, other, container));
}

export const mapCases: readonly Case[] = [
  withDevices('vfio/type1/map-order', 'IOMMU type1', ['edu'], order, ASSISTED),
  withDevices('vfio/type1/map-ranges', 'IOMMU type1', ['edu'], ranges, ASSISTED),
  withDevices('vfio/type1/map-protections', 'IOMMU type1', ['edu'], protections, ASSISTED),
  withDevices('vfio/type1/entry-limit', 'IOMMU type1', ['edu'], limit, ASSISTED),
  withDevices('vfio/type1/locked-memory', 'IOMMU type1', ['edu'], locked, ASSISTED),
  withDevices('vfio/type1/map-a-bar', 'IOMMU type1', ['edu'], peer, ASSISTED),
  withDevices('vfio/type1/info', 'IOMMU type1', ['edu'], info, ASSISTED),
  withDevices('vfio/type1/map-v1', 'IOMMU type1', ['edu'], ofV1, ASSISTED),
  withDevices('vfio/type1/a-group-joins', 'IOMMU type1', ['edu', 'second edu'], joining, ASSISTED),
];
