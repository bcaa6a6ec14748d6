/** Steps that every area has: file calls on all kinds of descriptors, eventfds, memfds, memory. */
import {
  EFD_NONBLOCK,
  F_DUPFD_CLOEXEC,
  F_GETFD,
  F_GETFL,
  F_SETFD,
  F_SETFL,
  MFD_ALLOW_SEALING,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
} from 'kvio/uapi';
import type { Call } from './call.ts';
import { type Choices, oddValue } from './choices.ts';
import { type Answer, gotMemory, hasBytes, making, type Step, succeeded, type WeightedStep } from './step.ts';
import { littleEndian } from './struct-bytes.ts';
import type { Descriptor, MemoryState, World } from './world.ts';

const O_NONBLOCK = 0x800;
const O_APPEND = 0x400;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;

/** Any descriptor there is or was: most often an open one. */
export function anyDescriptor(c: Choices, w: World): Descriptor | undefined {
  const closed = w.closed();
  return closed.length > 0 && c.chance(0.06) ? c.pick(closed) : w.live().length > 0 ? c.pick(w.live()) : undefined;
}

/** A step about one descriptor of any kind. */
const about = (make: (c: Choices, fd: Descriptor, w: World) => Call): Step =>
  function* (c, w) {
    const fd = anyDescriptor(c, w);
    if (fd !== undefined) yield make(c, fd, w);
  };

const aboutMemory = (make: (c: Choices, memory: MemoryState) => Call | undefined): Step =>
  function* (c, w) {
    const memories = w.liveMemories();
    const call = memories.length === 0 ? undefined : make(c, c.pick(memories));
    if (call !== undefined) yield call;
  };

const LENGTHS = [8, 0, 1, 7, 9, 16, 4096];
const offsetOf = (c: Choices): bigint => c.pick([0n, 1n, 0xfffn, 0x1000n, 0x2000n, 0x10000n, 1n << 31n, (1n << 63n) - 1n, -1n]);

const dup: Step = function* (c, w) {
  const fd = anyDescriptor(c, w);
  if (fd === undefined) return;
  const command = c.chance(0.5) ? { command: F_DUPFD_CLOEXEC } : {};
  yield* making(w, fd.file.kind, fd.file, (as) => ({ do: 'dup', fd: fd.name, as, ...command }));
};

const close: Step = function* (c, w) {
  const fd = anyDescriptor(c, w);
  if (fd === undefined) return;
  const answer = yield { do: 'close', fd: fd.name };
  if (succeeded(answer)) fd.open = false;
};

const eventfd: Step = function* (c, w) {
  const flags = EFD_NONBLOCK | c.pick([0, 1, 0x80000, 2]);
  yield* making(w, 'eventfd', { kind: 'eventfd' }, (as) => ({
    do: 'eventfd',
    initval: c.pick([0, 1, 5, 0xffff_ffff]),
    flags,
    as,
  }));
};

const memfd: Step = function* (c, w) {
  const made = yield* making(w, 'memfd', { kind: 'memfd' }, (as) => ({
    do: 'memfd',
    flags: c.pick([1, 0, MFD_ALLOW_SEALING, 3, 8, 0x10, 0x100]),
    as,
  }));
  if (made !== undefined && c.chance(0.8))
    yield { do: 'ftruncate', fd: made, length: c.pick([0x4000n, 0x1000n, 0x1001n, 0x10000n]) };
};

const ram: Step = function* (c, w) {
  if (!w.room('memory')) return;
  const name = w.fresh('ram');
  const length = 0x1000 * c.pick([16, 1, 2, 4]);
  if (gotMemory(yield { do: 'ram', length, as: name })) w.addMemory({ name, length, view: true, of: undefined, offset: 0 });
};

/** A mapping of a descriptor, right or wrong. `length` in bytes; what may fault has no `bytes`, and is looked at through accessors. */
export function* mapFile(
  w: World,
  fd: Descriptor,
  options: Omit<Call & { do: 'mmap' }, 'do' | 'fd' | 'as'>,
): Generator<Call, MemoryState | undefined, Answer> {
  if (!w.room('memory')) return undefined;
  const name = w.fresh('map');
  const answer = yield { do: 'mmap', fd: fd.name, ...options, as: name };
  if (!gotMemory(answer)) return undefined;
  return w.addMemory({
    name,
    length: options.length,
    view: hasBytes(answer),
    plain: !options.view,
    of: fd.file,
    offset: Number(options.offset),
  });
}

const map: Step = function* (c, w) {
  const fd = anyDescriptor(c, w);
  if (fd === undefined) return;
  yield* mapFile(w, fd, {
    length: c.weighted([
      [6, 0x1000 * c.pick([3, 1, 2, 4, 16, 65])],
      [1, c.pick([1, 0xfff, 0x1001])],
    ]),
    prot: c.weighted([
      [6, PROT_READ | PROT_WRITE],
      [1, PROT_READ],
      [1, 0],
      [1, PROT_READ | PROT_EXEC],
    ]),
    flags: c.pick([1, 1, 1, 2, 3, 0, 0x4001]),
    offset: c.weighted([
      [6, 0n],
      [3, 0x1000n * BigInt(c.pick([1, 2, 3, 64, 1 << 20]))],
      [1, c.pick([1n, 0x800n, 1n << 62n, (1n << 64n) - 0x1000n])],
    ]),
    view: !c.chance(0.4),
  });
};

const munmap: Step = function* (c, w) {
  const memories = w.liveMemories();
  if (memories.length === 0) return;
  const memory = c.pick(memories);
  if (succeeded(yield { do: 'munmap', memory: memory.name })) memory.open = false;
};

