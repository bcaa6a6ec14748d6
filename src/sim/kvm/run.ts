import {
  KVM_EXIT_DIRTY_RING_FULL,
  KVM_EXIT_INTR,
  KVM_EXIT_IOAPIC_EOI,
  KVM_EXIT_SHUTDOWN,
  KVM_EXIT_TPR_ACCESS,
  KVM_EXIT_UNKNOWN,
  KVM_MP_STATE_HALTED,
  KVM_MP_STATE_INIT_RECEIVED,
  KVM_MP_STATE_RUNNABLE,
  KVM_MP_STATE_UNINITIALIZED,
  KVM_RUN_X86_SMM,
  KVM_SYNC_X86_EVENTS,
  KVM_SYNC_X86_REGS,
  KVM_SYNC_X86_SREGS,
  KVM_X86_DISABLE_EXITS_HLT,
} from '../../uapi/kvm.ts';
import { EAGAIN, EFAULT, EINTR, EINVAL, EIO, ENOSPC } from '../../uapi/sys.ts';
import { has, syncFieldsMask } from '../changes.ts';
import type { Outcome } from '../cpu/bus.ts';
import { IF } from '../cpu/state.ts';
import type { Pending, Slice } from '../vcpu-like.ts';
import type { Agent } from './agent.ts';
import { assistEntry, assistExit } from './apic-assist.ts';
import { DirtyRingFull } from './bus.ts';
import { linearWidth } from './cpuid.ts';
import { DmaBufFault } from './dma-buf-slot.ts';
import { cancelInjection, deliverPayload, loadEvents, storeEvents, suppressErrorCode } from './events.ts';
import { complete, writeExit } from './exits.ts';
import { HostPageFault, MemoryFault, memoryFaultExit } from './memory-fault.ts';
import { acceptApicEvents, hasEvents, initAllowed, runnable } from './mp-state.ts';
import { truncateSysenterCs } from './msrs.ts';
import { updateParavirt } from './paravirt.ts';
import { loadRegs, storeRegs } from './regs.ts';
import { RUN } from './run-page.ts';
import { loadSregs, storeSregs } from './sregs.ts';
import { canonicaliseBases } from './svm-segments.ts';
import type { Vcpu } from './vcpu.ts';
import { enterEmulatedFpu, enterFpu } from './xsave.ts';

const FUEL: Outcome = { kind: 'fuel' };
const SYNC_FLAGS = BigInt(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS);

/** Register sets of `kvm_run.s.regs`, in the order dirty ones are applied. A refused one keeps its bit, earlier ones stay applied. */
const SYNC = [
  {
    flag: BigInt(KVM_SYNC_X86_REGS),
    offset: RUN.sync_regs,
    store: storeRegs,
    load: (vcpu: Vcpu, view: DataView, at: number): number => {
      loadRegs(vcpu, view, at);
      return 0;
    },
  },
  { flag: BigInt(KVM_SYNC_X86_SREGS), offset: RUN.sync_sregs, store: storeSregs, load: loadSregs },
  { flag: BigInt(KVM_SYNC_X86_EVENTS), offset: RUN.sync_events, store: storeEvents, load: loadEvents },
] as const;

/**
 * One slice of KVM_RUN, whose argument is checked already. `first` enters: it samples `immediate_exit`, applies dirty registers and finishes what
 * the last exit left. Whatever the result, the output fields of kvm_run are refreshed when KVM_RUN is over.
 */
export function runSlice(vcpu: Vcpu, fuel: number, first: boolean, pending: Pending): Slice {
  let result: Slice;
  vcpu.bus.beginSlice();
  vcpu.run.syncRing();
  try {
    result = (first ? enter(vcpu, pending) : undefined) ?? guest(vcpu, fuel, pending);
  } catch (error) {
    if (error instanceof DirtyRingFull) result = ringFull(vcpu);
    else if (error instanceof MemoryFault) result = memoryFaultExit(vcpu, error);
    else if (error instanceof HostPageFault) result = -EFAULT;
    else if (error instanceof DmaBufFault) result = error.result;
    else throw error;
  } finally {
    vcpu.bus.endSlice();
    vcpu.run.syncRing();
  }
  if (typeof result === 'number') leave(vcpu);
  return result;
}

