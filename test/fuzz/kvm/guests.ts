/**
 * Short real-mode guests, made of instructions the simulated CPU has, with the operands a tape chooses. Each ends in HLT; vectors lead to
 * HLTs; loops count down a small CX. What KVM does with them shows in the exits, the registers and the RAM.
 */
import type { Choices } from '../choices.ts';

/** Where things are in the 64 KiB a guest lives in: vectors at 0, their HLTs, the code, data, the stack's top. */
export const ENTRY = 0x1000;
export const STACK = 0x8000;
const HANDLERS = 0x600;
const DATA = 0x2000;

type Template = (c: Choices) => readonly number[];

const word = (value: number): number[] => [value & 0xff, (value >> 8) & 0xff];
const register = (c: Choices): number => c.below(8);
/** SP keeps its value, or the stack would run over the code. */
const notSp = (c: Choices): number => c.pick([0, 1, 2, 3, 5, 6, 7]);
const data = (c: Choices): number => DATA + c.pick([0, 1, 0x10, 0xffe, 0xfff, 0x1000, 0x4fff]);
const immediate = (c: Choices): number => c.pick([0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, c.below(65536)]);
const byte = (c: Choices): number => immediate(c) & 0xff;
/** A port to read: no timer's. See `IN from a PIT` in excluded.ts. */
const port = (c: Choices): number => {
  const value = byte(c);
  return (value >= 0x40 && value < 0x44) || value === 0x61 ? 0x7f : value;
};
const modrm = (reg: number, rm: number): number => 0xc0 | (reg << 3) | rm;
/** ModRM with a 16-bit address. */
const at = (reg: number, address: number): number[] => [(reg << 3) | 6, ...word(address)];
const operandSize = (c: Choices): number[] => (c.chance(0.25) ? [0x66] : []);
/** An operand: a register but SP, or a word of data. */
const operand = (c: Choices, reg: number): number[] => (c.chance(0.4) ? at(reg, data(c)) : [modrm(reg, notSp(c))]);
const load = (reg: number, value: number): number[] => [0xb8 | reg, ...word(value)];
const SEGMENTS = [0x0000, 0x1000, 0x2000, 0x1fff, 0xf000, 0xffff];
const sized = (c: Choices, opcode: number): number[] => [...operandSize(c), opcode];
/** Undefined flags are what the processor likes: CMP of a register with itself sets them all. */
const settled = (code: readonly number[]): number[] => [...code, 0x39, 0xc0];

/** Data for what locks the bus: see `LOCK` in excluded.ts. */
const aligned = (c: Choices): number => DATA + c.pick([0, 0x10, 0xffc, 0x1000]);

/** A register named by ES or DS pointed somewhere: RAM, another slot, or nothing at all. */
const segment: Template = (c) => [...load(0, c.pick(SEGMENTS)), 0x8e, modrm(c.pick([3, 0]), 0)];

const string: Template = (c) => {
  const opcode = c.pick([0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xa6, 0xa7, 0xae, 0xaf, 0x6c, 0x6d, 0x6e, 0x6f]);
  const prefix = c.pick([[], [0xf3], [0xf2]]);
  const direction = c.chance(0.2) ? [0xfd] : [];
  return [
    ...load(1, c.pick([3, 0, 1, 2, 5])),
    ...load(6, data(c)),
    ...load(7, data(c)),
    ...direction,
    ...prefix,
    ...sized(c, opcode),
    0xfc,
  ];
};

