import { getStruct, Handle, setStruct } from '../kernel/handle.ts';
import {
  KVM_GET_LAPIC,
  KVM_INTERRUPT,
  KVM_NMI,
  KVM_SET_LAPIC,
  KVM_SET_VAPIC_ADDR,
  KVM_SMI,
  KVM_TPR_ACCESS_REPORTING,
  kvm_interrupt,
  kvm_lapic_state,
  kvm_tpr_access_ctl,
  kvm_vapic_addr,
} from '../uapi/kvm.ts';
import type { Input } from '../uapi/struct.ts';

/** Interrupts of a vCPU: what is put in from outside, and its local APIC. */
export abstract class VcpuInterrupts extends Handle {
  /**
   * KVM_INTERRUPT: an external interrupt. Without an interrupt controller in the kernel it is injected at the next entry, whatever IF says, and replaces
   * one that waits; with local APICs alone it comes through LINT0, and a second one is EEXIST; with the 8259s in the kernel ENXIO. EINVAL above 255. x86 only.
   */
  interrupt(irq: number): void {
    setStruct(this, KVM_INTERRUPT, kvm_interrupt, { irq });
  }

  /** KVM_NMI: at most two wait. */
  nmi(): void {
    this.ioctl(KVM_NMI);
  }

  /** KVM_SMI: a system management interrupt. ENOTTY without KVM_CAP_X86_SMM. x86 only. */
  smi(): void {
    this.ioctl(KVM_SMI);
  }

  /**
   * KVM_GET_LAPIC: the register page of the local APIC in the kernel, register r (as `asm/apicdef.h` numbers them, 16 bytes apart) at byte r. The id of an
   * x2APIC is in the upper eight bits unless KVM_X2APIC_API_USE_32BIT_IDS was enabled. EINVAL without one. x86 only.
   */
  getLapic(): kvm_lapic_state {
    return getStruct(this, KVM_GET_LAPIC, kvm_lapic_state);
  }

  /**
   * KVM_SET_LAPIC. The version is KVM's own; so are id and LDR of an x2APIC, whose id is EINVAL if it differs with 32-bit ids. The timer goes on from the
   * image's current count. EINVAL without a local APIC in the kernel. x86 only.
   */
  setLapic(state: Input<kvm_lapic_state>): void {
    setStruct(this, KVM_SET_LAPIC, kvm_lapic_state, state);
  }

  /** KVM_TPR_ACCESS_REPORTING: exits (`tpr_access`) when the guest touches TPR in the register page. x86 only. */
  tprAccessReporting(enabled: boolean): void {
    setStruct(this, KVM_TPR_ACCESS_REPORTING, kvm_tpr_access_ctl, { enabled: Number(enabled), flags: 0 });
  }

  /** KVM_SET_VAPIC_ADDR: guest-physical address of four bytes in which a patched guest keeps its TPR; 0n is off. EINVAL without memory there, or without a local APIC in the kernel. x86 only. */
  setVapicAddr(vapic_addr: bigint): void {
    setStruct(this, KVM_SET_VAPIC_ADDR, kvm_vapic_addr, { vapic_addr });
  }
}
