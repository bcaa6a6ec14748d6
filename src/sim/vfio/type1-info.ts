import { EFAULT, EINVAL } from '../../uapi/sys.ts';
import * as v from '../../uapi/vfio.ts';
import type { Process } from '../process.ts';
import { capabilityChain, type InfoCapability, writtenOf } from './info-caps.ts';
import type { Type1 } from './type1.ts';
import { MAX_BITMAP_SIZE } from './type1-dirty.ts';

/** Through iova_pgsizes: shorter is EINVAL. */
const MIN = 16;

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
  const chain = capabilityChain(capabilities(type1), layout.size, p.system.machine);
  info.flags = v.VFIO_IOMMU_INFO_PGSIZES | v.VFIO_IOMMU_INFO_CAPS;
  info.iova_pgsizes = type1.pageSizes;
  if (argsz < layout.size + chain.length) info.argsz = layout.size + chain.length;
  else {
    if (!p.mm.copyTo(arg + BigInt(layout.size), chain)) return -EFAULT;
    info.cap_offset = layout.size;
  }
  return p.mm.copyTo(arg, bytes.subarray(0, writtenOf(p.system.machine, argsz, layout.size))) ? 0 : -EFAULT;
}

/** In the kernel's order; without a domain there are no ranges. */
function capabilities({ pageSize, dmaAvail, iovas }: Type1): readonly InfoCapability[] {
  const words = (...values: readonly bigint[]): Uint8Array => new Uint8Array(BigUint64Array.from(values).buffer);
  const ranges = words(BigInt(iovas.length), ...iovas.flatMap(({ start, end }) => [start, end]));
  const version = 1;
  return [
    { id: v.VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, version, bytes: words(0n, pageSize, MAX_BITMAP_SIZE) },
    { id: v.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, version, bytes: new Uint8Array(Uint32Array.of(dmaAvail).buffer) },
    ...(iovas.length > 0 ? [{ id: v.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, version, bytes: ranges }] : []),
  ];
}
