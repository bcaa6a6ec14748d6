import { NotModelled } from '../../kernel/errors.ts';
import {
  KVM_EXIT_DEBUG,
  KVM_EXIT_HLT,
  KVM_EXIT_HYPERCALL,
  KVM_EXIT_HYPERCALL_LONG_MODE,
  KVM_EXIT_INTERNAL_ERROR,
  KVM_EXIT_IO,
  KVM_EXIT_IRQ_WINDOW_OPEN,
  KVM_EXIT_MMIO,
  KVM_EXIT_SHUTDOWN,
  KVM_EXIT_X86_RDMSR,
  KVM_EXIT_X86_WRMSR,
  KVM_INTERNAL_ERROR_DELIVERY_EV,
  KVM_INTERNAL_ERROR_EMULATION,
  KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES,
  kvm_regs,
  kvm_run,
} from '../../uapi/kvm.ts';
import { has } from '../changes.ts';
import type { Outcome } from '../cpu/bus.ts';
import { CS } from '../cpu/state.ts';
import { PAGE_SIZE } from '../mm/pages.ts';
import { storeRegs } from './regs.ts';
import { KVM_PIO_PAGE_OFFSET, RUN } from './run-page.ts';
import type { Vcpu } from './vcpu.ts';

/** Which bytes of the run pages the CPU takes when KVM_RUN is called again. */
export interface Completion {
  readonly kind: 'io' | 'mmio' | 'hypercall' | 'msr';
  readonly length: number;
  /** `struct kvm_regs` at the exit, where SET_REGS has replaced them since. */
  regsAtExit?: DataView;
  /** SET_SREGS has changed CR0, CR3, CR4 or EFER since, and no root was loaded: the emulator forgets the instruction, which will be executed anew. */
  dropped?: boolean;
  /** RFLAGS as userspace sees them between two reads of a REP: the emulator writes back the registers then, but not the flags. */
  rflags?: number;
}

type OutcomeOf<K extends Outcome['kind']> = Extract<Outcome, { kind: K }>;

/** SVM_EXITINTINFO_VALID and the types. */
const EXITINTINFO_VALID = 0x8000_0000n;
const EXITINTINFO_NMI = 0x200n;
const EXITINTINFO_EXCEPTION = 0x300n;

/** The event that was being delivered. */
function exitIntInfo({ cpu: { events } }: Vcpu): bigint | undefined {
  const { exception, interrupt, nmi } = events;
  if (interrupt.injected) return EXITINTINFO_VALID | BigInt(interrupt.nr);
  if (nmi.injected) return EXITINTINFO_VALID | EXITINTINFO_NMI;
  return exception.injected ? EXITINTINFO_VALID | EXITINTINFO_EXCEPTION | BigInt(exception.nr) : undefined;
}
const at = (path: string): number => kvm_run.offsetOf(path);
const REG = {
  rip: kvm_regs.offsetOf('rip'),
  rflags: kvm_regs.offsetOf('rflags'),
  rdi: kvm_regs.offsetOf('rdi'),
  rcx: kvm_regs.offsetOf('rcx'),
};
const IO = {
  direction: at('io.direction'),
  size: at('io.size'),
  port: at('io.port'),
  count: at('io.count'),
  data_offset: at('io.data_offset'),
};
const MMIO = { phys_addr: at('mmio.phys_addr'), data: at('mmio.data'), len: at('mmio.len'), is_write: at('mmio.is_write') };
const DEBUG = {
  exception: at('debug.arch.exception'),
  pc: at('debug.arch.pc'),
  dr6: at('debug.arch.dr6'),
  dr7: at('debug.arch.dr7'),
};
const HYPERCALL = { nr: at('hypercall.nr'), args: at('hypercall.args'), ret: at('hypercall.ret'), flags: at('hypercall.flags') };
const MSR = {
  error: at('msr.error'),
  pad: at('msr.pad'),
  reason: at('msr.reason'),
  index: at('msr.index'),
  data: at('msr.data'),
};
const FAILURE = {
  suberror: at('emulation_failure.suberror'),
  ndata: at('emulation_failure.ndata'),
  flags: at('emulation_failure.flags'),
  insn_size: at('emulation_failure.insn_size'),
  insn_bytes: at('emulation_failure.insn_bytes'),
};
/** x86 instructions are at most this long; shorter ones are padded with NOPs. */
const INSN_BYTES = 15;
const NOP = 0x90;
const UD = 6;

