import { wide, word } from '../kernel/arguments.ts';
import { type Descriptor, fdOf } from '../kernel/descriptor.ts';
import { typeError } from '../kernel/errors.ts';
import { type Handle, setStruct, withWord } from '../kernel/handle.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Memory } from '../kernel/memory.ts';
import { rangeOf } from '../kernel/memory-argument.ts';
import { rfcCall } from '../kernel/rfc.ts';
import type { FdKind } from '../uapi/ioctls.ts';
import {
  KVM_CHECK_EXTENSION,
  KVM_CLEAR_DIRTY_LOG,
  KVM_CREATE_VCPU,
  KVM_ENABLE_CAP,
  KVM_GET_DIRTY_LOG,
  KVM_REGISTER_COALESCED_MMIO,
  KVM_RESET_DIRTY_RINGS,
  KVM_SET_BOOT_CPU_ID,
  KVM_SET_IDENTITY_MAP_ADDR,
  KVM_SET_NR_MMU_PAGES,
  KVM_SET_TSS_ADDR,
  KVM_SET_USER_MEMORY_REGION,
  KVM_SET_USER_MEMORY_REGION2,
  KVM_UNREGISTER_COALESCED_MMIO,
  kvm_clear_dirty_log,
  kvm_coalesced_mmio_zone,
  kvm_dirty_log,
  kvm_enable_cap,
  kvm_userspace_memory_region,
  kvm_userspace_memory_region2,
} from '../uapi/kvm.ts';
import type { Input } from '../uapi/struct.ts';
import { KVM_MEM_VFIO_DMABUF } from '../uapi/tee-io/xu-jan25.ts';
import { bitmapAddress, type ClearDirtyLog, type DirtyLog } from './dirty-log.ts';
import type { Kvm } from './system.ts';
import { mapRunPage, Vcpu } from './vcpu.ts';
import { VmInterrupts } from './vm-interrupts.ts';

/** A memslot over a `Memory` (all of it, or `length` bytes from `offset`) instead of `userspace_addr` and `memory_size`. */
export interface MemorySlot {
  /** Bits 15:0 the slot id, bits 31:16 the address space. */
  slot: number;
  /** KVM_MEM_*; default 0. */
  flags?: number;
  /** In bytes, page-aligned. */
  guest_phys_addr: bigint;
  memory: Memory;
  /** In bytes into `memory`, page-aligned; default 0. */
  offset?: number | bigint;
  /** In bytes, whole pages; default the rest of `memory`. 0 deletes the slot. */
  length?: number | bigint;
}

/** The same for KVM_SET_USER_MEMORY_REGION2; `guest_memfd` is looked at only with KVM_MEM_GUEST_MEMFD in `flags`. */
export interface MemorySlot2 extends MemorySlot {
  /** A `GuestMemfd`, or its descriptor. */
  guest_memfd?: Descriptor;
  /** In bytes; default 0. */
  guest_memfd_offset?: number | bigint;
}

/** RFC (xuJan25): a memslot over a dma-buf of VFIO, whose frames are shared or private in place. Anything but deleting it is EINVAL. */
export interface DmaBufSlot {
  slot: number;
  /** KVM_MEM_VFIO_DMABUF is added. */
  flags?: number;
  guest_phys_addr: bigint;
  /** A descriptor, or a `DmaBuf`. */
  dma_buf: number | (Handle & { readonly size: bigint | undefined });
  /** In bytes: the dma-buf's own, which a `DmaBuf` made here knows. */
  memory_size?: number | bigint;
}

/** A range of guest-physical addresses, or of ports. */
export interface CoalescedZone {
  addr: bigint;
  /** In bytes. */
  size: number;
  /** 1: ports (KVM_CAP_COALESCED_PIO); default 0. */
  pio?: number;
}

/** A VM descriptor. The VM itself lives until the last of its VM, vCPU and device descriptors is closed. */
export class Vm extends VmInterrupts {
  /** The `/dev/kvm` it came from; undefined for a descriptor from outside. */
  readonly kvm: Kvm | undefined;

  /** What KVM_CREATE_VM was given; undefined for a descriptor from outside. */
  readonly type: bigint | undefined;

  constructor(kernel: Kernel, fd: number, kvm?: Kvm, type?: bigint) {
    super(kernel, fd);
    this.kvm = kvm;
    this.type = type;
  }

  protected override get kind(): FdKind {
    return 'vm';
  }

