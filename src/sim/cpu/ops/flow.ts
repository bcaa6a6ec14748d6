/** Control transfer. */
import type { Core } from '../core.ts';
import type { Exec, Insn } from '../insn.ts';
import * as interrupts from '../interrupts.ts';
import { enterCode, farTarget } from '../segments.ts';
import { CS, IP, OF, RCX, SS } from '../state.ts';

const relative = (c: Core, i: Insn): number => c.r32[IP]! + i.imm;

export const jcc: Exec = (c, i) => {
  if (c.condition(i.low)) c.jump(relative(c, i), i.osize);
};
export const jmp: Exec = (c, i) => c.jump(relative(c, i), i.osize);
export const jmpIndirect: Exec = (c, i) => c.jump(c.readA(i), i.osize);

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
    const put = w === 2 ? c.store16 : c.store32;
    put.call(c, SS, c.below(sp, w), c.segments[CS]!.selector);
    put.call(c, SS, c.below(sp, 2 * w), c.r32[IP]!);
    c.setSp(sp - 2 * w);
  }
  enterCode(c, selector, offset, d);
};

/** A far pointer in memory: offset, then selector. */
export const farPointer = (c: Core, i: Insn): [selector: number, offset: number] => {
  const at = c.ea(i);
  const offset = i.osize === 2 ? c.load16(i.seg, at) : c.load32(i.seg, at) >>> 0;
  return [c.load16(i.seg, ((at + i.osize) & i.mask) >>> 0), offset];
};

export const jmpFar: Exec = (c, i) => far(c, i, i.imm2, i.imm >>> 0, false);
export const callFar: Exec = (c, i) => far(c, i, i.imm2, i.imm >>> 0, true);
export const jmpFarIndirect: Exec = (c, i) => far(c, i, ...farPointer(c, i), false);
export const callFarIndirect: Exec = (c, i) => far(c, i, ...farPointer(c, i), true);

export const retf: Exec = (c, i) => {
  const w = i.osize;
  const offset = c.top(0, w) >>> 0;
  const selector = c.top(w, w) & 0xffff;
  const d = farTarget(c, selector, offset, 'return');
  c.drop(2 * w + i.imm);
  enterCode(c, selector, offset, d);
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

export const loop: Exec = loopIf(() => true);
export const loope: Exec = loopIf((c) => c.fz === 0);
export const loopne: Exec = loopIf((c) => c.fz !== 0);

export const jcxz: Exec = (c, i) => {
  if (count(c, i) === 0) c.jump(relative(c, i), i.osize);
};

export const int: Exec = (c, i) => interrupts.softwareInterrupt(c, i.imm & 0xff);
export const int3: Exec = (c) => interrupts.softwareInterrupt(c, 3);
export const into: Exec = (c) => {
  if (c.arith() & OF) interrupts.softwareInterrupt(c, 4);
};
export const iret: Exec = (c, i) => interrupts.iret(c, i);
