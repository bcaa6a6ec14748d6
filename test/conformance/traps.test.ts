/** Every trap has a case that was recorded on a real kernel, or a reason why no case can provoke it. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { cases } from './cases/index.ts';
import { readGoldens } from './golden-files.ts';
import { iommufdFacts } from './iommufd-facts.ts';
import { iommufdSelftests } from './iommufd-selftests.ts';
import { iommufdTraps } from './iommufd-traps.ts';
import { traps as kvmTraps } from './traps.ts';
import { vfioFacts } from './vfio-facts.ts';
import { vfioTraps } from './vfio-traps.ts';

const root = resolve(import.meta.dirname, '../..');
const names = new Set(cases.map(({ name }) => name));
const recorded = new Set(readGoldens(`${root}/test/golden`).flatMap((golden) => Object.keys(golden.cases)));
const traps = [...kvmTraps, ...vfioTraps, ...iommufdTraps, ...iommufdFacts, ...vfioFacts];
const shown = traps.filter((trap) => Array.isArray(trap)) as readonly (readonly string[])[];

test('there are 66 of KVM, 36 of VFIO and 35 of iommufd, each with cases or with a reason', () => {
  expect([kvmTraps.length, vfioTraps.length, iommufdTraps.length]).toEqual([66, 36, 35]);
  expect(shown.filter((trap) => trap.length < 2)).toEqual([]);
});

test('what was seen of iommufd: 81 facts, each with cases or with a reason', () => {
  expect(iommufdFacts.length).toBe(81);
  expect(iommufdFacts.filter((fact) => 'why' in fact).length).toBe(5);
});

test('what was seen of VFIO when something goes: 38 facts, each with cases', () => {
  expect(vfioFacts.length).toBe(38);
  expect(vfioFacts.filter((fact) => 'why' in fact)).toEqual([]);
});

test('their cases exist, and were recorded', () => {
  const named = shown.flatMap(([, ...rest]) => rest);
  expect(named.filter((name) => !names.has(name))).toEqual([]);
  expect(named.filter((name) => !recorded.has(name))).toEqual([]);
});

test('the tests named where there is no case are there', () => {
  const files = traps.flatMap((trap) => ('why' in trap ? (trap.why.match(/test\/\S+\.ts/g) ?? []) : []));
  expect(files.length).toBeGreaterThan(0);
  expect(files.filter((file) => !existsSync(`${root}/${file}`))).toEqual([]);
});

test('the 66 definitions of the kernel’s own tests of iommufd have cases that were recorded, or a reason', () => {
  const definitions = Object.values(iommufdSelftests).flatMap((fixture) => Object.values(fixture));
  expect(definitions.length).toBe(66);
  const named = definitions.flatMap((covered) => ('why' in covered ? (covered.why.match(/iommufd\/\S+/g) ?? []) : covered));
  expect(named.filter((name) => !names.has(name) || !recorded.has(name))).toEqual([]);
  expect(definitions.filter((covered) => !('why' in covered) && covered.length === 0)).toEqual([]);
});
