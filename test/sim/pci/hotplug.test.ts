import { expect, test } from 'vitest';
import { Completion } from '../../../src/sim/completion.ts';
import { Edu } from '../../../src/sim/hardware/models/edu.ts';
import { Igb } from '../../../src/sim/hardware/models/network.ts';
import { RootPort } from '../../../src/sim/hardware/models/ports.ts';
import type { PciDev } from '../../../src/sim/pci/pci-dev.ts';
import * as r from '../../../src/uapi/pci-regs.ts';
import { attach, Memory, machine, Pages } from '../hardware/kit.ts';

const listener = (log: string[]) => ({
  added: (dev: PciDev) => void log.push(`+ ${dev.bdf}`),
  removed: (dev: PciDev) => void log.push(`- ${dev.bdf}`),
});

test('plugged in behind a port: found, with addresses from the port’s windows, and told', () => {
  const { pci } = machine([{ at: '0000:00:04.0', device: new RootPort() }]);
  const log: string[] = [];
  const stop = pci.listen(listener(log));
  const fn = new Memory({
    express: true,
    bars: {
      0: { size: 0x1000, space: 'mem32' },
      1: { size: 0x4000, space: 'mem32' },
      2: { size: 64, space: 'io' },
      4: { size: 0x2000, space: 'mem64' },
    },
  });
  const dev = pci.plug(fn, '0000:01:00.0')!;
  expect(log).toEqual(['+ 0000:00:04.0', '+ 0000:01:00.0']);
  const [io, memory, prefetchable] = (pci.find('0000:00:04.0')!.fn as RootPort).windows();
  const inside = (bar: number, [first, last]: readonly [bigint, bigint]): boolean =>
    first <= dev.resources[bar]!.start && dev.resources[bar]!.end <= last;
  expect([inside(0, memory!), inside(1, memory!), inside(2, io!), inside(4, prefetchable!)]).toEqual([true, true, true, true]);
  expect(dev.enableDevice()).toBe(0);
  dev.barWrite(4, 8, 8, 5n);
  expect([dev.barRead(0, 8, 8), dev.barRead(4, 8, 4), dev.irq.line]).toEqual([5n, 5, 20]);
  stop();
  pci.unplug(fn);
  expect(log).toHaveLength(2);
});

test('what does not fit stays without an address, and cannot be enabled', () => {
  const { pci } = machine([{ at: '0000:00:04.0', device: new RootPort() }]);
  const dev = pci.plug(new Memory({ bars: { 0: { size: 0x40_0000, space: 'mem32' } } }), '0000:01:00.0')!;
  expect([dev.resources[0]!.start, dev.enableDevice(), dev.enableCount]).toEqual([0n, -22, 0]);
});

test('where nothing can be plugged in', () => {
  const { pci } = machine([{ at: '0000:00:02.0', device: new Memory() }]);
  const fn = new Memory();
  expect(() => pci.plug(fn, '0000:05:00.0')).toThrow('no such bus');
  expect(() => pci.plug(fn, '0000:00:02.0')).toThrow('taken');
  expect(() => pci.plug(fn, '00:02.0')).toThrow('no PCI address');
  expect(() => pci.plug(new RootPort(), '0000:00:03.0')).toThrow('bridge');
  expect(() => pci.unplug(fn)).toThrow('not plugged');
  pci.plug(fn, '0000:00:03.0');
  expect(() => pci.plug(fn, '0000:00:04.0')).toThrow('plugged in already');
});

test('surprise removal: all ones, nothing more of it happens, bridges take along what is below', () => {
  const [port, below] = [new RootPort(), new Edu()];
  const { pci, runner } = machine([
    { at: '0000:00:04.0', device: port },
    { at: '0000:01:00.0', device: below },
  ]);
  const log: string[] = [];
  pci.listen(listener(log));
  const dev = pci.find('0000:01:00.0')!;
  dev.enableDevice();
  dev.setMaster(true);
  attach(dev, new Pages().map(0n, 1));
  dev.barWrite(0, 8, 4, 5);
  below.setIntx(true);
  pci.unplug(port);
  expect(log.slice(2)).toEqual(['- 0000:01:00.0', '- 0000:00:04.0']);
  expect([dev.readConfig(0, 4), dev.readConfig(r.PCI_STATUS, 2), dev.barRead(0, 0, 4), dev.powerState, dev.removed]).toEqual([
    0xffff_ffff,
    0xffff,
    0xffff_ffff,
    0,
    true,
  ]);
  // What does not answer seems to assert its line.
  expect([below.dma.write(0n, Uint8Array.of(1)), below.raise(), dev.irq.intxAsserted()]).toEqual([false, false, true]);
  runner.spend(1_000_000_000n);
  expect([pci.devices, pci.groups]).toEqual([[], []]);
});

