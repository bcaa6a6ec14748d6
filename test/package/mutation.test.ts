import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
// @ts-expect-error a script without types
import { modules } from '../../scripts/ensure/compile.mjs';
// @ts-expect-error a script without types
import { mutations } from '../../scripts/mutation/mutations.mjs';

interface Mutation {
  what: string;
  file: string;
  from: string;
  to: string;
}

it.each<Mutation>(mutations)('the simulator has the place of the fault: $what', ({ file, from, to }) => {
  const pieces = readFileSync(join(modules, 'sim', file), 'utf8').split(from);
  expect(pieces).toHaveLength(2);
  expect(to).not.toBe(from);
});
