/** What the vCPU descriptor's ioctls check. */
import type { Check, Checks } from './check.ts';
import { memoryFaults } from './private-memory.ts';

const run = 'kvm/run';
const sregs = (what: string): readonly [string, string] => [`kvm/sregs/set: ${what}`, 'SET_SREGS'];
const pointer = (name: string, label: string): Check => ['EFAULT', 'the argument cannot be read or written', name, label];
const events = 'kvm/events';
const debug = 'kvm/debugregs';
const cpuid = 'kvm/cpuid/set-and-get';
const interrupt = 'kvm/interrupt-and-nmi';
const xcrs = 'kvm/xcrs';

const specialRegisters: readonly Check[] = [
  ['EINVAL', 'EFER.LME and CR0.PG without CR4.PAE', ...sregs('LME+PG without PAE')],
  ['EINVAL', 'EFER.LME and CR0.PG without EFER.LMA', ...sregs('LME+PG without LMA')],
  ['EINVAL', 'long mode: CR3 beyond the physical addresses', ...sregs('long mode, CR3 bit 36')],
  ['EINVAL', 'no long mode: EFER.LMA', ...sregs('LMA without LME')],
  ['EINVAL', 'no long mode: CS.L', ...sregs('cs.l outside long mode')],
  ['0', 'no long mode: any CR3', ...sregs('CR3 ~0 without paging')],
  ['EINVAL', 'CR4: a reserved bit', ...sregs('CR4 bit 63')],
  ['EINVAL', "CR4: a bit the guest's CPUID does not have", ...sregs('CR4 VMXE')],
  ['EINVAL', 'CR0: bits above 31', ...sregs('CR0 bit 32')],
  ['EINVAL', 'CR0: NW without CD', ...sregs('CR0 NW without CD')],
  ['EINVAL', 'CR0: PG without PE', ...sregs('CR0 PG without PE')],
  ['0', 'CR0: other undefined low bits', ...sregs('CR0 undefined low bits')],
  ['EINVAL', 'APIC base: a reserved bit', ...sregs('apic_base bit 9')],
  ['EINVAL', 'APIC base: x2APIC that CPUID does not have', ...sregs('apic_base x2APIC')],
  ['EINVAL', 'refused for CR0: nothing was changed', 'kvm/sregs/refused-changes-nothing', 'bad CR0: changed'],
  ['0', 'a CR8 above 15 is ignored', ...sregs('cr8 16')],
  ['0', 'segments are not checked', ...sregs('an absurd segment')],
  ['0', 'an empty interrupt bitmap cancels nothing', 'kvm/sregs/interrupt-bitmap', 'an empty bitmap cancels nothing'],
];

