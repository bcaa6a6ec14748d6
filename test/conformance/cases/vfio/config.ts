/** Configuration space as VFIO shows it: which bits are kept, which are the device's, and which only look as if they were written. */
import type { Kernel } from 'kvio';
import { VFIO_DEVICE_RESET, VFIO_PCI_CONFIG_REGION_INDEX } from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import type { Part } from '../../parts.ts';
import { attempt, ConfigSpace, getDevice, mapRegion, openDevice, region, setTrigger, view, withDevices } from '../../vfio.ts';
import { anonymous, readAll, rows } from './device-info.ts';

const COMMAND = 4;

/** Bytes that do something when they are written: power, resets, and what would take the device away. They have cases of their own. */
const acts: Readonly<Record<string, readonly number[]>> = {
  nvme: [4, 5, 0x64, 0x65, 0x88, 0x89],
  e1000e: [4, 5, 0xcc, 0xcd, 0xe8, 0xe9],
};

/** Writes a value to every byte, each alone, and reads all of it back: what every bit does. */
function masks(part: Part) {
  return (kernel: Kernel, see: Observer, [address]: string[]): void => {
    const { device } = openDevice(kernel, address!);
    const config = new ConfigSpace(kernel, device);
    const size = [4096, 256].find((length) => attempt(() => config.bytes(length - 1, 1)[0]!) !== 'EFAULT')!;
    const before = readAll(kernel, device, size);
    const end = size === 256 ? 256 : 0x160;
    const skip = new Set(acts[part] ?? [4, 5]);
    const refused: Record<string, string | number> = {};
    for (const value of [0x00, 0xff, 0x5a, 0xa5]) {
      const bytes = new Uint8Array(end);
      for (let at = 0; at < end; at++) {
        if (!skip.has(at)) {
          const returned = attempt(() => config.put(at, value));
          if (returned !== 1) refused[`${at.toString(16)}: ${value.toString(16)}`] = returned;
        }
        bytes[at] = config.read8(at);
        if (!skip.has(at)) attempt(() => config.put(at, before[at]!));
      }
      see.note(`every byte written ${value.toString(16).padStart(2, '0')}`, rows(bytes));
    }
    see.note('writes that failed', refused);
    see.note(
      'put back, it is as before',
      Buffer.compare(readAll(kernel, device, size).subarray(0, end), before.subarray(0, end)) === 0,
    );
  };
}

/** BARs size as hardware does, hold what is written, and move nothing. */
function bars(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { group, device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const before = [0, 1, 2, 3, 4, 5].map((n) => config.read32(0x10 + 4 * n));
  const rom = config.read32(0x30);
  const all = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30];
  const identification = new Uint8Array(4);
  kernel.pread(device, identification, region(0));
  for (const value of [0, 0x12345678, 0xfffff800, 1, 0xffffffff]) {
    for (const at of all) config.write32(at, value);
    see.note(
      `written ${value.toString(16)}`,
      all.map((at) => config.read32(at).toString(16)),
    );
  }
  const now = new Uint8Array(4);
  kernel.pread(device, now, region(0));
  see.note('the BAR is where it was', Buffer.compare(now, identification) === 0);
  const returned = attempt(() => kernel.ioctl(device, VFIO_DEVICE_RESET));
  see.note('DEVICE_RESET', returned);
  see.note(
    'after it',
    all.map((at) => config.read32(at).toString(16)),
  );
  for (let at = 0x10; at < 0x28; at++) config.put(at, 0xff);
  see.note(
    'written by bytes',
    all.map((at) => config.read32(at).toString(16)),
  );
  for (let at = 0x10; at < 0x28; at += 2) config.write16(at, 0);
  see.note(
    'written by halves',
    all.map((at) => config.read32(at).toString(16)),
  );
  for (const [n, value] of before.entries()) config.write32(0x10 + 4 * n, value);
  config.write32(0x30, rom);
  see.note(
    'written back',
    [0, 1, 2, 3, 4, 5].every((n) => config.read32(0x10 + 4 * n) === before[n]) && config.read32(0x30) === rom,
  );
  config.write32(0x10, 0xffffffff);
  const other = new ConfigSpace(kernel, getDevice(kernel, group, address!));
  see.note('the device opened a second time shows the same', other.read32(0x10) === config.read32(0x10));
}

