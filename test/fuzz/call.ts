/**
 * Calls as data: what is done, on descriptors and memory by name. One call is performed on each of two kernels, whose numbers and
 * addresses differ; a list of calls is a program that can be run again, cut down and printed.
 */
import type { Kernel, Memory } from 'kvio';
import { failure, result } from '../conformance/case.ts';
import { UNSAFE } from '../conformance/machine.ts';

export type Ref = string;

/** Bytes of an argument that are another number on each kernel: a descriptor, or an address. */
export interface Patch {
  readonly at: number;
  readonly ref: Ref;
  readonly what: 'fd' | 'address';
  /** Added to it. */
  readonly plus: number;
  /** The address is rounded up to a multiple of this, before. */
  readonly aligned?: number;
}

export type Argument =
  | { readonly is: 'none' }
  | { readonly is: 'integer'; readonly value: bigint }
  | { readonly is: 'bytes'; readonly bytes: Uint8Array; readonly patches: readonly Patch[] };

/** A change of some bytes of a struct that is read, changed and written back. */
export interface Edit {
  readonly at: number;
  readonly bytes: Uint8Array;
}

export type Call =
  | { readonly do: 'open'; readonly path: string; readonly as: Ref }
  | {
      readonly do: 'ioctl';
      readonly fd: Ref;
      readonly request: number;
      /** As the table names it; undefined for an unknown request. */
      readonly name: string | undefined;
      readonly arg: Argument;
      readonly unsafe: boolean;
      /** The descriptor it returns. */
      readonly as?: Ref;
      /** The descriptor it writes into its argument, and where. */
      readonly gives?: { readonly at: number; readonly as: Ref };
    }
  | {
      readonly do: 'edit';
      readonly fd: Ref;
      readonly get: { readonly request: number; readonly name: string };
      readonly set: { readonly request: number; readonly name: string };
      readonly size: number;
      readonly edits: readonly Edit[];
    }
  | { readonly do: 'run'; readonly vcpu: Ref; readonly page: Ref | undefined; readonly look: readonly Ref[] }
  | { readonly do: 'kick'; readonly vcpu: Ref }
  | { readonly do: 'close'; readonly fd: Ref }
  | { readonly do: 'dup'; readonly fd: Ref; readonly as: Ref; readonly command?: number }
  | { readonly do: 'fcntl'; readonly fd: Ref; readonly command: number; readonly value: number }
  | { readonly do: 'fstat'; readonly fd: Ref }
  | { readonly do: 'read'; readonly fd: Ref; readonly bytes: Uint8Array }
  | { readonly do: 'write'; readonly fd: Ref; readonly bytes: Uint8Array }
  | { readonly do: 'pread'; readonly fd: Ref; readonly bytes: Uint8Array; readonly offset: bigint }
  | { readonly do: 'pwrite'; readonly fd: Ref; readonly bytes: Uint8Array; readonly offset: bigint }
  | { readonly do: 'poll'; readonly fd: Ref; readonly events: number }
  | { readonly do: 'eventfd'; readonly initval: number; readonly flags: number; readonly as: Ref }
  | { readonly do: 'memfd'; readonly flags: number; readonly as: Ref }
  | { readonly do: 'ftruncate'; readonly fd: Ref; readonly length: bigint }
  | { readonly do: 'fallocate'; readonly fd: Ref; readonly mode: number; readonly offset: bigint; readonly length: bigint }
  | { readonly do: 'ram'; readonly length: number; readonly as: Ref }
  | {
      readonly do: 'mmap';
      readonly fd: Ref;
      readonly length: number;
      readonly prot: number;
      readonly flags: number;
      readonly offset: bigint;
      readonly view: boolean;
      readonly as: Ref;
    }
  | { readonly do: 'munmap'; readonly memory: Ref }
  | { readonly do: 'mprotect'; readonly memory: Ref; readonly prot: number; readonly offset: number; readonly length: number }
  | { readonly do: 'madvise'; readonly memory: Ref; readonly advice: number; readonly offset: number; readonly length: number }
  | { readonly do: 'store'; readonly memory: Ref; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly do: 'load'; readonly memory: Ref; readonly offset: number; readonly width: 8 | 16 | 32 | 64 }
  | { readonly do: 'look'; readonly memory: Ref };

const roundUp = (value: bigint, to: bigint): bigint => ((value + to - 1n) / to) * to;

