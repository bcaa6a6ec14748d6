import type { Stat } from '../kernel/backend.ts';
import { NotModelled } from '../kernel/errors.ts';
import { S_IFCHR } from '../uapi/sys.ts';
import { Coverage } from './coverage.ts';
import type { File } from './file.ts';
import type { Machine } from './machine.ts';
import type { Process } from './process.ts';
import { Runner } from './runner.ts';

/** A character device: `open` makes the file for one open(2), or answers −errno. `flags` are those F_GETFL shall give. */
export interface CharDevice {
  readonly path: string;
  readonly major: number;
  readonly minor: number;
  /** Permission bits of the node. */
  readonly mode: number;
  open(p: Process, flags: number): File | number;
}

/** CLOCK_REALTIME at boot, in nanoseconds: every simulated machine boots at the first second of 2026. */
const BOOT_TIME = 1_767_225_600_000_000_000n;

export interface SystemOptions {
  /** What to do with what is not modelled: throw `NotModelled` (default), or refuse it as a kernel without it does. */
  notModelled?: 'throw' | 'refuse';
  seed?: number;
}

/** What the parts of the simulated kernel share: the globals of a real one. One per machine. */
export class System {
  readonly machine: Machine;
  readonly coverage: Coverage = new Coverage();
  readonly runner: Runner;
  readonly #devices = new Map<string, CharDevice>();
  readonly #notModelled: 'throw' | 'refuse';
  #inode = 1;
  #random: number;

  constructor(machine: Machine, { notModelled = 'throw', seed = 1 }: SystemOptions = {}) {
    this.machine = machine;
    this.#notModelled = notModelled;
    this.#random = seed >>> 0;
    this.runner = new Runner(machine.instructionsPerMs);
  }

  /** CLOCK_REALTIME in nanoseconds: simulated time too. */
  realtime(): bigint {
    return BOOT_TIME + this.runner.now;
  }

  /** A new device node. Last registration wins. */
  register(device: CharDevice): void {
    this.#devices.set(device.path, device);
  }

  device(path: string): CharDevice | undefined {
    return this.#devices.get(path);
  }

  /** Throws `NotModelled`, or answers `refusal` where the kernel was told to refuse. `what` names the ioctl, the flag, the instruction. */
  notModelled(what: string, refusal: number): number {
    if (this.#notModelled === 'throw') throw new NotModelled(what);
    return refusal;
  }

  /** Deterministic 32-bit random numbers (the seed's sequence), for what a kernel takes from its entropy pool. */
  random(): number {
    this.#random = (this.#random + 0x6d2b_79f5) >>> 0;
    let x = this.#random;
    x = Math.imul(x ^ (x >>> 15), x | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return (x ^ (x >>> 14)) >>> 0;
  }

  /** The next inode number. */
  newInode(): bigint {
    return BigInt(this.#inode++);
  }

  /** What fstat says of the one inode all anonymous files share. */
  anonInodeStat(): Stat {
    return { dev: 16n, ino: 26n, mode: 0o600, nlink: 1, uid: 0, gid: 0, rdev: 0n, size: 0n, blksize: 4096, blocks: 0n };
  }

  /** What fstat says of a device node. */
  deviceStat({ path, major, minor, mode }: CharDevice): Stat {
    const ino = BigInt(1 + [...this.#devices.keys()].indexOf(path));
    const rdev = BigInt((major << 8) | (minor & 0xff) | ((minor & ~0xff) << 12));
    return { dev: 6n, ino, mode: S_IFCHR | mode, nlink: 1, uid: 0, gid: 0, rdev, size: 0n, blksize: 4096, blocks: 0n };
  }

  /** The pool of huge pages of 2^`log2` bytes (0: the default, 2 MiB); undefined where the kernel has no such size. */
  hugePool(log2: number): { pageSize: number; free: number } | undefined {
    const pageSize = 2 ** (log2 || 21);
    const free = this.machine.hugePages[pageSize];
    return free === undefined ? undefined : { pageSize, free };
  }
}
