/** Code that changes under the CPU, events, real-mode faults, protected mode, shutdown. */
import { describe, expect, test } from 'vitest';
import type { CpuOptions } from '../../../src/sim/cpu/cpu.ts';
import { guest } from './guest.ts';

const AX = 0;
const CX = 1;
const SP = 4;
const word = (ram: Uint8Array, at: number): number => ram[at]! | (ram[at + 1]! << 8);

describe('self-modifying code', () => {
  test('a store to the next instruction of the same block takes effect', () => {
    // mov byte [0x1005],0x41 ; (1005) inc ax → inc cx ; hlt
    const { cpu } = guest([0xc6, 0x06, 0x05, 0x10, 0x41, 0x40, 0xf4]);
    expect(cpu.run(10)).toEqual({ kind: 'hlt' });
    expect([cpu.reg(AX), cpu.reg(CX)]).toEqual([0n, 1n]);
  });

  test('a loop that rewrites its own immediate', () => {
    // l: add ax,1 ; inc byte [0x1002] ; loop l ; hlt
    const { cpu } = guest([0x83, 0xc0, 0x01, 0xfe, 0x06, 0x02, 0x10, 0xe2, 0xf7, 0xf4]);
    cpu.setReg(CX, 5n);
    expect(cpu.run(100)).toEqual({ kind: 'hlt' });
    expect(cpu.reg(AX)).toBe(1n + 2n + 3n + 4n + 5n);
  });

  test('code rewritten by user space between runs is seen', () => {
    const { cpu, ram } = guest([0x40, 0xeb, 0xfd]);
    cpu.run(10);
    expect(cpu.reg(AX)).toBe(5n);
    ram[0x1000] = 0x41;
    cpu.rip = 0x1000n;
    cpu.run(10);
    expect([cpu.reg(AX), cpu.reg(CX)]).toEqual([5n, 5n]);
  });

  test('data next to code in one page leaves the code cached', () => {
    const { cpu, ram } = guest([0xff, 0x06, 0x00, 0x18, 0xe2, 0xfa, 0xf4]);
    cpu.setReg(CX, 1000n);
    expect(cpu.run(5000)).toEqual({ kind: 'hlt' });
    expect(word(ram, 0x1800)).toBe(1000);
  });
});

describe('events', () => {
  test('an injected interrupt is delivered whatever IF says, and IRET returns', () => {
    const { cpu, ram } = guest([0x40, 0xf4]);
    ram[0x620] = 0xcf;
    cpu.inject(0x20, 'interrupt');
    expect(cpu.run(1)).toEqual({ kind: 'fuel' });
    expect([cpu.rip, cpu.reg(SP)]).toEqual([0x1000n, 0x8000n]);
    expect(cpu.events.interrupt.injected).toBe(false);
    expect(cpu.run(10)).toEqual({ kind: 'hlt' });
  });

  test('the INTR line waits for IF and for the shadow of STI', () => {
    const { cpu, ram } = guest([0x40, 0xfb, 0x40, 0x40, 0xf4]); // inc; sti; inc; inc
    cpu.intr = true;
    expect(cpu.run(20)).toEqual({ kind: 'hlt' });
    expect([cpu.rip, cpu.reg(AX)]).toEqual([0x622n, 2n]);
    expect(word(ram, 0x7ffa)).toBe(0x1003);
    expect(cpu.flags() & 0x200).toBe(0);
  });

  test('MOV SS holds interrupts off for one instruction', () => {
    const { cpu, ram } = guest([0x8e, 0xd0, 0xbc, 0x00, 0x70, 0xf4]);
    cpu.setFlags(0x202);
    cpu.run(1);
    expect([cpu.shadow, cpu.interruptible]).toEqual([1, false]);
    cpu.intr = true;
    cpu.run(1);
    expect(cpu.rip).toBe(0x1005n);
    cpu.run(5);
    expect(word(ram, 0x6ffa)).toBe(0x1005);
  });

  test('NMI: masked until IRET, two at most one after the other', () => {
    const { cpu, ram } = guest([0x40, 0x40, 0xf4]);
    ram.set([0x41, 0xcf], 0x602);
    cpu.events.nmi.pending = 2;
    expect(cpu.run(1)).toEqual({ kind: 'fuel' });
    expect(cpu.events.nmi).toEqual({ injected: false, pending: 1, masked: true });
    expect(cpu.run(50)).toEqual({ kind: 'hlt' });
    expect(cpu.reg(CX)).toBe(2n);
    expect(cpu.events.nmi).toEqual({ injected: false, pending: 0, masked: false });
  });

  test('the interrupt window', () => {
    const { cpu } = guest([0x40, 0xfb, 0x40, 0x40, 0xf4]);
    cpu.windowRequested = true;
    expect(cpu.run(20)).toEqual({ kind: 'irqWindow' });
    expect([cpu.rip, cpu.reg(AX)]).toEqual([0x1003n, 2n]);
  });

  test('TF steps through vector 1', () => {
    const { cpu, ram } = guest([0x40, 0x40, 0xf4]);
    cpu.setFlags(0x102);
    expect(cpu.run(20)).toEqual({ kind: 'hlt' });
    expect(cpu.rip).toBe(0x602n);
    expect(word(ram, 0x7ffa)).toBe(0x1001);
  });
});