/** From the sample of `immediate_exit` to the clearing of `exit_reason`. Undefined: on into the guest. */
function enter(vcpu: Vcpu, pending: Pending): Slice | undefined {
  const { view } = vcpu.run;
  // A kick sets immediate_exit before it sends its signal.
  const immediateExit = view.getUint8(RUN.immediate_exit) !== 0 || pending === 'entry';
  view.setUint16(RUN.flags, 0, true);
  // vcpu_load
  vcpu.pvRequests.steal = true;
  if (vcpu.backend.emulated) enterEmulatedFpu(vcpu);
  else enterFpu(vcpu);
  if (vcpu.mpState === KVM_MP_STATE_UNINITIALIZED) return immediateExit ? -EINTR : undefined;
  const illegal = ~SYNC_FLAGS & syncFieldsMask(vcpu.vm.machine);
  if (view.getBigUint64(RUN.kvm_valid_regs, true) & illegal) return -EINVAL;
  if (view.getBigUint64(RUN.kvm_dirty_regs, true) & illegal) return -EINVAL;
  const error = loadDirty(vcpu);
  if (error < 0) return error;
  if (vcpu.lapic === undefined) {
    const cr8 = view.getBigUint64(RUN.cr8, true);
    if (cr8 > 15n) return -EINVAL;
    vcpu.cpu.cr8 = cr8;
  }
  vcpu.resumed = undefined;
  vcpu.agent?.complete();
  if (vcpu.completion !== undefined || vcpu.cpu.pending) {
    const outcome = complete(vcpu);
    const exit = outcome === undefined ? 0 : exitOf(vcpu, outcome);
    if (exit !== 'fuel') return exit;
  }
  if (immediateExit) return -EINTR;
  if (vcpu.mpState === KVM_MP_STATE_INIT_RECEIVED && !initAllowed(vcpu) && has(vcpu.vm.machine, 'blockedInitRefusedByRun'))
    return -EINVAL;
  if (has(vcpu.vm.machine, 'exitReasonCleared')) view.setUint32(RUN.exit_reason, KVM_EXIT_UNKNOWN, true);
  if (vcpu.backend.turn !== undefined) vcpu.cpu.beginTurn();
  return undefined;
}

function loadDirty(vcpu: Vcpu): number {
  const { view } = vcpu.run;
  for (const { flag, offset, load } of SYNC) {
    const dirty = view.getBigUint64(RUN.kvm_dirty_regs, true);
    if (!(dirty & flag)) continue;
    if (load(vcpu, view, offset) < 0) return -EINVAL;
    view.setBigUint64(RUN.kvm_dirty_regs, dirty & ~flag, true);
  }
  return 0;
}

/** The run loop: the vCPU is looked at again where something asks for it, for as long as there is fuel and no timer is due. */
function guest(vcpu: Vcpu, fuel: number, pending: Pending): Slice {
  const end = vcpu.cpu.executed + fuel;
  for (;;) {
    const slice = turn(vcpu, end - vcpu.cpu.executed, pending);
    if (slice !== 'fuel' || vcpu.cpu.executed >= end || vcpu.ticksToTimer <= 0) return slice;
  }
}

