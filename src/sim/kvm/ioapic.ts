import { KVM_IRQCHIP_IOAPIC, kvm_ioapic_state } from '../../uapi/kvm.ts';
import { deliverIrq } from './apic-map.ts';
import { APIC_SPIV, APIC_SPIV_DIRECTED_EOI } from './apic-regs.ts';
import type { IoDevice } from './io-bus.ts';
import { IrqLine } from './irq-line.ts';
import type { Vcpu } from './vcpu.ts';
import type { Vm } from './vm.ts';

export const IOAPIC_NUM_PINS = 24;
const IOAPIC_DEFAULT_BASE_ADDRESS = 0xfec0_0000n;
const IOAPIC_MEM_LENGTH = 0x100;
const IOAPIC_VERSION_ID = 0x11;
const REG_SELECT = 0x00;
const REG_WINDOW = 0x10;
/** Indices of the registers behind the window. */
const REG_ID = 0x00;
const REG_VERSION = 0x01;
const REG_ARB_ID = 0x02;
const REG_REDIRECTION = 0x10;

const MASKED = 1 << 16;
const LEVEL_TRIGGERED = 1 << 15;
const REMOTE_IRR = 1 << 14;
const DELIVERY_STATUS = 1 << 12;
/** Of the low half, what a guest's write cannot set: remote IRR and the delivery status. */
const READ_ONLY = REMOTE_IRR | DELIVERY_STATUS;
/** After so many EOIs of a line that stays high, in a row, KVM lets the guest breathe before the next. */
const IOAPIC_SUCCESSIVE_IRQ_MAX_COUNT = 10_000;
/** HZ / 100, in nanoseconds. */
const BREATH = 10_000_000n;
/** Lost ticks of the real time clock are told to IRQ_LINE_STATUS: 0 until every CPU has ended the last one. */
const RTC_GSI = 8;

/** The guest ends level-triggered interrupts at the IOAPIC itself. */
function directedEoi({ lapic }: Vcpu): boolean {
  return ((lapic?.get(APIC_SPIV) ?? 0) & APIC_SPIV_DIRECTED_EOI) !== 0;
}

/** `struct kvm_ioapic`. */
export class Ioapic implements IoDevice {
  readonly #vm: Vm;
  /** KVM_SET_IRQCHIP may move it within its page. */
  #base = IOAPIC_DEFAULT_BASE_ADDRESS;
  ioregsel = 0;
  id = 0;
  /** Means nothing, and is kept. */
  #pad = 0;
  irr = 0;
  /** Edges that have been delivered, though the line is still high. */
  irrDelivered = 0;
  /** Redirection entries: low and high halves. */
  readonly low: Uint32Array = new Uint32Array(IOAPIC_NUM_PINS).fill(MASKED);
  readonly high: Uint32Array = new Uint32Array(IOAPIC_NUM_PINS);
  readonly #lines: readonly IrqLine[] = Array.from({ length: IOAPIC_NUM_PINS }, () => new IrqLine());
  readonly #eois = new Uint32Array(IOAPIC_NUM_PINS);
  /** LAPICs that have not yet ended the last tick of the real time clock. */
  #rtcPending = 0;

  constructor(vm: Vm) {
    this.#vm = vm;
    vm.mmioBus.register(IOAPIC_DEFAULT_BASE_ADDRESS, IOAPIC_MEM_LENGTH, this);
  }

  /** kvm_ioapic_set_irq. */
  setIrq(pin: number, source: number, level: boolean, lineStatus: boolean): number {
    return this.#set(pin, this.#lines[pin]!.set(source, level), lineStatus);
  }

  /** 0: coalesced with one that waits. */
  #set(pin: number, level: boolean, lineStatus: boolean): number {
    const bit = 1 << pin;
    if (!level) {
      this.irr &= ~bit;
      return 1;
    }
    if (pin === RTC_GSI && lineStatus && this.#rtcPending > 0) return 0;
    const old = this.irr;
    this.irr |= bit;
    if (!(this.low[pin]! & LEVEL_TRIGGERED)) {
      this.irrDelivered &= ~bit;
      if (old === this.irr) return 0;
    }
    return this.#service(pin, lineStatus);
  }

