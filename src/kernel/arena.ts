/**
 * Where byte views lie on a real kernel: in shared `WebAssembly.Memory`, which never moves, cannot be detached, posts to workers, and is
 * freed by V8 only when no view in any thread is left. A back end maps files over its pages (MAP_FIXED) and puts zero pages
 * back when they are unmapped.
 *
 * Each such memory reserves 10 GiB of address space on Node 20 (V8 gives up after about 13 000 of them), so small mappings share arenas.
 * Pages of an arena are given out once and never again: a view that outlives its mapping reads zeros, never a stranger's
 * bytes. An arena whose mappings are all gone is garbage like any other object.
 */

const pageSize = 4096;
const wasmPage = 65536;
const arenaBytes = 64 * 1024 * 1024;

/** From here on a mapping has a memory of its own. */
const ownMemoryFrom: number = 8 * 1024 * 1024;

/** The longest view: a 32-bit WebAssembly.Memory has at most 65536 pages of 64 KiB. */
export const maxArenaView: number = 65536 * wasmPage;

/** What the allocator has to know of a back end. */
export interface ArenaHost {
  /** The address of a view's first byte. */
  addressOf(view: Uint8Array): bigint;
}

/** Pages of an arena: zeroed memory that nobody had before and nobody will get again. */
export interface ArenaPages {
  readonly address: bigint;
  /** Whole pages. `pages.subarray(0, length)` is what a `Memory` shows. */
  readonly pages: Uint8Array;
}

interface Arena {
  readonly bytes: Uint8Array;
  readonly address: bigint;
  used: number;
}

/** The part of the WebAssembly namespace used here; it belongs to no library that TypeScript loads for Node. */
interface SharedMemories {
  Memory: new (descriptor: { initial: number; maximum: number; shared: true }) => { readonly buffer: SharedArrayBuffer };
}
const { Memory } = (globalThis as unknown as { WebAssembly: SharedMemories }).WebAssembly;

export class Arenas {
  readonly #host: ArenaHost;
  #current: Arena | undefined;

  constructor(host: ArenaHost) {
    this.#host = host;
  }

  /**
   * Pages for `length` bytes, their address and length a multiple of `hugePage` (a power of two; above 4096 for hugetlb mappings). Undefined where there is no room: too long for one view, or no address space left.
   */
  take(length: number, hugePage: number = pageSize): ArenaPages | undefined {
    const alignment = Math.max(hugePage, pageSize);
    const bytes = Math.ceil(length / alignment) * alignment;
    if (bytes > maxArenaView) return undefined;
    if (bytes + alignment > ownMemoryFrom) return this.#own(bytes, alignment);
    let arena = this.#current;
    let start = arena === undefined ? 0 : firstAligned(arena, alignment);
    if (arena === undefined || start + bytes > arena.bytes.length) {
      arena = this.#create(arenaBytes);
      if (arena === undefined) return undefined;
      this.#current = arena;
      start = firstAligned(arena, alignment);
    }
    arena.used = start + bytes;
    return { address: arena.address + BigInt(start), pages: arena.bytes.subarray(start, start + bytes) };
  }

  /** A memory of its own. Its base is a multiple of 4096 only, so a larger alignment needs room to move. */
  #own(bytes: number, alignment: number): ArenaPages | undefined {
    const room = alignment > pageSize ? Math.min(bytes + alignment, maxArenaView) : bytes;
    const arena = this.#create(room);
    if (arena === undefined) return undefined;
    const start = firstAligned(arena, alignment);
    if (start + bytes > arena.bytes.length) return undefined;
    return { address: arena.address + BigInt(start), pages: arena.bytes.subarray(start, start + bytes) };
  }

  #create(bytes: number): Arena | undefined {
    const pages = Math.ceil(bytes / wasmPage);
    try {
      const view = new Uint8Array(new Memory({ initial: pages, maximum: pages, shared: true }).buffer);
      return { bytes: view, address: this.#host.addressOf(view), used: 0 };
    } catch (error) {
      // V8 has collected garbage and tried again before it says so: RLIMIT_AS, or no address space left.
      if (error instanceof RangeError) return undefined;
      throw error;
    }
  }
}

function firstAligned(arena: Arena, alignment: number): number {
  const at = arena.address + BigInt(arena.used);
  return arena.used + Number(-at & BigInt(alignment - 1));
}
