/** What the interrupt controllers' ioctls check. KVM_CREATE_IRQCHIP's rows are with the local APICs. */
import type { Check, Checks } from './check.ts';

const state = 'kvm/irqchip/state';
const lines = 'kvm/irqchip/irq-line';
const routes = 'kvm/irq-routing/checks';
const msi = 'kvm/irq-routing/signal-msi';
const irqfd = 'kvm/irqfd/checks';
const io = 'kvm/ioeventfd/checks';
const pit = 'kvm/pit/create';

const dead: Check = ['EIO', 'another process than the one that made the VM, or a VM that is dead'];

const chip = (name: string): readonly Check[] => [
  dead,
  ['EFAULT', 'the struct cannot be read', state, `none: ${name}, pointer 0`],
  ['ENXIO', 'no controller in the kernel', state, `none: ${name} of 0x0`],
  ['ENXIO', 'only the local APICs are in the kernel', state, `split: ${name} of 0x0`],
  ['EINVAL', 'a chip there is not', state, `full: ${name} of 0x3`],
];

const pitState = (name: string): readonly Check[] => [
  dead,
  ['EFAULT', 'the struct cannot be read', pit, `no PIT: ${name}, pointer 0`],
  ['ENXIO', 'there is no PIT', pit, `no PIT: ${name}`],
];

