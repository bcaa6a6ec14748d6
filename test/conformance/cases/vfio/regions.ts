/** Regions by pread, pwrite and mmap: widths, ends, what decoding off does, what may be mapped. */
import type { Kernel } from 'kvio';
import { MAP_PRIVATE, MAP_SHARED, O_RDONLY, PROT_EXEC, PROT_READ, PROT_WRITE, VFIO_DEVICE_RESET } from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import type { Part } from '../../parts.ts';
import {
  ASSISTED,
  attempt,
  ConfigSpace,
  cdevOf,
  mapRegion,
  openDevice,
  region,
  regionInfo,
  u32s,
  view,
  withDevices,
} from '../../vfio.ts';

const COMMAND = 4;
const MEMORY = 2;
const ROM_ADDRESS = 0x30;

function offsets(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const both = (label: string, at: bigint, length: number): void => {
    see.call(`read ${length} ${label}`, () => kernel.pread(device, new Uint8Array(length), at));
    see.call(`write ${length} ${label}`, () => kernel.pwrite(device, new Uint8Array(length), at));
  };
  for (let index = 0; index < 10; index++) both(`at the start of region ${index}`, region(index), 0);
  for (const index of [1, 4, 8, 9, 10, 100]) both(`at the start of region ${index}`, region(index), 4);
  see.call('read at a negative offset', () => kernel.pread(device, new Uint8Array(4), -4n));
  see.call('read at the largest offset', () => kernel.pread(device, new Uint8Array(4), (1n << 63n) - 4n));
  const size = 0x100000;
  both('at the end of BAR 0', region(0, size), 4);
  both('at the end of BAR 0', region(0, size), 0);
  both('far beyond BAR 0', region(0, 0xff_ffff_fffcn), 4);
  see.call('read 8 over the end of BAR 0', () => kernel.pread(device, new Uint8Array(8), region(0, size - 4)));
  see.call('read 100 over the end of BAR 0', () => kernel.pread(device, new Uint8Array(100), region(0, size - 3)));
  see.call('write of the ROM that is not there', () => kernel.pwrite(device, new Uint8Array(4), region(6)));
  see.call('read of the ROM that is not there', () => kernel.pread(device, new Uint8Array(4), region(6)));
}

/** edu answers 4 bytes at a time: what comes of other widths shows how an access is cut. */
function widths(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  kernel.pwrite(device, u32s(0x12345678), region(0, 4));
  for (const [at, length] of [
    [0, 4],
    [4, 4],
    [0, 8],
    [0, 1],
    [1, 1],
    [0, 2],
    [2, 2],
    [1, 4],
    [2, 4],
    [4, 8],
    [0, 16],
    [3, 7],
    [0, 5],
  ] as const) {
    const bytes = new Uint8Array(length).fill(0xee);
    see.call(`read ${length} at ${at}`, () => kernel.pread(device, bytes, region(0, at)));
    see.note(`bytes of ${length} at ${at}`, bytes);
  }
  for (const length of [1, 2, 8]) {
    see.call(`write ${length} at 4`, () => kernel.pwrite(device, new Uint8Array(length).fill(0x11), region(0, 4)));
    const bytes = new Uint8Array(4);
    kernel.pread(device, bytes, region(0, 4));
    see.note(`register 4 after ${length}`, bytes);
  }
}

/** The MSI-X table: ones to read, nothing to write; what lies around it is the device's. */
function table(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const at = config.find(0x11);
  const place = config.read32(at + 4);
  const [bar, offset] = [place & 7, place & ~7];
  const entries = (config.read16(at + 2) & 0x7ff) + 1;
  see.note('table', { bar, offset, entries });
  const read = (label: string, from: number, length: number): void => {
    const bytes = new Uint8Array(length);
    see.call(`read ${label}`, () => kernel.pread(device, bytes, region(bar, from)));
    see.note(`bytes ${label}`, bytes);
  };
  read('of the first entry', offset, 16);
  see.call('write of the first entry', () => kernel.pwrite(device, new Uint8Array(16).fill(0x22), region(bar, offset)));
  read('of the first entry, afterwards', offset, 16);
  const end = offset + 16 * entries;
  if (offset >= 8) read('over its start', offset - 8, 24);
  read('over its end', end - 8, 16);
  const pba = config.read32(at + 8);
  read('of the PBA', pba & ~7, 8);
  const mapped = mapRegion(kernel, device, bar);
  see.note('mapped, it is the real one: vector control of the second entry', mapped.read32(offset + 16 + 12) & 1);
}

