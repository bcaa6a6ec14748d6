import { KVM_EXIT_MEMORY_FAULT, KVM_MEMORY_EXIT_FLAG_PRIVATE, kvm_pre_fault_memory, kvm_run } from '../../uapi/kvm.ts';
import { EFAULT, EINVAL, ENOENT, ENOSPC, EOPNOTSUPP } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import type { RamPage } from '../cpu/bus.ts';
import type { Process } from '../process.ts';
import { isPrivate } from './attributes.ts';
import { DmaBufFault } from './dma-buf-slot.ts';
import { guestPage } from './guest-memfd.ts';
import { notModelled } from './ioctl-table.ts';
import type { Memslot } from './memslots.ts';
import { RUN } from './run-page.ts';
import type { Vcpu } from './vcpu.ts';
import type { Vm } from './vm.ts';

const PAGE_SIZE = 4096n;
const PAGE_MASK = 0xfffn;
const U64_END = 1n << 64n;

/** The guest's access ends in −EFAULT or −EHWPOISON of KVM_RUN, with an exit that says where and of which kind. */
export class MemoryFault extends Error {
  readonly gfn: number;
  readonly isPrivate: boolean;
  /** −errno. */
  readonly result: number;

  constructor(gfn: number, isPrivate: boolean, result: number) {
    super(`memory fault at guest frame 0x${gfn.toString(16)}`);
    this.gfn = gfn;
    this.isPrivate = isPrivate;
    this.result = result;
  }
}

/** The host page behind a slot cannot be used: with hardware paging KVM_RUN gives −EFAULT, exit reason 0. */
export class HostPageFault extends Error {
  readonly gfn: number;

  constructor(gfn: number) {
    super(`no host page behind guest frame 0x${gfn.toString(16)}`);
    this.gfn = gfn;
  }
}

const at = (path: string): number => kvm_run.offsetOf(path);
const FAULT = { flags: at('memory_fault.flags'), gpa: at('memory_fault.gpa'), size: at('memory_fault.size') };

/** kvm_prepare_memory_fault_exit: always the one 4 KiB page, and nothing of what the access was. Returns what KVM_RUN does. */
export function memoryFaultExit({ run: { view } }: Vcpu, { gfn, isPrivate, result }: MemoryFault): number {
  view.setUint32(RUN.exit_reason, KVM_EXIT_MEMORY_FAULT, true);
  view.setBigUint64(FAULT.gpa, BigInt(gfn) * PAGE_SIZE, true);
  view.setBigUint64(FAULT.size, PAGE_SIZE, true);
  view.setBigUint64(FAULT.flags, isPrivate ? KVM_MEMORY_EXIT_FLAG_PRIVATE : 0n, true);
  return result;
}

/**
 * MMIO that the page tables of a VM with private memory remember (MMIO SPTEs): by frame, the generation of the memslots it was found under. The
 * processor tells a fault on such an entry apart, and KVM does not ask for the frame's attributes then.
 */
export class MmioFrames {
  readonly #generations: Map<number, number> = new Map();

  remember(gfn: number, generation: number): void {
    this.#generations.set(gfn, generation);
  }

  /** The generation, undefined for a frame that is not remembered. */
  get(gfn: number): number | undefined {
    return this.#generations.get(gfn);
  }

  forget(gfn: number): void {
    this.#generations.delete(gfn);
  }
}

/**
 * kvm_mmu_faultin_pfn as far as it is about private memory and guest_memfd: the page that is not userspace's; null for MMIO; undefined where
 * the access goes to `userspace_addr`, if there is a slot; null also for device memory, which the guest reaches by its accesses. Throws MemoryFault and DmaBufFault.
 * The attribute says which kind of access it is.
 */
