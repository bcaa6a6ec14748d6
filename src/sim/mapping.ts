import type { Mapping, Width } from '../kernel/memory.ts';
import { EFAULT } from '../uapi/sys.ts';
import type { AddressSpace } from './address-space.ts';
import { PAGE_SIZE, type PageRef } from './pages.ts';
import type { Vma } from './vma.ts';

/** A mapping as KernelCore's Memory sees it. The accessors do what a load or store of the process would; a fault is −EFAULT. */
export class SimMapping implements Mapping {
  readonly address: bigint;
  readonly length: number;
  readonly bytes: Uint8Array | undefined;
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
    if (view === undefined) return;
    this.bytes = new Uint8Array(view.buffer, view.offset, length);
    this.#closeView = () => backing.closeView?.(page, this.#span / PAGE_SIZE);
  }

  load(offset: number, width: Width): number | bigint {
    const device = this.#device(offset);
    if (device?.load !== undefined) return device.load(device.offset, width);
    const bytes = new Uint8Array(8);
    if (!this.#mm.readInto(this.address + BigInt(offset), bytes.subarray(0, width))) return -EFAULT;
    const view = new DataView(bytes.buffer);
    return width === 8 ? view.getBigUint64(0, true) : Number(view.getBigUint64(0, true));
  }

  store(offset: number, width: Width, value: number | bigint): number {
    const device = this.#device(offset);
    if (device?.store !== undefined) return device.store(device.offset, width, value);
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

  /** Device memory behind this offset, where the backing has accessors instead of pages. */
  #device(
    offset: number,
  ): { load: ReturnType<typeof bound>['load']; store: ReturnType<typeof bound>['store']; offset: number } | undefined {
    const vma = this.#mm.vmaAt(this.#start + offset);
    if (vma?.backing.load === undefined) return undefined;
    return { ...bound(vma), offset: vma.page * PAGE_SIZE + (this.#start + offset - vma.start) };
  }
}

function bound(vma: Readonly<Vma>): {
  load: ((offset: number, width: Width) => number | bigint) | undefined;
  store: ((offset: number, width: Width, value: number | bigint) => number) | undefined;
} {
  const { backing } = vma;
  return { load: backing.load?.bind(backing), store: backing.store?.bind(backing) };
}
