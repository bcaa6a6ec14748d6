import { KVM_MSR_EXIT_REASON_FILTER, KVM_MSR_EXIT_REASON_INVAL, KVM_MSR_EXIT_REASON_UNKNOWN } from '../../uapi/kvm.ts';
import type { MsrExit } from '../cpu/bus.ts';
import { msrAllowed } from './msr-filter.ts';
import { getMsr, isKnownMsr, setMsr } from './msrs.ts';
import type { Vcpu } from './vcpu.ts';

/** RDMSR and WRMSR of the guest: the filter, then the MSR; what fails comes to userspace where KVM_CAP_X86_USER_SPACE_MSR asks for its reason. */
export function guestRdmsr(vcpu: Vcpu, index: number): bigint | null | MsrExit {
  if (!msrAllowed(vcpu.vm.caps.msrFilter, index, 'read')) return failed(vcpu, KVM_MSR_EXIT_REASON_FILTER) ?? null;
  const value = getMsr(vcpu, index, false);
  return value ?? failed(vcpu, reasonOf(vcpu, index)) ?? null;
}

export function guestWrmsr(vcpu: Vcpu, index: number, value: bigint): boolean | MsrExit {
  if (!msrAllowed(vcpu.vm.caps.msrFilter, index, 'write')) return failed(vcpu, KVM_MSR_EXIT_REASON_FILTER) ?? false;
  return setMsr(vcpu, index, value, false) || (failed(vcpu, reasonOf(vcpu, index)) ?? false);
}

function reasonOf(vcpu: Vcpu, index: number): number {
  return isKnownMsr(vcpu, index) ? KVM_MSR_EXIT_REASON_INVAL : KVM_MSR_EXIT_REASON_UNKNOWN;
}

/** Undefined: the guest takes #GP. */
function failed(vcpu: Vcpu, reason: number): MsrExit | undefined {
  return vcpu.vm.caps.userSpaceMsrMask & reason ? { exit: reason } : undefined;
}
