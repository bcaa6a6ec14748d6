import { KVM_CAP_X86_SMM, KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED } from '../../uapi/kvm.ts';
import { EFAULT, EINVAL } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import { Cpu } from '../cpu/cpu.ts';
import { CS, SS, TR } from '../cpu/state.ts';
import type { Process } from '../process.ts';
import type { System } from '../system.ts';
import type { Agent } from './agent.ts';
import { APIC_DEFAULT_PHYS_BASE, MSR_IA32_APICBASE_BSP, MSR_IA32_APICBASE_ENABLE } from './apic-regs.ts';
import { type Backend, backendOf } from './backends.ts';
import { VcpuBus } from './bus.ts';
import { type CpuidRuntime, GuestCpuid } from './cpuid.ts';
import { DirtyRing } from './dirty-ring.ts';
import type { Completion } from './exits.ts';
import { capability } from './ioctl-table.ts';
import { Lapic } from './lapic.ts';
import { RunPages } from './run-page.ts';
import { Stats } from './stats.ts';
import { askedKhz, rateWorks } from './tsc.ts';
import type { Vm } from './vm.ts';
import { FpuState } from './xsave.ts';

/** EBX of leaf 0: the first letters of the vendor. */
const GENUINE_INTEL = 0x756e_6547;
const CR4_OSXSAVE = 1n << 18n;
const CR4_PKE = 1n << 22n;

/** KVM_SYSTEM_TIME old and new, ASYNC_PF_EN, STEAL_TIME, PV_EOI_EN, ASYNC_PF_INT: INIT clears them. */
const PARAVIRTUAL = [0x12, 0x4b564d01, 0x4b564d02, 0x4b564d03, 0x4b564d04, 0x4b564d06];

/** What the host had counted before simulated time began: no TSC reads 0. */
const BOOT_MS = 10_000n;

/** `struct kvm_vcpu`. It lives as long as its VM, whatever happens to its descriptor. */
export class Vcpu {
  readonly vm: Vm;
  readonly id: number;
  readonly system: System;
  readonly backend: Backend;
  readonly cpu: Cpu;
  readonly bus: VcpuBus;
  readonly run: RunPages;
  readonly cpuid: GuestCpuid;
  /** What was written to MSRs that are not the CPU's own state. */
  readonly msrs: Map<number, bigint> = new Map();
  readonly stats: Stats = new Stats();
  readonly segmentPadding: Uint8Array = new Uint8Array(8);
  apicBase: bigint;
  mpState: number = KVM_MP_STATE_RUNNABLE;
  /** In the kernel if the VM had an irqchip when this vCPU was made. */
  readonly lapic: Lapic | undefined;
  /** KVM_HC_KICK_CPU: it is to wake from HLT. */
  pvUnhalted = false;
  /** KVM_REQ_NMI: nobody has looked yet whether an NMI can be taken. */
  nmiRequested = false;
  /** KVM_TPR_ACCESS_REPORTING is on; an access waits for its exit. */
  tprAccessReporting = false;
  tprAccessed = false;
  /** KVM_REQ_IOAPIC_EOI_EXIT: the vector a userspace IOAPIC is to hear of. */
  ioapicEoi: number | undefined = undefined;
  readonly fpu: FpuState;
  xcr0 = 1n;
  /** RFLAGS bits 63:32 as SET_REGS left them. The emulator keeps them through whatever it executes. */
  rflagsHigh = 0;
  /** KVM_SET_SREGS and KVM_SET_MSRS have left in SVM's VMCB what no processor has loaded yet: it makes less of some of it. */
  vmcbChanged = false;
  tscKhz: number;
  tscOffset = 0n;
  /** What the exit under way waits for; kvm.md calls it complete_userspace_io. */
  completion: Completion | undefined = undefined;
  /** The instruction whose MMIO read this KVM_RUN has completed, and the RFLAGS userspace saw meanwhile. */
  resumed: { readonly rip: bigint; readonly rflags: number } | undefined = undefined;
  /** KVM_REQ_MASTERCLOCK_UPDATE, CLOCK_UPDATE, STEAL_UPDATE: what is seen to as the guest is entered. */
  readonly pvRequests: { masterClock: boolean; clock: boolean; guestStopped: boolean; steal: boolean } = {
    masterClock: true,
    clock: true,
    guestStopped: false,
    steal: false,
  };
  /** KVM_CAP_ENFORCE_PV_FEATURE_CPUID. */
  pvCpuidEnforced = false;
  /** KVM_SET_SIGNAL_MASK: the set of signals, all but SIGKILL and SIGSTOP; undefined: the thread's own holds. */
  signalMask: bigint | undefined = undefined;
  /** `memslots.roots` when a SHUTDOWN took the root of the nested page tables (see Backend.resetOnShutdown). */
  rootLostAt: number | undefined = undefined;
  /** `memslots.roots` when the root of the page tables was loaded, by KVM_RUN or KVM_PRE_FAULT_MEMORY; undefined: there is none. */
  rootLoadedAt: number | undefined = undefined;
  /** The guest address an event's delivery failed at. The lab's KVM then spins over the same event: it has made the page known as MMIO. */
  undeliverable: number | undefined = undefined;
  /** KVM_REQ_TRIPLE_FAULT: the next KVM_RUN leaves with SHUTDOWN before anything else. Until then it counts as an exception on its way in. */
  tripleFault = false;
  /** RFC: who plays the guest instead of the CPU. */
  agent: Agent | undefined = undefined;
  /** The guest has been entered once: its CPUID and feature MSRs are frozen. */
  entered = false;

