/**
 * A real kernel in another process, that of the lab: a sequence is decided here, by what the simulator answers, and its calls go there all at once. What
 * is slow in the lab, which is emulated, is done once a sequence and not once a call: drawing, simulating and comparing are not done there at all.
 */
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readdirSync, readlinkSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deserialize, serialize } from 'node:v8';
import type { Kernel } from 'kvio';
import { type Call, perform, type Seen, Side, Unbound } from './call.ts';
import type { Area } from './step.ts';

export interface Played {
  /** What each call showed, as far as it came. */
  readonly seen: readonly (readonly Seen[])[];
  /** Why it did not come to the end. */
  readonly stopped: string | undefined;
}

export interface Remote {
  /** Makes the calls on a fresh kernel. `patience`: see `Lockstep`. */
  play(program: readonly Call[], patience: number): Played;
}

interface Request {
  readonly program: readonly Call[];
  readonly patience: number;
}

const READY = 'ready';

/** Another process that answers, question by question. */
export interface Line {
  ask<T>(question: unknown): T;
  close(): void;
}

/** Starts a command that answers by its standard streams, and waits until it does. */
export function dial(command: string, args: readonly string[]): Line {
  const dir = mkdtempSync(join(tmpdir(), 'kvio-fuzz-'));
  const [toChild, forChild] = fifo(join(dir, 'in'));
  const [ofChild, fromChild] = fifo(join(dir, 'out'));
  spawn(command, args, { stdio: [forChild, ofChild, 'inherit'] });
  closeSync(forChild);
  closeSync(ofChild);
  rmSync(dir, { recursive: true });
  if (receive(fromChild) !== READY) throw new Error('the process with the real kernel has not started');
  return {
    ask<T>(question: unknown): T {
      send(toChild, question);
      const answer = receive<T>(fromChild);
      if (answer === undefined) throw new Error('the process with the real kernel has ended');
      return answer;
    },
    close() {
      closeSync(toChild);
      readAll(fromChild, 1);
      closeSync(fromChild);
    },
  };
}

/** The other side of `dial`, until its standard input ends. */
export function answer<Q>(reply: (question: Q) => unknown): void {
  send(1, READY);
  for (;;) {
    const question = receive<Q>(0);
    if (question === undefined) return;
    send(1, reply(question));
  }
}

/** A line to a process that plays programs. */
export function connect(command: string, args: readonly string[]): Remote & { close(): void } {
  const line = dial(command, args);
  return {
    play(program, patience) {
      const played = line.ask<Played>({ program, patience } satisfies Request);
      return { ...played, seen: played.seen.map((seen) => seen.map(({ label, value }) => ({ label, value: unpacked(value) }))) };
    },
    close: () => line.close(),
  };
}

/** The other side of `connect`. */
export function serve(open: () => Kernel, prepare: Area['prepare']): void {
  answer<Request>((request) => {
    const { seen, stopped } = playOn(open(), prepare, request);
    return { seen: seen.map((all) => all.map(({ label, value }) => ({ label, value: packed(value) }))), stopped };
  });
}

/** Makes the calls of a program on a kernel, and closes it. */
export function playOn(kernel: Kernel, prepare: Area['prepare'], { program, patience }: Request): Played {
  const seen: (readonly Seen[])[] = [];
  try {
    const side = new Side(kernel, patience, prepare?.(kernel));
    for (const call of program) {
      if ('fd' in call && reused(side, call.fd)) return { seen, stopped: 'a closed descriptor has the number of another one' };
      seen.push(perform(side, call));
    }
    return { seen, stopped: undefined };
  } catch (error) {
    if (!(error instanceof Unbound)) throw error;
    return { seen, stopped: error.message };
  } finally {
    kernel.close();
    closeStrays();
  }
}

/** What IOMMU_TEST_CMD gives is in no table of ioctls, so that no kernel of ours closes it. */
const STRAY = /^(?:anon_inode:\[iommufd_test_staccess\]|\/dmabuf:)/;
const SELF = '/proc/self/fd';

function closeStrays(): void {
  for (const fd of readdirSync(SELF)) {
    try {
      if (STRAY.test(readlinkSync(`${SELF}/${fd}`))) closeSync(Number(fd));
    } catch {
      // That of the directory itself, which is closed by now.
    }
  }
}

/** A closed descriptor whose number is another one's now: which one that is, depends on what else the process has open. */
export function reused({ fds }: Side, name: string): boolean {
  const fd = fds.get(name);
  return fd !== undefined && [...fds].findLast(([, other]) => other === fd)![0] !== name;
}

/** Memory that is looked at ends in zeros, most often. */
type Packed = Seen['value'] | { readonly bytes: Uint8Array; readonly length: number };

function packed(value: Seen['value']): Packed {
  if (!(value instanceof Uint8Array) || value.length < 512) return value;
  let end = value.length;
  while (end > 0 && value[end - 1] === 0) end--;
  return { bytes: value.slice(0, end), length: value.length };
}

function unpacked(value: Packed): Seen['value'] {
  if (typeof value !== 'object' || value instanceof Uint8Array) return value;
  const bytes = new Uint8Array(value.length);
  bytes.set(value.bytes);
  return bytes;
}

/** Both ends of a new pipe with a name, the writing one first. A blocking end can be opened once the other is. */
function fifo(path: string): [writing: number, reading: number] {
  execFileSync('mkfifo', [path]);
  const first = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writing = openSync(path, constants.O_WRONLY);
  const reading = openSync(path, constants.O_RDONLY);
  closeSync(first);
  return [writing, reading];
}

function send(fd: number, message: unknown): void {
  const body = serialize(message);
  const bytes = Buffer.alloc(4 + body.length);
  bytes.writeUInt32LE(body.length);
  body.copy(bytes, 4);
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
}

function receive<T>(fd: number): T | undefined {
  const head = readAll(fd, 4);
  const body = head && readAll(fd, head.readUInt32LE());
  return body && (deserialize(body) as T);
}

/** Undefined at the stream's end. */
function readAll(fd: number, length: number): Buffer | undefined {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; ) {
    const got = readSync(fd, bytes, at, length - at, null);
    if (got === 0) return undefined;
    at += got;
  }
  return bytes;
}
