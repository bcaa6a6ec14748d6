import type { Width } from '../../kernel/memory.ts';
import type { DmaTarget } from './dma-target.ts';
import type { PciFunction } from './pci-function.ts';

/** Bus mastering, through the IOMMU. */
export interface Dma {
  /** Memory read. Undefined: refused (bus mastering is off) or stopped by the IOMMU, which has recorded it. */
  read(iova: bigint | number, length: number, options?: { pasid?: number }): Uint8Array | undefined;
  /** Memory write. False: as above; what lies before the fault has been written. */
  write(iova: bigint | number, bytes: Uint8Array, options?: { pasid?: number }): boolean;
  /**
   * Page Request: asks for a page that is not there, of a function with that capability. `answer` is told whether the access may be tried again, when the last request of
   * the group has been answered; at once and with false where nobody answers.
   */
  requestPage(request: PageRequest, answer: (granted: boolean) => void): void;
}

/** A message of PCIe's Page Request Interface. */
export interface PageRequest {
  readonly iova: bigint;
  /** What the access needs; default reading only. */
  readonly read?: boolean;
  readonly write?: boolean;
  readonly execute?: boolean;
  readonly privileged?: boolean;
  readonly pasid?: number;
  /** Page Request Group Index; default 0. */
  readonly group?: number;
  /** The last of its group, which is answered as one; default true. */
  readonly last?: boolean;
}

export class BusMaster implements Dma {
  readonly #fn: PciFunction;

  constructor(fn: PciFunction) {
    this.#fn = fn;
  }

  read(iova: bigint | number, length: number, { pasid }: { pasid?: number } = {}): Uint8Array | undefined {
    const into = new Uint8Array(length);
    const whole = this.#pieces(BigInt(iova), length, false, pasid, (target, at) => {
      if ('page' in target) into.set(target.page.u8.subarray(target.at, target.at + target.length), at);
      else
        eachAccess(target.offset, target.length, (offset, width, i) =>
          store(into, at + i, width, target.device.load(offset, width)),
        );
    });
    return whole ? into : undefined;
  }

  write(iova: bigint | number, bytes: Uint8Array, { pasid }: { pasid?: number } = {}): boolean {
    const start = BigInt(iova);
    if (this.#fn.place?.takesMessages(start) === true) {
      return this.#fn.masters && bytes.length === 4 && this.#fn.sendMessage({ address: start, data: Number(load(bytes, 0, 4)) });
    }
    return this.#pieces(start, bytes.length, true, pasid, (target, at) => {
      if ('page' in target) target.page.u8.set(bytes.subarray(at, at + target.length), target.at);
      else
        eachAccess(target.offset, target.length, (offset, width, i) =>
          target.device.store(offset, width, load(bytes, at + i, width)),
        );
    });
  }

  requestPage(request: PageRequest, answer: (granted: boolean) => void): void {
    const { place, masters, positions } = this.#fn;
    if (!masters || place === undefined || positions.pri === 0) answer(false);
    else place.requestPage(this.#fn, request, answer);
  }

  #pieces(
    iova: bigint,
    length: number,
    write: boolean,
    pasid: number | undefined,
    visit: (target: DmaTarget, at: number) => void,
  ): boolean {
    if (!this.#fn.masters) return false;
    for (let at = 0; at < length; ) {
      const target = this.#fn.place?.translate(this.#fn, iova + BigInt(at), length - at, write, pasid);
      if (target === undefined) return false;
      visit(target, at);
      at += target.length;
    }
    return true;
  }
}

/** Splits a transfer to registers into accesses of at most four bytes, each at a multiple of its width. */
function eachAccess(offset: number, length: number, visit: (offset: number, width: 1 | 2 | 4, at: number) => void): void {
  for (let at = 0; at < length; ) {
    const left = length - at;
    const from = offset + at;
    const width = from % 4 === 0 && left >= 4 ? 4 : from % 2 === 0 && left >= 2 ? 2 : 1;
    visit(from, width, at);
    at += width;
  }
}

function load(bytes: Uint8Array, at: number, width: Width): number {
  let value = 0;
  for (let i = width - 1; i >= 0; i--) value = value * 256 + bytes[at + i]!;
  return value;
}

function store(bytes: Uint8Array, at: number, width: Width, value: number | bigint): void {
  for (let i = 0, left = BigInt(value); i < width; i++, left >>= 8n) bytes[at + i] = Number(left & 0xffn);
}