  /** A VM descriptor from outside. `close()` closes it; `kernel.close()` does not. Another process' VM answers EIO to everything. */
  static fromFd(kernel: Kernel, fd: number): Vm {
    return new Vm(kernel, kernel.adopt(fd));
  }

  /** KVM_CHECK_EXTENSION on the VM: what this VM can do; 0 for what is absent. Never fails. */
  checkExtension(capability: number): number {
    return withWord(this, KVM_CHECK_EXTENSION, capability, 'capability');
  }

  /**
   * KVM_CREATE_VCPU, and the mapping of its `kvm_run`. `id`: the APIC id, below KVM_CAP_MAX_VCPU_ID; ids may be sparse.
   * EINVAL for an id out of range, EEXIST for one in use: an id stays used until the VM is gone, even when its descriptor is closed.
   */
  createVcpu(id: number): Vcpu {
    const fd = withWord(this, KVM_CREATE_VCPU, id, 'id');
    return new Vcpu(this.kernel, fd, mapRunPage(this.kernel, fd, this.kvm), { id, vm: this });
  }

  /**
   * KVM_SET_USER_MEMORY_REGION: creates, moves, reflags or (size 0) deletes a memslot. Takes the plain struct, or a MemorySlot. The kernel keeps
   * the memory alive until the slot is deleted or the VM is gone, also when its handle is closed.
   * EINVAL: size, gpa or address not page-aligned, unknown flags, a change that is not allowed. EEXIST: overlaps another slot.
   */
  setUserMemoryRegion(region: MemorySlot | Input<kvm_userspace_memory_region>): void {
    const plain = hasMemory(region) ? plainRegion(this.kernel, region) : region;
    setStruct(this, KVM_SET_USER_MEMORY_REGION, kvm_userspace_memory_region, plain);
  }

  /**
   * KVM_SET_USER_MEMORY_REGION2: the same with a guest_memfd behind the slot (KVM_MEM_GUEST_MEMFD). KVM_CAP_USER_MEMORY2.
   * RFC (xuJan25): with `dma_buf` the slot is the MMIO of a device, and only a VM with private memory takes it. EINVAL: not of this size, no dma-buf, or a kernel without the series.
   */
  setUserMemoryRegion2(region: MemorySlot2 | DmaBufSlot | Input<kvm_userspace_memory_region2>): void {
    if (isDmaBuf(region)) {
      const bytes = kvm_userspace_memory_region2.encode(dmaBufRegion(this.kernel, region));
      const rfc = { series: 'xuJan25', what: 'KVM_MEM_VFIO_DMABUF', unknown: ['EINVAL', 'ENOTTY'] } as const;
      rfcCall(rfc, () => this.ioctl(KVM_SET_USER_MEMORY_REGION2, bytes));
      return;
    }
    const plain = hasMemory(region) ? plainRegion2(this.kernel, region) : region;
    setStruct(this, KVM_SET_USER_MEMORY_REGION2, kvm_userspace_memory_region2, plain);
  }

  /**
   * KVM_GET_DIRTY_LOG: writes the bitmap of the pages of a slot that the guest, and the kernel for it, have written to. Unless protection is
   * manual (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) the bits are cleared, and the pages tracked again. `dirtyPages` reads a bitmap.
   * ENOENT: no such slot, or without KVM_MEM_LOG_DIRTY_PAGES. EINVAL: the slot's number is out of range. ENXIO: the VM has dirty rings.
   */
  getDirtyLog(log: DirtyLog): void {
    setStruct(this, KVM_GET_DIRTY_LOG, kvm_dirty_log, { ...log, dirty_bitmap: bitmapAddress(this.kernel, log.dirty_bitmap) });
  }

  /**
   * KVM_CLEAR_DIRTY_LOG: clears the bits that are set in the bitmap, and tracks those pages again. Manual protection need not be on.
   * EINVAL: `first_page` is no multiple of 64, the range leaves the slot, or it ends within a word. ENOENT and ENXIO as KVM_GET_DIRTY_LOG.
   */
  clearDirtyLog(log: ClearDirtyLog): void {
    const dirty_bitmap = bitmapAddress(this.kernel, log.dirty_bitmap);
    const first_page = wide(log.first_page ?? 0, 'first_page');
    setStruct(this, KVM_CLEAR_DIRTY_LOG, kvm_clear_dirty_log, { ...log, first_page, dirty_bitmap });
  }

  /**
   * KVM_RESET_DIRTY_RINGS: gives the entries that were harvested, of all vCPUs, back to the kernel and tracks their pages again; how many. EINVAL
   * without KVM_CAP_DIRTY_LOG_RING, which has to be enabled, with the bytes of a ring, before the first vCPU.
   */
  resetDirtyRings(): number {
    return this.ioctl(KVM_RESET_DIRTY_RINGS);
  }

