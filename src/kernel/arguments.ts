import { rangeError, typeError } from './errors.ts';

/** Argument checks shared by every kernel: TypeError for a wrong type, RangeError for a wrong value, both naming the parameter. */

const PAGE = 4096;
const MAX_LENGTH = 2 ** 47;
const U64 = 1n << 64n;

function show(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'string') return `'${value.length > 40 ? `${value.slice(0, 40)}…` : value}'`;
  if (typeof value === 'object' && value !== null) return `a ${value.constructor?.name ?? 'null-prototype object'}`;
  if (typeof value === 'function') return 'a function';
  return String(value);
}

/** An integer within [min, max]. */
export function integer(value: unknown, name: string, min: number, max: number): number {
  if (typeof value !== 'number') throw typeError(`${name} must be an integer, not ${show(value)}`);
  if (!Number.isInteger(value) || value < min || value > max) {
    throw rangeError(`${name} must be an integer from ${min} to ${max}, not ${show(value)}`);
  }
  return value;
}

/** A descriptor number. Any 32-bit integer has the right form; whether it is ours is another question (EBADF). */
export function descriptor(value: unknown, name = 'fd'): number {
  return integer(value, name, -(2 ** 31), 2 ** 31 - 1);
}

/** An int or unsigned int of C, given as a number. */
export function int32(value: unknown, name: string): number {
  return integer(value, name, -(2 ** 31), 2 ** 32 - 1) | 0;
}

/** One of a few names. */
export function oneOf<T extends string>(value: T, name: string, choices: readonly T[]): T {
  if (!choices.includes(value)) throw rangeError(`${name} must be one of ${choices.join(', ')}, not ${show(value)}`);
  return value;
}

/** A number or bigint that fits 64 bits, signed or unsigned, as an unsigned bigint. */
export function word(value: unknown, name: string): bigint {
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) throw rangeError(`${name} must be a safe integer or a bigint, not ${show(value)}`);
    return BigInt.asUintN(64, BigInt(value));
  }
  if (typeof value !== 'bigint') throw typeError(`${name} must be an integer (number or bigint), not ${show(value)}`);
  if (value >= U64 || value < -(U64 >> 1n)) throw rangeError(`${name} must fit 64 bits, not ${show(value)}`);
  return BigInt.asUintN(64, value);
}

/** An address, offset or length of 64 bits, number or bigint, never negative. */
export function unsigned(value: unknown, name: string): bigint {
  const bits = word(value, name);
  if ((value as number | bigint) < 0) throw rangeError(`${name} must not be negative, but is ${show(value)}`);
  return bits;
}

/** A parameter of ours that goes into a 64-bit field: a number or a bigint. What is neither is left to the codec, whose error names the struct. */
export function wide(value: number | bigint, name: string): bigint {
  return typeof value === 'number' ? unsigned(value, name) : value;
}

/** A file offset or length: loff_t, signed 64 bits. Negative values pass: the kernel has a rule for them. */
export function offset(value: unknown, name: string): bigint {
  return BigInt.asIntN(64, word(value, name));
}

/** A length of memory in bytes, above zero. */
export function length(value: unknown, name: string): number {
  if (typeof value !== 'number' && typeof value !== 'bigint') throw typeError(`${name} must be an integer, not ${show(value)}`);
  const n = Number(value);
  if (!Number.isInteger(n) || n <= 0 || n > MAX_LENGTH)
    throw rangeError(`${name} must be from 1 to 2^47 bytes, not ${show(value)}`);
  return n;
}

export function pageMultiple(value: number, name: string): number {
  if (value % PAGE !== 0) throw rangeError(`${name} must be a multiple of the page size ${PAGE}, not ${value}`);
  return value;
}

/** A string without NUL bytes. */
export function text(value: unknown, name: string): string {
  if (typeof value !== 'string') throw typeError(`${name} must be a string, not ${show(value)}`);
  if (value.includes('\0')) throw rangeError(`${name} must not contain NUL bytes: ${show(value)}`);
  return value;
}

/** Any ArrayBuffer view as bytes. One on a detached or shrunk buffer is a TypeError: it has no bytes, not zero of them. */
export function bytes(value: unknown, name: string): Uint8Array {
  if (value instanceof Uint8Array && value.byteLength > 0) return value;
  if (!ArrayBuffer.isView(value)) throw typeError(`${name} must be a Uint8Array or another view of bytes, not ${show(value)}`);
  if (!inBounds(value)) throw typeError(`${name} is a view on a detached or shrunk ArrayBuffer`);
  return value instanceof Uint8Array ? value : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}

/** Such a typed array has length 0, but its methods throw; such a DataView already throws for its length. */
function inBounds(view: ArrayBufferView): boolean {
  try {
    if (view instanceof DataView) return view.byteLength >= 0;
    Uint8Array.prototype.at.call(view as Uint8Array, 0);
    return true;
  } catch {
    return false;
  }
}

export function describe(value: unknown): string {
  return show(value);
}
