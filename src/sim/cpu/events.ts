/** Exceptions, NMIs, SMIs and interrupts on their way into the guest: which one is next, and what KVM remembers of it. */
import { KVM_GUESTDBG_BLOCKIRQ } from '../../uapi/kvm.ts';
import type { InjectKind } from './bus.ts';
import { Code } from './code.ts';
import { ABANDON, DB, type Fault } from './fault.ts';
import { deliver, type Event, TRIPLE_FAULT } from './interrupts.ts';
import { enterSmm } from './smm.ts';
import { IF, IP, IP_HI, RF, RSP } from './state.ts';

/** #DB, NMI, #BP, #OF, #DF, #MC are no faults. */
const NO_FAULTS = new Set([DB, 2, 3, 4, 8, 18]);
const ERROR_CODES = new Set([8, 10, 11, 12, 13, 14, 17, 21]);
const PREFIXES = new Set([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3]);
/** #BP and #OF: instructions raise them, KVM never tells them as injected. */
const isSoft = (vector: number): boolean => vector === 3 || vector === 4;

export abstract class Events extends Code {
  /** The INTR line: while set, `bus.acknowledge` is asked for a vector as soon as IF and the shadow let one through. */
  intr = false;
  /** NMIs and INTR are looked for between any two instructions; in turns (see `beginTurn`) once, as a turn begins. */
  private toLook = true;
  private inTurns = false;
  /** This turn has had its event: what else was injected waits for the next. */
  private delivered = false;
  /** A fault of the guest's own is being delivered. */
  protected faulted = false;

  /** `kvm_run.ready_for_interrupt_injection` without an in-kernel PIC: IF, no shadow, nothing on its way in. */
  get interruptible(): boolean {
    const { interrupt, nmi } = this.events;
    return (this.fl & IF) !== 0 && this.shadow === 0 && !this.excepted && !interrupt.injected && !nmi.injected;
  }

  /** KVM's emulator begins another turn of instructions: NMIs and interrupts that wait are looked at now, and then not until the next one. */
  beginTurn(): void {
    this.turnBegan = this.executed;
    this.inTurns = this.toLook = true;
    this.delivered = false;
  }

  /** Queues an event to be delivered by the next `run`, whatever IF and the shadow say; replaces one of its kind. */
  inject(vector: number, kind: InjectKind, errorCode?: number): void {
    const { exception, interrupt, nmi } = this.events;
    if (kind === 'exception') {
      Object.assign(exception, { injected: true, nr: vector, hasErrorCode: errorCode !== undefined, errorCode: errorCode ?? 0 });
    } else if (kind === 'nmi') nmi.injected = true;
    else Object.assign(interrupt, { injected: true, nr: vector, soft: kind === 'soft' });
  }

  /** An exception is on its way in. */
  protected get excepted(): boolean {
    return this.events.exception.injected || this.events.exception.pending;
  }

  /** An interrupt or NMI that was injected waits for the next turn. */
  get reinjects(): boolean {
    return this.events.interrupt.injected || this.events.nmi.injected;
  }

  private get eventInjected(): boolean {
    return this.excepted || this.events.interrupt.injected || this.events.nmi.injected;
  }

  /** KVM makes a pending NMI an injected one before it knows whether it can enter the guest. */
  acceptNmi(): void {
    const { nmi } = this.events;
    if (nmi.injected && !this.excepted) nmi.masked = true;
    if (nmi.pending === 0 || nmi.masked || this.shadow !== 0 || this.eventInjected) return;
    nmi.pending--;
    nmi.injected = nmi.masked = true;
  }

  /** Delivers what is injected, then accepts an NMI or an external interrupt if the guest can take one. */
  protected takeEvents(): boolean {
    // The instruction that waited for data from outside comes to its end first.
    if (this.replay.length > 0) return false;
    const { smi } = this;
    const { exception, interrupt, nmi } = this.events;
    if (smi.requested) Object.assign(smi, { requested: false, pending: true });
    // What finds something on its way in already waits; in turns, for the next one.
    const ready = this.toLook && !this.eventInjected && !(this.guestDebug.control & KVM_GUESTDBG_BLOCKIRQ);
    if (this.inTurns && !this.native) this.toLook = false;
    if (ready && smi.pending && !smi.active) {
      this.ip0 = this.r32[IP]!;
      this.ip0High = this.r32[IP_HI]!;
      enterSmm(this);
      return true;
    }
    if (ready && this.shadow === 0) {
      if (nmi.pending > 0 && !nmi.masked) {
        nmi.pending--;
        nmi.injected = true;
      } else if (this.intr && this.fl & IF) {
        const vector = this.bus.acknowledge?.() ?? -1;
        if (vector >= 0) Object.assign(interrupt, { injected: true, nr: vector, soft: false });
      }
    }
    if (!this.eventInjected || (this.inTurns && this.delivered)) return false;
    this.delivered = true;
    this.ip0 = this.r32[IP]!;
    this.ip0High = this.r32[IP_HI]!;
    let event: Event;
    if (this.excepted) {
      if (exception.pending) this.resumes(exception.nr);
      event = {
        vector: exception.nr,
        errorCode: this.injectedCode(),
        soft: false,
        ip: this.rip0,
      };
    } else if (nmi.injected) {
      event = { vector: 2, errorCode: -1, soft: false, ip: this.rip0, benign: true };
      nmi.masked = true;
    } else if (interrupt.soft && !this.emulated && this.peekCode().length === 0) {
      // SVM needs the address behind INT n: where it cannot be read, the interrupt is lost.
      interrupt.injected = false;
      return false;
    } else {
      event = { vector: interrupt.nr, errorCode: -1, soft: interrupt.soft, ip: this.rip0, benign: true };
    }
    this.shadow = 0;
    const soft = event.soft || (this.excepted && isSoft(event.vector));
    const taken = !soft || this.emulated || this.passSoft(event.vector);
    if (taken) this.deliver(soft && !this.emulated ? { ...event, ip: this.rip } : event);
    // On hardware one event is injected and all are forgotten.
    const all = !this.emulated;
    const excepted = this.excepted;
    if (all || (!excepted && !nmi.injected)) interrupt.injected = false;
    if (all || !excepted) nmi.injected = false;
    exception.injected = exception.pending = false;
    return true;
  }

