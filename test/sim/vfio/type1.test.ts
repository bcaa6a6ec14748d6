import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { KernelCore } from '../../../src/kernel/core.ts';
import * as v from '../../../src/uapi/vfio.ts';
import { plainMachine } from '../machine.ts';
import { answer, join, P, type Rig, rig, type TestGroup, words } from './kit.ts';

const RW = v.VFIO_DMA_MAP_FLAG_READ | v.VFIO_DMA_MAP_FLAG_WRITE;

interface Bench extends Rig {
  readonly container: number;
  readonly iommu: TestGroup;
  readonly groupFd: number;
}

/** A container of `type` with one group. */
function container(
  type = v.VFIO_TYPE1v2_IOMMU,
  options: Parameters<typeof rig>[0] = {},
  hardware: Parameters<Rig['group']>[0] = {},
): Bench {
  const bench = rig(options);
  const iommu = bench.group(hardware);
  bench.device('0000:00:01.0', iommu);
  const fd = bench.kernel.open('/dev/vfio/vfio');
  const groupFd = bench.kernel.open(`/dev/vfio/${iommu.id}`);
  bench.kernel.ioctl(groupFd, v.VFIO_GROUP_SET_CONTAINER, words(4, fd));
  bench.kernel.ioctl(fd, v.VFIO_SET_IOMMU, type);
  return { ...bench, container: fd, iommu, groupFd };
}

function addGroup(
  { kernel, device, group, container: fd }: Bench,
  hardware: Parameters<Rig['group']>[0] = {},
): { iommu: TestGroup; answer: unknown; fd: number } {
  const iommu = group(hardware);
  device(`0000:00:${iommu.id + 2}.0`, iommu);
  const groupFd = kernel.open(`/dev/vfio/${iommu.id}`);
  return { iommu, fd: groupFd, answer: answer(() => kernel.ioctl(groupFd, v.VFIO_GROUP_SET_CONTAINER, words(4, fd))) };
}

function map(kernel: KernelCore, fd: number, iova: bigint, size: bigint, vaddr: bigint, flags = RW): unknown {
  return answer(() => kernel.ioctl(fd, v.VFIO_IOMMU_MAP_DMA, join(words(4, 32, flags), words(8, vaddr, iova, size))));
}

/** What it answers, and the size it writes back. */
function unmap(kernel: KernelCore, fd: number, iova: bigint, size: bigint, flags = 0): unknown[] {
  const bytes = join(words(4, 24, flags), words(8, iova, size));
  const result = answer(() => kernel.ioctl(fd, v.VFIO_IOMMU_UNMAP_DMA, bytes));
  return [result, v.vfio_iommu_type1_dma_unmap.decode(bytes).size];
}

function info(kernel: KernelCore, fd: number, length = 4096): { argsz: number; pgsizes: bigint; caps: [number, bigint[]][] } {
  const bytes = new Uint8Array(length);
  new DataView(bytes.buffer).setUint32(0, length, true);
  kernel.ioctl(fd, v.VFIO_IOMMU_GET_INFO, bytes);
  const view = new DataView(bytes.buffer);
  const caps: [number, bigint[]][] = [];
  for (let at = view.getUint32(16, true); at !== 0; at = view.getUint32(at + 4, true)) {
    const count = { 1: 1 + 2 * view.getUint32(at + 8, true), 2: 3, 3: 1 }[view.getUint16(at, true)]!;
    caps.push([view.getUint16(at, true), Array.from({ length: count }, (_, i) => view.getBigUint64(at + 8 + 8 * i, true))]);
  }
  return { argsz: view.getUint32(0, true), pgsizes: view.getBigUint64(8, true), caps };
}

const page = BigInt(P);

