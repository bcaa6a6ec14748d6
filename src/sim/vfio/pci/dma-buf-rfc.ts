import { EFAULT, EINVAL, ENODEV, EPERM } from '../../../uapi/sys.ts';
import { vfio_device_feature_dma_buf, vfio_region_dma_range } from '../../../uapi/tee-io/xu-jan25.ts';
import { VFIO_PCI_ROM_REGION_INDEX } from '../../../uapi/vfio.ts';
import type { DmaBufPiece } from '../../dma-buf.ts';
import type { Process } from '../../process.ts';
import type { VfioPciCoreDevice } from './core.ts';
import { copyRanges, exportPieces, type ImportRules } from './dma-buf.ts';
import { barLength } from './rdwr.ts';

const PAGE = 4096n;
const IORESOURCE_MEM = 0x200n;

/** The posting of January 2025 has no operation that maps: who wants the memory asks for page frames. That of May maps for those who reach it on the bus. */
const rules: Readonly<Record<'january' | 'may', ImportRules>> = {
  january: { attach: () => 0, map: () => -EINVAL },
  may: {
    attach: () => 0,
    map: ({ allowPeer2Peer }, revoked) => {
      if (!allowPeer2Peer) return -EPERM;
      return revoked ? -ENODEV : 0;
    },
  },
};

/** How much of the payload there must be: all but the ranges. */
export const RFC_DMA_BUF_SIZE: number = vfio_device_feature_dma_buf.size;

/** RFC. VFIO_DEVICE_FEATURE_DMA_BUF as it was posted (teeIo.dmaBufLayout 'rfc'): each range names its BAR. May's rules go with teeIo.dmabufOwner 'xm'. */
export function exportRfcDmaBuf(p: Process, device: VfioPciCoreDevice, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, RFC_DMA_BUF_SIZE);
  if (bytes === null) return -EFAULT;
  const { open_flags, nr_ranges } = vfio_device_feature_dma_buf.view(bytes);
  const ranges = copyRanges(p, arg + BigInt(RFC_DMA_BUF_SIZE), nr_ranges, vfio_region_dma_range);
  if (typeof ranges === 'number') return ranges;
  const series = p.system.machine.teeIo?.dmabufOwner === 'xm' ? 'may' : 'january';
  const pieces: DmaBufPiece[] = [];
  for (const range of ranges) {
    const piece = pieceOf(device, range, series === 'january');
    if (typeof piece === 'number') return piece;
    pieces.push(piece);
  }
  return exportPieces(p, device, pieces, open_flags, rules[series]);
}

/** `wholeBars`: nothing from 0 on is all of the BAR. */
function pieceOf(device: VfioPciCoreDevice, range: vfio_region_dma_range, wholeBars: boolean): DmaBufPiece | number {
  const { region_index: bar } = range;
  const { offset } = range;
  let { length } = range;
  if (bar >= VFIO_PCI_ROM_REGION_INDEX) return -EINVAL;
  const size = BigInt(barLength(device.pdev, bar));
  if (wholeBars && size === 0n) return -EINVAL;
  if (wholeBars && offset === 0n && length === 0n) length = size;
  if (offset % PAGE !== 0n || length % PAGE !== 0n) return -EINVAL;
  if (offset + length > size) return -EINVAL;
  if ((device.pdev.resources[bar]!.flags & IORESOURCE_MEM) === 0n) return -EINVAL;
  return { memory: device.barMemory(bar), offset: Number(offset), length: Number(length) };
}
