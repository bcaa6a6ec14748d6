import {
  APIC_IRR,
  APIC_LVT_MASKED,
  APIC_LVT_TIMER_ONESHOT,
  APIC_LVT_TIMER_PERIODIC,
  APIC_LVT_TIMER_TSCDEADLINE,
  APIC_LVTT,
  APIC_TDCR,
  APIC_TMCCT,
  APIC_TMICT,
  APIC_VECTOR_MASK,
} from './apic-regs.ts';
import type { LapicCore } from './lapic-core.ts';

/** kvm.min_timer_period_us: a periodic timer is not faster. */
const MIN_PERIOD = 200_000n;

/** Ticks so far away that they do not come. */
const FOREVER: number = 2 ** 50;

/** Bits 0, 1 and 3 of the divide configuration: 2, 4 … 128, 1. */
function divisor(tdcr: number): bigint {
  const bits = ((tdcr & 3) | ((tdcr & 8) >>> 1)) + 1;
  return 1n << BigInt(bits & 7);
}

/** The APIC timer in simulated time, in nanoseconds. It fires between two slices of the machine; a vCPU's slice ends where its timer is due. */
export class LapicTimer {
  readonly #lapic: LapicCore;
  /** Bits of the LVT entry that choose the mode: none before there is a CPUID. */
  modeMask = 0;
  /** One of APIC_LVT_TIMER_*, as the local vector table has it. */
  mode: number = APIC_LVT_TIMER_ONESHOT;
  /** 0n: not running. */
  period = 0n;
  /** MSR_IA32_TSC_DEADLINE. */
  tscDeadline = 0n;
  /** Expirations not yet injected. */
  pending = 0;
  #divide = 2n;
  #target = 0n;
  #cancel: (() => void) | undefined;

  constructor(lapic: LapicCore) {
    this.#lapic = lapic;
  }

  /** KVM_SET_CPUID2: the guest's CPUID has the TSC deadline, or not. */
  useCpuid(): void {
    const deadline = this.#lapic.vcpu.cpuid.has(1, 0, 'ecx', 24);
    this.modeMask = deadline ? APIC_LVT_TIMER_PERIODIC | APIC_LVT_TIMER_TSCDEADLINE : APIC_LVT_TIMER_PERIODIC;
  }

