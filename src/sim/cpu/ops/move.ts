/** Data movement, stack, flags, string instructions. */
import type { Core } from '../core.ts';
import { Fault, GP, STOP_EXIT, UD } from '../fault.ts';
import type { Exec, Insn } from '../insn.ts';
import { ARITH, DF, ES, IF, IOPL, NT, OF, RAX, RBP, RBX, RCX, RDI, RF, RSI, RSP, SS, TF, VM } from '../state.ts';

export const mov: Exec = (c, i) => c.writeA(i, c.readB(i));

export const movsx: Exec = (c, i) => {
  const shift = i.form.operands[1] === 'Eb' ? 24 : 16;
  c.writeA(i, (c.readB(i) << shift) >> shift);
};

/** Zero extension is a move, but for the high half. */
export const movzx64: Exec = (c, i) => {
  const value = c.readB(i);
  c.hi = 0;
  c.writeA(i, value);
};

export const movsx64: Exec = (c, i) => {
  const code = i.form.operands[1];
  const shift = code === 'Eb' ? 24 : code === 'Ew' ? 16 : 0;
  const value = (c.readB(i) << shift) >> shift;
  c.hi = value >> 31;
  c.writeA(i, value);
};

/** MOVSXD without REX.W moves 32 (or 16) bits. */
export const movsxd: Exec = (c, i) => c.writeA(i, c.readB(i));

export const lea: Exec = (c, i) => c.writeA(i, i.asize === 8 ? c.ea64(i) : c.ea(i));

export const lea64: Exec = (c, i) => {
  const lo = i.asize === 8 ? c.ea64(i) : c.ea(i);
  if (i.asize !== 8) c.hi = 0;
  c.writeA(i, lo);
};

export const xchg: Exec = (c, i) => {
  const b = c.readB(i);
  const a = c.modifyA(i);
  c.writeA(i, b);
  c.write(i, i.bk, i.bn, a);
};

export const xchg64: Exec = (c, i) => {
  const b = c.readB(i);
  const bh = c.hi;
  const a = c.modifyA(i);
  const ah = c.hi;
  c.hi = bh;
  c.writeA(i, b);
  c.hi = ah;
  c.write(i, i.bk, i.bn, a);
};

const swapped = (a: number): number => (a << 24) | ((a & 0xff00) << 8) | ((a >>> 8) & 0xff00) | (a >>> 24);

/** BSWAP of a 16-bit register is undefined; silicon clears it. */
export const bswap: Exec = (c, i) => {
  const a = c.readA(i);
  c.writeA(i, i.width === 2 ? 0 : swapped(a));
};

export const bswap64: Exec = (c, i) => {
  const a = c.readA(i);
  const ah = c.hi;
  c.hi = swapped(a);
  c.writeA(i, swapped(ah));
};

/** KVM's emulator asks the CPUID userspace gave for MOVBE, which GET_SUPPORTED_CPUID leaves out on the paravirtual KVM. */
const hasMovbe = (c: Core): void => {
  if (!c.native) throw new Fault(UD);
};

export const movbe: Exec = (c, i) => {
  hasMovbe(c);
  const value = c.readB(i);
  c.writeA(i, i.width === 2 ? swapped(value) >>> 16 : swapped(value));
};

export const movbe64: Exec = (c, i) => {
  hasMovbe(c);
  const value = c.readB(i);
  const { hi } = c;
  c.hi = swapped(value);
  c.writeA(i, swapped(hi));
};

/** CMOVcc reads its source, and with a 32-bit operand writes the destination, whether the condition holds or not. */
export const cmov: Exec = (c, i) => {
  const b = c.readB(i);
  c.writeA(i, c.condition(i.low) ? b : c.readA(i));
};

export const cmov64: Exec = (c, i) => {
  const b = c.readB(i);
  if (c.condition(i.low)) c.writeA(i, b);
};

export const setcc: Exec = (c, i) => c.writeA(i, c.condition(i.low) ? 1 : 0);

export const xlat: Exec = (c, i) => {
  c.r8[0] = c.load8(i.seg, c.moved(i, i.asize === 8 ? c.wide(RBX) : c.r32[RBX]!, c.r8[0]!));
};

// Stack.

export const push: Exec = (c, i) => c.push(c.readA(i), i.osize);

/** POP to memory computes its address with the pointer already moved. */
export const pop: Exec = (c, i) => {
  const value = c.top(0, i.osize);
  const { hi } = c;
  const sp = c.r32[RSP]!;
  const spHigh = c.r32[RSP + 16]!;
  c.drop(i.osize);
  try {
    c.hi = hi;
    c.writeA(i, value);
  } catch (e) {
    c.r32[RSP] = sp;
    c.r32[RSP + 16] = spHigh;
    throw e;
  }
};

