import { KVM_X86_QUIRK_LINT0_REENABLED } from '../../uapi/kvm.ts';
import { type ApicMap, deliverIrq, type LapicIrq } from './apic-map.ts';
import * as apic from './apic-regs.ts';
import { nmi } from './events.ts';
import { LapicTimer } from './lapic-timer.ts';
import type { Vcpu } from './vcpu.ts';

export const LVT_MASK: number = apic.APIC_LVT_MASKED | apic.APIC_LVT_SEND_PENDING | apic.APIC_VECTOR_MASK;
const LINT_MASK =
  LVT_MASK | apic.APIC_MODE_MASK | apic.APIC_INPUT_POLARITY | apic.APIC_LVT_REMOTE_IRR | apic.APIC_LVT_LEVEL_TRIGGER;

/** What of a local vector table entry can be written; the timer's mode bits depend on CPUID. */
export const LVT_MASKS: ReadonlyMap<number, number> = new Map([
  [apic.APIC_LVTT, LVT_MASK],
  [apic.APIC_LVTTHMR, LVT_MASK | apic.APIC_MODE_MASK],
  [apic.APIC_LVTPC, LVT_MASK | apic.APIC_MODE_MASK],
  [apic.APIC_LVT0, LINT_MASK],
  [apic.APIC_LVT1, LINT_MASK],
  [apic.APIC_LVTERR, LVT_MASK],
  [apic.APIC_LVTCMCI, LVT_MASK | apic.APIC_MODE_MASK],
]);

/** Eight consecutive registers hold a bit a vector. */
export const vectors = (first: number): readonly number[] => Array.from({ length: 8 }, (_, at) => first + at * 0x10);

/** `struct kvm_lapic`: the local APIC of one vCPU. */
export class LapicCore {
  readonly vcpu: Vcpu;
  readonly timer: LapicTimer;
  /** The register page, as KVM_GET_LAPIC lays it out. */
  readonly regs: DataView = new DataView(new ArrayBuffer(1024));
  /** SPIV has the enable bit: kept apart because KVM_SET_LAPIC that fails has changed it. */
  swEnabled = false;
  /** INIT and SIPI that nobody has looked at yet. */
  pendingInit = false;
  pendingSipi = false;
  sipiVector = 0;
  /** KVM_INTERRUPT with a split irqchip: −1 for none. */
  pendingExternalVector = -1;
  /** MCG_CAP has MCG_CMCI_P: there is a seventh entry of the local vector table. */
  cmci = false;
  /** KVM_SET_VAPIC_ADDR; 0n: off. */
  vapicAddr = 0n;
  /** KVM_REQ_EVENT, as far as what is written for the guest goes. */
  eventRequested = true;
  #isrCount = 0;
  #highestIsr: number | undefined;

  constructor(vcpu: Vcpu) {
    this.vcpu = vcpu;
    this.timer = new LapicTimer(this);
    this.setXapicId(vcpu.id);
    this.reset();
  }

  get(register: number): number {
    return this.regs.getUint32(register, true);
  }

  put(register: number, value: number): void {
    this.regs.setUint32(register, value, true);
  }

  protected get map(): ApicMap {
    return this.vcpu.vm.apicMap;
  }

  // ---- mode

  get hwEnabled(): boolean {
    return (this.vcpu.apicBase & apic.MSR_IA32_APICBASE_ENABLE) !== 0n;
  }

  get x2apic(): boolean {
    return (this.vcpu.apicBase & apic.X2APIC_ENABLE) !== 0n;
  }

  /** apic_enabled: it takes fixed and lowest priority interrupts. */
  get enabled(): boolean {
    return this.hwEnabled && this.swEnabled;
  }

  /** Physical address of the register page. */
  get base(): number {
    return Number(this.vcpu.apicBase & ~0xfffn);
  }

  get x2apicId(): number {
    return this.vcpu.id;
  }

  get xapicId(): number {
    return this.get(apic.APIC_ID) >>> 24;
  }

  setXapicId(id: number): void {
    this.put(apic.APIC_ID, id << 24);
    this.map.dirty = true;
  }

