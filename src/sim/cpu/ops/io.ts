/** IN, OUT, INS, OUTS. */
import type { Core } from '../core.ts';
import { Fault, GP, STOP_BLOCK, STOP_EXIT } from '../fault.ts';
import type { Exec, Insn } from '../insn.ts';
import { DF, ES, IOPL, RDI, RDX, RF, RSI, TR, VM } from '../state.ts';
import { advance, count as countOf, loadAt, offsetOf, takeCount } from './move.ts';

type Size = 1 | 2 | 4;

/** Where a TSS of 32 or 64 bits has the offset of its permission bitmap. */
const IO_MAP = 0x66;

/** Above IOPL (and always in virtual-8086 mode) the bitmap of the task decides: a clear bit for each byte of the port. */
const allowed = (c: Core, port: number, size: number): void => {
  const privileged = c.cpl <= (c.fl & IOPL) >> 12 && !(c.fl & VM);
  if (c.emulated && c.native) {
    if (c.fl & IOPL) throw c.notModelled('IOPL of user code on the paravirtual KVM');
    // The #GP has gone to KVM with RF set, and its emulator asks the bitmap again.
    c.fl |= RF;
  }
  if (!c.protectedMode || privileged) return;
  const tss = c.segments[TR]!;
  const base = Number(BigInt.asIntN(64, tss.base));
  // QEMU's processor takes a bitmap only from a TSS that is not busy.
  if (tss.unusable || (tss.type & 8) === 0 || (c.qemu && tss.type !== 9) || tss.limit < IO_MAP + 1) throw new Fault(GP, 0);
  const at = c.linear16(base + IO_MAP) + (port >> 3);
  // Two bytes are read whatever the port.
  if (at + 1 > tss.limit) throw new Fault(GP, 0);
  if ((c.linear16(base + at) >> (port & 7)) & ((1 << size) - 1)) throw new Fault(GP, 0);
};

const bytesOf = (value: number, size: number): Uint8Array =>
  Uint8Array.from({ length: size }, (_, k) => (value >>> (8 * k)) & 0xff);

/** `count` elements from `port`: what was answered, or the exit that asks for it. */
const input = (c: Core, port: number, size: number, count: number): Uint8Array => {
  const key = `in ${port} ${size} ${count}`;
  const data = c.answer(key);
  if (data !== null) {
    c.readAhead.set(data);
    return data;
  }
  const given = c.bus.pioRead?.(port, size, count) ?? null;
  if (given !== null) {
    c.answered(key, given);
    c.readAhead.set(given);
    return given;
  }
  const length = size * count;
  throw c.ask(key, length, { kind: 'io', direction: 'in', size: size as Size, port, count, data: new Uint8Array(length) });
};

/** False where the kernel itself takes it: no exit. */
const output = (c: Core, port: number, size: number, value: number): boolean => {
  const data = bytesOf(value, size);
  if (c.bus.pioWrite?.(port, data)) {
    c.stop |= STOP_BLOCK;
    return false;
  }
  c.outcome = { kind: 'io', direction: 'out', size: size as Size, port, count: 1, data };
  c.stop |= STOP_EXIT;
  return true;
};

/** The port is DX or an immediate byte; it is always operand B of IN and operand A of OUT. */
const portOf = (c: Core, i: Insn, code: string | undefined): number => (code === 'DX' ? c.r16[RDX * 2]! : i.imm & 0xff);

export const inPort: Exec = (c, i) => {
  const port = portOf(c, i, i.form.operands[1]);
  allowed(c, port, i.width);
  const data = input(c, port, i.width, 1);
  let value = 0;
  for (let k = 0; k < i.width; k++) value |= data[k]! << (8 * k);
  c.putReg(0, i.width, value);
};

export const outPort: Exec = (c, i) => {
  const port = portOf(c, i, i.form.operands[0]);
  allowed(c, port, i.width);
  if (output(c, port, i.width, c.accumulator(i.width))) c.outExits(port);
};

/** How many elements INS asks for at once. */
const batch = (c: Core, i: Insn): number => {
  if (i.rep === 0) return 1;
  const inPage = c.r32[RDI]! & 0xfff;
  return Math.min(countOf(c, i), c.readAhead.length / i.width, c.fl & DF ? inPage : 4096 - inPage) || 1;
};

/**
 * INS. Under REP one exit asks for min(RCX, 1024 / size, B) elements, B being the *bytes* to the end of the page RDI is in (its start,
 * when going down), at least one; RCX and RDI move when they are there. After a SET_REGS in between, RCX and RDI as they are now say how many of
 * them are taken (what was read ahead earlier follows them), but the first goes to where RDI was.
 */
export const ins: Exec = (c, i) => {
  allowed(c, c.r16[RDX * 2]!, i.width);
  c.emulate();
  if (i.rep !== 0 && countOf(c, i) === 0) return;
  const count = batch(c, i);
  const from = offsetOf(c, i, RDI);
  const at = c.decodedAt ?? from;
  c.probeWrite(ES, at, i.width);
  if (c.decodedAt === null) input(c, c.r16[RDX * 2]!, i.width, count);
  else c.readAhead.set(c.replay[c.replayed++]!.data);
  const data = c.readAhead.slice(0, count * i.width);
  let done = count;
  if (c.fl & DF) {
    for (done = 0; done < count; done++) {
      // KVM's emulator goes down element by element, and forgets what it has read ahead when one is MMIO.
      if (c.emulated && c.stores.length > 0) break;
      const to = done === 0 ? at : c.moved(i, from, -done * i.width);
      c.storeBytes(ES, to, data.subarray(done * i.width, (done + 1) * i.width));
    }
  } else c.storeBytes(ES, at, data);
  advance(c, i, RDI, done);
  if (i.rep !== 0) {
    takeCount(c, i, done);
    c.again(true);
  }
};

/** OUTS. Under REP every element is an exit of its own with RSI and RCX already moved; the instruction retires when it finds RCX 0. */
export const outs: Exec = (c, i) => {
  allowed(c, c.r16[RDX * 2]!, i.width);
  c.emulate();
  const left = i.rep === 0 ? 1 : countOf(c, i);
  if (left === 0) return;
  output(c, c.r16[RDX * 2]!, i.width, loadAt(c, i, i.seg, RSI));
  advance(c, i, RSI);
  if (i.rep !== 0) {
    takeCount(c, i, 1);
    c.again(true);
  }
};
