/** VFIO_DEVICE_FEATURE: every number by PROBE, GET and SET; low power; and DMA-bufs, with what revokes them. */
import type { Kernel } from 'kvio';
import { EFD_NONBLOCK, F_GETFD, F_GETFL, VFIO_DEVICE_FEATURE, VFIO_DEVICE_RESET } from 'kvio/uapi';
import { type Case, NotHere, type Observer } from '../../case.ts';
import { UNSAFE } from '../../machine.ts';
import type { Part } from '../../parts.ts';
import {
  attempt,
  ConfigSpace,
  feature,
  join,
  mapRegion,
  NOWHERE,
  openDevice,
  region,
  s32,
  taken,
  u32s,
  u64s,
  withDevices,
} from '../../vfio.ts';

const GET = 0x10000;
const SET = 0x20000;
const PROBE = 0x40000;
const LOW_POWER_ENTRY = 3;
const LOW_POWER_ENTRY_WITH_WAKEUP = 4;
const LOW_POWER_EXIT = 5;
const DMA_BUF = 11;

function table(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const ask = (flags: number, argsz = 8, room = 64): string | number => {
    const bytes = new Uint8Array(room);
    bytes.set(u32s(argsz, flags));
    return attempt(() => feature(kernel, device, bytes));
  };
  see.call('pointer 0', () => kernel.ioctl(device, VFIO_DEVICE_FEATURE, 0, UNSAFE));
  see.call('a pointer to nowhere', () => kernel.ioctl(device, VFIO_DEVICE_FEATURE, NOWHERE, UNSAFE));
  for (let number = 0; number < 15; number++)
    see.note(`feature ${number}`, {
      none: ask(number),
      probe: ask(number | PROBE),
      'probe get': ask(number | PROBE | GET),
      'probe set': ask(number | PROBE | SET),
      'probe get set': ask(number | PROBE | GET | SET),
      get: number === DMA_BUF ? 'its own case' : ask(number | GET),
      'get set': ask(number | GET | SET),
      ...(number === LOW_POWER_ENTRY || number === LOW_POWER_EXIT ? {} : { set: ask(number | SET) }),
    });
  see.note('feature 0xffff', ask(0xffff | PROBE));
  for (const flags of [0x80000, 0x80000000, 0x80000 | PROBE]) see.note(`unknown flag ${flags.toString(16)}`, ask(flags));
  see.note('argsz 0', ask(PROBE, 0));
  see.note('argsz 7', ask(PROBE, 7));
  see.note('argsz 7, unknown flag', ask(0x80000, 7));
  see.note('argsz 1000', ask(PROBE | LOW_POWER_ENTRY, 1000));
}

/** Long enough for a device nobody uses to be suspended. */
const idle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 200));

