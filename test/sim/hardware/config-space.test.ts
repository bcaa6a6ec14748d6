import { describe, expect, test } from 'vitest';
import { sizeBars, sizeRom } from '../../../src/sim/hardware/bars.ts';
import type { FunctionSpec } from '../../../src/sim/hardware/function-spec.ts';
import { Edu } from '../../../src/sim/hardware/models/edu.ts';
import { E1000e, Igb } from '../../../src/sim/hardware/models/network.ts';
import { Nvme } from '../../../src/sim/hardware/models/nvme.ts';
import { RootPort } from '../../../src/sim/hardware/models/ports.ts';
import { PciTestdev } from '../../../src/sim/hardware/models/testdev.ts';
import { NecXhci } from '../../../src/sim/hardware/models/xhci.ts';
import type { PciFunction } from '../../../src/sim/hardware/pci-function.ts';
import * as r from '../../../src/uapi/pci-regs.ts';
import { Memory, machine } from './kit.ts';

/** What a user of vfio-pci sees right after open in registers that are not virtual; `..` is not looked at: addresses, decoding, interrupt lines. */
const fixtures: readonly (readonly [name: string, () => PciFunction, size: number, Readonly<Record<number, string>>])[] = [
  [
    'e1000e',
    () => new E1000e(),
    4096,
    {
      0: '86 80 d3 10 .. .. 10 00 00 00 00 02 00 00 00 00',
      16: '00 00 .. .. 00 00 .. .. 01 .. 00 00 00 .. .. ..',
      32: '00 00 00 00 00 00 00 00 00 00 00 00 86 80 00 00',
      48: '00 .. .. .. c8 00 00 00 00 00 00 00 .. 01 00 00',
      160: '11 00 04 00 03 00 00 00 03 20 00 00 00 00 00 00',
      // The eight bits of PME support are masked for the user, not here.
      192: '00 00 00 00 00 00 00 00 01 d0 22 00 00 00 00 00',
      208: '05 e0 80 00 00 00 00 00 00 00 00 00 00 00 00 00',
      224: '10 a0 01 00 20 80 00 00 00 00 00 00 11 04 00 00',
      240: '00 00 11 00 00 00 00 00 00 00 00 00 00 00 00 00',
      256: '01 00 02 14 00 00 00 00 00 00 40 02 30 20 46 00',
      272: '00 00 00 00 00 e0 00 00 a0 00 00 00 00 00 00 00',
      320: '03 00 01 00 56 34 12 ff ff 00 54 52 00 00 00 00',
    },
  ],
  [
    'edu',
    () => new Edu(),
    256,
    {
      0: '34 12 e8 11 .. .. 10 00 10 00 ff 00 00 00 00 00',
      16: '00 00 .. .. 00 00 00 00 00 00 00 00 00 00 00 00',
      32: '00 00 00 00 00 00 00 00 00 00 00 00 f4 1a 00 11',
      48: '00 00 00 00 40 00 00 00 00 00 00 00 .. 01 00 00',
      64: '05 00 80 00 00 00 00 00 00 00 00 00 00 00 00 00',
    },
  ],
  [
    'nvme',
    () => new Nvme(),
    4096,
    {
      0: '36 1b 10 00 .. .. 10 00 02 02 08 01 00 00 00 00',
      16: '04 00 .. .. 00 00 00 00 00 00 00 00 00 00 00 00',
      32: '00 00 00 00 00 00 00 00 00 00 00 00 f4 1a 00 11',
      48: '00 00 00 00 40 00 00 00 00 00 00 00 .. 01 00 00',
      64: '11 80 40 00 00 20 00 00 00 30 00 00 00 00 00 00',
      96: '01 00 03 00 08 00 00 00 00 00 00 00 00 00 00 00',
      128: '10 60 02 00 20 80 00 10 00 00 00 00 11 04 00 00',
      144: '00 00 11 00 00 00 00 00 00 00 00 00 00 00 00 00',
      160: '00 00 00 00 00 00 30 00 00 00 00 00 00 00 00 00',
    },
  ],
  [
    'pci-testdev',
    () => new PciTestdev(),
    256,
    {
      0: '36 1b 05 00 .. .. 00 00 00 00 ff 00 00 00 00 00',
      16: '00 .. .. .. 01 .. 00 00 00 00 00 00 00 00 00 00',
      32: '00 00 00 00 00 00 00 00 00 00 00 00 f4 1a 00 11',
    },
  ],
];

/** Behind a root port where the fixture was. */
function placed(fn: PciFunction) {
  const express = fn.spec.express !== undefined;
  const pci = express ? [{ at: '0000:00:03.0', model: 'pcie-root-port' }] : [];
  const at = express ? '0000:01:00.0' : '0000:00:02.0';
  const system = machine([{ at, device: fn }], { pci });
  return system.pci.find(at)!;
}

describe.each(fixtures)('%s', (_name, make, size, rows) => {
  test('has the registers QEMU gives it, and no others', () => {
    const dev = placed(make());
    expect(dev.configSize).toBe(size);
    const found: Record<string, string> = {};
    const wanted: Record<string, string> = {};
    const bytes = dev.fn.config.snapshot();
    for (let at = 0; at < size; at += 16) {
      const row = [...bytes.subarray(at, at + 16)].map((byte) => byte.toString(16).padStart(2, '0'));
      const expected = (rows[at] ?? new Array<string>(16).fill('00').join(' ')).split(' ');
      found[at.toString(16)] = row.map((byte, i) => (expected[i] === '..' ? '..' : byte)).join(' ');
      wanted[at.toString(16)] = expected.join(' ');
    }
    expect(found).toEqual(wanted);
  });
});