/** Lengths and offsets: whole or not at all. */
function extents(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const size = [4096, 256].find((length) => attempt(() => new ConfigSpace(kernel, device).read8(length - 1)) !== 'EFAULT')!;
  const at = (offset: number): bigint => region(VFIO_PCI_CONFIG_REGION_INDEX, offset);
  const read = (offset: number, length: number): void => {
    const bytes = new Uint8Array(length).fill(0xee);
    see.call(`read ${length} at ${offset}`, () => kernel.pread(device, bytes, at(offset)));
    if (length <= 16) see.note(`read ${length} at ${offset}: bytes`, bytes);
  };
  read(0, 0);
  for (let length = 1; length < 9; length++) for (const offset of [0, 1, 2, 3]) read(offset, length);
  read(0, size);
  read(0, size + 1);
  read(size - 1, 1);
  read(size - 1, 2);
  read(size - 4, 8);
  read(size, 1);
  read(size, 0);
  read(size + 100, 4);
  see.call('write over the end', () => kernel.pwrite(device, new Uint8Array(8), at(size - 4)));
  see.call('write at the end', () => kernel.pwrite(device, new Uint8Array(1), at(size)));
  see.call('write to a read-only byte', () => kernel.pwrite(device, new Uint8Array(4), at(0)));
  see.call('into memory that is not there', () => kernel.pread(device, new Uint8Array(4), region(8)));
}

/** COMMAND: DisINTx is VFIO's own, the rest the device's; STATUS keeps what it has. */
function command(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const first = config.read16(COMMAND);
  see.note('as opened', first.toString(16));
  for (const value of [0, 0xffff, 0x400, 0x401, 2, 4, 0x546, 1, first]) {
    config.write16(COMMAND, value);
    see.note(`written ${value.toString(16)}`, config.read32(COMMAND).toString(16));
  }
  config.write32(COMMAND, 0xffff0000 + first);
  see.note('written with all of STATUS', config.read32(COMMAND).toString(16));
  config.put(COMMAND, 0);
  see.note('the low byte 0', config.read16(COMMAND).toString(16));
  config.put(COMMAND + 1, 4);
  see.note('the high byte 4', config.read16(COMMAND).toString(16));
  config.put(COMMAND, 7);
  see.note('the low byte 7', config.read16(COMMAND).toString(16));
  config.put(COMMAND + 1, 0);
  see.note('the high byte 0', config.read16(COMMAND).toString(16));
  config.write16(COMMAND, 0x407);
  see.note(
    'DEVICE_RESET',
    attempt(() => kernel.ioctl(device, VFIO_DEVICE_RESET)),
  );
  see.note('after it', config.read16(COMMAND).toString(16));
}

/** The MSI capability: what a guest writes there is kept, and means nothing. */
function msi(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const at = config.find(5);
  const control = (): string => config.read16(at + 2).toString(16);
  see.note('control', control());
  const put = (label: string, value: number): void => {
    see.call(`${label}: written ${value.toString(16)}`, () => config.put(at + 2, value));
    see.note(`${label}: after ${value.toString(16)}`, control());
  };
  for (const value of [0x01, 0x7f, 0xff, 0x00, 0x80, 0x70, 0x8e]) put('off', value);
  const eventfd = kernel.eventfd(0, 2048);
  see.call('SET_IRQS, MSI', () => setTrigger(kernel, device, 1, eventfd));
  see.note('control, on', control());
  for (const value of [0x01, 0x7f, 0xff, 0x00, 0x70, 0x0e]) put('on', value);
  see.call('SET_IRQS, MSI off', () => setTrigger(kernel, device, 1));
  see.note('control, off', control());
  for (const value of [0xff, 0x01, 0x70]) put('off again', value);
  for (let byte = 4; byte < 14; byte++) config.put(at + byte, 0xa0 + byte);
  see.note('address and data', config.bytes(at, 16));
  config.put(at, 0xff);
  config.put(at + 1, 0xff);
  see.note('its header', config.bytes(at, 2));
  config.write16(at + 2, 0xffff);
  see.note('control, both bytes', control());
}

