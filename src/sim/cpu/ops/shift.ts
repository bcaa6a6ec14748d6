/** Shifts, rotates and bit operations. */
import type { Core } from '../core.ts';
import { type Exec, type Insn, K_IMM, K_M8, K_M64, K_NONE } from '../insn.ts';
import { AF } from '../state.ts';
import { countFlags } from './shift64.ts';

/** The count of a shift: CL, an immediate, or 1, modulo 32. */
const countOf = (c: Core, i: Insn): number => (i.bk === K_NONE ? 1 : c.readB(i)) & 31;

type Rotate = (c: Core, value: number, count: number, bits: number) => number;

/** Rotates change CF and OF only, and nothing when the masked count is 0. The value comes zero-extended. */
const rotate =
  (f: Rotate): Exec =>
  (c, i) => {
    const count = countOf(c, i);
    const value = (c.modifyA(i) << i.shift) >>> i.shift;
    c.writeA(i, count === 0 ? value : f(c, value, count, i.width * 8));
  };

const msb = (value: number, bits: number): number => (value >>> (bits - 1)) & 1;
const topsDiffer = (value: number, bits: number): number => msb(value, bits) ^ msb(value << 1, bits);

export const rol: Exec = rotate((c, value, count, bits) => {
  const n = count & (bits - 1);
  const result = n === 0 ? value : (value << n) | (value >>> (bits - n));
  c.setCarryOverflow(result & 1, c.shifted(topsDiffer(value, bits), msb(result, bits) ^ (result & 1)));
  return result;
});

export const ror: Exec = rotate((c, value, count, bits) => {
  const n = count & (bits - 1);
  const result = n === 0 ? value : (value >>> n) | (value << (bits - n));
  c.setCarryOverflow(msb(result, bits), c.shifted(msb(value, bits) ^ (value & 1), topsDiffer(result, bits)));
  return result;
});

export const rcl: Exec = rotate((c, value, count, bits) => {
  let cf = c.cf();
  let result = value;
  const steps = count % (bits + 1);
  const first = steps === 0 ? c.of() : topsDiffer(value, bits);
  for (let k = 0; k < steps; k++) {
    const out = msb(result, bits);
    result = (result << 1) | cf;
    cf = out;
  }
  c.setCarryOverflow(cf, c.shifted(first, msb(result, bits) ^ cf));
  return result;
});

export const rcr: Exec = rotate((c, value, count, bits) => {
  let cf = c.cf();
  let result = value;
  const steps = count % (bits + 1);
  const first = steps === 0 ? c.of() : cf ^ msb(value, bits);
  for (let k = 0; k < steps; k++) {
    const out = result & 1;
    result = (result >>> 1) | (cf ? 1 << (bits - 1) : 0);
    cf = out;
  }
  c.setCarryOverflow(cf, c.shifted(first, topsDiffer(result, bits)));
  return result;
});

/** Shifts set all flags; AF, undefined, comes out 1 on AMD's processors, 0 on Intel's and QEMU's. Nothing changes when the masked count is 0. */
const shift =
  (f: Rotate): Exec =>
  (c, i) => {
    const count = countOf(c, i);
    const value = (c.modifyA(i) << i.shift) >>> i.shift;
    if (count === 0) {
      c.writeA(i, value);
      return;
    }
    c.writeA(i, f(c, value, count, i.width * 8));
  };

const shiftFlags = (c: Core, result: number, bits: number, cf: number, of: number): number => {
  c.logic(result, 32 - bits);
  c.fa = c.intelFlags || c.qemu ? 0 : AF;
  c.setCarryOverflow(cf, of);
  return result;
};

export const shl: Exec = shift((c, value, count, bits) => {
  const cf = count > bits ? 0 : (value >>> (bits - count)) & 1;
  const result = value << count;
  return shiftFlags(c, result, bits, cf, c.shifted(topsDiffer(value, bits), msb(result, bits) ^ cf));
});

export const shr: Exec = shift((c, value, count, bits) => {
  const cf = count > bits ? 0 : (value >>> (count - 1)) & 1;
  const result = value >>> count;
  return shiftFlags(c, result, bits, cf, c.shifted(msb(value, bits), topsDiffer(result, bits)));
});

export const sar: Exec = shift((c, value, count, bits) => {
  const wide = (value << (32 - bits)) >> (32 - bits);
  return shiftFlags(c, wide >> count, bits, (wide >> (count - 1)) & 1, 0);
});

