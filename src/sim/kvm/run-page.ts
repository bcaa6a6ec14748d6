import { KVM_DIRTY_LOG_PAGE_OFFSET, kvm_run } from '../../uapi/kvm.ts';
import type { Backing } from '../file.ts';
import { PAGE_SIZE, type PageRef } from '../mm/pages.ts';
import type { DirtyRing } from './dirty-ring.ts';
import { KernelPages } from './kernel-pages.ts';

/** Pages of a vCPU's mapping: kvm_run, the PIO data page, the coalesced MMIO ring. */
export const KVM_RUN_PAGE = 0;
export const KVM_PIO_PAGE_OFFSET = 1;
export const KVM_COALESCED_MMIO_PAGE_OFFSET = 2;
/** KVM_GET_VCPU_MMAP_SIZE: the three of them. */
export const VCPU_MMAP_PAGES = 3;

const at = (path: string): number => kvm_run.offsetOf(path);

type RunField =
  | 'request_interrupt_window'
  | 'immediate_exit'
  | 'exit_reason'
  | 'ready_for_interrupt_injection'
  | 'if_flag'
  | 'flags'
  | 'cr8'
  | 'apic_base'
  | 'kvm_valid_regs'
  | 'kvm_dirty_regs'
  | 'sync_regs'
  | 'sync_sregs'
  | 'sync_events'
  | 'eoi_vector';

/** Offsets in `struct kvm_run`. */
export const RUN: Readonly<Record<RunField, number>> = {
  request_interrupt_window: at('request_interrupt_window'),
  immediate_exit: at('immediate_exit'),
  exit_reason: at('exit_reason'),
  ready_for_interrupt_injection: at('ready_for_interrupt_injection'),
  if_flag: at('if_flag'),
  flags: at('flags'),
  cr8: at('cr8'),
  apic_base: at('apic_base'),
  kvm_valid_regs: at('kvm_valid_regs'),
  kvm_dirty_regs: at('kvm_dirty_regs'),
  sync_regs: at('s.regs.regs'),
  sync_sregs: at('s.regs.sregs'),
  sync_events: at('s.regs.events'),
  eoi_vector: at('eoi.vector'),
};

/**
 * What the vCPU descriptor maps: three pages, and from page 64 on the dirty ring, where there is one. Any other page is SIGBUS on touch. Page 2
 * belongs to the VM: every vCPU's mapping shows the same one. The three lie in one piece so that a mapping has `bytes`; only the
 * first vCPU's piece can hold the VM's ring itself, so that in the `bytes` of another vCPU's three-page mapping the third page is a copy.
 * `syncRing` brings copies and ring together, at every entry of the kernel where it matters; the accessors reach the ring itself.
 */
export class RunPages implements Backing {
  readonly notifiers: Set<() => void> = new Set();
  readonly ringOffset: number = KVM_COALESCED_MMIO_PAGE_OFFSET * PAGE_SIZE;
  readonly dirtyRing: DirtyRing | undefined;
  readonly #own: KernelPages;
  readonly #ring: RunPages;
  /** Of the ring's holder: pages of other vCPUs whose views show a copy, and what all of them showed when they last agreed. */
  readonly #copies: Set<RunPages> = new Set();
  #agreed: Uint8Array | undefined;

  /** `ring`: the pages of the VM's first vCPU; none for that one itself. `dirtyRing` makes the vCPU's dirty ring. */
  constructor(ring: RunPages | undefined, dirtyRing?: (moved: () => void) => DirtyRing) {
    const moved = (): void => {
      for (const notifier of this.notifiers) notifier();
    };
    this.#own = new KernelPages(VCPU_MMAP_PAGES, moved);
    this.#ring = ring ?? this;
    this.dirtyRing = dirtyRing?.(moved);
  }

  get view(): DataView {
    return this.#own.view;
  }

  get u8(): Uint8Array {
    return this.#own.u8;
  }

  /** The PIO data page. */
  get pio(): Uint8Array {
    return this.u8.subarray(PAGE_SIZE, 2 * PAGE_SIZE);
  }

  /** kvm_page_in_dirty_ring. */
  inDirtyRing(index: number): boolean {
    return index >= KVM_DIRTY_LOG_PAGE_OFFSET && index < KVM_DIRTY_LOG_PAGE_OFFSET + (this.dirtyRing?.pages.length ?? 0);
  }

  /** The third page of the piece: of the first vCPU the ring, of others its copy. */
  get #third(): Uint8Array {
    return this.u8.subarray(this.ringOffset, this.ringOffset + PAGE_SIZE);
  }

  /** What userspace has stored into copies of the ring goes into the ring, and what the ring then is into all copies. */
  syncRing(): void {
    const holder = this.#ring;
    if (holder.#copies.size === 0) return;
    const ring = holder.#third;
    const agreed = (holder.#agreed ??= ring.slice());
    const copies = [...holder.#copies].map((pages) => pages.#third);
    if (copies.every((copy) => same(copy, agreed)) && same(ring, agreed)) return;
    for (const copy of copies) for (let at = 0; at < PAGE_SIZE; at++) if (copy[at] !== agreed[at]) ring[at] = copy[at]!;
    agreed.set(ring);
    for (const copy of copies) copy.set(ring);
  }

  page(index: number, _write: boolean): PageRef | null {
    const found = this.#holder(index);
    if (found === undefined) return null;
    if (index === KVM_COALESCED_MMIO_PAGE_OFFSET) this.syncRing();
    return found.pages.ref(found.at);
  }

  openView(index: number, count: number): PageRef | undefined {
    const found = this.#holder(index);
    if (found === undefined || found.at + count > found.pages.length) return undefined;
    const apart = index < KVM_COALESCED_MMIO_PAGE_OFFSET && this.#ring !== this && index + count > KVM_COALESCED_MMIO_PAGE_OFFSET;
    if (apart && !this.#ring.#copies.has(this)) {
      this.#ring.syncRing();
      this.#third.set(this.#ring.#third);
      this.#ring.#copies.add(this);
      this.#ring.#agreed = this.#ring.#third.slice();
    }
    return { ...found.pages.open(found.at), apart };
  }

  closeView(index: number): void {
    const { pages } = this.#holder(index)!;
    this.syncRing();
    if (pages.close() && pages === this.#own) this.#ring.#copies.delete(this);
  }

  /** The piece a page lies in, and its number there. */
  #holder(index: number): { pages: KernelPages; at: number } | undefined {
    if (index < VCPU_MMAP_PAGES)
      return { pages: index === KVM_COALESCED_MMIO_PAGE_OFFSET ? this.#ring.#own : this.#own, at: index };
    if (!this.inDirtyRing(index)) return undefined;
    return { pages: this.dirtyRing!.pages, at: index - KVM_DIRTY_LOG_PAGE_OFFSET };
  }
}

function same(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}
