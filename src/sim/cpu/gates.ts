/** Delivery through the gates of the interrupt descriptor table: protected and long mode. */
import type { Core } from './core.ts';
import { Fault, GP, NP, STACK, TS } from './fault.ts';
import type { Event } from './interrupts.ts';
import { commit, type Descriptor, enterCode, nullSegment, readDescriptor, selectorFault } from './segments.ts';
import { AC, CANONICAL_LOW, CANONICAL_TOP, CS, IF, IP, NT, RF, RSP, type Segment, SS, TF, TR, VM } from './state.ts';

interface Gate {
  readonly present: boolean;
  readonly type: number;
  readonly dpl: number;
  readonly selector: number;
  readonly offset: number;
  readonly ist: number;
}

const TASK_GATE = 5;
const WIDE_GATES = new Set([14, 15]);
const GATES = new Set([6, 7, 14, 15]);

const signed = (base: bigint): number => Number(BigInt.asIntN(64, base));
const joined = (lo: number, hi: number): number => hi * 0x1_0000_0000 + (lo >>> 0);

/** The entry of a vector; null beyond the table's limit. */
function readGate(c: Core, vector: number): Gate | null {
  const size = c.longMode ? 16 : 8;
  if (vector * size + size - 1 > c.idt.limit) return null;
  const at = signed(c.idt.base) + vector * size;
  const lo = c.linear32(at);
  const hi = c.linear32(at + 4);
  const type = (hi >>> 8) & 31;
  const low = type & 8 || c.longMode ? ((hi & 0xffff0000) | (lo & 0xffff)) >>> 0 : lo & 0xffff;
  return {
    present: hi >>> 15 !== 0 && ((hi >>> 15) & 1) === 1,
    type,
    dpl: (hi >>> 13) & 3,
    selector: lo >>> 16,
    offset: c.longMode ? joined(low, c.linear32(at + 8)) : low,
    ist: c.longMode ? hi & 7 : 0,
  };
}

/** EXT: the fault is not of the instruction's own making. QEMU's processor never says so. */
const external = (c: Core, event: Event): number => Number(!event.soft && !c.qemu);

/** The error code that names a gate; QEMU's processor counts the bytes of long mode's gates instead of their numbers. */
const gateCode = (c: Core, vector: number): number => vector * (c.qemu && c.longMode ? 16 : 8) + 2;

/** Delivers an event as processors do. */
export function deliverThroughGate(c: Core, event: Event): void {
  const ext = external(c, event);
  const code = gateCode(c, event.vector);
  const gate = readGate(c, event.vector);
  if (gate === null) throw new Fault(GP, code + ext);
  if (gate.type === TASK_GATE && !c.longMode) throw c.notModelled('task gate');
  if (!(c.longMode ? WIDE_GATES : GATES).has(gate.type)) throw new Fault(GP, code + ext);
  if (event.soft && gate.dpl < c.cpl) throw new Fault(GP, code);
  if (!gate.present) throw new Fault(NP, code + ext);
  const { selector } = gate;
  if ((selector & 0xfffc) === 0) throw new Fault(GP, ext);
  const d = readDescriptor(c, selector, GP, ext);
  if (!d.s || !(d.type & 8) || d.dpl > c.cpl) throw selectorFault(GP, selector, ext);
  if (!d.present) throw selectorFault(NP, selector, ext);
  const inner = !(d.type & 4) && d.dpl < c.cpl;
  if (c.longMode) {
    if (!d.l || d.db) throw selectorFault(GP, selector, ext);
    enterLong(c, event, gate, d, inner, ext);
  } else enterProtected(c, event, gate, d, inner, ext);
}

const clearFlags = (c: Core, gate: Gate): void => {
  c.fl &= ~(TF | NT | RF | VM | (gate.type & 1 ? 0 : IF));
};

