/** Bytes for the argument of an ioctl, from the table's row: odd values in fields of the right size, and as much tail as the counts ask for. */
import { type IoctlRow, type Struct, touchedLength } from 'kvio/uapi';
import type { Argument, Patch } from './call.ts';
import { type Choices, oddValue } from './choices.ts';
import type { World } from './world.ts';

interface Leaf {
  readonly name: string;
  readonly at: number;
  readonly size: number;
  readonly pointer: boolean;
  /** It says how many elements the flexible array has. */
  readonly counts: boolean;
}

const known = new WeakMap<Struct<unknown>, readonly Leaf[]>();

/** Every number in a struct, also those of structs and arrays within it. */
export function leavesOf(struct: Struct<unknown>): readonly Leaf[] {
  let leaves = known.get(struct);
  if (leaves === undefined) known.set(struct, (leaves = [...walk(struct, 0)]));
  return leaves;
}

function* walk(struct: Struct<unknown>, base: number): Generator<Leaf> {
  const counted = new Set(struct.fields.flatMap((field) => (field.flex?.field ? [field.flex.field] : [])));
  for (const field of struct.fields) {
    const elements = field.dims.reduce((product, dim) => product * dim, 1);
    const size = field.struct?.size ?? field.scalar!.size;
    for (let n = 0; n < elements; n++) {
      const at = base + field.offset + n * size;
      if (field.struct !== undefined) yield* walk(field.struct, at);
      else yield { name: field.name, at, size, pointer: field.pointer, counts: counted.has(field.name) };
    }
  }
}

/** What a tail may hold at most. */
const MAX_BYTES = 0x1_0000;
const COUNTS = [0, 1, 2, 3, 4, 5, 10, 44, 100, 255, 256, 257, 0xffff_ffff];

/** An address no process can have: KVM reads or writes nothing there. */
const NOWHERE = [0n, 8n, 0x1000n, 1n << 47n, 1n << 63n, (1n << 64n) - 8n];

export function argumentOf(c: Choices, w: World, row: IoctlRow): Argument {
  if (row.arg === 'none' && !c.chance(0.1)) return { is: 'none' };
  if (row.arg !== 'pointer') return { is: 'integer', value: c.chance(0.5) ? oddValue(c, 8) : BigInt(c.below(8)) };
  if (c.chance(0.07)) return { is: 'integer', value: c.pick(NOWHERE) };
  return structArgument(c, w, row);
}

function structArgument(c: Choices, w: World, row: IoctlRow): Argument {
  const patches: Patch[] = [];
  let bytes = new Uint8Array(Math.max(1, row.size));
  if (row.dir === 'out' && row.tail === undefined) bytes.fill(0x5a);
  const leaves =
    row.struct === undefined
      ? [{ name: '', at: 0, size: Math.min(8, bytes.length), pointer: false, counts: false }]
      : leavesOf(row.struct);
  const inside = leaves.filter(({ at, size }) => at + size <= bytes.length);
  const counts = inside.filter((leaf) => leaf.counts);
  for (const leaf of counts) put(bytes, leaf, BigInt(c.pick(COUNTS)));
  if (row.tail !== undefined) {
    const whole = Math.min(touchedLength(row, bytes), MAX_BYTES);
    const longer = new Uint8Array(whole);
    longer.set(bytes);
    bytes = longer;
  }
  if (inside.length === 0) return { is: 'bytes', bytes, patches };
  for (let left = c.below(4); left > 0; left--) {
    const leaf = c.pick(inside);
    const memory = leaf.pointer ? w.rams().at(c.below(w.rams().length || 1)) : undefined;
    if (leaf.counts) continue;
    if (leaf.pointer && memory !== undefined && c.chance(0.7))
      patches.push({ at: leaf.at, ref: memory.name, what: 'address', plus: 8 * c.below(memory.length / 8) });
    else if (leaf.pointer) put(bytes, leaf, c.pick(NOWHERE));
    else put(bytes, leaf, oddValue(c, leaf.size));
  }
  nameDescriptors(c, w, row, bytes, patches);
  return { is: 'bytes', bytes, patches: patches.filter(({ at }, n) => patches.findIndex((patch) => patch.at === at) === n) };
}

/** Members that name a descriptor name one of the sequence's, or none: never one of the rest of the process. */
function nameDescriptors(c: Choices, w: World, row: IoctlRow, bytes: Uint8Array, patches: Patch[]): void {
  for (const { field } of row.inFds ?? []) {
    const at = typeof field === 'number' ? field : row.struct!.offsetOf(field);
    if (at + 4 > bytes.length) continue;
    const open = w.live();
    if (open.length > 0 && c.chance(0.6)) patches.unshift({ at, ref: c.pick(open).name, what: 'fd', plus: 0 });
    else put(bytes, { at, size: 4 }, BigInt.asUintN(32, c.pick([-1n, 0x7fff_ffffn, 0x10_0000n])));
  }
}

export function put(bytes: Uint8Array, { at, size }: Pick<Leaf, 'at' | 'size'>, value: bigint): void {
  for (let n = 0; n < size; n++) bytes[at + n] = Number((value >> BigInt(8 * n)) & 0xffn);
}

/** The value in so many bytes, little endian. */
export function littleEndian(value: bigint, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  put(bytes, { at: 0, size }, value);
  return bytes;
}
