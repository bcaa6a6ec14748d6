/** Events as processors deliver them (no kernel within reach runs on silicon), and what leaves for the host: debugging, SMM, hypercalls. */
import { describe, expect, test } from 'vitest';
import type { Cpu, Outcome } from '../../../src/sim/cpu/cpu.ts';
import { setGuestDebug } from '../../../src/sim/cpu/debug.ts';
import { type Guest, guest } from './guest.ts';

const GDT = 0x2000;
const IDT = 0x2800;
const TSS = 0x3800;
const silicon = { emulated: false };

const flat = (selector: number, type: number, dpl: number): object => ({
  ...{ selector, base: 0n, limit: 0xffffffff, type, present: 1, dpl, db: 1, s: 1, l: 0, g: 1, avl: 0, unusable: 0 },
});

/** A flat 32-bit guest whose vector v has a handler of HLT at 0x4000 + v; level 0 has its stack at 0x9000. */
function protectedGuest(code: readonly number[], { user = false, absent = [] as readonly number[] } = {}): Guest {
  const made = guest(code, { options: silicon });
  const view = new DataView(made.ram.buffer);
  const table = [0n, 0x00cf9b000000ffffn, 0x00cf93000000ffffn, 0x00cffb000000ffffn, 0x00cff3000000ffffn];
  for (const [n, value] of table.entries()) view.setBigUint64(GDT + 8 * n, value, true);
  for (let v = 0; v < 48; v++) {
    view.setUint32(IDT + 8 * v, (8 << 16) | (0x4000 + v), true);
    view.setUint32(IDT + 8 * v + 4, absent.includes(v) ? 0x0e00 : 0x8e00, true);
    made.ram[0x4000 + v] = 0xf4;
  }
  view.setUint32(TSS + 4, 0x9000, true);
  view.setUint32(TSS + 8, 0x10, true);
  const { cpu } = made;
  cpu.cr0 = 0x11;
  const dpl = user ? 3 : 0;
  cpu.segments[1] = flat(user ? 0x1b : 8, 11, dpl) as Cpu['segments'][0];
  for (const n of [0, 2, 3, 4, 5]) cpu.segments[n] = flat(user ? 0x23 : 0x10, 3, dpl) as Cpu['segments'][0];
  cpu.segments[6] = { ...(flat(0x28, 11, 0) as Cpu['segments'][0]), base: BigInt(TSS), limit: 0x67, s: 0 };
  Object.assign(cpu.gdt, { base: BigInt(GDT), limit: 0x3f });
  Object.assign(cpu.idt, { base: BigInt(IDT), limit: 48 * 8 - 1 });
  cpu.refresh();
  return made;
}

const words = (ram: Uint8Array, at: number, count: number): number[] => {
  const view = new DataView(ram.buffer, ram.byteOffset);
  return Array.from({ length: count }, (_, n) => view.getUint32(at + 4 * n, true));
};