describe('VFIO_IOMMU_MAP_DMA', () => {
  it('a device reads and writes the process, as the flags say', () => {
    const { kernel, container: fd, iommu } = container();
    const ram = kernel.guestRam(4 * P);
    ram.bytes!.fill(7);
    expect(map(kernel, fd, 0x10000n, 2n * page, ram.address)).toBe(0);
    expect(map(kernel, fd, 0x20000n, page, ram.address + 2n * page, v.VFIO_DMA_MAP_FLAG_READ)).toBe(0);
    expect(iommu.load(0x10000n)).toBe(7);
    expect(iommu.store(0x11fffn, 9)).toBe(true);
    expect(ram.bytes![2 * P - 1]).toBe(9);
    expect([iommu.load(0x20000n), iommu.store(0x20000n, 1)]).toEqual([7, false]);
    expect(iommu.load(0x12000n)).toBeUndefined();
    ram.close();
    expect(iommu.load(0x11fffn)).toBe(9);
    expect(unmap(kernel, fd, 0x10000n, 2n * page)).toEqual([0, 2n * page]);
    expect(iommu.load(0x10000n)).toBeUndefined();
  });

  it('answers in the order of the kernel’s checks', () => {
    const { kernel, container: fd, process } = container();
    const { address: va } = kernel.guestRam(4 * P);
    const raw = (bytes: Uint8Array): unknown => answer(() => kernel.ioctl(fd, v.VFIO_IOMMU_MAP_DMA, bytes));
    expect(answer(() => kernel.ioctl(fd, v.VFIO_IOMMU_MAP_DMA, 0))).toBe('EFAULT');
    expect(raw(join(words(4, 31, RW), words(8, va, 0, page)))).toBe('EINVAL');
    expect(map(kernel, fd, 0n, page, va, 8 | RW)).toBe('EINVAL');
    expect(map(kernel, fd, 0n, 0n, va, 0)).toBe('EINVAL');
    expect(map(kernel, fd, -page, 2n * page, va, 0)).toBe('EOVERFLOW');
    expect(map(kernel, fd, 0n, page, -page + 1n, 0)).toBe('EOVERFLOW');
    expect(map(kernel, fd, 0n, page, va, 0)).toBe('EINVAL');
    expect(map(kernel, fd, 0n, page, va, RW | v.VFIO_DMA_MAP_FLAG_VADDR)).toBe('EINVAL');
    expect(map(kernel, fd, 1n, page, va)).toBe('EINVAL');
    expect(map(kernel, fd, 0n, page, va + 1n)).toBe('EINVAL');
    expect(map(kernel, fd, 0x5000n, page, va, v.VFIO_DMA_MAP_FLAG_VADDR)).toBe('ENOENT');
    expect(map(kernel, fd, 0x5000n, page, va)).toBe(0);
    expect(map(kernel, fd, 0x5000n, page, va, v.VFIO_DMA_MAP_FLAG_VADDR)).toBe('EINVAL');
    expect(map(kernel, fd, 0x4000n, 3n * page, 0n)).toBe('EEXIST');
    expect(map(kernel, fd, 0xfee0_0000n, page, 0n)).toBe('EINVAL');
    expect(map(kernel, fd, 1n << 48n, page, 0n)).toBe('EINVAL');
    expect(map(kernel, fd, -page, page, va)).toBe('EINVAL');
    expect(map(kernel, fd, 0n, page, 0n)).toBe('EFAULT');
    expect(map(kernel, fd, 0n, page, -page)).toBe('EFAULT');
    expect(map(kernel, fd, 0x10000n, 8n * page, va)).toBe('EFAULT');
    expect(process.mm.lockedVm).toBe(1);
    expect(info(kernel, fd).caps[1]).toEqual([3, [65534n]]);
  });

  it('one entry each, as many as the parameter said at SET_IOMMU', () => {
    const {
      kernel,
      container: fd,
      system,
    } = container(v.VFIO_TYPE1_IOMMU, { parameters: { vfio_iommu_type1: { dma_entry_limit: 2 } } });
    const { address: va } = kernel.guestRam(P);
    system.parameters.vfio_iommu_type1.dma_entry_limit = 9;
    expect(map(kernel, fd, 0n, page, va)).toBe(0);
    expect(map(kernel, fd, page, page, va)).toBe(0);
    expect(map(kernel, fd, page, page, va)).toBe('EEXIST');
    expect(map(kernel, fd, 1n << 60n, page, 0n)).toBe('ENOSPC');
    expect(unmap(kernel, fd, 0n, page)).toEqual([0, page]);
    expect(map(kernel, fd, 2n * page, page, va)).toBe(0);
  });

  it('RLIMIT_MEMLOCK counts a page as often as it is mapped', () => {
    const memlock = 3 * P;
    const { kernel, container: fd, process } = container(3, { machine: { limits: { ...plainMachine.limits, memlock } } });
    const { address: va } = kernel.guestRam(2 * P);
    expect(map(kernel, fd, 0n, 2n * page, va)).toBe(0);
    expect(map(kernel, fd, 0x10000n, 2n * page, va)).toBe('ENOMEM');
    expect(map(kernel, fd, 0x10000n, page, va)).toBe(0);
    expect(process.mm.lockedVm).toBe(3);
    // What comes first in the range decides.
    expect(map(kernel, fd, 0x20000n, 3n * page, va)).toBe('ENOMEM');
    expect(unmap(kernel, fd, 0n, 0n, v.VFIO_DMA_UNMAP_FLAG_ALL)).toEqual([0, 3n * page]);
    expect(process.mm.lockedVm).toBe(0);
    expect(map(kernel, fd, 0x20000n, 4n * page, va)).toBe('EFAULT');
  });
});

