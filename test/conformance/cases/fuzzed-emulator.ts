/** What fuzzing found of KVM's instruction emulator: rules no other case had asked for, each in the fewest calls that show it. */
import type { Kernel } from 'kvio';
import {
  KVM_CREATE_IRQCHIP,
  KVM_CREATE_VCPU,
  KVM_CREATE_VM,
  KVM_GET_CPUID2,
  KVM_GET_MP_STATE,
  KVM_GET_VCPU_EVENTS,
  KVM_INTERRUPT,
  KVM_NMI,
  KVM_SET_CPUID2,
  KVM_SET_VCPU_EVENTS,
  kvm_run,
  kvm_vcpu_events,
} from 'kvio/uapi';
import { type Case, define, type Observer, result } from '../case.ts';
import { type Guest, haltingVectors, startGuest } from '../guest.ts';
import {
  addRam,
  cpuidBytes,
  cpuidEntries,
  getRegs,
  mapRun,
  newVcpu,
  RunPage,
  type Sregs,
  setRegs,
  setSregs,
} from '../machine.ts';

const HLT = 0xf4;
const DOWN = 0x402n;
/** kvm_run's union and how much of it an emulation failure fills. */
const UNION: number = kvm_run.offsetOf('hw');
const FAILURE_BYTES = 0x40;

const hex = (code: readonly number[]): string => code.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');

function runOn(guest: Guest, see: Observer, label: string): void {
  see.call(label, () => result(guest.kernel.run(guest.vcpu)));
  const { rip, rcx, rdi, rflags } = getRegs(guest.kernel, guest.vcpu);
  see.note(`${label}: exit_reason, rip, rcx, rdi, rflags`, [guest.run.get('exit_reason'), rip, rcx, rdi, rflags].join(' '));
}

/** An INS whose registers SET_REGS changes while it waits for its data. */
interface Ins {
  readonly name: string;
  readonly code: readonly number[];
  readonly down?: boolean;
  readonly rdi: bigint;
  readonly set: { readonly rdi: bigint; readonly rcx?: bigint };
}

const REP_INSB = [0xf2, 0x6c];
const REP_INSW = [0xf2, 0x6d];
const inses: readonly Ins[] = [
  { name: 'up, RDI elsewhere', code: REP_INSB, rdi: 0x2000n, set: { rdi: 0x3000n } },
  { name: 'down, RDI elsewhere', code: REP_INSB, down: true, rdi: 0x2010n, set: { rdi: 0x3010n } },
  { name: 'down, RDI at the start of a page', code: REP_INSB, down: true, rdi: 0x2010n, set: { rdi: 0x7fff_ffff_f000n } },
  { name: 'words, up, RDI before the end of a page', code: REP_INSW, rdi: 0x2000n, set: { rdi: 0x2ffen } },
  { name: 'down, RDI after the start of a page', code: REP_INSB, down: true, rdi: 0x2010n, set: { rdi: 0x3002n } },
  { name: 'up, a smaller RCX', code: REP_INSB, rdi: 0x2000n, set: { rdi: 0x3000n, rcx: 2n } },
  { name: 'up, a larger RCX', code: REP_INSB, rdi: 0x2000n, set: { rdi: 0x3000n, rcx: 9n } },
  { name: 'down, a larger RCX', code: REP_INSB, down: true, rdi: 0x2010n, set: { rdi: 0x3010n, rcx: 9n } },
  { name: 'RCX 0', code: REP_INSB, rdi: 0x2000n, set: { rdi: 0x3000n, rcx: 0n } },
];

