import { MessagePort } from 'node:worker_threads';
import { outDescriptors, returnedKind } from '../uapi/extents.ts';
import { type IoctlRow, ioctlByRequest } from '../uapi/ioctls.ts';
import { KVM_RUN } from '../uapi/kvm.ts';
import * as sys from '../uapi/sys.ts';
import * as check from './arguments.ts';
import type { Backend, KernelArch, KernelFeatures, KernelKind, Kicker, Stat } from './backend.ts';
import { inTurn, runFor, waitFor } from './blocking.ts';
import { KernelError, type KernelErrorDetails, NotAvailable, rangeError, typeError, VcpuBusy } from './errors.ts';
import { Holder, kindOfPath, type Rule, type TrackedFile } from './files.ts';
import { argumentAt, foreignDescriptor, type GuardContext, guardBytes, guardWord } from './guard.ts';
import { showAs } from './inspect.ts';
import { askedOf, keepAlive, keepsAlive } from './keepalive.ts';
import type {
  IoctlArgument,
  IoctlOptions,
  Kernel,
  MemoryRange,
  MmapOptions,
  PollFd,
  RunAsyncOptions,
  RunOptions,
  WaitOptions,
} from './kernel.ts';
import { MappedMemory } from './mapped-memory.ts';
import { Mappings } from './mappings.ts';
import type { Memory, Ram } from './memory.ts';
import type { Hello } from './remote.ts';

/** fcntl commands whose argument is an integer, or that have none; the others take pointers. */
const integerFcntl: ReadonlySet<number> = new Set([
  ...[sys.F_DUPFD, sys.F_DUPFD_CLOEXEC, sys.F_GETFD, sys.F_SETFD, sys.F_GETFL, sys.F_SETFL],
  ...[sys.F_GETOWN, sys.F_SETOWN, sys.F_GETSIG, sys.F_SETSIG, sys.F_GETLEASE, sys.F_SETLEASE],
  ...[sys.F_GETPIPE_SZ, sys.F_SETPIPE_SZ, sys.F_GET_SEALS, sys.F_ADD_SEALS],
]);

/** Descriptors a VM ioctl makes belong to the VM's family: they can run it or reach its memory. */
const sameFamily: ReadonlySet<string> = new Set(['vcpu', 'kvm-device', 'kvm-stats', 'guest-memfd']);

/** `Kernel` over a `Backend`: arguments, ownership, guard and lifetimes, written once for all kernels. */
export class KernelCore implements Kernel {
  readonly kind: KernelKind;
  readonly reason: string;
  readonly features: KernelFeatures;
  readonly release: string;
  readonly arch: KernelArch;
  /** For those who extend a kernel (the simulator's back door, benchmarks); programs use the methods. */
  protected readonly backend: Backend;
  readonly #files: Map<number, TrackedFile> = new Map();
  /** Descriptors from outside: the kernel does not close them when it is closed. */
  readonly #outside: Set<number> = new Set();
  readonly #memory: Mappings;
  readonly #rules: Map<string, Map<number, Rule>> = new Map();
  /** The last ioctl's, by descriptor and request: the next one is often the same, and two look-ups cost a sixth of a quick system call. */
  #lastFd = -1;
  #lastRequest = 0;
  #lastFile: TrackedFile | undefined;
  #lastRule: Rule | undefined;
  readonly #guard: GuardContext;
  #closed = false;

  constructor(backend: Backend, reason: string) {
    this.backend = backend;
    this.kind = backend.kind;
    this.reason = reason;
    this.features = backend.features;
    this.release = backend.release;
    this.arch = backend.arch ?? (process.arch === 'arm64' ? 'arm64' : 'x86');
    this.#memory = new Mappings(backend);
    this.#guard = { pointers: backend.features.guard, memoryAt: (address, length) => this.#memory.find(address, length) };
  }

  get closed(): boolean {
    return this.#closed;
  }

  // ---- descriptors

  open(path: string, flags?: number, mode?: number): number {
    this.#alive('open');
    check.text(path, 'path');
    const how = flags === undefined ? sys.O_RDWR | sys.O_CLOEXEC : check.int32(flags, 'flags');
    const fd = this.backend.open(path, how, mode === undefined ? 0 : check.integer(mode, 'mode', 0, 0o7777));
    if (fd < 0) throw new KernelError(fd, 'open', { path });
    return this.#track(fd, kindOfPath(path), new Holder());
  }

