/** The CPU in 64-bit mode against what a processor did (scripts/cpu/record-long.mjs): thousands of random user-mode instructions, every flag included. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
// @ts-expect-error plain JavaScript, shared with the recorder
import { formatResult, parse, replay } from '../../../scripts/cpu/long-guest.mjs';
import { Cpu } from '../../../src/sim/cpu/cpu.ts';

const golden = JSON.parse(readFileSync(new URL('../../golden/cpu-long.json', import.meta.url), 'utf8')) as { user64: string[] };

test('recorded instruction sequences, 64-bit mode', () => {
  const wrong: string[] = [];
  for (const line of golden.user64) {
    const c = parse(line);
    const actual = formatResult(c, replay(Cpu, c));
    if (actual !== c.expected) wrong.push(`${line}\n  sim: ${actual}`);
  }
  expect(golden.user64.length).toBeGreaterThan(2000);
  expect(wrong.slice(0, 10)).toEqual([]);
});
