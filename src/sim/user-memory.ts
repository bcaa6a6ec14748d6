import { PROT_READ, PROT_WRITE } from '../uapi/sys.ts';
import { eachPage, PAGE_SIZE, type PageRef } from './pages.ts';
import type { Vma } from './vma.ts';

/** One past the last user address (4-level paging, less the guard page). */
export const TASK_SIZE = 0x7fff_ffff_f000;
/** Where the bytes of a system call's argument appear for the time of the call, one window per nesting level. */
const SCRATCH_BASE = 0x10_0000_0000;
const SCRATCH_STRIDE = 0x4_0000_0000;

/** The kernel's way to the memory of a process: copy_from_user, copy_to_user. A pointer that leads nowhere is EFAULT, as it is for a real kernel. */
export abstract class UserMemory {
  readonly #scratch: Uint8Array[] = [];

  abstract resolve(address: bigint | number, write: boolean): PageRef | null;
  abstract vmaAt(address: bigint | number): Readonly<Vma> | undefined;

  /** copy_from_user: a copy, or null for EFAULT. */
  copyFrom(address: bigint, length: number): Uint8Array | null {
    const into = new Uint8Array(length);
    return this.readInto(address, into) ? into : null;
  }

  /** copy_from_user into a buffer of the caller; false: EFAULT (what came before the fault is copied). */
  readInto(address: bigint, into: Uint8Array): boolean {
    if (into.length === 0) return true;
    const window = this.#window(address);
    if (window !== undefined) {
      const piece = window.bytes.subarray(window.offset, window.offset + into.length);
      into.set(piece);
      return piece.length === into.length;
    }
    return this.#pieces(address, into, false);
  }

  /** copy_to_user; false: EFAULT (what came before the fault is written). */
  copyTo(address: bigint, from: Uint8Array): boolean {
    if (from.length === 0) return true;
    const window = this.#window(address);
    if (window !== undefined) {
      const room = Math.max(0, window.bytes.length - window.offset);
      window.bytes.set(from.subarray(0, room), Math.min(window.offset, window.bytes.length));
      return room >= from.length;
    }
    return this.#pieces(address, from, true);
  }

  /** get_user of 4 or 8 bytes; null: EFAULT. */
  read32(address: bigint): number | null {
    const bytes = this.copyFrom(address, 4);
    return bytes === null ? null : new DataView(bytes.buffer).getUint32(0, true);
  }

  read64(address: bigint): bigint | null {
    const bytes = this.copyFrom(address, 8);
    return bytes === null ? null : new DataView(bytes.buffer).getBigUint64(0, true);
  }

  /** put_user; false: EFAULT. */
  write32(address: bigint, value: number): boolean {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    return this.copyTo(address, bytes);
  }

  write64(address: bigint, value: bigint): boolean {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    return this.copyTo(address, bytes);
  }

  /** Runs `body` with `bytes` readable and writable at a user address, exactly as long as they are. */
  withScratch<T>(bytes: Uint8Array, body: (address: bigint) => T): T {
    const address = BigInt(SCRATCH_BASE + this.#scratch.length * SCRATCH_STRIDE);
    this.#scratch.push(bytes);
    try {
      return body(address);
    } finally {
      this.#scratch.pop();
    }
  }

  #window(address: bigint): { bytes: Uint8Array; offset: number } | undefined {
    if (this.#scratch.length === 0) return undefined;
    const offset = Number(address) - SCRATCH_BASE;
    if (offset < 0) return undefined;
    const bytes = this.#scratch[Math.floor(offset / SCRATCH_STRIDE)];
    return bytes === undefined ? undefined : { bytes, offset: offset % SCRATCH_STRIDE };
  }

  /** copy_user_generic: `bytes` from or to user memory, up to the first fault. */
  #pieces(address: bigint, bytes: Uint8Array, write: boolean): boolean {
    // access_ok: the whole range lies in user space.
    if (address < 0n || address + BigInt(bytes.length) > BigInt(TASK_SIZE)) return false;
    let whole = true;
    eachPage(Number(address), bytes.length, (index, within, at, length) => {
      if (!whole) return;
      const piece = bytes.subarray(at, at + length);
      const page = this.resolve(index * PAGE_SIZE, write);
      if (page === null) whole = this.#deviceCopy(index * PAGE_SIZE + within, piece, write);
      else if (write) page.u8.set(piece, page.offset + within);
      else piece.set(page.u8.subarray(page.offset + within, page.offset + within + length));
    });
    return whole;
  }

  /** The same where a device is mapped: by eight bytes while there are so many, then by single ones. */
  #deviceCopy(address: number, bytes: Uint8Array, write: boolean): boolean {
    const vma = this.vmaAt(address);
    if (vma === undefined || (vma.prot & (write ? PROT_WRITE : PROT_READ)) === 0) return false;
    const { load, store } = vma.backing;
    if (load === undefined || store === undefined) return false;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const base = vma.page * PAGE_SIZE + (address - vma.start);
    for (let at = 0; at < bytes.length; ) {
      const width = bytes.length - at >= 8 ? 8 : 1;
      if (write) {
        const value = width === 8 ? view.getBigUint64(at, true) : bytes[at]!;
        if (store.call(vma.backing, base + at, width, value) < 0) return false;
      } else {
        const value = load.call(vma.backing, base + at, width);
        if (value < 0) return false;
        if (width === 8) view.setBigUint64(at, BigInt(value), true);
        else bytes[at] = Number(value);
      }
      at += width;
    }
    return true;
  }
}
