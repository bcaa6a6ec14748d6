/** One who wants to know. `wake` gets the events that came; true means it took them and nobody behind it is told. */
export interface Waiter {
  wake(events: number): boolean | void;
}

/**
 * `wait_queue_head_t`: waiters are told in the order they came, those added with `priority` (irqfd) before all others.
 */
export class WaitQueue {
  readonly #waiters: Waiter[] = [];
  #priorities = 0;

  get size(): number {
    return this.#waiters.length;
  }

  /** Returns what removes it again. */
  add(waiter: Waiter, priority = false): () => void {
    if (priority) this.#waiters.splice(this.#priorities++, 0, waiter);
    else this.#waiters.push(waiter);
    return () => {
      const at = this.#waiters.indexOf(waiter);
      if (at < 0) return;
      this.#waiters.splice(at, 1);
      if (at < this.#priorities) this.#priorities--;
    };
  }

  wake(events: number): void {
    for (const waiter of [...this.#waiters]) {
      if (waiter.wake(events) === true) return;
    }
  }
}
