/** KVM_RUN before any guest instruction matters: its argument, immediate_exit, synced registers, cr8, kicks. */
import { KVM_GET_REGS, KVM_RUN, KVM_SET_REGS, kvm_regs, kvm_run, kvm_sregs } from 'kvio/uapi';
import { type Case, changes, define, hex, nonZero, toFact } from '../case.ts';
import { startGuest } from '../guest.ts';
import { addRam, getRegs, getSregs, mapRun, newVcpu, RunPage, setRegs, setSregs } from '../machine.ts';

const section = 'KVM_RUN';
const REGS = 1n;
const SREGS = 2n;

const regsAt = (): number => kvm_run.offsetOf('s.regs.regs');
const sregsAt = (): number => kvm_run.offsetOf('s.regs.sregs');

export const runCases: Case[] = [
  define('kvm/run/argument', section, (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const run = new RunPage(mapRun(kernel, vcpu));
    run.set('immediate_exit', 1);
    see.call('arg 1', () => kernel.ioctl(vcpu, KVM_RUN, 1));
    see.call('arg above 32 bits', () => kernel.ioctl(vcpu, KVM_RUN, 1n << 32n));
    see.note('run page untouched: apic_base', run.get('apic_base'));
    see.call('arg 0', () => kernel.ioctl(vcpu, KVM_RUN, 0));
    see.note('now apic_base', run.get('apic_base'));
    see.call('through run()', () => kernel.run(vcpu));
  }),
  define('kvm/run/immediate-exit', section, (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const run = new RunPage(mapRun(kernel, vcpu));
    run.set('immediate_exit', 1);
    run.set('exit_reason', 0x55);
    see.call('KVM_RUN', () => kernel.run(vcpu));
    see.note('exit_reason is left alone', run.get('exit_reason'));
    see.note('immediate_exit is left alone', run.get('immediate_exit'));
    for (const field of ['if_flag', 'ready_for_interrupt_injection', 'flags', 'cr8', 'apic_base'])
      see.note(field, run.get(field));
    setRegs(kernel, vcpu, { rflags: 0x202n });
    see.call('with IF set', () => kernel.run(vcpu));
    see.note('IF: if_flag', run.get('if_flag'));
    see.note('IF: ready_for_interrupt_injection', run.get('ready_for_interrupt_injection'));
    run.set('immediate_exit', 0xff);
    see.call('any other value than 0', () => kernel.run(vcpu));
    run.set('flags', 0xffff);
    kernel.run(vcpu);
    see.note('flags are reset', run.get('flags'));
    run.set('apic_base', 0x1234n);
    kernel.run(vcpu);
    see.note('apic_base is no input', run.get('apic_base'));
    see.note('nothing ran: rip', getRegs(kernel, vcpu).rip);
  }),
  define('kvm/run/valid-and-dirty-bits', section, (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const run = new RunPage(mapRun(kernel, vcpu));
    run.set('immediate_exit', 1);
    for (const bits of [8n, 0x10n, 1n << 32n, 1n << 63n]) {
      run.set('kvm_valid_regs', bits);
      run.set('kvm_dirty_regs', 0n);
      see.call(`valid ${hex(bits)}`, () => kernel.run(vcpu));
      run.set('kvm_valid_regs', 0n);
      run.set('kvm_dirty_regs', bits);
      see.call(`dirty ${hex(bits)}`, () => kernel.run(vcpu));
      see.note(`dirty ${hex(bits)} afterwards`, run.get('kvm_dirty_regs'));
    }
    run.set('kvm_dirty_regs', 0n);
    for (const bits of [1n, 2n, 3n, 4n, 7n]) {
      run.bytes.fill(0, regsAt(), regsAt() + 2048);
      run.set('kvm_valid_regs', bits);
      see.call(`valid ${hex(bits)}`, () => kernel.run(vcpu));
      see.note(`valid ${hex(bits)}: regs stored`, nonZero(kvm_regs.decode(run.bytes, regsAt())));
      see.note(`valid ${hex(bits)}: sregs stored`, toFact(kvm_sregs.decode(run.bytes, sregsAt()).cr0));
    }
    run.bytes.fill(0, regsAt(), regsAt() + 2048);
    run.set('kvm_valid_regs', 9n);
    see.call('a good and a bad bit', () => kernel.run(vcpu));
    see.note('EINVAL, and regs are stored all the same', nonZero(kvm_regs.decode(run.bytes, regsAt())));
  }),
  define('kvm/run/dirty-regs', section, (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const run = new RunPage(mapRun(kernel, vcpu));
    run.set('immediate_exit', 1);
    kvm_regs.encode({ ...getRegs(kernel, vcpu), rax: 0xabcn, rflags: 0n }, run.bytes, regsAt());
    run.set('kvm_dirty_regs', REGS);
    see.call('REGS dirty', () => kernel.run(vcpu));
    see.note('bit cleared', run.get('kvm_dirty_regs'));
    see.note('applied: rax', getRegs(kernel, vcpu).rax);
    see.note('rflags bit 1 forced', getRegs(kernel, vcpu).rflags);
    kvm_sregs.encode({ ...getSregs(kernel, vcpu), cr2: 0x999n }, run.bytes, sregsAt());
    run.set('kvm_dirty_regs', SREGS);
    see.call('SREGS dirty', () => kernel.run(vcpu));
    see.note('SREGS: bit cleared', run.get('kvm_dirty_regs'));
    see.note('applied: cr2', getSregs(kernel, vcpu).cr2);
    kvm_regs.encode({ ...getRegs(kernel, vcpu), rax: 0xdefn }, run.bytes, regsAt());
    kvm_sregs.encode({ ...getSregs(kernel, vcpu), cr0: 1n << 63n, cr2: 0x111n }, run.bytes, sregsAt());
    run.set('kvm_dirty_regs', REGS | SREGS);
    see.call('REGS and bad SREGS dirty', () => kernel.run(vcpu));
    see.note('bad SREGS: bits left', run.get('kvm_dirty_regs'));
    see.note('bad SREGS: REGS applied', getRegs(kernel, vcpu).rax);
    see.note('bad SREGS: nothing of them', getSregs(kernel, vcpu).cr2);
    run.set('kvm_dirty_regs', REGS | 8n);
    kvm_regs.encode({ ...getRegs(kernel, vcpu), rax: 0x321n }, run.bytes, regsAt());
    see.call('REGS and an unknown bit', () => kernel.run(vcpu));
    see.note('unknown bit: REGS not applied', getRegs(kernel, vcpu).rax);
  }),
  define('kvm/run/cr8', section, (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const run = new RunPage(mapRun(kernel, vcpu));
    run.set('immediate_exit', 1);
    for (const cr8 of [0n, 1n, 15n, 16n, 255n, 1n << 32n, (1n << 64n) - 1n]) {
      run.set('cr8', cr8);
      see.call(`cr8 ${hex(cr8)}`, () => kernel.run(vcpu));
      see.note(`cr8 ${hex(cr8)} afterwards in the run page`, run.get('cr8'));
      see.note(`cr8 ${hex(cr8)} afterwards in sregs`, getSregs(kernel, vcpu).cr8);
    }
    run.set('cr8', 16n);
    run.set('kvm_valid_regs', 8n);
    see.call('bad cr8 and bad valid bits', () => kernel.run(vcpu));
    run.set('kvm_valid_regs', 0n);
    run.set('cr8', 16n);
    kvm_regs.encode({ ...getRegs(kernel, vcpu), rax: 0x77n }, run.bytes, regsAt());
    run.set('kvm_dirty_regs', REGS);
    see.call('bad cr8 and dirty REGS', () => kernel.run(vcpu));
    see.note('REGS were applied before', getRegs(kernel, vcpu).rax);
  }),
  define('kvm/run/sync-regs-of-an-exit', section, (kernel, see) => {
    const guest = startGuest(kernel, [0xb0, 0x41, 0xe6, 0x10, 0xf4]); // mov al,'A'; out 0x10,al; hlt
    guest.run.set('kvm_valid_regs', 3n);
    see.call('KVM_RUN', () => kernel.run(guest.vcpu));
    const bytes = kvm_regs.alloc();
    kernel.ioctl(guest.vcpu, KVM_GET_REGS, bytes);
    see.note(
      'regs of the page are those of GET_REGS',
      changes(toFact(kvm_regs.decode(bytes)), toFact(kvm_regs.decode(guest.run.bytes, regsAt()))),
    );
    see.note('sregs too', changes(toFact(getSregs(kernel, guest.vcpu)), toFact(kvm_sregs.decode(guest.run.bytes, sregsAt()))));
    kvm_regs.encode({ ...kvm_regs.decode(bytes), rbx: 0x1234n }, guest.run.bytes, regsAt());
    guest.run.set('kvm_dirty_regs', REGS);
    see.call('KVM_RUN with dirty regs', () => kernel.run(guest.vcpu));
    see.note('rbx', getRegs(kernel, guest.vcpu).rbx);
  }),
  define('kvm/run/no-memory', section, (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const run = new RunPage(mapRun(kernel, vcpu));
    see.call('KVM_RUN without any memslot', () => kernel.run(vcpu));
    see.note('exit_reason', run.get('exit_reason'));
  }),
  define('kvm/run/no-code', section, (kernel, see) => {
    const { vcpu, vm } = newVcpu(kernel);
    addRam(kernel, vm, 0, 0n, 0x1000);
    const run = new RunPage(mapRun(kernel, vcpu));
    see.call('KVM_RUN with nothing at the reset vector', () => kernel.run(vcpu));
    see.note('exit_reason', run.get('exit_reason'));
    see.note('suberror', run.get('internal.suberror'));
    see.note('ndata', run.get('internal.ndata'));
    see.note('rip', getRegs(kernel, vcpu).rip);
    see.call('again', () => kernel.run(vcpu));
    see.note('again: exit_reason', run.get('exit_reason'));
  }),
  define(
    'kvm/run/kick-before',
    section,
    (kernel, see) => {
      const guest = startGuest(kernel, [0xb0, 0x41, 0xe6, 0x10, 0xf4]);
      kernel.kick(guest.vcpu);
      kernel.kick(guest.vcpu);
      see.call('the next run', () => kernel.run(guest.vcpu));
      see.note('nothing ran: rip', getRegs(kernel, guest.vcpu).rip === guest.entry);
      see.note('immediate_exit is 0 again', guest.run.get('immediate_exit'));
      see.call('the run after that', () => kernel.run(guest.vcpu));
      see.note('its exit_reason', guest.run.get('exit_reason'));
      kernel.kick(guest.vcpu);
      see.call('kicked between exits', () => kernel.run(guest.vcpu));
      see.call('then on to HLT', () => kernel.run(guest.vcpu));
      see.note('exit_reason of HLT', guest.run.get('exit_reason'));
    },
    { needs: { features: ['kick'] } },
  ),
  define(
    'kvm/run/budget',
    section,
    (kernel, see) => {
      const guest = startGuest(kernel, [0xeb, 0xfe]); // jmp $
      see.call('an endless loop with a budget of 20 ms', () => kernel.run(guest.vcpu, { budget: 20 }));
      see.note('rip is in the loop', getRegs(kernel, guest.vcpu).rip === guest.entry);
      see.call('again', () => kernel.run(guest.vcpu, { budget: 5 }));
      see.call('SET_REGS between', () =>
        kernel.ioctl(guest.vcpu, KVM_SET_REGS, kvm_regs.encode({ ...getRegs(kernel, guest.vcpu), rax: 1n })),
      );
    },
    { needs: { features: ['kick'] } },
  ),
  define(
    'kvm/run/async',
    section,
    async (kernel, see) => {
      const guest = startGuest(kernel, [0xb0, 0x41, 0xe6, 0x10, 0xeb, 0xfe]); // mov al,'A'; out 0x10,al; jmp $
      await see.wait('runAsync to the first exit', () => kernel.runAsync(guest.vcpu));
      see.note('exit_reason', guest.run.get('exit_reason'));
      const endless = kernel.runAsync(guest.vcpu);
      see.call('GET_REGS meanwhile', () => getRegs(kernel, guest.vcpu).rax);
      see.call('run meanwhile', () => kernel.run(guest.vcpu));
      kernel.kick(guest.vcpu);
      await see.wait('kicked', () => endless);
      see.note('exit_reason after the kick is INTR or stale', [2, 10].includes(Number(guest.run.get('exit_reason'))));
      const controller = new AbortController();
      const aborted = kernel.runAsync(guest.vcpu, { signal: controller.signal });
      controller.abort();
      await see.wait('aborted', () => aborted);
      await see.wait('with a budget', () => kernel.runAsync(guest.vcpu, { budget: 10 }));
      see.note('al', getRegs(kernel, guest.vcpu).rax);
    },
    { needs: { features: ['async', 'kick'] } },
  ),
  define(
    'kvm/run/kick-through-a-dup',
    section,
    (kernel, see) => {
      const guest = startGuest(kernel, [0xf4]);
      const twin = kernel.dup(guest.vcpu);
      kernel.kick(twin);
      see.call('a kick of the dup ends the run of the other', () => kernel.run(guest.vcpu));
      kernel.kick(guest.vcpu);
      see.call('and the other way round', () => kernel.run(twin));
      see.call('KVM_RUN by ioctl', () => kernel.ioctl(twin, KVM_RUN));
      see.note('exit_reason', guest.run.get('exit_reason'));
      kernel.kick(twin);
      kernel.close(twin);
      see.call('the kick outlives the descriptor it came through', () => kernel.run(guest.vcpu));
    },
    { needs: { features: ['kick'] } },
  ),
  define(
    'kvm/run/async-queue-and-close',
    section,
    async (kernel, see) => {
      const code = [0xb0, 1, 0xe6, 0x10, 0xb0, 2, 0xe6, 0x10, 0xeb, 0xfe]; // two OUTs, then jmp $
      const guest = startGuest(kernel, code);
      const first = kernel.runAsync(guest.vcpu);
      const second = kernel.runAsync(guest.vcpu);
      await see.wait('the first', () => first);
      await see.wait('the second', () => second);
      see.note('al: both have run', getRegs(kernel, guest.vcpu).rax);
      const running = kernel.runAsync(guest.vcpu);
      kernel.close(guest.vm);
      kernel.kick(guest.vcpu);
      await see.wait('the VM descriptor closed meanwhile', () => running);
      const last = kernel.runAsync(guest.vcpu);
      kernel.close(guest.vcpu);
      await see.wait('the vCPU descriptor closed meanwhile', () => last);
      see.call('it is closed', () => kernel.run(guest.vcpu));
    },
    { needs: { features: ['async', 'kick'] } },
  ),
  define('kvm/run/cs-base', section, (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    const ram = addRam(kernel, vm, 0, 0xfffff000n, 0x1000);
    ram.bytes!.set([0xb0, 0x5a, 0xf4], 0xff0); // mov al,0x5a; hlt
    const run = new RunPage(mapRun(kernel, vcpu));
    see.call('KVM_RUN from the reset vector', () => kernel.run(vcpu));
    see.note('exit_reason', run.get('exit_reason'));
    see.note('regs', nonZero(getRegs(kernel, vcpu)));
    see.note('mode: cs.base', getSregs(kernel, vcpu).cs.base);
    setSregs(kernel, vcpu, () => {});
    see.call('on, into nothing', () => kernel.run(vcpu));
    see.note('its exit_reason', run.get('exit_reason'));
  }),
];
