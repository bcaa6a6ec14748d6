import type { Kernel } from './kernel.ts';
import type { Ram } from './memory.ts';

const PAGE = 4096;

/** Memory for a pointer inside a struct to point at: `length` bytes or more, zeros, as long as `use` runs. */
export function withRoom<T>(kernel: Kernel, length: number, use: (room: Ram) => T): T {
  const room = kernel.guestRam(Math.max(PAGE, Math.ceil(length / PAGE) * PAGE));
  try {
    return use(room);
  } finally {
    room.close();
  }
}

/** The same with these bytes in it, at its beginning. */
export function withMemory<T>(kernel: Kernel, bytes: Uint8Array, use: (address: bigint, room: Ram) => T): T {
  return withRoom(kernel, bytes.length, (room) => {
    room.write(0, bytes);
    return use(room.address, room);
  });
}
