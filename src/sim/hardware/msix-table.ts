import { loadWidth } from '../../kernel/by-width.ts';
import type { Width } from '../../kernel/memory.ts';
import * as r from '../../uapi/pci-regs.ts';
import type { MsixSpec } from './function-spec.ts';

/** The message of a vector, and whether it may be sent now. */
export interface Message {
  readonly address: bigint;
  readonly data: number;
}

/** The MSI-X table and its pending bits, which lie in BARs. */
export class MsixTable {
  readonly #spec: MsixSpec;
  readonly #table: DataView;
  readonly #pending: DataView;
  readonly #unmasked: (vector: number) => void;

  /** `unmasked`: a vector's mask bit went from 1 to 0. */
  constructor(spec: MsixSpec, unmasked: (vector: number) => void) {
    this.#spec = spec;
    this.#table = new DataView(new ArrayBuffer(spec.vectors * r.PCI_MSIX_ENTRY_SIZE));
    this.#pending = new DataView(new ArrayBuffer(Math.ceil(spec.vectors / 64) * 8));
    this.#unmasked = unmasked;
    this.reset();
  }

  /** All vectors masked, nothing pending. */
  reset(): void {
    new Uint8Array(this.#table.buffer).fill(0);
    new Uint8Array(this.#pending.buffer).fill(0);
    for (let vector = 0; vector < this.#spec.vectors; vector++) {
      this.#table.setUint32(vector * r.PCI_MSIX_ENTRY_SIZE + r.PCI_MSIX_ENTRY_VECTOR_CTRL, r.PCI_MSIX_ENTRY_CTRL_MASKBIT, true);
    }
  }

  masked(vector: number): boolean {
    const control = this.#table.getUint32(vector * r.PCI_MSIX_ENTRY_SIZE + r.PCI_MSIX_ENTRY_VECTOR_CTRL, true);
    return (control & r.PCI_MSIX_ENTRY_CTRL_MASKBIT) !== 0;
  }

  message(vector: number): Message {
    const at = vector * r.PCI_MSIX_ENTRY_SIZE;
    return { address: this.#table.getBigUint64(at, true), data: this.#table.getUint32(at + r.PCI_MSIX_ENTRY_DATA, true) };
  }

  pending(vector: number): boolean {
    return ((this.#pending.getUint8(vector >> 3) >> (vector & 7)) & 1) === 1;
  }

  setPending(vector: number, on: boolean): void {
    const byte = this.#pending.getUint8(vector >> 3);
    this.#pending.setUint8(vector >> 3, on ? byte | (1 << (vector & 7)) : byte & ~(1 << (vector & 7)));
  }

  /** A load from the table or the pending bits; undefined: it is neither's. */
  read(bar: number, offset: number, width: Width): number | bigint | undefined {
    const place = this.#place(bar, offset, width);
    if (place === undefined) return undefined;
    return loadWidth(place.view, place.at, width);
  }

  /** A store; false: it is not the table's. The pending bits are read-only, and only double words can be written. */
  write(bar: number, offset: number, width: Width, value: number | bigint): boolean {
    const place = this.#place(bar, offset, width);
    if (place === undefined) return false;
    if (place.view === this.#pending || width < 4) return true;
    const words = width === 4 ? [Number(value)] : [Number(BigInt.asUintN(32, BigInt(value))), Number(BigInt(value) >> 32n)];
    for (const [index, word] of words.entries()) this.#store(place.at + 4 * index, word);
    return true;
  }

  #store(at: number, value: number): void {
    const vector = Math.floor(at / r.PCI_MSIX_ENTRY_SIZE);
    const was = this.masked(vector);
    this.#table.setUint32(at, value, true);
    if (was && !this.masked(vector)) this.#unmasked(vector);
  }

  #place(bar: number, offset: number, width: Width): { view: DataView; at: number } | undefined {
    const { tableBar, table, pbaBar, pba } = this.#spec;
    for (const [where, start, view] of [[tableBar, table, this.#table] as const, [pbaBar, pba, this.#pending] as const]) {
      const at = offset - start;
      if (bar === where && at >= 0 && at + width <= view.byteLength) return { view, at };
    }
    return undefined;
  }
}
