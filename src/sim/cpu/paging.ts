/**
 * Page tables: from a linear address to a guest-physical one. Two levels (PSE), three (PAE) and four; walked as processors do, with what KVM
 * makes of tables that are not in RAM.
 */
import type { Mmu } from './mmu.ts';
import {
  AC,
  CR0_PG,
  CR0_WP,
  CR4_LA57,
  CR4_PAE,
  CR4_PGE,
  CR4_PSE,
  CR4_SMAP,
  CR4_SMEP,
  EFER_LMA,
  EFER_LME,
  EFER_NX,
} from './state.ts';

/** Kinds of access, with the bits of the page-fault error code they stand for. */
export const READ = 0;
export const WRITE = 2;
export const USER = 4;
export const FETCH = 16;
/** The processor's own access to a descriptor table, TSS or stack of another level: privileged, and never excused by RFLAGS.AC. */
export const SYSTEM = 0x100;
/** Look only: no accessed and dirty bits. */
export const PEEK = 0x200;
/** KVM walks the tables itself. */
export const BY_KVM = 0x400;

const PRESENT = 1;
const RESERVED = 8;
/** Of an entry. */
const E_P = 1;
const E_RW = 2;
const E_US = 4;
const E_A = 0x20;
const E_D = 0x40;
const E_PS = 0x80;
const E_NX = 0x80000000 | 0;

/** Everything besides the tables that decides what a walk gives. Made anew when a control register changes. */
export interface PagingMode {
  /** 0: linear addresses are physical ones. */
  readonly levels: 0 | 2 | 3 | 4 | 5;
  readonly writeProtect: boolean;
  readonly nx: boolean;
  readonly smep: boolean;
  readonly smap: boolean;
  readonly pse: boolean;
  /** Bits of an entry's high half no entry may have. */
  readonly reservedHigh: number;
  /** Physical address of the top table. */
  readonly root: number;
}

export const NO_PAGING: PagingMode = {
  levels: 0,
  writeProtect: false,
  nx: false,
  smep: false,
  smap: false,
  pse: false,
  reservedHigh: 0,
  root: 0,
};

/** CR4 bits whose change drops translations, besides those in `PagingMode`. */
const FLUSHING = CR4_PGE | CR4_PSE | CR4_PAE | CR4_SMEP | CR4_SMAP | CR4_LA57;

export function pagingKey(m: Mmu): string {
  return `${m.cr0 & (CR0_PG | CR0_WP)} ${m.cr3} ${m.cr4 & FLUSHING} ${m.efer & (EFER_LME | EFER_LMA | EFER_NX)}`;
}

export function pagingMode(m: Mmu): PagingMode {
  const { cr4 } = m;
  const paging = (m.cr0 & CR0_PG) !== 0;
  const levels = !paging ? 0 : m.longMode ? (cr4 & CR4_LA57 ? 5 : 4) : cr4 & CR4_PAE ? 3 : 2;
  const nx = (m.efer & EFER_NX) !== 0n && levels > 2;
  // Bits 62:52 are the system's own in four-level paging, reserved in PAE paging.
  const beyond = levels > 2 ? ~((2 ** Math.min(m.addressBits - 32, 20) - 1) | 0xfff00000) : 0;
  const reservedHigh = (levels === 3 ? beyond | 0x7ff00000 : beyond) | (nx ? 0 : E_NX);
  const table = levels === 3 ? 0xffff_ffe0n : levels === 2 ? 0xffff_f000n : 0x000f_ffff_ffff_f000n;
  return {
    levels,
    writeProtect: (m.cr0 & CR0_WP) !== 0,
    nx,
    smep: (cr4 & CR4_SMEP) !== 0n,
    smap: (cr4 & CR4_SMAP) !== 0n,
    pse: (cr4 & CR4_PSE) !== 0n,
    reservedHigh,
    root: Number(m.cr3 & table),
  };
}

/** What a failed walk was about: the error code, without the bits of the access. */
export const failed: { code: number } = { code: 0 };

const fail = (code: number): number => {
  failed.code = code;
  return -1;
};

/** The guest-physical address behind a linear one; −1: a page fault, `failed.code` says why. */
export function walk(m: Mmu, linear: number, access: number): number {
  const { levels } = m.paging;
  return levels === 2 ? walkTwo(m, linear, access) : walkLong(m, linear, access, levels);
}

/**
 * A table that is not in RAM. KVM's walker says that the page is not present. On hardware the nested page fault has the entry's address, which KVM
 * takes for the operand's, where the offset in the page fits: the access becomes one to the entry.
 */
const outside = (m: Mmu, at: number, linear: number, access: number): number =>
  m.emulated || access & (PEEK | BY_KVM) || (at & 0xfff) !== (linear & 0xfff) ? fail(0) : at;

/** A reserved bit is set in an entry that is present; QEMU's processor does not say so. */
const reserved = (m: Mmu): number => (m.qemu ? RESERVED : PRESENT | RESERVED);

/** An entry, as a place in RAM; null where there is none: KVM then says the page is not present. */
const entryAt = (m: Mmu, gpa: number, access: number): DataView | null =>
  m.tablePage(m.physical(Math.floor(gpa / 4096)), (access & PEEK) !== 0);

/** Sets bits of an entry. Tables in memory the guest may not write stay as they are. */
function mark(m: Mmu, gpa: number, low: number, bits: number, access: number): void {
  if ((low & bits) !== bits && !(access & PEEK)) m.physicalStore32(gpa, low | bits);
}

