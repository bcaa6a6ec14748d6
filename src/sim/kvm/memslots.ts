import {
  KVM_MEM_GUEST_MEMFD,
  KVM_MEM_LOG_DIRTY_PAGES,
  KVM_MEM_READONLY,
  kvm_userspace_memory_region,
  kvm_userspace_memory_region2,
} from '../../uapi/kvm.ts';
import { EEXIST, EINVAL } from '../../uapi/sys.ts';
import { xuMay25 } from '../../uapi/tee-io.ts';
import type { DirtyTracking } from './dirty-log.ts';
import type { DmaBufSlot } from './dma-buf-slot.ts';
import { type GmemBinding, unbindGuestMemfd } from './guest-memfd.ts';
import { SlotIndex } from './slot-index.ts';

/** User memslot ids per address space: 32767 less 3 internal ones. */
export const KVM_USER_MEM_SLOTS = 32764;
/** Pages one slot may have. */
const KVM_MEM_MAX_NR_PAGES: number = 2 ** 31 - 1;

const { KVM_MEM_VFIO_DMABUF } = xuMay25;
/** What a slot has from its creation to its deletion. */
const FIXED_FLAGS = KVM_MEM_READONLY | KVM_MEM_GUEST_MEMFD | KVM_MEM_VFIO_DMABUF;
const PAGE_MASK = 0xfffn;
const U64_END = 1n << 64n;

/** One memslot. Only `flags` and `base_gfn` ever change; any other change is EINVAL, and a slot has to be deleted first. */
export interface Memslot {
  readonly as_id: number;
  readonly id: number;
  base_gfn: number;
  readonly npages: number;
  readonly userspace_addr: bigint;
  flags: number;
  /** KVM_MEM_GUEST_MEMFD: the memory of its private frames, or of all. */
  readonly gmem: GmemBinding | undefined;
  /** RFC, KVM_MEM_VFIO_DMABUF: the device memory of its frames. */
  readonly dmaBuf: DmaBufSlot | undefined;
  /** KVM_MEM_LOG_DIRTY_PAGES: a bit a page, in whole 64-bit words; none where rings are used instead. */
  dirty: Uint8Array | undefined;
}

/** A region as userspace passes it; the v1 struct has the first five fields, the rest is zero then. */
export type Region = Omit<kvm_userspace_memory_region2, 'pad1' | 'pad2'>;

/** What of the machine and the VM decides about slots. */
export interface SlotLimits {
  /** First address the user may not name: TASK_SIZE_MAX. */
  readonly userTop: bigint;
  /** MAXPHYADDR of the host with two-dimensional paging, 52 with shadow paging. */
  readonly gpaBits: number;
  readonly readonlyMem: boolean;
  readonly guestMemfd: boolean;
  /** kvm_gmem_bind: the slot's part of a guest_memfd, or −errno. */
  bind(fd: number, offset: bigint, npages: number): GmemBinding | number;
  /** RFC, KVM_MEM_VFIO_DMABUF: the slot's device memory, or −errno. Absent: there is no such flag. */
  readonly bindDmaBuf?: ((fd: number, base_gfn: number, npages: number) => DmaBufSlot | number) | undefined;
  readonly dirty: DirtyTracking;
}

/** Bytes of `struct kvm_userspace_memory_region`(2), decoded. */
export function decodeRegion(bytes: Uint8Array): Region {
  if (bytes.length >= kvm_userspace_memory_region2.size) return kvm_userspace_memory_region2.decode(bytes);
  return { ...kvm_userspace_memory_region.decode(bytes), guest_memfd_offset: 0n, guest_memfd: 0 };
}

/** The memslots of a VM. `generation` moves with every change, and whoever remembers an answer has to compare it. */
export class Memslots {
  generation = 0;
  /** Moves with every deletion and move: KVM then builds its page tables anew, from the root. */
  roots = 0;
  readonly #spaces: SlotIndex[];

  /** `spaces`: 2 with SMM, else 1. */
  constructor(spaces: number) {
    this.#spaces = Array.from({ length: spaces }, () => new SlotIndex());
  }

  /** Address spaces: 2 with SMM, else 1. */
  get spaces(): number {
    return this.#spaces.length;
  }

  /** The slot that holds this guest frame. */
  find(gfn: number, as_id = 0): Memslot | undefined {
    return this.#spaces[as_id]?.find(gfn);
  }

  get(id: number, as_id = 0): Memslot | undefined {
    return this.#spaces[as_id]?.byId.get(id);
  }

  /** All slots of an address space, by guest frame. */
  list(as_id = 0): readonly Memslot[] {
    return this.#spaces[as_id]?.list() ?? [];
  }

  /** `nr_memslot_pages`: of all address spaces. */
  get pages(): number {
    return this.#spaces.flatMap((space) => space.list()).reduce((sum, { npages }) => sum + npages, 0);
  }