async function lowPower(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const { device } = openDevice(kernel, address!);
  const set = (label: string, number: number, data: Uint8Array = new Uint8Array(0), argsz = 8 + data.length): unknown =>
    see.call(label, () => feature(kernel, device, join(u32s(argsz, number | SET), data)));
  const bar = mapRegion(kernel, device, 0);
  const bytes = new Uint8Array(4);
  const look = (label: string): void => {
    see.note(
      `${label}: touch`,
      attempt(() => (bar.read32(0) === undefined ? 1 : 0)),
    );
    see.note(
      `${label}: pread`,
      attempt(() => kernel.pread(device, bytes, region(0))),
    );
    see.note(
      `${label}: configuration`,
      attempt(() => kernel.pread(device, bytes, region(7))),
    );
    see.note(
      `${label}: touch again`,
      attempt(() => (bar.read32(0) === undefined ? 1 : 0)),
    );
  };
  set('EXIT before ENTRY', LOW_POWER_EXIT);
  look('before');
  set('ENTRY', LOW_POWER_ENTRY);
  await idle();
  look('entered');
  await idle();
  set('ENTRY again', LOW_POWER_ENTRY);
  set('ENTRY_WITH_WAKEUP, entered', LOW_POWER_ENTRY_WITH_WAKEUP, s32(kernel.eventfd(), 0));
  see.note(
    'GET_INFO meanwhile',
    attempt(() => kernel.ioctl(device, 0x3b6b, u32s(24, 0, 0, 0, 0, 0))),
  );
  see.note(
    'DEVICE_RESET meanwhile',
    attempt(() => kernel.ioctl(device, VFIO_DEVICE_RESET)),
  );
  set('EXIT', LOW_POWER_EXIT);
  look('left');
  set('EXIT again', LOW_POWER_EXIT);
  const wake = LOW_POWER_ENTRY_WITH_WAKEUP;
  set('WITH_WAKEUP, argsz too small', wake, s32(0, 0), 12);
  set('WITH_WAKEUP, argsz 8', wake, new Uint8Array(0));
  set('WITH_WAKEUP, fd -1', wake, s32(-1, 0));
  set('WITH_WAKEUP, a number nobody has', wake, s32(999, 0));
  set('WITH_WAKEUP, a memfd', wake, s32(kernel.memfd('x'), 0));
  const eventfd = kernel.eventfd(0, EFD_NONBLOCK);
  set('WITH_WAKEUP, reserved 1', wake, s32(eventfd, 1));
  set('EXIT, after it', LOW_POWER_EXIT);
  // It may have been suspended by then, or not yet.
  taken(kernel, eventfd);
  set('WITH_WAKEUP', wake, s32(eventfd, 0));
  await idle();
  look('entered with wakeup');
  see.note('woken', taken(kernel, eventfd));
  set('WITH_WAKEUP again', wake, s32(eventfd, 0));
  await idle();
  set('ENTRY meanwhile', LOW_POWER_ENTRY);
  see.note('woken by that', taken(kernel, eventfd));
  await idle();
  set('EXIT, at last', LOW_POWER_EXIT);
  see.note('woken by EXIT', taken(kernel, eventfd));
  look('left at last');
}

interface DmaBuf {
  argsz?: number;
  index?: number;
  open?: number;
  flags?: number;
  count?: number;
  ranges?: readonly (bigint | number)[];
}

/** The descriptor of a new DMA-buf. */
function export_(
  kernel: Kernel,
  device: number,
  { argsz = 24, index = 0, open = 2, flags = 0, count, ranges = [0, 0x1000] }: DmaBuf,
): number {
  const bytes = join(u32s(argsz, DMA_BUF | GET, index, open, flags, count ?? ranges.length / 2), u64s(...ranges));
  return feature(kernel, device, bytes);
}

function dmaBufOrder(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const ask = (label: string, buf: DmaBuf): number => see.descriptor(label, () => export_(kernel, device, buf));
  const size = 0x100000;
  ask('argsz 8', { argsz: 8 });
  ask('argsz 23', { argsz: 23 });
  ask('argsz 24: without the ranges', { argsz: 24 });
  ask('argsz 40', { argsz: 40 });
  ask('no ranges', { ranges: [] });
  ask('no ranges, region 9', { ranges: [], index: 9 });
  ask('flags 1', { flags: 1 });
  ask('flags 1, region 9', { flags: 1, index: 9 });
  for (const index of [1, 5, 6, 7, 8, 9, 0xffffffff]) ask(`region ${index}`, { index });
  ask('region 9, an absurd count', { index: 9, count: 0xffffffff });
  ask('length 0', { ranges: [0, 0] });
  ask('length unaligned', { ranges: [0, 0x1001] });
  ask('length below a page', { ranges: [0, 0x800] });
  ask('offset unaligned', { ranges: [0x10, 0x1000] });
  ask('the second of length 0', { ranges: [0, 0x1000, 0x1000, 0] });
  ask('over the end', { ranges: [size - 0x1000, 0x2000] });
  ask('behind the end', { ranges: [size, 0x1000] });
  ask('offset at the top', { ranges: [0xffff_ffff_ffff_f000n, 0x1000] });
  ask('length at the top', { ranges: [0, 0xffff_ffff_ffff_f000n] });
  ask('sum wraps', { ranges: [0, 0xffff_ffff_ffff_f000n, 0, 0x2000] });
  ask('sum above 2^63', { ranges: [0, 1n << 62n, 0, 1n << 62n] });
  ask('all of it', { ranges: [0, size] });
  ask('two ranges', { ranges: [0, 0x1000, 0x4000, 0x2000] });
  ask('the same twice', { ranges: [0, 0x1000, 0, 0x1000] });
  ask('backwards', { ranges: [0x4000, 0x1000, 0, 0x1000] });
  see.call('SET', () => feature(kernel, device, join(u32s(40, DMA_BUF | SET, 0, 2, 0, 1), u64s(0, 0x1000))));
  see.call('ranges nowhere', () => {
    const page = kernel.mmap({ length: 0x2000, view: false });
    kernel.mprotect(page, 0, { offset: 0x1000, length: 0x1000 });
    page.write(0x1000 - 24, u32s(24, DMA_BUF | GET, 0, 2, 0, 1));
    return kernel.ioctl(device, VFIO_DEVICE_FEATURE, page.address + 0x1000n - 24n, UNSAFE);
  });
}