  /** ioapic_service: the number of local APICs that took it; −1: masked, or not yet ended. */
  #service(pin: number, lineStatus: boolean): number {
    const low = this.low[pin]!;
    const level = (low & LEVEL_TRIGGERED) !== 0;
    if (low & MASKED || (level && low & REMOTE_IRR)) return -1;
    if (!level) this.irrDelivered |= 1 << pin;
    const taken = deliverIrq(this.#vm, undefined, {
      destId: this.high[pin]! >>> 24,
      destMode: low & 0x800 ? 'logical' : 'physical',
      shorthand: 'none',
      deliveryMode: low & 0x700,
      vector: low & 0xff,
      level: true,
      levelTriggered: level,
    });
    if (pin === RTC_GSI && lineStatus) this.#rtcPending = Math.max(0, taken);
    if (taken !== 0 && level) this.low[pin]! |= REMOTE_IRR;
    return taken;
  }

  /** kvm_ioapic_update_eoi: a local APIC has ended `vector`. */
  eoi(vcpu: Vcpu, vector: number, level: boolean): void {
    for (let pin = 0; pin < IOAPIC_NUM_PINS; pin++) {
      if ((this.low[pin]! & 0xff) !== vector) continue;
      if (pin === RTC_GSI && this.#rtcPending > 0) this.#rtcPending--;
      this.#vm.routing.notifyAcked(KVM_IRQCHIP_IOAPIC, pin);
      if (!level || directedEoi(vcpu)) continue;
      const low = (this.low[pin]! &= ~REMOTE_IRR);
      if (low & MASKED || !(this.irr & (1 << pin))) this.#eois[pin] = 0;
      else if (++this.#eois[pin]! < IOAPIC_SUCCESSIVE_IRQ_MAX_COUNT) this.#service(pin, false);
      else {
        this.#eois[pin] = 0;
        this.#vm.atTime(this.#vm.now() + BREATH, () => {
          if (!(this.low[pin]! & (MASKED | REMOTE_IRR)) && this.irr & (1 << pin)) this.#service(pin, false);
        });
      }
    }
  }

  #has(address: number): boolean {
    const base = Number(this.#base);
    return address >= base && address < base + IOAPIC_MEM_LENGTH;
  }

  read(_vcpu: Vcpu, address: number, data: Uint8Array): boolean {
    if (!this.#has(address)) return false;
    const register = address & 0xff;
    const value = register === REG_SELECT ? this.ioregsel : register === REG_WINDOW ? this.#readWindow() : 0;
    data.fill(0);
    for (let i = 0; i < Math.min(4, data.length); i++) data[i] = value >>> (8 * i);
    return true;
  }

  write(_vcpu: Vcpu, address: number, data: Uint8Array): boolean {
    if (!this.#has(address)) return false;
    const register = address & 0xff;
    let value = 0;
    for (let i = 0; i < Math.min(4, data.length); i++) value |= data[i]! << (8 * i);
    if (register === REG_SELECT) this.ioregsel = value & 0xff;
    else if (register === REG_WINDOW) this.#writeWindow(value >>> 0);
    return true;
  }

  /** Which half of which redirection entry the window shows; undefined beyond the last. */
  #entry(): { readonly pin: number; readonly half: Uint32Array } | undefined {
    const pin = (this.ioregsel - REG_REDIRECTION) >>> 1;
    return this.ioregsel < REG_REDIRECTION || pin >= IOAPIC_NUM_PINS
      ? undefined
      : { pin, half: this.ioregsel & 1 ? this.high : this.low };
  }

  #readWindow(): number {
    switch (this.ioregsel) {
      case REG_VERSION:
        return ((IOAPIC_NUM_PINS - 1) << 16) | IOAPIC_VERSION_ID;
      case REG_ID:
      case REG_ARB_ID:
        return (this.id & 0xf) << 24;
    }
    const entry = this.#entry();
    return entry === undefined ? 0xffff_ffff : entry.half[entry.pin]!;
  }

  #writeWindow(value: number): void {
    if (this.ioregsel === REG_VERSION || this.ioregsel === REG_ARB_ID) return;
    if (this.ioregsel === REG_ID) {
      this.id = (value >>> 24) & 0xf;
      return;
    }
    const entry = this.#entry();
    if (entry === undefined) return;
    const { pin, half } = entry;
    const before = this.low[pin]!;
    if (half === this.high) this.high[pin] = value;
    else {
      this.low[pin] = (value & ~READ_ONLY) | (before & READ_ONLY);
      // Guests count on remote IRR going away with level triggering.
      if (!(value & LEVEL_TRIGGERED)) this.low[pin]! &= ~REMOTE_IRR;
    }
    const now = this.low[pin]!;
    if ((before ^ now) & MASKED) this.#vm.routing.notifyMask(KVM_IRQCHIP_IOAPIC, pin, (now & MASKED) !== 0);
    const waiting = (): boolean => (this.irr & (1 << pin)) !== 0;
    if (now & LEVEL_TRIGGERED && !(now & (MASKED | REMOTE_IRR)) && waiting()) {
      // The line may have been lowered while it was masked: whoever resamples it is asked first.
      this.#vm.routing.notifyAcked(KVM_IRQCHIP_IOAPIC, pin);
      if (waiting()) this.#service(pin, false);
    }
  }

  /** KVM_SET_IRQCHIP: raw state; what was waiting is injected anew. */
  load(bytes: Uint8Array): void {
    const state = kvm_ioapic_state.decode(bytes);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const table = kvm_ioapic_state.offsetOf('redirtbl');
    this.ioregsel = state.ioregsel;
    this.id = state.id;
    this.#base = state.base_address;
    this.#pad = state.pad;
    for (let pin = 0; pin < IOAPIC_NUM_PINS; pin++) {
      this.low[pin] = view.getUint32(table + pin * 8, true);
      this.high[pin] = view.getUint32(table + pin * 8 + 4, true);
    }
    this.irr = 0;
    this.irrDelivered = 0;
    this.#rtcPending = 0;
    for (let pin = 0; pin < IOAPIC_NUM_PINS; pin++) if (state.irr & (1 << pin)) this.#set(pin, true, true);
  }

  /** KVM_GET_IRQCHIP: an edge that was delivered no longer waits. */
  store(): Uint8Array {
    const bytes = kvm_ioapic_state.alloc();
    const view = new DataView(bytes.buffer);
    view.setBigUint64(kvm_ioapic_state.offsetOf('base_address'), this.#base, true);
    view.setUint32(kvm_ioapic_state.offsetOf('ioregsel'), this.ioregsel, true);
    view.setUint32(kvm_ioapic_state.offsetOf('id'), this.id, true);
    view.setUint32(kvm_ioapic_state.offsetOf('irr'), this.irr & ~this.irrDelivered, true);
    view.setUint32(kvm_ioapic_state.offsetOf('pad'), this.#pad, true);
    const table = kvm_ioapic_state.offsetOf('redirtbl');
    for (let pin = 0; pin < IOAPIC_NUM_PINS; pin++) {
      view.setUint32(table + pin * 8, this.low[pin]!, true);
      view.setUint32(table + pin * 8 + 4, this.high[pin]!, true);
    }
    return bytes;
  }
}