const templates: readonly (readonly [weight: number, template: Template])[] = [
  [4, () => [0xf4]],
  [6, (c) => load(notSp(c), immediate(c))],
  [3, (c) => [0xb0 | register(c), byte(c)]],
  [3, (c) => [0x66, 0xb8 | notSp(c), ...word(immediate(c)), ...word(immediate(c))]],
  [6, (c) => [0xe6, byte(c)]],
  [3, (c) => sized(c, 0xe7).concat(byte(c))],
  [5, (c) => [...load(2, immediate(c)), ...sized(c, c.pick([0xee, 0xef]))]],
  [5, (c) => sized(c, c.pick([0xe4, 0xe5])).concat(port(c))],
  [5, (c) => [...load(2, immediate(c)), ...sized(c, c.pick([0xec, 0xed]))]],
  [6, segment],
  [6, (c) => [...sized(c, c.pick([0xa3, 0xa2, 0xa0, 0xa1])), ...word(data(c))]],
  [8, (c) => [...sized(c, 8 * c.below(8) + c.below(4)), ...operand(c, register(c))]],
  [4, (c) => [...sized(c, 0x83), ...operand(c, register(c)), byte(c)]],
  [3, (c) => sized(c, (c.chance(0.5) ? 0x48 : 0x40) | notSp(c))],
  [3, (c) => [...sized(c, c.pick([0xfe, 0xff])), ...operand(c, c.below(2))]],
  [3, (c) => sized(c, 0x50 | register(c))],
  [3, (c) => sized(c, 0x58 | notSp(c))],
  [3, (c) => settled([...sized(c, c.pick([0xd0, 0xd1, 0xd2, 0xd3])), ...operand(c, register(c))])],
  [3, (c) => settled([...sized(c, c.pick([0xc0, 0xc1])), ...operand(c, register(c)), c.below(40)])],
  [3, (c) => settled([...sized(c, c.pick([0xf6, 0xf7])), ...operand(c, c.pick([2, 3, 4, 5, 6, 7]))])],
  [2, (c) => settled([...sized(c, 0x0f), 0xaf, ...operand(c, notSp(c))])],
  [8, string],
  [3, (c) => [c.pick([0xfa, 0xfb, 0xfc, 0xf5, 0xf8, 0xf9, 0x90, 0x98, 0x99, 0x9e, 0x9f])]],
  [2, (c) => [...sized(c, 0x9c), ...sized(c, 0x58 | notSp(c))]],
  [2, (c) => [...load(0, immediate(c) & ~0x100), 0x50, 0x9d]],
  // Vectors from 0x80 on: see `INT n` in excluded.ts.
  [3, (c) => [0xcd, byte(c) & 0x7f]],
  [1, (c) => [c.pick([0xcc, 0xce])]],
  [2, (c) => [...sized(c, c.pick([0x86, 0x87])), ...(c.chance(0.4) ? at(notSp(c), aligned(c)) : [modrm(notSp(c), notSp(c))])]],
  [2, (c) => [...sized(c, 0x8d), ...at(notSp(c), immediate(c))]],
  [2, (c) => [...sized(c, 0x0f), c.pick([0xb6, 0xb7, 0xbe, 0xbf]), ...operand(c, notSp(c))]],
  [2, (c) => [0x0f, 0x90 | c.below(16), ...operand(c, 0)]],
  [2, (c) => [0xf0, ...sized(c, c.pick([0x00, 0x01, 0x09, 0x21, 0x29, 0x31])), ...at(register(c), aligned(c))]],
  [2, (c) => [0x8c, modrm(c.below(6), notSp(c))]],
  [1, (c) => [0x06 | (c.pick([0, 1, 2, 3]) << 3)]],
  [2, (c) => [0x66, ...load(0, c.below(3)), 0, 0, 0x0f, 0xa2]],
  [1, (c) => [...load(1, c.pick([0x174, 0x277, 0x1b, 0x10a, 0xdead])), 0x66, 0x0f, 0x32]],
  [1, (c) => [0x0f, 0x20, modrm(c.pick([0, 2, 3, 4]), notSp(c))]],
  [1, (c) => [0x0f, 0x01, ...at(4, data(c))]],
  [1, () => [0x0f, 0x0b]],
  [1, (c) => [0xe8, 0, 0, 0x58 | notSp(c)]],
];

/** Instructions one after another; now and then a conditional jump over the next one, or a loop around it. */
export function guestCode(c: Choices): Uint8Array {
  const code: number[] = [];
  for (let left = 1 + c.below(10); left > 0; left--) {
    const next = c.weighted(templates)(c);
    const around = c.below(12);
    if (around === 10 && next.length < 100) code.push(0x70 | c.below(16), next.length, ...next);
    else if (around === 11 && next.length < 100)
      code.push(...load(1, 1 + c.below(4)), 0x51, ...next, 0x59, 0xe2, 0x100 - (next.length + 4));
    else code.push(...next);
  }
  return Uint8Array.from([...code, ...new Array<number>(16).fill(0xf4)]);
}

/** 256 vectors, each to a HLT of its own. */
export function vectors(): Uint8Array {
  const bytes = new Uint8Array(HANDLERS + 256).fill(0xf4, HANDLERS);
  const view = new DataView(bytes.buffer);
  for (let n = 0; n < 256; n++) view.setUint32(n * 4, HANDLERS + n, true);
  return bytes;
}
