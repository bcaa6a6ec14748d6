/** What the ioctls of a VM's and a vCPU's further state check. */
import type { Check, Checks } from './check.ts';

const unreadable = (name: string, label: string): Check => ['EFAULT', 'the argument cannot be read or written', name, label];
const clock = 'kvm/clock/set';
const filter = 'kvm/msr-filter/argument';
const attribute = 'kvm/device-attr/vcpu';
const legality = 'kvm/xsave/legality';
const oneReg = 'kvm/one-reg';
const mce = 'kvm/mce/report';

const attributes = (name: string): readonly Check[] => [
  unreadable(attribute, `${name}, pointer 0`),
  ['ENXIO', 'another group', attribute, `${name} group 1`],
  ['ENXIO', 'another attribute', attribute, `${name} attribute 1`],
];
const registers = (name: 'GET' | 'SET'): readonly Check[] => [
  unreadable(oneReg, `${name}, pointer 0`),
  ...(name === 'GET'
    ? ([
        ['EINVAL', 'another architecture', oneReg, 'GET another architecture'],
        ['EINVAL', 'another size than 64 bits', oneReg, 'GET 32 bits'],
        ['EINVAL', 'a reserved bit', oneReg, 'GET a reserved bit'],
        ['EINVAL', 'a type there is none of', oneReg, 'GET type 4'],
        ['EINVAL', "a guest's shadow stack pointer without shadow stacks", oneReg, 'GET type 3, index 0'],
      ] as const)
    : []),
  ['EINVAL', 'what KVM_GET_MSRS or KVM_SET_MSRS would stop at', oneReg, `${name} an MSR there is none of`],
  ['EFAULT', 'the value cannot be read or written', oneReg, `${name} at 0`],
];

