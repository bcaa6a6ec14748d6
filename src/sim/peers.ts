import { MessageChannel, type MessagePort, receiveMessageOnPort, threadId } from 'node:worker_threads';
import type { Mapping } from '../kernel/memory.ts';
import { type Calls, GONE, type Hello, Lifeline, type Reply, type Request, SENT, sendable } from '../kernel/remote.ts';
import { EAGAIN, EBADF, EINVAL, F_DUPFD, F_DUPFD_CLOEXEC } from '../uapi/sys.ts';
import type { SimBackend } from './backend.ts';
import type { File } from './file.ts';
import type { Process } from './process.ts';
import type { Threads } from './runner.ts';
import { isVcpu, type VcpuLike } from './vcpu-like.ts';

/** How often, in ms, a machine that waits for other threads looks whether they are still there. */
const LOOK = 200;

/** Given once: the value, or what the call threw. */
interface Answer<T> {
  (value: T): void;
  fail(error: unknown): void;
}
type Handlers = {
  readonly [C in keyof Calls]: (peer: Peer, answer: Answer<ReturnType<Calls[C]>>, ...args: Parameters<Calls[C]>) => void;
};

interface Until<T> {
  attempt(): T | undefined;
  done(value: T | undefined): void;
  fail(error: unknown): void;
  leave?: () => void;
  deadline?: number | undefined;
}

/** Another thread of the process, at the other end of a port. */
class Peer {
  readonly port: MessagePort;
  readonly words: Int32Array = new Int32Array(new SharedArrayBuffer(8));
  readonly lifeline: Lifeline;
  /** What it opened, by descriptor: goes with it. Whoever closes one leaves its number to others. */
  readonly files: Map<number, File> = new Map();
  readonly mappings: Map<number, Mapping> = new Map();
  /** vCPUs it runs. */
  readonly runs: Map<VcpuLike, number> = new Map();
  /** Waits under way, by its own id; calls that wait, by their number (negative). */
  readonly waits: Map<number, () => void> = new Map();
  /** Calls it sleeps in. */
  asleep = 0;
  ended = false;

  constructor(port: MessagePort, lifeline: MessagePort) {
    this.port = port;
    this.lifeline = new Lifeline(lifeline);
  }

  send(reply: Reply): void {
    if (this.ended) return;
    this.port.postMessage(reply);
    Atomics.add(this.words, SENT, 1);
    Atomics.notify(this.words, SENT);
  }

  mapping(id: number): Mapping {
    const mapping = this.mappings.get(id);
    if (mapping === undefined) throw new RangeError(`there is no mapping ${id}`);
    return mapping;
  }
}

/** The threads attached to a simulated kernel (`kernel.attach`): their calls are served here, in the kernel's own thread. */
export class Peers implements Threads {
  readonly #backend: SimBackend;
  readonly #process: Process;
  readonly #peers: Set<Peer> = new Set();
  /** Rung with each call, for a machine that sleeps in a synchronous call of its own thread. */
  readonly #doorbell: Int32Array = new Int32Array(new SharedArrayBuffer(4));
  #mappings = 0;
  #calls = 0;

  constructor(backend: SimBackend, process: Process) {
    this.#backend = backend;
    this.#process = process;
  }

