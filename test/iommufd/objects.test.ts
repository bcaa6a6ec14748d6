// The objects of iommufd on a simulated test kernel: what they make of structs, and what the kernel makes of them.
import { inspect } from 'node:util';
import { InvalidationIncomplete, Iommufd, KernelError, VfioContainer } from 'kvio';
import * as u from 'kvio/uapi';
import { describe, expect, it } from 'vitest';
import { op, Iommufd as Requests } from '../conformance/iommufd.ts';
import { thrown } from '../vfio/fake.ts';
import { DATA, IOVA, PAGE, testKernel, VIOMMU, words } from './mock.ts';

const code = (value: string) => expect.objectContaining({ name: 'KernelError', code: value });

describe('an address space', () => {
  it('maps memory, a part of it, addresses and files, where it is told or where there is room', () => {
    using test = testKernel();
    const { kernel, iommufd, raw } = test;
    const ioas = iommufd.ioasAlloc();
    const { hwpt } = raw.mock(ioas.id);
    const ram = kernel.guestRam(0x4000);
    expect(ioas.map(ram, { iova: IOVA })).toBe(IOVA);
    expect(raw.checkMap(hwpt, IOVA, 4n * PAGE, ram.address)).toBe(0);
    expect(ioas.map(ram, { iova: IOVA + 0x10000n, offset: 0x1000, length: 0x1000 })).toBe(IOVA + 0x10000n);
    expect(raw.checkMap(hwpt, IOVA + 0x10000n, PAGE, ram.address + PAGE)).toBe(0);
    const placed = ioas.map({ user_va: ram.address, length: PAGE });
    expect(raw.checkMap(hwpt, placed, PAGE, ram.address)).toBe(0);
    const fd = kernel.memfd('file');
    kernel.ftruncate(fd, 0x4000);
    const mapped = kernel.mmap({ fd, length: 0x4000 });
    expect(ioas.mapFile(fd, { start: PAGE, length: 2n * PAGE, iova: IOVA + 0x20000n })).toBe(IOVA + 0x20000n);
    expect(raw.checkMap(hwpt, IOVA + 0x20000n, 2n * PAGE, mapped.address + PAGE)).toBe(0);
    expect(ioas.unmap(IOVA, 4n * PAGE)).toBe(4n * PAGE);
    expect(ioas.unmapAll()).toBe(4n * PAGE);
    expect(ioas.unmapAll()).toBe(0n);
  });

  it('says what is wrong', () => {
    using test = testKernel();
    const { kernel, iommufd, raw } = test;
    const ioas = iommufd.ioasAlloc();
    const ram = kernel.guestRam(0x4000);
    ioas.map(ram, { iova: IOVA });
    expect(thrown(() => ioas.map(ram, { iova: IOVA }))).toEqual(code('EEXIST'));
    expect(thrown(() => ioas.unmap(IOVA + PAGE, PAGE))).toEqual(code('ENOENT'));
    expect(thrown(() => ioas.map(ram, { length: 0x8000 }))).toBeInstanceOf(RangeError);
    raw.mock(ioas.id);
    expect(thrown(() => ioas.map(ram, { iova: 0n })).message).toMatch(/^EINVAL: invalid argument, ioctl IOMMU_IOAS_MAP/);
  });

  it('is not taken for one of another Iommufd, whose ids are the same', () => {
    using test = testKernel();
    const { kernel, iommufd, raw } = test;
    using other = Iommufd.open(kernel);
    const [mine, foreign] = [iommufd.ioasAlloc(), other.ioasAlloc()];
    expect(foreign.id).toBe(mine.id);
    const { idev: device } = raw.mock(mine.id);
    const told = /^\w+: this Ioas belongs to another Iommufd/;
    for (const call of [
      () => iommufd.destroy(foreign),
      () => mine.copy(foreign, { src_iova: 0n, length: PAGE }),
      () => iommufd.hwptAlloc({ dev_id: device, pt: foreign }),
      () => iommufd.viommuAlloc({ type: VIOMMU, dev_id: device, hwpt: foreign }),
      () => iommufd.setVfioIoas(foreign),
    ]) {
      expect(thrown(call)).toBeInstanceOf(RangeError);
      expect(thrown(call).message).toMatch(told);
    }
    iommufd.setVfioIoas(foreign.id);
    expect(iommufd.getVfioIoas().id).toBe(mine.id);
  });

  it('copies from another, with less than its permissions or the same', () => {
    using test = testKernel();
    const { kernel, iommufd, raw } = test;
    const [source, target] = [iommufd.ioasAlloc(), iommufd.ioasAlloc()];
    const { hwpt } = raw.mock(target.id);
    const ram = kernel.guestRam(0x4000);
    source.map(ram, { iova: 0x7000n, flags: u.IOMMU_IOAS_MAP_READABLE });
    const range = { src_iova: 0x8000n, length: PAGE, iova: IOVA };
    expect(thrown(() => target.copy(source, range))).toEqual(code('EPERM'));
    expect(target.copy(source, { ...range, flags: u.IOMMU_IOAS_MAP_READABLE })).toBe(IOVA);
    expect(raw.checkMap(hwpt, IOVA, PAGE, ram.address + PAGE)).toBe(0);
  });

  it('tells its ranges, however many, and keeps the kernel to some', () => {
    using test = testKernel();
    const { kernel, iommufd, raw } = test;
    const ioas = iommufd.ioasAlloc();
    expect(ioas.iovaRanges()).toEqual({ ranges: [{ start: 0n, last: (1n << 64n) - 1n }], alignment: 1n });
    for (let at = 1n; at <= 300n; at++) raw.reserve(ioas.id, at * 0x10000n, PAGE);
    const { ranges } = ioas.iovaRanges();
    expect(ranges.length).toBe(301);
    expect(ranges[1]).toEqual({ start: 0x11000n, last: 0x1ffffn });
    const ram = kernel.guestRam(0x1000);
    ioas.allowIovas([{ start: 0x72000n, last: 0x72fffn }]);
    expect(ioas.map(ram)).toBe(0x72000n);
    expect(thrown(() => ioas.map(ram))).toEqual(code('ENOSPC'));
    ioas.allowIovas([]);
    expect(ioas.map(ram)).toBe(0x1000n);
  });

  it('has options', () => {
    using test = testKernel();
    const { iommufd } = test;
    expect(iommufd.rlimitMode).toBe(false);
    iommufd.rlimitMode = true;
    expect(iommufd.rlimitMode).toBe(true);
    const ioas = iommufd.ioasAlloc();
    const set = (): void => {
      iommufd.rlimitMode = false;
    };
    expect(thrown(set)).toEqual(code('EBUSY'));
    ioas.hugePages = false;
    expect([ioas.hugePages, ioas.iovaRanges().alignment]).toEqual([false, PAGE]);
    ioas.hugePages = true;
    expect([ioas.hugePages, ioas.iovaRanges().alignment]).toEqual([true, 1n]);
  });

  it('can be what VFIO’s own requests act on', () => {
    using test = testKernel();
    const { kernel, iommufd } = test;
    const ioas = iommufd.ioasAlloc();
    expect(thrown(() => iommufd.getVfioIoas())).toEqual(code('ENODEV'));
    iommufd.setVfioIoas(ioas);
    expect(iommufd.getVfioIoas().id).toBe(ioas.id);
    iommufd.clearVfioIoas();
    expect(thrown(() => iommufd.getVfioIoas())).toEqual(code('ENODEV'));
    const container = VfioContainer.open(kernel, '/dev/iommu');
    const raw = new Requests(kernel, container.fd);
    raw.call(u.IOMMU_VFIO_IOAS, u.iommu_vfio_ioas, { op: u.IOMMU_VFIO_IOAS_SET, ioas_id: raw.ioas() });
    container.setIommu(u.VFIO_TYPE1v2_IOMMU);
    container.mapDma({ memory: kernel.guestRam(0x2000), iova: IOVA });
    expect(raw.unmapAll(1)).toBe(2n * PAGE);
  });

  it('can be another process’s if all of it is files', () => {
    using test = testKernel();
    const { kernel, iommufd } = test;
    const ioas = iommufd.ioasAlloc();
    iommufd.ioasChangeProcess();
    ioas.map(kernel.guestRam(0x1000));
    expect(thrown(() => iommufd.ioasChangeProcess())).toEqual(code('EINVAL'));
  });
});