/** vcpu_enter_guest or vcpu_block. A signal is looked at before the guest executes anything; an exit beats it. */
function turn(vcpu: Vcpu, fuel: number, pending: Pending): Slice {
  if (vcpu.vm.dead) return -EIO;
  if (vcpu.mpState === KVM_MP_STATE_UNINITIALIZED) return uninitialized(vcpu, pending);
  if (vcpu.agent !== undefined) return agentTurn(vcpu, vcpu.agent, fuel, pending);
  const awake = runnable(vcpu);
  if (awake) updateParavirt(vcpu);
  const asked = awake ? request(vcpu) : undefined;
  if (asked !== undefined) return asked;
  if (pending !== 'none') return interrupted(vcpu);
  if (!awake) return 'idle';
  if (vcpu.rootLostAt === vcpu.vm.memslots.roots) return exitOf(vcpu, vcpu.cpu.spin(fuel));
  vcpu.rootLostAt = undefined;
  suppressErrorCode(vcpu);
  if (!vcpu.hasShadowPages) {
    cancelInjection(vcpu);
    return -ENOSPC;
  }
  vcpu.rootLoadedAt = vcpu.vm.memslots.roots;
  deliverPayload(vcpu);
  vcpu.entered = true;
  vcpu.nmiRequested = false;
  if (!vcpu.backend.emulated) vcpu.rflagsHigh = 0;
  if (vcpu.vmcbChanged) {
    canonicaliseBases(vcpu.cpu, linearWidth(vcpu.vm.machine));
    if (vcpu.backend.qemu) truncateSysenterCs(vcpu);
    vcpu.vmcbChanged = false;
  }
  const windowRequested = vcpu.vm.irqchip.mode !== 'kernel' && vcpu.run.view.getUint8(RUN.request_interrupt_window) !== 0;
  vcpu.cpu.windowRequested = windowRequested && vcpu.backend.turn === undefined && takesExternal(vcpu);
  const most = vcpu.cpu.native ? undefined : vcpu.backend.turn;
  const failedAt = vcpu.undeliverable;
  const outcome = most === undefined ? run(vcpu, fuel) : turns(vcpu, fuel, most, windowRequested);
  if (outcome.kind === 'internalError' && outcome.gpa !== undefined && outcome.gpa === failedAt) {
    return exitOf(vcpu, vcpu.cpu.spin(fuel));
  }
  vcpu.undeliverable = undefined;
  return exitOf(vcpu, outcome);
}

/** RFC: the same where a script is the guest. */
function agentTurn(vcpu: Vcpu, agent: Agent, fuel: number, pending: Pending): Slice {
  vcpu.lapic?.timer.inject(vcpu.mpState === KVM_MP_STATE_RUNNABLE);
  const asked = request(vcpu);
  if (asked !== undefined) return asked;
  if (pending !== 'none') return interrupted(vcpu);
  vcpu.entered = true;
  return agent.run(fuel);
}

/** A signal ends KVM_RUN. */
function interrupted(vcpu: Vcpu): number {
  vcpu.run.view.setUint32(RUN.exit_reason, KVM_EXIT_INTR, true);
  vcpu.stats.add('signal_exits');
  return -EINTR;
}

/** An AP that nobody has started: INIT, or anything else that would wake it, ends KVM_RUN with EAGAIN. */
function uninitialized(vcpu: Vcpu, pending: Pending): Slice {
  if (pending === 'none' && !hasEvents(vcpu)) return 'idle';
  acceptApicEvents(vcpu);
  return pending === 'none' ? -EAGAIN : interrupted(vcpu);
}

/** The vCPU has stopped for something that `turn` sees to. */
function hasRequest({ mpState, tprAccessed, ioapicEoi, lapic }: Vcpu): boolean {
  return mpState !== KVM_MP_STATE_RUNNABLE || tprAccessed || ioapicEoi !== undefined || (lapic?.pendingInit ?? false);
}

/** vcpu_enter_guest's requests that end KVM_RUN; they beat a signal. */
function request(vcpu: Vcpu): number | 'fuel' | undefined {
  const { view } = vcpu.run;
  if (vcpu.ring?.full === true) return ringFull(vcpu);
  if (vcpu.tprAccessed) {
    vcpu.tprAccessed = false;
    view.setUint32(RUN.exit_reason, KVM_EXIT_TPR_ACCESS, true);
    return 0;
  }
  if (vcpu.tripleFault) {
    // Nothing of the vCPU is reset by it.
    vcpu.tripleFault = false;
    view.setUint32(RUN.exit_reason, KVM_EXIT_SHUTDOWN, true);
    return 0;
  }
  const { ioapicEoi } = vcpu;
  if (ioapicEoi === undefined) return undefined;
  vcpu.ioapicEoi = undefined;
  view.setUint8(RUN.eoi_vector, ioapicEoi);
  view.setUint32(RUN.exit_reason, KVM_EXIT_IOAPIC_EOI, true);
  return 0;
}

/** KVM_EXIT_DIRTY_RING_FULL, again and again until enough is reset. */
function ringFull(vcpu: Vcpu): 0 {
  vcpu.run.view.setUint32(RUN.exit_reason, KVM_EXIT_DIRTY_RING_FULL, true);
  return 0;
}