describe('VFIO_IOMMU_UNMAP_DMA', () => {
  const both = [v.VFIO_TYPE1v2_IOMMU, v.VFIO_TYPE1_IOMMU];

  it('may not cut a mapping of version 2, and finds no beginning in one of version 1', () => {
    for (const type of both) {
      const { kernel, container: fd } = container(type);
      const { address: va } = kernel.guestRam(8 * P);
      map(kernel, fd, 0x10000n, 4n * page, va);
      map(kernel, fd, 0x20000n, 2n * page, va);
      const v2 = type === v.VFIO_TYPE1v2_IOMMU;
      expect(unmap(kernel, fd, 0x11000n, 0x20000n)).toEqual(v2 ? ['EINVAL', 0x20000n] : [0, 0n]);
      expect(unmap(kernel, fd, 0x1000n, page)).toEqual([0, 0n]);
      expect(unmap(kernel, fd, 0xf000n, 2n * page)).toEqual(v2 ? ['EINVAL', 2n * page] : [0, 4n * page]);
      expect(unmap(kernel, fd, 0n, 0x22000n)).toEqual([0, v2 ? 6n * page : 2n * page]);
    }
  });

  it('answers in the order of the kernel’s checks', () => {
    const { kernel, container: fd } = container();
    const { address: va } = kernel.guestRam(P);
    const raw = (bytes: Uint8Array): unknown => answer(() => kernel.ioctl(fd, v.VFIO_IOMMU_UNMAP_DMA, bytes));
    expect(answer(() => kernel.ioctl(fd, v.VFIO_IOMMU_UNMAP_DMA, 0))).toBe('EFAULT');
    expect(raw(join(words(4, 23, 0), words(8, 0, page)))).toBe('EINVAL');
    expect(unmap(kernel, fd, 0n, page, 8)[0]).toBe('EINVAL');
    expect(unmap(kernel, fd, 0n, page, 1 | 2)[0]).toBe('EINVAL');
    expect(unmap(kernel, fd, 1n, page)[0]).toBe('EINVAL');
    expect(unmap(kernel, fd, 0n, page, 2)[0]).toBe('EINVAL');
    expect(unmap(kernel, fd, 0n, 0n)[0]).toBe('EINVAL');
    expect(unmap(kernel, fd, 0n, 1n)[0]).toBe('EINVAL');
    expect(unmap(kernel, fd, -page, 2n * page)[0]).toBe('EOVERFLOW');
    expect(unmap(kernel, fd, -page, page)).toEqual([0, 0n]);
    const dirty = (bitmap: Uint8Array, argsz = 48): unknown => raw(join(words(4, argsz, 1), words(8, 0, page), bitmap));
    expect(dirty(words(8, page, 8, va), 47)).toBe('EINVAL');
    expect(dirty(words(8, page, 8, -8n))).toBe('EINVAL');
    expect(dirty(words(8, page, 0, va))).toBe('EINVAL');
    expect(dirty(words(8, page, 7, va))).toBe('EINVAL');
    expect(dirty(words(8, page, 8, va))).toBe('EINVAL');
  });

  it('VADDR: DMA goes on, the mapping gets another address, and no group may come', () => {
    const bench = container();
    const { kernel, container: fd, iommu } = bench;
    const old = kernel.guestRam(2 * P);
    old.bytes!.fill(5);
    map(kernel, fd, 0n, page, old.address);
    map(kernel, fd, 0x10000n, page, old.address + page);
    const { VFIO_DMA_UNMAP_FLAG_VADDR: vaddr, VFIO_DMA_UNMAP_FLAG_ALL: all } = v;
    expect(unmap(kernel, fd, 0n, page, vaddr)).toEqual([0, page]);
    expect(unmap(kernel, fd, 0n, 0n, vaddr | all)).toEqual(['EINVAL', 0n]);
    expect(unmap(kernel, fd, 0x10000n, page, vaddr)).toEqual([0, page]);
    expect(iommu.load(0n)).toBe(5);
    expect(addGroup(bench).answer).toBe('EBUSY');
    const next = kernel.guestRam(2 * P);
    expect(map(kernel, fd, 0n, 2n * page, next.address, v.VFIO_DMA_MAP_FLAG_VADDR)).toBe('EINVAL');
    expect(map(kernel, fd, 0n, page, next.address, v.VFIO_DMA_MAP_FLAG_VADDR)).toBe(0);
    expect(unmap(kernel, fd, 0x10000n, page)).toEqual([0, page]);
    expect(iommu.load(0n)).toBe(5);
    expect(addGroup(bench).answer).toBe(0);
  });
});

