import { KVM_CAP_DIRTY_LOG_RING, KVM_DIRTY_GFN_F_DIRTY, KVM_DIRTY_GFN_F_RESET, kvm_dirty_gfn } from '../../uapi/kvm.ts';
import { E2BIG, EINVAL } from '../../uapi/sys.ts';
import { PAGE_SIZE } from '../mm/pages.ts';
import type { EnableCap } from './enable-cap.ts';
import { capability } from './ioctl-table.ts';
import { KernelPages } from './kernel-pages.ts';
import type { Memslot } from './memslots.ts';
import type { Vm } from './vm.ts';

const ENTRY = kvm_dirty_gfn.size;
const at = (path: string): number => kvm_dirty_gfn.offsetOf(path);
const FIELD = { flags: at('flags'), slot: at('slot'), offset: at('offset') };
/** KVM_DIRTY_RING_RSVD_ENTRIES: what may still be pushed after the vCPU was found to be full. */
const RESERVED = 64;

const u32 = (value: number): number => value >>> 0;

/** `struct kvm_dirty_ring` of one vCPU. Indices run freely; entries that are not harvested keep their place, whatever userspace does to them. */
export class DirtyRing {
  readonly pages: KernelPages;
  readonly #size: number;
  readonly #softLimit: number;
  #dirty = 0;
  #reset = 0;

  /** `reserved`: entries the processor itself may still log. */
  constructor(bytes: number, reserved: number, moved: () => void) {
    this.pages = new KernelPages(bytes / PAGE_SIZE, moved);
    this.#size = bytes / ENTRY;
    this.#softLimit = this.#size - RESERVED - reserved;
  }

  /** kvm_dirty_ring_soft_full: the vCPU does not run until enough is harvested and reset. */
  get full(): boolean {
    return u32(this.#dirty - this.#reset) >= this.#softLimit;
  }

  push({ as_id, id }: Memslot, page: number): void {
    const { view } = this.pages;
    const entry = (this.#dirty & (this.#size - 1)) * ENTRY;
    view.setUint32(entry + FIELD.slot, u32((as_id << 16) | id), true);
    view.setBigUint64(entry + FIELD.offset, BigInt(page), true);
    view.setUint32(entry + FIELD.flags, KVM_DIRTY_GFN_F_DIRTY, true);
    this.#dirty = u32(this.#dirty + 1);
  }

  /** kvm_dirty_ring_reset: hands over the harvested entries up to the first that is not; how many. */
  reset(rearm: (slot: number, page: bigint) => void): number {
    const { view } = this.pages;
    for (let count = 0; ; count++) {
      const entry = (this.#reset & (this.#size - 1)) * ENTRY;
      if (!(view.getUint32(entry + FIELD.flags, true) & KVM_DIRTY_GFN_F_RESET)) return count;
      view.setUint32(entry + FIELD.flags, 0, true);
      this.#reset = u32(this.#reset + 1);
      rearm(view.getUint32(entry + FIELD.slot, true), view.getBigUint64(entry + FIELD.offset, true));
    }
  }
}

/** KVM_ENABLE_CAP of KVM_CAP_DIRTY_LOG_RING and …_ACQ_REL: args[0] as a u32; the flags are not looked at. */
export function enableDirtyRing(vm: Vm, { args }: EnableCap): number {
  const most = capability(vm.machine, KVM_CAP_DIRTY_LOG_RING);
  if (most === 0) return -EINVAL;
  const bytes = Number(BigInt.asUintN(32, args[0]));
  if (bytes === 0 || (bytes & (bytes - 1)) !== 0) return -EINVAL;
  if (bytes < (RESERVED + vm.backend.cpuDirtyLog) * ENTRY || bytes < PAGE_SIZE) return -EINVAL;
  if (bytes > most) return -E2BIG;
  if (vm.dirty.ringBytes !== 0) return -EINVAL;
  if (vm.vcpus.size > 0) return -EINVAL;
  vm.dirty.ringBytes = bytes;
  return 0;
}

/** KVM_RESET_DIRTY_RINGS: the entries reset, of all vCPUs. */
export function resetDirtyRings(vm: Vm): number {
  if (vm.dirty.ringBytes === 0) return -EINVAL;
  let count = 0;
  for (const { ring } of vm.vcpus.values()) count += ring?.reset((slot, page) => vm.dirty.rearmEntry(slot, page)) ?? 0;
  return count;
}
