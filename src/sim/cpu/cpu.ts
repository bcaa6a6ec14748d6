/**
 * The vCPU: entry, the run loop, and the protocol by which exits are completed.
 *
 *   const cpu = new Cpu(bus);
 *   cpu.loadSregs(view, at); cpu.loadRegs(view, at);
 *   for (;;) { const outcome = cpu.run(100_000); … }
 *
 * After an 'io' in or an 'mmio' read outcome the next `run` needs `completeIo` or `completeMmio` first; `run(0)` does what is pending and no
 * more (KVM_RUN with immediate_exit).
 */
export type {
  CpuBus,
  CpuEvents,
  CpuidResult,
  CpuOptions,
  GuestDebug,
  Hypercall,
  InjectKind,
  MsrExit,
  Outcome,
  PageAccess,
  RamPage,
} from './bus.ts';
export type { Segment } from './state.ts';

import { KVM_GUESTDBG_BLOCKIRQ } from '../../uapi/kvm.ts';
import { Block, CodePage, MAX_BLOCK } from './blocks.ts';
import type { InjectKind, Outcome } from './bus.ts';
import { Core } from './core.ts';
import { type CodeBreak, codeBreaks, linearRip, setTrace, stepping } from './debug.ts';
import { Decoder } from './decode.ts';
import { ABANDON, DB, Fault, GP, REDO, STOP_BLOCK, STOP_EXIT } from './fault.ts';
import type { Insn } from './insn.ts';
import { deliver, type Event, TRIPLE_FAULT } from './interrupts.ts';
import type { PhysicalPage } from './mmu.ts';
import { FETCH } from './paging.ts';
import { enterSmm } from './smm.ts';
import { CANONICAL_LOW, CANONICAL_TOP, CS, IF, IP, IP_HI, RDX, RF, RSP, TF, VM } from './state.ts';

/** The most one call of `run` executes. */
const MAX_FUEL = 2 ** 30;
const DR6_INIT = 0xffff0ff0n;
const DR6_BS = 0x4000n;
/** B0 … B3, BD, BS, BT. */
const DR6_TRAPS = 0xe00fn;
const CD_NW = 0x6000_0000;
/** Exceptions KVM intercepts on hardware and injects itself: #DB, #UD, #AC. */
const INTERCEPTED = new Set([DB, 6, 17]);
/** #DB, NMI, #BP, #OF, #DF, #MC are no faults. */
const NO_FAULTS = new Set([DB, 2, 3, 4, 8, 18]);
const ERROR_CODES = new Set([8, 10, 11, 12, 13, 14, 17, 21]);
const PREFIXES = new Set([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3]);
/** #BP and #OF: instructions raise them, KVM never tells them as injected. */
const isSoft = (vector: number): boolean => vector === 3 || vector === 4;
/** Offset in `struct kvm_regs`. */
const RFLAGS = 136;
const FUEL: Outcome = { kind: 'fuel' };

export class Cpu extends Core {
  /** The INTR line: while set, `bus.acknowledge` is asked for a vector as soon as IF and the shadow let one through. */
  intr = false;
  /** Ask for an 'irqWindow' outcome as soon as an external interrupt could be taken. */
  windowRequested = false;
  /** NMIs and INTR are looked for between any two instructions; in turns (see `beginTurn`) once, as a turn begins. */
  private toLook = true;
  private inTurns = false;
  /** This turn has had its event: what else was injected waits for the next. */
  private delivered = false;
  /** The OUT that has left for userspace was executed under TF. */
  private tracedSkip = false;
  private breaks: readonly CodeBreak[] = [];

  private epoch = 0;
  private readonly decoder = new Decoder();
  private readonly codePages = new Map<number, CodePage>();
  /** The page last executed from: its linear number and its blocks. */
  private codeLinear = -1;
  private codeHigh = 0;
  private codePage: CodePage | null = null;
  private codeBlocks: (Block | undefined)[] = [];
  /** The instruction being executed; while it waits for data from outside, the one that will be finished, whatever its bytes are by then. */
  private current: Insn | null = null;
  /** A fault of the guest's own is being delivered. */
  private faulted = false;
  private executedBefore = 0;
  private fuelAtEntry = 0;

  /** Instructions, and iterations of string instructions, executed since creation. */
  get executed(): number {
    return this.executedBefore + this.fuelAtEntry - this.fuel;
  }