/** A write that ends where MSI's control begins is one of it: what the interrupts are now is looked at again. */
function besideMsi(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const at = config.find(5);
  const control = (): string => config.read16(at + 2).toString(16);
  const writes: Readonly<Record<string, () => unknown>> = {
    'its id': () => config.put(at, 0),
    'its link': () => config.put(at + 1, 0),
    'both, as one': () => config.write16(at, 0),
    'its address': () => config.put(at + 4, 0),
  };
  for (const [what, write] of Object.entries(writes)) {
    setTrigger(kernel, device, 1, kernel.eventfd(0, 2048));
    config.put(at + 2, 1);
    setTrigger(kernel, device, 1);
    const before = control();
    write();
    see.note(`off, and written ${what}`, [before, control()]);
  }
}

function msix(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const at = config.find(0x11);
  const control = (): string => config.read16(at + 2).toString(16);
  see.note('control', control());
  config.write16(at + 2, 0xc000);
  see.note('written c000', control());
  for (let byte = 4; byte < 12; byte++) config.put(at + byte, 0xff);
  see.note('table and PBA', config.bytes(at + 4, 8));
  const eventfd = kernel.eventfd(0, 2048);
  see.call('SET_IRQS, MSI-X', () => setTrigger(kernel, device, 2, eventfd));
  see.note('control, on', control());
  config.write16(at + 2, 0);
  see.note('written 0', control());
  config.write16(at + 2, 0xc000);
  see.note('written c000, on', control());
  see.call('SET_IRQS, MSI-X off', () => setTrigger(kernel, device, 2));
  see.note('control, off', control());
}

/** D-states: what can be read, written and touched in each. */
function power(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const at = config.find(1);
  see.note('capability', config.bytes(at, 8));
  const bar = mapRegion(kernel, device, 0);
  const bytes = new Uint8Array(4);
  const look = (label: string): void => {
    see.note(`${label}: PMCSR`, config.read16(at + 4).toString(16));
    see.note(`${label}: COMMAND`, config.read16(COMMAND).toString(16));
    see.note(
      `${label}: pread of BAR 0`,
      attempt(() => kernel.pread(device, bytes, region(0))),
    );
    see.note(
      `${label}: touch of BAR 0`,
      attempt(() => (bar.read32(0) === undefined ? 1 : 0)),
    );
    see.note(
      `${label}: a new mapping`,
      attempt(() => (mapRegion(kernel, device, 0).close() === undefined ? 0 : 1)),
    );
  };
  look('D0');
  for (const state of [3, 1, 2]) {
    see.call(`D${state} written`, () => config.write16(at + 4, state));
    look(`in D${state}`);
    see.call(`back from D${state}`, () => config.write16(at + 4, 0));
  }
  look('D0 again');
  config.write16(at + 4, 3);
  see.call('in D3: COMMAND.MEMORY off', () => config.write16(COMMAND, config.read16(COMMAND) & ~2));
  see.call('in D3: and on', () => config.write16(COMMAND, config.read16(COMMAND) | 2));
  see.note(
    'in D3: pread',
    attempt(() => kernel.pread(device, bytes, region(0))),
  );
  see.call('in D3: DEVICE_RESET', () => kernel.ioctl(device, VFIO_DEVICE_RESET));
  look('after the reset');
  config.write32(at + 4, 0xffff8103);
  see.note('PME bits written', config.bytes(at + 4, 4));
  config.write16(at + 4, 0x8100);
  see.note('PME bits written, D0', config.bytes(at + 4, 4));
}

