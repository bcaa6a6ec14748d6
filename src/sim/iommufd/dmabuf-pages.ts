import { EINVAL, EOPNOTSUPP } from '../../uapi/sys.ts';
import type { DmaBufAttachment, DmaBufFile, DmaBufPiece } from '../dma-buf.ts';
import type { DmaTarget } from '../hardware/dma-target.ts';
import type { Process } from '../process.ts';
import { PAGE } from './iova.ts';
import { DeviceOnlyPages } from './pages.ts';

/** What a pages object can be of pages. */
const MAX_PAGES = (1n << 32n) - 1n;
/** Exporters that hand out their physical range to iommufd. */
const exporters: ReadonlySet<string> = new Set(['vfio_pci_core', 'iommufd_test']);

/**
 * Memory of a device by its dma-buf: nothing is pinned, the CPU gets none of it. Once revoked it stays dead: what is mapped by it keeps its IOVAs, and
 * translates no more.
 */
export class DmabufPages extends DeviceOnlyPages {
  readonly hint: bigint;
  readonly #process: Process;
  readonly #file: DmaBufFile;
  #attachment: DmaBufAttachment | undefined;
  #piece: DmaBufPiece | undefined;

  private constructor(p: Process, file: DmaBufFile, hint: bigint, writable: boolean) {
    super(writable);
    this.#process = p;
    this.#file = file.ref();
    this.hint = hint;
  }

  /** iopt_map_dmabuf: −errno where the range, the exporter or its state does not allow it. */
  static import(p: Process, file: DmaBufFile, start: bigint, length: bigint, writable: boolean): DmabufPages | number {
    const offset = start % PAGE;
    if (start + length > file.size || (offset + length + PAGE - 1n) / PAGE >= MAX_PAGES) return -EINVAL;
    const pages = new DmabufPages(p, file, start - offset, writable);
    const error = pages.#attach();
    if (error === 0) return pages;
    pages.release();
    return error;
  }

  #attach(): number {
    const attachment = this.#file.attach({ allowPeer2Peer: true, moveNotify: () => this.#revoked() });
    if (typeof attachment === 'number') return attachment;
    this.#attachment = attachment;
    if (!exporters.has(this.#file.exporter.name)) return -EOPNOTSUPP;
    const pieces = attachment.map();
    if (typeof pieces === 'number') return pieces;
    if (pieces.length !== 1) return -EOPNOTSUPP;
    this.#piece = pieces[0];
    return 0;
  }

  /** Whatever the exporter says: what was mapped is gone for good. */
  #revoked(): void {
    this.#piece = undefined;
  }

  protected override release(): void {
    this.#attachment?.detach();
    this.#file.unref(this.#process);
  }

  override target(byte: bigint, length: number): DmaTarget | undefined {
    const piece = this.#piece;
    if (piece === undefined) return undefined;
    return { length, device: piece.memory, offset: piece.offset + Number(this.hint + byte) };
  }
}
