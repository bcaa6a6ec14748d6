import type { Stat } from '../kernel/backend.ts';
import { NotModelled } from '../kernel/errors.ts';
import { has } from './changes.ts';
import { Coverage } from './coverage.ts';
import type { File } from './file.ts';
import { ClassDevice } from './fs/class-device.ts';
import { FsTree } from './fs/tree.ts';
import type { Tsm } from './hardware/tsm/tsm.ts';
import type { Machine } from './machine.ts';
import { type HugePool, makePools } from './mm/huge-pool.ts';
import { UserLocked } from './mm/user-locked.ts';
import { makeParameters, type Parameters } from './parameters.ts';
import { type PciPlug, PciSubsystem } from './pci/pci-subsystem.ts';
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

/** The class of devices with this major number, where all have one. */
const classes: Readonly<Record<number, string>> = { 1: 'mem', 10: 'misc' };
/** What devtmpfs gives a node whose driver asks for nothing. */
const DEVTMPFS_MODE = 0o600;

/** The pid of the first simulated program. */
const FIRST_PID = 1000;

/** CLOCK_REALTIME at boot, in nanoseconds: every simulated machine boots at the first second of 2026. */
const BOOT_TIME = 1_767_225_600_000_000_000n;

export interface SystemOptions {
  /** What to do with what is not modelled: throw `NotModelled` (default), or refuse it as a kernel without it does. */
  notModelled?: 'throw' | 'refuse';
  seed?: number;
  /** PCI functions besides the machine's own. */
  pci?: readonly PciPlug[];
}

/** What the parts of the simulated kernel share: the globals of a real one. One per machine. */
export class System {
  readonly machine: Machine;
  readonly coverage: Coverage = new Coverage();
  readonly runner: Runner;
  readonly userLocked: UserLocked = new UserLocked();
  readonly fs: FsTree;
  /** Character device numbers in use, and the names /proc/devices has for them. */
  readonly majors: Map<number, string> = new Map([
    [1, 'mem'],
    [10, 'misc'],
  ]);
  readonly parameters: Parameters;
  /** By page size, as the kernel has them. */
  readonly hugePools: ReadonlyMap<number, HugePool>;
  /** TAINT_* bits, as /proc/sys/kernel/tainted counts them. */
  tainted = 0n;
  readonly #devices: CharDevice[] = [];
  readonly #classDevices: WeakMap<CharDevice, ClassDevice> = new WeakMap();
  /** PCI functions that were brought along. */
  readonly plugs: readonly PciPlug[];
  readonly #notModelled: 'throw' | 'refuse';
  #inode = 1;
  #pid = FIRST_PID;
  #pci: PciSubsystem | undefined;
  #random: number;

  constructor(machine: Machine, { notModelled = 'throw', seed = 1, pci = [] }: SystemOptions = {}) {
    this.machine = machine;
    this.fs = new FsTree(!has(machine, 'sysfsUnlinked'));
    this.plugs = pci;
    this.#notModelled = notModelled;
    this.#random = seed >>> 0;
    this.runner = new Runner(machine.instructionsPerMs);
    this.parameters = makeParameters(machine.parameters);
    this.hugePools = makePools(machine);
  }

  /** PCI and the IOMMU: probed when somebody first asks. */
  get pci(): PciSubsystem {
    this.#pci ??= new PciSubsystem(this);
    return this.#pci;
  }

  /** RFC: the security manager of the machine; absent: as mainline. */
  get tsm(): Tsm | undefined {
    return this.machine.teeIo === undefined ? undefined : this.pci.fabric.tsm;
  }

  /** CLOCK_REALTIME in nanoseconds: simulated time too. */
  realtime(): bigint {
    return BOOT_TIME + this.runner.now;
  }

  /** A new device node, with the directories to it; where its major number tells its class, with its entries in /sys. Last registration wins. */
  register(device: CharDevice): void {
    this.unregister(device.path);
    const { major, path, mode } = device;
    const found = classes[major];
    if (found === undefined) {
      this.addNode(device);
      return;
    }
    const name = path.slice(path.lastIndexOf('/') + 1);
    const devmode = mode === DEVTMPFS_MODE ? undefined : mode;
    this.#classDevices.set(device, new ClassDevice(this, { class: found, name, device, devmode }));
  }

  /** Takes away what `register` made. Open files stay. Nothing there: nothing happens. */
  unregister(path: string): void {
    const device = this.device(path);
    if (device === undefined) return;
    const entry = this.#classDevices.get(device);
    if (entry === undefined) this.removeNode(path);
    else entry.remove();
  }

  /** devtmpfs: the node alone. */
  addNode(device: CharDevice): void {
    this.#devices.push(device);
    this.fs.addDevice(device);
  }

  removeNode(path: string): void {
    const at = this.#devices.findIndex((device) => device.path === path);
    if (at < 0) return;
    this.#devices.splice(at, 1);
    this.fs.removeDevice(path);
  }

  device(path: string): CharDevice | undefined {
    return this.#devices.find((device) => device.path === path);
  }

  /** In the order of their registration. */
  devices(): readonly CharDevice[] {
    return this.#devices;
  }

  /** alloc_chrdev_region: the highest free number from 254 down, with its name in /proc/devices. */
  allocMajor(name: string): number {
    for (let major = 254; major >= 234; major--) {
      if (this.majors.has(major)) continue;
      this.majors.set(major, name);
      return major;
    }
    throw new Error('no dynamic major numbers are left');
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

  newPid(): number {
    return this.#pid++;
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
  deviceStat(device: CharDevice): Stat {
    return this.fs.nodeOf(device).stat();
  }

  /** The pool of huge pages of 2^`log2` bytes (0: the default, 2 MiB); undefined where the kernel has no such size. */
  hugePool(log2: number): HugePool | undefined {
    return this.hugePools.get(2 ** (log2 || 21));
  }
}
