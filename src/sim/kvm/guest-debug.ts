import { KVM_GUESTDBG_INJECT_BP, KVM_GUESTDBG_INJECT_DB, kvm_guest_debug } from '../../uapi/kvm.ts';
import { EBUSY, EFAULT } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import { setGuestDebug as debug } from '../cpu/debug.ts';
import type { Process } from '../process.ts';
import { viewOf } from './regs.ts';
import type { Vcpu } from './vcpu.ts';

const DEBUGREG: number = kvm_guest_debug.offsetOf('arch.debugreg');

const INJECT: number = KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP;

/** KVM_SET_GUEST_DEBUG: no bit of control is unknown. */
export function setGuestDebug(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_guest_debug.size);
  if (bytes === null) return -EFAULT;
  const view = viewOf(bytes);
  const debugreg = BigUint64Array.from({ length: 8 }, (_, n) => view.getBigUint64(DEBUGREG + n * 8, true));
  const control = view.getUint32(0, true);
  if (control & INJECT) {
    if (vcpu.tripleFault) return -EBUSY;
    // Linux 6.18 looks for pending exceptions only: an injected one is replaced.
    if (!has(vcpu.vm.machine, 'injectedIsPending')) vcpu.cpu.events.exception.injected = false;
  }
  return debug(vcpu.cpu, control, debugreg) ? 0 : -EBUSY;
}
