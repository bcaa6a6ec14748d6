import { iommu_hw_info_arm_smmuv3 } from '../../../uapi/iommufd.ts';

/** SMMU_IDR5.OAS: bits of a physical address. */
const OAS_BITS = [32, 36, 40, 42, 44, 48, 52] as const;

/** Bits of SMMU_IDR5 that are 52-bit addresses of small granules, 128-bit descriptors, or came later still. */
const IDR5_LATER = 0xf380;

/** Base-2 logarithm of a granule, and its bit in SMMU_IDR5. */
const GRANULES: ReadonlyMap<number, number> = new Map([
  [12, 4],
  [14, 5],
  [16, 6],
]);

/** What an SMMUv3 says of itself: its identification registers (SMMUv3 architecture, 6.3.1 on), as IOMMU_GET_HW_INFO tells them. */
export class SmmuRegisters {
  readonly idr: readonly number[];

  constructor(bytes: Uint8Array) {
    this.idr = iommu_hw_info_arm_smmuv3.decode(bytes).idr;
  }

  #field(register: number, shift: number, width: number): number {
    return (this.idr[register]! >>> shift) & (2 ** width - 1);
  }

  /** VMSAv8-32 LPAE tables. */
  get aarch32(): boolean {
    return this.#field(0, 2, 1) === 1;
  }

  /** 0: no hardware updates of tables; 1: of the access flag; 2: of the dirty state too. */
  get httu(): number {
    return this.#field(0, 6, 2);
  }

  get asidBits(): 8 | 16 {
    return this.#field(0, 12, 1) === 1 ? 16 : 8;
  }

  get vmidBits(): 8 | 16 {
    return this.#field(0, 18, 1) === 1 ? 16 : 8;
  }

  /** Tables of context descriptors may have two levels. */
  get twoLevelContexts(): boolean {
    return this.#field(0, 19, 1) === 1;
  }

  /** 2: little endian only; 3: big endian only. */
  get endianness(): number {
    return this.#field(0, 21, 2);
  }

  /** 0: a context chooses; 1: nothing stalls; 2: everything does. */
  get stallModel(): number {
    return this.#field(0, 24, 2);
  }

  /** A terminated access is always an abort, never answered by zeros. */
  get abortsOnly(): boolean {
    return this.#field(0, 26, 1) === 1;
  }

  /** Base-2 logarithm of the entries of the longest command queue. */
  get commandQueueLog2(): number {
    return this.#field(1, 21, 5);
  }

  get substreamBits(): number {
    return this.#field(1, 6, 5);
  }

  /** Hierarchical attributes can be disabled. */
  get had(): boolean {
    return this.#field(3, 2, 1) === 1;
  }

  /** A second stage can force write-back cacheability (IDR3.FWB). */
  get forcesWriteBack(): boolean {
    return this.#field(3, 8, 1) === 1;
  }

  /** Tables for less than 25 bits. */
  get smallTables(): boolean {
    return this.#field(3, 9, 1) === 1;
  }

  get e0pd(): boolean {
    return this.#field(3, 13, 1) === 1;
  }

  /** Addresses of the second stage, and physical ones. A value of a later architecture is taken for the largest there is. */
  get outputBits(): number {
    return OAS_BITS[this.#field(5, 0, 3)] ?? 52;
  }

  granule(log2: number): boolean {
    return this.#field(5, GRANULES.get(log2)!, 1) === 1;
  }

  /** 52-bit virtual addresses. */
  get largeVirtual(): boolean {
    return this.#field(5, 10, 2) !== 0;
  }

  /** Formats of tables this model has not. */
  get laterFormats(): number {
    return this.idr[5]! & IDR5_LATER;
  }
}
