import { wide } from '../kernel/arguments.ts';
import { type Descriptor, fdOf } from '../kernel/descriptor.ts';
import { KernelError } from '../kernel/errors.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Memory } from '../kernel/memory.ts';
import { rangeOf } from '../kernel/memory-argument.ts';
import { withMemory, withRoom } from '../kernel/temporary.ts';
import {
  IOMMU_IOAS_ALLOW_IOVAS,
  IOMMU_IOAS_COPY,
  IOMMU_IOAS_IOVA_RANGES,
  IOMMU_IOAS_MAP,
  IOMMU_IOAS_MAP_FILE,
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IOMMU_IOAS_UNMAP,
  IOMMU_OPTION_HUGE_PAGES,
  iommu_ioas_allow_iovas,
  iommu_ioas_copy,
  iommu_ioas_iova_ranges,
  iommu_ioas_map,
  iommu_ioas_map_file,
  iommu_ioas_unmap,
  iommu_iova_range,
} from '../uapi/iommufd.ts';
import { EMSGSIZE } from '../uapi/sys.ts';
import { IommufdObject, idOf } from './object.ts';

/** What every mapping may say. */
export interface MapOptions {
  /** Where it shall be; absent: the kernel finds a place. */
  iova?: bigint;
  /** What devices may do: IOMMU_IOAS_MAP_READABLE, IOMMU_IOAS_MAP_WRITEABLE; default both. IOMMU_IOAS_MAP_FIXED_IOVA is added where there is an `iova`. */
  flags?: number;
}

/** A range of a file: a memfd, or a dma-buf. */
export interface FileRange extends MapOptions {
  /** Bytes from the beginning of the file; default 0. */
  start?: number | bigint;
  length: number | bigint;
}

/** A part of a `Memory`, in bytes; default all of it. */
export interface MemoryPart {
  offset?: number | bigint;
  length?: number | bigint;
}

/** A range of process memory by its address. */
export interface AddressRange extends MapOptions {
  user_va: bigint;
  length: number | bigint;
}

/** What is copied of another IOAS's mappings (or of this one's). */
export interface CopyOptions extends MapOptions {
  src_iova: bigint;
  length: number | bigint;
}

const RW = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;
/** Ranges asked for at once, before the kernel says how many there are. */
const FIRST_RANGES = 16;
/** iova 0 and this length: everything. */
const EVERYTHING = (1n << 64n) - 1n;

/** What else is there stays, for the codec to refuse. */
function placed({ iova, flags = RW, ...rest }: MapOptions): { flags: number; iova: bigint } {
  return { ...rest, flags: iova === undefined ? flags : flags | IOMMU_IOAS_MAP_FIXED_IOVA, iova: iova ?? 0n };
}

/** An IO address space: what devices that are attached to it can reach, and where. */
export class Ioas extends IommufdObject {
  /**
   * IOMMU_IOAS_MAP: the IOVA at which devices reach this memory. The kernel layer keeps the memory mapped until it is unmapped, or the iommufd closed. Nothing is
   * looked at before a page table needs it: a bad address is EFAULT here only where there is one already, or else when a device is attached. EEXIST:
   * something is mapped at `iova`. EINVAL: reserved, or not aligned. ENOSPC: no room. ENOMEM: RLIMIT_MEMLOCK.
   */
  map(memory: Memory, options?: MapOptions & MemoryPart): bigint;
  map(range: AddressRange): bigint;
  map(what: Memory | AddressRange, options: MapOptions & MemoryPart = {}): bigint {
    const { user_va, length, ...how } = plainRange(this.iommufd.kernel, what, options);
    const struct = iommu_ioas_map;
    const bytes = struct.encode({ size: struct.size, ioas_id: this.liveId, user_va, length, ...placed(how) });
    this.iommufd.ioctl(IOMMU_IOAS_MAP, bytes);
    return struct.decode(bytes).iova;
  }

  /**
   * IOMMU_IOAS_MAP_FILE: the same of a file's memory: a memfd, or a dma-buf of VFIO's. EOPNOTSUPP: a dma-buf of somebody else's, or of several ranges; ENODEV: it is revoked. A
   * dma-buf that is revoked later leaves a dead mapping, which does not come back.
   */
  mapFile(fd: Descriptor, { start = 0n, length, ...how }: FileRange): bigint {
    const range = { start: wide(start, 'start'), length: wide(length, 'length') };
    const struct = iommu_ioas_map_file;
    const file = fdOf(fd, 'fd', this.iommufd.kernel);
    const bytes = struct.encode({ size: struct.size, ioas_id: this.liveId, fd: file, ...range, ...placed(how) });
    this.iommufd.ioctl(IOMMU_IOAS_MAP_FILE, bytes);
    return struct.decode(bytes).iova;
  }

