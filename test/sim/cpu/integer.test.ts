/** The CPU against what /dev/kvm said (scripts/cpu/record.mjs): thousands of random real-mode instructions, every flag included. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
// @ts-expect-error plain JavaScript, shared with the recorder
import { formatResult, parse } from '../../../scripts/cpu/guest.mjs';
// @ts-expect-error plain JavaScript, shared with the recorder
import { replay } from '../../../scripts/cpu/replay.mjs';
import { Cpu } from '../../../src/sim/cpu/cpu.ts';

const golden = JSON.parse(readFileSync(new URL('../../golden/cpu-integer.json', import.meta.url), 'utf8')) as {
  real: string[];
  protected32: string[];
};

test.each([
  ['real mode', golden.real, 0],
  ['32-bit protected mode', golden.protected32, 1],
] as const)('recorded instruction sequences, %s', (_, lines, mode) => {
  const wrong: string[] = [];
  for (const line of lines) {
    const c = parse(line);
    const { exit, after, memory } = c.expected;
    const expected = `${exit} ${after} ${memory}`.trimEnd();
    const actual = formatResult(c, replay(Cpu, c, mode));
    if (actual !== expected) wrong.push(`${line}\n  sim: ${actual}`);
  }
  expect(lines.length).toBeGreaterThan(2000);
  expect(wrong.slice(0, 10)).toEqual([]);
});