  /**
   * KVM_REGISTER_COALESCED_MMIO: writes wholly inside [addr, addr + size), of guest-physical space or with `pio: 1` of ports, wait in
   * `vcpu.coalescedRing` instead of leaving the guest. ENOSPC: 1000 zones and other devices of the kernel.
   */
  registerCoalescedMmio(zone: CoalescedZone): void {
    setStruct(this, KVM_REGISTER_COALESCED_MMIO, kvm_coalesced_mmio_zone, { pio: 0, ...zone });
  }

  /** KVM_UNREGISTER_COALESCED_MMIO: every zone that holds the whole range goes, all of it. Never fails for want of one. */
  unregisterCoalescedMmio(zone: CoalescedZone): void {
    setStruct(this, KVM_UNREGISTER_COALESCED_MMIO, kvm_coalesced_mmio_zone, { pio: 0, ...zone });
  }

  /** KVM_SET_TSS_ADDR: three pages of guest-physical space for old VMX hosts; stored nowhere on others. EINVAL above 0xffffd000. x86 only. */
  setTssAddr(address: number): void {
    withWord(this, KVM_SET_TSS_ADDR, address, 'address');
  }

  /** KVM_SET_IDENTITY_MAP_ADDR: one page for old VMX hosts. EINVAL once there is a vCPU. x86 only. */
  setIdentityMapAddr(address: bigint): void {
    this.ioctl(KVM_SET_IDENTITY_MAP_ADDR, BigUint64Array.of(word(address, 'address')));
  }

  /** KVM_SET_BOOT_CPU_ID: which vCPU id is the BSP (default 0). EBUSY once there is a vCPU. x86 only. */
  setBootCpuId(id: number): void {
    withWord(this, KVM_SET_BOOT_CPU_ID, id, 'id');
  }

  /** KVM_SET_NR_MMU_PAGES: pages for shadow page tables. EINVAL below 64. x86 only. */
  setNrMmuPages(pages: number): void {
    withWord(this, KVM_SET_NR_MMU_PAGES, pages, 'pages');
  }

  /** KVM_ENABLE_CAP on the VM. EINVAL for a capability that cannot be enabled, or is not here. */
  enableCap(cap: Input<kvm_enable_cap>): void {
    setStruct(this, KVM_ENABLE_CAP, kvm_enable_cap, cap);
  }
}

/** What is not even an object is left to the codec, whose error names the struct. */
const hasMemory = <T extends MemorySlot>(region: T | object): region is T =>
  typeof region === 'object' && region !== null && 'memory' in region;

const isDmaBuf = (region: object): region is DmaBufSlot => typeof region === 'object' && region !== null && 'dma_buf' in region;

function dmaBufRegion(kernel: Kernel, region: DmaBufSlot): Input<kvm_userspace_memory_region2> {
  const { slot, flags = 0, guest_phys_addr, dma_buf, memory_size } = region;
  const known = typeof dma_buf === 'object' ? dma_buf.size : undefined;
  const size = memory_size === undefined ? known : wide(memory_size, 'memory_size');
  if (size === undefined) throw typeError('memory_size is missing: only a DmaBuf that was made here knows its own');
  const fd = fdOf(dma_buf, 'dma_buf', kernel);
  return {
    ...{ slot, flags: flags | KVM_MEM_VFIO_DMABUF, guest_phys_addr, memory_size: size, userspace_addr: 0n },
    ...{ guest_memfd: fd >>> 0, guest_memfd_offset: 0n },
  };
}

function plainRegion2(kernel: Kernel, slot: MemorySlot2): Input<kvm_userspace_memory_region2> {
  const { guest_memfd = 0, guest_memfd_offset: offset = 0, ...region } = slot;
  const guest_memfd_offset = wide(offset, 'guest_memfd_offset');
  return { guest_memfd: fdOf(guest_memfd, 'guest_memfd', kernel) >>> 0, guest_memfd_offset, ...plainRegion(kernel, region) };
}

/** Anything a MemorySlot must not have (userspace_addr besides memory, a misspelt field) is left in for the codec to refuse. */
function plainRegion(kernel: Kernel, region: MemorySlot): Input<kvm_userspace_memory_region> {
  const { memory, offset, length, ...rest } = region;
  return { flags: 0, ...rest, ...rangeOf(kernel, memory, offset, length) };
}