/** One of the two kernels, with what its names stand for. */
export class Side {
  readonly kernel: Kernel;
  /** Milliseconds one KVM_RUN may take. */
  readonly budget: number;
  readonly fds: Map<Ref, number> = new Map();
  readonly memories: Map<Ref, Memory> = new Map();
  /** What a path of a sequence is called here. */
  readonly #paths: ReadonlyMap<string, string>;

  constructor(kernel: Kernel, patience: number, paths: ReadonlyMap<string, string> = new Map()) {
    this.kernel = kernel;
    this.#paths = paths;
    this.budget = kernel.features.simulated ? BUDGET : REAL_BUDGET * patience;
  }

  path(name: string): string {
    return this.#paths.get(name) ?? name;
  }

  fd(name: Ref): number {
    const fd = this.fds.get(name);
    if (fd === undefined) throw new Unbound(name);
    return fd;
  }

  memory(name: Ref): Memory {
    const memory = this.memories.get(name);
    if (memory === undefined) throw new Unbound(name);
    return memory;
  }

  /** The bytes of an argument as this kernel is to see them. */
  bytes(arg: Argument & { is: 'bytes' }): Uint8Array {
    const bytes = Uint8Array.from(arg.bytes);
    const view = new DataView(bytes.buffer);
    for (const { at, ref, what, plus, aligned = 1 } of arg.patches) {
      if (what === 'fd') view.setInt32(at, this.fd(ref) + plus, true);
      else view.setBigUint64(at, roundUp(this.memory(ref).address, BigInt(aligned)) + BigInt(plus), true);
    }
    return bytes;
  }
}

/** A call names what no call before it made: the program was cut too short. */
export class Unbound extends Error {
  constructor(name: Ref) {
    super(`nothing is called ${name}`);
  }
}

/** What a call showed: the returned value or the errno's name first, then all bytes the kernel could have written. */
export interface Seen {
  readonly label: string;
  readonly value: number | string | Uint8Array;
}

