/** How an instruction ends that does not come to its end, and why a block is left. */

/** An exception on its way to the guest. `errorCode` −1: this one has none. */
export class Fault {
  readonly vector: number;
  readonly errorCode: number;
  /** KVM raises it also where the guest runs on hardware: it intercepts the instruction. */
  readonly ofKvm: boolean;
  constructor(vector: number, errorCode = -1, ofKvm: boolean = vector === UD) {
    this.vector = vector;
    this.errorCode = errorCode;
    this.ofKvm = ofKvm;
  }
}

/** Thrown to abandon an instruction because of an exit; `outcome` says which. */
export const ABANDON: unique symbol = Symbol('abandon');

export const DE = 0;
export const DB = 1;
export const BP = 3;
export const BR = 5;
export const UD = 6;
export const DOUBLE_FAULT = 8;
export const TS = 10;
export const NP = 11;
export const STACK = 12;
export const GP = 13;
export const PAGE_FAULT = 14;

/** Thrown to execute an instruction anew, by KVM's emulator. */
export const REDO: unique symbol = Symbol('redo');

/** Reasons to leave the current block after this instruction: an exit is ready; code or mode changed; a REP stands still. */
export const STOP_EXIT = 1;
export const STOP_BLOCK = 2;