describe('delivery', () => {
  test('a fault of level 3 goes to the stack of level 0, with SS and ESP of the old one', () => {
    const { cpu, ram } = protectedGuest([0x0f, 0x0b], { user: true });
    expect(cpu.run(10)).toEqual({ kind: 'hlt' });
    expect([cpu.rip, cpu.reg(4), cpu.cpl]).toEqual([0x4007n, 0x8fecn, 0]);
    expect(words(ram, 0x8fec, 5)).toEqual([0x1000, 0x1b, 0x10002, 0x8000, 0x23]);
  });

  test('an absent gate is #NP with EXT where the instruction has not asked for the vector', () => {
    const { cpu, ram } = protectedGuest([0x0f, 0x0b], { absent: [6] });
    cpu.run(10);
    expect([cpu.rip, words(ram, 0x7ff0, 2)]).toEqual([0x400cn, [6 * 8 + 3, 0x1000]]);
  });

  test('an absent gate of INT n is #NP without EXT, on the instruction', () => {
    const { cpu, ram } = protectedGuest([0xcd, 0x20], { absent: [0x20] });
    cpu.run(10);
    expect([cpu.rip, words(ram, 0x7ff0, 2)]).toEqual([0x400cn, [0x20 * 8 + 2, 0x1000]]);
  });

  test('#NP on top of #GP is #DF; with its gate absent too, shutdown', () => {
    const code = [0xb8, 0x34, 0x12, 0, 0, 0x8e, 0xd8];
    const double = protectedGuest(code, { absent: [13] });
    double.cpu.run(10);
    expect([double.cpu.rip, words(double.ram, 0x7ff0, 2)]).toEqual([0x4009n, [0, 0x1005]]);
    expect(protectedGuest(code, { absent: [13, 8] }).cpu.run(10)).toEqual({ kind: 'shutdown' });
  });

  test('IRET to level 3 takes its stack and empties segments of level 0', () => {
    // push 0x23; push 0x7000; push 2; push 0x1b; push 0x1100; iret — 1100: int 0x20, which level 3 may not
    const code = [0x6a, 0x23, 0x68, 0, 0x70, 0, 0, 0x6a, 2, 0x6a, 0x1b, 0x68, 0, 0x11, 0, 0, 0xcf];
    const { cpu, ram } = protectedGuest(code);
    ram.set([0xcd, 0x20], 0x1100);
    cpu.run(6);
    expect([cpu.rip, cpu.reg(4), cpu.cpl, cpu.segments[3]!.unusable]).toEqual([0x1100n, 0x7000n, 3, 1]);
    cpu.run(10);
    expect([cpu.rip, words(ram, 0x8fe8, 2)]).toEqual([0x400en, [0x20 * 8 + 2, 0x1100]]);
  });
});

describe('debugging by the host', () => {
  test('a single step is an exit with BS, and TF is hidden', () => {
    const { cpu } = protectedGuest([0x40, 0x43, 0xf4]);
    expect(setGuestDebug(cpu, 3, new BigUint64Array(8))).toBe(true);
    const outcome = cpu.run(10) as Extract<Outcome, { kind: 'debug' }>;
    expect(outcome).toEqual({ kind: 'debug', exception: 1, pc: 0x1001n, dr6: 0xffff4ff0n, dr7: 0x400n });
    const regs = new DataView(new ArrayBuffer(144));
    cpu.storeRegs(regs, 0);
    expect([regs.getUint32(136, true), cpu.flags()]).toEqual([2, 0x102]);
  });

  test('a breakpoint on execution hits before the instruction; RF lets it pass', () => {
    const { cpu } = protectedGuest([0x40, 0x43, 0xf4]);
    const registers = BigUint64Array.from([0x1001n, 0n, 0n, 0n, 0n, 0n, 0n, 0x401n]);
    setGuestDebug(cpu, 0x20001, registers);
    expect(cpu.run(10)).toEqual({ kind: 'debug', exception: 1, pc: 0x1001n, dr6: 0xffff0ff1n, dr7: 0x401n });
    cpu.setFlags(cpu.flags() | 0x10000);
    expect(cpu.run(10)).toEqual({ kind: 'hlt' });
  });

  test("INT3 is the host's under KVM_GUESTDBG_USE_SW_BP, with RIP on it; INT 3 of two bytes is not", () => {
    const { cpu } = protectedGuest([0x40, 0xcc, 0xcd, 3]);
    setGuestDebug(cpu, 0x10001, new BigUint64Array(8));
    for (let n = 0; n < 2; n++) expect(cpu.run(10)).toEqual({ kind: 'debug', exception: 3, pc: 0x1001n });
    expect([cpu.rip, cpu.reg(0)]).toEqual([0x1001n, 1n]);
    cpu.rip = 0x1002n;
    expect(cpu.run(10)).toEqual({ kind: 'hlt' });
    expect(cpu.rip).toBe(0x4004n);
  });

  test("without it INT3 is the guest's", () => {
    const { cpu } = protectedGuest([0x40, 0xcc]);
    setGuestDebug(cpu, 0x20001, new BigUint64Array(8));
    expect(cpu.run(10)).toEqual({ kind: 'hlt' });
    expect(cpu.rip).toBe(0x4004n);
  });

  test("breakpoints on data are not modelled, the host's or the guest's; the host's hide the guest's", () => {
    const { cpu } = protectedGuest([0x40, 0xf4]);
    const notModelled = { kind: 'notModelled', description: 'breakpoints on data' };
    const onData = BigUint64Array.from([0x2000n, 0n, 0n, 0n, 0n, 0n, 0n, 0xd0401n]);
    setGuestDebug(cpu, 0x20001, onData);
    expect(cpu.run(10)).toMatchObject(notModelled);
    setGuestDebug(cpu, 0, onData);
    cpu.dr[7] = 0xd0401n;
    expect(cpu.run(10)).toMatchObject(notModelled);
    setGuestDebug(cpu, 0x20001, BigUint64Array.from([0n, 0n, 0n, 0n, 0n, 0n, 0n, 0x400n]));
    expect(cpu.run(10)).toEqual({ kind: 'hlt' });
  });

  test('an exception to inject while another waits is refused', () => {
    const { cpu } = protectedGuest([0x40]);
    expect(setGuestDebug(cpu, 0x40000, new BigUint64Array(8))).toBe(true);
    expect(setGuestDebug(cpu, 0x80000, new BigUint64Array(8))).toBe(false);
  });
});

