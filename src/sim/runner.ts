import { Deadlock } from '../kernel/errors.ts';
import { EINTR } from '../uapi/sys.ts';
import type { Process } from './process.ts';
import { type Timer, Timers } from './timers.ts';
import type { VcpuLike } from './vcpu-like.ts';

/** Instructions of one slice: how often kicks, budgets and other vCPUs are looked at. */
const SLICE = 50_000;

/** One KVM_RUN under way. */
interface Run {
  readonly process: Process;
  readonly vcpu: VcpuLike;
  /** Simulated time at which its budget is used up. */
  readonly deadline: number;
  /** The vCPU's kick word: 1 while a kick waits to be answered. */
  readonly kick: Int32Array;
  entered: boolean;
  idle: boolean;
  /** Inside `slice` now: a device model that makes a system call must not enter it again. */
  stepping: boolean;
  result: number | undefined;
  error: unknown;
  readonly done: ((result: number, error?: unknown) => void) | undefined;
  /** `done` answers another thread, at once: it must not wait for this one's event loop. */
  readonly forThread: boolean;
}

/** Other threads of the process that use this kernel (`kernel.attach`). */
export interface Threads {
  /** Takes up the calls that have come; false where there were none. */
  serve(): boolean;
  /** One of them is not inside a call: it may do something yet. */
  readonly thinking: boolean;
  /** Sleeps until a call comes, and takes it up; false when `ms` are over, or nobody is thinking any more. */
  wait(ms: number): boolean;
}

/** A call of another thread that waits for something. */
interface Waiting {
  /** Whether it is over: it has been answered. */
  look(): boolean;
  readonly timed: boolean;
}

/** How long, in ms, a synchronous call sleeps at most before it looks whether it was kicked. */
const KICK_LATENCY = 10;

/** How often a call that waits for nothing but reminders is woken by one before it counts as stuck. */
const REMINDERS = 3;

/**
 * Lets the machine run, in one thread and always in the same order. Time is what was executed: one tick per guest instruction,
 * and a jump to the next timer or deadline when every vCPU sleeps. A synchronous KVM_RUN and a blocking system call step the asynchronous runs too,
 * as they go on meanwhile on a real machine; their completions wait for the event loop, in order.
 */
export class Runner {
  readonly instructionsPerMs: number;
  #ticks = 0;
  readonly #runs: Run[] = [];
  readonly #timers: Timers = new Timers();
  readonly #kicks = new WeakMap<VcpuLike, Int32Array>();
  /** vCPUs whose kick word another thread may have. */
  readonly #shared = new WeakSet<VcpuLike>();
  readonly #completions: (() => void)[] = [];
  readonly #waiting: Set<Waiting> = new Set();
  #looking = false;
  /** A jump that waits for the clock on the wall. */
  #pace: { readonly next: number; readonly timer: NodeJS.Timeout } | undefined;
  threads: Threads | undefined;
  #pump: NodeJS.Immediate | undefined;
  /** Keeps the process alive while a run or a wait with `ref` is under way. */
  #alive: NodeJS.Timeout | undefined;
  #held = 0;
  /** Waits for events under way. */
  #events = 0;

  constructor(instructionsPerMs: number) {
    this.instructionsPerMs = instructionsPerMs;
  }

  /** Simulated time since boot, in ticks (instructions). */
  get ticks(): number {
    return this.#ticks;
  }

  /** When the next timer is due, in ticks; Infinity: there is none. A slice should not run past it. */
  get nextTimer(): number {
    return this.#timers.next;
  }

