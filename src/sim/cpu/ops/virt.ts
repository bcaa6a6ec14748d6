/** What leaves for the hypervisor: hypercalls, MSRs that userspace answers, caches, idle states. */
import type { Core } from '../core.ts';
import { Fault, GP, UD } from '../fault.ts';
import type { Exec } from '../insn.ts';
import { RAX, RBX, RCX, RDX, RSI } from '../state.ts';

const VMCALL: readonly number[] = [0x0f, 0x01, 0xc1];
const VMMCALL: readonly number[] = [0x0f, 0x01, 0xd9];

/**
 * VMCALL or VMMCALL. The processor has one of them; the other is #UD there, and KVM writes the right one over it (KVM_X86_QUIRK_FIX_HYPERCALL_INSN)
 * at the linear address RIP, without the base of CS, and has it executed again.
 */
const hypercall = (c: Core, own: boolean): void => {
  const { bus } = c;
  if (bus.hypercall === undefined) throw new Fault(UD);
  if (!own) {
    if (bus.fixHypercall === false) throw new Fault(UD);
    const right = c.vmcall ? VMCALL : VMMCALL;
    const at = (k: number): number => (c.long ? c.linear0 + k : (c.ip0 + k) >>> 0);
    if (right.every((byte, k) => c.linear8(at(k)) === byte)) {
      // It stands there already and does not get the guest on: for ever.
      c.fuel = 1;
    } else {
      right.forEach((byte, k) => {
        c.linearStore8(at(k), byte);
      });
    }
    c.rewind();
    c.endBlock();
    return;
  }
  // In 64-bit mode hypercalls take whole registers.
  const longMode = c.long;
  const register = (n: number): bigint => (longMode ? c.reg(n) : c.reg(n) & 0xffffffffn);
  const answer = c.answer('hypercall');
  let result: bigint | undefined;
  if (answer !== null) result = new DataView(answer.buffer, answer.byteOffset).getBigUint64(0, true);
  else {
    const call = { nr: register(RAX), args: [RBX, RCX, RDX, RSI].map(register), cpl: c.cpl, longMode };
    result = bus.hypercall(call);
    if (result === undefined) throw c.ask('hypercall', 8, { kind: 'hypercall', call });
  }
  c.setReg(RAX, longMode ? BigInt.asUintN(64, result) : result & 0xffffffffn);
};

/** In KVM's emulator VMCALL is for level 0, VMMCALL for protected mode; both are patched, so that the guest never comes past them. */
export const vmcall: Exec = (c) => {
  if (c.emulated) c.privileged();
  hypercall(c, c.vmcall && !c.emulated);
};
export const vmmcall: Exec = (c) => {
  if (c.emulated && !c.protectedMode) throw new Fault(UD);
  hypercall(c, !c.vmcall && !c.emulated);
};

/** VMLAUNCH, VMRESUME, VMXOFF; there is no nested virtualisation. KVM's emulator does not know them. */
export const vmx: Exec = (c) => {
  throw c.emulated ? c.emulationFailure() : new Fault(UD);
};
/** SVM's instructions are in AMD's processors and in KVM's emulator: there the level is looked at first. No guest has EFER.SVME. */
const svmInstruction = (c: Core): void => {
  if (!c.protectedMode || (c.vmcall && !c.emulated)) throw new Fault(UD);
  c.privileged();
};
/** VMRUN, VMLOAD, VMSAVE, SKINIT, INVLPGA. */
export const svm: Exec = (c) => {
  svmInstruction(c);
  throw new Fault(UD);
};
/** Nothing but CLGI clears the flag. */
export const stgi: Exec = (c) => {
  svmInstruction(c);
  if (!c.bus.virtualGif) throw new Fault(UD);
};
export const clgi: Exec = (c) => {
  svmInstruction(c);
  throw c.bus.virtualGif ? c.notModelled('CLGI') : new Fault(UD);
};

/** MONITOR and MWAIT: KVM lets them pass as NOPs (KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS); its emulator does not have them. */
export const monitor: Exec = (c) => {
  if (c.emulated) throw c.emulationFailure();
  if (c.bus.mwaitIsUd?.()) throw new Fault(UD);
};

const putPair = (c: Core, lo: number, hi: number): void => {
  c.putReg(RAX, 4, lo);
  c.putReg(RDX, 4, hi);
};

/** What userspace answered of an MSR: its value, after #GP(0) if it said error. */
const answeredMsr = (c: Core): DataView | null => {
  const answer = c.answer('msr');
  if (answer === null) return null;
  if (answer[0] !== 0) throw new Fault(GP, 0, true);
  return new DataView(answer.buffer, answer.byteOffset);
};

export const rdmsr: Exec = (c) => {
  c.privileged();
  const answered = answeredMsr(c);
  if (answered !== null) {
    putPair(c, answered.getInt32(1, true), answered.getInt32(5, true));
    return;
  }
  const index = c.r32[RCX]! >>> 0;
  const value = c.bus.rdmsr(index);
  if (value === null) throw new Fault(GP, 0, true);
  if ('exit' in value) throw c.ask('msr', 9, { kind: 'msr', isWrite: false, index, reason: value.exit, data: 0n });
  putPair(c, value.lo, value.hi);
};

export const wrmsr: Exec = (c) => {
  c.privileged();
  if (answeredMsr(c) === null) {
    const [index, lo, hi] = [RCX, RAX, RDX].map((n) => c.r32[n]! >>> 0) as [number, number, number];
    const done = c.bus.wrmsr(index, lo, hi);
    if (done === false) throw new Fault(GP, 0, true);
    if (done !== true) {
      const data = (BigInt(hi) << 32n) | BigInt(lo);
      throw c.ask('msr', 9, { kind: 'msr', isWrite: true, index, reason: done.exit, data });
    }
  }
  c.refresh();
  c.endBlock();
};

/** WBINVD and INVD, which KVM makes the same. */
export const wbinvd: Exec = (c) => {
  c.privileged();
  c.bus.wbinvd?.();
};
