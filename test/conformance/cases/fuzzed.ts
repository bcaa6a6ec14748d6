/** What fuzzing found: rules no other case had asked for, each in the fewest calls that show it. */
import type { Kernel } from 'kvio';
import {
  KVM_CAP_X86_SMM,
  KVM_CREATE_GUEST_MEMFD,
  KVM_CREATE_IRQCHIP,
  KVM_CREATE_VCPU,
  KVM_CREATE_VM,
  KVM_GET_CLOCK,
  KVM_GET_DEBUGREGS,
  KVM_GET_FPU,
  KVM_GET_VCPU_EVENTS,
  KVM_GET_XSAVE,
  KVM_INTERNAL_ERROR_DELIVERY_EV,
  KVM_INTERRUPT,
  KVM_NMI,
  KVM_SET_CPUID2,
  KVM_SET_FPU,
  KVM_SET_NR_MMU_PAGES,
  KVM_SET_VAPIC_ADDR,
  KVM_SET_VCPU_EVENTS,
  KVM_SIGNAL_MSI,
  KVM_SMI,
  kvm_clock_data,
  kvm_create_guest_memfd,
  kvm_debugregs,
  kvm_fpu,
  kvm_msi,
  kvm_run,
  kvm_sregs,
  kvm_vcpu_events,
  MADV_REMOVE,
} from 'kvio/uapi';
import { type Case, define, nonZero, type Observer, result } from '../case.ts';
import { haltingVectors, play, startGuest } from '../guest.ts';
import {
  addRam,
  cpuidBytes,
  getMsr,
  getRegs,
  getSregs,
  mapRun,
  newVcpu,
  openKvm,
  RUN_SIZE,
  RunPage,
  type Sregs,
  setMsr,
  setRegion,
  setRegs,
  setSregs,
} from '../machine.ts';

const HLT = 0xf4;
/**
 * Not on PVM: there XMM registers that are not in use go back to their initial state now and then, by what the host's processor has tracked of
 * them. KVM has SMM with every other vendor module.
 */
const ONLY_HARDWARE = { needs: { capability: KVM_CAP_X86_SMM } } as const;
const FIONREAD = 0x541b;
const FIOQSIZE = 0x5460;
const FIGETBSZ = 2;

function noteEvents(kernel: Kernel, vcpu: number, see: Observer, label: string): void {
  const bytes = kvm_vcpu_events.alloc();
  kernel.ioctl(vcpu, KVM_GET_VCPU_EVENTS, bytes);
  see.note(label, nonZero(kvm_vcpu_events.decode(bytes)));
}

function injectEvents(kernel: Kernel, vcpu: number, edit: (events: ReturnType<typeof kvm_vcpu_events.decode>) => void): void {
  const bytes = kvm_vcpu_events.alloc();
  kernel.ioctl(vcpu, KVM_GET_VCPU_EVENTS, bytes);
  const events = kvm_vcpu_events.decode(bytes);
  edit(events);
  kernel.ioctl(vcpu, KVM_SET_VCPU_EVENTS, kvm_vcpu_events.encode(events));
}

