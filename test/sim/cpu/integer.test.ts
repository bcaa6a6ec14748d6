/** The CPU against what /dev/kvm said (scripts/cpu/record.mjs): thousands of random real-mode instructions, every flag included. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
// @ts-expect-error plain JavaScript, shared with the recorder
import { formatResult, parse } from '../../../scripts/cpu/guest.mjs';
// @ts-expect-error plain JavaScript, shared with the recorder
import { replay } from '../../../scripts/cpu/replay.mjs';
import { Cpu } from '../../../src/sim/cpu/cpu.ts';

const golden = JSON.parse(readFileSync(new URL('../../golden/cpu-integer.json', import.meta.url), 'utf8')) as { cases: string[] };

test(`${golden.cases.length} recorded instruction sequences`, () => {
  const wrong: string[] = [];
  for (const line of golden.cases) {
    const c = parse(line);
    const { exit, after, memory } = c.expected;
    const expected = `${exit} ${after} ${memory}`.trimEnd();
    const actual = formatResult(c, replay(Cpu, c));
    if (actual !== expected) wrong.push(`${line}\n  sim: ${actual}`);
  }
  expect(golden.cases.length).toBeGreaterThan(3000);
  expect(wrong.slice(0, 10)).toEqual([]);
});
