import type { Stat } from '../kernel/backend.ts';
import { DMA_BUF_NAME_LEN, DMA_BUF_SYNC_RW, DMA_BUF_SYNC_VALID_FLAGS_MASK, dma_buf_sync } from '../uapi/dma-buf.ts';
import { EFAULT, EINVAL, ENOTTY, O_ACCMODE, O_NONBLOCK, POLLIN, POLLOUT } from '../uapi/sys.ts';
import type { Coverage } from './coverage.ts';
import { type Backing, File } from './file.ts';
import type { TdiBinding } from './hardware/tsm/binding.ts';
import { NOT_MODELLED, RequestTable } from './ioctl-table.ts';
import type { DeviceMemory } from './mm/device-memory.ts';
import type { Process } from './process.ts';
import type { KvmReference } from './vfio-file.ts';

/** Memory of a device that lies in one piece on the bus. */
export interface DmaBufPiece {
  readonly memory: DeviceMemory;
  readonly offset: number;
  readonly length: number;
}

/** Whose memory it is (`struct dma_buf_ops`). */
export interface DmaBufExporter {
  /** exp_name of fdinfo. */
  readonly name: string;
  /** 0 or −errno: whether this importer may have the memory. */
  attach(importer: DmaBufImporter): number;
  /** The pieces in order, or −errno. */
  map(importer: DmaBufImporter): readonly DmaBufPiece[] | number;
  /**
   * RFC (dma_buf_get_pfn_unlocked): what lies at a byte offset, for an importer that asks page by page: −ENODEV while nobody may reach it, −EINVAL past the end.
   * Absent: the memory can only be mapped.
   */
  place?(offset: number): DmaBufPlace | number;
  /** RFC: the assigned device whose memory it is. */
  readonly assigned?: AssignedMemory;
  /** The last reference to the file is gone. */
  release(p: Process): void;
}

/** RFC: where a page of the memory is. */
export interface DmaBufPlace {
  readonly memory: DeviceMemory;
  readonly offset: number;
}

/** RFC: what KVM asks of memory of an assigned device that is to belong to a guest. */
export interface AssignedMemory {
  /** The VM the device was opened with. */
  readonly kvm: KvmReference | null;
  /** The device was bound with VFIO_DEVICE_BIND_IOMMUFD_PRIVATE. */
  readonly isPrivate?: boolean;
  /** Its TDI, where the function has TEE-IO. */
  readonly tdi?: AssignedTdi | undefined;
}

/** RFC: a TDI as far as the mappings of its memory go. */
export interface AssignedTdi {
  readonly binding: TdiBinding | undefined;
  /** KVM takes private frames [`gpaBase`, `gpaTop`) that are its memory from the guest. */
  mmioUnmapped(gpaBase: bigint, gpaTop: bigint): void;
}

/** Who wants to reach the memory (`struct dma_buf_attach_ops`). */
export interface DmaBufImporter {
  /** RFC: it has no device, asks for each page when it needs it, and may attach before there is one. */
  readonly byPage?: true;
  /** Reaches another device's memory without a detour through RAM. */
  readonly allowPeer2Peer: boolean;
  /**
   * What was mapped may not be used any more, or can be mapped again: the importer asks. Absent: it cannot let go of what it has, and
   * the exporter must not move it.
   */
  readonly moveNotify?: () => void;
}

/** `struct dma_buf_attachment`. The importer holds the file. */
export class DmaBufAttachment {
  readonly #file: DmaBufFile;
  readonly importer: DmaBufImporter;

  constructor(file: DmaBufFile, importer: DmaBufImporter) {
    this.#file = file;
    this.importer = importer;
  }

  /** dma_buf_map_attachment: the pieces in order, or −errno. */
  map(): readonly DmaBufPiece[] | number {
    return this.#file.exporter.map(this.importer);
  }

  detach(): void {
    this.#file.attachments.delete(this);
  }
}