  /** True while an exit waits for the next `run`: data of an IN or MMIO read, further MMIO fragments, an OUT not yet skipped. */
  get pending(): boolean {
    return this.wanted !== null || this.replay.length > 0 || this.stores.length > 0 || this.skip !== null;
  }

  /** How many low bits of RCX, RSI and RDI the instruction that waits for data counts in: its address size. */
  get countedBits(): number {
    return (this.current?.asize ?? 8) * 8;
  }

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

  /** Hands over the data of an 'io' in outcome: size × count bytes. */
  completeIo(data: Uint8Array): void {
    this.supply(data, 'in ');
  }

  /** Hands over the data of an 'mmio' read outcome: `len` bytes. */
  completeMmio(data: Uint8Array): void {
    this.supply(data, 'mmio ');
  }

  /** Answers a 'hypercall' outcome: what RAX becomes. */
  completeHypercall(ret: bigint): void {
    const data = new Uint8Array(8);
    new DataView(data.buffer).setBigUint64(0, BigInt.asUintN(64, ret), true);
    this.supply(data, 'hypercall');
  }

  /** Answers an 'msr' outcome: `error` makes the guest take #GP(0); `data` is what was read. */
  completeMsr(error: boolean, data = 0n): void {
    const answer = new Uint8Array(9);
    answer[0] = Number(error);
    new DataView(answer.buffer).setBigUint64(1, BigInt.asUintN(64, data), true);
    this.supply(answer, 'msr');
  }

  /** INIT: registers as at reset, what was on its way in is lost. CR0.CD and NW, CR8, SMBASE stay; RDX is the `signature` CPUID gives. */
  init(signature: number): void {
    const { cr8 } = this;
    const kept = this.cr0 & CD_NW;
    this.reset();
    this.cr8 = cr8;
    this.cr0 = ((this.cr0 & ~CD_NW) | kept) >>> 0;
    this.setReg(RDX, BigInt(signature >>> 0));
    const { exception, interrupt, nmi } = this.events;
    exception.injected = exception.pending = interrupt.injected = nmi.injected = false;
    nmi.pending = 0;
    Object.assign(this.smi, { requested: false, pending: false, insideNmi: false });
    this.setSmm(false);
    this.shadow = 0;
    this.abandonPending();
  }

  /** SIPI: CS:IP = vector × 256:0. */
  startup(vector: number): void {
    Object.assign(this.segments[CS]!, { selector: vector << 8, base: BigInt(vector << 12) });
    this.refreshSegment(CS);
    this.rip = 0n;
  }

  /** System management mode sees other memory: nothing of what is remembered of pages stays. */
  setSmm(active: boolean): void {
    if (this.smi.active === active) return;
    this.smi.active = active;
    this.forgetPages();
  }

  override debugChanged(live: boolean): void {
    this.breaks = codeBreaks(this, live);
    this.endBlock();
  }

