import { release } from 'node:os';
import { maxArenaView } from '../kernel/arena.ts';
import type { Backend, KernelFeatures, KernelKind, Kicker, MapRequest, Stat } from '../kernel/backend.ts';
import { hostReaddir } from '../kernel/host-readdir.ts';
import type { Mapping } from '../kernel/memory.ts';
import type { Libc } from './libc.ts';
import { GuardedMapping } from './mapping.ts';
import { AT_EMPTY_PATH, STATX_BASIC_STATS, STATX_SIZE, statOf } from './stat.ts';
import { type FileFacts, Views } from './views.ts';

const ENOSYS = 38;
const KVM_RUN = 0xae80n;
const [O_TRUNC, O_CLOEXEC, O_PATH] = [0x200, 0x80000, 0x200000] as const;
const HUGETLBFS_MAGIC = 0x958458f6n;
const [MAP_HUGETLB, MAP_HUGE_SHIFT, MAP_HUGE_MASK, DEFAULT_HUGE_SHIFT] = [0x40000, 26, 0x3f, 21] as const;
const pageSize = 4096;

/** A C string. */
function text(value: string): Uint8Array {
  return new TextEncoder().encode(`${value}\0`);
}

/**
 * System calls through libc by ffi-rs. Nothing is shared with the addon, so that each can judge the other.
 *
 * Signals: a call that a signal interrupts answers −EINTR as libc does, and is not repeated here. Node installs its handlers with
 * SA_RESTART, so most calls resume by themselves; KVM_RUN and poll never do. KVM_RUN's −EINTR is an outcome (`intr`) anyway.
 */
export class FfiBackend implements Backend {
  readonly kind: KernelKind = 'ffi';
  readonly release: string = release();
  readonly features: KernelFeatures;
  readonly #libc: Libc;
  readonly #views: Views;

  constructor(libc: Libc) {
    this.#libc = libc;
    this.#views = new Views(libc);
    this.features = { async: false, kick: false, guard: true, exactAccess: false, maxView: maxArenaView, simulated: false };
  }

