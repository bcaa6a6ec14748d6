import { EBUSY, POLLHUP, POLLIN } from '../../../uapi/sys.ts';
import type { EventfdFile } from '../../eventfd.ts';

/**
 * What an eventfd that user space writes does in the kernel (drivers/vfio/virqfd.c): each write is consumed and acts once. Of several on one eventfd the last one made
 * acts first; where it is an irqfd too, that one takes the write, and none of these sees it.
 */
export class Virqfd {
  readonly #eventfd: EventfdFile;
  readonly #leave: () => void;
  readonly #act: () => void;

  private constructor(eventfd: EventfdFile, act: () => void, closed: () => void) {
    this.#eventfd = eventfd;
    this.#act = act;
    this.#leave = eventfd.wait.add(
      {
        wake: (events) => {
          if (events & POLLIN) {
            eventfd.consume();
            this.#act();
          }
          if (events & POLLHUP) closed();
        },
      },
      'head',
    );
  }

  /** eventfd_ctx_remove_wait_queue: takes what is in the counter along. */
  remove(): void {
    this.#leave();
    this.#eventfd.consume();
  }

  /** What is pending already acts once and stays in the counter. */
  static add(eventfd: EventfdFile, act: () => void, closed: () => void): Virqfd {
    const virqfd = new Virqfd(eventfd, act, closed);
    if (eventfd.count > 0n) act();
    return virqfd;
  }
}

/** Room for one: −EBUSY where it is taken. It empties itself when the eventfd's last descriptor is closed. */
export class VirqfdSlot {
  #virqfd: Virqfd | undefined;

  get taken(): boolean {
    return this.#virqfd !== undefined;
  }

  enable(eventfd: EventfdFile, act: () => void): number {
    if (this.#virqfd !== undefined) return -EBUSY;
    this.#virqfd = Virqfd.add(eventfd, act, () => this.disable());
    return 0;
  }

  disable(): void {
    this.#virqfd?.remove();
    this.#virqfd = undefined;
  }
}
