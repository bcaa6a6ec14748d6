/** RFC: KVM_MEM_VFIO_DMABUF, memslots whose frames are memory of an assigned device (private MMIO for private assigned devices, January and May 2025). */
import { EBADF, EINVAL, EIO } from '../../uapi/sys.ts';
import { type DmaBufAttachment, DmaBufFile, type DmaBufImporter, type DmaBufPlace } from '../dma-buf.ts';
import type { TeeIo } from '../hardware/tsm/switches.ts';
import { PageSet } from '../page-set.ts';
import { PAGE_SIZE } from '../pages.ts';
import type { Process } from '../process.ts';
import { notModelled } from './ioctl-table.ts';
import type { Vm } from './vm.ts';

/** KVM_RUN ends with −EIO and no exit: after −EFAULT userspace would try a conversion. */
export class DmaBufFault extends Error {
  readonly result: number = -EIO;

  constructor(page: number) {
    super(`page ${page} of a dma-buf in a memslot cannot be reached`);
  }
}

/** Whose dma-buf a slot takes: the first posting asks nothing. */
const OWNED: { readonly [K in TeeIo['dmabufOwner']]: (vm: Vm, file: DmaBufFile) => boolean } = {
  s0: () => true,
  xj: (vm, { exporter: { assigned } }) => assigned?.isPrivate === true && assigned.kvm === vm,
  xm: (vm, { exporter: { assigned } }) => assigned?.kvm === vm,
};

/**
 * What a memslot has of a dma-buf: the file, and a dynamic attachment without a device, which may be made while the memory is revoked. Private and shared frames
 * are the same memory.
 */
export class DmaBufSlot implements DmaBufImporter {
  readonly allowPeer2Peer = true;
  readonly byPage = true;
  readonly #vm: Vm;
  /** Whose the descriptor was. */
  readonly #process: Process;
  readonly #file: DmaBufFile;
  #attachment: DmaBufAttachment | undefined;
  /** Pages the guest has mapped as private ones. */
  readonly #privates: PageSet = new PageSet();

  private constructor(vm: Vm, process: Process, file: DmaBufFile) {
    this.#vm = vm;
    this.#process = process;
    this.#file = file.ref();
  }

  /** The dma-buf part of a memslot, or −errno. */
  static bind(vm: Vm, p: Process, fd: number, npages: number): DmaBufSlot | number {
    const file = p.fds.get(fd | 0);
    if (file === undefined) return -EBADF;
    if (!(file instanceof DmaBufFile)) return -EINVAL;
    if (file.size !== BigInt(npages) * BigInt(PAGE_SIZE)) return -EINVAL;
    if (vm.backend.emulated) notModelled('KVM_MEM_VFIO_DMABUF where KVM emulates the guest');
    const slot = new DmaBufSlot(vm, p, file);
    const error = slot.#attach();
    if (error === 0) return slot;
    slot.release();
    return error;
  }

  #attach(): number {
    const attachment = this.#file.attach(this);
    if (typeof attachment === 'number') return attachment;
    this.#attachment = attachment;
    return OWNED[this.#vm.machine.teeIo!.dmabufOwner](this.#vm, this.#file) ? 0 : -EINVAL;
  }

  /** The exporter has moved the memory: the whole slot is unmapped, private and shared frames. */
  readonly moveNotify = (): void => {
    this.#privates.remove(0, Number(this.#file.size) / PAGE_SIZE);
    this.#vm.zap();
  };

  /** Where page `n` of the slot is; undefined while it cannot be reached. */
  place(n: number): DmaBufPlace | undefined {
    const place = this.#file.exporter.place?.(n * PAGE_SIZE);
    return typeof place === 'object' ? place : undefined;
  }

  /** kvm_mmu_faultin_pfn: the guest gets the page. Throws DmaBufFault. */
  fault(n: number, isPrivate: boolean): DmaBufPlace {
    const place = this.place(n);
    if (place === undefined) throw new DmaBufFault(n);
    if (isPrivate) this.#privates.add(n, n + 1);
    return place;
  }

  /** The guest loses private pages [first, end) while the device may be bound: the TSM is asked. */
  unmapPrivate(first: number, end: number): void {
    if (this.#privates.within(first, end).next().done) return;
    this.#privates.remove(first, end);
    const tdi = this.#file.exporter.assigned?.tdi;
    if (tdi?.binding?.kvm === this.#vm) tdi.mmioUnmapped();
  }

  /** The slot goes, or never came to be. */
  release(): void {
    this.unmapPrivate(0, Number(this.#file.size) / PAGE_SIZE);
    this.#attachment?.detach();
    this.#file.unref(this.#process);
  }
}
