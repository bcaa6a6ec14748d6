/** The objects of VFIO, on an e1000e, which has all of INTx, MSI, MSI-X and resets, and the registers of an nvme; the host's drivers under bindDriver. */
import {
  bindDriver,
  type Eventfd,
  iommuGroup,
  type Kernel,
  moduleParameter,
  PCI_CAP_ID_MSIX,
  PCI_COMMAND_MEMORY,
  pciDevice,
  setModuleParameter,
  VfioContainer,
  VfioDevice,
  VfioGroup,
} from 'kvio';
import * as u from 'kvio/uapi';
import { type Case, define, type Needs, type Observer } from '../../case.ts';
import { parts } from '../../parts.ts';

const NIC = parts.e1000e.at;
const PORT = parts['root port'].at;
const IOVA = 0x10_0000n;

interface Opened {
  readonly container: VfioContainer;
  readonly group: VfioGroup;
  readonly device: VfioDevice;
}

/** The device bound, opened by its group, and given back whatever happens. */
async function withDevice(
  kernel: Kernel,
  see: Observer,
  at: string,
  use: (opened: Opened) => void | Promise<void>,
): Promise<void> {
  const before = pciDevice(kernel, at);
  {
    using bound = bindDriver(kernel, at, 'vfio-pci');
    using container = VfioContainer.open(kernel);
    using group = VfioGroup.open(kernel, bound.devices()[0]!.vfio_group!);
    group.setContainer(container);
    container.setIommu(u.VFIO_TYPE1v2_IOMMU);
    using device = group.getDeviceFd(at);
    await use({ container, group, device });
  }
  const { driver, driver_override } = pciDevice(kernel, at);
  see.note('the host is as it was', driver === before.driver && driver_override === before.driver_override);
}

const index = [0, 1, 2, 3, 4, 5, 6, 7, 8];

function describes(see: Observer, { container, group, device }: Opened): void {
  see.note('group', group.getStatus());
  see.note('container', container.getInfo());
  see.note('device', device.getInfo());
  for (const i of index) see.call(`region ${i}`, () => device.getRegionInfo(i));
  for (const i of index.slice(0, 6)) see.call(`interrupt ${i}`, () => device.getIrqInfo(i));
  see.note('configuration', device.config.ids());
  see.note('capabilities', device.config.capabilities());
  see.note('the MSI-X capability', device.config.findCapability(PCI_CAP_ID_MSIX));
  const { flags, devices } = device.getPciHotResetInfo();
  const { iommu_group } = pciDevice(device.kernel, NIC);
  see.note('hot reset', { flags, devices: devices.map(({ segment, bus, devfn }) => ({ segment, bus, devfn })) });
  see.note(
    'it hits this group',
    devices.map((one) => 'group_id' in one && one.group_id === iommu_group),
  );
}

function features(see: Observer, { device }: Opened): void {
  for (let feature = 0; feature <= u.VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 + 1; feature++) {
    const may = (operation: number): boolean => device.probeFeature(feature, operation);
    see.note(`feature ${feature}`, [may(0), may(u.VFIO_DEVICE_FEATURE_GET), may(u.VFIO_DEVICE_FEATURE_SET)]);
  }
  const bitmap = device.kernel.guestRam(4096);
  const ranges = [{ iova: 0n, length: 0x1000n }];
  see.call('MIGRATION', () => device.getMigration());
  see.call('MIG_DEVICE_STATE', () => device.getMigDeviceState());
  see.call('MIG_DEVICE_STATE, set', () => device.setMigDeviceState(u.VFIO_DEVICE_STATE_STOP));
  see.call('MIG_DATA_SIZE', () => device.getMigDataSize());
  see.call('MIG_PRECOPY_INFOv2', () => device.setMigPrecopyInfov2());
  see.call('DMA_LOGGING_START', () => device.dmaLoggingStart({ page_size: 4096n, ranges }));
  see.call('DMA_LOGGING_STOP', () => device.dmaLoggingStop());
  see.call('DMA_LOGGING_REPORT', () => device.dmaLoggingReport({ iova: 0n, length: 0x1000n, page_size: 4096n, bitmap }));
  see.call('BUS_MASTER', () => device.setBusMaster(u.VFIO_DEVICE_FEATURE_SET_MASTER));
  see.call('PCI_VF_TOKEN', () => device.setPciVfToken('00010203-0405-0607-0809-0a0b0c0d0e0f'));
  see.call('LOW_POWER_ENTRY', () => device.lowPowerEntry());
  see.call('LOW_POWER_ENTRY again', () => device.lowPowerEntry());
  see.call('LOW_POWER_EXIT', () => device.lowPowerExit());
  const wakeup = device.kernel.eventfd();
  see.call('LOW_POWER_ENTRY_WITH_WAKEUP', () => device.lowPowerEntryWithWakeup(wakeup));
  see.call('LOW_POWER_EXIT again', () => device.lowPowerExit());
  see.call('QUERY_GFX_PLANE', () => device.queryGfxPlane({ flags: u.VFIO_GFX_PLANE_TYPE_PROBE, drm_plane_type: 0 }));
  see.call('GET_GFX_DMABUF', () => device.getGfxDmabuf(0));
  const buffer = see.call(
    'DMA_BUF',
    () => device.getDmaBuf({ region_index: 0, dma_ranges: [{ offset: 0n, length: 0x1000n }] }) && 'one',
  );
  see.note('there is a dma-buf', buffer === 'one');
  if (buffer !== 'one') return;
  const named = device.getDmaBuf({ region_index: 0, dma_ranges: [{ offset: 0x1000n, length: 0x1000n }] });
  see.call('DMA_BUF_SET_NAME', () => named.setName('a piece of BAR 0'));
  see.call('DMA_BUF_IOCTL_SYNC', () => named.sync(BigInt(u.DMA_BUF_SYNC_START | u.DMA_BUF_SYNC_READ)));
}

