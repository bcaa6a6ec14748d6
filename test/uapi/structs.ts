/** What the uapi tests share: every struct, and fast-check arbitraries made of their fields. */
import fc from 'fast-check';
import * as uapi from '../../src/uapi/index.ts';
import type { Field, Node } from '../../src/uapi/layout.ts';
import { isUnion } from '../../src/uapi/layout.ts';
import { Struct } from '../../src/uapi/struct.ts';

const structsOf = (module: object): [string, Struct<unknown>][] =>
  Object.entries(module).filter((entry): entry is [string, Struct<unknown>] => entry[1] instanceof Struct);

/** Name → struct; arm64's own beside the others. */
export const allStructs: [string, Struct<unknown>][] = [
  ...structsOf(uapi),
  ...structsOf(uapi.arm64).map(([name, struct]): [string, Struct<unknown>] => [`arm64.${name}`, struct]),
];

/** A full value of a struct: of each union one member, padding sometimes left out. */
export function anyValue(struct: Struct<unknown>): fc.Arbitrary<Record<string, unknown>> {
  return fc.tuple(...struct.nodes.map(partOf)).map((parts) => Object.assign({}, ...parts) as Record<string, unknown>);
}

function partOf(node: Node): fc.Arbitrary<Record<string, unknown>> {
  if (isUnion(node)) {
    return fc.oneof(
      ...node.alternatives.map((nodes) =>
        fc.tuple(...nodes.map(partOf)).map((parts) => Object.assign({}, ...parts) as Record<string, unknown>),
      ),
    );
  }
  const given = fieldOf(node).map((value) => ({ [node.name]: value }));
  return node.pad && node.union === undefined ? fc.oneof(given, fc.constant({})) : given;
}

function fieldOf(field: Field): fc.Arbitrary<unknown> {
  if (field.bits) return fc.nat(2 ** field.bits.count - 1);
  const dims = field.flex ? [2] : field.dims;
  return dims.reduceRight<[fc.Arbitrary<unknown>, boolean]>(
    ([element, scalar], length) => [scalar && field.scalar?.kind === 'u8' ? bytesOf(length) : listOf(element, length), false],
    [elementOf(field), true],
  )[0];
}

/** Long lists repeat a short random one: fast-check is slow with thousands of independent elements. */
const SHORT = 12;
const cycled = <T>(list: ArrayLike<T>, length: number): T[] => Array.from({ length }, (_, i) => list[i % list.length]!);

const listOf = <T>(element: fc.Arbitrary<T>, length: number): fc.Arbitrary<T[]> => {
  const some = Math.min(length, SHORT);
  return fc.array(element, { minLength: some, maxLength: some, size: 'max' }).map((list) => cycled(list, length));
};

/** Random bytes of a length. */
export const bytesOf = (length: number): fc.Arbitrary<Uint8Array> => {
  const some = Math.min(length, 61);
  return fc.uint8Array({ minLength: some, maxLength: some }).map((list) => Uint8Array.from(cycled(list, length)));
};

function elementOf(field: Field): fc.Arbitrary<unknown> {
  if (field.struct) return anyValue(field.struct);
  const { wide, min, max } = field.scalar!;
  return wide ? fc.bigInt({ min: min as bigint, max: max as bigint }) : fc.integer({ min: min as number, max: max as number });
}

/** Bits of a struct that belong to a member: the rest are holes the compiler left. */
export function memberMask(struct: Struct<unknown>, length: number): Uint8Array {
  const mask = new Uint8Array(length);
  mark(struct, mask, 0);
  return mask;
}

function mark(struct: Struct<unknown>, mask: Uint8Array, base: number): void {
  for (const field of struct.fields) {
    const at = base + field.offset;
    if (field.bits) mask[at]! |= (2 ** field.bits.count - 1) << field.bits.from;
    else if (field.struct) {
      const { size } = field.struct;
      const count = field.flex ? Math.floor((mask.length - at) / size) : size === 0 ? 1 : field.size / size;
      for (let i = 0; i < count; i++) mark(field.struct, mask, at + i * size);
    } else {
      const size = field.scalar!.size;
      mask.fill(0xff, at, field.flex ? at + Math.floor((mask.length - at) / size) * size : at + field.size);
    }
  }
}
