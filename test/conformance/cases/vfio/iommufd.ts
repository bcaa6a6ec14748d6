/** Devices of VFIO on an iommufd: what the IOMMU's driver makes of them, memory of theirs, an iommufd as a group's container, a mediated device. */
import type { Kernel } from 'kvio';
import * as u from 'kvio/uapi';
import { type Case, define, type Observer } from '../../case.ts';
import { FIXED, Iommufd, RW, U64_MAX } from '../../iommufd.ts';
import { UNSAFE } from '../../machine.ts';
import { MDEVS, MTTY, store } from '../../parts.ts';
import {
  attempt,
  ConfigSpace,
  cdevOf,
  feature,
  getDevice,
  groupPath,
  join,
  mapRegion,
  s32,
  setContainer,
  u32s,
  u64s,
  view,
  withDevices,
} from '../../vfio.ts';

const PAGE = 0x1000n;
const IOVA = 0x2000000n;

/** A device by its own node, bound to an iommufd of its own. */
export function bound(kernel: Kernel, name: string) {
  const iommufd = new Iommufd(kernel);
  const device = kernel.open(cdevOf(kernel, name));
  const bytes = join(u32s(24, 0), s32(iommufd.fd), u32s(0, 0, 0));
  kernel.ioctl(device, u.VFIO_DEVICE_BIND_IOMMUFD, bytes, UNSAFE);
  const attach = (pt_id: number) => {
    const request = u32s(12, 0, pt_id);
    const returned = attempt(() => kernel.ioctl(device, u.VFIO_DEVICE_ATTACH_IOMMUFD_PT, request, UNSAFE));
    return returned === 0 ? view(request).getUint32(8, true) : returned;
  };
  const detach = () => attempt(() => kernel.ioctl(device, u.VFIO_DEVICE_DETACH_IOMMUFD_PT, u32s(8, 0)));
  return { iommufd, device, devid: view(bytes).getUint32(12, true), attach, detach };
}

function hwInfo({ iommufd }: { iommufd: Iommufd }, dev_id: number, type?: number) {
  const ram = iommufd.kernel.guestRam(0x1000);
  const fields = {
    dev_id,
    data_len: 64,
    data_uptr: ram.address,
    ...(type === undefined ? {} : { flags: 1, in_data_type: type }),
  };
  const { returned, out } = iommufd.call(u.IOMMU_GET_HW_INFO, u.iommu_hw_info, fields);
  if (returned !== 0) return returned;
  const { data_len, out_data_type, out_capabilities, out_max_pasid_log2 } = out;
  return { data_len, out_data_type, out_capabilities, out_max_pasid_log2 };
}