  attach(port: MessagePort, reason: string): void {
    const { port1, port2 } = new MessageChannel();
    const peer = new Peer(port, port1);
    this.#peers.add(peer);
    const { kind, arch, features, release } = this.#backend;
    const remote = { thread: threadId, arch, features, release, words: peer.words, doorbell: this.#doorbell, lifeline: port2 };
    port.postMessage({ kvio: 'attach', kind, reason, remote } satisfies Hello, [port2]);
    port.on('message', (request: Request) => this.#serve(peer, request));
    port.on('close', () => this.#end(peer));
    port.unref();
  }

  /** The kernel is closed. Runs have ended (EINTR) and were answered; whoever sleeps in another call wakes with EBADF. */
  dispose(): void {
    for (const peer of this.#peers) {
      Atomics.store(peer.words, GONE, 1);
      Atomics.add(peer.words, SENT, 1);
      Atomics.notify(peer.words, SENT);
      this.#end(peer);
    }
  }

  // ---- for a machine that waits

  serve(): boolean {
    let any = false;
    for (const peer of this.#peers) {
      for (let next = receiveMessageOnPort(peer.port); next !== undefined; next = receiveMessageOnPort(peer.port)) {
        any = true;
        this.#serve(peer, next.message as Request);
      }
    }
    return any;
  }

  get thinking(): boolean {
    for (const peer of this.#peers) if (peer.asleep === 0) return true;
    return false;
  }

  wait(ms: number): boolean {
    const rung = Atomics.load(this.#doorbell, 0);
    if (this.serve()) return true;
    const until = performance.now() + ms;
    while (Atomics.wait(this.#doorbell, 0, rung, Math.min(LOOK, until - performance.now())) === 'timed-out') {
      for (const peer of this.#peers) if (peer.lifeline.dead) this.#end(peer);
      if (!this.thinking || performance.now() >= until) return false;
    }
    return this.serve();
  }

  // ---- calls

  #serve(peer: Peer, { call, args, seq }: Request): void {
    const handler = this.#handlers[call] as (peer: Peer, answer: Answer<unknown>, ...args: readonly unknown[]) => void;
    peer.asleep++;
    const reply = (what: Reply): void => {
      peer.asleep--;
      peer.send({ ...what, seq });
    };
    const fail = (error: unknown): void => reply({ error: sendable(error) });
    const answer = Object.assign((value: unknown): void => reply({ value }), { fail });
    try {
      handler(peer, answer, ...args);
    } catch (error) {
      fail(error);
    }
  }

  readonly #handlers: Handlers = {
    open: (peer, answer, ...args) => answer(this.#opened(peer, this.#backend.open(...args))),
    close: (peer, answer, fd) => {
      peer.files.delete(fd);
      answer(this.#backend.close(fd));
    },
    own: (peer, answer, fd, on) => {
      if (on) this.#opened(peer, fd);
      else peer.files.delete(fd);
      answer(0);
    },
    dup: (peer, answer, fd) => answer(this.#opened(peer, this.#backend.dup(fd))),
    fcntl: (peer, answer, fd, command, arg) => {
      const result = this.#backend.fcntl(fd, command, arg);
      answer(command === F_DUPFD || command === F_DUPFD_CLOEXEC ? this.#opened(peer, result) : result);
    },
    ioctl: (peer, answer, fd, request, arg) => {
      const bytes = typeof arg === 'object' ? arg : undefined;
      const done = (): void => answer({ result: this.#backend.ioctl(fd, request, arg), bytes });
      this.#whenIdle(peer, this.#process.fds.get(fd), answer, done);
    },
    read: (peer, answer, fd, length) => {
      const bytes = new Uint8Array(length);
      const done = (result: number): void => answer({ result, bytes: result > 0 ? bytes.subarray(0, result) : undefined });
      const file = this.#waiting(fd, 'readable');
      if (file === undefined) done(this.#backend.read(fd, bytes));
      else this.#transfer(peer, file, answer, () => file.read(this.#process, bytes), done);
    },
    write: (peer, answer, fd, from) => {
      const file = this.#waiting(fd, 'writable');
      if (file === undefined) answer(this.#backend.write(fd, from));
      else this.#transfer(peer, file, answer, () => file.write(this.#process, from), answer);
    },
    pread: (_, answer, fd, length, offset) => {
      const bytes = new Uint8Array(length);
      answer({ result: this.#backend.pread(fd, bytes, offset), bytes });
    },
    pwrite: (peer, answer, fd, from, offset) => {
      const file = this.#waiting(fd, 'writable');
      if (file === undefined || !file.writableAt || offset < 0n) answer(this.#backend.pwrite(fd, from, offset));
      else this.#transfer(peer, file, answer, () => file.pwrite(this.#process, from, offset), answer);
    },
    eventfd: (peer, answer, ...args) => answer(this.#opened(peer, this.#backend.eventfd(...args))),
    memfdCreate: (peer, answer, ...args) => answer(this.#opened(peer, this.#backend.memfdCreate(...args))),
    ftruncate: (_, answer, ...args) => answer(this.#backend.ftruncate(...args)),
    fallocate: (_, answer, ...args) => answer(this.#backend.fallocate(...args)),
    fstat: (_, answer, fd) => answer(this.#backend.fstat(fd)),
    poll: (peer, answer, fds, timeout) => {
      const { runner } = this.#process.system;
      const attempt = (): number | undefined => this.#backend.poll(fds, 0) || undefined;
      const deadline = timeout < 0 ? undefined : runner.ticks + timeout * runner.instructionsPerMs;
      this.#until(peer, { attempt, fail: answer.fail, deadline, done: (result = 0) => answer({ result, fds }) });
    },
    readlink: (_, answer, path) => answer(this.#backend.readlink(path)),
    readdir: (_, answer, path) => answer(this.#backend.readdir(path)),
    mmap: (peer, answer, request) => {
      const mapping = this.#backend.mmap(request);
      if (typeof mapping === 'number') return answer(mapping);
      const { address, length, bytes, exact = false } = mapping;
      const id = ++this.#mappings;
      peer.mappings.set(id, mapping);
      answer({ id, address, length, bytes, exact });
    },
    load: (peer, answer, id, ...args) => answer(peer.mapping(id).load(...args)),
    store: (peer, answer, id, ...args) => answer(peer.mapping(id).store(...args)),
    copyOut: (peer, answer, id, offset, length) => {
      const bytes = new Uint8Array(length);
      answer({ result: peer.mapping(id).copyOut(offset, bytes), bytes });
    },
    copyIn: (peer, answer, id, ...args) => answer(peer.mapping(id).copyIn(...args)),
    protect: (peer, answer, id, ...args) => answer(peer.mapping(id).protect(...args)),
    advise: (peer, answer, id, ...args) => answer(peer.mapping(id).advise(...args)),
    unmap: (peer, answer, id) => {
      peer.mapping(id).unmap();
      peer.mappings.delete(id);
      answer(0);
    },
    run: (peer, answer, fd, budget) => {
      const file = this.#process.fds.get(fd);
      if (!isVcpu(file)) return answer(this.#backend.run(fd, budget));
      this.#whenIdle(peer, file, answer, () => this.#run(peer, file, budget, answer));
    },
    runAsync: (peer, answer, fd, budget, event) => {
      const file = this.#process.fds.get(fd);
      if (!isVcpu(file)) return answer(file === undefined ? -EBADF : -EINVAL);
      const fail = (error: unknown): void => peer.send({ event, error: sendable(error) });
      const done = Object.assign((value: number): void => peer.send({ event, value }), { fail });
      this.#whenIdle(peer, file, done, () => this.#run(peer, file, budget, done));
      answer(0);
    },
    kick: (_, answer, fd) => answer(this.#backend.kick(fd)),
    kicker: (_, answer, fd) => answer(this.#backend.kicker(fd)),
    forget: (peer, answer, fd) => {
      const file = this.#process.fds.get(fd);
      if (isVcpu(file) && peer.runs.has(file)) this.#backend.forget(fd);
      answer(0);
    },
    wait: (peer, answer, fd, events, event) => {
      const started = this.#backend.wait(fd, events, false, (value) => {
        peer.waits.delete(event);
        peer.send({ event, value });
      });
      if (typeof started === 'number') return answer(started);
      peer.waits.set(event, () => started.cancel());
      answer(0);
    },
    cancel: (peer, answer, id) => {
      peer.waits.get(id)?.();
      peer.waits.delete(id);
      answer(0);
    },
    attach: (_, answer, port, reason) => {
      this.attach(port, reason);
      answer(0);
    },
  };

  // ---- what may wait

  #run(peer: Peer, vcpu: VcpuLike, budget: number, answer: Answer<number>): void {
    peer.runs.set(vcpu, (peer.runs.get(vcpu) ?? 0) + 1);
    this.#process.system.runner.runForThread(this.#process, vcpu, budget, (result, error) => {
      const left = peer.runs.get(vcpu)! - 1;
      if (left === 0) peer.runs.delete(vcpu);
      else peer.runs.set(vcpu, left);
      if (error === undefined) answer(result);
      else answer.fail(error);
    });
  }

  /** The vCPU's mutex: a call waits until KVM_RUN of another thread is over. */
  #whenIdle(peer: Peer, file: File | undefined, { fail }: Answer<never>, done: () => void): void {
    const busy = (): boolean => isVcpu(file) && this.#process.system.runner.running(file);
    this.#until(peer, { attempt: () => !busy() || undefined, fail, done });
  }

  /** The file, where a call on it may wait; undefined: the back end answers at once. */
  #waiting(fd: number, direction: 'readable' | 'writable'): File | undefined {
    const file = this.#process.fds.get(fd);
    return file?.[direction] === true && file.wait !== undefined ? file : undefined;
  }

  #transfer(peer: Peer, file: File, { fail }: Answer<never>, call: () => number, answer: (result: number) => void): void {
    const attempt = (): number | undefined => {
      const result = call();
      return result === -EAGAIN && file.mayWait ? undefined : result;
    };
    file.ref();
    const leave = (): void => file.unref(this.#process);
    this.#until(peer, { attempt, fail, leave, done: (result) => answer(result!) });
    this.#process.system.runner.wake();
  }

  /** Tries until `attempt` answers something; `done` gets it, or undefined at the deadline. `leave` is called also when the peer goes before. */
  #until<T>(peer: Peer, { attempt, done, fail, leave, deadline }: Until<T>): void {
    const id = --this.#calls;
    const end = (): void => {
      peer.waits.delete(id);
      leave?.();
    };
    const cancel = this.#process.system.runner.blockElsewhere(attempt, deadline, (value, error) => {
      end();
      try {
        if (error !== undefined) throw error;
        done(value);
      } catch (thrown) {
        fail(thrown);
      }
    });
    if (cancel === undefined) return;
    peer.waits.set(id, () => {
      cancel();
      end();
    });
  }

  /** A new descriptor is the peer's; −errno is passed on. */
  #opened(peer: Peer, fd: number): number {
    const file = this.#process.fds.get(fd);
    if (file !== undefined) peer.files.set(fd, file);
    return fd;
  }

  /** The thread is gone, or will not call again: all that is its own goes too. */
  #end(peer: Peer): void {
    if (peer.ended) return;
    peer.ended = true;
    this.#peers.delete(peer);
    for (const cancel of [...peer.waits.values()]) cancel();
    for (const vcpu of peer.runs.keys()) this.#process.system.runner.kick(vcpu);
    for (const [fd, file] of peer.files) if (this.#process.fds.get(fd) === file) this.#backend.close(fd);
    for (const mapping of peer.mappings.values()) mapping.unmap();
    this.#process.system.runner.wake();
    peer.lifeline.close();
    peer.port.close();
  }
}