/** The CPU, no further than to the machine's next timer. With an in-kernel APIC HLT does not leave the kernel. */
function run(vcpu: Vcpu, fuel: number): Outcome {
  const { lapic } = vcpu;
  if (lapic !== undefined) assistEntry(lapic);
  if (lapic !== undefined && vcpu.backend.turn !== undefined) assistExit(lapic);
  const outcome = vcpu.cpu.run(Math.min(fuel, Math.max(0, vcpu.ticksToTimer)));
  if (lapic !== undefined && vcpu.backend.turn === undefined) assistExit(lapic);
  vcpu.lapic?.guestRuns();
  if (outcome.kind !== 'hlt') return outcome;
  // The processor halts by itself, until the host's next interrupt: SVM does not remember that it did.
  if (!vcpu.backend.emulated && vcpu.vm.caps.disabledExits & KVM_X86_DISABLE_EXITS_HLT) return FUEL;
  if (vcpu.lapic === undefined || vcpu.cpu.reinjects) return outcome;
  vcpu.mpState = KVM_MP_STATE_HALTED;
  if (vcpu.backend.turn !== undefined) vcpu.cpu.beginTurn();
  return FUEL;
}

/**
 * A backend that emulates in turns of so many instructions takes NMIs, interrupts and requests only as a turn begins, and looks for an interrupt
 * window only between two of them. A fault of the guest begins another turn; HLT only does that while something injected waits for one.
 */
function turns(vcpu: Vcpu, fuel: number, turn: number, windowRequested: boolean): Outcome {
  const { cpu } = vcpu;
  const end = cpu.executed + fuel;
  while (cpu.executed < end && vcpu.ticksToTimer > 0) {
    const outcome = run(vcpu, Math.min(end, cpu.turnBegan + turn) - cpu.executed);
    const awake = outcome.kind === 'hlt' && cpu.reinjects;
    if (!awake && (outcome.kind !== 'fuel' || vcpu.mpState === KVM_MP_STATE_HALTED)) return outcome;
    if (!awake && cpu.executed < cpu.turnBegan + turn) continue;
    cpu.beginTurn();
    if (vcpu.ring?.full === true || hasRequest(vcpu)) return FUEL;
    if (windowRequested && injectable(vcpu)) return { kind: 'irqWindow' };
  }
  return { kind: 'fuel' };
}

/** 0 when the outcome is an exit to userspace, which is then in kvm_run. */
function exitOf(vcpu: Vcpu, outcome: Outcome): number | 'fuel' {
  if (outcome.kind === 'fuel') return 'fuel';
  if (outcome.kind === 'dead') {
    vcpu.vm.dead = true;
    return -EIO;
  }
  writeExit(vcpu, outcome);
  return 0;
}

/**
 * kvm_vcpu_ready_for_interrupt_injection. With a split irqchip KVM_INTERRUPT brings an ExtINT, for which there has to be room, and a way
 * through LINT0.
 */
function injectable(vcpu: Vcpu): boolean {
  return vcpu.cpu.interruptible && !vcpu.tripleFault && takesExternal(vcpu);
}

function takesExternal({ lapic }: Vcpu): boolean {
  return lapic === undefined || (lapic.acceptsPic && !lapic.hasExternal);
}

/** What every return of KVM_RUN leaves in kvm_run, errors included. */
function leave(vcpu: Vcpu): void {
  const { view } = vcpu.run;
  if (!has(vcpu.vm.machine, 'payloadsWait')) deliverPayload(vcpu);
  const valid = view.getBigUint64(RUN.kvm_valid_regs, true);
  for (const { flag, offset, store } of SYNC) if (valid & flag) store(vcpu, view, offset);
  if (vcpu.cpu.smi.active) view.setUint16(RUN.flags, view.getUint16(RUN.flags, true) | KVM_RUN_X86_SMM, true);
  view.setUint8(RUN.if_flag, Number((vcpu.cpu.flags() & IF) !== 0));
  view.setBigUint64(RUN.cr8, vcpu.cpu.cr8, true);
  view.setBigUint64(RUN.apic_base, vcpu.apicBase, true);
  const ready = vcpu.vm.irqchip.mode === 'kernel' || injectable(vcpu);
  view.setUint8(RUN.ready_for_interrupt_injection, Number(ready));
}
