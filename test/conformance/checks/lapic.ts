/** Local APICs and MP states, and the VM's settings they depend on. */
import type { Checks } from './check.ts';

const modes = 'kvm/lapic/irqchip-modes';
const api = 'kvm/lapic/x2apic-api';
const none = 'kvm/lapic/none';
const vapic = 'kvm/lapic/vapic-and-tpr-reporting';

export const lapicChecks: Checks = {
  'KVM_CREATE_IRQCHIP (vm)': [
    ['EEXIST', 'there is one', modes, 'again'],
    ['EEXIST', 'there is a split one', modes, 'CREATE_IRQCHIP after split'],
    ['EINVAL', 'a vCPU has been made', modes, 'CREATE_IRQCHIP after a vCPU'],
  ],
  'KVM_ENABLE_CAP (vm)': [
    ['EFAULT', 'the struct cannot be read', modes, 'ENABLE_CAP, pointer 0'],
    ['EINVAL', 'flags other than 0, where the capability is not one of the generic group', modes, 'split, flags 1'],
    ['EINVAL', 'an unknown capability', modes, 'ENABLE_CAP, an unknown capability'],
    ['EINVAL', 'SPLIT_IRQCHIP: more than 4096 pins', modes, 'split after it, too many pins'],
    ['EEXIST', 'SPLIT_IRQCHIP: there is an irqchip', modes, 'split after it'],
    ['EEXIST', 'SPLIT_IRQCHIP: a vCPU has been made', modes, 'split after a vCPU'],
    ['EINVAL', 'X2APIC_API: an unknown flag', api, 'split: 0x10'],
    ['EINVAL', 'X2APIC_API: both flags about the suppression of EOI broadcasts', api, 'split: 0xc'],
    ['EINVAL', 'X2APIC_API: suppression of EOI broadcasts without a split irqchip', api, 'kernel: 0x4'],
  ],
  'KVM_ENABLE_CAP (vcpu)': [
    ['EFAULT', 'the struct cannot be read', modes, 'vCPU: ENABLE_CAP, pointer 0'],
    ['EINVAL', 'flags other than 0', modes, 'vCPU: flags 1'],
    ['EINVAL', 'an unknown capability', modes, 'vCPU: an unknown capability'],
    ['EINVAL', 'one of the VM', modes, 'vCPU: a capability of the VM'],
  ],
  'KVM_GET_LAPIC (vcpu)': [
    ['EINVAL', 'no in-kernel local APIC, before the pointer is looked at', none, 'GET_LAPIC, pointer 0'],
    ['EFAULT', 'the registers cannot be written', 'kvm/lapic/fresh', 'kernel: GET_LAPIC, pointer 0'],
    ['0', 'x2APIC mode: the id as KVM_CAP_X2APIC_API decides', 'kvm/lapic/set-x2apic', '8-bit ids: SET_LAPIC with what GET gave'],
  ],
  'KVM_SET_LAPIC (vcpu)': [
    ['EINVAL', 'no in-kernel local APIC, before the pointer is looked at', none, 'SET_LAPIC, pointer 0'],
    ['EFAULT', 'the registers cannot be read', 'kvm/lapic/fresh', 'kernel: SET_LAPIC, pointer 0'],
    ['EINVAL', 'x2APIC mode with 32-bit ids, and another id', 'kvm/lapic/set-x2apic', '32-bit ids: SET_LAPIC, id 0x6'],
    ['0', 'with 8-bit ids any id, which is ignored', 'kvm/lapic/set-x2apic', '8-bit ids: SET_LAPIC, id 0x6'],
  ],
  'KVM_TPR_ACCESS_REPORTING (vcpu)': [
    ['EFAULT', 'the struct cannot be read', vapic, 'TPR_ACCESS_REPORTING, pointer 0'],
    ['EINVAL', 'flags other than 0', vapic, 'flags 1'],
    ['0', 'also without an in-kernel local APIC', none, 'TPR_ACCESS_REPORTING on'],
  ],
  'KVM_SET_VAPIC_ADDR (vcpu)': [
    ['EINVAL', 'no in-kernel local APIC, before the pointer is looked at', none, 'SET_VAPIC_ADDR, pointer 0'],
    ['EFAULT', 'the address cannot be read', vapic, 'SET_VAPIC_ADDR, pointer 0'],
    ['EINVAL', 'no memory there', vapic, 'without memory'],
    ['EINVAL', 'no memory at the last of its four bytes', vapic, 'at 0x1ffd'],
    ['0', 'address 0 switches it off', vapic, '0'],
  ],
};