describe('a page table', () => {
  it('is made for a device, and narrows its address space', () => {
    using test = testKernel();
    const { iommufd, raw } = test;
    const ioas = iommufd.ioasAlloc();
    const { idev, stdev } = raw.mock(iommufd.ioasAlloc().id);
    const hwpt = iommufd.hwptAlloc({ dev_id: idev, pt: ioas });
    expect(ioas.iovaRanges()).toEqual({ ranges: [{ start: 0x1000000n, last: 0x7fffffffn }], alignment: 0x800n });
    expect(thrown(() => ioas.destroy())).toEqual(code('EBUSY'));
    expect(raw.replace(stdev, hwpt.id)).toBe(hwpt.id);
    expect(thrown(() => hwpt.destroy())).toEqual(code('EBUSY'));
    expect(hwpt.destroyed).toBe(false);
    expect(thrown(() => iommufd.hwptAlloc({ dev_id: idev, pt: 99 }))).toEqual(code('EINVAL'));
  });

  it('may be nested, and forgets what it is told to; what stopped half-way says how far it came', () => {
    using test = testKernel();
    const { iommufd, raw } = test;
    const ioas = iommufd.ioasAlloc();
    const { idev } = raw.mock(ioas.id);
    const parent = iommufd.hwptAlloc({ dev_id: idev, pt: ioas, flags: u.IOMMU_HWPT_ALLOC_NEST_PARENT });
    const nested = iommufd.hwptAlloc({ dev_id: idev, pt: parent, data: { type: DATA, bytes: words(0x99) } });
    const cached = (at: number, value: number): boolean =>
      raw.test(op.MD_CHECK_IOTLB, nested.id, [
        [16, at],
        [20, value],
      ]).returned === 0;
    expect(cached(1, 0x99)).toBe(true);
    nested.invalidate({ data_type: VIOMMU, entries: words(0, 1), entry_len: 8 });
    expect([cached(0, 0x99), cached(1, 0)]).toEqual([true, true]);
    const error = thrown(() => nested.invalidate({ data_type: VIOMMU, entries: words(0, 0, 0, 2, 0, 9, 0, 3), entry_len: 8 }));
    expect(error).toBeInstanceOf(InvalidationIncomplete);
    expect(error).toMatchObject({ code: 'EINVAL', request: 'IOMMU_HWPT_INVALIDATE', done: 2 });
    expect(KernelError.isKernelError(error)).toBe(true);
    expect([cached(2, 0), cached(3, 0x99)]).toEqual([true, true]);
    nested.invalidate({ data_type: VIOMMU, entries: new Uint8Array(0), entry_len: 0 });
    expect(thrown(() => parent.destroy())).toEqual(code('EBUSY'));
  });

  it('tracks what is dirty, in an array of its own or in yours', () => {
    using test = testKernel();
    const { kernel, iommufd, raw } = test;
    const ioas = iommufd.ioasAlloc();
    const { idev } = raw.mock(ioas.id);
    const hwpt = iommufd.hwptAlloc({ dev_id: idev, pt: ioas, flags: u.IOMMU_HWPT_ALLOC_DIRTY_TRACKING });
    const plain = iommufd.hwptAlloc({ dev_id: idev, pt: ioas });
    expect(thrown(() => plain.setDirtyTracking(true))).toEqual(code('EOPNOTSUPP'));
    const ram = kernel.guestRam(0x10000);
    ioas.map(ram, { iova: IOVA });
    hwpt.setDirtyTracking(true);
    const bits = kernel.guestRam(0x1000);
    const mark = (): void => {
      bits.write(0, Uint8Array.of(0x81, 0x40));
      const said = [
        [24, IOVA],
        [32, 16n * PAGE],
        [40, PAGE],
        [48, bits.address],
      ] as const;
      expect(raw.test(op.DIRTY, hwpt.id, said).returned).toBe(0);
    };
    mark();
    const range = { iova: IOVA, length: 16n * PAGE, page_size: PAGE };
    expect([...hwpt.getDirtyBitmap({ ...range, flags: u.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR })]).toEqual([
      ...[0x81, 0x40, 0, 0, 0, 0, 0, 0],
    ]);
    const mine = kernel.guestRam(0x1000);
    mine.write(0, Uint8Array.of(0x02));
    hwpt.getDirtyBitmap(range, mine);
    expect([...mine.read(0, 2)]).toEqual([0x83, 0x40]);
    expect(hwpt.getDirtyBitmap(range).every((byte) => byte === 0)).toBe(true);
    mark();
    hwpt.setDirtyTracking(false);
    hwpt.setDirtyTracking(true);
    expect(hwpt.getDirtyBitmap(range).every((byte) => byte === 0)).toBe(true);
  });

  it('belongs to hardware that tells of itself', () => {
    using test = testKernel();
    const { iommufd, raw } = test;
    const { idev } = raw.mock(iommufd.ioasAlloc().id, 4);
    const info = iommufd.getHwInfo(idev);
    expect(Object.keys(info).sort()).toEqual(['capabilities', 'data', 'max_pasid_log2', 'type']);
    expect(info).toMatchObject({ type: 0xfeed_beef, capabilities: 9n, max_pasid_log2: 20 });
    expect([...new Uint32Array(info.data.slice().buffer)]).toEqual([0, 0xdead_beef]);
    expect(iommufd.getHwInfo(idev, 0xfeed_beef).type).toBe(0xfeed_beef);
    expect(thrown(() => iommufd.getHwInfo(idev, 77))).toEqual(code('EOPNOTSUPP'));
    expect(thrown(() => iommufd.getHwInfo(99))).toEqual(code('ENOENT'));
  });
});

