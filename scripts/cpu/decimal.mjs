// Takes the output of decimal.c on stdin and writes the digest of each operation's results to test/golden/cpu-decimal.json.
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';

const OPERATIONS = [
  ['daa', 0, 256],
  ['das', 0, 256],
  ...[
    ['aaa', 0],
    ['aas', 0],
    ['aam', 10],
    ['aad', 10],
    ['aam', 7],
    ['aad', 7],
  ].map((o) => [...o, 65536]),
];

const bytes = readFileSync(0);
let at = 0;
const results = OPERATIONS.map(([name, immediate, values]) => {
  const length = values * 16;
  at += length;
  if (at > bytes.length) throw new Error('decimal.c has not written all results');
  return {
    name,
    immediate,
    values,
    sha256: createHash('sha256')
      .update(bytes.subarray(at - length, at))
      .digest('hex'),
  };
});
const golden = { recorded: cpus()[0].model, script: 'scripts/cpu/decimal.c', results };
writeFileSync(join(import.meta.dirname, '../../test/golden/cpu-decimal.json'), `${JSON.stringify(golden, null, 1)}\n`);