function enterProtected(c: Core, event: Event, gate: Gate, d: Descriptor, inner: boolean, ext: number): void {
  if (gate.offset > d.limit) throw new Fault(GP, ext);
  const frame = [c.flags(), c.segments[CS]!.selector, Number(event.ip & 0xffffffffn)];
  if (event.errorCode >= 0) frame.push(event.errorCode);
  const width = gate.type & 8 ? 4 : 2;
  if (inner) {
    const { selector, sp } = innerStack(c, d.dpl, ext);
    const stack = stackSegment(c, selector, d.dpl, ext);
    frame.unshift(c.segments[SS]!.selector, c.r32[RSP]!);
    onStack(c, stack, selector, sp, () => pushAll(c, frame, width));
  } else pushAll(c, frame, width);
  clearFlags(c, gate);
  enterCode(c, gate.selector, gate.offset, d);
}

/** Stores `values` below the stack pointer, first one highest, then moves it: nothing moves if a store faults. */
export function pushAll(c: Core, values: readonly number[], width: number): void {
  const sp = c.sp;
  values.forEach((value, k) => {
    const at = c.below(sp, (k + 1) * width);
    if (width === 4) c.store32(SS, at, value);
    else c.store16(SS, at, value);
  });
  c.setSp(sp - values.length * width);
}

/** The stack the task state segment has for a privilege level. */
function innerStack(c: Core, level: number, ext: number): { selector: number; sp: number } {
  const tss = c.segments[TR]!;
  const wide = (tss.type & 8) !== 0;
  const index = wide ? 4 + 8 * level : 2 + 4 * level;
  if (index + (wide ? 6 : 4) - 1 > tss.limit) throw selectorFault(TS, tss.selector, ext);
  const at = signed(tss.base) + index;
  const sp = wide ? c.linear32(at) >>> 0 : c.linear16(at);
  return { sp, selector: c.linear16(at + (wide ? 4 : 2)) };
}

function stackSegment(c: Core, selector: number, level: number, ext: number): Descriptor {
  if ((selector & 0xfffc) === 0) throw new Fault(TS, ext);
  const d = readDescriptor(c, selector, TS, ext);
  const fits = d.s === 1 && (d.type & 0xa) === 2 && (selector & 3) === level && d.dpl === level;
  if (!fits) throw selectorFault(TS, selector, ext);
  if (!d.present) throw selectorFault(STACK, selector, ext);
  return d;
}

/** Does something on another stack, which stays the current one unless a fault comes out of it. */
function onStack(c: Core, stack: Descriptor | Segment, selector: number, sp: number, action: () => void): void {
  const before = c.segments[SS]!;
  const rsp = c.reg(RSP);
  try {
    if ('at' in stack) commit(c, SS, stack, selector);
    else {
      c.segments[SS] = stack;
      c.refreshSegment(SS);
    }
    c.setSp(sp);
    action();
  } catch (e) {
    c.segments[SS] = before;
    c.refreshSegment(SS);
    c.setReg(RSP, rsp);
    throw e;
  }
}

/** A stack pointer of the 64-bit task state segment: of a privilege level, or from the interrupt stack table. */
function longStack(c: Core, gate: Gate, level: number, ext: number): number {
  const tss = c.segments[TR]!;
  const index = gate.ist ? 0x1c + 8 * gate.ist : 4 + 8 * level;
  if (index + 7 > tss.limit) throw selectorFault(TS, tss.selector, ext);
  const lo = c.linear64(signed(tss.base) + index);
  return joined(lo, c.hi);
}

/** Outside 64-bit mode the high half of RSP is no part of the stack pointer. */
const ownStack = (c: Core): number => (c.long ? c.wide(RSP) : c.r32[RSP]! >>> 0);

/** The frame has always five words, and lies below an address divisible by 16. Its lowest address. */
function pushLong(c: Core, event: Event, sp: number): number {
  const top = Math.floor(sp / 16) * 16;
  const frame = [
    BigInt(c.segments[SS]!.selector),
    c.long ? c.reg(RSP) : BigInt(ownStack(c)),
    BigInt(c.flags() >>> 0),
    BigInt(c.segments[CS]!.selector),
    event.ip,
  ];
  if (event.errorCode >= 0) frame.push(BigInt(event.errorCode));
  frame.forEach((value, k) => {
    c.linearStore64(top - 8 * (k + 1), Number(value & 0xffffffffn) | 0, Number(value >> 32n) | 0);
  });
  return top - 8 * frame.length;
}

