import type { Context, Half } from './context.ts';
import { CLASS_IN, CLASS_TT, F_ACCESS, F_ADDR_SIZE, F_PERMISSION, F_TRANSLATION, type Fault } from './event.ts';
import type { Stage2 } from './stage2.ts';

/** Of a VMSAv8-64 descriptor. */
const VALID = 1n;
/** A table; in the last level a page. */
const TABLE = 2n;
/** AP[1]: the unprivileged too. AP[2]: reading only. */
const UNPRIVILEGED = 1n << 6n;
const READ_ONLY = 1n << 7n;
const ACCESSED = 1n << 10n;
/** With AP[2]: it is writable, and clean. */
const DIRTY_MODIFIER = 1n << 51n;
const ADDRESS = 0x0000_ffff_ffff_f000n;
/** APTable: what the tables below may not give. */
const TABLE_PRIVILEGED = 1n << 61n;
const TABLE_READ_ONLY = 1n << 62n;

const DESCRIPTOR = 8n;
const LAST = 3;

/** The levels that may lead to memory at once, by granule. */
const BLOCKS: ReadonlyMap<bigint, readonly number[]> = new Map([
  [12n, [1, 2]],
  [14n, [2]],
  [16n, [2]],
]);

const fault = (id: number): Fault => ({ id, class: CLASS_IN });

/** What an address leads to, and how many bytes from there lie in one piece. */
export interface Translated {
  readonly ipa: bigint;
  readonly left: bigint;
}

/** A walk of the first stage's tables (VMSAv8-64). Each address of a table is one of the second stage's. An access is the unprivileged's, and no instruction fetch. */
export function walk(context: Context, stage2: Stage2, address: bigint, write: boolean): Translated | Fault {
  const high = (address >> 55n) & 1n;
  const half = context.halves[Number(high)]!;
  if (half.disabled || !covers(half, address, high)) return fault(F_TRANSLATION);
  const stride = half.granule - 3n;
  let table = half.table;
  let [unprivileged, writable] = [true, true];
  for (let level = LAST + 1 - Number((half.size - half.granule + stride - 1n) / stride), start = level; ; level++) {
    const shift = half.granule + BigInt(LAST - level) * stride;
    const width = level === start ? half.size - shift : stride;
    const base = level === start ? table & -(DESCRIPTOR << width) : table;
    const at = base + ((address >> shift) & ((1n << width) - 1n)) * DESCRIPTOR;
    const descriptor = stage2.load(at, CLASS_TT);
    if (typeof descriptor !== 'bigint') return descriptor;
    if ((descriptor & VALID) === 0n) return fault(F_TRANSLATION);
    const further = (descriptor & TABLE) !== 0n;
    if (further && level < LAST) {
      table = descriptor & ADDRESS & -(1n << half.granule);
      if (table >> context.outputBits !== 0n) return fault(F_ADDR_SIZE);
      if (!half.flat) {
        unprivileged &&= (descriptor & TABLE_PRIVILEGED) === 0n;
        writable &&= (descriptor & TABLE_READ_ONLY) === 0n;
      }
      continue;
    }
    if (level === LAST ? !further : !BLOCKS.get(half.granule)!.includes(level)) return fault(F_TRANSLATION);
    const ipa = descriptor & ADDRESS & -(1n << shift);
    if (ipa >> context.outputBits !== 0n) return fault(F_ADDR_SIZE);
    const updated = permitted(context, descriptor, { unprivileged, writable, write });
    if (typeof updated !== 'bigint') return updated;
    const failed = updated === descriptor ? undefined : stage2.store(at, updated, CLASS_TT);
    if (failed !== undefined) return failed;
    const within = address & ((1n << shift) - 1n);
    return { ipa: ipa + within, left: (1n << shift) - within };
  }
}

/** Sign-extended from the top bit of the half's size upwards. */
function covers({ size, topByteIgnored }: Half, address: bigint, high: bigint): boolean {
  const top = topByteIgnored ? 56n : 64n;
  const above = (address & ((1n << top) - 1n)) >> size;
  return above === (high === 0n ? 0n : (1n << (top - size)) - 1n);
}

interface Wanted {
  readonly unprivileged: boolean;
  readonly writable: boolean;
  readonly write: boolean;
}

/** The descriptor as the access leaves it, where the hardware keeps its flags: it is marked only by an access that is let through. */
function permitted(context: Context, descriptor: bigint, { unprivileged, writable, write }: Wanted): bigint | Fault {
  let left = descriptor;
  if ((descriptor & ACCESSED) === 0n) {
    if (context.updatesAccess) left |= ACCESSED;
    else if (!context.accessFlagIgnored) return fault(F_ACCESS);
  }
  if (!unprivileged || (descriptor & UNPRIVILEGED) === 0n) return fault(F_PERMISSION);
  if (!write) return left;
  if (!writable) return fault(F_PERMISSION);
  if ((descriptor & READ_ONLY) === 0n) return left;
  return context.updatesDirty && (descriptor & DIRTY_MODIFIER) !== 0n ? left & ~READ_ONLY : fault(F_PERMISSION);
}
