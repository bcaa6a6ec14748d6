/** Integer arithmetic and logic. */
import type { Core } from '../core.ts';
import { DE, Fault, UD } from '../fault.ts';
import { type Exec, K_M8 } from '../insn.ts';
import { AF, CF, OF, RAX, RDX } from '../state.ts';

type Binary = (c: Core, a: number, b: number, shift: number) => number;

const update =
  (f: Binary): Exec =>
  (c, i) => {
    const b = c.readB(i);
    const a = c.modifyA(i);
    c.writeA(i, f(c, a, b, i.shift));
  };

const compare =
  (f: Binary): Exec =>
  (c, i) => {
    const a = c.readA(i);
    f(c, a, c.readB(i), i.shift);
  };

export const add: Exec = update((c, a, b, s) => c.add(a, b, 0, s));
export const adc: Exec = update((c, a, b, s) => c.add(a, b, c.cf(), s));
export const sub: Exec = update((c, a, b, s) => c.sub(a, b, 0, s));
export const sbb: Exec = update((c, a, b, s) => c.sub(a, b, c.cf(), s));
export const and: Exec = update((c, a, b, s) => c.logic(a & b, s));
export const or: Exec = update((c, a, b, s) => c.logic(a | b, s));
export const xor: Exec = update((c, a, b, s) => c.logic(a ^ b, s));
export const cmp: Exec = compare((c, a, b, s) => c.sub(a, b, 0, s));
export const test: Exec = compare((c, a, b, s) => c.logic(a & b, s));

/** INC and DEC keep CF: flips the carry vector's two top bits where it differs, so that OF stays. */
export const keepCarry = (c: Core, cf: number): void => {
  if (c.fc >>> 31 !== cf) c.fc ^= 0xc0000000 | 0;
};

export const inc: Exec = (c, i) => {
  const a = c.modifyA(i);
  const cf = c.cf();
  const result = c.add(a, 1, 0, i.shift);
  keepCarry(c, cf);
  c.writeA(i, result);
};

export const dec: Exec = (c, i) => {
  const a = c.modifyA(i);
  const cf = c.cf();
  const result = c.sub(a, 1, 0, i.shift);
  keepCarry(c, cf);
  c.writeA(i, result);
};

export const neg: Exec = (c, i) => {
  const a = c.modifyA(i);
  c.writeA(i, c.sub(0, a, 0, i.shift));
};

export const not: Exec = (c, i) => {
  c.writeA(i, ~c.modifyA(i));
};

export const xadd: Exec = (c, i) => {
  const b = c.readB(i);
  const a = c.modifyA(i);
  const sum = c.add(a, b, 0, i.shift);
  // The address may depend on the register; of two equal registers the sum wins.
  if (i.ak >= K_M8) {
    c.writeA(i, sum);
    c.write(i, i.bk, i.bn, a);
  } else {
    c.write(i, i.bk, i.bn, a);
    c.writeA(i, sum);
  }
};

export const cmpxchg: Exec = (c, i) => {
  const b = c.readB(i);
  const a = c.modifyA(i);
  c.sub(c.accumulator(i.width), a, 0, i.shift);
  // A destination in memory is written in either case.
  if (c.fz === 0) c.writeA(i, b);
  else {
    if (i.ak >= K_M8) c.writeA(i, a);
    c.putReg(RAX, i.width, a);
  }
};

export const cmpxchg8b: Exec = (c, i) => {
  const at = c.ea(i);
  c.probeWrite(i.seg, at, 8);
  const lo = c.load64(i.seg, at);
  const hi = c.hi;
  const r = c.r32;
  const equal = lo === r[RAX] && hi === r[RDX];
  const flags = c.arith() & ~0x40;
  c.setArith(equal ? flags | 0x40 : flags);
  if (equal) c.store64(i.seg, at, r[3]!, r[1]!);
  else {
    c.store64(i.seg, at, lo, hi);
    c.putReg(RAX, 4, lo);
    c.putReg(RDX, 4, hi);
  }
};