describe('VFIO_IOMMU_GET_INFO', () => {
  it('has the capabilities in order, or tells how long they are', () => {
    const { kernel, container: fd } = container();
    const { argsz, pgsizes, caps } = info(kernel, fd);
    expect([argsz, pgsizes]).toEqual([4096, 0x4020_1000n]);
    expect(caps).toEqual([
      [2, [0n, page, 0x1000_0000n]],
      [3, [65535n]],
      [1, [2n, 0n, 0xfedf_ffffn, 0xfef0_0000n, 0xffff_ffff_ffffn]],
    ]);
    const short = new Uint8Array(20).fill(0xee);
    short.set(words(4, 18));
    kernel.ioctl(fd, v.VFIO_IOMMU_GET_INFO, short);
    expect([...short.subarray(0, 8)]).toEqual([120, 0, 0, 0, 3, 0, 0, 0]);
    expect([...short.subarray(16)]).toEqual([0, 0, 0xee, 0xee]);
    expect(answer(() => kernel.ioctl(fd, v.VFIO_IOMMU_GET_INFO, words(4, 15, 0, 0, 0)))).toBe('EINVAL');
    expect(answer(() => kernel.ioctl(fd, v.VFIO_IOMMU_GET_INFO, 0))).toBe('EFAULT');
  });
});

describe('VFIO_IOMMU_DIRTY_PAGES', () => {
  const { VFIO_IOMMU_DIRTY_PAGES_FLAG_START: START, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP: STOP } = v;
  const dirty = (kernel: KernelCore, fd: number, flags: number): unknown =>
    answer(() => kernel.ioctl(fd, v.VFIO_IOMMU_DIRTY_PAGES, words(4, 8, flags)));
  const get = (kernel: KernelCore, fd: number, iova: bigint, size: bigint, bitmap: Uint8Array): unknown =>
    answer(() =>
      kernel.ioctl(
        fd,
        v.VFIO_IOMMU_DIRTY_PAGES,
        join(words(4, 48, v.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP), words(8, iova, size), bitmap),
      ),
    );

  it('is refused on version 1 before it is read', () => {
    const { kernel, container: fd } = container(v.VFIO_TYPE1_IOMMU);
    expect(answer(() => kernel.ioctl(fd, v.VFIO_IOMMU_DIRTY_PAGES, 0))).toBe('EACCES');
  });

  it('every page is dirty, whole words are written, and shifted bits stay behind', () => {
    const { kernel, container: fd } = container();
    const ram = kernel.guestRam(16 * P);
    const bits = kernel.guestRam(P);
    const words64 = new BigUint64Array(bits.bytes!.buffer, bits.bytes!.byteOffset, 4);
    map(kernel, fd, 0n, 2n * page, ram.address);
    map(kernel, fd, 3n * page, 2n * page, ram.address);
    expect(get(kernel, fd, 0n, 5n * page, words(8, page, 8, bits.address))).toBe('EINVAL');
    expect([dirty(kernel, fd, START | STOP), dirty(kernel, fd, 0), dirty(kernel, fd, 8)]).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
    expect([dirty(kernel, fd, START), dirty(kernel, fd, START)]).toEqual([0, 0]);
    words64.fill(0xffn);
    expect(get(kernel, fd, 0n, 5n * page, words(8, page, 8, bits.address))).toBe(0);
    expect(words64[0]).toBe(0b11011n);
    expect(words64[1]).toBe(0xffn);
    expect(get(kernel, fd, 0n, 5n * page, words(8, 2n * page, 8, bits.address))).toBe('EINVAL');
    expect(get(kernel, fd, page, 4n * page, words(8, page, 8, bits.address))).toBe('EINVAL');
    expect(get(kernel, fd, 0n, 4n * page, words(8, page, 8, bits.address))).toBe('EINVAL');
    expect(get(kernel, fd, -page, 2n * page, words(8, page, 8, bits.address))).toBe('EOVERFLOW');
    // Bits 3 and 4 left the second mapping's two pages for good.
    words64[0] = 0n;
    expect(get(kernel, fd, 3n * page, 2n * page, words(8, page, 8, bits.address))).toBe(0);
    expect(words64[0]).toBe(0b11011n);
    const unmapped = join(words(4, 48, 1), words(8, 0n, 2n * page), words(8, page, 8, bits.address));
    words64[0] = 0n;
    kernel.ioctl(fd, v.VFIO_IOMMU_UNMAP_DMA, unmapped);
    expect(words64[0]).toBe(0b11n);
    expect(dirty(kernel, fd, STOP)).toBe(0);
    expect(dirty(kernel, fd, STOP)).toBe(0);
  });

  it('a mediated device writes no memory by itself', () => {
    const { kernel, device } = rig();
    const mdev = device('uuid', 'mediated');
    const fd = kernel.open('/dev/vfio/vfio');
    const groupFd = kernel.open(`/dev/vfio/${mdev.group.iommuGroup!.id}`);
    kernel.ioctl(groupFd, v.VFIO_GROUP_SET_CONTAINER, words(4, fd));
    kernel.ioctl(fd, v.VFIO_SET_IOMMU, v.VFIO_TYPE1v2_IOMMU);
    expect(map(kernel, fd, 0n, page, 0xdead_0000n)).toBe(0);
    dirty(kernel, fd, START);
    const bits = kernel.guestRam(P);
    bits.bytes!.fill(0xff);
    expect(get(kernel, fd, 0n, page, words(8, page, 8, bits.address))).toBe(0);
    expect([...bits.bytes!.subarray(0, 9)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0xff]);
    expect(unmap(kernel, fd, 0n, page, v.VFIO_DMA_UNMAP_FLAG_VADDR)).toEqual(['EBUSY', page]);
    expect(info(kernel, fd)).toMatchObject({
      pgsizes: 0xffff_ffff_ffff_f000n,
      caps: [
        [2, expect.anything()],
        [3, [65534n]],
      ],
    });
    expect(answer(() => kernel.ioctl(fd, v.VFIO_CHECK_EXTENSION, v.VFIO_UPDATE_VADDR))).toBe(0);
    expect(answer(() => kernel.ioctl(fd, v.VFIO_CHECK_EXTENSION, v.VFIO_DMA_CC_IOMMU))).toBe(1);
  });
});

