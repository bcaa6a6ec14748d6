/** `struct completion`: something others wait for, which happens once. */
export class Completion {
  #done = false;
  readonly #listeners: (() => void)[] = [];

  get done(): boolean {
    return this.#done;
  }

  complete(): void {
    if (this.#done) return;
    this.#done = true;
    for (const listener of this.#listeners.splice(0)) listener();
  }

  /** Calls `listener` when it has happened, at once if it has. */
  whenDone(listener: () => void): void {
    if (this.#done) listener();
    else this.#listeners.push(listener);
  }
}

/**
 * The rest of a system call that has to wait: `go` runs as soon as `after` is complete, whether or not the caller is still there to hear of it, as in an
 * uninterruptible sleep. `result` is there once `over` is complete.
 */
export class Pending {
  readonly over: Completion = new Completion();
  #result: number | undefined;
  #error: { readonly thrown: unknown } | undefined;

  constructor(after: Completion, go: () => number | Pending) {
    after.whenDone(() => {
      try {
        this.#take(go());
      } catch (thrown) {
        this.#error = { thrown };
        this.over.complete();
      }
    });
  }

  /** What the call returns; undefined while it waits. Throws what it threw. */
  get result(): number | undefined {
    if (this.#error !== undefined) throw this.#error.thrown;
    return this.#result;
  }

  #take(answer: number | Pending): void {
    if (answer instanceof Pending) {
      answer.over.whenDone(() => {
        this.#error = answer.#error;
        this.#result = answer.#result;
        this.over.complete();
      });
    } else {
      this.#result = answer;
      this.over.complete();
    }
  }
}
