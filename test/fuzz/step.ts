import type { Kernel } from 'kvio';
import type { Call, Ref, Seen } from './call.ts';
import { DESCRIPTOR, MAPPED } from './call.ts';
import type { Choices } from './choices.ts';
import type { FileState, World } from './world.ts';

/** What both kernels answered; undefined where the call was skipped on both. */
export type Answer = readonly Seen[] | undefined;

/** One step of a sequence: some calls, each decided in the light of what the earlier ones did. A step that does not apply makes none. */
export type Step = (c: Choices, w: World) => Generator<Call, void, Answer>;

/** `weight` is how often it is taken, relative to the others. */
export interface WeightedStep {
  readonly weight: number;
  readonly name: string;
  readonly step: Step;
}

/** What is fuzzed by one `--area`. */
export interface Area {
  readonly name: string;
  /** Devices it needs, on both kernels. */
  readonly devices: readonly string[];
  readonly steps: readonly WeightedStep[];
  /** What a sequence begins with, the simplest first. */
  readonly scenes: readonly Step[];
  /** Makes a fresh kernel what a sequence begins with; see `Pair`. Such an area is of a machine made for it: the lab’s, and the simulated one of the same name. */
  readonly prepare?: (kernel: Kernel) => ReadonlyMap<string, string>;
  /**
   * Its steps need no answer the simulator does not give, and no call may be kept from a real kernel for what it answered before: a sequence can be sent
   * to the lab whole.
   */
  readonly whole?: true;
  /** Most steps of a sequence; 30 where it is not said. */
  readonly length?: number;
  /** All sequences are processes of one simulated machine, as they are of one real one: what it is prepared for stays. */
  readonly lasting?: boolean;
  /** Everything that can still be asked when the sequence is over. */
  readonly last: Step;
}

export const succeeded = (answer: Answer): boolean => answer?.[0]?.value === 0 || answer?.[0]?.value === 'done';
export const gotDescriptor = (answer: Answer): boolean => answer?.[0]?.value === DESCRIPTOR;
export const gotMemory = (answer: Answer): boolean => answer?.[0]?.value === MAPPED;
/** It has `bytes` on both kernels. */
export const hasBytes = (answer: Answer): boolean => answer?.at(-1)?.value === WITH_BYTES;
export const WITH_BYTES = 'with bytes';

/** Makes a call that returns a descriptor, and remembers it where it did. */
export function* making(
  w: World,
  kind: string,
  file: FileState,
  call: (as: Ref) => Call,
): Generator<Call, Ref | undefined, Answer> {
  if (!w.room(kind)) return undefined;
  const name = w.fresh(kind);
  if (!gotDescriptor(yield call(name))) return undefined;
  w.addDescriptor(name, file);
  return name;
}