  open(path: string, flags: number, mode: number): number {
    if ((flags & O_TRUNC) !== 0 && !this.#views.empty) this.#views.shorten(this.#truncates(path), 0n);
    return this.#libc.call('open', text(path), flags, mode);
  }

  close(fd: number): number {
    return this.#libc.call('close', fd);
  }

  dup(fd: number): number {
    return this.#libc.call('dup', fd);
  }

  fcntl(fd: number, command: number, arg: number): number {
    return this.#libc.call('fcntl', fd, command, arg);
  }

  ioctl(fd: number, request: number, arg: number | bigint | Uint8Array): number {
    if (arg instanceof Uint8Array) return this.#libc.call('ioctl:bytes', fd, BigInt(request), arg);
    return this.#libc.call('ioctl', fd, BigInt(request), BigInt.asIntN(64, BigInt(arg)));
  }

  read(fd: number, into: Uint8Array): number {
    return this.#libc.call('read', fd, into, BigInt(into.byteLength));
  }

  write(fd: number, from: Uint8Array): number {
    return this.#libc.call('write', fd, from, BigInt(from.byteLength));
  }

  pread(fd: number, into: Uint8Array, offset: bigint): number {
    return this.#libc.call('pread', fd, into, BigInt(into.byteLength), BigInt.asIntN(64, offset));
  }

  pwrite(fd: number, from: Uint8Array, offset: bigint): number {
    return this.#libc.call('pwrite', fd, from, BigInt(from.byteLength), BigInt.asIntN(64, offset));
  }

  eventfd(initval: number, flags: number): number {
    return this.#libc.call('eventfd', initval | 0, flags);
  }

  memfdCreate(name: string, flags: number): number {
    return this.#libc.call('memfd_create', text(name), flags);
  }

  ftruncate(fd: number, length: bigint): number {
    this.#views.beforeTruncate(fd, length, () => this.#facts(fd));
    return this.#libc.call('ftruncate', fd, BigInt.asIntN(64, length));
  }

  fallocate(fd: number, mode: number, offset: bigint, length: bigint): number {
    return this.#libc.call('fallocate', fd, mode, BigInt.asIntN(64, offset), BigInt.asIntN(64, length));
  }

  fstat(fd: number): Stat | number {
    const statx = new Uint8Array(STATX_SIZE);
    const result = this.#libc.call('statx', fd, text(''), AT_EMPTY_PATH, STATX_BASIC_STATS, statx);
    return result < 0 ? result : statOf(statx);
  }

  /** `struct pollfd` is { int fd; short events; short revents }. */
  poll(fds: Int32Array, timeout: number): number {
    const count = Math.floor(fds.length / 3);
    const view = new DataView(new ArrayBuffer(count * 8));
    for (let index = 0; index < count; index++) {
      view.setInt32(index * 8, fds[index * 3]!, true);
      view.setInt16(index * 8 + 4, fds[index * 3 + 1]!, true);
    }
    const ready = this.#libc.call('poll', new Uint8Array(view.buffer), BigInt(count), timeout);
    for (let index = 0; index < count; index++) fds[index * 3 + 2] = view.getUint16(index * 8 + 6, true);
    return ready;
  }

  readlink(path: string): string | number {
    const target = new Uint8Array(pageSize);
    const length = this.#libc.call('readlink', text(path), target, BigInt(target.byteLength));
    return length < 0 ? length : new TextDecoder().decode(target.subarray(0, length));
  }

  readdir(path: string): string[] | number {
    return hostReaddir(path);
  }

  mmap(request: MapRequest): Mapping | number {
    const { length, prot, flags, fd, offset } = request;
    const viewed = this.#views.map(request, fd < 0 ? undefined : this.#facts(fd));
    if (viewed !== undefined) return viewed;
    const page = this.#pageSize(fd, flags);
    const span = BigInt(Math.ceil(length / page) * page);
    const address = this.#libc.word('mmap', 0n, span, prot, flags, fd, BigInt.asIntN(64, offset));
    return address < 0n ? Number(address) : new GuardedMapping(this.#libc, address, length, span);
  }

  /** hugetlb maps whole pages of its own size, and unmaps only those. */
  #pageSize(fd: number, flags: number): number {
    if (fd < 0)
      return (flags & MAP_HUGETLB) === 0 ? pageSize : 2 ** ((flags >>> MAP_HUGE_SHIFT) & MAP_HUGE_MASK || DEFAULT_HUGE_SHIFT);
    const statfs = new BigInt64Array(15);
    const result = this.#libc.call('fstatfs', fd, new Uint8Array(statfs.buffer));
    return result === 0 && statfs[0] === HUGETLBFS_MAGIC ? Number(statfs[1]) : pageSize;
  }

  #facts(fd: number): FileFacts | undefined {
    const stat = this.fstat(fd);
    const link = this.readlink(`/proc/self/fd/${fd}`);
    if (typeof stat === 'number' || typeof link === 'number') return undefined;
    return { key: `${stat.dev}:${stat.ino}`, link, size: stat.size, hugetlb: this.#pageSize(fd, 0) !== pageSize };
  }

  /** The file that an open with O_TRUNC will empty: a memfd has such a path too, /proc/self/fd/N. */
  #truncates(path: string): FileFacts | undefined {
    const probe = this.#libc.call('open', text(path), O_PATH | O_CLOEXEC, 0);
    if (probe < 0) return undefined;
    const facts = this.#facts(probe);
    this.#libc.call('close', probe);
    return facts;
  }

  run(vcpu: number): number {
    return this.#libc.call('ioctl', vcpu, KVM_RUN, 0n);
  }

  runAsync(): number {
    return -ENOSYS;
  }

  kick(): number {
    return -ENOSYS;
  }

  kicker(): Kicker | undefined {
    return undefined;
  }

  forget(): void {}

  wait(): number {
    return -ENOSYS;
  }

  dispose(): void {}
}