/** What the IOMMU's driver says and takes. */
function hardware(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const scene = bound(kernel, edu!);
  const { iommufd, devid, attach, detach } = scene;
  see.note('GET_HW_INFO', hwInfo(scene, devid));
  for (const type of [0, 1, 2, 4, 0xfeed_beef]) see.note(`GET_HW_INFO of type ${type}`, hwInfo(scene, devid, type));
  const ioas = iommufd.ioas();
  see.note('ranges', iommufd.ranges(ioas));
  for (let flags = 0; flags < 16; flags++) {
    const made = iommufd.hwpt({ dev_id: devid, pt_id: ioas, flags });
    see.note(`HWPT_ALLOC, flags ${flags}`, typeof made === 'number' ? 'a table' : made);
    if (typeof made === 'number') iommufd.destroy(made);
  }
  const ram = kernel.guestRam(0x1000);
  for (const data_type of [1, 2, 3, 0xdead])
    see.note(
      `with data of type ${data_type}`,
      iommufd.hwpt({ dev_id: devid, pt_id: ioas, data_type, data_len: 24, data_uptr: ram.address }),
    );
  const table = iommufd.hwpt({ dev_id: devid, pt_id: ioas });
  see.note('ranges with a table', iommufd.ranges(ioas));
  see.note(
    'nested on it',
    iommufd.hwpt({ dev_id: devid, pt_id: Number(table), data_type: 1, data_len: 24, data_uptr: ram.address }),
  );
  for (const type of [1, 2, 0xdead_beef])
    see.note(`VIOMMU_ALLOC of type ${type}`, iommufd.viommu({ type, dev_id: devid, hwpt_id: Number(table) }));
  see.note(
    'SET_DIRTY_TRACKING',
    iommufd.call(u.IOMMU_HWPT_SET_DIRTY_TRACKING, u.iommu_hwpt_set_dirty_tracking, { hwpt_id: Number(table), flags: 1 }).returned,
  );
  see.note('attached', attach(Number(table)) === table);
  see.note('ranges, attached', iommufd.ranges(ioas));
  see.note('half a page', iommufd.mapAt(ioas, ram.address, IOVA, 0x800n));
  see.note('where interrupts are', iommufd.mapAt(ioas, ram.address, 0xfee0_0000n, PAGE));
  see.note('detached', [detach(), iommufd.ranges(ioas)]);
  const narrow = iommufd.ioas();
  iommufd.mapAt(narrow, ram.address, 0xfee0_0000n, PAGE);
  see.note('attached over a mapping where interrupts are', attach(narrow));
  see.note('a table alone over it', typeof iommufd.hwpt({ dev_id: devid, pt_id: narrow }));
}

/** What the device cannot reach is kept from the address space it is attached to, and from no other any more. */
function movedRanges(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { iommufd, attach } = bound(kernel, edu!);
  const ram = kernel.guestRam(0x1000);
  const [first, second, narrow] = [iommufd.ioas(), iommufd.ioas(), iommufd.ioas()];
  const both = (label: string): void => see.note(label, [iommufd.ranges(first), iommufd.ranges(second)]);
  see.note('attached', typeof attach(first));
  both('attached to the first');
  see.note('attached to the second', typeof attach(second));
  both('moved to the second');
  see.note('the first, where interrupts are', iommufd.mapAt(first, ram.address, 0xfee0_0000n, PAGE));
  iommufd.mapAt(narrow, ram.address, 0xfee0_0000n, PAGE);
  see.note('a third with a mapping there', attach(narrow));
  both('the second still');
  see.note('the second, where interrupts are', iommufd.mapAt(second, ram.address, 0xfee0_0000n, PAGE));
  see.note('back to the first', attach(first));
  both('the second still, again');
}

/** A device's registers, mapped by the process, are no memory. */
function barMemory(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { iommufd, device, attach } = bound(kernel, edu!);
  new ConfigSpace(kernel, device).enable();
  const bar = mapRegion(kernel, device, 0);
  const [lazy, ioas] = [iommufd.ioas(), iommufd.ioas()];
  see.note('without a table', iommufd.mapAt(lazy, bar.address, IOVA, PAGE));
  see.note('attached then', attach(lazy));
  see.note('attached', typeof attach(ioas));
  see.note('mapped for a device', iommufd.mapAt(ioas, bar.address, IOVA, PAGE));
  see.note('to be read only', iommufd.mapAt(ioas, bar.address, IOVA, PAGE, 4));
  bar.close();
}

/** Ranges of a BAR as a dma-buf. */
function exported(kernel: Kernel, device: number, ...ranges: number[]): number {
  const bytes = join(
    u32s(24 + 8 * ranges.length, u.VFIO_DEVICE_FEATURE_GET | u.VFIO_DEVICE_FEATURE_DMA_BUF, 0, 0x80002, 0, ranges.length / 2),
    u64s(...ranges),
  );
  return feature(kernel, device, bytes);
}

