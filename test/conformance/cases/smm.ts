/** System management mode: KVM_SMI, the state save area, RSM, the second address space. */

import type { Kernel } from 'kvio';
import { KVM_CAP_X86_SMM, KVM_CHECK_EXTENSION, KVM_GET_MSRS, KVM_NMI, KVM_SET_MSRS, KVM_SMI, kvm_msrs } from 'kvio/uapi';
import { type Case, define, nonZero, type Observer } from '../case.ts';
import { getEvents, setEvents } from '../events.ts';
import { type Guest, play, startGuest } from '../guest.ts';
import { addRam, openKvm, setRegion } from '../machine.ts';
import { type Bytes, HLT, type ProtectedOptions, startLong, startProtected, u32 } from '../protected.ts';

const OUT = 0xe6;
const RSM = [0x0f, 0xaa];
const MSR_SMBASE = 0x9e;
/** SMRAM at reset: 64 KiB from 0x30000; the handler begins at + 0x8000, the state is at + 0xfe00. */
const SMBASE = 0x30000;

interface Program {
  readonly name: string;
  readonly mode?: 'real' | 'long';
  readonly code: Bytes;
  /** Of the handler; default: OUT 0x77, RSM. */
  readonly handler?: Bytes;
  readonly start?: ProtectedOptions;
  readonly before?: (guest: Guest, see: Observer) => void;
  /** No RAM where the state goes. */
  readonly noRam?: boolean;
  readonly past?: number;
  readonly most?: number;
  readonly save?: boolean;
}

const smi = ({ kernel, vcpu }: Guest, see: Observer): void => void see.call('SMI', () => kernel.ioctl(vcpu, KVM_SMI, 0));

function msr(kernel: Kernel, vcpu: number, request: number, data = 0n): [count: number, value: bigint] {
  const bytes = kvm_msrs.encode({ nmsrs: 1, pad: 0, entries: [{ index: MSR_SMBASE, reserved: 0, data }] });
  const count = kernel.ioctl(vcpu, request, bytes);
  return [count, kvm_msrs.decode(bytes).entries[0]?.data ?? -1n];
}

/** In system management mode without an SMI; `zero` is found at address 0. */
const insideByEvents =
  (zero: Bytes) =>
  ({ kernel, vcpu, ram }: Guest, see: Observer): void => {
    ram.write(0, Uint8Array.from(zero));
    const smi = { smm: 1, pending: 0, smm_inside_nmi: 0, latched_init: 0 };
    see.call('SET_VCPU_EVENTS', () => setEvents(kernel, vcpu, { smi }));
  };

const programs: readonly Program[] = [
  { name: 'real', mode: 'real', code: [0x40, HLT], before: smi, save: true },
  { name: 'protected', code: [0x40, HLT], before: smi, save: true, start: { rflags: 0x246n } },
  {
    name: 'long',
    mode: 'long',
    code: [0x90, HLT],
    before: smi,
    save: true,
    start: { regs: { rax: 0x1122_3344_5566_7788n, r15: 15n, r8: 8n } },
  },
  {
    name: 'two',
    code: [0x40, 0x40, HLT],
    before(g, see) {
      smi(g, see);
      see.note('events', nonZero(getEvents(g.kernel, g.vcpu)));
      see.call('SMI again', () => g.kernel.ioctl(g.vcpu, KVM_SMI, 0));
    },
  },
  { name: 'within', code: [0x40, HLT], handler: [OUT, 0x77, 0x90, OUT, 0x78, ...RSM], before: smi },
  {
    name: 'changes-registers',
    code: [0x40, HLT],
    handler: [0x66, 0x2e, 0xc7, 0x06, 0xd0, 0xff, ...u32(0x1234), OUT, 0x77, ...RSM],
    before: smi,
  },
  {
    name: 'moves-smbase',
    code: [0x40, HLT],
    handler: [0x66, 0x2e, 0xc7, 0x06, 0xf8, 0xfe, ...u32(0x40000), OUT, 0x77, ...RSM],
    before: smi,
  },
  {
    name: 'with-an-nmi',
    code: [0x40, HLT],
    before(g, see) {
      smi(g, see);
      g.kernel.ioctl(g.vcpu, KVM_NMI, 0);
    },
  },
  {
    name: 'in-the-shadow-of-sti',
    code: [0xfb, 0x40, HLT],
    start: { regs: {} },
    before(g, see) {
      see.call('SET_VCPU_EVENTS', () => setEvents(g.kernel, g.vcpu, { shadow: 1 }));
      smi(g, see);
    },
  },
  { name: 'wakes-hlt', code: [HLT, 0x40, HLT], past: 1, before: smi },
  { name: 'without-ram', code: [0x40, HLT], noRam: true, before: smi },
  { name: 'hlt-within', code: [0x40, HLT], handler: [HLT, ...RSM], past: 1, before: smi },
  { name: 'exception-within', code: [0x40, HLT], handler: [0x0f, 0x0b], before: smi },
  {
    name: 'entered-by-events',
    code: [0x40, HLT],
    before: (g, see) =>
      void see.call('SET_VCPU_EVENTS', () =>
        setEvents(g.kernel, g.vcpu, { smi: { smm: 1, pending: 0, smm_inside_nmi: 1, latched_init: 0 } }),
      ),
    most: 3,
  },
  // mov dword ptr [0x3ff90], 0x9b00; mov dword ptr [0x3ff94], 0xffff; rsm: a code segment, and zeroes for all the rest.
  {
    name: 'rsm-to-code-alone',
    code: [0xc7, 0x05, ...u32(0x3ff90), ...u32(0x9b00), 0xc7, 0x05, ...u32(0x3ff94), ...u32(0xffff), ...RSM],
    before: insideByEvents([0x40, 0x43, HLT]),
    most: 3,
  },
  {
    name: 'left-by-events',
    code: [0x40, HLT],
    before(g, see) {
      smi(g, see);
      see.note('run', g.kernel.run(g.vcpu));
      see.note('events in it', nonZero(getEvents(g.kernel, g.vcpu)));
      see.call('SET_VCPU_EVENTS', () =>
        setEvents(g.kernel, g.vcpu, { smi: { smm: 0, pending: 0, smm_inside_nmi: 0, latched_init: 0 } }),
      );
      see.note('events out of it', nonZero(getEvents(g.kernel, g.vcpu)));
    },
    most: 2,
  },
];

