/** Loading segment registers and far transfers: real mode, and protected and long mode with the checks of the descriptor tables. */
import type { Core } from './core.ts';
import { Fault, GP, NP, STACK } from './fault.ts';
import { CANONICAL_LOW, CANONICAL_TOP, CS, DS, ES, FS, GS, IP, IP_HI, LDT, type Segment, SS, TR, VM } from './state.ts';

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
  const at = Number(BigInt.asIntN(64, table.base)) + (selector & 0xfff8);
  const lo = c.linear32(at);
  const hi = c.linear32(at + 4);
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
    c.linearStore8(d.at + 5, ((d.hi >>> 8) & 0xff) | 1);
  }
  const { at: _at, lo: _lo, hi: _hi, ...segment } = d;
  c.segments[n] = { ...segment, selector };
  c.refreshSegment(n);
}

/** Real and virtual-8086 mode: base = selector × 16; limit and attributes stay (hence "unreal" mode). */
function loadReal(c: Core, n: number, selector: number): void {
  const segment = c.segments[n]!;
  segment.selector = selector;
  segment.base = BigInt(selector << 4);
  c.refreshSegment(n);
}

/** What a null selector leaves. `dpl` matters of SS alone, which says CPL. */
export const nullSegment = (selector: number, dpl = 0): Segment => ({
  selector,
  base: 0n,
  limit: 0,
  type: 0,
  present: 0,
  dpl,
  db: 0,
  s: 0,
  l: 0,
  g: 0,
  avl: 0,
  unusable: 1,
});

/** KVM's emulator makes up a stack segment. */
const EMULATED_NULL_SS = { limit: 0xfff, type: 3, present: 1, s: 1, db: 1, g: 1, unusable: 0 } as const;

