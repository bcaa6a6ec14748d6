/** KVM_SET_GUEST_DEBUG, the guest's own debug registers, RFLAGS.TF. */
import {
  KVM_EXIT_DEBUG,
  KVM_GET_DEBUGREGS,
  KVM_GUESTDBG_BLOCKIRQ,
  KVM_GUESTDBG_ENABLE,
  KVM_GUESTDBG_INJECT_BP,
  KVM_GUESTDBG_INJECT_DB,
  KVM_GUESTDBG_SINGLESTEP,
  KVM_GUESTDBG_USE_HW_BP,
  KVM_GUESTDBG_USE_SW_BP,
  KVM_INTERRUPT,
  KVM_SET_DEBUGREGS,
  KVM_SET_GUEST_DEBUG,
  kvm_debugregs,
  kvm_guest_debug,
} from 'kvio/uapi';
import { type Case, define, nonZero, type Observer } from '../case.ts';
import { getEvents } from '../events.ts';
import { type Guest, play, startGuest } from '../guest.ts';
import { getRegs, setRegs } from '../machine.ts';
import { type Bytes, HLT, type ProtectedOptions, startLong, startProtected, u32 } from '../protected.ts';

const OUT = 0xe6;
const IRET = 0xcf;
const ON = KVM_GUESTDBG_ENABLE;
const STEP: number = ON | KVM_GUESTDBG_SINGLESTEP;
const HW: number = ON | KVM_GUESTDBG_USE_HW_BP;
const TF = 0x102n;

interface Program {
  readonly name: string;
  readonly code: Bytes;
  readonly mode?: 'real' | 'long';
  readonly start?: ProtectedOptions;
  readonly control?: number;
  /** DR0 … DR3 and DR7 (the last) of KVM_SET_GUEST_DEBUG. */
  readonly breakpoints?: readonly bigint[];
  /** The guest's own: DR0 and DR7. */
  readonly own?: readonly [bigint, bigint];
  readonly before?: (guest: Guest, see: Observer) => void;
  readonly after?: (guest: Guest, see: Observer) => void;
  readonly past?: number;
  /** KVM_GET_VCPU_EVENTS after each exit; not where the processor itself delivers an event, which KVM learns of by chance only. */
  readonly events?: boolean;
  readonly most?: number;
}

export function setGuestDebug(guest: Guest, control: number, breakpoints: readonly bigint[] = []): number {
  const [dr0 = 0n, dr1 = 0n, dr2 = 0n, dr3 = 0n, dr7 = 0x400n] = breakpoints;
  const bytes = kvm_guest_debug.encode({ control, pad: 0, arch: { debugreg: [dr0, dr1, dr2, dr3, 0n, 0n, 0n, dr7] } });
  return guest.kernel.ioctl(guest.vcpu, KVM_SET_GUEST_DEBUG, bytes);
}

function debugRegisters({ kernel, vcpu }: Guest): ReturnType<typeof kvm_debugregs.decode> {
  const bytes = kvm_debugregs.alloc();
  kernel.ioctl(vcpu, KVM_GET_DEBUGREGS, bytes);
  return kvm_debugregs.decode(bytes);
}

const interrupt = ({ kernel, vcpu }: Guest, vector: number): void =>
  void kernel.ioctl(vcpu, KVM_INTERRUPT, Uint8Array.from(u32(vector)));

/** DR7 with breakpoint 0 locally enabled: kind 0 execute, 1 write, 3 read or write; length 0 … 3 for 1, 2, 8, 4 bytes. */
const dr7 = (kind: number, length = 0): bigint => BigInt(0x401 | (kind << 16) | (length << 18));

const back = { 1: [OUT, 1, IRET] };

