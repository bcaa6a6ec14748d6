/**
 * Memory a kernel can see. Pointers inside structs are `address`es, on the real kernel and in the simulator alike.
 *
 * No view ever dangles: `bytes` lies in shared memory that never moves and is never given back to the allocator while a view
 * is reachable; after `close()` a stale view reads zeros. What a memslot, an IOAS or a container names stays mapped until it is
 * unmapped or the last file that could use it is closed, whatever the holder of this handle does.
 *
 * A mapping is the process's, and no handle: it lasts until `close()`, or that of its kernel. An object that nobody has any more is not unmapped, as a descriptor would be closed, and nobody is
 * warned: its address may stand in a struct or in a guest, its `bytes` may be all that somebody kept, here or in a worker, and the kernel layer finds it by its address (`kernel.memoryAt`).
 */
export interface Memory {
  /** Where the kernel sees it. Page-aligned. */
  readonly address: bigint;
  /** In bytes, as asked for (mappings cover whole pages). */
  readonly length: number;
  /**
   * A view of the whole range on shared memory, or undefined where a touch may fault (BARs, guest_memfd without INIT_SHARED,
   * past the end of a file) or the range is too large or not contiguous. Then the accessors below are the way.
   */
  readonly bytes: Uint8Array | undefined;
  readonly closed: boolean;
  /** A copy of `length` bytes at `offset`, or fills `into`. Throws KernelError EFAULT where a touch faults, RangeError outside. */
  read(offset: number, length: number): Uint8Array;
  read(offset: number, into: Uint8Array): Uint8Array;
  write(offset: number, bytes: Uint8Array): void;
  /** One access of exactly this width, little endian: what a device register wants. */
  read8(offset: number): number;
  read16(offset: number): number;
  read32(offset: number): number;
  read64(offset: number): bigint;
  write8(offset: number, value: number): void;
  write16(offset: number, value: number): void;
  write32(offset: number, value: number): void;
  write64(offset: number, value: bigint): void;
  /** munmap. Idempotent. The pages stay for as long as a memslot (…) names them; the handle is unusable at once. */
  close(): void;
  [Symbol.dispose](): void;
}

/** `Memory` that certainly has a view: what `guestRam` gives. */
export interface Ram extends Memory {
  readonly bytes: Uint8Array;
}

export type Width = 1 | 2 | 4 | 8;

/**
 * What a back end gives for a mapping; `MappedMemory` (core) makes a `Memory` of it. Offsets are validated by the caller.
 * `load` and `store` are used where `bytes` is absent or `exact` is set; a negative *number* from `load`, or from any other, is −errno.
 */
export interface Mapping {
  readonly address: bigint;
  readonly length: number;
  readonly bytes: Uint8Array | undefined;
  /** `bytes` cannot show every page as the kernel has it (the simulator, where pages are shared piecemeal): the accessors ask `load` and `store`. */
  readonly exact?: boolean;
  load(offset: number, width: Width): number | bigint;
  store(offset: number, width: Width, value: number | bigint): number;
  copyOut(offset: number, into: Uint8Array): number;
  copyIn(offset: number, from: Uint8Array): number;
  protect(offset: number, length: number, prot: number): number;
  advise(offset: number, length: number, advice: number): number;
  unmap(): void;
}
