// Every method of what is closed is EBADF, and no method is forgotten here.
import { Hwpt, Ioas, Iommufd, type Kernel, Vdevice, Viommu } from 'kvio';
import { describe, expect, it } from 'vitest';
import { thrown } from '../vfio/fake.ts';
import { testKernel } from './mock.ts';

type Call<T> = (object: T) => unknown;
type Calls = Readonly<Record<string, Call<never>>>;

const range = { iova: 0n, length: 0x1000n, page_size: 0x1000n };
const entries = { data_type: 1, entries: new Uint8Array(8), entry_len: 8 };

/** A call of each method, with arguments that are good. */
const calls = {
  Iommufd: {
    destroy: (iommufd: Iommufd) => iommufd.destroy(1),
    ioasAlloc: (iommufd: Iommufd) => iommufd.ioasAlloc(),
    hwptAlloc: (iommufd: Iommufd) => iommufd.hwptAlloc({ dev_id: 1, pt: 2 }),
    getHwInfo: (iommufd: Iommufd) => iommufd.getHwInfo(1),
    faultQueueAlloc: (iommufd: Iommufd) => iommufd.faultQueueAlloc(),
    viommuAlloc: (iommufd: Iommufd) => iommufd.viommuAlloc({ type: 1, dev_id: 1, hwpt: 2 }),
    viommuAllocTegra241Cmdqv: (iommufd: Iommufd) => iommufd.viommuAllocTegra241Cmdqv({ dev_id: 1, hwpt: 2 }),
    ioasChangeProcess: (iommufd: Iommufd) => iommufd.ioasChangeProcess(),
    getOption: (iommufd: Iommufd) => iommufd.getOption(0),
    setOption: (iommufd: Iommufd) => iommufd.setOption(0, 1n),
    getExclusiveRanges: (iommufd: Iommufd) => iommufd.getExclusiveRanges(1),
    setExclusiveRanges: (iommufd: Iommufd) => iommufd.setExclusiveRanges(1, true),
    getVfioIoas: (iommufd: Iommufd) => iommufd.getVfioIoas(),
    setVfioIoas: (iommufd: Iommufd) => iommufd.setVfioIoas(1),
    clearVfioIoas: (iommufd: Iommufd) => iommufd.clearVfioIoas(),
    mmap: (iommufd: Iommufd) => iommufd.mmap({ length: 0x1000 }),
  },
  Ioas: {
    map: (ioas: Ioas) => ioas.map({ user_va: 0n, length: 0x1000n }),
    mapFile: (ioas: Ioas) => ioas.mapFile(0, { length: 0x1000n }),
    copy: (ioas: Ioas) => ioas.copy(ioas, { src_iova: 0n, length: 0x1000n }),
    unmap: (ioas: Ioas) => ioas.unmap(0n, 0x1000n),
    unmapAll: (ioas: Ioas) => ioas.unmapAll(),
    iovaRanges: (ioas: Ioas) => ioas.iovaRanges(),
    allowIovas: (ioas: Ioas) => ioas.allowIovas([]),
    destroy: (ioas: Ioas) => ioas.destroy(),
  },
  Hwpt: {
    setDirtyTracking: (hwpt: Hwpt) => hwpt.setDirtyTracking(true),
    getDirtyBitmap: (hwpt: Hwpt) => hwpt.getDirtyBitmap(range),
    invalidate: (hwpt: Hwpt) => hwpt.invalidate(entries),
    destroy: (hwpt: Hwpt) => hwpt.destroy(),
  },
  Vdevice: {
    tsmBind: (vdevice: Vdevice) => vdevice.tsmBind(),
    tsmUnbind: (vdevice: Vdevice) => vdevice.tsmUnbind(),
    tsmGuestRequest: (vdevice: Vdevice) => vdevice.tsmGuestRequest({ type: 0, request: new Uint8Array(4) }),
    tsmReq: (vdevice: Vdevice) => vdevice.tsmReq({ scope: 0, request: new Uint8Array(4) }),
    tsmMap: (vdevice: Vdevice) => vdevice.tsmMap({ start_gpa: 0n, end_gpa: 0n }),
    destroy: (vdevice: Vdevice) => vdevice.destroy(),
  },
  Viommu: {
    vdeviceAlloc: (viommu: Viommu) => viommu.vdeviceAlloc({ dev_id: 1, virt_id: 1n }),
    veventqAlloc: (viommu: Viommu) => viommu.veventqAlloc({ type: 1, veventq_depth: 1, dataLength: 4 }),
    hwQueueAlloc: (viommu: Viommu) => viommu.hwQueueAlloc({ type: 1, index: 0, nesting_parent_iova: 0n, length: 1n }),
    invalidate: (viommu: Viommu) => viommu.invalidate(entries),
    destroy: (viommu: Viommu) => viommu.destroy(),
  },
};

/** An object of an iommufd that is closed. */
const made: Readonly<Record<string, (kernel: Kernel) => object>> = {
  Iommufd: (kernel) => closed(Iommufd.open(kernel)),
  Ioas: (kernel) => new Ioas(closed(Iommufd.open(kernel)), 1),
  Hwpt: (kernel) => new Hwpt(closed(Iommufd.open(kernel)), 1),
  Vdevice: (kernel) => new Vdevice(closed(Iommufd.open(kernel)), 1),
  Viommu: (kernel) => new Viommu(closed(Iommufd.open(kernel)), 1),
};

function closed(iommufd: Iommufd): Iommufd {
  iommufd.close();
  return iommufd;
}

/** What does not fail for want of a descriptor. */
const others = new Set(['constructor', 'describe', 'attach', 'descriptorToMap', 'detach', 'ioctl', 'tryIoctl', 'close']);

function methodsOf(object: object): string[] {
  const names = new Set<string>();
  for (let proto = Object.getPrototypeOf(object); proto !== Object.prototype; proto = Object.getPrototypeOf(proto))
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(proto)))
      if (typeof value === 'function' && !others.has(name)) names.add(name);
  return [...names].sort();
}

describe.each(Object.entries(calls as Readonly<Record<string, Calls>>))('a closed %s', (name, methods) => {
  it('is asked by every method there is', () => {
    using test = testKernel();
    expect(methodsOf(made[name]!(test.kernel))).toEqual(Object.keys(methods).sort());
  });

  it.each(Object.keys(methods))('%s is EBADF', (method) => {
    using test = testKernel();
    const object = made[name]!(test.kernel);
    expect(thrown(() => methods[method]!(object as never))).toMatchObject({ name: 'KernelError', code: 'EBADF' });
  });
});