const programs: readonly Program[] = [
  // Single steps by the host.
  { name: 'step', code: [0x40, 0x43, 0x90, HLT], control: STEP },
  { name: 'step-in-real-mode', mode: 'real', code: [0x40, 0x43, 0x90, HLT], control: STEP },
  { name: 'step-in-long-mode', mode: 'long', code: [0x90, 0xff, 0xc0, 0x90, HLT], control: STEP },
  { name: 'step-over-a-port', code: [OUT, 0x10, 0x40, HLT], control: STEP },
  { name: 'step-over-hlt', code: [HLT, 0x40, HLT], control: STEP, past: 1 },
  { name: 'step-over-pushf', code: [0x9c, 0x58, HLT], control: STEP },
  { name: 'step-over-popf', code: [0x6a, 2, 0x9d, 0x40, HLT], control: STEP },
  { name: 'step-over-mov-ss', code: [0x8e, 0xd0, 0x40, 0x43, HLT], start: { regs: { rax: 0x10n } }, control: STEP },
  { name: 'step-over-sti', code: [0xfb, 0x40, 0x43, HLT], control: STEP },
  { name: 'step-over-a-fault', code: [0x0f, 0x0b], control: STEP },
  {
    name: 'step-and-set-rip',
    code: [0x40, 0x43, 0x40, 0x40, HLT],
    control: STEP,
    before: (g) => setRegs(g.kernel, g.vcpu, { rip: 0x1001n }),
  },
  {
    name: 'step-and-set-the-same-rip',
    code: [0x40, 0x43, 0x40, 0x40, HLT],
    control: STEP,
    before: (g) => setRegs(g.kernel, g.vcpu, { rip: 0x1000n, rbx: 5n }),
  },
  { name: 'step-with-an-interrupt', code: [0x40, 0x43, HLT], control: STEP, before: (g) => interrupt(g, 0x20) },
  {
    name: 'step-of-a-guest-that-steps',
    code: [0x40, 0x43, HLT],
    start: { rflags: TF },
    control: STEP,
    after(g, see) {
      setGuestDebug(g, 0);
      see.note('rflags when it is over', getRegs(g.kernel, g.vcpu).rflags);
    },
  },
  { name: 'without-enable', code: [0x40, HLT], control: KVM_GUESTDBG_SINGLESTEP },
  {
    name: 'step-and-no-more',
    code: [0x40, 0x43, 0x40, HLT],
    control: STEP,
    before(g, see) {
      see.note('run', g.kernel.run(g.vcpu));
      see.call('SET_GUEST_DEBUG off', () => setGuestDebug(g, 0));
    },
  },

  // The guest's TF.
  { name: 'guest-tf', code: [0x40, 0x43, HLT], start: { rflags: TF }, most: 3 },
  { name: 'guest-tf-and-back', code: [0x40, OUT, 0x10, HLT], start: { rflags: TF, handlers: back }, most: 6 },
  { name: 'guest-tf-over-mov-ss', code: [0x8e, 0xd0, 0x40, HLT], start: { rflags: TF, regs: { rax: 0x10n } }, most: 3 },
  { name: 'guest-tf-by-popf', code: [0x68, ...u32(0x102), 0x9d, 0x40, 0x43, HLT], most: 3 },
  { name: 'guest-tf-over-int', code: [0xcd, 0x20, HLT], start: { rflags: TF }, most: 3 },
  { name: 'guest-tf-over-hlt', code: [HLT, 0x40], start: { rflags: TF }, events: true, past: 1, most: 3 },

  // Breakpoints.
  { name: 'int3', code: [0x40, 0xcc, HLT], control: ON | KVM_GUESTDBG_USE_SW_BP },
  { name: 'int3-in-real-mode', mode: 'real', code: [0x40, 0xcc, HLT], control: ON | KVM_GUESTDBG_USE_SW_BP },
  { name: 'int3-by-int', code: [0xcd, 3, HLT], control: ON | KVM_GUESTDBG_USE_SW_BP },
  { name: 'int3-not-asked', code: [0xcc, HLT], control: ON },
  { name: 'icebp', code: [0xf1, HLT] },
  { name: 'hw-execute', code: [0x40, 0x43, HLT], control: HW, breakpoints: [0x1001n, 0n, 0n, 0n, dr7(0)] },
  { name: 'hw-execute-first', code: [0x40, 0x43, HLT], control: HW, breakpoints: [0x1000n, 0n, 0n, 0n, dr7(0)] },
  {
    name: 'hw-execute-in-real-mode',
    mode: 'real',
    code: [0x40, 0x43, HLT],
    control: HW,
    breakpoints: [0x1001n, 0n, 0n, 0n, dr7(0)],
  },
  { name: 'hw-execute-disabled', code: [0x40, 0x43, HLT], control: HW, breakpoints: [0x1001n, 0n, 0n, 0n, 0x400n] },
  {
    name: 'hw-write',
    code: [0xa3, ...u32(0x7000), 0x43, HLT],
    control: HW,
    breakpoints: [0x7000n, 0n, 0n, 0n, dr7(1, 3)],
  },
  {
    name: 'hw-write-beside',
    code: [0xa2, ...u32(0x7004), 0x43, HLT],
    control: HW,
    breakpoints: [0x7000n, 0n, 0n, 0n, dr7(1, 3)],
  },
  {
    name: 'hw-write-across',
    code: [0xa3, ...u32(0x6ffe), 0x43, HLT],
    control: HW,
    breakpoints: [0x7000n, 0n, 0n, 0n, dr7(1)],
  },
  {
    name: 'hw-read',
    code: [0xa1, ...u32(0x7000), 0x43, HLT],
    control: HW,
    breakpoints: [0x7000n, 0n, 0n, 0n, dr7(3, 3)],
  },
  {
    name: 'hw-read-of-a-write-breakpoint',
    code: [0xa1, ...u32(0x7000), 0x43, HLT],
    control: HW,
    breakpoints: [0x7000n, 0n, 0n, 0n, dr7(1, 3)],
  },
  { name: 'own-execute', code: [0x40, 0x43, HLT], own: [0x1001n, dr7(0)], most: 3 },
  {
    name: 'own-execute-and-back',
    code: [0x40, 0x43, 0x40, HLT],
    own: [0x1001n, dr7(0)],
    start: { handlers: { 1: [OUT, 1, 0x81, 0x4c, 0x24, 8, ...u32(0x10000), IRET] } },
    most: 4,
  },
  { name: 'own-write', code: [0xa3, ...u32(0x7000), 0x43, HLT], own: [0x7000n, dr7(1, 3)], most: 3 },
  { name: 'own-read', code: [0xa1, ...u32(0x7000), 0x43, HLT], own: [0x7000n, dr7(3, 3)], most: 3 },
  {
    name: 'own-set-by-the-guest',
    code: [0xb8, ...u32(0x1011), 0x0f, 0x23, 0xc0, 0xb8, ...u32(0x401), 0x0f, 0x23, 0xf8, 0x90, 0x43, 0x90, HLT],
    most: 3,
  },
  { name: 'general-detect', code: [0x0f, 0x21, 0xf0, HLT], own: [0n, 0x2400n], most: 3 },
  { name: 'dr7-reserved', code: [0xb8, ...u32(0xffffffff), 0x0f, 0x23, 0xf8, 0x0f, 0x21, 0xfb, HLT], most: 3 },
  { name: 'dr6-reserved', code: [0xb8, ...u32(0), 0x0f, 0x23, 0xf0, 0x0f, 0x21, 0xf3, HLT], most: 3 },
  { name: 'dr4-is-dr6', code: [0x0f, 0x21, 0xe3, HLT], most: 3 },
  { name: 'dr4-with-de', code: [0x0f, 0x21, 0xe3, HLT], start: { sregs: (s) => (s.cr4 |= 8n) }, most: 3 },

  // Injection, and interrupts held off.
  { name: 'inject-db', events: true, code: [0x40, HLT], control: KVM_GUESTDBG_INJECT_DB },
  { name: 'inject-bp', events: true, code: [0x40, HLT], control: KVM_GUESTDBG_INJECT_BP },
  {
    name: 'inject-twice',
    code: [0x40, HLT],
    control: ON | KVM_GUESTDBG_INJECT_DB,
    before: (g, see) => void see.call('again', () => setGuestDebug(g, ON | KVM_GUESTDBG_INJECT_BP)),
  },
  {
    name: 'block-irq',
    code: [0x40, 0x43, HLT],
    start: { rflags: 0x202n },
    control: STEP | KVM_GUESTDBG_BLOCKIRQ,
    before: (g) => interrupt(g, 0x20),
  },
];

