/** The fidelity table says what is so: its observations exist, everything modelled has rows, and the file is up to date. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { areas } from './checks/index.ts';
import { fidelity, modelled, observedOn } from './fidelity.ts';
import { readGoldens } from './golden-files.ts';

const root = resolve(import.meta.dirname, '../..');
const goldens = readGoldens(join(root, 'test/golden'));
const checks = Object.values(areas).flatMap((area) => Object.values(area).flat());

test('every observation it names is in a golden, and shows the errno it names', () => {
  expect(checks.filter((check) => observedOn(check, goldens)?.length === 0)).toEqual([]);
});

const subjects = (family: string): string[] =>
  Object.values(areas).flatMap((area) => Object.keys(area).filter((subject) => subject.startsWith(family)));

test.each(['KVM_', 'VFIO_', 'IOMMU_'])('every ioctl of %s the simulator models has rows, and no other', (family) => {
  const done = [...modelled()].filter((name) => name.startsWith(family));
  expect(subjects(family).sort()).toEqual(done.sort());
  expect(checks.length).toBeGreaterThanOrEqual(150);
});

test('docs/fidelity.md is up to date (npm run fidelity)', () => {
  expect(readFileSync(join(root, 'docs/fidelity.md'), 'utf8')).toBe(fidelity(goldens));
});
