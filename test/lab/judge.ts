/** What a lab machine answered, compared with the goldens, or recorded as one. Used by scripts/lab/test.mjs, compiled, outside the lab. */
import { existsSync, readFileSync } from 'node:fs';
import { kernelCases, vfioCases } from '../conformance/cases/index.ts';
import { type Comparison, compare, type Golden, showDifference, toGolden } from '../conformance/golden.ts';
import { readDifferences, readGolden, writeGolden } from '../conformance/golden-files.ts';
import type { Report, Result } from '../conformance/run-cases.ts';
import type { Line, Suite } from './run.ts';

export interface Answers {
  readonly machine: string;
  readonly release: string;
  readonly identity: Readonly<Record<Suite, string | undefined>>;
  readonly suites: ReadonlyMap<Suite, Report>;
  /** The case that was under way when a machine stopped: of each machine that was not followed by another. */
  readonly unfinished: readonly string[];
  /** Cases each of which has stopped two machines: asked no more. */
  readonly stopping: readonly string[];
  /** Milliseconds by case. */
  readonly took: ReadonlyMap<string, number>;
}

/** Reads results.jsonl; undefined when the run did not get as far as its first line. */
export function readAnswers(file: string): Answers | undefined {
  if (!existsSync(file)) return undefined;
  // A machine that stopped may have left half a line.
  const lines = readFileSync(file, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line);
  const head = lines.find((line) => 'release' in line);
  if (head === undefined) return undefined;
  const results = new Map<Suite, Map<string, Result>>([
    ['kvm', new Map()],
    ['vfio', new Map()],
  ]);
  const took = new Map<string, number>();
  let unfinished: readonly string[] = [];
  for (const line of lines) {
    if ('begins' in line) unfinished = [line.begins];
    if (!('result' in line)) continue;
    results.get(line.suite)!.set(line.name, line.result);
    took.set(line.name, line.milliseconds);
    unfinished = [];
  }
  const { release, identity, machine } = head;
  const report = (suite: Suite): Report => ({ kernel: 'lab', release, identity: identity[suite], results: results.get(suite)! });
  return {
    machine,
    release,
    identity,
    suites: new Map([...results.keys()].map((suite) => [suite, report(suite)])),
    unfinished,
    stopping: [],
    took,
  };
}

export interface Verdict {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** The cases that answered otherwise than recorded. */
  readonly differing: readonly string[];
  /** For the reader: differences, and what was not run and why, each reason once. */
  readonly lines: readonly string[];
}

/** Judges one machine's answers. */
export function judge(goldens: string, answers: Answers): Verdict {
  const known = readDifferences(goldens);
  const lines: string[] = [];
  const differing: string[] = [];
  const skipped = new Map<string, string[]>();
  let passed = 0;
  let failed = 0;
  const skip = (reason: string, name: string): void => void skipped.set(reason, [...(skipped.get(reason) ?? []), name]);
  for (const report of answers.suites.values()) {
    const golden = readGolden(goldens, report.identity);
    const comparison = compare(golden ?? unrecorded(report), report, known);
    for (const { case: name, reason } of comparison.notRun) {
      skip(golden === undefined && ran(report, name) ? `no golden of ${report.identity} (--record makes one)` : reason, name);
    }
    const wrong = byCase(comparison);
    for (const [name, differences] of wrong) {
      failed++;
      differing.push(name);
      lines.push(
        ...differences.map((one) => `FAILED ${one}`),
        `  in ${name}, on machine ${answers.machine}, kernel ${answers.release}`,
      );
    }
    passed += [...report.results.values()].length - comparison.notRun.length - wrong.size;
  }
  for (const name of answers.stopping) lines.push(`FAILED ${name}: the machine stopped in it, twice`);
  for (const name of answers.unfinished) lines.push(`FAILED ${name}: the machine stopped in it`);
  failed += answers.stopping.length + answers.unfinished.length;
  const reasons = [...skipped].map(([reason, names]) => {
    const which = names.length > 3 ? `${names.length} cases (${names[0]} …)` : names.join(', ');
    return `not run: ${which}: ${reason}`;
  });
  return { passed, failed, skipped: [...skipped.values()].flat().length, differing, lines: [...lines, ...reasons] };
}

/** What took longest, for who has to keep it short. */
export function slowest({ took }: Answers, count = 5): string {
  const rows = [...took].sort(([, a], [, b]) => b - a).slice(0, count);
  return rows.map(([name, milliseconds]) => `${name} ${(milliseconds / 1000).toFixed(1)} s`).join(', ');
}

function unrecorded({ identity, release }: Report): Golden {
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

/**
 * Writes the goldens of these answers; returns lines for the reader. Throws when a case failed: nothing is recorded then. With `partial`,
 * cases that were not asked keep what is there.
 */
export function record(goldens: string, answers: Answers, partial = false): readonly string[] {
  const [stopped] = [...answers.unfinished, ...answers.stopping];
  if (stopped !== undefined) throw new Error(`${stopped} did not end: nothing is recorded`);
  return [...answers.suites].flatMap(([suite, report]) => {
    if (report.results.size === 0) return [];
    const names = (suite === 'vfio' ? vfioCases : kernelCases).map(({ name }) => name);
    return writeGolden(goldens, toGolden(report), names, partial);
  });
}
