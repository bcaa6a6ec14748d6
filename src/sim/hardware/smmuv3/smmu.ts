import type { DmaTarget } from '../dma-target.ts';
import { SmmuRegisters } from './registers.ts';

/** How many commands are kept, as a queue has an end. */
const COMMAND_LOG = 1024;

/** A command of the command queue: two words. */
export type SmmuCommand = readonly [bigint, bigint];

/** An SMMUv3, beside what it translates by: its registers, and what it was told. */
export class Smmu {
  readonly registers: SmmuRegisters;
  readonly #commands: SmmuCommand[] = [];

  constructor(hwInfo: Uint8Array) {
    this.registers = new SmmuRegisters(hwInfo);
  }

  /** The latest, in order; the synchronizations between them are left out. There is no cache for them to act upon. */
  get commands(): readonly SmmuCommand[] {
    return this.#commands;
  }

  issue(commands: readonly SmmuCommand[]): void {
    this.#commands.push(...commands);
    this.#commands.splice(0, this.#commands.length - COMMAND_LOG);
  }
}

/** What a terminated access that is answered all the same reaches. */
export function nothing(length: number): DmaTarget {
  return { length, offset: 0, device: { load: () => 0, store: () => 0 } };
}
