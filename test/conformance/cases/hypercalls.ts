/** VMCALL and VMMCALL, and the instructions whose answer is userspace's: hypercalls, MSRs. */
import {
  KVM_CAP_EXIT_HYPERCALL,
  KVM_CAP_X86_USER_SPACE_MSR,
  KVM_ENABLE_CAP,
  KVM_EXIT_HYPERCALL,
  KVM_EXIT_X86_RDMSR,
  KVM_EXIT_X86_WRMSR,
  kvm_enable_cap,
} from 'kvio/uapi';
import { type Case, define, type Observer } from '../case.ts';
import { type Guest, type GuestOptions, play, startGuest } from '../guest.ts';
import { AT, type Bytes, HLT, startLong, startProtected, u32, u64 } from '../protected.ts';

const VMCALL = [0x0f, 0x01, 0xc1];
const VMMCALL = [0x0f, 0x01, 0xd9];
const OUT = 0xe6;

function enable(guest: Guest, cap: number, value: bigint, see: Observer, label: string): void {
  const bytes = kvm_enable_cap.encode({ cap, flags: 0, args: [value, 0n, 0n, 0n], pad: new Uint8Array(64) });
  see.call(label, () => guest.kernel.ioctl(guest.vm, KVM_ENABLE_CAP, bytes));
}

interface Program {
  readonly name: string;
  readonly code: Bytes;
  readonly start?: GuestOptions;
  readonly user?: boolean;
  readonly mode?: 'real' | 'protected' | 'long';
  /** KVM_CAP_EXIT_HYPERCALL with MAP_GPA_RANGE. */
  readonly exits?: boolean;
  /** KVM_CAP_X86_USER_SPACE_MSR. */
  readonly msrs?: bigint;
  /** What userspace answers, exit by exit. */
  readonly answers?: readonly bigint[];
  readonly errors?: readonly number[];
}

const call = (nr: number, insn: Bytes = VMMCALL): number[] => [0xb8, ...u32(nr), ...insn];
const report = [OUT, 0x10, HLT];