type Doing = Call['do'];
type CallOf<K extends Doing> = Extract<Call, { do: K }>;
const performers: { readonly [K in Doing]: (side: Side, call: CallOf<K>) => Seen[] } = {
  open: (side, { path, as }) => [descriptor(side, as, () => side.kernel.open(side.path(path)))],
  ioctl(side, { fd, request, arg, unsafe, as, gives }) {
    const options = unsafe ? UNSAFE : undefined;
    const given = arg.is === 'bytes' ? side.bytes(arg) : arg.is === 'integer' ? arg.value : undefined;
    const make = (): number | string => result(side.kernel.tryIoctl(side.fd(fd), request, given, options));
    const returned = as === undefined ? returns(make) : descriptor(side, as, make);
    if (arg.is !== 'bytes') return [returned];
    const bytes = given as Uint8Array;
    for (const { at, what } of arg.patches) bytes.fill(0, at, at + (what === 'fd' ? 4 : 8));
    if (gives !== undefined && returned.value === 0) {
      side.fds.set(gives.as, new DataView(bytes.buffer).getInt32(gives.at, true));
      bytes.fill(0, gives.at, gives.at + 4);
    }
    return [returned, { label: 'bytes', value: bytes }];
  },
  edit(side, { fd, get, set, size, edits }) {
    const bytes = new Uint8Array(size);
    const got = returns(() => result(side.kernel.tryIoctl(side.fd(fd), get.request, bytes)), get.name);
    if (got.value !== 0) return [got];
    const before = Uint8Array.from(bytes);
    for (const edit of edits) bytes.set(edit.bytes, edit.at);
    const wrote = returns(() => result(side.kernel.tryIoctl(side.fd(fd), set.request, bytes)), set.name);
    return [got, { label: `${get.name}: bytes`, value: before }, wrote];
  },
  run(side, { vcpu, page, look }) {
    const returned = returns(() => result(side.kernel.run(side.fd(vcpu), { budget: side.budget })));
    const seen: Seen[] = [returned];
    if (page !== undefined) seen.push({ label: KVM_RUN_PAGE, value: contents(side.memory(page)) });
    for (const name of look) seen.push({ label: name, value: contents(side.memory(name)) });
    return seen;
  },
  kick: (side, { vcpu }) => [returns(() => side.kernel.kick(side.fd(vcpu)))],
  close: (side, { fd }) => [returns(() => side.kernel.close(side.fd(fd)))],
  dup: (side, { fd, as, command }) => [
    descriptor(side, as, () =>
      command === undefined ? side.kernel.dup(side.fd(fd)) : side.kernel.fcntl(side.fd(fd), command, 0),
    ),
  ],
  fcntl: (side, { fd, command, value }) => [returns(() => side.kernel.fcntl(side.fd(fd), command, value))],
  fstat: (side, { fd }) => [
    returns(() => {
      // Not `blocks`: a hole that is read through `bytes` becomes a page, and the simulator does not see such a read.
      const { mode, nlink, size, blksize } = side.kernel.fstat(side.fd(fd));
      return `mode ${mode.toString(8)} nlink ${nlink} size ${size} blksize ${blksize}`;
    }),
  ],
  read(side, { fd, bytes }) {
    const into = Uint8Array.from(bytes);
    return [returns(() => side.kernel.read(side.fd(fd), into)), { label: 'bytes', value: into }];
  },
  write: (side, { fd, bytes }) => [returns(() => side.kernel.write(side.fd(fd), Uint8Array.from(bytes)))],
  pread(side, { fd, bytes, offset }) {
    const into = Uint8Array.from(bytes);
    return [returns(() => side.kernel.pread(side.fd(fd), into, offset)), { label: 'bytes', value: into }];
  },
  pwrite: (side, { fd, bytes, offset }) => [returns(() => side.kernel.pwrite(side.fd(fd), Uint8Array.from(bytes), offset))],
  poll: (side, { fd, events }) => [returns(() => side.kernel.poll([{ fd: side.fd(fd), events }])[0]!)],
  eventfd: (side, { initval, flags, as }) => [descriptor(side, as, () => side.kernel.eventfd(initval, flags))],
  memfd: (side, { flags, as }) => [descriptor(side, as, () => side.kernel.memfd('fuzz', flags))],
  ftruncate: (side, { fd, length }) => [returns(() => side.kernel.ftruncate(side.fd(fd), length))],
  fallocate: (side, { fd, mode, offset, length }) => [returns(() => side.kernel.fallocate(side.fd(fd), mode, offset, length))],
  ram: (side, { length, as }) => [mapped(side, as, () => side.kernel.guestRam(length))],
  mmap: (side, { fd, length, prot, flags, offset, view, as }) => [
    mapped(side, as, () => side.kernel.mmap({ fd: side.fd(fd), length, prot, flags, offset, view })),
  ],
  munmap: (side, { memory }) => [returns(() => side.kernel.munmap(side.memory(memory)))],
  mprotect: (side, { memory, prot, offset, length }) => [
    returns(() => side.kernel.mprotect(side.memory(memory), prot, { offset, length })),
  ],
  madvise: (side, { memory, advice, offset, length }) => [
    returns(() => side.kernel.madvise(side.memory(memory), advice, { offset, length })),
  ],
  store: (side, { memory, offset, bytes }) => [returns(() => side.memory(memory).write(offset, bytes))],
  load: (side, { memory, offset, width }) => [returns(() => String(side.memory(memory)[`read${width}`](offset)))],
  look: (side, { memory }) => [{ label: memory.replace(/\d+$/, ''), value: contents(side.memory(memory)) }],
};

/** The label of a mapping of kvm_run, looked at after a run. */
export const KVM_RUN_PAGE = 'kvm_run';

/** Milliseconds of the kernel's own time one KVM_RUN may take. Guests are short: only a loop needs as much. */
export const BUDGET = 0.1;
/** The same on a real kernel, where a millisecond is a wall clock's and the machine may be busy. */
export const REAL_BUDGET = 250;

export function perform(side: Side, call: Call): Seen[] {
  return (performers[call.do] as (side: Side, call: Call) => Seen[])(side, call);
}

function returns(make: () => unknown, label = 'returned'): Seen {
  try {
    const value = make();
    return { label, value: typeof value === 'number' || typeof value === 'string' ? value : 'done' };
  } catch (error) {
    if (error instanceof Unbound) throw error;
    return { label, value: failure(error) };
  }
}

function descriptor(side: Side, name: Ref, make: () => number | string): Seen {
  return returns(() => {
    const fd = make();
    if (typeof fd === 'string') return fd;
    side.fds.set(name, fd);
    return DESCRIPTOR;
  });
}

/** What a returned descriptor is seen as: its number is no fact. */
export const DESCRIPTOR = 'a descriptor';
/** Whether a mapping has `bytes` is our choice, no kernel's: no fact either. */
export const MAPPED = 'mapped';

function mapped(side: Side, name: Ref, make: () => Memory): Seen {
  return returns(() => {
    side.memories.set(name, make());
    return MAPPED;
  });
}

function contents(memory: Memory): Uint8Array | string {
  return memory.closed || memory.bytes === undefined ? 'no bytes' : memory.read(0, memory.length);
}
