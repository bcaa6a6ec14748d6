import { describe, expect, test } from 'vitest';
import type { IommuFault } from '../../../src/sim/hardware/iommu.ts';
import { RootPort } from '../../../src/sim/hardware/models/ports.ts';
import { PAGE_SIZE } from '../../../src/sim/mm/pages.ts';
import { alone, attach, Memory, machine, Pages } from './kit.ts';

const EPERM = -1;
const EBUSY = -16;
const EINVAL = -22;
const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 7) & 0xff);

describe('translation', () => {
  test('both ways, over pages that are apart', () => {
    const { dev, fn, system } = alone(new Memory());
    const pages = new Pages().map(0x1000n, 5).map(0x2000n, 2);
    attach(dev, pages);
    const sent = bytes(3000);
    expect(fn.dma.write(0x1f00n, sent)).toBe(true);
    const there = new Uint8Array(3000);
    pages.store.read(5 * PAGE_SIZE + 0xf00, there.subarray(0, 0x100));
    pages.store.read(2 * PAGE_SIZE, there.subarray(0x100));
    expect(there).toEqual(sent);
    expect(fn.dma.read(0x1f00, 3000)).toEqual(sent);
    expect(fn.dma.read(0x1f00, 0)).toEqual(new Uint8Array());
    expect(system.pci.iommu!.faults).toEqual([]);
  });

  test('what is stopped is recorded and told; what lies before it has been written', () => {
    const { dev, fn, system } = alone(new Memory());
    const { iommu } = system.pci;
    const told: IommuFault[] = [];
    const stop = iommu!.onFault((fault) => told.push(fault));
    const pages = new Pages().map(0x1000n, 1).map(0x3000n, 3, true);
    const at = '0000:00:02.0';
    expect(fn.dma.read(0x1000n, 4)).toBeUndefined();
    const owner = attach(dev, pages);
    expect(fn.dma.write(0x1ffcn, bytes(8))).toBe(false);
    expect(fn.dma.read(0x1ffcn, 4)).toEqual(bytes(4));
    expect(fn.dma.write(0x3000n, bytes(4))).toBe(false);
    expect(fn.dma.read(0x3000n, 4)).toEqual(new Uint8Array(4));
    expect(fn.dma.read(1n << 60n, 4)).toBeUndefined();
    expect(fn.dma.read(0x1000n, 4, { pasid: 5 })).toBeUndefined();
    stop();
    dev.iommuGroup!.detach();
    expect(fn.dma.read(0x1000n, 4)).toBeUndefined();
    dev.iommuGroup!.releaseDma(owner);
    expect(iommu!.faults).toEqual([
      { bdf: at, iova: 0x1000n, write: false, reason: 'no translation' },
      { bdf: at, iova: 0x2000n, write: true, reason: 'no translation' },
      { bdf: at, iova: 0x3000n, write: true, reason: 'no translation' },
      { bdf: at, iova: 1n << 60n, write: false, reason: 'outside the aperture' },
      { bdf: at, iova: 0x1000n, write: false, reason: 'no pasid', pasid: 5 },
      { bdf: at, iova: 0x1000n, write: false, reason: 'blocked' },
    ]);
    expect(told).toEqual(iommu!.faults.slice(0, 5));
  });

  test('without bus mastering nothing is even asked for', () => {
    const { dev, fn, system } = alone(new Memory());
    attach(dev, new Pages().map(0n, 1));
    dev.setMaster(false);
    expect([fn.dma.read(0n, 4), fn.dma.write(0n, bytes(4))]).toEqual([undefined, false]);
    expect(system.pci.iommu!.faults).toEqual([]);
  });

  test('another device’s registers: as wide as they can be', () => {
    const { dev, fn } = alone(new Memory());
    const seen: [number, number][] = [];
    const device = {
      load: (offset: number, width: number) => {
        seen.push([offset, width]);
        return 0x44332211 % 2 ** (8 * width);
      },
      store: (offset: number, width: number) => {
        seen.push([offset, width]);
        return 0;
      },
    };
    dev.iommuGroup!.attach({ translate: (iova, length) => ({ device, offset: Number(iova), length }) });
    expect(fn.dma.read(2n, 7)).toEqual(Uint8Array.of(0x11, 0x22, 0x11, 0x22, 0x33, 0x44, 0x11));
    expect(fn.dma.write(1n, bytes(3))).toBe(true);
    expect(seen).toEqual([
      [2, 2],
      [4, 4],
      [8, 1],
      [1, 1],
      [2, 2],
    ]);
  });

  test('without an IOMMU addresses are those of BARs; RAM has none', () => {
    const [one, two] = [new Memory(), new Memory()];
    const system = machine(
      [
        { at: '0000:00:02.0', device: one },
        { at: '0000:00:03.0', device: two },
      ],
      { iommu: null },
    );
    const [first, second] = system.pci.devices;
    for (const dev of [first!, second!]) dev.setMaster(true);
    expect(first!.iommuGroup).toBeUndefined();
    expect(one.dma.write(second!.resources[0]!.start + 16n, Uint8Array.of(1, 2, 3, 4))).toBe(true);
    expect(second!.barRead(0, 16, 4)).toBe(0x0403_0201);
    expect(one.dma.read(0x10_0000n, 4)).toBeUndefined();
    system.pci.fabric.hostMemory = new Pages().map(0x10_0000n, 1);
    expect(one.dma.read(0x10_0000n, 4)).toEqual(new Uint8Array(4));
  });

  test('PASIDs have tables of their own', () => {
    const { dev, fn } = alone(new Memory());
    const group = dev.iommuGroup!;
    const [plain, other] = [new Pages().map(0n, 1), new Pages().map(0n, 1)];
    attach(dev, plain);
    expect([group.attachPasid(dev, 7, other), group.attachPasid(dev, 7, other), group.attachPasid(dev, 2 ** 20, other)]).toEqual([
      0,
      EBUSY,
      EINVAL,
    ]);
    expect(fn.dma.write(0n, bytes(4), { pasid: 7 })).toBe(true);
    expect([fn.dma.read(0n, 4), fn.dma.read(0n, 4, { pasid: 7 })]).toEqual([new Uint8Array(4), bytes(4)]);
    expect([group.replacePasid(dev, 7, plain), group.replacePasid(dev, 8, plain)]).toEqual([0, EINVAL]);
    expect(fn.dma.read(0n, 4, { pasid: 7 })).toEqual(new Uint8Array(4));
    group.detachPasid(dev, 7);
    expect([fn.dma.read(0n, 4, { pasid: 7 }), group.hasPasid(dev, 7)]).toEqual([undefined, false]);
  });
});

