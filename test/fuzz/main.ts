/**
 * `npm run fuzz`, once compiled: runs under plain node, also in the lab. Run by scripts/fuzz/main.mjs. With `--serve` it is the other process of `connect`;
 * words behind `--` are the command that starts it.
 */
import { parseArgs } from 'node:util';
import { type Machine, openSim, profiles, SimKernel } from 'kvio/sim';
import { realKernel } from '../conformance/real-kernel.ts';
import { areas } from './areas.ts';
import { fuzz, showFinding } from './fuzz.ts';
import type { Pair } from './lockstep.ts';
import { machineOfHost, ofLab, pairWith } from './machine.ts';
import { connect, type Remote, serve } from './remote.ts';
import type { Area } from './step.ts';
import { teardown } from './teardown.ts';
import { fuzzProperties, showViolation } from './tee-io/property.ts';

const options = {
  area: { type: 'string', default: 'kvm' },
  seconds: { type: 'string', default: '60' },
  seed: { type: 'string', default: '1' },
  sequences: { type: 'string' },
  calls: { type: 'string' },
  machine: { type: 'string' },
  serve: { type: 'boolean', default: false },
  differences: { type: 'string', default: '1' },
  batch: { type: 'string', default: '0' },
  kernel: { type: 'string', default: 'native' },
  scene: { type: 'string', default: '' },
} as const;
const { values, positionals } = given();

/** The machine of the lab this runs in. */
const LAB = process.env['KVIO_LAB'];

const area = areas[values.area];
if (values.area === 'tee-io') properties();
else if (values.area === 'teardown') process.exitCode = teardown(values, positionals, LAB);
else if (area === undefined) {
  console.error(`--area must be one of ${[...Object.keys(areas), 'tee-io', 'teardown'].join(', ')}, not ${values.area}`);
  process.exitCode = 2;
} else if ('notRun' in area) notRun(area.notRun);
else if (values.serve) {
  const found = realKernel('native');
  if ('missing' in found) notRun(found.missing);
  else serve(found.candidate.open, area.lasting && area.prepare ? onceEach(area.prepare) : area.prepare);
} else if (positionals.length > 0) {
  const remote = connect(positionals[0]!, positionals.slice(1));
  const pair = pairOn(area, remote, values.machine ?? 'vtd');
  if (typeof pair === 'string') notRun(pair);
  else run(area, pair.pair, pair.what);
  remote.close();
} else {
  const pair = area.prepare === undefined ? pairOf(values.kernel) : pairOn(area, values.kernel, LAB ?? 'vtd');
  if (typeof pair === 'string') notRun(pair);
  else run(area, pair.pair, pair.what);
}

function given() {
  try {
    const parsed = parseArgs({ allowPositionals: true, options });
    for (const name of ['seconds', 'seed', 'sequences', 'calls', 'differences', 'batch'] as const) {
      const value = parsed.values[name];
      if (value !== undefined && !/^\d+$/.test(value)) throw new RangeError(`--${name} needs a whole number, not '${value}'`);
    }
    return parsed;
  } catch (error) {
    console.error(`${(error as Error).message} (npm run fuzz -- --help tells of them)`);
    process.exit(2);
  }
}

/** Of the simulator alone: no real kernel has it, so properties are asked for instead of another's answer. */
function properties(): void {
  const seconds = Number(values.seconds);
  const seed = Number(values.seed);
  console.log(`properties of tee-io: the simulator, seed ${seed}, ${seconds} s`);
  const most = values.sequences === undefined ? {} : { most: Number(values.sequences) };
  const { sequences, seen, violation } = fuzzProperties({ seed, time: seconds * 1000, ...most });
  for (const [what, times] of [...seen].sort()) console.log(`  ${what}: ${times} times`);
  if (violation !== undefined) console.log(`\n${showViolation(violation)}\n`);
  console.log(`${sequences} sequences, ${violation === undefined ? 'no property' : 'a property'} broken`);
  process.exitCode = violation === undefined ? 0 : 1;
}

function notRun(reason: string): void {
  console.log(`${values.area}: not run, because ${reason}`);
  process.exitCode = 77;
}