export const pusha: Exec = (c, i) => {
  const w = i.osize;
  const sp = c.sp;
  for (let n = 0; n < 8; n++) {
    const at = c.below(sp, (n + 1) * w);
    if (w === 2) c.store16(SS, at, c.r16[n * 2]!);
    else c.store32(SS, at, c.r32[n]!);
  }
  c.setSp(sp - 8 * w);
};

export const popa: Exec = (c, i) => {
  const w = i.osize;
  const values = [7, 6, 5, 4, 3, 2, 1, 0].map((n, k) => [n, n === RSP ? 0 : c.top(k * w, w)] as const);
  for (const [n, value] of values) if (n !== RSP) c.putReg(n, w, value);
  c.drop(8 * w);
};

export const pushf: Exec = (c, i) => {
  if (c.fl & VM && (c.fl & IOPL) !== IOPL) throw new Fault(GP, 0);
  c.hi = 0;
  // The paravirtual KVM runs user code with interrupts on, whatever the guest believes.
  const on = c.emulated && c.native ? IF : 0;
  c.push((c.flags() & ~(RF | VM)) | on, i.osize);
};

/** Which flags POPF and IRET may change: IOPL only at CPL 0, IF only where CPL ≤ IOPL. */
export const changeableFlags = (c: Core, width: number): number => {
  let mask = ARITH | TF | DF | NT;
  if (width >= 4) mask |= 0x240000;
  if (c.cpl === 0) mask |= IOPL;
  if (c.cpl <= (c.fl & IOPL) >> 12) mask |= IF;
  return mask;
};

export const popf: Exec = (c, i) => {
  if (c.fl & VM && (c.fl & IOPL) !== IOPL) throw new Fault(GP, 0);
  const value = c.top(0, i.osize);
  const mask = changeableFlags(c, i.osize);
  c.drop(i.osize);
  c.setFlags((c.flags() & ~(mask | RF)) | (value & mask));
  c.endBlock();
};

export const enter: Exec = (c, i) => {
  const w = i.osize;
  const level = i.imm2 & 31;
  // KVM's emulator has no nested frames.
  if (c.emulated && level !== 0) throw c.emulationFailure();
  const sp = c.sp;
  const frame = c.below(sp, w);
  const frameHigh = Math.floor(frame / 0x1_0000_0000);
  let depth = 0;
  const put = (value: number, high: number): void => {
    depth += w;
    c.storeStack(c.below(sp, depth), w, value, high);
  };
  put(c.getReg(RBP, w), c.hi);
  for (let k = 1; k < level; k++) put(c.loadStack(c.below(frameOf(c), k * w), w), c.hi);
  if (level > 0) put(frame | 0, frameHigh);
  // The page the new frame ends in must be writable, though what has been pushed by then stays.
  c.probeWrite(SS, c.below(sp, depth + i.imm), w);
  c.hi = frameHigh;
  c.putReg(RBP, w, frame);
  c.setSp(sp - depth - i.imm);
};

/** RBP as an offset in the stack segment. */
const frameOf = (c: Core): number => (c.long ? c.wide(RBP) : (c.r32[RBP]! & c.stackMask) >>> 0);

export const leave: Exec = (c, i) => {
  const at = frameOf(c);
  const value = c.loadStack(at, i.osize);
  c.setSp(at + i.osize);
  c.putReg(RBP, i.osize, value);
};

// Flags.

export const lahf: Exec = (c) => {
  c.r8[1] = (c.arith() & 0xff) | 2;
};
/** Replaces the low byte: bits 3 and 5, which SET_REGS may have left set, go too. */
export const sahf: Exec = (c) => {
  c.fl &= ~0x28;
  c.setArith((c.arith() & OF) | (c.r8[1]! & 0xd5));
};
export const clc: Exec = (c) => c.setCarryOverflow(0, c.of());
export const stc: Exec = (c) => c.setCarryOverflow(1, c.of());
export const cmc: Exec = (c) => c.setCarryOverflow(c.cf() ^ 1, c.of());
export const cld: Exec = (c) => {
  c.fl &= ~DF;
};
export const std: Exec = (c) => {
  c.fl |= DF;
};
export const salc: Exec = (c) => {
  c.r8[0] = -c.cf();
};
export const nop: Exec = () => {};
export const ud: Exec = () => {
  throw new Fault(UD);
};
/** UD2: #UD comes after KVM's emulator has failed. */
export const ud2: Exec = (c) => {
  c.unemulated();
  throw new Fault(UD);
};
/** What processors reject, and KVM's emulator does not know at all. */
export const absent: Exec = (c) => {
  throw c.native ? new Fault(UD) : c.emulationFailure();
};
/** KVM's emulator has no fences. */
export const fence: Exec = (c) => c.unemulated();

// String instructions.

