// The guest the recorded CPU cases run in, and how a case is written down. Shared by the recorder and the test that replays its results.
//
// Real mode. The code segment holds nothing but HLT besides the case, so that a jump anywhere in it stops. Vector n of the interrupt table
// points to a HLT at 0000:0600+n. Data, extra and stack segments hold pseudo-random bytes.

export const SIZE = 0x60000;
export const SELECTORS = { cs: 0x1000, ds: 0x2000, es: 0x3000, fs: 0x2800, gs: 0x3800, ss: 0x4000 };
export const CODE_IP = 0x100;
export const REGISTERS = ['ax', 'bx', 'cx', 'dx', 'si', 'di', 'sp', 'bp'];
/** Register numbers of the instruction encoding in the order of REGISTERS (that of struct kvm_regs). */
export const ENCODING = [0, 3, 1, 2, 6, 7, 4, 5];

/** mulberry32. */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
}

export function image() {
  const bytes = new Uint8Array(SIZE).fill(0xf4);
  const view = new DataView(bytes.buffer);
  for (let n = 0; n < 256; n++) view.setUint32(n * 4, 0x600 + n, true);
  const next = random(1);
  for (let at = 0x20000; at < 0x50000; at += 4) view.setUint32(at, next(), true);
  return bytes;
}

/** One line of the golden file: code, the eight registers and flags before; what differs afterwards. All numbers hexadecimal. */
export const formatInput = (c) =>
  `${Buffer.from(c.code).toString('hex')} ${[...c.regs, c.flags].map((v) => v.toString(16)).join(',')}`;

export function parse(line) {
  const [code, before, exit, after, memory = ''] = line.split(' ');
  const numbers = before.split(',').map((v) => Number.parseInt(v, 16));
  return {
    code: Uint8Array.from(Buffer.from(code, 'hex')),
    regs: numbers.slice(0, 8),
    flags: numbers[8],
    expected: { exit: Number(exit), after, memory },
  };
}

/** What a case left behind, in the words of the golden file: changed registers, then cs:ip, flags; then changed memory. */
export function formatResult(c, result) {
  const changed = REGISTERS.flatMap((name, k) =>
    result.regs[k] !== c.regs[k] ? [`${name}=${result.regs[k].toString(16)}`] : [],
  );
  const segments = Object.keys(SELECTORS).flatMap((name, k) =>
    result.selectors[k] !== SELECTORS[name] ? [`${name}=${result.selectors[k].toString(16)}`] : [],
  );
  const after = [...changed, ...segments, `ip=${result.ip.toString(16)}`, `fl=${result.flags.toString(16)}`].join(',');
  const memory = [];
  let previous = -2;
  for (const [at, byte] of result.memory) {
    const hex = byte.toString(16).padStart(2, '0');
    if (at === previous + 1) memory[memory.length - 1] += hex;
    else memory.push(`${at.toString(16)}:${hex}`);
    previous = at;
  }
  return `${result.exit} ${after} ${memory.join(',')}`.trimEnd();
}

/** A result with the flags of `mask` (left undefined by the instructions) cleared. */
export const masked = (text, mask) =>
  text.replace(/fl=([0-9a-f]+)/, (_, hex) => `fl=${(Number.parseInt(hex, 16) & ~mask).toString(16)}`);
