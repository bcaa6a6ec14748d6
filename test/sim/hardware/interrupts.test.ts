import { expect, test } from 'vitest';
import * as r from '../../../src/uapi/pci-regs.ts';
import { alone, Memory, machine, vtd } from './kit.ts';

const MSIX = { vectors: 4, tableBar: 0, table: 0x800, pbaBar: 0, pba: 0xc00 };

test('INTx: the handler is called while the level stands, DisINTx takes it off the wire, STATUS tells all the same', () => {
  const { dev, fn } = alone(new Memory());
  let calls = 0;
  const handler = (): void => {
    calls++;
    dev.irq.maskIntx(true);
  };
  expect(dev.irq.intxSupported).toBe(true);
  expect(dev.irq.requestIntx(handler)).toBe(0);
  expect(dev.irq.requestIntx(handler)).toBe(-16);
  fn.setIntx(true);
  expect([calls, dev.irq.intxAsserted(), dev.readConfig(r.PCI_COMMAND, 2) & 0x400]).toEqual([1, true, 0x400]);
  fn.setIntx(true);
  dev.irq.maskIntx(false);
  expect(calls).toBe(2);
  fn.setIntx(false);
  expect([calls, dev.irq.intxAsserted()]).toEqual([2, false]);
  dev.irq.freeIntx();
  fn.setIntx(true);
  expect(calls).toBe(2);
});

test('a level that stands when the line is requested counts', () => {
  const { dev, fn } = alone(new Memory());
  fn.setIntx(true);
  let calls = 0;
  dev.irq.requestIntx(() => calls++);
  expect(calls).toBe(1);
});

test('MSI: a message needs bus mastering, carries its vector, and is lost while nobody listens', () => {
  const { dev, fn } = alone(new Memory({ msi: { vectors: 8 } }));
  const seen: number[] = [];
  expect(fn.raise()).toBe(false);
  expect(dev.irq.allocVectors('msi', 1, 5)).toBe(5);
  expect(dev.readConfig(fn.positions.msi + 2, 2) & 0x71).toBe(0x31);
  for (let vector = 0; vector < 5; vector++) dev.irq.setHandler(vector, () => seen.push(vector));
  expect([fn.raise(0), fn.raise(4), fn.raise(7)]).toEqual([true, true, false]);
  dev.setMaster(false);
  expect(fn.raise(0)).toBe(false);
  dev.setMaster(true);
  expect(seen).toEqual([0, 4]);
  expect([dev.irq.kind, dev.irq.irqOf(1) - dev.irq.irqOf(0), dev.readConfig(r.PCI_COMMAND, 2) & 0x400]).toEqual([
    'msi',
    1,
    0x400,
  ]);
  dev.irq.freeVectors();
  expect([dev.irq.kind, fn.messages, dev.readConfig(r.PCI_COMMAND, 2) & 0x400]).toEqual(['none', false, 0]);
});

test('MSI with masks: what is masked becomes pending, and goes out when a handler comes', () => {
  const { dev, fn } = alone(new Memory({ msi: { vectors: 2, maskable: true } }));
  dev.irq.allocVectors('msi', 2, 2);
  expect(fn.raise(1)).toBe(false);
  expect(dev.readConfig(fn.positions.msi + 0x14, 4)).toBe(2);
  let calls = 0;
  dev.irq.setHandler(1, () => calls++);
  expect([calls, dev.readConfig(fn.positions.msi + 0x14, 4)]).toEqual([1, 0]);
});

test('allocation: what the PCI core refuses', () => {
  const { dev } = alone(new Memory({ msi: { vectors: 4 }, msix: MSIX, pm: {} }));
  const { irq } = dev;
  expect(irq.allocVectors('msi', 1, 0)).toBe(-34);
  expect(irq.allocVectors('msi', 5, 8)).toBe(-28);
  expect(irq.allocVectors('msix', 5, 8)).toBe(-28);
  dev.setPowerState(3);
  expect(irq.allocVectors('msi', 1, 1)).toBe(-22);
  dev.setPowerState(0);
  expect(irq.allocVectors('msi', 1, 1)).toBe(1);
  expect(irq.allocVectors('msix', 1, 1)).toBe(-22);
  expect(irq.growMsix(1)).toBe(-22);
  expect(alone(new Memory()).dev.irq.allocVectors('msi', 1, 1)).toBe(-22);
});