function dmaBuf(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { iommufd, device, attach } = bound(kernel, edu!);
  const config = new ConfigSpace(kernel, device);
  config.enable();
  const [lazy, ioas] = [iommufd.ioas(), iommufd.ioas()];
  see.note('attached', typeof attach(ioas));
  const one = see.descriptor('one range', () => exported(kernel, device, 0, 0x4000));
  const two = see.descriptor('two ranges', () => exported(kernel, device, 0, 0x1000, 0x2000, 0x1000));
  if (one < 0 || two < 0) return;
  const map = (ioas_id: number, fd: number, iova: bigint, fields: object = {}) =>
    iommufd.mapFile({ ioas_id, fd, start: 0n, length: PAGE, iova, flags: RW | FIXED, ...fields });
  see.note('mapped', map(ioas, one, IOVA));
  see.note('without a table', map(lazy, one, IOVA));
  see.note('its second page', map(ioas, one, IOVA + PAGE, { start: PAGE }));
  see.note('over its end', map(ioas, one, IOVA + 0x10000n, { length: 0x5000n }));
  see.note('of two ranges', [map(ioas, two, IOVA + 0x20000n), map(lazy, two, IOVA + 0x20000n)]);
  config.write16(4, 0);
  see.note('memory decoding off: mapped', map(ioas, one, IOVA + 0x30000n));
  see.note('of two ranges, off', map(ioas, two, IOVA + 0x30000n));
  config.enable();
  see.note('on again: mapped', map(ioas, one, IOVA + 0x30000n));
  see.note('what was mapped before keeps its place', map(ioas, one, IOVA));
  see.call('DEVICE_RESET', () => kernel.ioctl(device, u.VFIO_DEVICE_RESET));
  for (const fd of [one, two]) kernel.close(fd);
  see.note('its files closed: all of it goes', [iommufd.unmapAll(ioas), iommufd.unmapAll(lazy)]);
}

/** Low power revokes what is exported, however often it is entered; leaving it, and a write of COMMAND, give it back. */
function dmaBufInLowPower(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const { iommufd, device } = bound(kernel, edu!);
  const config = new ConfigSpace(kernel, device);
  config.enable();
  const ioas = iommufd.ioas();
  const one = see.descriptor('a range', () => exported(kernel, device, 0, 0x4000));
  if (one < 0) return;
  const map = (): unknown => {
    const mapped = iommufd.mapFile({ ioas_id: ioas, fd: one, start: 0n, length: PAGE, iova: IOVA, flags: RW | FIXED });
    iommufd.unmapAll(ioas);
    return mapped;
  };
  const set = (number: number) => attempt(() => feature(kernel, device, u32s(8, number | u.VFIO_DEVICE_FEATURE_SET)));
  const { VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY: entry, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT: exit } = u;
  see.note('mapped', map());
  see.note('ENTRY', [set(entry), map()]);
  see.note('ENTRY again', [set(entry), map()]);
  config.enable();
  see.note('COMMAND written', map());
  see.note('ENTRY once more', [set(entry), map()]);
  see.note('EXIT', [set(exit), map()]);
  see.note('EXIT again', [set(exit), map()]);
}

/** An iommufd as a container: an address space is made where none is set. */
function compatIoas(kernel: Kernel, see: Observer, [edu]: string[]): void {
  const iommufd = new Iommufd(kernel);
  const vfioIoas = (operation: number, ioas_id = 0) => {
    const { returned, out } = iommufd.call(u.IOMMU_VFIO_IOAS, u.iommu_vfio_ioas, { op: operation, ioas_id });
    return returned === 0 ? out.ioas_id : returned;
  };
  const group = kernel.open(groupPath(kernel, edu!));
  const unset = () => attempt(() => kernel.ioctl(group, u.VFIO_GROUP_UNSET_CONTAINER));
  iommufd.ioas();
  iommufd.ioas();
  iommufd.destroy(1);
  see.note('before', vfioIoas(0));
  see.call('SET_CONTAINER', () => setContainer(kernel, group, iommufd.fd));
  see.note('the lowest free id', vfioIoas(0));
  see.call('SET_CONTAINER again', () => setContainer(kernel, group, iommufd.fd));
  see.note('UNSET_CONTAINER', unset());
  see.note('it stays', vfioIoas(0));
  see.call('SET_CONTAINER with one set', () => setContainer(kernel, group, iommufd.fd));
  see.note('the same', vfioIoas(0));
  const device = see.descriptor('GET_DEVICE_FD', () => getDevice(kernel, group, edu!));
  see.note('DESTROY of the address space', iommufd.destroy(1));
  see.note('ids that were taken', iommufd.ioas());
  see.note('ranges', iommufd.ranges(1).ranges.length);
  see.note('CLEAR', vfioIoas(2));
  kernel.close(device);
  see.note('DESTROY then', iommufd.destroy(1));
  see.note('UNSET_CONTAINER then', unset());
  see.call('an eventfd', () => setContainer(kernel, group, kernel.eventfd()));
  see.call('a number nobody has', () => setContainer(kernel, group, 999));
}

