/** Taking the driver away from a device in use: it waits for its user, whom it asks to go. */
import type { Kernel } from 'kvio';
import {
  EFD_NONBLOCK,
  O_CLOEXEC,
  O_RDWR,
  POLLIN,
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_GET_INFO,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  VFIO_PCI_REQ_IRQ_INDEX,
} from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { FIXED, Iommufd, RW } from '../../iommufd.ts';
import { storeLater } from '../../later.ts';
import { UNSAFE } from '../../machine.ts';
import { bindToVfio, driverOf, exists, pci } from '../../parts.ts';
import {
  ASSISTED,
  attempt,
  awaited,
  ConfigSpace,
  cdevOf,
  feature,
  getDevice,
  groupPath,
  join,
  mapRegion,
  openDevice,
  s32,
  setTrigger,
  taken,
  u32s,
  u64s,
  vfioName,
  withDevices,
} from '../../vfio.ts';

const UNBIND = 'driver/unbind';
const pause = (milliseconds = 50): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function inUse(kernel: Kernel, see: Observer, [edu]: string[]): Promise<void> {
  const { group, device } = openDevice(kernel, edu!);
  const request = kernel.eventfd(0, EFD_NONBLOCK);
  see.call('SET_IRQS, REQ', () => setTrigger(kernel, device, VFIO_PCI_REQ_IRQ_INDEX, request));
  const name = vfioName(kernel, edu!)!;
  const bar = mapRegion(kernel, device, 0);
  const unbind = await storeLater(kernel, `${pci(edu!)}/${UNBIND}`, edu!);
  see.note('asked to go', (await awaited(kernel, request)) > 0);
  await pause();
  see.note('unbind waits', unbind.answer === undefined);
  see.note('driver', driverOf(kernel, edu!) ?? 'none');
  see.note(
    'the cdev',
    attempt(() => kernel.open(`/dev/vfio/devices/${name}`)),
  );
  const again = see.descriptor('GET_DEVICE_FD', () => getDevice(kernel, group, edu!));
  if (again >= 0) kernel.close(again);
  see.note(
    'GET_STATUS',
    attempt(() => kernel.ioctl(group, VFIO_GROUP_GET_STATUS, u32s(8, 0))),
  );
  see.note(
    'the device answers',
    attempt(() => kernel.ioctl(device, VFIO_DEVICE_GET_INFO, u32s(24, 0, 0, 0, 0, 0))),
  );
  see.note('and its configuration space', new ConfigSpace(kernel, device).read16(0));
  see.note(
    'and its BAR',
    attempt(() => (bar.read32(0) === undefined ? 1 : 0)),
  );
  kernel.close(device);
  await pause();
  see.note('closed, a mapping left: unbind waits', unbind.answer === undefined);
  bar.close();
  see.note('unmapped: unbind', await unbind.ended());
  see.note('driver, afterwards', driverOf(kernel, edu!) ?? 'none');
  see.note(
    'the group left open: GET_STATUS',
    attempt(() => kernel.ioctl(group, VFIO_GROUP_GET_STATUS, u32s(8, 0))),
  );
  see.note(
    'SET_CONTAINER',
    attempt(() => kernel.ioctl(group, VFIO_GROUP_SET_CONTAINER, s32(kernel.open('/dev/vfio/vfio')))),
  );
  see.note(
    'UNSET_CONTAINER',
    attempt(() => kernel.ioctl(group, VFIO_GROUP_UNSET_CONTAINER)),
  );
  see.note(
    'GET_DEVICE_FD, afterwards',
    attempt(() => getDevice(kernel, group, edu!)),
  );
  kernel.close(group);
  bindToVfio(kernel, edu!);
  see.note('bound again, its number is', vfioName(kernel, edu!));
}

/** A cdev that is merely open is in its way, too. */
async function openCdev(kernel: Kernel, see: Observer, [edu]: string[]): Promise<void> {
  const path = cdevOf(kernel, edu!);
  const fd = kernel.open(path);
  const unbind = await storeLater(kernel, `${pci(edu!)}/${UNBIND}`, edu!);
  await pause();
  see.note('unbind waits', unbind.answer === undefined);
  see.call('the cdev again', () => kernel.open(path));
  kernel.close(fd);
  see.note('closed: unbind', await unbind.ended());
}

/** A group that is merely open is not. */
async function openGroupOnly(kernel: Kernel, see: Observer, [edu]: string[]): Promise<void> {
  const group = kernel.open(groupPath(kernel, edu!));
  const unbind = await storeLater(kernel, `${pci(edu!)}/${UNBIND}`, edu!);
  see.note('unbind', await unbind.ended());
  see.note(
    'GET_STATUS',
    attempt(() => kernel.ioctl(group, VFIO_GROUP_GET_STATUS, u32s(8, 0))),
  );
  bindToVfio(kernel, edu!);
  see.note(
    'bound again: GET_STATUS by the old descriptor',
    attempt(() => kernel.ioctl(group, VFIO_GROUP_GET_STATUS, u32s(8, 0))),
  );
  see.note('the group of now', typeof attempt(() => kernel.open(groupPath(kernel, edu!))));
}