describe('ownership', () => {
  const group = () => {
    const { dev, fn } = alone(new Memory());
    return { dev, fn, group: dev.iommuGroup! };
  };

  test('a claim of the whole group wants it free, one of a device only no other owner', () => {
    const { dev, group: own } = group();
    const [a, b] = [{}, {}];
    expect([own.claimDma(a), own.claimDma(a), own.claimDma(b)]).toEqual([0, EPERM, EPERM]);
    expect([own.claimDeviceDma(dev, a), own.claimDeviceDma(dev, b)]).toEqual([0, EPERM]);
    expect([own.viable, own.owner === a, own.domain]).toEqual([false, true, 'blocked']);
    own.releaseDma(a);
    expect([own.viable, own.domain]).toEqual([false, 'blocked']);
    own.releaseDma(a);
    expect([own.viable, own.owner, own.domain]).toEqual([true, undefined, 'default']);
    expect(() => own.releaseDma(a)).toThrow();
  });

  test('drivers of the host count too, and keep owners out as owners keep them', () => {
    const { dev, group: own } = group();
    const owner = {};
    expect([own.useDefaultDomain(), own.useDefaultDomain(), own.viable]).toEqual([0, 0, false]);
    expect([own.claimDma(owner), own.claimDeviceDma(dev, owner)]).toEqual([EPERM, EPERM]);
    own.unuseDefaultDomain();
    own.unuseDefaultDomain();
    expect([own.claimDma(owner), own.useDefaultDomain()]).toEqual([0, EBUSY]);
    own.unuseDefaultDomain();
    expect(own.ownerCount).toBe(1);
  });

  test('a group that is not on its default domain cannot be claimed', () => {
    const { dev, group: own } = group();
    expect(own.attach(new Pages())).toBe(0);
    expect([own.claimDma({}), own.claimDeviceDma(dev, {}), own.attach(new Pages())]).toEqual([EBUSY, EBUSY, EBUSY]);
    own.detach();
    expect(own.domain).toBe('default');
  });

  test('one domain after the other, without a gap', () => {
    const { dev, fn, group: own } = group();
    attach(dev, new Pages());
    expect(own.replace(new Pages().map(0n, 1))).toBe(0);
    expect(fn.dma.read(0n, 1)).toEqual(Uint8Array.of(0));
    own.detach();
    expect(own.domain).toBe('blocked');
  });

  test('a default domain’s type can be changed', () => {
    const { group: own } = group();
    expect([own.type, own.setType('identity'), own.type, own.setType('auto'), own.type]).toEqual([
      'DMA',
      0,
      'identity',
      0,
      'DMA',
    ]);
  });
});