test('BARs tell their size: what a write of all ones leaves', () => {
  const { fn } = placed(new E1000e());
  const sized = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24].map((at) => {
    const before = fn.config.read(at, 4);
    fn.config.write(at, 4, 0xffff_ffff);
    const mask = fn.config.read(at, 4);
    fn.config.write(at, 4, before);
    return mask.toString(16);
  });
  expect(sized).toEqual(['fffe0000', 'fffe0000', 'ffffffe1', 'ffffc000', '0', '0']);
  expect(sizeRom(fn.config, r.PCI_ROM_ADDRESS)?.size).toBe(0x4_0000n);
});

test('a BAR of 64 bits is sized over both its halves, and the upper one is none of its own', () => {
  const fn = new Memory({ bars: { 0: { size: 2 ** 36, space: 'mem64', prefetchable: true }, 2: { size: 16, space: 'io' } } });
  const bars = sizeBars(fn.config, r.PCI_BASE_ADDRESS_0, 6);
  expect(bars.map((bar) => bar?.size)).toEqual([2n ** 36n, undefined, 16n, undefined, undefined, undefined]);
  expect(bars[0]).toMatchObject({ wide: true, prefetchable: true, kind: 0xc });
  expect(bars[2]).toMatchObject({ io: true, kind: 1 });
});

test('one writes what can be written, and ones clear what says so', () => {
  const { config } = new Memory();
  config.write(r.PCI_VENDOR_ID, 4, 0);
  expect(config.read(r.PCI_VENDOR_ID, 4)).toBe(0x5678_1234);
  config.write(r.PCI_COMMAND, 2, 0xffff);
  expect(config.read(r.PCI_COMMAND, 2)).toBe(0x507);
  config.poke(r.PCI_STATUS, 2, 0xf910);
  config.write(r.PCI_STATUS, 2, 0x8010);
  expect(config.read(r.PCI_STATUS, 2)).toBe(0x7910);
  config.write(r.PCI_INTERRUPT_LINE, 4, 0xffff_ff05);
  expect(config.read(r.PCI_INTERRUPT_LINE, 4)).toBe(0x0105);
  expect([config.read(256, 4), config.read(0xfe, 4)]).toEqual([0xffff_ffff, 0xffff_ffff]);
});

test('capabilities take the next free place and are linked in order, or as the description says', () => {
  const spec = { pm: {}, msi: { vectors: 4 }, capabilities: [{ id: 9, bytes: Uint8Array.of(4, 0xaa) }] };
  const walk = ({ config }: PciFunction): number[] => {
    const ids = [];
    for (let at = config.read(r.PCI_CAPABILITY_LIST, 1); at !== 0; at = config.read(at + 1, 1)) ids.push(config.read(at, 1));
    return ids;
  };
  const plain = new Memory(spec);
  expect(walk(plain)).toEqual([1, 5, 9]);
  expect(plain.positions).toMatchObject({ pm: 0x40, msi: 0x48, msix: 0 });
  expect(walk(new Memory({ ...spec, chain: [0x58, 0x40, 0x48] }))).toEqual([9, 1, 5]);
});

test('extended capabilities start at 0x100', () => {
  const fn = new Igb();
  const seen: [number, number][] = [];
  for (let at = 0x100; at !== 0; at = fn.config.read(at, 4) >>> 20) seen.push([fn.config.read(at, 4) & 0xffff, at]);
  expect(seen).toEqual([
    [1, 0x100],
    [0x0e, 0x150],
    [0x10, 0x160],
  ]);
  expect(fn.config.read(0x160 + r.PCI_SRIOV_TOTAL_VF, 2)).toBe(8);
});

test.each<[string, Partial<FunctionSpec>]>([
  ['a size that is no power of two', { bars: { 0: { size: 3000, space: 'mem32' } } }],
  ['a BAR of 64 bits without an upper half', { bars: { 5: { size: 4096, space: 'mem64' } } }],
  ['three MSI vectors', { msi: { vectors: 3 } }],
  ['two capabilities in one place', { pm: { at: 0x40 }, msi: { vectors: 1, at: 0x44 } }],
  ['extended capabilities of a conventional device', { aer: true }],
  ['a list that begins elsewhere', { express: true, extended: [{ id: 3, at: 0x200, bytes: new Uint8Array(8) }] }],
  ['a list that names what is not there', { pm: {}, chain: [0x80] }],
])('a description is refused: %s', (_what, spec) => {
  expect(() => new Memory(spec)).toThrow(RangeError);
});

test('the xHCI controller has 16 vectors of each kind', () => {
  const { irq } = placed(new NecXhci());
  expect([irq.msiCount, irq.msixCount]).toEqual([16, 16]);
});

test('a bridge has windows only where firmware opened them', () => {
  const port = new RootPort();
  expect(port.forwardsDown('mem', 0xfe00_0000n)).toBe(false);
  expect(machine([{ at: '0000:00:03.0', device: port }]).pci.devices).toHaveLength(1);
  const [io, memory, prefetchable] = port.windows();
  expect([io, memory![1] - memory![0], prefetchable![1] - prefetchable![0]]).toEqual([
    [0x1000n, 0x1fffn],
    0x1f_ffffn,
    0x1f_ffffn,
  ]);
  expect(port.forwardsDown('mem', memory![0])).toBe(true);
  expect(port.forwardsDown('mem', memory![1] + 1n)).toBe(false);
  expect(port.forwardsDown('io', 0x1ffen)).toBe(true);
});