/**
 * What the guest does, as kvm_run says it. Only the members of the exit at hand are written; the rest of the union keeps what earlier exits
 * left.
 */
const writers: {
  readonly [K in Exclude<Outcome['kind'], 'fuel' | 'notModelled' | 'dead'>]: (vcpu: Vcpu, outcome: OutcomeOf<K>) => number;
} = {
  io(vcpu, { direction, size, port, count, data }) {
    const { view, pio } = vcpu.run;
    view.setUint8(IO.direction, direction === 'in' ? 0 : 1);
    view.setUint8(IO.size, size);
    view.setUint16(IO.port, port, true);
    view.setUint32(IO.count, count, true);
    view.setBigUint64(IO.data_offset, BigInt(KVM_PIO_PAGE_OFFSET * PAGE_SIZE), true);
    // An OUT's data, or the zeros an IN begins with.
    pio.set(data);
    if (direction === 'in') vcpu.completion = { kind: 'io', length: data.length };
    return KVM_EXIT_IO;
  },
  mmio(vcpu, { gpa, len, isWrite, data }) {
    const { view, u8 } = vcpu.run;
    view.setBigUint64(MMIO.phys_addr, BigInt(gpa), true);
    view.setUint32(MMIO.len, len, true);
    view.setUint8(MMIO.is_write, Number(isWrite));
    if (isWrite) u8.set(data, MMIO.data);
    else vcpu.completion = { kind: 'mmio', length: len, ...flagsKept(vcpu) };
    return KVM_EXIT_MMIO;
  },
  debug({ run: { view } }, { exception, pc, dr6, dr7 }) {
    if (dr6 !== undefined) view.setBigUint64(DEBUG.dr6, dr6, true);
    if (dr7 !== undefined) view.setBigUint64(DEBUG.dr7, dr7, true);
    view.setBigUint64(DEBUG.pc, pc, true);
    view.setUint32(DEBUG.exception, exception, true);
    return KVM_EXIT_DEBUG;
  },
  hypercall(vcpu, { call: { nr, args, longMode } }) {
    const { view } = vcpu.run;
    view.setBigUint64(HYPERCALL.nr, nr, true);
    // KVM_HC_MAP_GPA_RANGE, the only one that leaves, has three arguments.
    args.slice(0, 3).forEach((value, i) => {
      view.setBigUint64(HYPERCALL.args + i * 8, value, true);
    });
    view.setBigUint64(HYPERCALL.ret, 0n, true);
    view.setBigUint64(HYPERCALL.flags, longMode ? BigInt(KVM_EXIT_HYPERCALL_LONG_MODE) : 0n, true);
    vcpu.completion = { kind: 'hypercall', length: 8 };
    return KVM_EXIT_HYPERCALL;
  },
  msr(vcpu, { isWrite, index, reason, data }) {
    const { view, u8 } = vcpu.run;
    view.setUint8(MSR.error, 0);
    u8.fill(0, MSR.pad, MSR.pad + 7);
    view.setUint32(MSR.reason, reason, true);
    view.setUint32(MSR.index, index, true);
    view.setBigUint64(MSR.data, data, true);
    vcpu.completion = { kind: 'msr', length: 9 };
    return isWrite ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR;
  },
  hlt: () => KVM_EXIT_HLT,
  irqWindow: () => KVM_EXIT_IRQ_WINDOW_OPEN,
  shutdown(vcpu) {
    if (vcpu.backend.resetOnShutdown) {
      vcpu.init();
      vcpu.rootLostAt = vcpu.vm.memslots.roots;
      vcpu.rootLoadedAt = undefined;
    }
    return KVM_EXIT_SHUTDOWN;
  },
  internalError(vcpu, { suberror, insnBytes, gpa, isWrite = false }) {
    const { view } = vcpu.run;
    const { emulationExitInfo, deliveryExitInfo } = vcpu.backend;
    if (suberror === KVM_INTERNAL_ERROR_DELIVERY_EV && has(vcpu.vm.machine, 'unhandleableVectoring')) {
      if (deliveryExitInfo === undefined) throw new NotModelled(`INTERNAL_ERROR suberror ${suberror}`);
      vcpu.undeliverable = gpa;
      view.setUint32(FAILURE.suberror, suberror, true);
      // Last: the host CPU it ran on.
      const words = [...deliveryExitInfo(BigInt(gpa ?? 0), isWrite), 0n];
      words.forEach((word, i) => {
        view.setBigUint64(FAILURE.flags + i * 8, word, true);
      });
      view.setUint32(FAILURE.ndata, words.length, true);
      return KVM_EXIT_INTERNAL_ERROR;
    }
    // Older kernels emulate the instruction at RIP, which has nothing to do with it.
    const undelivered = suberror === KVM_INTERNAL_ERROR_DELIVERY_EV;
    if (undelivered && vcpu.cpu.peekCode().length > 0) throw new NotModelled('an event delivered to what is no RAM, before 6.14');
    const fetched = BigInt.asUintN(32, vcpu.cpu.segments[CS]!.base + vcpu.cpu.rip + BigInt(insnBytes.length));
    const vectoring = exitIntInfo(vcpu);
    const info =
      gpa !== undefined && vectoring !== undefined && deliveryExitInfo !== undefined
        ? [...deliveryExitInfo(BigInt(gpa), isWrite).slice(1), vectoring, 0n]
        : emulationExitInfo(fetched);
    tellFailure(vcpu, undelivered ? KVM_INTERNAL_ERROR_EMULATION : suberror, insnBytes, info);
    if (vcpu.backend.udAfterFailure) {
      Object.assign(vcpu.cpu.events.exception, {
        pending: true,
        nr: UD,
        hasErrorCode: false,
        errorCode: 0,
        hasPayload: false,
        payload: 0n,
      });
    }
    return KVM_EXIT_INTERNAL_ERROR;
  },
};

