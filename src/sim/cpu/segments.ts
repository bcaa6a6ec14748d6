/** Loading segment registers: real mode, and protected mode with the checks of the descriptor tables. */
import type { Core } from './core.ts';
import { Fault, GP, NP, STACK } from './memory.ts';
import { CS, LDT, type Segment, SS, TR, VM } from './state.ts';

/** A descriptor read from a table: the segment it makes, and where it lies. */
export interface Descriptor extends Segment {
  readonly at: number;
  readonly lo: number;
  readonly hi: number;
}

/** The exception for a bad selector: its index and table, with `ext` (1: while delivering an external event). */
export const selectorFault = (vector: number, selector: number, ext = 0): Fault => new Fault(vector, (selector & 0xfffc) | ext);

export const isReal = (c: Core): boolean => !c.protectedMode || (c.fl & VM) !== 0;

/** Reads a descriptor; `vector` (#GP or #TS) if the selector lies beyond its table. */
export function readDescriptor(c: Core, selector: number, vector: number = GP, ext = 0): Descriptor {
  const ldt = c.segments[LDT]!;
  const local = (selector & 4) !== 0;
  const table = local ? ldt : c.gdt;
  if ((selector | 7) > table.limit || (local && ldt.unusable)) throw selectorFault(vector, selector, ext);
  const at = (Number(table.base & 0xffffffffn) + (selector & 0xfff8)) | 0;
  const lo = c.linear32(at);
  const hi = c.linear32((at + 4) | 0);
  const g = (hi >>> 23) & 1;
  const limit = (hi & 0xf0000) | (lo & 0xffff);
  return {
    at,
    lo,
    hi,
    selector,
    base: BigInt(((lo >>> 16) | ((hi & 0xff) << 16) | (hi & 0xff000000)) >>> 0),
    limit: g ? ((limit << 12) | 0xfff) >>> 0 : limit,
    type: (hi >>> 8) & 15,
    s: (hi >>> 12) & 1,
    dpl: (hi >>> 13) & 3,
    present: (hi >>> 15) & 1,
    avl: (hi >>> 20) & 1,
    l: (hi >>> 21) & 1,
    db: (hi >>> 22) & 1,
    g,
    unusable: 0,
  };
}

/** Puts a checked descriptor into the register, setting its accessed bit in memory if it is not set. */
export function commit(c: Core, n: number, d: Descriptor, selector: number): void {
  if (d.s && !(d.type & 1)) {
    d.type |= 1;
    c.linearStore8((d.at + 5) | 0, ((d.hi >>> 8) & 0xff) | 1);
  }
  const { at: _at, lo: _lo, hi: _hi, ...segment } = d;
  c.segments[n] = { ...segment, selector };
  c.refreshSegment(n);
}

/** Real and virtual-8086 mode: base = selector × 16; limit and attributes stay (hence "unreal" mode). */
export function loadReal(c: Core, n: number, selector: number): void {
  const segment = c.segments[n]!;
  segment.selector = selector;
  segment.base = BigInt(selector << 4);
  c.refreshSegment(n);
}

/** MOV/POP/Lxx to ES, SS, DS, FS, GS. */
export function loadSegment(c: Core, n: number, selector: number): void {
  if (isReal(c)) {
    loadReal(c, n, selector);
    return;
  }
  if ((selector & 0xfffc) === 0) {
    if (n === SS) throw new Fault(GP, 0);
    const none = { selector, base: 0n, limit: 0, type: 0, present: 0, dpl: 0, db: 0, s: 0, l: 0, g: 0, avl: 0, unusable: 1 };
    c.segments[n] = none;
    c.refreshSegment(n);
    return;
  }
  const d = readDescriptor(c, selector);
  const rpl = selector & 3;
  const allowed =
    d.s === 1 &&
    (n === SS
      ? rpl === c.cpl && (d.type & 0xa) === 2 && d.dpl === c.cpl
      : (d.type & 0xa) !== 8 && ((d.type & 0xc) === 0xc || (rpl <= d.dpl && c.cpl <= d.dpl)));
  if (!allowed) throw selectorFault(GP, selector);
  if (!d.present) throw selectorFault(n === SS ? STACK : NP, selector);
  commit(c, n, d, selector);
}

/** LLDT and LTR. */
export function loadSystemSegment(c: Core, n: number, selector: number): void {
  if ((selector & 0xfffc) === 0) {
    if (n === TR) throw new Fault(GP, 0);
    c.segments[n] = { ...c.segments[n]!, selector, unusable: 1 };
    return;
  }
  if (selector & 4) throw selectorFault(GP, selector);
  const d = readDescriptor(c, selector);
  const allowed = !d.s && (n === LDT ? d.type === 2 : d.type === 1 || d.type === 9);
  if (!allowed) throw selectorFault(GP, selector);
  if (!d.present) throw selectorFault(NP, selector);
  if (n === TR) {
    d.type |= 2;
    c.linearStore8((d.at + 5) | 0, ((d.hi >>> 8) & 0xff) | 2);
  }
  commit(c, n, d, selector);
}

/** How control reaches a code segment; decides the privilege rule. */
export type Transfer = 'jump' | 'return';

/** Checks a code segment selector of a far transfer in protected mode. Gates and task segments are not modelled yet. */
export function codeDescriptor(c: Core, selector: number, transfer: Transfer): Descriptor {
  if ((selector & 0xfffc) === 0) throw new Fault(GP, 0);
  const d = readDescriptor(c, selector);
  const rpl = selector & 3;
  if (!d.s) {
    const gate = transfer === 'jump' && [1, 3, 4, 5, 9, 11, 12].includes(d.type);
    if (gate) throw c.notModelled(`far transfer through a system descriptor of type ${d.type}`);
    throw selectorFault(GP, selector);
  }
  if (!(d.type & 8)) throw selectorFault(GP, selector);
  const conforming = (d.type & 4) !== 0;
  if (transfer === 'return') {
    if (rpl < c.cpl) throw selectorFault(GP, selector);
    if (conforming ? d.dpl > rpl : d.dpl !== rpl) throw selectorFault(GP, selector);
  } else if (conforming ? d.dpl > c.cpl : rpl > c.cpl || d.dpl !== c.cpl) throw selectorFault(GP, selector);
  if (!d.present) throw selectorFault(NP, selector);
  if (transfer === 'return' && rpl > c.cpl) throw c.notModelled('return to an outer privilege level');
  return d;
}

/** Makes a checked far target current. Real mode passes no descriptor. */
export function enterCode(c: Core, selector: number, offset: number, d: Descriptor | null): void {
  if (d === null) loadReal(c, CS, selector);
  else commit(c, CS, d, (selector & 0xfffc) | c.cpl);
  c.r32[32] = offset;
  c.endBlock();
}

/** The descriptor (null in real mode) and the checked offset of a far target. */
export function farTarget(c: Core, selector: number, offset: number, transfer: Transfer): Descriptor | null {
  const d = isReal(c) ? null : codeDescriptor(c, selector, transfer);
  if (offset > (d === null ? c.codeTop : d.limit)) throw new Fault(GP, 0);
  return d;
}
