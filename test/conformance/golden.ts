/** Goldens: what a real kernel answered, as files, and the comparison of a report with one. */
import { changes, type Fact, isRecord, NOT_MODELLED, type Observation } from './case.ts';
import type { Report } from './run-cases.ts';

export interface Golden {
  /** `6.18-pvm`: release, backend, configuration; see identity.ts. */
  readonly identity: string;
  readonly release: string;
  readonly cases: Readonly<Record<string, Observation>>;
  /** Cases that could not be run where this was recorded, and why. */
  readonly notRun: Readonly<Record<string, string>>;
}

export interface Difference {
  readonly case: string;
  readonly label: string;
  readonly expected: Fact | undefined;
  readonly got: Fact | undefined;
}

/**
 * A difference that is known, between two kinds of real kernels or between a kernel and a way to it, with its reason. One of `between`, `since`
 * and `with` says which kernels; in `between`, `case` and `label` a `*` stands for any text. Of several cases and labels, each with each.
 */
export interface KnownDifference {
  /** Identities or kernel names it is between. */
  readonly between?: readonly [string, string];
  /** Kernels older than this release, and this one and newer. */
  readonly since?: string;
  /** Kernels with and without this in their identity's configuration: `hyperv`. */
  readonly with?: string;
  readonly case: string | readonly string[];
  readonly label: string | readonly string[];
  readonly reason: string;
}

export interface Comparison {
  /** Facts that were compared and are the same. */
  readonly same: number;
  readonly differences: readonly Difference[];
  readonly known: readonly (Difference & { readonly reason: string })[];
  /** Facts the simulator says it does not model. */
  readonly notModelled: readonly { readonly case: string; readonly label: string; readonly what: string }[];
  /** Cases that were not run on one of the two, and why. */
  readonly notRun: readonly { readonly case: string; readonly reason: string }[];
}

export function toGolden(report: Report): Golden {
  const failed = [...report.results].flatMap(([name, result]) => ('failed' in result ? [`${name}: ${result.failed}`] : []));
  if (failed.length > 0) throw new Error(`cases failed; nothing is recorded:\n${failed.join('\n')}`);
  if (report.identity === undefined) throw new Error('there is no /dev/kvm to record');
  const cases: Record<string, Observation> = {};
  const notRun: Record<string, string> = {};
  for (const [name, result] of report.results) {
    if ('facts' in result) cases[name] = result.facts;
    else if ('notRun' in result) notRun[name] = result.notRun;
  }
  // A distribution's or host's own suffix says nothing about the answers.
  const release = /^\d+(\.\d+)*/.exec(report.release)?.[0] ?? 'unknown';
  return { identity: report.identity, release, cases, notRun };
}

/** JSON with a fact a line, so that a changed answer is a changed line. */
export function formatGolden(golden: Golden): string {
  const cases = Object.entries(golden.cases).map(([name, facts]) => {
    const lines = Object.entries(facts).map(([label, fact]) => `      ${JSON.stringify(label)}: ${JSON.stringify(fact)}`);
    return `    ${JSON.stringify(name)}: {\n${lines.join(',\n')}\n    }`;
  });
  const notRun = Object.entries(golden.notRun).map(([name, reason]) => `    ${JSON.stringify(name)}: ${JSON.stringify(reason)}`);
  return [
    '{',
    `  "identity": ${JSON.stringify(golden.identity)},`,
    `  "release": ${JSON.stringify(golden.release)},`,
    `  "cases": {\n${cases.join(',\n')}\n  },`,
    `  "notRun": {${notRun.length === 0 ? '' : `\n${notRun.join(',\n')}\n  `}}`,
    '}',
    '',
  ].join('\n');
}

export function countObservations(golden: Pick<Golden, 'cases'>): number {
  return Object.values(golden.cases).reduce((sum, facts) => sum + Object.keys(facts).length, 0);
}

