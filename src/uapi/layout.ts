/**
 * The text form of a struct's layout, as the generator writes it, and the tree it stands for.
 *
 *     0 __u32 nmsrs; 4 __u32 pad; 8 struct kvm_msr_entry entries[nmsrs]
 *     8 union 256,8 { 0 struct 8,8 { 0 __u64 hardware_exit_reason } hw; … }
 *
 * A member is its offset, its C type and its name. `@name` marks a 64-bit member that holds a user address,
 * `name[16]` an array, `name[nmsrs]` a flexible array with its count, `name:3+4` a bit-field of 4 bits from bit 3.
 * A struct or union with a body has its size and alignment before it; without a name after it, its members are
 * promoted, as in C. Offsets of promoted members are relative to the anonymous aggregate that contains them.
 */
import type { Scalar } from './scalar.ts';
import { scalarOf } from './scalar.ts';
import type { Struct } from './struct.ts';

/** How many elements a flexible array has: `null` all the room there is, otherwise `field / unit` after `minus`. */
export interface FlexCount {
  /** The field that says it, in the same struct; null: the array reaches to the end of the buffer. */
  readonly field: string | null;
  /** Subtracted first: the part of a byte count (argsz, size) that is not the array. */
  readonly minus: number;
  /** Bytes per counted unit: 1 when the field counts elements, else the field counts bytes and is divided by the element size. */
  readonly bytes: boolean;
}

/** One named member. Members of anonymous structs and unions appear beside the others, with the offset in the whole. */
export interface Field {
  readonly name: string;
  /** The C type's own name: `__u32`, `struct kvm_segment`, `void *`; `struct` or `union` for an untagged one. */
  readonly type: string;
  readonly offset: number;
  /** Bytes of the whole member; 0 for a flexible array. */
  readonly size: number;
  /** Array dimensions, outermost first; empty for a single value, `[0]` for a flexible array. */
  readonly dims: readonly number[];
  /** Set for a flexible array member. */
  readonly flex?: FlexCount;
  readonly scalar?: Scalar;
  /** Layout of an element that is a struct or union. */
  readonly struct?: Struct<unknown>;
  /** Holds an address in the caller's memory. */
  readonly pointer: boolean;
  /** Members of one anonymous union share its number; absent outside unions. */
  readonly union?: number;
  /** Bit-field: first bit and width within the storage unit at `offset`. */
  readonly bits?: { readonly from: number; readonly count: number };
  /** Padding or reserved space: zero when a full struct leaves it out. */
  readonly pad: boolean;
}

/** What encoding walks: a member, or an anonymous union whose alternatives are lists of the same. */
export type Node = Field | UnionNode;
export interface UnionNode {
  readonly alternatives: readonly (readonly Node[])[];
  /** The names each alternative brings, in the same order. */
  readonly names: readonly (readonly string[])[];
}

export const isUnion = (node: Node): node is UnionNode => 'alternatives' in node;

/** Names the kernel gives to space that means nothing (yet). */
export const PAD_NAME: RegExp = /^(_*(pad|padding|reserved|reserve|resv|rsvd|unused)|u8_pad)_?\d*$/;

const namesOf = (node: Node): readonly string[] => (isUnion(node) ? node.names.flat() : [node.name]);

export interface Parsed {
  readonly nodes: readonly Node[];
  readonly fields: readonly Field[];
}

type MakeInline = (kind: 'struct' | 'union', name: string, size: number, align: number, body: string) => Struct<unknown>;

const AGGREGATE = /^(struct|union) (\d+),(\d+) \{/;
const DECLARATOR = /^(@?)(\w+)((?:\[[^\]]*\])*)(?::(\d+)\+(\d+))?$/;

function splitMembers(body: string): string[] {
  const members: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i <= body.length; i++) {
    const c = body[i];
    if (c === '{') depth++;
    else if (c === '}') depth--;
    else if (i === body.length || (c === ';' && depth === 0)) {
      const member = body.slice(start, i).trim();
      if (member) members.push(member);
      start = i + 1;
    }
  }
  return members;
}

