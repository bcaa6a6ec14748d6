// Every method of a closed object is EBADF, and no method is forgotten here.
import {
  ConfigSpace,
  DmaBuf,
  Eventfd,
  GuestMemfd,
  Iommufd,
  Irqs,
  type Kernel,
  MigrationData,
  Region,
  VfioContainer,
  VfioDevice,
  VfioGroup,
} from 'kvio';
import { VFIO_DEVICE_RESET } from 'kvio/uapi';
import { describe, expect, it } from 'vitest';
import { fake, thrown } from './fake.ts';

interface Subject<T> {
  readonly type: { readonly prototype: object; readonly name: string };
  readonly open: (kernel: Kernel) => T & { close(): void };
  /** A call of each method, with arguments that are good. */
  readonly calls: Readonly<Record<string, (object: T) => unknown>>;
}

const subject = <T>(one: Subject<T>): Subject<unknown> => one as Subject<unknown>;

const info = { flags: 7, index: 0, size: 0x100n, offset: 0n, caps: { other: [] } };
/** A part of a device, closed with it. */
const onDevice = <T extends object>(kernel: Kernel, make: (device: VfioDevice) => T): T & { close(): void } => {
  const device = VfioDevice.open(kernel, 0);
  return Object.assign(make(device), { close: () => device.close() });
};

const regionCalls: Readonly<Record<string, (region: Region) => unknown>> = {
  read8: (region) => region.read8(0),
  read16: (region) => region.read16(0),
  read32: (region) => region.read32(0),
  read64: (region) => region.read64(0),
  write8: (region) => region.write8(0, 0),
  write16: (region) => region.write16(0, 0),
  write32: (region) => region.write32(0, 0),
  write64: (region) => region.write64(0, 0n),
  read: (region) => region.read(0, 4),
  write: (region) => region.write(0, new Uint8Array(4)),
  mmap: (region) => region.mmap(),
};

const subjects: readonly Subject<unknown>[] = [
  subject<VfioContainer>({
    type: VfioContainer,
    open: (kernel) => VfioContainer.open(kernel),
    calls: {
      getApiVersion: (container) => container.getApiVersion(),
      checkExtension: (container) => container.checkExtension(1),
      setIommu: (container) => container.setIommu(3),
      getInfo: (container) => container.getInfo(),
      mapDma: (container) => container.mapDma({ vaddr: 0n, iova: 0n, size: 0x1000n }),
      unmapDma: (container) => container.unmapDma({ iova: 0n, size: 0x1000n }),
      dirtyPages: (container) => container.dirtyPages({ flags: 1 }),
    },
  }),
  subject<VfioGroup>({
    type: VfioGroup,
    open: (kernel) => VfioGroup.open(kernel, 1),
    calls: {
      getStatus: (group) => group.getStatus(),
      setContainer: (group) => group.setContainer(5),
      unsetContainer: (group) => group.unsetContainer(),
      getDeviceFd: (group) => group.getDeviceFd('0000:01:00.0'),
    },
  }),
  subject<VfioDevice>({
    type: VfioDevice,
    open: (kernel) => VfioDevice.open(kernel, 0),
    calls: {
      getInfo: (device) => device.getInfo(),
      getRegionInfo: (device) => device.getRegionInfo(0),
      getIrqInfo: (device) => device.getIrqInfo(0),
      setIrqs: (device) => device.setIrqs({ flags: 0x21, index: 0, start: 0, count: 0 }),
      reset: (device) => device.reset(),
      getPciHotResetInfo: (device) => device.getPciHotResetInfo(),
      pciHotReset: (device) => device.pciHotReset(),
      queryGfxPlane: (device) => device.queryGfxPlane({ flags: 1, drm_plane_type: 0 }),
      getGfxDmabuf: (device) => device.getGfxDmabuf(0),
      ioeventfd: (device) => device.ioeventfd({ region: new Region(device, info), at: 0, width: 4, data: 0n, fd: null }),
      bindIommufd: (device) => device.bindIommufd({ iommufd: 5 }),
      tsmBind: (device) => device.tsmBind({ vdevice: 1 }),
      tsmUnbind: (device) => device.tsmUnbind(),
      attachIommufdPt: (device) => device.attachIommufdPt({ pt_id: 1 }),
      detachIommufdPt: (device) => device.detachIommufdPt(),
      region: (device) => device.region(0),
      irqs: (device) => device.irqs(0),
      pread: (device) => device.pread(new Uint8Array(4), 0n),
      pwrite: (device) => device.pwrite(new Uint8Array(4), 0n),
      mmap: (device) => device.mmap({ length: 0x1000, offset: 0n, prot: 1 }),
      feature: (device) => device.feature(0x10000),
      setPciVfToken: (device) => device.setPciVfToken(new Uint8Array(16)),
      getMigration: (device) => device.getMigration(),
      getMigDeviceState: (device) => device.getMigDeviceState(),
      setMigDeviceState: (device) => device.setMigDeviceState(1),
      getMigDataSize: (device) => device.getMigDataSize(),
      setMigPrecopyInfov2: (device) => device.setMigPrecopyInfov2(),
      lowPowerEntry: (device) => device.lowPowerEntry(),
      lowPowerEntryWithWakeup: (device) => device.lowPowerEntryWithWakeup(5),
      lowPowerExit: (device) => device.lowPowerExit(),
      dmaLoggingStart: (device) => device.dmaLoggingStart({ page_size: 4096n, ranges: [{ iova: 0n, length: 4096n }] }),
      dmaLoggingStop: (device) => device.dmaLoggingStop(),
      dmaLoggingReport: (device) => device.dmaLoggingReport({ iova: 0n, length: 1n, page_size: 4096n, bitmap: 0n }),
      setBusMaster: (device) => device.setBusMaster(1),
      getDmaBuf: (device) => device.getDmaBuf({ region_index: 0, dma_ranges: [{ offset: 0n, length: 4096n }] }),
    },
  }),
  subject<MigrationData>({
    type: MigrationData,
    open: (kernel) => MigrationData.fromFd(kernel, 99),
    calls: {
      getPrecopyInfo: (stream) => stream.getPrecopyInfo(),
      read: (stream) => stream.read(new Uint8Array(1)),
      chunks: (stream) => stream.chunks().next(),
      write: (stream) => stream.write(new Uint8Array(1)),
    },
  }),
  subject<DmaBuf>({
    type: DmaBuf,
    open: (kernel) => DmaBuf.fromFd(kernel, 99),
    calls: { setName: (buffer) => buffer.setName('a'), sync: (buffer) => buffer.sync(0n) },
  }),
  subject<Eventfd>({
    type: Eventfd,
    open: (kernel) => Eventfd.create(kernel),
    calls: { signal: (eventfd) => eventfd.signal(), take: (eventfd) => eventfd.take() },
  }),
  subject<Region>({
    type: Region,
    open: (kernel) => onDevice(kernel, (device) => new Region(device, info)),
    calls: regionCalls,
  }),
  subject<ConfigSpace>({
    type: ConfigSpace,
    open: (kernel) => onDevice(kernel, (device) => new ConfigSpace(device, info)),
    calls: {
      ...(regionCalls as Readonly<Record<string, (config: ConfigSpace) => unknown>>),
      ids: (config) => config.ids(),
      setCommand: (config) => config.setCommand(4),
      capabilities: (config) => config.capabilities(),
      findCapability: (config) => config.findCapability(1),
    },
  }),
  subject<Irqs>({
    type: Irqs,
    open: (kernel) => onDevice(kernel, (device) => new Irqs(device, { flags: 9, index: 1, count: 2 })),
    calls: {
      enable: (irqs) => irqs.enable(),
      setTrigger: (irqs) => irqs.setTrigger([null]),
      disable: (irqs) => irqs.disable(),
      trigger: (irqs) => irqs.trigger(),
      triggerSome: (irqs) => irqs.triggerSome([true]),
      mask: (irqs) => irqs.mask(),
      unmask: (irqs) => irqs.unmask(),
      setUnmask: (irqs) => irqs.setUnmask(null),
    },
  }),
];

