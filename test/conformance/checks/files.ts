/** What file operations on KVM's descriptors answer. */
import type { Check, Checks } from './check.ts';

/** The same operations on each kind of descriptor; the answers are those of the goldens. */
const operations: readonly (readonly [operation: string, label: string, answers: readonly [string, string, string]])[] = [
  ['read', 'read', ['EINVAL', 'EINVAL', 'EINVAL']],
  ['write', 'write', ['EINVAL', 'EINVAL', 'EINVAL']],
  ['pread', 'pread', ['EINVAL', 'ESPIPE', 'ESPIPE']],
  ['pwrite', 'pwrite', ['EINVAL', 'ESPIPE', 'ESPIPE']],
  ['ftruncate', 'ftruncate 0', ['EINVAL', 'EINVAL', 'EINVAL']],
  ['fallocate', 'fallocate', ['ENODEV', 'ENODEV', 'ENODEV']],
  ['poll', 'poll, all events', ['always ready', 'always ready', 'always ready']],
  ['ioctl: unknown request', 'unknown ioctl of another type', ['EINVAL', 'ENOTTY', 'EINVAL']],
];

const kinds = ['system', 'VM', 'vCPU'] as const;

const everywhere: Checks = Object.fromEntries(
  operations.map(([operation, label, answers]) => [
    operation,
    kinds.map((kind, at): Check => [answers[at]!, `on the ${kind} descriptor`, `kvm/files/${kind}`, label]),
  ]),
);

export const fileChecks: Checks = {
  open: [
    ['EMFILE', 'no descriptor is free', 'kvm/system/create-vm-emfile', 'open'],
    ['fd', '/dev/kvm for reading only: its ioctls work', 'kvm/files/open', 'O_RDONLY: KVM_CREATE_VM'],
  ],
  mmap: [
    ['ENODEV', 'of the system descriptor', 'kvm/files/mmap-system', 'shared'],
    ['ENODEV', 'of a VM', 'kvm/files/mmap-VM', 'shared'],
    ['EPERM', 'of a VM, executable', 'kvm/files/mmap-VM', 'PROT_EXEC'],
    ['EPERM', 'of a vCPU, executable', 'kvm/vcpu/mmap', 'PROT_EXEC'],
    ['EINVAL', 'of a vCPU, an offset that is no multiple of a page', 'kvm/vcpu/mmap', 'unaligned offset'],
    ['mapped', 'of a vCPU, any length', 'kvm/vcpu/mmap', '64 pages'],
    ['mapped', 'of a vCPU, any offset', 'kvm/vcpu/mmap', 'at page 2^30'],
    ['SIGBUS', 'a touch of a page behind the third', 'kvm/vcpu/mmap-touch', 'read of page 3'],
    ['mapped', 'the ring is of the VM', 'kvm/vcpu/ring-is-per-vm', 'page 2 of the other vCPU'],
  ],
  close: [
    ['0', 'a vCPU keeps its VM', 'kvm/lifetimes/vcpu-outlives-vm-descriptor', 'KVM_RUN'],
    ['0', 'a mapping keeps the run page', 'kvm/lifetimes/mapping-outlives-vcpu', 'the page after close'],
    ['0', 'a dup keeps the VM', 'kvm/lifetimes/dup-of-vm', 'the slot is there through the dup'],
  ],
  dup: [
    ['fd', 'of a VM; not close-on-exec', 'kvm/files/dup-and-close-on-exec', 'VM: F_GETFD of the dup'],
    ['fd', 'of a vCPU; not close-on-exec', 'kvm/files/dup-and-close-on-exec', 'vCPU: F_GETFD of the dup'],
  ],
  ...everywhere,
};
