import { IOMMU_VFIO_IOAS_CLEAR, IOMMU_VFIO_IOAS_GET, IOMMU_VFIO_IOAS_SET, type iommu_vfio_ioas } from '../../uapi/iommufd.ts';
import { EFAULT, EINVAL, ENODEV, ENOENT, ENOTTY, EOPNOTSUPP, EOVERFLOW, EPERM } from '../../uapi/sys.ts';
import {
  VFIO_API_VERSION,
  VFIO_CHECK_EXTENSION,
  VFIO_DMA_CC_IOMMU,
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_WRITE,
  VFIO_DMA_UNMAP_FLAG_ALL,
  VFIO_GET_API_VERSION,
  VFIO_IOMMU_GET_INFO,
  VFIO_IOMMU_INFO_CAPS,
  VFIO_IOMMU_INFO_PGSIZES,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
  VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
  VFIO_IOMMU_UNMAP_DMA,
  VFIO_NOIOMMU_IOMMU,
  VFIO_SET_IOMMU,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  VFIO_UNMAP_ALL,
  vfio_iommu_type1_dma_map,
  vfio_iommu_type1_dma_unmap,
  vfio_iommu_type1_info,
} from '../../uapi/vfio.ts';
import type { Process } from '../process.ts';
import type { Call } from './call.ts';
import type { IommufdContext } from './context.ts';
import type { IoPageTable } from './io-pagetable.ts';
import { Ioas } from './ioas.ts';
import { lastOf, PAGE, U64_MAX } from './iova.ts';
import { UserPages } from './pages.ts';

/** iommufd_vfio_compat_ioas_get_id's counterpart for a group: the compat IOAS is made where there is none. −EINVAL in no-IOMMU mode. */
export function createCompatIoas(ctx: IommufdContext): number {
  if (ctx.noIommu) return -EINVAL;
  if (ctx.vfioIoas !== undefined) return 0;
  const ioas = new Ioas(ctx);
  ctx.objects.publish(ctx.objects.reserve(), ioas);
  ctx.vfioIoas = ioas;
  return 0;
}

/** iommufd_vfio_compat_set_no_iommu. */
export function setNoIommu(ctx: IommufdContext): number {
  if (ctx.vfioIoas !== undefined) return -EINVAL;
  ctx.noIommu = true;
  return 0;
}

/** IOMMU_VFIO_IOAS. */
export function vfioIoas(call: Call, cmd: iommu_vfio_ioas): number {
  const { ctx } = call;
  if (cmd.__reserved !== 0) return -EOPNOTSUPP;
  switch (cmd.op) {
    case IOMMU_VFIO_IOAS_GET:
      if (ctx.vfioIoas === undefined) return -ENODEV;
      cmd.ioas_id = ctx.vfioIoas.id;
      return call.respond();
    case IOMMU_VFIO_IOAS_SET: {
      const ioas = ctx.objects.get<Ioas>(cmd.ioas_id, 'ioas');
      if (ioas === undefined) return -ENOENT;
      ctx.vfioIoas = ioas;
      return 0;
    }
    case IOMMU_VFIO_IOAS_CLEAR:
      ctx.vfioIoas = undefined;
      return 0;
    default:
      return -EOPNOTSUPP;
  }
}

type CompatHandler = (ctx: IommufdContext, p: Process, arg: bigint) => number;

interface CompatRequest {
  readonly name: string;
  readonly request: number;
  readonly handler: CompatHandler;
}

/** What of type1 an iommufd answers. */
export const vfioCompatRequests: readonly CompatRequest[] = [
  { name: 'VFIO_GET_API_VERSION', request: VFIO_GET_API_VERSION, handler: () => VFIO_API_VERSION },
  { name: 'VFIO_CHECK_EXTENSION', request: VFIO_CHECK_EXTENSION, handler: checkExtension },
  { name: 'VFIO_SET_IOMMU', request: VFIO_SET_IOMMU, handler: setIommu },
  { name: 'VFIO_IOMMU_GET_INFO', request: VFIO_IOMMU_GET_INFO, handler: getInfo },
  { name: 'VFIO_IOMMU_MAP_DMA', request: VFIO_IOMMU_MAP_DMA, handler: mapDma },
  { name: 'VFIO_IOMMU_UNMAP_DMA', request: VFIO_IOMMU_UNMAP_DMA, handler: unmapDma },
];

