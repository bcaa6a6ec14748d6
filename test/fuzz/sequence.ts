/** One sequence on two fresh kernels: from tapes to calls, or from calls to calls again. */
import type { Call } from './call.ts';
import { Unbound } from './call.ts';
import { Choices } from './choices.ts';
import { Cut, count, Difference, Lockstep, type Pair, type Tally } from './lockstep.ts';
import type { Area, Step } from './step.ts';
import { World } from './world.ts';

/** What a sequence is made of: a tape for the scene, and one for each step. */
export type Tapes = readonly (readonly number[])[];

export interface Outcome {
  /** The calls that were made, in order. */
  readonly program: readonly Call[];
  readonly difference: Difference | undefined;
}

/** Plays a sequence. A difference whose signature is in `known` ends it like a cut. */
export function play(area: Area, pair: Pair, tapes: Tapes, tally: Tally, known: ReadonlySet<string> = new Set()): Outcome {
  const { steps } = area;
  const weights = steps.map(({ weight, step }) => [weight, step] as const);
  return withLockstep(pair, tally, known, (lockstep) => {
    const world = new World(pair.hardware);
    const take = (step: Step, c: Choices): void => {
      const calls = step(c, world);
      for (let next = calls.next(); !next.done; ) next = calls.next(lockstep.perform(next.value));
    };
    const [scene = [], ...rest] = tapes;
    const first = new Choices(scene);
    take(first.pick(area.scenes), first);
    for (const tape of rest) {
      const c = new Choices(tape);
      take(c.weighted(weights), c);
    }
    take(area.last, new Choices([]));
  });
}

/** Makes the calls of a program again; those that name what was never made leave it without a verdict. */
export function replay(pair: Pair, program: readonly Call[], tally: Tally, patience = 1): Outcome {
  pair.reboot?.();
  const again = (lockstep: Lockstep): void => {
    for (const call of program) lockstep.perform(call);
  };
  return withLockstep(pair, tally, new Set(), again, patience);
}

function withLockstep(
  pair: Pair,
  tally: Tally,
  known: ReadonlySet<string>,
  body: (lockstep: Lockstep) => void,
  patience = 1,
): Outcome {
  const lockstep = new Lockstep(pair, tally, patience);
  tally.sequences++;
  try {
    try {
      body(lockstep);
    } finally {
      lockstep.settle();
    }
  } catch (error) {
    pair.reboot?.();
    if (error instanceof Difference) {
      if (!known.has(error.signature)) return { program: lockstep.program, difference: error };
      count(tally.cut, `known: ${error.signature}`);
    } else if (error instanceof Cut) count(tally.cut, error.message);
    else if (!(error instanceof Unbound)) throw error;
  } finally {
    lockstep.close();
  }
  return { program: lockstep.program, difference: undefined };
}
