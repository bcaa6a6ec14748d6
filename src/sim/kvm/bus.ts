import { KVM_MEM_READONLY, KVM_X86_QUIRK_FIX_HYPERCALL_INSN, KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS } from '../../uapi/kvm.ts';
import { has } from '../changes.ts';
import type { CpuBus, CpuidResult, Hypercall, MsrExit, PageAccess, RamPage } from '../cpu/bus.ts';
import { legalXcr0 } from './debugregs.ts';
import { type DevicePage, devicePage, loadDevice, storeDevice } from './device-memory.ts';
import { emulationFailed } from './exits.ts';
import { guestRdmsr, guestWrmsr } from './guest-msrs.ts';
import { hypercall } from './hypercalls.ts';
import { notModelled } from './ioctl-table.ts';
import { gmemPage, HostPageFault } from './memory-fault.ts';
import type { Memslot } from './memslots.ts';
import { getMsr, setMsr } from './msrs.ts';
import { legalCr4 } from './sregs.ts';
import type { Vcpu } from './vcpu.ts';

/** CPUID leaf of SVM, and a bit of its EDX. */
const SVM_FEATURES = 0x8000_000a;
const VGIF = 1 << 16;

/** A page was told of, and the ring has room for no more. */
export class DirtyRingFull extends Error {}

/** What one vCPU's CPU sees of the machine: memory through the memslots, CPUID, MSRs, time. */
export class VcpuBus implements CpuBus {
  readonly #vcpu: Vcpu;
  /** `cpu.executed` when the slice under way began. */
  #sliceStart = 0;
  /** The guest runs. */
  inSlice = false;
  /** A slot had no usable host page. The process may get one without any change of its mappings (a file grows): ask again next time. */
  #holes = false;
  #retries = 0;

  constructor(vcpu: Vcpu) {
    this.#vcpu = vcpu;
  }

  beginSlice(): void {
    this.#sliceStart = this.#vcpu.cpu.executed;
    this.inSlice = true;
    if (this.#holes) this.#retries++;
    this.#holes = false;
  }

  endSlice(): void {
    this.inSlice = false;
  }

  /** Instructions of the slice under way, which simulated time does not have yet. */
  get sliceExecuted(): number {
    return this.inSlice ? this.#vcpu.cpu.executed - this.#sliceStart : 0;
  }

  /** Slots, attributes, guest_memfds and the process's mappings decide what a guest page is, tracking who hears of a store: all these counters only ever grow. */
  get generation(): number {
    const { memslots, mm, dirty, zapped } = this.#vcpu.vm;
    return memslots.generation + mm.generation + dirty.generation + zapped + this.#retries;
  }

  /** Each store of KVM's emulator is an entry of the ring; a bitmap and hardware's page tables need to know of the first. */
  get tellsStores(): boolean {
    return this.#vcpu.backend.emulated && this.#vcpu.ring !== undefined;
  }

  /** kvm_arch_vcpu_memslots_id: system management mode has an address space of its own. */
  get #space(): number {
    const { cpu, vm } = this.#vcpu;
    return cpu.smi.active && vm.memslots.spaces > 1 ? 1 : 0;
  }

