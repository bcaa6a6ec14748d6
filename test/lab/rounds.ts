/**
 * The cases on as many machines as they need: QEMU's emulation may itself stop in the middle. What a stopped machine had not answered is
 * asked of another one, first of all the case it stopped in; a case that stops a second machine has failed, and the next ones follow.
 * Used by scripts/lab/test.mjs, compiled, outside the lab.
 */
import type { Answers } from './judge.ts';

/** What one machine brought back. */
export interface Round {
  /** undefined where it did not get as far as the first case. */
  readonly answers: Answers | undefined;
  /** Why there is no more. */
  readonly failure: string | undefined;
  /** The machine ended, or had to be: not the program in it, whose end is never the emulation's doing. */
  readonly stopped: boolean;
}

export interface Outcome {
  readonly answers: Answers | undefined;
  readonly failure: string | undefined;
  /** Machines that stopped and were followed by another, for the reader. */
  readonly lines: readonly string[];
}

/** So many machines may stop before nothing more is asked. */
const MOST_STOPS = 6;

/** Asks machine after machine until all cases have answered or it is no use. `boot(first)` leaves out so many of the cases. */
export async function askAll(boot: (first: number) => Promise<Round>): Promise<Outcome> {
  const lines: string[] = [];
  const stops: string[] = [];
  let { answers, failure, stopped } = await boot(0);
  while (answers !== undefined && stopped) {
    const [where = 'no case'] = answers.unfinished;
    const again = stops.includes(where);
    stops.push(where);
    if (again && answers.unfinished.length === 0) break;
    if (again) answers = { ...answers, stopping: [...answers.stopping, where], unfinished: [] };
    if (stops.length === MOST_STOPS) break;
    lines.push(
      `the machine stopped in ${where}${again ? ' again: going on without it' : ': asking another one'}: ${brief(failure ?? '')}`,
    );
    const next = await boot(asked(answers));
    ({ failure, stopped } = next);
    if (next.answers === undefined) break;
    answers = joined(answers, next.answers);
  }
  return { answers, failure, lines };
}

/** What several of the same kind were asked, each its share of the cases, as if one had answered it all. */
export function together(outcomes: readonly Outcome[]): Outcome {
  const all = outcomes.flatMap(({ answers }) => answers ?? []);
  const answers = all
    .slice(1)
    .reduce<Answers | undefined>(
      (before, after) => before && { ...joined(before, after), unfinished: [...before.unfinished, ...after.unfinished] },
      all[0],
    );
  return {
    answers: answers && { ...answers, stopping: all.flatMap(({ stopping }) => stopping) },
    failure: outcomes.find(({ failure }) => failure !== undefined)?.failure,
    lines: outcomes.flatMap(({ lines }) => lines),
  };
}

/** What a machine said last matters where it was the last one. */
function brief(failure: string): string {
  return failure.split('\n').slice(0, 8).join('\n');
}

/** More cases than these do not differ because of the emulation. */
const MOST_DIFFERING = 8;

/**
 * Asks another machine again what answered otherwise than recorded: under QEMU a guest has answered, once in tens of thousands of runs, as
 * the code would that had been overwritten. `differing` names the cases of some answers, `boot` asks only those named. A difference that stays is one.
 */
export async function askDiffering(
  answers: Answers,
  differing: (answers: Answers) => readonly string[],
  boot: (names: readonly string[], first: number) => Promise<Round>,
): Promise<{ readonly answers: Answers; readonly lines: readonly string[] }> {
  const names = differing(answers);
  if (names.length === 0 || names.length > MOST_DIFFERING) return { answers, lines: [] };
  const again = await askAll((first) => boot(names, first));
  if (again.answers === undefined || again.failure !== undefined) return { answers, lines: again.lines };
  const settled = joined(answers, again.answers);
  const left = differing(settled);
  const unsteady = names.filter((name) => !left.includes(name));
  return {
    answers: { ...settled, stopping: [...new Set([...answers.stopping, ...again.answers.stopping])] },
    lines: [...again.lines, ...unsteady.map((name) => `unsteady: ${name}: answered as recorded when it was asked again`)],
  };
}

/** How many of the cases are done with. */
function asked({ suites, stopping }: Answers): number {
  return [...suites.values()].reduce((sum, { results }) => sum + results.size, stopping.length);
}

function joined(before: Answers, after: Answers): Answers {
  const suites = [...before.suites].map(([suite, report]) => {
    const results = new Map([...report.results, ...after.suites.get(suite)!.results]);
    return [suite, { ...report, results }] as const;
  });
  return {
    ...before,
    suites: new Map(suites),
    unfinished: after.unfinished,
    took: new Map([...before.took, ...after.took]),
  };
}
