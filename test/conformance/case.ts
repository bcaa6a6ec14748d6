/**
 * What a conformance case is. A case is a function of a `Kernel`: it makes calls and returns what it observed, as JSON.
 * It needs no test runner and imports only `kvio`, so that compiled it runs under plain node, also inside a lab machine.
 */
import { isKvioError, type Kernel, KernelError, type KernelFeatures } from 'kvio';
import type { Part } from './parts.ts';

/** One compared value. bigint is written as a hex string, bytes as a string of hex pairs, an errno as its name. */
export type Fact = string | number | boolean | null | readonly Fact[] | { readonly [key: string]: Fact };

/** Facts by label, in the order they were observed. Never a descriptor number, an address or a time: those only as relations. */
export type Observation = Readonly<Record<string, Fact>>;

/** What must be there for a case to say anything. A case whose needs are not met is *not run*, with the reason: never passed. */
export interface Needs {
  /** The architecture whose registers, requests or instructions the case speaks of, as Node calls it. Default: any. */
  readonly arch?: 'x64' | 'arm64';
  readonly features?: readonly (keyof KernelFeatures)[];
  /** Paths that must open read-write. Default: /dev/kvm. */
  readonly devices?: readonly string[];
  /** KVM_CAP_* that /dev/kvm must have, whatever the value. */
  readonly capability?: number;
  /** A type of VM (KVM_X86_*_VM) that /dev/kvm must know. */
  readonly vmType?: number;
  /** The case fills the descriptor table: RLIMIT_NOFILE must be at most this. */
  readonly nofile?: number;
  /** Backends (`svm`) on which a guest of the case never leaves KVM_RUN: there the kernel must be able to end a run. */
  readonly endless?: readonly string[];
  /** Backends (`pvm`) on which the answer depends on when the host is interrupted: not run there. */
  readonly unsteady?: readonly string[];
  /** Kernels before this release never return from a call of the case. */
  readonly since?: string;
  /** PCI devices of a machine made for this: those of the lab, and simulated ones. Devices of any other host are left alone. */
  readonly pci?: readonly Part[];
  /** The kernel’s sample of a mediated device, mtty: the case makes devices of it. */
  readonly mtty?: boolean;
  /** Whether the devices are behind an IOMMU. */
  readonly iommu?: boolean;
  /** The first of the devices is in a slot the kernel drives, and may be pulled out. */
  readonly slots?: boolean;
  /** CONFIG_IOMMUFD_TEST: /dev/iommu has IOMMU_TEST_CMD. */
  readonly iommufdTest?: boolean;
  /** Huge pages of 2 MiB that are free and nobody's (vm.nr_hugepages). */
  readonly hugepages?: number;
  /** A page of 1 GiB that is free and nobody's. */
  readonly giant?: boolean;
  /** The process the kernel lives in must be a real one: something the simulated one does not have is named here. */
  readonly real?: string;
}

export interface Case {
  /** `area/subject/what`, unique. */
  readonly name: string;
  /** The chapter of the interface it belongs to, as a reader would look it up. */
  readonly section: string;
  readonly needs?: Needs;
  /** Paths (`label` or `label/field`, `*` for any one step) whose values depend on the host: kept as `'(volatile)'`. */
  readonly volatile?: readonly string[];
  run(kernel: Kernel): Observation | Promise<Observation>;
}

/** The value of a fact the simulator does not model; counted apart, neither agreement nor difference. */
export const NOT_MODELLED = 'not modelled: ';

/** Thrown by a case that finds out on its way that what it speaks of is not here: it is *not run*. */
export class NotHere extends Error {}

/** Collects the facts of one case. */
export class Observer {
  readonly facts: Record<string, Fact> = {};

  /** Notes a value. A label may be used once: a second fact under it would hide the first. */
  note(label: string, value: unknown): void {
    if (Object.hasOwn(this.facts, label)) throw new Error(`two facts are called '${label}'`);
    this.facts[label] = toFact(value);
  }

  /** Makes a call and notes what it returned, or the errno's name. */
  call<T>(label: string, make: () => T): T | undefined {
    try {
      const value = make();
      this.note(label, value === undefined ? 'done' : value);
      return value;
    } catch (error) {
      this.note(label, failure(error));
      return undefined;
    }
  }

