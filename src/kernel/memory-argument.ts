import { rangeError, typeError } from './errors.ts';
import type { Memory } from './memory.ts';

function live(memory: Memory): Memory {
  if (typeof memory !== 'object' || memory === null || typeof memory.address !== 'bigint') {
    throw typeError('memory must be a Memory (kernel.guestRam, kernel.mmap)');
  }
  if (memory.closed) throw rangeError('memory is closed: the kernel would see whatever is mapped there next');
  return memory;
}

function within(value: unknown, name: string, memory: Memory): number {
  if (typeof value !== 'number') throw typeError(`${name} must be a number of bytes, not ${typeof value}`);
  if (!Number.isInteger(value) || value < 0 || value > memory.length) {
    throw rangeError(`${name} must be an integer from 0 to ${memory.length}, the length of the memory, not ${value}`);
  }
  return value;
}

/** Where byte `offset` of the memory is, for a pointer inside a struct. */
export function addressOf(memory: Memory, offset = 0): bigint {
  return live(memory).address + BigInt(within(offset, 'offset', memory));
}

/** `userspace_addr` and `memory_size` of a part of a memory: from `offset` (0), `length` bytes (the rest). */
export function rangeOf(memory: Memory, offset = 0, length?: number): { userspace_addr: bigint; memory_size: bigint } {
  const userspace_addr = addressOf(memory, offset);
  const memory_size = length === undefined ? memory.length - offset : within(length, 'length', memory);
  if (offset + memory_size > memory.length)
    throw rangeError(`offset ${offset} + length ${memory_size} is beyond the ${memory.length} bytes of the memory`);
  return { userspace_addr, memory_size: BigInt(memory_size) };
}