describe('real-mode faults', () => {
  test('push FLAGS, CS, IP of the instruction, no error code', () => {
    const { cpu, ram } = guest([0x40, 0x66, 0xa1, 0xfd, 0xff]); // mov eax,[0xfffd] crosses the limit
    expect(cpu.run(20)).toEqual({ kind: 'hlt' });
    expect(cpu.rip).toBe(0x60en);
    expect([word(ram, 0x7ffa), word(ram, 0x7ffc), cpu.reg(SP)]).toEqual([0x1001, 0, 0x7ffan]);
  });

  test.each([
    ['#DE', [0xf6, 0xf1], 0],
    ['#SS', [0x36, 0xa1, 0xff, 0xff], 12],
    ['#GP for 16 bytes of prefixes', new Array(16).fill(0x66), 13],
    ['#GP behind the limit', [0xe9, 0xfc, 0xef], 13],
  ])('%s', (_, code, vector) => {
    const { cpu, ram } = guest(code);
    ram[0xffff] = 0x90;
    expect(cpu.run(20)).toEqual({ kind: 'hlt' });
    expect(cpu.rip).toBe(0x601n + BigInt(vector));
  });

  test('no stack left: triple fault, RIP at the instruction', () => {
    const { cpu } = guest([0x40, 0x0f, 0x0b]);
    cpu.setReg(SP, 1n);
    expect(cpu.run(20)).toEqual({ kind: 'shutdown' });
    expect([cpu.rip, cpu.reg(SP)]).toEqual([0x1001n, 1n]);
  });
});

/** Enters flat 32-bit protected mode through a far jump, then runs `code` at 0x1100. */
const protectedGuest = (code: readonly number[], descriptors: readonly (readonly number[])[] = [], options: CpuOptions = {}) => {
  const g = guest(
    [
      ...[0x0f, 0x01, 0x16, 0x00, 0x14], // lgdt [0x1400]
      ...[0x0f, 0x01, 0x1e, 0x08, 0x14], // lidt [0x1408]
      ...[0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0], // mov eax,cr0; or al,1; mov cr0,eax
      ...[0xea, 0x20, 0x10, 0x08, 0x00], // jmp 8:0x1020
    ],
    { options },
  );
  g.ram.set([0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xe9, 0xd1, 0, 0, 0], 0x1020);
  g.ram.set(code, 0x1100);
  g.ram.set([0x3f, 0, 0, 0x15, 0, 0], 0x1400);
  g.ram.set([0xff, 0x00, 0, 0x20, 0, 0], 0x1408);
  const flat = [
    [0, 0, 0, 0, 0, 0, 0, 0],
    [0xff, 0xff, 0, 0, 0, 0x9a, 0xcf, 0],
    [0xff, 0xff, 0, 0, 0, 0x92, 0xcf, 0],
    ...descriptors,
  ];
  flat.forEach((bytes, k) => {
    g.ram.set(bytes, 0x1500 + k * 8);
  });
  // Interrupt gates 0 … 31 to 8:0x600+n.
  for (let n = 0; n < 32; n++) g.ram.set([n, 0x06, 0x08, 0, 0, 0x8e, 0, 0], 0x2000 + n * 8);
  return g;
};

