import type { MessagePort } from 'node:worker_threads';
import type { Mapping } from './memory.ts';

/**
 * What a back end implements: system calls as the kernel has them, on descriptors, flat. Every result is ≥ 0 or −errno; nothing
 * here validates, guards, or remembers: `KernelCore` has done that before it calls, once for all three back ends.
 */
export interface Backend {
  readonly kind: KernelKind;
  readonly features: KernelFeatures;
  /** Whose requests it takes; default the host's. */
  readonly arch?: KernelArch;
  /** `uname -r` of the kernel that answers. */
  readonly release: string;

  open(path: string, flags: number, mode: number): number;
  close(fd: number): number;
  dup(fd: number): number;
  fcntl(fd: number, command: number, arg: number): number;
  /** `arg`: 64 bits as they are, or the address of these bytes (any view, also on shared memory). */
  ioctl(fd: number, request: number, arg: number | bigint | Uint8Array): number;
  read(fd: number, into: Uint8Array): number;
  write(fd: number, from: Uint8Array): number;
  pread(fd: number, into: Uint8Array, offset: bigint): number;
  pwrite(fd: number, from: Uint8Array, offset: bigint): number;
  eventfd(initval: number, flags: number): number;
  memfdCreate(name: string, flags: number): number;
  ftruncate(fd: number, length: bigint): number;
  fallocate(fd: number, mode: number, offset: bigint, length: bigint): number;
  fstat(fd: number): Stat | number;
  /** `fds` is (fd, events, revents) triples, revents written. Returns how many are ready. `timeout` in ms, −1 for ever. */
  poll(fds: Int32Array, timeout: number): number;
  /** `readlink`: the target, or −errno. */
  readlink(path: string): string | number;
  /** open(O_DIRECTORY), getdents64, close: the names without '.' and '..', or −errno. */
  readdir(path: string): string[] | number;

  mmap(request: MapRequest): Mapping | number;

  /** KVM_RUN. 0 or −errno; −EINTR also after a kick, or when `budget` milliseconds (0: none) have passed. */
  run(vcpu: number, budget: number): number;
  /** KVM_RUN off this thread (real kernels), or in slices (simulator). `done` is called once, later, with what `run` returns. */
  runAsync(vcpu: number, budget: number, done: (result: number, error?: unknown) => void): number;
  /** Makes the run that is under way on this vCPU, or else the next one, return −EINTR once. */
  kick(vcpu: number): number;
  /** A structured-cloneable token for `kick()` of another worker; undefined where kicks do not exist. */
  kicker(vcpu: number): Kicker | undefined;
  /** Called before a vCPU descriptor is closed: returns when no thread is inside KVM_RUN of it. */
  forget(vcpu: number): void;
  /** An ioctl made this descriptor: the back end closes it should its environment end before the kernel is closed. `on` false: of one that it opened, no longer. */
  own?(fd: number, on: boolean): void;

  /** Calls `done(revents)` once when the descriptor (an eventfd, …) has one of `events`; the result cancels. −errno where it cannot wait. */
  wait(fd: number, events: number, ref: boolean, done: (revents: number) => void): { cancel(): void } | number;

  /** Serves the calls of another thread that come by this port (the simulator). A kernel of the process needs no such thing: that thread opens its own. */
  attach?(port: MessagePort, reason: string): void;

  /** Kernel goes away: stop threads, free what is shared. Descriptors are closed already. */
  dispose(): void;
}

/** As the kernel spells it under arch/. */
export type KernelArch = 'x86' | 'arm64';

export type KernelKind = 'native' | 'ffi' | 'sim';

/** What this kernel can do; ask before you rely on it. */
export interface KernelFeatures {
  /** `runAsync` and `waitAsync`. False through ffi: synchronous calls only. */
  readonly async: boolean;
  /** `kick`, `kicker` and `run({ budget })`. */
  readonly kick: boolean;
  /** Bytes and pointers are checked before the kernel sees them; an address of ours is a real one. */
  readonly guard: boolean;
  /** Accessors of mappings that fault give an error, of exactly the asked width. */
  readonly exactAccess: boolean;
  /** The longest mapping that has `bytes`. */
  readonly maxView: number;
  /** Nothing here is real. */
  readonly simulated: boolean;
}

export interface Stat {
  dev: bigint;
  ino: bigint;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  rdev: bigint;
  size: bigint;
  blksize: number;
  blocks: bigint;
}

export interface MapRequest {
  /** Bytes, > 0. */
  length: number;
  prot: number;
  /** MAP_SHARED / MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE, MAP_HUGETLB, MAP_POPULATE … never MAP_FIXED. */
  flags: number;
  /** −1 for anonymous memory. */
  fd: number;
  offset: bigint;
  /** False: do not offer `bytes`, even where possible (such a mapping may be given any protection). */
  view: boolean;
}

/** Can be posted to another worker; `kick(kicker)` there interrupts the vCPU. Opaque. */
export interface Kicker {
  readonly kvio: 'kicker';
  readonly kind: KernelKind;
  readonly id: bigint;
  /** The simulator's flag; null on a real kernel. */
  readonly flag: Int32Array | null;
}