/** Count of SHLD and SHRD: third operand, CL or imm8. */
const doubleCount = (c: Core, i: Insn): number => (i.form.operands[2] === 'CL' ? c.r8[4]! : i.imm) & 31;

/** Double-precision shifts: of both operands as one, `a` is what is left. Nothing changes when the masked count is 0. */
const doubleShift =
  (f: (c: Core, a: number, b: number, count: number, bits: number) => number): Exec =>
  (c, i) => {
    const count = doubleCount(c, i);
    const b = (c.readB(i) << i.shift) >>> i.shift;
    const a = (c.modifyA(i) << i.shift) >>> i.shift;
    c.writeA(i, count === 0 ? a : f(c, a, b, count, i.width * 8));
  };

export const shld: Exec = doubleShift((c, a, b, count, bits) => {
  // A 16-bit operand with a count above 16 (undefined) shifts a:b:a, as silicon does.
  const result =
    count < bits
      ? (a << count) | (b >>> (bits - count))
      : count === bits
        ? b
        : (b << (count - bits)) | (a >>> (2 * bits - count));
  const cf = count <= bits ? (a >>> (bits - count)) & 1 : (b >>> (2 * bits - count)) & 1;
  return shiftFlags(c, result, bits, cf, c.shifted(topsDiffer(a, bits), msb(result, bits) ^ cf));
});

export const shrd: Exec = doubleShift((c, a, b, count, bits) => {
  const result =
    count < bits
      ? (a >>> count) | (b << (bits - count))
      : count === bits
        ? b
        : (b >>> (count - bits)) | (a << (2 * bits - count));
  const cf = count <= bits ? (a >>> (count - 1)) & 1 : (b >>> (count - bits - 1)) & 1;
  return shiftFlags(c, result, bits, cf, c.shifted((b & 1) ^ msb(a, bits), topsDiffer(result, bits)));
});

// Bit test. With a register index and a memory operand, the index reaches beyond the operand.

const bitTest =
  (f: (value: number, bit: number) => number, writes: boolean): Exec =>
  (c, i) => {
    const index = c.readB(i);
    const bits = i.width * 8;
    const memory = i.ak >= K_M8 && i.ak <= K_M64;
    let at = 0;
    if (memory) {
      at = c.ea(i);
      if (i.bk !== K_IMM) {
        const step = (((index << i.shift) >> i.shift) >> (i.width === 2 ? 4 : 5)) * i.width;
        at = c.moved(i, at, step);
      }
      if (writes) c.probeWrite(i.seg, at, i.width);
    }
    const value = memory ? (i.width === 2 ? c.load16(i.seg, at) : c.load32(i.seg, at)) : c.readA(i);
    const bit = index & (bits - 1);
    if (writes) {
      const result = f(value, 1 << bit);
      if (!memory) c.writeA(i, result);
      else if (i.width === 2) c.store16(i.seg, at, result);
      else c.store32(i.seg, at, result);
    }
    c.setCarryOverflow((value >>> bit) & 1, c.of());
  };

export const bt: Exec = bitTest((value) => value, false);
export const bts: Exec = bitTest((value, bit) => value | bit, true);
export const btr: Exec = bitTest((value, bit) => value & ~bit, true);
export const btc: Exec = bitTest((value, bit) => value ^ bit, true);

/** A zero source leaves the destination as it is and sets ZF; the other flags, undefined, follow the result. */
const scan =
  (f: (value: number) => number): Exec =>
  (c, i) => {
    const value = (c.readB(i) << i.shift) >>> i.shift;
    if (value === 0) {
      c.logic(0, 0);
      return;
    }
    const result = f(value);
    c.writeA(i, result);
    c.logic(result, 0);
    c.fz = 1;
  };

export const bsf: Exec = scan((value) => 31 - Math.clz32(value & -value));
export const bsr: Exec = scan((value) => 31 - Math.clz32(value));

/** TZCNT and LZCNT: the operand's width and CF where no bit is set. KVM's emulator does not look at the prefix. */
const countZeros =
  (f: (value: number, bits: number) => number, legacy: Exec): Exec =>
  (c, i) => {
    if (!c.native) {
      legacy(c, i);
      return;
    }
    const bits = i.width * 8;
    const value = (c.readB(i) << i.shift) >>> i.shift;
    const result = value === 0 ? bits : f(value, bits);
    c.writeA(i, result);
    countFlags(c, result, value === 0);
  };

export const tzcnt: Exec = countZeros((value) => 31 - Math.clz32(value & -value), bsf);
export const lzcnt: Exec = countZeros((value, bits) => Math.clz32(value) - (32 - bits), bsr);
