import { EADDRINUSE, EBUSY, EDEADLK, EEXIST, EINVAL, ENOENT, EOPNOTSUPP, EOVERFLOW, EPERM } from '../../uapi/sys.ts';
import { type Interval, IntervalTree } from '../interval-tree.ts';
import type { Access } from './access.ts';
import type { PagingDomain } from './domain.ts';
import { complement, lastOf, merged, PAGE, place, U64_MAX } from './iova.ts';
import type { IoptPages } from './pages.ts';

/** IOMMU_READ and IOMMU_WRITE of an area. */
export interface Permission {
  readonly read: boolean;
  readonly write: boolean;
}

/** `struct iopt_area`: an interval of IOVAs and what lies behind it. */
export class Area implements Interval, Permission {
  readonly first: bigint;
  readonly last: bigint;
  readonly pages: IoptPages;
  /** The byte of `pages` that `first` shows. */
  readonly start: bigint;
  readonly read: boolean;
  readonly write: boolean;
  /** Pins of in-kernel accesses. */
  pins = 0;
  /** Hardware queues that use it: it cannot be unmapped. */
  locks = 0;
  /** It is about to go: accesses get no further pins. */
  preventAccess = false;
  /** Its pages are pinned for the domains. */
  filled = false;

  constructor(first: bigint, last: bigint, pages: IoptPages, start: bigint, { read, write }: Permission) {
    this.first = first;
    this.last = last;
    this.pages = pages;
    this.start = start;
    this.read = read;
    this.write = write;
  }

  get length(): bigint {
    return this.last - this.first + 1n;
  }

  /** The byte of `pages` behind an IOVA of the area. */
  byte(iova: bigint): bigint {
    return this.start + iova - this.first;
  }

  get firstPage(): number {
    return Number(this.start / PAGE);
  }

  get lastPage(): number {
    return Number(this.byte(this.last) / PAGE);
  }
}

/** A part of a pages object, to be mapped. */
export interface Piece {
  readonly pages: IoptPages;
  readonly start: bigint;
  readonly length: bigint;
}

interface Reserved extends Interval {
  readonly owner: object;
}

/** The owner of intervals that stay until the address space goes. */
const NOBODY = {};

/** `struct io_pagetable`: an IO address space, what is mapped in it, what must not be, and who translates by it. */
export class IoPageTable {
  readonly areas: IntervalTree<Area> = new IntervalTree();
  readonly domains: PagingDomain[] = [];
  readonly accesses: Set<Access> = new Set();
  #allowed: readonly Interval[] = [];
  #reserved: readonly Reserved[] = [];
  #mergedAllowed: readonly Interval[] = [];
  #mergedReserved: readonly Interval[] = [];
  #alignment = 1n;
  #largePages = true;

  /** Power of two: every area begins and ends at a multiple of it. */
  get alignment(): bigint {
    return this.#alignment;
  }

  get largePages(): boolean {
    return this.#largePages;
  }

  // ---- ranges

