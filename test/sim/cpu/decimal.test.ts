/** The decimal adjustments against the processor's own results, for every input and every flag (scripts/cpu/decimal.c). */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Insn } from '../../../src/sim/cpu/insn.ts';
import { FORMS } from '../../../src/sim/cpu/table.ts';
import { guest } from './guest.ts';

interface Result {
  name: string;
  immediate: number;
  values: number;
  sha256: string;
}

const golden = JSON.parse(readFileSync(new URL('../../golden/cpu-decimal.json', import.meta.url), 'utf8')) as {
  results: Result[];
};

test.each(golden.results)('$name $immediate', ({ name, immediate, values, sha256 }) => {
  const { cpu } = guest([], { options: { emulated: false } });
  const form = FORMS.find((row) => row.name === name)!;
  const insn = new Insn(form, form.exec!);
  insn.imm = immediate;
  const out = new Uint16Array(values * 8);
  let n = 0;
  for (let ax = 0; ax < values; ax++) {
    for (let flags = 0; flags < 4; flags++) {
      cpu.r32[0] = ax;
      cpu.setFlags((flags & 1) | ((flags & 2) << 3));
      insn.exec(cpu, insn);
      out[n++] = cpu.r16[0]!;
      out[n++] = cpu.arith();
    }
  }
  expect(createHash('sha256').update(new Uint8Array(out.buffer)).digest('hex')).toBe(sha256);
});
