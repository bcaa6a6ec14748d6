/** mtty, the kernel's sample of a mediated device: a serial port nobody made, which can be migrated. Its BAR 2 to 5 and the end of its configuration space are left alone. */
import type { Kernel } from 'kvio';
import {
  EFD_NONBLOCK,
  VFIO_CHECK_EXTENSION,
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_IOEVENTFD,
  VFIO_DEVICE_RESET,
  VFIO_IOMMU_GET_INFO,
  VFIO_MIG_GET_PRECOPY_INFO,
  VFIO_SET_IOMMU,
} from 'kvio/uapi';
import { type Case, define, type Observer } from '../../case.ts';
import { storeLater } from '../../later.ts';
import { UNSAFE } from '../../machine.ts';
import { link, MDEVS, MTTY, mdev, show, store } from '../../parts.ts';
import {
  attempt,
  feature,
  getDevice,
  join,
  mapDma,
  NOWHERE,
  region,
  s32,
  setContainer,
  setIrqs,
  taken,
  u32s,
  u64s,
  unmapDma,
  vfioName,
  view,
} from '../../vfio.ts';

const [UUID, OTHER] = MDEVS;
const TYPES = `${MTTY}/mdev_supported_types`;

const create = (kernel: Kernel, type = 'mtty-2', uuid: string = UUID): number => store(kernel, `${TYPES}/${type}/create`, uuid);
const groupPath = (kernel: Kernel, uuid: string = UUID): string => `/dev/vfio/${link(kernel, `${mdev(uuid)}/iommu_group`)}`;

/** A port, opened through a container of its own. */
function open(kernel: Kernel, type = 'mtty-2') {
  create(kernel, type);
  const container = kernel.open('/dev/vfio/vfio');
  const group = kernel.open(groupPath(kernel));
  setContainer(kernel, group, container);
  kernel.ioctl(container, VFIO_SET_IOMMU, 3);
  return { container, group, device: getDevice(kernel, group, UUID) };
}

function sysfs(kernel: Kernel, see: Observer): void {
  for (const type of ['mtty-1', 'mtty-2'])
    for (const name of ['name', 'device_api', 'available_instances'])
      see.call(`${type}/${name}`, () => show(kernel, `${TYPES}/${type}/${name}`));
  const write = (label: string, path: string, text: string): unknown => see.call(label, () => store(kernel, path, text));
  const at = `${TYPES}/mtty-2/create`;
  write('create: nothing', at, '\n');
  write('create: too short', at, UUID.slice(0, 35));
  write('create: two more', at, `${UUID}00`);
  write('create: one more, whatever it is', at, `${UUID}0`);
  write('remove', `${mdev(UUID)}/remove`, '1');
  write('create: no UUID', at, UUID.replace('8', 'x'));
  write('create', at, `${UUID}\n`);
  write('create again', at, UUID);
  write('create again, of the other type', `${TYPES}/mtty-1/create`, UUID);
  see.call('available_instances', () => show(kernel, `${TYPES}/mtty-2/available_instances`));
  see.note('driver', link(kernel, `${mdev(UUID)}/driver`));
  see.note('mdev_type', link(kernel, `${mdev(UUID)}/mdev_type`));
  see.note('vfio-dev', vfioName(kernel, UUID));
  const group = link(kernel, `${mdev(UUID)}/iommu_group`);
  see.call('the name of its group', () => show(kernel, `/sys/kernel/iommu_groups/${group}/name`));
  see.call('the type of its group', () => show(kernel, `/sys/kernel/iommu_groups/${group}/type`));
  see.call('reserved regions of its group', () => show(kernel, `/sys/kernel/iommu_groups/${group}/reserved_regions`));
  see.call('its node has no prefix', () => kernel.close(kernel.open(`/dev/vfio/${group}`)));
  see.call('noiommu-N', () => kernel.open(`/dev/vfio/noiommu-${group}`));
  write('a second', `${TYPES}/mtty-1/create`, OTHER);
  see.call('instances of one port', () => show(kernel, `${TYPES}/mtty-1/available_instances`));
  write('remove again', `${mdev(UUID)}/remove`, '1');
  see.call('removed: the node', () => kernel.open(`/dev/vfio/${group}`));
  write('the second removed', `${mdev(OTHER)}/remove`, '1');
  see.call('instances, as before', () => show(kernel, `${TYPES}/mtty-1/available_instances`));
}