  /** The same in nanoseconds: CLOCK_MONOTONIC of the machine. */
  get now(): bigint {
    return (BigInt(this.#ticks) * 1_000_000n) / BigInt(this.instructionsPerMs);
  }

  /**
   * Calls `fire` when simulated time reaches `ticks`; the result cancels. `hardware`: a device is at work, so that a program that only waits for its event
   * (`wait`) sees it come.
   */
  at(ticks: number, fire: () => void, hardware = false): () => void {
    return this.#set({ at: ticks, fire, reminder: false, hardware });
  }

  /**
   * The same in `ms` simulated milliseconds, for what is only said again and again until somebody acts on it: where nothing else can happen, a call that blocks
   * does not wait for reminders for ever.
   */
  remind(ms: number, fire: () => void): () => void {
    return this.#set({ at: this.#ticks + ms * this.instructionsPerMs, fire, reminder: true, hardware: false });
  }

  #set(timer: Timer): () => void {
    const cancel = this.#timers.set(timer);
    this.wake();
    if (timer.hardware && (this.#events > 0 || this.#waiting.size > 0)) this.#schedule();
    return cancel;
  }

  /** Time that a CPU waits for hardware, in nanoseconds: nothing but timers goes on meanwhile. */
  spend(nanoseconds: bigint): void {
    this.#advance(this.#ticks + this.ticksOf(nanoseconds));
  }

  /** A span of nanoseconds in ticks, at least one. */
  ticksOf(nanoseconds: bigint): number {
    return Math.max(1, Math.ceil((Number(nanoseconds) * this.instructionsPerMs) / 1e6));
  }

  // ---- KVM_RUN

  /** KVM_RUN to its end. `budget` in simulated milliseconds, 0 for none. */
  run(p: Process, vcpu: VcpuLike, budget = 0): number {
    if (this.running(vcpu)) this.block('KVM_RUN on a vCPU that is inside KVM_RUN', () => (this.running(vcpu) ? undefined : true));
    const run = this.#start(p, vcpu, budget, undefined);
    for (;;) {
      this.threads?.serve();
      this.#step(run);
      if (run.result !== undefined) break;
      if (!this.#round(run) && run.idle && !this.#pass() && !this.#waitForKick(vcpu)) {
        this.#end(run);
        throw new Deadlock(`KVM_RUN: ${vcpu.link} sleeps and nothing in the machine can wake it`);
      }
    }
    this.#end(run);
    if (run.error !== undefined) throw run.error;
    return run.result;
  }

  /** KVM_RUN in slices from the event loop; `done` once, later. */
  runAsync(p: Process, vcpu: VcpuLike, budget: number, done: (result: number, error?: unknown) => void, forThread = false): void {
    this.#start(p, vcpu, budget, done, forThread);
    this.hold();
    this.#schedule();
  }

  /** KVM_RUN of another thread: `done` as soon as it is over, whatever this thread does. */
  runForThread(p: Process, vcpu: VcpuLike, budget: number, done: (result: number, error?: unknown) => void): void {
    this.runAsync(p, vcpu, budget, done, true);
  }

  running(vcpu: VcpuLike): boolean {
    return this.#runs.some((run) => run.vcpu === vcpu);
  }

  /** Makes the run under way, or the next one, return −EINTR once. */
  kick(vcpu: VcpuLike): void {
    const word = this.kickWord(vcpu);
    Atomics.store(word, 0, 1);
    Atomics.notify(word, 0);
    this.wake();
  }

  kickWord(vcpu: VcpuLike): Int32Array {
    let word = this.#kicks.get(vcpu);
    if (word === undefined) this.#kicks.set(vcpu, (word = new Int32Array(new SharedArrayBuffer(4))));
    return word;
  }

  /** The kick word leaves this thread: from now on a sleeping vCPU may be woken from outside. */
  shareKickWord(vcpu: VcpuLike): Int32Array {
    this.#shared.add(vcpu);
    for (const run of this.#runs) if (run.vcpu === vcpu && run.idle) this.#listen(run);
    return this.kickWord(vcpu);
  }

  // ---- blocking

  /**
   * Runs the machine until `attempt` answers something. `deadline` in ticks: undefined comes back when simulated time reaches it. Throws
   * Deadlock where nothing can happen any more.
   */
  block<T>(what: string, attempt: () => T | undefined, deadline?: number): T | undefined {
    let expired = deadline !== undefined && deadline <= this.#ticks;
    const cancel = deadline === undefined || expired ? undefined : this.at(deadline, () => (expired = true));
    try {
      for (let slept = false, reminders = 0; ; ) {
        const answer = attempt();
        if (answer !== undefined) return answer;
        if (expired) return undefined;
        if (!slept) {
          // Who sleeps after this round may have done first what is waited for: time passes only after another look.
          slept = this.threads?.serve() !== true && !this.#round(undefined);
          continue;
        }
        slept = false;
        if (this.#onlyReminders) reminders++;
        if (reminders > REMINDERS || !this.#pass()) throw new Deadlock(`${what}: nothing in the machine can wake it`);
      }
    } finally {
      cancel?.();
    }
  }

  /**
   * The same for a call of another thread, which sleeps meanwhile: `done` gets the answer (or what `attempt` threw) as soon as there is one. The result cancels;
   * undefined where `done` has been called already. Nothing is a deadlock here: any thread may still act.
   */
  blockElsewhere<T>(
    attempt: () => T | undefined,
    deadline: number | undefined,
    done: (answer: T | undefined, error?: unknown) => void,
  ): (() => void) | undefined {
    let expired = deadline !== undefined && deadline <= this.#ticks;
    let cancel: (() => void) | undefined;
    const look = (): boolean => {
      let answer: T | undefined;
      let thrown: unknown;
      try {
        answer = attempt();
      } catch (error) {
        thrown = error;
      }
      if (answer === undefined && thrown === undefined && !expired) return false;
      cancel?.();
      done(answer, thrown);
      return true;
    };
    if (look()) return undefined;
    const waiting: Waiting = { look, timed: deadline !== undefined };
    const unset = deadline === undefined ? undefined : this.at(deadline, () => (expired = true));
    cancel = () => {
      this.#waiting.delete(waiting);
      unset?.();
    };
    this.#waiting.add(waiting);
    this.#schedule();
    return cancel;
  }

  /** Something changed that a sleeping vCPU, or a call of another thread, may wait for. */
  wake(): void {
    this.#look();
    if (this.#runs.length === 0) return;
    for (const run of this.#runs) run.idle = false;
    if (this.#runs.some((run) => run.done !== undefined)) this.#schedule();
  }

  /** Delivers from the event loop, in the order of the calls. */
  later(completion: () => void): void {
    this.#completions.push(completion);
    this.#schedule();
  }

  /** Somebody waits, in the event loop, for a file to become ready. The result ends that. */
  awaitEvent(): () => void {
    this.#events++;
    this.#schedule();
    return () => {
      this.#events--;
    };
  }

  hold(): void {
    if (this.#held++ === 0) this.#alive = setInterval(() => {}, 2 ** 30);
  }

  unhold(): void {
    if (--this.#held === 0) clearInterval(this.#alive);
  }

  /** The kernel goes away: every run ends as a signal would end it, completions are still delivered. */
  dispose(): void {
    this.#timers.clear();
    this.#stopPace();
    for (const run of [...this.#runs]) {
      if (run.stepping) continue;
      Atomics.store(run.kick, 0, 1);
      this.#step(run);
      run.result ??= -EINTR;
      this.#finish(run);
    }
  }

  // ---- inside

  #start(process: Process, vcpu: VcpuLike, budget: number, done: Run['done'], forThread = false): Run {
    vcpu.ref();
    const deadline = budget > 0 ? this.#ticks + Math.max(1, Math.floor(budget * this.instructionsPerMs)) : Infinity;
    const run: Run = {
      process,
      vcpu,
      deadline,
      kick: this.kickWord(vcpu),
      entered: false,
      idle: false,
      stepping: false,
      result: undefined,
      error: undefined,
      done,
      forThread,
    };
    this.#runs.push(run);
    return run;
  }

  /** One slice. Afterwards `result` is set, or `idle` tells whether it sleeps. */
  #step(run: Run): void {
    const kicked = Atomics.load(run.kick, 0) !== 0;
    const expired = run.deadline <= this.#ticks;
    const pending = kicked ? (run.entered ? 'running' : 'entry') : expired ? 'running' : 'none';
    const before = run.vcpu.executed;
    run.stepping = true;
    try {
      const slice = run.vcpu.slice(run.process, Math.min(SLICE, Math.max(0, run.deadline - this.#ticks)), !run.entered, pending);
      run.idle = slice === 'idle';
      if (typeof slice === 'number') run.result = slice;
      if (slice === -EINTR && kicked) Atomics.store(run.kick, 0, 0);
    } catch (error) {
      run.result = 0;
      run.error = error;
    } finally {
      run.stepping = false;
      run.entered = true;
    }
    this.#advance(this.#ticks + run.vcpu.executed - before);
    if (run.idle) this.#listen(run);
    else for (const other of this.#runs) other.idle = false;
  }

  /** One slice of every other run that does not sleep; false when there was none, and none has been woken by another. */
  #round(own: Run | undefined): boolean {
    let moved = own !== undefined && !own.idle;
    const sleeps = (run: Run): boolean => run === own || run.idle || run.stepping || run.done === undefined;
    for (const run of [...this.#runs]) {
      if (sleeps(run) || run.result !== undefined) continue;
      this.#step(run);
      if (!run.idle) moved = true;
      if (run.result !== undefined) this.#finish(run);
    }
    this.#look();
    return moved || this.#runs.some((run) => !sleeps(run));
  }

  /** Calls of other threads that wait: one that is answered may be what the next waits for. Not in the middle of an instruction of a guest. */
  #look(): void {
    if (this.#looking || this.#waiting.size === 0) return;
    if (this.#runs.some((run) => run.stepping)) {
      this.#schedule();
      return;
    }
    this.#looking = true;
    try {
      for (let answered = true; answered; ) {
        answered = false;
        for (const waiting of [...this.#waiting]) if (this.#waiting.has(waiting) && waiting.look()) answered = true;
      }
    } finally {
      this.#looking = false;
    }
  }

  /** The next timer or deadline, in ticks. */
  #next(): number {
    let next = this.nextTimer;
    for (const run of this.#runs) if (!run.stepping) next = Math.min(next, run.deadline);
    return next;
  }

  /** Nothing is to come but reminders. */
  get #onlyReminders(): boolean {
    if (this.threads?.thinking === true || !this.#timers.onlyReminders) return false;
    return this.#runs.every((run) => run.stepping || run.deadline === Infinity);
  }

  /**
   * Everything sleeps, in a synchronous call. While another thread is thinking, time passes as it does on the wall: what it will do is not skipped. False: nothing can
   * happen any more.
   */
  #pass(): boolean {
    const { threads } = this;
    if (threads?.thinking !== true) return this.#jump();
    const until = performance.now() + this.#milliseconds(this.#next());
    for (let left = until; left > 0; left = until - performance.now()) {
      if (threads.wait(Math.min(left, KICK_LATENCY))) return true;
      if (this.#runs.some((run) => Atomics.load(run.kick, 0) !== 0)) return true;
      if (!threads.thinking) break;
    }
    return this.#jump();
  }

  /** The same in the event loop: where time passes as on the wall it is a timer that goes on. */
  #passLater(): boolean {
    const next = this.#next();
    if (next === Infinity || this.threads?.thinking !== true) return this.#jump();
    if (this.#pace?.next === next) return false;
    this.#stopPace();
    const jump = (): void => {
      this.#pace = undefined;
      if (this.#sleeping() && this.#next() === next) this.#jump();
      this.#schedule();
    };
    this.#pace = { next, timer: setTimeout(jump, Math.min(this.#milliseconds(next), 2 ** 31 - 1)).unref() };
    return false;
  }

  #stopPace(): void {
    if (this.#pace !== undefined) clearTimeout(this.#pace.timer);
    this.#pace = undefined;
  }

  /** Whether anybody waits for time to pass. */
  #sleeping(): boolean {
    const runs = this.#runs.filter((run) => run.done !== undefined);
    if (!runs.every((run) => run.idle)) return false;
    return runs.length > 0 || [...this.#waiting].some((waiting) => waiting.timed) || this.#hardwareAwaited();
  }

  /** A device is at work, and somebody waits for an event it may lead to. */
  #hardwareAwaited(): boolean {
    return (this.#events > 0 || this.#waiting.size > 0) && this.#timers.hardware;
  }

  #milliseconds(ticks: number): number {
    return (ticks - this.#ticks) / this.instructionsPerMs;
  }

  /** Everything sleeps: on to the next timer or deadline. */
  #jump(): boolean {
    const next = this.#next();
    if (next === Infinity) return false;
    this.#advance(next);
    for (const run of this.#runs) run.idle = false;
    return true;
  }

  #advance(to: number): void {
    this.#ticks = Math.max(this.#ticks, to);
    for (let timer = this.#timers.due(this.#ticks); timer !== undefined; timer = this.#timers.due(this.#ticks)) timer.fire();
  }

  /** An asynchronous run is over: its completion is queued. */
  #finish(run: Run): void {
    this.#end(run);
    const { done, result, error } = run;
    if (done === undefined) return;
    this.unhold();
    if (run.forThread) done(result!, error);
    else this.later(() => done(result!, error));
  }

  #end(run: Run): void {
    const at = this.#runs.indexOf(run);
    if (at < 0) return;
    this.#runs.splice(at, 1);
    run.vcpu.unref(run.process);
  }

  #schedule(): void {
    if (this.#pump !== undefined) return;
    this.#pump = setImmediate(() => {
      this.#pump = undefined;
      const jumped = !this.#round(undefined) && this.#sleeping() && this.#passLater();
      for (const completion of this.#completions.splice(0)) completion();
      if (jumped || this.#completions.length > 0 || this.#runs.some((run) => run.done !== undefined && !run.idle))
        this.#schedule();
    });
  }

  /** A sleeping vCPU whose kick word another thread has can be woken by it alone. */
  #waitForKick(vcpu: VcpuLike): boolean {
    if (!this.#shared.has(vcpu)) return false;
    Atomics.wait(this.kickWord(vcpu), 0, 0);
    return true;
  }

  #listen(run: Run): void {
    if (run.done === undefined || !this.#shared.has(run.vcpu)) return;
    const waiting = Atomics.waitAsync(run.kick, 0, 0);
    if (waiting.async) void waiting.value.then(() => this.wake());
    else this.later(() => this.wake());
  }
}