  /** What is not reserved, ascending: mapped or not, allowed or not. */
  ranges(): Interval[] {
    return [...complement(this.#mergedReserved, 0n, U64_MAX)];
  }

  /** IOMMU_IOAS_ALLOW_IOVAS: replaces all of them. */
  allow(allowed: readonly Interval[]): number {
    if (allowed.some(({ first, last }) => this.#isReserved(first, last))) return -EADDRINUSE;
    this.#allowed = allowed;
    this.#mergedAllowed = merged(allowed);
    return 0;
  }

  /** iopt_reserve_iova. What is reserved twice stays so until both owners have let go. */
  reserve(first: bigint, last: bigint, owner: object = NOBODY): number {
    if (this.areas.overlap(first, last) !== undefined) return -EADDRINUSE;
    if (this.#allowed.some((other) => other.first <= last && first <= other.last)) return -EADDRINUSE;
    this.#setReserved([...this.#reserved, { first, last, owner }]);
    return 0;
  }

  /** iopt_remove_reserved_iova: all that this owner has reserved. */
  unreserve(owner: object): void {
    this.#setReserved(this.#reserved.filter((other) => other.owner !== owner));
  }

  // ---- mapping

  /** The IOVA for `length` bytes, found, or asked for and checked; −errno. */
  choose(length: bigint, hint: bigint, fixed: bigint | undefined): bigint | number {
    if (fixed !== undefined) return this.#check(fixed, length) || fixed;
    return place({
      length,
      hint,
      alignment: this.#alignment,
      allowed: this.#mergedAllowed,
      reserved: this.#mergedReserved,
      hole: (first, last, least, accept) => this.areas.hole(first, last, least, accept),
    });
  }

  /** iopt_map_pages: an area for each piece, one behind the other. The IOVA of the first, or −errno and nothing is mapped. */
  map(pieces: readonly Piece[], permission: Permission, fixed: bigint | undefined): bigint | number {
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0n);
    const iova = this.choose(length, pieces[0]!.pages.hint + pieces[0]!.start, fixed);
    if (typeof iova === 'number') return iova;
    const made: Area[] = [];
    let at = iova;
    let error = 0;
    for (const { pages, start, length: part } of pieces) {
      if (permission.write && !pages.writable) error = -EPERM;
      else if ((start % PAGE) % this.#alignment !== 0n) error = -EINVAL;
      if (error < 0) return error;
      made.push(new Area(at, at + part - 1n, pages, start, permission));
      at += part;
    }
    for (const area of made) {
      error = this.domains.length > 0 ? fill(area) : 0;
      if (error < 0) break;
    }
    if (error < 0) {
      for (const area of made) drain(area);
      return error;
    }
    for (const area of made) {
      area.pages.get();
      this.areas.insert(area);
    }
    return iova;
  }

  /** iopt_get_pages: what back-to-back areas show of [first, first + length), piece by piece; −ENOENT where one is missing. */
  pieces(first: bigint, length: bigint): Piece[] | number {
    if (length === 0n) return -EINVAL;
    const last = lastOf(first, length);
    if (last === undefined) return -EOVERFLOW;
    const areas = this.covering(first, last);
    if (areas === undefined) return -ENOENT;
    return areas.map((area) => {
      const from = area.first > first ? area.first : first;
      const to = area.last < last ? area.last : last;
      return { pages: area.pages, start: area.byte(from), length: to - from + 1n };
    });
  }

  /** IOMMUFD_TEST_SYZKALLER's addresses: the number of an area in the low word, an offset in it in the high one; 0: there is none. */
  nth(packed: bigint): bigint {
    let left = BigInt.asUintN(32, packed);
    for (const area of this.areas.within()) if (left-- === 0n) return area.first + (packed >> 32n);
    return 0n;
  }

  /** The areas that show all of [first, last], or undefined. */
  covering(first: bigint, last: bigint): Area[] | undefined {
    const areas: Area[] = [];
    let at = first;
    for (const area of this.areas.within(first, last)) {
      if (area.first > at) return undefined;
      areas.push(area);
      at = area.last + 1n;
    }
    return at > last ? areas : undefined;
  }

  /** iopt_unmap_iova_range: the bytes unmapped, and the errno of what stopped it; what went before is gone. */
  unmap(first: bigint, last: bigint): { bytes: bigint; error: number } {
    let bytes = 0n;
    for (const area of this.areas.within(first, last)) {
      if (area.locks > 0) return { bytes, error: -EBUSY };
      if (area.first < first || area.last > last) return { bytes, error: -ENOENT };
      if (area.pins > 0 && !this.#revoke(area)) return { bytes, error: -EDEADLK };
      bytes += area.length;
      this.#remove(area);
    }
    return { bytes, error: 0 };
  }

  /** iopt_cut_iova: the area that has `last` becomes two, of which the first ends there. One that begins or ends at this address is left whole, and no error. */
  cut(last: bigint): number {
    const area = this.areas.find(last);
    if (area === undefined || last === area.first || last === area.last) return 0;
    const next = last + 1n;
    const error = this.#mayCut(area, next);
    if (error < 0) return error;
    const lower = new Area(area.first, last, area.pages, area.start, area);
    const upper = new Area(next, area.last, area.pages, area.byte(next), area);
    this.areas.remove(area);
    for (const half of [lower, upper]) {
      if (area.filled) fill(half);
      area.pages.get();
      this.areas.insert(half);
    }
    drain(area);
    area.pages.put();
    return 0;
  }

  /** The address space goes, with all that is mapped. */
  destroy(): void {
    for (const area of this.areas.within()) this.#remove(area);
  }

  // ---- alignment, domains, accesses

  /** IOMMU_OPTION_HUGE_PAGES. */
  setLargePages(enable: boolean): number {
    if (enable) {
      this.#largePages = true;
      this.#recompute();
      return 0;
    }
    if (!this.#largePages) return 0;
    if (this.domains.length > 0 && this.areas.size > 0) return -EINVAL;
    this.#largePages = false;
    const error = this.#raise(PAGE);
    if (error < 0) this.#largePages = true;
    return error;
  }

  /** iopt_table_add_domain: its aperture narrows the space, every area is filled into it. −errno: nothing has changed. */
  addDomain(domain: PagingDomain): number {
    if (domain.minimumPage > PAGE) return -EINVAL;
    const alignment = domain.minimumPage > this.#alignment ? domain.minimumPage : this.#alignment;
    if (!this.#aligned(alignment)) return -EADDRINUSE;
    const { first, last } = domain.aperture;
    let error = first > 0n ? this.reserve(0n, first - 1n, domain) : 0;
    if (error === 0 && last < U64_MAX) error = this.reserve(last + 1n, U64_MAX, domain);
    if (error === 0 && this.domains.length === 0) error = this.#fillAll();
    if (error < 0) {
      this.unreserve(domain);
      return error;
    }
    this.#alignment = alignment;
    this.domains.push(domain);
    return 0;
  }

  removeDomain(domain: PagingDomain): void {
    this.domains.splice(this.domains.indexOf(domain), 1);
    if (this.domains.length === 0) for (const area of this.areas.within()) drain(area);
    this.unreserve(domain);
    this.#recompute();
  }

  /** iopt_add_access. */
  addAccess(access: Access): number {
    const error = this.#raise(access.alignment);
    if (error === 0) this.accesses.add(access);
    return error;
  }

  removeAccess(access: Access): void {
    if (this.accesses.delete(access)) this.#recompute();
  }

  // ---- inside

  #check(iova: bigint, length: bigint): number {
    if (length === 0n || length % this.#alignment !== 0n) return -EINVAL;
    if (iova % this.#alignment !== 0n) return -EINVAL;
    const last = lastOf(iova, length);
    if (last === undefined) return -EOVERFLOW;
    if (this.#isReserved(iova, last)) return -EINVAL;
    return this.areas.overlap(iova, last) === undefined ? 0 : -EEXIST;
  }

  #isReserved(first: bigint, last: bigint): boolean {
    return this.#mergedReserved.some((other) => other.first <= last && first <= other.last);
  }

  #setReserved(reserved: readonly Reserved[]): void {
    this.#reserved = reserved;
    this.#mergedReserved = merged(reserved);
  }

  #aligned(alignment: bigint): boolean {
    if (alignment <= this.#alignment) return true;
    const wrong = (value: bigint): boolean => value % alignment !== 0n;
    for (const area of this.areas.within()) {
      if (wrong(area.first) || wrong(area.length) || wrong(area.start % PAGE)) return false;
    }
    return true;
  }

  #raise(alignment: bigint): number {
    if (alignment <= this.#alignment) return 0;
    if (!this.#aligned(alignment)) return -EADDRINUSE;
    this.#alignment = alignment;
    return 0;
  }

  /** iopt_calculate_iova_alignment. */
  #recompute(): void {
    const wants = [this.#largePages ? 1n : PAGE, ...this.domains.map((domain) => domain.minimumPage)];
    for (const access of this.accesses) wants.push(access.alignment);
    this.#alignment = wants.reduce((most, one) => (one > most ? one : most));
  }

  #fillAll(): number {
    const filled: Area[] = [];
    for (const area of this.areas.within()) {
      const error = fill(area);
      if (error < 0) {
        for (const done of filled) drain(done);
        return error;
      }
      filled.push(area);
    }
    return 0;
  }

  /** Asks every access to let go of the area; false: somebody does not. */
  #revoke(area: Area): boolean {
    area.preventAccess = true;
    for (const access of [...this.accesses]) access.unmapped(area.first, area.length);
    return area.pins === 0;
  }

  #remove(area: Area): void {
    this.areas.remove(area);
    for (const domain of this.domains) domain.forget(area);
    drain(area);
    area.pages.put();
  }

  /** iopt_area_split, before `iova`: not while somebody has pinned of it, nor where a domain may have mapped it in large pages. */
  #mayCut(area: Area, iova: bigint): number {
    if (area.preventAccess) return -EBUSY;
    if (area.pages.dmabuf) return -EOPNOTSUPP;
    if (iova % this.#alignment !== 0n || area.byte(iova) % this.#alignment !== 0n) return -EINVAL;
    return area.pins > 0 || (area.filled && this.#largePages) ? -EINVAL : 0;
  }
}

/** Pins what an area shows, for the domains. Once it is pinned none of them takes what nobody may touch. */
function fill(area: Area): number {
  const error = area.pages.pin(area.firstPage, area.lastPage);
  if (error < 0) return error;
  area.filled = true;
  if (area.read || area.write) return 0;
  drain(area);
  return -EINVAL;
}

function drain(area: Area): void {
  if (!area.filled) return;
  area.filled = false;
  area.pages.unpin(area.firstPage, area.lastPage);
}
