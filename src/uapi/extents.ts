/**
 * How far a call reaches: the bytes of its argument the kernel will touch, and the memory its pointers name. Pure functions
 * of a table row and the argument's bytes.
 */
import type { Direction, Expression, FdKind, IoctlRow, PointerRule } from './ioctl-row.ts';
import { payloadStructs } from './payloads.ts';
import { scalarOf } from './scalar.ts';
import type { Struct } from './struct.ts';

/**
 * Answers the `state` rules of the table, undefined where it does not know: `memslot-bitmap` (slot): bytes of its dirty bitmap;
 * `xsave2-size`: what KVM_CAP_XSAVE2 answers on the VM; `attr` and `device-attr` (group, attr): bytes of a device attribute;
 * `vm-is-tdx`: 1 for a TDX VM; `shared-tlb-bitmap`: bytes of a powerpc bitmap.
 */
export type State = (rule: string, args: readonly bigint[]) => bigint | undefined;

/** Memory of the caller, for pointers behind pointers. Undefined: not known. */
export type Peek = (address: bigint, length: number) => Uint8Array | undefined;

/** A range in the caller's memory that an argument names. */
export interface UserPointer {
  /** Path of the field: `userspace_addr`, `ranges[3].bitmap`, `data->uaddr`. */
  readonly field: string;
  readonly address: bigint;
  readonly length: bigint;
  readonly dir: Direction;
}

interface Scope {
  readonly struct: Struct<unknown> | undefined;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Where the struct begins in the bytes. */
  readonly base: number;
  readonly state: State | undefined;
}

const scopeOf = (struct: Struct<unknown> | undefined, bytes: Uint8Array, state: State | undefined, base = 0): Scope => ({
  struct,
  bytes,
  view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
  base,
  state,
});

/** Bytes of the argument the kernel will touch. A buffer shorter than this lets the kernel reach past its end. */
export function touchedLength(row: IoctlRow, bytes: Uint8Array, state?: State): number {
  if (row.arg !== 'pointer') return 0;
  if (row.tail === undefined || bytes.byteLength < row.size) return row.size;
  return row.size + Number(evaluate(row.tail.length, scopeOf(row.struct, bytes, state)));
}

/** The memory the argument's pointers name, those the kernel will follow only. NULLs are reported as any other address. */
export function userPointers(row: IoctlRow, bytes: Uint8Array, state?: State, peek?: Peek): UserPointer[] {
  if (row.pointers === undefined || row.struct === undefined) return [];
  const found: UserPointer[] = [];
  for (const rule of row.pointers) follow(rule, scopeOf(row.struct, bytes, state), '', peek, found);
  return found;
}

function follow(rule: PointerRule, scope: Scope, path: string, peek: Peek | undefined, found: UserPointer[]): void {
  if (rule.each !== undefined) {
    const array = scope.struct!.field(rule.each)!;
    const { each, ...single } = rule;
    for (let i = 0; i < array.dims[0]!; i++) {
      const base = scope.base + array.offset + i * array.struct!.size;
      follow(single, { ...scope, struct: array.struct, base }, `${path}${each}[${i}].`, peek, found);
    }
    return;
  }
  if (!present(rule.field, scope) || (rule.when !== undefined && evaluate(rule.when, scope) === 0n)) return;
  const address = evaluate(rule.field, scope);
  const length = evaluate(rule.length, scope);
  const field = path + rule.field.replace(/<\w+>/, '');
  found.push({ field, address, length, dir: rule.dir });
  if (rule.target === undefined || peek === undefined) return;
  const there = peek(address, rule.target.struct.size);
  if (there === undefined) return;
  for (const inner of rule.target.pointers)
    follow(inner, scopeOf(rule.target.struct, there, scope.state), `${field}->`, peek, found);
}

const OPERATORS: Readonly<Record<string, (a: bigint, b: bigint) => bigint>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => (a > b ? a - b : 0n),
  '*': (a, b) => a * b,
  '/': (a, b) => (b === 0n ? 0n : a / b),
  ceil: (a, b) => (b === 0n ? 0n : (a + b - 1n) / b),
  min: (a, b) => {
    if (a < b) return a;
    return b;
  },
  '&': (a, b) => a & b,
  '<<': (a, b) => a << b,
  '>>': (a, b) => a >> b,
  '==': (a, b) => (a === b ? 1n : 0n),
  '<': (a, b) => (a < b ? 1n : 0n),
  '<=': (a, b) => (a <= b ? 1n : 0n),
  bits: (a, b) => ((a & b) === b ? 1n : 0n),
};

