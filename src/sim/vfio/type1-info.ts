import { EFAULT, EINVAL } from '../../uapi/sys.ts';
import * as v from '../../uapi/vfio.ts';
import { has } from '../changes.ts';
import type { Process } from '../process.ts';
import type { Type1 } from './type1.ts';
import { MAX_BITMAP_SIZE } from './type1-dirty.ts';

/** Through iova_pgsizes: shorter is EINVAL. */
const MIN = 16;
/** Through cap_offset. */
const THROUGH_CAPS = 20;
const HEADER = 8;

/** VFIO_IOMMU_GET_INFO: page sizes, and the capabilities in the kernel's order. At most as many bytes of the fixed part as the user has are written. */
export function getInfo(type1: Type1, p: Process, arg: bigint): number {
  const layout = v.vfio_iommu_type1_info;
  const given = p.mm.copyFrom(arg, MIN);
  if (given === null) return -EFAULT;
  const bytes = new Uint8Array(layout.size);
  bytes.set(given);
  const info = layout.view(bytes);
  const { argsz } = info;
  if (argsz < MIN) return -EINVAL;
  const chain = capabilities(type1);
  info.flags = v.VFIO_IOMMU_INFO_PGSIZES | v.VFIO_IOMMU_INFO_CAPS;
  info.iova_pgsizes = type1.pageSizes;
  if (argsz < layout.size + chain.length) info.argsz = layout.size + chain.length;
  else {
    if (!p.mm.copyTo(arg + BigInt(layout.size), chain)) return -EFAULT;
    info.cap_offset = layout.size;
  }
  const written = has(p.system.machine, 'type1InfoPadded')
    ? Math.min(argsz, layout.size)
    : argsz < THROUGH_CAPS
      ? MIN
      : THROUGH_CAPS;
  return p.mm.copyTo(arg, bytes.subarray(0, written)) ? 0 : -EFAULT;
}

/** The capability chain as it lies behind the fixed part. */
function capabilities({ pageSize, dmaAvail, iovas }: Type1): Uint8Array {
  const payloads: (readonly [id: number, payload: readonly bigint[]])[] = [
    [v.VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, [0n, pageSize, MAX_BITMAP_SIZE]],
    [v.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, [BigInt(dmaAvail)]],
  ];
  const ranges = iovas.flatMap(({ start, end }) => [start, end]);
  if (iovas.length > 0) payloads.push([v.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, [BigInt(iovas.length), ...ranges]]);
  const length = payloads.reduce((sum, [, payload]) => sum + HEADER + 8 * payload.length, 0);
  const view = new DataView(new ArrayBuffer(length));
  let at = 0;
  for (const [id, payload] of payloads) {
    const end = at + HEADER + 8 * payload.length;
    view.setUint16(at, id, true);
    view.setUint16(at + 2, 1, true);
    view.setUint32(at + 4, end === length ? 0 : v.vfio_iommu_type1_info.size + end, true);
    for (const [i, word] of payload.entries()) view.setBigUint64(at + HEADER + 8 * i, word, true);
    at = end;
  }
  return new Uint8Array(view.buffer);
}
