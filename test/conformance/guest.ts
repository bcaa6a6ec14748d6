/** Real-mode guests: started on 64 KiB of RAM at 0, played exit by exit, every exit with all that can be seen at it. */
import type { Kernel, Memory } from 'kvio';
import {
  KVM_EXIT_DEBUG,
  KVM_EXIT_HLT,
  KVM_EXIT_HYPERCALL,
  KVM_EXIT_INTERNAL_ERROR,
  KVM_EXIT_IO,
  KVM_EXIT_IRQ_WINDOW_OPEN,
  KVM_EXIT_MMIO,
  KVM_EXIT_SHUTDOWN,
  KVM_EXIT_X86_RDMSR,
  KVM_EXIT_X86_WRMSR,
  kvm_run,
} from 'kvio/uapi';
import { changes, type Fact, nonZero, type Observer, result, toFact } from './case.ts';
import { addRam, getRegs, getSregs, mapRun, newVcpu, type Regs, RunPage, type Sregs, setRegs, setSregs } from './machine.ts';

export interface Guest {
  readonly kernel: Kernel;
  readonly vm: number;
  readonly vcpu: number;
  readonly run: RunPage;
  readonly ram: Memory;
  /** Where the code begins. */
  readonly entry: bigint;
}

export interface GuestOptions {
  /** Default 0x10000. */
  readonly ram?: number;
  /** Where the code is put and begins; default 0x1000. */
  readonly entry?: number;
  readonly regs?: Partial<Regs>;
  readonly sregs?: (sregs: Sregs) => void;
  /** Other bytes in RAM, by address. */
  readonly data?: Readonly<Record<number, ArrayLike<number>>>;
}

/** Every vector n of real mode leads to a HLT of its own, at 0x600 + n. */
export const haltingVectors: Readonly<Record<number, ArrayLike<number>>> = {
  0: Uint8Array.from({ length: 1024 }, (_, at) => [at >> 2, 6, 0, 0][at & 3]!),
  1536: new Uint8Array(256).fill(0xf4),
};

export function startGuest(kernel: Kernel, code: readonly number[], options: GuestOptions = {}): Guest {
  const { vm, vcpu } = newVcpu(kernel);
  const ram = addRam(kernel, vm, 0, 0n, options.ram ?? 0x10000);
  const entry = options.entry ?? 0x1000;
  ram.write(entry, Uint8Array.from(code));
  for (const [address, bytes] of Object.entries(options.data ?? {})) ram.write(Number(address), Uint8Array.from(bytes));
  setSregs(kernel, vcpu, (sregs) => {
    Object.assign(sregs.cs, { base: 0n, selector: 0 });
    options.sregs?.(sregs);
  });
  setRegs(kernel, vcpu, { rip: BigInt(entry), rflags: 2n, rsp: 0x8000n, ...options.regs });
  return { kernel, vm, vcpu, run: new RunPage(mapRun(kernel, vcpu)), ram, entry: BigInt(entry) };
}

export interface Play {
  /** Bytes for the port reads, one entry an exit, repeated or cut to its length. */
  readonly ports?: readonly (readonly number[])[];
  /** Bytes for the MMIO reads, one entry an exit. */
  readonly mmio?: readonly (readonly number[])[];
  /** How often HLT, SHUTDOWN or INTERNAL_ERROR are run past; default 0: the first ends the play. */
  readonly past?: number;
  /** Most exits; default 40. */
  readonly most?: number;
  /** Milliseconds a run may take where a guest is known to run for ever on some kernel. */
  readonly budget?: number;
  /** Called at an exit of another kind; true goes on. */
  readonly answer?: () => boolean;
  /** Called at every exit, with its number. */
  readonly each?: (exit: number) => void;
}

/** Runs the guest to its end; each exit is a fact: its fields, and all registers that changed since the exit before. */
export function play(guest: Guest, see: Observer, plan: Play = {}): void {
  const { kernel, vcpu, run } = guest;
  const ports = [...(plan.ports ?? [])];
  const mmio = [...(plan.mmio ?? [])];
  let past = plan.past ?? 0;
  let regs = nonZero(getRegs(kernel, vcpu));
  let sregs = toFact(getSregs(kernel, vcpu));
  see.note('at the start', regs);
  for (let at = 1; at <= (plan.most ?? 40); at++) {
    const returned = runFor(kernel, vcpu, plan.budget);
    const reason = Number(run.get('exit_reason'));
    const nowRegs = nonZero(getRegs(kernel, vcpu));
    const nowSregs = toFact(getSregs(kernel, vcpu));
    see.note(`exit ${at}`, {
      returned: result(returned),
      ...(exits[reason]?.(run) ?? { reason }),
      state: {
        if_flag: run.get('if_flag'),
        ready_for_interrupt_injection: run.get('ready_for_interrupt_injection'),
        flags: run.get('flags'),
        cr8: run.get('cr8'),
        apic_base: run.get('apic_base'),
      },
      regs: changes(regs, nowRegs),
      sregs: changes(sregs, nowSregs),
    });
    plan.each?.(at);
    regs = nowRegs;
    sregs = nowSregs;
    if (returned < 0) return;
    if (reason === KVM_EXIT_IO && run.get('io.direction') === 0) feedPort(run, ports.shift() ?? [0xff]);
    else if (reason === KVM_EXIT_MMIO && run.get('mmio.is_write') === 0) feedMmio(run, mmio.shift() ?? [0xff]);
    else if (reason !== KVM_EXIT_IO && reason !== KVM_EXIT_MMIO && plan.answer?.() !== true && past-- === 0) return;
  }
  see.note('stopped', 'too many exits');
}

