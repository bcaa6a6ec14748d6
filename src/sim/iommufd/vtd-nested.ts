import {
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_HWPT_DATA_VTD_S1,
  IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
  IOMMU_VTD_INV_FLAGS_LEAF,
  IOMMU_VTD_S1_EAFE,
  IOMMU_VTD_S1_SRE,
  iommu_hwpt_vtd_s1,
  iommu_hwpt_vtd_s1_invalidate,
} from '../../uapi/iommufd.ts';
import { EFAULT, EINVAL, EOPNOTSUPP } from '../../uapi/sys.ts';
import type { DmaTarget } from '../hardware/dma-target.ts';
import type { Process } from '../process.ts';
import type { PagingDomain } from './domain.ts';
import { copyUserData, type Invalidated, type NestedDomain, type UserArray, type UserData } from './driver.ts';
import { PAGE, U64_MAX } from './iova.ts';

/** Of an entry of a first-stage table (VT-d specification, 9.8). */
const PRESENT = 1n;
const WRITABLE = 2n;
const USER = 4n;
const ACCESSED = 0x20n;
const DIRTY = 0x40n;
const LARGE = 0x80n;
const ADDRESS = 0x000f_ffff_ffff_f000n;
const ENTRY = 8n;

/** Bits of an address, and the levels of a table for them. */
const LEVELS: ReadonlyMap<number, number> = new Map([
  [48, 4],
  [57, 5],
]);

/** ECAP: supervisor requests, extended accessed flag. CAP: five levels. */
const ECAP_SRS = 1n << 31n;
const ECAP_EAFS = 1n << 34n;
const CAP_FL5LP = 1n << 60n;

/**
 * `intel_nested_domain_ops` (drivers/iommu/intel/nested.c): a first-stage table that a guest keeps in memory of its own, whose addresses are IOVAs of the parent. Read, not observed:
 * QEMU's VT-d has none. Nothing is cached: what the guest changes holds at once, invalidated or not.
 */
export class VtdNested implements NestedDomain {
  /** A PASID has a table of its own, which is attached to it. */
  readonly guest = { pasids: false };
  readonly #parent: PagingDomain;
  readonly #flags: bigint;
  readonly #width: number;
  readonly #root: bigint;

  private constructor(parent: PagingDomain, { flags, addr_width, pgtbl_addr }: iommu_hwpt_vtd_s1) {
    this.#parent = parent;
    this.#flags = flags;
    this.#width = addr_width;
    this.#root = pgtbl_addr & ADDRESS;
  }

  /** intel_iommu_domain_alloc_nested. What the data says is looked at when it is attached. */
  static alloc(p: Process, parent: PagingDomain, flags: number, data: UserData): VtdNested | number {
    if (flags & ~IOMMU_HWPT_ALLOC_PASID || data.type !== IOMMU_HWPT_DATA_VTD_S1) return -EOPNOTSUPP;
    const { size } = iommu_hwpt_vtd_s1;
    const bytes = copyUserData(p, data, IOMMU_HWPT_DATA_VTD_S1, size, size);
    return typeof bytes === 'number' ? bytes : new VtdNested(parent, iommu_hwpt_vtd_s1.decode(bytes));
  }

  /** intel_pasid_setup_nested: −EINVAL, the hardware has no such levels, or not what a flag wants. */
  attachable(cap: bigint, ecap: bigint): number {
    if (!LEVELS.has(this.#width) || (this.#width === 57 && (cap & CAP_FL5LP) === 0n)) return -EINVAL;
    if (this.#flags & BigInt(IOMMU_VTD_S1_SRE) && (ecap & ECAP_SRS) === 0n) return -EINVAL;
    if (this.#flags & BigInt(IOMMU_VTD_S1_EAFE) && (ecap & ECAP_EAFS) === 0n) return -EINVAL;
    return 0;
  }

  /** Both stages: each address of a table, and what it leads to, is the parent’s to translate. A request is a user’s. */
  translate(iova: bigint, length: number, write: boolean): DmaTarget | undefined {
    const levels = LEVELS.get(this.#width);
    if (levels === undefined || iova >> BigInt(this.#width - 1) !== 0n) return undefined;
    let table = this.#root;
    for (let level = levels; level > 0; level--) {
      const shift = 12n + 9n * BigInt(level - 1);
      const at = table + ((iova >> shift) & 0x1ffn) * ENTRY;
      const entry = this.#entry(at);
      if (entry === undefined || !(entry & PRESENT) || !(entry & USER) || (write && !(entry & WRITABLE))) return undefined;
      const leaf = level === 1 || (level <= 3 && (entry & LARGE) !== 0n);
      if (!this.#mark(at, entry | ACCESSED | (leaf && write ? DIRTY : 0n), entry)) return undefined;
      if (leaf) {
        const within = iova & ((1n << shift) - 1n);
        const left = (1n << shift) - within;
        const base = entry & ADDRESS & -(1n << shift);
        return this.#parent.translate(base + within, left < BigInt(length) ? Number(left) : length, write);
      }
      table = entry & ADDRESS;
    }
    return undefined;
  }

  /** intel_nested_cache_invalidate_user: request by request. */
  invalidate(p: Process, { type, uptr, entryLength, count }: UserArray): Invalidated {
    const { size } = iommu_hwpt_vtd_s1_invalidate;
    if (type !== IOMMU_HWPT_INVALIDATE_DATA_VTD_S1) return { done: 0, error: -EINVAL };
    for (let done = 0; done < count; done++) {
      if (entryLength !== size) return { done, error: -EINVAL };
      const bytes = p.mm.copyFrom(uptr + BigInt(done * entryLength), entryLength);
      if (bytes === null) return { done, error: -EFAULT };
      const { addr, npages, flags, __reserved } = iommu_hwpt_vtd_s1_invalidate.decode(bytes);
      if (flags & ~IOMMU_VTD_INV_FLAGS_LEAF || __reserved !== 0) return { done, error: -EOPNOTSUPP };
      if (addr % PAGE !== 0n || (npages === U64_MAX && addr !== 0n)) return { done, error: -EINVAL };
    }
    return { done: count, error: 0 };
  }

  #entry(at: bigint): bigint | undefined {
    const target = this.#parent.translate(at, Number(ENTRY), false);
    if (target === undefined || !('page' in target)) return undefined;
    const { u8 } = target.page;
    return new DataView(u8.buffer, u8.byteOffset + target.at, Number(ENTRY)).getBigUint64(0, true);
  }

  /** Sets bits of an entry, which the second stage must let be written then. */
  #mark(at: bigint, value: bigint, before: bigint): boolean {
    if (value === before) return true;
    const target = this.#parent.translate(at, Number(ENTRY), true);
    if (target === undefined || !('page' in target)) return false;
    const { u8 } = target.page;
    new DataView(u8.buffer, u8.byteOffset + target.at, Number(ENTRY)).setBigUint64(0, value, true);
    return true;
  }
}