  /** RFC: the VM is gone, and what its slots hold with it. */
  releaseDmaBufs(): void {
    for (const space of this.#spaces) for (const { dmaBuf } of space.list()) dmaBuf?.release();
  }

  /**
   * KVM_SET_USER_MEMORY_REGION and …2, once the struct is copied in: 0 or −errno. The checks are in the kernel's order, the
   * first that fails decides.
   */
  set(region: Region, limits: SlotLimits, v1: boolean): number {
    const { flags, guest_phys_addr, memory_size, userspace_addr } = region;
    const id = region.slot & 0xffff;
    const as_id = region.slot >>> 16;
    if (v1 && flags & ~(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY)) return -EINVAL;
    if (id >= KVM_USER_MEM_SLOTS) return -EINVAL;
    if (flags & ~allowedFlags(flags, limits)) return -EINVAL;
    if (memory_size & PAGE_MASK) return -EINVAL;
    if (guest_phys_addr & PAGE_MASK) return -EINVAL;
    if (userspace_addr & PAGE_MASK || userspace_addr + memory_size > limits.userTop) return -EINVAL;
    if (flags & KVM_MEM_GUEST_MEMFD) {
      if (region.guest_memfd_offset & PAGE_MASK || region.guest_memfd_offset + memory_size >= U64_END) return -EINVAL;
    }
    const space = this.#spaces[as_id];
    if (space === undefined) return -EINVAL;
    if (memory_size !== 0n && guest_phys_addr + memory_size >= U64_END) return -EINVAL;
    const pages = memory_size >> 12n;
    if (pages > BigInt(KVM_MEM_MAX_NR_PAGES)) return -EINVAL;

    const old = space.byId.get(id);
    const base_gfn = Number(guest_phys_addr >> 12n);
    const npages = Number(pages);
    if (npages === 0) {
      if (old === undefined) return -EINVAL;
      space.remove(old);
      unbindGuestMemfd(old.gmem);
      old.dmaBuf?.release();
      this.generation++;
      this.roots++;
      return 0;
    }
    if (old !== undefined) {
      // A guest_memfd slot can only be deleted, not even set again to what it is; nor can one of a dma-buf.
      if (flags & (KVM_MEM_GUEST_MEMFD | KVM_MEM_VFIO_DMABUF)) return -EINVAL;
      if (userspace_addr !== old.userspace_addr || npages !== old.npages) return -EINVAL;
      if ((flags ^ old.flags) & FIXED_FLAGS) return -EINVAL;
      if (base_gfn === old.base_gfn) {
        if (flags !== old.flags) {
          Object.assign(old, { flags, dirty: limits.dirty.bitmapFor(flags, npages, old) });
          limits.dirty.flagsChanged(old);
          this.generation++;
        }
        return 0;
      }
    }
    if (space.overlaps(base_gfn, npages, old)) return -EEXIST;
    const gmem = flags & KVM_MEM_GUEST_MEMFD ? limits.bind(region.guest_memfd, region.guest_memfd_offset, npages) : undefined;
    if (typeof gmem === 'number') return gmem;
    if (flags & KVM_MEM_VFIO_DMABUF && region.guest_memfd_offset !== 0n) return -EINVAL;
    const dmaBuf = flags & KVM_MEM_VFIO_DMABUF ? limits.bindDmaBuf?.(region.guest_memfd, base_gfn, npages) : undefined;
    if (typeof dmaBuf === 'number') return dmaBuf;
    // A slot to be moved is invalid for a moment, also if it then stays where it is.
    if (old !== undefined) this.roots++;
    // The frame limit comes after overlap and guest_memfd, and counts the host's address bits.
    if (base_gfn + npages > 2 ** (limits.gpaBits - 12)) {
      unbindGuestMemfd(gmem);
      dmaBuf?.release();
      return -EINVAL;
    }

    if (old !== undefined) space.remove(old);
    const dirty = limits.dirty.bitmapFor(flags, npages, old);
    const slot = old === undefined ? { as_id, id, base_gfn, npages, userspace_addr, flags, gmem, dmaBuf, dirty } : old;
    space.insert(Object.assign(slot, { base_gfn, flags, dirty }));
    this.generation++;
    return 0;
  }
}

/** The memory of a slot is userspace's, a guest_memfd or a dma-buf, and only userspace's can be read-only or logged. */
function allowedFlags(flags: number, limits: SlotLimits): number {
  if (flags & KVM_MEM_GUEST_MEMFD) return limits.guestMemfd ? KVM_MEM_GUEST_MEMFD : 0;
  if (flags & KVM_MEM_VFIO_DMABUF) return limits.bindDmaBuf === undefined ? 0 : KVM_MEM_VFIO_DMABUF;
  return KVM_MEM_LOG_DIRTY_PAGES | (limits.readonlyMem ? KVM_MEM_READONLY : 0) | (limits.guestMemfd ? KVM_MEM_GUEST_MEMFD : 0);
}
