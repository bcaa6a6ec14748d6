#!/usr/bin/env node
/**
 * `npm run test:lab`: the conformance cases, and those only a lab machine can answer, on a real Linux under QEMU, by plain node and the
 * addon; compared outside with the goldens. Then the runner itself is checked. Last line: `N passed, N failed, N skipped`.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { compileExamples } from '../ensure/examples.mjs';
import { optionsOf } from '../options.mjs';
import { boot, missingTools } from './boot.mjs';
import { getKernel, whyNoKernel } from './kernel.mjs';
import { variants } from './machines.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const compiled = join(root, '.cache/lab-cases/lab');

const usage = `npm run test:lab -- [options]
  --machine A,B      machines to boot (default vtd), or all: ${Object.keys(variants).join(', ')}
  --kernel NAME      as for npm run lab
  --only TEXT,TEXT   cases with one of these in their name; nothing else
  --record           write what was answered as goldens, instead of comparing; with --only, the others stay
  --goldens DIR      where they are (default test/golden)
  --no-runner        without the checks of the runner itself
  --if-possible      where the lab cannot be booted, or only after minutes of building a kernel: say why, and skip
  --timeout SECONDS  for one machine; default 600`;

async function prepare() {
  const steps = [
    ['build', process.execPath, [join(root, 'scripts/ensure.mjs')]],
    [
      'compile the cases',
      process.execPath,
      [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(root, 'test/lab/tsconfig.json')],
    ],
  ];
  for (const [what, command, args] of steps) {
    const { status } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
    if (status !== 0) throw new Error(`lab: could not ${what}`);
  }
  await compileExamples();
}

/** At most so many of what is done through it are under way at a time, in the order they came. */
function turns(most) {
  const waiting = [];
  let running = 0;
  return async (work) => {
    if (running < most) running++;
    else await new Promise((resolve) => waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next === undefined) running--;
      else next();
    }
  };
}

/** Emulation keeps about one processor busy. Each machine takes up to a gigabyte. */
const atOnce = Math.min(4, availableParallelism());
const inTurn = turns(atOnce);

/** For cases of huge pages; as many as simulated machines have when they are asked (test/conformance/candidates.ts). */
const HUGE_PAGES = 80;
const GIANT_PAGES = 'hugepagesz=1G hugepages=1';