function decode(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const bar = mapRegion(kernel, device, 0);
  const bytes = new Uint8Array(4);
  const touch = (): string | number => attempt(() => (bar.read32(0) === undefined ? 1 : 0));
  const look = (label: string): void => {
    see.note(
      `${label}: pread`,
      attempt(() => kernel.pread(device, bytes, region(0))),
    );
    see.note(
      `${label}: pread of nothing`,
      attempt(() => kernel.pread(device, new Uint8Array(0), region(0))),
    );
    see.note(
      `${label}: pwrite`,
      attempt(() => kernel.pwrite(device, new Uint8Array(4), region(0, 0x64))),
    );
    see.note(`${label}: touch`, touch());
    see.note(
      `${label}: mmap`,
      attempt(() => (mapRegion(kernel, device, 0).close() === undefined ? 0 : 1)),
    );
  };
  look('on');
  config.write16(COMMAND, config.read16(COMMAND) & ~MEMORY);
  look('off');
  config.write16(COMMAND, config.read16(COMMAND) & ~MEMORY);
  see.note('off again: touch', touch());
  config.write16(COMMAND, config.read16(COMMAND) | MEMORY);
  look('on again');
  const other = mapRegion(kernel, device, 0);
  config.write16(COMMAND, 0);
  see.note(
    'all off: the other mapping',
    attempt(() => (other.read32(0) === undefined ? 1 : 0)),
  );
  config.put(COMMAND, 2);
  see.note(
    'on by a byte: the other mapping',
    attempt(() => (other.read32(0) === undefined ? 1 : 0)),
  );
  config.put(COMMAND, 0);
  config.put(COMMAND + 1, 2);
  see.note('a byte behind it does not switch it on', touch());
}

/** I/O BARs are not gated; a ROM is read, never written. */
function ioBar(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const index = [0, 1, 2, 3, 4, 5].find((n) => (config.read32(0x10 + 4 * n) & 1) !== 0)!;
  see.note('which', index);
  const look = (label: string): void => {
    for (const length of [1, 2, 4, 8])
      see.call(`${label}: read ${length}`, () => kernel.pread(device, new Uint8Array(length), region(index)));
    see.call(`${label}: mmap`, () => kernel.mmap({ fd: device, length: 4096, offset: region(index), view: false }));
  };
  look('on');
  config.write16(COMMAND, config.read16(COMMAND) & ~MEMORY);
  look('memory off');
  config.write16(COMMAND, 0);
  look('all off');
}

function rom(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const head = new Uint8Array(16);
  see.call('read', () => kernel.pread(device, head, region(6)));
  see.note('its first bytes', head);
  see.call('read behind', () => kernel.pread(device, head, region(6, 0x3fff0)));
  see.note('its last bytes', head);
  see.call('read 3 at 1', () => kernel.pread(device, new Uint8Array(3), region(6, 1)));
  see.call('write', () => kernel.pwrite(device, new Uint8Array(4), region(6)));
  see.call('mmap', () => kernel.mmap({ fd: device, length: 4096, offset: region(6), view: false }));
  see.call('read at its end', () => kernel.pread(device, head, region(6, 0x40000)));
  config.write16(COMMAND, config.read16(COMMAND) & ~MEMORY);
  see.call('decode off: read', () => kernel.pread(device, new Uint8Array(4), region(6)));
  config.write16(COMMAND, config.read16(COMMAND) | MEMORY);
  see.call('on again: read', () => kernel.pread(device, new Uint8Array(4), region(6)));
}

/** A ROM of 4 KiB whose image is 1 KiB long: behind that there is nothing to be read. Neither the ROM's own enable bit nor its address are the user's. */
function romImage(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const { flags, size } = regionInfo(kernel, device, 6);
  see.note('flags and size', { flags, size });
  const read = (label: string, at: number, length: number): void => {
    const bytes = new Uint8Array(length);
    see.call(label, () => kernel.pread(device, bytes, region(6, at)));
    see.note(`${label}: bytes`, bytes);
  };
  see.note('its register', (config.read32(ROM_ADDRESS) & 1) !== 0);
  read('the image', 0, 0x40);
  const rest = new Uint8Array(0x3c0);
  see.call('the rest of the image', () => kernel.pread(device, rest, region(6, 0x40)));
  see.note(
    'it counts on',
    rest.every((byte, at) => byte === (at + 0x40) % 0x100),
  );
  read('over its end', 0x3f8, 16);
  read('behind it', 0x800, 8);
  read('3 bytes at 1', 1, 3);
  read('8 bytes at 0x3fd', 0x3fd, 8);
  read('over the end of the ROM', 0xff8, 16);
  read('at the end of the ROM', 0x1000, 4);
  see.call('write', () => kernel.pwrite(device, new Uint8Array(4), region(6)));
  see.call('mmap', () => kernel.mmap({ fd: device, length: 4096, offset: region(6), view: false }));
  config.write32(ROM_ADDRESS, 0xffffffff);
  see.note('its register, sized', config.read32(ROM_ADDRESS).toString(16));
  read('then', 0, 4);
  config.write32(ROM_ADDRESS, 0);
  read('its register 0', 0, 4);
  config.write16(COMMAND, config.read16(COMMAND) & ~MEMORY);
  read('decode off', 0, 4);
  read('decode off, behind the image', 0x800, 4);
  read('decode off, at the end of the ROM', 0x1000, 4);
  const { flags: off, size: sizeOff } = regionInfo(kernel, device, 6);
  see.note('decode off: flags and size', { flags: off, size: sizeOff });
  config.write16(COMMAND, config.read16(COMMAND) | MEMORY);
  read('on again', 0, 4);
}

