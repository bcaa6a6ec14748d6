import type { Stat } from '../kernel/backend.ts';
import { ENODEV } from '../uapi/sys.ts';
import { type Backing, File, type FileMap } from './file.ts';
import { PAGE_SIZE } from './mm/pages.ts';
import { AnonymousMemory } from './mm/vma.ts';
import type { Process } from './process.ts';
import type { CharDevice } from './system.ts';

/** An open device node; drivers extend it. The devtmpfs it lies on allows exec. */
export abstract class CharFile extends File {
  override readonly noexec: boolean = false;
  override readonly seekable: boolean = true;
  readonly device: CharDevice;

  constructor(device: CharDevice, flags: number) {
    super(device.path, flags);
    this.device = device;
  }

  override reopen(p: Process, flags: number): File | number {
    return this.device.open(p, flags);
  }

  override stat(p: Process): Stat {
    return p.system.deviceStat(this.device);
  }
}

class NullFile extends CharFile {
  override read(_p: Process, _into: Uint8Array): number {
    return 0;
  }

  override write(_p: Process, from: Uint8Array): number {
    return from.length;
  }

  override pread(p: Process, into: Uint8Array): number {
    return this.read(p, into);
  }

  override pwrite(p: Process, from: Uint8Array): number {
    return this.write(p, from);
  }
}

class ZeroFile extends NullFile {
  override read(_p: Process, into: Uint8Array): number {
    into.fill(0);
    return into.length;
  }

  /** Anonymous memory by another name, at whatever offset. */
  override mmap(_p: Process, { page, pages, shared }: FileMap): Backing | number {
    return new AnonymousMemory((page + pages) * PAGE_SIZE, shared);
  }
}

export const nullDevice: CharDevice = {
  path: '/dev/null',
  major: 1,
  minor: 3,
  mode: 0o666,
  open: (_p, flags) => new NullFile(nullDevice, flags),
};

export const zeroDevice: CharDevice = {
  path: '/dev/zero',
  major: 1,
  minor: 5,
  mode: 0o666,
  open: (_p, flags) => new ZeroFile(zeroDevice, flags),
};

/** The numbers of nodes that everybody knows. */
const absentNumbers: Readonly<Record<string, { major: number; minor: number; mode: number }>> = {
  '/dev/vfio/vfio': { major: 10, minor: 196, mode: 0o666 },
  '/dev/iommu': { major: 10, minor: 258, mode: 0o660 },
};

/** A node the machine has but no part of the simulator drives. */
export function absentDriver(path: string): CharDevice {
  return {
    path,
    ...(absentNumbers[path] ?? { major: 0, minor: 0, mode: 0o600 }),
    open: (p) => p.system.notModelled(path, -ENODEV),
  };
}