export const fuzzedCases: Case[] = [
  define('kvm/fuzzed/run-after-all-slots-are-deleted', 'KVM_RUN', (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    addRam(kernel, vm, 0, 0n, 0x1000);
    setRegion(kernel, vm, { slot: 0 });
    see.call('run', () => result(kernel.run(vcpu)));
  }),
  define('kvm/fuzzed/run-after-set-nr-mmu-pages', 'KVM_RUN', (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    see.call('SET_NR_MMU_PAGES', () => kernel.ioctl(vm, KVM_SET_NR_MMU_PAGES, 64));
    see.call('run', () => result(kernel.run(vcpu)));
  }),
  define('kvm/fuzzed/last-exception-is-told', 'Events', (kernel, see) => {
    const guest = startGuest(kernel, [0x0f, 0x0b, HLT], { data: haltingVectors });
    play(guest, see);
    noteEvents(kernel, guest.vcpu, see, 'events after #UD');
  }),
  define('kvm/fuzzed/exception-payload-is-kept', 'Events', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const bytes = kvm_vcpu_events.alloc();
    const view = new DataView(bytes.buffer);
    view.setBigUint64(kvm_vcpu_events.offsetOf('exception_payload'), 0x7fffn, true);
    see.call('SET_VCPU_EVENTS with a payload and no flag', () => kernel.ioctl(vcpu, KVM_SET_VCPU_EVENTS, bytes));
    noteEvents(kernel, vcpu, see, 'payload');
    bytes.fill(0);
    view.setUint32(kvm_vcpu_events.offsetOf('flags'), 8, true);
    bytes[kvm_vcpu_events.offsetOf('smi') + 3] = 1;
    see.call('SET_VCPU_EVENTS with latched_init only', () => kernel.ioctl(vcpu, KVM_SET_VCPU_EVENTS, bytes));
    bytes.fill(0);
    bytes[0] = 1;
    see.call('SET_VCPU_EVENTS with an injected exception', () => kernel.ioctl(vcpu, KVM_SET_VCPU_EVENTS, bytes));
    setRegs(kernel, vcpu, {});
    noteEvents(kernel, vcpu, see, 'SET_REGS leaves it');
  }),
  define('kvm/fuzzed/hlt-under-tf', 'Events', (kernel, see) => {
    const guest = startGuest(kernel, [HLT, HLT], { data: haltingVectors, regs: { rflags: 0x102n } });
    see.call('run', () => result(kernel.run(guest.vcpu)));
    noteEvents(kernel, guest.vcpu, see, '#DB is pending');
    see.note('regs', nonZero(getRegs(kernel, guest.vcpu)));
    play(guest, see);
  }),
  // What the #DB of a step brings to DR6 waits for it, unless it is asked for; SET_REGS takes the #DB away.
  define('kvm/fuzzed/payload-of-a-step', 'Events', (kernel, see) => {
    const asked = {
      nothing: (): void => {},
      SREGS: (vcpu: number): void => void getSregs(kernel, vcpu),
      DEBUGREGS: (vcpu: number): void => void kernel.ioctl(vcpu, KVM_GET_DEBUGREGS, kvm_debugregs.alloc()),
    };
    for (const [what, ask] of Object.entries(asked)) {
      const { vcpu } = startGuest(kernel, [HLT, HLT], { data: haltingVectors, regs: { rflags: 0x102n } });
      see.call(`run, ${what} read`, () => result(kernel.run(vcpu)));
      ask(vcpu);
      setRegs(kernel, vcpu, {});
      noteEvents(kernel, vcpu, see, `${what} read: after SET_REGS`);
      const registers = kvm_debugregs.alloc();
      kernel.ioctl(vcpu, KVM_GET_DEBUGREGS, registers);
      see.note(`${what} read: dr6`, kvm_debugregs.decode(registers).dr6);
    }
  }),
  define('kvm/fuzzed/nmi-that-cannot-be-delivered', 'Events', (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    setRegion(kernel, vm, { slot: 0, memory_size: 0x10000n });
    kernel.ioctl(vcpu, KVM_NMI);
    see.call('run', () => result(kernel.run(vcpu)));
    noteEvents(kernel, vcpu, see, 'the NMI is gone, others stay blocked');
    see.note('regs', nonZero(getRegs(kernel, vcpu)));
  }),
  define('kvm/fuzzed/error-code-in-real-mode', 'Events', (kernel, see) => {
    const withCode = ({ exception }: ReturnType<typeof kvm_vcpu_events.decode>): void =>
      void Object.assign(exception, { injected: 1, nr: 13, has_error_code: 1, error_code: 0x1234 });
    const { vcpu } = newVcpu(kernel);
    injectEvents(kernel, vcpu, withCode);
    see.call('run without memory', () => result(kernel.run(vcpu)));
    noteEvents(kernel, vcpu, see, 'without memory');
    const guest = startGuest(kernel, [HLT], { data: haltingVectors });
    // Hardware that meets a nested page fault on the way delivers another, without a code, once the page is there.
    for (const label of ['run', 'run again']) {
      injectEvents(kernel, guest.vcpu, withCode);
      see.call(label, () => result(kernel.run(guest.vcpu)));
    }
    noteEvents(kernel, guest.vcpu, see, 'delivered');
  }),
  define('kvm/fuzzed/rflags-above-32', 'Registers', (kernel, see) => {
    const guest = startGuest(kernel, [0x90, HLT], { regs: { rflags: 0xffff_ffff_0000_0002n } });
    play(guest, see);
  }),
  define('kvm/fuzzed/completion-of-the-decoded-instruction', 'Completing I/O', (kernel, see) => {
    const guest = startGuest(kernel, [0xe4, 0x10, HLT]);
    see.call('run to the IN', () => result(kernel.run(guest.vcpu)));
    guest.ram.write(0x1000, Uint8Array.of(HLT, HLT));
    play(guest, see);
  }),
  define('kvm/fuzzed/rdmsr-without-cpuid', 'MSRs', (kernel, see) => {
    for (const index of [0x10a, 0x345]) {
      const guest = startGuest(kernel, [0x66, 0xb9, index & 0xff, index >> 8, 0, 0, 0x0f, 0x32, HLT], { data: haltingVectors });
      see.call(`MSR ${index}`, () => result(kernel.run(guest.vcpu)));
      see.note(`MSR ${index}: regs`, nonZero(getRegs(kernel, guest.vcpu)));
    }
  }),
  define('kvm/fuzzed/wall-clock-is-per-vm', 'MSRs', (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    const other = kernel.ioctl(vm, KVM_CREATE_VCPU, 1);
    setMsr(kernel, vcpu, 0x4b564d00, 0x1000n);
    for (const index of [0x4b564d00, 0x11]) see.note(`MSR ${index} of another vCPU`, getMsr(kernel, other, index) ?? 'none');
  }),
  define('kvm/fuzzed/vector-under-the-stack', 'KVM_EXIT_HLT', (kernel, see) => {
    const guest = startGuest(kernel, [0xcd, 0x01, HLT], { data: { ...haltingVectors, 4098: [HLT] }, regs: { rsp: 8n } });
    see.call('INT 1 whose pushes overwrite its own vector', () => result(kernel.run(guest.vcpu)));
    see.note('regs', nonZero(getRegs(kernel, guest.vcpu)));
  }),
  define('kvm/fuzzed/injected-vector-under-the-stack', 'KVM_EXIT_HLT', (kernel, see) => {
    const guest = startGuest(kernel, [0x0f, 0x0b, HLT], { data: haltingVectors, regs: { rsp: 0x20n } });
    see.call('#UD whose pushes overwrite its own vector', () => result(kernel.run(guest.vcpu)));
    see.note('regs', nonZero(getRegs(kernel, guest.vcpu)));
  }),
  define('kvm/fuzzed/injection-and-the-stack-segment', 'KVM_EXIT_HLT', (kernel, see) => {
    const options = {
      data: haltingVectors,
      regs: { rsp: 0x8000n },
      sregs: (sregs: Sregs): void => void Object.assign(sregs.ss, { limit: 0x101 }),
    };
    const guest = startGuest(kernel, [0x0f, 0x0b, HLT], options);
    see.call('#UD, SP above the limit of SS', () => result(kernel.run(guest.vcpu)));
    see.note('regs', nonZero(getRegs(kernel, guest.vcpu)));
  }),
  define('kvm/fuzzed/nmi-without-memslots', 'Events', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    kernel.ioctl(vcpu, KVM_NMI);
    see.call('run', () => result(kernel.run(vcpu)));
    noteEvents(kernel, vcpu, see, 'events');
  }),
  define('kvm/fuzzed/fionread-of-a-memfd', 'Files', (kernel, see) => {
    const fd = kernel.memfd('fionread');
    kernel.ftruncate(fd, 0x3000);
    const bytes = new Uint8Array(4);
    see.call('FIONREAD', () => kernel.ioctl(fd, FIONREAD, bytes, { unsafe: true }));
    see.note('bytes', bytes);
  }),
  define('kvm/fuzzed/enter-with-nesting', 'KVM_EXIT_INTERNAL_ERROR', (kernel, see) => {
    play(startGuest(kernel, [0xc8, 4, 0, 1, HLT], { data: haltingVectors }), see);
  }),
  define('kvm/fuzzed/bound', 'KVM_EXIT_INTERNAL_ERROR', (kernel, see) => {
    play(startGuest(kernel, [0x62, 0x06, 0x00, 0x20, HLT], { data: haltingVectors }), see);
  }),
  define('kvm/fuzzed/paging-without-long-mode', 'KVM_EXIT_SHUTDOWN', (kernel, see) => {
    const guest = startGuest(kernel, [0xe6, 0x10, HLT], { regs: { rflags: 0x202n }, data: haltingVectors });
    const { run, vcpu } = guest;
    const ready = (label: string): void => {
      run.set('immediate_exit', 1);
      see.call(`${label}: run with immediate_exit`, () => result(kernel.run(vcpu)));
      see.note(`${label}: ready_for_interrupt_injection`, run.get('ready_for_interrupt_injection'));
      run.set('immediate_exit', 0);
    };
    ready('before');
    see.call('CR0.PG and PE', () => setSregs(kernel, vcpu, (sregs) => Object.assign(sregs, { cr0: 0x8000_0011n })));
    ready('after');
    see.call('real mode again', () => setSregs(kernel, vcpu, (sregs) => Object.assign(sregs, { cr0: 0x10n })));
    ready('then');
    see.call('run', () => result(kernel.run(vcpu)));
    see.note('exit_reason', run.get('exit_reason'));
  }),
  define('kvm/fuzzed/nmi-behind-an-exception', 'Events', (kernel, see) => {
    const guest = startGuest(kernel, [HLT], { data: haltingVectors });
    injectEvents(kernel, guest.vcpu, (events) => {
      Object.assign(events.exception, { injected: 1, nr: 4 });
      events.nmi.pending = 1;
    });
    for (const at of [1, 2, 3]) {
      see.call(`run ${at}`, () => result(kernel.run(guest.vcpu)));
      see.note(`run ${at}: rip`, getRegs(kernel, guest.vcpu).rip);
      noteEvents(kernel, guest.vcpu, see, `run ${at}: events`);
    }
  }),
  define('kvm/fuzzed/sti-where-if-is-set', 'Events', (kernel, see) => {
    const guest = startGuest(kernel, [0xfb], { ram: 0x2000, entry: 0x1fff, regs: { rflags: 0x202n }, data: { 0: [0, 6, 0, 0] } });
    see.call('run to the fetch that fails', () => result(kernel.run(guest.vcpu)));
    noteEvents(kernel, guest.vcpu, see, 'events after STI');
  }),
  define('kvm/fuzzed/set-regs-before-a-port-is-read', 'Completing I/O', (kernel, see) => {
    const guest = startGuest(kernel, [0xe4, 0x10, HLT], { data: haltingVectors });
    see.call('run to the IN', () => result(kernel.run(guest.vcpu)));
    see.call('SET_REGS', () => setRegs(kernel, guest.vcpu, { rip: 0x1000n, rflags: 0xeecd_1d5b_0000_0046n, rcx: 5n }));
    see.call('run', () => result(kernel.run(guest.vcpu)));
    see.note('regs', nonZero(getRegs(kernel, guest.vcpu)));
  }),
  define(
    'kvm/fuzzed/msrs-of-the-vendor-modules',
    'MSRs',
    (kernel, see) => {
      const { vcpu } = newVcpu(kernel);
      for (const index of [
        ...[0x48, 0x49, 0x10b, 0x122, 0x140, 0x175, 0xc0000082],
        ...[0xc0010114, 0xc0010115, 0xc0010117, 0xc001011f, 0xc0011029],
      ]) {
        const read = (): unknown => getMsr(kernel, vcpu, index) ?? 'refused';
        see.note(`MSR ${index.toString(16)}`, read());
        for (const value of [0n, 1n, 4n, 0x10n, 9n, 0x0606_0606_0606_0606n, 1n << 48n]) {
          const label = `MSR ${index.toString(16)} = ${value.toString(16)}`;
          see.call(label, () => setMsr(kernel, vcpu, index, value));
          see.note(`${label}: reads`, read());
        }
      }
    },
    {
      // What is canonical depends on how many levels of page tables the host has.
      volatile: [
        'MSR 175 = 606060606060606: reads',
        'MSR 175 = 1000000000000: reads',
        'MSR c0000082 = 1000000000000',
        'MSR c0000082 = 1000000000000: reads',
      ],
    },
  ),
  define('kvm/fuzzed/set-regs-before-ins-goes-on', 'Completing I/O', (kernel, see) => {
    const guest = startGuest(kernel, [0x6c, HLT], { data: haltingVectors, regs: { rdi: 0x2ffen, rdx: 0x10n, rflags: 0x402n } });
    see.call('run to the INSB, backwards', () => result(kernel.run(guest.vcpu)));
    see.call('SET_REGS', () => setRegs(kernel, guest.vcpu, { rdi: 1n << 43n, rip: 0x1000n, rflags: 0x402n }));
    see.call('run', () => result(kernel.run(guest.vcpu)));
    see.note('regs', nonZero(getRegs(kernel, guest.vcpu)));
  }),
  define('kvm/fuzzed/flags-between-the-reads-of-a-rep', 'Completing I/O', (kernel, see) => {
    // REPNE CMPSB of RAM with what no slot has.
    const regs = { rcx: 3n, rsi: 0x3000n, rdi: 0x6000n, rflags: 0x46n };
    const guest = startGuest(kernel, [0xf2, 0xa6, HLT], {
      data: { ...haltingVectors, 12288: [1, 2, 3] },
      regs,
      sregs: (sregs: Sregs): void => void Object.assign(sregs.es, { base: 0xf0000n, selector: 0xf000 }),
    });
    play(guest, see, { mmio: [[0xfe], [0x10], [0x33]] });
  }),
  define('kvm/fuzzed/vex-in-real-mode', 'KVM_EXIT_INTERNAL_ERROR', (kernel, see) => {
    for (const opcode of [0xc4, 0xc5, 0x62]) {
      for (const modrm of [0xc0, 0xf4]) {
        const guest = startGuest(kernel, [opcode, modrm, 0x28, 0xc1, HLT], { data: haltingVectors });
        const label = `${opcode.toString(16)} ${modrm.toString(16)}`;
        see.call(label, () => result(kernel.run(guest.vcpu)));
        see.note(`${label}: exit_reason`, guest.run.get('exit_reason'));
        see.note(`${label}: rip`, getRegs(kernel, guest.vcpu).rip);
      }
    }
  }),
  define('kvm/fuzzed/decimal-adjustments', 'KVM_EXIT_INTERNAL_ERROR', (kernel, see) => {
    for (const opcode of [0x27, 0x2f, 0x37, 0x3f]) {
      const guest = startGuest(kernel, [opcode, HLT], { data: haltingVectors, regs: { rax: 0x1fn } });
      see.call(opcode.toString(16), () => result(kernel.run(guest.vcpu)));
      see.note(`${opcode.toString(16)}: exit_reason`, guest.run.get('exit_reason'));
      see.note(`${opcode.toString(16)}: rax`, getRegs(kernel, guest.vcpu).rax);
    }
  }),
  define('kvm/fuzzed/interrupt-bitmap-in-kvm-run', 'Register sets in kvm_run', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const run = new RunPage(mapRun(kernel, vcpu));
    const from = kvm_run.offsetOf('s.regs.sregs') + kvm_sregs.offsetOf('interrupt_bitmap');
    run.bytes.fill(0x5a, from, from + 32);
    run.set('kvm_valid_regs', 2n);
    run.set('immediate_exit', 1);
    see.call('run', () => result(kernel.run(vcpu)));
    see.note('interrupt_bitmap', run.slice(from, 32));
  }),
  define('kvm/fuzzed/madvise-remove-of-a-vcpu', 'The vCPU mapping', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    see.call('shared', () => kernel.madvise(mapRun(kernel, vcpu), MADV_REMOVE));
    see.call('private', () => kernel.madvise(kernel.mmap({ length: RUN_SIZE, fd: vcpu, flags: 2, view: false }), MADV_REMOVE));
  }),
  define('kvm/fuzzed/events-without-a-vector-table', 'KVM_EXIT_INTERNAL_ERROR', (kernel, see) => {
    const events: readonly (readonly [name: string, inject: (vcpu: number) => void])[] = [
      ['interrupt', (vcpu) => void kernel.ioctl(vcpu, KVM_INTERRUPT, Uint8Array.of(0x20, 0, 0, 0))],
      ['NMI', (vcpu) => void kernel.ioctl(vcpu, KVM_NMI)],
      [
        'soft interrupt',
        (vcpu) =>
          injectEvents(kernel, vcpu, ({ interrupt }) => void Object.assign(interrupt, { injected: 1, nr: 0x20, soft: 1 })),
      ],
      [
        'exception',
        (vcpu) => injectEvents(kernel, vcpu, ({ exception }) => void Object.assign(exception, { injected: 1, nr: 6 })),
      ],
    ];
    for (const [name, inject] of events) {
      const { vm, vcpu } = newVcpu(kernel);
      addRam(kernel, vm, 0, 0x20000n, 0x1000);
      const run = new RunPage(mapRun(kernel, vcpu));
      setSregs(kernel, vcpu, ({ idt }) => void Object.assign(idt, { base: 0n, limit: 0x3ff }));
      setRegs(kernel, vcpu, { rip: 0x1000n, rflags: 0x202n, rsp: 0x8000n });
      inject(vcpu);
      see.call(name, () => result(kernel.run(vcpu)));
      see.note(`${name}: exit_reason`, run.get('exit_reason'));
      see.note(`${name}: suberror`, run.get('internal.suberror'));
      see.note(`${name}: ndata`, run.get('internal.ndata'));
      // The last word of suberror 3 is the host's CPU.
      if (run.get('internal.suberror') !== KVM_INTERNAL_ERROR_DELIVERY_EV)
        see.note(`${name}: data`, run.slice(kvm_run.offsetOf('internal.data'), 48));
      see.note(`${name}: rip`, getRegs(kernel, vcpu).rip);
      noteEvents(kernel, vcpu, see, `${name}: events`);
    }
  }),
  define('kvm/fuzzed/id-that-a-vcpu-has-maps-the-apics', 'Local APIC', (kernel, see) => {
    const vm = kernel.ioctl(kernel.open('/dev/kvm'), KVM_CREATE_VM);
    kernel.ioctl(vm, KVM_CREATE_IRQCHIP);
    const msi = kvm_msi.encode({
      address_lo: 0xfee00000,
      address_hi: 0,
      data: 0x374,
      flags: 0,
      devid: 0,
      pad: new Uint8Array(12),
    });
    kernel.ioctl(vm, KVM_CREATE_VCPU);
    see.call('an MSI of mode 3', () => kernel.ioctl(vm, KVM_SIGNAL_MSI, Uint8Array.from(msi)));
    see.call('the id again', () => kernel.ioctl(vm, KVM_CREATE_VCPU));
    see.call('the MSI', () => kernel.ioctl(vm, KVM_SIGNAL_MSI, Uint8Array.from(msi)));
  }),
  define('kvm/fuzzed/rdmsr-of-none', 'KVM_GET_VCPU_EVENTS', (kernel, see) => {
    // In the guest the #GP of an MSR is KVM's: it tells of it afterwards.
    const code = [0xb9, 0xad, 0xde, 0x66, 0x0f, 0x32, HLT];
    const guest = startGuest(kernel, code, { data: haltingVectors });
    see.call('run', () => result(kernel.run(guest.vcpu)));
    see.note('rip', getRegs(kernel, guest.vcpu).rip);
    noteEvents(kernel, guest.vcpu, see, 'events');
  }),
  define('kvm/fuzzed/master-clock-of-a-run-without-memslots', 'KVM_GET_CLOCK', (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    const clock = (): Uint8Array => {
      const bytes = kvm_clock_data.alloc();
      kernel.ioctl(vm, KVM_GET_CLOCK, bytes);
      return bytes;
    };
    see.note('flags before', kvm_clock_data.decode(clock()).flags);
    see.call('run', () => result(kernel.run(vcpu)));
    see.note('flags', kvm_clock_data.decode(clock()).flags);
  }),
  define(
    'kvm/fuzzed/fpu-registers-that-are-not-in-use',
    'KVM_SET_FPU',
    (kernel, see) => {
      const guest = startGuest(kernel, [HLT, HLT], { data: haltingVectors });
      const { vcpu } = guest;
      const put = (): void => {
        const fpu = kvm_fpu.alloc();
        kernel.ioctl(vcpu, KVM_GET_FPU, fpu);
        for (const field of ['fpr', 'xmm'] as const) fpu[kvm_fpu.offsetOf(field)] = 0x77;
        fpu[kvm_fpu.offsetOf('ftwx')] = 1;
        kernel.ioctl(vcpu, KVM_SET_FPU, fpu);
      };
      const tell = (label: string): void => {
        const fpu = kvm_fpu.alloc();
        kernel.ioctl(vcpu, KVM_GET_FPU, fpu);
        for (const field of ['fpr', 'xmm', 'ftwx', 'mxcsr'] as const)
          see.note(`${label}: ${field}`, fpu[kvm_fpu.offsetOf(field)]!);
        const xsave = new Uint8Array(4096);
        kernel.ioctl(vcpu, KVM_GET_XSAVE, xsave);
        see.note(`${label}: XSTATE_BV`, new DataView(xsave.buffer).getBigUint64(512, true));
      };
      for (const label of ['first', 'second']) {
        put();
        tell(`${label}, set`);
        see.call(`${label} run`, () => result(kernel.run(vcpu)));
        tell(`${label}, run`);
      }
    },
    ONLY_HARDWARE,
  ),
  define('kvm/fuzzed/what-the-vfs-says-of-a-guest-memfd', 'KVM_CREATE_GUEST_MEMFD', (kernel, see) => {
    const vm = kernel.ioctl(kernel.open('/dev/kvm'), KVM_CREATE_VM);
    const made = kvm_create_guest_memfd.encode({ size: 0x10000n, flags: 0n, reserved: [0n, 0n, 0n, 0n, 0n, 0n] });
    const fd = see.descriptor('guest_memfd', () => kernel.ioctl(vm, KVM_CREATE_GUEST_MEMFD, made));
    for (const [name, request] of Object.entries({ FIOQSIZE, FIONREAD, FIGETBSZ })) {
      see.call(`${name}, no address`, () => kernel.ioctl(fd, request, 0));
      const bytes = new Uint8Array(8);
      see.call(name, () => kernel.ioctl(fd, request, bytes, { unsafe: true }));
      see.note(`${name}: bytes`, bytes);
    }
  }),
  define(
    'kvm/fuzzed/fpu-registers-of-a-run-that-does-not-enter',
    'KVM_SET_FPU',
    (kernel, see) => {
      const { vcpu } = newVcpu(kernel);
      const run = new RunPage(mapRun(kernel, vcpu));
      run.set('immediate_exit', 1);
      for (const label of ['first', 'second']) {
        const fpu = kvm_fpu.alloc().fill(0xff, 0, kvm_fpu.offsetOf('mxcsr'));
        kernel.ioctl(vcpu, KVM_SET_FPU, fpu);
        see.call(label, () => result(kernel.run(vcpu)));
        kernel.ioctl(vcpu, KVM_GET_FPU, fpu);
        see.note(`${label}: fpr`, fpu.slice(0, 16));
        see.note(`${label}: from fcw to mxcsr`, fpu.slice(kvm_fpu.offsetOf('fcw'), kvm_fpu.offsetOf('xmm')));
      }
    },
    ONLY_HARDWARE,
  ),
  define('kvm/fuzzed/padding-of-sregs-in-kvm-run', 'Register sets in kvm_run', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const run = new RunPage(mapRun(kernel, vcpu));
    const from = kvm_run.offsetOf('s.regs.sregs');
    run.bytes.fill(0x5a, from, from + kvm_sregs.size);
    run.set('kvm_valid_regs', 2n);
    run.set('immediate_exit', 1);
    see.call('run', () => result(kernel.run(vcpu)));
    for (const member of ['cs.padding', 'ldt.padding', 'gdt.padding', 'idt.padding'])
      see.note(
        member,
        run.slice(from + kvm_sregs.offsetOf(member), member.endsWith('dt.padding') && !member.startsWith('l') ? 6 : 1),
      );
  }),
  define('kvm/fuzzed/single-step-by-tf', 'KVM_GET_VCPU_EVENTS', (kernel, see) => {
    const guest = startGuest(kernel, [0x90, HLT], { data: haltingVectors, regs: { rflags: 0x102n } });
    see.call('run', () => result(kernel.run(guest.vcpu)));
    see.note('rip', getRegs(kernel, guest.vcpu).rip);
    noteEvents(kernel, guest.vcpu, see, 'events');
  }),
  define(
    'kvm/fuzzed/smi-without-memory',
    'KVM_SMI',
    (kernel, see) => {
      const { vm, vcpu } = newVcpu(kernel);
      see.call('SMI', () => kernel.ioctl(vcpu, KVM_SMI));
      see.call('run', () => result(kernel.run(vcpu)));
      see.call('run again', () => result(kernel.run(vcpu)));
      see.call('the VM', () => kernel.ioctl(vm, KVM_CREATE_IRQCHIP));
    },
    { needs: { capability: KVM_CAP_X86_SMM } },
  ),
  define('kvm/fuzzed/virtual-apic-page-of-a-disabled-apic', 'KVM_SET_VAPIC_ADDR', (kernel, see) => {
    const vm = kernel.ioctl(kernel.open('/dev/kvm'), KVM_CREATE_VM);
    kernel.ioctl(vm, KVM_CREATE_IRQCHIP);
    const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU);
    const ram = addRam(kernel, vm, 0, 0n, 0x1000);
    ram.write(0x40, Uint8Array.of(0x10, 6, 0, 0));
    see.call('the address', () => kernel.ioctl(vcpu, KVM_SET_VAPIC_ADDR, Uint8Array.of(0x40, 0, 0, 0, 0, 0, 0, 0)));
    const run = new RunPage(mapRun(kernel, vcpu));
    see.call('run', () => result(kernel.run(vcpu)));
    see.note('cr8', run.get('cr8'));
    see.note('the word', ram.read(0x40, 4));
  }),
  define('kvm/fuzzed/arch-capabilities-by-cpuid', 'Found by fuzzing', (kernel, see) => {
    const host = getMsr(kernel, openKvm(kernel), 0x10a);
    for (const edx of [0, 0x2000_0000]) {
      const { vcpu } = newVcpu(kernel);
      const leaf = cpuidBytes([{ function: 7, edx }]);
      see.call(`SET_CPUID2 with EDX ${edx}`, () => kernel.ioctl(vcpu, KVM_SET_CPUID2, leaf));
      const value = getMsr(kernel, vcpu, 0x10a);
      see.note(`EDX ${edx}`, value === 0n ? 'none' : value === host ? "the host's" : 'others');
    }
  }),
];
