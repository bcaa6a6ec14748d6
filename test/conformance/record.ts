/**
 * All cases on a kernel of this host, as a golden: what `kvio conformance` and `npm run golden:record` do. Nothing a kernel does can
 * stop it: the cases run in a process of their own, and one that hangs or ends that process is noted as failed; the next ones follow.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { HostKernel } from './candidates.ts';
import { kernelCases as cases } from './cases/index.ts';
import { type Golden, toGolden } from './golden.ts';
import type { Report, Result } from './run-cases.ts';
import type { Message } from './worker.ts';

export { compare, countObservations, formatGolden, showDifference } from './golden.ts';
export { readRecording, writeGolden } from './golden-files.ts';

export interface RecordOptions {
  /** Milliseconds a case may take. */
  readonly limit?: number;
  /** Only cases with this in their name. */
  readonly only?: string;
  /** Told before each case: its name, how many there are, which one this is. */
  readonly progress?: (name: string, of: number, at: number) => void;
}

export interface Recording {
  readonly report: Report;
  readonly golden: Golden;
  /** Cases that failed by themselves, other than by an errno, and how. In the golden they count as not run. */
  readonly failed: Readonly<Record<string, string>>;
}

/** Low enough for the cases that fill the descriptor table, where the host's hard limit allows. */
const NOFILE = 1024;

/** The names of all cases, in their order. */
export const caseNames: readonly string[] = cases.map(({ name }) => name);

/** Runs the cases; rejects only where there is no such kernel here. */
export async function record(kind: HostKernel, { limit = 30_000, only = '', progress }: RecordOptions = {}): Promise<Recording> {
  const results = new Map<string, Result>();
  let about: { release: string; identity: string | undefined } | undefined;
  for (let next = 0; next < cases.length; ) {
    let running: number | undefined;
    const ending = await attend(start(kind, next, only), limit, (message) => {
      if ('missing' in message) throw new Error(message.missing);
      if ('release' in message) about = message;
      else if ('done' in message) next = cases.length;
      else if ('begins' in message) {
        running = message.begins;
        progress?.(cases[running]!.name, cases.length, running + 1);
      } else {
        results.set(cases[message.ended]!.name, message.result);
        running = undefined;
        next = message.ended + 1;
      }
    });
    if (running !== undefined) {
      results.set(cases[running]!.name, { failed: ending });
      next = running + 1;
    } else if (next < cases.length) throw new Error(`the process that runs the cases ${ending}`);
  }
  if (about === undefined) throw new Error('there are no cases');
  const failed: Record<string, string> = {};
  for (const [name, result] of results) if ('failed' in result) failed[name] = anonymous(result.failed);
  const replace = (by: (how: string) => Result): Report => ({
    kernel: kind,
    ...about!,
    results: new Map([...results].map(([name, result]) => [name, Object.hasOwn(failed, name) ? by(failed[name]!) : result])),
  });
  const report = replace((how) => ({ failed: how }));
  return { report, golden: toGolden(replace((how) => ({ notRun: `failed: ${how}` }))), failed };
}

function start(kind: HostKernel, first: number, only: string): ChildProcess {
  const worker = fileURLToPath(new URL('worker.js', import.meta.url));
  const command = `ulimit -n ${NOFILE} 2>/dev/null; exec "$@"`;
  return spawn('sh', ['-c', command, 'sh', process.execPath, worker, kind, String(first), only], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
}

/** Hears a process out; resolves with how it ended. Kills it where a message takes longer than `limit`. */
function attend(child: ChildProcess, limit: number, hear: (message: Message) => void): Promise<string> {
  return new Promise((resolve, reject) => {
    let late = false;
    const alarm = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, limit);
    child.on('message', (message) => {
      alarm.refresh();
      try {
        hear(message as Message);
      } catch (error) {
        reject(error);
        child.kill('SIGKILL');
      }
    });
    child.on('error', reject);
    child.on('close', (status, signal) => {
      clearTimeout(alarm);
      resolve(
        late
          ? `did not end within ${limit / 1000} s`
          : signal === null
            ? `ended with status ${status}`
            : `was ended by ${signal}`,
      );
    });
  });
}

/** The first line of a message, without what says where it happened: paths of this host, addresses. */
function anonymous(message: string): string {
  return message
    .split('\n', 1)[0]!
    .replace(/(?:file:\/\/)?(?<![\w./-])\/(?!dev\/|proc\/self\/)[^\s'":,)]+/g, '(a path)')
    .replace(/0x[0-9a-f]{9,}/gi, '(an address)');
}