function evaluate(expression: Expression, scope: Scope): bigint {
  if (typeof expression === 'number') return BigInt(expression);
  if (typeof expression === 'string') return readField(expression, scope);
  const [operator, ...operands] = expression as readonly [string, ...Expression[]];
  switch (operator) {
    case 'if':
      return evaluate(evaluate(operands[0]!, scope) !== 0n ? operands[1]! : operands[2]!, scope);
    case 'and':
      return operands.every((operand) => evaluate(operand, scope) !== 0n) ? 1n : 0n;
    case 'string':
      return stringLength(scope.bytes, Number(operands[0]));
    case 'state': {
      const [name, otherwise, ...args] = operands as [string, Expression, ...Expression[]];
      const values = args.map((arg) => evaluate(arg, scope));
      return scope.state?.(name, values) ?? evaluate(otherwise, scope);
    }
    default: {
      const apply = OPERATORS[operator];
      if (!apply) throw new Error(`ioctl table: operator ${operator}`);
      return operands.map((operand) => evaluate(operand, scope)).reduce(apply);
    }
  }
}

/** strndup_user: up to and with the NUL; without one it reads on to the limit. */
function stringLength(bytes: Uint8Array, limit: number): bigint {
  const end = bytes.subarray(0, limit).indexOf(0);
  return BigInt(end < 0 ? limit : end + 1);
}

interface Place {
  readonly at: number;
  readonly get: (view: DataView, at: number) => number | bigint;
  readonly size: number;
}

const places: WeakMap<Struct<unknown>, Map<string, Place>> = new WeakMap();

/** Where a path of the table lies in its struct, remembered. */
function placeOf(struct: Struct<unknown>, path: string): Place {
  let known = places.get(struct);
  if (!known) places.set(struct, (known = new Map()));
  let place = known.get(path);
  if (place) return place;
  const payload = /^(\w+)<(\w+)>\.(.+)$/.exec(path);
  if (payload) {
    const inner = placeOf(payloadStructs()[payload[2]!]!, payload[3]!);
    place = { ...inner, at: struct.offsetOf(payload[1]!) + inner.at };
  } else {
    const { type, scalar } = leaf(struct, path);
    const { get, size } = scalar ?? scalarOf(type)!;
    place = { at: struct.offsetOf(path), get, size };
  }
  known.set(path, place);
  return place;
}

function leaf(struct: Struct<unknown>, path: string): NonNullable<ReturnType<Struct<unknown>['field']>> {
  const [first, ...rest] = path.split('.');
  const field = struct.field(first!.replace(/\[\d+\]/g, ''));
  if (!field) throw new Error(`ioctl table: ${struct.name} has no ${path}`);
  return rest.length === 0 ? field : leaf(field.struct!, rest.join('.'));
}

function present(path: string, scope: Scope): boolean {
  const { at, size } = placeOf(scope.struct!, path);
  return scope.base + at + size <= scope.bytes.byteLength;
}

/** A field beyond the bytes given reads 0: the fixed size, or the tail, has then already said that they are too few. */
function readField(path: string, scope: Scope): bigint {
  if (!present(path, scope)) return 0n;
  const { at, get } = placeOf(scope.struct!, path);
  return BigInt.asUintN(64, BigInt(get(scope.view, scope.base + at)));
}

/** The new descriptors an accepted call has written into its struct. */
export function outDescriptors(row: IoctlRow, bytes: Uint8Array): { kind: FdKind; fd: number }[] {
  if (row.outFds === undefined) return [];
  const scope = scopeOf(row.struct, bytes, undefined);
  return row.outFds
    .filter(({ when }) => when === undefined || evaluate(when, scope) !== 0n)
    .map(({ field, kind }) => ({ kind, fd: Number(BigInt.asIntN(32, evaluate(field, scope))) }))
    .filter(({ fd }) => fd >= 0);
}

/** Of what kind the descriptor is that an accepted call has returned; undefined where it returned a plain number. */
export function returnedKind(row: IoctlRow, bytes: Uint8Array | undefined): FdKind | undefined {
  if (row.returnsWhen === undefined) return row.returns;
  return bytes !== undefined && evaluate(row.returnsWhen, scopeOf(row.struct, bytes, undefined)) !== 0n ? row.returns : undefined;
}

/** The descriptors an argument names. */
export function inDescriptors(row: IoctlRow, bytes: Uint8Array): { field: string; fd: number }[] {
  if (row.inFds === undefined) return [];
  const scope = scopeOf(row.struct, bytes, undefined);
  const named: { field: string; fd: number }[] = [];
  for (const { field, when, count = 1, stride = 4 } of row.inFds) {
    if (when !== undefined && evaluate(when, scope) === 0n) continue;
    const at = typeof field === 'number' ? field : row.struct!.offsetOf(field);
    const end = Math.min(at + Number(evaluate(count, scope)) * stride, bytes.byteLength - 3);
    for (let offset = at; offset < end; offset += stride)
      named.push({ field: String(field), fd: scope.view.getInt32(offset, true) });
  }
  return named;
}
