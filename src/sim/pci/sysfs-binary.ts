import type { Width } from '../../kernel/memory.ts';
import { EINVAL, EIO, ENODEV } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import type { Backing, FileMap } from '../file.ts';
import { BinaryAttribute } from '../fs/attribute.ts';
import type { Directory } from '../fs/directory.ts';
import { PAGE_SIZE } from '../mm/pages.ts';
import type { Process } from '../process.ts';
import type { PciDev } from './pci-dev.ts';
import { romSize } from './rom.ts';

/** Without CAP_SYS_ADMIN only the standard header can be read. */
const HEADER = 64;
const ROM = 6;
const IORESOURCE_IO = 0x100n;
const IORESOURCE_PREFETCH = 0x2000n;

/** The files of a device that are bytes: config, resourceN, rom (drivers/pci/pci-sysfs.c). */
export function addBinaryFiles(directory: Directory, dev: PciDev): void {
  directory.add('config', new BinaryAttribute(0o644, dev.configSize, { read: readConfig(dev), write: writeConfig(dev) }));
  for (const [bar, { start, end, flags }] of dev.resources.slice(0, ROM).entries()) {
    if (end === 0n) continue;
    const length = Number(end - start + 1n);
    const io = (flags & IORESOURCE_IO) !== 0n;
    directory.add(`resource${bar}`, new BinaryAttribute(0o600, length, io ? ports(dev, bar) : memory(dev, bar, length)));
    if (!io && (flags & IORESOURCE_PREFETCH) !== 0n)
      directory.add(`resource${bar}_wc`, new BinaryAttribute(0o600, length, memory(dev, bar, length)));
  }
  const rom = dev.resources[ROM]!;
  if (rom.end !== 0n) directory.add('rom', romFile(dev, Number(rom.end - rom.start + 1n)));
}

/** Pieces that are aligned and as wide as may be, in ascending order. */
function* pieces(offset: number, count: number): Generator<[offset: number, width: 1 | 2 | 4]> {
  for (let at = offset; at < offset + count; ) {
    const left = offset + count - at;
    const width = at % 4 === 0 && left >= 4 ? 4 : at % 2 === 0 && left >= 2 ? 2 : 1;
    yield [at, width];
    at += width;
  }
}

const readConfig =
  (dev: PciDev) =>
  (p: Process, into: Uint8Array, offset: number): number => {
    const end = p.capable('CAP_SYS_ADMIN') ? dev.configSize : HEADER;
    const count = Math.max(0, Math.min(into.length, end - offset));
    for (const [at, width] of pieces(offset, count)) put(into, at - offset, width, dev.readConfig(at, width));
    return count;
  };

const writeConfig =
  (dev: PciDev) =>
  (_p: Process, from: Uint8Array, offset: number): number => {
    for (const [at, width] of pieces(offset, from.length)) dev.writeConfig(at, width, get(from, at - offset, width));
    return from.length;
  };

/** I/O ports: accesses of one, two or four bytes, as the device decodes them. x86 cannot map them. */
function ports(dev: PciDev, bar: number): BinaryAttribute['ops'] {
  const width = (length: number): 1 | 2 | 4 | undefined => (length === 1 || length === 2 || length === 4 ? length : undefined);
  return {
    read: (_p, into, offset) => {
      const wide = width(into.length);
      if (wide === undefined) return -EINVAL;
      put(into, 0, wide, Number(dev.barRead(bar, offset, wide)));
      return wide;
    },
    write: (_p, from, offset) => {
      const wide = width(from.length);
      if (wide === undefined) return -EINVAL;
      dev.barWrite(bar, offset, wide, get(from, 0, wide));
      return wide;
    },
    mmap: () => (has(dev.system.machine, 'portsHaveMmap') ? -EINVAL : -ENODEV),
  };
}

/** Memory can be mapped, and nothing else. */
function memory(dev: PciDev, bar: number, length: number): BinaryAttribute['ops'] {
  return {
    mmap: (p, { page, pages, shared }: FileMap) => {
      if (page + pages > Math.ceil(length / PAGE_SIZE)) return -EINVAL;
      return shared ? new BarMapping(dev, bar) : p.system.notModelled('MAP_PRIVATE of resourceN', -EINVAL);
    },
  };
}

/** A mapping of a BAR that knows no driver: with decoding off, loads are all ones. */
class BarMapping implements Backing {
  readonly notifiers: Set<() => void> = new Set();
  readonly #dev: PciDev;
  readonly #bar: number;

  constructor(dev: PciDev, bar: number) {
    this.#dev = dev;
    this.#bar = bar;
  }

  page(): null {
    return null;
  }

  load(offset: number, width: Width): number | bigint {
    return this.#dev.barRead(this.#bar, offset, width);
  }

  store(offset: number, width: Width, value: number | bigint): number {
    this.#dev.barWrite(this.#bar, offset, width, value);
    return 0;
  }

  pfn(index: number): Pick<BarMapping, 'load' | 'store'> & { offset: number } {
    return { load: (...args) => this.load(...args), store: (...args) => this.store(...args), offset: index * PAGE_SIZE };
  }
}

/** pci_read_rom, pci_write_rom: readable once something other than '0' and a newline has been written. */
function romFile(dev: PciDev, length: number): BinaryAttribute {
  let enabled = false;
  return new BinaryAttribute(0o600, length, {
    read: (_p, into, offset) => {
      if (!enabled) return -EINVAL;
      const size = romSize(dev);
      if (size === 0) return -EIO;
      const count = Math.max(0, Math.min(into.length, size - offset));
      for (let at = 0; at < count; at++) into[at] = Number(dev.barRead(ROM, offset + at, 1));
      return count;
    },
    write: (_p, from, offset) => {
      enabled = !(offset === 0 && from.length === 2 && from[0] === 0x30);
      return from.length;
    },
  });
}

function put(into: Uint8Array, at: number, width: 1 | 2 | 4, value: number): void {
  for (let byte = 0; byte < width; byte++) into[at + byte] = (value >>> (8 * byte)) & 0xff;
}

function get(from: Uint8Array, at: number, width: 1 | 2 | 4): number {
  let value = 0;
  for (let byte = width - 1; byte >= 0; byte--) value = value * 256 + from[at + byte]!;
  return value;
}
