/** Control transfer. */
import { KVM_GUESTDBG_USE_SW_BP } from '../../../uapi/kvm.ts';
import type { Core } from '../core.ts';
import { linearRip } from '../debug.ts';
import { ABANDON, BP, Fault, GP, STOP_EXIT, UD } from '../fault.ts';
import type { Exec, Insn } from '../insn.ts';
import * as interrupts from '../interrupts.ts';
import { enterCode, farReturn, farTarget } from '../segments.ts';
import { CS, IP, IP_HI, OF, RCX } from '../state.ts';
import { count as countOf, takeCount } from './move.ts';

const relative = (c: Core, i: Insn): number => c.r32[IP]! + i.imm;

export const jcc: Exec = (c, i) => {
  if (c.condition(i.low)) c.jump(relative(c, i), i.osize);
};
export const jmp: Exec = (c, i) => c.jump(relative(c, i), i.osize);
export const jmpIndirect: Exec = (c, i) => c.jump(c.readA(i), i.osize);

// In 64-bit mode.

export const jcc64: Exec = (c, i) => {
  if (c.condition(i.low)) c.jumpLong(i.imm);
};
export const jmp64: Exec = (c, i) => c.jumpLong(i.imm);

/** To an address of two halves, the high one in `hi`; #GP(0) unless it is canonical. */
const jumpTo = (c: Core, lo: number): void => {
  if (c.hi < -0x8000 || c.hi > 0x7fff) throw new Fault(GP, 0);
  c.r32[IP] = lo;
  c.r32[IP_HI] = c.hi;
};

export const jmpIndirect64: Exec = (c, i) => jumpTo(c, c.readA(i));

const pushing =
  (jump: Exec): Exec =>
  (c, i) => {
    const lo = c.r32[IP]!;
    const hi = c.r32[IP_HI]!;
    jump(c, i);
    c.hi = hi;
    c.push(lo, 8);
  };

export const call64: Exec = pushing(jmp64);
export const callIndirect64: Exec = pushing(jmpIndirect64);

export const ret64: Exec = (c, i) => {
  jumpTo(c, c.top(0, 8));
  c.drop(8 + i.imm);
};

export const call: Exec = (c, i) => {
  const target = c.near(relative(c, i), i.osize);
  c.push(c.r32[IP]!, i.osize);
  c.r32[IP] = target;
};
export const callIndirect: Exec = (c, i) => {
  const target = c.near(c.readA(i), i.osize);
  c.push(c.r32[IP]!, i.osize);
  c.r32[IP] = target;
};

export const ret: Exec = (c, i) => {
  const target = c.near(c.top(0, i.osize), i.osize);
  c.drop(i.osize + i.imm);
  c.r32[IP] = target;
};

const far = (c: Core, i: Insn, selector: number, offset: number, isCall: boolean): void => {
  const w = i.osize;
  const d = farTarget(c, selector, offset, 'jump');
  if (isCall) {
    const sp = c.sp;
    c.storeStack(c.below(sp, w), w, c.segments[CS]!.selector, 0);
    c.storeStack(c.below(sp, 2 * w), w, c.r32[IP]!, c.r32[IP_HI]!);
    c.setSp(c.below(sp, 2 * w));
  }
  enterCode(c, selector, offset, d);
};

/** A far pointer in memory: offset, then selector. */
export const farPointer = (c: Core, i: Insn): [selector: number, offset: number] => {
  const at = c.ea(i);
  const offset = i.osize === 2 ? c.load16(i.seg, at) : i.osize === 4 ? c.load32(i.seg, at) >>> 0 : wideAt(c, i.seg, at);
  return [c.load16(i.seg, c.moved(i, at, i.osize)), offset];
};

const wideAt = (c: Core, segment: number, at: number): number => {
  const lo = c.load64(segment, at) >>> 0;
  return c.hi * 0x1_0000_0000 + lo;
};

export const jmpFar: Exec = (c, i) => far(c, i, i.imm2, i.imm >>> 0, false);
export const callFar: Exec = (c, i) => far(c, i, i.imm2, i.imm >>> 0, true);
export const jmpFarIndirect: Exec = (c, i) => far(c, i, ...farPointer(c, i), false);
export const callFarIndirect: Exec = (c, i) => far(c, i, ...farPointer(c, i), true);

export const retf: Exec = (c, i) => {
  const w = i.osize;
  const lo = c.top(0, w) >>> 0;
  const offset = w === 8 ? c.hi * 0x1_0000_0000 + lo : lo;
  const selector = c.top(w, w) & 0xffff;
  farReturn(c, w, selector, offset, 2 * w + i.imm, i.imm);
};

const count = (c: Core, i: Insn): number => (i.asize === 2 ? c.r16[RCX * 2]! : c.r32[RCX]!);

const loopIf =
  (met: (c: Core) => boolean): Exec =>
  (c, i) => {
    const left = (count(c, i) - 1) & i.mask;
    const target = left !== 0 && met(c) ? c.near(relative(c, i), i.osize) : c.r32[IP]!;
    c.putReg(RCX, i.asize, left);
    c.r32[IP] = target;
  };

const always = (): boolean => true;
const equal = (c: Core): boolean => c.fz === 0;
const unequal = (c: Core): boolean => c.fz !== 0;

export const loop: Exec = loopIf(always);
export const loope: Exec = loopIf(equal);
export const loopne: Exec = loopIf(unequal);

export const jcxz: Exec = (c, i) => {
  if (count(c, i) === 0) c.jump(relative(c, i), i.osize);
};

const loopIf64 =
  (met: (c: Core) => boolean): Exec =>
  (c, i) => {
    const left = countOf(c, i);
    if (left !== 1 && met(c)) c.jumpLong(i.imm);
    takeCount(c, i, 1);
  };

export const loop64: Exec = loopIf64(always);
export const loope64: Exec = loopIf64(equal);
export const loopne64: Exec = loopIf64(unequal);

export const jcxz64: Exec = (c, i) => {
  if (countOf(c, i) === 0) c.jumpLong(i.imm);
};

export const int: Exec = (c, i) => interrupts.softwareInterrupt(c, i.imm & 0xff);

/** With KVM_GUESTDBG_USE_SW_BP hardware intercepts #BP: an exit of the host's, RIP on the INT3. The emulator and QEMU's processor do not. */
export const int3: Exec = (c) => {
  if (!c.emulated && !c.qemu && c.guestDebug.control & KVM_GUESTDBG_USE_SW_BP) {
    c.rewind();
    c.outcome = { kind: 'debug', exception: BP, pc: linearRip(c) };
    c.stop |= STOP_EXIT;
    throw ABANDON;
  }
  interrupts.softwareInterrupt(c, BP);
};

export const into: Exec = (c) => {
  if (c.arith() & OF) interrupts.softwareInterrupt(c, 4);
};
export const iret: Exec = (c, i) => interrupts.iret(c, i);
/** INT1: #DB, whatever DR7 says. KVM's emulator does not have it. */
export const icebp: Exec = (c) => {
  if (c.emulated) throw c.emulationFailure();
  // QEMU's processor intercepts it for KVM, which does not expect that.
  if (c.qemu) throw new Fault(UD);
  throw c.notModelled('instruction icebp');
};