test('without interrupt remapping MSI has one vector, MSI-X all', () => {
  const spec = { msi: { vectors: 4 }, msix: MSIX };
  for (const iommu of [null, { ...vtd, interruptRemapping: false }]) {
    const { dev } = alone(new Memory(spec), '0000:00:02.0', { iommu });
    expect(dev.irq.allocVectors('msi', 4, 4)).toBe(-28);
    expect(dev.irq.allocVectors('msi', 1, 4)).toBe(1);
    dev.irq.freeVectors();
    expect(dev.irq.allocVectors('msix', 1, 4)).toBe(4);
  }
});

test('MSI-X: the table lies in the BAR, masks hold messages back, and vectors can be added', () => {
  const { dev, fn } = alone(new Memory({ msix: MSIX }));
  const seen: number[] = [];
  expect(dev.irq.allocVectors('msix', 1, 2)).toBe(2);
  expect(dev.barRead(0, 0x800, 8)).toBe(0xfee0_0000n);
  expect(dev.barRead(0, 0x80c, 4)).toBe(1);
  expect([fn.raise(0), dev.barRead(0, 0xc00, 8)]).toEqual([false, 1n]);
  dev.irq.setHandler(0, () => seen.push(0));
  expect([seen.length, dev.barRead(0, 0xc00, 8), dev.barRead(0, 0x80c, 4)]).toEqual([1, 0n, 0]);
  expect([fn.raise(3), dev.irq.growMsix(3), dev.irq.growMsix(3), dev.irq.growMsix(4)]).toEqual([false, 0, -16, -22]);
  dev.irq.setHandler(3, () => seen.push(3));
  expect(seen).toEqual([0, 3]);
  const control = fn.positions.msix + 2;
  dev.writeConfig(control, 2, 0xc000);
  expect(fn.raise(0)).toBe(false);
  dev.writeConfig(control, 2, 0x8000);
  expect(seen).toEqual([0, 3, 0]);
  expect([dev.irq.vectors, dev.irq.allocated]).toEqual([[0, 1, 3], 4]);
  // The pending bits are read-only, and bytes of the table cannot be written.
  dev.barWrite(0, 0xc00, 4, 0xff);
  dev.barWrite(0, 0x80c, 1, 1);
  expect([dev.barRead(0, 0xc00, 4), dev.barRead(0, 0x80c, 4)]).toEqual([0, 0]);
});

test('a device that forges a message: remapping knows who may send it', () => {
  const forged = (iommu: typeof vtd): boolean => {
    const [owner, other] = [new Memory({ msi: { vectors: 1 } }), new Memory()];
    const { pci } = machine(
      [
        { at: '0000:00:02.0', device: owner },
        { at: '0000:00:03.0', device: other },
      ],
      { iommu },
    );
    const dev = pci.find('0000:00:02.0')!;
    dev.irq.allocVectors('msi', 1, 1);
    let called = false;
    dev.irq.setHandler(0, () => (called = true));
    pci.find('0000:00:03.0')!.setMaster(true);
    other.dma.write(0xfee0_0000n, Uint8Array.of(dev.irq.irqOf(0), 0, 0, 0));
    return called;
  };
  expect([forged(vtd), forged({ ...vtd, interruptRemapping: false })]).toEqual([false, true]);
});

test('a write that is no message of any vector goes nowhere, and none is memory', () => {
  const { fn, system } = alone(new Memory());
  expect(fn.dma.write(0xfee0_0000n, Uint8Array.of(1, 2, 3, 4))).toBe(false);
  expect(fn.dma.write(0xfee0_0010n, new Uint8Array(64))).toBe(false);
  expect(system.pci.iommu!.faults).toEqual([]);
});
