/** `--area teardown`, from the command line: which two kernels, which scenes, and what comes of it. */
import { type Machine, openSim } from 'kvio/sim';
import { realKernel } from '../conformance/real-kernel.ts';
import type { Candidate } from '../conformance/run-cases.ts';
import { scenes } from '../conformance/teardown/index.ts';
import { machineOfHost, ofLab } from './machine.ts';
import { compareOrders, Orders, type Question, showDiffering, type Told } from './orders.ts';
import { answer, dial } from './remote.ts';

export interface TeardownOptions {
  /** A part of the names of the scenes that are wanted. */
  readonly scene: string;
  readonly seconds: string;
  /** At most so many orders of each. */
  readonly sequences?: string | undefined;
  readonly differences: string;
  readonly machine?: string | undefined;
  readonly kernel: string;
  readonly serve: boolean;
}

/** Without a real kernel: not run. */
const NOT_RUN = 77;

/** `command`: starts the process that has the real kernel; none: this one has it, in the lab if `lab` is a machine of it. The exit status. */
export function teardown(options: TeardownOptions, [command, ...args]: readonly string[], lab: string | undefined): number {
  const road = options.kernel === 'ffi' ? 'ffi' : 'native';
  const found = command !== undefined || options.kernel === 'sim' ? undefined : realKernel(road);
  if (found !== undefined && 'missing' in found) return notRun(found.missing);
  const here = found?.candidate;
  if (options.serve && here !== undefined) {
    const orders = new Orders({ ...here, ...(lab !== undefined && { machine: lab }) }, scenes);
    answer<Question>((question) => orders.tell(question));
    return 0;
  }
  const name = options.machine ?? lab ?? (here === undefined ? 'vtd' : undefined);
  const machine = name === undefined ? machineOfHost(here!.open) : ofLab(name);
  if (typeof machine === 'string') return notRun(machine);
  const like = name === undefined ? {} : { machine: name };
  const line = command === undefined ? undefined : dial(command, args);
  const real = new Orders({ ...(here ?? simulated(machine)), ...like }, scenes);
  const ask =
    line === undefined ? (question: Question) => real.tell(question) : (question: Question) => line.ask<Told[]>(question);
  const status = compareAll(options, ask, new Orders({ ...simulated(machine), ...like }, scenes));
  line?.close();
  return status;
}

function notRun(reason: string): number {
  console.log(`teardown: not run, because ${reason}`);
  return NOT_RUN;
}

const simulated = (machine: Machine): Candidate => ({
  name: 'sim',
  arch: 'x64',
  nofile: machine.limits.nofile,
  open: () => openSim({ machine }),
});

function compareAll(options: TeardownOptions, ask: (question: Question) => readonly Told[], sim: Orders): number {
  const end = Date.now() + Number(options.seconds) * 1000;
  const limits = {
    most: Number(options.sequences ?? Infinity),
    differences: Number(options.differences),
    over: () => Date.now() > end,
    progress: (orders: number, of: number) => process.stderr.write(orders % 600 < 60 ? `${orders} of ${of} orders\n` : ''),
  };
  let status = 0;
  for (const scene of scenes.filter(({ name }) => name.includes(options.scene))) {
    const missing = sim.missing(scene);
    if (missing !== undefined) {
      console.log(`${scene.name}: not run, because ${missing}`);
      continue;
    }
    const started = Date.now();
    const { orders, all, differing } = compareOrders(scene, ask, (question) => sim.tell(question), limits);
    for (const one of differing) console.log(`\n${showDiffering(scene, one)}\n`);
    const spent = Math.round((Date.now() - started) / 1000);
    console.log(`${scene.name}: ${orders} of ${all} orders compared in ${spent} s, ${differing.length} differ`);
    if (differing.length > 0) status = 1;
  }
  return status;
}
