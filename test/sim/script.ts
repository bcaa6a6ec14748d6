/**
 * System calls that are not KVM's, as data: each script runs in a process whose lowest free descriptor is 3, on the simulated kernel
 * and on a real one, and gives one observation per step. A step is [name for the result, or '', call, arguments …]; '$name' stands for an
 * earlier result, '#n' for a 64-bit number.
 */
export type Step = readonly [name: string, call: string, ...args: unknown[]];
export interface Script {
  readonly name: string;
  /** Huge pages of 2 MiB the machine has; default none. */
  readonly pool?: number;
  readonly steps: readonly Step[];
}