// Multiplication and division.

const signed = (value: number, width: number): number => (value << (32 - width * 8)) >> (32 - width * 8);
const unsigned = (value: number, width: number): number => (value << (32 - width * 8)) >>> (32 - width * 8);

/**
 * CF = OF = the product does not fit. The undefined SF, ZF, AF and PF stay as they are on AMD's processors; on Intel's SF and PF are those of the
 * low half, whose highest word is `top` with the sign in bit 31, ZF and AF 0.
 */
export const productFlags = (c: Core, overflow: boolean, low: number, top: number): void => {
  if (c.intelFlags) {
    c.logic(low, 0);
    c.fs = top;
    c.fz = 1;
  }
  c.setCarryOverflow(overflow ? 1 : 0, overflow ? 1 : 0);
};

/** All flags are undefined: AMD's processors leave these, Intel's all as they are. */
export const quotientFlags = (c: Core): void => {
  if (!c.intelFlags) c.setArith((c.arith() & (CF | OF)) | AF);
};

/** Writes a double-width product to AX, DX:AX or EDX:EAX. */
const putProduct = (c: Core, width: number, lo: number, hi: number): void => {
  if (width === 1) c.r16[0] = (lo & 0xff) | (hi << 8);
  else {
    c.putReg(RAX, width, lo);
    c.putReg(RDX, width, hi);
  }
};

const highHalf = (product: bigint): number => Number(BigInt.asIntN(32, product >> 32n));

/** High half of a signed or unsigned 32 × 32 product. */
const high32 = (a: number, b: number, isSigned: boolean): number =>
  isSigned ? highHalf(BigInt(a | 0) * BigInt(b | 0)) : highHalf(BigInt(a >>> 0) * BigInt(b >>> 0));

const widen = (c: Core, a: number, b: number, width: number, isSigned: boolean): void => {
  const convert = isSigned ? signed : unsigned;
  const lo = Math.imul(convert(a, width), convert(b, width));
  const hi = width === 4 ? high32(a, b, isSigned) : lo >> (width * 8);
  putProduct(c, width, lo, hi);
  const shift = 32 - width * 8;
  const fits = isSigned ? signed(hi, width) === (lo << shift) >> 31 : unsigned(hi, width) === 0;
  productFlags(c, !fits, lo, lo << shift);
};

export const mul: Exec = (c, i) => widen(c, c.accumulator(i.width), c.readA(i), i.width, false);
export const imul1: Exec = (c, i) => widen(c, c.accumulator(i.width), c.readA(i), i.width, true);

const imulInto = (c: Core, i: Parameters<Exec>[1], a: number, b: number): void => {
  const x = signed(a, i.width);
  const y = signed(b, i.width);
  const lo = Math.imul(x, y);
  const fits = i.width === 4 ? high32(x, y, true) === lo >> 31 : signed(lo, i.width) === lo;
  c.writeA(i, lo);
  productFlags(c, !fits, lo, lo << (32 - i.width * 8));
};

export const imul2: Exec = (c, i) => {
  const b = c.readB(i);
  imulInto(c, i, c.readA(i), b);
};
export const imul3: Exec = (c, i) => imulInto(c, i, c.readB(i), i.imm);

const divide = (c: Core, width: number, divisor: number, isSigned: boolean): void => {
  const bits = BigInt(width * 8);
  const low = BigInt(unsigned(c.accumulator(width), width));
  const high = width === 1 ? BigInt(c.r8[1]!) : BigInt(unsigned(c.getReg(RDX, width), width));
  let dividend = (high << bits) | low;
  let by = BigInt(unsigned(divisor, width));
  if (isSigned) {
    dividend = BigInt.asIntN(width * 16, dividend);
    by = BigInt.asIntN(width * 8, by);
  }
  if (by === 0n) throw new Fault(DE);
  const quotient = dividend / by;
  const asFits = isSigned ? BigInt.asIntN(width * 8, quotient) : BigInt.asUintN(width * 8, quotient);
  if (asFits !== quotient) throw new Fault(DE);
  const remainder = dividend % by;
  putProduct(c, width, Number(BigInt.asIntN(32, quotient)), Number(BigInt.asIntN(32, remainder)));
  quotientFlags(c);
};

