/**
 * Every case on every kernel there is here: each compared with the golden of its identity, and the roads to the host's kernel with
 * each other. A case that could not be run is counted as not run, with the reason; a kernel without a golden as unrecorded.
 */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ioctls } from 'kvio/uapi';
import { afterAll, describe, expect, test } from 'vitest';
import { candidates } from './candidates.ts';
import { cases } from './cases/index.ts';
import { requests } from './cases/refusals.ts';
import { type Comparison, compare, countObservations, showDifference, toGolden } from './golden.ts';
import { readDifferences, readGolden, readGoldens } from './golden-files.ts';
import { type Candidate, type Report, runCase, runCases } from './run-cases.ts';

const goldens = join(dirname(fileURLToPath(import.meta.url)), '..', 'golden');
const known = readDifferences(goldens);
const summary: string[] = [];

/** One line a kernel: what was compared, and what could not be, each reason once. */
function summarise(name: string, against: string, found: Comparison): void {
  const { same, differences, known: excused, notModelled, notRun } = found;
  summary.push(
    `${name} against ${against}: ${same} the same, ${differences.length} different, ${excused.length} known differences`,
  );
  const reasons = new Map<string, string[]>();
  for (const { case: one, reason } of notRun) reasons.set(reason, [...(reasons.get(reason) ?? []), one]);
  for (const { case: one, label, what } of notModelled) {
    reasons.set(`not modelled: ${what}`, [...(reasons.get(`not modelled: ${what}`) ?? []), `${one} › ${label}`]);
  }
  for (const [reason, names] of reasons)
    summary.push(`  not run: ${names.length > 3 ? `${names.length} (${names[0]} …)` : names.join(', ')}: ${reason}`);
}

const found = candidates();
const simulated = [...found.keys()].filter((name) => name.startsWith('sim ') && !/^sim (lab|smmuv3)-/.test(name));
const reports = new Map<string, Report>();

/** What a kernel answered to all cases; each is asked once. */
async function report(name: string): Promise<Report> {
  const one = found.get(name)!;
  if ('missing' in one) throw new Error(`${name}: ${one.missing}`);
  if (!reports.has(name)) reports.set(name, await settled(name, one.candidate, await runCases(one.candidate, cases)));
  return reports.get(name)!;
}

/** How often a case of a real kernel that answers otherwise than recorded is asked again. */
const PATIENCE = 5;

/**
 * What PVM emulates, it emulates until the host is interrupted: a case in which something comes up meanwhile can answer otherwise once. It is asked again,
 * and said to be unsteady; a difference that stays is one.
 */
async function settled(name: string, candidate: Candidate, first: Report): Promise<Report> {
  const recorded = readGolden(goldens, first.identity);
  if (recorded === undefined || name.startsWith('sim ')) return first;
  const results = new Map(first.results);
  const wrong = (): Set<string> => new Set(compare(recorded, { ...first, results }, known).differences.map((one) => one.case));
  const differing = wrong();
  for (let tries = 0; tries < PATIENCE && wrong().size > 0; tries++)
    for (const one of cases.filter((one) => wrong().has(one.name))) results.set(one.name, await runCase(candidate, one));
  const left = wrong();
  const unsteady = [...differing].filter((one) => !left.has(one));
  if (unsteady.length > 0) summary.push(`${name}: unsteady, asked again: ${unsteady.join(', ')}`);
  return { ...first, results };
}

function expectNone(comparison: Comparison): void {
  const { differences } = comparison;
  const shown = differences.slice(0, 40).map(showDifference);
  if (differences.length > shown.length) shown.push(`… and ${differences.length - shown.length} more`);
  expect(shown.join('\n'), `${differences.length} differences`).toBe('');
}

afterAll(() => {
  console.log(['conformance', ...summary].join('\n  '));
});

const here = (name: string): boolean => 'candidate' in found.get(name)!;

