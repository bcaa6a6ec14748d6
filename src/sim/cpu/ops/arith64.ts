/** Integer arithmetic and logic on 64-bit operands: two halves, the low one in hand, the high one in `hi`. */
import type { Core } from '../core.ts';
import { DE, Fault, GP } from '../fault.ts';
import { type Exec, type Insn, K_M8 } from '../insn.ts';
import { RAX, RBX, RCX, RDX, ZF } from '../state.ts';
import { keepCarry, productFlags, quotientFlags } from './arith.ts';

type Wide = (c: Core, a: number, ah: number, b: number, bh: number) => number;

const update =
  (f: Wide): Exec =>
  (c, i) => {
    const b = c.readB(i);
    const bh = c.hi;
    const a = c.modifyA(i);
    c.writeA(i, f(c, a, c.hi, b, bh));
  };

const compare =
  (f: Wide): Exec =>
  (c, i) => {
    const a = c.readA(i);
    const ah = c.hi;
    const b = c.readB(i);
    f(c, a, ah, b, c.hi);
  };

export const add: Exec = update((c, a, ah, b, bh) => c.add64(a, ah, b, bh, 0));
export const adc: Exec = update((c, a, ah, b, bh) => c.add64(a, ah, b, bh, c.cf()));
export const sub: Exec = update((c, a, ah, b, bh) => c.sub64(a, ah, b, bh, 0));
export const sbb: Exec = update((c, a, ah, b, bh) => c.sub64(a, ah, b, bh, c.cf()));
export const and: Exec = update((c, a, ah, b, bh) => c.logic64(a & b, ah & bh));
export const or: Exec = update((c, a, ah, b, bh) => c.logic64(a | b, ah | bh));
export const xor: Exec = update((c, a, ah, b, bh) => c.logic64(a ^ b, ah ^ bh));
export const cmp: Exec = compare((c, a, ah, b, bh) => c.sub64(a, ah, b, bh, 0));
export const test: Exec = compare((c, a, ah, b, bh) => c.logic64(a & b, ah & bh));

export const inc: Exec = (c, i) => {
  const a = c.modifyA(i);
  const cf = c.cf();
  const result = c.add64(a, c.hi, 1, 0, 0);
  keepCarry(c, cf);
  c.writeA(i, result);
};

export const dec: Exec = (c, i) => {
  const a = c.modifyA(i);
  const cf = c.cf();
  const result = c.sub64(a, c.hi, 1, 0, 0);
  keepCarry(c, cf);
  c.writeA(i, result);
};

export const neg: Exec = (c, i) => {
  const a = c.modifyA(i);
  c.writeA(i, c.sub64(0, 0, a, c.hi, 0));
};

export const not: Exec = (c, i) => {
  const a = c.modifyA(i);
  c.hi = ~c.hi;
  c.writeA(i, ~a);
};

export const xadd: Exec = (c, i) => {
  const b = c.readB(i);
  const bh = c.hi;
  const a = c.modifyA(i);
  const ah = c.hi;
  const sum = c.add64(a, ah, b, bh, 0);
  const sumHigh = c.hi;
  const putSum = (): void => {
    c.hi = sumHigh;
    c.writeA(i, sum);
  };
  // The address may depend on the register; of two equal registers the sum wins.
  if (i.ak >= K_M8) putSum();
  c.hi = ah;
  c.write(i, i.bk, i.bn, a);
  if (i.ak < K_M8) putSum();
};

export const cmpxchg: Exec = (c, i) => {
  const b = c.readB(i);
  const bh = c.hi;
  const a = c.modifyA(i);
  const ah = c.hi;
  c.sub64(c.r32[RAX]!, c.r32[RAX + 16]!, a, ah, 0);
  const equal = c.fz === 0;
  c.hi = equal ? bh : ah;
  c.writeA(i, equal ? b : a);
  c.hi = ah;
  if (!equal) c.putReg(RAX, 8, a);
};

/** CMPXCHG16B: #GP(0) unless aligned. KVM's emulator does not have it. */
export const cmpxchg16b: Exec = (c, i) => {
  const at = c.ea(i);
  if (at & 15) throw new Fault(GP, 0);
  if (!c.native) throw c.emulationFailure();
  c.probeWrite(i.seg, at, 16);
  const [a, ah] = [c.load64(i.seg, at), c.hi];
  const [d, dh] = [c.load64(i.seg, at + 8), c.hi];
  const r = c.r32;
  const equal = a === r[RAX] && ah === r[RAX + 16] && d === r[RDX] && dh === r[RDX + 16];
  const flags = c.arith() & ~ZF;
  c.setArith(equal ? flags | ZF : flags);
  if (equal) {
    c.store64(i.seg, at, r[RBX]!, r[RBX + 16]!);
    c.store64(i.seg, at + 8, r[RCX]!, r[RCX + 16]!);
    return;
  }
  c.store64(i.seg, at, a, ah);
  c.store64(i.seg, at + 8, d, dh);
  c.hi = ah;
  c.putReg(RAX, 8, a);
  c.hi = dh;
  c.putReg(RDX, 8, d);
};

