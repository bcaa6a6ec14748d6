// Memory as a parameter: of this kernel and no other, in bytes by number or bigint; and how long it lives.
import { setTimeout as sleep } from 'node:timers/promises';
import { bindDriver, Iommufd, Kvm, KvmDevice, type Memory, VfioContainer, VfioDevice } from 'kvio';
import { openSim, profiles, type SimKernel } from 'kvio/sim';
import * as u from 'kvio/uapi';
import { describe, expect, it, onTestFinished } from 'vitest';
import { thrown } from '../vfio/fake.ts';

const lab = profiles['lab-vtd-7.2']!;
const machine = { ...lab, iommu: { ...lab.iommu!, dirtyTracking: true } };
const BDF = '0000:00:02.0';

function open(): SimKernel {
  const kernel = openSim({ machine });
  onTestFinished(() => kernel.close());
  return kernel;
}

/** A device on an iommufd, with a table that tracks what is dirty. */
function assigned(kernel: SimKernel) {
  bindDriver(kernel, BDF, 'vfio-pci');
  const iommufd = Iommufd.open(kernel);
  const [node] = kernel.readdir('/dev/vfio/devices');
  const device = VfioDevice.open(kernel, `/dev/vfio/devices/${node}`);
  const dev_id = device.bindIommufd({ iommufd });
  const ioas = iommufd.ioasAlloc();
  const table = iommufd.hwptAlloc({ dev_id, pt: ioas, flags: u.IOMMU_HWPT_ALLOC_DIRTY_TRACKING });
  return { iommufd, device, ioas, table };
}

describe('memory of another kernel', () => {
  it.each([
    ['another machine', () => open()],
    ['another process of the machine', (kernel: SimKernel) => kernel.newProcess()],
  ])('%s: a RangeError wherever it is given, since the same address may be something here', (_, others) => {
    const kernel = open();
    const other = others(kernel);
    onTestFinished(() => other.close());
    const memory = other.guestRam(0x1000);
    expect(kernel.guestRam(0x1000).address).toBe(memory.address);
    const vm = Kvm.open(kernel).createVm();
    const { ioas, table, device } = assigned(kernel);
    const container = VfioContainer.open(kernel);
    const attribute = new KvmDevice(kernel, vm.createDevice(u.KVM_DEV_TYPE_VFIO).detach());
    const bitmap = { pgsize: 4096, data: memory };
    const calls: Readonly<Record<string, () => unknown>> = {
      setUserMemoryRegion: () => vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0n, memory }),
      setUserMemoryRegion2: () => vm.setUserMemoryRegion2({ slot: 0, guest_phys_addr: 0n, memory }),
      getDirtyLog: () => vm.getDirtyLog({ slot: 0, dirty_bitmap: memory }),
      clearDirtyLog: () => vm.clearDirtyLog({ slot: 0, num_pages: 64, dirty_bitmap: memory }),
      setDeviceAttr: () => attribute.setDeviceAttr({ group: 1, attr: 1n, memory }),
      map: () => ioas.map(memory),
      getDirtyBitmap: () => table.getDirtyBitmap({ iova: 0n, length: 4096, page_size: 4096 }, memory),
      mapDma: () => container.mapDma({ memory, iova: 0n }),
      unmapDma: () => container.unmapDma({ iova: 0n, size: 4096, bitmap }),
      dirtyPages: () => container.dirtyPages({ flags: u.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP, iova: 0n, size: 4096, bitmap }),
      dmaLoggingReport: () => device.dmaLoggingReport({ iova: 0n, length: 4096, page_size: 4096, bitmap: memory }),
      ioctl: () => kernel.ioctl(vm.fd, u.KVM_GET_CLOCK, memory),
      munmap: () => kernel.munmap(memory),
    };
    for (const [name, call] of Object.entries(calls)) {
      const error = thrown(call);
      expect([name, error.name, error.message]).toEqual([
        name,
        'RangeError',
        'memory belongs to another kernel, where its address means something else',
      ]);
    }
    expect(memory.closed).toBe(false);
  });
});

