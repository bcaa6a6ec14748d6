/** What KVM imitates of Hyper-V, as far as a VM sees it that does not use it: MSRs at reset. No machine has its capabilities (absent.ts). */
import type { Vcpu } from './vcpu.ts';

/** Hyper-V's MSRs. Which of them there are, the machine's list says. */
export const HYPERV_MSRS: readonly [first: number, last: number] = [0x4000_0000, 0x4000_0118];
const APIC_HZ = 1_000_000_000n;
const SINT_MASKED = 1n << 16n;

/** MSRs that are not 0 at reset. */
const atReset: Readonly<Record<number, (vcpu: Vcpu) => bigint>> = {
  // VP_INDEX, TIME_REF_COUNT in units of 100 ns, TSC_FREQUENCY, APIC_FREQUENCY, SINT3
  1073741826: (vcpu) => BigInt(vcpu.id),
  1073741856: (vcpu) => vcpu.vm.nanoseconds() / 100n,
  1073741858: (vcpu) => BigInt(vcpu.tscKhz) * 1000n,
  1073741859: () => APIC_HZ,
  1073741971: () => SINT_MASKED,
};

/** Userspace reads them, as they are listed; no guest does: Hyper-V is not simulated. */
export function getHypervMsr(vcpu: Vcpu, index: number, host: boolean): bigint | undefined {
  if (!vcpu.vm.machine.kvm.msrs.includes(index)) return undefined;
  if (host) return atReset[index]?.(vcpu) ?? 0n;
  return undefined;
}

/** Only what is there already. */
export function setHypervMsr(vcpu: Vcpu, index: number, value: bigint, host: boolean): bigint | undefined {
  if (!vcpu.vm.machine.kvm.msrs.includes(index)) return undefined;
  if (host && value === getHypervMsr(vcpu, index, host)) return value;
  return undefined;
}
