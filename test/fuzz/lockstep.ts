/** Two kernels, call by call: the simulator first, which says whether it models the call; then the real one; then both are compared. */
import type { Kernel } from 'kvio';
import {
  type IoctlRow,
  ioctlByName,
  ioctlByRequest,
  KVM_EXIT_INTERNAL_ERROR,
  KVM_INTERNAL_ERROR_DELIVERY_EV,
  kvm_run,
  type Struct,
  touchedLength,
  userPointers,
} from 'kvio/uapi';
import { NOT_MODELLED } from '../conformance/case.ts';
import { BUDGET, type Call, KVM_RUN_PAGE, perform, type Ref, type Seen, Side, Unbound } from './call.ts';
import { leftOut } from './excluded.ts';
import { title } from './paste.ts';
import { type Remote, reused } from './remote.ts';
import { WITH_BYTES } from './step.ts';
import { hideStale, hideVolatile } from './volatile.ts';

/** The two kernels of one sequence. */
export interface Pair {
  readonly real: (() => Kernel) | Remote;
  sim(): Kernel;
  /** Boots the simulated machine anew, where `sim` gives processes of one that goes on as the real one does: what comes next does not depend on what was. */
  reboot?(): void;
  /** Makes a fresh kernel what sequences begin with; returns what their paths are called there. */
  prepare?(kernel: Kernel): ReadonlyMap<string, string>;
  /** `NAME (KIND)` of ioctls the simulator has a handler of: what it may have begun before it says that it does not model something. */
  readonly modelled: ReadonlySet<string>;
  /** Guests run on the processor itself, not in KVM's emulator. */
  readonly hardware: boolean;
  /** The host's TSC's rate as KVM has it, in kHz. */
  readonly hostKhz: number;
}

export class Tally {
  sequences = 0;
  calls = 0;
  /** Steps that were skipped because a pointer in them names memory a real kernel must not be given. */
  guarded = 0;
  /** Steps that were skipped because excluded.ts names what is in them. */
  leftOut = 0;
  /** Calls skipped on both, by what is not modelled. */
  readonly notModelled: Map<string, number> = new Map();
  /** Differences that were there once and did not come back. */
  readonly once: Map<string, number> = new Map();
  /** Sequences that ended early, by reason. */
  readonly cut: Map<string, number> = new Map();
}

export const count = (map: Map<string, number>, key: string): void => void map.set(key, (map.get(key) ?? 0) + 1);

/** The two kernels do not agree. */
export class Difference extends Error {
  readonly call: Call;
  readonly label: string;
  readonly real: string;
  readonly sim: string;

  constructor(call: Call, label: string, real: string, sim: string) {
    super(`${title(call)}: ${label}\n    real: ${real}\n    sim:  ${sim}`);
    this.call = call;
    this.label = label;
    this.real = real;
    this.sim = sim;
  }

  /** The same for differences that most likely have one cause. */
  get signature(): string {
    const what =
      this.call.do === 'ioctl' ? (this.call.name ?? 'ioctl') : this.call.do === 'edit' ? this.call.set.name : this.call.do;
    const values = /^[A-Z]|^\d+$/.test(this.real + this.sim) ? `: ${this.real} / ${this.sim}` : `: ${this.real.split(':')[0]}`;
    return `${what} ${this.label.replace(/\d+/g, '')}${values}`;
  }
}

/** The sequence cannot go on in lock-step; nothing is wrong. */
export class Cut extends Error {}

export class Lockstep {
  /** Undefined where the real kernel is in another process: it is given the program in `settle`. */
  readonly real: Side | undefined;
  readonly sim: Side;
  readonly program: Call[] = [];
  /** What the simulator showed, and the real kernel is still to show. */
  readonly #expected: Seen[][] = [];
  readonly #pair: Pair;
  readonly #tally: Tally;
  readonly #patience: number;

  /** `patience`: how many times as long as usual a guest of the real kernel may run. */
  constructor(pair: Pair, tally: Tally, patience: number) {
    this.#pair = pair;
    this.#tally = tally;
    this.#patience = patience;
    const side = (kernel: Kernel): Side => {
      try {
        return new Side(kernel, patience, pair.prepare?.(kernel));
      } catch (error) {
        kernel.close();
        throw error;
      }
    };
    this.sim = side(pair.sim());
    try {
      this.real = typeof pair.real === 'function' ? side(pair.real()) : undefined;
    } catch (error) {
      this.sim.kernel.close();
      throw error;
    }
  }

