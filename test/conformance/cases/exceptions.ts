/** Exceptions and interrupts on their way through the interrupt descriptor table: what is pushed, what changes, what goes wrong. */
import { KVM_INTERRUPT, KVM_NMI } from 'kvio/uapi';
import { type Case, define, type Observer } from '../case.ts';
import { type Guest, type Play, play } from '../guest.ts';
import { AT, type Bytes, HLT, type ProtectedOptions, SEL, startLong, startProtected, u16, u32 } from '../protected.ts';

interface Program {
  readonly name: string;
  readonly code: Bytes;
  readonly start?: ProtectedOptions;
  readonly play?: Play;
  readonly before?: (guest: Guest, see: Observer) => void;
  /** Memory to look at afterwards; default: the tops of the three stacks. */
  readonly look?: readonly (readonly [number, number])[];
}

const IRET = 0xcf;
const UD2 = [0x0f, 0x0b];
const INT = 0xcd;
const OUT = 0xe6;
const SECTION = 'Event delivery';

const stacks: readonly (readonly [number, number])[] = [
  [0x7fc0, 64],
  [AT.innerStack - 64, 64],
  [AT.ist - 64, 64],
  [AT.userStack - 32, 32],
];

/** mov ds,ax with EAX = a selector. */
const movDs = (selector: number): number[] => [0xb8, ...u32(selector), 0x8e, 0xd8];
/** A handler that skips a two-byte instruction: add dword [esp],2; iret. */
const skipTwo = [0x83, 0x04, 0x24, 2, IRET];
/** The same with an error code: add esp,4 first. */
const dropAndSkipTwo = [0x83, 0xc4, 4, 0x83, 0x04, 0x24, 2, IRET];

