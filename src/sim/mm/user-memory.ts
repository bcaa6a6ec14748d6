import type { Width } from '../../kernel/memory.ts';
import { EFAULT, PROT_READ, PROT_WRITE } from '../../uapi/sys.ts';
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
    const bytes = new Uint8Array(4);
    return this.#user(address, bytes, false) ? new DataView(bytes.buffer).getUint32(0, true) : null;
  }

  read64(address: bigint): bigint | null {
    const bytes = new Uint8Array(8);
    return this.#user(address, bytes, false) ? new DataView(bytes.buffer).getBigUint64(0, true) : null;
  }

  /** put_user; false: EFAULT. */
  write32(address: bigint, value: number): boolean {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    return this.#user(address, bytes, true);
  }

  write64(address: bigint, value: bigint): boolean {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    return this.#user(address, bytes, true);
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

  /** get_user and put_user: one access, to a device too. */
  #user(address: bigint, bytes: Uint8Array, write: boolean): boolean {
    const vma = this.vmaAt(address);
    if (vma?.backing.load === undefined) return write ? this.copyTo(address, bytes) : this.readInto(address, bytes);
    return this.#access(vma, Number(address), bytes, write);
  }

  /** A copy where a device is mapped: by eight bytes while there are so many, then by single ones. */
  #deviceCopy(address: number, bytes: Uint8Array, write: boolean): boolean {
    const vma = this.vmaAt(address);
    if (vma?.backing.load === undefined) return false;
    for (let at = 0; at < bytes.length; ) {
      const width = bytes.length - at >= 8 ? 8 : 1;
      if (!this.#access(vma, address + at, bytes.subarray(at, at + width), write)) return false;
      at += width;
    }
    return true;
  }

  #access({ prot, page, start, backing }: Readonly<Vma>, address: number, bytes: Uint8Array, write: boolean): boolean {
    if ((prot & (write ? PROT_WRITE : PROT_READ)) === 0) return false;
    const offset = page * PAGE_SIZE + (address - start);
    const width = bytes.length as Width;
    if (write) return (backing.store?.(offset, width, littleEndian(bytes)) ?? -EFAULT) >= 0;
    const value = backing.load?.(offset, width) ?? -EFAULT;
    if (value < 0) return false;
    for (let i = 0, left = BigInt(value); i < width; i++, left >>= 8n) bytes[i] = Number(left & 0xffn);
    return true;
  }
}

/** Little-endian; of eight bytes a bigint. */
function littleEndian(bytes: Uint8Array): number | bigint {
  let value = 0n;
  for (const byte of [...bytes].reverse()) value = (value << 8n) | BigInt(byte);
  return bytes.length === 8 ? value : Number(value);
}
