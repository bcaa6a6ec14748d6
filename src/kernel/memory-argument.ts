import { unsigned } from './arguments.ts';
import { rangeError, typeError } from './errors.ts';
import type { Kernel } from './kernel.ts';
import type { Memory } from './memory.ts';

/** An address says nothing of the kernel it is of: a `Memory` of another machine, or process, would be whatever lies there in this one. */
function live(kernel: Kernel, memory: Memory): Memory {
  if (typeof memory !== 'object' || memory === null || typeof memory.address !== 'bigint') {
    throw typeError('memory must be a Memory (kernel.guestRam, kernel.mmap)');
  }
  if (memory.closed) throw rangeError('memory is closed: the kernel would see whatever is mapped there next');
  if (kernel.memoryAt(memory.address) !== memory)
    throw rangeError('memory belongs to another kernel, where its address means something else');
  return memory;
}

function within(value: unknown, name: string, memory: Memory): bigint {
  const bytes = unsigned(value, name);
  if (bytes > memory.length)
    throw rangeError(`${name} must be an integer from 0 to ${memory.length}, the length of the memory, not ${bytes}`);
  return bytes;
}

/** Where byte `offset` of the memory is, for a pointer inside a struct that goes to `kernel`. */
export function addressOf(kernel: Kernel, memory: Memory, offset: number | bigint = 0): bigint {
  return live(kernel, memory).address + within(offset, 'offset', memory);
}

/** `userspace_addr` and `memory_size` of a part of a memory: from `offset` (0), `length` bytes (the rest). */
export function rangeOf(
  kernel: Kernel,
  memory: Memory,
  offset: number | bigint = 0,
  length?: number | bigint,
): { userspace_addr: bigint; memory_size: bigint } {
  const userspace_addr = addressOf(kernel, memory, offset);
  const rest = BigInt(memory.length) - BigInt(offset);
  const memory_size = length === undefined ? rest : within(length, 'length', memory);
  if (memory_size > rest)
    throw rangeError(`offset ${offset} + length ${memory_size} is beyond the ${memory.length} bytes of the memory`);
  return { userspace_addr, memory_size };
}
