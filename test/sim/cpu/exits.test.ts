/** Every kind of outcome, and how user space completes it (kvm.md §5.4). */
import { expect, test } from 'vitest';
import { guest } from './guest.ts';

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const AX = 0;
const CX = 1;
const SI = 6;
const DI = 7;
const DS = 3;
const ES = 0;

/** Data segment over MMIO: the machine's RAM ends at 64 KiB. */
const mmioGuest = (code: readonly number[], segments = [DS, ES]) => {
  const g = guest(code);
  for (const n of segments) Object.assign(g.cpu.segments[n]!, { selector: 0x2000, base: 0x20000n });
  g.cpu.refresh();
  return g;
};

test('OUT exits with RIP behind it (emulator), or at it and skipped on the next run (VMX, SVM)', () => {
  const code = [0xb0, 0x48, 0xe6, 0x10, 0xf4]; // mov al,'H'; out 0x10,al; hlt
  const emulated = guest(code);
  expect(emulated.cpu.run(10)).toEqual({ kind: 'io', direction: 'out', size: 1, port: 0x10, count: 1, data: bytes(0x48) });
  expect(emulated.cpu.rip).toBe(0x1004n);
  expect(emulated.cpu.run(10)).toEqual({ kind: 'hlt' });

  const hardware = guest(code, { options: { emulated: false } });
  expect(hardware.cpu.run(10)).toMatchObject({ kind: 'io', direction: 'out' });
  expect(hardware.cpu.rip).toBe(0x1002n);
  expect(hardware.cpu.pending).toBe(true);
  expect(hardware.cpu.run(0)).toEqual({ kind: 'fuel' });
  expect(hardware.cpu.rip).toBe(0x1004n);

  const moved = guest(code, { options: { emulated: false } });
  moved.cpu.run(10);
  moved.cpu.rip = 0x1000n;
  expect(moved.cpu.run(0)).toEqual({ kind: 'fuel' });
  expect(moved.cpu.rip).toBe(0x1000n);
});

test('IN leaves RIP at the instruction; run(0) finishes it and nothing more; narrow results keep the rest of RAX', () => {
  for (const [code, data, expected] of [
    [[0xec], bytes(0x5a), 0x112233445566775an],
    [[0xed], bytes(0x34, 0x12), 0x1122334455661234n],
    [[0x66, 0xed], bytes(1, 2, 3, 0x84), 0x84030201n],
  ] as const) {
    const { cpu } = guest([...code, 0x40, 0xf4]);
    cpu.setReg(AX, 0x1122334455667788n);
    cpu.setReg(2, 0x3f8n);
    expect(cpu.run(10)).toMatchObject({ kind: 'io', direction: 'in', port: 0x3f8, size: data.length, count: 1 });
    expect(cpu.rip).toBe(0x1000n);
    expect(cpu.reg(AX)).toBe(0x1122334455667788n);
    cpu.completeIo(data);
    expect(cpu.run(0)).toEqual({ kind: 'fuel' });
    expect(cpu.rip).toBe(0x1000n + BigInt(code.length));
    expect(cpu.reg(AX)).toBe(expected);
    expect(cpu.pending).toBe(false);
  }
});

test('REP OUTS: one element per exit, registers already moved, one more run retires it', () => {
  const { cpu, ram } = guest([0xf3, 0x6e, 0xf4]);
  ram.set([1, 2, 3], 0x3000);
  cpu.setReg(SI, 0x3000n);
  cpu.setReg(CX, 3n);
  for (let k = 1; k <= 3; k++) {
    expect(cpu.run(100)).toMatchObject({ kind: 'io', direction: 'out', count: 1, data: bytes(k) });
    expect([cpu.reg(SI), cpu.reg(CX), cpu.rip]).toEqual([0x3000n + BigInt(k), BigInt(3 - k), 0x1000n]);
  }
  expect(cpu.run(1)).toEqual({ kind: 'fuel' });
  expect(cpu.rip).toBe(0x1002n);
});

