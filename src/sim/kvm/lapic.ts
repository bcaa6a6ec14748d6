import { KVM_X86_QUIRK_LAPIC_MMIO_HOLE, kvm_run } from '../../uapi/kvm.ts';
import * as apic from './apic-regs.ts';
import { LapicCore, LVT_MASK, LVT_MASKS, vectors } from './lapic-core.ts';

const LAPIC_MMIO_LENGTH = 0x1000;
const TPR_ACCESS = { rip: kvm_run.offsetOf('tpr_access.rip'), is_write: kvm_run.offsetOf('tpr_access.is_write') };

const READABLE: ReadonlySet<number> = new Set([
  apic.APIC_ID,
  apic.APIC_LVR,
  apic.APIC_TASKPRI,
  apic.APIC_PROCPRI,
  apic.APIC_LDR,
  apic.APIC_SPIV,
  ...vectors(apic.APIC_ISR),
  ...vectors(apic.APIC_TMR),
  ...vectors(apic.APIC_IRR),
  apic.APIC_ESR,
  apic.APIC_ICR,
  ...[apic.APIC_LVTT, apic.APIC_LVTTHMR, apic.APIC_LVTPC, apic.APIC_LVT0, apic.APIC_LVT1, apic.APIC_LVTERR],
  apic.APIC_TMICT,
  apic.APIC_TMCCT,
  apic.APIC_TDCR,
]);
/** These besides, in xAPIC mode. */
const XAPIC_READABLE: ReadonlySet<number> = new Set([apic.APIC_ARBPRI, apic.APIC_DFR, apic.APIC_ICR2]);
/** What KVM_X2APIC makes a guest's write of the 64-bit ICR fail. */
const X2APIC_ICR_RESERVED = 0xfff3_2000n;

/** The local APIC as a guest reaches it: registers, by the page or as MSRs. */
export class Lapic extends LapicCore {
  /** What KVM's emulator has read last: a register that is not there leaves that in its buffer. */
  readonly #lastRead = new Uint8Array(8);