/** PCIe capability: device control is the user's as far as it is harmless; FLR resets. */
function express(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const at = config.find(0x10);
  const control = (): string => config.read16(at + 8).toString(16);
  const first = config.read16(at + 8);
  see.note('DEVCTL', control());
  for (const value of [0, 0x7fff, 0x5000, 0x2000, 0x00e0, 0x0800]) {
    see.call(`DEVCTL written ${value.toString(16)}`, () => config.write16(at + 8, value));
    see.note(`DEVCTL after ${value.toString(16)}`, control());
  }
  config.write32(0x10, 0xffffffff);
  config.write16(COMMAND, 0x406);
  see.call('FLR written', () => config.write16(at + 8, first | 0x8000));
  see.note('DEVCTL after FLR', control());
  see.note('COMMAND after FLR', config.read16(COMMAND).toString(16));
  see.note('BAR 0 after FLR', (config.read32(0x10) >>> 0).toString(16));
  see.note('DEVCAP', config.bytes(at + 4, 4));
  config.write16(at + 0x10, 0xffff);
  see.note('LNKCTL written ffff', config.bytes(at + 0x10, 4));
  config.write16(at + 0x28, 0xffff);
  see.note('DEVCTL2 written ffff', config.bytes(at + 0x28, 4));
}

/** Extended capabilities: AER's masks can be written, its headers and those of others not. */
function extended(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const first = readAll(kernel, device, 4096).slice(0x100, 0x160);
  see.note('as opened', rows(first));
  for (const value of [0xffffffff, 0]) {
    for (let at = 0x100; at < 0x160; at += 4) config.write32(at, value);
    see.note(`all written ${value.toString(16)}`, rows(readAll(kernel, device, 4096).slice(0x100, 0x160)));
  }
  for (let at = 0; at < 0x60; at += 4) config.write32(0x100 + at, view(first).getUint32(at, true));
  see.note('written back', rows(readAll(kernel, device, 4096).slice(0x100, 0x160)));
  see.note('the rest is raw', rows(readAll(kernel, device, 4096).slice(0x160)));
  see.call('a word behind the last', () => config.write32(0x800, 0x12345678));
  see.note('which reads', config.read32(0x800));
  config.write32(0x800, 0);
}

/** Closing the last descriptor puts everything back. */
function closed(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { container, group, device } = openDevice(kernel, address!);
  const size = [4096, 256].find((length) => attempt(() => new ConfigSpace(kernel, device).read8(length - 1)) !== 'EFAULT')!;
  const before = readAll(kernel, device, size);
  const config = new ConfigSpace(kernel, device);
  for (let at = 0x10; at < 0x28; at += 4) config.write32(at, 0xffffffff);
  config.write16(COMMAND, 0x547);
  config.put(0x3c, 0x77);
  config.put(0x0c, 0x20);
  see.note('changed', rows(anonymous(readAll(kernel, device, size))));
  kernel.close(device);
  kernel.close(group);
  kernel.close(container);
  const again = openDevice(kernel, address!);
  see.note('opened again, as before', Buffer.compare(readAll(kernel, again.device, size), before) === 0);
}

const all: readonly Part[] = ['edu', 'nvme', 'e1000e', 'testdev', 'xhci'];
const each = (what: string, body: (kernel: Kernel, see: Observer, addresses: string[]) => void, of = all): Case[] =>
  of.map((part) => withDevices(`vfio/config/${what} of ${part}`, 'Configuration space', [part], body));

export const configCases: readonly Case[] = [
  ...all.map((part) => withDevices(`vfio/config/masks of ${part}`, 'Configuration space', [part], masks(part))),
  ...each('bars', bars),
  ...each('extents', extents, ['edu', 'nvme']),
  ...each('command', command),
  ...each('msi', msi, ['edu', 'e1000e', 'xhci']),
  ...each('beside msi', besideMsi, ['edu', 'e1000e', 'xhci']),
  ...each('msix', msix, ['nvme', 'e1000e', 'xhci']),
  ...each('power', power, ['nvme', 'e1000e']),
  ...each('express', express, ['nvme', 'e1000e']),
  ...each('extended', extended, ['nvme', 'e1000e', 'xhci']),
  ...each('closed', closed),
];
