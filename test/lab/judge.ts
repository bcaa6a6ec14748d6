/** What a lab machine answered, compared with the goldens, or recorded as one. Used by scripts/lab/test.mjs, compiled, outside the lab. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  type Comparison,
  compare,
  countObservations,
  formatGolden,
  type Golden,
  type KnownDifference,
  showDifference,
  toGolden,
} from '../conformance/golden.ts';
import type { Report, Result } from '../conformance/run-cases.ts';
import type { Line, Suite } from './run.ts';

export interface Answers {
  readonly machine: string;
  readonly release: string;
  readonly identity: string | undefined;
  readonly suites: ReadonlyMap<Suite, Report>;
  /** The case that was under way when the machine stopped. */
  readonly unfinished: string | undefined;
  /** Milliseconds by case. */
  readonly took: ReadonlyMap<string, number>;
}

/** Reads results.jsonl; undefined when the run did not get as far as its first line. */
export function readAnswers(file: string): Answers | undefined {
  if (!existsSync(file)) return undefined;
  const lines = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);
  const head = lines.find((line) => 'release' in line);
  if (head === undefined) return undefined;
  const results = new Map<Suite, Map<string, Result>>([
    ['kvm', new Map()],
    ['lab', new Map()],
  ]);
  const took = new Map<string, number>();
  let unfinished: string | undefined;
  for (const line of lines) {
    if ('begins' in line) unfinished = line.begins;
    if (!('result' in line)) continue;
    results.get(line.suite)!.set(line.name, line.result);
    took.set(line.name, line.milliseconds);
    unfinished = undefined;
  }
  const { release, identity, machine } = head;
  const report = (suite: Suite): Report => ({ kernel: 'lab', release, identity, results: results.get(suite)! });
  return {
    machine,
    release,
    identity,
    suites: new Map([...results.keys()].map((suite) => [suite, report(suite)])),
    unfinished,
    took,
  };
}

/** The golden of a suite: KVM's does not depend on the machine's devices, the lab's own does. */
function goldenPath(goldens: string, suite: Suite, { identity, machine }: Answers): string {
  return suite === 'kvm' ? join(goldens, 'kvm', `${identity}.json`) : join(goldens, 'lab', `${identity}@${machine}.json`);
}

export interface Verdict {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** For the reader: differences, and what was not run and why, each reason once. */
  readonly lines: readonly string[];
}

/** Judges one machine's answers. */
export function judge(goldens: string, answers: Answers): Verdict {
  const differences = join(goldens, 'differences.json');
  const known = existsSync(differences) ? (JSON.parse(readFileSync(differences, 'utf8')) as readonly KnownDifference[]) : [];
  const lines: string[] = [];
  const skipped = new Map<string, string[]>();
  let passed = 0;
  let failed = 0;
  const skip = (reason: string, name: string): void => void skipped.set(reason, [...(skipped.get(reason) ?? []), name]);
  for (const [suite, report] of answers.suites) {
    const path = goldenPath(goldens, suite, answers);
    const golden = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Golden) : undefined;
    const comparison = compare(golden ?? unrecorded(answers), report, known);
    for (const { case: name, reason } of comparison.notRun) {
      skip(golden === undefined && ran(report, name) ? `no golden of ${answers.identity} (--record makes one)` : reason, name);
    }
    const wrong = byCase(comparison);
    for (const [name, differences] of wrong) {
      failed++;
      lines.push(
        ...differences.map((one) => `FAILED ${one}`),
        `  in ${name}, on machine ${answers.machine}, kernel ${answers.release}`,
      );
    }
    passed += [...report.results.values()].length - comparison.notRun.length - wrong.size;
  }
  if (answers.unfinished !== undefined) {
    failed++;
    lines.push(`FAILED ${answers.unfinished}: the machine stopped in it`);
  }
  const reasons = [...skipped].map(([reason, names]) => {
    const which = names.length > 3 ? `${names.length} cases (${names[0]} …)` : names.join(', ');
    return `not run: ${which}: ${reason}`;
  });
  return { passed, failed, skipped: [...skipped.values()].flat().length, lines: [...lines, ...reasons] };
}

function unrecorded({ identity, release }: Answers): Golden {
  return { identity: identity ?? 'a kernel without /dev/kvm', release, cases: {}, notRun: {} };
}

function ran(report: Report, name: string): boolean {
  return 'facts' in report.results.get(name)!;
}

function byCase({ differences }: Comparison): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, string[]>();
  for (const one of differences) found.set(one.case, [...(found.get(one.case) ?? []), showDifference(one)]);
  return found;
}

/** Writes the goldens of these answers; returns a line for each. Throws when a case failed: nothing is recorded then. */
export function record(goldens: string, answers: Answers): readonly string[] {
  if (answers.unfinished !== undefined) throw new Error(`${answers.unfinished} did not end: nothing is recorded`);
  return [...answers.suites].map(([suite, report]) => {
    const golden = toGolden(report);
    const path = goldenPath(goldens, suite, answers);
    const text = formatGolden(golden);
    const before = existsSync(path) ? readFileSync(path, 'utf8') : undefined;
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    const news = before === undefined ? 'new' : before === text ? 'unchanged' : 'CHANGED';
    return `${path}: ${countObservations(golden)} observations in ${Object.keys(golden.cases).length} cases, ${news}`;
  });
}
