/**
 * Plain objects into bytes. Every field must be there (padding aside) and fit; nothing is silently zero or truncated.
 */
import type { Field, Node, UnionNode } from './layout.ts';
import { isUnion } from './layout.ts';
import { checkBits, fits, misfit } from './scalar.ts';
import type { Struct } from './struct.ts';

type Values = Readonly<Record<string, unknown>>;

/** The way to a value, written out only when something is wrong with it. */
interface Where {
  readonly up: Where | null;
  readonly step: string;
}
const path = (where: Where | null): string => (where ? path(where.up) + where.step : '');

/** Where bytes go. `mask` notes which bits were given, so that the members of a union can be compared. */
interface Sink {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly mask: Uint8Array | null;
}

const sinkOf = (length: number, masked: boolean): Sink => {
  const bytes = new Uint8Array(length);
  return { bytes, view: new DataView(bytes.buffer), mask: masked ? new Uint8Array(length) : null };
};

/** The bytes of a struct value, its flexible array included. */
export function encodeStruct(struct: Struct<unknown>, value: unknown): Uint8Array {
  const sink = sinkOf(encodedLength(struct, value), false);
  putStruct(struct, value, sink, 0, { up: null, step: struct.name });
  return sink.bytes;
}

/** The bytes of one member, for a live view; a flexible array must have `length` elements. */
export function encodeField(field: Field, value: unknown, where: string, length: number): Uint8Array {
  const dims = field.flex ? [length] : field.dims;
  const sink = sinkOf(
    dims.reduce((product, dim) => product * dim, elementSize(field)),
    false,
  );
  const place = { up: null, step: where };
  if (dims.length > 0) putArray(field, dims, value, sink, 0, place);
  else putElement(field, value, sink, 0, place);
  return sink.bytes;
}

/** Bytes the value needs: the fixed size, or up to the last element of its flexible array. */
function encodedLength(struct: Struct<unknown>, value: unknown): number {
  let length = struct.size;
  if (!struct.flexible || typeof value !== 'object' || value === null) return length;
  for (const field of struct.fields) {
    const given = (value as Values)[field.name];
    if (given === undefined) continue;
    if (field.flex) length = Math.max(length, field.offset + elementSize(field) * ((given as ArrayLike<unknown>)?.length ?? 0));
    else if (field.struct?.flexible) length = Math.max(length, field.offset + encodedLength(field.struct, given));
  }
  return length;
}

export const elementSize = (field: Field): number => field.struct?.size ?? field.scalar!.size;

function putStruct(struct: Struct<unknown>, value: unknown, sink: Sink, base: number, where: Where): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) {
    throw new TypeError(
      `${path(where)}: an object with the fields of ${struct.name} is needed, not ${Array.isArray(value) ? 'an array' : typeof value}`,
    );
  }
  for (const key of Object.keys(value)) {
    if (!struct.has(key)) throw new TypeError(`${path(where)} has no field ${key}${suggestion(key, struct)}`);
  }
  putNodes(struct.nodes, value as Values, sink, base, where);
}

function putNodes(nodes: readonly Node[], value: Values, sink: Sink, base: number, where: Where): void {
  for (const node of nodes) {
    if (isUnion(node)) putUnion(node, value, sink, base, where);
    else putField(node, value[node.name], sink, base + node.offset, where);
  }
}

/** One member is enough; several (a decoded object has them all) must say the same bytes. */
function putUnion(node: UnionNode, value: Values, sink: Sink, base: number, where: Where): void {
  const merged = new Uint8Array(sink.bytes.length);
  let first: string | undefined;
  node.alternatives.forEach((nodes, i) => {
    const given = node.names[i]!.find((name) => value[name] !== undefined);
    if (given === undefined) return;
    const part = sinkOf(sink.bytes.length, true);
    putNodes(nodes, value, part, base, where);
    for (let at = 0; at < merged.length; at++) {
      const bits = part.mask![at]!;
      if (bits === 0) continue;
      if ((sink.bytes[at]! ^ part.bytes[at]!) & bits & merged[at]!) {
        throw new TypeError(`${path(where)}: the union members ${first} and ${given} disagree at byte ${at - base}: give one`);
      }
      merged[at]! |= bits;
      sink.bytes[at] = (sink.bytes[at]! & ~bits) | (part.bytes[at]! & bits);
    }
    first ??= given;
  });
  if (first === undefined)
    throw new TypeError(
      `${path(where)}: one member of the union is needed: ${node.names.map((names) => names.join('+')).join(', ')}`,
    );
  if (sink.mask) for (let at = 0; at < merged.length; at++) sink.mask[at]! |= merged[at]!;
}

