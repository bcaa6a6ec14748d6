/** RFC: KVM_MEM_VFIO_DMABUF, memslots whose frames are memory of an assigned device (private MMIO for private assigned devices, January and May 2025). */
import { EBADF, EINVAL, EIO } from '../../uapi/sys.ts';
import { type DmaBufAttachment, DmaBufFile, type DmaBufImporter, type DmaBufPlace } from '../dma-buf.ts';
import type { TeeIo } from '../hardware/tsm/switches.ts';
import { PAGE_SIZE } from '../mm/pages.ts';
import type { Process } from '../process.ts';
import { notModelled } from './ioctl-table.ts';
import type { Vm } from './vm.ts';

const PAGE = BigInt(PAGE_SIZE);

/** KVM_RUN ends with −EIO and no exit: after −EFAULT userspace would try a conversion. */
export class DmaBufFault extends Error {
  readonly result: number = -EIO;

  constructor(gfn: number) {
    super(`the device memory of guest frame 0x${gfn.toString(16)} cannot be reached`);
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
  readonly #first: number;
  readonly #end: number;
  #attachment: DmaBufAttachment | undefined;

  private constructor(vm: Vm, process: Process, file: DmaBufFile, first: number, npages: number) {
    this.#vm = vm;
    this.#process = process;
    this.#first = first;
    this.#end = first + npages;
    this.#file = file.ref();
  }

  /** The dma-buf part of a memslot, or −errno. */
  static bind(vm: Vm, p: Process, fd: number, base_gfn: number, npages: number): DmaBufSlot | number {
    const file = p.fds.get(fd | 0);
    if (file === undefined) return -EBADF;
    if (!(file instanceof DmaBufFile)) return -EINVAL;
    if (file.size !== BigInt(npages) * BigInt(PAGE_SIZE)) return -EINVAL;
    if (vm.backend.emulated) notModelled('KVM_MEM_VFIO_DMABUF where KVM emulates the guest');
    const slot = new DmaBufSlot(vm, p, file, base_gfn, npages);
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
    if (this.place(this.#first) === undefined) this.unmapPrivate(this.#first, this.#end);
    this.#vm.zap();
  };

  /** Where the memory of a frame is; undefined while it cannot be reached. */
  place(gfn: number): DmaBufPlace | undefined {
    const place = this.#file.exporter.place?.((gfn - this.#first) * PAGE_SIZE);
    return typeof place === 'object' ? place : undefined;
  }

  /** kvm_mmu_faultin_pfn: throws DmaBufFault where there is nothing to map, or where a TSM that has bound the device for another VM does not map it as private memory of this one. */
  fault(gfn: number, isPrivate: boolean): DmaBufPlace {
    const place = this.place(gfn);
    if (place === undefined || (isPrivate && this.#isAnothers)) throw new DmaBufFault(gfn);
    return place;
  }

  get #isAnothers(): boolean {
    const owner = this.#file.exporter.assigned?.tdi?.binding?.kvm;
    return owner !== undefined && owner !== this.#vm;
  }

  /** The guest loses what is private of frames [first, end), in which a TSM that has bound the device has a say. */
  unmapPrivate(first: number, end: number): void {
    const vm = this.#vm;
    const tdi = this.#file.exporter.assigned?.tdi;
    const [from, to] = [Math.max(first, this.#first), Math.min(end, this.#end)];
    if (from >= to || tdi?.binding?.kvm !== vm || vm.attributes.all(from, to, 0)) return;
    tdi.mmioUnmapped(BigInt(from) * PAGE, BigInt(to) * PAGE);
  }

  /** The slot goes, or never came to be. */
  release(): void {
    this.unmapPrivate(this.#first, this.#end);
    this.#attachment?.detach();
    this.#file.unref(this.#process);
  }
}
