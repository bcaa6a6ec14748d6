/** Sequence after sequence, drawn and shrunk by fast-check, until the time is over or the kernels differ. */
import fc from 'fast-check';
import { count, type Pair, Tally } from './lockstep.ts';
import { printCase, title } from './paste.ts';
import { play, replay, type Tapes } from './sequence.ts';
import { type Shrunk, shrinkProgram } from './shrink.ts';
import type { Area } from './step.ts';

export interface FuzzOptions {
  readonly area: Area;
  readonly pair: Pair;
  readonly seed: number;
  /** Most milliseconds; shrinking comes on top. */
  readonly time: number;
  /** Most sequences. */
  readonly sequences?: number;
  /** Most calls: the sequence in which they are reached is the last. */
  readonly calls?: number;
  /** Stop at so many different differences. Default 1. */
  readonly differences?: number;
  /** Sequences of batches before this one are not played: to come back to one that was found. */
  readonly batch?: number;
  readonly report?: (finding: Finding) => void;
}

export interface Finding extends Shrunk {
  readonly batch: number;
  readonly seed: number;
}

export interface Verdict {
  readonly tally: Tally;
  readonly findings: readonly Finding[];
  readonly batches: number;
}

const STEPS = 30;
/** Words of a step's tape; one that needs more goes on with zeros. */
const WORDS = 40;
const BATCH = 100;
/** Tries and milliseconds fast-check may spend on making a sequence smaller. */
const SHRINK = { runs: 1500, time: 8_000 };

const word = fc.noBias(fc.nat(0xffff_ffff));
const tape = fc.array(word, { minLength: 12, maxLength: WORDS, size: 'max' });
const tapesOf = (steps: number): fc.Arbitrary<Tapes> => fc.array(tape, { minLength: 1, maxLength: steps + 1, size: 'max' });

/** Batch after batch, each with a seed of its own: the same seed draws the same sequences. */
export function fuzz(options: FuzzOptions): Verdict {
  const { area, pair, seed, time, sequences = Infinity, calls = Infinity, differences = 1, batch = 0, report } = options;
  const tally = new Tally();
  const known = new Set<string>();
  const findings: Finding[] = [];
  const end = Date.now() + time;
  const over = (): boolean => Date.now() > end || tally.sequences >= sequences || tally.calls >= calls;
  let at = batch;
  for (; !over() && findings.length < differences; at++) {
    const found = runBatch(area, pair, batchSeed(seed, at), tally, known, over);
    if (found === undefined) continue;
    known.add(found.difference.signature);
    if (!repeats(pair, found)) {
      count(tally.once, found.difference.message);
      continue;
    }
    const finding = { ...shrinkProgram(pair, found), seed, batch: at };
    findings.push(finding);
    report?.(finding);
  }
  return { tally, findings, batches: at - batch };
}

/**
 * A real kernel does not do everything twice, least of all on a busy machine: a difference comes back each time. What does not is told, but is no
 * finding.
 */
function repeats(pair: Pair, { program, difference }: Shrunk): boolean {
  const again = () => replay(pair, program, new Tally(), PATIENCE).difference?.signature === difference.signature;
  return again() && again() && again();
}

/** A machine that is busy with other things may take longer over a guest than its budget: then it is given this many times as long. */
const PATIENCE = 20;

/** fast-check takes seeds of 32 bits. */
const batchSeed = (seed: number, batch: number): number => (Math.imul(seed, 0x9e3779b1) + Math.imul(batch, 0x85ebca6b)) | 0;

function runBatch(
  area: Area,
  pair: Pair,
  seed: number,
  tally: Tally,
  known: ReadonlySet<string>,
  over: () => boolean,
): Shrunk | undefined {
  let best: Shrunk | undefined;
  let shrinking = { runs: SHRINK.runs, until: 0 };
  const quiet = new Tally();
  const property = fc.property(tapesOf(area.length ?? STEPS), (drawn) => {
    if (best === undefined ? over() : shrinking.runs-- <= 0 || Date.now() > shrinking.until) return;
    const { program, difference } = play(area, pair, drawn, best === undefined ? tally : quiet, known);
    if (difference === undefined || (best !== undefined && best.difference.signature !== difference.signature)) return;
    if (best === undefined) shrinking = { runs: SHRINK.runs, until: Date.now() + SHRINK.time };
    best = { program, difference };
    throw difference;
  });
  fc.check(property, { seed, numRuns: BATCH });
  return best;
}

/** A finding as text: what differs, the case, and how to see it again. */
export function showFinding({ program, difference, seed, batch }: Finding, area: string, options: string): string {
  return [
    `difference: ${difference.message}`,
    `  in ${program.length} calls: ${program.map(title).join('; ')}`,
    '',
    printCase(`${area}/fuzz/${seed}-${batch}`, program),
    '',
    `to see it again: npm run fuzz -- --area ${area} --seed ${seed} --batch ${batch}${options}`,
  ].join('\n');
}