function type1(kernel: Kernel, see: Observer): void {
  create(kernel);
  const container = kernel.open('/dev/vfio/vfio');
  const group = kernel.open(groupPath(kernel));
  see.call('SET_CONTAINER', () => setContainer(kernel, group, container));
  see.call('SET_IOMMU', () => kernel.ioctl(container, VFIO_SET_IOMMU, 3));
  for (const arg of [1, 3, 4, 8, 9, 10])
    see.call(`CHECK_EXTENSION(${arg})`, () => kernel.ioctl(container, VFIO_CHECK_EXTENSION, arg));
  const info = new Uint8Array(128);
  info.set(u32s(128));
  see.call('GET_INFO', () => kernel.ioctl(container, VFIO_IOMMU_GET_INFO, info));
  see.note('its bytes: no ranges', info);
  const map = (label: string, vaddr: bigint, iova: bigint, size = 0x1000n): unknown =>
    see.call(label, () => mapDma(kernel, container, { vaddr, iova, size }));
  map('MAP of nothing', 0x10000n, 0n);
  map('MAP of nowhere', NOWHERE, 0x1000n);
  map('MAP not canonical', 1n << 60n, 0x2000n);
  map('MAP in what is a hole elsewhere', 0x10000n, 0xfee00000n);
  map('MAP at the top', 0x10000n, 0xffff_ffff_ffff_f000n);
  map('MAP of all that is left', 0x10000n, 0x1_0000_0000n, 1n << 40n);
  map('MAP over it', 0x10000n, 0x1_0000_0000n);
  see.note('UNMAP VADDR', unmapDma(kernel, container, { flags: 4, iova: 0, size: 0x1000 }));
  see.note('UNMAP', unmapDma(kernel, container, { iova: 0, size: 0x3000 }));
  see.note('UNMAP ALL', unmapDma(kernel, container, { flags: 2 }));
  for (const [label, name] of [
    ['GET_DEVICE_FD, upper case', UUID.toUpperCase()],
    ['GET_DEVICE_FD, a space behind', `${UUID} `],
    ['GET_DEVICE_FD, an option', `${UUID} vf_token=00112233-4455-6677-8899-aabbccddeeff`],
    ['GET_DEVICE_FD', UUID],
  ] as const)
    see.descriptor(label, () => getDevice(kernel, group, name));
}

/** Nothing is pinned for a mediated device alone, so nothing is charged to who maps. */
function lockedMemory(kernel: Kernel, see: Observer): void {
  const { container } = open(kernel);
  const ram = kernel.guestRam(0x10000);
  const locked = (): number => Number(/^VmLck:\s+(\d+) kB/m.exec(show(kernel, '/proc/self/status'))![1]);
  const before = locked();
  see.call('MAP', () => mapDma(kernel, container, { vaddr: ram.address, iova: 0, size: 0x10000 }));
  see.note('charged', locked() - before);
  see.note('UNMAP', unmapDma(kernel, container, { iova: 0, size: 0x10000 }));
  see.note('charged afterwards', locked() - before);
}

function info(kernel: Kernel, see: Observer): void {
  const { device } = open(kernel);
  const irq = (index: number): void => {
    const bytes = u32s(16, 0, index, 0xcafe);
    see.call(`IRQ_INFO ${index}`, () => kernel.ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, bytes));
    see.note(`IRQ_INFO ${index}: bytes`, bytes);
  };
  for (const argsz of [0, 15, 16, 24]) {
    const bytes = new Uint8Array(32).fill(0xee);
    bytes.set(u32s(argsz, 0));
    see.call(`GET_INFO, argsz ${argsz}`, () => kernel.ioctl(device, VFIO_DEVICE_GET_INFO, bytes, UNSAFE));
    see.note(`GET_INFO, argsz ${argsz}: bytes`, bytes);
  }
  for (let index = 0; index < 6; index++) irq(index);
  for (let index = 0; index < 11; index++) {
    const bytes = new Uint8Array(40).fill(0xee);
    bytes.set(u32s(32, 0xdeadbeef, index, 0xcafe));
    see.call(`REGION_INFO ${index}`, () => kernel.ioctl(device, VFIO_DEVICE_GET_REGION_INFO, bytes, UNSAFE));
    see.note(`REGION_INFO ${index}: bytes`, bytes);
  }
  see.call('RESET', () => kernel.ioctl(device, VFIO_DEVICE_RESET));
  see.call('HOT_RESET_INFO', () => kernel.ioctl(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, 0, UNSAFE));
  see.call('IOEVENTFD', () => kernel.ioctl(device, VFIO_DEVICE_IOEVENTFD, 0, UNSAFE));
  see.call('an unknown ioctl', () => kernel.ioctl(device, 0x3bff, 0, UNSAFE));
  see.call('mmap', () => kernel.mmap({ fd: device, length: 4096, view: false }));
}