describe('system management mode', () => {
  test('an SMI and RSM leave everything as it was', () => {
    const { cpu, ram } = protectedGuest([0x40, 0x40, 0xf4]);
    cpu.smi.base = 0x0;
    ram.set([0x66, 0xb8, 1, 2, 3, 4, 0x0f, 0xaa], 0x8000); // mov eax,…; rsm
    cpu.run(1);
    cpu.smi.requested = true;
    cpu.run(1);
    expect([cpu.smi.active, cpu.protectedMode, cpu.events.nmi.masked, cpu.reg(0)]).toEqual([true, false, true, 0x04030201n]);
    expect(cpu.run(10)).toEqual({ kind: 'hlt' });
    expect([cpu.smi.active, cpu.protectedMode, cpu.events.nmi.masked, cpu.reg(0), cpu.rip]).toEqual([
      false,
      true,
      false,
      2n,
      0x1003n,
    ]);
  });

  test('RSM to a code segment that is not present is not modelled, and nothing is loaded', () => {
    const { cpu } = protectedGuest([0x0f, 0xaa]);
    Object.assign(cpu.smi, { base: 0, active: true });
    expect(cpu.run(1)).toMatchObject({ kind: 'notModelled', description: 'RSM to a code segment that is not present' });
    expect([cpu.smi.active, cpu.protectedMode, cpu.rip]).toEqual([true, true, 0x1000n]);
  });

  test('where its state cannot be saved the VM is given up', () => {
    const { cpu } = protectedGuest([0x40]);
    cpu.smi.requested = true;
    expect(cpu.run(1)).toEqual({ kind: 'dead' });
  });
});

test('INIT keeps CR8, CD and NW and gives RDX the signature; SIPI begins at its vector', () => {
  const { cpu } = protectedGuest([0x40]);
  Object.assign(cpu, { cr0: 0x11, cr8: 5n });
  cpu.inject(0x20, 'interrupt');
  cpu.init(0x60fb1);
  expect([cpu.cr0, cpu.cr8, cpu.reg(2), cpu.rip, cpu.events.interrupt.injected]).toEqual([0x10, 5n, 0x60fb1n, 0xfff0n, false]);
  cpu.startup(0x12);
  expect([cpu.segments[1]!.selector, cpu.segments[1]!.base, cpu.rip]).toEqual([0x1200, 0x12000n, 0n]);
});