test('a device whose driver has users stays in the list and in its group until they are gone', () => {
  const fn = new Memory();
  const { pci } = machine([{ at: '0000:00:02.0', device: fn }]);
  const users = new Completion();
  pci.listen({ added: () => {}, removed: () => users });
  const dev = pci.find('0000:00:02.0')!;
  pci.unplug(fn);
  expect([pci.devices, dev.removed, dev.iommuGroup?.id]).toEqual([[dev], true, 0]);
  users.complete();
  expect([pci.devices, dev.iommuGroup]).toEqual([[], undefined]);
});

test('what is taken from the list, and not out, is found again', () => {
  const { pci } = machine([
    { at: '0000:00:04.0', device: new RootPort() },
    { at: '0000:01:00.0', device: new Memory({ express: true }) },
  ]);
  const before = pci.find('0000:01:00.0');
  pci.remove(before!);
  expect(pci.find('0000:01:00.0')).toBeUndefined();
  pci.rescan();
  const after = pci.find('0000:01:00.0')!;
  expect([after === before, after.parent?.bdf, after.resources]).toEqual([false, '0000:00:04.0', before!.resources]);
  pci.rescan();
  expect(pci.devices).toHaveLength(2);
});

test('virtual functions: made by the physical one, found, in groups of their own, with slices of its BARs', () => {
  const pf = new Igb();
  const { pci } = machine([
    { at: '0000:00:04.0', device: new RootPort() },
    { at: '0000:01:00.0', device: pf },
  ]);
  const dev = pci.find('0000:01:00.0')!;
  dev.enableDevice();
  const { sriov } = dev;
  expect([sriov!.totalVfs, sriov!.offset, sriov!.stride, sriov!.vfDevice, sriov!.numVfs]).toEqual([8, 0x80, 2, 0x10ca, 0]);
  expect([sriov!.enable(9), sriov!.enable(3), sriov!.enable(1)]).toEqual([-22, 0, -22]);
  expect(sriov!.vfs.map(({ bdf, physfn }) => [bdf, physfn === dev])).toEqual([
    ['0000:01:10.0', true],
    ['0000:01:10.2', true],
    ['0000:01:10.4', true],
  ]);
  const [first, second] = sriov!.vfs as [PciDev, PciDev];
  expect(second.resources[0]!.start - first.resources[0]!.start).toBe(0x4000n);
  expect([first.resourceLength(0), first.resourceLength(3), first.resources[0]!.start]).toEqual([
    0x4000n,
    0x4000n,
    dev.resources[7]!.start,
  ]);
  expect(new Set([dev, first, second].map(({ iommuGroup }) => iommuGroup!.id)).size).toBe(3);
  expect([first.readConfig(0, 4), first.irq.pin, first.irq.msixCount, first.resetMethods]).toEqual([0xffff_ffff, 0, 3, ['flr']]);
  // Its memory is decoded as long as the physical function says so.
  expect([first.irq.allocVectors('msix', 1, 3), first.barRead(3, 0, 8)]).toEqual([3, 0xfee0_0000n]);
  pf.config.write(0x160 + r.PCI_SRIOV_CTRL, 2, r.PCI_SRIOV_CTRL_VFE);
  expect(first.barRead(3, 0, 4)).toBe(0xffff_ffff);
  sriov!.disable();
  expect([sriov!.numVfs, first.readConfig(0, 4), pci.find('0000:01:10.0')]).toEqual([0, 0xffff_ffff, undefined]);
  expect(sriov!.enable(1)).toBe(0);
});

test('a reset of the physical function takes its virtual ones away', () => {
  const pf = new Igb();
  const { pci } = machine([
    { at: '0000:00:04.0', device: new RootPort() },
    { at: '0000:01:00.0', device: pf },
  ]);
  pci.find('0000:01:00.0')!.sriov!.enable(2);
  const virtual = pci.find('0000:01:10.0')!;
  expect(pci.fabric.virtualOf(pf)).toHaveLength(2);
  pf.performReset('flr');
  expect([pci.fabric.virtualOf(pf), virtual.barRead(0, 0, 4)]).toEqual([[], 0xffff_ffff]);
});