function tellFailure({ run: { view, u8 } }: Vcpu, suberror: number, insnBytes: Uint8Array, info: readonly bigint[]): void {
  view.setUint32(FAILURE.suberror, suberror, true);
  let words = 1;
  if (insnBytes.length > 0) {
    view.setBigUint64(FAILURE.flags, BigInt(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES), true);
    view.setUint8(FAILURE.insn_size, insnBytes.length);
    u8.fill(NOP, FAILURE.insn_bytes, FAILURE.insn_bytes + INSN_BYTES);
    u8.set(insnBytes, FAILURE.insn_bytes);
    words += 2;
  } else view.setBigUint64(FAILURE.flags, 0n, true);
  for (const word of info) view.setBigUint64(FAILURE.flags + words++ * 8, word, true);
  view.setUint32(FAILURE.ndata, words, true);
}

/** KVM's emulator has failed, but the vendor module sees to the instruction itself: what was written of the failure stays, as no exit. */
export function emulationFailed(vcpu: Vcpu, insnBytes: Uint8Array): void {
  const { segments, rip } = vcpu.cpu;
  const fetched = BigInt.asUintN(32, segments[CS]!.base + rip + BigInt(insnBytes.length));
  tellFailure(vcpu, KVM_INTERNAL_ERROR_EMULATION, insnBytes, vcpu.backend.emulationExitInfo(fetched));
}

/** What the statistics count of an exit. The emulator's port accesses are no exits of the processor. */
function count({ stats, backend }: Vcpu, kind: Outcome['kind']): void {
  stats.add('exits');
  if (kind === 'io' && !backend.emulated) stats.add('io_exits');
  else if (kind === 'mmio') stats.add('mmio_exits');
  else if (kind === 'hlt') stats.add('halt_exits');
  else if (kind === 'irqWindow') stats.add('irq_window_exits');
}

function flagsKept({ cpu, resumed }: Vcpu): Pick<Completion, 'rflags'> {
  const goesOn = resumed !== undefined && resumed.rip === cpu.rip && cpu.suspended === Number(BigInt.asIntN(32, cpu.rip));
  return goesOn ? { rflags: resumed.rflags } : {};
}