describe('a vIOMMU', () => {
  function scene(test: ReturnType<typeof testKernel>, data?: Uint8Array) {
    const { iommufd, raw } = test;
    const ioas = iommufd.ioasAlloc();
    const mock = raw.mock(ioas.id);
    const parent = iommufd.hwptAlloc({ dev_id: mock.idev, pt: ioas, flags: u.IOMMU_HWPT_ALLOC_NEST_PARENT });
    const viommu = iommufd.viommuAlloc({
      type: VIOMMU,
      dev_id: mock.idev,
      hwpt: parent,
      ...(data === undefined ? {} : { data }),
    });
    return { ioas, mock, parent, viommu };
  }

  it('has memory of its driver’s, and keeps its parent', () => {
    using test = testKernel();
    const data = new Uint8Array(24);
    data.set(words(0x1122_3344));
    const { viommu, parent } = scene(test, data);
    expect([...data.slice(0, 8)]).toEqual([0x44, 0x33, 0x22, 0x11, 0x44, 0x33, 0x22, 0x11]);
    const view = new DataView(data.buffer);
    const [offset, length] = [Number(view.getBigUint64(8, true)), Number(view.getBigUint64(16, true))];
    const memory = test.iommufd.mmap({ offset, length, view: false });
    expect(memory.read32(0)).toBe(0x1122_3344);
    expect(thrown(() => viommu.destroy())).toEqual(code('EBUSY'));
    memory.close();
    expect(thrown(() => parent.destroy())).toEqual(code('EBUSY'));
    viommu.destroy();
    parent.destroy();
    expect([viommu.destroyed, parent.destroyed]).toEqual([true, true]);
  });

  it('knows devices by ids of the VM’s, and forgets what is cached of them', () => {
    using test = testKernel();
    const { mock, viommu } = scene(test);
    const vdevice = viommu.vdeviceAlloc({ dev_id: mock.idev, virt_id: 0x99n });
    expect(thrown(() => viommu.vdeviceAlloc({ dev_id: mock.idev, virt_id: 1n }))).toEqual(code('EEXIST'));
    const cached = (value: number): boolean =>
      test.raw.test(op.DEV_CHECK_CACHE, mock.idev, [
        [16, 1],
        [20, value],
      ]).returned === 0;
    expect(cached(0xbaddad)).toBe(true);
    viommu.invalidate({ data_type: VIOMMU, entries: words(0, 0x99, 1), entry_len: 12 });
    expect(cached(0)).toBe(true);
    expect(thrown(() => viommu.invalidate({ data_type: VIOMMU, entries: words(0, 0x98, 1), entry_len: 12 }))).toMatchObject({
      done: 0,
    });
    vdevice.destroy();
    viommu.vdeviceAlloc({ dev_id: mock.idev, virt_id: 1n });
  });

  it('has queues in memory, which cannot be unmapped', () => {
    using test = testKernel();
    const { ioas, viommu } = scene(test);
    ioas.map(test.kernel.guestRam(0x1000), { iova: IOVA });
    const queue = { type: VIOMMU, index: 0, nesting_parent_iova: IOVA, length: PAGE };
    expect(thrown(() => viommu.hwQueueAlloc({ ...queue, index: 1 }))).toEqual(code('EIO'));
    const first = viommu.hwQueueAlloc(queue);
    expect(thrown(() => ioas.unmapAll())).toEqual(code('EBUSY'));
    first.destroy();
    expect(ioas.unmapAll()).toBe(PAGE);
  });
});

