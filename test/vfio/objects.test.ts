// What the objects make of structs, descriptors and memory, against a kernel that answers as told.
import { inspect } from 'node:util';
import { IrqsUnavailable, Region, VfioContainer, VfioDevice, VfioGroup } from 'kvio';
import * as u from 'kvio/uapi';
import { describe, expect, it } from 'vitest';
import { fake, thrown } from './fake.ts';

const ENOSPC = 28;

/** Writes capabilities behind the struct, `next` linked, if there is room; as the kernel does, argsz says how much it takes. */
function chain(
  bytes: Uint8Array,
  view: DataView,
  fixed: number,
  capOffset: number,
  caps: readonly [id: number, payload: Uint8Array][],
) {
  const total = caps.reduce((sum, [, payload]) => sum + 8 + payload.length, fixed);
  if (bytes.length < total) {
    view.setUint32(0, total, true);
    return;
  }
  view.setUint32(capOffset, fixed, true);
  let at = fixed;
  caps.forEach(([id, payload], index) => {
    view.setUint16(at, id, true);
    view.setUint16(at + 2, 1, true);
    view.setUint32(at + 4, index === caps.length - 1 ? 0 : at + 8 + payload.length, true);
    bytes.set(payload, at + 8);
    at += 8 + payload.length;
  });
}

const words = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);

describe('capability chains', () => {
  it('of a region: what can be mapped, its type, the MSI-X table, and what has no name here', () => {
    const { kernel, answer } = fake();
    const device = VfioDevice.open(kernel, 3);
    let calls = 0;
    answer(u.VFIO_DEVICE_GET_REGION_INFO, (bytes, view) => {
      calls++;
      view.setUint32(4, 0xf, true);
      view.setBigUint64(16, 0x4000n, true);
      view.setBigUint64(24, 1n << 40n, true);
      chain(bytes, view, 32, 12, [
        [1, words(2, 0, 0, 0, 0x1000, 0, 0x2000, 0, 0x1000, 0)],
        [2, words(0x8000_8086, 1)],
        [3, new Uint8Array(0)],
        [77, words(5, 6)],
      ]);
      return 0;
    });
    const region = device.region(1);
    expect(calls).toBe(2);
    expect(region).toMatchObject({ index: 1, flags: 0xf, size: 0x4000, offset: 1n << 40n });
    expect(region.caps).toEqual({
      sparse_mmap: [
        { offset: 0n, size: 0x1000n },
        { offset: 0x2000n, size: 0x1000n },
      ],
      type: { type: 0x8000_8086, subtype: 1 },
      msix_mappable: true,
      other: [{ id: 77, version: 1, data: words(5, 6) }],
    });
    expect(inspect(region)).toBe('Region { 1, 0x4000 bytes, 0xf READ WRITE MMAP CAPS }');
  });

  it('of a device and of an IOMMU', () => {
    const { kernel, answer } = fake();
    answer(u.VFIO_DEVICE_GET_INFO, (bytes, view) => {
      view.setUint32(4, 0x83, true);
      chain(bytes, view, 24, 16, [[5, words(3, 0)]]);
      return 0;
    });
    expect(VfioDevice.open(kernel, 0).getInfo()).toEqual({
      ...{ flags: 0x83, num_regions: 0, num_irqs: 0, caps: { pci_atomic_comp: { flags: 3 }, other: [] } },
    });
    const container = VfioContainer.open(kernel);
    answer(u.VFIO_IOMMU_GET_INFO, (bytes, view) => {
      view.setUint32(4, 3, true);
      view.setBigUint64(8, 0x40201000n, true);
      chain(bytes, view, 24, 16, [
        [2, words(0, 0, 0x1000, 0, 0x1000_0000, 0)],
        [3, words(65535, 0)],
        [1, words(1, 0, 0, 0, 0xfedf_ffff, 0)],
      ]);
      return 0;
    });
    const info = container.getInfo();
    expect(info).toEqual({
      flags: 3,
      iova_pgsizes: 0x40201000n,
      caps: {
        migration: { flags: 0, pgsize_bitmap: 0x1000n, max_dirty_bitmap_size: 0x1000_0000n },
        dma_avail: 65535,
        iova_ranges: [{ start: 0n, end: 0xfedf_ffffn }],
        other: [],
      },
    });
    expect(inspect(info)).toContain('flags: 0x3 PGSIZES CAPS');
    expect(JSON.parse(JSON.stringify(info, (_, value) => (typeof value === 'bigint' ? String(value) : value)))).toHaveProperty(
      'caps',
    );
  });

  it('that points back, or out of the answer, ends there', () => {
    const { kernel, answer } = fake();
    const device = VfioDevice.open(kernel, 0);
    let next = 32;
    answer(u.VFIO_DEVICE_GET_REGION_INFO, (bytes, view) => {
      if (bytes.length < 48) view.setUint32(0, 48, true);
      else {
        view.setUint32(12, 32, true);
        view.setUint16(32, 77, true);
        view.setUint32(36, next, true);
      }
      return 0;
    });
    expect(device.getRegionInfo(0).caps.other).toHaveLength(1);
    next = 0x1000;
    expect(device.getRegionInfo(0).caps.other).toHaveLength(1);
  });
});

