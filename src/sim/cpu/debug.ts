/** Debugging by the host: KVM_SET_GUEST_DEBUG, and what of it shows in registers. */
import {
  KVM_GUESTDBG_ENABLE,
  KVM_GUESTDBG_INJECT_BP,
  KVM_GUESTDBG_INJECT_DB,
  KVM_GUESTDBG_SINGLESTEP,
  KVM_GUESTDBG_USE_HW_BP,
} from '../../uapi/kvm.ts';
import type { Core } from './core.ts';
import { BP, DB } from './memory.ts';
import { CS, TF } from './state.ts';

export const linearRip = (c: Core): bigint => {
  const base = c.longMode && c.segments[CS]!.l ? 0n : c.segments[CS]!.base;
  const linear = base + c.rip;
  return c.longMode && c.segments[CS]!.l ? linear : linear & 0xffffffffn;
};

export const stepping = (c: Core): boolean => (c.guestDebug.control & KVM_GUESTDBG_SINGLESTEP) !== 0;

/**
 * KVM_SET_GUEST_DEBUG; `debugreg` has eight values. False (EBUSY): an exception to inject, and another is on its way. Without
 * KVM_GUESTDBG_ENABLE debugging ends, but the injection is done.
 */
export function setGuestDebug(c: Core, control: number, debugreg: BigUint64Array): boolean {
  const { exception } = c.events;
  if (control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP)) {
    if (exception.pending || exception.injected) return false;
    const nr = control & KVM_GUESTDBG_INJECT_DB ? DB : BP;
    Object.assign(exception, { pending: true, nr, hasErrorCode: false, errorCode: 0, hasPayload: false, payload: 0n });
  }
  const { guestDebug } = c;
  const traced = (c.fl & TF) !== 0 && !stepping(c);
  guestDebug.control = control & KVM_GUESTDBG_ENABLE ? control : 0;
  if (guestDebug.control & KVM_GUESTDBG_USE_HW_BP) {
    guestDebug.db.set(debugreg.subarray(0, 4));
    guestDebug.dr7 = debugreg[7]!;
  }
  if (stepping(c)) guestDebug.steppedFrom = linearRip(c);
  setTrace(c, traced);
  return true;
}

/** RFLAGS.TF as KVM writes it: besides the guest's own, set while RIP is where stepping was asked for. The emulator counts for itself. */
export function setTrace(c: Core, guests: boolean): void {
  const hosts = stepping(c) && !c.emulated && linearRip(c) === c.guestDebug.steppedFrom;
  if (c.emulated && stepping(c)) guests = false;
  c.fl = guests || hosts ? c.fl | TF : c.fl & ~TF;
}