const NONE = 1;
const BOOL = 2;
const EVENTFD = 4;
const MASK = 8;
const UNMASK = 16;
const TRIGGER = 32;

/** Before GET_INFO was asked once, the device has no interrupts. */
function irqs(kernel: Kernel, see: Observer): void {
  const { device } = open(kernel);
  const eventfd = kernel.eventfd(0, EFD_NONBLOCK);
  const set = (
    label: string,
    flags: number,
    index: number,
    count: number,
    data: Uint8Array = new Uint8Array(0),
    start = 0,
  ): unknown => see.call(label, () => setIrqs(kernel, device, { flags, index, start, count, data }));
  const bytes = u32s(16, 0, 0, 0xcafe);
  see.call('IRQ_INFO, before GET_INFO', () => kernel.ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, bytes));
  set('SET_IRQS, before GET_INFO', EVENTFD | TRIGGER, 0, 1, s32(eventfd));
  see.call('GET_INFO', () => kernel.ioctl(device, VFIO_DEVICE_GET_INFO, u32s(16, 0, 0, 0)));
  see.call('IRQ_INFO', () => kernel.ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, bytes));
  for (const index of [0, 1]) {
    set(`index ${index}: no action`, NONE, index, 0);
    set(`index ${index}: two actions`, NONE | MASK | UNMASK, index, 0);
    set(`index ${index}: off when off`, NONE | TRIGGER, index, 0);
    set(`index ${index}: a number nobody has`, EVENTFD | TRIGGER, index, 1, s32(999));
    set(`index ${index}: a memfd`, EVENTFD | TRIGGER, index, 1, s32(kernel.memfd('x')));
    set(`index ${index}: fd -1`, EVENTFD | TRIGGER, index, 1, s32(-1));
    set(`index ${index}: count 2`, EVENTFD | TRIGGER, index, 2, s32(eventfd, eventfd));
    set(`index ${index}: start 1`, EVENTFD | TRIGGER, index, 1, s32(eventfd), 1);
    set(`index ${index}: an eventfd`, EVENTFD | TRIGGER, index, 1, s32(eventfd));
    set(`index ${index}: MASK`, NONE | MASK, index, 1);
    set(`index ${index}: UNMASK`, NONE | UNMASK, index, 1);
    set(`index ${index}: off`, NONE | TRIGGER, index, 0);
  }
  for (const index of [2, 3, 4, 5]) set(`index ${index}`, NONE | TRIGGER, index, 0);
  set('index 2: an eventfd', EVENTFD | TRIGGER, 2, 1, s32(eventfd));
  set('index 2: no action', NONE, 2, 0);
}

/** What GET_INFO has made known stays so for who opens the device next. */
function irqsKnown(kernel: Kernel, see: Observer): void {
  const { container, group, device } = open(kernel);
  const ask = (fd: number): number => kernel.ioctl(fd, VFIO_DEVICE_GET_IRQ_INFO, u32s(16, 0, 0, 0));
  see.call('IRQ_INFO, before GET_INFO', () => ask(device));
  const copy = getDevice(kernel, group, UUID);
  see.call('GET_INFO, by another descriptor', () => kernel.ioctl(copy, VFIO_DEVICE_GET_INFO, u32s(16, 0, 0, 0)));
  see.call('IRQ_INFO', () => ask(device));
  for (const fd of [copy, device, group, container]) kernel.close(fd);
  const again = kernel.open('/dev/vfio/vfio');
  const groupAgain = kernel.open(groupPath(kernel));
  setContainer(kernel, groupAgain, again);
  kernel.ioctl(again, VFIO_SET_IOMMU, 3);
  const deviceAgain = getDevice(kernel, groupAgain, UUID);
  see.call('opened again: IRQ_INFO', () => ask(deviceAgain));
}

