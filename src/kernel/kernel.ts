import type { MessagePort } from 'node:worker_threads';
import type { KernelArch, KernelFeatures, KernelKind, Kicker, Stat } from './backend.ts';
import type { Memory, Ram } from './memory.ts';

/**
 * What a process sees of a kernel: system calls on file descriptors. Everything above this interface (`kvm/`, `vfio/`,
 * `iommufd/`, your program) runs on any kernel; everything below it (addon, ffi, simulator, wrappers) is replaceable.
 *
 * Promises, on every back end:
 * - A failed call throws `KernelError`; nothing half-done stays behind except where Linux itself leaves it. A wrong argument is
 *   a TypeError or RangeError that names it, thrown before any kernel sees the call.
 * - It acts only on descriptors it opened or was given by `adopt(fd)`. Any other number, and any use after close, is EBADF
 *   from us: a descriptor of the rest of the process is never touched by accident.
 * - Before a real kernel sees an ioctl, the buffer is long enough for all it will touch, and each pointer inside lies with its whole length in
 *   live `Memory`; otherwise a RangeError names the field and both lengths. `{ unsafe: true }` opts out for one call. The
 *   simulator needs no guard: an address outside any mapping is EFAULT there.
 * - Calls are synchronous, as system calls are. What may wait has an `Async` form.
 */
export interface Kernel {
  readonly kind: KernelKind;
  /** Why this kernel and no other, in a sentence. */
  readonly reason: string;
  readonly features: KernelFeatures;
  /** `uname -r` of the kernel that answers ('6.18.44', or the simulated machine's). */
  readonly release: string;
  /** The architecture whose KVM this is: some requests are only one's. The simulator is x86 (x86-64) everywhere. */
  readonly arch: KernelArch;
  readonly closed: boolean;

  /** open(2). `flags`: O_*, default O_RDWR | O_CLOEXEC; given ones are taken as they are. `mode`: of a file that is made, default 0. */
  open(path: string, flags?: number, mode?: number): number;
  /** Takes a descriptor from outside; it must be open. Later calls may use and close it; `kernel.close()` leaves it open. TypeError: it is this kernel's already. */
  adopt(fd: number): number;
  /**
   * Lets go of a descriptor, adopted or opened here, and leaves it open: the number, for whoever takes it. It is EBADF here from now on; what it reaches stays mapped. VcpuBusy: inside
   * `runAsync`.
   */
  disown(fd: number): number;
  /** Whether `kernel.close()` would close this descriptor: it was opened here. False for one from outside, and for any other number. */
  owns(fd: number): boolean;
  /** With a descriptor: close(2). With none: the kernel itself; closes all it opened, nothing adopted; idempotent. */
  close(fd: number): void;
  close(): void;
  /** dup(2): the lowest free number, not close-on-exec. */
  dup(fd: number): number;
  /** fcntl(2) with an integer argument: F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_ADD_SEALS, F_GET_SEALS … */
  fcntl(fd: number, command: number, arg?: number): number;
  /** fstat(2). */
  fstat(fd: number): Stat;
  /** readlink(2): what a symbolic link points to. */
  readlink(path: string): string;
  /** getdents64(2) on a directory, opened for it: the names in it, without '.' and '..', in no particular order. ENOENT, ENOTDIR, EACCES. */
  readdir(path: string): string[];

  /**
   * ioctl(2). `arg`: nothing (0), an integer (number or bigint, all 64 bits), bytes (any view, also on shared memory; the kernel
   * reads and writes them in place), or a `Memory` (its address). Returns the kernel's non-negative value.
   * Throws `VcpuBusy` for a vCPU that is inside `runAsync` (the real kernel would block on its mutex).
   */
  ioctl(fd: number, request: number, arg?: IoctlArgument, options?: IoctlOptions): number;
  /** The same, but a failure is the value −errno instead of an exception: for hot paths and conformance cases. */
  tryIoctl(fd: number, request: number, arg?: IoctlArgument, options?: IoctlOptions): number;

