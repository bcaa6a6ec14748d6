import type { Width } from './memory.ts';

/** A load of `width` bytes, little-endian: a bigint of eight, a number of fewer. */
export function loadWidth(view: DataView, at: number, width: 1 | 2 | 4): number;
export function loadWidth(view: DataView, at: number, width: Width): number | bigint;
export function loadWidth(view: DataView, at: number, width: Width): number | bigint {
  if (width === 8) return view.getBigUint64(at, true);
  return width === 4 ? view.getUint32(at, true) : width === 2 ? view.getUint16(at, true) : view.getUint8(at);
}

/** A store of the low `width` bytes of `value`, little-endian. */
export function storeWidth(view: DataView, at: number, width: Width, value: number | bigint): void {
  if (width === 8) view.setBigUint64(at, BigInt(value), true);
  else if (width === 4) view.setUint32(at, Number(value), true);
  else if (width === 2) view.setUint16(at, Number(value), true);
  else view.setUint8(at, Number(value));
}