describe('groups of a container', () => {
  it('share mappings, whichever domain they have', () => {
    const bench = container();
    const { kernel, container: fd } = bench;
    const ram = kernel.guestRam(P);
    ram.bytes!.fill(3);
    map(kernel, fd, 0n, page, ram.address);
    const same = addGroup(bench);
    const other = addGroup(bench, { enforceCoherency: true, pageSizes: 0x20_1000n });
    expect([same.answer, other.answer]).toEqual([0, 0]);
    expect(same.iommu.domain).toBe(bench.iommu.domain);
    expect(other.iommu.domain).not.toBe(bench.iommu.domain);
    expect([same.iommu.load(0n), other.iommu.load(0n)]).toEqual([3, 3]);
    expect(info(kernel, fd).pgsizes).toBe(0x20_1000n);
    kernel.close(other.fd);
    expect(info(kernel, fd).pgsizes).toBe(0x4020_1000n);
    expect(other.iommu.load(0n)).toBeUndefined();
  });

  it('are refused where a mapping lies in the way', () => {
    const bench = container();
    const { kernel, container: fd, process } = bench;
    const ram = kernel.guestRam(P);
    map(kernel, fd, 0x1_0000_0000n, page, ram.address);
    const region = { start: 0x1_0000_0000n, last: 0x1_0000_0fffn };
    expect(addGroup(bench, { reserved: [{ ...region, type: 'direct' }] }).answer).toBe('EINVAL');
    expect(addGroup(bench, { reserved: [{ ...region, type: 'direct-relaxable' }] }).answer).toBe(0);
    expect(addGroup(bench, { aperture: [0n, 0xffff_ffffn] }).answer).toBe('EINVAL');
    expect(addGroup(bench, { aperture: [1n << 50n, 1n << 51n] }).answer).toBe('EINVAL');
    expect(addGroup(bench, { interruptRemapping: false }).answer).toBe('EPERM');
    expect(process.mm.lockedVm).toBe(1);
  });

  it('give back the ranges only they reserved', () => {
    const bench = container();
    const { kernel, container: fd } = bench;
    const ranges = (): bigint[] =>
      info(kernel, fd)
        .caps.find(([id]) => id === 1)![1]
        .slice(1);
    const before = ranges();
    const more = addGroup(bench, {
      aperture: [0x1000n, 0xff_ffff_ffffn],
      reserved: [{ start: 0x8000n, last: 0x8fffn, type: 'direct' }],
    });
    expect(ranges()).toEqual([0x1000n, 0x7fffn, 0x9000n, 0xfedf_ffffn, 0xfef0_0000n, 0xff_ffff_ffffn]);
    kernel.close(more.fd);
    expect(ranges()).toEqual(before);
  });

  it('with mediated devices left, mappings outlive the last IOMMU unpinned, and are pinned for the next', () => {
    const bench = container();
    const { kernel, container: fd, process, device } = bench;
    const mdev = device('uuid', 'mediated');
    const mdevFd = kernel.open(`/dev/vfio/${mdev.group.iommuGroup!.id}`);
    kernel.ioctl(mdevFd, v.VFIO_GROUP_SET_CONTAINER, words(4, fd));
    const ram = kernel.guestRam(P);
    map(kernel, fd, 0n, page, ram.address);
    kernel.close(bench.groupFd);
    expect(process.mm.lockedVm).toBe(0);
    expect(info(kernel, fd).caps[1]).toEqual([3, [65534n]]);
    expect(addGroup(bench).answer).toBe(0);
    expect(process.mm.lockedVm).toBe(1);
  });
});

