/** What exists while the calls go on: descriptors by kind, memory, what was closed, and what runs. */

const MOST = { kvm: 4, vm: 6, vcpu: 8, eventfd: 12, memfd: 8, other: 16 };
const MOST_MEMORY = 24;
const MOST_RUNNING = 6;

export class World {
  /** fd → kind. */
  #kinds = new Map();
  closedFds = [];
  memories = [];
  closedMemories = [];
  /** Addresses of JavaScript buffers. */
  canaries = [];
  /** Promises under way. */
  running = new Set();
  #addresses = new WeakMap();

  constructor(kernel, random) {
    this.kernel = kernel;
    this.random = random;
  }

  get fds() {
    return [...this.#kinds.keys()];
  }

  ofKind(kind) {
    return [...this.#kinds].filter(([, of]) => of === kind).map(([fd]) => fd);
  }

  /** A descriptor the kernel gave. Too many of a kind: the oldest is closed. */
  add(fd, kind) {
    this.#kinds.set(fd, kind);
    const all = this.ofKind(kind);
    if (all.length > MOST[kind]) this.close(all[0]);
    return fd;
  }

  close(fd) {
    this.kernel.close(fd);
    this.forget(fd);
  }

  forget(fd) {
    if (this.#kinds.delete(fd)) this.closedFds.push(fd);
    if (this.closedFds.length > 32) this.closedFds.shift();
  }

  keep(memory) {
    this.#addresses.set(memory, memory.address);
    this.memories.push(memory);
    if (this.memories.length > MOST_MEMORY) this.closeMemory(this.memories[0]);
    return memory;
  }

  closeMemory(memory) {
    memory.close();
    const at = this.memories.indexOf(memory);
    if (at >= 0) this.closedMemories.push(...this.memories.splice(at, 1));
    if (this.closedMemories.length > 16) this.closedMemories.shift();
  }

  addressOf(memory) {
    return (memory && this.#addresses.get(memory)) ?? 0n;
  }

  /** Follows a promise; `settled` is called with its error, if it has one. */
  follow(promise, settled) {
    const followed = promise.then(
      () => settled(undefined),
      (error) => settled(error),
    );
    this.running.add(followed);
    followed.finally(() => this.running.delete(followed));
  }

  get full() {
    return this.running.size >= MOST_RUNNING;
  }

  /** What a conversion or getter of the caller's does in the middle of a call. */
  mischief() {
    const { random } = this;
    const fd = random.pick(this.fds);
    if (random.chance(0.5) && fd !== undefined) this.close(fd);
    else if (this.memories.length > 0) this.closeMemory(random.pick(this.memories));
  }
}
