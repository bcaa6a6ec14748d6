/**
 * Kernel structs as values: `decode` bytes into a plain object, `encode` a plain object into bytes, `view` bytes in place.
 *
 * 64-bit fields and pointers are bigint, narrower ones number, `__u8`/`char` arrays Uint8Array, other arrays arrays.
 * `encode` wants the full struct: a missing field is a TypeError (padding and reserved fields may be left out and are
 * then zero), a value that does not fit a RangeError. Of a union one member is enough; several must say the same bytes,
 * so what was decoded can be encoded again. Layouts are the C compiler's, for LP64 little-endian machines.
 */
import { elementSize, encodeStruct } from './encode.ts';
import type { Field, Node, Parsed } from './layout.ts';
import { parseLayout } from './layout.ts';
import { makeView } from './view.ts';

export type { Field, FlexCount, Node, UnionNode } from './layout.ts';

/** Key of a type-only property that lists the members of a struct's unions. No object has it. */
export declare const unionMembers: unique symbol;

type PadName =
  | `${'' | '_' | '__'}${'pad' | 'padding' | 'reserved' | 'reserve' | 'resv' | 'rsvd' | 'unused'}${'' | number | `_${number}`}`
  | 'u8_pad';
type UnionName<T> = T extends { readonly [unionMembers]?: infer U } ? U : never;
type Flat<T> = { [K in keyof T]: T[K] };

/** What `encode` takes for T: padding may be left out, and all but one member of each union. */
export type Input<T> = T extends Uint8Array | number | bigint | string
  ? T
  : T extends readonly (infer E)[]
    ? readonly Input<E>[]
    : Flat<
        { readonly [K in Exclude<keyof T, PadName | UnionName<T> | typeof unionMembers>]: Input<T[K]> } & {
          readonly [K in Extract<keyof T, PadName | UnionName<T>>]?: Input<T[K]>;
        }
      >;

/** Bytes a struct can be read from: any view, also on shared memory. */
export type Bytes = ArrayBufferView;

/** A struct or union of the kernel: its layout and its conversions. */
export class Struct<T> {
  /** The C tag: `kvm_regs`; an untagged member is named after its path. */
  readonly name: string;
  readonly kind: 'struct' | 'union';
  /** sizeof. */
  readonly size: number;
  readonly align: number;
  readonly #layout: string;
  readonly #tagged: readonly Struct<unknown>[];
  #parsed: Parsed | undefined;
  #byName: ReadonlyMap<string, Field> | undefined;
  #makeView: ((view: DataView, at: number) => unknown) | undefined;

  constructor(
    name: string,
    kind: 'struct' | 'union',
    size: number,
    align: number,
    layout: string,
    tagged: readonly Struct<unknown>[],
  ) {
    this.name = name;
    this.kind = kind;
    this.size = size;
    this.align = align;
    this.#layout = layout;
    this.#tagged = tagged;
  }

  #parse(): Parsed {
    if (this.#parsed) return this.#parsed;
    const tagged = (tag: string): Struct<unknown> => {
      const found = this.#tagged.find((struct) => struct.name === tag);
      if (!found) throw new Error(`${this.name}: layout names ${tag}, which was not given`);
      return found;
    };
    return (this.#parsed = parseLayout(
      this.#layout,
      this.kind,
      tagged,
      (kind, name, size, align, body) => new Struct<unknown>(`${this.name}.${name}`, kind, size, align, body, this.#tagged),
    ));
  }

  /** All named members in the order of the header; those of anonymous structs and unions among them. */
  get fields(): readonly Field[] {
    return this.#parse().fields;
  }

  /** The tree `encode` walks. */
  get nodes(): readonly Node[] {
    return this.#parse().nodes;
  }

  get #names(): ReadonlyMap<string, Field> {
    return (this.#byName ??= new Map(this.fields.map((field) => [field.name, field])));
  }

  has(name: string): boolean {
    return this.#names.has(name);
  }

  /** Whether it ends in a flexible array. */
  get flexible(): boolean {
    return this.fields.some((field) => field.flex !== undefined || field.struct?.flexible === true);
  }

  /**
   * A fresh plain object of the bytes at `offset`. A flexible array has as many elements as its count field says, but
   * never more than the bytes hold. Throws a RangeError when the bytes are shorter than the struct.
   */
  decode(bytes: Bytes, offset = 0): T {
    return this.read(viewOf(bytes, offset, this), 0, bytes.byteLength - offset) as T;
  }

  /** decode on a DataView, for structs inside structs: `end` is where the readable bytes end. */
  read(view: DataView, at: number, end: number): Record<string, unknown> {
    const value: Record<string, unknown> = {};
    for (const field of this.fields) {
      const place = at + field.offset;
      value[field.name] = field.flex
        ? readArray(field, [flexLength(field, value, place, end)], view, place, end)
        : readField(field, view, place, end);
    }
    return value;
  }

