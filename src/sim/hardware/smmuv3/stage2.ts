import type { DmaTarget, IommuDomain } from '../dma-target.ts';
import { CLASS_IN, F_PERMISSION, F_TRANSLATION, type Fault } from './event.ts';

const WORD = 8;

/** The second stage, as the first one goes through it: for its tables, and for what they lead to. */
export class Stage2 {
  readonly #domain: IommuDomain;
  readonly #bits: bigint;

  /** `bits`: of an address it takes. */
  constructor(domain: IommuDomain, bits: number) {
    this.#domain = domain;
    this.#bits = BigInt(bits);
  }

  translate(ipa: bigint, length: number, write: boolean): DmaTarget | Fault {
    const target = ipa >> this.#bits === 0n ? this.#domain.translate(ipa, length, write) : undefined;
    return target ?? this.#fault(ipa, write, CLASS_IN);
  }

  /** A word of a table. Where device memory is mapped there is no table: S2PTW, a permission fault. */
  load(ipa: bigint, kind: number): bigint | Fault {
    const place = this.#word(ipa, false, kind);
    return place instanceof DataView ? place.getBigUint64(0, true) : place;
  }

  store(ipa: bigint, value: bigint, kind: number): Fault | undefined {
    const place = this.#word(ipa, true, kind);
    if (!(place instanceof DataView)) return place;
    place.setBigUint64(0, value, true);
    return undefined;
  }

  #word(ipa: bigint, write: boolean, kind: number): DataView | Fault {
    const target = ipa >> this.#bits === 0n ? this.#domain.translate(ipa, WORD, write) : undefined;
    if (target === undefined) return this.#fault(ipa, write, kind);
    if (!('page' in target)) return { id: F_PERMISSION, class: kind, ipa };
    const { u8 } = target.page;
    return new DataView(u8.buffer, u8.byteOffset + target.at, WORD);
  }

  /** Mapped for the other direction: it is the permission. */
  #fault(ipa: bigint, write: boolean, kind: number): Fault {
    const mapped = ipa >> this.#bits === 0n && this.#domain.translate(ipa, 1, !write) !== undefined;
    return { id: mapped ? F_PERMISSION : F_TRANSLATION, class: kind, ipa };
  }
}