  setX2apicId(id: number): void {
    this.put(apic.APIC_ID, id);
    this.put(apic.APIC_LDR, x2apicLdr(id));
    this.map.dirty = true;
  }

  // ---- reset

  /** kvm_lapic_reset, INIT and RESET alike; APIC base and, at INIT, the ID stay. The map of destinations is made anew. */
  reset(): void {
    this.timer.cancel();
    for (const register of this.lvt) this.put(register, apic.APIC_LVT_MASKED);
    this.timer.updateMode();
    // KVM_X86_QUIRK_LINT0_REENABLED: the firmware's virtual wire.
    const boots = this.vcpu.id === this.vcpu.vm.bootId;
    if (boots && this.vcpu.vm.caps.quirk(KVM_X86_QUIRK_LINT0_REENABLED)) this.put(apic.APIC_LVT0, apic.APIC_DM_EXTINT);
    this.put(apic.APIC_DFR, 0xffff_ffff);
    this.map.dirty = true;
    this.setSpiv(0xff);
    this.setTpr(0);
    if (!this.x2apic) this.put(apic.APIC_LDR, 0);
    for (const register of [apic.APIC_ESR, apic.APIC_TDCR, apic.APIC_TMICT]) this.put(register, 0);
    this.put(apic.APIC_ICR, 0);
    this.put(this.x2apic ? apic.APIC_ICR_HIGH : apic.APIC_ICR2, 0);
    for (const first of [apic.APIC_IRR, apic.APIC_ISR, apic.APIC_TMR]) for (const at of vectors(first)) this.put(at, 0);
    this.timer.reset();
    this.recount();
    this.updatePpr();
    this.map.rebuild(this.vcpu.vm);
    this.refresh();
  }

  /** The local vector table. */
  get lvt(): number[] {
    return [...LVT_MASKS.keys()].filter((register) => register !== apic.APIC_LVTCMCI || this.cmci);
  }

  /**
   * The version register. Directed EOI is offered with x2APIC where the in-kernel IOAPIC, which has no EOI register, is not there, or as
   * KVM_CAP_X2APIC_API decided.
   */
  get version(): number {
    const { irqchip } = this.vcpu.vm;
    const offered =
      irqchip.suppressEoiBroadcast === 'quirked' ? irqchip.mode !== 'kernel' : irqchip.suppressEoiBroadcast === 'enabled';
    const directed = offered && this.vcpu.cpuid.has(1, 0, 'ecx', 21);
    return apic.APIC_VERSION | ((this.lvt.length - 1) << 16) | (directed ? apic.APIC_LVR_DIRECTED_EOI : 0);
  }

  // ---- priorities

  setTpr(value: number): void {
    this.put(apic.APIC_TASKPRI, value);
    this.vcpu.cpu.cr8 = cr8Of(value);
    this.updatePpr();
  }

  /** What running the guest makes of TPR. */
  guestRuns(): void {
    if (!this.vcpu.backend.virtualTpr) return;
    const tpr = Number(this.vcpu.cpu.cr8) << 4;
    if (this.get(apic.APIC_TASKPRI) !== tpr) this.setTpr(tpr);
  }

  /** The guest's MOV to CR8 is seen here at last. */
  syncTpr(): void {
    const { cr8 } = this.vcpu.cpu;
    if (cr8Of(this.get(apic.APIC_TASKPRI)) !== cr8) this.setTpr(Number(cr8) << 4);
  }

  updatePpr(): number {
    const tpr = this.get(apic.APIC_TASKPRI) & 0xff;
    const isr = Math.max(0, this.highestInService);
    const ppr = (tpr & 0xf0) >= (isr & 0xf0) ? tpr : isr & 0xf0;
    this.put(apic.APIC_PROCPRI, ppr);
    return ppr;
  }

