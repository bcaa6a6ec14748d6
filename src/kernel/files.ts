import type { IoctlRow } from '../uapi/ioctls.ts';
import type { MappedMemory } from './mapped-memory.ts';

/** A row of the ioctl table with what the hot path asks of it. */
export interface Rule {
  readonly row: IoctlRow | undefined;
  /** It leaves something behind that we must know of: memory it names, descriptors it makes. */
  readonly remembered: boolean;
  /** It is KVM_RUN of a vCPU. */
  readonly run: boolean;
}

/**
 * What KernelCore remembers of the descriptors it opened or adopted. A `TrackedFile` stands for an open file description:
 * `dup`s share it.
 */
export interface TrackedFile {
  /** As the ioctl table names it: 'kvm', 'vm', 'vcpu', 'vfio-device', 'iommufd' …; 'file' for what has no ioctls of ours. */
  readonly kind: string;
  readonly holder: Holder;
  /** The ioctl rules met so far on this kind of file (VFIO gives one number different meanings on different kinds). */
  readonly rules: Map<number, Rule>;
  /** Inside runAsync: any other ioctl would block on the vCPU mutex. */
  running: boolean;
  /** Queued runAsync calls, in order. */
  tail: Promise<unknown> | undefined;
  /** Cancels for waits under way. */
  readonly waits: Set<() => void>;
  descriptors: number;
}

/** An IOVA of an address space: the container's, or an IOAS by its id. */
interface Place {
  readonly space: number;
  readonly iova: bigint;
}

type Areas = Map<bigint, { readonly length: bigint; readonly memory: MappedMemory }>;

/**
 * Everything that must keep its memory as long as one of a family of files is open: a VM with its vCPUs and devices, a VFIO
 * container, an iommufd. A memslot (IOAS area, DMA mapping) pins what it names; the pins go with the slot, or with the last
 * file that could still use it.
 */
export class Holder {
  /** Memslots we have seen being set, and their length in bytes. */
  readonly slots: Map<number, bigint> = new Map();
  readonly #pins: Map<string, MappedMemory> = new Map();
  /** DMA mappings, by address space and IOVA. */
  readonly #areas: Map<number, Areas> = new Map();
  #files = 0;
  #shared = false;

  enter(): void {
    this.#files++;
  }

  /** A descriptor of it is, or may be, outside this kernel: what that can reach is never unmapped. */
  share(): this {
    this.#shared = true;
    return this;
  }

  /**
   * Answers the ioctl table's rules that depend on earlier calls. The dirty bitmap of a memslot is one bit per page in whole
   * 64-bit words; of a VM that others drive too we do not know the slots, and assume the worst.
   */
  state(rule: string, args: readonly bigint[]): bigint | undefined {
    if (rule !== 'memslot-bitmap') return undefined;
    const size = this.slots.get(Number(args[0]));
    if (size !== undefined) return ((size / 4096n + 63n) / 64n) * 8n;
    return this.#shared ? 1n << 47n : undefined;
  }

  leave(): void {
    if (--this.#files > 0 || this.#shared) return;
    for (const memory of this.#pins.values()) memory.unpin();
    for (const space of this.#areas.keys()) this.unpinSpace(space);
    this.#pins.clear();
    this.slots.clear();
  }

  /** Something in the kernel, named by `key`, now refers to `memory` (undefined: to nothing of ours). */
  pin(key: string, memory: MappedMemory | undefined): void {
    memory?.pin();
    this.#pins.get(key)?.unpin();
    if (memory === undefined) this.#pins.delete(key);
    else this.#pins.set(key, memory);
  }

  /** A DMA mapping refers to `memory`. */
  pinArea(space: number, iova: bigint, length: bigint, memory: MappedMemory): void {
    let areas = this.#areas.get(space);
    if (areas === undefined) this.#areas.set(space, (areas = new Map()));
    memory.pin();
    areas.get(iova)?.memory.unpin();
    areas.set(iova, { length, memory });
  }

  /** What is mapped of `length` bytes at one place is mapped at another one too. */
  copyAreas(from: Place, to: Place, length: bigint): void {
    const areas = this.#areas.get(from.space);
    const only = areas?.get(from.iova);
    if (only !== undefined && only.length >= length) {
      this.pinArea(to.space, to.iova, length, only.memory);
      return;
    }
    const last = from.iova + length;
    for (const [at, area] of [...(areas ?? [])]) {
      const first = at > from.iova ? at : from.iova;
      const end = at + area.length < last ? at + area.length : last;
      if (first < end) this.pinArea(to.space, to.iova + first - from.iova, end - first, area.memory);
    }
  }

  /**
   * The kernel has unmapped `done` bytes of [iova, iova + length): all mappings that lie in there. One that reaches beyond may be there still, in part, and keeps
   * its memory.
   */
  unpinAreas(space: number, iova: bigint, length: bigint, done: bigint): void {
    const areas = this.#areas.get(space);
    if (areas === undefined || done === 0n) return;
    if (areas.get(iova)?.length === done) this.#unpinArea(areas, iova);
    else for (const [at, area] of areas) if (at >= iova && at + area.length <= iova + length) this.#unpinArea(areas, at);
  }

  #unpinArea(areas: Areas, iova: bigint): void {
    const { memory } = areas.get(iova)!;
    areas.delete(iova);
    memory.unpin();
  }

  /** All mappings of an address space are gone. */
  unpinSpace(space: number): void {
    for (const { memory } of this.#areas.get(space)?.values() ?? []) memory.unpin();
    this.#areas.delete(space);
  }
}

const kindByPath: readonly (readonly [RegExp, string])[] = [
  [/^\/dev\/kvm$/, 'kvm'],
  [/^\/dev\/vfio\/vfio$/, 'vfio-container'],
  [/^\/dev\/vfio\/devices\//, 'vfio-device'],
  [/^\/dev\/vfio\//, 'vfio-group'],
  [/^\/dev\/iommu$/, 'iommufd'],
  [/^\/dev\/udmabuf$/, 'udmabuf'],
  [/^\/dmabuf:|^anon_inode:dmabuf/, 'dma-buf'],
  [/^anon_inode:kvm-vm$/, 'vm'],
  [/^anon_inode:kvm-vcpu:/, 'vcpu'],
  [/^anon_inode:kvm-vcpu-stats|^anon_inode:kvm-vm-stats/, 'kvm-stats'],
  [/kvm-gmem/, 'guest-memfd'],
  [/^anon_inode:kvm-/, 'kvm-device'],
  [/^anon_inode:\[vfio-device\]/, 'vfio-device'],
  [/^anon_inode:\[eventfd\]/, 'eventfd'],
];

/** The kind of file behind a path, or behind the text of a /proc/self/fd link. */
export function kindOfPath(path: string): string {
  return kindByPath.find(([pattern]) => pattern.test(path))?.[1] ?? 'file';
}
