import { kvm_cpuid2 } from '../../uapi/kvm.ts';
import { E2BIG, EFAULT } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import { writeTable } from './cpuid.ts';
import { notModelled } from './ioctl-table.ts';
import type { Vcpu } from './vcpu.ts';

/** What KVM imitates of Hyper-V, as far as a VM sees it that does not use it: the CPUID table on offer and MSRs at reset. */

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

/** KVM_GET_SUPPORTED_HV_CPUID: `nent` too small is E2BIG and nothing is written, as for KVM_GET_SUPPORTED_CPUID. */
export function getSupportedHvCpuid(p: Process, arg: bigint): number {
  const nent = p.mm.read32(arg);
  if (nent === null || p.mm.copyFrom(arg, kvm_cpuid2.offsetOf('entries')) === null) return -EFAULT;
  const table = p.system.machine.kvm.hvCpuid;
  return nent < table.length ? -E2BIG : writeTable(p, arg, table, nent);
}

/** The same of a vCPU, whose table depends on its interrupt controller: only the refusals. */
export function getVcpuHvCpuid(p: Process, arg: bigint): number {
  if (p.mm.copyFrom(arg, kvm_cpuid2.offsetOf('entries')) === null) return -EFAULT;
  return notModelled('KVM_GET_SUPPORTED_HV_CPUID on a vCPU');
}