  /** A breakpoint on the instruction to come: an exit of the host's, or #DB as a fault. RF lets one instruction pass. */
  private breaksHere(): boolean {
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

  override storeRegs(view: DataView, at: number): void {
    super.storeRegs(view, at);
    if (stepping(this)) view.setInt32(at + RFLAGS, view.getInt32(at + RFLAGS, true) & ~TF, true);
  }

  override loadRegs(view: DataView, at: number): void {
    super.loadRegs(view, at);
    if (stepping(this)) setTrace(this, (this.fl & TF) !== 0);
  }

  private supply(data: Uint8Array, prefix: string): void {
    if (this.wanted === null || !this.wanted.startsWith(prefix)) throw new Error('the CPU does not wait for this data');
    if (data.length < this.wantedLength) throw new RangeError(`the CPU waits for ${this.wantedLength} bytes, not ${data.length}`);
    this.replay.push({ key: this.wanted, data: data.slice(0, this.wantedLength) });
    this.wanted = null;
  }

  /** Forgets an exit that waits for completion (KVM: SET_REGS in between may lose the data). */
  abandonPending(): void {
    this.wanted = null;
    this.stores.length = 0;
    this.skip = null;
    this.settle();
  }

  /**
   * Executes up to `fuel` instructions (at most 2^30), first finishing what the last exit left. `run(0)` only finishes that.
   */
  run(fuel: number): Outcome {
    this.executedBefore = this.executed;
    this.fuelAtEntry = this.fuel = Math.min(Math.max(fuel, 0), MAX_FUEL);
    this.begin();
    const fragment = this.stores.shift();
    if (fragment) return fragment;
    const stepped = this.finishSkip();
    if (stepped) return stepped;
    if (this.wanted !== null) throw new Error('the CPU waits for the data of its last exit');
    if (this.replay.length > 0 && this.fuel === 0) {
      // Finishing costs one instruction even where none was asked for.
      this.fuelAtEntry = this.fuel = 1;
    }
    return this.loop();
  }

  /** Ends the `run` under way after this instruction: something outside wants to look. */
  yield(): void {
    this.fuelAtEntry -= this.fuel - 1;
    this.fuel = 1;
  }

  /** Lets the time of `fuel` instructions pass without executing any. */
  spin(fuel: number): Outcome {
    this.executedBefore = this.executed;
    this.fuelAtEntry = fuel;
    this.fuel = 0;
    return FUEL;
  }

  private begin(): void {
    this.epoch++;
    this.codeLinear = -1;
    this.outcome = null;
    this.stop = 0;
    this.leaveUnlessWaiting();
    this.sync();
    // Data obtained from outside is used even if the address has become RAM meanwhile: nothing may bypass the replay.
    if (this.replay.length > 0) this.flushTlb();
  }

  private finishSkip(): Outcome | null {
    const skip = this.skip;
    this.skip = null;
    this.ip0 = this.r32[IP]!;
    this.ip0High = this.r32[IP_HI]!;
    if (!skip || this.linear0 !== skip.linear) {
      this.tracedSkip = false;
      return null;
    }
    this.pass(skip.length);
    this.shadow = 0;
    return this.stepSkipped();
  }

  /** KVM has moved RIP past an instruction that left for userspace, under TF: it steps now. */
  private stepSkipped(): Outcome | null {
    if (!this.tracedSkip) return null;
    this.tracedSkip = false;
    if (stepping(this)) return { kind: 'debug', exception: DB, pc: linearRip(this), dr6: DR6_INIT | DR6_BS };
    this.dr[6] = this.dr[6]! | DR6_BS;
    Object.assign(this.events.exception, { pending: true, nr: DB, hasErrorCode: false, errorCode: 0, payload: 0n });
    return null;
  }

  private unsupported(): string | null {
    if (this.paging.levels === 5) return 'five-level paging';
    if (this.fl & VM) return 'virtual-8086 mode';
    return null;
  }

  private loop(): Outcome {
    const mode = this.unsupported();
    if (mode !== null) return { kind: 'notModelled', description: mode, bytes: new Uint8Array(0) };
    while (this.fuel > 0) {
      try {
        if (this.takeEvents()) continue;
        if (this.windowRequested && this.interruptible) return { kind: 'irqWindow' };
        this.executeBlock();
      } catch (e) {
        if (e === REDO) {
          this.rewind();
          this.stores.length = 0;
          this.replayed = 0;
          this.stop = 0;
          continue;
        }
        const fatal = this.recover(e);
        if (fatal) return fatal;
      }
      this.leaveUnlessWaiting();
      if (this.stop & STOP_EXIT) {
        const exit = this.takeExit();
        if (exit) return exit;
      }
      this.stop = 0;
    }
    return FUEL;
  }

  /** The emulator keeps an instruction until what it waits for has come. */
  private leaveUnlessWaiting(): void {
    if (!this.emulating || this.wanted !== null || this.replay.length > 0) return;
    this.leaveEmulator();
    this.codePages.clear();
    this.codeLinear = -1;
  }

  /** The exit an instruction made: its own, or the first of its stores to MMIO. */
  private takeExit(): Outcome | null {
    const outcome = this.outcome;
    this.outcome = null;
    if (outcome) return outcome;
    return this.stores.shift() ?? null;
  }

  /** An instruction did not come to its end: restores IP and delivers a fault. Returns the exit that ends the run, if any. */
  private recover(e: unknown): Outcome | null {
    this.rewind();
    this.stores.length = 0;
    try {
      if (e === ABANDON) {
        this.replayed = 0;
        if (this.outcome?.kind === 'notModelled') this.settle();
        return null;
      }
      if (e === TRIPLE_FAULT) return this.shutDown();
      if (!(e instanceof Fault)) throw e;
      if (this.fuel > 0) this.fuel--;
      this.shadow = 0;
      if (this.emulated && stepping(this)) setTrace(this, false);
      // KVM remembers the exceptions it injects itself: all of them where it emulates.
      if (this.emulated || e.ofKvm || INTERCEPTED.has(e.vector)) {
        this.queued(e);
        this.resumes(e.vector);
      }
      this.faulted = true;
      this.deliver({ vector: e.vector, errorCode: this.protectedMode ? e.errorCode : -1, soft: false, ip: this.rip0 });
      this.settle();
      this.faulted = false;
      return null;
    } catch (e2) {
      if (e2 === TRIPLE_FAULT) return this.shutDown();
      if (e2 !== ABANDON) throw e2;
      this.rewind();
      this.replayed = 0;
      return null;
    }
  }

  /** KVM's emulator hands its faults to KVM, which tells the last one for ever (KVM_GET_VCPU_EVENTS). */
  private queued({ vector, errorCode }: Pick<Fault, 'vector' | 'errorCode'>): void {
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
  private resumes(vector: number): void {
    if (!NO_FAULTS.has(vector)) this.fl |= RF;
  }

  /** What was on its way in is lost. */
  private shutDown(): Outcome {
    const { exception, interrupt, nmi } = this.events;
    exception.injected = exception.pending = interrupt.injected = nmi.injected = false;
    this.rewind();
    this.faulted = false;
    this.settle();
    return { kind: 'shutdown' };
  }

  /** Delivers an event. KVM gives up, with a triple fault, where the table or the stack it needs to read is MMIO. */
  private deliver(event: Event): void {
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

  /** An exception is on its way in. */
  private get excepted(): boolean {
    return this.events.exception.injected || this.events.exception.pending;
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
  private takeEvents(): boolean {
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

  private executeBlock(): void {
    const r = this.r32;
    const start = r[IP]!;
    this.ip0 = start;
    this.ip0High = r[IP_HI]!;
    if (this.replay.length > 0 && this.current !== null) {
      this.executeOne(this.current);
      return;
    }
    if (this.breaks.length > 0 && this.breaksHere()) return;
    const { long } = this;
    if (this.paging.smap) this.selectTlb();
    const linear = long ? start : (start + this.segBase[CS]!) | 0;
    if (linear >>> 12 !== this.codeLinear || (long && this.ip0High !== this.codeHigh)) this.enterPage(linear);
    let block = this.codeBlocks[linear & 0xfff];
    if (block === undefined || block.epoch !== this.epoch) block = this.findBlock(linear & 0xfff, block);
    const insns = block === undefined || (start >>> 0) + block.source.length - 1 > this.codeTop ? this.single() : block.insns;
    // In the page below 4 GiB, and each multiple of it, RIP may carry into its high half.
    const careful =
      this.shadow !== 0 ||
      (this.fl & (TF | RF)) !== 0 ||
      this.replay.length > 0 ||
      this.emulating ||
      this.guestDebug.control !== 0 ||
      this.breaks.length > 0 ||
      (long && start >>> 12 === 0xfffff);
    if (careful) {
      this.executeOne(insns[0]!);
      return;
    }
    const count = Math.min(insns.length, this.fuel);
    for (let k = 0; k < count; k++) {
      const insn = insns[k]!;
      const at = r[IP]!;
      this.ip0 = at;
      this.current = insn;
      r[IP] = at + insn.length;
      insn.exec(this, insn);
      this.fuel--;
      if (this.stop !== 0) {
        this.settle();
        return;
      }
    }
  }

  /** One instruction under a shadow or RF, single-stepped, or with data from outside. */
  private executeOne(insn: Insn): void {
    const shadow = this.shadow;
    const host = this.emulated && stepping(this);
    // KVM's emulator does not see the TF that stepping has set.
    if (host) this.fl &= ~TF;
    const traced = host || (this.fl & TF) !== 0;
    this.current = insn;
    this.pass(insn.length);
    this.keepRf = false;
    insn.exec(this, insn);
    if (!this.keepRf && this.skip === null) this.fl &= ~RF;
    this.fuel--;
    this.settle();
    // A second STI or MOV SS in the shadow of the first does not prolong it.
    if (shadow !== 0 && this.skip === null && !this.keepShadow) this.shadow = 0;
    this.keepShadow = false;
    this.stop |= STOP_BLOCK;
    if (host) setTrace(this, false);
    if (traced && !insn.form.name.startsWith('int')) this.trace(host);
  }

  /** An instruction has been executed under TF, or stepped by the host. */
  private trace(host: boolean): void {
    const halts = this.outcome?.kind === 'hlt';
    if (host && halts) this.outcome = null;
    else if (this.stop & STOP_EXIT && (this.emulated || halts)) {
      // The emulator steps only what does not leave for userspace; HLT leaves afterwards, with the #DB still to be delivered.
      if (!halts || stepping(this)) return;
      this.dr[6] = this.dr[6]! | DR6_BS;
      Object.assign(this.events.exception, { pending: true, nr: DB, hasErrorCode: false, errorCode: 0, payload: 0n });
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

  /** Moves RIP from the instruction being executed to the next. */
  private pass(length: number): void {
    const next = (this.ip0 + length) | 0;
    this.r32[IP] = next;
    if (this.long && next >>> 0 < this.ip0 >>> 0) this.r32[IP_HI] = this.ip0High + 1;
  }

  private get codeMode(): number {
    return this.long ? 4 : (this.protectedMode ? 2 : 0) + (this.codeSize === 4 ? 1 : 0);
  }

  private enterPage(linear: number): void {
    const whole = this.long ? this.linear0 : linear >>> 0;
    if (this.long && (whole < CANONICAL_LOW || whole > CANONICAL_TOP)) throw new Fault(GP, 0);
    const number = Math.floor(this.translate(whole, FETCH) / 4096);
    let code = this.codePages.get(number);
    if (code === undefined) {
      const page = this.physical(number);
      code = new CodePage(page, this.fetchable(page));
      this.codePages.set(number, code);
    }
    this.codePage = code;
    this.codeBlocks = code.view === null ? [] : code.table(this.codeMode);
    this.codeLinear = linear >>> 12;
    this.codeHigh = this.ip0High;
  }

  override forgetPages(): void {
    super.forgetPages();
    this.codePages.clear();
  }

  override flushTlb(): void {
    super.flushTlb();
    this.codeLinear = -1;
  }

  override endBlock(): void {
    super.endBlock();
    this.codeLinear = -1;
  }

  /** The block at this offset of the current page, decoded or checked now; undefined where only a single step will do. */
  private findBlock(offset: number, known: Block | undefined): Block | undefined {
    const code = this.codePage!;
    if (code.view === null) return undefined;
    if (known?.epoch !== undefined && code.matches(known, offset)) {
      known.epoch = this.epoch;
      return known;
    }
    const bytes = new Uint8Array(code.view.buffer, code.view.byteOffset, 4096);
    const insns: Insn[] = [];
    let at = offset;
    while (insns.length < MAX_BLOCK && at < 4096) {
      const insn = this.decoder.decode(bytes, at, 4096, this.codeSize, !this.protectedMode);
      if (typeof insn === 'string' || 'notModelled' in insn) break;
      insns.push(insn);
      at += insn.length;
      if (insn.form.ends || insn.rep !== 0) break;
    }
    if (insns.length === 0) return undefined;
    const block = new Block(insns, bytes.slice(offset, at), this.epoch);
    this.codeBlocks[offset] = block;
    code.cover(offset, at - offset);
    // The page may be in the write TLB; from now on stores to it must be seen.
    this.flushWrites();
    return block;
  }

  override invalidateCode(page: PhysicalPage): void {
    page.code = null;
    this.codePages.delete(page.number);
    this.codeLinear = -1;
  }

  /** Decodes one instruction byte by byte: across a page, near the code limit, or one that cannot be executed. */
  private single(): Insn[] {
    const bytes: number[] = [];
    const start = this.long ? this.linear0 : this.ip0 >>> 0;
    for (;;) {
      const offset = start + bytes.length;
      if (bytes.length >= 15 || offset > this.codeTop) throw new Fault(GP, 0);
      const gpa = this.translate(this.after(this.linear0, bytes.length), FETCH);
      const view = this.fetchable(this.physical(Math.floor(gpa / 4096)));
      if (view === null) {
        this.outcome = { kind: 'internalError', suberror: 1, insnBytes: Uint8Array.from(bytes) };
        this.stop |= STOP_EXIT;
        throw ABANDON;
      }
      bytes.push(view.getUint8(gpa & 0xfff));
      const insn = this.decoder.decode(Uint8Array.from(bytes), 0, bytes.length, this.codeSize, !this.protectedMode);
      if (insn === 'more') continue;
      if (insn === 'too long') throw new Fault(GP, 0);
      if (insn instanceof Object && 'notModelled' in insn) throw this.notModelled(insn.notModelled);
      return [insn];
    }
  }
}
