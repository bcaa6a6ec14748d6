/** MP states: who runs, who waits for what, and what INIT and SIPI do. */
import {
  KVM_MP_STATE_AP_RESET_HOLD,
  KVM_MP_STATE_HALTED,
  KVM_MP_STATE_INIT_RECEIVED,
  KVM_MP_STATE_RUNNABLE,
  KVM_MP_STATE_SIPI_RECEIVED,
  KVM_MP_STATE_UNINITIALIZED,
  kvm_mp_state,
} from '../../uapi/kvm.ts';
import { EFAULT, EINVAL } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import { IF } from '../cpu/state.ts';
import type { Process } from '../process.ts';
import { MSR_IA32_APICBASE_BSP } from './apic-regs.ts';
import type { Vcpu } from './vcpu.ts';

/** States that only KVM itself can leave. */
const WITH_LAPIC: ReadonlySet<number> = new Set([
  KVM_MP_STATE_UNINITIALIZED,
  KVM_MP_STATE_INIT_RECEIVED,
  KVM_MP_STATE_HALTED,
  KVM_MP_STATE_SIPI_RECEIVED,
  KVM_MP_STATE_AP_RESET_HOLD,
]);

/** kvm_apic_init_sipi_allowed: SMM blocks INIT. */
export function initAllowed({ cpu }: Vcpu): boolean {
  return !cpu.smi.active;
}

/** kvm_apic_accept_events: a pending INIT resets, a pending SIPI starts who waits for it. While INIT is blocked a SIPI is lost. */
export function acceptApicEvents(vcpu: Vcpu): void {
  const { lapic } = vcpu;
  if (lapic === undefined || !(lapic.pendingInit || lapic.pendingSipi)) return;
  if (!initAllowed(vcpu)) {
    lapic.pendingSipi = false;
    return;
  }
  if (lapic.pendingInit) {
    lapic.pendingInit = false;
    vcpu.init();
    vcpu.mpState = vcpu.apicBase & MSR_IA32_APICBASE_BSP ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_INIT_RECEIVED;
  }
  if (!lapic.pendingSipi) return;
  lapic.pendingSipi = false;
  if (vcpu.mpState !== KVM_MP_STATE_INIT_RECEIVED) return;
  vcpu.cpu.startup(lapic.sipiVector);
  vcpu.mpState = KVM_MP_STATE_RUNNABLE;
}

/** kvm_vcpu_has_events: there is something a vCPU that sleeps wakes up for. */
export function hasEvents(vcpu: Vcpu): boolean {
  const { cpu, lapic } = vcpu;
  const { exception, nmi } = cpu.events;
  if (vcpu.pvUnhalted || vcpu.tripleFault || exception.pending) return true;
  if (vcpu.nmiRequested || (nmi.pending > 0 && !nmi.masked && cpu.shadow === 0)) return true;
  if (cpu.smi.requested || (cpu.smi.pending && !cpu.smi.active)) return true;
  if (lapic === undefined) return false;
  if ((cpu.flags() & IF) !== 0 && cpu.shadow === 0 && lapic.hasInterrupt) return true;
  return (lapic.pendingInit || lapic.pendingSipi) && initAllowed(vcpu);
}

/**
 * vcpu_block, as often as somebody looks: true when the vCPU can go on. A halted one becomes runnable; one that waits for a SIPI stays as it
 * is until that comes.
 */
export function runnable(vcpu: Vcpu): boolean {
  acceptApicEvents(vcpu);
  vcpu.lapic?.timer.inject(vcpu.mpState === KVM_MP_STATE_RUNNABLE);
  if (vcpu.mpState === KVM_MP_STATE_RUNNABLE) return true;
  if (!hasEvents(vcpu)) return false;
  if (vcpu.mpState !== KVM_MP_STATE_HALTED && vcpu.mpState !== KVM_MP_STATE_AP_RESET_HOLD) return false;
  vcpu.pvUnhalted = false;
  vcpu.mpState = KVM_MP_STATE_RUNNABLE;
  return true;
}

/** KVM_GET_MP_STATE: INIT and SIPI that wait are processed first. A vCPU that KVM_HC_KICK_CPU has woken is runnable already. */
export function getMpState(vcpu: Vcpu, p: Process, arg: bigint): number {
  acceptApicEvents(vcpu);
  const asleep = vcpu.mpState === KVM_MP_STATE_HALTED || vcpu.mpState === KVM_MP_STATE_AP_RESET_HOLD;
  const bytes = kvm_mp_state.encode({ mp_state: asleep && vcpu.pvUnhalted ? KVM_MP_STATE_RUNNABLE : vcpu.mpState });
  return p.mm.copyTo(arg, bytes) ? 0 : -EFAULT;
}

/** KVM_SET_MP_STATE: RUNNABLE always, others with an in-kernel local APIC. SIPI_RECEIVED is INIT_RECEIVED with a SIPI on its way. That INIT is blocked is KVM_RUN's to say. */
export function setMpState(vcpu: Vcpu, p: Process, arg: bigint): number {
  const state = p.mm.read32(arg);
  if (state === null) return -EFAULT;
  const { lapic } = vcpu;
  if (state !== KVM_MP_STATE_RUNNABLE && !(WITH_LAPIC.has(state) && lapic !== undefined)) return -EINVAL;
  const waits = state === KVM_MP_STATE_INIT_RECEIVED || state === KVM_MP_STATE_SIPI_RECEIVED;
  const blocked = !initAllowed(vcpu) || vcpu.cpu.smi.pending;
  if (waits && blocked && !has(vcpu.vm.machine, 'blockedInitRefusedByRun')) return -EINVAL;
  if (state === KVM_MP_STATE_SIPI_RECEIVED) {
    vcpu.mpState = KVM_MP_STATE_INIT_RECEIVED;
    lapic!.pendingSipi = true;
  } else vcpu.mpState = state;
  lapic?.refresh();
  vcpu.system.runner.wake();
  return 0;
}
