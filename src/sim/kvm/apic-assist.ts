/** What a local APIC and a patched guest tell each other through memory: KVM_SET_VAPIC_ADDR's word, and the bit of MSR_KVM_PV_EOI_EN. */
import { APIC_IRR, APIC_TASKPRI, APIC_TMR } from './apic-regs.ts';
import { readGuest, writeGuest } from './guest-memory.ts';
import type { Lapic } from './lapic.ts';

const MSR_KVM_PV_EOI_EN = 0x4b564d04;
const KVM_MSR_ENABLED = 1n;
/** KVM_PV_EOI_ENABLED: the guest ends its interrupt by clearing it. */
const PV_EOI_ENABLED = 1;

/** Where the guest has its bit; undefined: it has not asked for one. */
function pvEoiByte({ vcpu }: Lapic): bigint | undefined {
  const value = vcpu.msrs.get(MSR_KVM_PV_EOI_EN) ?? 0n;
  return value & KVM_MSR_ENABLED ? value & ~KVM_MSR_ENABLED : undefined;
}

/**
 * kvm_lapic_sync_to_vapic, as the guest is entered and something has happened. The last interrupt taken, while it is in service and none waits behind it, may end by the bit; not a
 * level-triggered one, whose end the IOAPIC has to hear of.
 */
export function assistEntry(lapic: Lapic): void {
  if (!lapic.eventRequested) return;
  lapic.eventRequested = false;
  const { vcpu, vapicAddr } = lapic;
  const byte = pvEoiByte(lapic);
  const vector = lapic.knownInService;
  const alone = vector !== undefined && lapic.highest(APIC_IRR) < 0 && !lapic.test(APIC_TMR, vector);
  if (byte !== undefined && alone) lapic.pvEoiPending = writeGuest(vcpu.vm, byte, Uint8Array.of(PV_EOI_ENABLED), vcpu);
  if (vapicAddr === 0n) return;
  const isr = Math.max(0, lapic.highestInService);
  const irr = Math.max(0, lapic.highest(APIC_IRR));
  const word = new Uint8Array([lapic.get(APIC_TASKPRI), isr & 0xf0, 0, irr]);
  writeGuest(vcpu.vm, vapicAddr, word, vcpu);
}

/** kvm_lapic_sync_from_vapic, as the guest is left (a turn of emulation comes after it): its TPR, and whether it has ended its interrupt. */
export function assistExit(lapic: Lapic): void {
  const { vcpu, vapicAddr } = lapic;
  const byte = pvEoiByte(lapic);
  if (lapic.pvEoiPending && byte !== undefined) {
    lapic.pvEoiPending = false;
    const value = readGuest(vcpu.vm, byte, 1);
    if (value !== null && value[0]! & PV_EOI_ENABLED) writeGuest(vcpu.vm, byte, Uint8Array.of(0), vcpu);
    else lapic.endOfInterrupt();
  }
  if (vapicAddr === 0n) return;
  const word = readGuest(vcpu.vm, vapicAddr, 4);
  if (word !== null) lapic.setTpr(word[0]!);
}