test.each([
  ['2000 × 1', 0x6c, 2000, 0x3000, false, [1024, 976]],
  ['600 × 2 at page offset 0xf00: B counts bytes', 0x6d, 600, 0x3f00, false, [256, 344]],
  ['5 × 4 downwards', 0x66, 5, 0x3100, true, [5]],
])('REP INS %s', (_, opcode, count, at, down, batches) => {
  const { cpu, ram } = guest(opcode === 0x66 ? [0xf3, 0x66, 0x6d, 0xf4] : [0xf3, opcode, 0xf4]);
  const size = opcode === 0x6c ? 1 : opcode === 0x6d ? 2 : 4;
  cpu.setReg(DI, BigInt(at));
  cpu.setReg(CX, BigInt(count));
  if (down) cpu.setFlags(0x402);
  let left = count;
  let position = at;
  for (const n of batches) {
    expect(cpu.run(100)).toMatchObject({ kind: 'io', direction: 'in', size, count: n });
    expect([cpu.reg(CX), cpu.reg(DI)]).toEqual([BigInt(left), BigInt(position)]);
    cpu.completeIo(new Uint8Array(n * size).map((__, k) => k + 1));
    const first = position;
    left -= n;
    position += (down ? -n : n) * size;
    expect(cpu.run(0)).toEqual({ kind: 'fuel' });
    expect([cpu.reg(CX), cpu.reg(DI)]).toEqual([BigInt(left), BigInt(position)]);
    expect(ram[first]).toBe(1);
    expect(ram[down ? position + size : position - size]).toBe(((n - 1) * size + 1) & 0xff);
  }
  expect(cpu.run(100)).toEqual({ kind: 'hlt' });
});

test('REP INS downwards to MMIO: one element is stored, and the others are read again', () => {
  const { cpu } = mmioGuest([0xf3, 0x6c, 0xf4]);
  cpu.setReg(DI, 0x10n);
  cpu.setReg(CX, 3n);
  cpu.setFlags(0x402);
  for (const left of [3, 2, 1]) {
    expect(cpu.run(100)).toMatchObject({ kind: 'io', direction: 'in', count: left });
    cpu.completeIo(bytes(0x10 + left, 0x20, 0x30).subarray(0, left));
    const gpa = 0x20010 - (3 - left);
    expect(cpu.run(0)).toEqual({ kind: 'mmio', gpa, len: 1, isWrite: true, data: bytes(0x10 + left) });
    expect([cpu.reg(CX), cpu.reg(DI)]).toEqual([BigInt(left - 1), BigInt(gpa - 0x20000 - 1)]);
  }
  expect(cpu.run(100)).toEqual({ kind: 'hlt' });
});

test('MMIO write: RIP behind, nothing repeated; MMIO read: RIP at the instruction', () => {
  const { cpu } = mmioGuest([0xc7, 0x06, 0x10, 0x00, 0x34, 0x12, 0xa1, 0x20, 0x00, 0xf4]);
  expect(cpu.run(10)).toEqual({ kind: 'mmio', gpa: 0x20010, len: 2, isWrite: true, data: bytes(0x34, 0x12) });
  expect(cpu.rip).toBe(0x1006n);
  expect(cpu.run(10)).toMatchObject({ kind: 'mmio', gpa: 0x20020, len: 2, isWrite: false });
  expect(cpu.rip).toBe(0x1006n);
  cpu.completeMmio(bytes(0xcd, 0xab));
  expect(cpu.run(10)).toEqual({ kind: 'hlt' });
  expect(cpu.reg(AX)).toBe(0xabcdn);
  expect(cpu.executed).toBe(3);
});

test('read-modify-write: a read exit, then within the next run the write exit', () => {
  const { cpu } = mmioGuest([0xfe, 0x06, 0x10, 0x00, 0xf4]);
  expect(cpu.run(10)).toMatchObject({ kind: 'mmio', isWrite: false, len: 1 });
  cpu.completeMmio(bytes(0x7f));
  expect(cpu.run(0)).toEqual({ kind: 'mmio', gpa: 0x20010, len: 1, isWrite: true, data: bytes(0x80) });
  expect(cpu.flags() & 0x8d5).toBe(0x890);
  expect(cpu.run(10)).toEqual({ kind: 'hlt' });
});

