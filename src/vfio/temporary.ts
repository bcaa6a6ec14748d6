import type { Kernel } from '../kernel/kernel.ts';

const PAGE = 4096;

/** Bytes where a kernel can read them, for a pointer inside a struct, as long as `use` runs. */
export function withMemory<T>(kernel: Kernel, bytes: Uint8Array, use: (address: bigint) => T): T {
  const memory = kernel.guestRam(Math.max(PAGE, Math.ceil(bytes.length / PAGE) * PAGE));
  try {
    memory.write(0, bytes);
    return use(memory.address);
  } finally {
    memory.close();
  }
}