function playIns(kernel: Kernel, see: Observer, { name, code, down = false, rdi, set }: Ins): void {
  const regs = { rcx: 5n, rdi, rdx: 0x10n, rflags: down ? DOWN : 2n };
  const guest = startGuest(kernel, [...code, HLT], { data: haltingVectors, regs });
  const pages = [0x1000, 0x2000, 0x3000, 0xf000].map((page) => page + (page === 0x1000 ? 0x100 : 0));
  for (const page of pages) guest.ram.write(page, new Uint8Array(0xf00).fill(0xee));
  for (let at = 1; at <= 4; at++) {
    runOn(guest, see, `${name}: run ${at}`);
    if (guest.run.get('exit_reason') !== 2) break;
    guest.run.bytes.set(
      Uint8Array.from({ length: 16 }, (_, n) => 0x11 * at + n),
      0x1000,
    );
    if (at === 1) setRegs(kernel, guest.vcpu, { ...getRegs(kernel, guest.vcpu), rcx: 5n, ...set });
  }
  const stored = pages.flatMap((page) =>
    [...guest.ram.read(page, 0xf00)].flatMap((byte, at) => (byte === 0xee ? [] : [`${(page + at).toString(16)}=${byte}`])),
  );
  see.note(`${name}: stored`, stored.join(' '));
}

/** Opcodes processors reject, with what they need to be decoded. */
const rejected: readonly (readonly number[])[] = [
  ...[
    [0x0f, 0x0b],
    [0x0f, 0xb9, 0xc0],
    [0x0f, 0xff, 0xc0],
    [0xf0, 0x0f, 0x0b],
    [0xf0, 0x90],
  ],
  ...[2, 3, 4, 5, 6, 7].map((reg) => [0xfe, 0xc0 | (reg << 3)]),
  ...[0, 1, 2, 3].map((reg) => [0x0f, 0xba, 0xc0 | (reg << 3), 1]),
  ...[
    [0xff, 0xf8],
    [0xff, 0xd8],
    [0xff, 0xe8],
    [0x8d, 0xc0],
    [0x0f, 0xb2, 0xc0],
  ],
  ...[
    [0x0f, 0x00, 0xc0],
    [0x0f, 0x00, 0xe0],
    [0x0f, 0x00, 0xe8],
    [0x0f, 0x02, 0xc0],
    [0x0f, 0x03, 0xc0],
  ],
  ...[
    [0x8e, 0xc8],
    [0x0f, 0x20, 0xc8],
  ],
];

/** An exception, and what else was injected, of which one is delivered at a time. */
function inject(kernel: Kernel, vcpu: number, also: { interrupt?: boolean; nmi?: boolean }): void {
  const bytes = kvm_vcpu_events.alloc();
  kernel.ioctl(vcpu, KVM_GET_VCPU_EVENTS, bytes);
  const events = kvm_vcpu_events.decode(bytes);
  Object.assign(events.exception, { injected: 1, nr: 6 });
  if (also.interrupt) Object.assign(events.interrupt, { injected: 1, nr: 0x20 });
  if (also.nmi) events.nmi.injected = 1;
  kernel.ioctl(vcpu, KVM_SET_VCPU_EVENTS, kvm_vcpu_events.encode(events));
}

function noteWaiting(kernel: Kernel, vcpu: number, see: Observer, label: string): void {
  const bytes = kvm_vcpu_events.alloc();
  kernel.ioctl(vcpu, KVM_GET_VCPU_EVENTS, bytes);
  const { interrupt, nmi } = kvm_vcpu_events.decode(bytes);
  see.note(`${label}: injected still`, `interrupt ${interrupt.injected}, nmi ${nmi.injected}`);
}