  constructor(vm: Vm, id: number, system: System) {
    this.vm = vm;
    this.id = id;
    this.system = system;
    this.backend = backendOf(vm.machine);
    this.cpuid = new GuestCpuid(vm.machine);
    const { ringBytes } = vm.dirty;
    const ring = (moved: () => void): DirtyRing => new DirtyRing(ringBytes, vm.backend.cpuDirtyLog, moved);
    this.run = new RunPages(vm.ring, ringBytes === 0 ? undefined : ring);
    this.bus = new VcpuBus(this);
    const { emulated, vmcall, intel, qemu, dropsLegacyPaging } = this.backend;
    const legacyPaging = !dropsLegacyPaging;
    // Where KVM emulates, its emulator has the host's processor compute.
    const intelFlags = vm.machine.kvm.cpuid.some(({ function: leaf, ebx }) => leaf === 0 && ebx === GENUINE_INTEL);
    this.cpu = new Cpu(this.bus, { emulated, vmcall, intel, intelFlags, cachesPdptrs: intel, qemu, legacyPaging });
    this.apicBase = APIC_DEFAULT_PHYS_BASE | MSR_IA32_APICBASE_ENABLE | (id === vm.bootId ? MSR_IA32_APICBASE_BSP : 0n);
    this.fpu = new FpuState(vm.machine.kvm.mxcsrMask);
    this.tscKhz = vm.tscKhz;
    if (!this.backend.hostTsc) this.tscOffset = BigInt.asUintN(64, -(vm.vcpus.size === 0 ? this.hostTsc() : vm.tscStart));
    this.resetSegmentTypes();
    if (vm.irqchip.inKernel) {
      this.lapic = new Lapic(this);
      if (id !== vm.bootId) this.mpState = KVM_MP_STATE_UNINITIALIZED;
    }
  }

  /** With KVM_CAP_DIRTY_LOG_RING. */
  get ring(): DirtyRing | undefined {
    return this.run.dirtyRing;
  }

  /** Where the vendor modules give reset segments other types. */
  resetSegmentTypes(): void {
    const { cs, ss, tr } = this.backend.resetTypes;
    this.cpu.segments[CS]!.type = cs;
    this.cpu.segments[SS]!.type = ss;
    this.cpu.segments[TR]!.type = tr;
    this.cpu.refresh();
  }

  /** INIT: what a LAPIC's INIT does, and SVM on a triple fault. FPU, XCR0 and most MSRs stay; KVM's paravirtual ones are switched off. */
  init(): void {
    this.cpu.init(this.cpuid.register(1, 0, 'eax') || 0x600);
    if (!has(this.vm.machine, 'nmisMaskedByInit')) this.cpu.events.nmi.masked = false;
    this.resetSegmentTypes();
    this.rflagsHigh = 0;
    this.completion = undefined;
    for (const index of PARAVIRTUAL) this.msrs.delete(index);
    this.lapic?.reset();
  }

  /** Simulated time in ticks, what this vCPU executed since the last slice included. */
  get ticks(): number {
    return this.system.runner.ticks + this.bus.sliceExecuted;
  }

