/** What the VM descriptor's ioctls check. */
import type { Check, Checks } from './check.ts';
import { guestMemfdSlots } from './private-memory.ts';

const create = 'kvm/vcpu/create';
const full = 'kvm/system/create-vm-emfile';
const before = 'kvm/settings/before-a-vcpu';
const after = 'kvm/settings/after-a-vcpu';

/** The two requests share all but the size of their struct. */
function region(list: string, prefix: string, own: readonly Check[]): readonly Check[] {
  const order = 'kvm/memslots/order';
  const change = 'kvm/memslots/change';
  const remove = 'kvm/memslots/delete';
  return [
    ['EIO', 'another process than the one that made the VM, or a VM that is dead'],
    ['EFAULT', 'the struct cannot be read', 'kvm/memslots/argument', `${prefix}: pointer 0`],
    ...own,
    ['EINVAL', 'a slot number above the last', list, 'slot 0x7ffc'],
    ['EINVAL', 'an unknown flag', list, 'flags 0x8'],
    ['EINVAL', 'a flag the kernel keeps to itself', list, 'flags 0x10000'],
    ['EINVAL', 'a size that is no multiple of a page', list, 'size 4097'],
    ['EINVAL', 'a guest address that is no multiple of a page', list, 'gpa 1'],
    ['EINVAL', 'a host address that is no multiple of a page', list, 'hva 1'],
    ['EINVAL', "a host address in the kernel's half", list, 'hva in the kernel half'],
    ['0', 'a host address nothing is mapped at', list, 'hva 0'],
    ['EINVAL', 'an address space there is none of', list, 'slot 0x20000'],
    ['EINVAL', 'an end that wraps to 0', list, 'gpa + size wraps to 0'],
    ['EINVAL', '2^31 pages or more', list, '2^31 pages'],
    ['EINVAL', 'size 0, which deletes: no such slot', remove, 'delete before create'],
    ['EINVAL', 'a deletion is held to the same alignment', remove, 'delete, unaligned gpa'],
    ['0', 'a deletion does not compare the flags', remove, 'delete with READONLY'],
    ['EINVAL', 'a slot there is: another host address', change, 'another hva'],
    ['EINVAL', 'a slot there is: another size', change, 'another size'],
    ['EINVAL', 'a slot there is: KVM_MEM_READONLY changes', change, 'READONLY on'],
    ['0', 'a slot there is: the same again', change, 'the same again'],
    ['EEXIST', 'overlap with another slot', order, 'overlap in another slot'],
    ['EINVAL', 'flags come before the overlap', order, 'overlap, bad flags'],
    ['EEXIST', 'the last guest page comes after the overlap', order, 'overlap, beyond the last gfn'],
    ['EINVAL', 'beyond the last guest page', list, 'gpa 1<<52'],
    ['ENOMEM', 'no memory for the slot'],
  ];
}

const encrypt = 'refusals/wrong-kind/system';