  get #usesDeadline(): boolean {
    return this.mode === APIC_LVT_TIMER_TSCDEADLINE;
  }

  get #counts(): boolean {
    return this.mode === APIC_LVT_TIMER_ONESHOT || this.mode === APIC_LVT_TIMER_PERIODIC;
  }

  /** Nanoseconds of one count. */
  get #unit(): bigint {
    return this.#lapic.vcpu.vm.caps.apicBusCycleNs * this.#divide;
  }

  get #now(): bigint {
    return this.#lapic.vcpu.nanoseconds();
  }

  cancel(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  /** Of kvm_lapic_reset: TMICT and TDCR are 0 already. */
  reset(): void {
    this.#divide = divisor(0);
    this.pending = 0;
  }

  /** apic_update_lvtt: to and from the TSC deadline mode stops the timer. */
  updateMode(): void {
    const mode = this.#lapic.get(APIC_LVTT) & this.modeMask;
    if (mode === this.mode) return;
    if ((mode === APIC_LVT_TIMER_TSCDEADLINE) !== this.#usesDeadline) {
      this.cancel();
      this.#lapic.put(APIC_TMICT, 0);
      this.period = this.tscDeadline = 0n;
    }
    this.mode = mode;
    this.#limit();
  }

  #limit(): void {
    if (this.mode === APIC_LVT_TIMER_PERIODIC && this.period !== 0n && this.period < MIN_PERIOD) this.period = MIN_PERIOD;
  }

  /** A write of TMICT starts, or with 0 stops. */
  setInitialCount(count: number): void {
    if (this.#usesDeadline) return;
    this.cancel();
    this.#lapic.put(APIC_TMICT, count);
    this.#start(APIC_TMICT);
  }

  setDivide(tdcr: number): void {
    const before = this.#divide;
    this.#lapic.put(APIC_TDCR, tdcr);
    this.#divide = divisor(tdcr);
    if (this.#divide === before || this.period === 0n) return;
    this.cancel();
    // What remains is so many counts still.
    const remaining = this.#remaining();
    this.period = BigInt(this.#lapic.get(APIC_TMICT)) * this.#unit;
    this.#limit();
    this.#target = this.#now + (remaining * this.#divide) / before;
    this.#arm();
  }

  setDeadline(tsc: bigint): void {
    if (!this.#lapic.hwEnabled || !this.#usesDeadline) return;
    this.cancel();
    this.tscDeadline = tsc;
    this.#start(APIC_TMICT);
  }

  get deadline(): bigint {
    return this.#lapic.hwEnabled && this.#usesDeadline ? this.tscDeadline : 0n;
  }

  /** KVM_SET_LAPIC: goes on from the count of the image. */
  restore(): void {
    this.cancel();
    this.updateMode();
    this.#divide = divisor(this.#lapic.get(APIC_TDCR));
    this.#start(APIC_TMCCT);
    this.#lapic.put(APIC_TMCCT, 0);
  }

  /** TMCCT. */
  get count(): number {
    if (this.#usesDeadline || this.#lapic.get(APIC_TMICT) === 0 || this.period === 0n) return 0;
    return Number((this.#remaining() % this.period) / this.#unit);
  }

  #remaining(): bigint {
    this.#advance();
    const left = this.#target - this.#now;
    return left > 0n ? left : 0n;
  }

  /** A periodic timer's next expiration, counted from where the last was due. */
  #advance(): void {
    const late = this.#now - this.#target;
    if (late < 0n || this.mode !== APIC_LVT_TIMER_PERIODIC || this.period === 0n) return;
    this.#target += (late / this.period + 1n) * this.period;
  }

  #start(countRegister: number): void {
    this.pending = 0;
    if (this.#counts && !this.#setTarget(countRegister)) return;
    this.#arm();
  }

  /** set_target_expiration; false: the count is 0. */
  #setTarget(countRegister: number): boolean {
    this.period = BigInt(this.#lapic.get(APIC_TMICT)) * this.#unit;
    this.tscDeadline = 0n;
    if (this.period === 0n) return false;
    this.#limit();
    let left = this.period;
    if (countRegister !== APIC_TMICT) {
      left = BigInt(this.#lapic.get(countRegister)) * this.#unit;
      if (left === 0n) left = this.mode === APIC_LVT_TIMER_PERIODIC ? this.period : 0n;
      else if (left > this.period) left = this.period;
    }
    this.#target = this.#now + left;
    return true;
  }

  #arm(): void {
    const { vcpu } = this.#lapic;
    if (this.#usesDeadline) {
      if (this.tscDeadline !== 0n) this.#wait(vcpu.ticksUntilTsc(this.tscDeadline));
    } else if (this.#counts) this.#wait(vcpu.ticksUntil(this.#target));
  }

  /** What is due already fires at once. */
  #wait(ticks: number): void {
    const { vcpu } = this.#lapic;
    if (ticks > FOREVER) return;
    if (ticks <= 0) this.#expire();
    else this.#cancel = vcpu.system.runner.at(vcpu.ticks + ticks, () => this.#expire());
    vcpu.cpu.yield();
  }

  /** A periodic timer is armed again when somebody has taken this expiration: more than one pending are the same as one. */
  #expire(): void {
    this.#cancel = undefined;
    this.pending = 1;
    this.#lapic.vcpu.system.runner.wake();
  }

  /**
   * kvm_inject_pending_timer_irqs. Expirations of a masked or disabled timer wait; so do those that would change nothing for a vCPU that sleeps with
   * the same interrupt pending already, so that a machine in which nothing can happen any more is seen to stand still.
   */
  inject(running: boolean): void {
    const entry = this.#lapic.get(APIC_LVTT);
    if (this.pending === 0 || !this.#lapic.enabled || entry & APIC_LVT_MASKED) return;
    if (!running && this.#lapic.test(APIC_IRR, entry & APIC_VECTOR_MASK)) return;
    this.pending = 0;
    this.#lapic.deliverLocal(APIC_LVTT);
    if (this.#usesDeadline) this.tscDeadline = 0n;
    else if (this.mode === APIC_LVT_TIMER_ONESHOT) this.#target = 0n;
    else {
      this.#advance();
      this.#arm();
    }
  }
}