  /** Performs the call on both and compares, or has it done in `settle`. What both showed; undefined where it was skipped on both. */
  perform(call: Call): readonly Seen[] | undefined {
    if (leftOut(call, this.#pair.hostKhz)) {
      this.#tally.leftOut++;
      return undefined;
    }
    if (!this.#admissible(call)) {
      this.#tally.guarded++;
      return undefined;
    }
    const sim = this.#simulate(call);
    if (sim === undefined) return undefined;
    this.program.push(call);
    this.#tally.calls++;
    if (this.real === undefined) {
      this.#expected.push(sim);
      return sim;
    }
    const real = perform(this.real, call);
    compare(call, real, sim, this.#pair.hardware);
    if (call.do === 'mmap' && this.#haveBytes(call.as)) real.push({ label: 'bytes', value: WITH_BYTES });
    return real;
  }

  /** Has a real kernel in another process make all calls, and compares. */
  settle(): void {
    if (typeof this.#pair.real === 'function' || this.#expected.length === 0) return;
    const { seen, stopped } = this.#pair.real.play(this.program.slice(0, this.#expected.length), this.#patience);
    for (const [at, real] of seen.entries()) {
      try {
        compare(this.program[at]!, real, this.#expected[at]!, this.#pair.hardware);
      } catch (error) {
        this.program.length = at + 1;
        throw error;
      }
    }
    if (stopped !== undefined) throw new Cut(stopped);
  }

  close(): void {
    this.sim.kernel.close();
    this.real?.kernel.close();
  }

  get #sides(): readonly Side[] {
    return this.real === undefined ? [this.sim] : [this.real, this.sim];
  }

  #haveBytes(name: Ref): boolean {
    return this.#sides.every(({ memories }) => memories.get(name)?.bytes !== undefined);
  }

  #simulate(call: Call): Seen[] | undefined {
    const started = clock(this.sim.kernel);
    let seen: Seen[];
    try {
      seen = perform(this.sim, call);
    } catch (error) {
      if (error instanceof Unbound) throw error;
      this.program.push(call);
      throw new Difference(call, 'returned', 'an answer', `threw ${String((error as Error).stack ?? error)}`);
    }
    const failed = seen.find(({ value }) => typeof value === 'string' && (value.startsWith(NOT_MODELLED) || value === DEADLOCK));
    if (failed !== undefined) {
      const what = failed.value === DEADLOCK ? 'a vCPU that sleeps for ever' : String(failed.value).slice(NOT_MODELLED.length);
      const brief = what.replace(/ \(([0-9a-f]{2} ?)+\)| at cs .*/g, '');
      count(this.#tally.notModelled, brief);
      if (this.#begun(call)) throw new Cut(`not modelled: ${brief}`);
      return undefined;
    }
    if (call.do === 'run' && seen[0]!.value === 'EINTR' && clock(this.sim.kernel) - started >= BUDGET * 0.99e6)
      throw new Cut('the guest does not end within its budget');
    if (call.do === 'run' && seen[0]!.value === 0 && deliveryFailed(this.sim.kernel, this.sim.fd(call.vcpu)))
      throw new Cut('an event delivered to what is no RAM');
    return seen;
  }

  /** May the simulator have done a part of the call before it found what it does not model? */
  #begun(call: Call): boolean {
    if (call.do === 'run' || call.do === 'edit') return true;
    if (call.do !== 'ioctl' || call.name === undefined) return false;
    return ['kvm', 'vm', 'vcpu'].some((kind) => this.#pair.modelled.has(`${call.name} (${kind})`));
  }

  /** The guard of a real kernel would throw where the simulator would answer: such calls are left out, on both. */
  #admissible(call: Call): boolean {
    if ('fd' in call && this.#sides.some((side) => reused(side, call.fd))) return false;
    if (call.do !== 'ioctl' || call.unsafe || call.arg.is !== 'bytes' || !this.real?.kernel.features.guard) return true;
    const row = ioctlByRequest(call.request, kindOf(call.fd));
    return row === undefined || safe(row, this.real.bytes(call.arg), this.real.kernel);
  }
}

/** See `DELIVERY_EV` in excluded.ts. */
function deliveryFailed(sim: Kernel, vcpu: number): boolean {
  const page = sim.mmap({ fd: vcpu, length: 0x1000, prot: 1, flags: 1, view: false });
  const is = (member: string, value: number): boolean => page.read32(kvm_run.offsetOf(member)) === value;
  const failed = is('exit_reason', KVM_EXIT_INTERNAL_ERROR) && is('internal.suberror', KVM_INTERNAL_ERROR_DELIVERY_EV);
  sim.munmap(page);
  return failed;
}

const DEADLOCK = 'ERR_KVIO_DEADLOCK';
const LOW = 0x1_0000n;
const HIGH = 1n << 47n;

/** Names of descriptors begin with their kind. */
const kindOf = (name: string): string => name.replace(/\d+$/, '');

function safe(row: IoctlRow, bytes: Uint8Array, kernel: Kernel): boolean {
  if (row.arg !== 'pointer' || touchedLength(row, bytes) > bytes.length) return false;
  return userPointers(row, bytes).every(
    ({ address, length }) =>
      length === 0n || address >= HIGH || address + length <= LOW || kernel.memoryAt(address, length) !== undefined,
  );
}

/** Simulated nanoseconds; 0 on a real kernel. */
const clock = (kernel: Kernel): number => Number((kernel as { now?: bigint }).now ?? 0n);

export function compare(call: Call, real: readonly Seen[], sim: readonly Seen[], hardware: boolean): void {
  for (let at = 0; at < Math.max(real.length, sim.length); at++) {
    const [a, b] = [real[at], sim[at]];
    const label = (a ?? b)!.label;
    if (a?.value instanceof Uint8Array && b?.value instanceof Uint8Array) {
      const name = call.do === 'ioctl' ? call.name : call.do === 'edit' ? call.get.name : undefined;
      hideVolatile(name, a.value, hardware);
      hideVolatile(name, b.value, hardware);
      if (hardware && label === KVM_RUN_PAGE) for (const page of [a.value, b.value]) hideStale(page, real[0]!.value !== 0);
      if (Buffer.compare(a.value, b.value) !== 0) throw new Difference(call, label, ...spread(call, label, a.value, b.value));
    } else if (a?.value !== b?.value) throw new Difference(call, label, show(a?.value), show(b?.value));
  }
}

const show = (value: Seen['value'] | undefined): string =>
  value instanceof Uint8Array ? Buffer.from(value).toString('hex').slice(0, 64) : String(value ?? 'nothing');

/** The bytes that differ, with the member they belong to where the struct is known. */
function spread(call: Call, label: string, real: Uint8Array, sim: Uint8Array): [string, string] {
  const differing: number[] = [];
  for (let at = 0; at < Math.max(real.length, sim.length); at++) if (real[at] !== sim[at]) differing.push(at);
  const [first, last] = [differing[0]!, differing.at(-1)!];
  const from = first & ~7;
  const to = Math.min(real.length, (last | 7) + 1, from + 32);
  const hex = (bytes: Uint8Array): string =>
    Buffer.from(bytes.subarray(from, to))
      .toString('hex')
      .replace(/(.{16})(?=.)/g, '$1 ');
  const where = place(call, label, first);
  return [`${where} at ${first} (${differing.length} bytes): ${hex(real)}`, `${where} at ${first}: ${hex(sim)}`];
}

function place(call: Call, label: string, at: number): string {
  const name =
    label === KVM_RUN_PAGE ? undefined : call.do === 'ioctl' ? call.name : call.do === 'edit' ? call.get.name : undefined;
  const struct =
    name === undefined ? (label === KVM_RUN_PAGE ? (kvm_run as Struct<unknown>) : undefined) : ioctlByName(name)?.struct;
  const field = struct?.fields.filter((one) => one.offset <= at && at < one.offset + Math.max(1, one.size)).at(0);
  const inner =
    field?.dims.length === 0
      ? field.struct?.fields.find((one) => one.offset <= at - field.offset && at - field.offset < one.offset + one.size)
      : undefined;
  return field === undefined ? 'byte' : inner === undefined ? field.name : `${field.name}.${inner.name}`;
}
