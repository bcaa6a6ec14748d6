import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { EBADF, EINTR } from '../uapi/sys.ts';
import type { Backend, KernelArch, KernelFeatures, KernelKind, Kicker, MapRequest, Stat } from './backend.ts';
import { KernelError } from './errors.ts';
import type { Mapping, Width } from './memory.ts';
import { type Calls, type Filled, GONE, type Hello, Lifeline, type RemoteMapping, type Reply, received, SENT } from './remote.ts';

/** How often a sleeping caller looks whether the thread of the kernel is still there. */
const LOOK = 200;

/** What gives something back has nothing left to do where the kernel is gone. */
const givesBack: ReadonlySet<keyof Calls> = new Set(['close', 'forget', 'unmap', 'cancel', 'own']);

type Done = (value: number, error?: unknown) => void;

/** A simulated kernel that lives in another thread: each call is a message there, and this thread sleeps until the answer is here. */
export class RemoteBackend implements Backend {
  readonly kind: KernelKind;
  readonly arch: KernelArch;
  readonly features: KernelFeatures;
  readonly release: string;
  readonly #port: MessagePort;
  readonly #words: Int32Array;
  readonly #doorbell: Int32Array;
  readonly #lifeline: Lifeline;
  /** Runs and waits under way, by id; with `ref` they keep this thread alive. */
  readonly #events: Map<number, { done: Done; ref: boolean }> = new Map();
  #refs = 0;
  #ids = 0;
  #seq = 0;
  #gone = false;