  /** The same for a call that returns a descriptor, whose number is no fact. −1 where it failed. */
  descriptor(label: string, make: () => number): number {
    try {
      const fd = make();
      this.note(label, fd >= 0 ? 'a descriptor' : fd);
      return fd;
    } catch (error) {
      this.note(label, failure(error));
      return -1;
    }
  }

  /** Notes what a promise resolved with, or the errno's name. */
  async wait<T>(label: string, make: () => Promise<T>): Promise<T | undefined> {
    try {
      const value = await make();
      this.note(label, value === undefined ? 'done' : value);
      return value;
    } catch (error) {
      this.note(label, failure(error));
      return undefined;
    }
  }
}

/** Makes a case of a function that notes its facts on an Observer. */
export function define(
  name: string,
  section: string,
  body: (kernel: Kernel, see: Observer) => void | Promise<void>,
  more: { readonly needs?: Needs; readonly volatile?: readonly string[] } = {},
): Case {
  return {
    name,
    section,
    ...more,
    run(kernel) {
      const see = new Observer();
      const pending = body(kernel, see);
      return pending instanceof Promise ? pending.then(() => see.facts) : see.facts;
    },
  };
}

/** An error as a fact: the errno's name, or for an error that is not the kernel's its class and code. Others are bugs: thrown on. */
export function failure(error: unknown): string {
  if (isKvioError(error)) {
    if (error.code === 'ERR_KVIO_NOT_MODELLED') return `${NOT_MODELLED}${(error as { what?: string }).what ?? ''}`;
    return error.code;
  }
  const code = (error as { code?: unknown } | null)?.code;
  if ((error instanceof RangeError || error instanceof TypeError) && typeof code === 'string') return `${error.name} ${code}`;
  throw error;
}

/** `'EINVAL'` for 22 and −22. */
export function errnoName(errno: number): string {
  return new KernelError(errno, '').code;
}

/** A raw result (≥ 0, or −errno) as a fact. */
export function result(value: number): number | string {
  return value < 0 ? errnoName(value) : value;
}

/** Any value as a fact. */
export function toFact(value: unknown): Fact {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'number') return value < 0 && Number.isInteger(value) ? errnoName(value) : value;
  if (typeof value === 'bigint') return hex(value);
  if (ArrayBuffer.isView(value)) return bytesToHex(value);
  if (Array.isArray(value)) return value.map(toFact);
  if (typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, toFact(entry)]));
  throw new TypeError(`${typeof value} is not a fact`);
}

export function hex(value: bigint | number): string {
  return `0x${BigInt.asUintN(64, BigInt(value)).toString(16)}`;
}

function bytesToHex(view: ArrayBufferView): string {
  return Buffer.from(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength).toString('hex');
}

/** The fields of a struct that are not zero, as facts: what is absent is 0. Keeps goldens short without losing a bit. */
export function nonZero(value: unknown): Fact {
  const fact = toFact(value);
  return prune(fact) ?? {};
}

function prune(fact: Fact): Fact | undefined {
  if (fact === 0 || fact === '0x0') return undefined;
  if (typeof fact === 'string' && /^(00)+$/.test(fact)) return undefined;
  if (Array.isArray(fact)) return fact.every((entry) => prune(entry as Fact) === undefined) ? undefined : fact;
  if (typeof fact === 'object' && fact !== null) {
    const kept = Object.entries(fact).flatMap(([key, entry]) => {
      const left = prune(entry as Fact);
      return left === undefined ? [] : [[key, left] as const];
    });
    return kept.length === 0 ? undefined : Object.fromEntries(kept);
  }
  return fact;
}

/** The paths at which two facts differ, with both values: what changed in a struct between two moments. */
export function changes(before: Fact, after: Fact): Record<string, Fact> {
  const found: Record<string, Fact> = {};
  const walk = (path: string, a: Fact | undefined, b: Fact | undefined): void => {
    if (isRecord(a) && isRecord(b)) {
      for (const key of new Set([...Object.keys(a), ...Object.keys(b)]))
        walk(path === '' ? key : `${path}.${key}`, a[key], b[key]);
    } else if (JSON.stringify(a) !== JSON.stringify(b)) found[path] = b ?? 0;
  };
  walk('', before, after);
  return found;
}

export function isRecord(fact: Fact | undefined): fact is { readonly [key: string]: Fact } {
  return typeof fact === 'object' && fact !== null && !Array.isArray(fact);
}