/** A mediated device is an access of the kernel's own: no page table, whole pages. */
function mediated(kernel: Kernel, see: Observer): void {
  store(kernel, `${MTTY}/mdev_supported_types/mtty-2/create`, MDEVS[0]);
  const scene = bound(kernel, MDEVS[0]);
  const { iommufd, device, devid, attach, detach } = scene;
  see.note('id', devid);
  const [one, two] = [iommufd.ioas(), iommufd.ioas()];
  const ram = kernel.guestRam(0x4000);
  see.note('GET_HW_INFO', hwInfo(scene, devid));
  see.note('HWPT_ALLOC', iommufd.hwpt({ dev_id: devid, pt_id: one }));
  see.note('VIOMMU_ALLOC', iommufd.viommu({ type: 1, dev_id: devid, hwpt_id: one }));
  see.note('DESTROY', iommufd.destroy(devid));
  see.note('attached to itself', attach(devid));
  see.note('to nothing', attach(99));
  iommufd.mapAt(two, ram.address, IOVA, 0x800n);
  see.note('to one with half a page', attach(two));
  iommufd.unmapAll(two);
  see.note('to one', attach(one));
  see.note('ranges', iommufd.ranges(one));
  see.note('half a page', iommufd.mapAt(one, ram.address, IOVA, 0x800n));
  see.note('memory nobody has', iommufd.mapAt(one, 0x10000n, IOVA, PAGE));
  see.note('DESTROY of it', iommufd.destroy(one));
  see.note('to the other: replaced', [attach(two), iommufd.ranges(one).alignment, iommufd.ranges(two).alignment]);
  see.note(
    'PASID',
    attempt(() => kernel.ioctl(device, u.VFIO_DEVICE_ATTACH_IOMMUFD_PT, u32s(16, 1, two, 1), UNSAFE)),
  );
  see.note('unmapped', iommufd.unmap(one, 0n, U64_MAX));
  see.note('DESTROY of the first', iommufd.destroy(one));
  see.note('detached', [detach(), detach(), iommufd.ranges(two).alignment]);
  see.note('DESTROY of the second', iommufd.destroy(two));
  kernel.close(device);
  see.note('closed: its id is free', iommufd.ioas());
}

const of = (
  what: string,
  parts: Parameters<typeof withDevices>[2],
  body: (kernel: Kernel, see: Observer, addresses: string[]) => void,
): Case =>
  withDevices(`vfio/iommufd/${what}`, 'VFIO on iommufd', parts, body, {
    needs: { devices: ['/dev/vfio/vfio', '/dev/iommu'], iommu: true },
  });

export const iommufdDeviceCases: readonly Case[] = [
  of('hardware', ['edu'], hardware),
  of('moved-ranges', ['edu'], movedRanges),
  of('bar-memory', ['edu'], barMemory),
  of('dma-buf', ['edu'], dmaBuf),
  of('dma-buf in low power', ['edu'], dmaBufInLowPower),
  of('compat-ioas', ['edu'], compatIoas),
  define('vfio/iommufd/mediated', 'VFIO on iommufd', mediated, { needs: { devices: ['/dev/iommu'], mtty: true } }),
];