/** Without anybody to ask: it waits all the same. */
async function unasked(kernel: Kernel, see: Observer, [edu]: string[]): Promise<void> {
  const { device, group, container } = openDevice(kernel, edu!);
  const unbind = await storeLater(kernel, `${pci(edu!)}/${UNBIND}`, edu!);
  await pause();
  see.note('unbind waits', unbind.answer === undefined);
  kernel.close(group);
  kernel.close(container);
  await pause();
  see.note('group and container closed: it waits', unbind.answer === undefined);
  kernel.close(device);
  see.note('the device closed: unbind', await unbind.ended());
}

/** Whoever does not go is asked again. */
async function askedAgain(kernel: Kernel, see: Observer, [edu]: string[]): Promise<void> {
  const { device, group, container } = openDevice(kernel, edu!);
  const request = kernel.eventfd(0, EFD_NONBLOCK);
  setTrigger(kernel, device, VFIO_PCI_REQ_IRQ_INDEX, request);
  const unbind = await storeLater(kernel, `${pci(edu!)}/${UNBIND}`, edu!);
  see.note('asked to go', (await awaited(kernel, request)) > 0);
  const asked = (milliseconds: number): number =>
    kernel.poll([{ fd: request, events: POLLIN }], milliseconds)[0]! === 0 ? 0 : taken(kernel, request);
  see.note('in the seconds after that', asked(3_000));
  see.note('once more', asked(20_000));
  for (const fd of [device, group, container]) kernel.close(fd);
  see.note('closed: unbind', await unbind.ended());
}

/** A cdev that is opened and bound to nothing keeps the driver. It can be bound still where that resets nothing: a reset would need the lock that unbind has. */
async function bindTooLate(kernel: Kernel, see: Observer, [edu]: string[]): Promise<void> {
  const path = cdevOf(kernel, edu!);
  const device = kernel.open(path);
  const iommufd = kernel.open('/dev/iommu');
  const unbind = await storeLater(kernel, `${pci(edu!)}/${UNBIND}`, edu!);
  for (const end = Date.now() + 20_000; exists(kernel, path) && Date.now() < end; ) await pause(5);
  see.note('its node', exists(kernel, path));
  see.note('unbind waits', unbind.answer === undefined);
  const bytes = join(u32s(24, 0), s32(iommufd), u32s(0, 0, 0));
  see.call('BIND_IOMMUFD', () => kernel.ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, bytes, UNSAFE));
  see.call('BIND_IOMMUFD of no iommufd', () =>
    kernel.ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, join(u32s(24, 0), s32(kernel.eventfd()), u32s(0, 0, 0)), UNSAFE),
  );
  kernel.close(device);
  see.note('closed: unbind', await unbind.ended());
}

/** A dma-buf keeps nobody, and is of nothing afterwards; nor does it come back with the device. */
async function dmaBufLeft(kernel: Kernel, see: Observer, [edu]: string[]): Promise<void> {
  const { device, group, container } = openDevice(kernel, edu!);
  const get = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF;
  const buffer = feature(kernel, device, join(u32s(40, get, 0, O_CLOEXEC | O_RDWR, 0, 1), u64s(0, 0x1000)));
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  const map = (): unknown =>
    iommufd.mapFile({ ioas_id: ioas, fd: buffer, start: 0n, length: 0x1000n, iova: 0x100000n, flags: RW | FIXED });
  const unbind = await storeLater(kernel, `${pci(edu!)}/${UNBIND}`, edu!);
  await pause();
  see.note('unbind waits', unbind.answer === undefined);
  for (const fd of [device, group, container]) kernel.close(fd);
  see.note('closed, a dma-buf left: unbind', await unbind.ended());
  see.note('MAP_FILE', map());
  bindToVfio(kernel, edu!);
  const again = openDevice(kernel, edu!);
  see.note('bound and opened again: MAP_FILE', map());
  for (const fd of [again.device, again.group, again.container]) kernel.close(fd);
}

const withIommufd = { needs: { ...ASSISTED.needs, devices: ['/dev/iommu'] } };

export const removalCases: readonly Case[] = [
  withDevices('vfio/removal/in-use', 'Removal', ['edu'], inUse),
  withDevices('vfio/removal/unasked', 'Removal', ['edu'], unasked),
  withDevices('vfio/removal/open-cdev', 'Removal', ['edu'], openCdev, ASSISTED),
  withDevices('vfio/removal/asked-again', 'Removal', ['edu'], askedAgain),
  withDevices('vfio/removal/bind-too-late of edu', 'Removal', ['edu'], bindTooLate, withIommufd),
  withDevices('vfio/removal/bind-too-late of nvme', 'Removal', ['nvme'], bindTooLate, withIommufd),
  withDevices('vfio/removal/dma-buf-left', 'Removal', ['edu'], dmaBufLeft, withIommufd),
  withDevices('vfio/removal/open-group', 'Removal', ['edu'], openGroupOnly),
];
