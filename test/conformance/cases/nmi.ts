/** Which event comes first, and what holds it off: interrupt shadow, NMI blocking, interrupt windows, injection anew. */
import type { Kernel } from 'kvio';
import { KVM_INTERRUPT, KVM_NMI } from 'kvio/uapi';
import { type Case, define, nonZero, type Observer } from '../case.ts';
import { getEvents, setEvents, type VcpuEvents } from '../events.ts';
import { type Guest, play } from '../guest.ts';
import { AT, type Bytes, HLT, type ProtectedOptions, startLong, startProtected, u32 } from '../protected.ts';

const OUT = 0xe6;
const IRET = 0xcf;

interface Program {
  readonly name: string;
  readonly code: Bytes;
  readonly long?: boolean;
  readonly start?: ProtectedOptions;
  readonly before?: (guest: Guest, see: Observer) => void;
  /** Events are noted after each exit. */
  readonly window?: boolean;
  readonly past?: number;
  readonly most?: number;
  /** Backends whose answer depends on when the host is interrupted. */
  readonly unsteady?: readonly string[];
}

const nmi = ({ kernel, vcpu }: Guest, times = 1): void => {
  for (let n = 0; n < times; n++) kernel.ioctl(vcpu, KVM_NMI, 0);
};
const interrupt = ({ kernel, vcpu }: Guest, vector: number): void =>
  void kernel.ioctl(vcpu, KVM_INTERRUPT, Uint8Array.from(u32(vector)));
const inject =
  (change: Partial<VcpuEvents>) =>
  (guest: Guest, see: Observer): void =>
    void see.call('SET_VCPU_EVENTS', () => setEvents(guest.kernel, guest.vcpu, change));

const nmiHandlers = { 2: [OUT, 2, IRET], 32: [OUT, 0x20, IRET] };