function mapping(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const map = (label: string, length: number | bigint, offset: bigint, flags = MAP_SHARED, prot = PROT_READ | PROT_WRITE): void =>
    void see.call(`mmap ${label}`, () => {
      kernel.mmap({ fd: device, length, offset, flags, prot, view: false }).close();
      return 0;
    });
  const size = 0x100000n;
  map('all of it', size, region(0));
  map('a page', 0x1000, region(0));
  map('the last page', 0x1000, region(0, size - 0x1000n));
  map('over the end', 0x2000, region(0, size - 0x1000n));
  map('a byte more than all', size + 1n, region(0));
  map('a byte', 1, region(0));
  map('behind the end', 0x1000, region(0, size));
  map('far behind', 0x1000, region(0, 0xff_ffff_f000n));
  map('private', 0x1000, region(0), MAP_PRIVATE);
  map('private, to read', 0x1000, region(0), MAP_PRIVATE, PROT_READ);
  map('to read', 0x1000, region(0), MAP_SHARED, PROT_READ);
  map('without access', 0x1000, region(0), MAP_SHARED, 0);
  map('to execute', 0x1000, region(0), MAP_SHARED, PROT_READ | PROT_EXEC);
  map('to execute only', 0x1000, region(0), MAP_SHARED, PROT_EXEC);
  for (const index of [1, 2, 5, 6, 7, 8, 9, 100]) map(`region ${index}`, 0x1000, region(index));
  map('to execute, of a region that is not there', 0x1000, region(9), MAP_SHARED, PROT_READ | PROT_EXEC);
  map('private, of a region that is not there', 0x1000, region(9), MAP_PRIVATE);
  const bar = mapRegion(kernel, device, 0);
  see.call('mprotect to execute', () => kernel.mprotect(bar, PROT_READ | PROT_EXEC));
  see.call('mprotect to none', () => kernel.mprotect(bar, 0));
  see.call('mprotect to read', () => kernel.mprotect(bar, PROT_READ));
  see.note(
    'reads',
    attempt(() => (bar.read32(0) === undefined ? 1 : 0)),
  );
  see.call('MADV_DONTNEED', () => kernel.madvise(bar, 4));
  see.note(
    'reads still',
    attempt(() => (bar.read32(0) === undefined ? 1 : 0)),
  );
}

/** By a descriptor that is read-only: no mapping, neither to write nor to read. */
function readOnly(kernel: Kernel, see: Observer, [address]: string[]): void {
  const fd = kernel.open(cdevOf(kernel, address!), O_RDONLY);
  for (const [label, prot] of [
    ['to read', PROT_READ],
    ['to write', PROT_READ | PROT_WRITE],
  ] as const)
    see.call(`mmap ${label}`, () => kernel.mmap({ fd, length: 4096, prot, flags: MAP_SHARED, view: false }));
}

/** Mapped and read, and by another mapping of the same: one device. */
function sharedBar(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const [one, two] = [mapRegion(kernel, device, 0), mapRegion(kernel, device, 0)];
  one.write32(4, 0x0f0f0f0f);
  see.note('by the other mapping', two.read32(4));
  const bytes = new Uint8Array(4);
  kernel.pread(device, bytes, region(0, 4));
  see.note('by pread', view(bytes).getUint32(0, true));
  const memfd = kernel.memfd('x');
  kernel.ftruncate(memfd, 4096);
  see.note(
    'DEVICE_RESET',
    attempt(() => kernel.ioctl(device, VFIO_DEVICE_RESET)),
  );
  see.note(
    'mapped, after a reset',
    attempt(() => (two.read32(0) === undefined ? 1 : 0)),
  );
}

/** What an xHCI controller says of itself: nothing that a driver changes. */
function capabilityRegisters(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const bar = mapRegion(kernel, device, 0);
  const bytes = new Uint8Array(0x40);
  see.call('read 64', () => kernel.pread(device, bytes, region(0)));
  see.note('bytes', bytes);
  see.note(
    'mapped',
    [0, 4, 8, 0xc, 0x10, 0x14, 0x18, 0x1c].map((at) => bar.read32(at).toString(16)),
  );
  see.note('mapped, 8 bytes', bar.read64(8));
}

const of = (what: string, part: Part, body: (kernel: Kernel, see: Observer, addresses: string[]) => void, more = {}): Case =>
  withDevices(`vfio/regions/${what}`, 'Regions', [part], body, more);

export const regionCases: readonly Case[] = [
  of('offsets', 'edu', offsets),
  of('widths', 'edu', widths),
  of('msix-table of nvme', 'nvme', table),
  of('msix-table of e1000e', 'e1000e', table),
  of('capability-registers', 'xhci', capabilityRegisters),
  of('decode', 'edu', decode),
  of('decode of nvme', 'nvme', decode),
  of('io of testdev', 'testdev', ioBar),
  of('io of e1000e', 'e1000e', ioBar),
  of('rom of e1000e', 'e1000e', rom),
  of('rom of xhci', 'xhci', romImage),
  of('mmap', 'edu', mapping),
  of('read-only', 'edu', readOnly, ASSISTED),
  of('shared', 'edu', sharedBar),
  of('shared of nvme', 'nvme', sharedBar),
];