  emulationFailed(insnBytes: Uint8Array): void {
    emulationFailed(this.#vcpu, insnBytes);
  }

  written(gpaPage: number): void {
    const slot = this.#vcpu.vm.memslots.find(gpaPage, this.#space);
    if (slot !== undefined) this.#vcpu.vm.dirty.mark(slot, gpaPage, this.#vcpu);
  }

  page(gpaPage: number, access: PageAccess): RamPage | null {
    const slot = this.#vcpu.vm.memslots.find(gpaPage, this.#space);
    const own = this.#vcpu.backend.emulated ? undefined : gmemPage(this.#vcpu.vm, slot, gpaPage);
    if (own === null && access === 'fetch' && slot?.dmaBuf !== undefined) notModelled('guest code in the memory of a device');
    if (own !== undefined) return own;
    return this.#userPage(slot, gpaPage, access);
  }

  /** Accesses to a device's page that is mapped are the processor's own. */
  reachesDevice(gpa: number, write: boolean): boolean {
    return this.#device(gpa, write) !== undefined;
  }

  /** Private memory, and what is in a guest_memfd alone. */
  get emulatorDiffers(): boolean {
    const { hasPrivateMemory, gmemOnlySlots } = this.#vcpu.vm;
    return !this.#vcpu.backend.emulated && (hasPrivateMemory || gmemOnlySlots);
  }

  /** KVM's emulator reaches memory through userspace_addr only; a page it cannot is MMIO to it. */
  emulatedPage(gpaPage: number, access: PageAccess): RamPage | null {
    try {
      return this.#userPage(this.#vcpu.vm.memslots.find(gpaPage, this.#space), gpaPage, access);
    } catch (error) {
      if (error instanceof HostPageFault) return null;
      throw error;
    }
  }

  #userPage(slot: Memslot | undefined, gpaPage: number, access: PageAccess): RamPage | null {
    const { mm } = this.#vcpu.vm;
    if (slot === undefined) return null;
    const write = access === 'write';
    if (write && slot.flags & KVM_MEM_READONLY) return null;
    const hva = slot.userspace_addr + BigInt(gpaPage - slot.base_gfn) * 4096n;
    const { stage } = this.#vcpu.vm.dirty;
    const hostWritable = !write && stage !== undefined && !(slot.flags & KVM_MEM_READONLY) && mm.mappedWritable(hva);
    const page = mm.resolve(hva, write);
    if (page !== null) {
      this.#vcpu.vm.mmioFrames.forget(gpaPage);
      const told = stage === undefined ? write && !this.tellsStores : stage.access(slot, gpaPage, page, write, hostWritable);
      if (told) this.#mark(slot, gpaPage);
      return page;
    }
    const device = devicePage(this.#vcpu.vm, slot, gpaPage);
    if (device !== undefined && (write ? device.writable : device.readable)) return this.#devicePage(slot, gpaPage, access);
    this.#holes = true;
    if (this.#vcpu.backend.badHostPage === 'efault') throw new HostPageFault(gpaPage);
    return null;
  }

  /** No RAM, and no exit either: `mmioRead` and `mmioWrite` reach the device. Its page has become one that is mapped. */
  #devicePage(slot: Memslot, gpaPage: number, access: PageAccess): null {
    if (access === 'fetch') notModelled('guest code in the memory of a device');
    this.#vcpu.vm.mmioFrames.forget(gpaPage);
    if (access === 'write' && !this.tellsStores) this.#mark(slot, gpaPage);
    return null;
  }

  /** What is mapped of a device at an address that is not RAM. */
  #device(gpa: number, write: boolean): DevicePage | undefined {
    const gfn = Math.floor(gpa / 4096);
    const device = devicePage(this.#vcpu.vm, this.#vcpu.vm.memslots.find(gfn, this.#space), gfn);
    return device !== undefined && (write ? device.writable : device.readable) ? device : undefined;
  }

  /** The vCPU whose ring is full does not come to execute the store: it leaves first. */
  #mark(slot: Memslot, gfn: number): void {
    this.#vcpu.vm.dirty.mark(slot, gfn, this.#vcpu);
    if (this.#vcpu.ring?.full === true) throw new DirtyRingFull();
  }

  /** need_emulate_wbinvd: only a VM with devices whose DMA bypasses the caches has them flushed. */
  wbinvd(): void {
    const { vm } = this.#vcpu;
    if (vm.noncoherentDma > 0) vm.cacheFlushes++;
  }

  mmioWrite(gpa: number, data: Uint8Array): boolean {
    const device = this.#device(gpa, true);
    if (device !== undefined) {
      storeDevice(device, gpa % 4096, data);
      return true;
    }
    return this.#vcpu.lapic?.write(gpa, data) || this.#vcpu.vm.mmioBus.write(this.#vcpu, gpa, data);
  }

  mmioRead(gpa: number, length: number): Uint8Array | null {
    const data = new Uint8Array(length);
    const device = this.#device(gpa, false);
    if (device !== undefined) {
      loadDevice(device, gpa % 4096, data);
      return data;
    }
    return this.#vcpu.lapic?.read(gpa, data) || this.#vcpu.vm.mmioBus.read(this.#vcpu, gpa, data) ? data : null;
  }

  pioWrite(port: number, data: Uint8Array): boolean {
    return this.#vcpu.vm.pioBus.write(this.#vcpu, port, data);
  }

  /** The first element decides; where a later one finds no device, the rest is 0. */
  pioRead(port: number, size: number, count: number): Uint8Array | null {
    const data = new Uint8Array(size * count);
    for (let at = 0; at < data.length; at += size) {
      if (this.#vcpu.vm.pioBus.read(this.#vcpu, port, data.subarray(at, at + size))) continue;
      return at === 0 ? null : data.fill(0, at);
    }
    return data;
  }

  cpuid(leaf: number, subleaf: number): CpuidResult {
    return this.#vcpu.cpuid.execute(leaf, subleaf, this.#vcpu.cpuidRuntime);
  }

  rdmsr(index: number): { lo: number; hi: number } | null | MsrExit {
    const value = guestRdmsr(this.#vcpu, index);
    if (typeof value !== 'bigint') return value;
    return { lo: Number(value & 0xffff_ffffn), hi: Number(value >> 32n) };
  }

  wrmsr(index: number, lo: number, hi: number): boolean | MsrExit {
    return guestWrmsr(this.#vcpu, index, (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0));
  }

  ownMsr(index: number): { lo: number; hi: number } | null {
    const value = getMsr(this.#vcpu, index, true);
    return value === undefined ? null : { lo: Number(value & 0xffff_ffffn), hi: Number(value >> 32n) };
  }

  setOwnMsr(index: number, lo: number, hi: number): void {
    setMsr(this.#vcpu, index, (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0), true);
  }

  get cr4Bits(): bigint {
    return legalCr4(this.#vcpu);
  }

  get xcr0(): bigint {
    return this.#vcpu.xcr0;
  }

  setXcr0(value: bigint): boolean {
    if (!legalXcr0(this.#vcpu, value)) return false;
    this.#vcpu.xcr0 = value;
    return true;
  }

  tsc(): bigint {
    return this.#vcpu.tsc();
  }

  hypercall(call: Hypercall): bigint | undefined {
    return hypercall(this.#vcpu, call);
  }

  get fixHypercall(): boolean {
    return this.#vcpu.vm.caps.quirk(KVM_X86_QUIRK_FIX_HYPERCALL_INSN);
  }

  /** KVM's own CPUID tells of a virtual GIF. */
  get virtualGif(): boolean {
    const { machine } = this.#vcpu.vm;
    const { edx = 0 } = machine.kvm.cpuid.find((leaf) => leaf.function === SVM_FEATURES) ?? {};
    return machine.backend === 'svm' && !has(machine, 'gifNeedsSvme') && (edx & VGIF) !== 0;
  }

  get losesSmmState(): boolean {
    return !has(this.#vcpu.vm.machine, 'smmStateSaved');
  }

  mwaitIsUd(): boolean {
    return !this.#vcpu.vm.caps.quirk(KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS) && !this.#vcpu.cpuid.has(1, 0, 'ecx', 3);
  }

  acknowledge(): number {
    return this.#vcpu.lapic?.take() ?? -1;
  }
}