/** An I/O BAR has none; a device without a BAR, neither. */
function dmaBufOfIo(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  for (let index = 0; index < 6; index++) {
    const kind = (config.read32(0x10 + 4 * index) & 1) !== 0 ? 'an I/O BAR' : 'a memory BAR, or none';
    see.descriptor(`BAR ${index}, ${kind}`, () => export_(kernel, device, { index }));
    see.descriptor(`BAR ${index}, length 0`, () => export_(kernel, device, { index, ranges: [0, 0] }));
    see.descriptor(`BAR ${index}, behind its end`, () => export_(kernel, device, { index, ranges: [1 << 30, 0x1000] }));
  }
}

function dmaBufFile(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  if (attempt(() => export_(kernel, device, {})) === 'ENOTTY') throw new NotHere('this kernel exports no DMA-bufs');
  for (const open of [0, 1, 2, 3, 0x800, 0x80000, 0x80802, 0xffffffff]) {
    const fd = see.descriptor(`open_flags ${open.toString(16)}`, () => export_(kernel, device, { open }));
    if (fd < 0) continue;
    see.note(`open_flags ${open.toString(16)}: F_GETFL`, (kernel.fcntl(fd, F_GETFL) & 0x803).toString(16));
    see.note(`open_flags ${open.toString(16)}: F_GETFD`, kernel.fcntl(fd, F_GETFD));
  }
  const fd = export_(kernel, device, { ranges: [0, 0x3000] });
  see.call('mmap', () => kernel.mmap({ fd, length: 4096, view: false }));
  see.call('read', () => kernel.read(fd, new Uint8Array(4)));
  see.call('write', () => kernel.write(fd, new Uint8Array(4)));
  see.note('poll', kernel.poll([{ fd, events: 5 }]));
  see.call('an unknown ioctl', () => kernel.ioctl(fd, 0x6201, 0, UNSAFE));
  see.call('a device’s ioctl', () => kernel.ioctl(fd, VFIO_DEVICE_RESET));
  see.note('fstat: size', kernel.fstat(fd).size);
}

/** A DMA-buf of a device whose memory is off, or that is closed: made all the same, and it outlives the device. */
function dmaBufLife(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { container, group, device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  config.write16(4, 0);
  const fd = see.descriptor('decode off', () => export_(kernel, device, {}));
  config.write16(4, 2);
  see.descriptor('on again', () => export_(kernel, device, {}));
  kernel.close(device);
  see.call('the device closed: the group is free of it', () => kernel.ioctl(group, 0x3b69));
  kernel.close(group);
  kernel.close(container);
  see.call('the DMA-buf is still a file', () => kernel.fcntl(fd, F_GETFD));
  const again = openDevice(kernel, address!);
  see.descriptor('the device again, another DMA-buf', () => export_(kernel, again.device, {}));
}

const of = (what: string, part: Part, body: (kernel: Kernel, see: Observer, addresses: string[]) => void | Promise<void>): Case =>
  withDevices(`vfio/features/${what}`, 'Features', [part], body);

export const featureCases: readonly Case[] = [
  of('table of edu', 'edu', table),
  of('table of nvme', 'nvme', table),
  of('low-power of edu', 'edu', lowPower),
  of('low-power of nvme', 'nvme', lowPower),
  of('dma-buf-order', 'edu', dmaBufOrder),
  of('dma-buf-bars of e1000e', 'e1000e', dmaBufOfIo),
  of('dma-buf-bars of nvme', 'nvme', dmaBufOfIo),
  of('dma-buf-file', 'edu', dmaBufFile),
  of('dma-buf-life', 'edu', dmaBufLife),
];
