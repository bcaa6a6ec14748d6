/** Shifts, rotates and bit operations on 64-bit operands: two halves, the low one in hand, the high one in `hi`. */
import type { Core } from '../core.ts';
import { type Exec, type Insn, K_IMM, K_M8, K_M64, K_NONE } from '../insn.ts';
import { AF, OF, ZF } from '../state.ts';

/** The count of a shift: CL, an immediate, or 1, modulo 64. */
const countOf = (c: Core, i: Insn): number => (i.bk === K_NONE ? 1 : c.readB(i)) & 63;

/** Do the two highest bits of a value, whose high half this is, differ? */
const topsDiffer = (hi: number): number => (hi >>> 31) ^ ((hi >>> 30) & 1);
const bitOf = (lo: number, hi: number, n: number): number => (n < 32 ? lo >>> n : hi >>> (n - 32)) & 1;

/** Shifted left and right by 0 … 63; the high half in `high`. */
let high = 0;
function left(lo: number, hi: number, n: number): number {
  if (n >= 32) {
    high = lo << (n - 32);
    return 0;
  }
  high = n === 0 ? hi : (hi << n) | (lo >>> (32 - n));
  return lo << n;
}
function right(lo: number, hi: number, n: number): number {
  if (n >= 32) {
    high = 0;
    return (hi >>> (n - 32)) | 0;
  }
  high = (hi >>> n) | 0;
  return n === 0 ? lo : (lo >>> n) | (hi << (32 - n));
}

type Shift = (c: Core, lo: number, hi: number, count: number) => number;

/** Nothing changes when the masked count is 0. `f` leaves the high half of its result in `c.hi`. */
const shift =
  (f: Shift): Exec =>
  (c, i) => {
    const count = countOf(c, i);
    const lo = c.modifyA(i);
    c.writeA(i, count === 0 ? lo : f(c, lo, c.hi, count));
  };

/** All flags of a shift; AF, undefined, as with narrower operands. The result's high half is in `high`. */
const shiftFlags = (c: Core, lo: number, cf: number, of: number): number => {
  c.logic64(lo, high);
  c.fa = c.intelFlags || c.qemu ? 0 : AF;
  c.setCarryOverflow(cf, of);
  return lo;
};

export const shl: Exec = shift((c, lo, hi, n) => {
  const cf = bitOf(lo, hi, 64 - n);
  const result = left(lo, hi, n);
  return shiftFlags(c, result, cf, c.shifted(topsDiffer(hi), (high >>> 31) ^ cf));
});

export const shr: Exec = shift((c, lo, hi, n) => {
  const cf = bitOf(lo, hi, n - 1);
  const result = right(lo, hi, n);
  return shiftFlags(c, result, cf, c.shifted(hi >>> 31, topsDiffer(high)));
});

export const sar: Exec = shift((c, lo, hi, n) => {
  const cf = bitOf(lo, hi, n - 1);
  const result = n >= 32 ? hi >> (n - 32) : (lo >>> n) | (hi << (32 - n));
  high = n >= 32 ? hi >> 31 : hi >> n;
  return shiftFlags(c, result, cf, 0);
});

/** Rotates change CF and OF only. */
const rotated = (c: Core, lo: number, hi: number, n: number): number => {
  const a = left(lo, hi, n);
  const ah = high;
  const b = right(lo, hi, 64 - n);
  c.hi = ah | high;
  return a | b;
};

export const rol: Exec = shift((c, lo, hi, n) => {
  const result = rotated(c, lo, hi, n);
  c.setCarryOverflow(result & 1, c.shifted(topsDiffer(hi), (c.hi >>> 31) ^ (result & 1)));
  return result;
});

export const ror: Exec = shift((c, lo, hi, n) => {
  const result = rotated(c, lo, hi, 64 - n);
  c.setCarryOverflow(c.hi >>> 31, c.shifted((hi >>> 31) ^ (lo & 1), topsDiffer(c.hi)));
  return result;
});

export const rcl: Exec = shift((c, lo, hi, n) => {
  let [a, ah, cf] = [lo, hi, c.cf()];
  for (let k = 0; k < n; k++) {
    const out = ah >>> 31;
    ah = (ah << 1) | (a >>> 31);
    a = (a << 1) | cf;
    cf = out;
  }
  c.setCarryOverflow(cf, c.shifted(topsDiffer(hi), (ah >>> 31) ^ cf));
  c.hi = ah;
  return a;
});

export const rcr: Exec = shift((c, lo, hi, n) => {
  let [a, ah, cf] = [lo, hi, c.cf()];
  const first = cf ^ (hi >>> 31);
  for (let k = 0; k < n; k++) {
    const out = a & 1;
    a = (a >>> 1) | (ah << 31);
    ah = (ah >>> 1) | (cf << 31);
    cf = out;
  }
  c.setCarryOverflow(cf, c.shifted(first, topsDiffer(ah)));
  c.hi = ah;
  return a;
});