describe.each([...found])('%s', (name, one) => {
  if ('missing' in one) summary.push(`${name}: not run: ${one.missing}`);

  test.skipIf('missing' in one)(
    'answers what was recorded',
    async (context) => {
      const answered = await report(name);
      const recorded = readGolden(goldens, answered.identity);
      if (recorded === undefined) {
        const what = answered.identity ?? 'a kernel without /dev/kvm';
        summary.push(`${name}: unrecorded: there is no golden for ${what} (${answered.release}); npm run golden:record`);
        context.skip(`unrecorded kernel ${what}`);
      }
      const comparison = compare(recorded!, answered, known);
      summarise(name, recorded!.identity, comparison);
      expectNone(comparison);
      const { machine, only } = 'candidate' in one ? one.candidate : {};
      const least = machine === undefined ? [2000, 900] : [1000, 400];
      expect(comparison.same).toBeGreaterThan(least[only === undefined ? 0 : 1]!);
    },
    300_000,
  );
});

test.skipIf(!here('native') || !here('ffi'))('the addon and ffi-rs say the same', async () => {
  const comparison = compare(toGolden(await report('native')), await report('ffi'), known, ['native', 'ffi']);
  summarise('ffi', 'native', comparison);
  expectNone(comparison);
});

test.skipIf(!here('native')).each(simulated)('%s says what the host says, where it simulates the same kernel', async (name) => {
  const native = await report('native');
  const sim = await report(name);
  if (native.identity !== sim.identity) {
    summary.push(`${name} (${sim.identity}) is not the kernel of this host (${native.identity}): not compared with it`);
    return;
  }
  const comparison = compare(toGolden(native), sim, known, ['native', name]);
  summarise(name, 'native', comparison);
  expectNone(comparison);
});

describe('goldens', () => {
  const all = readGoldens(goldens);

  test('are of cases that exist, and have their observations', () => {
    for (const one of all) {
      const count = countObservations(one);
      summary.push(`golden ${one.identity} (${one.release}): ${count} observations in ${Object.keys(one.cases).length} cases`);
      expect(count).toBeGreaterThanOrEqual(150);
      const names = new Set(cases.map(({ name }) => name));
      expect(
        [...Object.keys(one.cases), ...Object.keys(one.notRun)].filter((name) => !names.has(name)),
        'cases that no longer exist',
      ).toEqual([]);
    }
  });

  test('show an endless guest only of cases that say so', () => {
    const ended = (fact: unknown): boolean => /"returned":"EINTR","reason":10/.test(JSON.stringify(fact));
    const needs = new Map(cases.map((one) => [one.name, one.needs]));
    const unsaid = all.flatMap(({ identity, cases: recorded }) => {
      // Goldens of devices have no guests.
      const backend = /-([a-z]+)/.exec(identity)?.[1] ?? '';
      const bounded = (name: string) =>
        needs.get(name)?.features?.includes('kick') || needs.get(name)?.endless?.includes(backend);
      const names = Object.keys(recorded).filter((name) => Object.values(recorded[name]!).some(ended) && !bounded(name));
      return names.map((name) => `${name} (needs: { endless: ['${backend}'] })`);
    });
    expect(unsaid).toEqual([]);
  });

  test('of different kernels differ only where it is known, and why', () => {
    const kind = ({ identity }: { identity: string }): boolean => identity.includes('@');
    for (const [at, a] of all.entries()) {
      for (const b of all.slice(at + 1).filter((other) => kind(other) === kind(a))) {
        const results: Report['results'] = new Map(Object.entries(b.cases).map(([name, facts]) => [name, { facts }]));
        const comparison = compare(a, { kernel: b.identity, release: b.release, identity: b.identity, results }, known);
        summarise(b.identity, a.identity, comparison);
        expectNone(comparison);
      }
    }
  });
});

test('the wrong-kind sweep knows every KVM request of the ioctl table', () => {
  const swept = new Set(Object.values(requests).flatMap((names) => names.map((name) => `KVM_${name}`)));
  const kinds = new Set(['kvm', 'vm', 'vcpu']);
  const rows = ioctls().filter(
    (row) => (row.arch ?? 'x86') === 'x86' && row.name.startsWith('KVM_') && row.fds.some((fd) => kinds.has(fd)),
  );
  expect(rows.map((row) => row.name).filter((name) => !swept.has(name))).toEqual([]);
});

test('cases are named once, by area, and say where they belong', () => {
  const names = cases.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  for (const { name, section } of cases) {
    expect(name).toMatch(/^(kvm|file|refusals|vfio|pci|iommufd)\/\S.*$/);
    expect(section).toMatch(/^[A-Z][^.]*$|^struct \w+$|^(eventfd|memfd|sysfs)$/);
  }
});
