/**
 * What a local APIC and a patched guest tell each other through memory: the word of KVM_SET_VAPIC_ADDR. (The other such thing, the bit of
 * MSR_KVM_PV_EOI_EN by which a guest may end an interrupt, neither 6.18-pvm nor 7.2-svm were seen to set.)
 */
import { APIC_IRR, APIC_TASKPRI } from './apic-regs.ts';
import { readGuest, writeGuest } from './guest-memory.ts';
import type { LapicCore } from './lapic-core.ts';

/** kvm_lapic_sync_to_vapic, as the guest is entered and something has happened, if the APIC is enabled: TPR, the class in service, the highest vector requested. */
export function assistEntry(lapic: LapicCore): void {
  if (!lapic.eventRequested) return;
  lapic.eventRequested = false;
  const { vcpu, vapicAddr } = lapic;
  if (vapicAddr === 0n || !lapic.enabled) return;
  const isr = Math.max(0, lapic.highestInService);
  const irr = Math.max(0, lapic.highest(APIC_IRR));
  writeGuest(vcpu.vm, vapicAddr, Uint8Array.of(lapic.get(APIC_TASKPRI), isr & 0xf0, 0, irr), vcpu);
}

/** kvm_lapic_sync_from_vapic, as the guest is left (a turn of emulation comes after it): the guest's TPR. */
export function assistExit(lapic: LapicCore): void {
  if (lapic.vapicAddr === 0n) return;
  const word = readGuest(lapic.vcpu.vm, lapic.vapicAddr, 4);
  if (word !== null) lapic.setTpr(word[0]!);
}