export const fuzzedEmulatorCases: Case[] = [
  define('kvm/fuzzed-emulator/leaves-that-no-guest-has', 'CPUID', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const leaves = [0x1c, 0x1d, 0x1e, 0x1f, 0x23, 0x24].map((leaf) => ({ function: leaf, eax: 1 }));
    see.call('SET_CPUID2', () => kernel.ioctl(vcpu, KVM_SET_CPUID2, cpuidBytes(leaves)));
    const back = cpuidBytes([], 8, 8);
    see.call('GET_CPUID2', () => kernel.ioctl(vcpu, KVM_GET_CPUID2, back));
    see.note(
      'leaves',
      cpuidEntries(back)
        .map(({ function: leaf }) => leaf.toString(16))
        .join(' '),
    );
  }),
  define('kvm/fuzzed-emulator/set-regs-under-ins', 'Completing I/O', (kernel, see) => {
    for (const one of inses) playIns(kernel, see, one);
  }),
  define('kvm/fuzzed-emulator/set-regs-under-ins-that-reads-nothing', 'Completing I/O', (kernel, see) => {
    const guest = startGuest(kernel, [...REP_INSB, HLT], { data: haltingVectors, regs: { rcx: 3n, rdi: 0x2000n, rdx: 0x10n } });
    runOn(guest, see, 'run');
    setRegs(kernel, guest.vcpu, { ...getRegs(kernel, guest.vcpu), rcx: 0n });
    runOn(guest, see, 'RCX 0');
    runOn(guest, see, 'RCX 0 still');
    guest.run.bytes.set([1, 2, 3], 0x1000);
    setRegs(kernel, guest.vcpu, { ...getRegs(kernel, guest.vcpu), rcx: 3n });
    runOn(guest, see, 'RCX 3 again');
    see.note('stored', guest.ram.read(0x2000, 4));
  }),
  define('kvm/fuzzed-emulator/rejected-opcodes', 'KVM_EXIT_INTERNAL_ERROR', (kernel, see) => {
    for (const code of rejected) {
      const guest = startGuest(kernel, [...code, HLT], { data: haltingVectors });
      see.call(hex(code), () => result(kernel.run(guest.vcpu)));
      see.note(`${hex(code)}: exit_reason, rip`, `${guest.run.get('exit_reason')} ${getRegs(kernel, guest.vcpu).rip}`);
    }
  }),
  define('kvm/fuzzed-emulator/what-a-failed-emulation-leaves', 'struct kvm_run', (kernel, see) => {
    for (const code of [
      [0x0f, 0x0b],
      [0x0f, 0xae, 0xf0],
      [0x0f, 0xae, 0xe8],
      [0xff, 0xf8],
    ]) {
      const guest = startGuest(kernel, [...code, HLT], { data: haltingVectors });
      guest.run.bytes.fill(0x5a, UNION, UNION + FAILURE_BYTES);
      see.call(hex(code), () => result(kernel.run(guest.vcpu)));
      see.note(`${hex(code)}: exit_reason`, guest.run.get('exit_reason'));
      see.note(`${hex(code)}: the union`, guest.run.slice(UNION, FAILURE_BYTES));
    }
  }),
  define('kvm/fuzzed-emulator/adjustments-and-their-flags', 'KVM_EXIT_HLT', (kernel, see) => {
    // AAM of a base that leaves AL 0, AH's sign; AAD whose sum carries; DAS that overflows.
    const cases: readonly (readonly [code: readonly number[], rax: bigint])[] = [
      [[0xd4, 10], 0x6b82n],
      [[0xd4, 1], 0x80n],
      [[0xd5, 10], 0xe90fn],
      [[0xd5, 10], 0xf5fd8fn],
      [[0xd5, 3], 0x1580n],
    ];
    for (const [code, rax] of cases) {
      const guest = startGuest(kernel, [...code, HLT], { data: haltingVectors, regs: { rax } });
      const label = `${hex(code)} with ${rax.toString(16)}`;
      see.call(label, () => result(kernel.run(guest.vcpu)));
      const { rax: ax, rflags } = getRegs(kernel, guest.vcpu);
      // AF, CF and OF are undefined.
      see.note(`${label}: rax`, ax);
      see.note(`${label}: SF, ZF, PF`, rflags & 0xc4n);
    }
  }),
  define('kvm/fuzzed-emulator/hlt-while-an-event-waits', 'Events', (kernel, see) => {
    for (const [name, also] of Object.entries({
      interrupt: { interrupt: true },
      NMI: { nmi: true },
      both: { interrupt: true, nmi: true },
    })) {
      const guest = startGuest(kernel, [HLT], { data: haltingVectors });
      inject(kernel, guest.vcpu, also);
      for (const at of [1, 2, 3]) {
        runOn(guest, see, `${name}: run ${at}`);
        noteWaiting(kernel, guest.vcpu, see, `${name}: run ${at}`);
      }
      see.note(`${name}: the stack`, guest.ram.read(0x7fe0, 32));
    }
    const guest = startGuest(kernel, [HLT], { data: haltingVectors });
    inject(kernel, guest.vcpu, {});
    kernel.ioctl(guest.vcpu, KVM_INTERRUPT, Uint8Array.of(0x20, 0, 0, 0));
    runOn(guest, see, 'KVM_INTERRUPT behind an exception');
    const other = startGuest(kernel, [HLT], { data: haltingVectors });
    inject(kernel, other.vcpu, {});
    kernel.ioctl(other.vcpu, KVM_NMI);
    runOn(other, see, 'KVM_NMI behind an exception');
  }),
  define(
    'kvm/fuzzed-emulator/hlt-while-an-event-waits-with-an-apic',
    'Events',
    (kernel, see) => {
      const vm = kernel.ioctl(kernel.open('/dev/kvm'), KVM_CREATE_VM);
      kernel.ioctl(vm, KVM_CREATE_IRQCHIP);
      const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU);
      const ram = addRam(kernel, vm, 0, 0n, 0x10000);
      for (const [address, bytes] of Object.entries(haltingVectors)) ram.write(Number(address), Uint8Array.from(bytes));
      // The interrupt's handler leaves by a port.
      ram.write(0x620, Uint8Array.of(0xe6, 0x10, HLT));
      const run = new RunPage(mapRun(kernel, vcpu));
      setSregs(kernel, vcpu, (sregs: Sregs): void => void Object.assign(sregs.cs, { base: 0n, selector: 0 }));
      setRegs(kernel, vcpu, { rip: 0x1000n, rflags: 2n, rsp: 0x8000n });
      ram.write(0x1000, Uint8Array.of(HLT));
      inject(kernel, vcpu, { interrupt: true });
      see.call('run', () => result(kernel.run(vcpu, { budget: 200 })));
      see.note('exit_reason, rip', `${run.get('exit_reason')} ${getRegs(kernel, vcpu).rip}`);
      const state = new Uint8Array(4);
      kernel.ioctl(vcpu, KVM_GET_MP_STATE, state);
      see.note('mp_state', state);
    },
    // The budget of a run is a kick.
    { needs: { features: ['kick'], endless: ['svm'] } },
  ),
  define('kvm/fuzzed-emulator/injection-over-a-high-stack', 'KVM_EXIT_HLT', (kernel, see) => {
    const HIGH = 1n << 32n;
    for (const base of [HIGH, HIGH - 0x7000n, (1n << 64n) - 0x1000n]) {
      const sregs = (state: Sregs): void => void Object.assign(state.ss, { base });
      const guest = startGuest(kernel, [0x50, HLT], { data: haltingVectors, sregs, regs: { rax: 0x1234n } });
      const high = addRam(kernel, guest.vm, 1, HIGH, 0x10000);
      kernel.ioctl(guest.vcpu, KVM_INTERRUPT, Uint8Array.of(0x20, 0, 0, 0));
      const label = `SS base ${base.toString(16)}`;
      runOn(guest, see, label);
      const frame = [guest.ram, high].map((memory) =>
        [...memory.read(0x700, 0xf900)].flatMap((byte, at) =>
          byte === 0 || byte === HLT ? [] : [`${(0x700 + at).toString(16)}=${byte}`],
        ),
      );
      see.note(`${label}: low memory`, frame[0]!.join(' '));
      see.note(`${label}: high memory`, frame[1]!.join(' '));
    }
  }),
];
