import type { Holder } from './files.ts';
import type { GuardContext } from './guard.ts';

/**
 * What a successful ioctl leaves behind in the kernel that names memory of ours, by request name: a memslot names its
 * userspace_addr until it is deleted, an IOAS area or a DMA mapping its virtual address until it is unmapped. Offsets are those of the
 * structs (kvm_userspace_memory_region: slot@0, memory_size@16, userspace_addr@24; vfio_iommu_type1_dma_map: vaddr@8, iova@16,
 * size@24; vfio_iommu_type1_dma_unmap: flags@4, iova@8, size@16; iommu_ioas_map: ioas_id@8, user_va@16, length@24, iova@32;
 * iommu_ioas_unmap: ioas_id@4, iova@8, length@16).
 */
type Rule = (context: GuardContext, view: DataView, holder: Holder) => void;

const memslot: Rule = (context, view, holder) => {
  const slot = view.getUint32(0, true);
  const size = view.getBigUint64(16, true);
  const address = view.getBigUint64(24, true);
  holder.pin(`slot ${slot}`, size === 0n ? undefined : context.memoryAt(address, size));
  if (size === 0n) holder.slots.delete(slot);
  else holder.slots.set(slot, size);
};

/** A DMA mapping, by its IOVA. */
function mapped(space: (view: DataView) => number, addressAt: number, lengthAt: number, iovaAt: number): Rule {
  return (context, view, holder) => {
    const length = view.getBigUint64(lengthAt, true);
    const memory = context.memoryAt(view.getBigUint64(addressAt, true), length);
    if (memory !== undefined) holder.pinArea(space(view), view.getBigUint64(iovaAt, true), length, memory);
  };
}

/**
 * The kernel has written how many bytes it unmapped. Where they are those of the mapping at this IOVA, it was this one and no other. An unmap
 * of several at once leaves their memory pinned until the container or iommufd is closed, or the same IOVA is mapped anew.
 */
function unmapped(space: (view: DataView) => number, lengthAt: number, iovaAt: number): Rule {
  return (_, view, holder) => holder.unpinArea(space(view), view.getBigUint64(iovaAt, true), view.getBigUint64(lengthAt, true));
}

/** VFIO_DMA_UNMAP_FLAG_ALL takes all of them; with …_VADDR only the address is forgotten, and DMA goes on. */
const ALL = 2;
const VADDR = 4;
const unmapDma: Rule = (context, view, holder) => {
  const flags = view.getUint32(4, true);
  if ((flags & VADDR) !== 0) return;
  if ((flags & ALL) !== 0) holder.unpinSpace(0);
  else unmapped(() => 0, 16, 8)(context, view, holder);
};

const rules: Readonly<Record<string, Rule>> = {
  KVM_SET_USER_MEMORY_REGION: memslot,
  KVM_SET_USER_MEMORY_REGION2: memslot,
  VFIO_IOMMU_MAP_DMA: mapped(() => 0, 8, 24, 16),
  VFIO_IOMMU_UNMAP_DMA: unmapDma,
  IOMMU_IOAS_MAP: mapped((view) => view.getUint32(8, true), 16, 24, 32),
  IOMMU_IOAS_UNMAP: unmapped((view) => view.getUint32(4, true), 16, 8),
};

/** Called after the kernel accepted the call; `bytes` as the kernel left them. */
export function keepAlive(context: GuardContext, name: string, bytes: Uint8Array, holder: Holder): void {
  rules[name]?.(context, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), holder);
}

/** Does this request leave anything behind? (Decided once per request, so that the hot path asks nothing.) */
export function keepsAlive(name: string): boolean {
  return Object.hasOwn(rules, name);
}
