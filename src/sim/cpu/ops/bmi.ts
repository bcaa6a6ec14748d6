/** BMI1 and BMI2: the general-register instructions behind a VEX prefix. KVM's emulator has none of them. */
import type { Core } from '../core.ts';
import { Fault, UD } from '../fault.ts';
import type { Exec, Insn } from '../insn.ts';
import { AF, CF, RDX, SF, ZF } from '../state.ts';

/** What an operand of a VEX instruction computes with: its bits, and values of that many. */
interface Operands {
  readonly bits: number;
  /** The r/m operand. */
  readonly source: bigint;
  /** The register the prefix names. */
  readonly third: bigint;
}

const masked = (value: bigint, bits: number): bigint => BigInt.asUintN(bits, value);

const put = (c: Core, n: number, bits: number, value: bigint): void => c.setReg(n, masked(value, bits));

/** `f` computes the result for operand A, the register of the reg field or that of the prefix, and sets the flags it changes. */
const vex =
  (f: (c: Core, o: Operands, i: Insn) => bigint): Exec =>
  (c, i) => {
    if (!c.native) throw c.emulationFailure();
    const bits = i.width * 8;
    const low = c.readB(i);
    const source = masked((BigInt(bits === 64 ? c.hi : 0) << 32n) | BigInt(low >>> 0), bits);
    put(c, i.an, bits, f(c, { bits, source, third: masked(c.reg(i.third), bits) }, i));
  };

const flags = (c: Core, result: bigint, bits: number, cf: boolean): bigint => {
  const value = masked(result, bits);
  c.setArith((value === 0n ? ZF : 0) | (value >> BigInt(bits - 1) ? SF : 0) | (cf ? CF : 0));
  // Undefined; AMD's processors say the parity.
  c.fp = Number(value & 0xffn);
  return value;
};

export const andn: Exec = vex((c, { bits, source, third }) => flags(c, ~third & source, bits, false));
export const blsr: Exec = vex((c, { bits, source }) => flags(c, (source - 1n) & source, bits, source === 0n));
export const blsmsk: Exec = vex((c, { bits, source }) => flags(c, (source - 1n) ^ source, bits, source === 0n));
export const blsi: Exec = vex((c, { bits, source }) => flags(c, -source & source, bits, source !== 0n));

export const bextr: Exec = vex((c, { bits, source, third }) => {
  const length = (third >> 8n) & 0xffn;
  const result = flags(c, (source >> (third & 0xffn)) & ((1n << length) - 1n), bits, false);
  c.fa = AF;
  return result;
});

export const bzhi: Exec = vex((c, { bits, source, third }) => {
  const n = third & 0xffn;
  return flags(c, source & ((1n << n) - 1n), bits, n >= BigInt(bits));
});

const count = ({ bits, third }: Operands): bigint => third & BigInt(bits - 1);

export const shlx: Exec = vex((_, o) => o.source << count(o));
export const shrx: Exec = vex((_, o) => o.source >> count(o));
export const sarx: Exec = vex((_, o) => BigInt.asIntN(o.bits, o.source) >> count(o));
export const rorx: Exec = vex((_, { bits, source }, i) => {
  // The prefix may name no register.
  if (i.third !== 0) throw new Fault(UD);
  const n = BigInt(i.imm & (bits - 1));
  return (source >> n) | (source << (BigInt(bits) - n));
});

export const pdep: Exec = vex((_, { bits, source, third }) => {
  let result = 0n;
  let from = 0n;
  for (let n = 0n; n < BigInt(bits); n++) {
    if (!((source >> n) & 1n)) continue;
    result |= ((third >> from) & 1n) << n;
    from++;
  }
  return result;
});

export const pext: Exec = vex((_, { bits, source, third }) => {
  let result = 0n;
  let to = 0n;
  for (let n = 0n; n < BigInt(bits); n++) {
    if (!((source >> n) & 1n)) continue;
    result |= ((third >> n) & 1n) << to;
    to++;
  }
  return result;
});

/** MULX multiplies by RDX; of two equal destinations the high half wins. */
export const mulx: Exec = vex((c, { bits, source }, i) => {
  const product = source * masked(c.reg(RDX), bits);
  put(c, i.third, bits, product);
  return product >> BigInt(bits);
});