  adopt(fd: number): number {
    this.#alive('adopt');
    check.descriptor(fd);
    if (this.#files.has(fd)) {
      throw typeError(
        `adopt: descriptor ${fd} belongs to this kernel already; to make an object of it: new Eventfd(kernel, ${fd}), and so on, not fromFd`,
      );
    }
    const stat = this.backend.fstat(fd);
    if (typeof stat === 'number') throw new KernelError(stat, 'adopt', { fd });
    const link = this.backend.readlink(`/proc/self/fd/${fd}`);
    this.#track(fd, typeof link === 'string' ? kindOfPath(link) : 'file', new Holder().share());
    this.#outside.add(fd);
    return fd;
  }

  disown(fd: number): number {
    const file = this.#file(fd, 'disown');
    if (file.running) throw new VcpuBusy(fd, 'disown');
    file.holder.share();
    this.#release(fd, file);
    this.backend.own?.(fd, false);
    return fd;
  }

  owns(fd: number): boolean {
    check.descriptor(fd);
    return this.#files.has(fd) && !this.#outside.has(fd);
  }

  close(...args: [] | [fd: number]): void {
    if (args.length === 0) this.#closeAll();
    else {
      const file = this.#file(args[0], 'close');
      this.#release(args[0], file);
      const result = this.backend.close(args[0]);
      if (result < 0 && result !== -sys.EINTR) throw new KernelError(result, 'close', { fd: args[0] });
    }
  }

  dup(fd: number): number {
    const file = this.#file(fd, 'dup');
    return this.#share(this.#result(this.backend.dup(fd), 'dup', { fd }), file);
  }

  fcntl(fd: number, command: number, arg = 0): number {
    const file = this.#file(fd, 'fcntl');
    check.int32(command, 'command');
    if (!integerFcntl.has(command)) throw rangeError(`fcntl: command ${command} does not take an integer`);
    const result = this.#result(this.backend.fcntl(fd, command, check.int32(arg, 'arg')), 'fcntl', { fd });
    return command === sys.F_DUPFD || command === sys.F_DUPFD_CLOEXEC ? this.#share(result, file) : result;
  }

  fstat(fd: number): Stat {
    this.#file(fd, 'fstat');
    const stat = this.backend.fstat(fd);
    if (typeof stat === 'number') throw new KernelError(stat, 'fstat', { fd });
    return stat;
  }

  readlink(path: string): string {
    this.#alive('readlink');
    const target = this.backend.readlink(check.text(path, 'path'));
    if (typeof target === 'number') throw new KernelError(target, 'readlink', { path });
    return target;
  }

  readdir(path: string): string[] {
    this.#alive('readdir');
    const names = this.backend.readdir(check.text(path, 'path'));
    if (typeof names === 'number') throw new KernelError(names, 'readdir', { path });
    return names;
  }

  // ---- ioctl

  ioctl(fd: number, request: number, arg?: IoctlArgument, options?: IoctlOptions): number {
    const result = this.tryIoctl(fd, request, arg, options);
    if (result < 0) throw this.#ioctlError(fd, request, result);
    return result;
  }

  tryIoctl(fd: number, request: number, arg: IoctlArgument = 0, options?: IoctlOptions): number {
    let file = this.#lastFile;
    let rule = this.#lastRule;
    if (file === undefined || rule === undefined || fd !== this.#lastFd || request !== this.#lastRequest) {
      file = this.#files.get(fd);
      if (file === undefined) {
        check.descriptor(fd);
        check.integer(request, 'request', 0, 0xffff_ffff);
        return -sys.EBADF;
      }
      rule = file.rules.get(request) ?? this.#rule(file, request);
      this.#lastFd = fd;
      this.#lastRequest = request;
      this.#lastFile = file;
      this.#lastRule = rule;
    }
    if (file.running) throw new VcpuBusy(fd, rule.row?.name ?? 'ioctl');
    if (arg === 0 || arg === 0n) {
      if (rule.run) return this.backend.run(fd, 0);
      const result = this.backend.ioctl(fd, request, 0);
      return rule.row?.returns === undefined || result < 0 ? result : this.#made(rule.row, result, undefined, file);
    }
    return this.#ioctl(fd, file, request, rule, arg, options);
  }