test('a page-crossing access exits twice in address order; the RAM side does not exit', () => {
  const both = mmioGuest([0x66, 0xa1, 0xfe, 0x0f, 0x66, 0xa3, 0xfd, 0x0f, 0xf4]);
  expect(both.cpu.run(10)).toMatchObject({ gpa: 0x20ffe, len: 2, isWrite: false });
  both.cpu.completeMmio(bytes(1, 2));
  expect(both.cpu.run(10)).toMatchObject({ gpa: 0x21000, len: 2, isWrite: false });
  both.cpu.completeMmio(bytes(3, 4));
  expect(both.cpu.run(10)).toEqual({ kind: 'mmio', gpa: 0x20ffd, len: 3, isWrite: true, data: bytes(1, 2, 3) });
  expect(both.cpu.run(0)).toEqual({ kind: 'mmio', gpa: 0x21000, len: 1, isWrite: true, data: bytes(4) });
  expect(both.cpu.run(10)).toEqual({ kind: 'hlt' });

  const edge = guest([0x66, 0xa1, 0xfe, 0x0f, 0xf4]);
  Object.assign(edge.cpu.segments[DS]!, { base: 0xf000n });
  edge.cpu.refresh();
  edge.ram.set([0x11, 0x22], 0xfffe);
  expect(edge.cpu.run(10)).toMatchObject({ gpa: 0x10000, len: 2 });
  edge.cpu.completeMmio(bytes(0x33, 0x44));
  expect(edge.cpu.run(10)).toEqual({ kind: 'hlt' });
  expect(edge.cpu.reg(AX)).toBe(0x44332211n);
});

test('REP MOVS from MMIO: every iteration one read exit, registers keep up', () => {
  const { cpu, ram } = mmioGuest([0xf3, 0xa4, 0xf4], [DS]);
  cpu.setReg(CX, 2n);
  cpu.setReg(DI, 0x3000n);
  for (let k = 0; k < 2; k++) {
    expect(cpu.run(50)).toMatchObject({ kind: 'mmio', gpa: 0x20000 + k, isWrite: false });
    expect([cpu.reg(CX), cpu.rip]).toEqual([BigInt(2 - k), 0x1000n]);
    cpu.completeMmio(bytes(0x70 + k));
  }
  expect(cpu.run(50)).toEqual({ kind: 'hlt' });
  expect([...ram.subarray(0x3000, 0x3002)]).toEqual([0x70, 0x71]);
});

test('REP STOS to MMIO exits per element with RIP on it until the count is found 0', () => {
  const { cpu } = mmioGuest([0xf3, 0xaa, 0xf4]);
  cpu.setReg(CX, 2n);
  for (let k = 0; k < 2; k++) {
    expect(cpu.run(50)).toMatchObject({ kind: 'mmio', gpa: 0x20000 + k, isWrite: true });
    expect([cpu.reg(CX), cpu.rip]).toEqual([BigInt(1 - k), 0x1000n]);
  }
  expect(cpu.run(50)).toEqual({ kind: 'hlt' });
});

test('a pending MMIO read takes the handed-over data even if the address has become RAM', () => {
  for (const drop of [false, true]) {
    const { cpu, bus, ram } = guest([0xa1, 0x00, 0x30, 0xa1, 0x00, 0x30, 0xf4]);
    bus.pages = 3;
    expect(cpu.run(1)).toMatchObject({ kind: 'mmio', gpa: 0x3000, isWrite: false });
    bus.pages = 16;
    bus.generation++;
    ram.set([9, 9], 0x3000);
    cpu.completeMmio(bytes(1, 1));
    if (drop) cpu.abandonPending();
    cpu.run(drop ? 1 : 0);
    expect(cpu.reg(AX)).toBe(drop ? 0x909n : 0x101n);
    expect(cpu.run(10)).toEqual({ kind: 'hlt' });
    expect(cpu.reg(AX)).toBe(0x909n);
  }
});

test('a read-only page: loads see memory, stores are MMIO', () => {
  const { cpu, bus, ram } = guest([0xff, 0x06, 0x00, 0x30, 0xf4]);
  bus.readOnly = 3;
  bus.generation++;
  ram.set([5], 0x3000);
  expect(cpu.run(10)).toEqual({ kind: 'mmio', gpa: 0x3000, len: 2, isWrite: true, data: bytes(6, 0) });
  expect(ram[0x3000]).toBe(5);
});