function flexCount(text: string, elementSize: number): FlexCount {
  if (text === '') return { field: null, minus: 0, bytes: false };
  const [, field, , minus] = /^(\w+)(-(\d+))?$/.exec(text) ?? [];
  if (field === undefined) throw new Error(`layout: count ${text}`);
  return { field, minus: Number(minus ?? 0), bytes: minus !== undefined && elementSize > 0 };
}

/** Parses a body. `tagged` resolves `struct NAME`; `inline` makes the Struct of an untagged member. */
export function parseLayout(
  body: string,
  kind: 'struct' | 'union',
  tagged: (name: string) => Struct<unknown>,
  inline: MakeInline,
): Parsed {
  const fields: Field[] = [];
  let unions = 0;

  function member(text: string, base: number, union: number | undefined): Node[] {
    const space = text.indexOf(' ');
    const offset = base + Number(text.slice(0, space));
    const rest = text.slice(space + 1);
    const aggregate = AGGREGATE.exec(rest);
    let type: string;
    let declarator: string;
    let struct: Struct<unknown> | undefined;
    if (aggregate) {
      const close = rest.lastIndexOf('}');
      const inner = rest.slice(aggregate[0].length, close);
      const which = aggregate[1] as 'struct' | 'union';
      declarator = rest.slice(close + 1).trim();
      if (declarator === '') return anonymous(which, inner, offset, union);
      type = which;
      struct = inline(which, declarator.replace(/\[.*/, ''), Number(aggregate[2]), Number(aggregate[3]), inner);
    } else {
      const last = rest.lastIndexOf(' ');
      type = rest.slice(0, last);
      declarator = rest.slice(last + 1);
      const tag = /^(?:struct|union) (\w+)$/.exec(type)?.[1];
      if (tag !== undefined) struct = tagged(tag);
    }
    return [field(type, declarator, offset, union, struct)];
  }

  function field(
    type: string,
    declarator: string,
    offset: number,
    union: number | undefined,
    struct: Struct<unknown> | undefined,
  ): Field {
    const [, at, name, suffix, bit, width] = DECLARATOR.exec(declarator) ?? [];
    const scalar = struct ? undefined : scalarOf(type);
    if (name === undefined || (!struct && !scalar)) throw new Error(`layout: ${type} ${declarator}`);
    const element = struct ? struct.size : scalar!.size;
    const counts = [...(suffix ?? '').matchAll(/\[([^\]]*)\]/g)].map((match) => match[1]!);
    const flexible = counts.length > 0 && !/^\d+$/.test(counts[0]!);
    const dims = flexible ? [0] : counts.map(Number);
    const made: Field = {
      name,
      type,
      offset,
      size: dims.reduce((product, dim) => product * dim, element),
      dims,
      pointer: at === '@' || type.endsWith('*'),
      pad: PAD_NAME.test(name),
      ...(flexible ? { flex: flexCount(counts[0]!, element) } : {}),
      ...(scalar ? { scalar } : {}),
      ...(struct ? { struct } : {}),
      ...(union === undefined ? {} : { union }),
      ...(width === undefined ? {} : { bits: { from: Number(bit), count: Number(width) } }),
    };
    fields.push(made);
    return made;
  }

  function anonymous(which: 'struct' | 'union', inner: string, base: number, union: number | undefined): Node[] {
    const members = splitMembers(inner);
    if (which === 'struct') return members.flatMap((text) => member(text, base, union));
    const number = unions++;
    const alternatives = members.map((text) => member(text, base, union ?? number));
    return [{ alternatives, names: alternatives.map((nodes) => nodes.flatMap(namesOf)) }];
  }

  const nodes = anonymous(kind, body, 0, undefined);
  return { nodes, fields };
}
