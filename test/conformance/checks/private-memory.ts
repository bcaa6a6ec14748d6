/** What the ioctls of private memory and of KVM's devices check. */
import type { Check, Checks } from './check.ts';

const create = 'kvm/gmem/create';
const emfile = 'kvm/gmem/create-emfile';
const bind = 'kvm/gmem/bind';
const allocate = 'kvm/gmem/fallocate';

const attributes = 'kvm/attributes/protected-vm';
const preFault = 'kvm/pre-fault/checks';
const preFaultPrivate = 'kvm/pre-fault/private';
const device = 'kvm/devices/create';
const vfio = 'kvm/devices/vfio-attributes';
const files = 'kvm/devices/vfio-files';
const fault = 'kvm/memory-fault';

/** KVM_SET_USER_MEMORY_REGION2 with KVM_MEM_GUEST_MEMFD. */
export const guestMemfdSlots: readonly Check[] = [
  ['EINVAL', 'LOG_DIRTY besides', bind, 'LOG_DIRTY with no descriptor'],
  ['EINVAL', 'READONLY besides', bind, 'READONLY'],
  ['EINVAL', 'an offset that is no multiple of a page', bind, 'offset 1'],
  ['EINVAL', 'offset and size wrap', bind, 'offset wraps with the size'],
  ['EINVAL', 'the slot is there, and is asked to be what it is', bind, 'the same again'],
  ['EINVAL', 'a slot without one cannot be given one', 'kvm/gmem/plain-slot-becomes-one', 'with a guest_memfd'],
  ['EINVAL', 'a slot with one cannot be moved', bind, 'moved without the flag'],
  ['EEXIST', 'another slot has the guest memory, before the descriptor', bind, 'overlap of guest memory, no descriptor'],
  ['EBADF', 'no such descriptor', bind, 'no descriptor'],
  ['EINVAL', 'a descriptor of another kind', bind, 'a memfd'],
  ['EINVAL', "another VM's", bind, "another VM's"],
  ['EINVAL', 'beyond the end of the file', bind, 'beyond the end of the file'],
  ['EEXIST', 'another slot has that part of the file (since 6.19)', bind, 'the same page of the file elsewhere'],
  ['EINVAL', 'another slot has that part of the file (before)', bind, 'the same page of the file elsewhere'],
  ['EINVAL', 'beyond the last guest frame, after it is bound', 'kvm/gmem/bind-refused-late', 'beyond the last guest frame'],
  ['0', '… and its part of the file is free again', 'kvm/gmem/bind-refused-late', 'its page is free'],
  ['0', 'deleted without the flag', bind, 'delete without the flag'],
];

/** KVM_RUN, where memory is not what the guest needs. */
export const memoryFaults: readonly Check[] = [
  ['EFAULT', 'private memory of a slot without a guest_memfd', `${fault}/no-guest-memfd`, 'read'],
  ['EFAULT', 'private memory without a slot', `${fault}/no-slot`, 'read'],
  ['EFAULT', 'private memory whose guest_memfd was closed', `${fault}/closed-file`, 'read of private memory'],
  [
    'EFAULT',
    'memory of an ordinary VM whose guest_memfd was closed',
    'kvm/gmem/ordinary-vm-flags-1',
    'the guest reads after it was closed',
  ],
  ['0', 'KVM_EXIT_MMIO: private, but the page tables have it as MMIO', `${fault}/mmio-remembered`, 'read then'],
  ['EFAULT', '… with flags 0, when a slot has changed since', `${fault}/mmio-remembered`, 'read after a slot has changed'],
  ['EFAULT', '… also when there is a guest_memfd by now', `${fault}/mmio-remembered`, 'read in the slot'],
  [
    'EFAULT',
    'exit reason 0: a host page that cannot be had',
    `${fault}/shared-host-page-gone`,
    'read of a page that userspace has protected',
  ],
  ['EHWPOISON', 'a page of a guest_memfd with a memory error'],
];