/** RCX as wide as addresses are. Above 2^53 it is not exact, and not needed exactly. */
export const count = (c: Core, i: Insn): number =>
  i.asize === 8 ? (c.r32[RCX + 16]! >>> 0) * 0x1_0000_0000 + (c.r32[RCX]! >>> 0) : (c.r32[RCX]! & i.mask) >>> 0;

export const takeCount = (c: Core, i: Insn, done: number): void => {
  if (i.asize === 8) c.addWide(RCX, -done);
  else c.putReg(RCX, i.asize, (c.r32[RCX]! & i.mask) - done);
};

export const advance = (c: Core, i: Insn, n: number, elements = 1): void => {
  const step = c.fl & DF ? -i.width * elements : i.width * elements;
  if (i.asize === 8) c.addWide(n, step);
  else c.putReg(n, i.asize, c.r32[n]! + step);
};

export const offsetOf = (c: Core, i: Insn, n: number): number => (i.asize === 8 ? c.wide(n) : (c.r32[n]! & i.mask) >>> 0);

export const loadAt = (c: Core, i: Insn, segment: number, n: number): number => {
  const at = offsetOf(c, i, n);
  if (i.width === 8) return c.load64(segment, at);
  return i.width === 4 ? c.load32(segment, at) : i.width === 2 ? c.load16(segment, at) : c.load8(segment, at);
};

const storeAt = (c: Core, i: Insn, value: number): void => {
  const at = offsetOf(c, i, RDI);
  if (i.width === 8) c.store64(ES, at, value, c.hi);
  else if (i.width === 4) c.store32(ES, at, value);
  else if (i.width === 2) c.store16(ES, at, value);
  else c.store8(ES, at, value);
};

/** KVM's emulator goes on with a REP until so many low bits of the count are 0; to find the count 0 takes another of its turn's instructions. */
const REP_AT_ONCE = 0x3ff;

/**
 * Repeats `step` under a REP prefix. Each iteration is complete in itself; the instruction retires when it finds the count 0, or, for
 * CMPS and SCAS, when ZF differs from the prefix. Where an exit or the end of the fuel comes first, IP stays on the instruction.
 */
export const repeat =
  (step: (c: Core, i: Insn) => void, compares = false): Exec =>
  (c, i) => {
    if (i.rep === 0) {
      step(c, i);
      return;
    }
    let done = 0;
    const before = { fz: c.fz, fs: c.fs, fp: c.fp, fa: c.fa, fc: c.fc };
    for (let left = count(c, i); left !== 0; left = count(c, i)) {
      if (done > 0) {
        if (c.stop !== 0 || c.fuel <= 1 || c.fl & TF) {
          c.again(c.emulated || (c.stop & STOP_EXIT) !== 0);
          if (c.stop === 0) c.turnBegan++;
          return;
        }
        c.fuel--;
        if (left & REP_AT_ONCE) c.turnBegan++;
      }
      if (compares) {
        // A fault in the middle leaves the flags of before, though earlier iterations have moved the registers.
        try {
          step(c, i);
        } catch (e) {
          Object.assign(c, before);
          throw e;
        }
      } else step(c, i);
      done++;
      takeCount(c, i, 1);
      if (c.replay.length > 0) c.settle();
      if (compares && (c.fz === 0) !== (i.rep === 0xf3)) {
        c.suspended = -1;
        return;
      }
    }
    // Retired only when the count is found 0: an exit of the last iteration comes before that.
    if (c.stop & STOP_EXIT) c.again(true);
    else {
      c.suspended = -1;
      c.turnBegan--;
    }
  };

export const movs: Exec = repeat((c, i) => {
  storeAt(c, i, loadAt(c, i, i.seg, RSI));
  advance(c, i, RSI);
  advance(c, i, RDI);
});

export const stos: Exec = repeat((c, i) => {
  storeAt(c, i, c.accumulator(i.width));
  advance(c, i, RDI);
});

export const lods: Exec = repeat((c, i) => {
  const value = loadAt(c, i, i.seg, RSI);
  c.putReg(RAX, i.width, value);
  advance(c, i, RSI);
});

export const cmps: Exec = repeat((c, i) => {
  const a = loadAt(c, i, i.seg, RSI);
  const ah = c.hi;
  const b = loadAt(c, i, ES, RDI);
  if (i.width === 8) c.sub64(a, ah, b, c.hi, 0);
  else c.sub(a, b, 0, i.shift);
  advance(c, i, RSI);
  advance(c, i, RDI);
}, true);

export const scas: Exec = repeat((c, i) => {
  const b = loadAt(c, i, ES, RDI);
  if (i.width === 8) c.sub64(c.r32[RAX]!, c.r32[RAX + 16]!, b, c.hi, 0);
  else c.sub(c.accumulator(i.width), b, 0, i.shift);
  advance(c, i, RDI);
}, true);
