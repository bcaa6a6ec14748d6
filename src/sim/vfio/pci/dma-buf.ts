import type { Struct } from '../../../uapi/struct.ts';
import { EFAULT, EINVAL, ENODEV, ENOMEM, EOPNOTSUPP, EOVERFLOW, O_CLOEXEC } from '../../../uapi/sys.ts';
import { VFIO_PCI_ROM_REGION_INDEX, vfio_device_feature_dma_buf, vfio_region_dma_range } from '../../../uapi/vfio.ts';
import {
  type AssignedMemory,
  type DmaBufExporter,
  DmaBufFile,
  type DmaBufImporter,
  type DmaBufPiece,
  type DmaBufPlace,
} from '../../dma-buf.ts';
import type { Process } from '../../process.ts';
import type { VfioPciCoreDevice } from './core.ts';
import { barLength } from './rdwr.ts';

const HEADER = 16;
const PAGE = 4096n;
const IORESOURCE_MEM = 0x200n;
/** KMALLOC_MAX_SIZE. */
const KMALLOC_MAX = 4 * 2 ** 20;
const TOP = 1n << 64n;

/** What an exporter asks of importers, 0 or −errno each: to attach, and to be given the memory. */
export interface ImportRules {
  attach(importer: DmaBufImporter, revoked: boolean): number;
  map(importer: DmaBufImporter, revoked: boolean): number;
}

/** Only who reaches it on the bus, and lets go of it when told. */
const mainlineRules: ImportRules = {
  attach: ({ allowPeer2Peer, moveNotify }, revoked) => {
    if (!allowPeer2Peer || moveNotify === undefined) return -EOPNOTSUPP;
    return revoked ? -ENODEV : 0;
  },
  map: (_importer, revoked) => (revoked ? -ENODEV : 0),
};

/** Ranges of a BAR that other devices may reach. Revoked while nobody may, and for ever once the device is closed. */
export class VfioPciDmaBuf implements DmaBufExporter {
  readonly name = 'vfio_pci_core';
  readonly file: DmaBufFile;
  readonly assigned: AssignedMemory;
  readonly #rules: ImportRules;
  /** Undefined after the last close. */
  #device: VfioPciCoreDevice | undefined;
  readonly #pieces: readonly DmaBufPiece[];
  #revoked: boolean;

  constructor(p: Process, device: VfioPciCoreDevice, pieces: readonly DmaBufPiece[], flags: number, rules: ImportRules) {
    this.#rules = rules;
    this.#device = device;
    this.assigned = { kvm: device.kvm, isPrivate: device.isPrivate, tdi: device.assigned?.tdi };
    this.#pieces = pieces;
    this.#revoked = !device.memoryEnabled;
    this.file = new DmaBufFile(p, this, BigInt(pieces.reduce((sum, { length }) => sum + length, 0)), flags);
  }

  attach(importer: DmaBufImporter): number {
    return importer.byPage ? 0 : this.#rules.attach(importer, this.#revoked);
  }

  map(importer: DmaBufImporter): readonly DmaBufPiece[] | number {
    return this.#rules.map(importer, this.#revoked) || this.#pieces;
  }

  place(offset: number): DmaBufPlace | number {
    if (this.#revoked) return -ENODEV;
    let within = offset;
    for (const { memory, offset: start, length } of this.#pieces) {
      if (within < length) return { memory, offset: start + within };
      within -= length;
    }
    return -EINVAL;
  }

  /** vfio_pci_dma_buf_move. */
  move(revoked: boolean): void {
    if (this.#revoked === revoked) return;
    this.#revoked = revoked;
    this.file.moveNotify();
  }

  /** vfio_pci_dma_buf_cleanup: the device is closed. */
  end(): void {
    this.move(true);
    this.#leave();
  }

  release(): void {
    this.#leave();
  }

  #leave(): void {
    const device = this.#device;
    this.#device = undefined;
    if (device?.dmaBufs.delete(this)) device.put();
  }
}

/** VFIO_DEVICE_FEATURE_DMA_BUF, after the checks of every feature: the new descriptor is the result. */
export function exportDmaBuf(p: Process, device: VfioPciCoreDevice, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, HEADER);
  if (bytes === null) return -EFAULT;
  const view = vfio_device_feature_dma_buf.view(bytes);
  const { region_index: bar, open_flags, flags, nr_ranges } = view;
  if (nr_ranges === 0 || flags !== 0) return -EINVAL;
  if (bar >= VFIO_PCI_ROM_REGION_INDEX || barLength(device.pdev, bar) === 0 || device.barError(bar) < 0) return -ENODEV;
  const ranges = copyRanges(p, arg + BigInt(HEADER), nr_ranges, vfio_region_dma_range);
  if (typeof ranges === 'number') return ranges;
  const pieces = piecesOf(device, bar, ranges);
  return typeof pieces === 'number' ? pieces : exportPieces(p, device, pieces, open_flags, mainlineRules);
}

/** The file, behind all checks: its descriptor, or −errno. */
export function exportPieces(
  p: Process,
  device: VfioPciCoreDevice,
  pieces: readonly DmaBufPiece[],
  flags: number,
  rules: ImportRules,
): number {
  if (!device.tryGet()) return -ENODEV;
  const dmaBuf = new VfioPciDmaBuf(p, device, pieces, flags, rules);
  device.dmaBufs.add(dmaBuf);
  return p.fds.install(dmaBuf.file, (flags & O_CLOEXEC) !== 0);
}

/** memdup_array_user: −ENOMEM where the array is longer than the kernel allocates. */
export function copyRanges<T>(p: Process, address: bigint, count: number, struct: Struct<T>): T[] | number {
  const { size } = struct;
  if (count * size > KMALLOC_MAX) return -ENOMEM;
  const bytes = p.mm.copyFrom(address, count * size);
  if (bytes === null) return -EFAULT;
  return Array.from({ length: count }, (_, i) => struct.decode(bytes.subarray(i * size, (i + 1) * size)));
}

/** Lengths and alignment of all first, then the BAR. */
function piecesOf(device: VfioPciCoreDevice, bar: number, ranges: readonly vfio_region_dma_range[]): DmaBufPiece[] | number {
  let total = 0n;
  for (const { offset, length } of ranges) {
    if (length === 0n || offset % PAGE !== 0n || length % PAGE !== 0n) return -EINVAL;
    total += length;
  }
  if (total >= TOP / 2n) return -EINVAL;
  const { start, flags } = device.pdev.resources[bar]!;
  if ((flags & IORESOURCE_MEM) === 0n) return -EINVAL;
  const size = BigInt(barLength(device.pdev, bar));
  for (const { offset, length } of ranges) {
    if (start + offset + length >= TOP) return -EOVERFLOW;
    if (offset + length > size) return -EINVAL;
  }
  const memory = device.barMemory(bar);
  return ranges.map(({ offset, length }) => ({ memory, offset: Number(offset), length: Number(length) }));
}