  #ioctl(
    fd: number,
    file: TrackedFile,
    request: number,
    rule: Rule,
    arg: IoctlArgument,
    options: IoctlOptions | undefined,
  ): number {
    const { row } = rule;
    const guarded = options?.unsafe !== true;
    let given: Uint8Array | bigint;
    if (ArrayBuffer.isView(arg)) {
      given = check.bytes(arg, 'arg');
      if (guarded) guardBytes(this.#guard, row, request, given, file.holder);
    } else {
      given = arg instanceof MappedMemory ? this.#memory.addressOf(arg) : check.word(arg, 'arg');
      if (guarded && this.#guard.pointers) guardWord(this.#guard, row, request, given, file.holder);
    }
    if (guarded && row?.inFds !== undefined && this.#namesForeign(row, given, file.holder)) return -sys.EBADF;
    if (row !== undefined && rule.remembered) return this.#remembered(fd, file, request, row, given);
    const result = this.backend.ioctl(fd, request, given);
    return result < 0 || row?.returns === undefined ? result : this.#made(row, result, undefined, file);
  }

  #rule(file: TrackedFile, request: number): Rule {
    check.integer(request, 'request', 0, 0xffff_ffff);
    const row = ioctlByRequest(request, file.kind);
    const remembered = row !== undefined && (keepsAlive(row.name) || row.outFds !== undefined || row.returnsWhen !== undefined);
    const rule = { row, remembered, run: request === KVM_RUN && file.kind === 'vcpu' };
    if (row !== undefined) file.rules.set(request, rule);
    return rule;
  }

  /** One that leaves something behind where the kernel accepts it: memory it names from then on, descriptors it wrote into the struct. */
  #remembered(fd: number, file: TrackedFile, request: number, row: IoctlRow, given: Uint8Array | bigint): number {
    const asked = askedOf(row.name, () => this.#argumentBytes(given, row, file.holder));
    const result = this.backend.ioctl(fd, request, given);
    if (result < 0) return result;
    const bytes = this.#argumentBytes(given, row, file.holder);
    // An unsafe call may have passed fewer bytes than the kernel read; what lay behind them is not ours to look at.
    if (bytes !== undefined && bytes.byteLength >= row.size) {
      keepAlive(this.#guard, row.name, bytes, file.holder, asked);
      for (const made of outDescriptors(row, bytes)) this.#adoptMade(made.kind, made.fd, file);
    }
    return row.returns === undefined ? result : this.#made(row, result, bytes, file);
  }

  /** If the call made a descriptor, it is ours from now on. */
  #made(row: IoctlRow, result: number, bytes: Uint8Array | undefined, from: TrackedFile): number {
    const kind = returnedKind(row, bytes);
    return kind === undefined ? result : this.#adoptMade(kind, result, from);
  }

  #adoptMade(kind: string, fd: number, from: TrackedFile): number {
    this.backend.own?.(fd, true);
    return this.#track(fd, kind, sameFamily.has(kind) ? from.holder : new Holder());
  }

  #ioctlError(fd: number, request: number, errno: number): KernelError {
    const file = this.#files.get(fd);
    const row = ioctlByRequest(request, file?.kind);
    const details: KernelErrorDetails = { request: row?.name ?? `0x${request.toString(16)}`, fd };
    if (file === undefined) details.note = this.#notOurs(fd);
    else if (row?.capability !== undefined) details.capability = row.capability;
    return new KernelError(errno, 'ioctl', details);
  }

  // ---- reading, writing, waiting

  read(fd: number, into: Uint8Array): number {
    this.#file(fd, 'read');
    return this.#result(this.backend.read(fd, check.bytes(into, 'into')), 'read', { fd });
  }

  write(fd: number, from: Uint8Array): number {
    this.#file(fd, 'write');
    return this.#result(this.backend.write(fd, check.bytes(from, 'from')), 'write', { fd });
  }

  pread(fd: number, into: Uint8Array, offset: number | bigint): number {
    this.#file(fd, 'pread');
    return this.#result(this.backend.pread(fd, check.bytes(into, 'into'), check.offset(offset, 'offset')), 'pread', { fd });
  }

  pwrite(fd: number, from: Uint8Array, offset: number | bigint): number {
    this.#file(fd, 'pwrite');
    return this.#result(this.backend.pwrite(fd, check.bytes(from, 'from'), check.offset(offset, 'offset')), 'pwrite', { fd });
  }

  eventfd(initval: number = 0, flags: number = sys.O_CLOEXEC): number {
    this.#alive('eventfd');
    check.integer(initval, 'initval', 0, 0xffff_ffff);
    const fd = this.#result(this.backend.eventfd(initval, check.int32(flags, 'flags')), 'eventfd2', {});
    return this.#track(fd, 'eventfd', new Holder());
  }

  memfd(name: string, flags = 1): number {
    this.#alive('memfd');
    check.text(name, 'name');
    const fd = this.#result(this.backend.memfdCreate(name, check.int32(flags, 'flags')), 'memfd_create', {});
    return this.#track(fd, 'file', new Holder());
  }

  ftruncate(fd: number, length: number | bigint): void {
    this.#file(fd, 'ftruncate');
    this.#result(this.backend.ftruncate(fd, check.offset(length, 'length')), 'ftruncate', { fd });
  }

  fallocate(fd: number, mode: number, offset: number | bigint, length: number | bigint): void {
    this.#file(fd, 'fallocate');
    const [from, bytes] = [check.offset(offset, 'offset'), check.offset(length, 'length')];
    this.#result(this.backend.fallocate(fd, check.int32(mode, 'mode'), from, bytes), 'fallocate', { fd });
  }

  poll(fds: readonly PollFd[], timeout = 0): number[] {
    this.#alive('poll');
    if (!Array.isArray(fds)) throw typeError(`fds must be an array of { fd, events }, not ${check.describe(fds)}`);
    const words = new Int32Array(fds.length * 3);
    fds.forEach((entry: PollFd, index) => {
      this.#file(entry?.fd, 'poll');
      words.set([entry.fd, check.integer(entry.events ?? sys.POLLIN, `fds[${index}].events`, 0, 0xffff)], index * 3);
    });
    this.#result(this.backend.poll(words, check.integer(timeout, 'timeout', -1, 0x7fff_ffff)), 'poll', {});
    return fds.map((_, index) => words[index * 3 + 2]!);
  }

  waitAsync(fd: number, events: number = sys.POLLIN, options: WaitOptions = {}): Promise<number> {
    return new Promise((resolve, reject) => {
      const file = this.#file(fd, 'waitAsync');
      check.integer(events, 'events', 0, 0xffff);
      this.#asynchronous('waitAsync');
      waitFor(this.backend, file, fd, events, options).then(resolve, reject);
    });
  }

  // ---- memory

  guestRam(length: number | bigint): Ram {
    this.#alive('guestRam');
    return this.#memory.guestRam(length);
  }

  mmap(options: MmapOptions): Memory {
    const { fd = -1 } = options;
    if (fd === -1) this.#alive('mmap');
    else this.#file(fd, 'mmap');
    return this.#memory.mmap(options);
  }

  munmap(memory: Memory): void {
    this.#memory.munmap(memory);
  }

  mprotect(memory: Memory, prot: number, range?: MemoryRange): void {
    this.#memory.mprotect(memory, prot, range);
  }

  madvise(memory: Memory, advice: number, range?: MemoryRange): void {
    this.#memory.madvise(memory, advice, range);
  }

  memoryAt(address: bigint, length: number | bigint = 1n): Memory | undefined {
    return this.#memory.find(check.word(address, 'address'), check.word(length, 'length'));
  }

  // ---- vCPUs

  run(vcpu: number, options?: RunOptions): number {
    const file = this.#files.get(vcpu);
    if (file === undefined || file.kind !== 'vcpu') throw this.#notVcpu(vcpu, 'run');
    if (file.running) throw new VcpuBusy(vcpu, 'KVM_RUN');
    return this.backend.run(vcpu, options?.budget === undefined ? 0 : this.#budget(options.budget));
  }

  runAsync(vcpu: number, options: RunAsyncOptions = {}): Promise<number> {
    const start = (): Promise<number> =>
      new Promise((resolve, reject) => {
        if (this.#files.get(vcpu) !== file || file?.kind !== 'vcpu') throw this.#notVcpu(vcpu, 'runAsync');
        this.#asynchronous('runAsync');
        const budget = options.budget === undefined ? 0 : this.#budget(options.budget);
        runFor(this.backend, file, vcpu, budget, options.signal).then(resolve, reject);
      });
    const file = this.#files.get(vcpu);
    return file === undefined ? start() : inTurn(file, start);
  }

  kick(vcpu: number): void {
    this.#kickable(vcpu, 'kick');
    this.#result(this.backend.kick(vcpu), 'kick', { fd: vcpu });
  }

  kicker(vcpu: number): Kicker {
    this.#kickable(vcpu, 'kicker');
    const kicker = this.backend.kicker(vcpu);
    if (kicker === undefined) throw new NotAvailable(`kicker: the ${this.kind} kernel cannot interrupt a vCPU`);
    return kicker;
  }

  #asynchronous(call: string): void {
    if (!this.features.async) throw new NotAvailable(`${call}: the ${this.kind} kernel has synchronous calls only`);
  }

  #kickable(vcpu: number, call: string): void {
    if (this.#files.get(vcpu)?.kind !== 'vcpu') throw this.#notVcpu(vcpu, call);
    if (!this.features.kick) throw new NotAvailable(`${call}: the ${this.kind} kernel cannot interrupt a vCPU`);
  }

  #budget(budget: number): number {
    if (typeof budget !== 'number') throw typeError(`budget must be a number of milliseconds, not ${check.describe(budget)}`);
    if (!(budget > 0 && budget <= 0x7fff_ffff)) throw rangeError(`budget must be above 0 and at most 2^31 − 1 ms, not ${budget}`);
    if (!this.features.kick) throw new NotAvailable(`run: the ${this.kind} kernel cannot bound a run`);
    return budget;
  }

  // ---- other threads

  attach(port: MessagePort): void {
    this.#alive('attach');
    if (!(port instanceof MessagePort)) throw typeError(`port must be a MessagePort, not ${check.describe(port)}`);
    if (this.backend.attach !== undefined) this.backend.attach(port, this.reason);
    else port.postMessage({ kvio: 'attach', kind: this.kind, reason: this.reason } satisfies Hello);
  }

  // ---- the end

  [Symbol.dispose](): void {
    this.#closeAll();
  }

  /** Descriptors first (running vCPUs are kicked and left), then memory, then what the back end shares. */
  #closeAll(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const [fd, file] of this.#files) {
      const own = !this.#outside.has(fd);
      this.#release(fd, file);
      if (own) this.backend.close(fd);
    }
    this.#memory.closeAll();
    this.backend.dispose();
  }

  // ---- helpers

  #track(fd: number, kind: string, holder: Holder): number {
    holder.enter();
    let rules = this.#rules.get(kind);
    if (rules === undefined) this.#rules.set(kind, (rules = new Map()));
    this.#name(fd, { kind, holder, rules, running: false, tail: undefined, waits: new Set(), descriptors: 1 });
    return fd;
  }

  #share(fd: number, file: TrackedFile): number {
    file.descriptors++;
    this.#name(fd, file);
    return fd;
  }

  /** From now on the descriptor is this file, or none. */
  #name(fd: number, file: TrackedFile | undefined): void {
    this.#outside.delete(fd);
    if (file === undefined) this.#files.delete(fd);
    else this.#files.set(fd, file);
    if (fd === this.#lastFd) this.#lastFile = undefined;
  }

  /** Everything to do before close(2) of a descriptor. */
  #release(fd: number, file: TrackedFile): void {
    this.#name(fd, undefined);
    if (file.kind === 'vcpu') this.backend.forget(fd);
    if (--file.descriptors > 0) return;
    for (const cancel of file.waits) cancel();
    file.holder.leave();
  }

  #file(fd: number, call: string): TrackedFile {
    const file = this.#files.get(fd);
    if (file === undefined) {
      check.descriptor(fd);
      throw new KernelError(sys.EBADF, call, { fd, note: this.#notOurs(fd) });
    }
    return file;
  }

  #notOurs(fd: number): string {
    if (this.#closed) return 'the kernel is closed';
    if (fd === -1) return 'no descriptor: the object is closed';
    return `descriptor ${fd} was not opened by this kernel, or is closed (adopt() takes one from outside)`;
  }

  #notVcpu(fd: number, call: string): KernelError {
    check.descriptor(fd, 'vcpu');
    const file = this.#files.get(fd);
    if (file === undefined) return new KernelError(sys.EBADF, call, { fd, note: this.#notOurs(fd) });
    return new KernelError(sys.EINVAL, call, { fd, note: `descriptor ${fd} is not a vCPU` });
  }

  #alive(call: string): void {
    if (this.#closed) throw new KernelError(sys.EBADF, call, { note: 'the kernel is closed' });
  }

  #result(result: number, syscall: string, details: KernelErrorDetails): number {
    if (result < 0) throw new KernelError(result, syscall, details);
    return result;
  }

  /** What the kernel reads: the bytes given, or those at the address given. */
  #argumentBytes(given: Uint8Array | bigint, row: IoctlRow, holder: Holder): Uint8Array | undefined {
    if (typeof given !== 'bigint') return given;
    const memory = this.#memory.find(given, BigInt(row.size));
    return memory === undefined ? undefined : argumentAt(memory, given, row, holder);
  }

  /** A struct may name descriptors: one that is open in this process but not of this kernel (libuv's, say) is never acted on. */
  #namesForeign(row: IoctlRow, given: Uint8Array | bigint, holder: Holder): boolean {
    const bytes = this.#guard.pointers ? this.#argumentBytes(given, row, holder) : undefined;
    if (bytes === undefined) return false;
    const isForeign = (fd: number): boolean => !this.#files.has(fd) && typeof this.backend.fstat(fd) !== 'number';
    return foreignDescriptor(row, bytes, isForeign) !== undefined;
  }
}

showAs(KernelCore, (kernel) => `Kernel ${kernel.kind} ${kernel.release}${kernel.closed ? ', closed' : ''}`);
