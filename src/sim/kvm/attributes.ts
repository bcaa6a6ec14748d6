import { KVM_CAP_MEMORY_ATTRIBUTES, KVM_MEMORY_ATTRIBUTE_PRIVATE, kvm_memory_attributes } from '../../uapi/kvm.ts';
import { EFAULT, EINVAL } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import { endPrivate } from './private-dma.ts';
import type { Vm } from './vm.ts';

const PAGE_MASK = 0xfffn;
const U64_END = 1n << 64n;
const PRIVATE = Number(KVM_MEMORY_ATTRIBUTE_PRIVATE);

/** Borders in one chunk before it is cut in two. */
const CHUNK = 512;

/** Consecutive borders, ascending: from `starts[i]` on, up to the next border, frames have `values[i]`. */
interface Chunk {
  readonly starts: number[];
  readonly values: number[];
}

/**
 * A value for every guest frame, 0 until it is set: what `mem_attr_array` says, kept by ranges instead of frames. Neighbouring borders differ
 * in value, so the length of a range costs nothing. Borders live in short chunks: setting a range moves at most one chunk's
 * worth of them, plus the list of chunks, and finding one is two binary searches.
 */
export class FrameRanges {
  readonly #chunks: Chunk[] = [];
  #borders = 0;

  /** How many borders between ranges there are: what the memory is spent on. */
  get borders(): number {
    return this.#borders;
  }

  get(gfn: number): number {
    const c = this.#chunkOf(gfn);
    if (c < 0) return 0;
    const { starts, values } = this.#chunks[c]!;
    return values[last(starts, gfn)]!;
  }

  /** True when all of [start, end) have the value. */
  all(start: number, end: number, value: number): boolean {
    return this.get(start) === value && this.#nextBorder(start) >= end;
  }

  set(start: number, end: number, value: number): void {
    const after = this.get(end);
    const before = start === 0 ? 0 : this.get(start - 1);
    this.#remove(start, end);
    if (after !== value) this.#insert(end, after);
    if (before !== value) this.#insert(start, value);
  }

  /** The first border above `gfn`; Infinity where there is none. */
  #nextBorder(gfn: number): number {
    const c = this.#chunkOf(gfn);
    if (c >= 0) {
      const { starts } = this.#chunks[c]!;
      const next = starts[last(starts, gfn) + 1];
      if (next !== undefined) return next;
    }
    return this.#chunks[c + 1]?.starts[0] ?? Infinity;
  }

  /** Index of the last chunk that begins at or below `gfn`; −1. */
  #chunkOf(gfn: number): number {
    let low = 0;
    let high = this.#chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#chunks[middle]!.starts[0]! <= gfn) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** Takes the borders in [start, end] out. */
  #remove(start: number, end: number): void {
    let c = Math.max(0, this.#chunkOf(start));
    while (c < this.#chunks.length && this.#chunks[c]!.starts[0]! <= end) {
      const { starts, values } = this.#chunks[c]!;
      const from = last(starts, start - 1) + 1;
      const to = last(starts, end) + 1;
      this.#borders -= to - from;
      if (to - from === starts.length) {
        let whole = 1;
        while (c + whole < this.#chunks.length && this.#chunks[c + whole]!.starts.at(-1)! <= end) {
          this.#borders -= this.#chunks[c + whole]!.starts.length;
          whole++;
        }
        this.#chunks.splice(c, whole);
        continue;
      }
      starts.splice(from, to - from);
      values.splice(from, to - from);
      c++;
    }
  }

  #insert(start: number, value: number): void {
    this.#borders++;
    const c = Math.max(0, this.#chunkOf(start));
    const chunk = this.#chunks[c];
    if (chunk === undefined) {
      this.#chunks.push({ starts: [start], values: [value] });
      return;
    }
    const at = last(chunk.starts, start) + 1;
    chunk.starts.splice(at, 0, start);
    chunk.values.splice(at, 0, value);
    if (chunk.starts.length <= CHUNK) return;
    // A run that grows at its end leaves full chunks behind; elsewhere both halves get room.
    const cut = at === CHUNK ? CHUNK : CHUNK / 2;
    this.#chunks.splice(c + 1, 0, { starts: chunk.starts.splice(cut), values: chunk.values.splice(cut) });
  }
}

/** Index of the last entry at or below `gfn`; −1. */
function last(starts: readonly number[], gfn: number): number {
  let low = 0;
  let high = starts.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (starts[middle]! <= gfn) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** kvm_mem_is_private. */
export function isPrivate(vm: Vm, gfn: number): boolean {
  return (vm.attributes.get(gfn) & PRIVATE) !== 0;
}

/** KVM_SET_MEMORY_ATTRIBUTES. Of memslots nothing is asked; nothing is copied or cleared, mappings of the other kind are zapped. */
export function setMemoryAttributes(vm: Vm, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_memory_attributes.size);
  if (bytes === null) return -EFAULT;
  const { address, size, attributes, flags } = kvm_memory_attributes.decode(bytes);
  if (flags) return -EINVAL;
  if (attributes & ~BigInt(vm.capability(KVM_CAP_MEMORY_ATTRIBUTES))) return -EINVAL;
  if (size === 0n || address + size >= U64_END) return -EINVAL;
  if ((address | size) & PAGE_MASK) return -EINVAL;
  changeAttributes(vm, Number(address >> 12n), Number((address + size) >> 12n), Number(attributes));
  return 0;
}

/** kvm_vm_set_mem_attributes: of frames [start, end). */
export function changeAttributes(vm: Vm, start: number, end: number, value: number): void {
  if (vm.attributes.all(start, end, value)) return;
  if (vm.teeIo !== undefined && (value & PRIVATE) === 0) endPrivate(vm.memslots, start, end);
  vm.attributes.set(start, end, value);
  vm.zap();
}
