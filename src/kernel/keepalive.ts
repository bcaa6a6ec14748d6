import type { Holder } from './files.ts';
import type { GuardContext } from './guard.ts';

/** `asked`: what the struct said at `askedAt` before the call; 0n where the rule has none. */
type Remember = (context: GuardContext, view: DataView, holder: Holder, asked: bigint) => void;

interface Rule {
  readonly remember: Remember;
  /** Bytes of the struct that are looked at: an unsafe call may have given fewer. */
  readonly length: number;
  /** Where the struct says how much an unmap is to take, and the kernel writes how much it took. */
  readonly askedAt?: number;
}

const memslot: Remember = (context, view, holder) => {
  const slot = view.getUint32(0, true);
  const size = view.getBigUint64(16, true);
  const address = view.getBigUint64(24, true);
  holder.pin(`slot ${slot}`, size === 0n ? undefined : context.memoryAt(address, size));
  if (size === 0n) holder.slots.delete(slot);
  else holder.slots.set(slot, size);
};

/** A DMA mapping, by its IOVA. */
function mapped(space: (view: DataView) => number, addressAt: number, lengthAt: number, iovaAt: number): Remember {
  return (context, view, holder) => {
    const length = view.getBigUint64(lengthAt, true);
    const memory = context.memoryAt(view.getBigUint64(addressAt, true), length);
    if (memory !== undefined) holder.pinArea(space(view), view.getBigUint64(iovaAt, true), length, memory);
  };
}

/** Areas of two address spaces share what they show: the source's may go first. */
const copied: Remember = (_, view, holder) => {
  const from = { space: view.getUint32(12, true), iova: view.getBigUint64(32, true) };
  const to = { space: view.getUint32(8, true), iova: view.getBigUint64(24, true) };
  holder.copyAreas(from, to, view.getBigUint64(16, true));
};

/** The kernel has written how many bytes it unmapped. */
function unmapped(space: (view: DataView) => number, lengthAt: number, iovaAt: number): Remember {
  return (_, view, holder, asked) =>
    holder.unpinAreas(space(view), view.getBigUint64(iovaAt, true), asked, view.getBigUint64(lengthAt, true));
}

/** VFIO_DMA_UNMAP_FLAG_ALL takes all of them; with …_VADDR only the address is forgotten, and DMA goes on. */
const ALL = 2;
const VADDR = 4;
const unmapDma: Remember = (context, view, holder, asked) => {
  const flags = view.getUint32(4, true);
  if ((flags & VADDR) !== 0) return;
  if ((flags & ALL) !== 0) holder.unpinSpace(0);
  else unmapped(() => 0, 16, 8)(context, view, holder, asked);
};

/**
 * What a successful ioctl leaves behind in the kernel that names memory of ours, by request name: a memslot names its
 * userspace_addr until it is deleted, an IOAS area or a DMA mapping its virtual address until it is unmapped. Offsets are those of the
 * structs (kvm_userspace_memory_region: slot@0, memory_size@16, userspace_addr@24; vfio_iommu_type1_dma_map: vaddr@8, iova@16,
 * size@24; vfio_iommu_type1_dma_unmap: flags@4, iova@8, size@16; iommu_ioas_map: ioas_id@8, user_va@16, length@24, iova@32;
 * iommu_ioas_copy: dst_ioas_id@8, src_ioas_id@12, length@16, dst_iova@24, src_iova@32; iommu_ioas_unmap: ioas_id@4, iova@8, length@16;
 * iommu_destroy: id@4, which may be another object's and then has no areas).
 */
const rules: Readonly<Record<string, Rule>> = {
  KVM_SET_USER_MEMORY_REGION: { remember: memslot, length: 32 },
  KVM_SET_USER_MEMORY_REGION2: { remember: memslot, length: 32 },
  VFIO_IOMMU_MAP_DMA: { remember: mapped(() => 0, 8, 24, 16), length: 32 },
  VFIO_IOMMU_UNMAP_DMA: { remember: unmapDma, length: 24, askedAt: 16 },
  IOMMU_IOAS_MAP: { remember: mapped((view) => view.getUint32(8, true), 16, 24, 32), length: 40 },
  IOMMU_IOAS_COPY: { remember: copied, length: 40 },
  IOMMU_IOAS_UNMAP: { remember: unmapped((view) => view.getUint32(4, true), 16, 8), length: 24, askedAt: 16 },
  IOMMU_DESTROY: { remember: (_, view, holder) => holder.unpinSpace(view.getUint32(4, true)), length: 8 },
};

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Called before the kernel sees the call: what of its bytes will be needed, and overwritten. */
export function askedOf(name: string, read: () => Uint8Array | undefined): bigint {
  const rule = rules[name];
  const bytes = rule?.askedAt === undefined ? undefined : read();
  return bytes === undefined || bytes.byteLength < rule!.length ? 0n : viewOf(bytes).getBigUint64(rule!.askedAt!, true);
}

/** Called after the kernel accepted the call; `bytes` as the kernel left them, `asked` as `askedOf` found it. */
export function keepAlive(context: GuardContext, name: string, bytes: Uint8Array, holder: Holder, asked: bigint): void {
  const rule = rules[name];
  if (rule !== undefined && bytes.byteLength >= rule.length) rule.remember(context, viewOf(bytes), holder, asked);
}

/** Does this request leave anything behind? (Decided once per request, so that the hot path asks nothing.) */
export function keepsAlive(name: string): boolean {
  return Object.hasOwn(rules, name);
}