const protectedPrograms: readonly Program[] = [
  { name: 'ud', code: [0x40, ...UD2, HLT] },
  { name: 'ud-with-all-flags', code: [...UD2], start: { rflags: 0x246ed7n & ~0x100n } },
  { name: 'ud-and-back', code: [...UD2, 0x40, HLT], start: { handlers: { 6: skipTwo } } },
  // mov eax,0x10; mov ecx,3; arpl ax,cx; setz dl; arpl ax,cx; setz dh; arpl [0x7000],cx; setz bl; hlt
  {
    name: 'arpl',
    code: [
      ...[0xb8, ...u32(0x10), 0xb9, ...u32(3), 0x63, 0xc8, 0x0f, 0x94, 0xc2, 0x63, 0xc8, 0x0f, 0x94, 0xc6],
      ...[0x63, 0x0d, ...u32(0x7000), 0x0f, 0x94, 0xc3, HLT],
    ],
    start: { data: { 28672: u16(0x49) } },
    look: [[0x7000, 2]],
  },
  { name: 'trap-gate', code: UD2, start: { gates: { 6: { type: 15 } }, rflags: 0x202n } },
  { name: 'interrupt-gate', code: UD2, start: { rflags: 0x202n } },
  { name: 'gate-of-16-bits', code: UD2, start: { gates: { 6: { type: 6 } } } },
  { name: 'conforming-handler', code: UD2, start: { gates: { 6: { selector: SEL.conforming } } } },
  { name: 'de', code: [0x31, 0xc9, 0xf7, 0xf1, HLT] }, // xor ecx,ecx; div ecx
  { name: 'de-through-int-0', code: [INT, 0, HLT] },
  { name: 'int3', code: [0x40, 0xcc, HLT] },
  { name: 'into', code: [0xb0, 0x7f, 0x04, 1, 0xce, HLT] }, // mov al,0x7f; add al,1; into
  { name: 'int', code: [INT, 0x20, HLT] },
  { name: 'int-and-back', code: [INT, 0x20, 0x40, HLT], start: { handlers: { 32: [0x43, IRET] } } },
  { name: 'bound', code: [0x31, 0xc0, 0x62, 0x05, ...u32(0x7000), HLT], start: { data: { 28672: [...u32(5), ...u32(9)] } } },
  { name: 'gp-of-a-selector', code: [...movDs(0x1234), HLT] },
  { name: 'gp-of-a-local-selector', code: [...movDs(0x0c), HLT] },
  { name: 'gp-of-zero', code: [0x0f, 0x22, 0xc0, HLT], start: { regs: { rax: 0x80000000n } } }, // mov cr0,eax: PG without PE
  { name: 'np', code: [...movDs(SEL.absentData), HLT] },
  { name: 'ss-not-present', code: [0xb8, ...u32(SEL.absentData), 0x8e, 0xd0, HLT] },
  { name: 'ss-null', code: [0x31, 0xc0, 0x8e, 0xd0, HLT] },
  { name: 'gp-and-back', code: [0x8e, 0xd8, 0x40, HLT], start: { regs: { rax: 0xfff8n }, handlers: { 13: dropAndSkipTwo } } },
  { name: 'far-jump-beyond', code: [0xea, ...u32(0x1000), ...u16(0x80)] },
  { name: 'gate-not-present', code: UD2, start: { gates: { 6: { present: 0 } } } },
  { name: 'gate-of-a-wrong-type', code: UD2, start: { gates: { 6: { type: 12 } } } },
  { name: 'gate-with-a-null-selector', code: UD2, start: { gates: { 6: { selector: 0 } } } },
  { name: 'gate-to-data', code: UD2, start: { gates: { 6: { selector: SEL.data } } } },
  { name: 'gate-to-absent-code', code: UD2, start: { gates: { 6: { selector: SEL.absentCode } } } },
  { name: 'gate-to-user-code', code: UD2, start: { gates: { 6: { selector: SEL.userCode } } } },
  { name: 'gate-beyond-the-table', code: UD2, start: { gates: { 6: { selector: 0x80 } } } },
  { name: 'beyond-the-idt', code: UD2, start: { idtLimit: 6 * 8 - 1 } },
  { name: 'double-fault', code: [...movDs(0x1234), HLT], start: { gates: { 13: { present: 0 } } } },
  { name: 'double-fault-of-np', code: [...movDs(SEL.absentData), HLT], start: { gates: { 11: { selector: 0 } } } },
  { name: 'triple-fault', code: UD2, start: { idtLimit: 0 } },
  { name: 'triple-fault-of-df', code: [...movDs(0x1234)], start: { gates: { 13: { present: 0 }, 8: { present: 0 } } } },
  { name: 'benign-then-contributory', code: UD2, start: { gates: { 6: { present: 0 } }, handlers: { 11: [OUT, 11, HLT] } } },

  // From privilege level 3.
  { name: 'user-int', code: [INT, 0x20], start: { user: true, gates: { 32: { dpl: 3 } } } },
  {
    name: 'user-int-and-back',
    code: [INT, 0x20, 0x40, INT, 0x21],
    start: { user: true, gates: { 32: { dpl: 3 }, 33: { dpl: 3 } }, handlers: { 32: [0x43, IRET] }, rflags: 0x202n },
  },
  { name: 'user-int-not-allowed', code: [INT, 0x20], start: { user: true } },
  { name: 'user-int3', code: [0xcc], start: { user: true, gates: { 3: { dpl: 3 } } } },
  { name: 'user-int3-not-allowed', code: [0xcc], start: { user: true } },
  { name: 'user-into', code: [0xb0, 0x7f, 0x04, 1, 0xce], start: { user: true, gates: { 4: { dpl: 3 } } } },
  { name: 'user-ud', code: UD2, start: { user: true, rflags: 0x202n } },
  { name: 'user-hlt', code: [HLT], start: { user: true } },
  { name: 'user-cli', code: [0xfa], start: { user: true } },
  { name: 'user-cli-with-iopl', code: [0xfa, INT, 0x20], start: { user: true, rflags: 0x3202n, gates: { 32: { dpl: 3 } } } },
  { name: 'user-out', code: [OUT, 0x10], start: { user: true } },
  { name: 'user-out-with-iopl', code: [OUT, 0x10, INT, 0x20], start: { user: true, rflags: 0x3002n, gates: { 32: { dpl: 3 } } } },
  {
    name: 'user-out-by-the-bitmap',
    code: [OUT, 0x10, OUT, 0x11],
    start: { user: true, tssLimit: 0x8f, tss: { 102: u16(0x68), 104: [0xff, 0xff, 0xfe, 0xff, 0xff, 0xff] } },
  },
  { name: 'user-cli-hlt-of-data', code: movDs(SEL.data), start: { user: true } },
  { name: 'user-to-a-conforming-handler', code: UD2, start: { user: true, gates: { 6: { selector: SEL.conforming } } } },
  { name: 'user-16-bit-gate', code: UD2, start: { user: true, gates: { 6: { type: 6 } } } },
  { name: 'user-tss-too-short', code: UD2, start: { user: true, tssLimit: 8 } },
  { name: 'user-tss-null-stack', code: UD2, start: { user: true, tss: { 8: u32(0) } } },
  { name: 'user-tss-stack-beyond', code: UD2, start: { user: true, tss: { 8: u32(0x88) } } },
  { name: 'user-tss-stack-read-only', code: UD2, start: { user: true, tss: { 8: u32(SEL.readOnly) } } },
  { name: 'user-tss-stack-absent', code: UD2, start: { user: true, tss: { 8: u32(SEL.absentData) } } },
  {
    name: 'iret-to-user',
    code: [0x6a, SEL.userData, 0x68, ...u32(AT.userStack), 0x68, ...u32(0x3202), 0x6a, SEL.userCode, 0x68, ...u32(0x1100), IRET],
    start: { data: { 4352: [INT, 0x20] }, gates: { 32: { dpl: 3 } } },
  },
  {
    name: 'iret-to-user-stack-of-level-0',
    code: [0x6a, SEL.data, 0x68, ...u32(AT.userStack), 0x68, ...u32(2), 0x6a, SEL.userCode, 0x68, ...u32(0x1100), IRET],
  },
  { name: 'iret-to-null', code: [0x68, ...u32(2), 0x6a, 0, 0x68, ...u32(0x1100), IRET] },
  { name: 'iret-to-data', code: [0x68, ...u32(2), 0x6a, SEL.data, 0x68, ...u32(0x1100), IRET] },
  { name: 'iret-to-absent-code', code: [0x68, ...u32(2), 0x6a, SEL.absentCode, 0x68, ...u32(0x1100), IRET] },
  {
    name: 'iret-flags',
    code: [0x68, ...u32(0x257fd7 & ~0x100), 0x6a, SEL.code, 0x68, ...u32(0x1100), IRET],
    start: { data: { 4352: [OUT, 1, HLT] } },
  },
  {
    name: 'user-iret-cannot-raise',
    code: [0x68, ...u32(2), 0x6a, SEL.code, 0x68, ...u32(0x1100), IRET],
    start: { user: true },
  },
  {
    name: 'user-iret-flags',
    code: [0x68, ...u32(0x257fd7 & ~0x4100), 0x6a, SEL.userCode, 0x68, ...u32(0x1100), IRET],
    start: { user: true, data: { 4352: [INT, 0x20] }, gates: { 32: { dpl: 3 } } },
  },
  {
    name: 'retf-to-user',
    code: [0x6a, SEL.userData, 0x68, ...u32(AT.userStack), 0x6a, SEL.userCode, 0x68, ...u32(0x1100), 0xcb],
    start: { data: { 4352: [INT, 0x20] }, gates: { 32: { dpl: 3 } } },
  },

  // From outside.
  { name: 'interrupt', code: [0x40, HLT], before: (g) => interrupt(g, 0x20) },
  { name: 'interrupt-of-user', code: [0x40, HLT], start: { user: true }, before: (g) => interrupt(g, 0x20) },
  {
    name: 'interrupt-without-gate',
    code: [0x40, HLT],
    start: { gates: { 32: { present: 0 } } },
    before: (g) => interrupt(g, 0x20),
  },
  {
    name: 'interrupt-8-without-gate',
    code: [0x40, HLT],
    start: { gates: { 8: { present: 0 } } },
    before: (g) => interrupt(g, 8),
  },
  { name: 'nmi', code: [0x40, HLT], before: (g) => void g.kernel.ioctl(g.vcpu, KVM_NMI, 0) },
  {
    name: 'interrupts-of-a-handler',
    code: [0x40, 0x40, HLT],
    start: { handlers: { 32: [OUT, 0x20, IRET] } },
    before: (g) => interrupt(g, 0x20),
  },
];

