/** Delivery of exceptions and interrupts, and IRET. */
import type { Core } from './core.ts';
import { DOUBLE_FAULT, Fault, GP, PAGE_FAULT } from './fault.ts';
import { deliverThroughGate, injectThroughGate, pushAll } from './gates.ts';
import type { Insn } from './insn.ts';
import { changeableFlags } from './ops/move.ts';
import { checkTarget, codeDescriptor, enterCode, enterStack, farTarget, isReal, outerStack } from './segments.ts';
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
  readonly ip: bigint;
  /** An interrupt or NMI: what its delivery raises stands for itself. */
  readonly benign?: boolean;
}

const CONTRIBUTORY = new Set([0, 10, 11, 12, 13]);

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
  if (c.qemu) {
    // QEMU's processor has 64-bit addresses here too.
    pushPhysical(c, event, (k) => c.below(sp, 2 * k));
    c.setSp(sp - 6);
    enterReal(c, before);
    return;
  }
  pushAll(c, [c.flags(), c.segments[CS]!.selector, Number(event.ip & 0xffffn)], 2);
  // SP moves with the whole delivery.
  c.setSp(sp);
  const pointer = c.emulated ? realVector(c, event) : before;
  c.setSp(sp - 6);
  enterReal(c, pointer);
}

/** No guest-physical address is as high as this. */
const NO_RAM = 1n << 52n;

/**
 * What KVM injects where it emulates real mode: the vector is read first, the words go to SS.base + SP (16 bits), all 64 bits of the sum, and neither
 * the limits nor the types of IDT and SS matter. What is not RAM is a triple fault; bytes before it are written.
 */
function injectReal(c: Core, event: Event): void {
  const pointer = realVector(c, event);
  const sp = c.r32[RSP]! & 0xffff;
  pushPhysical(c, event, (k) => (sp - 2 * k) & 0xffff);
  c.r32[RSP] = (sp - 6) & 0xffff;
  enterReal(c, pointer);
}

/** FLAGS, CS and IP at SS.base + `below(k)`, k from 1 to 3. */
function pushPhysical(c: Core, event: Event, below: (k: number) => number): void {
  const frame = [c.flags(), c.segments[CS]!.selector, Number(event.ip & 0xffffn)];
  for (const [at, word] of frame.entries()) {
    const sp = below(at + 1);
    const gpa = BigInt.asUintN(64, c.segments[SS]!.base + BigInt(sp));
    if (gpa < NO_RAM && c.physicalStore16(Number(gpa), word)) continue;
    c.stores.length = 0;
    throw TRIPLE_FAULT;
  }
}

const realVector = (c: Core, { vector }: Event): number => c.linear32((Number(c.idt.base & 0xffffffffn) + vector * 4) | 0);

function enterReal(c: Core, pointer: number): void {
  c.fl &= ~(IF | TF | AC | RF);
  enterCode(c, pointer >>> 16, pointer & 0xffff, null);
  c.r32[IP_HI] = 0;
}

/** Delivers one event; faults on the way escape. */
function deliverOnce(c: Core, event: Event): void {
  c.vectoring = !c.emulated;
  try {
    if (isReal(c)) deliverReal(c, event);
    else if (c.emulated && !event.soft) injectThroughGate(c, event);
    else deliverThroughGate(c, event);
  } finally {
    c.vectoring = false;
  }
}

/** A contributory exception on top of a contributory one, or any of these or a page fault on top of a page fault. */
const isDouble = (first: number, second: number): boolean =>
  (CONTRIBUTORY.has(first) && CONTRIBUTORY.has(second)) ||
  (first === PAGE_FAULT && (second === PAGE_FAULT || CONTRIBUTORY.has(second)));

/**
 * Delivers an event, and the exceptions its delivery raises. Two that make a double fault become #DF, anything on top of #DF a triple fault. Two
 * peculiarities: KVM's paravirtual backend makes #DF of whatever goes wrong with an exception; QEMU's processor counts as first one of two only
 * a page fault, or what delivery has raised before.
 */