  /** The same in nanoseconds. */
  nanoseconds(): bigint {
    return (BigInt(this.ticks) * 1_000_000n) / BigInt(this.system.machine.instructionsPerMs);
  }

  /** Ticks until `nanoseconds` is at least `time`; 0 or less: it is already. */
  ticksUntil(time: bigint): number {
    return Number((time * BigInt(this.system.machine.instructionsPerMs) + 999_999n) / 1_000_000n) - this.ticks;
  }

  /** Ticks until the guest's TSC is at least `tsc`. */
  ticksUntilTsc(tsc: bigint): number {
    const left = tsc - this.tsc();
    if (left <= 0n) return 0;
    const khz = BigInt(this.system.machine.kvm.tscKhz);
    const host = (this.hostTsc() - BOOT_MS * khz + left) * BigInt(this.system.machine.instructionsPerMs);
    return Number((host + khz - 1n) / khz) - this.ticks;
  }

  /** Ticks until the machine's next timer: a slice goes no further. */
  get ticksToTimer(): number {
    return this.system.runner.nextTimer - this.ticks;
  }

  /** KVM_EXIT_IOAPIC_EOI before the next instruction. */
  requestIoapicEoi(vector: number): void {
    this.ioapicEoi = vector;
    this.cpu.yield();
  }

  /** kvm_inject_smi: false without CONFIG_KVM_SMM. */
  requestSmi(): boolean {
    if (capability(this.vm.machine, KVM_CAP_X86_SMM) === 0) return false;
    this.cpu.smi.requested = true;
    return true;
  }

  /**
   * Shadow paging, and once any, needs pages of its own: none are allowed until the first memslot, or KVM_SET_NR_MMU_PAGES; deleting all slots
   * leaves 64. Without them page tables cannot be loaded (−ENOSPC).
   */
  get hasShadowPages(): boolean {
    const { machine, memslots, requestedMmuPages } = this.vm;
    const needed = this.backend.badHostPage === 'mmio' || !has(machine, 'rootsWithoutMmuPages');
    return !needed || memslots.generation > 0 || requestedMmuPages > 0n;
  }

  /** The host's TSC. */
  hostTsc(): bigint {
    const { machine } = this.system;
    return (
      BOOT_MS * BigInt(machine.kvm.tscKhz) + (BigInt(this.ticks) * BigInt(machine.kvm.tscKhz)) / BigInt(machine.instructionsPerMs)
    );
  }

  /** The guest's TSC. */
  tsc(): bigint {
    return BigInt.asUintN(64, this.hostTsc() + this.tscOffset);
  }

  get cpuidRuntime(): CpuidRuntime {
    return {
      osxsave: (this.cpu.cr4 & CR4_OSXSAVE) !== 0n,
      ospke: (this.cpu.cr4 & CR4_PKE) !== 0n,
      apicEnabled: (this.apicBase & MSR_IA32_APICBASE_ENABLE) !== 0n,
      xcr0: this.xcr0,
    };
  }
}

/** KVM_SET_TSC_KHZ on a vCPU. A rate that does not work is remembered all the same. */
export function setVcpuTscKhz(vcpu: Vcpu, _p: Process, arg: bigint): number {
  const khz = askedKhz(vcpu.vm.machine, arg);
  if (khz < 0) return khz;
  vcpu.tscKhz = khz;
  return rateWorks(vcpu.vm.machine, khz) ? 0 : -EINVAL;
}

/** `struct kvm_signal_mask`: the length, then the set. */
const SIGSET_BYTES = 8;
const SIGKILL = 9n;
const SIGSTOP = 19n;

/** KVM_SET_SIGNAL_MASK: NULL takes the mask away. The simulated process has no signals but a kick, which no mask holds off. */
export function setSignalMask(vcpu: Vcpu, p: Process, arg: bigint): number {
  if (arg === 0n) {
    vcpu.signalMask = undefined;
    return 0;
  }
  const length = p.mm.read32(arg);
  if (length === null) return -EFAULT;
  if (length !== SIGSET_BYTES) return -EINVAL;
  const set = p.mm.read64(arg + 4n);
  if (set === null) return -EFAULT;
  vcpu.signalMask = set & ~((1n << (SIGKILL - 1n)) | (1n << (SIGSTOP - 1n)));
  return 0;
}