/** MOV/POP/Lxx to ES, SS, DS, FS, GS. */
export function loadSegment(c: Core, n: number, selector: number): void {
  if (isReal(c)) {
    loadReal(c, n, selector);
    return;
  }
  if ((selector & 0xfffc) === 0) {
    // 64-bit mode has a use for none in SS, but not at level 3.
    if (n === SS && !(c.long && c.cpl < 3 && (selector & 3) === c.cpl)) throw new Fault(GP, 0);
    c.segments[n] =
      n === SS && c.emulated
        ? { ...nullSegment(selector, c.cpl), ...EMULATED_NULL_SS }
        : nullSegment(selector, n === SS ? c.cpl : 0);
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

/** In long mode descriptors of tables and tasks have 16 bytes, for a base of 64 bits. */
function widen(c: Core, d: Descriptor, selector: number): void {
  if ((selector | 15) > c.gdt.limit) throw selectorFault(GP, selector);
  const high = c.linear32(d.at + 8);
  if ((c.linear32(d.at + 12) >>> 8) & 31) throw selectorFault(GP, selector);
  d.base |= BigInt(high >>> 0) << 32n;
  if (!canonical(Number(BigInt.asIntN(64, d.base)))) throw selectorFault(GP, selector);
}

const canonical = (address: number): boolean => address >= CANONICAL_LOW && address <= CANONICAL_TOP;

/** LLDT and LTR. */
export function loadSystemSegment(c: Core, n: number, selector: number): void {
  if ((selector & 0xfffc) === 0) {
    if (n === TR) throw new Fault(GP, 0);
    c.segments[n] = { ...c.segments[n]!, selector, unusable: 1 };
    return;
  }
  if (selector & 4) throw selectorFault(GP, selector);
  const d = readDescriptor(c, selector);
  const allowed = !d.s && (n === LDT ? d.type === 2 : d.type === 9 || (d.type === 1 && !c.longMode));
  if (!allowed) throw selectorFault(GP, selector);
  if (!d.present) throw selectorFault(NP, selector);
  if (c.longMode) widen(c, d, selector);
  if (n === TR) {
    d.type |= 2;
    c.linearStore8(d.at + 5, ((d.hi >>> 8) & 0xff) | 2);
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
    const gates = c.longMode ? [12] : [1, 3, 4, 5, 9, 11, 12];
    if (transfer === 'jump' && gates.includes(d.type)) {
      throw c.notModelled(`far transfer through a system descriptor of type ${d.type}`);
    }
    throw selectorFault(GP, selector);
  }
  if (!(d.type & 8)) throw selectorFault(GP, selector);
  const conforming = (d.type & 4) !== 0;
  if (transfer === 'return') {
    if (rpl < c.cpl) throw selectorFault(GP, selector);
    if (conforming ? d.dpl > rpl : d.dpl !== rpl) throw selectorFault(GP, selector);
  } else if (conforming ? d.dpl > c.cpl : rpl > c.cpl || d.dpl !== c.cpl) throw selectorFault(GP, selector);
  if (c.longMode && d.l && d.db) throw selectorFault(GP, selector);
  if (!d.present) throw selectorFault(NP, selector);
  return d;
}

/** #GP(0) unless the offset lies in the code segment, or is canonical where that is a 64-bit one. */
export function checkTarget(c: Core, d: Descriptor, offset: number): void {
  const within = c.longMode && d.l ? canonical(offset) : offset >= 0 && offset <= d.limit;
  if (!within) throw new Fault(GP, 0);
}

/** Makes a checked far target current. Real mode passes no descriptor. `cpl`: the level it will run at. */
export function enterCode(c: Core, selector: number, offset: number, d: Descriptor | null, cpl: number = c.cpl): void {
  if (d === null) loadReal(c, CS, selector);
  else commit(c, CS, d, (selector & 0xfffc) | cpl);
  c.r32[IP] = offset;
  if (c.longMode) c.r32[IP_HI] = Math.floor(offset / 0x1_0000_0000);
  c.endBlock();
}

/** The descriptor (null in real mode) and the checked offset of a far target. */
export function farTarget(c: Core, selector: number, offset: number, transfer: Transfer): Descriptor | null {
  if (isReal(c)) {
    if (offset > c.codeTop) throw new Fault(GP, 0);
    return null;
  }
  const d = codeDescriptor(c, selector, transfer);
  checkTarget(c, d, offset);
  return d;
}

/** The stack segment an outer level returns to, checked against the level: null for none, which 64-bit code below level 3 may have. */
export function outerStack(c: Core, selector: number, code: Descriptor, level: number): Descriptor | null {
  if ((selector & 0xfffc) === 0) {
    if (c.longMode && code.l && level < 3 && (selector & 3) === level) return null;
    throw new Fault(GP, 0);
  }
  const d = readDescriptor(c, selector);
  const fits = d.s === 1 && (d.type & 0xa) === 2 && (selector & 3) === level && d.dpl === level;
  if (!fits) throw selectorFault(GP, selector);
  if (!d.present) throw selectorFault(STACK, selector);
  return d;
}

/** SS and RSP of an outer level; data segments the new level may not use become null ones. CS has to be loaded already. */
export function enterStack(c: Core, selector: number, d: Descriptor | null, level: number, sp: number): void {
  if (d === null) {
    c.segments[SS] = c.qemu ? { ...flatStack, selector, dpl: level } : nullSegment(selector, level);
    c.refreshSegment(SS);
  } else commit(c, SS, d, selector);
  c.setSp(sp);
  // KVM's paravirtual backend leaves them as they are.
  if (c.emulated) return;
  for (const n of [ES, DS, FS, GS]) {
    const segment = c.segments[n]!;
    const open = (segment.type & 0xc) === 0xc && segment.s === 1;
    if (segment.dpl >= level || open) continue;
    c.segments[n] = c.qemu ? { ...segment, selector: 0, present: 0, unusable: 1 } : nullSegment(0);
    c.refreshSegment(n);
  }
}

/** What QEMU's processor makes of a null selector in SS that IRET may load. */
const flatStack: Segment = {
  selector: 0,
  base: 0n,
  limit: 0xffffffff,
  type: 3,
  present: 1,
  dpl: 0,
  db: 1,
  s: 1,
  l: 0,
  g: 1,
  avl: 0,
  unusable: 0,
};

/** RETF: `width` bytes an element, `pop` bytes in all with `parameters` among them, which an outer stack gives up too. */
export function farReturn(c: Core, width: number, selector: number, offset: number, pop: number, parameters: number): void {
  const d = farTarget(c, selector, offset, 'return');
  const level = selector & 3;
  if (d === null || level === c.cpl) {
    c.drop(pop);
    enterCode(c, selector, offset, d);
    return;
  }
  // KVM's emulator has no return to an outer level.
  if (!c.native) throw c.emulationFailure();
  const low = c.top(pop, width) >>> 0;
  const sp = width === 8 ? c.hi * 0x1_0000_0000 + low : low;
  const stack = c.top(pop + width, width) & 0xffff;
  const outer = outerStack(c, stack, d, level);
  enterCode(c, selector, offset, d, level);
  enterStack(c, stack, outer, level, sp + parameters);
}
