import { Completion, Pending } from '../completion.ts';

/** pci_rescan_remove_lock: one at a time, in the order in which they came. */
export class RescanRemoveLock {
  #last: Completion | undefined;

  /** Runs `body` when nobody holds it, and holds it until that is complete. Complete when it is given back. */
  run(body: () => Completion): Completion {
    const before = this.#last;
    const over = new Completion();
    this.#last = over;
    const go = (): void => body().whenDone(() => over.complete());
    if (before === undefined) go();
    else before.whenDone(go);
    over.whenDone(() => {
      if (this.#last === over) this.#last = undefined;
    });
    return over;
  }

  /** A system call that holds it while it does `body`: it waits for whoever has it. */
  call(body: () => number): number | Pending {
    let result = 0;
    const over = this.run(() => {
      const done = new Completion();
      result = body();
      done.complete();
      return done;
    });
    return over.done ? result : new Pending(over, () => result);
  }
}