/** A dma-buf: memory that devices share, as a file (drivers/dma-buf/dma-buf.c). */
export class DmaBufFile extends File {
  readonly size: bigint;
  readonly exporter: DmaBufExporter;
  readonly attachments: Set<DmaBufAttachment> = new Set();
  readonly #inode: bigint;

  /** `flags`: the access mode and O_NONBLOCK count. */
  constructor(p: Process, exporter: DmaBufExporter, size: bigint, flags: number) {
    super('/dmabuf:', flags & (O_ACCMODE | O_NONBLOCK));
    this.exporter = exporter;
    this.size = size;
    this.#inode = p.system.newInode();
  }

  /** dma_buf_dynamic_attach: −errno where the exporter does not want this importer. */
  attach(importer: DmaBufImporter): DmaBufAttachment | number {
    // RFC: without a device there is nobody to map for.
    if (importer.byPage && this.exporter.place === undefined) return -EINVAL;
    const error = this.exporter.attach(importer);
    if (error < 0) return error;
    const attachment = new DmaBufAttachment(this, importer);
    this.attachments.add(attachment);
    return attachment;
  }

  /** dma_buf_move_notify: tells the importers. */
  moveNotify(): void {
    for (const { importer } of [...this.attachments]) importer.moveNotify?.();
  }

  override release(p: Process): void {
    this.exporter.release(p);
  }

  override ioctl(p: Process, request: number, arg: bigint): number {
    return dmaBufIoctls.dispatch(this, p, request, arg);
  }

  static cover(coverage: Coverage): void {
    dmaBufIoctls.cover(coverage);
  }

  /** DMA_BUF_IOCTL_SYNC: without operations for the CPU's access there is nothing to do. */
  sync(p: Process, arg: bigint): number {
    const bytes = p.mm.copyFrom(arg, dma_buf_sync.size);
    if (bytes === null) return -EFAULT;
    const { flags } = dma_buf_sync.decode(bytes);
    if ((flags & ~BigInt(DMA_BUF_SYNC_VALID_FLAGS_MASK)) !== 0n) return -EINVAL;
    return (flags & BigInt(DMA_BUF_SYNC_RW)) === 0n ? -EINVAL : 0;
  }

  /** DMA_BUF_SET_NAME. */
  setName(p: Process, arg: bigint): number {
    let name = '';
    for (let at = arg; ; at++) {
      const byte = p.mm.copyFrom(at, 1)?.[0];
      if (byte === undefined) return -EFAULT;
      if (byte === 0) break;
      if (name.length === DMA_BUF_NAME_LEN - 1) return -EINVAL;
      name += String.fromCharCode(byte);
    }
    this.link = `/dmabuf:${name}`;
    return 0;
  }

  override fdinfo(): string {
    const name = this.link.slice('/dmabuf:'.length);
    const named = name === '' ? '' : `name:\t${name}\n`;
    return `size:\t${this.size}\ncount:\t${this.references}\nexp_name:\t${this.exporter.name}\n${named}`;
  }

  override mmap(): Backing | number {
    return -EINVAL;
  }

  /** No fences: always ready. */
  override poll(): number {
    return POLLIN | POLLOUT;
  }

  override stat(): Stat {
    const { size } = this;
    return { dev: 11n, ino: this.#inode, mode: 0o600, nlink: 1, uid: 0, gid: 0, rdev: 0n, size, blksize: 4096, blocks: 0n };
  }
}

/** Every request a dma-buf knows. */
const dmaBufIoctls: RequestTable<DmaBufFile> = new RequestTable<DmaBufFile>('dma-buf', ENOTTY, {
  DMA_BUF_IOCTL_SYNC: (file, p, arg) => file.sync(p, arg),
  DMA_BUF_SET_NAME_A: (file, p, arg) => file.setName(p, arg),
  DMA_BUF_SET_NAME_B: (file, p, arg) => file.setName(p, arg),
  DMA_BUF_IOCTL_EXPORT_SYNC_FILE: NOT_MODELLED,
  DMA_BUF_IOCTL_IMPORT_SYNC_FILE: NOT_MODELLED,
});