/** A part of whole pages. */
function part(c: Choices, { length }: MemoryState): { offset: number; length: number } {
  const pages = Math.floor(length / 0x1000);
  const offset = c.below(pages || 1);
  return { offset: offset * 0x1000, length: Math.min(length, (1 + c.below(pages - offset || 1)) * 0x1000) };
}

/** MADV_NORMAL … MADV_COLLAPSE without those that change what the machine does with its own memory (mergeable, huge pages, cold, poison). */
const ADVICE = [4, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 22, 23, 24, 7, 77];
/** Without what depends on whether memory is private, shared or a file's: which of them guestRam is, is our choice. WILLNEED is EBADF without CONFIG_SWAP. */
const RAM_ADVICE = ADVICE.filter((advice) => ![3, 4, 8, 9, 18, 24].includes(advice));

export const fileSteps: readonly WeightedStep[] = [
  { weight: 5, name: 'dup', step: dup },
  { weight: 7, name: 'close', step: close },
  { weight: 3, name: 'eventfd', step: eventfd },
  { weight: 3, name: 'memfd', step: memfd },
  { weight: 4, name: 'guestRam', step: ram },
  { weight: 6, name: 'mmap', step: map },
  { weight: 3, name: 'munmap', step: munmap },
  {
    weight: 4,
    name: 'fcntl',
    step: about((c, { name: fd }) => {
      const [command, value] = c.pick<readonly [number, number]>([
        [F_GETFD, 0],
        [F_SETFD, 1],
        [F_SETFD, 0],
        [F_GETFL, 0],
        [F_SETFL, O_NONBLOCK],
        [F_SETFL, O_NONBLOCK | O_APPEND],
        [F_GET_SEALS, 0],
        [F_ADD_SEALS, c.pick([1, 2, 4, 8, 16, 32])],
      ]);
      return { do: 'fcntl', fd, command, value };
    }),
  },
  { weight: 3, name: 'fstat', step: about((_c, { name: fd }) => ({ do: 'fstat', fd })) },
  { weight: 4, name: 'poll', step: about((c, { name: fd }) => ({ do: 'poll', fd, events: c.pick([1, 4, 5, 0, 0xffff]) })) },
  { weight: 5, name: 'read', step: about((c, { name: fd }) => ({ do: 'read', fd, bytes: new Uint8Array(c.pick(LENGTHS)) })) },
  {
    weight: 5,
    name: 'write',
    step: about((c, { name: fd, file }) => {
      const bytes =
        file.kind === 'eventfd' && !c.chance(0.2) ? littleEndian(oddValue(c, 8), 8) : c.bytes(c.pick([8, 0, 1, 7, 9, 16]));
      return { do: 'write', fd, bytes };
    }),
  },
  {
    weight: 3,
    name: 'pread',
    step: about((c, { name: fd }) => ({ do: 'pread', fd, bytes: new Uint8Array(c.pick(LENGTHS)), offset: offsetOf(c) })),
  },
  {
    weight: 3,
    name: 'pwrite',
    step: about((c, { name: fd }) => ({ do: 'pwrite', fd, bytes: c.bytes(c.pick([8, 0, 1])), offset: offsetOf(c) })),
  },
  {
    weight: 3,
    name: 'ftruncate',
    step: about((c, { name: fd }) => ({
      do: 'ftruncate',
      fd,
      length: c.pick([0x4000n, 0n, 1n, 0x1000n, 0x1001n, 0x20000n, -1n]),
    })),
  },
  {
    weight: 3,
    name: 'fallocate',
    step: about((c, { name: fd }) => {
      const [offset, length] = [c.pick([0n, 0x1000n, 1n, 0x3000n, -1n]), c.pick([0x1000n, 0x2000n, 1n, 0n, -1n, 0x10000n])];
      return { do: 'fallocate', fd, mode: c.pick([0, 1, 3, 2, 0x10, 0x11, 8, 0x20, 0x40, 0x80, 0x100]), offset, length };
    }),
  },
  {
    weight: 4,
    name: 'store',
    step: aboutMemory((c, memory) => {
      const bytes = c.bytes(c.pick([1, 2, 4, 8, 16]));
      return memory.length < bytes.length
        ? undefined
        : { do: 'store', memory: memory.name, offset: c.below(memory.length - bytes.length), bytes };
    }),
  },
  {
    weight: 4,
    name: 'load',
    step: aboutMemory((c, memory) => {
      const width = c.pick([8, 16, 32, 64] as const);
      return memory.length < 8
        ? undefined
        : { do: 'load', memory: memory.name, offset: (width / 8) * c.below(memory.length / 8), width };
    }),
  },
  // Not of a vCPU: accessors of the simulator's ring page do not look at protections yet.
  {
    weight: 2,
    name: 'mprotect',
    step: aboutMemory((c, memory) =>
      !memory.plain || memory.of?.vcpu !== undefined
        ? undefined
        : { do: 'mprotect', memory: memory.name, prot: c.pick([3, 1, 0, 2, 5]), ...part(c, memory) },
    ),
  },
  {
    weight: 2,
    name: 'madvise',
    step: aboutMemory((c, memory) => {
      const advice = c.pick(memory.of === undefined ? RAM_ADVICE : ADVICE);
      return { do: 'madvise', memory: memory.name, advice, ...part(c, memory) };
    }),
  },
  {
    weight: 2,
    name: 'look',
    step: aboutMemory((_c, { name, view, of }) => (view && of?.vcpu === undefined ? { do: 'look', memory: name } : undefined)),
  },
];
