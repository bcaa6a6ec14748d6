import { inDescriptors, type State, touchedLength, userPointers } from '../uapi/extents.ts';
import type { IoctlRow } from '../uapi/ioctls.ts';
import { KernelError, rangeError, typeError } from './errors.ts';
import type { Holder } from './files.ts';
import type { MappedMemory } from './mapped-memory.ts';

/**
 * The pointer and size guard. Before a kernel sees an ioctl, the caller's buffer must be as long as what the kernel will touch,
 * and (on real kernels) every pointer in it must lie, with its whole length, in live `Memory`. Both come from the ioctl table.
 */

/** Below: the kernel's mmap_min_addr keeps it unmapped. */
const LOW = 0x1_0000n;
/** From here on no process of ours has memory: the upper half, and what needs five-level paging and a hint. */
const HIGH = 1n << 47n;

/** A range that can never be mapped reaches the kernel: it answers EFAULT (or stores the number), and nothing is touched. */
function neverMapped(address: bigint, length: bigint): boolean {
  return address >= HIGH || address + length <= LOW;
}

function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

export interface GuardContext {
  /** Are pointers checked (a real kernel), or only the length of the direct buffer (the simulator)? */
  readonly pointers: boolean;
  memoryAt(address: bigint, length: bigint): MappedMemory | undefined;
}

const typeOf = (request: number): string => `request ${hex(request)}`;

/** Checks a buffer given as `arg`. `row` is undefined for a request the table does not know. */
export function guardBytes(
  context: GuardContext,
  row: IoctlRow | undefined,
  request: number,
  bytes: Uint8Array,
  holder: Holder,
): void {
  if (row === undefined) {
    const size = (request >>> 16) & 0x3fff;
    if (context.pointers && size === 0) {
      throw rangeError(
        `ioctl: ${typeOf(request)} is unknown and does not say how many bytes it touches; pass { unsafe: true } to answer for it`,
      );
    }
    if (bytes.byteLength < size) throw tooShort(typeOf(request), bytes.byteLength, size);
    return;
  }
  if (row.arg !== 'pointer') throw typeError(`ioctl: ${row.name} takes an integer, not bytes`);
  const needed = touchedLength(row, bytes, stateOf(holder));
  if (bytes.byteLength < needed) throw tooShort(row.name, bytes.byteLength, needed);
  if (context.pointers) guardPointers(context, row, bytes, holder);
}

/** Checks an integer given as `arg`, on a real kernel. For a request that takes a pointer, the number is an address. */
export function guardWord(context: GuardContext, row: IoctlRow | undefined, request: number, arg: bigint, holder: Holder): void {
  if (row !== undefined && row.arg !== 'pointer') return;
  if (row === undefined) {
    if (neverMapped(arg, 1n)) return;
    throw rangeError(
      `ioctl: ${typeOf(request)} is unknown and ${hex(arg)} may be an address; pass { unsafe: true } to answer for it`,
    );
  }
  if (neverMapped(arg, BigInt(row.size))) return;
  const memory = context.memoryAt(arg, BigInt(row.size));
  if (memory === undefined) throw notInMemory(row.name, 'its argument', arg, BigInt(row.size));
  if (row.tail === undefined && row.pointers === undefined) return;
  const bytes = argumentAt(memory, arg, row, holder);
  if (bytes === undefined) return;
  const needed = touchedLength(row, bytes, stateOf(holder));
  if (bytes.byteLength < needed) throw notInMemory(row.name, 'its argument', arg, BigInt(needed));
  guardPointers(context, row, bytes, holder);
}

/** Enough for every fixed part and every string of the table. */
const HEAD = 4096;

/**
 * The argument's bytes as they lie in Memory: all that the kernel will touch, or as far as the Memory goes. Undefined where they cannot
 * be read: then the kernel cannot either, and answers EFAULT before it follows anything.
 */
export function argumentAt(memory: MappedMemory, address: bigint, row: IoctlRow, holder: Holder): Uint8Array | undefined {
  const offset = Number(address - memory.address);
  const left = memory.length - offset;
  try {
    const head = memory.read(offset, Math.min(left, Math.max(row.size, HEAD)));
    const needed = touchedLength(row, head, stateOf(holder));
    return needed <= head.byteLength ? head : memory.read(offset, Math.min(left, needed));
  } catch (error) {
    if (error instanceof KernelError) return undefined;
    throw error;
  }
}

const stateOf =
  (holder: Holder): State =>
  (rule, args) =>
    holder.state(rule, args);

function guardPointers(context: GuardContext, row: IoctlRow, bytes: Uint8Array, holder: Holder): void {
  if (row.pointers === undefined) return;
  const peek = (address: bigint, length: number): Uint8Array | undefined => {
    const memory = context.memoryAt(address, BigInt(length));
    return memory?.read(Number(address - memory.address), length);
  };
  for (const { field, address, length } of userPointers(row, bytes, stateOf(holder), peek)) {
    if (length === 0n || neverMapped(address, length)) continue;
    if (context.memoryAt(address, length) === undefined) throw notInMemory(row.name, field, address, length);
  }
}

function tooShort(what: string, have: number, needed: number): RangeError {
  return rangeError(`ioctl: ${what} touches ${needed} bytes, the buffer has ${have}`);
}

function notInMemory(what: string, field: string, address: bigint, length: bigint): RangeError {
  return rangeError(
    `ioctl: ${what}: ${field} = ${hex(address)} with ${length} bytes does not lie in live Memory of this kernel; ` +
      'use the address of a Memory, or { unsafe: true } to answer for it',
  );
}

/** The first descriptor the argument names that is open in this process, yet not of this kernel: to be EBADF from us. */
export function foreignDescriptor(row: IoctlRow, bytes: Uint8Array, isForeign: (fd: number) => boolean): number | undefined {
  return inDescriptors(row, bytes).find(({ fd }) => fd >= 0 && isForeign(fd))?.fd;
}