/** Bytes that are not zero, by offset, in words. */
function words(bytes: Uint8Array): Record<string, string> {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const found: Record<string, string> = {};
  for (let at = 0; at < bytes.length; at += 4) {
    const word = view.getUint32(at, true);
    if (word !== 0) found[(0xfe00 + at).toString(16)] = word.toString(16);
  }
  return found;
}

function start(kernel: Kernel, program: Program): { guest: Guest; smram: ReturnType<typeof addRam> | undefined } {
  const { mode, code } = program;
  const guest =
    mode === 'real'
      ? startGuest(kernel, code, { ram: 0x20000 })
      : (mode === 'long' ? startLong : startProtected)(kernel, code, program.start);
  if (program.noRam) return { guest, smram: undefined };
  const smram = addRam(kernel, guest.vm, 5, BigInt(SMBASE), 0x20000);
  // System management mode has memory slots of its own: without them not even the state could be saved.
  const rams = [
    [0n, guest.ram],
    [BigInt(SMBASE), smram],
  ] as const;
  for (const [n, [guest_phys_addr, ram]] of rams.entries()) {
    const memory_size = BigInt(ram.length);
    setRegion(kernel, guest.vm, { slot: 0x1_0000 + n, guest_phys_addr, memory_size, userspace_addr: ram.address });
  }
  smram.write(0x8000, Uint8Array.from(program.handler ?? [OUT, 0x77, ...RSM]));
  return { guest, smram };
}

const smmCases0: Case[] = programs.map((program) =>
  define(`kvm/smm/${program.name}`, 'System management mode', (kernel, see) => {
    const kvm = openKvm(kernel);
    const has = kernel.ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_X86_SMM) > 0;
    see.note('KVM_CAP_X86_SMM', has);
    if (!has) return;
    const { guest, smram } = start(kernel, program);
    program.before?.(guest, see);
    const note = (n: number): void => {
      see.call(`events after ${n}`, () => nonZero(getEvents(kernel, guest.vcpu)));
      if (n === 1 && program.save && smram) see.note('state save area', words(smram.read(0xfe00, 0x200)));
    };
    try {
      play(guest, see, { most: program.most ?? 5, past: program.past ?? 0, each: note });
    } catch (error) {
      see.call('the end', () => {
        throw error;
      });
    }
    see.call('SMBASE', () => msr(kernel, guest.vcpu, KVM_GET_MSRS));
    see.note('stack', guest.ram.read(0x7fc0, 64));
  }),
);

const others: Case[] = [
  define('kvm/smm/the-second-address-space', 'System management mode', (kernel, see) => {
    const kvm = openKvm(kernel);
    if (kernel.ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_X86_SMM) === 0) {
      see.note('KVM_CAP_X86_SMM', false);
      return;
    }
    const { guest } = start(kernel, { name: '', code: [0xa0, ...u32(0x7000), OUT, 0x10, HLT], noRam: true });
    guest.ram.write(0x7000, Uint8Array.of(0x11));
    const smram = kernel.guestRam(0x20000);
    const region = { slot: 0x1_0000, guest_phys_addr: BigInt(SMBASE), memory_size: 0x10000n, userspace_addr: smram.address };
    see.call('a slot of address space 1', () => setRegion(kernel, guest.vm, region));
    const low = { slot: 0x1_0001, guest_phys_addr: 0n, memory_size: 0x10000n, userspace_addr: smram.address + 0x10000n };
    see.call('another', () => setRegion(kernel, guest.vm, low));
    // mov al,[0x7000] of DS = 0; out 0x77,al; inc byte [0x7000]; rsm
    smram.write(0x8000, Uint8Array.of(0xa0, 0, 0x70, OUT, 0x77, 0xfe, 0x06, 0, 0x70, ...RSM));
    smram.write(0x17000, Uint8Array.of(0x22));
    smi(guest, see);
    play(guest, see, { most: 5 });
    see.note('address space 0', guest.ram.read(0x7000, 1));
    see.note('address space 1', smram.read(0x17000, 1));
    see.note('saved', words(smram.read(0xfe00, 0x200)));
  }),
  define('kvm/smm/smbase', 'System management mode', (kernel, see) => {
    const kvm = openKvm(kernel);
    if (kernel.ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_X86_SMM) === 0) {
      see.note('KVM_CAP_X86_SMM', false);
      return;
    }
    const { guest, smram } = start(kernel, { name: '', code: [0x40, HLT] });
    see.call('GET_MSRS', () => msr(kernel, guest.vcpu, KVM_GET_MSRS));
    see.call('SET_MSRS 0x28000', () => msr(kernel, guest.vcpu, KVM_SET_MSRS, 0x28000n));
    see.call('GET_MSRS after', () => msr(kernel, guest.vcpu, KVM_GET_MSRS));
    smram!.write(0, Uint8Array.of(OUT, 0x79, ...RSM));
    see.call('SMI', () => kernel.ioctl(guest.vcpu, KVM_SMI, 0));
    play(guest, see, { most: 4 });
  }),
];

export const smmCases: Case[] = [...smmCases0, ...others];
