import { unsigned } from '../kernel/arguments.ts';
import { KernelError } from '../kernel/errors.ts';
import { Handle } from '../kernel/handle.ts';
import type { Kernel, WaitOptions } from '../kernel/kernel.ts';
import { EBADF, EFD_CLOEXEC, EFD_NONBLOCK, POLLIN } from '../uapi/sys.ts';

/** A loop over events: `signal` ends it by an exception, `ref: false` lets the process end meanwhile. Default as `ref()` and `unref()` say. */
export type EventOptions = WaitOptions;

/**
 * An eventfd: a counter that devices, drivers and programs add to, and that one reader takes. What VFIO signals interrupts by, and KVM takes
 * them from. Waiting for it keeps the process alive, as an open socket does, until `unref()`.
 */
export class Eventfd extends Handle {
  #ref = true;
  /** Waits under way, to be begun anew when `ref` changes. */
  readonly #waits: Set<AbortController> = new Set();

  /** eventfd2(2), close-on-exec and non-blocking: `take()` of nothing is 0. */
  static create(kernel: Kernel, initval = 0): Eventfd {
    return new Eventfd(kernel, kernel.eventfd(initval, EFD_CLOEXEC | EFD_NONBLOCK));
  }

  /** An eventfd from outside. `close()` closes it; `kernel.close()` does not. */
  static fromFd(kernel: Kernel, fd: number): Eventfd {
    return new Eventfd(kernel, kernel.adopt(fd));
  }

  /** write(2): adds to the counter. EAGAIN: it would pass 2^64 − 2. */
  signal(count: number | bigint = 1): void {
    this.#check('write');
    const bytes = BigUint64Array.of(unsigned(count, 'count'));
    this.kernel.write(this.fd, new Uint8Array(bytes.buffer));
  }

  /** read(2), where poll(2) finds something: what was added since the last one. 0n: nothing. */
  take(): bigint {
    this.#check('read');
    const [revents] = this.kernel.poll([{ fd: this.fd }]);
    if ((revents! & POLLIN) === 0) return 0n;
    const bytes = new Uint8Array(8);
    this.kernel.read(this.fd, bytes);
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }

  /** The next count above 0. Rejects with the signal's reason, and with EBADF when the eventfd is closed meanwhile. */
  async wait({ signal, ref }: EventOptions = {}): Promise<bigint> {
    for (;;) {
      this.#check('waitAsync');
      signal?.throwIfAborted();
      const again = new AbortController();
      this.#waits.add(again);
      try {
        const both = signal === undefined ? again.signal : AbortSignal.any([signal, again.signal]);
        await this.kernel.waitAsync(this.fd, POLLIN, { ref: ref ?? this.#ref, signal: both });
      } catch (error) {
        if (again.signal.aborted && signal?.aborted !== true) continue;
        throw error;
      } finally {
        this.#waits.delete(again);
      }
      const count = this.take();
      if (count > 0n) return count;
    }
  }

  /** The counts as they come, until the loop is left, the signal aborts (which throws) or the eventfd is closed (which ends it). */
  async *events(options: EventOptions = {}): AsyncGenerator<bigint, void, undefined> {
    while (!this.closed) {
      let count: bigint;
      try {
        count = await this.wait(options);
      } catch (error) {
        if (this.closed && KernelError.isKernelError(error)) return;
        throw error;
      }
      yield count;
    }
  }

  [Symbol.asyncIterator](): AsyncGenerator<bigint, void, undefined> {
    return this.events();
  }

  /**
   * Calls `listener` with each count, until the returned object is disposed of, the signal aborts, or the eventfd is closed. What the listener throws is
   * an unhandled rejection.
   */
  on(listener: (count: bigint) => void, { signal, ref }: EventOptions = {}): Disposable {
    const off = new AbortController();
    const both = signal === undefined ? off.signal : AbortSignal.any([signal, off.signal]);
    void this.#listen(listener, both, ref);
    return { [Symbol.dispose]: () => off.abort() };
  }

  async #listen(listener: (count: bigint) => void, signal: AbortSignal, ref: boolean | undefined): Promise<void> {
    const events = this.events(ref === undefined ? { signal } : { signal, ref });
    for (;;) {
      let next: IteratorResult<bigint, void>;
      try {
        next = await events.next();
      } catch (error) {
        if (signal.aborted) return;
        throw error;
      }
      if (next.done === true) return;
      listener(next.value);
    }
  }

  /** Waits keep the process alive (the default). */
  ref(): this {
    return this.#setRef(true);
  }

  /** Waits let the process end. */
  unref(): this {
    return this.#setRef(false);
  }

  #setRef(ref: boolean): this {
    if (ref === this.#ref) return this;
    this.#ref = ref;
    for (const wait of this.#waits) wait.abort();
    return this;
  }

  #check(call: string): void {
    if (this.closed) throw new KernelError(EBADF, call, { note: 'this Eventfd is closed' });
  }
}