/** What does not fail for want of a descriptor: a negative value, promises, iteration, references, the end itself. */
const others = new Set([
  'constructor',
  'describe',
  'attach',
  'descriptorToMap',
  'ioctl',
  'tryIoctl',
  'close',
  'probeFeature',
  'wait',
  'events',
  'on',
  'ref',
  'unref',
  'detach',
]);

function methodsOf(type: { readonly prototype: object }): string[] {
  const names = new Set<string>();
  for (let proto = type.prototype; proto !== Object.prototype; proto = Object.getPrototypeOf(proto)) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(proto))) {
      if (typeof value === 'function' && !others.has(name)) names.add(name);
    }
  }
  return [...names].sort();
}

describe.each(subjects.map((one) => [one.type.name, one] as const))('a closed %s', (_name, { type, open, calls }) => {
  it('is asked by every method there is', () => expect(methodsOf(type)).toEqual(Object.keys(calls).sort()));

  it.each(Object.keys(calls))('%s is EBADF, and no call reaches the kernel', (name) => {
    const { backend, kernel } = fake();
    const object = open(kernel);
    object.close();
    object.close();
    const before = backend.log.length;
    expect(thrown(() => calls[name]!(object))).toMatchObject({ name: 'KernelError', code: 'EBADF' });
    const reached = backend.log.slice(before).filter((line) => /^(?:ioctl|read|write|pread|pwrite|mmap \D)/.test(line));
    expect(reached).toEqual([]);
  });
});

describe('a closed Eventfd', () => {
  it('rejects who waits, ends who iterates, and calls nobody', async () => {
    const { kernel } = fake();
    const eventfd = Eventfd.create(kernel);
    eventfd.close();
    await expect(eventfd.wait()).rejects.toMatchObject({ code: 'EBADF' });
    expect(await eventfd.events().next()).toEqual({ done: true, value: undefined });
    expect(eventfd.ref().unref()).toBe(eventfd);
    using _off = eventfd.on(() => expect.unreachable());
  });
});

it('what is closed maps nothing: −1 would be anonymous memory', () => {
  const { kernel } = fake();
  const [memfd, iommufd] = [GuestMemfd.fromFd(kernel, 99), Iommufd.open(kernel)];
  for (const handle of [memfd, iommufd]) handle.close();
  expect(thrown(() => memfd.mmap(0x1000))).toMatchObject({ code: 'EBADF', syscall: 'mmap' });
  expect(thrown(() => iommufd.mmap({ length: 0x1000 }))).toMatchObject({ code: 'EBADF', syscall: 'mmap' });
});

it('probing a closed device answers no', () => {
  const device = VfioDevice.open(fake().kernel, 0);
  device.close();
  expect(device.probeFeature(3)).toBe(false);
  expect(device.tryIoctl(VFIO_DEVICE_RESET)).toBe(-9);
});
