import { offset as byteOffset } from '../kernel/arguments.ts';
import { Handle } from '../kernel/handle.ts';
import { hex } from '../kernel/inspect.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Memory } from '../kernel/memory.ts';
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from '../uapi/sys.ts';

/** What a GuestMemfd was made with, where it was made here. */
export interface GuestMemfdOrigin {
  readonly size: bigint;
  /** GUEST_MEMFD_FLAG_*. */
  readonly flags: bigint;
}

/**
 * A guest_memfd: memory of one VM's guest that userspace maps only if it was made mappable. It is given to the guest by
 * `vm.setUserMemoryRegion2` with KVM_MEM_GUEST_MEMFD. The descriptor and every mapping keep the VM; a memslot does not keep the file: when both
 * are closed, the guest's accesses end in `memory_fault` exits. The descriptor is not close-on-exec.
 */
export class GuestMemfd extends Handle {
  /** In bytes; undefined for a descriptor from outside. */
  readonly size: bigint | undefined;
  /** GUEST_MEMFD_FLAG_*; undefined for a descriptor from outside. */
  readonly flags: bigint | undefined;

  constructor(kernel: Kernel, fd: number, origin?: GuestMemfdOrigin) {
    super(kernel, fd);
    this.size = origin?.size;
    this.flags = origin?.flags;
  }

  /** A descriptor from outside. `close()` closes it; `kernel.close()` does not. */
  static fromFd(kernel: Kernel, fd: number): GuestMemfd {
    return new GuestMemfd(kernel, kernel.adopt(fd));
  }

  /**
   * fallocate(2) with KEEP_SIZE: the pages of [offset, offset + length) are there from now on, zeros where there were none. EINVAL for what is no
   * multiple of the page size, and beyond the end of the file.
   */
  allocate(offset: number | bigint, length: number | bigint): void {
    this.kernel.fallocate(this.fd, FALLOC_FL_KEEP_SIZE, byteOffset(offset, 'offset'), byteOffset(length, 'length'));
  }

  /**
   * fallocate(2) with PUNCH_HOLE: the pages are given back, also under a running guest, whose next access finds zeros. EINVAL for what is no
   * multiple of the page size; beyond the end of the file there is nothing to do, and no error.
   */
  punchHole(offset: number | bigint, length: number | bigint): void {
    const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    this.kernel.fallocate(this.fd, mode, byteOffset(offset, 'offset'), byteOffset(length, 'length'));
  }

  /**
   * mmap(2), shared, of `length` bytes from `offset` (0). ENODEV without GUEST_MEMFD_FLAG_MMAP. Without GUEST_MEMFD_FLAG_INIT_SHARED the accessors
   * of what comes back throw EFAULT. Memory without `bytes`: a hole may be punched under it at any time.
   */
  mmap(length: number | bigint, offset: number | bigint = 0): Memory {
    return this.kernel.mmap({ fd: this.descriptorToMap(), length, offset, view: false });
  }

  protected override describe(): string {
    return `${this.size === undefined ? '' : `${hex(this.size)} bytes, `}${super.describe()}`;
  }
}
