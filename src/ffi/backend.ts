import { release } from 'node:os';
import type { Backend, KernelFeatures, KernelKind, Kicker, MapRequest, Stat } from '../kernel/backend.ts';
import type { Mapping } from '../kernel/memory.ts';
import type { Libc } from './libc.ts';
import { GuardedMapping } from './mapping.ts';
import { AT_EMPTY_PATH, STATX_BASIC_STATS, STATX_SIZE, statOf } from './stat.ts';

const ENOSYS = 38;
const KVM_RUN = 0xae80n;
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

  constructor(libc: Libc) {
    this.#libc = libc;
    this.features = { async: false, kick: false, guard: true, exactAccess: false, maxView: 0, simulated: false };
  }

  open(path: string, flags: number, mode: number): number {
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

  mmap({ length, prot, flags, fd, offset }: MapRequest): Mapping | number {
    const span = BigInt(Math.ceil(length / pageSize) * pageSize);
    const address = this.#libc.word('mmap', 0n, span, prot, flags, fd, BigInt.asIntN(64, offset));
    return address < 0n ? Number(address) : new GuardedMapping(this.#libc, address, length, span);
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