  /**
   * The bytes of a full value: fresh, or written into `into` at `offset` (which is then returned; untouched on error).
   * Throws TypeError for missing, unknown or wrongly typed fields, RangeError for values and lengths out of range.
   */
  encode(value: Input<T>, into?: Uint8Array, offset = 0): Uint8Array {
    const bytes = encodeStruct(this as Struct<unknown>, value);
    if (into === undefined) return bytes;
    if (offset < 0 || offset + bytes.length > into.length) {
      throw new RangeError(`${this.name} needs ${bytes.length} bytes at ${offset}, the buffer has ${into.length}`);
    }
    into.set(bytes, offset);
    return into;
  }

  /** Zeroed bytes for the struct and `elements` of its flexible array. */
  alloc(elements = 0): Uint8Array {
    if (elements === 0) return new Uint8Array(this.size);
    const flex = this.fields.find((field) => field.flex);
    if (!flex) throw new RangeError(`${this.name} has no flexible array`);
    return new Uint8Array(Math.max(this.size, flex.offset + elements * elementSize(flex)));
  }

  /** offsetof: of a path such as `io.port` or `entries[2].data`. Throws a RangeError for a path that is not there. */
  offsetOf(path: string): number {
    return this.#resolve(path).offset;
  }

  /** sizeof of the member at a path; of an array's element when the path ends in an index. */
  sizeOf(path: string): number {
    return this.#resolve(path).size;
  }

  #resolve(path: string): { offset: number; size: number } {
    let struct: Struct<unknown> | undefined = this as Struct<unknown>;
    let offset = 0;
    let size = this.size;
    for (const step of path.split('.')) {
      const [, name = '', indices = ''] = /^(\w+)((?:\[\d+\])*)$/.exec(step) ?? [];
      const field: Field | undefined = struct?.field(name);
      if (!field) throw new RangeError(`${this.name} has no member ${path}`);
      offset += field.offset;
      size = field.size;
      let dims = field.dims;
      for (const [, index] of indices.matchAll(/\[(\d+)\]/g)) {
        const [length, ...rest]: readonly number[] = dims;
        if (length === undefined || (!field.flex && Number(index) >= length))
          throw new RangeError(`${this.name}.${path}: no such element`);
        size = rest.reduce((product, dim) => product * dim, elementSize(field));
        offset += Number(index) * size;
        dims = rest;
      }
      struct = field.struct;
    }
    return { offset, size };
  }

  /** The member of that name. */
  field(name: string): Field | undefined {
    return this.#names.get(name);
  }

  /**
   * A live object of T's shape over the bytes: reading a property reads the bytes, writing one writes them (checked as
   * `encode` checks). Nested structs and arrays are live too; byte arrays are Uint8Arrays on the same memory.
   */
  view(bytes: Bytes, offset = 0): T {
    return this.viewAt(viewOf(bytes, offset, this), 0) as T;
  }

  /** view on a DataView. */
  viewAt(view: DataView, at: number): unknown {
    this.#makeView ??= makeView(this as Struct<unknown>);
    return this.#makeView(view, at);
  }
}

/** Makes a struct of its generated layout; parsed on first use. */
export function struct<T>(
  name: string,
  kind: 'struct' | 'union',
  size: number,
  align: number,
  layout: string,
  tagged: readonly Struct<unknown>[] = [],
): Struct<T> {
  return new Struct<T>(name, kind, size, align, layout, tagged);
}

function viewOf(bytes: Bytes, offset: number, struct: { name: string; size: number }): DataView {
  if (!ArrayBuffer.isView(bytes)) throw new TypeError(`${struct.name}: bytes must be an ArrayBufferView`);
  if (!Number.isInteger(offset) || offset < 0 || offset + struct.size > bytes.byteLength) {
    throw new RangeError(`${struct.name} is ${struct.size} bytes, ${bytes.byteLength} bytes were given with offset ${offset}`);
  }
  return new DataView(bytes.buffer, bytes.byteOffset + offset, bytes.byteLength - offset);
}

function flexLength(field: Field, value: Record<string, unknown>, place: number, end: number): number {
  const size = elementSize(field);
  const room = Math.max(0, Math.floor((end - place) / size));
  const { field: name, minus, bytes } = field.flex!;
  if (name === null) return room;
  const said = Number(value[name] as number | bigint);
  return Math.min(room, Math.max(0, bytes ? Math.floor((said - minus) / size) : said));
}

function readField(field: Field, view: DataView, at: number, end: number): unknown {
  if (field.bits) return (Number(field.scalar!.get(view, at)) >>> field.bits.from) & (2 ** field.bits.count - 1);
  if (field.dims.length > 0) return readArray(field, field.dims, view, at, end);
  return field.struct ? field.struct.read(view, at, end) : field.scalar!.get(view, at);
}

function readArray(field: Field, dims: readonly number[], view: DataView, at: number, end: number): unknown {
  const [length, ...inner] = dims as [number, ...number[]];
  if (inner.length === 0 && field.scalar?.kind === 'u8') return new Uint8Array(view.buffer, view.byteOffset + at, length).slice();
  const stride = inner.reduce((product, dim) => product * dim, elementSize(field));
  const list: unknown[] = [];
  for (let i = 0; i < length; i++) {
    const place = at + i * stride;
    if (inner.length > 0) list.push(readArray(field, inner, view, place, end));
    else list.push(field.struct ? field.struct.read(view, place, end) : field.scalar!.get(view, place));
  }
  return list;
}