describe('descriptors', () => {
  it('that a feature returns or writes are the kernel’s: closed with it', () => {
    const { backend, kernel, answer } = fake();
    const device = VfioDevice.open(kernel, 0);
    answer(u.VFIO_DEVICE_FEATURE, (_, view) => {
      const flags = view.getUint32(4, true);
      if ((flags & 0xffff) === u.VFIO_DEVICE_FEATURE_DMA_BUF) return 70;
      view.setInt32(12, view.getUint32(8, true) === u.VFIO_DEVICE_STATE_STOP_COPY ? 71 : -1, true);
      return 0;
    });
    const request = {
      region_index: 0,
      dma_ranges: [
        { offset: 0n, length: 0x1000n },
        { offset: 0x2000n, length: 0x1000n },
      ],
    };
    const buffer = device.getDmaBuf(request);
    expect(buffer).toMatchObject({ fd: 70, size: 0x2000n });
    const stream = device.setMigDeviceState(u.VFIO_DEVICE_STATE_STOP_COPY)!;
    expect(stream.fd).toBe(71);
    expect(device.setMigDeviceState(u.VFIO_DEVICE_STATE_RUNNING)).toBeUndefined();
    kernel.close();
    expect(backend.log.filter((line) => /^close/.test(line)).sort()).toEqual(['close 10', 'close 70', 'close 71']);
  });

  it('are not made by a probe, whatever its bytes say', () => {
    const { backend, kernel, answer } = fake();
    const device = VfioDevice.open(kernel, 0);
    answer(u.VFIO_DEVICE_FEATURE, () => 0);
    for (const feature of [u.VFIO_DEVICE_FEATURE_DMA_BUF, u.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE]) {
      const flags = feature | u.VFIO_DEVICE_FEATURE_PROBE | u.VFIO_DEVICE_FEATURE_GET | u.VFIO_DEVICE_FEATURE_SET;
      expect(device.feature(flags, new Uint8Array(16))).toBe(0);
    }
    kernel.close();
    expect(backend.log.filter((line) => /^(?:own|close)/.test(line))).toEqual(['close 10']);
  });

  it('of closed objects are EBADF, never −1', () => {
    const { backend, kernel } = fake();
    const container = VfioContainer.open(kernel);
    const group = VfioGroup.open(kernel, 5);
    container.close();
    expect(thrown(() => group.setContainer(container))).toMatchObject({
      code: 'EBADF',
      note: 'container: this VfioContainer is closed',
    });
    expect(thrown(() => container.getInfo())).toMatchObject({ code: 'EBADF' });
    container.close();
    expect(backend.log.filter((line) => line.startsWith('close'))).toEqual(['close 10']);
  });

  it('from outside are taken', () => {
    const { kernel } = fake();
    const device = VfioDevice.fromFd(kernel, 99);
    expect(device).toMatchObject({ fd: 99, name: undefined });
    expect(inspect(device)).toBe('VfioDevice { fd 99, native }');
  });
});