export const stateChecks: Checks = {
  'KVM_GET_CLOCK (vm)': [
    unreadable('kvm/clock/get', 'GET_CLOCK, pointer 0'),
    ['0', 'flags only once the clock was set with a vCPU there', 'kvm/clock/master', 'flags after CREATE_VCPU'],
  ],
  'KVM_SET_CLOCK (vm)': [
    unreadable(clock, 'SET_CLOCK, pointer 0'),
    ['EINVAL', 'an unknown flag', clock, 'flags 1'],
    ['0', 'padding is not looked at', clock, 'padding'],
  ],
  'KVM_KVMCLOCK_CTRL (vcpu)': [['EINVAL', 'the guest has no clock page', 'kvm/clock/kvmclock-ctrl', 'without a clock page']],
  'KVM_GET_STATS_FD (vm)': [
    ['0', 'the argument is ignored'],
    ['EMFILE', 'no descriptor is free'],
  ],
  'KVM_GET_STATS_FD (vcpu)': [
    ['0', 'the argument is ignored'],
    ['EMFILE', 'no descriptor is free'],
  ],
  'KVM_X86_SET_MSR_FILTER (vm)': [
    unreadable(filter, 'pointer 0'),
    ['EINVAL', 'an unknown flag', filter, 'flags 2'],
    ['EINVAL', 'nothing would be allowed', filter, 'empty, deny'],
    ['EINVAL', 'a range that speaks of neither reads nor writes', filter, 'a range without flags'],
    ['EINVAL', 'an unknown flag of a range', filter, 'range flags 4'],
    ['EINVAL', 'a bitmap above 0x600 bytes', filter, 'one more'],
    ['EFAULT', 'a bitmap that cannot be read', filter, 'a bitmap at 0'],
    ['0', 'a range without MSRs is not looked at', filter, 'a range without flags and MSRs'],
  ],
  'KVM_SET_PMU_EVENT_FILTER (vm)': [
    unreadable('kvm/pmu-filter', 'pointer 0'),
    ['EINVAL', 'an unknown action', 'kvm/pmu-filter', 'action 2'],
    ['EINVAL', 'an unknown flag', 'kvm/pmu-filter', 'flags 2'],
    ['E2BIG', 'more than 300 events', 'kvm/pmu-filter', '301 events'],
    ['EINVAL', 'a masked event with a bit that there is none of', 'kvm/pmu-filter', 'masked: bit 54'],
    ['0', 'other events and the padding are not looked at', 'kvm/pmu-filter', 'all ones'],
  ],
  'KVM_HAS_DEVICE_ATTR (vcpu)': attributes('HAS'),
  'KVM_GET_DEVICE_ATTR (vcpu)': [
    ...attributes('GET'),
    ['EFAULT', 'the value cannot be written', attribute, 'GET the offset at 0'],
  ],
  'KVM_SET_DEVICE_ATTR (vcpu)': [...attributes('SET'), ['EFAULT', 'the value cannot be read', attribute, 'SET the offset at 0']],
  'KVM_GET_XSAVE (vcpu)': [
    unreadable('kvm/xsave/argument', 'GET_XSAVE, pointer 0'),
    ['EINVAL', 'the state is larger than the struct'],
  ],
  'KVM_GET_XSAVE2 (vcpu)': [unreadable('kvm/xsave/argument', 'GET_XSAVE2, pointer 0')],
  'KVM_SET_XSAVE (vcpu)': [
    unreadable('kvm/xsave/argument', 'SET_XSAVE, pointer 0'),
    ['EINVAL', 'a component there is none of', legality, 'a component there is none of'],
    ['EINVAL', 'the compacted format', legality, 'the compacted format'],
    ['EINVAL', 'a reserved byte of the header', legality, 'a reserved byte of the header'],
    ['EINVAL', 'MXCSR: a reserved bit, with a component that has it', legality, 'MXCSR with a reserved bit, SSE'],
    ['0', 'and without one', legality, 'MXCSR with a reserved bit, no component'],
  ],
  'KVM_SET_SIGNAL_MASK (vcpu)': [
    ['0', 'NULL: no mask', 'kvm/signal-mask/argument', 'NULL'],
    unreadable('kvm/signal-mask/argument', 'a pointer to nowhere'),
    ['EINVAL', 'another length than 8', 'kvm/signal-mask/argument', 'len 4'],
  ],
  'KVM_SET_GUEST_DEBUG (vcpu)': [
    unreadable('kvm/guest-debug-ioctl/control', 'pointer 0'),
    ['EBUSY', 'an exception to inject, and one is pending', 'kvm/guest-debug-ioctl/inject', 'DB: again'],
    ['0', 'unknown bits of control', 'kvm/guest-debug-ioctl/control', 'control 0x80000001'],
  ],
  'KVM_TRANSLATE (vcpu)': [unreadable('kvm/translate/unpaged', 'pointer 0')],
  'KVM_X86_SETUP_MCE (vcpu)': [
    unreadable('kvm/mce/setup', 'SETUP_MCE, pointer 0'),
    ['EINVAL', 'no banks', 'kvm/mce/setup', 'SETUP_MCE 0x0'],
    ['EINVAL', 'more than 32 banks', 'kvm/mce/setup', 'SETUP_MCE 0x21'],
    ['EINVAL', 'a capability the host does not have', 'kvm/mce/setup', 'SETUP_MCE 0x40a'],
  ],
  'KVM_X86_SET_MCE (vcpu)': [
    unreadable(mce, 'pointer 0'),
    ['EINVAL', 'a bank there is none of', mce, 'bank 10'],
    ['EINVAL', 'a status that is not valid', mce, 'not valid'],
    ['0', 'an uncorrected error in a bank that is off: nothing', mce, 'uncorrected, bank off'],
  ],
  'KVM_GET_ONE_REG (vcpu)': registers('GET'),
  'KVM_SET_ONE_REG (vcpu)': registers('SET'),
  'KVM_GET_REG_LIST (vcpu)': [
    unreadable(oneReg, 'REG_LIST, pointer 0'),
    ['0', 'there are none', oneReg, 'REG_LIST with room for 0'],
  ],
  'KVM_GET_NESTED_STATE (vcpu)': [['EINVAL', 'no nested virtualisation', 'kvm/nested', 'GET']],
  'KVM_SET_NESTED_STATE (vcpu)': [['EINVAL', 'no nested virtualisation', 'kvm/nested', 'SET']],
};
