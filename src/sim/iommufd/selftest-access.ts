import { EBADE, EBADFD, EFAULT, EMFILE, ENOENT, ENOMEM, EOPNOTSUPP, O_RDWR } from '../../uapi/sys.ts';
import { AnonFile } from '../file.ts';
import type { Process } from '../process.ts';
import { Access, type AccessPins } from './access.ts';
import type { IommufdContext } from './context.ts';
import { SYZ } from './ioas.ts';
import { PAGE } from './iova.ts';
import type { TestArguments } from './selftest.ts';

const NEEDS_PIN_PAGES = 1;
const PAGES_WRITE = 1;
const RW_WRITE = 1;
const RW_SLOW_PATH = 4;
/** What a call may touch at most. */
const MAX_LENGTH = 16n << 20n;

/** `struct selftest_access`: a descriptor of an access. It holds the context, and may be named on any descriptor of /dev/iommu. */
class AccessFile extends AnonFile {
  readonly access: Access;
  readonly needsPin: boolean;
  readonly items: Map<number, AccessPins> = new Map();
  readonly #ctx: IommufdContext;
  #nextItem = 0;

  constructor(ctx: IommufdContext, needsPin: boolean) {
    super('anon_inode:[iommufd_test_staccess]', O_RDWR);
    this.#ctx = ctx;
    this.needsPin = needsPin;
    this.access = new Access(ctx, needsPin, (iova, length) => this.#unmapped(iova, length));
    ctx.file.ref();
  }

  keep(pins: AccessPins): number {
    this.items.set(this.#nextItem, pins);
    return this.#nextItem++;
  }

  drop(item: number): boolean {
    const pins = this.items.get(item);
    if (pins === undefined) return false;
    this.items.delete(item);
    this.access.unpin(pins);
    return true;
  }

  override release(p: Process): void {
    for (const item of [...this.items.keys()]) this.drop(item);
    this.access.close(p);
    this.#ctx.file.unref(p);
  }

  #unmapped(iova: bigint, length: bigint): void {
    for (const [item, pins] of [...this.items]) if (pins.iova < iova + length && iova < pins.iova + pins.length) this.drop(item);
  }
}

function accessOf(args: TestArguments): AccessFile | undefined {
  const file = args.call.p.fds.get(args.id);
  return file instanceof AccessFile ? file : undefined;
}

function addressOf({ access }: AccessFile, iova: bigint, flags: number): bigint {
  return flags & SYZ ? (access.ioas?.iopt.nth(iova) ?? iova) : iova;
}

export function createAccess(args: TestArguments, ctx: IommufdContext, p: Process): number {
  const flags = args.u32(20);
  if (flags & ~NEEDS_PIN_PAGES) return -EOPNOTSUPP;
  const file = new AccessFile(ctx, (flags & NEEDS_PIN_PAGES) !== 0);
  const fd = p.fds.reserve(true);
  let error = fd === -EMFILE ? -ENOMEM : file.access.attach(args.id);
  if (error === 0) {
    args.put32(16, fd);
    error = args.call.respond();
  }
  if (error === 0) {
    p.fds.set(fd, file);
    return 0;
  }
  if (fd >= 0) p.fds.unreserve(fd);
  file.unref(p);
  return error;
}

export function accessReplace(args: TestArguments): number {
  const file = accessOf(args);
  return file === undefined ? -EBADFD : file.access.attach(args.u32(16));
}

export function accessPages(args: TestArguments, _ctx: IommufdContext, p: Process): number {
  const [flags, iova, length, uptr] = [args.u32(16), args.u64(24), args.u64(32), args.u64(40)];
  if (length > MAX_LENGTH) return -ENOMEM;
  if (flags & ~(PAGES_WRITE | SYZ)) return -EOPNOTSUPP;
  const file = accessOf(args);
  if (file === undefined) return -EBADFD;
  if (!file.needsPin) return -EOPNOTSUPP;
  const pins = file.access.pin(addressOf(file, iova, flags), length, (flags & PAGES_WRITE) !== 0);
  if (typeof pins === 'number') return pins;
  if (uptr !== 0n && !isBehind(p, pins, uptr)) {
    file.access.unpin(pins);
    return -EBADE;
  }
  const item = file.keep(pins);
  args.put32(20, item);
  const error = args.call.respond();
  if (error < 0) file.drop(item);
  return error;
}

/** The pinned pages are those the process has there. */
function isBehind(p: Process, { pages }: AccessPins, uptr: bigint): boolean {
  return pages.every((page, i) => {
    const own = p.mm.resolve(uptr - (uptr % PAGE) + BigInt(i) * PAGE, false);
    return own !== null && own.buffer === page.buffer && own.offset === page.offset;
  });
}

export function destroyAccessPages(args: TestArguments): number {
  const file = accessOf(args);
  if (file === undefined) return -EBADFD;
  return file.drop(args.u32(16)) ? 0 : -ENOENT;
}

export function accessRw(args: TestArguments, _ctx: IommufdContext, p: Process): number {
  const [iova, length, uptr, flags] = [args.u64(16), args.u64(24), args.u64(32), args.u32(40)];
  if (length > MAX_LENGTH) return -ENOMEM;
  if (flags & ~(RW_WRITE | RW_SLOW_PATH | SYZ)) return -EOPNOTSUPP;
  const file = accessOf(args);
  if (file === undefined) return -EBADFD;
  const write = (flags & RW_WRITE) !== 0;
  const bytes = write ? p.mm.copyFrom(uptr, Number(length)) : new Uint8Array(Number(length));
  if (bytes === null) return -EFAULT;
  const error = file.access.rw(addressOf(file, iova, flags), bytes, write);
  if (error < 0 || write) return error;
  return p.mm.copyTo(uptr, bytes) ? 0 : -EFAULT;
}