/** NVMe's Admin Queue Attributes: sizes of two queues, read back as written while the controller is off. */
const AQA = 0x24;

function registers(see: Observer, { device }: Opened): void {
  const bar = device.region(u.VFIO_PCI_BAR0_REGION_INDEX);
  bar.write32(AQA, 0x0003_0007);
  see.note('a register, by pread', bar.read32(AQA));
  const mapped = bar.mmap({ length: 0x1000 });
  mapped.write32(AQA, 0x0007_0003);
  see.note('a register, mapped and by pread', [mapped.read32(AQA), bar.read32(AQA)]);
  see.call('a register at its end', () => bar.read32(bar.size));
  see.note('memory decoding off, command', device.config.setCommand(0, PCI_COMMAND_MEMORY));
  see.call('pread without memory decoding', () => bar.read32(AQA));
  see.call('mapped, without memory decoding', () => mapped.read32(AQA));
  device.config.setCommand(PCI_COMMAND_MEMORY);
  see.note('on again', mapped.read32(AQA));
  mapped.close();
  see.call('reset', () => device.reset());
  const eventfd = device.kernel.eventfd();
  const write = { region: bar, at: AQA, width: 4, data: 0x0001_0001n } as const;
  see.call('IOEVENTFD', () => device.ioeventfd({ ...write, fd: eventfd }));
  see.call('IOEVENTFD again', () => device.ioeventfd({ ...write, fd: eventfd }));
  see.call('IOEVENTFD taken away', () => device.ioeventfd({ ...write, fd: null }));
  see.call('IOEVENTFD taken away again', () => device.ioeventfd({ ...write, fd: null }));
}

async function interrupts(see: Observer, { group, device }: Opened): Promise<void> {
  const msix = device.irqs(u.VFIO_PCI_MSIX_IRQ_INDEX);
  const eventfds = msix.enable(3);
  const [first, second] = eventfds as [Eventfd, Eventfd];
  msix.trigger(0, 2);
  see.note('taken at once', [first.take(), second.take(), second.take()]);
  const waiting = second.wait({ signal: AbortSignal.timeout(20_000) });
  msix.triggerSome([false, true]);
  see.note('waited for', await waiting);
  const heard: bigint[] = [];
  const events = first.events({ signal: AbortSignal.timeout(20_000) });
  for (const _ of [1, 2, 3]) {
    msix.trigger();
    heard.push((await events.next()).value as bigint);
  }
  await events.return(undefined);
  see.note('iterated', heard);
  let calls = 0;
  first.on(() => calls++)[Symbol.dispose]();
  msix.trigger();
  await pause(200);
  see.note('calls of a callback that was taken away at once', calls);
  first.take();
  const later = new Promise<bigint>((resolve) => first.on(resolve));
  msix.trigger();
  see.note('a callback', await later);
  const aborted = first.wait({ signal: AbortSignal.abort(new Error('enough')) }).catch((error: Error) => error.message);
  see.note('aborted', await aborted);
  const closing = second.wait().catch((error: { code: string }) => error.code);
  msix.disable();
  see.note('closed meanwhile', await closing);
  see.note(
    'disabled',
    eventfds.map(({ closed }) => closed),
  );
  see.call('disabled again', () => msix.disable());
  const intx = device.irqs(u.VFIO_PCI_INTX_IRQ_INDEX);
  const [line] = intx.enable() as [Eventfd];
  see.call('MSI beside INTx', () => device.irqs(u.VFIO_PCI_MSI_IRQ_INDEX).enable());
  for (const [name, call] of Object.entries({
    mask: () => intx.mask(),
    unmask: () => intx.unmask(),
    trigger: () => intx.trigger(),
  }))
    see.call(`INTx ${name}`, call);
  see.note('INTx came', line.take());
  see.call('an eventfd that unmasks', () => intx.setUnmask(device.kernel.eventfd()));
  see.call('another', () => intx.setUnmask(device.kernel.eventfd()));
  see.call('none', () => intx.setUnmask(null));
  intx.disable();
  see.call('MSI masked', () => device.irqs(u.VFIO_PCI_MSI_IRQ_INDEX).mask());
  see.call('hot reset of the group', () => device.pciHotReset([group]));
  see.call('hot reset of nothing', () => device.pciHotReset());
}