export const vcpuChecks: Checks = {
  'KVM_RUN (vcpu)': [
    ['EIO', 'another process than the one that made the VM, or a VM that is dead'],
    ['EINVAL', 'an argument other than 0', `${run}/argument`, 'arg 1'],
    ['EINVAL', 'and the run page is not touched', `${run}/argument`, 'run page untouched: apic_base'],
    ['EINTR', 'KVM_MP_STATE_UNINITIALIZED and immediate_exit; no other check is made'],
    ['EAGAIN', 'KVM_MP_STATE_UNINITIALIZED, and INIT arrives', 'kvm/mp-states/uninitialized', 'INIT'],
    ['EINVAL', 'an unknown bit in kvm_valid_regs', `${run}/valid-and-dirty-bits`, 'valid 0x8'],
    ['EINVAL', 'an unknown bit in kvm_dirty_regs', `${run}/valid-and-dirty-bits`, 'dirty 0x8'],
    ['EINVAL', 'what is valid is stored all the same', `${run}/valid-and-dirty-bits`, 'EINVAL, and regs are stored all the same'],
    ['EINVAL', 'dirty SREGS that are refused; the bit stays', `${run}/dirty-regs`, 'bad SREGS: bits left'],
    ['EINVAL', 'dirty REGS before them are applied', `${run}/dirty-regs`, 'bad SREGS: REGS applied'],
    ['EINVAL', 'dirty EVENTS that are refused', 'kvm/events/synced', 'bad EVENTS dirty'],
    ['EINVAL', 'a CR8 above 15, without a LAPIC in the kernel', `${run}/cr8`, 'cr8 0x10'],
    ['EINVAL', 'dirty REGS are applied before CR8 is looked at', `${run}/cr8`, 'REGS were applied before'],
    ['EINTR', 'immediate_exit: the pending instruction is completed', 'kvm/guest/finish-without-running', 'IN: regs'],
    ['0', '… or shows its next fragment', 'kvm/guest/finish-page-crossing', 'immediate_exit, but another fragment is due'],
    ['EINTR', 'immediate_exit leaves exit_reason alone', `${run}/immediate-exit`, 'exit_reason is left alone'],
    ['EINTR', 'a signal, between entries to the guest', `${run}/budget`, 'an endless loop with a budget of 20 ms'],
    ['0', 'KVM_EXIT_IO: OUT', 'kvm/guest/hello', 'exit 1'],
    ['0', 'KVM_EXIT_IO: IN of each width', 'kvm/guest/in-widths', 'exit 1'],
    ['0', 'KVM_EXIT_IO: string I/O', 'kvm/guest/rep-insb', 'exit 1'],
    ['0', 'KVM_EXIT_MMIO: write', 'kvm/guest/mmio-write', 'exit 1'],
    ['0', 'KVM_EXIT_MMIO: read', 'kvm/guest/mmio-read', 'exit 1'],
    ['0', 'KVM_EXIT_MMIO: a write to a read-only slot', 'kvm/guest/readonly-slot', 'exit 1'],
    ['0', 'KVM_EXIT_HLT', 'kvm/guest/hlt', 'exit 1'],
    ['0', 'KVM_EXIT_SHUTDOWN', 'kvm/guest/shutdown', 'exit 1'],
    ['0', 'KVM_EXIT_INTERNAL_ERROR: nothing to fetch from', 'kvm/guest/fetch-from-nothing', 'exit 1'],
    ...memoryFaults,
  ],
  'KVM_GET_REGS (vcpu)': [pointer('kvm/regs/set', 'GET_REGS, pointer 0'), ['EINVAL', "a vCPU whose state is the guest's secret"]],
  'KVM_SET_REGS (vcpu)': [
    pointer('kvm/regs/set', 'SET_REGS, pointer 0'),
    ['0', 'a RIP that is not canonical', 'kvm/regs/set', 'rip reads back'],
    ['0', 'RFLAGS bit 1 is forced', 'kvm/regs/set', 'rflags 0x0 reads back'],
  ],
  'KVM_GET_SREGS (vcpu)': [pointer('kvm/sregs/argument', 'GET_SREGS, pointer 0')],
  'KVM_SET_SREGS (vcpu)': [pointer('kvm/sregs/argument', 'SET_SREGS, pointer 0'), ...specialRegisters],
  'KVM_GET_SREGS2 (vcpu)': [
    pointer('kvm/sregs2', 'GET_SREGS2, pointer 0'),
    ['0', 'the rest is as KVM_GET_SREGS says', 'kvm/sregs2', 'the rest is SREGS'],
  ],
  'KVM_SET_SREGS2 (vcpu)': [
    ['EFAULT', 'the struct cannot be read'],
    ['EINVAL', 'an unknown flag', 'kvm/sregs2', 'flags 2'],
    ['EINVAL', 'PDPTRs without PAE paging', 'kvm/sregs2', 'flags 1 without PAE paging'],
    ['EINVAL', 'what KVM_SET_SREGS refuses', 'kvm/sregs2', 'a bad CR4'],
  ],
  'KVM_GET_MSRS (vcpu)': [
    pointer('kvm/msrs/argument', 'GET_MSRS: pointer 0'),
    ['E2BIG', '256 entries or more', 'kvm/msrs/argument', 'GET_MSRS: nmsrs 256'],
    ['count', 'ends before the first it cannot read', 'kvm/msrs/stop-half-way', 'GET_MSRS: the second is unknown'],
    ['EFAULT', 'the entries cannot be written', 'kvm/faults-half-way', 'GET_MSRS'],
  ],
  'KVM_SET_MSRS (vcpu)': [
    pointer('kvm/msrs/argument', 'SET_MSRS: pointer 0'),
    ['E2BIG', '256 entries or more', 'kvm/msrs/argument', 'SET_MSRS: nmsrs 256'],
    ['count', 'ends before the first it cannot write', 'kvm/msrs/stop-half-way', 'SET_MSRS: the second is bad'],
    ['count', 'what was written stays', 'kvm/msrs/stop-half-way', 'the first stays applied'],
    ['0', 'LSTAR: an address that is not canonical', 'kvm/msrs/LSTAR', 'write 0x4000000000000000'],
    ['0', 'EFER: a reserved bit', 'kvm/msrs/EFER', 'write 0x2'],
    ['1', 'EFER.LMA is taken from the state, not from the value', 'kvm/msrs/EFER', 'write 0x500: reads'],
    ['0', 'APICBASE: x2APIC that CPUID does not have', 'kvm/msrs/APICBASE', 'write 0xfee00d00'],
    ['0', 'MTRRdefType: a type there is none of', 'kvm/msrs/MTRRdefType', 'write 0x2'],
    ['0', 'MCx_CTL: neither none nor all bits', 'kvm/msrs/MC0_CTL', 'write 0x5'],
    ['0', 'a feature MSR after the first run: another value', 'kvm/cpuid/after-run', 'a feature MSR with another value'],
    ['0', 'an MSR there is none of', 'kvm/msrs/no such MSR', 'write 0x0'],
  ],
  'KVM_SET_CPUID (vcpu)': [
    ['EFAULT', 'the argument cannot be read'],
    ['E2BIG', 'more than 256 entries'],
    ['EINVAL', 'what KVM_SET_CPUID2 refuses'],
  ],
  'KVM_SET_CPUID2 (vcpu)': [
    pointer(cpuid, 'SET, pointer 0'),
    ['E2BIG', 'more than 256 entries', cpuid, 'nent 257'],
    ['EINVAL', 'after the first run: another table', 'kvm/cpuid/after-run', 'another table'],
    ['0', 'after the first run: the current one', 'kvm/cpuid/after-run', 'the current one'],
    ['EINVAL', 'linear address bits other than 0, 48, 57', cpuid, 'leaf 0x80000008 with 47 linear bits'],
    ['EINVAL', 'and the old table stays', cpuid, 'a refused table leaves the old one'],
    ['0', 'duplicates', cpuid, 'duplicates'],
  ],
  'KVM_GET_CPUID2 (vcpu)': [
    pointer(cpuid, 'GET, pointer 0'),
    ['E2BIG', 'too little room', cpuid, 'GET with room for two'],
    ['E2BIG', 'and the header stays as it was', cpuid, 'header left alone'],
    [
      'E2BIG',
      'too little room comes before entries that cannot be written',
      'kvm/faults-half-way',
      'GET_CPUID2, too little room',
    ],
    ['EFAULT', 'the entries cannot be written', 'kvm/faults-half-way', 'GET_CPUID2'],
  ],
  'KVM_GET_FPU (vcpu)': [pointer('kvm/fpu', 'GET, pointer 0')],
  'KVM_SET_FPU (vcpu)': [pointer('kvm/fpu', 'SET, pointer 0'), ['0', 'no validation', 'kvm/fpu', 'SET_FPU of all ones']],
  'KVM_GET_MP_STATE (vcpu)': [pointer('kvm/mp-state', 'GET, pointer 0')],
  'KVM_SET_MP_STATE (vcpu)': [
    pointer('kvm/mp-state', 'SET, pointer 0'),
    ['EINVAL', 'without a LAPIC in the kernel: another state than RUNNABLE', 'kvm/mp-state', 'set 3'],
    ['EINVAL', 'an unknown state', 'kvm/mp-state', 'set 255'],
    ['EINVAL', 'with a LAPIC: a state of other architectures', 'kvm/mp-states/set-and-get', 'kernel, vCPU 0: SET 5'],
    ['0', 'SIPI_RECEIVED, which becomes RUNNABLE when somebody looks', 'kvm/mp-states/set-and-get', 'kernel, vCPU 0: SET 4'],
  ],
  'KVM_INTERRUPT (vcpu)': [
    pointer(interrupt, 'INTERRUPT, pointer 0'),
    ['EINVAL', 'a vector above 255', interrupt, 'INTERRUPT 0x100'],
    ['0', 'without an irqchip a second one replaces the first', interrupt, 'INTERRUPT 0x21: events'],
    ['ENXIO', 'with a PIC in the kernel', 'kvm/mp-states/ext-int', 'PIC in the kernel'],
    ['EEXIST', 'with a split irqchip: one is pending', 'kvm/mp-states/ext-int', 'split: the second'],
  ],
  'KVM_NMI (vcpu)': [['0', 'two at most are pending', interrupt, 'NMI, third: events']],
  'KVM_SMI (vcpu)': [
    ['ENOTTY', 'a kernel without SMM', interrupt, 'SMI'],
    ['0', 'a kernel with it', interrupt, 'SMI'],
    ['0', 'one that waits already: one is taken', 'kvm/smm/two', 'SMI again'],
    ['0', 'the next KVM_RUN enters the handler at SMBASE + 0x8000', 'kvm/smm/real', 'exit 1'],
    ['EIO', 'the state save area is no RAM: KVM_RUN gives the VM up', 'kvm/smm/without-ram', 'the end'],
  ],
  'KVM_GET_VCPU_EVENTS (vcpu)': [pointer(events, 'GET, pointer 0')],
  'KVM_SET_VCPU_EVENTS (vcpu)': [
    pointer(events, 'SET, pointer 0'),
    ['EINVAL', 'an unknown flag', events, 'flags 0x40'],
    ['EINVAL', 'a payload without its capability', events, 'flags 0x10 without the capability'],
    ['EINVAL', 'exception 2', events, 'exception 2'],
    ['EINVAL', 'an injected exception above 31', events, 'exception 32'],
    ['0', 'the number is not looked at where none is injected', events, 'exception 200, not injected'],
    ['EINVAL', 'a triple fault without its capability', events, 'flags 0x20 without the capability'],
  ],
  'KVM_GET_DEBUGREGS (vcpu)': [pointer(debug, 'GET, pointer 0')],
  'KVM_SET_DEBUGREGS (vcpu)': [
    pointer(debug, 'SET, pointer 0'),
    ['EINVAL', 'flags', debug, 'flags'],
    ['EINVAL', 'DR6: bits above 31', debug, 'dr6 above 32 bits'],
    ['EINVAL', 'DR7: bits above 31', debug, 'dr7 above 32 bits'],
  ],
  'KVM_GET_XCRS (vcpu)': [pointer(xcrs, 'GET, pointer 0')],
  'KVM_SET_XCRS (vcpu)': [
    pointer(xcrs, 'SET, pointer 0'),
    ['EINVAL', 'more than 16', xcrs, 'SET 17 of them'],
    ['EINVAL', 'flags', xcrs, 'SET flags'],
    ['EINVAL', 'XCR0 without x87', xcrs, 'SET XCR0 0'],
    ['EINVAL', "XCR0: a bit the guest's CPUID does not have", xcrs, 'SET XCR0 3 without CPUID'],
    ['0', 'only the first XCR0 counts', xcrs, 'SET XCR0, then a bad XCR0'],
  ],
  'KVM_GET_TSC_KHZ (vcpu)': [['kHz', 'its own, or the VM’s']],
  'KVM_SET_TSC_KHZ (vcpu)': [
    ['EINVAL', 'faster than the CPU can scale'],
    ['EINVAL', 'without scaling: slower than the host by more than 250 ppm'],
  ],
  'KVM_MEMORY_ENCRYPT_OP (vcpu)': [['ENOTTY', 'no TDX', 'refusals/wrong-kind/vCPU', 'KVM_MEMORY_ENCRYPT_OP']],
};

/** A VM's ioctl on a vCPU, once for all. */
export const notItsOwn: Checks = {
  'ioctl: a request of another kind of descriptor': [
    ['EINVAL', 'on the system descriptor', 'refusals/wrong-kind/system', 'KVM_CREATE_VCPU'],
    ['ENOTTY', 'on a VM', 'refusals/wrong-kind/VM', 'KVM_RUN'],
    ['EINVAL', 'on a vCPU', 'refusals/wrong-kind/vCPU', 'KVM_CREATE_VM'],
    [
      'EINVAL',
      'the right number with another size',
      'kvm/system/not-its-own',
      'right number, wrong size (KVM_GET_MSRS with 4 bytes)',
    ],
  ],
};
