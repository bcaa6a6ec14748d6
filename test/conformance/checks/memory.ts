/** What KVM checks where guest memory is tracked, and where writes to no memory are collected. */
import type { Check, Checks } from './check.ts';

function coalesced(request: 'REGISTER' | 'UNREGISTER', own: readonly Check[]): readonly Check[] {
  const argument = 'kvm/coalesced/argument';
  return [
    ['EIO', 'another process than the one that made the VM, or a VM that is dead'],
    ['EFAULT', 'the zone cannot be read', argument, `${request}: pointer 0`],
    ['EINVAL', '`pio` is neither 0 nor 1', argument, `${request}: pio 2`],
    ...own,
  ];
}

export const memoryChecks: Checks = {
  'KVM_REGISTER_COALESCED_MMIO (vm)': coalesced('REGISTER', [
    ['EINVAL', 'a bad `pio` comes before the count', 'kvm/coalesced/no-more', 'one more with a bad pio'],
    ['ENOMEM', 'no memory for the zone'],
    ['ENOSPC', '1000 devices that are no ioeventfds on this bus', 'kvm/coalesced/no-more', 'one more'],
    ['0', 'an empty zone', 'kvm/coalesced/argument', 'REGISTER: size 0'],
    ['0', 'the same zone again', 'kvm/coalesced/zones', 'the same again'],
    ['0', 'a port above 16 bits', 'kvm/coalesced/argument', 'REGISTER: a port above 16 bits'],
  ]),
  'KVM_UNREGISTER_COALESCED_MMIO (vm)': coalesced('UNREGISTER', [
    ['0', 'no zone holds the range', 'kvm/coalesced/argument', 'UNREGISTER of what there is none of'],
    ['0', 'a part of zones: they go whole', 'kvm/coalesced/zones', 'UNREGISTER of one byte inside all that hold it'],
    ['0', '2^31 bytes and more: nothing goes', 'kvm/coalesced/zones', 'UNREGISTER of 2^31 bytes'],
  ]),
};