function interrupt({ kernel, vcpu }: Guest, vector: number): void {
  kernel.ioctl(vcpu, KVM_INTERRUPT, Uint8Array.from(u32(vector)));
}

const IRETQ = [0x48, 0xcf];
const longMovDs = (selector: number): number[] => [0xb8, ...u32(selector), 0x8e, 0xd8];

const longPrograms: readonly Program[] = [
  { name: 'ud', code: UD2 },
  { name: 'ud-odd-stack', code: UD2, start: { regs: { rsp: 0x7ffdn } } },
  { name: 'ud-and-back', code: [...UD2, 0x90, HLT], start: { handlers: { 6: [0x48, 0x83, 0x04, 0x24, 2, ...IRETQ] } } },
  { name: 'ud-on-ist', code: UD2, start: { gates: { 6: { ist: 1 } } } },
  { name: 'gp-of-a-selector', code: [...longMovDs(0x1234), HLT] },
  { name: 'gp-of-an-address', code: [0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x8a, 0x00, HLT] }, // mov al,[1<<63]
  { name: 'ss-of-an-address', code: [0x48, 0xbd, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x8a, 0x45, 0, HLT] }, // mov al,[rbp] there
  { name: 'pf-read', code: [0xa0, 0, 0, 0x40, 0, 0, 0, 0, 0, HLT] }, // mov al,[0x400000]
  { name: 'pf-write', code: [0xa2, 0, 0, 0x40, 0, 0, 0, 0, 0, HLT] },
  { name: 'pf-fetch', code: [0xb8, ...u32(0x400000), 0xff, 0xe0] }, // jmp rax
  { name: 'pf-of-the-stack', code: UD2, start: { regs: { rsp: 0x400000n }, gates: { 8: { ist: 1 }, 14: { ist: 1 } } } },
  { name: 'pf-of-pf', code: [0xa0, 0, 0, 0x40, 0, 0, 0, 0, 0], start: { regs: { rsp: 0x400000n }, gates: { 8: { ist: 1 } } } },
  { name: 'int', code: [INT, 0x20, HLT] },
  { name: 'int3', code: [0xcc, HLT] },
  { name: 'int-and-back', code: [INT, 0x20, 0x90, HLT], start: { handlers: { 32: IRETQ } } },
  { name: 'gate-not-present', code: UD2, start: { gates: { 6: { present: 0 } } } },
  { name: 'gate-to-32-bit-code', code: UD2, start: { gates: { 6: { selector: SEL.code } } } },
  { name: 'gate-of-a-wrong-type', code: UD2, start: { gates: { 6: { type: 6 } } } },
  { name: 'double-fault', code: [...longMovDs(0x1234)], start: { gates: { 13: { present: 0 } } } },
  { name: 'triple-fault', code: UD2, start: { idtLimit: 0 } },
  { name: 'user-int', code: [INT, 0x20], start: { user: true, gates: { 32: { dpl: 3 } } } },
  {
    name: 'user-int-and-back',
    code: [INT, 0x20, 0x90, INT, 0x21],
    start: { user: true, gates: { 32: { dpl: 3 }, 33: { dpl: 3 } }, handlers: { 32: IRETQ }, rflags: 0x202n },
  },
  { name: 'user-int-on-ist', code: [INT, 0x20], start: { user: true, gates: { 32: { dpl: 3, ist: 1 } } } },
  { name: 'user-int-not-allowed', code: [INT, 0x20], start: { user: true } },
  { name: 'user-hlt', code: [HLT], start: { user: true } },
  { name: 'user-ud', code: UD2, start: { user: true } },
  { name: 'user-stack-not-canonical', code: UD2, start: { user: true, tss: { 4: [0, 0, 0, 0, 0, 0, 0, 0x80] } } },
  {
    name: 'iretq-to-user',
    code: [
      0x6a,
      SEL.userData,
      0x68,
      ...u32(AT.userStack),
      0x68,
      ...u32(0x202),
      0x6a,
      SEL.userCode64,
      0x68,
      ...u32(0x1100),
      ...IRETQ,
    ],
    start: { data: { 4352: [INT, 0x20] }, gates: { 32: { dpl: 3 } } },
  },
  {
    name: 'iretq-to-compatibility-mode',
    code: [
      0x6a,
      SEL.userData,
      0x68,
      ...u32(AT.userStack),
      0x68,
      ...u32(0x202),
      0x6a,
      SEL.userCode,
      0x68,
      ...u32(0x1100),
      ...IRETQ,
    ],
    start: { data: { 4352: [0x40, INT, 0x20] }, gates: { 32: { dpl: 3 } } },
  },
  {
    name: 'iretq-with-a-null-stack',
    code: [0x6a, 0, 0x68, ...u32(0x8000), 0x6a, 2, 0x6a, SEL.code64, 0x68, ...u32(0x1100), ...IRETQ],
    start: { data: { 4352: [OUT, 1, HLT] } },
  },
  {
    name: 'iretq-not-canonical',
    code: [
      0x6a,
      SEL.data,
      0x68,
      ...u32(0x8000),
      0x6a,
      2,
      0x6a,
      SEL.code64,
      0x48,
      0xb8,
      0,
      0,
      0,
      0,
      0,
      0,
      0,
      0x80,
      0x50,
      ...IRETQ,
    ],
  },
  { name: 'interrupt', code: [0x90, HLT], before: (g) => interrupt(g, 0x20) },
  { name: 'interrupt-of-user', code: [0x90, HLT], start: { user: true }, before: (g) => interrupt(g, 0x20) },
  { name: 'nmi', code: [0x90, HLT], before: (g) => void g.kernel.ioctl(g.vcpu, KVM_NMI, 0) },
];

const casesOf = (mode: string, start: typeof startProtected, programs: readonly Program[]): Case[] =>
  programs.map((program) =>
    define(`kvm/exceptions/${mode}-${program.name}`, SECTION, (kernel, see) => {
      const guest = start(kernel, program.code, program.start);
      program.before?.(guest, see);
      play(guest, see, { most: 6, ...program.play });
      for (const [at, length] of program.look ?? stacks) see.note(`memory at 0x${at.toString(16)}`, guest.ram.read(at, length));
    }),
  );

export const exceptionCases: Case[] = [
  ...casesOf('protected', startProtected, protectedPrograms),
  ...casesOf('long', startLong, longPrograms),
];