/** Loopback on INTx masks it: the second is lost before UNMASK, which makes up for none. */
function intx(kernel: Kernel, see: Observer): void {
  const { device } = open(kernel);
  kernel.ioctl(device, VFIO_DEVICE_GET_INFO, u32s(16, 0, 0, 0));
  const eventfd = kernel.eventfd(0, EFD_NONBLOCK);
  const set = (label: string, flags: number, count = 1, data: Uint8Array = new Uint8Array(0)): unknown =>
    see.call(label, () => setIrqs(kernel, device, { flags, index: 0, count, data }));
  set('enable', EVENTFD | TRIGGER, 1, s32(eventfd));
  set('NONE', NONE | TRIGGER);
  see.note('one', taken(kernel, eventfd));
  set('NONE again', NONE | TRIGGER);
  see.note('masked: none', taken(kernel, eventfd));
  set('UNMASK', NONE | UNMASK);
  see.note('not made up for', taken(kernel, eventfd));
  set('NONE, unmasked', NONE | TRIGGER);
  see.note('one more', taken(kernel, eventfd));
  set('UNMASK by an eventfd', EVENTFD | UNMASK, 1, s32(eventfd));
  set('BOOL 0', BOOL | TRIGGER, 1, Uint8Array.of(0));
  set('UNMASK, BOOL', BOOL | UNMASK, 1, Uint8Array.of(1));
  set('BOOL 1', BOOL | TRIGGER, 1, Uint8Array.of(1));
  see.note('by BOOL', taken(kernel, eventfd));
}

function regions(kernel: Kernel, see: Observer): void {
  const { device } = open(kernel);
  const config = new Uint8Array(0x40);
  see.call('read of configuration', () => kernel.pread(device, config, region(7)));
  see.note('configuration', config);
  const text = new Uint8Array(0x18);
  kernel.pread(device, text, region(7, 0x60));
  see.note('at 0x60', Buffer.from(text).toString('latin1').replaceAll('\0', ''));
  const reg = (at: number): number => {
    const bytes = new Uint8Array(1);
    kernel.pread(device, bytes, region(0, at));
    return bytes[0]!;
  };
  const put = (at: number, value: number): number => kernel.pwrite(device, Uint8Array.of(value), region(0, at));
  see.note('UART registers', [1, 2, 3, 4, 5, 6, 7].map(reg));
  see.call('MCR: loopback', () => put(4, 0x10));
  see.call('a byte sent', () => put(0, 0x41));
  see.note('LSR', reg(5));
  see.note('received', reg(0));
  see.note('LSR, empty', reg(5));
  for (const at of [0x10, 0x14]) kernel.pwrite(device, new Uint8Array(4).fill(0xff), region(7, at));
  const bars = new Uint8Array(16);
  kernel.pread(device, bars, region(7, 0x10));
  see.note('BARs sized', bars);
  for (const index of [6, 8, 9, 100]) {
    see.call(`read of region ${index}`, () => kernel.pread(device, new Uint8Array(1), region(index)));
    see.call(`write of region ${index}`, () => kernel.pwrite(device, new Uint8Array(1), region(index)));
  }
  see.call('read of nothing', () => kernel.pread(device, new Uint8Array(0), region(9)));
  kernel.pwrite(device, Uint8Array.of(7, 4), region(7, 4));
  const command = new Uint8Array(4);
  kernel.pread(device, command, region(7, 4));
  see.note('COMMAND, written', command);
}

const GET = 0x10000;
const SET = 0x20000;
const PROBE = 0x40000;

function features(kernel: Kernel, see: Observer): void {
  const { device } = open(kernel);
  for (let number = 0; number < 14; number++)
    see.note(
      `feature ${number}`,
      Object.fromEntries(
        Object.entries({ probe: PROBE, 'probe get': PROBE | GET, 'probe set': PROBE | SET }).map(([name, flags]) => [
          name,
          attempt(() => feature(kernel, device, join(u32s(8, number | flags), new Uint8Array(64)))),
        ]),
      ),
    );
  const migration = join(u32s(16, 1 | GET), u64s(0));
  see.call('MIGRATION', () => feature(kernel, device, migration));
  see.note('its flags', view(migration).getBigUint64(8, true));
  const size = join(u32s(16, 9 | GET), u64s(0));
  see.call('MIG_DATA_SIZE', () => feature(kernel, device, size));
  see.note('its size', view(size).getBigUint64(8, true));
}