/** Rights gathered on the way down against the access: 0, or the error code. */
function violation(m: Mmu, rights: number, noExecute: boolean, access: number): number {
  const { paging } = m;
  const user = (rights & E_US) !== 0;
  if (access & USER) {
    if (!user || (access & WRITE && !(rights & E_RW))) return PRESENT;
  } else {
    if (access & WRITE && !(rights & E_RW) && paging.writeProtect) return PRESENT;
    if (user && access & FETCH && paging.smep) return PRESENT;
    if (user && !(access & FETCH) && paging.smap && (access & SYSTEM || !(m.fl & AC))) return PRESENT;
  }
  return access & FETCH && noExecute ? PRESENT : 0;
}

/** Two levels of 32-bit entries; with CR4.PSE the upper one may map 4 MiB, anywhere below 2^40. */
function walkTwo(m: Mmu, linear: number, access: number): number {
  const upperAt = m.paging.root + ((linear >>> 22) << 2);
  let view = entryAt(m, upperAt, access);
  if (view === null) return outside(m, upperAt, linear, access);
  const upper = view.getInt32(upperAt & 0xfff, true);
  if (!(upper & E_P)) return fail(0);
  const large = (upper & E_PS) !== 0 && m.paging.pse;
  let leafAt = upperAt;
  let leaf = upper;
  if (large) {
    if (upper & 0x200000) return fail(reserved(m));
  } else {
    if (!m.emulated) mark(m, upperAt, upper, E_A, access);
    leafAt = ((upper & 0xfffff000) >>> 0) + (((linear >>> 12) & 0x3ff) << 2);
    view = entryAt(m, leafAt, access);
    if (view === null) return outside(m, leafAt, linear, access);
    leaf = view.getInt32(leafAt & 0xfff, true);
    if (!(leaf & E_P)) return fail(0);
  }
  const wrong = violation(m, upper & leaf, false, access);
  if (wrong) return fail(wrong);
  if (!large) mark(m, upperAt, upper, E_A, access);
  mark(m, leafAt, leaf, access & WRITE ? E_A | E_D : E_A, access);
  if (!large) return ((leaf & 0xfffff000) >>> 0) + (linear & 0xfff);
  return ((upper >>> 13) & 0xff) * 0x1_0000_0000 + ((upper & 0xffc00000) >>> 0) + (linear & 0x3fffff);
}

/** Entries passed on the way, for their accessed bits. */
const passedAt = new Float64Array(5);
const passedLow = new Int32Array(5);

/** Three, four or five levels of 64-bit entries. */
function walkLong(m: Mmu, linear: number, access: number, levels: number): number {
  const { paging } = m;
  const low = linear | 0;
  const high = Math.floor(linear / 0x1_0000_0000) | 0;
  let table = paging.root;
  let rights = E_RW | E_US;
  let noExecute = false;
  for (let level = levels; ; level--) {
    const index =
      level === 1
        ? low >>> 12
        : level === 2
          ? low >>> 21
          : level === 3
            ? (low >>> 30) | (levels === 3 ? 0 : high << 2)
            : level === 4
              ? high >>> 7
              : high >>> 16;
    const at = table + (index & 0x1ff) * 8;
    const pointer = levels === 3 && level === 3;
    let entry: number;
    let entryHigh: number;
    if (pointer && m.cachesPdptrs) {
      entry = Number(m.pdptrs[index & 3]! & 0xffffffffn) | 0;
      entryHigh = Number(m.pdptrs[index & 3]! >> 32n) | 0;
    } else {
      const view = entryAt(m, at, access);
      if (view === null) return outside(m, at, linear, access);
      entry = view.getInt32(at & 0xfff, true);
      entryHigh = view.getInt32((at & 0xfff) + 4, true);
    }
    if (!(entry & E_P)) return fail(0);
    const size = pointer ? 0 : entry & E_PS;
    const leaf = level === 1 || (size !== 0 && level <= 3);
    const misplaced =
      level >= 4 || (level === 3 && !pointer && !m.gigabytePages)
        ? size !== 0
        : leaf && level > 1 && (entry & (level === 2 ? 0x1fe000 : 0x3fffe000)) !== 0;
    // PDPTEs were checked when they were loaded.
    if (!pointer && (misplaced || entryHigh & paging.reservedHigh)) return fail(reserved(m));
    if (!pointer) {
      rights &= entry;
      if (entryHigh < 0) noExecute = true;
    }
    if (!leaf) {
      passedAt[level - 1] = pointer ? -1 : at;
      passedLow[level - 1] = entry;
      // KVM's walker marks nothing before it knows that the access is allowed; processors do.
      if (!m.emulated && !pointer) mark(m, at, entry, E_A, access);
      table = (entryHigh & 0xfffff) * 0x1_0000_0000 + ((entry & 0xfffff000) >>> 0);
      continue;
    }
    const wrong = violation(m, rights, noExecute, access);
    if (wrong) return fail(wrong);
    for (let above = level; above < levels; above++) {
      if (passedAt[above]! >= 0) mark(m, passedAt[above]!, passedLow[above]!, E_A, access);
    }
    mark(m, at, entry, access & WRITE ? E_A | E_D : E_A, access);
    const mask = level === 1 ? 0xfff : level === 2 ? 0x1fffff : 0x3fffffff;
    return (entryHigh & 0xfffff) * 0x1_0000_0000 + ((entry & ~mask & 0xfffff000) >>> 0) + (low & mask);
  }
}

/** Bits of a PDPTE that have to be 0 when PAE paging loads it. */
export function legalPdpte(m: Mmu, entry: bigint): boolean {
  if (!(entry & 1n)) return true;
  return !(entry & (0x1e6n | (-1n << BigInt(m.addressBits)))) && entry >> 63n === 0n;
}
