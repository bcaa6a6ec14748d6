/** One who wants to know. `wake` gets the events that came; true means it took them and nobody behind it is told. */
export interface Waiter {
  wake(events: number): boolean | void;
}

/**
 * `wait_queue_head_t`. `priority` (add_wait_queue_priority): before all others, in the order they came. `head` (add_wait_queue): behind those alone, the last that came first.
 * `tail`: behind all who are there.
 */
export class WaitQueue {
  readonly #waiters: Waiter[] = [];
  #priorities = 0;

  get size(): number {
    return this.#waiters.length;
  }

  /** Returns what removes it again. */
  add(waiter: Waiter, place: 'priority' | 'head' | 'tail' = 'tail'): () => void {
    this.#waiters.splice(place === 'tail' ? this.#waiters.length : this.#priorities, 0, waiter);
    if (place === 'priority') this.#priorities++;
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
