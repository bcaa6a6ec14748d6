/** How the fields of TDISP lie in bytes, little-endian. */
import { rangeError, typeError } from '../../../kernel/errors.ts';
import type { InterfaceId, TdispMmioRange } from './messages.ts';

/** A field's form: its bytes, and its conversions at a place that is known to have them. */
export interface Form<T> {
  readonly size: number;
  get(view: DataView, at: number): T;
  set(view: DataView, at: number, value: T, where: string): void;
}

const unsigned = (
  bytes: 1 | 2 | 4,
  get: (view: DataView, at: number) => number,
  set: (view: DataView, at: number, value: number) => void,
): Form<number> => ({
  size: bytes,
  get,
  set(view, at, value, where) {
    if (typeof value !== 'number') throw typeError(`${where}: a number is needed, not ${typeof value}`);
    if (!Number.isInteger(value) || value < 0 || value >= 2 ** (8 * bytes))
      throw rangeError(`${where}: ${value} does not fit ${8 * bytes} bits`);
    set(view, at, value);
  },
});

const wide = (
  fits: (value: bigint) => bigint,
  get: (view: DataView, at: number) => bigint,
  set: (view: DataView, at: number, value: bigint) => void,
): Form<bigint> => ({
  size: 8,
  get,
  set(view, at, value, where) {
    if (typeof value !== 'bigint') throw typeError(`${where}: a bigint is needed, not ${typeof value}`);
    if (fits(value) !== value) throw rangeError(`${where}: ${value} does not fit 64 bits`);
    set(view, at, value);
  },
});

export const u8: Form<number> = unsigned(
  1,
  (view, at) => view.getUint8(at),
  (view, at, value) => view.setUint8(at, value),
);
export const u16: Form<number> = unsigned(
  2,
  (view, at) => view.getUint16(at, true),
  (view, at, value) => view.setUint16(at, value, true),
);
export const u32: Form<number> = unsigned(
  4,
  (view, at) => view.getUint32(at, true),
  (view, at, value) => view.setUint32(at, value, true),
);
export const u64: Form<bigint> = wide(
  (value) => BigInt.asUintN(64, value),
  (view, at) => view.getBigUint64(at, true),
  (view, at, value) => view.setBigUint64(at, value, true),
);
export const s64: Form<bigint> = wide(
  (value) => BigInt.asIntN(64, value),
  (view, at) => view.getBigInt64(at, true),
  (view, at, value) => view.setBigInt64(at, value, true),
);

const bytesAt = (view: DataView, at: number, length: number): Uint8Array =>
  new Uint8Array(view.buffer, view.byteOffset + at, length);

/** A copy of bytes. */
export const copyOf = (view: DataView, at: number, length: number): Uint8Array => bytesAt(view, at, length).slice();

/** Bytes into a message, which has room for them. */
export function putBytes(view: DataView, at: number, value: Uint8Array): void {
  bytesAt(view, at, value.length).set(value);
}

/** That a value is bytes. */
export function checkBytes(value: unknown, where: string): asserts value is Uint8Array {
  if (!(value instanceof Uint8Array)) throw typeError(`${where}: a Uint8Array is needed, not ${typeof value}`);
}

/** Exactly so many bytes. */
export const octets = (size: number): Form<Uint8Array> => ({
  size,
  get: (view, at) => copyOf(view, at, size),
  set(view, at, value, where) {
    checkBytes(value, where);
    if (value.length !== size) throw rangeError(`${where}: ${size} bytes are needed, not ${value.length}`);
    putBytes(view, at, value);
  },
});

/** An MMIO range: first page, page count, attributes under the range's id. */
export const mmioRange: Form<TdispMmioRange> = {
  size: 16,
  get: (view, at) => ({
    firstPage: u64.get(view, at),
    pages: u32.get(view, at + 8),
    attributes: u16.get(view, at + 12),
    rangeId: u16.get(view, at + 14),
  }),
  set(view, at, value, where) {
    u64.set(view, at, value.firstPage, `${where}.firstPage`);
    u32.set(view, at + 8, value.pages, `${where}.pages`);
    u16.set(view, at + 12, value.attributes, `${where}.attributes`);
    u16.set(view, at + 14, value.rangeId, `${where}.rangeId`);
  },
};

const SEGMENT_VALID = 0x1;

/** FUNCTION_ID {15:0 requester id, 23:16 segment, 24 segment valid} and eight reserved bytes. */
export const interfaceId: Form<InterfaceId> = {
  size: 12,
  get(view, at) {
    const requesterId = u16.get(view, at);
    return u8.get(view, at + 3) & SEGMENT_VALID ? { requesterId, segment: u8.get(view, at + 2) } : { requesterId };
  },
  set(view, at, value, where) {
    u16.set(view, at, value.requesterId, `${where}.requesterId`);
    if (value.segment === undefined) return;
    u8.set(view, at + 2, value.segment, `${where}.segment`);
    u8.set(view, at + 3, SEGMENT_VALID, where);
  },
};