export function gmemPage(vm: Vm, slot: Memslot | undefined, gfn: number): RamPage | null | undefined {
  const found = vm.mmioFrames.get(gfn);
  if (found === vm.memslots.generation) return null;
  const privateGfn = vm.hasPrivateMemory && isPrivate(vm, gfn);
  // A stale entry is faulted in as shared memory, and goes when that succeeds.
  if (found !== undefined && privateGfn) throw new MemoryFault(gfn, false, -EFAULT);
  if (slot?.dmaBuf !== undefined) {
    slot.dmaBuf.fault(gfn, privateGfn);
    vm.mmioFrames.forget(gfn);
    return null;
  }
  if (!privateGfn && slot?.gmem?.only !== true) {
    if (slot === undefined && vm.hasPrivateMemory) vm.mmioFrames.remember(gfn, vm.memslots.generation);
    return undefined;
  }
  if (slot?.gmem === undefined) throw new MemoryFault(gfn, privateGfn, -EFAULT);
  const page = guestPage(slot.gmem, gfn - slot.base_gfn);
  if (typeof page === 'number') throw new MemoryFault(gfn, privateGfn, page);
  vm.mmioFrames.forget(gfn);
  return page;
}

/**
 * KVM_PRE_FAULT_MEMORY. What is left of the range is written back whatever the result, which is 0 when one page at least was mapped. Only
 * two-dimensional paging can.
 */
export function preFaultMemory(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_pre_fault_memory.size);
  if (bytes === null) return -EFAULT;
  const range = kvm_pre_fault_memory.view(bytes);
  const result = preFault(vcpu, range);
  return p.mm.copyTo(arg, bytes) ? result : -EFAULT;
}

function preFault(vcpu: Vcpu, range: kvm_pre_fault_memory): number {
  const { gpa, size, flags } = range;
  if (flags) return -EINVAL;
  if ((gpa | size) & PAGE_MASK || size === 0n || gpa + size >= U64_END) return -EINVAL;
  if (!vcpu.hasShadowPages) return -ENOSPC;
  loadRoot(vcpu);
  if (vcpu.backend.badHostPage === 'mmio') return -EOPNOTSUPP;
  while (range.size > 0n) {
    const result = preFaultPage(vcpu, Number(range.gpa / PAGE_SIZE));
    if (result < 0) return range.size === size ? result : 0;
    range.gpa += PAGE_SIZE;
    range.size -= PAGE_SIZE;
  }
  return 0;
}

/** kvm_mmu_reload. A root that went with a memslot was taken for one that is there, and kvm_tdp_map_page tried until a signal came. */
function loadRoot(vcpu: Vcpu): void {
  const { roots } = vcpu.vm.memslots;
  const { rootLoadedAt = roots } = vcpu;
  if (rootLoadedAt !== roots && !has(vcpu.vm.machine, 'preFaultLoadsRoot'))
    notModelled('KVM_PRE_FAULT_MEMORY after a memslot has gone: kernels before 6.14 never return from it');
  vcpu.rootLoadedAt = roots;
  if (vcpu.completion !== undefined) vcpu.completion.dropped = false;
}

/** kvm_tdp_map_page of a read. It does not come from the processor: an entry for MMIO in the page tables does not matter to it. */
function preFaultPage(vcpu: Vcpu, gfn: number): number {
  const { vm } = vcpu;
  const { mmioFrames } = vm;
  const found = mmioFrames.get(gfn);
  mmioFrames.forget(gfn);
  try {
    const page = vcpu.bus.page(gfn, 'read');
    if (page === null && !vcpu.bus.reachesDevice(gfn * Number(PAGE_SIZE), false)) return -ENOENT;
    if (vm.teeIo !== undefined && isPrivate(vm, gfn)) vm.commit(gfn);
    return 0;
  } catch (error) {
    if (found !== undefined) mmioFrames.remember(gfn, found);
    if (error instanceof MemoryFault) return memoryFaultExit(vcpu, error);
    if (error instanceof HostPageFault) return -EFAULT;
    if (error instanceof DmaBufFault) return error.result;
    throw error;
  }
}
