import { EAGAIN, EBADF, EFD_SEMAPHORE, EINVAL, O_NONBLOCK, O_RDWR, POLLERR, POLLHUP, POLLIN, POLLOUT } from '../uapi/sys.ts';
import { AnonFile } from './file.ts';
import type { Process } from './process.ts';
import { WaitQueue } from './wait-queue.ts';

const ULLONG_MAX = 0xffff_ffff_ffff_ffffn;

/**
 * eventfd: a 64-bit counter. Writers add, up to 0xfffffffffffffffe; readers take it all (or 1, EFD_SEMAPHORE). Kernel-side users hold the
 * file with `ref`, `signal` it (ioeventfd, VFIO interrupts) or add a waiter and `consume` (irqfd).
 */
export class EventfdFile extends AnonFile {
  override readonly wait: WaitQueue = new WaitQueue();
  #count: bigint;
  readonly #semaphore: boolean;
  readonly #exact: boolean;

  /** `flags` of eventfd2(2), already checked; `exact`: write(2) takes eight bytes, and no more. */
  constructor(initval: number, flags: number, exact = true) {
    super('anon_inode:[eventfd]', O_RDWR | (flags & O_NONBLOCK));
    this.#count = BigInt(initval >>> 0);
    this.#semaphore = (flags & EFD_SEMAPHORE) !== 0;
    this.#exact = exact;
  }

  get count(): bigint {
    return this.#count;
  }

  override read(_p: Process, into: Uint8Array): number {
    if (into.length < 8) return -EINVAL;
    const value = this.consume();
    if (value === 0n) return -EAGAIN;
    new DataView(into.buffer, into.byteOffset).setBigUint64(0, value, true);
    return 8;
  }

  override write(_p: Process, from: Uint8Array): number {
    if (from.length < 8 || (this.#exact && from.length > 8)) return -EINVAL;
    const value = new DataView(from.buffer, from.byteOffset).getBigUint64(0, true);
    if (value === ULLONG_MAX) return -EINVAL;
    if (ULLONG_MAX - this.#count <= value) return -EAGAIN;
    this.#count += value;
    this.wait.wake(POLLIN);
    return 8;
  }

  override poll(): number {
    return (
      (this.#count > 0n ? POLLIN : 0) | (this.#count === ULLONG_MAX ? POLLERR : 0) | (this.#count < ULLONG_MAX - 1n ? POLLOUT : 0)
    );
  }

  /** eventfd-id counts all eventfds of the machine. */
  override fdinfo(): undefined {}

  /** Those who wait are told that no writer will come (irqfd); a holder of the counter alone may go on signalling it. */
  override release(_p: Process): void {
    this.wait.wake(POLLHUP);
  }

  /** eventfd_signal: never blocks; the counter sticks at its maximum, of which nobody is told (poll(2) says POLLERR). */
  signal(): void {
    if (this.#count < ULLONG_MAX) this.#count++;
    this.wait.wake(POLLIN);
  }

  /** eventfd_ctx_do_read: what a reader takes; 0 when nothing is there. */
  consume(): bigint {
    const value = this.#semaphore && this.#count > 0n ? 1n : this.#count;
    this.#count -= value;
    if (value > 0n) this.wait.wake(POLLOUT);
    return value;
  }
}

/** The descriptor's eventfd, or −EBADF, or −EINVAL where it is something else. */
export function eventfdOf(p: Process, fd: number): EventfdFile | number {
  const file = p.fds.get(fd);
  if (file === undefined) return -EBADF;
  return file instanceof EventfdFile ? file : -EINVAL;
}