describe('Type1', () => {
  it('agrees with a list of mappings', () => {
    const span = fc.record({ iova: fc.nat(40), pages: fc.integer({ min: 1, max: 9 }) });
    const step = fc.record({ kind: fc.constantFrom('map', 'unmap', 'invalid', 'vaddr'), span });
    for (const type of [v.VFIO_TYPE1v2_IOMMU, v.VFIO_TYPE1_IOMMU]) {
      const v2 = type === v.VFIO_TYPE1v2_IOMMU;
      fc.assert(
        fc.property(fc.array(step, { maxLength: 50 }), (steps) => {
          const { kernel, container: fd, iommu, process } = container(type);
          const ram = kernel.guestRam(10 * P);
          for (let i = 0; i < 10; i++) ram.bytes![i * P] = i + 1;
          let model: { first: number; last: number; invalid: boolean }[] = [];
          for (const {
            kind,
            span: { iova, pages },
          } of steps) {
            const [at, size, last] = [BigInt(iova) * page, BigInt(pages) * page, iova + pages - 1];
            const hit = model.filter((one) => one.first <= last && iova <= one.last).sort((a, b) => a.first - b.first);
            const exact = hit.find((one) => one.first === iova && one.last === last);
            if (kind === 'map') {
              expect(map(kernel, fd, at, size, ram.address)).toBe(hit.length > 0 ? 'EEXIST' : 0);
              if (hit.length === 0) model.push({ first: iova, last, invalid: false });
            } else if (kind === 'vaddr') {
              const ok = exact?.invalid === true;
              expect(map(kernel, fd, at, size, ram.address, v.VFIO_DMA_MAP_FLAG_VADDR)).toBe(
                ok ? 0 : hit.length > 0 ? 'EINVAL' : 'ENOENT',
              );
              if (ok) exact.invalid = false;
            } else {
              const cut = hit.some((one) => one.first < iova || one.last > last);
              const taken = v2 ? hit : hit.slice(0, hit[0] !== undefined && hit[0].first < iova ? 0 : undefined);
              const refused = (v2 && cut) || (kind === 'invalid' && taken.some(({ invalid }) => invalid));
              const sum = taken.reduce((total, one) => total + BigInt(one.last - one.first + 1) * page, 0n);
              const flags = kind === 'invalid' ? v.VFIO_DMA_UNMAP_FLAG_VADDR : 0;
              expect(unmap(kernel, fd, at, size, flags)).toEqual(refused ? ['EINVAL', size] : [0, sum]);
              if (refused) continue;
              if (kind === 'invalid') for (const one of taken) one.invalid = true;
              else model = model.filter((one) => !taken.includes(one));
            }
          }
          expect(process.mm.lockedVm).toBe(model.reduce((sum, { first, last }) => sum + last - first + 1, 0));
          for (let at = 0; at < 50; at++) {
            const one = model.find(({ first, last }) => first <= at && at <= last);
            expect(iommu.load(BigInt(at) * page)).toBe(one === undefined ? undefined : at - one.first + 1);
          }
        }),
        { numRuns: 60 },
      );
    }
  });
});
