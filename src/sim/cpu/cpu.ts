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

import type { Outcome } from './bus.ts';
import { processorWatchesData, setTrace, stepping } from './debug.ts';
import { ABANDON, DB, Fault, REDO, STOP_BLOCK, STOP_EXIT } from './fault.ts';
import type { Insn } from './insn.ts';
import { TRIPLE_FAULT } from './interrupts.ts';
import { offsetOf } from './ops/move.ts';
import { CS, IP, IP_HI, RCX, RDI, RDX, RF, TF, VM } from './state.ts';
import { Stepping } from './stepping.ts';

/** The most one call of `run` executes. */
const MAX_FUEL = 2 ** 30;
const CD_NW = 0x6000_0000;
/** Exceptions KVM intercepts on hardware and injects itself: #DB, #UD, #AC. */
const INTERCEPTED = new Set([DB, 6, 17]);
const FUEL: Outcome = { kind: 'fuel' };

export class Cpu extends Stepping {
  /** Ask for an 'irqWindow' outcome as soon as an external interrupt could be taken. */
  windowRequested = false;
  /** The instruction being executed; while it waits for data from outside, the one that will be finished, whatever its bytes are by then. */
  private current: Insn | null = null;

  /** True while an exit waits for the next `run`: data of an IN or MMIO read, further MMIO fragments, an OUT not yet skipped. */
  get pending(): boolean {
    return this.wanted !== null || this.replay.length > 0 || this.stores.length > 0 || this.skip !== null;
  }

  /** What waits for its data is an INS: KVM's emulator has it, wherever the guest runs. */
  get waitsInString(): boolean {
    return this.current?.form.name === 'ins';
  }

  /**
   * SET_REGS has come between an IN or INS and its data, `rcx` and `rdi` with it; the other registers are those of the exit. False: nothing is left to
   * be read, and it waits for ever.
   */
  resumeInput(rcx: bigint, rdi: bigint): boolean {
    const { current } = this;
    if (current !== null && this.waitsInString) {
      if (current.rep !== 0 && BigInt.asUintN(current.asize * 8, rcx) === 0n) return false;
      this.decodedAt = offsetOf(this, current, RDI);
    }
    this.setReg(RCX, rcx);
    this.setReg(RDI, rdi);
    return true;
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

  private unsupported(): string | null {
    if (this.paging.levels === 5) return 'five-level paging';
    if (this.fl & VM) return 'virtual-8086 mode';
    if (processorWatchesData(this)) return 'breakpoints on data';
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

  /** What was on its way in is lost. */
  private shutDown(): Outcome {
    const { exception, interrupt, nmi } = this.events;
    exception.injected = exception.pending = interrupt.injected = nmi.injected = false;
    this.rewind();
    this.faulted = false;
    this.settle();
    return { kind: 'shutdown' };
  }

  private executeBlock(): void {
    const r = this.r32;
    // QEMU's processor comes from the last byte of 16-bit code to the first, whatever the limit.
    if (r[IP] === 0x1_0000 && this.qemu && this.codeSize === 2) r[IP] = 0;
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
}
