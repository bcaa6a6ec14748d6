export interface Timer {
  /** Simulated time, in ticks. */
  readonly at: number;
  readonly fire: () => void;
  /** It wakes those who wait already, and does nothing else: see `Runner.remind`. */
  readonly reminder: boolean;
  /** Of a device at work: whoever waits for an event lets time pass for it. */
  readonly hardware: boolean;
}

/** What is to happen at some simulated time: in the order of that time, and of those of one time in the order in which they were set. */
export class Timers {
  readonly #sorted: Timer[] = [];

  /** When the next one is due; Infinity: there is none. */
  get next(): number {
    return this.#sorted[0]?.at ?? Infinity;
  }

  /** There are some, and nothing but reminders. */
  get onlyReminders(): boolean {
    return this.#sorted.length > 0 && this.#sorted.every((timer) => timer.reminder);
  }

  /** A device is at work. */
  get hardware(): boolean {
    return this.#sorted.some((timer) => timer.hardware);
  }

  /** The result cancels. */
  set(timer: Timer): () => void {
    const index = this.#sorted.findIndex((other) => other.at > timer.at);
    this.#sorted.splice(index < 0 ? this.#sorted.length : index, 0, timer);
    return () => {
      const at = this.#sorted.indexOf(timer);
      if (at >= 0) this.#sorted.splice(at, 1);
    };
  }

  /** Takes out the first that is due. */
  due(now: number): Timer | undefined {
    return this.next <= now ? this.#sorted.shift() : undefined;
  }

  clear(): void {
    this.#sorted.length = 0;
  }
}
