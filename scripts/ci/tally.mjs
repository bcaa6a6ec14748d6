// The end of .ci/run: what was not run and why, what failed, and the sum as the last line.
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { addon } from '../ensure/addon.mjs';
import { which } from '../ensure/tree.mjs';

const folder = process.argv[2];
const checks = readFileSync(join(folder, 'checks'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => line.split('\t'));
const report = existsSync(join(folder, 'tests.json')) ? JSON.parse(readFileSync(join(folder, 'tests.json'), 'utf8')) : undefined;
const say = (text) => process.stdout.write(`${text}\n`);

const state = (name) => checks.find(([, each]) => each === name)?.[0];
const failures = checks.filter(([outcome, name]) => outcome === 'failed' && name !== 'npm test').map(([, name]) => name);
const counts = {
  passed: checks.filter(([outcome, name]) => outcome === 'passed' && name !== 'npm test').length,
  failed: failures.length,
  skipped: checks.filter(([outcome]) => outcome === 'skipped').length,
};

if (report === undefined) {
  if (state('npm test') === undefined)
    say('\nnot run, because installing and building failed: types, lint, import rules, npm test');
  else note('npm test ended without a report');
} else {
  for (const { state: ended, file, name } of report.tests) {
    counts[ended === 'passed' ? 'passed' : ended === 'failed' ? 'failed' : 'skipped']++;
    if (ended === 'failed') failures.push(`${file}: ${name}`);
  }
  report.broken.forEach(note);
  const seen = report.tests.some((test) => test.state === 'failed') || report.broken.length > 0;
  if (state('npm test') === 'failed' && !seen) note('npm test failed, yet no test did');
  if (report.tests.length === 0) note('npm test ran no tests');
}

function note(failure) {
  failures.push(failure);
  counts.failed++;
}

/** Parts of the tests need things of the host; where one is missing the tests skip themselves or run on the simulator alone. */
const missing = [
  [kvmReason(), 'everything on the real kernel'],
  [addon.reason(), 'everything on the addon'],
  [ffiReason(), 'everything on the ffi-rs kernel'],
  [which('cc') || which('gcc') ? undefined : 'there is no C compiler', 'comparisons with compiled C programs'],
];

function kvmReason() {
  try {
    closeSync(openSync('/dev/kvm', 'r+'));
    return undefined;
  } catch (error) {
    return `/dev/kvm cannot be opened (${error.code})`;
  }
}

function ffiReason() {
  try {
    createRequire(import.meta.url)('ffi-rs');
    return undefined;
  } catch (error) {
    return `ffi-rs does not load (${error.message.split('\n')[0]})`;
  }
}

say('');
for (const [reason, part] of missing) if (reason !== undefined) say(`not run, because ${reason}: ${part}`);
for (const [outcome, name] of checks)
  if (outcome === 'skipped') say(`not run, because what it needs is not here (it has said above what): ${name}`);
for (const [reason, tests] of skippedByReason()) {
  const files = [...new Set(tests.map((test) => test.file))].join(', ');
  say(`not run, because ${reason || 'their condition does not hold here'}: ${tests.length} tests in ${files}`);
}

function skippedByReason() {
  const groups = new Map();
  for (const test of report?.tests ?? []) {
    if (test.state === 'skipped') groups.set(test.note ?? '', [...(groups.get(test.note ?? '') ?? []), test]);
  }
  return groups;
}

for (const failure of failures) say(`failed: ${failure}`);
say(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 ? 1 : 0;
