/**
 * Properties of confidential device assignment, which no real kernel can be asked about: random interleavings of what guest, host and device do, and after each of them, and when everything
 * is closed in a random order, what must hold. A sequence is drawn from its seed; one that breaks a property is made small.
 */
import { Choices } from '../choices.ts';
import { always, closeAll } from './invariants.ts';
import { steps, takeDevice } from './steps.ts';
import { PropertyViolated, World } from './world.ts';

const STEPS = 60;
const WORDS = 40;

interface DrawnStep {
  readonly name: string;
  readonly tape: readonly number[];
}

export interface Sequence {
  readonly seed: number;
  /** The machine, and in which order all is closed in the end. */
  readonly tape: readonly number[];
  readonly steps: readonly DrawnStep[];
}

export interface Violation {
  readonly sequence: Sequence;
  readonly what: string;
  /** What each step came to, up to the one that broke the property. */
  readonly story: readonly string[];
}

/** xorshift32, of words. */
function words(seed: number): () => number {
  let state = (seed * 0x9e37_79b1) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>>= 0);
  };
}

const FLOW = 'a whole flow';
const weighted: readonly (readonly [number, string])[] = [
  ...Object.entries(steps).map(([name, { weight }]) => [weight, name] as const),
  [10, FLOW],
];

export function draw(seed: number): Sequence {
  const next = words(seed);
  const tape = (length: number): number[] => Array.from({ length }, next);
  const drawn = Array.from({ length: STEPS }, () => ({ name: new Choices(tape(1)).weighted(weighted), tape: tape(WORDS) }));
  return { seed, tape: tape(64), steps: drawn };
}

/** Plays it; undefined: everything held. */
export function play(sequence: Sequence, seen: Map<string, number> = new Map()): Violation | undefined {
  const story: string[] = [];
  const c = new Choices(sequence.tape);
  const w = new World(c, seen);
  story.push(`machine ${JSON.stringify(w.teeIo)}`);
  try {
    for (const { name, tape } of sequence.steps) {
      story.push(name);
      const choices = new Choices(tape);
      const outcome = name === FLOW ? takeDevice(w, choices) : steps[name]!.run(w, choices);
      story[story.length - 1] = `${name}: ${outcome}`;
      for (const { state } of w.devices) w.count(`state ${state}`);
      always(w);
    }
    story.push('close all');
    closeAll(w, c);
    for (const device of w.devices) device.restore();
    return undefined;
  } catch (error) {
    const what = error instanceof PropertyViolated ? error.message : `${(error as Error).stack}`;
    return { sequence, what, story };
  } finally {
    w.kernel.close();
  }
}

/** The same violation with as few steps as can be found by leaving them out. */
export function shrink(violation: Violation): Violation {
  let smallest = violation;
  const head = ({ what }: Violation): string => what.split('\n')[0]!.replace(/\d+/g, 'N');
  for (let size = smallest.sequence.steps.length >> 1; size >= 1; size >>= 1) {
    for (let at = 0; at < smallest.sequence.steps.length; ) {
      const left = smallest.sequence.steps.filter((_, i) => i < at || i >= at + size);
      const found = play({ ...smallest.sequence, steps: left });
      if (found !== undefined && head(found) === head(smallest)) smallest = found;
      else at += size;
    }
  }
  return smallest;
}

export function showViolation({ sequence, what, story }: Violation): string {
  return [`seed ${sequence.seed}: ${what}`, ...story.map((line) => `  ${line}`)].join('\n');
}

/** Sequence after sequence, from `seed` on, until the time is over, so many were played or a property is broken. */
export function fuzzProperties({ seed, time, most = Infinity }: { seed: number; time: number; most?: number }): {
  readonly sequences: number;
  readonly seen: ReadonlyMap<string, number>;
  readonly violation: Violation | undefined;
} {
  const end = Date.now() + time;
  const seen = new Map<string, number>();
  for (let sequences = 0; ; sequences++) {
    if (Date.now() >= end || sequences >= most) return { sequences, seen, violation: undefined };
    const violation = play(draw(seed + sequences), seen);
    if (violation !== undefined) return { sequences: sequences + 1, seen, violation: shrink(violation) };
  }
}
