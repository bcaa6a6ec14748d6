import {
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IOMMU_OPTION_HUGE_PAGES,
  IOMMU_OPTION_OP_GET,
  IOMMU_OPTION_OP_SET,
  IOMMU_OPTION_RLIMIT_MODE,
  type iommu_ioas_alloc,
  type iommu_ioas_allow_iovas,
  type iommu_ioas_change_process,
  type iommu_ioas_copy,
  type iommu_ioas_iova_ranges,
  type iommu_ioas_map,
  type iommu_ioas_map_file,
  type iommu_ioas_unmap,
  iommu_iova_range,
  iommu_option,
} from '../../uapi/iommufd.ts';
import { EBADF, EBUSY, EFAULT, EINVAL, EMSGSIZE, ENOENT, EOPNOTSUPP, EOVERFLOW, EPERM } from '../../uapi/sys.ts';
import { IOMMU_OPTION_EXCLUSIVE_RANGES } from '../../uapi/tee-io/aneesh-v1.ts';
import { DmaBufFile } from '../dma-buf.ts';
import type { File } from '../file.ts';
import type { Interval } from '../interval-tree.ts';
import type { Process } from '../process.ts';
import type { Call } from './call.ts';
import type { IommufdContext } from './context.ts';
import type { Idev } from './device.ts';
import { DmabufPages } from './dmabuf-pages.ts';
import { GuestMemfdPages } from './guest-memfd-pages.ts';
import type { HwptPaging } from './hw-pagetable.ts';
import { IoPageTable, type Permission, type Piece } from './io-pagetable.ts';
import { lastOf, PAGE, U64_MAX } from './iova.ts';
import { IommufdObject } from './objects.ts';
import { FilePages, type IoptPages, UserPages } from './pages.ts';

/** MOCK_FLAGS_ACCESS_SYZ: on a test kernel an IOVA may be the number of an area and an offset in it. */
export const SYZ = 0x1_0000;
const MAP_FLAGS = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE;

/** `struct iommufd_ioas`: an IO address space and its page tables. */
export class Ioas extends IommufdObject {
  override readonly kind = 'ioas';
  readonly iopt: IoPageTable = new IoPageTable();
  /** In order of creation. */
  readonly hwpts: HwptPaging[] = [];
  readonly ctx: IommufdContext;

  constructor(ctx: IommufdContext) {
    super();
    this.ctx = ctx;
  }

  override destroy(_p: Process): void {
    this.iopt.destroy();
    if (this.ctx.vfioIoas === this) this.ctx.vfioIoas = undefined;
  }
}

function ioasOf(call: Call, id: number): Ioas | undefined {
  return call.ctx.objects.get<Ioas>(id, 'ioas');
}

/** IOMMU_IOAS_ALLOC. */
export function ioasAlloc(call: Call, cmd: iommu_ioas_alloc): number {
  if (cmd.flags !== 0) return -EOPNOTSUPP;
  const { objects } = call.ctx;
  const id = objects.reserve();
  cmd.out_ioas_id = id;
  const error = call.respond();
  if (error < 0) objects.free(id);
  else objects.publish(id, new Ioas(call.ctx));
  return error;
}

/** IOMMU_IOAS_IOVA_RANGES: mapped areas and allowed ranges do not matter. */
export function ioasIovaRanges(call: Call, cmd: iommu_ioas_iova_ranges): number {
  if (cmd.__reserved !== 0) return -EOPNOTSUPP;
  const ioas = ioasOf(call, cmd.ioas_id);
  if (ioas === undefined) return -ENOENT;
  const room = cmd.num_iovas;
  const ranges = ioas.iopt.ranges();
  for (const [i, { first, last }] of ranges.slice(0, room).entries()) {
    const entry = iommu_iova_range.encode({ start: first, last });
    if (!call.p.mm.copyTo(cmd.allowed_iovas + BigInt(i * entry.length), entry)) return -EFAULT;
  }
  cmd.num_iovas = ranges.length;
  cmd.out_iova_alignment = ioas.iopt.alignment;
  const error = call.respond();
  return error === 0 && ranges.length > room ? -EMSGSIZE : error;
}

/** IOMMU_IOAS_ALLOW_IOVAS: all of them, or none. */
export function ioasAllowIovas(call: Call, cmd: iommu_ioas_allow_iovas): number {
  if (cmd.__reserved !== 0) return -EOPNOTSUPP;
  const ioas = ioasOf(call, cmd.ioas_id);
  if (ioas === undefined) return -ENOENT;
  const allowed: Interval[] = [];
  for (let i = 0; i < cmd.num_iovas; i++) {
    const bytes = call.p.mm.copyFrom(cmd.allowed_iovas + BigInt(i * iommu_iova_range.size), iommu_iova_range.size);
    if (bytes === null) return -EFAULT;
    const { start: first, last } = iommu_iova_range.decode(bytes);
    if (first >= last || allowed.some((other) => other.first <= last && first <= other.last)) return -EINVAL;
    allowed.push({ first, last });
  }
  return ioas.iopt.allow(allowed);
}

