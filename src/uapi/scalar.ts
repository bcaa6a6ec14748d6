/**
 * The C scalar types of the uapi headers on LP64 machines (x86-64 and arm64 alike, both little-endian) and how their
 * values look in JavaScript: 64-bit ones are bigint, narrower ones number.
 */

/** How a scalar is stored. `ptr` is a user address (C pointer type), 64 bits, unsigned. */
export type ScalarKind = 'u8' | 'u16' | 'u32' | 'u64' | 's8' | 's16' | 's32' | 's64' | 'u128';

export interface Scalar {
  readonly kind: ScalarKind;
  readonly size: number;
  /** bigint (64 bits and more) or number. */
  readonly wide: boolean;
  readonly min: number | bigint;
  readonly max: number | bigint;
  readonly get: (view: DataView, at: number) => number | bigint;
  readonly set: (view: DataView, at: number, value: never) => void;
}

function scalar(
  kind: ScalarKind,
  get: (view: DataView, at: number) => number | bigint,
  set: (view: DataView, at: number, value: never) => void,
): Scalar {
  const bits = Number(kind.slice(1));
  const signed = kind.startsWith('s');
  const top = 1n << BigInt(signed ? bits - 1 : bits);
  const wide = bits >= 64;
  const narrow = (value: bigint) => (wide ? value : Number(value));
  return { kind, size: bits / 8, wide, min: narrow(signed ? -top : 0n), max: narrow(top - 1n), get, set };
}

const u8 = scalar(
  'u8',
  (v, at) => v.getUint8(at),
  (v, at, x) => v.setUint8(at, x),
);
const s8 = scalar(
  's8',
  (v, at) => v.getInt8(at),
  (v, at, x) => v.setInt8(at, x),
);
const u16 = scalar(
  'u16',
  (v, at) => v.getUint16(at, true),
  (v, at, x) => v.setUint16(at, x, true),
);
const s16 = scalar(
  's16',
  (v, at) => v.getInt16(at, true),
  (v, at, x) => v.setInt16(at, x, true),
);
const u32 = scalar(
  'u32',
  (v, at) => v.getUint32(at, true),
  (v, at, x) => v.setUint32(at, x, true),
);
const s32 = scalar(
  's32',
  (v, at) => v.getInt32(at, true),
  (v, at, x) => v.setInt32(at, x, true),
);
const u64 = scalar(
  'u64',
  (v, at) => v.getBigUint64(at, true),
  (v, at, x) => v.setBigUint64(at, x, true),
);
const s64 = scalar(
  's64',
  (v, at) => v.getBigInt64(at, true),
  (v, at, x) => v.setBigInt64(at, x, true),
);
/** arm64's SIMD registers. */
const u128 = scalar(
  'u128',
  (v, at) => v.getBigUint64(at, true) | (v.getBigUint64(at + 8, true) << 64n),
  (v, at, x: bigint) => {
    v.setBigUint64(at, BigInt.asUintN(64, x), true);
    v.setBigUint64(at + 8, x >> 64n, true);
  },
);

const BY_NAME: ReadonlyMap<string, Scalar> = new Map([
  ['__u8', u8],
  ['__s8', s8],
  ['char', u8],
  ['unsigned char', u8],
  ['signed char', s8],
  ['__u16', u16],
  ['__s16', s16],
  ['short', s16],
  ['unsigned short', u16],
  ['__u32', u32],
  ['__s32', s32],
  ['int', s32],
  ['unsigned int', u32],
  ['__u64', u64],
  ['__aligned_u64', u64],
  ['__s64', s64],
  ['__uint128_t', u128],
  ['long', s64],
  ['unsigned long', u64],
  ['long long', s64],
  ['unsigned long long', u64],
]);

/** The scalar behind a C type name; pointers are 64 bits, enums without negative enumerators are unsigned int. */
export function scalarOf(type: string): Scalar | undefined {
  if (type.endsWith('*')) return u64;
  if (type.startsWith('enum ')) return u32;
  return BY_NAME.get(type);
}

const describe = (value: unknown): string =>
  typeof value === 'bigint' ? `${value}n` : value === null ? 'null' : typeof value === 'object' ? 'an object' : String(value);

/** Whether a value is of the scalar's type and within its range. */
export function fits(s: Scalar, value: unknown): boolean {
  if (s.wide ? typeof value !== 'bigint' : !Number.isInteger(value)) return false;
  return (value as number) >= s.min && (value as number) <= s.max;
}

/** Why it does not: TypeError for a wrong type, RangeError for a value out of range. */
export function misfit(s: Scalar, value: unknown, where: string, type: string): Error {
  const wanted = s.wide ? 'bigint' : 'number';
  if (typeof value !== wanted || Number.isNaN(value)) {
    return new TypeError(`${where} is ${type}: a ${wanted} is needed, not ${typeof value} ${describe(value)}`);
  }
  if (!s.wide && !Number.isInteger(value)) return new RangeError(`${where} is ${type}: ${value} is not an integer`);
  return new RangeError(`${where} is ${type}: ${describe(value)} is outside ${s.min}..${s.max}`);
}

/** The value range of a bit-field of `bits` bits (the headers have unsigned ones only). */
export function checkBits(bits: number, value: unknown, where: string): void {
  const max = 2 ** bits - 1;
  if (typeof value !== 'number' || Number.isNaN(value))
    throw new TypeError(`${where} is a ${bits}-bit field: a number is needed`);
  if (!Number.isInteger(value) || value < 0 || value > max)
    throw new RangeError(`${where}: ${value} is outside 0..${max} (${bits} bits)`);
}
