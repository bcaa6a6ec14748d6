/** Huge pages for cases: memory of them, and what the pool counts. Stores are by accessors: through a view the simulated pool is told of them late. */
import { type Kernel, KernelError, type Memory } from 'kvio';
import { MAP_ANONYMOUS, MAP_HUGE_1GB, MAP_HUGETLB, MAP_NORESERVE, MAP_SHARED } from 'kvio/uapi';
import type { Needs } from './case.ts';
import { exists, show } from './parts.ts';

/** A huge page of the default size. */
export const HUGE = 0x20_0000;
export const POOL = '/sys/kernel/mm/hugepages/hugepages-2048kB';

/** One of the larger size. */
export const GIANT = 0x4000_0000;
const GIANTS = '/sys/kernel/mm/hugepages/hugepages-1048576kB';

/** So many free huge pages. */
export const huge = (hugepages: number, more: Needs = {}): { readonly needs: Needs } => ({ needs: { ...more, hugepages } });

/** A free page of 1 GiB. */
export const giant = (more: Needs = {}): { readonly needs: Needs } => ({ needs: { ...more, giant: true } });

/** How many pages of a pool are free and nobody's. */
export function freePages(kernel: Kernel, size: number): number {
  const directory = size === GIANT ? GIANTS : POOL;
  if (!exists(kernel, `${directory}/free_hugepages`)) return 0;
  return Number(show(kernel, `${directory}/free_hugepages`)) - Number(show(kernel, `${directory}/resv_hugepages`));
}

export interface Pool {
  readonly free: number;
  readonly resv: number;
  readonly surplus: number;
}

const COUNTERS = ['free', 'resv', 'surplus'] as const;

export function pool(kernel: Kernel, size = HUGE): Pool {
  const directory = size === GIANT ? GIANTS : POOL;
  const count = (name: string): number => Number(BigInt.asIntN(64, BigInt(show(kernel, `${directory}/${name}_hugepages`))));
  return Object.fromEntries(COUNTERS.map((name) => [name, count(name)])) as unknown as Pool;
}

/** How the counters have changed, those that have. */
export function since(kernel: Kernel, before: Pool, size = HUGE): Record<string, string> {
  const now = pool(kernel, size);
  const changed = COUNTERS.filter((name) => now[name] !== before[name]);
  return Object.fromEntries(changed.map((name) => [name, signed(now[name] - before[name])]));
}

const signed = (value: number): string => (value > 0 ? `+${value}` : String(value));

export interface HugeMemory {
  readonly flags?: number;
  readonly fd?: number;
  readonly offset?: bigint;
  readonly prot?: number;
}

/** Memory of so many huge pages: shared, of nothing, unless said otherwise. */
export function hugeMemory(kernel: Kernel, pages: number, { flags = MAP_SHARED, fd, ...more }: HugeMemory = {}): Memory {
  const kind = fd === undefined ? { flags: flags | MAP_ANONYMOUS | MAP_HUGETLB } : { fd, flags };
  return kernel.mmap({ length: pages * HUGE, view: false, ...kind, ...more });
}

/** Memory of one page of 1 GiB. */
export function giantMemory(kernel: Kernel, flags: number = MAP_SHARED): Memory {
  return kernel.mmap({ length: GIANT, view: false, flags: flags | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_1GB });
}

/** Takes every page of the pool that is nobody's, for as long as the body runs. */
export function exhausted(kernel: Kernel, body: () => void): void {
  const { free, resv } = pool(kernel);
  const taken = free > resv ? hugeMemory(kernel, free - resv, { flags: MAP_SHARED | MAP_NORESERVE }) : undefined;
  for (let at = 0; at < free - resv; at++) taken!.write(at * HUGE, Uint8Array.of(1));
  try {
    body();
  } finally {
    taken?.close();
  }
}

/** Loads a byte: it, or 'a fault' where the process would get a signal. */
export function peek(memory: Memory, offset: number): number | string {
  return faulted(() => memory.read(offset, 1)[0]!);
}

export function poke(memory: Memory, offset: number, value: number): number | string {
  return faulted(() => {
    memory.write(offset, Uint8Array.of(value));
    return 0;
  });
}

function faulted(access: () => number): number | string {
  try {
    return access();
  } catch (error) {
    if (error instanceof KernelError) return error.code;
    throw error;
  }
}