function permissionOf(flags: number): Permission {
  return { read: (flags & IOMMU_IOAS_MAP_READABLE) !== 0, write: (flags & IOMMU_IOAS_MAP_WRITEABLE) !== 0 };
}

interface Mapping {
  readonly flags: number;
  readonly ioas_id: number;
  readonly length: bigint;
  iova: bigint;
}

/** What IOMMU_IOAS_MAP and IOMMU_IOAS_MAP_FILE ask alike; the IOAS, or −errno. */
function checkMapping(call: Call, { flags, ioas_id, length, iova }: Mapping): Ioas | number {
  if (flags & ~MAP_FLAGS) return -EOPNOTSUPP;
  if (iova === U64_MAX || length === U64_MAX) return -EOVERFLOW;
  if ((flags & (IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE)) === 0) return -EINVAL;
  return ioasOf(call, ioas_id) ?? -ENOENT;
}

/** The mapping stays where its IOVA cannot be written back. */
function map(call: Call, cmd: Mapping, ioas: Ioas, piece: Piece): number {
  const fixed = cmd.flags & IOMMU_IOAS_MAP_FIXED_IOVA ? cmd.iova : undefined;
  const iova = ioas.iopt.map([piece], permissionOf(cmd.flags), fixed);
  if (typeof iova === 'number') return iova;
  cmd.iova = iova;
  return call.respond();
}

/** IOMMU_IOAS_MAP. Nothing is asked of the memory before a domain, or a pin, needs it. */
export function ioasMap(call: Call, cmd: iommu_ioas_map): number {
  if (cmd.__reserved !== 0) return -EOPNOTSUPP;
  const ioas = checkMapping(call, cmd);
  if (typeof ioas === 'number') return ioas;
  const { user_va, length, flags } = cmd;
  if (user_va + length > U64_MAX) return -EOVERFLOW;
  if (length === 0n || length > U64_MAX - PAGE) return -EINVAL;
  const writable = (flags & IOMMU_IOAS_MAP_WRITEABLE) !== 0;
  const start = user_va % PAGE;
  const pages = new UserPages(call.p, user_va - start, writable, call.ctx.accounting(call.p));
  return map(call, cmd, ioas, { pages, start, length });
}

/** IOMMU_IOAS_MAP_FILE: a dma-buf is asked at once, any other file when its pages are needed. */
export function ioasMapFile(call: Call, cmd: iommu_ioas_map_file): number {
  const ioas = checkMapping(call, cmd);
  if (typeof ioas === 'number') return ioas;
  const { start, length, flags } = cmd;
  if (length === 0n) return -EINVAL;
  if (lastOf(start, length) === undefined) return -EOVERFLOW;
  const writable = (flags & IOMMU_IOAS_MAP_WRITEABLE) !== 0;
  const file = call.p.fds.get(cmd.fd);
  if (file === undefined) return -EBADF;
  const offset = start % PAGE;
  const pages = pagesOf(call, file, start, length, writable);
  if (typeof pages === 'number') return pages;
  // Held while it is not certain that there will be an area.
  pages.get();
  const result = map(call, cmd, ioas, { pages, start: offset, length });
  pages.put();
  return result;
}

/** A dma-buf is asked for its memory at once; of any other file nothing is known before pages are pinned. */
function pagesOf(call: Call, file: File, start: bigint, length: bigint, writable: boolean): IoptPages | number {
  if (file instanceof DmaBufFile) return DmabufPages.import(call.p, file, start, length, writable);
  if (length > U64_MAX - PAGE) return -EINVAL;
  const memory = call.p.system.machine.teeIo?.pinnedGuestMemfd === true ? file.guestPages : undefined;
  if (memory !== undefined) return GuestMemfdPages.import(call.p, file, memory, start, length, writable);
  return new FilePages(call.p, file, start - (start % PAGE), writable, call.ctx.accounting(call.p));
}

/** IOMMU_IOAS_COPY: parts of areas, and several that adjoin; one area for each of them. */
export function ioasCopy(call: Call, cmd: iommu_ioas_copy): number {
  const { length } = cmd;
  let { flags, src_iova } = cmd;
  if (call.ctx.testing && flags & SYZ) {
    flags &= ~SYZ;
    src_iova = ioasOf(call, cmd.src_ioas_id)?.iopt.nth(src_iova) ?? src_iova;
  }
  if (flags & ~MAP_FLAGS) return -EOPNOTSUPP;
  if (length === U64_MAX || src_iova === U64_MAX || cmd.dst_iova === U64_MAX) return -EOVERFLOW;
  if ((flags & (IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE)) === 0) return -EINVAL;
  const source = ioasOf(call, cmd.src_ioas_id);
  if (source === undefined) return -ENOENT;
  const pieces = source.iopt.pieces(src_iova, length);
  if (typeof pieces === 'number') return pieces;
  const target = ioasOf(call, cmd.dst_ioas_id);
  if (target === undefined) return -ENOENT;
  const fixed = flags & IOMMU_IOAS_MAP_FIXED_IOVA ? cmd.dst_iova : undefined;
  const iova = target.iopt.map(pieces, permissionOf(flags), fixed);
  if (typeof iova === 'number') return iova;
  cmd.dst_iova = iova;
  return call.respond();
}