/** Every step between two states that the kernel knows: which succeed, what state is left, and where a data descriptor is given. */
function migration(kernel: Kernel, see: Observer): void {
  const { device } = open(kernel);
  const state = (): number => {
    const bytes = join(u32s(16, 2 | GET), u32s(0, 0));
    kernel.ioctl(device, 0x3b75, bytes);
    return view(bytes).getUint32(8, true);
  };
  const change = (to: number) => {
    const bytes = join(u32s(16, 2 | SET), u32s(to, 0x7777));
    const returned = attempt(() => feature(kernel, device, bytes));
    const fd = view(bytes).getInt32(12, true);
    return { returned, state: view(bytes).getUint32(8, true), fd };
  };
  see.note('at first', state());
  see.note(
    'its data descriptor by GET is none',
    (() => {
      const bytes = join(u32s(16, 2 | GET), u32s(0, 0));
      kernel.ioctl(device, 0x3b75, bytes);
      return view(bytes).getInt32(12, true) === -1;
    })(),
  );
  for (const from of [1, 2, 3, 4, 5, 6, 7])
    for (const to of [0, 1, 2, 3, 4, 5, 6, 7, 8]) {
      kernel.ioctl(device, VFIO_DEVICE_RESET);
      for (const step of from === 4 ? [1, 4] : from === 3 ? [1, 3] : [from]) {
        const { fd } = change(step);
        if (fd >= 0 && fd !== 0x7777) kernel.close(fd);
      }
      if (state() !== from) {
        see.note(`${from} to ${to}`, `state ${state()} instead of ${from}`);
        continue;
      }
      const { returned, state: shown, fd } = change(to);
      see.note(`${from} to ${to}`, {
        returned,
        shown,
        fd: fd < 0 ? 'none' : fd === 0x7777 ? 'as it was' : 'a descriptor',
        now: state(),
      });
      if (fd >= 0 && fd !== 0x7777) kernel.close(fd);
    }
}

/** The stream: saved from one port, loaded into it again. */
function stream(kernel: Kernel, see: Observer): void {
  const { device } = open(kernel);
  const change = (to: number): number => {
    const bytes = join(u32s(16, 2 | SET), u32s(to, 0));
    feature(kernel, device, bytes);
    return view(bytes).getInt32(12, true);
  };
  const step = (to: number): string => (change(to) < 0 ? 'no descriptor' : 'a descriptor');
  kernel.pwrite(device, Uint8Array.of(0x33), region(0, 7));
  change(1);
  const out = change(3);
  const data = new Uint8Array(256);
  const count = kernel.read(out, data);
  see.note('length', count);
  see.note('stream', data.slice(0, 24));
  see.note(
    'at its end',
    attempt(() => kernel.read(out, new Uint8Array(8))),
  );
  see.call('pread of the stream', () => kernel.pread(out, new Uint8Array(8), 0));
  see.call('write to what is read', () => kernel.write(out, new Uint8Array(8)));
  see.call('PRECOPY_INFO outside of it', () => kernel.ioctl(out, VFIO_MIG_GET_PRECOPY_INFO, join(u32s(24, 0), u64s(0, 0))));
  change(1);
  see.call('a stream whose session is over', () => kernel.read(out, new Uint8Array(8)));
  const into = change(4);
  see.call('read of what is written', () => kernel.read(into, new Uint8Array(8)));
  see.call('PRECOPY_INFO of what is written', () => kernel.ioctl(into, VFIO_MIG_GET_PRECOPY_INFO, join(u32s(24, 0), u64s(0, 0))));
  see.call('half of it', () => kernel.write(into, data.slice(0, 30)));
  see.call('to STOP with half', () => step(1));
  see.call('the rest', () => kernel.write(into, data.slice(30, count)));
  see.call('more than that', () => kernel.write(into, new Uint8Array(64)));
  see.call('to STOP', () => step(1));
  see.call('to RUNNING', () => step(2));
  const again = change(6);
  const info = join(u32s(24, 0xffff), u64s(0, 0));
  see.call('PRECOPY_INFO', () => kernel.ioctl(again, VFIO_MIG_GET_PRECOPY_INFO, info));
  see.note('PRECOPY_INFO: bytes', info);
  see.call('PRECOPY_INFO, argsz 23', () => kernel.ioctl(again, VFIO_MIG_GET_PRECOPY_INFO, join(u32s(23, 0), u64s(0, 0))));
  see.call('an unknown ioctl', () => kernel.ioctl(again, 0x3bff, 0, UNSAFE));
  const early = new Uint8Array(256);
  see.note(
    'read before it stops',
    attempt(() => kernel.read(again, early)),
  );
  see.note(
    'read again',
    attempt(() => kernel.read(again, early)),
  );
  see.note('poll', kernel.poll([{ fd: again, events: 5 }]));
}