/** Boots one machine and asks it (the Question of test/lab/run.ts); the answers, and what went wrong with the machine itself. */
async function ask(machine, { kernel, timeout }, { readAnswers }, question) {
  const dir = mkdtempSync(join(tmpdir(), 'kvio-lab-answers-'));
  let failure;
  let stopped = false;
  let output = '';
  try {
    const command = ['sh', '-c', 'ulimit -n 1024; exec node "$@"', 'sh', join(compiled, 'run.js'), JSON.stringify(question)];
    const { status } = await boot({
      command,
      machine,
      kernel,
      timeout: Number(timeout ?? 600),
      hugepages: HUGE_PAGES,
      append: GIANT_PAGES,
      onOutput: (_, chunk) => (output += chunk),
      collect: (out) => cpSync(out, dir, { recursive: true }),
    });
    if (status !== 0) failure = `the cases ended with status ${status}:\n${output.slice(-3000)}`;
  } catch (error) {
    failure = error.message;
    stopped = true;
  }
  try {
    return { answers: readAnswers(join(dir, 'results.jsonl')), failure, stopped };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Exit status where nothing could be run. */
const NOT_RUN = 77;

class Tally {
  passed = 0;
  failed = 0;
  skipped = 0;

  add({ passed = 0, failed = 0, skipped = 0 }) {
    this.passed += passed;
    this.failed += failed;
    this.skipped += skipped;
  }

  end() {
    console.log(`${this.passed} passed, ${this.failed} failed, ${this.skipped} skipped`);
    process.exitCode = this.failed > 0 ? 1 : this.passed === 0 && this.skipped > 0 ? NOT_RUN : 0;
  }
}

async function testMachine(machine, values, tally, judges) {
  const started = Date.now();
  const { only = variants[machine].cases } = values;
  const say = (lines) => {
    for (const line of lines) console.log(`machine ${machine}: ${line}`);
  };
  const question = (what) => inTurn(() => ask(machine, values, judges, what));
  const of = only === undefined ? atOnce : 1;
  const shares = Array.from({ length: of }, (_, at) => judges.askAll((first) => question({ only, first, share: [at, of] })));
  const asked = judges.together(await Promise.all(shares));
  const { failure } = asked;
  let { answers } = asked;
  say(asked.lines);
  if (failure !== undefined) console.log(`FAILED machine ${machine}: ${failure}`);
  if (answers === undefined) return tally.add({ failed: 1 });
  const recording = values.record && failure === undefined;
  if (!recording && failure === undefined) {
    const differing = (some) => judges.judge(values.goldens, some).differing;
    const settled = await judges.askDiffering(answers, differing, (names, first) => question({ names, first }));
    say(settled.lines);
    answers = settled.answers;
  }
  const verdict = recording ? undefined : judges.judge(values.goldens, answers);
  const took = ((Date.now() - started) / 1000).toFixed(0);
  console.log(`machine ${machine}, kernel ${answers.release} (${answers.identity.kvm}), ${took} s`);
  console.log(`  slowest: ${judges.slowest(answers)}`);
  if (verdict) {
    for (const line of verdict.lines) console.log(`  ${line}`);
    tally.add(verdict);
    if (failure !== undefined && verdict.failed === 0) tally.add({ failed: 1 });
  } else {
    for (const line of judges.record(values.goldens, answers, only !== undefined)) console.log(`  ${line}`);
    tally.add({ passed: 1 });
  }
}

/** Machines whose devices the examples of an assigned device want, as simulated machines have them too. */
const withExamples = ['vtd', 'amd'];

/** The examples of an assigned device, on the real one. */
async function testExamples(machine, { kernel, ours, only = '' }, tally) {
  if (!withExamples.includes(machine) || !ours || !'examples/'.startsWith(only)) return;
  let output = '';
  try {
    const command = [process.execPath, join(compiled, 'examples.js')];
    await inTurn(() => boot({ command, machine, kernel, onOutput: (_, chunk) => (output += chunk) }));
  } catch (error) {
    output += `FAILED ${error.message}`;
  }
  for (const line of output.trimEnd().split('\n')) {
    console.log(`machine ${machine}: ${line}`);
    tally.add({ passed: Number(line.startsWith('passed ')), failed: Number(line.startsWith('FAILED ')) });
  }
}

/** Its checks mostly wait: they take no turn. */
async function testRunner({ kernel }, tally) {
  if (process.env.KVIO_LAB_KERNEL === 'build') process.env.KVIO_LAB_KERNEL = kernel.image;
  const { checks } = await import(pathToFileURL(join(root, 'test/lab/runner.mjs')).href);
  for (const [name, check] of Object.entries(checks)) {
    const started = Date.now();
    try {
      const reason = await check();
      const took = ((Date.now() - started) / 1000).toFixed(1);
      console.log(reason === undefined ? `runner: ${name} (${took} s)` : `not run: runner: ${name}: ${reason}`);
      tally.add(reason === undefined ? { passed: 1 } : { skipped: 1 });
    } catch (error) {
      console.log(`FAILED runner: ${name}\n${error.message}`);
      tally.add({ failed: 1 });
    }
  }
}

async function main() {
  const { values } = optionsOf(usage, {
    numbers: ['timeout'],
    options: {
      machine: { type: 'string' },
      kernel: { type: 'string' },
      only: { type: 'string' },
      goldens: { type: 'string', default: join(root, 'test/golden') },
      record: { type: 'boolean' },
      'no-runner': { type: 'boolean' },
      'if-possible': { type: 'boolean' },
      timeout: { type: 'string' },
    },
  });
  const tally = new Tally();
  const missing = missingTools();
  const tools = missing.length > 0 ? `to boot the lab install: apt-get install ${missing.join(' ')}` : undefined;
  const obstacle = tools ?? (values.kernel ? undefined : whyNoKernel());
  if (values['if-possible'] && obstacle !== undefined) {
    console.log(`not run: the lab: ${obstacle}`);
    tally.add({ skipped: 1 });
    return tally.end();
  }
  if (tools) throw new Error(`lab: ${tools}`);
  await prepare();
  const load = (name) => import(pathToFileURL(join(compiled, name)).href);
  const judges = { ...(await load('judge.js')), ...(await load('rounds.js')) };
  const ours = values.kernel === undefined;
  const setup = { ...values, ours, kernel: await getKernel(values.kernel) };
  const machines = values.machine === 'all' ? Object.keys(variants) : (values.machine ?? 'vtd').split(',');
  const casesOnly = values['no-runner'] || values.only !== undefined || values.record || !ours;
  await Promise.all([
    ...machines.flatMap((machine) => [
      values.only !== 'examples/' && testMachine(machine, setup, tally, judges),
      !values.record && testExamples(machine, setup, tally),
    ]),
    !casesOnly && testRunner(setup, tally),
  ]);
  tally.end();
}

try {
  await main();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