const compat: ReadonlyMap<number, CompatHandler> = new Map(vfioCompatRequests.map(({ request, handler }) => [request, handler]));

/** iommufd_vfio_ioctl: type1's requests, on the compat IOAS. */
export function vfioCompatIoctl(ctx: IommufdContext, p: Process, request: number, arg: bigint): number {
  return compat.get(request)?.(ctx, p, arg) ?? -ENOTTY;
}

function checkExtension(ctx: IommufdContext, _p: Process, arg: bigint): number {
  switch (Number(BigInt.asUintN(32, arg))) {
    case VFIO_TYPE1_IOMMU:
    case VFIO_TYPE1v2_IOMMU:
    case VFIO_UNMAP_ALL:
      return ctx.noIommu ? 0 : 1;
    case VFIO_NOIOMMU_IOMMU:
      // CONFIG_VFIO_NOIOMMU, whatever the module's parameter says.
      return 1;
    case VFIO_DMA_CC_IOMMU:
      if (ctx.vfioIoas === undefined) return -ENODEV;
      return ctx.vfioIoas.hwpts.every(({ domain }) => domain.format.enforcesCoherency) ? 1 : 0;
    default:
      return 0;
  }
}

function setIommu(ctx: IommufdContext, p: Process, arg: bigint): number {
  const type = Number(BigInt.asUintN(32, arg));
  if (ctx.noIommu && type === VFIO_NOIOMMU_IOMMU) return p.capable('CAP_SYS_RAWIO') ? 0 : -EPERM;
  if ((type !== VFIO_TYPE1_IOMMU && type !== VFIO_TYPE1v2_IOMMU) || ctx.noIommu) return -EINVAL;
  if (ctx.vfioIoas === undefined) return -ENODEV;
  return type === VFIO_TYPE1_IOMMU ? ctx.vfioIoas.iopt.setLargePages(false) : 0;
}

/** Nothing is written back. `flags` 0 makes an area no domain can be filled with. */
function mapDma(ctx: IommufdContext, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, vfio_iommu_type1_dma_map.size);
  if (bytes === null) return -EFAULT;
  const { argsz, flags, vaddr, iova, size } = vfio_iommu_type1_dma_map.decode(bytes);
  if (argsz < bytes.length || flags & ~(VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)) return -EINVAL;
  const ioas = ctx.vfioIoas;
  if (ioas === undefined) return -ENODEV;
  if (vaddr + size > U64_MAX) return -EOVERFLOW;
  if (size === 0n || size > U64_MAX - PAGE) return -EINVAL;
  const write = (flags & VFIO_DMA_MAP_FLAG_WRITE) !== 0;
  const start = vaddr % PAGE;
  const pages = new UserPages(p, vaddr - start, write, ctx.accounting(p));
  const permission = { read: (flags & VFIO_DMA_MAP_FLAG_READ) !== 0, write };
  const mapped = ioas.iopt.map([{ pages, start, length: size }], permission, iova);
  return typeof mapped === 'number' ? mapped : 0;
}

/** Nothing mapped is no error. What was unmapped is written back even where the walk stopped. */
function unmapDma(ctx: IommufdContext, p: Process, arg: bigint): number {
  const least = vfio_iommu_type1_dma_unmap.offsetOf('size') + 8;
  const bytes = new Uint8Array(vfio_iommu_type1_dma_unmap.size);
  if (!p.mm.readInto(arg, bytes.subarray(0, least))) return -EFAULT;
  const cmd = vfio_iommu_type1_dma_unmap.view(bytes);
  const { argsz, flags, iova, size } = cmd;
  if (argsz < least || flags & ~VFIO_DMA_UNMAP_FLAG_ALL) return -EINVAL;
  const ioas = ctx.vfioIoas;
  if (ioas === undefined) return -ENODEV;
  const all = (flags & VFIO_DMA_UNMAP_FLAG_ALL) !== 0;
  if (all && (iova !== 0n || size !== 0n)) return -EINVAL;
  const { iopt } = ioas;
  let result = { bytes: 0n, error: 0 };
  if (all) result = iopt.unmap(0n, U64_MAX);
  else {
    const error = iopt.largePages ? 0 : cutEnds(iopt, iova, size);
    if (error < 0) return error;
    const last = lastOf(iova, size);
    if (size === 0n) result.error = -EINVAL;
    else if (last === undefined) result.error = -EOVERFLOW;
    else result = iopt.unmap(iova, last);
  }
  cmd.size = result.bytes;
  return p.mm.copyTo(arg, bytes.subarray(0, least)) ? result.error : -EFAULT;
}

