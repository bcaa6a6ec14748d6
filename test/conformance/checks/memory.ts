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

const get = 'kvm/dirty-log/get-checks';
const clear = 'kvm/dirty-log/clear-checks';
const enable = 'kvm/dirty-ring/enable';
const other: Check = ['EIO', 'another process than the one that made the VM, or a VM that is dead'];

export const memoryChecks: Checks = {
  'KVM_GET_DIRTY_LOG (vm)': [
    other,
    ['EFAULT', 'the struct cannot be read', get, 'pointer 0'],
    ['ENXIO', 'dirty rings are in use', 'kvm/dirty-ring/no-bitmaps', 'GET of a logged slot'],
    ['ENXIO', 'that comes before the slot', 'kvm/dirty-ring/no-bitmaps', 'GET of a bad slot'],
    ['EINVAL', 'a slot number above the last', get, 'slot 0x7ffc'],
    ['EINVAL', 'an address space there is none of', get, 'slot 0x20000'],
    ['ENOENT', 'no such slot', get, 'a slot there is none of'],
    ['ENOENT', 'a slot without KVM_MEM_LOG_DIRTY_PAGES', get, 'a slot that is not logged'],
    ['EFAULT', 'the bitmap cannot be written', get, 'bitmap at 0'],
    ['0', 'the bits are lost then', 'kvm/dirty-log/fetch-and-clear', 'the bits are lost'],
    ['0', 'with manual protection nothing is cleared', 'kvm/dirty-log/manual', 'they stay'],
  ],
  'KVM_CLEAR_DIRTY_LOG (vm)': [
    other,
    ['EFAULT', 'the struct cannot be read', clear, 'pointer 0'],
    ['ENXIO', 'dirty rings are in use', 'kvm/dirty-ring/no-bitmaps', 'CLEAR from page 1'],
    ['EINVAL', 'a slot number above the last', clear, 'slot 0x7ffc'],
    ['EINVAL', 'an address space there is none of', clear, 'slot 0x20000'],
    ['EINVAL', 'a first page that is no multiple of 64, before the slot', clear, 'first page 1, of a slot there is none of'],
    ['ENOENT', 'no such slot', clear, 'first page 64, of a slot there is none of'],
    ['ENOENT', 'a slot without KVM_MEM_LOG_DIRTY_PAGES', clear, 'a slot that is not logged'],
    ['EINVAL', 'a first page beyond the slot', clear, 'first page 256'],
    ['EINVAL', 'more pages than the slot has', clear, '192 + 9 pages'],
    ['EINVAL', 'no multiple of 64, and not to the end', clear, '0 + 63 pages'],
    ['EFAULT', 'the bitmap cannot be read', clear, 'bitmap at 0'],
    ['0', 'no pages at all', clear, '0 + 0 pages'],
    ['0', 'without manual protection', 'kvm/dirty-log/manual', 'CLEAR without manual protection'],
  ],
  'KVM_RESET_DIRTY_RINGS (vm)': [
    other,
    ['EINVAL', 'no dirty rings', enable, 'RESET without rings'],
    ['0', 'the first entry is not harvested', 'kvm/dirty-ring/push-and-reset', 'RESET, the first not harvested'],
    ['3', 'as many entries as are harvested in a row', 'kvm/dirty-ring/push-and-reset', 'RESET of all three'],
    ['2', 'of a slot that is gone', 'kvm/dirty-ring/slots', 'RESET of entries whose slot is gone'],
  ],

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
