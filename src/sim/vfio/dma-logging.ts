import { E2BIG, EFAULT, EINVAL, EOVERFLOW } from '../../uapi/sys.ts';
import {
  vfio_device_feature_dma_logging_control,
  vfio_device_feature_dma_logging_range,
  vfio_device_feature_dma_logging_report,
} from '../../uapi/vfio.ts';
import type { LoggedRange, WriteLog } from '../hardware/migratable.ts';
import type { Process } from '../process.ts';

const MAX_RANGES = 256;
const PAGE = 4096n;
const TOP = 1n << 64n;

/** VFIO_DEVICE_FEATURE_DMA_LOGGING_START, after the checks of every feature. */
export function startLogging(p: Process, ops: WriteLog, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, vfio_device_feature_dma_logging_control.size);
  if (bytes === null) return -EFAULT;
  const control = vfio_device_feature_dma_logging_control.decode(bytes);
  if (control.num_ranges === 0) return -EINVAL;
  if (control.num_ranges > MAX_RANGES) return -E2BIG;
  const ranges: LoggedRange[] = [];
  for (let i = 0; i < control.num_ranges; i++) {
    const { size } = vfio_device_feature_dma_logging_range;
    const one = p.mm.copyFrom(control.ranges + BigInt(i * size), size);
    if (one === null) return -EFAULT;
    const { iova, length } = vfio_device_feature_dma_logging_range.decode(one);
    if (!aligned(iova, control.page_size) || !aligned(length, control.page_size)) return -EINVAL;
    if (iova + length >= TOP) return -EOVERFLOW;
    const range = { start: iova, last: BigInt.asUintN(64, iova + length - 1n) };
    if (ranges.some((other) => other.start <= range.last && range.start <= other.last)) return -EINVAL;
    ranges.push(range);
  }
  const started = ops.start(ranges, control.page_size);
  if (typeof started === 'number') return started;
  if (p.mm.copyTo(arg, vfio_device_feature_dma_logging_control.encode({ ...control, page_size: started }))) return 0;
  ops.stop();
  return -EFAULT;
}

/** VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT: sets bits of the user's bitmap, never clears one. A bitmap that cannot be written is not an error. */
export function reportLogging(p: Process, ops: WriteLog, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, vfio_device_feature_dma_logging_report.size);
  if (bytes === null) return -EFAULT;
  const { iova, length, page_size, bitmap } = vfio_device_feature_dma_logging_report.decode(bytes);
  if (page_size < PAGE || (page_size & (page_size - 1n)) !== 0n) return -EINVAL;
  if (iova + length >= TOP) return -EOVERFLOW;
  return ops.readAndClear(iova, length, (start, count) => {
    const last = (start + count - 1n - iova) / page_size;
    for (let bit = (start - iova) / page_size; bit <= last; bit++) {
      const at = bitmap + bit / 8n;
      const byte = p.mm.copyFrom(at, 1);
      if (byte !== null) p.mm.copyTo(at, Uint8Array.of(byte[0]! | (1 << Number(bit % 8n))));
    }
  });
}

/** IS_ALIGNED: exact for powers of two, a mask for all else. */
function aligned(value: bigint, to: bigint): boolean {
  return (value & BigInt.asUintN(64, to - 1n)) === 0n;
}
