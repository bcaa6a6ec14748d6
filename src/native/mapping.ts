import { type Arenas, maxArenaView } from '../kernel/arena.ts';
import type { MapRequest } from '../kernel/backend.ts';
import type { Mapping, Width } from '../kernel/memory.ts';
import type { Addon } from './addon.ts';

const ENOMEM = 12;
const PROT_RW = 3;
const MAP_ANONYMOUS = 0x20;

/** MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE: for these an arena's own pages are what was asked for. */
const plainFlags = 0x1 | 0x2 | MAP_ANONYMOUS | 0x4000;

/**
 * mmap(2): over pages of an arena where the mapping cannot fault on touch, on its own otherwise. −ENOMEM also where V8 finds no
 * address space for another arena.
 */
export function map(addon: Addon, arenas: Arenas, request: MapRequest): NativeMapping | number {
  const { length, prot, flags, fd, offset } = request;
  if (request.view && (prot & PROT_RW) === PROT_RW) {
    const pageSize = addon.steady(fd, offset, length, flags);
    if (pageSize !== 0 && length + pageSize <= maxArenaView + 4096) {
      const taken = arenas.take(length, pageSize);
      if (taken === undefined) return -ENOMEM;
      const plain = (flags & MAP_ANONYMOUS) !== 0 && (flags & ~plainFlags) === 0 && prot === PROT_RW;
      const id = plain ? addon.keep(taken.pages) : addon.place(taken.pages, prot, flags, fd, offset, pageSize);
      if (id < 0) return id;
      return new NativeMapping(addon, id, taken.address, length, taken.pages.subarray(0, length));
    }
  }
  const id = addon.map(length, prot, flags, fd, offset);
  return id < 0 ? id : new NativeMapping(addon, id, addon.address(id), length, undefined);
}

export class NativeMapping implements Mapping {
  readonly address: bigint;
  readonly length: number;
  readonly bytes: Uint8Array | undefined;
  readonly #addon: Addon;
  #id: number;

  constructor(addon: Addon, id: number, address: bigint, length: number, bytes: Uint8Array | undefined) {
    this.#addon = addon;
    this.#id = id;
    this.address = address;
    this.length = length;
    this.bytes = bytes;
  }

  load(offset: number, width: Width): number | bigint {
    return this.#addon.load(this.#id, offset, width);
  }

  store(offset: number, width: Width, value: number | bigint): number {
    return this.#addon.store(this.#id, offset, width, value);
  }

  copyOut(offset: number, into: Uint8Array): number {
    return this.#addon.copyOut(this.#id, offset, into);
  }

  copyIn(offset: number, from: Uint8Array): number {
    return this.#addon.copyIn(this.#id, offset, from);
  }

  protect(offset: number, length: number, prot: number): number {
    return this.#addon.protect(this.#id, offset, length, prot);
  }

  advise(offset: number, length: number, advice: number): number {
    return this.#addon.advise(this.#id, offset, length, advice);
  }

  unmap(): void {
    if (this.#id === 0) return;
    this.#addon.unmap(this.#id);
    this.#id = 0;
  }
}
