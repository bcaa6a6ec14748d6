// Runs one recorded case on the simulated CPU.
import { CODE_IP, ENCODING, image, SELECTORS, SIZE } from './guest.mjs';

const pristine = image();
/** Guest RAM, and what it was before the case; both reused. */
const u8 = pristine.slice();
const view = new DataView(u8.buffer);
const page = (bytes, n) => Buffer.from(bytes.buffer, n * 4096, 4096);
const SEGMENTS = { cs: 1, ds: 3, es: 0, fs: 4, gs: 5, ss: 2 };
const EXIT_REASON = { hlt: 5, shutdown: 8, internalError: 17, io: 2, mmio: 6 };

/** `mode`: 0 real; 1 protected with 32-bit code and stack, the same bases and limits, and no interrupt table. */
export function replay(Cpu, c, mode) {
  u8.set(pristine);
  const code = SELECTORS.cs * 16 + CODE_IP;
  u8.set(c.code, code);
  const bus = {
    generation: 0,
    page: (n) => (n < SIZE / 4096 ? { view, u8, offset: n * 4096 } : null),
    cpuid: () => ({ eax: 0, ebx: 0, ecx: 0, edx: 0 }),
    rdmsr: () => null,
    wrmsr: () => false,
    tsc: () => 0n,
  };
  const cpu = new Cpu(bus);
  for (const [name, n] of Object.entries(SEGMENTS)) {
    cpu.segments[n].selector = SELECTORS[name];
    cpu.segments[n].base = BigInt(SELECTORS[name] * 16);
    cpu.segments[n].db = mode;
  }
  cpu.cr0 |= mode;
  if (mode === 1) cpu.idt.limit = 0;
  cpu.refresh();
  c.regs.forEach((value, k) => {
    cpu.setReg(ENCODING[k], BigInt(value));
  });
  cpu.rip = BigInt(CODE_IP);
  cpu.setFlags(c.flags);
  const outcome = cpu.run(10_000);
  const memory = [];
  for (let n = 0; n < SIZE / 4096; n++) {
    if (page(u8, n).equals(page(pristine, n))) continue;
    for (let at = n * 4096; at < (n + 1) * 4096; at++) {
      const before = at >= code && at < code + c.code.length ? c.code[at - code] : pristine[at];
      if (u8[at] !== before) memory.push([at, u8[at]]);
    }
  }
  return {
    exit: EXIT_REASON[outcome.kind] ?? outcome.description ?? outcome.kind,
    regs: ENCODING.map((n) => Number(cpu.reg(n))),
    ip: Number(cpu.rip),
    flags: cpu.flags() >>> 0,
    selectors: Object.keys(SELECTORS).map((name) => cpu.segments[SEGMENTS[name]].selector),
    memory,
  };
}