describe('protected mode', () => {
  test('entry, descriptor caches, accessed bits', () => {
    const { cpu, ram } = protectedGuest([0xb8, 0x78, 0x56, 0x34, 0x12, 0x50, 0xf4]);
    expect(cpu.run(100)).toEqual({ kind: 'hlt' });
    expect(cpu.rip).toBe(0x1107n);
    expect(cpu.segments[1]).toMatchObject({ selector: 8, base: 0n, limit: 0xffffffff, db: 1, g: 1, type: 11, dpl: 0 });
    expect(cpu.segments[3]).toMatchObject({ selector: 16, limit: 0xffffffff, type: 3 });
    expect([ram[0x150d], ram[0x1515]]).toEqual([0x9b, 0x93]);
    expect(new DataView(ram.buffer).getUint32(0x7ffc, true)).toBe(0x12345678);
  });

  test.each([
    ['a selector beyond the table', [0x66, 0xb8, 0x40, 0x00, 0x8e, 0xd8], 13, 0x40],
    ['a null selector into SS', [0x31, 0xc0, 0x8e, 0xd0], 13, 0],
    ['code into SS', [0x66, 0xb8, 0x08, 0x00, 0x8e, 0xd0], 13, 8],
    ['a segment that is not present', [0x66, 0xb8, 0x18, 0x00, 0x8e, 0xc0], 11, 0x18],
    ['a stack that is not present', [0x66, 0xb8, 0x18, 0x00, 0x8e, 0xd0], 12, 0x18],
    ['a load through a null segment', [0x31, 0xc0, 0x8e, 0xd8, 0xa1, 0, 0, 0, 0], 13, 0],
    ['a store to a read-only segment', [0x66, 0xb8, 0x20, 0x00, 0x8e, 0xd8, 0xa3, 0, 0, 0, 0], 13, 0],
    ['an expand-down segment below its limit', [0x66, 0xb8, 0x28, 0x00, 0x8e, 0xd8, 0xa1, 0xfc, 0x0f, 0, 0], 13, 0],
    ['a jump to a data segment', [0xea, 0, 0, 0, 0, 0x10, 0], 13, 0x10],
  ])('%s', (_, code, vector, errorCode) => {
    const { cpu, ram } = protectedGuest(code, [
      [0xff, 0xff, 0, 0, 0, 0x12, 0xcf, 0],
      [0xff, 0xff, 0, 0, 0, 0x90, 0xcf, 0],
      [0xff, 0x0f, 0, 0, 0, 0x96, 0x40, 0],
    ]);
    expect(cpu.run(100)).toEqual({ kind: 'hlt' });
    expect(cpu.rip).toBe(0x601n + BigInt(vector));
    const view = new DataView(ram.buffer);
    expect(view.getUint32(Number(cpu.reg(SP)), true)).toBe(errorCode);
    expect(view.getUint32(Number(cpu.reg(SP)) + 8, true)).toBe(8);
  });

  test('above the limit an expand-down segment is open', () => {
    const { cpu } = protectedGuest(
      [0x66, 0xb8, 0x18, 0x00, 0x8e, 0xd8, 0xa1, 0x00, 0x10, 0, 0, 0xf4],
      [[0xff, 0x0f, 0, 0, 0, 0x96, 0x40, 0]],
    );
    expect(cpu.run(100)).toEqual({ kind: 'hlt' });
    expect(cpu.rip).toBe(0x110cn);
    expect(cpu.reg(AX) & 0xffffn).toBe(0x010fn);
  });

  test("INT n is an emulation failure in KVM's emulator", () => {
    const { cpu } = protectedGuest([0xcd, 0x10, 0xf4]);
    expect(cpu.run(100)).toMatchObject({ kind: 'internalError', suberror: 1 });
    expect(cpu.rip).toBe(0x1100n);
  });

  test('INT through a gate and IRET back', () => {
    const { cpu, ram } = protectedGuest([0xf9, 0xcd, 0x10, 0xb8, 1, 0, 0, 0, 0xf4], [], { emulated: false });
    ram.set([0xf8, 0xcf], 0x610);
    expect(cpu.run(100)).toEqual({ kind: 'hlt' });
    expect([cpu.rip, cpu.reg(AX), cpu.flags() & 1]).toEqual([0x1109n, 1n, 1]);
  });

  test('far call and return', () => {
    const { cpu, ram } = protectedGuest([0x9a, 0x00, 0x12, 0, 0, 8, 0, 0xf4]);
    ram.set([0xcb], 0x1200);
    expect(cpu.run(100)).toEqual({ kind: 'hlt' });
    expect([cpu.rip, cpu.reg(SP)]).toEqual([0x1108n, 0x8000n]);
  });

  test('no gate for a fault: #GP, #DF, shutdown', () => {
    const { cpu, ram } = protectedGuest([0x0f, 0x0b]);
    ram.fill(0, 0x2000, 0x2100);
    expect(cpu.run(100)).toEqual({ kind: 'shutdown' });
    expect(cpu.rip).toBe(0x1100n);
  });

  test('a fault on a fault becomes #DF with error code 0', () => {
    const { cpu, ram } = protectedGuest([0x31, 0xc9, 0xf7, 0xf1]);
    ram.fill(0, 0x2000, 0x2008);
    expect(cpu.run(100)).toEqual({ kind: 'hlt' });
    expect(cpu.rip).toBe(0x609n);
    expect(new DataView(ram.buffer).getUint32(Number(cpu.reg(SP)), true)).toBe(0);
  });
});

