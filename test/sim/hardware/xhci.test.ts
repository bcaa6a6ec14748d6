/** The xHCI controller as far as it goes: what it says of itself, a ROM, and no more. */
import { expect, test } from 'vitest';
import { NecXhci } from '../../../src/sim/hardware/models/xhci.ts';
import * as r from '../../../src/uapi/pci-regs.ts';

test('says what it is, by four and by eight bytes', () => {
  const xhci = new NecXhci();
  expect([0, 4, 0x20].map((at) => xhci.load(0, at, 4))).toEqual([0x0100_0040, 0x0800_1040, 0x0200_0402]);
  expect(xhci.load(0, 0x18, 8)).toBe(0x1000n);
});

// Compared by the fuzzer with QEMU's.
test('is read whole: the low bits of a register come, and zeros from its middle; a store changes nothing', () => {
  const xhci = new NecXhci();
  expect([xhci.load(0, 4, 1), xhci.load(0, 4, 2), xhci.load(0, 2, 2), xhci.load(0, 5, 1)]).toEqual([0x40, 0x1040, 0, 0]);
  xhci.store(0, 4, 4, 0);
  expect(xhci.load(0, 4, 4)).toBe(0x0800_1040);
});

test.each([
  ['a register that does something', () => new NecXhci().load(0, 0x40, 4)],
  ['eight bytes over the end of those that do not', () => new NecXhci().load(0, 0x3c, 8)],
  ['a store', () => new NecXhci().store(0, 0x40, 4, 1)],
])('throws NotModelled: %s', (_what, access) => {
  expect(access).toThrow(expect.objectContaining({ code: 'ERR_KVIO_NOT_MODELLED' }));
});

test('its MSI-X table is there', () => {
  const xhci = new NecXhci();
  xhci.store(0, 0x3000, 4, 0xfee0_0000);
  expect(xhci.load(0, 0x3000, 4)).toBe(0xfee0_0000);
});

test('on the root bus it is part of the root complex', () => {
  const type = (xhci: NecXhci): number => (xhci.config.peek(xhci.positions.express + r.PCI_EXP_FLAGS, 2) >> 4) & 0xf;
  expect([new NecXhci(), new NecXhci({ integrated: true })].map(type)).toEqual([r.PCI_EXP_TYPE_ENDPOINT, r.PCI_EXP_TYPE_RC_END]);
});

test('a ROM of its own', () => {
  const xhci = new NecXhci({ rom: Uint8Array.of(0x55, 0xaa, 1) });
  expect(xhci.load(6, 0, 4)).toBe(0xff01_aa55);
});