/** IOMMU_IOAS_UNMAP. Everything (0, U64_MAX) may be nothing; any other range may not. */
export function ioasUnmap(call: Call, cmd: iommu_ioas_unmap): number {
  const ioas = ioasOf(call, cmd.ioas_id);
  if (ioas === undefined) return -ENOENT;
  const { iova, length } = cmd;
  let last: bigint | undefined = U64_MAX;
  const all = iova === 0n && length === U64_MAX;
  if (!all) {
    if (iova === U64_MAX || length === U64_MAX) return -EOVERFLOW;
    if (length === 0n) return -EINVAL;
    last = lastOf(iova, length);
    if (last === undefined) return -EOVERFLOW;
  }
  const { bytes, error } = ioas.iopt.unmap(iova, last);
  if (error < 0) return error;
  if (bytes === 0n && !all) return -ENOENT;
  cmd.length = bytes;
  return call.respond();
}

/** IOMMU_OPTION. */
export function option(call: Call, cmd: iommu_option): number {
  if (cmd.__reserved !== 0) return -EOPNOTSUPP;
  const act = options.get(cmd.option_id);
  const error = act === undefined ? -EOPNOTSUPP : act(call, cmd);
  return error < 0 ? error : call.respondPart(iommu_option.offsetOf('val64'), 8);
}

/** RFC: IOMMU_OPTION_EXCLUSIVE_RANGES. The host is to stay out of the BARs of the device while its TDI is bound. */
function exclusiveRanges({ ctx, p }: Call, cmd: iommu_option): number {
  if (p.system.machine.teeIo === undefined) return -EOPNOTSUPP;
  const idev = ctx.objects.get<Idev>(cmd.object_id, 'device');
  if (idev === undefined) return -ENOENT;
  if (cmd.op === IOMMU_OPTION_OP_GET) {
    cmd.val64 = idev.exclusiveRanges ? 1n : 0n;
    return 0;
  }
  if (cmd.op !== IOMMU_OPTION_OP_SET) return -EOPNOTSUPP;
  if (cmd.val64 !== 0n && (cmd.val64 & 1n) === 0n) return -EINVAL;
  idev.exclusiveRanges = cmd.val64 !== 0n;
  return 0;
}

const options: ReadonlyMap<number, (call: Call, cmd: iommu_option) => number> = new Map([
  [IOMMU_OPTION_RLIMIT_MODE, rlimitMode],
  [IOMMU_OPTION_HUGE_PAGES, hugePages],
  [IOMMU_OPTION_EXCLUSIVE_RANGES, exclusiveRanges],
]);

function rlimitMode({ ctx, p }: Call, cmd: iommu_option): number {
  if (cmd.object_id !== 0) return -EOPNOTSUPP;
  if (cmd.op === IOMMU_OPTION_OP_GET) {
    cmd.val64 = ctx.processAccounting ? 1n : 0n;
    return 0;
  }
  if (cmd.op !== IOMMU_OPTION_OP_SET) return -EOPNOTSUPP;
  if (!p.capable('CAP_SYS_RESOURCE')) return -EPERM;
  if (!ctx.objects.empty) return -EBUSY;
  if (cmd.val64 > 1n) return -EINVAL;
  ctx.processAccounting = cmd.val64 === 1n;
  return 0;
}

function hugePages(call: Call, cmd: iommu_option): number {
  const ioas = ioasOf(call, cmd.object_id);
  if (ioas === undefined) return -ENOENT;
  if (cmd.op === IOMMU_OPTION_OP_GET) {
    cmd.val64 = ioas.iopt.largePages ? 1n : 0n;
    return 0;
  }
  if (cmd.op !== IOMMU_OPTION_OP_SET) return -EOPNOTSUPP;
  return cmd.val64 > 1n ? -EINVAL : ioas.iopt.setLargePages(cmd.val64 === 1n);
}

/** IOMMU_IOAS_CHANGE_PROCESS: what is mapped by file becomes the caller's. There is one process here, which has it already. */
export function ioasChangeProcess(call: Call, cmd: iommu_ioas_change_process): number {
  if (cmd.__reserved !== 0) return -EOPNOTSUPP;
  for (const object of call.ctx.objects.all()) {
    if (!(object instanceof Ioas)) continue;
    for (const { pages } of object.iopt.areas.within()) if (!(pages instanceof FilePages)) return -EINVAL;
  }
  return 0;
}