export function deliver(c: Core, event: Event): void {
  let current = event;
  for (let step = 0; ; step++) {
    const { cr2 } = c;
    try {
      deliverOnce(c, current);
      return;
    } catch (e) {
      if (!(e instanceof Fault)) throw e;
      const injected = c.emulated && !isReal(c);
      const benign = current.soft || current.benign === true;
      const forgotten = c.qemu && step === 0 && current.vector !== PAGE_FAULT;
      if (current.vector === DOUBLE_FAULT && (injected || !(benign || forgotten))) throw TRIPLE_FAULT;
      const double = injected ? current.vector < 32 : !benign && !forgotten && isDouble(current.vector, e.vector);
      // What a software interrupt's own delivery raises is a fault of that instruction.
      const ip = current.soft ? c.rip0 : current.ip;
      if (injected && double) c.cr2 = cr2;
      current = double ? { vector: DOUBLE_FAULT, errorCode: 0, soft: false, ip } : { ...e, soft: false, ip };
    }
  }
}

/** INT n, INT3, INTO. Faults of the delivery are those of the instruction. KVM's emulator has them in real mode only. */
export function softwareInterrupt(c: Core, vector: number): void {
  if (c.emulated && !isReal(c)) throw c.emulationFailure();
  c.fl &= ~RF;
  try {
    deliverOnce(c, { vector, errorCode: -1, soft: true, ip: c.rip });
  } catch (e) {
    // QEMU's processor has moved on by then.
    if (c.qemu && e instanceof Fault) {
      c.ip0 = c.r32[IP]!;
      c.ip0High = c.r32[IP_HI]!;
    }
    throw e;
  }
}

/** RFLAGS bits IRET may change at this level, besides those of POPF. */
const returnedFlags = (c: Core, width: number): number => changeableFlags(c, width) | (width === 2 ? 0 : RF);

export function iret(c: Core, i: Insn): void {
  if (isReal(c)) iretReal(c, i);
  else if (c.emulated && !c.longMode) throw c.emulationFailure();
  else iretProtected(c, i);
  c.keepRf = true;
  c.returned();
}

function iretReal(c: Core, i: Insn): void {
  const w = i.osize;
  if (c.fl & VM) throw c.notModelled('IRET in virtual-8086 mode');
  const offset = c.top(0, w) >>> 0;
  const selector = c.top(w, w) & 0xffff;
  const flags = c.top(2 * w, w);
  farTarget(c, selector, offset, 'return');
  const mask = returnedFlags(c, w);
  c.drop(3 * w);
  enterCode(c, selector, offset, null);
  c.setFlags((c.flags() & ~mask) | (flags & mask));
}

/** A fault of IRET opens the way for NMIs too. */
function iretProtected(c: Core, i: Insn): void {
  const w = i.osize;
  c.returned();
  if (c.fl & NT) {
    if (c.longMode) throw new Fault(GP, 0);
    throw c.notModelled('IRET from a nested task');
  }
  const offset = pointer(c, 0, w);
  const selector = c.top(w, w) & 0xffff;
  const flags = c.top(2 * w, w);
  if (!c.longMode && w === 4 && flags & VM && c.cpl === 0) throw c.notModelled('IRET to virtual-8086 mode');
  const d = codeDescriptor(c, selector, 'return');
  // QEMU's processor finds out that RIP is not canonical when it fetches from there.
  if (!(c.qemu && d.l) && !(c.emulated && d.l)) checkTarget(c, d, offset);
  const level = selector & 3;
  const mask = returnedFlags(c, w);
  // 64-bit code gives back a stack in any case.
  if (c.long || level !== c.cpl) {
    const sp = pointer(c, 3 * w, w);
    const stack = c.top(4 * w, w) & 0xffff;
    const outer = outerStack(c, stack, d, level);
    enterCode(c, selector, offset, d, level);
    enterStack(c, stack, outer, level, sp);
  } else {
    c.drop(3 * w);
    enterCode(c, selector, offset, d);
  }
  c.setFlags((c.flags() & ~mask) | (flags & mask));
}

/** An offset on the stack: unsigned, or signed where it has 64 bits. */
function pointer(c: Core, depth: number, width: number): number {
  const low = c.top(depth, width);
  return width === 8 ? c.hi * 0x1_0000_0000 + (low >>> 0) : low >>> 0;
}