  #reportTprAccess(isWrite: boolean): void {
    if (!this.vcpu.tprAccessReporting) return;
    const { view } = this.vcpu.run;
    view.setBigUint64(TPR_ACCESS.rip, BigInt(this.vcpu.cpu.ip0 >>> 0), true);
    view.setUint32(TPR_ACCESS.is_write, Number(isWrite), true);
    this.vcpu.tprAccessed = true;
    this.vcpu.cpu.yield();
  }

  /** kvm_lapic_reg_read; undefined: there is no such register. */
  readRegister(register: number): number | undefined {
    const readable =
      READABLE.has(register) || (register === apic.APIC_LVTCMCI && this.cmci) || (XAPIC_READABLE.has(register) && !this.x2apic);
    return readable ? this.current(register) : undefined;
  }

  /** A register's value, those calculated too. */
  current(register: number): number {
    switch (register) {
      case apic.APIC_ARBPRI:
        return 0;
      case apic.APIC_TMCCT:
        return this.timer.count;
      case apic.APIC_PROCPRI:
        this.syncTpr();
        return this.updatePpr();
      case apic.APIC_LVR:
        return this.version;
      case apic.APIC_TASKPRI:
        this.#reportTprAccess(false);
        this.syncTpr();
    }
    return this.get(register);
  }

  /** kvm_lapic_reg_write; false: refused, which a guest notices only in x2APIC mode. */
  writeRegister(register: number, value: number): boolean {
    const done = this.#write(register, value);
    this.map.rebuild(this.vcpu.vm);
    return done;
  }

  #write(register: number, value: number): boolean {
    const { x2apic } = this;
    switch (register) {
      case apic.APIC_ID:
        if (!x2apic) this.setXapicId(value >>> 24);
        return !x2apic;
      case apic.APIC_TASKPRI:
        this.#reportTprAccess(true);
        this.setTpr(value & 0xff);
        if (this.vcpu.bus.inSlice) this.guestRuns();
        if (this.pendingVector >= 0) this.refresh();
        return true;
      case apic.APIC_EOI:
        this.endOfInterrupt();
        return true;
      case apic.APIC_LDR:
      case apic.APIC_DFR:
        if (x2apic) return false;
        this.put(register, register === apic.APIC_LDR ? value & 0xff00_0000 : value | 0x0fff_ffff);
        this.map.dirty = true;
        return true;
      case apic.APIC_SPIV:
        this.#writeSpiv(value);
        return true;
      case apic.APIC_ICR:
        this.put(apic.APIC_ICR, value & ~apic.APIC_ICR_BUSY);
        this.sendIpi(value, this.get(apic.APIC_ICR2));
        return true;
      case apic.APIC_ICR2:
        if (!x2apic) this.put(apic.APIC_ICR2, value & 0xff00_0000);
        return !x2apic;
      case apic.APIC_LVTT:
        this.put(apic.APIC_LVTT, this.#masked(value) & (LVT_MASK | this.timer.modeMask));
        this.timer.updateMode();
        return true;
      case apic.APIC_TMICT:
        this.timer.setInitialCount(value);
        return true;
      case apic.APIC_TDCR:
        this.timer.setDivide(value & 0xb);
        return true;
      case apic.APIC_ESR:
        return !(x2apic && value !== 0);
      case apic.APIC_SELF_IPI:
        if (!x2apic || value & ~apic.APIC_VECTOR_MASK) return false;
        this.sendIpi(apic.APIC_DEST_SELF | value, 0);
        return true;
    }
    const mask = LVT_MASKS.get(register);
    if (mask === undefined || (register === apic.APIC_LVTCMCI && !this.cmci)) return false;
    this.put(register, this.#masked(value) & mask);
    return true;
  }

  /** A software-disabled APIC keeps its local vector table masked. */
  #masked(value: number): number {
    return this.swEnabled ? value : value | apic.APIC_LVT_MASKED;
  }

  #writeSpiv(value: number): void {
    this.setSpiv(value & (0x3ff | (this.version & apic.APIC_LVR_DIRECTED_EOI ? apic.APIC_SPIV_DIRECTED_EOI : 0)));
    if (this.swEnabled) return;
    for (const entry of this.lvt) this.put(entry, this.get(entry) | apic.APIC_LVT_MASKED);
    this.timer.updateMode();
    this.timer.pending = 0;
  }

  // ---- the register page

  get #hole(): boolean {
    return this.vcpu.vm.caps.quirk(KVM_X86_QUIRK_LAPIC_MMIO_HOLE);
  }

  /**
   * A guest access in the page; false: it is not for this APIC. Switched off or in x2APIC mode it is a hole (KVM_X86_QUIRK_LAPIC_MMIO_HOLE):
   * reads give ones, writes vanish.
   */
  read(address: number, data: Uint8Array): boolean {
    const offset = address - this.base;
    if (offset < 0 || offset >= LAPIC_MMIO_LENGTH) return false;
    if (!this.hwEnabled || this.x2apic) {
      if (!this.#hole) return false;
      data.fill(0xff);
      return true;
    }
    const within = offset & 0xf;
    const value = within + data.length > 4 ? undefined : this.readRegister(offset & ~0xf);
    if (value !== undefined) for (let i = 0; i < data.length; i++) this.#lastRead[i] = value >>> ((within + i) * 8);
    data.set(this.#lastRead.subarray(0, data.length));
    return true;
  }

  /** Only aligned 32-bit writes to a register's beginning do something. */
  write(address: number, data: Uint8Array): boolean {
    const offset = address - this.base;
    if (offset < 0 || offset >= LAPIC_MMIO_LENGTH) return false;
    if (!this.hwEnabled || this.x2apic) return this.#hole;
    if (data.length !== 4 || offset & 0xf) return true;
    this.writeRegister(offset & 0xff0, new DataView(data.buffer, data.byteOffset).getUint32(0, true));
    return true;
  }

  // ---- x2APIC MSRs

  /** The upper half of the 64-bit ICR: AMD's hardware has it in ICR2. */
  get icrHigh(): number {
    return this.vcpu.backend.splitsX2apicIcr ? apic.APIC_ICR2 : apic.APIC_ICR_HIGH;
  }

  readMsr(index: number): bigint | undefined {
    if (!this.x2apic) return undefined;
    const register = (index - apic.APIC_BASE_MSR) << 4;
    if (register === apic.APIC_ICR) return BigInt(this.get(apic.APIC_ICR)) | (BigInt(this.get(this.icrHigh)) << 32n);
    const value = this.readRegister(register);
    return value === undefined ? undefined : BigInt(value);
  }

  writeMsr(index: number, value: bigint): boolean {
    if (!this.x2apic) return false;
    const register = (index - apic.APIC_BASE_MSR) << 4;
    if (register !== apic.APIC_ICR) return value >> 32n === 0n && this.writeRegister(register, Number(value));
    if (value & X2APIC_ICR_RESERVED) return false;
    const [icr, icr2] = [Number(value & 0xffff_ffffn) & ~apic.APIC_ICR_BUSY, Number(value >> 32n)];
    this.sendIpi(icr, icr2);
    this.put(apic.APIC_ICR, icr);
    this.put(this.icrHigh, icr2);
    return true;
  }
}
