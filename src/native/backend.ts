import { release } from 'node:os';
import { Arenas, maxArenaView } from '../kernel/arena.ts';
import type { Backend, KernelFeatures, KernelKind, Kicker, MapRequest, Stat } from '../kernel/backend.ts';
import { hostReaddir } from '../kernel/host-readdir.ts';
import type { Mapping } from '../kernel/memory.ts';
import type { Addon } from './addon.ts';
import { Events } from './events.ts';
import { map } from './mapping.ts';
import { type State, stateOf } from './state.ts';

const KVM_SET_SIGNAL_MASK = 0x4004ae8b;
/** Where `state.i32` has it. */
const RESULT = 6;

const arenas: WeakMap<Addon, Arenas> = new WeakMap();

function arenasOf(addon: Addon): Arenas {
  let found = arenas.get(addon);
  if (found === undefined) arenas.set(addon, (found = new Arenas(addon)));
  return found;
}

/** The host's kernel, through the addon. */
export class NativeBackend implements Backend {
  readonly kind: KernelKind = 'native';
  readonly features: KernelFeatures = {
    async: true,
    kick: true,
    guard: true,
    exactAccess: true,
    maxView: maxArenaView,
    simulated: false,
  };
  readonly release: string = release();

  readonly #addon: Addon;
  readonly #call: () => void;
  readonly #i32: Int32Array;
  readonly #u32: Uint32Array;
  readonly #state: State;
  readonly #vcpus: Set<number> = new Set();
  readonly #waits: Set<number> = new Set();

  constructor(addon: Addon) {
    this.#addon = addon;
    this.#call = addon.call;
    this.#state = stateOf(addon);
    this.#i32 = this.#state.i32;
    this.#u32 = this.#state.u32;
  }

  // ---- descriptors

  open(path: string, flags: number, mode: number): number {
    return this.#addon.open(path, flags, mode);
  }

  close(fd: number): number {
    return this.#addon.close(fd);
  }

  /** Whether a descriptor is closed with the environment (a terminated worker runs no JavaScript that could): what an ioctl made is, like all that was opened. */
  own(fd: number, on: boolean): void {
    this.#addon.own(fd, on);
  }

  dup(fd: number): number {
    return this.#addon.dup(fd);
  }

  fcntl(fd: number, command: number, arg: number): number {
    return this.#addon.fcntl(fd, command, arg);
  }

  ioctl(fd: number, request: number, arg: number | bigint | Uint8Array): number {
    const u32 = this.#u32;
    this.#i32[0] = fd;
    u32[1] = request;
    if (typeof arg === 'number') {
      u32[2] = arg;
      u32[3] = Math.floor(arg / 0x1_0000_0000);
    } else if (typeof arg === 'bigint') {
      this.#state.i64[1] = arg;
    } else {
      this.#addon.callBytes(request === KVM_SET_SIGNAL_MASK ? this.#kickable(arg) : arg);
      return this.#i32[RESULT]!;
    }
    this.#call();
    return this.#i32[RESULT]!;
  }

  /** struct kvm_signal_mask { len, sigset } with the kick's signal let through: no mask may make a run unstoppable. */
  #kickable(mask: Uint8Array): Uint8Array {
    const bit = this.#addon.kickSignal() - 1;
    const at = 4 + (bit >> 3);
    if (bit < 0 || at >= mask.byteLength) return mask;
    const copy = mask.slice();
    copy[at] = copy[at]! & ~(1 << (bit & 7));
    return copy;
  }

  read(fd: number, into: Uint8Array): number {
    return this.#addon.read(fd, into);
  }

  write(fd: number, from: Uint8Array): number {
    return this.#addon.write(fd, from);
  }

  pread(fd: number, into: Uint8Array, offset: bigint): number {
    return this.#addon.pread(fd, into, offset);
  }

  pwrite(fd: number, from: Uint8Array, offset: bigint): number {
    return this.#addon.pwrite(fd, from, offset);
  }

  eventfd(initval: number, flags: number): number {
    return this.#addon.eventfd(initval, flags);
  }

  memfdCreate(name: string, flags: number): number {
    return this.#addon.memfdCreate(name, flags >>> 0);
  }

  ftruncate(fd: number, length: bigint): number {
    return this.#addon.ftruncate(fd, length);
  }

  fallocate(fd: number, mode: number, offset: bigint, length: bigint): number {
    return this.#addon.fallocate(fd, mode, offset, length);
  }

  fstat(fd: number): Stat | number {
    const words = new BigUint64Array(10);
    const result = this.#addon.fstat(fd, words);
    if (result < 0) return result;
    const number = (index: number): number => Number(words[index]);
    return {
      dev: words[0]!,
      ino: words[1]!,
      mode: number(2),
      nlink: number(3),
      uid: number(4),
      gid: number(5),
      rdev: words[6]!,
      size: BigInt.asIntN(64, words[7]!),
      blksize: number(8),
      blocks: words[9]!,
    };
  }

  poll(fds: Int32Array, timeout: number): number {
    return this.#addon.poll(fds, timeout);
  }

  readlink(path: string): string | number {
    return this.#addon.readlink(path);
  }

  readdir(path: string): string[] | number {
    return hostReaddir(path);
  }

  // ---- memory

  mmap(request: MapRequest): Mapping | number {
    return map(this.#addon, arenasOf(this.#addon), request);
  }

  // ---- vCPUs

  run(vcpu: number, budget: number): number {
    this.#i32[0] = vcpu;
    this.#state.f64[2] = budget;
    this.#addon.run();
    return this.#i32[RESULT]!;
  }

  runAsync(vcpu: number, budget: number, done: (result: number) => void): number {
    const events = Events.of(this.#addon);
    const id = this.#addon.runAsync(vcpu, budget);
    if (id <= 0) return id;
    this.#vcpus.add(vcpu);
    events.add(id, true, done);
    return 0;
  }

  kick(vcpu: number): number {
    this.#vcpus.add(vcpu);
    return this.#addon.kick(vcpu);
  }

  kicker(vcpu: number): Kicker | undefined {
    this.#vcpus.add(vcpu);
    const id = this.#addon.kickerId(vcpu);
    return id < 0 ? undefined : { kvio: 'kicker', kind: 'native', id: BigInt(id), flag: null };
  }

  forget(vcpu: number): void {
    this.#vcpus.delete(vcpu);
    this.#addon.forget(vcpu);
  }

  // ---- waiting

  wait(fd: number, events: number, ref: boolean, done: (revents: number) => void): { cancel(): void } | number {
    const listener = Events.of(this.#addon);
    const id = this.#addon.wait(fd, events);
    if (id < 0) return id;
    this.#waits.add(id);
    listener.add(id, ref, (revents) => {
      this.#waits.delete(id);
      done(revents);
    });
    return { cancel: () => this.#cancel(id) };
  }

  #cancel(id: number): void {
    if (!this.#waits.delete(id)) return;
    this.#addon.cancelWait(id);
    Events.of(this.#addon).remove(id);
  }

  dispose(): void {
    for (const vcpu of [...this.#vcpus]) this.forget(vcpu);
    for (const id of [...this.#waits]) this.#cancel(id);
  }
}
