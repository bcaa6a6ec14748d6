/** KVM_PRE_FAULT_MEMORY: its checks, and how far it got. */
import type { Kernel } from 'kvio';
import { KVM_CREATE_VCPU, KVM_PRE_FAULT_MEMORY, kvm_pre_fault_memory } from 'kvio/uapi';
import { type Case, define, type Fact, type Observer, result, toFact } from '../case.ts';
import { startGuest } from '../guest.ts';
import { addRam, getRegs, mapRun, newVcpu, newVm, PAGE, RunPage, setRegion, setSregs } from '../machine.ts';
import { guestMemfd, Prober, protectedVm, setAttributes, setGmem } from '../private.ts';

const section = 'Private memory';
const GPA = 0x20000n;
const BARE = 0x40000n;
const HLT = 0xf4;

/** Makes the call; notes the result with what is left of the range. */
function preFault(kernel: Kernel, see: Observer, vcpu: number) {
  return (label: string, gpa: bigint, size: bigint, flags = 0n): void => {
    const bytes = kvm_pre_fault_memory.encode({ gpa, size, flags });
    see.call(label, () => kernel.ioctl(vcpu, KVM_PRE_FAULT_MEMORY, bytes));
    const left = kvm_pre_fault_memory.decode(bytes);
    see.note(`${label}: left`, { gpa: left.gpa, size: left.size } as unknown as Fact);
  };
}

export const preFaultCases: Case[] = [
  define('kvm/pre-fault/checks', section, (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    addRam(kernel, vm, 0, 0n, 0x10000);
    const ask = preFault(kernel, see, vcpu);
    see.call('pointer 0', () => kernel.ioctl(vcpu, KVM_PRE_FAULT_MEMORY, 0));
    see.call('on the VM', () => kernel.ioctl(vm, KVM_PRE_FAULT_MEMORY, 0));
    ask('flags 1', 0n, PAGE, 1n);
    ask('flags 2^63', 0n, PAGE, 1n << 63n);
    ask('gpa 1', 1n, PAGE);
    ask('size 1', 0n, 1n);
    ask('size 0', 0n, 0n);
    ask('wraps to 0', 0xfffffffffffff000n, PAGE);
    ask('wraps', 0xfffffffffffff000n, 2n * PAGE);
    ask('flags and size 0', 0n, 0n, 1n);
    ask('a page', 0n, PAGE);
    ask('the same again', 0n, PAGE);
    ask('the slot', 0n, 0x10000n);
    ask('beyond the slot', 0n, 0x20000n);
    ask('behind the slot', 0x10000n, PAGE);
    ask('the last page of the slot and more', 0xf000n, 0x10000n);
    ask('beyond the last guest frame', 1n << 52n, PAGE);
    ask('the last page but one there could be', 0xffffffffffffe000n, PAGE);
  }),
  define('kvm/pre-fault/no-slot-at-all', section, (kernel, see) => {
    const vcpu = kernel.ioctl(newVm(kernel), KVM_CREATE_VCPU, 0);
    preFault(kernel, see, vcpu)('a page', 0n, PAGE);
  }),
  // KVM_SET_SREGS throws the page tables' root away: KVM's emulator then begins the IN anew, unless there is a root again.
  define('kvm/pre-fault/before-an-in-is-complete', section, (kernel, see) => {
    for (const [what, asks] of [
      ['alone', false],
      ['and KVM_PRE_FAULT_MEMORY', true],
    ] as const) {
      const { vcpu, run } = startGuest(kernel, [0xe5, 0x10, HLT]);
      see.call(`IN, ${what}`, () => result(kernel.run(vcpu)));
      setSregs(kernel, vcpu, (sregs) => {
        sregs.cr4 = 0x10n;
      });
      if (asks) preFault(kernel, see, vcpu)('pre-fault', 0n, PAGE);
      run.set('immediate_exit', 1);
      see.call(`SET_SREGS ${what}: run`, () => result(kernel.run(vcpu)));
      see.note(`SET_SREGS ${what}: rip`, getRegs(kernel, vcpu).rip);
    }
  }),
  define('kvm/pre-fault/host-page-gone', section, (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    const run = new RunPage(mapRun(kernel, vcpu));
    const memory = kernel.mmap({ length: 0x4000, view: false });
    setRegion(kernel, vm, { slot: 0, guest_phys_addr: 0n, memory_size: 0x4000n, userspace_addr: memory.address });
    kernel.mprotect(memory, 0, { offset: 0x2000, length: 0x1000 });
    const ask = preFault(kernel, see, vcpu);
    ask('up to the page', 0n, 0x4000n);
    ask('the page itself', 0x2000n, 0x1000n);
    ask('the page behind it', 0x3000n, 0x1000n);
    see.note('exit_reason', run.get('exit_reason'));
  }),
  // Older kernels take the root that went with the slot for one that is there, and try until a signal comes.
  define(
    'kvm/pre-fault/slot-anew',
    section,
    (kernel, see) => {
      const { vm, vcpu } = newVcpu(kernel);
      const ram = kernel.guestRam(0x10000);
      const slot = (memory_size: bigint): number =>
        setRegion(kernel, vm, { slot: 0, guest_phys_addr: 0n, memory_size, userspace_addr: ram.address });
      const ask = preFault(kernel, see, vcpu);
      slot(0x10000n);
      ask('the slot', 0n, 0x10000n);
      slot(0n);
      ask('without it', 0n, PAGE);
      slot(0x10000n);
      ask('the slot anew', 0n, 0x10000n);
    },
    { needs: { since: '6.14' } },
  ),
  define('kvm/pre-fault/private', section, (kernel, see) => {
    const vm = protectedVm(kernel, see);
    if (vm < 0) return;
    const prober = new Prober(kernel, vm);
    const memfd = guestMemfd(kernel, vm, 0x10000n);
    const shared = kernel.guestRam(0x10000);
    shared.write8(0, 0x21);
    setGmem(kernel, vm, { slot: 1, gpa: GPA, size: 0x10000n, memfd, hva: shared.address });
    addRam(kernel, vm, 2, BARE, 0x10000);
    const ask = preFault(kernel, see, prober.vcpu);
    ask('shared memory', GPA, 0x10000n);
    setAttributes(kernel, vm, GPA, 2n * PAGE);
    ask('private and shared memory', GPA, 0x10000n);
    see.note('the guest reads', prober.read(GPA));
    setAttributes(kernel, vm, BARE + PAGE, PAGE);
    see.note('exit_reason before', prober.run.get('exit_reason'));
    ask('up to a private page without a guest_memfd', BARE, 0x4000n);
    see.note('exit_reason then', prober.run.get('exit_reason'));
    see.note('the fault', prober.memoryFault());
    ask('the private page without a guest_memfd', BARE + PAGE, PAGE);
    setAttributes(kernel, vm, 0x60000n, PAGE);
    ask('a private page without a slot', 0x60000n, PAGE);
    see.note('the fault there', toFact(prober.memoryFault()));
    ask('a shared page without a slot', 0x61000n, PAGE);
    setAttributes(kernel, vm, 0x61000n, PAGE);
    see.note('the guest reads that page, private by now', prober.read(0x61000n));
    ask('that page', 0x61000n, PAGE);
    kernel.close(memfd);
    ask('private memory whose file is closed', GPA, PAGE);
  }),
];
