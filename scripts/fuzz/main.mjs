#!/usr/bin/env node
/**
 * Differential fuzzing: random sequences of calls on a real kernel and on the simulator, compared after every call. Compiles test/fuzz
 * to .cache/fuzz and runs it with plain node, here or in the lab.
 *
 *   npm run fuzz -- --area kvm --seconds 60 --seed 1     the host's kernel against the simulator
 *   npm run fuzz -- --lab [--machine NAME]               the lab's kernel instead (Linux 7.2, SVM)
 *   npm run fuzz -- --kernel ffi | sim                   through ffi-rs; the simulator against itself
 *   npm run fuzz -- --differences N                      go on until N different ones are found
 *   npm run fuzz -- --seed S --batch B                   back to what was found there
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const main = join(root, '.cache', 'fuzz', 'fuzz', 'main.js');

execFileSync(process.execPath, [join(root, 'scripts', 'ensure.mjs')], { cwd: root, stdio: 'inherit' });
const compiled = spawnSync(
  process.execPath,
  [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', join(root, 'test', 'fuzz', 'tsconfig.json')],
  { stdio: 'inherit' },
);
if (compiled.status !== 0) process.exit(compiled.status ?? 1);

/** `--lab` and `--machine` are ours, everything else is the fuzzer's. */
const args = process.argv.slice(2);
const lab = args.indexOf('--lab');
if (lab >= 0) args.splice(lab, 1);
const machine = args.indexOf('--machine');
const labArgs = machine < 0 ? [] : args.splice(machine, 2);
const seconds = Number(args[args.indexOf('--seconds') + 1] || 60);

const [command, given] =
  lab < 0
    ? [process.execPath, [main, ...args]]
    : [
        process.execPath,
        [
          join(root, 'scripts', 'lab', 'main.mjs'),
          ...labArgs,
          ...(args.includes('vfio') ? [] : ['--devices', 'edu']),
          '--timeout',
          String(seconds + 300),
          '--',
          'node',
          main,
          ...args,
        ],
      ];
const { status } = spawnSync(command, given, { cwd: root, stdio: 'inherit' });
process.exitCode = status ?? 1;