export const irqChecks: Checks = {
  'KVM_GET_IRQCHIP (vm)': [
    ...chip('GET_IRQCHIP'),
    ['EFAULT', 'the struct cannot be written', 'kvm/irqchip/bad-pointers', 'GET_IRQCHIP into read-only memory'],
    ['true', 'bytes beyond the chip come back as they were', 'kvm/irqchip/initial', 'chip 0, what is beyond its state'],
  ],
  'KVM_SET_IRQCHIP (vm)': [...chip('SET_IRQCHIP'), ['0', 'whatever the state', 'kvm/irqchip/set-and-get', 'SET_IRQCHIP 2']],
  'KVM_IRQ_LINE (vm)': [
    dead,
    ['EFAULT', 'the struct cannot be read', lines, 'without a controller, pointer 0'],
    ['ENXIO', 'no controller in the kernel', lines, 'without a controller'],
    ['0', 'any GSI, a split controller too', lines, 'split'],
  ],
  'KVM_IRQ_LINE_STATUS (vm)': [
    dead,
    ['EFAULT', 'the struct cannot be read', lines, 'STATUS, pointer 0'],
    ['ENXIO', 'no controller in the kernel'],
    ['-1', 'nobody took it: a GSI without routes', lines, 'gsi 0x18, step 0, level 1'],
    ['0', 'coalesced with one that waits', 'kvm/irqchip/line-and-masks', 'gsi 5, step 1, level 1'],
    [
      'EFAULT',
      'the status cannot be written; the line has changed',
      'kvm/irqchip/bad-pointers',
      'IRQ_LINE_STATUS into read-only memory',
    ],
  ],
  'KVM_CREATE_PIT2 (vm)': [
    dead,
    ['EFAULT', 'the struct cannot be read', pit, 'pointer 0'],
    ['EEXIST', 'there is a PIT', pit, 'again'],
    ['ENOENT', 'the 8259s are not in the kernel', pit, 'split'],
    ['0', 'unknown flags, and a pad that is not zero', pit, 'flags 0xff'],
  ],
  'KVM_CREATE_PIT (vm)': [
    dead,
    ['EEXIST', 'there is a PIT', pit, 'again, CREATE_PIT'],
    ['ENOENT', 'the 8259s are not in the kernel', pit, 'no controller, CREATE_PIT'],
  ],
  'KVM_GET_PIT (vm)': pitState('GET_PIT'),
  'KVM_SET_PIT (vm)': [...pitState('SET_PIT'), ['0', 'whatever the state', 'kvm/pit/set-and-get', 'SET_PIT']],
  'KVM_GET_PIT2 (vm)': [
    dead,
    ['ENXIO', 'there is no PIT, before the pointer is looked at', pit, 'no PIT: GET_PIT2, pointer 0'],
    ['EFAULT', 'the struct cannot be written', pit, 'GET_PIT2, pointer 0'],
  ],
  'KVM_SET_PIT2 (vm)': [...pitState('SET_PIT2'), ['0', 'whatever the state and flags', 'kvm/pit/set-and-get', 'SET_PIT2']],
  'KVM_REINJECT_CONTROL (vm)': pitState('REINJECT_CONTROL'),
  'KVM_SET_GSI_ROUTING (vm)': [
    dead,
    ['EFAULT', 'the header cannot be read', routes, 'no controller, pointer 0'],
    ['EINVAL', 'no controller in the kernel', routes, 'no controller'],
    ['EINVAL', 'more than 4096 entries', routes, 'nr 4097'],
    ['EINVAL', 'flags', routes, 'flags 1'],
    ['EFAULT', 'the entries cannot be read'],
    ['EINVAL', 'a GSI of 4096 or above, in any entry', routes, 'gsi 0x1000'],
    ['EINVAL', 'flags of an entry, unless VALID_DEVID of a message', routes, 'pin with flags 1'],
    ['EINVAL', 'a GSI twice, unless pins of different controllers', routes, 'one gsi: two pins of one chip'],
    ['0', 'a GSI that is a pin of each controller', routes, 'one gsi: pins of three chips'],
    ['EINVAL', 'a pin with a split controller', routes, 'split, a pin'],
    ['EINVAL', 'a controller there is not', routes, 'chip 3, pin 0'],
    ['EINVAL', 'a pin there is not', routes, 'chip 2, pin 24'],
    ['EINVAL', 'an unknown type', routes, 'type 3'],
    ['EINVAL', 'with 32-bit ids: the low byte of the high address', 'kvm/irq-routing/32-bit-ids', 'route, hi 0x1'],
    ['0', 'no entries: every GSI is nothing', routes, 'nr 0'],
  ],
  'KVM_SIGNAL_MSI (vm)': [
    dead,
    ['EFAULT', 'the struct cannot be read', msi, 'no controller, pointer 0'],
    ['EINVAL', 'no controller in the kernel', msi, 'no controller'],
    ['EINVAL', 'a flag other than VALID_DEVID', msi, 'flags 2'],
    ['EINVAL', 'with 32-bit ids: the low byte of the high address', 'kvm/irq-routing/32-bit-ids', 'SIGNAL_MSI, hi 0x1'],
    ['EPERM', 'no vCPU was ever made', msi, 'no vCPU'],
    ['0', 'nobody took it: its vCPU is not in the map of ids yet', msi, 'a fresh vCPU'],
    ['1', 'one local APIC took it', msi, 'NMI to 0'],
  ],
  'KVM_IRQFD (vm)': [
    dead,
    ['EFAULT', 'the struct cannot be read', irqfd, 'pointer 0'],
    ['EINVAL', 'an unknown flag', irqfd, 'flags 4'],
    ['EINVAL', 'no controller in the kernel, before the descriptor', irqfd, 'no controller, bad descriptor'],
    ['EINVAL', 'RESAMPLE with a split controller', irqfd, 'split, RESAMPLE'],
    ['EBADF', 'the descriptor is not open', irqfd, 'bad descriptor'],
    ['EINVAL', 'it is not an eventfd', irqfd, 'a memfd'],
    ['EBADF', 'the resamplefd is not open', irqfd, 'RESAMPLE, resamplefd bad'],
    ['EINVAL', 'it is not an eventfd', irqfd, 'RESAMPLE, resamplefd a memfd'],
    ['EBUSY', 'the eventfd has an irqfd, in any VM', irqfd, 'an eventfd that has one, in another VM'],
    ['0', 'any GSI', irqfd, 'gsi 0xffffffff'],
    ['EBADF', 'DEASSIGN: the descriptor is not open', irqfd, 'no controller, DEASSIGN, bad descriptor'],
    ['EINVAL', 'DEASSIGN: it is not an eventfd', irqfd, 'DEASSIGN, a memfd'],
    ['0', 'DEASSIGN: there is none', irqfd, 'DEASSIGN, none'],
  ],
  'KVM_IOEVENTFD (vm)': [
    dead,
    ['EFAULT', 'the struct cannot be read', io, 'pointer 0'],
    ['EINVAL', 'a length other than 0, 1, 2, 4, 8, before the descriptor', io, 'len 0x3, bad descriptor'],
    ['EINVAL', 'an end that wraps, to 0 too', io, 'end wraps to 0'],
    ['EINVAL', 'an unknown flag', io, 'flags 0x20'],
    ['EINVAL', 'DATAMATCH of any length', io, 'len 0 with DATAMATCH'],
    ['EBADF', 'the descriptor is not open', io, 'bad descriptor'],
    ['EINVAL', 'it is not an eventfd', io, 'a memfd'],
    ['EEXIST', 'one that takes the same writes', io, 'len 4, datamatch 1'],
    ['0', 'another length there', io, 'len 2 there'],
    ['0', 'another value there', io, 'datamatch 2 there'],
    ['ENOSPC', '1000 other devices on the bus'],
    ['EBADF', 'DEASSIGN: the descriptor is not open', io, 'deassign: bad descriptor'],
    ['EINVAL', 'DEASSIGN: it is not an eventfd', io, 'deassign: a memfd'],
    ['ENOENT', 'DEASSIGN: none with this address, length, eventfd and value', io, 'deassign: any value'],
    ['0', 'DEASSIGN: unknown flags', io, 'deassign: flags 0x20'],
  ],
};