const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

function mappings(see: Observer, { container, device }: Opened): void {
  const { kernel } = device;
  const ram = kernel.guestRam(0x1_0000);
  container.mapDma({ memory: ram, iova: IOVA });
  see.call('mapped twice', () => container.mapDma({ memory: ram, iova: IOVA + 0x1000n, size: 0x1000 }));
  see.call('where interrupts are', () => container.mapDma({ memory: ram, iova: 0xfee0_0000n }));
  see.note('mappings left', container.getInfo().caps.dma_avail);
  container.dirtyPages({ flags: u.VFIO_IOMMU_DIRTY_PAGES_FLAG_START });
  const data = kernel.guestRam(0x1000);
  const bitmap = { pgsize: 0x1000n, data };
  const range = { iova: IOVA, size: 0x1_0000n };
  see.call('dirty pages', () => container.dirtyPages({ flags: u.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP, ...range, bitmap }));
  see.note('all of them', data.read64(0));
  data.write64(0, 0n);
  ram.close();
  see.note('unmapped, with what was dirty', container.unmapDma({ ...range, bitmap }));
  see.note('all of them again', data.read64(0));
  see.call('tracking off', () => container.dirtyPages({ flags: u.VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP }));
  see.note('nothing is left', container.unmapDma({ flags: u.VFIO_DMA_UNMAP_FLAG_ALL }));
  see.note(
    'extensions',
    [u.VFIO_TYPE1v2_IOMMU, u.VFIO_NOIOMMU_IOMMU, u.VFIO_UNMAP_ALL].map((one) => container.checkExtension(one)),
  );
}

function ends(kernel: Kernel, see: Observer, { container, group, device }: Opened): void {
  const config = device.config;
  see.call('EBUSY: unset with a device open', () => group.unsetContainer());
  const bar = device.region(0).mmap({ length: 0x1000 });
  device.close();
  device.close();
  see.call('a closed device', () => device.getInfo());
  see.call('its configuration', () => config.read16(0));
  see.call('a mapping keeps it open', () => group.unsetContainer());
  bar.close();
  see.call('unset', () => group.unsetContainer());
  see.call('a container without a group', () => container.getInfo());
  group.close();
  container.close();
  const again = VfioGroup.open(kernel, pciDevice(kernel, NIC).vfio_group!);
  see.call('open twice', () => VfioGroup.open(kernel, pciDevice(kernel, NIC).vfio_group!));
  again.close();
}

function byNode(kernel: Kernel, see: Observer): void {
  using bound = bindDriver(kernel, NIC, 'vfio-pci');
  const iommufd = kernel.open('/dev/iommu');
  const device = VfioDevice.open(kernel, bound.devices()[0]!.vfio_device!);
  see.call('before it is bound', () => device.getInfo());
  see.call('a token', () => device.bindIommufd({ iommufd, token: new Uint8Array(16) }));
  see.note('id', device.bindIommufd({ iommufd }));
  see.call('bound twice', () => device.bindIommufd({ iommufd }));
  see.note('hot reset', device.getPciHotResetInfo());
  see.call('attached to nothing', () => device.attachIommufdPt({ pt_id: 77 }));
  see.call('a pasid attached to nothing', () => device.attachIommufdPt({ pt_id: 77, pasid: 5 }));
  see.call('detached', () => device.detachIommufdPt());
  see.call('a pasid detached', () => device.detachIommufdPt({ pasid: 5 }));
  see.call('given back while open', () => bound.restore());
  device.close();
  kernel.close(iommufd);
}

