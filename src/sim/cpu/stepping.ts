/** Single steps and breakpoints on execution, the guest's own (TF, DR7) and the host's (KVM_SET_GUEST_DEBUG), as execution meets them. */

import type { Outcome } from './bus.ts';
import { type CodeBreak, codeBreaks, linearRip, setTrace, stepping } from './debug.ts';
import { Events } from './events.ts';
import { DB, Fault, STOP_EXIT } from './fault.ts';
import { IP, IP_HI, RF, TF } from './state.ts';

const DR6_INIT = 0xffff0ff0n;
const DR6_BS = 0x4000n;
/** B0 … B3, BD, BS, BT. */
const DR6_TRAPS = 0xe00fn;
/** Offset in `struct kvm_regs`. */
const RFLAGS = 136;

export abstract class Stepping extends Events {
  /** The OUT that has left for userspace was executed under TF. */
  protected tracedSkip = false;
  protected breaks: readonly CodeBreak[] = [];

  override debugChanged(live: boolean): void {
    this.breaks = codeBreaks(this, live);
    this.endBlock();
  }

  /** A breakpoint on the instruction to come: an exit of the host's, or #DB as a fault. RF lets one instruction pass. */
  protected breaksHere(): boolean {
    const at = linearRip(this);
    for (const own of [false, true]) {
      let bits = 0n;
      for (const one of this.breaks) if (one.own === own && one.at === at) bits |= one.bit;
      if (bits === 0n || (this.fl & RF && (own || !this.emulated))) continue;
      if (!own) {
        this.outcome = {
          kind: 'debug',
          exception: DB,
          pc: at,
          dr6: DR6_INIT | bits,
          ...(this.emulated ? {} : { dr7: this.guestDebug.dr7 }),
        };
        this.stop |= STOP_EXIT;
        return true;
      }
      this.dr[6] = (this.dr[6]! & ~DR6_TRAPS) | DR6_INIT | bits;
      throw new Fault(DB);
    }
    return false;
  }

  /** KVM has moved RIP past an instruction that left for userspace, under TF: it steps now. */
  protected stepSkipped(): Outcome | null {
    if (!this.tracedSkip) return null;
    this.tracedSkip = false;
    if (stepping(this)) return { kind: 'debug', exception: DB, pc: linearRip(this), dr6: DR6_INIT | DR6_BS };
    this.queueStep();
    return null;
  }

  /** kvm_queue_exception_p: DR6 has it once the #DB goes in, or is asked for. */
  private queueStep(): void {
    Object.assign(this.events.exception, {
      pending: true,
      nr: DB,
      hasErrorCode: false,
      errorCode: 0,
      hasPayload: true,
      payload: DR6_BS,
    });
  }

  /** An instruction has been executed under TF, or stepped by the host. */
  protected trace(host: boolean): void {
    const halts = this.outcome?.kind === 'hlt';
    if (host && halts) this.outcome = null;
    else if (this.stop & STOP_EXIT && (this.emulated || halts)) {
      // The emulator steps only what does not leave for userspace; HLT leaves afterwards, with the #DB still to be delivered.
      if (!halts || stepping(this)) return;
      this.queueStep();
      return;
    }
    if (host) {
      this.outcome = { kind: 'debug', exception: DB, pc: linearRip(this), dr6: DR6_INIT | DR6_BS };
      this.stop |= STOP_EXIT;
      return;
    }
    if (this.skip !== null) {
      this.tracedSkip = true;
      return;
    }
    if (!this.emulated && (this.qemu ? this.shadow : this.shadow & 1)) return;
    if (stepping(this) && !(this.stop & STOP_EXIT)) {
      this.outcome = { kind: 'debug', exception: DB, pc: linearRip(this), dr6: DR6_INIT | DR6_BS, dr7: this.dr[7]! };
      this.stop |= STOP_EXIT;
      return;
    }
    this.debugException(DR6_BS);
  }

  /** #DB as a trap, RIP behind the instruction. */
  private debugException(dr6: bigint): void {
    this.dr[6] = this.dr[6]! | dr6;
    this.queued({ vector: DB, errorCode: -1 });
    this.ip0 = this.r32[IP]!;
    this.ip0High = this.r32[IP_HI]!;
    this.deliver({ vector: DB, errorCode: -1, soft: false, ip: this.rip0 });
  }

  override storeRegs(view: DataView, at: number): void {
    super.storeRegs(view, at);
    if (stepping(this)) view.setInt32(at + RFLAGS, view.getInt32(at + RFLAGS, true) & ~TF, true);
  }

  override loadRegs(view: DataView, at: number): void {
    super.loadRegs(view, at);
    if (stepping(this)) setTrace(this, (this.fl & TF) !== 0);
  }
}
