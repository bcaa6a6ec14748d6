// What recorded 64-bit user-mode cases run in, how one is written down, and the same on the simulated CPU.
//
// Data lies at DATA and, for 32-bit addressing, at ALIAS; code at CODE, which holds nothing but HLT besides the case: in user mode that faults,
// and ends it. So does any other fault: where RIP stands says which it was.
import { random } from './guest.mjs';

export const DATA = 0x5000_1000_0000n;
export const ALIAS = 0x1000_0000n;
export const CODE = 0x4000_0000_0000n;
export const DATA_SIZE = 0x10000;
export const CODE_SIZE = 0x2000;
/** Offset of the case in the code. */
export const ENTRY = 0x800;
const NAMES = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'];
/** Arithmetic flags and DF: the others are the host's, or RF, which a fault sets. */
const FLAGS = 0xcd5n;

export function images() {
  const bytes = new Uint8Array(DATA_SIZE + CODE_SIZE).fill(0xf4);
  const view = new DataView(bytes.buffer);
  const next = random(1);
  for (let at = 0; at < DATA_SIZE; at += 4) view.setUint32(at, next(), true);
  return bytes;
}

export const formatInput = (c) =>
  `${Buffer.from(c.code).toString('hex')} ${[...c.regs, c.flags].map((value) => value.toString(16)).join(',')}`;

export function parse(line) {
  const [code, before, after, memory = ''] = line.split(' ');
  const numbers = before.split(',').map((value) => BigInt(`0x${value}`));
  return {
    code: Uint8Array.from(Buffer.from(code, 'hex')),
    regs: numbers.slice(0, 16),
    flags: numbers[16],
    expected: `${after} ${memory}`.trimEnd(),
  };
}

/** Changed registers; RIP as an offset in the code; flags; changed memory. */
export function formatResult(c, { regs, rip, flags, memory }) {
  const changed = NAMES.flatMap((name, n) => (regs[n] === c.regs[n] ? [] : [`${name}=${regs[n].toString(16)}`]));
  const offset = BigInt.asIntN(64, rip - CODE).toString(16);
  const runs = [];
  let previous = -2;
  for (const [at, byte] of memory) {
    const hex = byte.toString(16).padStart(2, '0');
    if (at === previous + 1) runs[runs.length - 1] += hex;
    else runs.push(`${at.toString(16)}:${hex}`);
    previous = at;
  }
  return `${[...changed, `ip=${offset}`, `fl=${(flags & FLAGS).toString(16)}`].join(',')} ${runs.join(',')}`.trimEnd();
}

// Guest-physical: page tables from 0x1000 on, data at 0x20000, code behind it.
const DATA_PHYSICAL = 0x20000;
const SIZE = DATA_PHYSICAL + DATA_SIZE + CODE_SIZE;
const pristine = new Uint8Array(SIZE);
pristine.set(images(), DATA_PHYSICAL);
mapAll(new DataView(pristine.buffer));
const u8 = pristine.slice();
const view = new DataView(u8.buffer);
const page = (bytes, at) => Buffer.from(bytes.buffer, at, 4096);

/** Four levels of tables, all writable and open to the user. */
function mapAll(tables) {
  let free = 0x2000;
  const map = (linear, physical, noExecute) => {
    let table = 0x1000;
    for (const shift of [39n, 30n, 21n]) {
      const at = table + Number((linear >> shift) & 511n) * 8;
      if (tables.getUint32(at, true) === 0) {
        tables.setUint32(at, free | 7, true);
        free += 0x1000;
      }
      table = tables.getUint32(at, true) & ~0xfff;
    }
    const at = table + Number((linear >> 12n) & 511n) * 8;
    tables.setUint32(at, physical | 7, true);
    tables.setUint32(at + 4, noExecute ? 0x80000000 : 0, true);
  };
  for (let at = 0; at < DATA_SIZE; at += 0x1000) {
    map(DATA + BigInt(at), DATA_PHYSICAL + at, true);
    map(ALIAS + BigInt(at), DATA_PHYSICAL + at, true);
  }
  for (let at = 0; at < CODE_SIZE; at += 0x1000) map(CODE + BigInt(at), DATA_PHYSICAL + DATA_SIZE + at, false);
}

/** Runs one case on the simulated CPU. */
export function replay(Cpu, c) {
  u8.set(pristine);
  u8.set(c.code, DATA_PHYSICAL + DATA_SIZE + ENTRY);
  const bus = {
    generation: 0,
    page: (n) => (n < SIZE / 4096 ? { view, u8, offset: n * 4096 } : null),
    cpuid: (leaf) => ({ eax: leaf === 0x80000008 ? 48 : 0, ebx: 0, ecx: 0, edx: 0 }),
    rdmsr: () => null,
    wrmsr: () => false,
    tsc: () => 0n,
  };
  const cpu = new Cpu(bus, { emulated: false });
  Object.assign(cpu, { cr0: 0x80000011, cr3: 0x1000n, cr4: 0x620n, efer: 0xd01n });
  Object.assign(cpu.segments[1], { selector: 0x33, base: 0n, limit: 0xffffffff, type: 11, dpl: 3, s: 1, l: 1, g: 1, db: 0 });
  Object.assign(cpu.segments[2], { selector: 0x2b, base: 0n, limit: 0xffffffff, type: 3, dpl: 3, s: 1, g: 1, db: 1 });
  for (const n of [0, 3, 4, 5]) Object.assign(cpu.segments[n], { selector: 0, base: 0n, unusable: 1, present: 0 });
  cpu.idt.limit = 0;
  cpu.refresh();
  c.regs.forEach((value, n) => {
    cpu.setReg(n, value);
  });
  cpu.rip = CODE + BigInt(ENTRY);
  cpu.setFlags(Number(c.flags | 0x202n));
  const outcome = cpu.run(10_000);
  const memory = [];
  for (let at = DATA_PHYSICAL; at < SIZE; at++) {
    if (at % 4096 === 0 && page(u8, at).equals(page(pristine, at))) {
      at += 4095;
      continue;
    }
    const offset = at - DATA_PHYSICAL;
    const code = offset - DATA_SIZE - ENTRY;
    const before = code >= 0 && code < c.code.length ? c.code[code] : pristine[at];
    if (u8[at] !== before) memory.push([offset, u8[at]]);
  }
  return {
    outcome,
    regs: NAMES.map((_, n) => cpu.reg(n)),
    rip: cpu.rip,
    flags: BigInt(cpu.flags() >>> 0),
    memory,
  };
}