  /** IOMMU_IOAS_COPY: what `source` maps there, here too: pages are pinned once. EPERM: writable, of what was mapped without. ENOENT: not all of it is mapped. */
  copy(source: Ioas, { src_iova, length: bytesToCopy, ...how }: CopyOptions): bigint {
    const length = wide(bytesToCopy, 'length');
    const struct = iommu_ioas_copy;
    const { iova: dst_iova, ...placement } = placed(how);
    const ids = { dst_ioas_id: this.liveId, src_ioas_id: idOf(source, 'source', this.iommufd) };
    const bytes = struct.encode({ size: struct.size, ...ids, length, dst_iova, src_iova, ...placement });
    this.iommufd.ioctl(IOMMU_IOAS_COPY, bytes);
    return struct.decode(bytes).dst_iova;
  }

  /** IOMMU_IOAS_UNMAP: how many bytes were unmapped: whole mappings in the range. ENOENT: nothing there, or one is cut: those before it are gone. EBUSY: a hardware queue uses it. */
  unmap(iova: bigint, length: number | bigint): bigint {
    const struct = iommu_ioas_unmap;
    const bytes = struct.encode({ size: struct.size, ioas_id: this.liveId, iova, length: wide(length, 'length') });
    this.iommufd.ioctl(IOMMU_IOAS_UNMAP, bytes);
    return struct.decode(bytes).length;
  }

  /** IOMMU_IOAS_UNMAP of everything: how many bytes; 0n where nothing was mapped. */
  unmapAll(): bigint {
    return this.unmap(0n, EVERYTHING);
  }

  /** IOMMU_IOAS_IOVA_RANGES: what can be mapped, as far as the devices attached and the page tables made let it (ends are inclusive), and what everything must be aligned to. */
  iovaRanges(): { ranges: iommu_iova_range[]; alignment: bigint } {
    for (let room = FIRST_RANGES; ; ) {
      const asked = this.#iovaRanges(room);
      if (asked.total <= room) return { ranges: asked.ranges, alignment: asked.alignment };
      room = asked.total;
    }
  }

  /** IOMMU_IOAS_ALLOW_IOVAS: the only ranges the kernel will choose places from, and which devices must leave free; none: all. EADDRINUSE: a device cannot. */
  allowIovas(ranges: readonly iommu_iova_range[]): void {
    const array = Buffer.concat(ranges.map((range) => iommu_iova_range.encode(range)));
    const struct = iommu_ioas_allow_iovas;
    withMemory(this.iommufd.kernel, array, (allowed_iovas) => {
      const counts = { num_iovas: ranges.length, allowed_iovas };
      this.iommufd.ioctl(IOMMU_IOAS_ALLOW_IOVAS, struct.encode({ size: struct.size, ioas_id: this.liveId, ...counts }));
    });
  }

  /** IOMMU_OPTION_HUGE_PAGES: whether page tables may use large pages. Turning it off is EINVAL once something is mapped in one. */
  get hugePages(): boolean {
    return this.iommufd.getOption(IOMMU_OPTION_HUGE_PAGES, this.liveId) === 1n;
  }

  set hugePages(on: boolean) {
    this.iommufd.setOption(IOMMU_OPTION_HUGE_PAGES, on ? 1n : 0n, this.liveId);
  }

  #iovaRanges(room: number): { total: number; ranges: iommu_iova_range[]; alignment: bigint } {
    const struct = iommu_ioas_iova_ranges;
    const { kernel } = this.iommufd;
    return withRoom(kernel, room * iommu_iova_range.size, (memory) => {
      const base = {
        size: struct.size,
        ioas_id: this.liveId,
        num_iovas: room,
        allowed_iovas: memory.address,
        out_iova_alignment: 0n,
      };
      const bytes = struct.encode(base);
      const result = this.iommufd.tryIoctl(IOMMU_IOAS_IOVA_RANGES, bytes);
      if (result < 0 && result !== -EMSGSIZE)
        throw new KernelError(-result, 'ioctl', { request: 'IOMMU_IOAS_IOVA_RANGES', fd: this.iommufd.fd });
      const { num_iovas: total, out_iova_alignment: alignment } = struct.decode(bytes);
      const count = Math.min(total, room);
      const at = (i: number): iommu_iova_range => iommu_iova_range.decode(memory.bytes, i * iommu_iova_range.size);
      return { total, alignment, ranges: Array.from({ length: count }, (_, i) => at(i)) };
    });
  }
}

function plainRange(
  kernel: Kernel,
  what: Memory | AddressRange,
  { offset, length, ...how }: MapOptions & MemoryPart,
): MapOptions & { user_va: bigint; length: bigint } {
  if (typeof what === 'object' && what !== null && 'user_va' in what) return { ...what, length: wide(what.length, 'length') };
  const { userspace_addr: user_va, memory_size } = rangeOf(kernel, what, offset, length);
  return { ...how, user_va, length: memory_size };
}