describe('objects', () => {
  it('are destroyed once, by dispose too, and not after the iommufd has gone', () => {
    using test = testKernel();
    const { iommufd } = test;
    const ioas = iommufd.ioasAlloc();
    {
      using inner = iommufd.ioasAlloc();
      expect(inner.id).toBe(2);
    }
    expect(thrown(() => iommufd.destroy(2))).toEqual(code('ENOENT'));
    const other = iommufd.ioasAlloc();
    other.destroy();
    other[Symbol.dispose]();
    iommufd.close();
    ioas[Symbol.dispose]();
    expect(ioas.destroyed).toBe(true);
    expect(thrown(() => ioas.destroy())).toEqual(code('EBADF'));
  });

  it('that are destroyed are ENOENT, though another has the id by now', () => {
    using test = testKernel();
    const { iommufd } = test;
    const [gone, byId] = [iommufd.ioasAlloc(), iommufd.ioasAlloc()];
    gone.destroy();
    iommufd.destroy(byId);
    const [now] = [iommufd.ioasAlloc(), iommufd.ioasAlloc()] as const;
    expect([now.id, gone.destroyed, byId.destroyed]).toEqual([gone.id, true, true]);
    const memory = test.kernel.guestRam(PAGE);
    now.map(memory, { iova: 0n });
    const queue = iommufd.faultQueueAlloc();
    queue.destroy();
    for (const [call, note] of [
      [() => gone.destroy(), 'object: this Ioas is destroyed'],
      [() => iommufd.destroy(gone), 'object: this Ioas is destroyed'],
      [() => gone.map(memory), 'this Ioas is destroyed'],
      [() => gone.unmapAll(), 'this Ioas is destroyed'],
      [() => gone.iovaRanges(), 'this Ioas is destroyed'],
      [() => byId.hugePages, 'this Ioas is destroyed'],
      [() => now.copy(gone, { src_iova: 0n, length: PAGE }), 'source: this Ioas is destroyed'],
      [() => iommufd.setVfioIoas(gone), 'ioas: this Ioas is destroyed'],
      [() => queue.destroy(), 'object: this FaultQueue is destroyed'],
    ] as const)
      expect(thrown(call)).toMatchObject({ code: 'ENOENT', note });
    expect(now.unmapAll()).toBe(PAGE);
  });

  it('show what they are', () => {
    using test = testKernel();
    const { kernel, iommufd } = test;
    const ioas = iommufd.ioasAlloc();
    expect(inspect(ioas)).toBe('Ioas { id 1 }');
    ioas.destroy();
    expect(inspect(ioas)).toBe('Ioas { id 1, destroyed }');
    expect(inspect(iommufd)).toMatch(/^Iommufd \{ .*\d+/);
    iommufd.close();
    expect(inspect(iommufd)).toMatch(/closed/);
    expect(Iommufd.open(kernel).ioasAlloc().id).toBe(1);
  });
});