const doubleShift =
  (toLeft: boolean): Exec =>
  (c, i) => {
    const n = (i.form.operands[2] === 'CL' ? c.r8[4]! : i.imm) & 63;
    const b = c.readB(i);
    const bh = c.hi;
    const a = c.modifyA(i);
    const ah = c.hi;
    if (n === 0) {
      c.writeA(i, a);
      return;
    }
    const [one, oneHigh] = [toLeft ? left(a, ah, n) : right(a, ah, n), high];
    const two = toLeft ? right(b, bh, 64 - n) : left(b, bh, 64 - n);
    high |= oneHigh;
    const cf = bitOf(a, ah, toLeft ? 64 - n : n - 1);
    const first = toLeft ? topsDiffer(ah) : (b & 1) ^ (ah >>> 31);
    const of = c.shifted(first, toLeft ? (high >>> 31) ^ cf : topsDiffer(high));
    c.writeA(i, shiftFlags(c, one | two, cf, of));
  };

export const shld: Exec = doubleShift(true);
export const shrd: Exec = doubleShift(false);

// Bit test. With a register index and a memory operand, the index reaches beyond the operand.

const bitTest =
  (f: (value: number, bit: number) => number, writes: boolean): Exec =>
  (c, i) => {
    const index = c.readB(i);
    const indexHigh = c.hi;
    const memory = i.ak >= K_M8 && i.ak <= K_M64;
    let at = 0;
    if (memory) {
      at = c.ea(i);
      // With narrower addresses only the low bits of the distance count.
      const narrow = ((index >>> 6) | (indexHigh << 26)) << 3;
      const wide = Math.floor((indexHigh * 0x1_0000_0000 + (index >>> 0)) / 64) * 8;
      if (i.bk !== K_IMM) at = c.moved(i, at, i.asize === 8 ? wide : narrow);
      if (writes) c.probeWrite(i.seg, at, 8);
    }
    let lo = memory ? c.load64(i.seg, at) : c.readA(i);
    let hi = c.hi;
    const bit = index & 63;
    const cf = bitOf(lo, hi, bit);
    if (writes) {
      if (bit < 32) lo = f(lo, 1 << bit);
      else hi = f(hi, 1 << (bit - 32));
      c.hi = hi;
      if (memory) c.store64(i.seg, at, lo, hi);
      else c.writeA(i, lo);
    }
    c.setCarryOverflow(cf, c.of());
  };

export const bt: Exec = bitTest((value) => value, false);
export const bts: Exec = bitTest((value, bit) => value | bit, true);
export const btr: Exec = bitTest((value, bit) => value & ~bit, true);
export const btc: Exec = bitTest((value, bit) => value ^ bit, true);

const lowestOf = (value: number): number => 31 - Math.clz32(value & -value);
const lowest = (lo: number, hi: number): number => (lo !== 0 ? lowestOf(lo) : 32 + lowestOf(hi));
const highest = (lo: number, hi: number): number => (hi !== 0 ? 63 - Math.clz32(hi) : 31 - Math.clz32(lo));

const scan =
  (f: (lo: number, hi: number) => number): Exec =>
  (c, i) => {
    const lo = c.readB(i);
    const { hi } = c;
    if ((lo | hi) === 0) {
      c.logic(0, 0);
      return;
    }
    const result = f(lo, hi);
    c.hi = 0;
    c.writeA(i, result);
    c.logic(result, 0);
    c.fz = 1;
  };

export const bsf: Exec = scan(lowest);
export const bsr: Exec = scan(highest);

/** Flags of TZCNT and LZCNT; the undefined ones, OF kept and the others clear, as on AMD's processors. */
export const countFlags = (c: Core, result: number, none: boolean): void =>
  c.setArith((c.of() ? OF : 0) | (result === 0 ? ZF : 0) | Number(none));

/** TZCNT and LZCNT: 64 and CF where no bit is set. KVM's emulator does not look at the prefix. */
const countZeros =
  (f: (lo: number, hi: number) => number, legacy: Exec): Exec =>
  (c, i) => {
    if (!c.native) {
      legacy(c, i);
      return;
    }
    const lo = c.readB(i);
    const none = (lo | c.hi) === 0;
    const result = none ? 64 : f(lo, c.hi);
    c.hi = 0;
    c.writeA(i, result);
    countFlags(c, result, none);
  };

export const tzcnt: Exec = countZeros(lowest, bsf);
export const lzcnt: Exec = countZeros((lo, hi) => 63 - highest(lo, hi), bsr);

const ones = (value: number): number => {
  let n = value - ((value >>> 1) & 0x55555555);
  n = (n & 0x33333333) + ((n >>> 2) & 0x33333333);
  return Math.imul((n + (n >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
};

/** POPCNT, of any width: ZF, all other arithmetic flags clear. KVM's emulator does not have it. */
export const popcnt: Exec = (c, i) => {
  if (!c.native) throw c.emulationFailure();
  const value = c.readB(i);
  const result = i.width === 8 ? ones(value) + ones(c.hi) : ones((value << i.shift) >>> i.shift);
  c.hi = 0;
  c.writeA(i, result);
  c.setArith(result === 0 ? 0x40 : 0);
};