/** Simulated milliseconds are many instructions: one is enough there. */
function runFor(kernel: Kernel, vcpu: number, budget: number | undefined): number {
  if (budget === undefined || !kernel.features.kick) return kernel.run(vcpu);
  return kernel.run(vcpu, { budget: kernel.features.simulated ? 1 : budget });
}

function feedPort(run: RunPage, bytes: readonly number[]): void {
  const at = Number(run.get('io.data_offset'));
  const length = Number(run.get('io.size')) * Number(run.get('io.count'));
  for (let i = 0; i < length; i++) run.bytes[at + i] = bytes[i % bytes.length]!;
}

function feedMmio(run: RunPage, bytes: readonly number[]): void {
  const at = kvm_run.offsetOf('mmio.data');
  const length = Number(run.get('mmio.len'));
  for (let i = 0; i < length; i++) run.bytes[at + i] = bytes[i % bytes.length]!;
}

const msr = (run: RunPage): Record<string, Fact> => ({
  error: toFact(run.get('msr.error')),
  why: toFact(run.get('msr.reason')),
  index: toFact(run.get('msr.index')),
  data: toFact(run.get('msr.data')),
});

/** The members of the exit union that the kernel fills for a reason. */
const exits: Readonly<Record<number, (run: RunPage) => Record<string, Fact>>> = {
  [KVM_EXIT_IO]: (run) => {
    const [size, count, offset] = [Number(run.get('io.size')), Number(run.get('io.count')), Number(run.get('io.data_offset'))];
    const data = run.slice(offset, size * count);
    return {
      reason: 'io',
      direction: run.get('io.direction') === 1 ? 'out' : 'in',
      size,
      port: toFact(run.get('io.port')),
      count,
      data_offset: offset,
      data: data.every((byte) => byte === 0) ? 'zero' : toFact(data),
    };
  },
  [KVM_EXIT_MMIO]: (run) => {
    const is_write = Number(run.get('mmio.is_write'));
    const len = Number(run.get('mmio.len'));
    return {
      reason: 'mmio',
      phys_addr: toFact(run.get('mmio.phys_addr')),
      len,
      is_write,
      ...(is_write ? { data: toFact(run.slice(kvm_run.offsetOf('mmio.data'), len)) } : {}),
    };
  },
  [KVM_EXIT_DEBUG]: (run) => ({
    reason: 'debug',
    exception: toFact(run.get('debug.arch.exception')),
    pc: toFact(run.get('debug.arch.pc')),
    dr6: toFact(run.get('debug.arch.dr6')),
    dr7: toFact(run.get('debug.arch.dr7')),
  }),
  [KVM_EXIT_HYPERCALL]: (run) => ({
    reason: 'hypercall',
    nr: toFact(run.get('hypercall.nr')),
    args: [0, 8, 16, 24, 32, 40].map((at) => toFact(run.slice(kvm_run.offsetOf('hypercall.args') + at, 8))),
    ret: toFact(run.get('hypercall.ret')),
    flags: toFact(run.get('hypercall.flags')),
  }),
  [KVM_EXIT_X86_RDMSR]: (run) => ({ reason: 'rdmsr', ...msr(run) }),
  [KVM_EXIT_X86_WRMSR]: (run) => ({ reason: 'wrmsr', ...msr(run) }),
  [KVM_EXIT_IRQ_WINDOW_OPEN]: () => ({ reason: 'irq_window_open' }),
  [KVM_EXIT_HLT]: () => ({ reason: 'hlt' }),
  [KVM_EXIT_SHUTDOWN]: () => ({ reason: 'shutdown' }),
  [KVM_EXIT_INTERNAL_ERROR]: (run) => {
    const flags = BigInt(run.get('emulation_failure.flags'));
    return {
      reason: 'internal_error',
      suberror: toFact(run.get('internal.suberror')),
      ndata: toFact(run.get('internal.ndata')),
      flags: toFact(flags),
      ...(flags & 1n
        ? {
            insn_size: toFact(run.get('emulation_failure.insn_size')),
            insn_bytes: toFact(run.slice(kvm_run.offsetOf('emulation_failure.insn_bytes'), 15)),
          }
        : {}),
    };
  },
};

/** Notes what lies in ranges of the guest's RAM, address and length each. */
export const noteMemory =
  (...ranges: readonly (readonly [number, number])[]) =>
  (guest: Guest, see: Observer): void => {
    for (const [at, length] of ranges) see.note(`memory at 0x${at.toString(16)}`, guest.ram.read(at, length));
  };
