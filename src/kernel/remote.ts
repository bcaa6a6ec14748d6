import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { KernelArch, KernelFeatures, KernelKind, Kicker, MapRequest, Stat } from './backend.ts';
import { Deadlock, KvioError, NotModelled, VcpuBusy } from './errors.ts';
import type { Width } from './memory.ts';

/**
 * What passes between the thread a simulated kernel lives in and another that is attached to it. A call is a message each way: the caller sleeps on a word of
 * shared memory until its answer lies in the port. Bytes are copied; pages of mappings are shared.
 */

/** The first message on a port that a kernel was attached to. */
export interface Hello {
  readonly kvio: 'attach';
  readonly kind: KernelKind;
  readonly reason: string;
  /** Absent for a real kernel, which the other thread opens by itself. */
  readonly remote?: {
    readonly thread: number;
    readonly arch: KernelArch;
    readonly features: KernelFeatures;
    readonly release: string;
    readonly words: Int32Array;
    readonly doorbell: Int32Array;
    /** Closed with the thread: how the other one learns, without an event loop, that nobody will answer. */
    readonly lifeline: MessagePort;
  };
}

/** In `words`: how many messages were sent to the caller; 1 when the kernel is closed. */
export const SENT = 0;
export const GONE = 1;

/** Bytes the kernel wrote travel back with the result. */
export interface Filled {
  readonly result: number;
  readonly bytes: Uint8Array | undefined;
}

export interface RemoteMapping {
  readonly id: number;
  readonly address: bigint;
  readonly length: number;
  readonly bytes: Uint8Array | undefined;
  readonly exact: boolean;
}

/** Every call there is: a back end's, with what a message cannot carry (buffers to fill, callbacks, mappings) as values and ids. */
export interface Calls {
  open(path: string, flags: number, mode: number): number;
  close(fd: number): number;
  dup(fd: number): number;
  fcntl(fd: number, command: number, arg: number): number;
  ioctl(fd: number, request: number, arg: number | bigint | Uint8Array): Filled;
  read(fd: number, length: number): Filled;
  write(fd: number, from: Uint8Array): number;
  pread(fd: number, length: number, offset: bigint): Filled;
  pwrite(fd: number, from: Uint8Array, offset: bigint): number;
  eventfd(initval: number, flags: number): number;
  memfdCreate(name: string, flags: number): number;
  ftruncate(fd: number, length: bigint): number;
  fallocate(fd: number, mode: number, offset: bigint, length: bigint): number;
  fstat(fd: number): Stat | number;
  poll(fds: Int32Array, timeout: number): { result: number; fds: Int32Array };
  readlink(path: string): string | number;
  readdir(path: string): string[] | number;
  mmap(request: MapRequest): RemoteMapping | number;
  load(mapping: number, offset: number, width: Width): number | bigint;
  store(mapping: number, offset: number, width: Width, value: number | bigint): number;
  copyOut(mapping: number, offset: number, length: number): Filled;
  copyIn(mapping: number, offset: number, from: Uint8Array): number;
  protect(mapping: number, offset: number, length: number, prot: number): number;
  advise(mapping: number, offset: number, length: number, advice: number): number;
  unmap(mapping: number): number;
  run(vcpu: number, budget: number): number;
  /** The result comes as an event of this id. */
  runAsync(vcpu: number, budget: number, id: number): number;
  kick(vcpu: number): number;
  kicker(vcpu: number): Kicker | undefined;
  forget(vcpu: number): number;
  own(fd: number, on: boolean): number;
  /** The revents come as an event of this id. */
  wait(fd: number, events: number, id: number): number;
  cancel(id: number): number;
  attach(port: MessagePort, reason: string): number;
}

export interface Request {
  readonly call: keyof Calls;
  readonly args: readonly unknown[];
  /** The caller waits for the answer that has the same. */
  readonly seq: number;
}

/** To the caller: an answer (`seq`), or what became of a `runAsync` or `wait` (`event`). */
export interface Reply {
  readonly seq?: number;
  readonly event?: number;
  readonly value?: unknown;
  readonly error?: SentError;
}

/** An error as it travels: structured clone would lose its class and fields. */
export interface SentError {
  readonly name: string;
  readonly message: string;
  readonly code: unknown;
  /** What the class keeps besides: `what` of NotModelled, `fd` of VcpuBusy. */
  readonly detail: unknown;
}

const revive: Readonly<Record<string, (error: SentError) => Error>> = {
  NotModelled: ({ detail, message }) => new NotModelled(String(detail), message),
  Deadlock: ({ message }) => new Deadlock(message),
  VcpuBusy: ({ detail, message }) => Object.defineProperty(new VcpuBusy(Number(detail), ''), 'message', { value: message }),
  KvioError: ({ code, message }) => new KvioError(String(code), message),
  RangeError: ({ code, message }) => coded(new RangeError(message), code),
  TypeError: ({ code, message }) => coded(new TypeError(message), code),
};

const coded = (error: Error, code: unknown): Error => (code === undefined ? error : Object.assign(error, { code }));

export function sendable(error: unknown): SentError {
  const { name, message, code, what, fd } = error as Error & Record<string, unknown>;
  return { name: String(name), message: String(message ?? error), code, detail: what ?? fd };
}

export function received(error: SentError): Error {
  return (revive[error.name] ?? (({ code, message }) => coded(new Error(message), code)))(error);
}

/** Tells whether the thread at the other end of a port of its own is there, without an event loop to hear of it: a closed port cannot be transferred. */
export class Lifeline {
  #port: MessagePort;
  #dead = false;

  constructor(port: MessagePort) {
    this.#port = port;
    port.unref();
  }

  get dead(): boolean {
    if (this.#dead) return true;
    receiveMessageOnPort(this.#port);
    const here = new MessageChannel();
    try {
      here.port1.postMessage(this.#port, [this.#port]);
      this.#port = (receiveMessageOnPort(here.port2) as { message: MessagePort }).message;
      this.#port.unref();
    } catch {
      this.#dead = true;
    }
    here.port1.close();
    return this.#dead;
  }

  close(): void {
    this.#dead = true;
    this.#port.close();
  }
}