  constructor(port: MessagePort, { kind, remote }: Hello & { remote: NonNullable<Hello['remote']> }) {
    this.kind = kind;
    this.features = remote.features;
    this.arch = remote.arch;
    this.release = remote.release;
    this.#port = port;
    this.#words = remote.words;
    this.#doorbell = remote.doorbell;
    this.#lifeline = new Lifeline(remote.lifeline);
    port.on('message', (reply: Reply) => this.#event(reply));
    port.on('close', () => this.#lost());
    port.unref();
  }

  // ---- descriptors

  open(path: string, flags: number, mode: number): number {
    return this.#call('open', path, flags, mode);
  }

  close(fd: number): number {
    return this.#call('close', fd);
  }

  own(fd: number, on: boolean): void {
    this.#call('own', fd, on);
  }

  dup(fd: number): number {
    return this.#call('dup', fd);
  }

  fcntl(fd: number, command: number, arg: number): number {
    return this.#call('fcntl', fd, command, arg);
  }

  ioctl(fd: number, request: number, arg: number | bigint | Uint8Array): number {
    if (typeof arg !== 'object') return this.#call('ioctl', fd, request, arg).result;
    return filled(this.#call('ioctl', fd, request, arg.slice()), arg);
  }

  read(fd: number, into: Uint8Array): number {
    return filled(this.#call('read', fd, into.byteLength), into);
  }

  write(fd: number, from: Uint8Array): number {
    return this.#call('write', fd, from.slice());
  }

  pread(fd: number, into: Uint8Array, offset: bigint): number {
    return filled(this.#call('pread', fd, into.byteLength, offset), into);
  }

  pwrite(fd: number, from: Uint8Array, offset: bigint): number {
    return this.#call('pwrite', fd, from.slice(), offset);
  }

  eventfd(initval: number, flags: number): number {
    return this.#call('eventfd', initval, flags);
  }

  memfdCreate(name: string, flags: number): number {
    return this.#call('memfdCreate', name, flags);
  }

  ftruncate(fd: number, length: bigint): number {
    return this.#call('ftruncate', fd, length);
  }

  fallocate(fd: number, mode: number, offset: bigint, length: bigint): number {
    return this.#call('fallocate', fd, mode, offset, length);
  }

  fstat(fd: number): Stat | number {
    return this.#call('fstat', fd);
  }

  poll(fds: Int32Array, timeout: number): number {
    const { result, fds: answered } = this.#call('poll', fds, timeout);
    fds.set(answered);
    return result;
  }

  readlink(path: string): string | number {
    return this.#call('readlink', path);
  }

  readdir(path: string): string[] | number {
    return this.#call('readdir', path);
  }

  // ---- memory

  mmap(request: MapRequest): Mapping | number {
    const mapped = this.#call('mmap', request);
    return typeof mapped === 'number' ? mapped : this.#mapping(mapped);
  }

  #mapping({ id, address, length, bytes, exact }: RemoteMapping): Mapping {
    return {
      address,
      length,
      bytes,
      exact,
      load: (offset: number, width: Width) => this.#call('load', id, offset, width),
      store: (offset: number, width: Width, value: number | bigint) => this.#call('store', id, offset, width, value),
      copyOut: (offset: number, into: Uint8Array) => filled(this.#call('copyOut', id, offset, into.byteLength), into),
      copyIn: (offset: number, from: Uint8Array) => this.#call('copyIn', id, offset, from.slice()),
      protect: (offset: number, size: number, prot: number) => this.#call('protect', id, offset, size, prot),
      advise: (offset: number, size: number, advice: number) => this.#call('advise', id, offset, size, advice),
      unmap: () => void this.#call('unmap', id),
    };
  }

  // ---- vCPUs

  run(vcpu: number, budget: number): number {
    return this.#call('run', vcpu, budget);
  }

  runAsync(vcpu: number, budget: number, done: Done): number {
    const id = ++this.#ids;
    const started = this.#call('runAsync', vcpu, budget, id);
    if (started >= 0) this.#expect(id, true, done);
    return started;
  }

  kick(vcpu: number): number {
    return this.#call('kick', vcpu);
  }

  kicker(vcpu: number): Kicker | undefined {
    return this.#call('kicker', vcpu);
  }

  forget(vcpu: number): void {
    this.#call('forget', vcpu);
  }

  // ---- waiting

  wait(fd: number, events: number, ref: boolean, done: (revents: number) => void): { cancel(): void } | number {
    const id = ++this.#ids;
    const started = this.#call('wait', fd, events, id);
    if (started < 0) return started;
    this.#expect(id, ref, done);
    return {
      cancel: () => {
        if (this.#take(id) !== undefined) this.#call('cancel', id);
      },
    };
  }

  attach(port: MessagePort, reason: string): void {
    this.#send('attach', [port, reason], [port]);
  }

  dispose(): void {
    for (const id of [...this.#events.keys()]) this.#take(id);
    this.#lifeline.close();
    this.#port.close();
    this.#gone = true;
  }

  // ---- messages

  #call<C extends keyof Calls>(call: C, ...args: Parameters<Calls[C]>): ReturnType<Calls[C]> {
    return this.#send(call, args, []) as ReturnType<Calls[C]>;
  }

  #send(call: keyof Calls, args: readonly unknown[], transfer: MessagePort[]): unknown {
    const seq = ++this.#seq;
    const words = this.#words;
    let sent = Atomics.load(words, SENT);
    if (this.#gone || Atomics.load(words, GONE) !== 0) return this.#absent(call);
    this.#port.postMessage({ call, args, seq }, transfer);
    Atomics.add(this.#doorbell, 0, 1);
    Atomics.notify(this.#doorbell, 0);
    for (;;) {
      const slept = Atomics.wait(words, SENT, sent, LOOK);
      sent = Atomics.load(words, SENT);
      const reply = this.#answer(seq);
      if (reply !== undefined) {
        if (reply.error !== undefined) throw received(reply.error);
        return reply.value;
      }
      if (Atomics.load(words, GONE) !== 0 || (slept === 'timed-out' && this.#lifeline.dead)) return this.#absent(call);
    }
  }

  /** The answer, if it has come; events that came before it are delivered later, as they would be by the event loop. */
  #answer(seq: number): Reply | undefined {
    for (let next = receiveMessageOnPort(this.#port); next !== undefined; next = receiveMessageOnPort(this.#port)) {
      const reply = next.message as Reply;
      if (reply.seq === seq) return reply;
      setImmediate(() => this.#event(reply));
    }
    return undefined;
  }

  #absent(call: keyof Calls): number {
    if (givesBack.has(call)) return 0;
    throw new KernelError(EBADF, call, { note: 'the kernel this one is attached to is closed' });
  }

  #expect(id: number, ref: boolean, done: Done): void {
    this.#events.set(id, { done, ref });
    if (ref && this.#refs++ === 0) this.#port.ref();
  }

  #take(id: number): Done | undefined {
    const entry = this.#events.get(id);
    if (entry === undefined) return undefined;
    this.#events.delete(id);
    if (entry.ref && --this.#refs === 0) this.#port.unref();
    return entry.done;
  }

  #event({ event, value, error }: Reply): void {
    if (event !== undefined) this.#take(event)?.(value as number, error === undefined ? undefined : received(error));
  }

  /** The thread of the kernel is gone, or the kernel is closed: what was under way ends as a signal ends it. */
  #lost(): void {
    this.#gone = true;
    for (const id of [...this.#events.keys()]) this.#take(id)?.(-EINTR);
  }
}

function filled({ result, bytes }: Filled, into: Uint8Array): number {
  if (bytes !== undefined) into.set(bytes);
  return result;
}
