import { EBADF } from '../uapi/sys.ts';
import * as check from './arguments.ts';
import { loadWidth, storeWidth } from './by-width.ts';
import { KernelError, rangeError, typeError } from './errors.ts';
import { showAs } from './inspect.ts';
import type { Mapping, Memory, Width } from './memory.ts';

/**
 * A `Memory` over a back end's `Mapping`. Two lifetimes meet here: the handle's (`close()`), and the pages', which last while
 * something in the kernel names them (`pin`/`unpin`, see keepalive.ts).
 */
export class MappedMemory implements Memory {
  readonly address: bigint;
  readonly length: number;
  /** Rounded up to whole pages: what the kernel may touch. */
  readonly span: bigint;
  readonly mapping: Mapping;
  readonly #onClose: (memory: MappedMemory) => void;
  #view: DataView | undefined;
  #pins = 0;
  #closed = false;
  #unmapped = false;

  constructor(mapping: Mapping, onClose: (memory: MappedMemory) => void) {
    this.mapping = mapping;
    this.address = mapping.address;
    this.length = mapping.length;
    this.span = BigInt(Math.ceil(mapping.length / 4096) * 4096);
    this.#onClose = onClose;
  }

  get bytes(): Uint8Array | undefined {
    return this.#closed ? undefined : this.mapping.bytes;
  }

  get closed(): boolean {
    return this.#closed;
  }

  read(offset: number, length: number): Uint8Array;
  read(offset: number, into: Uint8Array): Uint8Array;
  read(offset: number, what: number | Uint8Array): Uint8Array {
    const into = typeof what === 'number' ? undefined : check.bytes(what, 'into');
    const length = into === undefined ? (what as number) : into.byteLength;
    this.#range(offset, length, 'read');
    const target = into ?? new Uint8Array(length);
    const bytes = this.#plain();
    if (bytes === undefined) this.#done(this.mapping.copyOut(offset, target), 'read', offset);
    else target.set(bytes.subarray(offset, offset + length));
    return target;
  }

  write(offset: number, from: Uint8Array): void {
    const source = check.bytes(from, 'bytes');
    this.#range(offset, source.byteLength, 'write');
    const bytes = this.#plain();
    if (bytes === undefined) this.#done(this.mapping.copyIn(offset, source), 'write', offset);
    else bytes.set(source, offset);
  }

  read8(offset: number): number {
    return this.#load(offset, 1);
  }

  read16(offset: number): number {
    return this.#load(offset, 2);
  }

  read32(offset: number): number {
    return this.#load(offset, 4);
  }

  read64(offset: number): bigint {
    this.#range(offset, 8, 'read64');
    const view = this.#dataView();
    if (view !== undefined) return view.getBigUint64(offset, true);
    const value = this.mapping.load(offset, 8);
    if (typeof value === 'number') this.#done(value, 'read64', offset);
    return value as bigint;
  }

  write8(offset: number, value: number): void {
    this.#store(offset, 1, check.integer(value, 'value', 0, 0xff));
  }

  write16(offset: number, value: number): void {
    this.#store(offset, 2, check.integer(value, 'value', 0, 0xffff));
  }

  write32(offset: number, value: number): void {
    this.#store(offset, 4, check.integer(value, 'value', 0, 0xffff_ffff));
  }

  write64(offset: number, value: bigint): void {
    if (typeof value !== 'bigint') throw typeError(`value must be a bigint, not ${check.describe(value)}`);
    if (value < 0n || value > 0xffff_ffff_ffff_ffffn) throw rangeError(`value must fit 64 unsigned bits, not ${value}n`);
    this.#range(offset, 8, 'write64');
    const view = this.#dataView();
    if (view !== undefined) view.setBigUint64(offset, value, true);
    else this.#done(this.mapping.store(offset, 8, value), 'write64', offset);
  }

  /** Not unmapped yet: open, or closed and still named by something in the kernel. */
  get mapped(): boolean {
    return !this.#unmapped;
  }

  /** The pages stay mapped, whatever the handle does, until as many `unpin`s. */
  pin(): void {
    this.#pins++;
  }

  unpin(): void {
    this.#pins--;
    this.#unmapWhenIdle();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#view = undefined;
    this.#onClose(this);
    this.#unmapWhenIdle();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #unmapWhenIdle(): void {
    if (!this.#closed || this.#pins > 0 || this.#unmapped) return;
    this.#unmapped = true;
    this.mapping.unmap();
  }

  /** The view, where the accessors may use it. */
  #plain(): Uint8Array | undefined {
    return this.mapping.exact === true ? undefined : this.mapping.bytes;
  }

  #dataView(): DataView | undefined {
    const bytes = this.#plain();
    if (bytes === undefined) return undefined;
    return (this.#view ??= new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  }

  #load(offset: number, width: 1 | 2 | 4): number {
    this.#range(offset, width, `read${width * 8}`);
    const view = this.#dataView();
    if (view === undefined) return this.#done(this.mapping.load(offset, width) as number, `read${width * 8}`, offset);
    return loadWidth(view, offset, width);
  }

  #store(offset: number, width: 1 | 2 | 4, value: number): void {
    this.#range(offset, width, `write${width * 8}`);
    const view = this.#dataView();
    if (view === undefined) this.#done(this.mapping.store(offset, width as Width, value), `write${width * 8}`, offset);
    else storeWidth(view, offset, width, value);
  }

  #range(offset: number, length: number, call: string): void {
    if (this.#closed) throw new KernelError(EBADF, call, { note: 'this Memory is closed' });
    check.integer(offset, 'offset', 0, Number.MAX_SAFE_INTEGER);
    check.integer(length, 'length', 0, Number.MAX_SAFE_INTEGER);
    if (offset + length > this.length) {
      throw rangeError(
        `${call}: offset 0x${offset.toString(16)} + ${length} bytes passes the end of this Memory (0x${this.length.toString(16)})`,
      );
    }
  }

  #done(result: number, call: string, offset: number): number {
    if (result < 0) {
      throw new KernelError(result, call, { note: `touching 0x${(this.address + BigInt(offset)).toString(16)} faulted` });
    }
    return result;
  }
}

/** Whether the pages are still there: longer than the handle, where something in the kernel names them. */
export function isMapped(memory: Memory): boolean {
  return memory instanceof MappedMemory ? memory.mapped : !memory.closed;
}

showAs(MappedMemory, (memory) => {
  const state = memory.closed ? ', closed' : memory.bytes === undefined ? ', accessors only' : '';
  return `Memory 0x${memory.address.toString(16)} + 0x${memory.length.toString(16)}${state}`;
});
