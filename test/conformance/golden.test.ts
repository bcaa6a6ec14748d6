/** The judge itself: it must see a difference, and must not see one where there is none. */
import { expect, test } from 'vitest';
import { changes, define, NOT_MODELLED, nonZero, Observer, toFact } from './case.ts';
import { compare, formatGolden, type Golden, type KnownDifference, toGolden } from './golden.ts';
import { mask, type Report } from './run-cases.ts';

const golden: Golden = {
  identity: '6.18-pvm',
  release: '6.18.1',
  cases: { 'kvm/a': { one: 'EINVAL', two: { rax: '0x1' } } },
  notRun: { 'kvm/c': 'no async' },
};

function report(facts: Record<string, unknown>, name = 'kvm/a'): Report {
  return { kernel: 'sim', release: '6.18.1', identity: '6.18-pvm', results: new Map([[name, { facts: facts as never }]]) };
}

test('a different errno, a different field, a missing and an additional fact are differences', () => {
  expect(compare(golden, report({ one: 'EINVAL', two: { rax: '0x1' } })).differences).toEqual([]);
  expect(compare(golden, report({ one: 'EFAULT', two: { rax: '0x1' } })).differences).toEqual([
    { case: 'kvm/a', label: 'one', expected: 'EINVAL', got: 'EFAULT' },
  ]);
  expect(compare(golden, report({ one: 'EINVAL', two: { rax: '0x2' } })).differences).toHaveLength(1);
  expect(compare(golden, report({ one: 'EINVAL' })).differences).toHaveLength(1);
  expect(compare(golden, report({ one: 'EINVAL', two: { rax: '0x1' }, three: 0 })).differences).toHaveLength(1);
});

test('a case that failed is a difference; one that was not run, or is not recorded, is neither that nor agreement', () => {
  const results: Report['results'] = new Map([
    ['kvm/a', { failed: 'TypeError: x' }],
    ['kvm/b', { facts: { one: 1 } }],
    ['kvm/c', { notRun: 'no async' }],
  ]);
  const comparison = compare(golden, { kernel: 'sim', release: '', identity: undefined, results });
  expect(comparison.same).toBe(0);
  expect(comparison.differences.map((difference) => difference.case)).toEqual(['kvm/a']);
  expect(comparison.notRun.map((one) => one.case)).toEqual(['kvm/b', 'kvm/c']);
});

test('what is not modelled is counted apart', () => {
  const comparison = compare(golden, report({ one: `${NOT_MODELLED}KVM_X`, two: { rax: '0x1' } }));
  expect(comparison).toMatchObject({ same: 1, differences: [], notModelled: [{ case: 'kvm/a', label: 'one', what: 'KVM_X' }] });
});

test('a known difference is excused for its kernels, case and fact only, with its reason', () => {
  const known = [{ between: ['6.18-pvm', 'sim'] as const, case: 'kvm/*', label: 'one', reason: 'because' }];
  const different = report({ one: 'EFAULT', two: { rax: '0x2' } });
  const comparison = compare(golden, different, known);
  expect(comparison.known).toMatchObject([{ label: 'one', reason: 'because' }]);
  expect(comparison.differences.map(({ label }) => label)).toEqual(['two']);
  expect(compare(golden, different, known, ['7.2-svm', 'sim']).differences).toHaveLength(2);
});

test('a known difference of several facts is of no others', () => {
  const known = [{ between: ['6.18-pvm', 'sim'] as const, case: ['kvm/a', 'kvm/b'], label: ['one', 'tw*'], reason: 'because' }];
  const different = report({ one: 'EFAULT', two: { rax: '0x2' }, three: 0 });
  expect(compare(golden, different, known).differences.map(({ label }) => label)).toEqual(['three']);
});

test('a known difference speaks of a pair, of a release, or of what a build has; the last two of real kernels only', () => {
  const excused = (entry: Pick<KnownDifference, 'between' | 'since' | 'with'>, one: string, other: string): boolean => {
    const known = [{ ...entry, case: 'kvm/*', label: 'o*e', reason: 'because' }];
    return compare(golden, report({ one: 'EFAULT', two: { rax: '0x1' } }), known, [one, other]).known.length === 1;
  };
  expect(excused({ between: ['6.18-pvm', '*-svm*'] }, '7.2-svm+smm', '6.18-pvm')).toBe(true);
  expect(excused({ between: ['6.18-pvm', '*-svm*'] }, '7.2-vmx+smm', '6.18-pvm')).toBe(false);
  expect(excused({ since: '6.12' }, '6.12-svm+smm', '6.1-svm+smm')).toBe(true);
  expect(excused({ since: '6.12' }, '6.1-svm', '7.2-svm')).toBe(true);
  expect(excused({ since: '6.12' }, '6.12-svm', '7.2-svm')).toBe(false);
  expect(excused({ since: '6.12' }, '6.1-svm', '6.11-svm')).toBe(false);
  expect(excused({ since: '6.12' }, '6.1-svm', 'sim amd-svm-7.2')).toBe(false);
  expect(excused({ with: 'hyperv' }, '6.1-svm+smm', '7.2-svm+smm+hyperv')).toBe(true);
  expect(excused({ with: 'hyperv' }, '6.1-svm+hyperv', '7.2-svm+smm+hyperv')).toBe(false);
  expect(excused({ with: 'hyperv' }, '6.1-svm+hyperv', 'sim pvm-6.18')).toBe(false);
});

test('a golden read back is the golden, and failed cases are never recorded', () => {
  expect(JSON.parse(formatGolden(golden))).toEqual(golden);
  const failed: Report = { ...report({}), results: new Map([['kvm/a', { failed: 'x' }]]) };
  expect(() => toGolden(failed)).toThrow(/kvm\/a/);
});

test('volatile paths keep their place and lose their value', () => {
  const facts = { tsc: 5, 'write 1: reads': 6, regs: { rip: 1, rax: 2 } };
  expect(mask(facts, ['tsc', '*: reads', 'regs/rax', 'missing'])).toEqual({
    tsc: '(volatile)',
    'write 1: reads': '(volatile)',
    regs: { rip: 1, rax: '(volatile)' },
  });
});

test('facts are JSON: bigint as hex, bytes as hex pairs, negative results by name', () => {
  expect(toFact({ a: 255n, b: Uint8Array.of(1, 254), c: -22, d: [-4, 3] })).toEqual({
    a: '0xff',
    b: '01fe',
    c: 'EINVAL',
    d: ['EINTR', 3],
  });
  expect(toFact(-1n)).toBe('0xffffffffffffffff');
  expect(() => toFact(() => 1)).toThrow(TypeError);
  expect(nonZero({ a: 0, b: 0n, c: { d: 0 }, e: [0, 0], f: new Uint8Array(4), g: 1, h: [0, 2] })).toEqual({ g: 1, h: [0, 2] });
  expect(changes({ a: { b: 1, c: 2 }, d: 3 }, { a: { b: 1, c: 4 } })).toEqual({ 'a.c': 4, d: 0 });
});

test('a label used twice and an error that is no answer are faults of the case', () => {
  const see = new Observer();
  see.note('a', 1);
  expect(() => see.note('a', 2)).toThrow(/'a'/);
  expect(() =>
    see.call('b', () => {
      throw new Error('a bug');
    }),
  ).toThrow('a bug');
  expect(define('kvm/x', 's', (_, it) => it.note('one', 1n)).run(undefined as never)).toEqual({ one: '0x1' });
});
