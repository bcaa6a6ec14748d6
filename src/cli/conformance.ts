import { accessSync, constants, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { rangeError } from '../kernel/errors.ts';
import { kernelsHere } from './kernels.ts';
import type { Paint } from './paint.ts';

/** What of dist/conformance is used. It is compiled apart, from the cases the tests use, and loaded when it is asked for. */
interface Cases {
  record(kernel: string, options: RecordOptions): Promise<Recording>;
  formatGolden(golden: Golden): string;
  countObservations(golden: Golden): number;
  compare(golden: Golden, report: unknown): Comparison;
  showDifference(difference: object): string;
}

interface RecordOptions {
  readonly progress?: (name: string, of: number, at: number) => void;
}

interface Golden {
  readonly identity: string;
  readonly release: string;
  readonly cases: Readonly<Record<string, object>>;
  readonly notRun: Readonly<Record<string, string>>;
}

interface Recording {
  readonly golden: Golden;
  readonly report: unknown;
  readonly failed: Readonly<Record<string, string>>;
}

interface Comparison {
  readonly same: number;
  readonly differences: readonly object[];
  readonly notModelled: readonly object[];
  readonly notRun: readonly { readonly case: string; readonly reason: string }[];
}

export interface ConformanceOptions {
  readonly kernel?: string | undefined;
  readonly out?: string | undefined;
}

/** Differences told one by one. */
const SHOWN = 40;

type Print = (lines: readonly string[]) => void;

const actions: Readonly<
  Record<string, (args: readonly string[], options: ConformanceOptions, paint: Paint, print: Print) => Promise<number>>
> = { record, compare };

/** `kvio conformance record` and `compare`: the exit status. */
export async function conformance(
  [action, ...args]: readonly string[],
  options: ConformanceOptions,
  paint: Paint,
  print: Print,
): Promise<number> {
  const run = action !== undefined && Object.hasOwn(actions, action) ? actions[action] : undefined;
  if (run === undefined)
    throw rangeError(
      `conformance ${action === undefined ? 'wants to be told what to do' : `does not know '${action}'`}: one of ${Object.keys(actions).join(', ')}`,
    );
  return run(args, options, paint, print);
}

/**
 * Writes what a kernel of this host answers to every case, masked, as a file to send in. Succeeds on any kernel that can be opened:
 * what could not be run is in the file, with the reason.
 */
async function record(args: readonly string[], options: ConformanceOptions, paint: Paint, print: Print): Promise<number> {
  if (args.length > 0) throw rangeError(`conformance record takes no arguments: '${args.join(' ')}'`);
  const kernel = chooseKernel(options.kernel);
  const cases = await load();
  checkWritable(options.out);
  const { golden } = await cases.record(kernel, { progress });
  const text = cases.formatGolden(golden);
  const counts = `${cases.countObservations(golden)} observations in ${Object.keys(golden.cases).length} cases`;
  const lines = [`${paint.bold(golden.identity)} (Linux ${golden.release}, ${kernel}): ${counts}`];
  lines.push(...reasons(Object.entries(golden.notRun)), ...lesserRoad(kernel));
  if (options.out === '-') {
    process.stdout.write(text);
    process.stderr.write(`${lines.join('\n')}\n`);
    return 0;
  }
  const path = place(options.out, `${golden.identity}.json`);
  onFile(path, 'written', () => writeFileSync(path, text));
  const masked =
    'Of this host it holds what its kernel answers, its version and back end; times, lists of the CPU and addresses are masked.';
  print([...lines, '', paint.bold(path), masked]);
  return 0;
}

/** Compares a kernel of this host with a file that was recorded elsewhere: 0 where all that could be compared is the same. */
async function compare(args: readonly string[], options: ConformanceOptions, paint: Paint, print: Print): Promise<number> {
  const [path, ...more] = args;
  if (path === undefined || more.length > 0)
    throw rangeError('conformance compare takes one file, as conformance record writes it');
  if (options.out !== undefined) throw rangeError('conformance compare writes nothing: it has no option --out');
  const golden = readGolden(path);
  const kernel = chooseKernel(options.kernel);
  const cases = await load();
  const { report, golden: own } = await cases.record(kernel, { progress });
  const { same, differences, notModelled, notRun } = cases.compare(golden, report);
  const found = differences.length === 0 ? paint.green('0 different') : paint.red(`${differences.length} different`);
  const unmodelled = notModelled.length === 0 ? '' : `, ${notModelled.length} not modelled`;
  print([
    `${paint.bold(own.identity)} (${kernel}) against ${paint.bold(golden.identity)}: ${same} the same, ${found}${unmodelled}`,
    ...reasons(notRun.map((one) => [one.case, one.reason])),
    ...differences.slice(0, SHOWN).map((difference) => cases.showDifference(difference)),
    ...(differences.length > SHOWN ? [`… and ${differences.length - SHOWN} more`] : []),
  ]);
  return differences.length === 0 ? 0 : 1;
}

/** The kernel asked for, or the host's by the better road. A recording of the simulator has to be asked for. */
function chooseKernel(asked: string | undefined): string {
  const found = kernelsHere();
  const choice =
    asked === undefined
      ? found.find(({ kind, available }) => available && (kind !== 'sim' || process.env['KVIO_KERNEL'] === 'sim'))
      : found.find(({ kind }) => kind === asked);
  const names = found.map(({ kind }) => `'${kind}'`).join(', ');
  if (asked !== undefined && choice === undefined) throw rangeError(`--kernel must be one of ${names}, not '${asked}'`);
  if (choice?.available) return choice.kind;
  const { kind, reason } = choice ?? found[0]!;
  throw rangeError(`the ${kind} kernel is not available: ${reason}`);
}

/** What one road to the host's kernel cannot run, the other may. */
function lesserRoad(kernel: string): string[] {
  const addon = kernelsHere().find(({ kind }) => kind === 'native');
  return kernel !== 'ffi' || addon === undefined || addon.available
    ? []
    : [`  through ffi-rs; the addon runs more of the cases, and is not used: ${addon.reason}`];
}

async function load(): Promise<Cases> {
  const folder = new URL('../conformance/', import.meta.url);
  try {
    return (await import(new URL('record.js', folder).href)) as Cases;
  } catch (error) {
    if ((error as { code?: string }).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw rangeError('this build has no conformance cases: npm run build in a checkout makes them');
  }
}

/** A line to see that it goes on, on terminals only. */
function progress(name: string, of: number, at: number): void {
  if (!process.stderr.isTTY) return;
  process.stderr.write(`\r\x1b[K${at === of ? '' : `${at}/${of} ${name}`}`);
}

/** Each reason once, with the cases it is of. */
function reasons(entries: readonly (readonly [name: string, reason: string])[]): string[] {
  const names = new Map<string, string[]>();
  for (const [name, reason] of entries) names.set(reason, [...(names.get(reason) ?? []), name]);
  return [...names].map(
    ([reason, of]) => `  not run: ${of.length > 3 ? `${of.length} cases (${of[0]} …)` : of.join(', ')}: ${reason}`,
  );
}

function isFolder(path: string): boolean {
  return path.endsWith('/') || statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** Looked at before minutes are spent on what nobody could keep. */
function checkWritable(out = `${process.cwd()}/`): void {
  if (out === '-') return;
  const there = isFolder(out) || statSync(out, { throwIfNoEntry: false }) !== undefined;
  onFile(out, 'written (--out names another place, --out - prints)', () =>
    accessSync(there ? out : dirname(out), constants.W_OK),
  );
}

function onFile<T>(path: string, what: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw rangeError(`${path} cannot be ${what}: ${(error as Error).message}`);
  }
}

function place(out: string | undefined, name: string): string {
  if (out === undefined) return name;
  return isFolder(out) ? join(out, name) : out;
}

function readGolden(path: string): Golden {
  const golden: unknown = onFile(path, 'read', () => JSON.parse(readFileSync(path, 'utf8')));
  const { identity, cases, notRun } = (golden ?? {}) as Partial<Golden>;
  if (typeof identity !== 'string' || typeof cases !== 'object' || typeof notRun !== 'object')
    throw rangeError(`${path} is no recording of conformance cases: kvio conformance record writes one`);
  return golden as Golden;
}
