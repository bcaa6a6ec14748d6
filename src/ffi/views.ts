import { type ArenaPages, Arenas } from '../kernel/arena.ts';
import type { MapRequest } from '../kernel/backend.ts';
import { loadWidth, storeWidth } from '../kernel/by-width.ts';
import type { Mapping, Width } from '../kernel/memory.ts';
import type { Libc } from './libc.ts';

const PROT_RW = 3;
const [MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS, MAP_NORESERVE, MAP_HUGETLB] = [
  1, 2, 0x10, 0x20, 0x4000, 0x40000,
] as const;
const [MREMAP_MAYMOVE, MREMAP_FIXED] = [1, 2] as const;
const [F_GETFL, F_GET_SEALS] = [3, 1034] as const;
const [O_ACCMODE, O_RDONLY] = [3, 0] as const;
const F_SEAL_SHRINK = 2;
const pageSize = 4096;

/** kvm.md §4.2: kvm_run, the PIO page, the coalesced MMIO ring; what follows on a vCPU descriptor may fault. */
const runPages = 3;

/** Mappings for which an arena's own pages are what was asked for. */
const plainFlags = MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

const arenas: WeakMap<Libc, Arenas> = new WeakMap();

function arenasOf(libc: Libc): Arenas {
  let found = arenas.get(libc);
  if (found === undefined) arenas.set(libc, (found = new Arenas(libc)));
  return found;
}

/** What a file is to this module: which one, and how long. */
export interface FileFacts {
  /** Device and inode, of one open file as of all others. */
  readonly key: string;
  readonly link: string;
  readonly size: bigint;
  readonly hugetlb: boolean;
}

/**
 * Mappings with a view. No signal handler of ours stands behind a touch, so a view is given only where no touch can fault:
 * anonymous memory, the first pages of a vCPU descriptor, memfds up to their end. Everything else (hugetlb, files on a disk,
 * devices, guest_memfd) has accessors.
 *
 * A memfd can become shorter under its view: before this kernel does that, the pages that would fault become zero pages, and
 * stay so. Whoever lets another process shorten it should seal it (F_SEAL_SHRINK) first.
 */
export class Views {
  readonly #libc: Libc;
  readonly #files: Map<string, Set<ViewMapping>> = new Map();

  constructor(libc: Libc) {
    this.#libc = libc;
  }

