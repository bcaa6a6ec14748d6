import type { Mapping, Width } from '../../kernel/memory.ts';
import { EFAULT, PROT_READ, PROT_WRITE } from '../../uapi/sys.ts';
import type { AddressSpace } from './address-space.ts';
import { PAGE_SIZE, type PageRef } from './pages.ts';
import type { Vma } from './vma.ts';

/** A mapping as KernelCore's Memory sees it. The accessors do what a load or store of the process would; a fault is −EFAULT. */
export class SimMapping implements Mapping {
  readonly address: bigint;
  readonly length: number;
  readonly bytes: Uint8Array | undefined;
  readonly exact: boolean;
  readonly #mm: AddressSpace;
  readonly #start: number;
  readonly #span: number;
  readonly #closeView: (() => void) | undefined;

  constructor(mm: AddressSpace, vma: Vma, length: number, view: PageRef | undefined) {
    this.#mm = mm;
    this.#start = vma.start;
    this.#span = vma.end - vma.start;
    this.address = BigInt(vma.start);
    this.length = length;
    const { backing, page } = vma;
    this.exact = view?.apart === true;
    if (view === undefined) return;
    this.bytes = new Uint8Array(view.buffer, view.offset, length);
    this.#closeView = () => backing.closeView?.(page, this.#span / PAGE_SIZE);
  }

  load(offset: number, width: Width): number | bigint {
    const vma = this.#mm.vmaAt(this.#start + offset);
    if (vma?.backing.load !== undefined) {
      return (vma.prot & PROT_READ) === 0 ? -EFAULT : vma.backing.load(inBacking(vma, this.#start + offset), width);
    }
    const bytes = new Uint8Array(8);
    if (!this.#mm.readInto(this.address + BigInt(offset), bytes.subarray(0, width))) return -EFAULT;
    const value = new DataView(bytes.buffer).getBigUint64(0, true);
    return width === 8 ? value : Number(value);
  }

  store(offset: number, width: Width, value: number | bigint): number {
    const vma = this.#mm.vmaAt(this.#start + offset);
    if (vma?.backing.store !== undefined) {
      return (vma.prot & PROT_WRITE) === 0 ? -EFAULT : vma.backing.store(inBacking(vma, this.#start + offset), width, value);
    }
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
    return this.#mm.copyTo(this.address + BigInt(offset), bytes.subarray(0, width)) ? 0 : -EFAULT;
  }

  copyOut(offset: number, into: Uint8Array): number {
    return this.#mm.readInto(this.address + BigInt(offset), into) ? 0 : -EFAULT;
  }

  copyIn(offset: number, from: Uint8Array): number {
    return this.#mm.copyTo(this.address + BigInt(offset), from) ? 0 : -EFAULT;
  }

  protect(offset: number, length: number, prot: number): number {
    return this.#mm.mprotect(this.#start + offset, length, prot);
  }

  advise(offset: number, length: number, advice: number): number {
    return this.#mm.madvise(this.#start + offset, length, advice);
  }

  unmap(): void {
    this.#mm.munmap(this.#start, this.#span);
    this.#closeView?.();
  }
}

/** The offset in the backing that an address shows. */
function inBacking(vma: Readonly<Vma>, address: number): number {
  return vma.page * PAGE_SIZE + (address - vma.start);
}