const programs: readonly Program[] = [
  { name: 'two', code: [0x40, 0x40, HLT], start: { handlers: nmiHandlers }, before: (g) => nmi(g, 3) },
  { name: 'masked-in-the-handler', code: [0x40, HLT], before: (g) => nmi(g, 2) },
  {
    name: 'before-an-interrupt',
    code: [0x40, HLT],
    start: { handlers: nmiHandlers, rflags: 0x202n },
    before(g) {
      interrupt(g, 0x20);
      nmi(g);
    },
  },
  // PVM's turn of emulation, in which the NMI waits, ends where the host is interrupted.
  { name: 'in-the-shadow-of-sti', code: [0xfb, 0x40, 0x40, HLT], unsteady: ['pvm'], before: (g) => nmi(g) },
  {
    name: 'in-the-shadow-of-mov-ss',
    code: [0x40, 0x40, HLT],
    unsteady: ['pvm'],
    before(g, see) {
      inject({ shadow: 2 })(g, see);
      nmi(g);
    },
  },
  { name: 'wakes-hlt', code: [HLT, 0x40, HLT], start: { handlers: nmiHandlers }, past: 1, before: (g) => nmi(g) },
  { name: 'window-without-if', code: [0x40, 0x40, HLT], window: true },
  {
    name: 'inject-exception',
    code: [0x40, HLT],
    before: inject({ exception: { injected: 1, nr: 6, has_error_code: 0, error_code: 0 } }),
  },
  {
    name: 'inject-exception-with-error-code',
    code: [0x40, HLT],
    before: inject({ exception: { injected: 1, nr: 13, has_error_code: 1, error_code: 0x1230 } }),
  },
  {
    name: 'inject-page-fault',
    code: [0x40, HLT],
    before: inject({ exception: { injected: 1, nr: 14, has_error_code: 1, error_code: 6 } }),
  },
  {
    name: 'inject-ud-with-error-code',
    code: [0x40, HLT],
    before: inject({ exception: { injected: 1, nr: 6, has_error_code: 1, error_code: 5 } }),
  },
  {
    name: 'inject-gp-without-error-code',
    code: [0x40, HLT],
    before: inject({ exception: { injected: 1, nr: 13, has_error_code: 0, error_code: 0 } }),
  },
  {
    name: 'inject-debug',
    code: [0x40, HLT],
    before: inject({ exception: { injected: 1, nr: 1, has_error_code: 0, error_code: 0 } }),
  },
  {
    name: 'inject-breakpoint',
    code: [0x40, HLT],
    before: inject({ exception: { injected: 1, nr: 3, has_error_code: 0, error_code: 0 } }),
  },
  {
    name: 'inject-overflow',
    code: [0x40, HLT],
    before: inject({ exception: { injected: 1, nr: 4, has_error_code: 0, error_code: 0 } }),
  },
  {
    name: 'inject-double-fault',
    code: [0x40, HLT],
    before: inject({ exception: { injected: 1, nr: 8, has_error_code: 1, error_code: 0 } }),
  },
  {
    name: 'inject-double-fault-without-gate',
    code: [0x40, HLT],
    start: { gates: { 8: { present: 0 } } },
    before: inject({ exception: { injected: 1, nr: 8, has_error_code: 1, error_code: 0 } }),
  },
  {
    name: 'inject-exception-and-interrupt',
    code: [0x40, HLT],
    start: { handlers: { 6: [OUT, 6, 0x83, 0x04, 0x24, 0, IRET], 32: [OUT, 0x20, IRET] } },
    before: inject({
      exception: { injected: 1, nr: 6, has_error_code: 0, error_code: 0 },
      interrupt: { injected: 1, nr: 0x20, soft: 0 },
    }),
  },
  { name: 'inject-interrupt', code: [0x40, HLT], before: inject({ interrupt: { injected: 1, nr: 0x21, soft: 0 } }) },
  { name: 'inject-soft-interrupt', code: [0xcd, 0x21, HLT], before: inject({ interrupt: { injected: 1, nr: 0x21, soft: 1 } }) },
  { name: 'inject-nmi', code: [0x40, HLT], before: inject({ nmi: { injected: 1, pending: 0, masked: 0 } }) },
  {
    name: 'inject-nmi-and-interrupt',
    code: [0x40, HLT],
    start: { handlers: nmiHandlers },
    before: inject({ nmi: { injected: 1, pending: 0, masked: 0 }, interrupt: { injected: 1, nr: 0x20, soft: 0 } }),
  },
  { name: 'pending-while-masked', code: [0x40, HLT], before: inject({ flags: 1, nmi: { injected: 0, pending: 1, masked: 1 } }) },
  {
    name: 'iret-unmasks',
    code: [0x9c, 0x0e, 0x68, ...u32(0x1100), IRET],
    start: { data: { 4352: [0x40, HLT] } },
    before: inject({ flags: 1, nmi: { injected: 0, pending: 1, masked: 1 } }),
  },
  {
    name: 'long-iret-unmasks',
    long: true,
    code: [0x6a, 0x10, 0x68, ...u32(0x8000), 0x6a, 2, 0x6a, 0x50, 0x68, ...u32(0x1100), 0x48, IRET],
    start: { data: { 4352: [0x90, HLT] } },
    before: inject({ flags: 1, nmi: { injected: 0, pending: 1, masked: 1 } }),
  },
  { name: 'exception-beats-nmi', code: [0x0f, 0x0b], before: (g) => nmi(g) },
];

function eventCase(program: Program): Case {
  const observe = (kernel: Kernel, see: Observer): void => {
    const guest = (program.long ? startLong : startProtected)(kernel, program.code, program.start);
    program.before?.(guest, see);
    see.note('events before', nonZero(getEvents(kernel, guest.vcpu)));
    if (program.window) guest.run.set('request_interrupt_window', 1);
    const note = (n: number): void => see.note(`events after ${n}`, nonZero(getEvents(kernel, guest.vcpu)));
    play(guest, see, { most: program.most ?? 8, past: program.past ?? 0, each: note });
    see.note('stack', guest.ram.read(0x7fc0, 64));
    see.note('inner stack', guest.ram.read(AT.innerStack - 32, 32));
  };
  const needs = program.unsteady === undefined ? {} : { needs: { unsteady: program.unsteady } };
  return define(`kvm/nmi/${program.name}`, 'Events', observe, needs);
}

export const nmiCases: Case[] = programs.map(eventCase);
