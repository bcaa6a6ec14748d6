/** Delivery of exceptions and interrupts, and IRET. */
import type { Core } from './core.ts';
import type { Insn } from './insn.ts';
import { DOUBLE_FAULT, Fault, GP, NP } from './memory.ts';
import { changeableFlags } from './ops/move.ts';
import { codeDescriptor, type Descriptor, enterCode, farTarget, isReal, readDescriptor, selectorFault } from './segments.ts';
import { AC, CS, IF, IP, IP_HI, NT, RF, RSP, SS, TF, VM } from './state.ts';

/** Thrown when the machine has no way left to report a fault. */
export const TRIPLE_FAULT: unique symbol = Symbol('triple fault');

export interface Event {
  readonly vector: number;
  /** −1: none. */
  readonly errorCode: number;
  /** INT n, INT3, INTO: gate privilege is checked and the EXT bit stays clear. */
  readonly soft: boolean;
  /** The instruction pointer to push. */
  readonly ip: number;
}

const ERROR_CODE_VECTORS = new Set([8, 10, 11, 12, 13, 14, 17]);
const CONTRIBUTORY = new Set([0, 10, 11, 12, 13]);

/** Stores `values` below the stack pointer, first one highest, then moves it: nothing moves if a store faults. */
function pushAll(c: Core, values: readonly number[], width: number): void {
  const sp = c.sp;
  values.forEach((value, k) => {
    const at = c.below(sp, (k + 1) * width);
    if (width === 4) c.store32(SS, at, value);
    else c.store16(SS, at, value);
  });
  c.setSp(sp - values.length * width);
}

/** Real mode: FLAGS, CS, IP; the vector's far pointer from the table at IDTR, which KVM's emulator reads after it has pushed. No error code. */
function deliverReal(c: Core, event: Event): void {
  if (c.emulated && !event.soft) {
    injectReal(c, event);
    return;
  }
  const at = event.vector * 4;
  if (!c.emulated && at + 3 > c.idt.limit) throw new Fault(GP, at * 2 + 2);
  const before = c.emulated ? 0 : realVector(c, event);
  const sp = c.sp;
  pushAll(c, [c.flags(), c.segments[CS]!.selector, event.ip], 2);
  // SP moves with the whole delivery.
  c.setSp(sp);
  const pointer = c.emulated ? realVector(c, event) : before;
  c.setSp(sp - 6);
  enterReal(c, pointer);
}

/**
 * What KVM injects where it emulates real mode: the vector is read first, the words go to SS.base + SP (16 bits), and neither the limits nor
 * the types of IDT and SS matter. What is not RAM is a triple fault; bytes before it are written.
 */
function injectReal(c: Core, event: Event): void {
  const pointer = realVector(c, event);
  let sp = c.r32[RSP]! & 0xffff;
  for (const word of [c.flags(), c.segments[CS]!.selector, event.ip]) {
    sp = (sp - 2) & 0xffff;
    if (c.linearStore16((sp + c.segBase[SS]!) | 0, word)) continue;
    c.stores.length = 0;
    throw TRIPLE_FAULT;
  }
  c.r32[RSP] = sp;
  enterReal(c, pointer);
}

const realVector = (c: Core, { vector }: Event): number => c.linear32((Number(c.idt.base & 0xffffffffn) + vector * 4) | 0);

function enterReal(c: Core, pointer: number): void {
  c.fl &= ~(IF | TF | AC | RF);
  enterCode(c, pointer >>> 16, pointer & 0xffff, null);
  c.r32[IP_HI] = 0;
}