describe('memory of DMA', () => {
  const IOVA = 0x10_0000n;
  const setup = () => {
    const { backend, kernel } = fake();
    const container = VfioContainer.open(kernel);
    const ram = kernel.guestRam(0x4000);
    const unmaps = () => backend.log.filter((line) => line.startsWith('munmap')).length;
    return { backend, kernel, container, ram, unmaps };
  };

  it('stays mapped while it is mapped for a device', () => {
    const { container, ram, unmaps } = setup();
    container.mapDma({ memory: ram, iova: IOVA });
    ram.close();
    expect(unmaps()).toBe(0);
    container.unmapDma({ iova: IOVA, size: 0x4000n });
    expect(unmaps()).toBe(1);
  });

  it('stays where something else was unmapped, or an address was only forgotten', () => {
    const { container, ram, unmaps } = setup();
    container.mapDma({ memory: ram, iova: IOVA });
    ram.close();
    container.unmapDma({ iova: IOVA, size: 0x2000n });
    container.unmapDma({ iova: 0n, size: 0x4000n });
    container.unmapDma({ iova: IOVA, size: 0x4000n, flags: u.VFIO_DMA_UNMAP_FLAG_VADDR });
    expect(unmaps()).toBe(0);
    container.close();
    expect(unmaps()).toBe(1);
  });

  it('goes with all of them, and when the IOVA gets other memory', () => {
    const { kernel, container, ram, unmaps } = setup();
    container.mapDma({ memory: ram, iova: IOVA, size: 0x1000 });
    container.mapDma({ memory: ram, iova: IOVA + 0x1000n, offset: 0x1000 });
    ram.close();
    container.unmapDma({ flags: u.VFIO_DMA_UNMAP_FLAG_ALL });
    expect(unmaps()).toBe(1);
    const other = kernel.guestRam(0x1000);
    container.mapDma({ memory: other, iova: IOVA });
    container.mapDma({ memory: kernel.guestRam(0x1000), iova: IOVA });
    other.close();
    expect(unmaps()).toBe(2);
  });

  it('is named by address or Memory; a field too many or too few is an error', () => {
    const { container, ram, backend } = setup();
    const seen: Uint8Array[] = [];
    backend.answers.set(u.VFIO_IOMMU_MAP_DMA, (arg) => {
      seen.push((arg as Uint8Array).slice());
      return 0;
    });
    container.mapDma({ memory: ram, offset: 0x1000, size: 0x2000n, iova: IOVA, flags: u.VFIO_DMA_MAP_FLAG_READ });
    container.mapDma({ vaddr: ram.address, size: 0x1000n, iova: IOVA });
    expect(seen.map((bytes) => u.vfio_iommu_type1_dma_map.decode(bytes))).toEqual([
      { argsz: 32, flags: 1, vaddr: ram.address + 0x1000n, iova: IOVA, size: 0x2000n },
      { argsz: 32, flags: 3, vaddr: ram.address, iova: IOVA, size: 0x1000n },
    ]);
    expect(thrown(() => container.mapDma({ memory: ram } as never)).name).toBe('TypeError');
    expect(thrown(() => container.mapDma({ memory: ram, iova: 0n, vaddr: 1n } as never)).name).toBe('TypeError');
    expect(thrown(() => container.mapDma({ memory: ram, iova: 0n, size: 0x8000 })).name).toBe('RangeError');
    expect(thrown(() => container.unmapDma({ size: 0x1000n } as never)).message).toMatch(/iova is missing/);
  });

  it('that was dirty is told in a bitmap', () => {
    const { container, ram, backend } = setup();
    const seen: Uint8Array[] = [];
    for (const request of [u.VFIO_IOMMU_UNMAP_DMA, u.VFIO_IOMMU_DIRTY_PAGES])
      backend.answers.set(request, (arg) => {
        seen.push((arg as Uint8Array).slice());
        return 0;
      });
    const bitmap = { pgsize: 4096n, data: ram };
    container.unmapDma({ iova: IOVA, size: 0x1000n, bitmap });
    container.dirtyPages({
      flags: u.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
      iova: IOVA,
      size: 0x1000n,
      bitmap: { ...bitmap, size: 8n },
    });
    container.dirtyPages({ flags: u.VFIO_IOMMU_DIRTY_PAGES_FLAG_START });
    const [unmap, get, start] = seen as [Uint8Array, Uint8Array, Uint8Array];
    expect(u.vfio_iommu_type1_dma_unmap.decode(unmap)).toMatchObject({ argsz: 48, flags: 1, iova: IOVA, size: 0x1000n });
    expect(u.vfio_bitmap.decode(unmap, 24)).toEqual({ pgsize: 4096n, size: 0x4000n, data: ram.address });
    expect(u.vfio_iommu_type1_dirty_bitmap_get.decode(get, 8)).toEqual({
      ...{ iova: IOVA, size: 0x1000n, bitmap: { pgsize: 4096n, size: 8n, data: ram.address } },
    });
    expect(start.length).toBe(8);
  });
});

