import { expect, test } from 'vitest';
import { Edu } from '../../../src/sim/hardware/models/edu.ts';
import { PciTestdev } from '../../../src/sim/hardware/models/testdev.ts';
import type { PciDev } from '../../../src/sim/pci/pci-dev.ts';
import { alone, attach, Pages } from './kit.ts';

/** What the program on the other side does: reads a register until it has the value, and time passes by that. */
function until(dev: PciDev, offset: number, mask: number, value: number): void {
  for (let left = 1000; (Number(dev.barRead(0, offset, 4)) & mask) !== value; left--) {
    if (left === 0) throw new Error('it never came');
  }
}

const all = (1n << 64n) - 1n;

test('edu: identification, liveness, factorial', () => {
  const { dev } = alone(new Edu());
  expect(dev.barRead(0, 0, 4)).toBe(0x0100_00ed);
  dev.barWrite(0, 4, 4, 0x1234_5678);
  expect(dev.barRead(0, 4, 4)).toBe(0xedcb_a987);
  dev.barWrite(0, 8, 4, 10);
  expect(dev.barRead(0, 0x20, 4)).toBe(1);
  dev.barWrite(0, 8, 4, 3);
  until(dev, 0x20, 1, 0);
  expect(dev.barRead(0, 8, 4)).toBe(3_628_800);
  dev.barWrite(0, 8, 4, 13);
  until(dev, 0x20, 1, 0);
  expect(dev.barRead(0, 8, 4)).toBe(Number(6_227_020_800n & 0xffff_ffffn));
});

test('edu: what QEMU’s answers to accesses it does not know', () => {
  const { dev } = alone(new Edu());
  expect([dev.barRead(0, 0, 1), dev.barRead(0, 0, 2), dev.barRead(0, 0, 8), dev.barRead(0, 0x30, 4)]).toEqual([
    0,
    0,
    all,
    0xffff_ffff,
  ]);
  expect([dev.barRead(0, 0x80, 4), dev.barRead(0, 0x80, 8), dev.barRead(0, 0x1000, 8)]).toEqual([0, 0n, all]);
});

test('edu: INTx until MSI is on', () => {
  const { dev, fn } = alone(new Edu());
  dev.barWrite(0, 0x60, 4, 0x11);
  expect([fn.intx, dev.barRead(0, 0x24, 4)]).toEqual([true, 0x11]);
  dev.barWrite(0, 0x64, 4, 0x01);
  expect(fn.intx).toBe(true);
  dev.barWrite(0, 0x64, 4, 0x10);
  expect([fn.intx, dev.barRead(0, 0x24, 4)]).toEqual([false, 0]);
  let calls = 0;
  dev.irq.allocVectors('msi', 1, 1);
  dev.irq.setHandler(0, () => calls++);
  dev.barWrite(0, 0x60, 4, 1);
  dev.barWrite(0, 0x60, 4, 1);
  expect([calls, fn.intx]).toEqual([2, false]);
});

test('edu: an interrupt when the factorial is done', () => {
  const { dev, fn } = alone(new Edu());
  dev.barWrite(0, 0x20, 4, 0x80);
  dev.barWrite(0, 8, 4, 5);
  until(dev, 0x20, 1, 0);
  expect([fn.intx, dev.barRead(0, 0x24, 4)]).toEqual([true, 1]);
});

test('edu: DMA both ways, with an interrupt at the end', () => {
  const { dev, fn } = alone(new Edu({ dmaMask: all }));
  const pages = new Pages().map(1n << 40n, 3);
  attach(dev, pages);
  const text = Buffer.from('a device that copies');
  pages.store.write(3 * 4096 + 8, text);
  const go = (source: bigint, destination: bigint, command: number): void => {
    dev.barWrite(0, 0x80, 8, source);
    dev.barWrite(0, 0x88, 8, destination);
    dev.barWrite(0, 0x90, 4, text.length);
    dev.barWrite(0, 0x98, 4, command);
    // Nothing changes while it runs.
    dev.barWrite(0, 0x90, 4, 1);
    until(dev, 0x98, 1, 0);
  };
  go((1n << 40n) + 8n, 0x40010n, 1);
  expect(Buffer.from(fn.buffer.subarray(0x10, 0x10 + text.length))).toEqual(text);
  expect(fn.intx).toBe(false);
  go(0x40010n, (1n << 40n) + 0x100n, 7);
  const back = new Uint8Array(text.length);
  pages.store.read(3 * 4096 + 0x100, back);
  expect(Buffer.from(back)).toEqual(text);
  expect([fn.intx, dev.barRead(0, 0x24, 4)]).toEqual([true, 0x100]);
});

test('edu: its DMA engine has 28 address bits, and stays inside its buffer', () => {
  const { dev, fn, system } = alone(new Edu());
  attach(dev, new Pages().map(0x1000n, 1));
  const from = (destination: bigint, count: number): void => {
    dev.barWrite(0, 0x80, 8, 0xf_0000_1000n);
    dev.barWrite(0, 0x88, 8, destination);
    dev.barWrite(0, 0x90, 4, count);
    dev.barWrite(0, 0x98, 4, 1);
    until(dev, 0x98, 1, 0);
  };
  from(0x40000n, 4);
  expect(system.pci.iommu!.faults).toEqual([]);
  fn.buffer.fill(7);
  from(0x40fffn, 2);
  from(0x3ffffn, 2);
  expect(fn.buffer.every((byte) => byte === 7)).toBe(true);
  from(0x40fffn, 1);
  expect(fn.buffer[4095]).toBe(0);
});

test('pci-testdev counts writes of the right byte to the place it names', () => {
  const { dev } = alone(new PciTestdev());
  expect(dev.barRead(0, 0, 4)).toBe(0);
  for (const [bar, base, name] of [
    [0, 2048, 'mmio-no-eventfd'],
    [1, 128, 'portio-no-eventfd'],
  ] as const) {
    dev.barWrite(bar, 0, 1, 0);
    const header = Uint8Array.from({ length: 16 + name.length + 1 }, (_, i) => Number(dev.barRead(bar, i, 1)));
    const view = new DataView(header.buffer);
    expect([view.getUint32(4, true), view.getUint32(8, true), view.getUint32(12, true)]).toEqual([base, 0xfa, 0]);
    expect(Buffer.from(header.subarray(16, -1)).toString()).toBe(name);
    dev.barWrite(bar, base, 1, 0xfa);
    dev.barWrite(bar, base, 1, 0xfb);
    dev.barWrite(bar, base + 1, 1, 0xfa);
    expect(dev.barRead(bar, 12, 4)).toBe(1);
  }
  dev.barWrite(0, 0, 1, 1);
  dev.barWrite(0, 2049, 1, 3);
  expect([dev.barRead(0, 12, 4), dev.barRead(0, 0, 1)]).toEqual([1, 1]);
  dev.barWrite(0, 0, 1, 9);
  expect(dev.barRead(0, 0, 8)).toBe(0n);
});