/** Fills kvm_run for what the CPU came out with. */
export function writeExit(vcpu: Vcpu, outcome: Exclude<Outcome, { kind: 'fuel' | 'dead' }>): void {
  if (outcome.kind === 'notModelled') throw notModelledInstruction(vcpu, outcome);
  count(vcpu, outcome.kind);
  const write = writers[outcome.kind] as (vcpu: Vcpu, outcome: Outcome) => number;
  vcpu.run.view.setUint32(RUN.exit_reason, write(vcpu, outcome), true);
}

function notModelledInstruction({ cpu }: Vcpu, { description, bytes }: OutcomeOf<'notModelled'>): NotModelled {
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
  const { selector, base } = cpu.segments[CS]!;
  const where = `cs 0x${selector.toString(16)} (base 0x${base.toString(16)}), rip 0x${cpu.rip.toString(16)}`;
  return new NotModelled(`the guest's ${description}${hex === '' ? '' : ` (${hex})`} at ${where}`);
}

/**
 * Hands the data userspace has left in the run pages to the CPU and finishes the instruction; what it then comes out with.
 *
 * After a SET_REGS since the exit, the emulator finishes the instruction as it had decoded it, memory, RIP and RFLAGS included, but the other
 * registers stay as they were set: the result of an IN into RAX is lost, RDI and RCX of an INS move on from what they are now. With RCX 0 there is the
 * same exit again: undefined. A hardware backend does so for MMIO; its IN goes to whatever RAX is now, or nowhere if RIP has changed.
 */
export function complete(vcpu: Vcpu): Outcome | undefined {
  const { cpu, completion, run } = vcpu;
  if (completion?.kind === 'mmio') {
    const shown = new DataView(new ArrayBuffer(kvm_regs.size));
    storeRegs(vcpu, shown, 0);
    const rip = completion.regsAtExit?.getBigUint64(REG.rip, true) ?? cpu.rip;
    vcpu.resumed = { rip, rflags: shown.getUint32(REG.rflags, true) };
  }
  vcpu.completion = undefined;
  if (completion === undefined) return cpu.run(0);
  const { kind, length, regsAtExit: before } = completion;
  if (completion.dropped) {
    cpu.abandonPending();
    return { kind: 'fuel' };
  }
  const { view } = run;
  const supply = (): void => {
    if (kind === 'hypercall') cpu.completeHypercall(view.getBigUint64(HYPERCALL.ret, true));
    else if (kind === 'msr') cpu.completeMsr(view.getUint8(MSR.error) !== 0, view.getBigUint64(MSR.data, true));
    else if (kind === 'io') cpu.completeIo(run.pio.slice(0, length));
    else cpu.completeMmio(run.u8.slice(MMIO.data, MMIO.data + length));
  };
  if (before === undefined || kind === 'hypercall' || kind === 'msr') {
    supply();
    return cpu.run(0);
  }
  if (kind === 'io' && vcpu.backend.turn === undefined && !cpu.waitsInString) {
    if (before.getBigUint64(REG.rip, true) === cpu.rip) supply();
    else cpu.abandonPending();
    return cpu.run(0);
  }
  const [set, after] = [before, before].map(() => new DataView(new ArrayBuffer(kvm_regs.size))) as [DataView, DataView];
  cpu.storeRegs(set, 0);
  cpu.loadRegs(before, 0);
  if (kind === 'io' && !cpu.resumeInput(set.getBigUint64(REG.rcx, true), set.getBigUint64(REG.rdi, true))) {
    vcpu.completion = completion;
    cpu.loadRegs(set, 0);
    return undefined;
  }
  supply();
  const outcome = cpu.run(0);
  cpu.decodedAt = null;
  cpu.storeRegs(after, 0);
  const moved = kind === 'io' ? [REG.rip, REG.rflags, REG.rdi, REG.rcx] : [REG.rip, REG.rflags];
  for (const at of moved) set.setBigUint64(at, after.getBigUint64(at, true), true);
  cpu.loadRegs(set, 0);
  vcpu.rflagsHigh = before.getUint32(REG.rflags + 4, true);
  return outcome;
}
