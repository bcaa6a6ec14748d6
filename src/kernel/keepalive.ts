import type { Holder } from './files.ts';
import type { GuardContext } from './guard.ts';

/**
 * What a successful ioctl leaves behind in the kernel that names memory of ours, by request name: a memslot names its
 * userspace_addr until it is deleted, an IOAS area or a DMA mapping its virtual address. Offsets are those of the structs
 * (kvm_userspace_memory_region: slot@0, memory_size@16, userspace_addr@24; vfio_iommu_type1_dma_map: vaddr@8, iova@16,
 * size@24; iommu_ioas_map: ioas_id@8, user_va@16, length@24, iova@32).
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

/**
 * A DMA mapping, by its IOVA. Unmapping may split, cover several and race with devices, so these stay until the container or
 * iommufd is closed, or the same IOVA is mapped anew.
 */
function dma(space: (view: DataView) => string, addressAt: number, lengthAt: number, iovaAt: number): Rule {
  return (context, view, holder) => {
    const memory = context.memoryAt(view.getBigUint64(addressAt, true), view.getBigUint64(lengthAt, true));
    if (memory !== undefined) holder.pin(`dma ${space(view)} ${view.getBigUint64(iovaAt, true)}`, memory);
  };
}

const rules: Readonly<Record<string, Rule>> = {
  KVM_SET_USER_MEMORY_REGION: memslot,
  KVM_SET_USER_MEMORY_REGION2: memslot,
  VFIO_IOMMU_MAP_DMA: dma(() => '', 8, 24, 16),
  IOMMU_IOAS_MAP: dma((view) => String(view.getUint32(8, true)), 16, 24, 32),
};

/** Called after the kernel accepted the call; `bytes` as the kernel left them. */
export function keepAlive(context: GuardContext, name: string, bytes: Uint8Array, holder: Holder): void {
  rules[name]?.(context, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), holder);
}

/** Does this request leave anything behind? (Decided once per request, so that the hot path asks nothing.) */
export function keepsAlive(name: string): boolean {
  return Object.hasOwn(rules, name);
}