function deliverProtected(c: Core, event: Event): void {
  const ext = event.soft ? 0 : 1;
  const gateCode = event.vector * 8 + 2;
  if (event.vector * 8 + 7 > c.idt.limit) throw new Fault(GP, gateCode + ext);
  const at = (Number(c.idt.base & 0xffffffffn) + event.vector * 8) | 0;
  const lo = c.linear32(at);
  const hi = c.linear32((at + 4) | 0);
  const type = (hi >>> 8) & 31;
  const selector = lo >>> 16;
  if (type === 5) throw c.notModelled('task gate');
  if (![6, 7, 14, 15].includes(type)) throw new Fault(GP, gateCode + ext);
  if (event.soft && ((hi >>> 13) & 3) < c.cpl) throw new Fault(GP, gateCode);
  if (!((hi >>> 15) & 1)) throw new Fault(NP, gateCode + ext);
  const width = type & 8 ? 4 : 2;
  const offset = width === 4 ? ((hi & 0xffff0000) | (lo & 0xffff)) >>> 0 : lo & 0xffff;
  if ((selector & 0xfffc) === 0) throw new Fault(GP, ext);
  const d = readDescriptor(c, selector, GP, ext);
  if (!d.s || !(d.type & 8) || d.dpl > c.cpl) throw selectorFault(GP, selector, ext);
  if (!d.present) throw selectorFault(NP, selector, ext);
  if (!(d.type & 4) && d.dpl < c.cpl) throw c.notModelled('interrupt to an inner privilege level');
  if (offset > d.limit) throw new Fault(GP, ext);
  // A fault is restartable: its saved flags carry RF, so that a breakpoint on it does not hit again.
  const resume = !event.soft && ERROR_CODE_VECTORS.has(event.vector) ? RF : 0;
  const values = [c.flags() | resume, c.segments[CS]!.selector, event.ip];
  if (event.errorCode >= 0) values.push(event.errorCode);
  pushAll(c, values, width);
  c.fl &= ~(TF | NT | RF | VM | (type & 1 ? 0 : IF));
  enterCode(c, selector, offset, d);
}

/** Delivers one event; faults on the way escape. */
export function deliverOnce(c: Core, event: Event): void {
  c.vectoring = !c.emulated;
  try {
    if (isReal(c)) deliverReal(c, event);
    else deliverProtected(c, event);
  } finally {
    c.vectoring = false;
  }
}

/**
 * Delivers an exception, and the exceptions its delivery raises: a contributory one on top of a contributory one (or any of these or
 * a page fault on top of a page fault) becomes #DF, anything on top of #DF a triple fault.
 */
export function deliver(c: Core, event: Event): void {
  let current = event;
  for (;;) {
    try {
      deliverOnce(c, current);
      return;
    } catch (e) {
      if (!(e instanceof Fault)) throw e;
      if (current.vector === DOUBLE_FAULT && !current.soft) throw TRIPLE_FAULT;
      const first = current.soft ? -1 : current.vector;
      const double =
        (CONTRIBUTORY.has(first) && CONTRIBUTORY.has(e.vector)) ||
        (first === 14 && (e.vector === 14 || CONTRIBUTORY.has(e.vector)));
      // What a software interrupt's own delivery raises is a fault of that instruction.
      const ip = current.soft ? c.ip0 : current.ip;
      current = double ? { vector: DOUBLE_FAULT, errorCode: 0, soft: false, ip } : { ...e, soft: false, ip };
    }
  }
}

/** INT n, INT3, INTO. Faults of the delivery are those of the instruction. KVM's emulator has them in real mode only. */
export function softwareInterrupt(c: Core, vector: number): void {
  if (c.emulated && !isReal(c)) throw c.emulationFailure();
  deliverOnce(c, { vector, errorCode: -1, soft: true, ip: c.r32[IP]! });
}

export function iret(c: Core, i: Insn): void {
  const w = i.osize;
  const real = isReal(c);
  if (real && c.fl & VM) throw c.notModelled('IRET in virtual-8086 mode');
  if (!real && c.fl & NT) throw c.notModelled('IRET from a nested task');
  const ip = c.top(0, w);
  const selector = c.top(w, w) & 0xffff;
  const flags = c.top(2 * w, w);
  if (!real && w === 4 && flags & VM && c.cpl === 0) throw c.notModelled('IRET to virtual-8086 mode');
  let d: Descriptor | null = null;
  const offset = ip >>> 0;
  if (real) farTarget(c, selector, offset, 'return');
  else {
    d = codeDescriptor(c, selector, 'return');
    if (offset > d.limit) throw new Fault(GP, 0);
  }
  const mask = changeableFlags(c, w) | (w === 4 ? RF : 0);
  c.drop(3 * w);
  enterCode(c, selector, offset, d);
  c.setFlags((c.flags() & ~mask) | (flags & mask));
  c.keepRf = true;
  c.returned();
}