  /** The mapping, −errno, or undefined where it can have no view. */
  map(request: MapRequest, file: FileFacts | undefined): ViewMapping | number | undefined {
    const { length, prot, flags, fd, offset } = request;
    if (!request.view || (prot & PROT_RW) !== PROT_RW || !steady(request, file)) return undefined;
    const taken = arenasOf(this.#libc).take(length);
    if (taken === undefined) return undefined;
    if (file !== undefined || (flags & ~plainFlags) !== 0 || prot !== PROT_RW) {
      const result = place(this.#libc, taken, prot, flags, fd, offset);
      if (result < 0) return result;
    }
    const mapping = new ViewMapping(this.#libc, taken, length, offset, () => this.#forget(file, mapping));
    if (file !== undefined) this.#remember(file, mapping);
    return mapping;
  }

  /** Before a file becomes `size` bytes long by ftruncate: nothing is done where the call will fail. */
  beforeTruncate(fd: number, size: bigint, facts: () => FileFacts | undefined): void {
    if (this.#files.size === 0 || size < 0n) return;
    const seals = this.#libc.call('fcntl', fd, F_GET_SEALS, 0);
    const access = this.#libc.call('fcntl', fd, F_GETFL, 0);
    if (access < 0 || (access & O_ACCMODE) === O_RDONLY || (seals > 0 && (seals & F_SEAL_SHRINK) !== 0)) return;
    this.shorten(facts(), size);
  }

  shorten(file: FileFacts | undefined, size: bigint): void {
    for (const mapping of (file && this.#files.get(file.key)) ?? []) mapping.shorten(size);
  }

  get empty(): boolean {
    return this.#files.size === 0;
  }

  #remember({ key }: FileFacts, mapping: ViewMapping): void {
    const all = this.#files.get(key);
    if (all === undefined) this.#files.set(key, new Set([mapping]));
    else all.add(mapping);
  }

  #forget(file: FileFacts | undefined, mapping: ViewMapping): void {
    const all = file && this.#files.get(file.key);
    if (all?.delete(mapping) && all.size === 0) this.#files.delete(file!.key);
  }
}

/** Whether no touch of the mapping can fault. */
function steady({ fd, offset, length, flags }: MapRequest, file: FileFacts | undefined): boolean {
  if (fd < 0) return (flags & MAP_HUGETLB) === 0;
  if (file === undefined) return false;
  if (file.link.startsWith('anon_inode:kvm-vcpu:')) return offset === 0n && length <= runPages * pageSize;
  if (file.hugetlb || !file.link.startsWith('/memfd:')) return false;
  return offset + BigInt(length) <= wholePages(file.size);
}

/** What lies in the file's last page can be touched, beyond its end too. */
function wholePages(size: bigint): bigint {
  return BigInt.asUintN(64, size + 4095n) & ~4095n;
}

/**
 * Elsewhere first, then moved over the pages: MAP_FIXED takes the old pages away before a driver can refuse, and a hole in an
 * arena would be anybody's.
 */
function place(libc: Libc, { address, pages }: ArenaPages, prot: number, flags: number, fd: number, offset: bigint): number {
  const length = BigInt(pages.byteLength);
  const found = libc.word('mmap', 0n, length, prot, flags, fd, BigInt.asIntN(64, offset));
  if (found < 0n) return Number(found);
  const moved = libc.word('mremap', found, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, address);
  if (moved >= 0n) return 0;
  libc.call('munmap', found, length);
  return Number(moved);
}

class ViewMapping implements Mapping {
  readonly address: bigint;
  readonly length: number;
  readonly bytes: Uint8Array;
  readonly #libc: Libc;
  readonly #span: number;
  readonly #offset: bigint;
  readonly #view: DataView;
  readonly #onUnmap: () => void;
  #mapped = true;

  constructor(libc: Libc, { address, pages }: ArenaPages, length: number, offset: bigint, onUnmap: () => void) {
    this.#libc = libc;
    this.address = address;
    this.length = length;
    this.bytes = pages.subarray(0, length);
    this.#span = pages.byteLength;
    this.#offset = offset;
    this.#view = new DataView(this.bytes.buffer, this.bytes.byteOffset, length);
    this.#onUnmap = onUnmap;
  }

  load(offset: number, width: Width): number | bigint {
    return loadWidth(this.#view, offset, width);
  }

  store(offset: number, width: Width, value: number | bigint): number {
    storeWidth(this.#view, offset, width, value);
    return 0;
  }

  copyOut(offset: number, into: Uint8Array): number {
    into.set(this.bytes.subarray(offset, offset + into.byteLength));
    return 0;
  }

  copyIn(offset: number, from: Uint8Array): number {
    this.bytes.set(from, offset);
    return 0;
  }

  protect(offset: number, length: number, prot: number): number {
    return this.#libc.call('mprotect', this.address + BigInt(offset), BigInt(length), prot);
  }

  advise(offset: number, length: number, advice: number): number {
    return this.#libc.call('madvise', this.address + BigInt(offset), BigInt(length), advice);
  }

  /** Zero pages take the place: a view that is left over reads zeros. */
  unmap(): void {
    if (!this.#mapped) return;
    this.#mapped = false;
    this.#onUnmap();
    this.#putZeros(0);
  }

  /** The file ends at `size` from now on. */
  shorten(size: bigint): void {
    const left = wholePages(size) - this.#offset;
    const from = left < 0n ? 0 : left > BigInt(this.#span) ? this.#span : Number(left);
    if (from < this.#span) this.#putZeros(from);
  }

  #putZeros(from: number): void {
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    this.#libc.word('mmap', this.address + BigInt(from), BigInt(this.#span - from), PROT_RW, flags, -1, 0n);
  }
}
