import { EINVAL, ENOENT, EOVERFLOW, EPERM } from '../../uapi/sys.ts';
import type { PageRef } from '../mm/pages.ts';
import { eachPage } from '../mm/pages.ts';
import type { Process } from '../process.ts';
import type { IommufdContext } from './context.ts';
import type { Area } from './io-pagetable.ts';
import type { Ioas } from './ioas.ts';
import { lastOf, PAGE } from './iova.ts';
import { IommufdObject } from './objects.ts';

/** Pages of one area that an access has pinned. */
interface Pin {
  readonly area: Area;
  readonly first: number;
  readonly last: number;
}

/** What iommufd_access_pin_pages gave: the pages in order, until they are given back. */
export interface AccessPins {
  readonly iova: bigint;
  readonly length: bigint;
  readonly pages: readonly PageRef[];
  readonly pins: readonly Pin[];
}

/** `struct iommufd_access`: a driver inside the kernel that reads, writes or pins what an IOAS maps (mdev, hardware queues). */
export class Access extends IommufdObject {
  override readonly kind = 'access';
  readonly #ctx: IommufdContext;
  readonly #needsPin: boolean;
  readonly #unmap: ((iova: bigint, length: bigint) => void) | undefined;
  ioas: Ioas | undefined;

  /** `unmap`: what it pinned of this range must be given back. Its owner holds it: IOMMU_DESTROY is EBUSY. */
  constructor(ctx: IommufdContext, needsPin: boolean, unmap?: (iova: bigint, length: bigint) => void) {
    super();
    this.#ctx = ctx;
    this.#needsPin = needsPin;
    this.#unmap = unmap;
    this.users = 1;
    ctx.objects.publish(ctx.objects.reserve(), this);
  }

  /** What it raises the IOAS's alignment to. */
  get alignment(): bigint {
    return this.#needsPin ? PAGE : 1n;
  }

  /** iommufd_access_attach, or _replace: −ENOENT, −EADDRINUSE. The old IOAS is left once the new one has taken it. */
  attach(id: number): number {
    const ioas = this.#ctx.objects.get<Ioas>(id, 'ioas');
    if (ioas === undefined) return -ENOENT;
    if (ioas === this.ioas) return 0;
    const error = ioas.iopt.addAccess(this);
    if (error < 0) return error;
    this.detach();
    this.ioas = ioas;
    ioas.users++;
    return 0;
  }

  /** iommufd_access_detach: all it pinned is asked back. */
  detach(): void {
    const { ioas } = this;
    if (ioas === undefined) return;
    this.ioas = undefined;
    this.#unmap?.(0n, 1n << 64n);
    ioas.iopt.removeAccess(this);
    ioas.users--;
  }

  unmapped(iova: bigint, length: bigint): void {
    this.#unmap?.(iova, length);
  }

  /** iommufd_access_destroy: its owner is done. */
  close(p: Process): void {
    this.users = 0;
    this.#ctx.objects.drop(p, this);
  }

  override destroy(_p: Process): void {
    this.detach();
  }

  /** iommufd_access_pin_pages: each area from a page boundary on, joined to the next at one, with the permission. */
  pin(iova: bigint, length: bigint, write: boolean): AccessPins | number {
    if (this.ioas === undefined) return -ENOENT;
    if (length === 0n) return -EINVAL;
    const last = lastOf(iova, length);
    if (last === undefined) return -EOVERFLOW;
    const pins: Pin[] = [];
    let at = iova;
    let error = 0;
    for (const area of this.ioas.iopt.areas.within(iova, last)) {
      if (area.first > at) break;
      const to: bigint = area.last < last ? area.last : last;
      const [first, end] = [area.byte(at), area.byte(to)];
      const joined = first % PAGE === 0n && (to === last || (end + 1n) % PAGE === 0n);
      if (area.preventAccess || !joined) error = -EINVAL;
      else if (!(write ? area.write : area.read)) error = -EPERM;
      else error = take(pins, { area, first: Number(first / PAGE), last: Number(end / PAGE) });
      if (error < 0) break;
      at = to + 1n;
    }
    if (error === 0 && at <= last) error = -ENOENT;
    if (error < 0) {
      for (const pin of pins) release(pin);
      return error;
    }
    const pages = pins.flatMap(({ area, first, last: end }) =>
      Array.from({ length: end - first + 1 }, (_, i) => area.pages.pinned(first + i)!),
    );
    return { iova, length, pages, pins };
  }

  /** iommufd_access_unpin_pages. */
  unpin({ pins }: AccessPins): void {
    for (const pin of pins) release(pin);
  }

  /** iommufd_access_rw: copies area by area; what came before an error is done. */
  rw(iova: bigint, bytes: Uint8Array, write: boolean): number {
    if (this.ioas === undefined) return -ENOENT;
    const length = BigInt(bytes.length);
    if (length === 0n) return -EINVAL;
    const last = lastOf(iova, length);
    if (last === undefined) return -EOVERFLOW;
    let at = iova;
    for (const area of this.ioas.iopt.areas.within(iova, last)) {
      if (area.first > at) return -ENOENT;
      if (area.preventAccess) return -EINVAL;
      if (!(write ? area.write : area.read)) return -EPERM;
      if (area.pages.dmabuf) return -EINVAL;
      const to = area.last < last ? area.last : last;
      const error = copy(area, at, bytes.subarray(Number(at - iova), Number(to - iova) + 1), write);
      if (error < 0) return error;
      at = to + 1n;
    }
    return at > last ? 0 : -ENOENT;
  }
}

function take(pins: Pin[], pin: Pin): number {
  const { area, first, last } = pin;
  const error = area.pages.dmabuf ? -EINVAL : area.pages.pin(first, last);
  if (error < 0) return error;
  area.pages.get();
  area.pins++;
  pins.push(pin);
  return 0;
}

function release({ area, first, last }: Pin): void {
  area.pins--;
  area.pages.unpin(first, last);
  area.pages.put();
}

function copy(area: Area, iova: bigint, bytes: Uint8Array, write: boolean): number {
  let error = 0;
  eachPage(area.byte(iova), bytes.length, (index, within, at, length) => {
    if (error < 0) return;
    const page = area.pages.peek(index, write);
    if (typeof page === 'number') {
      error = page;
      return;
    }
    const piece = bytes.subarray(at, at + length);
    const there = page.u8.subarray(page.offset + within, page.offset + within + length);
    if (write) there.set(piece);
    else piece.set(there);
  });
  return error;
}