describe('state', () => {
  test('kvm_regs and kvm_sregs come back as they were put', () => {
    const { cpu } = guest([]);
    const regs = new DataView(new ArrayBuffer(144));
    for (let k = 0; k < 17; k++) regs.setBigUint64(k * 8, 0x1122334455667700n + BigInt(k), true);
    regs.setBigUint64(136, 0xad5n, true);
    cpu.loadRegs(regs, 0);
    const out = new DataView(new ArrayBuffer(144));
    cpu.storeRegs(out, 0);
    regs.setBigUint64(136, 0xad7n, true);
    expect(new Uint8Array(out.buffer)).toEqual(new Uint8Array(regs.buffer));
    const sregs = new DataView(new ArrayBuffer(312));
    cpu.reset();
    cpu.storeSregs(sregs, 0);
    expect([sregs.getBigUint64(0, true), sregs.getUint16(12, true), sregs.getUint8(14)]).toEqual([0xffff0000n, 0xf000, 11]);
    sregs.setBigUint64(240, 0xffffffffffffffffn, true);
    sregs.setBigUint64(256, 16n, true);
    cpu.loadSregs(sregs, 0);
    expect([cpu.cr3, cpu.cr8, cpu.rip]).toEqual([0xffffffffffffffffn, 0n, 0xfff0n]);
  });

  test('CPUID, RDTSC, MSRs come from the bus', () => {
    const { cpu, bus } = guest([0x0f, 0xa2, 0xf4, 0x0f, 0x31, 0xf4, 0x0f, 0x32]);
    cpu.setReg(AX, 7n);
    cpu.setReg(CX, 1n);
    cpu.run(10);
    expect([0, 3, 1, 2].map((n) => cpu.reg(n))).toEqual([8n, 3n, 3n, 4n]);
    cpu.run(10);
    expect([cpu.reg(AX), cpu.reg(2)]).toEqual([0x23456789n, 1n]);
    bus.msrs.set(3, { lo: -1, hi: 5 });
    cpu.run(1);
    expect([cpu.reg(AX), cpu.reg(2)]).toEqual([0xffffffffn, 5n]);
    cpu.rip = 0x1006n;
    cpu.setReg(CX, 4n);
    expect(cpu.run(10)).toEqual({ kind: 'hlt' });
    expect(cpu.rip).toBe(0x60en);
  });
});