describe('groups', () => {
  /** Addresses by group. */
  const groups = (pci: readonly (readonly [at: string, model: string, options?: Record<string, unknown>])[]): string[] => {
    const placements = pci.map(([at, model, options = {}]) => ({ at: `0000:${at}`, model, options }));
    const system = machine([], { pci: placements });
    return system.pci.groups.map(({ devices }) => [...devices].map(({ bdf }) => bdf.slice(5)).join(' '));
  };
  const endpoint = { vendor: 1, device: 1, class: 0, express: true };

  test('a port with access control keeps what is below apart, one without does not', () => {
    const below = (acs: boolean) =>
      groups([
        ['00:03.0', 'pcie-root-port', { acs }],
        ['01:00.0', 'fixture', endpoint],
      ]);
    expect(below(true)).toEqual(['00:03.0', '01:00.0']);
    expect(below(false)).toEqual(['00:03.0 01:00.0']);
  });

  test('a switch: as its downstream ports can', () => {
    const tree = (acs: boolean) =>
      groups([
        ['00:03.0', 'pcie-root-port'],
        ['01:00.0', 'switch-upstream'],
        ['02:00.0', 'switch-downstream', { acs }],
        ['02:01.0', 'switch-downstream', { acs }],
        ['03:00.0', 'fixture', endpoint],
        ['04:00.0', 'fixture', endpoint],
      ]);
    expect(tree(true)).toEqual(['00:03.0', '01:00.0', '02:00.0', '02:01.0', '03:00.0', '04:00.0']);
    expect(tree(false)).toEqual(['00:03.0', '01:00.0', '02:00.0 03:00.0', '02:01.0 04:00.0']);
  });

  test('functions of one slot: together, unless each has access control', () => {
    const acs = { id: 0x0d, bytes: Uint8Array.of(0x1d, 0, 0, 0), writable: Uint8Array.of(0, 0, 0x1d, 0) };
    const pair = (more: object) =>
      groups([
        ['00:03.0', 'fixture', { ...endpoint, multifunction: true, ...more }],
        ['00:03.1', 'fixture', { ...endpoint, ...more }],
        ['00:04.0', 'fixture', endpoint],
      ]);
    expect(pair({})).toEqual(['00:03.0 00:03.1', '00:04.0']);
    expect(pair({ extended: [acs] })).toEqual(['00:03.0', '00:03.1', '00:04.0']);
  });

  test('conventional bridges: all that is behind them is one requester', () => {
    expect(
      groups([
        ['00:03.0', 'pci-bridge'],
        ['01:01.0', 'pci-testdev'],
        ['01:02.0', 'edu'],
        ['00:04.0', 'pci-testdev'],
      ]),
    ).toEqual(['00:03.0 01:01.0 01:02.0', '00:04.0']);
  });

  test('numbers of groups that are gone are given again', () => {
    const [one, two] = [new Memory(), new Memory()];
    const { pci } = machine([
      { at: '0000:00:02.0', device: one },
      { at: '0000:00:03.0', device: two },
    ]);
    pci.unplug(one);
    expect(pci.groups.map(({ id }) => id)).toEqual([1]);
    expect(pci.plug(one, '0000:00:05.0')!.iommuGroup!.id).toBe(0);
  });

  test('several segments', () => {
    const { pci } = machine([
      { at: '0000:00:02.0', device: new Memory() },
      { at: '0001:00:01.0', device: new RootPort() },
      { at: '0001:01:00.0', device: new Memory({ express: true }) },
    ]);
    expect(pci.devices.map(({ bdf, segment }) => [bdf, segment])).toEqual([
      ['0000:00:02.0', 0],
      ['0001:00:01.0', 1],
      ['0001:01:00.0', 1],
    ]);
    const starts = pci.devices.map(({ resources }) => resources[0]!.start);
    expect(new Set(starts).size).toBe(3);
  });
});