function drivers(kernel: Kernel, see: Observer): void {
  const before = pciDevice(kernel, NIC);
  see.call('no such driver', () => bindDriver(kernel, NIC, 'nosuch').restore());
  see.call('a bridge', () => bindDriver(kernel, [NIC, PORT], 'vfio-pci').restore());
  see.note(
    'nothing was left behind',
    [pciDevice(kernel, NIC), pciDevice(kernel, PORT)].map((one) => one.driver_override ?? 'none'),
  );
  see.note('the port', pciDevice(kernel, PORT).driver);
  see.call('a driver it is not for', () => bindDriver(kernel, NIC, 'pcieport').restore());
  using bound = bindDriver(kernel, NIC, 'vfio-pci');
  see.note('the group', iommuGroup(kernel, before.iommu_group!).reason);
  see.note('has a node', bound.devices()[0]!.vfio_group === `/dev/vfio/${before.iommu_group}`);
}

/** A device that no IOMMU stands before: a group is made for it when it is bound, if the host was told to. */
function withoutIommu(kernel: Kernel, see: Observer): void {
  using _off = setModuleParameter(kernel, 'vfio', 'enable_unsafe_noiommu_mode', 'N');
  see.call('the mode is off', () => bindDriver(kernel, NIC, 'vfio-pci').restore());
  const bound = bindDriver(kernel, NIC, 'vfio-pci', { noIommu: true });
  see.note('the mode', moduleParameter(kernel, 'vfio', 'enable_unsafe_noiommu_mode'));
  const { iommu_group, vfio_group, vfio_device } = bound.devices()[0]!;
  see.note('its group', vfio_group === `/dev/vfio/noiommu-${iommu_group}`);
  see.note('has a node of its own', vfio_device !== undefined);
  const group = VfioGroup.open(kernel, vfio_group!);
  const container = VfioContainer.open(kernel);
  see.note('status', group.getStatus());
  group.setContainer(container);
  see.call('type1', () => container.setIommu(u.VFIO_TYPE1v2_IOMMU));
  see.call('no IOMMU', () => container.setIommu(u.VFIO_NOIOMMU_IOMMU));
  see.call('a mapping', () => container.mapDma({ memory: kernel.guestRam(0x1000), iova: IOVA }));
  const device = group.getDeviceFd(NIC);
  see.note('ids', device.config.ids());
  see.call('given back while open', () => bound.restore());
  for (const handle of [device, group, container]) handle.close();
  bound.restore();
  see.note('the mode again', moduleParameter(kernel, 'vfio', 'enable_unsafe_noiommu_mode'));
  see.note('its group is gone', pciDevice(kernel, NIC).iommu_group ?? 'none');
}

const needs = { devices: ['/dev/vfio/vfio'], pci: ['e1000e'], iommu: true } as const;

const ofDevice = (
  name: string,
  body: (see: Observer, opened: Opened, kernel: Kernel) => void | Promise<void>,
  more: Needs & { readonly pci?: readonly ['nvme'] } = {},
): Case =>
  define(
    `vfio/objects/${name}`,
    'Objects',
    (kernel, see) => withDevice(kernel, see, parts[more.pci?.[0] ?? 'e1000e'].at, (opened) => body(see, opened, kernel)),
    { needs: { ...needs, ...more } },
  );

export const objectCases: readonly Case[] = [
  ofDevice('info', describes),
  ofDevice('features', features),
  ofDevice('registers', registers, { pci: ['nvme'] }),
  ofDevice('interrupts', interrupts, { features: ['async'] }),
  ofDevice('mappings', mappings),
  ofDevice('ends', (see, opened, kernel) => ends(kernel, see, opened)),
  define('vfio/objects/cdev', 'Objects', byNode, { needs: { ...needs, devices: [...needs.devices, '/dev/iommu'] } }),
  define('vfio/objects/drivers', 'Objects', drivers, { needs: { ...needs, pci: ['e1000e', 'root port'] } }),
  define('vfio/objects/noiommu', 'Objects', withoutIommu, { needs: { ...needs, iommu: false } }),
];