describe('interrupts', () => {
  const setup = (reply: number) => {
    const { backend, kernel, answer } = fake();
    const device = VfioDevice.open(kernel, 0);
    const sets: ReturnType<typeof u.vfio_irq_set.decode>[] = [];
    answer(u.VFIO_DEVICE_GET_IRQ_INFO, (_, view) => {
      view.setUint32(4, 9, true);
      view.setUint32(12, 4, true);
      return 0;
    });
    answer(u.VFIO_DEVICE_SET_IRQS, (bytes) => {
      sets.push(u.vfio_irq_set.decode(bytes));
      return reply;
    });
    return { backend, kernel, irqs: device.irqs(u.VFIO_PCI_MSI_IRQ_INDEX), sets };
  };

  it('are enabled with eventfds, and disabled with them', () => {
    const { irqs, sets } = setup(0);
    const [first, second] = irqs.enable(2);
    expect(sets[0]).toMatchObject({ argsz: 28, flags: 0x24, index: 1, start: 0, count: 2 });
    expect([...new Int32Array(sets[0]!.data.slice().buffer)]).toEqual([first!.fd, second!.fd]);
    irqs.disable();
    expect(sets[1]).toMatchObject({ argsz: 20, flags: 0x21, start: 0, count: 0 });
    expect([first!.closed, second!.closed]).toEqual([true, true]);
    irqs.setTrigger([null, 12], 2);
    expect([...new Int32Array(sets[2]!.data.slice().buffer)]).toEqual([-1, 12]);
    irqs.triggerSome([true, false, true], 1);
    expect(sets[3]).toMatchObject({ flags: 0x22, start: 1, count: 3, data: Uint8Array.of(1, 0, 1) });
    irqs.mask();
    irqs.unmask();
    irqs.setUnmask(null);
    expect(sets.slice(4).map(({ flags }) => flags)).toEqual([0x09, 0x11, 0x14]);
    expect(inspect(irqs)).toBe('Irqs { MSI, 4, 0x9 EVENTFD NORESIZE }');
  });

  it('that cannot be had are an error with how many could, and leave no eventfd', () => {
    const { backend, irqs } = setup(1);
    const error = thrown(() => irqs.enable(4));
    expect(error).toBeInstanceOf(IrqsUnavailable);
    expect(error).toMatchObject({ code: 'ERR_KVIO_IRQS_UNAVAILABLE', asked: 4, available: 1 });
    expect(backend.log.filter((line) => line.startsWith('close')).length).toBe(4);
    expect(thrown(() => irqs.enable(5)).name).toBe('RangeError');
    expect(thrown(() => irqs.enable(0)).name).toBe('RangeError');
  });
});

describe('a region', () => {
  const setup = () => {
    const { backend, kernel, answer } = fake();
    const device = VfioDevice.open(kernel, 0);
    answer(u.VFIO_DEVICE_GET_REGION_INFO, (_, view) => {
      view.setUint32(4, 3, true);
      view.setBigUint64(16, 0x100n, true);
      view.setBigUint64(24, 2n << 40n, true);
      return 0;
    });
    const accesses: string[] = [];
    const memory = new Uint8Array(0x100).map((_, at) => at);
    Object.assign(backend, {
      pread: (_fd: number, into: Uint8Array, offset: bigint) => {
        accesses.push(`read ${into.length} at 0x${offset.toString(16)}`);
        const at = Number(offset & 0xffn);
        into.set(memory.subarray(at, at + into.length));
        return into.length;
      },
      pwrite: (_fd: number, from: Uint8Array, offset: bigint) => {
        accesses.push(`write ${Buffer.from(from).toString('hex')} at 0x${offset.toString(16)}`);
        return from.length;
      },
    });
    return { backend, region: device.region(2), accesses };
  };

  it('is read and written in single accesses of the width asked for', () => {
    const { region, accesses } = setup();
    expect([region.read8(1), region.read16(2), region.read32(4), region.read64(8)]).toEqual([
      1,
      0x302,
      0x7060504,
      0x0f0e0d0c0b0a0908n,
    ]);
    region.write8(1, 0xff);
    region.write16(2, 0x1234);
    region.write32(4, 0xdeadbeef);
    region.write64(8, 0x8877665544332211n);
    expect(accesses).toEqual([
      ...['read 1 at 0x20000000001', 'read 2 at 0x20000000002', 'read 4 at 0x20000000004', 'read 8 at 0x20000000008'],
      ...['write ff at 0x20000000001', 'write 3412 at 0x20000000002', 'write efbeadde at 0x20000000004'],
      'write 1122334455667788 at 0x20000000008',
    ]);
    expect(region.read(0xfe, 2)).toEqual(Uint8Array.of(0xfe, 0xff));
  });

  it('refuses what would be several accesses, or beyond it, or no such value; nothing reaches the device', () => {
    const { region, accesses } = setup();
    for (const call of [
      ...[() => region.read16(1), () => region.read32(2), () => region.write64(4, 0n), () => region.read8(0x100)],
      ...[() => region.read(0xff, 2), () => region.write8(0, 256), () => region.write32(0, -1), () => region.read32(-4)],
      ...[() => region.write64(0, 1n << 64n), () => region.mmap({ offset: 0x101 })],
    ])
      expect(thrown(call).name).toBe('RangeError');
    expect(thrown(() => region.write64(0, 1 as never)).name).toBe('TypeError');
    expect(accesses).toEqual([]);
  });

  it('says how far a transfer came', () => {
    const { backend, region } = setup();
    Object.assign(backend, { pread: () => 1 });
    expect(thrown(() => region.read32(0))).toMatchObject({ code: 'EIO', note: '1 of 4 bytes of region 2 were done' });
  });
});