  /** apic_find_highest_isr, by what is remembered of it: KVM_SET_LAPIC computes PPR before it has counted the vectors of the new image. */
  get highestInService(): number {
    if (this.#isrCount === 0) return -1;
    return this.#highestIsr ?? this.highest(apic.APIC_ISR);
  }

  #setInService(vector: number): void {
    if (!this.test(apic.APIC_ISR, vector)) this.#isrCount++;
    this.mark(apic.APIC_ISR, vector, true);
    this.#highestIsr = vector;
  }

  #clearInService(vector: number): void {
    this.mark(apic.APIC_ISR, vector, false);
    this.#isrCount--;
    this.#highestIsr = undefined;
  }

  /** The vectors in service are counted anew. */
  recount(): void {
    this.#isrCount = vectors(apic.APIC_ISR).reduce((sum, at) => sum + bits(this.get(at)), 0);
    this.#highestIsr = undefined;
  }

  /** The highest vector of eight registers; −1: none. */
  highest(first: number): number {
    for (let at = 7; at >= 0; at--) {
      const bits = this.get(first + at * 0x10);
      if (bits !== 0) return at * 32 + 31 - Math.clz32(bits);
    }
    return -1;
  }

  test(first: number, vector: number): boolean {
    return ((this.get(first + (vector >>> 5) * 0x10) >>> (vector & 31)) & 1) === 1;
  }

  mark(first: number, vector: number, on: boolean): void {
    const at = first + (vector >>> 5) * 0x10;
    const bit = 1 << (vector & 31);
    this.put(at, on ? this.get(at) | bit : this.get(at) & ~bit);
  }

  /** kvm_apic_has_interrupt: the vector the priorities let through; −1: none. */
  get pendingVector(): number {
    if (!this.hwEnabled) return -1;
    this.syncTpr();
    const ppr = this.updatePpr();
    const vector = this.highest(apic.APIC_IRR);
    return vector >= 0 && (vector & 0xf0) > ppr ? vector : -1;
  }

  /** kvm_apic_ack_interrupt. */
  acknowledge(vector: number): void {
    this.mark(apic.APIC_IRR, vector, false);
    this.#setInService(vector);
    this.updatePpr();
    if (this.vcpu.backend.autoEoi) this.endOfInterrupt();
  }

  /** kvm_apic_accept_pic_intr: the PIC's output reaches the CPU, by LINT0 as ExtINT or because there is no APIC in between. */
  get acceptsPic(): boolean {
    if (!this.hwEnabled) return true;
    const lvt0 = this.get(apic.APIC_LVT0);
    return (lvt0 & apic.APIC_LVT_MASKED) === 0 && (lvt0 & apic.APIC_MODE_MASK) === apic.APIC_DM_EXTINT;
  }

  /** An external interrupt waits: the PIC's, or with a split irqchip what KVM_INTERRUPT brought. */
  get hasExternal(): boolean {
    if (!this.acceptsPic) return false;
    const { mode, pic } = this.vcpu.vm.irqchip;
    return mode === 'split' ? this.pendingExternalVector >= 0 : (pic?.output ?? false);
  }

  /** kvm_cpu_has_interrupt. */
  get hasInterrupt(): boolean {
    return this.hasExternal || this.pendingVector >= 0;
  }

  /** kvm_cpu_get_interrupt: the vector to deliver, in service from now on; −1 for none after all. */
  take(): number {
    let vector = -1;
    if (this.hasExternal) {
      const { mode, pic } = this.vcpu.vm.irqchip;
      if (mode === 'split') {
        vector = this.pendingExternalVector;
        this.pendingExternalVector = -1;
      } else vector = pic!.readIrq();
    }
    if (vector < 0 && (vector = this.pendingVector) >= 0) this.acknowledge(vector);
    this.refresh();
    return vector;
  }

  /**
   * KVM_REQ_EVENT: something may be to be delivered, and the CPU asks `take` as soon as the guest can take it. What opens the way for an
   * interrupt without this request (a write to LINT0) is noticed with the next one.
   */
  refresh(): void {
    this.eventRequested = true;
    this.vcpu.cpu.intr = this.hasExternal || (this.hwEnabled && this.highest(apic.APIC_IRR) >= 0);
  }

  kick(): void {
    this.refresh();
    this.vcpu.system.runner.wake();
  }

  // ---- what arrives

  /** __apic_accept_irq: 1 taken, 0 not. */
  accept({ deliveryMode, vector, level, levelTriggered }: Omit<LapicIrq, 'destId' | 'destMode' | 'shorthand'>): number {
    switch (deliveryMode) {
      case apic.APIC_DM_LOWEST:
      case apic.APIC_DM_FIXED:
        if (levelTriggered && !level) return 0;
        if (!this.enabled) return 0;
        this.mark(apic.APIC_TMR, vector, levelTriggered);
        this.mark(apic.APIC_IRR, vector, true);
        break;
      case apic.APIC_DM_REMRD:
        this.vcpu.pvUnhalted = true;
        break;
      case apic.APIC_DM_SMI:
        if (!this.vcpu.requestSmi()) return 0;
        break;
      case apic.APIC_DM_NMI:
        nmi(this.vcpu);
        break;
      case apic.APIC_DM_INIT:
        if (levelTriggered && !level) return 0;
        // A SIPI that came before is forgotten.
        this.pendingInit = true;
        this.pendingSipi = false;
        this.vcpu.cpu.yield();
        break;
      case apic.APIC_DM_STARTUP:
        this.sipiVector = vector;
        this.pendingSipi = true;
        break;
      default:
        return 0;
    }
    this.kick();
    return 1;
  }

  /** kvm_apic_local_deliver: an entry of the local vector table fires. */
  deliverLocal(register: number): number {
    const entry = this.get(register);
    if (!this.hwEnabled || entry & apic.APIC_LVT_MASKED) return 0;
    return this.accept({
      vector: entry & apic.APIC_VECTOR_MASK,
      deliveryMode: entry & apic.APIC_MODE_MASK,
      level: true,
      levelTriggered: (entry & apic.APIC_LVT_LEVEL_TRIGGER) !== 0,
    });
  }

  /** apic_set_eoi: the highest interrupt in service ends, and the IOAPIC hears of it. */
  endOfInterrupt(): void {
    const vector = this.highestInService;
    if (vector < 0) return;
    this.#clearInService(vector);
    this.updatePpr();
    const { irqchip } = this.vcpu.vm;
    const suppressed =
      irqchip.suppressEoiBroadcast === 'enabled' && (this.get(apic.APIC_SPIV) & apic.APIC_SPIV_DIRECTED_EOI) !== 0;
    if (!suppressed) irqchip.onEoi?.(this.vcpu, vector, this.test(apic.APIC_TMR, vector));
    this.refresh();
  }

  sendIpi(icr: number, icr2: number): void {
    deliverIrq(this.vcpu.vm, this.vcpu, {
      vector: icr & apic.APIC_VECTOR_MASK,
      deliveryMode: icr & apic.APIC_MODE_MASK,
      destMode: icr & apic.APIC_DEST_MASK ? 'logical' : 'physical',
      level: (icr & apic.APIC_INT_ASSERT) !== 0,
      levelTriggered: (icr & apic.APIC_INT_LEVELTRIG) !== 0,
      shorthand: (['none', 'self', 'all', 'others'] as const)[(icr & apic.APIC_SHORT_MASK) >>> 18]!,
      destId: this.x2apic ? icr2 >>> 0 : icr2 >>> 24,
    });
  }

  setSpiv(value: number): void {
    const enabled = (value & apic.APIC_SPIV_APIC_ENABLED) !== 0;
    this.put(apic.APIC_SPIV, value);
    if (enabled !== this.swEnabled) this.map.dirty = true;
    this.swEnabled = enabled;
  }
}

const cr8Of = (tpr: number): bigint => BigInt((tpr >>> 4) & 0xf);

/** How many bits are set. */
function bits(word: number): number {
  let count = 0;
  for (let left = word; left !== 0; left &= left - 1) count++;
  return count;
}

/** x2APIC: cluster in the upper half, a bit in the lower. */
export function x2apicLdr(id: number): number {
  return (((id >>> 4) << 16) | (1 << (id & 0xf))) >>> 0;
}
