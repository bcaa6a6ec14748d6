import {
  KVM_DIRTY_LOG_INITIALLY_SET,
  KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
  KVM_MEM_LOG_DIRTY_PAGES,
  kvm_clear_dirty_log,
  kvm_dirty_log,
} from '../../uapi/kvm.ts';
import { EFAULT, EINVAL, ENOENT, ENXIO } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import type { EnableCap } from './enable-cap.ts';
import { KVM_USER_MEM_SLOTS, type Memslot, type Memslots } from './memslots.ts';
import { StagePages } from './stage-pages.ts';
import type { Vcpu } from './vcpu.ts';
import type { Vm } from './vm.ts';

const WORD = 64;

/** Bytes of a bitmap of so many pages: whole 64-bit words. */
const bitmapBytes = (pages: number): number => Math.ceil(pages / WORD) * 8;

/** A bitmap as a slot gets it with KVM_MEM_LOG_DIRTY_PAGES. Bits beyond the slot are 0. */
function newBitmap(pages: number, set: boolean): Uint8Array {
  const bitmap = new Uint8Array(bitmapBytes(pages));
  if (!set) return bitmap;
  bitmap.fill(0xff, 0, pages >>> 3);
  if (pages & 7) bitmap[pages >>> 3] = (1 << (pages & 7)) - 1;
  return bitmap;
}

/** How a VM tracks the pages its guest writes: bitmaps of slots, or a ring for each vCPU. */
export class DirtyTracking {
  /** Moves when pages are to be told of again that a CPU may have remembered as writable. */
  generation = 0;
  /** KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2. */
  manual = 0;
  /** KVM_CAP_DIRTY_LOG_RING: bytes of each vCPU's ring; 0: bitmaps. */
  ringBytes = 0;
  /** What hardware paging has mapped; undefined where KVM's emulator makes every store itself. */
  readonly stage: StagePages | undefined;
  readonly #memslots: Memslots;

  constructor(memslots: Memslots, emulated: boolean) {
    this.#memslots = memslots;
    this.stage = emulated ? undefined : new StagePages(memslots);
  }

  /** The bitmap of a slot that is set with these flags: what it had, a fresh one, or none. */
  bitmapFor(flags: number, pages: number, old: Memslot | undefined): Uint8Array | undefined {
    if (!(flags & KVM_MEM_LOG_DIRTY_PAGES)) return undefined;
    if (old?.dirty !== undefined) return old.dirty;
    return this.ringBytes === 0 ? newBitmap(pages, (this.manual & KVM_DIRTY_LOG_INITIALLY_SET) !== 0) : undefined;
  }

  /** The flags of a slot have changed, and nothing else: from now on each first store to a page is told, unless all of them count as dirty. */
  flagsChanged(slot: Memslot): void {
    if (slot.flags & KVM_MEM_LOG_DIRTY_PAGES && !(this.manual & KVM_DIRTY_LOG_INITIALLY_SET)) this.stage?.protect(slot);
  }

  /** mark_page_dirty_in_slot. Without a vCPU that runs there is no ring to push to. */
  mark(slot: Memslot, gfn: number, vcpu: Vcpu | undefined): void {
    if (!(slot.flags & KVM_MEM_LOG_DIRTY_PAGES)) return;
    const page = gfn - slot.base_gfn;
    if (this.ringBytes !== 0 && vcpu !== undefined) vcpu.ring!.push(slot, page);
    else if (slot.dirty !== undefined) slot.dirty[page >>> 3]! |= 1 << (page & 7);
  }

  /** Pages of a slot whose next store is to be told again. `page` is the number of the word's first bit. */
  rearm(slot: Memslot, page: number, bits: number): void {
    this.generation++;
    for (let bit = 0; bit < 8; bit++) if (bits & (1 << bit)) this.stage?.protectPage(slot, page + bit);
  }

  /** The same for an entry of a ring, which userspace may have changed: what names no page of a slot is passed over. */
  rearmEntry(slot: number, page: bigint): void {
    const found = this.#memslots.get(slot & 0xffff, slot >>> 16);
    if (found === undefined || page >= BigInt(found.npages)) return;
    this.rearm(found, Number(page), 1);
  }
}

/** A slot as GET and CLEAR name it, once it is known that bitmaps are in use; −errno where it has none. */
function logged(vm: Vm, slot: number): (Memslot & { dirty: Uint8Array }) | number {
  const found = vm.memslots.get(slot & 0xffff, slot >>> 16);
  return found?.dirty === undefined ? -ENOENT : (found as Memslot & { dirty: Uint8Array });
}

const badSlot = (vm: Vm, slot: number): boolean => slot >>> 16 >= vm.memslots.spaces || (slot & 0xffff) >= KVM_USER_MEM_SLOTS;

/** KVM_GET_DIRTY_LOG. Unless protection is manual the bits are fetched and cleared at once: a bitmap that cannot be written has lost them. */
export function getDirtyLog(vm: Vm, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_dirty_log.size);
  if (bytes === null) return -EFAULT;
  const { slot, dirty_bitmap } = kvm_dirty_log.decode(bytes);
  if (vm.dirty.ringBytes !== 0) return -ENXIO;
  if (badSlot(vm, slot)) return -EINVAL;
  const memslot = logged(vm, slot);
  if (typeof memslot === 'number') return memslot;
  const { dirty } = memslot;
  if (vm.dirty.manual !== 0) return p.mm.copyTo(dirty_bitmap, dirty) ? 0 : -EFAULT;
  const taken = dirty.slice();
  dirty.fill(0);
  for (let at = 0; at < taken.length; at++) if (taken[at] !== 0) vm.dirty.rearm(memslot, at * 8, taken[at]!);
  return p.mm.copyTo(dirty_bitmap, taken) ? 0 : -EFAULT;
}

/** KVM_CLEAR_DIRTY_LOG: clears what is set in userspace's bitmap. It needs no manual protection. */
export function clearDirtyLog(vm: Vm, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_clear_dirty_log.size);
  if (bytes === null) return -EFAULT;
  const { slot, num_pages, first_page, dirty_bitmap } = kvm_clear_dirty_log.decode(bytes);
  if (vm.dirty.ringBytes !== 0) return -ENXIO;
  if (badSlot(vm, slot)) return -EINVAL;
  if (first_page & 63n) return -EINVAL;
  const memslot = logged(vm, slot);
  if (typeof memslot === 'number') return memslot;
  const { npages, dirty } = memslot;
  if (first_page > BigInt(npages)) return -EINVAL;
  const first = Number(first_page);
  if (num_pages > npages - first) return -EINVAL;
  if (num_pages < npages - first && num_pages & 63) return -EINVAL;
  const clear = p.mm.copyFrom(dirty_bitmap, bitmapBytes(num_pages));
  if (clear === null) return -EFAULT;
  for (let at = 0; at < clear.length; at++) {
    const byte = (first >>> 3) + at;
    const bits = clear[at]! & dirty[byte]!;
    if (bits === 0) continue;
    dirty[byte]! &= ~bits;
    vm.dirty.rearm(memslot, byte * 8, bits);
  }
  return 0;
}

/** KVM_ENABLE_CAP of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: INITIALLY_SET is an option of ENABLE. */
export function enableManualProtect(vm: Vm, { flags, args }: EnableCap): number {
  const enable = BigInt(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
  const allowed = args[0] & enable ? enable | BigInt(KVM_DIRTY_LOG_INITIALLY_SET) : enable;
  if (flags !== 0 || args[0] & ~allowed) return -EINVAL;
  vm.dirty.manual = Number(args[0]);
  return 0;
}