  /** The error code an injected exception pushes; QEMU's processor goes by the vector. */
  private injectedCode(): number {
    const { hasErrorCode, errorCode, nr } = this.events.exception;
    const has = this.qemu ? ERROR_CODES.has(nr) : hasErrorCode;
    if (!has || !this.protectedMode) return -1;
    return hasErrorCode ? errorCode : 0;
  }

  /**
   * INT3, INTO or INT n injected anew push the address behind them: RIP is moved past the instruction. False: it is another one, and KVM drops
   * the event.
   */
  private passSoft(vector: number): boolean {
    const bytes = this.peekCode();
    const at = bytes.findIndex((byte) => !PREFIXES.has(byte));
    const is =
      vector === 3 && bytes[at] === 0xcc
        ? 1
        : vector === 4 && bytes[at] === 0xce
          ? 1
          : bytes[at] === 0xcd && bytes[at + 1] === vector
            ? 2
            : 0;
    if (is === 0) return false;
    this.pass(at + is);
    return true;
  }

  /** Delivers an event. KVM gives up, with a triple fault, where the table or the stack it needs to read is MMIO. */
  protected deliver(event: Event): void {
    try {
      deliver(this, event);
      // In real mode KVM's emulator injects with a 16-bit stack pointer, and leaves nothing of the rest.
      if (this.emulated && !this.protectedMode) this.setReg(RSP, BigInt(this.r32[RSP]! & 0xffff));
    } catch (e) {
      if (e === ABANDON && this.outcome?.kind === 'internalError' && (this.faulted || this.excepted)) {
        // It will be injected again.
        const { vector: nr, errorCode } = event;
        const hasErrorCode = errorCode >= 0;
        // KVM has set RF as it took the fault from those that were pending.
        if (!this.emulated && !this.events.exception.injected) this.fl |= RF;
        Object.assign(this.events.exception, {
          injected: true,
          pending: false,
          nr,
          hasErrorCode,
          errorCode: Math.max(errorCode, 0),
        });
        this.faulted = false;
      } else if (e === ABANDON && this.outcome?.kind === 'internalError' && this.events.interrupt.injected) this.emulateInstead();
      if (e !== ABANDON || this.outcome?.kind !== 'mmio') throw e;
      this.outcome = null;
      this.wanted = null;
      this.stop = 0;
      throw TRIPLE_FAULT;
    }
  }

  /**
   * An external interrupt is of type 0 in SVM's EXITINTINFO, which KVM does not take for an event: it emulates the instruction at RIP as if that
   * had needed the memory.
   */
  private emulateInstead(): void {
    if (this.peekCode().length > 0) throw this.notModelled('an interrupt delivered to what is no RAM');
    const { outcome } = this;
    if (outcome?.kind === 'internalError') this.outcome = { ...outcome, suberror: 1 };
  }

  /** KVM's emulator hands its faults to KVM, which tells the last one for ever (KVM_GET_VCPU_EVENTS). */
  protected queued({ vector, errorCode }: Pick<Fault, 'vector' | 'errorCode'>): void {
    this.turnBegan = this.executed;
    const hasErrorCode = this.protectedMode && errorCode >= 0;
    Object.assign(this.events.exception, {
      nr: vector,
      hasErrorCode,
      errorCode: Math.max(errorCode, 0),
      hasPayload: false,
      payload: 0n,
    });
  }

  /** A fault that KVM injects is pushed with RF set, so that a breakpoint on the instruction does not hit again. */
  protected resumes(vector: number): void {
    if (!NO_FAULTS.has(vector)) this.fl |= RF;
  }
}