export const vmChecks: Checks = {
  'KVM_CHECK_EXTENSION (vm)': [
    ['0', 'an unknown number, never an error', 'kvm/system/check-extension-odd', 'VM 0x3e8'],
    ['value', "the VM's own, where it differs", 'kvm/system/capabilities', 'VM 129'],
  ],
  'KVM_CREATE_VCPU (vm)': [
    ['EINVAL', 'an id of 4096 or more', create, 'id 0x1000'],
    ['EINVAL', 'all 64 bits of it count', create, 'id 0x100000001'],
    ['EINVAL', 'as many vCPUs as there may be, before the id is looked up', 'kvm/settings/most-vcpus', 'one that exists'],
    ['EINVAL', 'an id the VM was told there would not be (KVM_CAP_MAX_VCPU_ID)'],
    ['ENOMEM', 'no memory for the vCPU'],
    ['EEXIST', 'an id that exists', create, 'id 5 again'],
    ['EEXIST', 'also after its descriptor was closed', create, 'id of a closed vCPU'],
    ['EEXIST', 'an id that exists comes before a full table', full, 'CREATE_VCPU of an id that exists'],
    ['EMFILE', 'no descriptor is free', full, 'CREATE_VCPU'],
    ['fd', 'the id that failed can be had afterwards', full, 'the id that failed can be had afterwards'],
  ],
  'KVM_SET_USER_MEMORY_REGION (vm)': region('kvm/memslots/checks-region', 'REGION', [
    ['EINVAL', 'KVM_MEM_GUEST_MEMFD', 'kvm/memslots/checks-region', 'flags 0x4'],
  ]),
  'KVM_SET_USER_MEMORY_REGION2 (vm)': [
    ...region('kvm/memslots/checks-region2', 'REGION2', []),
    [
      '0',
      'without KVM_MEM_GUEST_MEMFD its fields are ignored',
      'kvm/memslots/region2-fields',
      'guest_memfd ignored without the flag',
    ],
    ...guestMemfdSlots,
  ],
  'KVM_SET_BOOT_CPU_ID (vm)': [
    ['EBUSY', 'there is a vCPU, whatever the id', after, 'SET_BOOT_CPU_ID 0x1001'],
    ['EINVAL', 'an id above 4096', before, 'SET_BOOT_CPU_ID 0x1001'],
    ['0', '4096 itself', before, 'SET_BOOT_CPU_ID 0x1000'],
  ],
  'KVM_SET_TSS_ADDR (vm)': [
    ['EINVAL', 'an address above 0xffffd000', before, 'SET_TSS_ADDR 0xffffd001'],
    ['0', 'the last one', before, 'SET_TSS_ADDR 0xffffd000'],
    ['0', 'also with vCPUs', after, 'SET_TSS_ADDR 0x0'],
  ],
  'KVM_SET_IDENTITY_MAP_ADDR (vm)': [
    ['EINVAL', 'there is a vCPU, before the pointer', after, 'SET_IDENTITY_MAP_ADDR, pointer 0'],
    ['EFAULT', 'the address cannot be read', before, 'SET_IDENTITY_MAP_ADDR, pointer 0'],
    ['0', 'any value, aligned or not', before, 'SET_IDENTITY_MAP_ADDR 0x5'],
  ],
  'KVM_SET_NR_MMU_PAGES (vm)': [
    ['EINVAL', 'fewer than 64', before, 'SET_NR_MMU_PAGES 63'],
    ['0', '64', before, 'SET_NR_MMU_PAGES 64'],
  ],
  'KVM_GET_NR_MMU_PAGES (vm)': [
    ['ENOTTY', 'KVM has forgotten it (since 6.4)', 'kvm/slots/mmu-pages', 'GET_NR_MMU_PAGES'],
    ['EPERM', 'before, the number as an int: of 2^64 - 1 it is -1', 'kvm/slots/mmu-pages', 'GET_NR_MMU_PAGES'],
  ],
  'KVM_GET_TSC_KHZ (vm)': [['kHz', "the host's", before, 'GET_TSC_KHZ is that of the host']],
  'KVM_SET_TSC_KHZ (vm)': [
    ['EINVAL', 'faster than the CPU can scale'],
    ['EINVAL', 'there is a vCPU', after, 'SET_TSC_KHZ to what it is'],
    ['0', "0 is the host's", before, 'SET_TSC_KHZ 0'],
  ],
  'KVM_MEMORY_ENCRYPT_OP (vm)': [
    ['ENOTTY', 'neither SEV nor TDX'],
    ['EINVAL', 'on the system descriptor', encrypt, 'KVM_MEMORY_ENCRYPT_OP'],
  ],
  'KVM_MEMORY_ENCRYPT_REG_REGION (vm)': [
    ['EFAULT', 'the struct cannot be read'],
    ['ENOTTY', 'neither SEV nor TDX'],
    ['EINVAL', 'on the system descriptor', encrypt, 'KVM_MEMORY_ENCRYPT_REG_REGION'],
  ],
  'KVM_MEMORY_ENCRYPT_UNREG_REGION (vm)': [
    ['EFAULT', 'the struct cannot be read'],
    ['ENOTTY', 'neither SEV nor TDX'],
    ['EINVAL', 'on the system descriptor', encrypt, 'KVM_MEMORY_ENCRYPT_UNREG_REGION'],
  ],
};