/** The real kernel of this host and a machine like it, or why there is none; `sim`: the simulator against itself. */
function pairOf(kind: string): { pair: Pair; what: string } | string {
  if (kind === 'sim') {
    const machine = Object.values(profiles)[0]!;
    return { pair: pairWith(() => openSim({ machine }), machine), what: `sim ${machine.name} against itself` };
  }
  const found = realKernel(kind === 'ffi' ? 'ffi' : 'native');
  if ('missing' in found) return found.missing;
  const { open } = found.candidate;
  const machine = machineOfHost(open);
  if (typeof machine === 'string') return machine;
  return { pair: pairWith(open, machine), what: `${kind} and sim ${machine.name}` };
}

/** A machine of the lab, which this runs in, and the simulated one of its name; or the simulated one against itself. */
function pairOn({ prepare, lasting }: Area, kind: string | Remote, name: string): { pair: Pair; what: string } | string {
  const machine = ofLab(name);
  if (typeof machine === 'string') return machine;
  const paired = (real: Pair['real']): Pair => {
    const pair = { ...pairWith(real, machine), ...(prepare && { prepare }) };
    if (prepare === undefined || !lasting) return pair;
    const { open: sim, reboot } = oneMachine(machine);
    return { ...pair, sim, reboot, prepare: onceEach(prepare) };
  };
  if (typeof kind === 'object') return { pair: paired(kind), what: `the lab’s kernel and sim ${machine.name}` };
  if (kind !== 'sim' && LAB === undefined) return 'devices of this host are left alone: run it with --lab';
  const found = kind === 'sim' ? undefined : realKernel('native');
  if (found !== undefined && 'missing' in found) return found.missing;
  const other = lasting ? oneMachine(machine).open : () => openSim({ machine });
  return { pair: paired(found?.candidate.open ?? other), what: `${kind} and sim ${machine.name}` };
}

/** A simulated machine that goes on: each sequence is a process of it. Making one takes longer than all a sequence does. */
function oneMachine(machine: Machine): { open(): SimKernel; reboot(): void } {
  let booted: SimKernel | undefined;
  return {
    open() {
      booted ??= openSim({ machine });
      return booted.newProcess();
    },
    reboot() {
      booted = undefined;
    },
  };
}

/** What a machine was prepared for stays. */
function onceEach(prepare: NonNullable<Area['prepare']>): NonNullable<Area['prepare']> {
  const names = new WeakMap<object, ReadonlyMap<string, string>>();
  const real = {};
  return (kernel) => {
    const machine = kernel instanceof SimKernel ? kernel.process.system : real;
    const known = names.get(machine) ?? prepare(kernel);
    names.set(machine, known);
    return known;
  };
}

function run(chosen: Area, pair: Pair, what: string): void {
  const seconds = Number(values.seconds);
  const seed = Number(values.seed);
  console.log(`fuzzing ${chosen.name}: ${what}, seed ${seed}, ${seconds} s`);
  const started = Date.now();
  const { tally, findings, batches } = fuzz({
    ...{ area: chosen, pair, seed, time: seconds * 1000, differences: Number(values.differences), batch: Number(values.batch) },
    ...(values.sequences === undefined ? {} : { sequences: Number(values.sequences) }),
    ...(values.calls === undefined ? {} : { calls: Number(values.calls) }),
    report: (finding) => console.log(`\n${showFinding(finding, chosen.name, '')}\n`),
  });
  const spent = (Date.now() - started) / 1000;
  const sorted = (map: ReadonlyMap<string, number>) => [...map].sort(([, a], [, b]) => b - a);
  for (const [what, times] of sorted(tally.cut)) console.log(`  ended early ${times} times: ${what}`);
  for (const [what] of tally.once) console.log(`  seen once, and not again: ${what}`);
  for (const [what, times] of sorted(tally.notModelled)) console.log(`  not modelled ${times} times: ${what}`);
  const notModelled = [...tally.notModelled.values()].reduce((sum, times) => sum + times, 0);
  console.log(
    `${tally.sequences} sequences in ${batches} batches (${Math.round(tally.sequences / spent)}/s), ${tally.calls} calls on both`,
  );
  console.log(`${tally.guarded} calls not made: they name memory a real kernel must not be given`);
  console.log(`${tally.leftOut} calls not made: they are about times, or what no simulated machine has`);
  console.log(`${notModelled} calls not modelled, of ${tally.notModelled.size} kinds`);
  console.log(`${findings.length} differences`);
  process.exitCode = findings.length === 0 ? 0 : 1;
}
