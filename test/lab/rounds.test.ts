/** A machine that stops is followed by another, and nothing it left unanswered gets lost. */
import { expect, test } from 'vitest';
import type { Answers } from './judge.ts';
import { askAll, askDiffering, type Outcome, type Round, together } from './rounds.ts';

const names: readonly string[] = ['a', 'b', 'c', 'd'];

/** A machine whose cases answer, one of them perhaps not. */
function machine(first: number, stopsIn?: string, failure = 'QEMU: assertion failed', cases = names): Round {
  const mine = cases.slice(first);
  const answered = stopsIn === undefined ? mine : mine.slice(0, mine.indexOf(stopsIn));
  const results = new Map(answered.map((name) => [name, { facts: { first } }]));
  const report = { kernel: 'lab', release: '7.2', identity: '7.2-svm', results };
  const answers: Answers = {
    machine: 'vtd',
    release: '7.2',
    identity: { kvm: '7.2-svm', vfio: '7.2@vtd' },
    suites: new Map([['kvm', report]]),
    unfinished: stopsIn === undefined ? [] : [stopsIn],
    stopping: [],
    took: new Map(answered.map((name) => [name, 1])),
  };
  return stopsIn === undefined ? { answers, failure: undefined, stopped: false } : { answers, failure, stopped: true };
}

/** Asks machines that stop one after the other in these cases, and then do not. */
async function ask(...stops: (string | undefined)[]): Promise<Awaited<ReturnType<typeof askAll>> & { firsts: number[] }> {
  const firsts: number[] = [];
  const outcome = await askAll(async (first) => {
    firsts.push(first);
    return machine(first, stops.shift());
  });
  return { ...outcome, firsts };
}

const answered = (answers: Answers | undefined): string[] => [...answers!.suites.get('kvm')!.results.keys()];

test('one boot is enough where nothing stops', async () => {
  const { answers, failure, lines, firsts } = await ask();
  expect([answered(answers), failure, lines, firsts]).toEqual([names, undefined, [], [0]]);
});

test('the case a machine stopped in is asked of another, and the rest', async () => {
  const { answers, failure, lines, firsts } = await ask('b', 'd');
  expect(answered(answers)).toEqual(names);
  expect(firsts).toEqual([0, 1, 3]);
  expect(answers).toMatchObject({ unfinished: [], stopping: [] });
  expect(failure).toBeUndefined();
  expect(lines.map((line) => line.slice(0, 52))).toEqual([
    'the machine stopped in b: asking another one: QEMU: ',
    'the machine stopped in d: asking another one: QEMU: ',
  ]);
  expect(answers!.suites.get('kvm')!.results.get('c')).toEqual({ facts: { first: 1 } });
});

test('a case that stops two machines is named, and the next ones follow', async () => {
  const { answers, failure, firsts } = await ask('b', 'b');
  expect(answered(answers)).toEqual(['a', 'c', 'd']);
  expect(answers).toMatchObject({ unfinished: [], stopping: ['b'] });
  expect([failure, firsts]).toEqual([undefined, [0, 1, 2]]);
});

test('also the last one', async () => {
  const { answers, failure, firsts } = await ask('d', 'd');
  expect(answered(answers)).toEqual(['a', 'b', 'c']);
  expect(answers!.stopping).toEqual(['d']);
  expect([failure, firsts]).toEqual([undefined, [0, 3, 4]]);
});

test('there is an end to it, with the last reason', async () => {
  const { failure, firsts, answers } = await ask('a', 'a', 'b', 'b', 'c', 'c', 'd', 'd');
  expect(failure).toBe('QEMU: assertion failed');
  expect(firsts).toEqual([0, 0, 1, 1, 2, 2]);
  expect(answers!.stopping).toEqual(['a', 'b', 'c']);
});

test('a program that ends by itself, and a machine that does not boot, are not asked again', async () => {
  let boots = 0;
  const crash = async (): Promise<Round> => ({ ...machine(boots++, 'b', 'the cases ended with status 139'), stopped: false });
  expect(await askAll(crash)).toMatchObject({ failure: 'the cases ended with status 139', answers: { unfinished: ['b'] } });
  expect(boots).toBe(1);
  const dead = async (): Promise<Round> => ({ answers: undefined, failure: 'did not boot', stopped: true });
  expect(await askAll(dead)).toEqual({ answers: undefined, failure: 'did not boot', lines: [] });
});

/** One of two machines that share the cases. */
async function half(cases: readonly string[], ...stops: (string | undefined)[]): Promise<Outcome> {
  return askAll(async (first) => machine(first, stops.shift(), undefined, cases));
}

test('machines that share the cases are one that answered them all', async () => {
  const whole = together([await half(['a', 'c']), await half(['b', 'd'])]);
  expect([answered(whole.answers), whole.failure, whole.lines]).toEqual([['a', 'c', 'b', 'd'], undefined, []]);
});

test('what went wrong in a share is not lost', async () => {
  const crash: Round = { ...machine(0, 'c', 'the cases ended with status 139', ['a', 'c']), stopped: false };
  const whole = together([await askAll(async () => crash), await half(['b', 'd'], 'd', 'd')]);
  expect(answered(whole.answers)).toEqual(['a', 'b']);
  expect(whole.answers).toMatchObject({ unfinished: ['c'], stopping: ['d'] });
  expect(whole.failure).toBe('the cases ended with status 139');
  expect(whole.lines).toHaveLength(2);
});

test('a share without any answer leaves the others theirs, and its reason', async () => {
  const dead = await askAll(async () => ({ answers: undefined, failure: 'did not boot', stopped: true }));
  expect(together([dead, dead])).toEqual({ answers: undefined, failure: 'did not boot', lines: [] });
  const whole = together([dead, await half(['b'])]);
  expect([answered(whole.answers), whole.failure]).toEqual([['b'], 'did not boot']);
});

/** Those of `wrong` that the first machine answered; another one answers as recorded, but for `stays`. */
async function settle(wrong: readonly string[], stays: readonly string[] = []): Promise<unknown[]> {
  const asked: (readonly string[])[] = [];
  const bad = new Set<unknown>();
  const first = machine(0).answers!;
  const results = first.suites.get('kvm')!.results;
  for (const name of wrong) bad.add(results.get(name));
  const differing = ({ suites }: Answers): string[] =>
    [...suites.get('kvm')!.results]
      .filter(([name, result]) => bad.has(result) || (asked.length > 0 && stays.includes(name)))
      .map(([name]) => name);
  const { answers, lines } = await askDiffering(first, differing, async (names) => {
    asked.push(names);
    const all = machine(0);
    const report = all.answers!.suites.get('kvm')!;
    const some = new Map([...report.results].filter(([name]) => names.includes(name)));
    return { ...all, answers: { ...all.answers!, suites: new Map([['kvm', { ...report, results: some }]]) } };
  });
  return [asked, answered(answers), differing(answers), lines];
}

test('what differs is asked again, and what then does not is said to be unsteady', async () => {
  expect(await settle(['b', 'd'], ['d'])).toEqual([
    [['b', 'd']],
    names,
    ['d'],
    ['unsteady: b: answered as recorded when it was asked again'],
  ]);
});

test('nothing is asked again where nothing differs', async () => {
  expect(await settle([])).toEqual([[], names, [], []]);
});
