#!/usr/bin/env node
/**
 * Differential fuzzing: random sequences of calls on a real kernel and on the simulator, compared after every call. Compiles test/fuzz
 * to .cache/fuzz and runs it with plain node, here or in the lab.
 *
 *   npm run fuzz -- --area kvm --seconds 60 --seed 1     the host's kernel against the simulator
 *   npm run fuzz -- --lab [--machine NAME]               the lab's kernel instead (Linux 7.2, SVM)
 *   npm run fuzz -- --lab --if-possible                  where the lab cannot be booted, or only after minutes of building a kernel: say why, and 77
 *   npm run fuzz -- --kernel ffi | sim                   through ffi-rs; the simulator against itself
 *   npm run fuzz -- --area teardown [--scene TEXT]       all orders of closing what a scene has; --sequences N: the first N of them
 *   npm run fuzz -- --calls N                            no more sequences once so many calls are made
 *   npm run fuzz -- --differences N                      go on until N different ones are found
 *   npm run fuzz -- --seed S --batch B                   back to what was found there
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { whyNoLab } from '../lab/boot.mjs';
import { usageOf } from '../options.mjs';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const compiledTo = join(root, '.cache', 'fuzz', 'fuzz');
const main = join(compiledTo, 'main.js');

if (process.argv.includes('--help')) {
  console.log(usageOf(import.meta.filename));
  process.exit(0);
}
execFileSync(process.execPath, [join(root, 'scripts', 'ensure.mjs')], { cwd: root, stdio: 'inherit' });
const compiled = spawnSync(
  process.execPath,
  [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', join(root, 'test', 'fuzz', 'tsconfig.json')],
  { stdio: 'inherit' },
);
if (compiled.status !== 0) process.exit(compiled.status ?? 1);

/** `--lab` and `--if-possible` are ours, and where it is given `--machine`; everything else is the fuzzer's. */
const args = process.argv.slice(2);
const take = (name, values) => {
  const at = args.indexOf(name);
  return at < 0 ? [] : args.splice(at, 1 + values);
};
const optionOf = (name, otherwise) => (args.includes(name) ? args[args.indexOf(name) + 1] : otherwise);

function inLab(machine, command) {
  const devices = area === 'vfio' ? [] : ['--devices', 'edu'];
  const timeout = ['--timeout', String(Number(optionOf('--seconds', 60)) + 300)];
  return [join(root, 'scripts', 'lab', 'main.mjs'), ...machine, ...devices, ...timeout, '--', 'node', main, ...command];
}

const area = optionOf('--area', 'kvm');
const lab = take('--lab', 0).length > 0;
const obstacle = take('--if-possible', 0).length > 0 && lab ? whyNoLab() : undefined;
if (obstacle !== undefined) {
  console.log(`not run: ${area} in the lab: ${obstacle}`);
  process.exit(77);
}
const { areas } = await import(join(compiledTo, 'areas.js'));
const given = () => {
  if (!lab) return [main, ...args];
  const machine = take('--machine', 1);
  if (!areas[area]?.whole && area !== 'teardown') return inLab(machine, args);
  return [main, ...args, ...machine, '--', process.execPath, ...inLab(machine, ['--area', area, '--serve'])];
};
const { status } = spawnSync(process.execPath, given(), { cwd: root, stdio: 'inherit' });
process.exitCode = status ?? 1;
