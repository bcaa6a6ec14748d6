import { EBADF } from '../uapi/sys.ts';
import type { Backend } from './backend.ts';
import { KernelError } from './errors.ts';
import type { TrackedFile } from './files.ts';
import type { WaitOptions } from './kernel.ts';

/** The asynchronous forms of what may wait, over a back end's callbacks. */

/** One after the other on one vCPU, as its mutex would have it; a failure does not hold up the next. */
export function inTurn<T>(file: TrackedFile, start: () => Promise<T>): Promise<T> {
  const turn = file.tail === undefined ? start() : file.tail.then(start, start);
  file.tail = turn;
  const done = (): void => {
    if (file.tail === turn) file.tail = undefined;
  };
  turn.then(done, done);
  return turn;
}

/** KVM_RUN until it returns. An aborted signal kicks: what the run had come to is not lost. */
export function runFor(
  backend: Backend,
  file: TrackedFile,
  vcpu: number,
  budget: number,
  signal: AbortSignal | undefined,
): Promise<number> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const kick = (): void => {
      if (file.running) backend.kick(vcpu);
    };
    const settle = (): void => {
      file.running = false;
      signal?.removeEventListener('abort', kick);
    };
    const done = (result: number, error?: unknown): void => {
      settle();
      if (error === undefined) resolve(result);
      else reject(error);
    };
    signal?.addEventListener('abort', kick, { once: true });
    file.running = true;
    try {
      const started = backend.runAsync(vcpu, budget, done);
      if (started < 0) throw new KernelError(started, 'ioctl', { request: 'KVM_RUN', fd: vcpu });
    } catch (error) {
      settle();
      throw error;
    }
  });
}

/** Until the descriptor has one of `events`. Closing the file ends the wait with EBADF, where the kernel would wait for ever. */
export function waitFor(
  backend: Backend,
  file: TrackedFile,
  fd: number,
  events: number,
  { signal, ref = true }: WaitOptions,
): Promise<number> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const settle = (): void => {
      file.waits.delete(closed);
      signal?.removeEventListener('abort', aborted);
    };
    const started = backend.wait(fd, events, ref, (revents) => {
      settle();
      if (revents < 0) reject(new KernelError(revents, 'epoll_ctl', { fd }));
      else resolve(revents);
    });
    if (typeof started === 'number') throw new KernelError(started, 'epoll_ctl', { fd });
    const stop = (reason: unknown): void => {
      settle();
      started.cancel();
      reject(reason);
    };
    const closed = (): void => stop(new KernelError(EBADF, 'waitAsync', { fd, note: 'the descriptor was closed meanwhile' }));
    const aborted = (): void => stop(signal?.reason);
    file.waits.add(closed);
    signal?.addEventListener('abort', aborted, { once: true });
  });
}
