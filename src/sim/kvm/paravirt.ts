import { EINVAL } from '../../uapi/sys.ts';
import type { Vcpu } from './vcpu.ts';

const MSR_KVM_SYSTEM_TIME = 0x12;
/** KVM_MSR_ENABLED. */
const ENABLED = 1n;

/** KVM_KVMCLOCK_CTRL: tells the guest through its clock page that it was stopped. */
export function kvmclockCtrl(vcpu: Vcpu): number {
  if (!((vcpu.msrs.get(MSR_KVM_SYSTEM_TIME) ?? 0n) & ENABLED)) return -EINVAL;
  return 0;
}
