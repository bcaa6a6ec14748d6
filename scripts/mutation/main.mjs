#!/usr/bin/env node
/**
 * Is the simulator judged sharply enough? Puts each fault of mutations.mjs into a copy of the package and runs the conformance cases on it against
 * the goldens.
 *
 *   npm run mutation                      all of them
 *   npm run mutation -- --fuzz SECONDS    what the cases miss is fuzzed against this host's kernel
 *   npm run mutation -- --only TEXT       those with this in their description
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundle, modules } from '../ensure/compile.mjs';
import { optionsOf, usageOf } from '../options.mjs';
import { mutations } from './mutations.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const work = join(root, '.cache/mutation');
const { values } = optionsOf(usageOf(import.meta.filename), {
  numbers: ['fuzz'],
  options: { fuzz: { type: 'string' }, only: { type: 'string' } },
});

/** A package of its own, so that `kvio` resolves to the mutant. */
function plant(mutation) {
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  for (const name of ['dist', 'build']) cpSync(join(root, name), join(work, name), { recursive: true });
  cpSync(join(root, 'package.json'), join(work, 'package.json'));
  symlinkSync(join(root, 'node_modules'), join(work, 'node_modules'));
  if (mutation === undefined) return;
  cpSync(modules, join(work, 'modules'), { recursive: true });
  const file = join(work, 'modules/sim', mutation.file);
  const text = readFileSync(file, 'utf8');
  const parts = text.split(mutation.from);
  if (parts.length !== 2)
    throw new Error(`${mutation.file}: the text of '${mutation.what}' stands there ${parts.length - 1} times`);
  writeFileSync(file, (mutation.prepend ?? '') + parts.join(mutation.to));
  bundle(join(work, 'modules'), join(work, 'dist'));
}

const judge = join(dirname(fileURLToPath(import.meta.url)), 'judge.mjs');

/** True: a case saw it. */
function judged(area) {
  const { status, signal, stdout, stderr } = spawnSync(
    'sh',
    ['-c', 'ulimit -n 1024; exec "$@"', 'sh', process.execPath, judge, work, join(root, 'test/golden'), area],
    {
      cwd: work,
      encoding: 'utf8',
      timeout: 600_000,
    },
  );
  return {
    found: status !== 0,
    how: signal === null ? stdout.trim().split('\n')[0] || stderr.trim().split('\n').at(-1) : `ended by ${signal}`,
  };
}

/** True: a fuzzer's sequence differs between the mutant and the host's kernel. */
function fuzzed(seconds) {
  cpSync(join(root, '.cache/fuzz'), join(work, '.cache/fuzz'), { recursive: true });
  const { status } = spawnSync(process.execPath, [join(work, '.cache/fuzz/fuzz/main.js'), '--seconds', seconds, '--seed', '1'], {
    cwd: work,
    encoding: 'utf8',
    timeout: (Number(seconds) + 120) * 1000,
  });
  return status !== 0;
}

plant(undefined);
const sound = judged('kvm');
if (sound.found) {
  console.error(`without any fault the cases already differ: ${sound.how}`);
  process.exit(2);
}
const chosen = mutations.filter(({ what }) => values.only === undefined || what.includes(values.only));
let found = 0;
for (const mutation of chosen) {
  plant(mutation);
  let { found: seen, how } = judged(mutation.file.split('/')[0]);
  if (!seen && values.fuzz !== undefined && fuzzed(values.fuzz)) [seen, how] = [true, 'the fuzzer'];
  if (seen) found++;
  console.log(`${seen ? 'found ' : 'MISSED'}  ${mutation.kind.padEnd(10)}  ${mutation.what}${seen ? `  (${how})` : ''}`);
}
rmSync(work, { recursive: true, force: true });
console.log(`${found} of ${chosen.length} faults found`);
process.exitCode = found === chosen.length ? 0 : 1;