  /** read(2): how many bytes came, 0 at the end. It may wait, unless the descriptor is O_NONBLOCK (EAGAIN). */
  read(fd: number, into: Uint8Array): number;
  /** write(2): how many bytes were taken. */
  write(fd: number, from: Uint8Array): number;
  /** pread(2): read(2) at `offset`, in bytes. */
  pread(fd: number, into: Uint8Array, offset: number | bigint): number;
  /** pwrite(2). */
  pwrite(fd: number, from: Uint8Array, offset: number | bigint): number;
  /** eventfd2(2): a counter. `flags`: EFD_*, default EFD_CLOEXEC. */
  eventfd(initval?: number, flags?: number): number;
  /** memfd_create(2): an empty file of memory. `flags`: MFD_*, default MFD_CLOEXEC. */
  memfd(name: string, flags?: number): number;
  /** ftruncate(2), in bytes. */
  ftruncate(fd: number, length: number | bigint): void;
  /** fallocate(2): `mode` is FALLOC_FL_*, `offset` and `length` are in bytes. */
  fallocate(fd: number, mode: number, offset: number | bigint, length: number | bigint): void;
  /** poll(2). Returns the `revents` in the order of `fds`. `timeout` in ms: 0 (default) never waits, −1 waits for ever. */
  poll(fds: readonly PollFd[], timeout?: number): number[];
  /** Resolves with `revents` when one of `events` (default POLLIN) is there. `ref: false` lets the process end meanwhile. */
  waitAsync(fd: number, events?: number, options?: WaitOptions): Promise<number>;

  /**
   * Zeroed, page-aligned anonymous memory with `bytes`, for RAM of guests and DMA. RangeError above `features.maxView`: larger RAM is
   * several of these, or `mmap({ length })` and its accessors.
   */
  guestRam(length: number | bigint): Ram;
  /** mmap(2), of a descriptor or anonymous; the kernel layer chooses the address. `memory.close()` is munmap(2). */
  mmap(options: MmapOptions): Memory;
  /** munmap(2): the same as `memory.close()`. */
  munmap(memory: Memory): void;
  /**
   * mprotect(2) on all or a page-aligned part. Memory with `bytes` stays readable and writable (a RangeError otherwise): a view
   * that faults would end the process. Map with `view: false` for other protections.
   */
  mprotect(memory: Memory, prot: number, range?: MemoryRange): void;
  /** madvise(2) on all or a page-aligned part. RangeError for MADV_HWPOISON and others that let a later touch end the process. */
  madvise(memory: Memory, advice: number, range?: MemoryRange): void;

  /**
   * KVM_RUN, the hot path: 0, or −errno without an exception. −EINTR after a kick, and when `budget` (milliseconds of this
   * kernel's time: wall clock, or the simulated machine's) is used up.
   */
  run(vcpu: number, options?: RunOptions): number;
  /** KVM_RUN on a thread of its own (real) or in slices (simulator). Resolves with 0 or −errno; an aborted signal kicks. */
  runAsync(vcpu: number, options?: RunAsyncOptions): Promise<number>;
  /** Makes the run under way on this vCPU return −EINTR, or the next one, once: a kick is never lost. */
  kick(vcpu: number): void;
  /** A token for `kick()` that can be posted to another worker. */
  kicker(vcpu: number): Kicker;

  /**
   * Lets the thread that has the other end of this port use the kernel: `attachKernel(port)` there gives a Kernel whose descriptors are the same. On a
   * real kernel they are the process's anyway, and that thread opens the kernel itself. A simulated kernel belongs to the thread that made it: calls come
   * here as messages, answered when this thread is in its event loop or waits inside the kernel (`run`, `poll`, a blocking `read`).
   *
   * The caller sleeps meanwhile, for ever where a real thread would (there is no Deadlock for it). Several threads' vCPUs run in slices, in the order in which their calls
   * arrive; while one of these threads is busy with something else, time that nobody executes passes no faster than the wall clock.
   * What a thread opened or mapped goes with it, or with its kernel's `close()`; a `close()` here ends its calls: EINTR from KVM_RUN, EBADF from all later ones.
   */
  attach(port: MessagePort): void;

  /** The live Memory that holds this whole range of addresses, if one does. */
  memoryAt(address: bigint, length?: number | bigint): Memory | undefined;

  [Symbol.dispose](): void;
}

export type IoctlArgument = undefined | number | bigint | ArrayBufferView | Memory;

export interface IoctlOptions {
  /** Skip the guard for this call: the caller answers for every byte and pointer. */
  unsafe?: boolean;
}

export interface PollFd {
  fd: number;
  /** POLLIN … ; default POLLIN. */
  events?: number;
}

export interface WaitOptions {
  signal?: AbortSignal;
  ref?: boolean;
}

export interface MmapOptions {
  length: number | bigint;
  /** Default PROT_READ | PROT_WRITE. */
  prot?: number;
  /** Default MAP_SHARED; MAP_ANONYMOUS is added where there is no `fd`. MAP_FIXED is refused. */
  flags?: number;
  fd?: number;
  offset?: number | bigint;
  /** False: accessors only, `bytes` undefined, any protection allowed. Default: `bytes` where the mapping cannot fault. */
  view?: boolean;
}

export interface MemoryRange {
  offset: number;
  length: number;
}

export interface RunOptions {
  budget?: number;
}

export interface RunAsyncOptions extends RunOptions {
  signal?: AbortSignal;
}
