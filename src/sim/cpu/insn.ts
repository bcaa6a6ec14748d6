/** A decoded instruction, and what an instruction's semantics look like. */
import type { Core } from './core.ts';

/** Kinds of operand. Memory operands of one instruction share its address fields. */
export const K_NONE = 0;
export const K_R8 = 1;
export const K_R16 = 2;
export const K_R32 = 3;
export const K_R64 = 4;
export const K_M8 = 5;
export const K_M16 = 6;
export const K_M32 = 7;
export const K_M64 = 8;
export const K_IMM = 9;
/** Segment, control, debug register: the number is in the operand. */
export const K_SPECIAL = 10;
/** 64-bit immediate: low half in `imm`, high half in `imm2`. */
export const K_IMM64 = 11;

export type Exec = (c: Core, i: Insn) => void;

/** One encoding of one instruction: a row of the table. */
export interface Form {
  readonly name: string;
  readonly opcode: string;
  readonly operands: readonly string[];
  /** undefined: a real instruction that is not modelled. */
  readonly exec: Exec | undefined;
  /** Semantics with a 64-bit operand size. */
  readonly exec64: Exec | undefined;
  /** An operand follows the operand size: REX.W selects `exec64`. */
  readonly scales: boolean;
  /** The operand size in 64-bit mode is 64 bits without REX.W: always ('near' branches), or unless a 66 prefix makes it 16 ('stack'). */
  readonly sized: 'near' | 'stack' | '';
  /** LOCK is legal with a memory destination. */
  readonly lock: boolean;
  /** Ends a block: may change IP, mode, code or the interrupt flag. */
  readonly ends: boolean;
  /** #UD outside protected mode. */
  readonly protectedOnly: boolean;
  /** KVM's emulator does not know it at all. */
  readonly absent: boolean;
  /** Flags the manual leaves undefined (ARITH bits). For tests. */
  readonly undefinedFlags: number;
  /** What kind of test input it can stand: 'user' (no privilege, no exit, no control transfer), else ''. */
  readonly testable: boolean;
}

export class Insn {
  exec: Exec;
  form: Form;
  length = 0;
  /** Operand width in bytes, and 32 − 8 × width for widths up to 4 (0 for 8). */
  width = 4;
  shift = 0;
  /** Operand-size and address-size attributes in bytes. */
  osize = 4;
  asize = 4;
  /** First operand (mostly the destination) and second: kind and register number. */
  ak: number = K_NONE;
  an = 0;
  bk: number = K_NONE;
  bn = 0;
  imm = 0;
  imm2 = 0;
  /** The register a VEX prefix names. */
  third = 0;
  /** Memory operand: (disp + r32[base] + (r32[index] << scale)) & mask in segment seg; 64-bit addressing has no mask. */
  base = 0;
  index = 0;
  scale = 0;
  disp = 0;
  dispHigh = 0;
  mask = -1;
  seg = 0;
  /** Low bits of the opcode: condition code of Jcc and such. */
  low = 0;
  /** 0, 0xf2 or 0xf3. */
  rep = 0;

  constructor(form: Form, exec: Exec) {
    this.form = form;
    this.exec = exec;
  }
}