// Multiplication and division.

/** High 32 bits of a product of unsigned 32-bit numbers. */
function high(a: number, b: number): number {
  const [al, ah, bl, bh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = al * bh + ah * bl + Math.floor((al * bl) / 0x10000);
  return ah * bh + Math.floor(middle / 0x10000);
}

/** The 128-bit product of the last `multiply`, lowest word first. */
const product = new Int32Array(4);

function multiply(a: number, ah: number, b: number, bh: number, signed: boolean): void {
  product[0] = Math.imul(a, b);
  const one = high(a, b) + (Math.imul(a, bh) >>> 0) + (Math.imul(ah, b) >>> 0);
  product[1] = one;
  const two = high(a, bh) + high(ah, b) + (Math.imul(ah, bh) >>> 0) + Math.floor(one / 0x1_0000_0000);
  let lo = two | 0;
  let hi = (high(ah, bh) + Math.floor(two / 0x1_0000_0000)) | 0;
  const subtract = (x: number, xh: number): void => {
    hi = (hi - xh - (lo >>> 0 < x >>> 0 ? 1 : 0)) | 0;
    lo = (lo - x) | 0;
  };
  if (signed && ah < 0) subtract(b, bh);
  if (signed && bh < 0) subtract(a, ah);
  product[2] = lo;
  product[3] = hi;
}

const signFits = (): boolean => product[2] === product[1]! >> 31 && product[3] === product[1]! >> 31;

const widen =
  (signed: boolean): Exec =>
  (c, i) => {
    const b = c.readA(i);
    multiply(c.r32[RAX]!, c.r32[RAX + 16]!, b, c.hi, signed);
    [RAX, RAX + 16, RDX, RDX + 16].forEach((slot, k) => {
      c.r32[slot] = product[k]!;
    });
    productFlags(c, signed ? !signFits() : (product[2]! | product[3]!) !== 0, product[0]!, product[1]!);
  };

export const mul: Exec = widen(false);
export const imul1: Exec = widen(true);

const imulInto = (c: Core, i: Insn, a: number, ah: number, b: number, bh: number): void => {
  multiply(a, ah, b, bh, true);
  c.hi = product[1]!;
  c.writeA(i, product[0]!);
  productFlags(c, !signFits(), product[0]!, product[1]!);
};

export const imul2: Exec = (c, i) => {
  const b = c.readB(i);
  const bh = c.hi;
  const a = c.readA(i);
  imulInto(c, i, a, c.hi, b, bh);
};
export const imul3: Exec = (c, i) => {
  const b = c.readB(i);
  imulInto(c, i, b, c.hi, i.imm, i.imm >> 31);
};

const divide = (c: Core, i: Insn, signed: boolean): void => {
  const b = c.readA(i);
  const bh = c.hi;
  const r = c.r32;
  const whole = (lo: number, hi: number): bigint => (BigInt(hi) << 32n) | BigInt(lo >>> 0);
  let quotient: bigint;
  let remainder: bigint;
  if (bh === 0 && b > 0 && r[RDX] === 0 && r[RDX + 16] === 0 && r[RAX + 16]! >>> 21 === 0) {
    const a = c.wide(RAX);
    const q = Math.floor(a / b);
    c.setWide(RAX, q);
    c.setWide(RDX, a - q * b);
  } else {
    const high64 = whole(r[RDX]!, r[RDX + 16]!);
    const by = signed ? whole(b, bh) : BigInt.asUintN(64, whole(b, bh));
    if (by === 0n) throw new Fault(DE);
    const dividend = ((signed ? high64 : BigInt.asUintN(64, high64)) << 64n) | BigInt.asUintN(64, whole(r[RAX]!, r[RAX + 16]!));
    quotient = dividend / by;
    if ((signed ? BigInt.asIntN(64, quotient) : BigInt.asUintN(64, quotient)) !== quotient) throw new Fault(DE);
    remainder = dividend % by;
    c.setReg(RAX, BigInt.asUintN(64, quotient));
    c.setReg(RDX, BigInt.asUintN(64, remainder));
  }
  quotientFlags(c);
};

export const div: Exec = (c, i) => divide(c, i, false);
export const idiv: Exec = (c, i) => divide(c, i, true);

/** CDQE and CQO. */
export const cbw: Exec = (c) => {
  c.r32[RAX + 16] = c.r32[RAX]! >> 31;
};
export const cwd: Exec = (c) => {
  c.r32[RDX] = c.r32[RDX + 16] = c.r32[RAX + 16]! >> 31;
};
