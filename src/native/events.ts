import type { Addon } from './addon.ts';

type Done = (value: number) => void;

/**
 * Results of runs and waits, which arrive from other threads. While one is pending that was started with `ref`, the event
 * loop stays alive.
 */
export class Events {
  readonly #addon: Addon;
  readonly #pending: Map<number, { done: Done; ref: boolean }> = new Map();
  #refs = 0;

  private constructor(addon: Addon) {
    this.#addon = addon;
    addon.listen((id, value) => {
      const entry = this.#take(id);
      entry?.done(value);
    });
  }

  static readonly #all: WeakMap<Addon, Events> = new WeakMap();

  /** One per environment and addon, made when first needed. */
  static of(addon: Addon): Events {
    let events = Events.#all.get(addon);
    if (events === undefined) Events.#all.set(addon, (events = new Events(addon)));
    return events;
  }

  add(id: number, ref: boolean, done: Done): void {
    this.#pending.set(id, { done, ref });
    if (ref && this.#refs++ === 0) this.#addon.hold(true);
  }

  /** The result, should it be on its way already, is dropped. */
  remove(id: number): void {
    this.#take(id);
  }

  #take(id: number): { done: Done } | undefined {
    const entry = this.#pending.get(id);
    if (entry === undefined) return undefined;
    this.#pending.delete(id);
    if (entry.ref && --this.#refs === 0) this.#addon.hold(false);
    return entry;
  }
}