function logging(kernel: Kernel, see: Observer): void {
  const { device } = open(kernel);
  const ranges = kernel.guestRam(0x4000);
  const start = (
    label: string,
    pageSize: bigint | number,
    count: number,
    list: readonly (bigint | number)[],
    address = ranges.address,
  ): void => {
    ranges.write(0, u64s(...list));
    const bytes = join(u32s(32, 6 | SET), u64s(pageSize), u32s(count, 0), u64s(address));
    see.call(`START, ${label}`, () => feature(kernel, device, bytes));
    see.note(`START, ${label}: page size`, view(bytes).getBigUint64(8, true));
  };
  start('no ranges', 4096, 0, []);
  start('257 ranges', 4096, 257, []);
  start('ranges nowhere', 4096, 1, [], NOWHERE);
  start('unaligned', 4096, 1, [1, 4096]);
  start('unaligned length', 4096, 1, [0, 4097]);
  start('wraps', 4096, 1, [0xffff_ffff_ffff_f000n, 0x2000]);
  start('ends at the top', 4096, 1, [0xffff_ffff_ffff_f000n, 0x1000]);
  start('overlap', 4096, 2, [0, 0x2000, 0x1000, 0x2000]);
  start('page size 1', 1, 1, [0, 4096]);
  start('page size 0', 0, 1, [0, 4096]);
  start('good', 4096, 2, [0, 0x2000, 0x4000, 0x2000]);
  start('again', 8192, 1, [0, 0x2000]);
  const report = (
    label: string,
    iova: bigint | number,
    length: bigint | number,
    pageSize: number,
    bitmap = ranges.address + 0x1000n,
  ): void => {
    ranges.bytes.fill(0xa0, 0x1000, 0x1010);
    see.call(`REPORT, ${label}`, () => feature(kernel, device, join(u32s(40, 8 | GET), u64s(iova, length, pageSize, bitmap))));
    see.note(`REPORT, ${label}: bits`, ranges.bytes.slice(0x1000, 0x1010));
  };
  report('good', 0, 0x4000, 4096);
  report('page size 2048', 0, 0x4000, 2048);
  report('page size 3000', 0, 0x4000, 3000);
  report('wraps', 0xffff_ffff_ffff_f000n, 0x2000, 4096);
  report('length 0', 0, 0, 4096);
  see.call('STOP', () => feature(kernel, device, u32s(8, 7 | SET)));
  see.call('STOP again', () => feature(kernel, device, u32s(8, 7 | SET)));
}

/** Who removes it waits for who has it. */
async function removal(kernel: Kernel, see: Observer): Promise<void> {
  const { container, group, device } = open(kernel);
  const remove = await storeLater(kernel, `${mdev(UUID)}/remove`, '1');
  await new Promise((resolve) => setTimeout(resolve, 50));
  see.note('remove waits', remove.answer === undefined);
  see.call('GET_DEVICE_FD', () => getDevice(kernel, group, UUID));
  see.call('GET_INFO', () => kernel.ioctl(device, VFIO_DEVICE_GET_INFO, u32s(16, 0, 0, 0)));
  for (const fd of [group, container]) kernel.close(fd);
  await new Promise((resolve) => setTimeout(resolve, 50));
  see.note('group and container closed: it waits', remove.answer === undefined);
  kernel.close(device);
  see.note('the device closed: remove', await remove.ended());
}

const of = (what: string, body: (kernel: Kernel, see: Observer) => void | Promise<void>): Case =>
  define(`vfio/mtty/${what}`, 'Mediated devices', body, { needs: { devices: ['/dev/vfio/vfio'], mtty: true } });

export const mttyCases: readonly Case[] = [
  of('sysfs', sysfs),
  of('type1', type1),
  of('locked-memory', lockedMemory),
  of('info', info),
  of('irqs', irqs),
  of('irqs-known', irqsKnown),
  of('intx', intx),
  of('regions', regions),
  of('features', features),
  of('migration', migration),
  of('stream', stream),
  of('logging', logging),
  of('removal', removal),
];