function enterLong(c: Core, event: Event, gate: Gate, d: Descriptor, inner: boolean, ext: number): void {
  const level = inner ? d.dpl : c.cpl;
  const other = inner || gate.ist !== 0;
  const sp = other ? longStack(c, gate, level, ext) : ownStack(c);
  if (sp < CANONICAL_LOW || sp > CANONICAL_TOP) throw new Fault(STACK, ext);
  const bottom = pushLong(c, event, sp);
  // QEMU's processor leaves no SS behind on an interrupt stack either, where the level stays the same.
  if (inner || (other && c.qemu)) {
    c.segments[SS] = nullSegment(level, level);
    c.refreshSegment(SS);
  }
  clearFlags(c, gate);
  enterCode(c, gate.selector, gate.offset, d, level);
  c.setWide(RSP, bottom);
}

/**
 * What KVM's paravirtual backend injects where its emulator runs protected or long mode: gates, code segments and stacks are taken as they
 * are found, of whatever type, privilege and length. A selector beyond its table, an absent gate, a stack that is not RAM ends it.
 */
export function injectThroughGate(c: Core, event: Event): void {
  const code = event.vector * 8 + 2;
  const gate = readGate(c, event.vector);
  if (gate === null) throw new Fault(GP, code);
  if (!gate.present) throw new Fault(NP, code);
  const { selector } = gate;
  if ((selector & 0xfffc) === 0) throw new Fault(GP, 0);
  const d = readDescriptor(c, selector);
  const inner = d.dpl < c.cpl;
  const flags = (): void => {
    c.fl &= ~(TF | NT | RF | VM | AC | (gate.type & 1 ? 0 : IF));
  };
  if (c.longMode) {
    const level = inner ? d.dpl : c.cpl;
    const sp = inner || gate.ist ? longStack(c, gate, level, 0) : ownStack(c);
    const bottom = pushLong(c, event, sp);
    if (inner) {
      c.segments[SS] = { ...nullSegment(0, level), unusable: 0 };
      c.refreshSegment(SS);
    }
    flags();
    take(c, d, selector, gate.offset);
    c.setWide(RSP, bottom);
    return;
  }
  const frame = [c.flags(), c.segments[CS]!.selector, Number(event.ip & 0xffffffffn)];
  if (event.errorCode >= 0) frame.push(event.errorCode);
  if (inner) {
    const { selector: other, sp } = innerStackOf(c, d.dpl);
    if ((other & 0xfffc) === 0) throw new Fault(TS, 0);
    const stack = readDescriptor(c, other);
    frame.unshift(c.segments[SS]!.selector, c.r32[RSP]!);
    const { at: _at, lo: _lo, hi: _hi, ...segment } = stack;
    onStack(c, { ...segment, selector: other, unusable: Number(!stack.present) }, other, sp, () => pushLinear(c, frame));
  } else pushLinear(c, frame);
  flags();
  take(c, d, selector, gate.offset & -1);
}

/** The task state segment's limit does not matter to it. */
function innerStackOf(c: Core, level: number): { selector: number; sp: number } {
  const at = signed(c.segments[TR]!.base) + 4 + 8 * level;
  return { sp: c.linear32(at) >>> 0, selector: c.linear16(at + 4) };
}

function pushLinear(c: Core, values: readonly number[]): void {
  const sp = c.sp;
  values.forEach((value, k) => {
    c.linearStore32(c.segBase[SS]! + c.below(sp, (k + 1) * 4), value);
  });
  c.setSp(sp - values.length * 4);
}

/** CS as the descriptor says, selector and all. */
function take(c: Core, d: Descriptor, selector: number, offset: number): void {
  const { at: _at, lo: _lo, hi: _hi, ...segment } = d;
  c.segments[CS] = { ...segment, selector, unusable: Number(!d.present) };
  c.refreshSegment(CS);
  // The emulator fetches nothing from a segment that is not present.
  if (!d.present) c.codeTop = -1;
  c.r32[IP] = offset;
  c.r32[IP + 16] = c.long ? Math.floor(offset / 0x1_0000_0000) : 0;
  c.endBlock();
}
