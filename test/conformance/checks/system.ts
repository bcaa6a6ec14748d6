/** What the system descriptor's ioctls check. */
import type { Check, Checks } from './check.ts';

/** Both lists of MSR numbers follow one protocol. */
const msrList = (name: string): readonly Check[] => [
  ['EFAULT', 'the count cannot be read', name, 'pointer 0'],
  ['E2BIG', 'room for fewer than there are; the true count is written all the same', name, 'count written although E2BIG'],
  ['E2BIG', 'and no index is', name, 'no index written'],
  ['0', 'exact room suffices', name, 'exact room'],
  ['0', 'with more room the count is corrected', name, 'count corrected'],
  ['EFAULT', 'the indices cannot be written'],
];

const supported = 'kvm/system/supported-cpuid';
const emulated = 'kvm/system/emulated-cpuid';
const attributes = 'kvm/system/device-attributes';
const features = 'kvm/system/feature-msrs';
const odd = 'kvm/system/check-extension-odd';

export const systemChecks: Checks = {
  'KVM_GET_API_VERSION (kvm)': [
    ['EINVAL', 'an argument other than 0', 'kvm/system/api-version', 'arg 1'],
    ['EINVAL', 'all 64 bits of it count', 'kvm/system/api-version', 'arg above 32 bits'],
    ['12', 'otherwise', 'kvm/system/api-version', 'arg 0'],
  ],
  'KVM_GET_VCPU_MMAP_SIZE (kvm)': [
    ['EINVAL', 'an argument other than 0', 'kvm/system/vcpu-mmap-size', 'arg 1'],
    ['12288', 'the run page, the PIO page and the coalesced ring', 'kvm/system/vcpu-mmap-size', 'arg 0'],
  ],
  'KVM_CREATE_VM (kvm)': [
    ['EMFILE', 'no descriptor is free, before the type is looked at', 'kvm/system/create-vm-emfile', 'CREATE_VM with a bad type'],
    ['ENOMEM', 'no memory for the VM'],
    ['EINVAL', 'a type that is not supported', 'kvm/system/create-vm', 'type 0x1f'],
    ['EINVAL', 'all 64 bits of the type count', 'kvm/system/create-vm', 'type 0x100000000'],
    ['fd', 'the lowest free number', 'kvm/system/create-vm', 'takes the lowest free number'],
    ['EBUSY', 'the CPU cannot be put into virtualization mode'],
  ],
  'KVM_CHECK_EXTENSION (kvm)': [
    ['0', 'an unknown number, never an error', odd, 'system 0x3e8'],
    ['0', 'a number above 32 bits is unknown, not cut off', odd, 'system 0x10000000a'],
    ['value', 'each capability has the value of this kernel and configuration', 'kvm/system/capabilities', 'system 10'],
  ],
  'KVM_GET_MSR_INDEX_LIST (kvm)': msrList('kvm/system/msr-index-list'),
  'KVM_GET_MSR_FEATURE_INDEX_LIST (kvm)': msrList('kvm/system/msr-feature-index-list'),
  'KVM_GET_SUPPORTED_CPUID (kvm)': [
    ['EFAULT', 'the header cannot be read', supported, 'pointer 0'],
    ['E2BIG', 'room for none', supported, 'nent 0'],
    ['0', 'a count above 256 counts as 256', supported, 'nent 257 is clamped'],
    ['E2BIG', 'too little room; the header stays as it was', supported, 'nent 1: header left alone'],
    ['E2BIG', 'too little room; no entry is written', supported, 'nent 1: entries left alone'],
    ['0', 'the count is written', supported, 'nent is the number of entries'],
    ['0', 'what the entries hold beforehand is not read', supported, 'entries are not read'],
    ['EFAULT', 'the entries cannot be written'],
  ],
  'KVM_GET_EMULATED_CPUID (kvm)': [
    ['EFAULT', 'the header cannot be read', emulated, 'pointer 0'],
    ['E2BIG', 'room for none, before the padding', emulated, 'nent 0 and padding'],
    ['EINVAL', 'an entry whose padding is not 0, before the room', emulated, 'padding and too little room'],
    ['0', 'padding behind the last entry does not count', emulated, 'padding behind the last entry'],
    ['E2BIG', 'room for exactly the three entries is too little', emulated, 'nent 3'],
    ['0', 'one more is enough', emulated, 'nent 4'],
  ],
  'KVM_GET_MSRS (kvm)': [
    ['EFAULT', 'the header cannot be read', features, 'pointer 0'],
    ['E2BIG', '256 entries or more', features, 'nmsrs 256'],
    ['0', 'none asked for', features, 'nmsrs 0'],
    ['count', 'ends before the first unknown one', features, 'an unknown MSR second'],
    ['count', 'one of the index list that is no feature reads as 0', features, 'reads 0'],
  ],
  'KVM_X86_GET_MCE_CAP_SUPPORTED (kvm)': [
    ['EFAULT', 'the value cannot be written', 'kvm/system/mce-cap', 'pointer 0'],
    ['0', 'otherwise', 'kvm/system/mce-cap', 'read'],
  ],
  'KVM_HAS_DEVICE_ATTR (kvm)': [
    ['EFAULT', 'the struct cannot be read', attributes, 'has, pointer 0'],
    ['ENXIO', 'a group other than 0', attributes, 'has 99/0'],
    ['ENXIO', 'an attribute other than 0', attributes, 'has 0/1'],
    ['0', 'flags are ignored', attributes, 'has 0/0 with flags'],
  ],
  'KVM_GET_DEVICE_ATTR (kvm)': [
    ['EFAULT', 'the struct cannot be read', attributes, 'get, pointer 0'],
    ['ENXIO', 'a group other than 0, before the address', attributes, 'get 99/0'],
    ['ENXIO', 'an attribute other than 0', attributes, 'get 0/1'],
    ['EFAULT', 'the value cannot be written', attributes, 'get 0/0 to address 0'],
    ['0', 'flags are ignored', attributes, 'get 0/0 with flags'],
  ],
};