export const div: Exec = (c, i) => divide(c, i.width, c.readA(i), false);
export const idiv: Exec = (c, i) => divide(c, i.width, c.readA(i), true);

// Sign extension of the accumulator.

export const cbw: Exec = (c, i) => {
  if (i.osize === 2) c.r16[0] = (c.r8[0]! << 24) >> 24;
  else c.putReg(RAX, 4, (c.r16[0]! << 16) >> 16);
};

export const cwd: Exec = (c, i) => {
  if (i.osize === 2) c.r16[RDX * 2] = (c.r16[0]! << 16) >> 31;
  else c.putReg(RDX, 4, c.r32[RAX]! >> 31);
};

// Decimal adjustment. The flags the manual leaves undefined are those of the addition or subtraction of the adjustment, as on silicon.

const adjust = (c: Core, sign: 1 | -1, width: number, by: number, cf: boolean, af: boolean): number => {
  const value = c.accumulator(width);
  const result = sign === 1 ? c.add(value, by, 0, 32 - 8 * width) : c.sub(value, by, 0, 32 - 8 * width);
  c.setCarryOverflow(cf ? 1 : 0, c.of());
  c.fa = af ? AF : 0;
  return result;
};

const adjustDecimal =
  (sign: 1 | -1): Exec =>
  (c) => {
    const al = c.r8[0]!;
    const flags = c.arith();
    const low = (al & 15) > 9 || (flags & AF) !== 0;
    const high = al > 0x99 || (flags & CF) !== 0;
    // DAS also reports the borrow of its first step, DAA only that of the second.
    const cf = high || (sign === -1 && low && al < 6);
    c.r8[0] = adjust(c, sign, 1, (low ? 6 : 0) + (high ? 0x60 : 0), cf, low);
    // KVM's emulator takes ZF, SF and PF from an OR.
    if (!c.native) c.setCarryOverflow(cf ? 1 : 0, 0);
  };

/** KVM's emulator does not have it in any mode, processors do outside 64-bit mode. */
const notEmulated =
  (exec: Exec): Exec =>
  (c, i) => {
    if (!c.native) throw c.emulationFailure();
    if (c.long) throw new Fault(UD);
    exec(c, i);
  };

export const daa: Exec = notEmulated(adjustDecimal(1));
export const das: Exec = adjustDecimal(-1);

const adjustAscii =
  (sign: 1 | -1): Exec =>
  (c) => {
    const carry = (c.r8[0]! & 15) > 9 || (c.arith() & AF) !== 0;
    c.r16[0] = adjust(c, sign, 2, carry ? 0x106 : 0, carry, carry) & 0xff0f;
  };

export const aaa: Exec = notEmulated(adjustAscii(1));
export const aas: Exec = notEmulated(adjustAscii(-1));

/** Flags of AAM: of AL; where KVM emulates it, of AX. */
const adjusted = (c: Core): void => {
  if (c.native) c.logic(c.r8[0]!, 24);
  else c.logic(c.r16[0]!, 16);
};

export const aam: Exec = (c, i) => {
  if (i.imm === 0) throw new Fault(DE);
  const al = c.r8[0]!;
  c.r8[1] = Math.trunc(al / i.imm);
  c.r8[0] = al % i.imm;
  adjusted(c);
};

export const aad: Exec = (c, i) => {
  c.r16[0] = c.add(c.r8[0]!, c.r8[1]! * i.imm, 0, 24) & 0xff;
  if (!c.native) adjusted(c);
};