export const debugCases: Case[] = programs.map((program) =>
  define(`kvm/debug/${program.name}`, 'Debugging', (kernel, see) => {
    const { mode, code, start } = program;
    const guest =
      mode === 'real'
        ? startGuest(kernel, code, { data: { 12: [0, 0x11, 0, 0], 4352: [HLT] } })
        : (mode === 'long' ? startLong : startProtected)(kernel, code, start);
    if (program.own !== undefined) {
      const registers = debugRegisters(guest);
      const bytes = kvm_debugregs.encode({ ...registers, db: [program.own[0], 0n, 0n, 0n], dr7: program.own[1] });
      see.call('SET_DEBUGREGS', () => kernel.ioctl(guest.vcpu, KVM_SET_DEBUGREGS, bytes));
    }
    const { control } = program;
    if (control !== undefined) see.call('SET_GUEST_DEBUG', () => setGuestDebug(guest, control, program.breakpoints));
    program.before?.(guest, see);
    const note = (n: number): void => {
      see.note(`debug registers after ${n}`, nonZero(debugRegisters(guest)));
      if (program.events) see.note(`events after ${n}`, nonZero(getEvents(kernel, guest.vcpu)));
    };
    const stepped = (): boolean => Number(guest.run.get('exit_reason')) === KVM_EXIT_DEBUG;
    play(guest, see, { most: program.most ?? 5, past: program.past ?? 0, budget: 2000, each: note, answer: stepped });
    see.note('stack', guest.ram.read(0x7fc0, 64));
    program.after?.(guest, see);
  }),
);