/** Compares what a kernel answered with a golden, fact by fact. `names` are what known differences call the two. */
export function compare(
  golden: Golden,
  report: Report,
  known: readonly KnownDifference[] = [],
  names: readonly [string, string] = [golden.identity, report.kernel],
): Comparison {
  let same = 0;
  const differences: Difference[] = [];
  const excused: (Difference & { reason: string })[] = [];
  const notModelled: { case: string; label: string; what: string }[] = [];
  const notRun: { case: string; reason: string }[] = [];
  for (const [name, result] of report.results) {
    if ('notRun' in result) {
      notRun.push({ case: name, reason: result.notRun });
      continue;
    }
    if ('failed' in result) {
      differences.push({ case: name, label: '(the whole case)', expected: 'facts', got: result.failed });
      continue;
    }
    const expected = golden.cases[name];
    if (expected === undefined) {
      notRun.push({
        case: name,
        reason: `golden ${golden.identity} has no such case: ${golden.notRun[name] ?? 'record it (npm run golden:record)'}`,
      });
      continue;
    }
    for (const label of new Set([...Object.keys(expected), ...Object.keys(result.facts)])) {
      const [want, got] = [expected[label], result.facts[label]];
      if (typeof got === 'string' && got.startsWith(NOT_MODELLED))
        notModelled.push({ case: name, label, what: got.slice(NOT_MODELLED.length) });
      else if (JSON.stringify(want) === JSON.stringify(got)) same++;
      else {
        const difference = { case: name, label, expected: want, got };
        const reason = known.find((entry) => speaksOf(entry, difference, names))?.reason;
        if (reason === undefined) differences.push(difference);
        else excused.push({ ...difference, reason });
      }
    }
  }
  return { same, differences, known: excused, notModelled, notRun };
}

function speaksOf(entry: KnownDifference, difference: Difference, names: readonly [string, string]): boolean {
  return divides(entry, names) && matchesOne(entry.case, difference.case) && matchesOne(entry.label, difference.label);
}

/** Whether the entry is about these two kernels. A release or a configuration only identities have: no simulated kernel is excused by them. */
function divides({ between, since, with: option }: KnownDifference, [one, other]: readonly [string, string]): boolean {
  if (between !== undefined) {
    const [a, b] = between;
    return (matches(a, one) && matches(b, other)) || (matches(a, other) && matches(b, one));
  }
  const [first, second] = [one, other].map((name) => /^(\d+)\.(\d+)[-@][^+]+(.*)$/.exec(name));
  if (!first || !second) return false;
  if (since !== undefined) {
    const [major, minor] = since.split('.').map(Number) as [number, number];
    const [before, after] = [first, second].map((found) => Number(found[1]) - major || Number(found[2]) - minor) as [
      number,
      number,
    ];
    return before < 0 !== after < 0;
  }
  const [here, there] = [first, second].map((found) => found[3]!.split('+').includes(option!));
  return here !== there;
}

const matchesOne = (patterns: string | readonly string[], text: string): boolean =>
  [patterns].flat().some((pattern) => matches(pattern, text));

function matches(pattern: string, text: string): boolean {
  const [head = '', ...rest] = pattern.split('*');
  if (rest.length === 0) return pattern === text;
  const tail = rest.pop()!;
  if (!text.startsWith(head) || text.length < head.length + tail.length || !text.endsWith(tail)) return false;
  let at = head.length;
  for (const part of rest) {
    const found = text.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return at <= text.length - tail.length;
}

/** A difference as a reader wants it: the case, the fact, what was recorded, what was answered; of structs only the fields that differ. */
export function showDifference({ case: name, label, expected, got }: Difference): string {
  const [golden, answer] =
    isRecord(expected) && isRecord(got) ? [changes(got, expected), changes(expected, got)] : [expected, got];
  return `${name} › ${label}\n    golden: ${JSON.stringify(golden)}\n    answer: ${JSON.stringify(answer)}`;
}