/** The range is not looked at before: one of no length, or that wraps, is cut too, and refused then. */
function cutEnds(iopt: IoPageTable, iova: bigint, size: bigint): number {
  const error = iopt.cut(BigInt.asUintN(64, iova + size - 1n));
  return error < 0 || iova === 0n ? error : iopt.cut(iova - 1n);
}

const INFO_SIZE = 24;
const CAPABILITY_SIZE = 16;

/** The chain: DMA_AVAIL, then the IOVA ranges. Each capability is written where it fits, `argsz` is always what all of it needs. */
function getInfo(ctx: IommufdContext, p: Process, arg: bigint): number {
  const least = vfio_iommu_type1_info.offsetOf('iova_pgsizes') + 8;
  const bytes = new Uint8Array(INFO_SIZE);
  if (!p.mm.readInto(arg, bytes.subarray(0, least))) return -EFAULT;
  const info = vfio_iommu_type1_info.view(bytes);
  const room = info.argsz;
  if (room < least) return -EINVAL;
  const { vfioIoas: ioas } = ctx;
  if (ioas === undefined) return -ENODEV;
  const ranges = ioas.iopt.ranges();
  const total = INFO_SIZE + CAPABILITY_SIZE + CAPABILITY_SIZE + 16 * ranges.length;
  info.flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS;
  info.iova_pgsizes = pageSizes(ioas);
  info.argsz = total;
  info.cap_offset = room >= total ? INFO_SIZE : 0;
  for (const { at, capability } of capabilities(ranges, total)) {
    if (room >= at + capability.length && !p.mm.copyTo(arg + BigInt(at), capability)) return -EFAULT;
  }
  return p.mm.copyTo(arg, bytes.subarray(0, Math.min(room, INFO_SIZE))) ? 0 : -EFAULT;
}

function capabilities(ranges: readonly { first: bigint; last: bigint }[], total: number) {
  // Of DMA_AVAIL the padding behind `avail` is not written.
  const available = new DataView(new ArrayBuffer(12));
  header(available, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, INFO_SIZE + CAPABILITY_SIZE);
  available.setUint32(8, 0xffff_ffff, true);
  const iovas = new DataView(new ArrayBuffer(total - INFO_SIZE - CAPABILITY_SIZE));
  header(iovas, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, 0);
  iovas.setUint32(8, ranges.length, true);
  for (const [i, { first, last }] of ranges.entries()) {
    iovas.setBigUint64(16 + 16 * i, first, true);
    iovas.setBigUint64(24 + 16 * i, last, true);
  }
  return [
    { at: INFO_SIZE, capability: new Uint8Array(available.buffer) },
    { at: INFO_SIZE + CAPABILITY_SIZE, capability: new Uint8Array(iovas.buffer) },
  ];
}

function header(view: DataView, id: number, next: number): void {
  view.setUint16(0, id, true);
  view.setUint16(2, 1, true);
  view.setUint32(4, next, true);
}

/** What all domains have; sizes below a page are one page, and the alignment is the least. */
function pageSizes({ iopt }: Ioas): bigint {
  let sizes = iopt.domains.reduce((all, { format }) => all & format.pageSizes, U64_MAX);
  if (sizes & (PAGE - 1n)) sizes = (sizes & -PAGE) | PAGE;
  return sizes & -iopt.alignment;
}
