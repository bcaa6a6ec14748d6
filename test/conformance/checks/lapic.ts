/** Local APICs and MP states, and the VM's settings they depend on. */
import type { Checks } from './check.ts';

export const lapicChecks: Checks = {
  'KVM_CREATE_IRQCHIP (vm)': [
    ['EEXIST', 'there is one, full or split'],
    ['EINVAL', 'a vCPU has been made'],
  ],
  'KVM_ENABLE_CAP (vm)': [
    ['EFAULT', 'the struct cannot be read'],
    ['EINVAL', 'flags other than 0, where the capability is not one of the generic group'],
    ['EINVAL', 'an unknown capability'],
    ['EINVAL', 'SPLIT_IRQCHIP: more than 4096 pins'],
    ['EEXIST', 'SPLIT_IRQCHIP: there is an irqchip'],
    ['EEXIST', 'SPLIT_IRQCHIP: a vCPU has been made'],
    ['EINVAL', 'X2APIC_API: an unknown flag'],
    ['EINVAL', 'X2APIC_API: both flags about the suppression of EOI broadcasts'],
    ['EINVAL', 'X2APIC_API: suppression of EOI broadcasts without a split irqchip'],
  ],
  'KVM_ENABLE_CAP (vcpu)': [
    ['EFAULT', 'the struct cannot be read'],
    ['EINVAL', 'flags other than 0'],
    ['EINVAL', 'an unknown capability, or one of the VM'],
  ],
};