export const privateMemoryChecks: Checks = {
  'KVM_CREATE_GUEST_MEMFD (vm)': [
    ['EFAULT', 'the struct cannot be read', create, 'pointer 0'],
    ['EINVAL', 'a flag that KVM_CAP_GUEST_MEMFD_FLAGS does not name', create, 'flags 0x4'],
    ['EINVAL', 'GUEST_MEMFD_FLAG_INIT_SHARED of a VM with private memory', 'kvm/gmem/create-protected', 'flags 2'],
    ['EINVAL', 'a size of 0', create, 'size 0'],
    ['EINVAL', 'a negative size', create, 'size 2^63'],
    ['EINVAL', 'a size that is no multiple of a page', create, 'size 0x1001'],
    ['EMFILE', 'no descriptor is free', emfile, 'all right'],
    ['EINVAL', '… after the size', emfile, 'a bad size'],
    ['ENOMEM', 'no memory for the file'],
    ['fd', 'reserved fields are not looked at', create, 'reserved fields that are not 0'],
    ['fd', 'there is no largest size', create, 'size 2^63 - 4096'],
    ['fd', 'not close-on-exec', 'kvm/gmem/file', 'F_GETFD'],
  ],
  'fallocate of a guest_memfd': [
    ['EINVAL', 'a negative offset, or no length', allocate, 'allocate: nothing'],
    ['EOPNOTSUPP', 'without KEEP_SIZE', allocate, 'mode 0'],
    ['EOPNOTSUPP', 'other modes, before the alignment', allocate, 'ZERO|KEEP_SIZE, unaligned'],
    ['EFBIG', 'beyond 2^63', allocate, 'punch: to 2^63'],
    ['EINVAL', 'no multiples of a page', allocate, 'punch: unaligned length'],
    ['EINVAL', 'allocating beyond the end', allocate, 'allocate: straddling the end'],
    ['0', 'punching beyond the end', allocate, 'punch: far beyond the end'],
    ['ENOMEM', 'no memory for the pages'],
    ['EINTR', 'a signal; pages allocated before it stay'],
  ],
  'mmap of a guest_memfd': [
    ['EPERM', 'executable', 'kvm/gmem/mmap-flags-0', 'PROT_EXEC'],
    ['ENODEV', 'without GUEST_MEMFD_FLAG_MMAP', 'kvm/gmem/mmap-flags-2', 'shared'],
    ['EINVAL', 'private', 'kvm/gmem/mmap-flags-1', 'private'],
    ['mapped', 'longer than the file', 'kvm/gmem/mmap-flags-1', 'longer than the file'],
    ['SIGBUS', 'a touch, without GUEST_MEMFD_FLAG_INIT_SHARED', 'kvm/gmem/touch-not-shared', 'a load'],
    ['SIGBUS', 'a touch behind the end', 'kvm/gmem/touch', 'behind the end'],
  ],
  'KVM_SET_MEMORY_ATTRIBUTES (vm)': [
    ['ENOTTY', 'a kernel without memory attributes', 'kvm/attributes/ordinary-vm', 'pointer 0'],
    ['EFAULT', 'the struct cannot be read', attributes, 'pointer 0'],
    ['EINVAL', 'flags', attributes, 'flags 1'],
    ['EINVAL', 'an attribute that KVM_CAP_MEMORY_ATTRIBUTES of the VM does not name', attributes, 'attributes 0x1'],
    ['EINVAL', 'PRIVATE on a VM without private memory', 'kvm/attributes/ordinary-vm', 'attributes 0x8'],
    ['EINVAL', 'a size of 0', attributes, 'size 0'],
    ['EINVAL', 'address and size wrap, to 0 too', attributes, 'the last page'],
    ['EINVAL', 'no multiples of a page', attributes, 'address 1'],
    ['0', 'shared is what everything is', attributes, 'all of it, which is shared'],
    ['0', 'no slot is there', attributes, 'no slot there, private'],
    ['0', 'beyond the last guest frame', attributes, 'beyond the last guest frame, private'],
    ['ENOMEM', 'no memory for the attributes'],
  ],
  'KVM_PRE_FAULT_MEMORY (vcpu)': [
    ['EFAULT', 'the struct cannot be read or written', preFault, 'pointer 0'],
    ['EINVAL', 'flags', preFault, 'flags 1'],
    ['EINVAL', 'no multiples of a page', preFault, 'gpa 1'],
    ['EINVAL', 'a size of 0', preFault, 'size 0'],
    ['EINVAL', 'gpa and size wrap, to 0 too', preFault, 'wraps to 0'],
    ['EINTR', 'a signal before the first page'],
    ['EOPNOTSUPP', 'no two-dimensional paging', preFault, 'a page'],
    ['EFAULT', 'a private page without a guest_memfd', preFaultPrivate, 'the private page without a guest_memfd'],
    ['EFAULT', '… whose fault is in kvm_run', preFaultPrivate, 'exit_reason then'],
    ['EFAULT', 'a host page that cannot be had', 'kvm/pre-fault/host-page-gone', 'the page itself'],
    ['EHWPOISON', 'a page of a guest_memfd with a memory error'],
    ['ENOENT', 'no slot', preFault, 'behind the slot'],
    ['0', 'a page at least was mapped; the struct says what is left', preFault, 'beyond the slot'],
  ],
  'KVM_CREATE_DEVICE (vm)': [
    ['EFAULT', 'the struct cannot be read', device, 'pointer 0'],
    ['ENODEV', 'a type this architecture does not have', device, 'type 0x5'],
    ['ENODEV', '… also with TEST', device, 'type 0x5, TEST'],
    ['0', 'TEST: nothing is made, whatever there is', device, 'TEST of a second one'],
    ['ENOMEM', 'no memory for the device'],
    ['EBUSY', 'KVM_DEV_TYPE_VFIO: the VM has one', device, 'a second one'],
    ['EMFILE', 'no descriptor is free', 'kvm/devices/create-emfile', 'a first one'],
    ['EFAULT', 'the number cannot be written; the descriptor is open all the same'],
    ['0', 'other flags are ignored', device, 'all flags but TEST'],
  ],
  'KVM_HAS_DEVICE_ATTR (kvm-device)': [
    ['EIO', "another process than the VM's"],
    ['EFAULT', 'the struct cannot be read', vfio, 'HAS, pointer 0'],
    ['ENXIO', 'another group than FILE', vfio, 'HAS 0x0/0x1'],
    ['ENXIO', 'neither ADD nor DEL', vfio, 'HAS 0x1/0x3'],
    ['0', 'flags are ignored', vfio, 'HAS with flags'],
  ],
  'KVM_GET_DEVICE_ATTR (kvm-device)': [['EPERM', 'KVM-VFIO tells nothing, before the struct is read', vfio, 'GET, pointer 0']],
  'KVM_SET_DEVICE_ATTR (kvm-device)': [
    ['EFAULT', 'the struct cannot be read', vfio, 'SET, pointer 0'],
    ['ENXIO', 'another group or attribute, before the address is read', vfio, 'SET 0x1/0x3, address 0'],
    ['EFAULT', 'the descriptor number cannot be read', vfio, 'SET 0x1/0x1, address 0'],
    ['EBADF', 'no such descriptor', files, 'ADD of no descriptor'],
    ['EINVAL', 'ADD of what is no VFIO file', files, 'ADD of a memfd'],
    ['EEXIST', 'ADD of a file that was added'],
    ['ENOENT', 'DEL of a file that was not added', files, 'DEL of a memfd'],
    ['ENOMEM', 'no memory for the list'],
  ],
};