function putField(field: Field, value: unknown, sink: Sink, at: number, up: Where): void {
  if (value === undefined) {
    if (field.pad) return;
    throw new TypeError(`${path(up)}.${field.name} is missing: every field must be given`);
  }
  const { scalar } = field;
  if (scalar && field.dims.length === 0 && !field.bits && fits(scalar, value)) {
    scalar.set(sink.view, at, value as never);
    sink.mask?.fill(0xff, at, at + scalar.size);
    return;
  }
  const where = { up, step: `.${field.name}` };
  if (field.bits) putBits(field, value, sink, at, where);
  else if (field.flex) putArray(field, [(value as ArrayLike<unknown>)?.length ?? 0], value, sink, at, where);
  else if (field.dims.length > 0) putArray(field, field.dims, value, sink, at, where);
  else putElement(field, value, sink, at, where);
}

function putElement(field: Field, value: unknown, sink: Sink, at: number, where: Where): void {
  if (field.struct) {
    putStruct(field.struct, value, sink, at, where);
    return;
  }
  const scalar = field.scalar!;
  if (!fits(scalar, value)) throw misfit(scalar, value, path(where), field.type);
  scalar.set(sink.view, at, value as never);
  sink.mask?.fill(0xff, at, at + scalar.size);
}

function putArray(field: Field, dims: readonly number[], value: unknown, sink: Sink, at: number, where: Where): void {
  const [length, ...inner] = dims as [number, ...number[]];
  const octets = inner.length === 0 && field.scalar?.kind === 'u8';
  if (octets ? !(value instanceof Uint8Array) : !Array.isArray(value)) {
    throw new TypeError(
      `${path(where)} is ${field.type}[${field.flex ? '' : length}]: ${octets ? 'a Uint8Array' : 'an array'} is needed`,
    );
  }
  const list = value as ArrayLike<unknown>;
  if (list.length !== length)
    throw new RangeError(`${path(where)} is ${field.type}[${length}]: ${list.length} elements were given`);
  if (octets) {
    sink.bytes.set(value as Uint8Array, at);
    sink.mask?.fill(0xff, at, at + length);
    return;
  }
  const stride = inner.reduce((product, dim) => product * dim, elementSize(field));
  for (let i = 0; i < length; i++) {
    const place = { up: where, step: `[${i}]` };
    if (list[i] === undefined) throw new TypeError(`${path(place)} is missing`);
    if (inner.length > 0) putArray(field, inner, list[i], sink, at + i * stride, place);
    else putElement(field, list[i], sink, at + i * stride, place);
  }
}

/** Bit-fields of x86-64 and arm64 fill their storage unit from the low bits up. */
function putBits(field: Field, value: unknown, sink: Sink, at: number, where: Where): void {
  const { from, count } = field.bits!;
  checkBits(count, value, path(where));
  const scalar = field.scalar!;
  const mask = ((2 ** count - 1) << from) >>> 0;
  const unit = Number(scalar.get(sink.view, at));
  scalar.set(sink.view, at, (((unit & ~mask) | ((value as number) << from)) >>> 0) as never);
  for (let i = 0; sink.mask && i < scalar.size; i++) sink.mask[at + i]! |= (mask >>> (8 * i)) & 0xff;
}

function suggestion(key: string, struct: Struct<unknown>): string {
  const near = struct.fields
    .map((field) => ({ name: field.name, distance: editDistance(key.toLowerCase(), field.name.toLowerCase()) }))
    .filter(({ name, distance }) => distance <= Math.max(2, name.length / 3))
    .sort((a, b) => a.distance - b.distance)
    .slice(0, 3)
    .map(({ name }) => name);
  return near.length > 0 ? `: did you mean ${near.join(' or ')}?` : '';
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length]!;
}