describe('a device', () => {
  it('asks again for as many functions as a hot reset hits', () => {
    const { kernel, answer } = fake();
    const device = VfioDevice.open(kernel, 0);
    let flags = 0;
    answer(u.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, (bytes, view) => {
      view.setUint32(4, flags, true);
      view.setUint32(8, 3, true);
      if (bytes.length < 12 + 3 * 8) return -ENOSPC;
      for (let i = 0; i < 3; i++) view.setInt32(12 + 8 * i, i - 1, true);
      view.setUint16(12 + 20, 4, true);
      return 0;
    });
    expect(device.getPciHotResetInfo().devices.map((one) => 'group_id' in one && one.group_id)).toEqual([0xffff_ffff, 0, 1]);
    flags = u.VFIO_PCI_HOT_RESET_FLAG_DEV_ID;
    expect(device.getPciHotResetInfo().devices.map((one) => 'devid' in one && one.devid)).toEqual([-1, 0, 1]);
  });

  it('is bound with a token by its text', () => {
    const { kernel, answer } = fake();
    const device = VfioDevice.open(kernel, 0);
    answer(u.VFIO_DEVICE_BIND_IOMMUFD, (bytes, view) => {
      const { flags, token_uuid_ptr } = u.vfio_device_bind_iommufd.decode(bytes);
      if (flags === u.VFIO_DEVICE_BIND_FLAG_TOKEN)
        expect(kernel.memoryAt(token_uuid_ptr, 16)!.read(0, 16)).toEqual(Uint8Array.from({ length: 16 }, (_, i) => i));
      view.setUint32(12, 7, true);
      return 0;
    });
    const iommufd = kernel.open('/dev/iommu');
    expect(device.bindIommufd({ iommufd })).toBe(7);
    expect(device.bindIommufd({ iommufd, token: '00010203-0405-0607-0809-0a0b0c0d0e0f' })).toBe(7);
    expect(thrown(() => device.bindIommufd({ iommufd, token: 'nothing' })).name).toBe('RangeError');
    expect(thrown(() => device.setPciVfToken(new Uint8Array(3))).name).toBe('RangeError');
  });

  it('makes ioeventfds of its own regions only', () => {
    const { kernel } = fake();
    const [one, other, same] = ['0000:00:02.0', '0000:00:03.0', '0000:00:02.0'].map(
      (name) => new VfioDevice(kernel, kernel.open('/dev/vfio/devices/vfio0'), name),
    );
    const region = (device: VfioDevice): Region =>
      new Region(device, { flags: 7, index: 0, size: 0x1000n, offset: 0n, caps: { other: [] } });
    const make = (device: VfioDevice) => one!.ioeventfd({ region: region(device), at: 0, width: 4, data: 1n, fd: null });
    expect(thrown(() => make(other!))).toMatchObject({
      name: 'RangeError',
      message: 'region is one of 0000:00:03.0, not of 0000:00:02.0',
    });
    make(one!);
    make(same!);
  });

  it('takes away an ioeventfd by null', () => {
    const { kernel, answer } = fake();
    const device = VfioDevice.open(kernel, 0);
    answer(u.VFIO_DEVICE_GET_REGION_INFO, (_, view) => {
      view.setBigUint64(16, 0x1000n, true);
      view.setBigUint64(24, 1n << 40n, true);
      return 0;
    });
    const seen: unknown[] = [];
    answer(u.VFIO_DEVICE_IOEVENTFD, (bytes) => {
      seen.push(u.vfio_device_ioeventfd.decode(bytes));
      return 0;
    });
    device.ioeventfd({ region: device.region(1), at: 0x10, width: 2, data: 5n, fd: null });
    expect(seen).toEqual([{ argsz: 32, flags: 2, offset: (1n << 40n) + 16n, data: 5n, fd: -1, reserved: 0 }]);
  });
});
