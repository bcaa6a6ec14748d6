/** What Intel's processors leave in flags that are undefined, as one of them (family 6, model 207) had it under KVM's emulator. */
import { expect, test } from 'vitest';
import { guest } from './guest.ts';

const [AX, CX, DX, BX] = [0, 1, 2, 3];

/** Code, then AX, CL, BX and FLAGS before it, then AX and FLAGS after it. */
const computed: readonly (readonly [string, number[], number, number, number, number, number, number])[] = [
  ['SHL AX,CL', [0xd3, 0xe0], 0x74d, 9, 0x0, 0x893, 0x9a00, 0x86],
  ['SHL AL,CL', [0xd2, 0xe0], 0xab, 12, 0x0, 0x892, 0x0, 0x846],
  ['SHR AX,CL', [0xd3, 0xe8], 0xe681, 10, 0x0, 0x8c7, 0x39, 0x807],
  ['SAR AX,CL', [0xd3, 0xf8], 0x8000, 3, 0x0, 0x46, 0xf000, 0x86],
  ['ROL AX,CL', [0xd3, 0xc0], 0xa33, 12, 0x0, 0x47, 0x30a3, 0x47],
  ['ROL AX,CL', [0xd3, 0xc0], 0x54ef, 13, 0x0, 0x42, 0xea9d, 0x843],
  ['ROR AX,CL', [0xd3, 0xc8], 0xcaae, 4, 0x0, 0x53, 0xecaa, 0x853],
  ['RCL AL,CL', [0xd2, 0xd0], 0xa5, 14, 0x0, 0x857, 0xba, 0x856],
  ['RCL AL,CL by 9', [0xd2, 0xd0], 0xc5, 27, 0x0, 0x8d3, 0xc5, 0x8d3],
  ['RCR AX,CL', [0xd3, 0xd8], 0x4c7d, 8, 0x0, 0xc3, 0xfb4c, 0x8c2],
  ['SHLD AX,BX,CL', [0xf, 0xa5, 0xd8], 0xfca3, 10, 0x713, 0x802, 0x8c1c, 0x82],
  ['SHRD AX,BX,CL', [0xf, 0xad, 0xd8], 0xb35, 5, 0xf996, 0x8c6, 0xb059, 0x87],
  ['MUL BX', [0xf7, 0xe3], 0x46e9, 33, 0xd7dd, 0x7, 0xe625, 0x883],
  ['IMUL AX,BX', [0xf, 0xaf, 0xc3], 0x350d, 0, 0x1, 0x43, 0x350d, 0x2],
  ['DIV BX', [0xf7, 0xf3], 0x7fff, 0, 0xf9bf, 0x8c6, 0x0, 0x8c6],
  ['IDIV BL', [0xf6, 0xfb], 0x799, 0, 0x7f, 0x53, 0x280f, 0x53],
];

function run(code: readonly number[], intelFlags: boolean, [ax, cl, bx, flags]: readonly number[]) {
  const { cpu } = guest([...code, 0xf4], { options: { intelFlags } });
  for (const [n, value] of [
    [AX, ax],
    [CX, cl],
    [BX, bx],
    [DX, 0],
  ] as const)
    cpu.setReg(n, BigInt(value!));
  cpu.setFlags(flags!);
  expect(cpu.run(10)).toEqual({ kind: 'hlt' });
  return { ax: Number(cpu.reg(AX)), flags: cpu.flags() };
}

test.each(computed)('%s on Intel', (_name, code, ax, cl, bx, flags, result, after) => {
  expect(run(code, true, [ax, cl, bx, flags])).toEqual({ ax: result, flags: after });
});

test('on AMD the same results come with other flags', () => {
  const others = computed.filter(([, code, ax, cl, bx, flags, result, after]) => {
    const amd = run(code, false, [ax, cl, bx, flags]);
    expect(amd.ax).toBe(result);
    return amd.flags !== after;
  });
  expect(others.length).toBeGreaterThan(12);
});