describe('lengths', () => {
  it('are numbers or bigints', () => {
    const kernel = open();
    const { ioas, table, device } = assigned(kernel);
    const memory = kernel.guestRam(0x4000);
    const file = kernel.memfd('f');
    kernel.ftruncate(file, 0x4000);
    const ranges = [0x1000, 0x1000n].flatMap((length) => [
      ioas.map(memory, { length, offset: length }),
      ioas.map({ user_va: memory.address, length }),
      ioas.mapFile(file, { length, start: length }),
    ]);
    expect(new Set(ranges).size).toBe(6);
    for (const length of [0x1000, 0x1000n]) expect(ioas.copy(ioas, { src_iova: ranges[0]!, length })).toBeGreaterThan(0n);
    const ask = (size: number | bigint) => table.getDirtyBitmap({ iova: ranges[0]!, length: size, page_size: size });
    device.attachIommufdPt({ pt_id: table });
    table.setDirtyTracking(true);
    expect(ask(0x1000)).toEqual(ask(0x1000n));
    expect([ioas.unmap(ranges[0]!, 0x1000), ioas.unmap(ranges[1]!, 0x1000n)]).toEqual([0x1000n, 0x1000n]);
    const vm = Kvm.open(kernel).createVm();
    vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0n, memory, offset: 0x1000n, length: 0x1000n });
    vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0n, memory, offset: 0x1000, length: 0x1000 });
  });

  it('are not negative, whole, and of the memory', () => {
    const kernel = open();
    const ioas = Iommufd.open(kernel).ioasAlloc();
    const memory = kernel.guestRam(0x2000);
    const messages = (...lengths: (number | bigint)[]) =>
      lengths.map((length) => thrown(() => ioas.map(memory, { length })).message);
    expect(messages(-1, -1n, 0.5, 0x3000, 1n << 80n)).toEqual([
      'length must not be negative, but is -1',
      'length must not be negative, but is -1n',
      'length must be a safe integer or a bigint, not 0.5',
      'length must be an integer from 0 to 8192, the length of the memory, not 12288',
      'length must fit 64 bits, not 1208925819614629174706176n',
    ]);
    expect(thrown(() => ioas.unmap(0n, -4096)).message).toBe('length must not be negative, but is -4096');
    expect(thrown(() => ioas.unmap(0n, '4096' as never)).message).toBe(
      'iommu_ioas_unmap.length is __u64: a bigint is needed, not string 4096',
    );
    expect(thrown(() => ioas.map(memory, { lenght: 4096 } as never)).message).toMatch(/has no field lenght/);
    expect(thrown(() => ioas.map(undefined as never)).message).toBe('memory must be a Memory (kernel.guestRam, kernel.mmap)');
  });
});

describe('memory lives', () => {
  const collect = async (): Promise<void> => {
    for (let i = 0; i < 3; i++) {
      global.gc!();
      await sleep(1);
    }
  };

  it('until it is closed, whoever still has it: an address or a view is no less a use', async () => {
    const kernel = open();
    const forget = (): { address: bigint; bytes: Uint8Array } => {
      const { address, bytes } = kernel.guestRam(0x1000);
      return { address, bytes };
    };
    const { address, bytes } = forget();
    await collect();
    bytes[5] = 7;
    expect(kernel.memoryAt(address)?.read8(5)).toBe(7);
  });

  it('until the last DMA mapping of it is gone, when several are taken away at once too', () => {
    const kernel = open();
    const ioas = Iommufd.open(kernel).ioasAlloc();
    const mapped = (address: bigint): boolean => kernel.process.mm.vmaAt(address) !== undefined;
    const memories: Memory[] = [0, 1, 2, 3].map(() => kernel.guestRam(0x1000));
    memories.forEach((memory, at) => void ioas.map(memory, { iova: BigInt(at) * 0x10000n }));
    const [a, b, c, d] = memories.map(({ address }) => address) as [bigint, bigint, bigint, bigint];
    for (const memory of memories) memory.close();
    expect([a, b, c, d].map(mapped)).toEqual([true, true, true, true]);
    expect(ioas.unmap(0x8000n, 0x20000)).toBe(0x2000n);
    expect([a, b, c, d].map(mapped)).toEqual([true, false, false, true]);
    expect(ioas.unmapAll()).toBe(0x2000n);
    expect([a, b, c, d].map(mapped)).toEqual([false, false, false, false]);
  });
});