test('a page is asked for writing once per generation, and never one that is only read', () => {
  const { cpu, bus } = guest([0xa3, 0x00, 0x30, 0xa3, 0x02, 0x30, 0xa1, 0x00, 0x40, 0xeb, 0xf5]);
  cpu.run(30);
  expect(bus.writable).toEqual([3]);
  bus.generation++;
  cpu.run(30);
  expect(bus.writable).toEqual([3, 3]);
  expect(bus.written).toEqual([]);
});

test('where every store is told, each is, once for each page it touches', () => {
  // mov [0x3000],ax; mov [0x3fff],ax; inc byte [0x3000]; cmp [0x3000],ax; rep stosw
  const { cpu, bus } = guest([0xa3, 0, 0x30, 0xa3, 0xff, 0x3f, 0xfe, 6, 0, 0x30, 0x39, 6, 0, 0x30, 0xf3, 0xab, 0xf4]);
  bus.tellsStores = true;
  cpu.setReg(1, 2n);
  cpu.setReg(7, 0x5000n);
  cpu.run(30);
  expect(bus.written).toEqual([3, 3, 4, 3, 5, 5]);
});

test('code fetch from a page that is not RAM: INTERNAL_ERROR with the bytes before it, again and again', () => {
  const { cpu, ram } = guest([0xe9, 0xfc, 0xef]); // jmp 0xffff
  Object.assign(cpu.segments[1]!, { limit: 0xfffff });
  cpu.refresh();
  ram[0xffff] = 0xb8;
  for (let k = 0; k < 2; k++) {
    expect(cpu.run(10)).toEqual({ kind: 'internalError', suberror: 1, insnBytes: bytes(0xb8) });
    expect(cpu.rip).toBe(0xffffn);
  }
});

test('what is not modelled is said, never guessed; #UD is for what no processor has', () => {
  const { cpu } = guest([0x90, 0xd9, 0xc0]);
  expect(cpu.run(10)).toMatchObject({ kind: 'notModelled', description: expect.stringContaining('d9') });
  expect(cpu.rip).toBe(0x1001n);
  for (const code of [
    [0x0f, 0x0b],
    [0xf0, 0x90],
    [0xf0, 0x01, 0xc0],
    [0x8d, 0xc0],
    [0xc4, 0xc0],
    [0x0f, 0x00, 0xd8],
  ]) {
    // C4 as VEX, and LEA of a register, are what KVM's emulator cannot, and the processor has no form of in real mode.
    const unknown = code[0] === 0xc4 || code[0] === 0x8d;
    const undefined6 = guest(code, { options: { emulated: !unknown } });
    expect(undefined6.cpu.run(10)).toEqual({ kind: 'hlt' });
    expect(undefined6.cpu.rip).toBe(0x607n);
    if (unknown) expect(guest(code).cpu.run(10)).toMatchObject({ kind: 'internalError', suberror: 1 });
  }
  const paging = guest([0x90]);
  Object.assign(paging.cpu, { cr0: 0x80000011, cr4: 0x1020n, efer: 0x500n });
  paging.cpu.refresh();
  expect(paging.cpu.run(10)).toMatchObject({ kind: 'notModelled', description: 'five-level paging' });
});

test('fuel is exact, and divides a REP', () => {
  const { cpu, ram } = guest([0x40, 0x40, 0xf3, 0xaa, 0xf4]);
  cpu.setReg(CX, 10n);
  cpu.setReg(DI, 0x3000n);
  expect(cpu.run(1)).toEqual({ kind: 'fuel' });
  expect([cpu.rip, cpu.executed]).toEqual([0x1001n, 1]);
  cpu.run(4);
  expect([cpu.reg(CX), cpu.executed, cpu.rip]).toEqual([7n, 5, 0x1002n]);
  expect(cpu.run(100)).toEqual({ kind: 'hlt' });
  expect(ram.subarray(0x3000, 0x300b)).toEqual(bytes(2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0));
});