const programs: readonly Program[] = [
  { name: 'poll-irq', mode: 'protected', code: [...call(1), ...report] },
  { name: 'unknown', mode: 'protected', code: [...call(99), ...report] },
  { name: 'mmu-op', mode: 'protected', code: [...call(2), ...report] },
  { name: 'kick-cpu', mode: 'protected', code: [...call(5), ...report] },
  { name: 'send-ipi-without-lapic', mode: 'protected', code: [...call(10), ...report] },
  { name: 'sched-yield', mode: 'protected', code: [...call(11), ...report] },
  { name: 'map-gpa-range-off', mode: 'protected', code: [...call(12), ...report] },
  {
    name: 'clock-pairing-of-an-unknown-clock',
    mode: 'protected',
    code: [0xbb, ...u32(0x3000), 0xb9, ...u32(7), ...call(9), ...report],
  },
  { name: 'long-unknown', mode: 'long', code: [0x48, 0xb8, ...u64(0x1_0000_0001), ...VMMCALL, ...report] },
  { name: 'long-poll-irq', mode: 'long', code: [...call(1), ...report] },
  {
    name: 'real',
    mode: 'real',
    code: [0xb8, 99, 0, ...VMMCALL, ...report],
    start: { data: { 24: [0, 0x11, 0, 0], 4352: [HLT] } },
  },
  { name: 'user', mode: 'protected', user: true, code: [...call(1), 0xcd, 0x20] },
  { name: 'vmcall', mode: 'protected', code: [...call(1, VMCALL), ...report] },
  { name: 'vmcall-long', mode: 'long', code: [...call(1, VMCALL), ...report] },
  {
    name: 'map-gpa-range',
    mode: 'long',
    exits: true,
    code: [0xbb, ...u32(0x4000), 0xb9, ...u32(2), 0xba, ...u32(0x10), ...call(12), ...report],
    answers: [0n],
  },
  {
    name: 'map-gpa-range-refused',
    mode: 'long',
    exits: true,
    code: [0xbb, ...u32(0x4000), 0xb9, ...u32(2), 0xba, ...u32(0x10), ...call(12), ...report],
    answers: [0xffff_ffff_ffff_ffean],
  },
  {
    name: 'map-gpa-range-of-32-bits',
    mode: 'protected',
    exits: true,
    code: [0xbb, ...u32(0x4000), 0xb9, ...u32(2), 0xba, ...u32(0x10), ...call(12), ...report],
    start: { regs: { rax: 0xdead_0000_0000n } },
    answers: [0x1_2345_6789n],
  },
  {
    name: 'map-gpa-range-unaligned',
    mode: 'long',
    exits: true,
    code: [0xbb, ...u32(0x4001), 0xb9, ...u32(1), ...call(12), ...report],
  },
  { name: 'map-gpa-range-of-none', mode: 'long', exits: true, code: [0xbb, ...u32(0x4000), 0x31, 0xc9, ...call(12), ...report] },
  {
    name: 'map-gpa-range-that-wraps',
    mode: 'long',
    exits: true,
    code: [0xbb, ...u32(0x4000), 0x48, 0xc7, 0xc1, ...u32(0xffffffff), ...call(12), ...report],
  },

  // MSRs.
  { name: 'rdmsr-unknown', mode: 'protected', code: [0xb9, ...u32(0x12345), 0x0f, 0x32, ...report] },
  {
    name: 'rdmsr-unknown-asked',
    mode: 'protected',
    msrs: 3n,
    code: [0xb9, ...u32(0x12345), 0x0f, 0x32, ...report],
    answers: [0x1122_3344_5566_7788n],
  },
  {
    name: 'rdmsr-unknown-refused',
    mode: 'protected',
    msrs: 3n,
    code: [0xb9, ...u32(0x12345), 0x0f, 0x32, ...report],
    errors: [1],
  },
  {
    name: 'wrmsr-unknown-asked',
    mode: 'protected',
    msrs: 3n,
    code: [0xb9, ...u32(0x12345), 0xb8, ...u32(0x55), 0x0f, 0x30, ...report],
    answers: [0n],
  },
  {
    name: 'wrmsr-unknown-refused',
    mode: 'protected',
    msrs: 3n,
    code: [0xb9, ...u32(0x12345), 0xb8, ...u32(0x55), 0x0f, 0x30, ...report],
    errors: [7],
  },
  {
    name: 'wrmsr-invalid-asked',
    mode: 'protected',
    msrs: 1n,
    code: [0xb9, ...u32(0x277), 0xb8, ...u32(0xff), 0x31, 0xd2, 0x0f, 0x30, ...report],
    answers: [0n],
  },
  {
    name: 'wrmsr-invalid-not-asked',
    mode: 'protected',
    msrs: 2n,
    code: [0xb9, ...u32(0x277), 0xb8, ...u32(0xff), 0x31, 0xd2, 0x0f, 0x30, ...report],
  },
  { name: 'rdmsr-asked-in-user-mode', mode: 'protected', user: true, msrs: 3n, code: [0x0f, 0x32] },

  // Nothing leaves.
  { name: 'wbinvd', mode: 'protected', code: [0x0f, 0x09, 0x40, ...report] },
  { name: 'invd', mode: 'protected', code: [0x0f, 0x08, 0x40, ...report] },
  { name: 'user-wbinvd', mode: 'protected', user: true, code: [0x0f, 0x09] },
  { name: 'pause', mode: 'protected', code: [0xf3, 0x90, 0x40, ...report] },
  { name: 'monitor-mwait', mode: 'protected', code: [0x0f, 0x01, 0xc8, 0x40, 0x0f, 0x01, 0xc9, 0x40, ...report] },
  { name: 'clflush', mode: 'protected', code: [0x0f, 0xae, 0x38, 0x40, ...report] },
  { name: 'rsm-outside-smm', mode: 'protected', code: [0x0f, 0xaa] },
  { name: 'vmrun', mode: 'protected', code: [0x0f, 0x01, 0xd8] },
  { name: 'user-vmrun', mode: 'protected', user: true, code: [0x0f, 0x01, 0xd8] },
  { name: 'stgi', mode: 'protected', code: [0x0f, 0x01, 0xdc, 0x40, ...report] },
  { name: 'user-stgi', mode: 'protected', user: true, code: [0x0f, 0x01, 0xdc] },
  { name: 'real-stgi', mode: 'real', code: [0x0f, 0x01, 0xdc, ...report], start: { data: { 24: [0, 0x11, 0, 0], 4352: [HLT] } } },
  { name: 'vmxoff', mode: 'protected', code: [0x0f, 0x01, 0xc4] },
];

function begin(kernel: Parameters<typeof startGuest>[0], program: Program): Guest {
  const { code, start, user = false, mode } = program;
  if (mode === 'real') return startGuest(kernel, code, start);
  const options = { user, gates: { 32: { dpl: 3 } }, ...(start?.regs ? { regs: start.regs } : {}) };
  return (mode === 'long' ? startLong : startProtected)(kernel, code, options);
}

/** Answers what waits for userspace; true while something does. */
function answer({ run }: Guest, answers: bigint[], errors: number[]): boolean {
  const reason = Number(run.get('exit_reason'));
  if (reason === KVM_EXIT_HYPERCALL) run.set('hypercall.ret', answers.shift() ?? 0n);
  else if (reason === KVM_EXIT_X86_RDMSR || reason === KVM_EXIT_X86_WRMSR) {
    run.set('msr.error', errors.shift() ?? 0);
    if (answers.length > 0) run.set('msr.data', answers.shift()!);
  } else return false;
  return true;
}

export const hypercallCases: Case[] = programs.map((program) =>
  define(
    `kvm/hypercalls/${program.name}`,
    'Hypercalls',
    (kernel, see) => {
      const guest = begin(kernel, program);
      if (program.exits) enable(guest, KVM_CAP_EXIT_HYPERCALL, 1n << 12n, see, 'ENABLE_CAP EXIT_HYPERCALL');
      if (program.msrs !== undefined) enable(guest, KVM_CAP_X86_USER_SPACE_MSR, program.msrs, see, 'ENABLE_CAP USER_SPACE_MSR');
      const answers = [...(program.answers ?? [])];
      const errors = [...(program.errors ?? [])];
      play(guest, see, { most: 6, budget: 300, answer: () => answer(guest, answers, errors) });
      see.note('code', guest.ram.read(0x1000, 16));
      see.note('inner stack', guest.ram.read(AT.innerStack - 32, 32));
      // On PVM a guest never comes past a hypercall.
    },
    { needs: { features: ['kick'] } },
  ),
);
