/** Debugging by the host: KVM_SET_GUEST_DEBUG, and what of it shows in registers. */
import {
  KVM_GUESTDBG_ENABLE,
  KVM_GUESTDBG_INJECT_BP,
  KVM_GUESTDBG_INJECT_DB,
  KVM_GUESTDBG_SINGLESTEP,
  KVM_GUESTDBG_USE_HW_BP,
} from '../../uapi/kvm.ts';
import type { Core } from './core.ts';
import { BP, DB } from './fault.ts';
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
  c.debugChanged(false);
  if (stepping(c)) guestDebug.steppedFrom = linearRip(c);
  setTrace(c, traced);
  return true;
}

/** RFLAGS.TF as KVM writes it: besides the guest's own, set while RIP is where stepping was asked for. */
export function setTrace(c: Core, guests: boolean): void {
  const hosts = stepping(c) && linearRip(c) === c.guestDebug.steppedFrom;
  c.fl = guests || hosts ? c.fl | TF : c.fl & ~TF;
}

/** Enabled breakpoints on execution: DR6's bit for each address. `own`: the guest's. */
export interface CodeBreak {
  readonly at: bigint;
  readonly bit: bigint;
  readonly own: boolean;
}

function enabled(dr7: bigint, addresses: BigUint64Array, own: boolean): CodeBreak[] {
  const found: CodeBreak[] = [];
  for (let n = 0; n < 4; n++) {
    const on = (dr7 >> BigInt(2 * n)) & 3n;
    const kind = (dr7 >> BigInt(16 + 4 * n)) & 15n;
    if (on && kind === 0n) found.push({ at: addresses[n]!, bit: 1n << BigInt(n), own });
  }
  return found;
}

/** Whether a DR7 has breakpoints on data enabled, or on ports. */
export const watchesData = (dr7: bigint): boolean =>
  [0n, 1n, 2n, 3n].some((n) => (dr7 >> (2n * n)) & 3n && (dr7 >> (16n + 4n * n)) & 3n);

/**
 * Breakpoints on execution that hit here: in KVM's emulator the host's come first and the guest's beside them; the processor has one set of
 * registers, and QEMU's looks only at what an instruction of the guest's has put there.
 */
export function codeBreaks(c: Core, live: boolean): CodeBreak[] {
  const { guestDebug } = c;
  const host = guestDebug.control & KVM_GUESTDBG_USE_HW_BP ? enabled(guestDebug.dr7, guestDebug.db, false) : [];
  const own = enabled(c.dr[7]!, c.dr, true);
  if (c.emulated) return [...host, ...own];
  if (c.qemu) return live && host.length === 0 ? own : [];
  return guestDebug.control & KVM_GUESTDBG_USE_HW_BP ? host : own;
}

/** A processor would look at every access for the host's breakpoints, or else the guest's. QEMU's looks for those only that its guest has written. */
export function processorWatchesData(c: Core): boolean {
  if (c.emulated || c.qemu) return false;
  const { control, dr7 } = c.guestDebug;
  return watchesData(control & KVM_GUESTDBG_USE_HW_BP ? dr7 : c.dr[7]!);
}
