/** The author of a device model's way in: what `kvio/sim` exports, and what a kernel can be told. The class is that of docs/device-models.md. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Edu, type Machine, type Nvme, openSim, PciFunction, profiles, RootPort } from '../../../src/sim/index.ts';

class Adder extends PciFunction {
  sum = 0;

  constructor() {
    super({
      vendor: 0x1234,
      device: 0xadde,
      class: 0xff0000,
      interruptPin: 1,
      bars: { 0: { size: 0x1000, space: 'mem32' } },
      msix: { vectors: 1, tableBar: 0, table: 0x800, pbaBar: 0, pba: 0xc00 },
      express: true,
      flr: true,
    });
  }

  override read(_bar: number, offset: number): number {
    return offset === 0 ? this.sum : 0;
  }

  override write(_bar: number, offset: number, _width: number, value: number | bigint): void {
    if (offset === 0) this.sum += Number(value);
    if (offset === 4) this.after(2000, () => this.raise(0));
    if (offset === 8) this.dma.write(BigInt(value), new Uint8Array(Uint32Array.of(this.sum).buffer));
  }

  override reset(): void {
    this.sum = 0;
  }
}

test('the class is the one of the documentation', () => {
  const [here, there] = [new URL(import.meta.url), new URL('../../../docs/device-models.md', import.meta.url)].map((url) => {
    const text = readFileSync(url, 'utf8');
    const from = text.indexOf('class Adder extends');
    return text.slice(from, text.indexOf('\n}\n', from));
  });
  expect(here).toBe(there);
});

test('a device that is brought along, one that comes later, and one that goes', () => {
  const adder = new Adder();
  const kernel = openSim({ machine: 'lab-vtd-7.2', pci: [{ at: '0000:00:10.0', device: adder }] });
  const path = '/sys/bus/pci/devices';
  expect(kernel.readdir(path)).toContain('0000:00:10.0');
  expect([kernel.pci('0000:00:10.0') === adder, kernel.pci('0000:00:11.0')]).toEqual([true, undefined]);
  const second = new Adder();
  kernel.plug(second, '0000:00:11.0');
  expect(kernel.readdir(path)).toContain('0000:00:11.0');
  kernel.unplug(adder);
  expect(kernel.readdir(path)).not.toContain('0000:00:10.0');
  expect(() => kernel.unplug(adder)).toThrow('not plugged');
});

test('the machine’s own models are within reach', () => {
  const kernel = openSim({ machine: 'lab-vtd-7.2' });
  expect(kernel.pci('0000:00:02.0')).toBeInstanceOf(Edu);
  expect((kernel.pci('0000:01:00.0') as Nvme).disk.length).toBe(16 << 20);
});

test('a machine without PCI gets it with its first device', () => {
  const kernel = openSim({ machine: 'amd-svm-7.2' });
  expect(kernel.pci('0000:00:02.0')).toBeUndefined();
  kernel.plug(new Edu(), '0000:00:02.0');
  expect(kernel.readdir('/sys/bus/pci/devices')).toEqual(['0000:00:02.0']);
  kernel.plug(new Edu(), '0000:00:03.0');
  expect(kernel.readdir('/sys/bus/pci/drivers')).toContain('vfio-pci');
});

test('a machine is data', () => {
  const base = profiles['lab-vtd-7.2']!;
  const of = (pci: Machine['pci']) => openSim({ machine: { ...base, pci: pci! } });
  const kernel = of([
    { at: '0000:00:03.0', model: 'pcie-root-port', options: { slot: 1 } },
    { at: '0000:01:00.0', model: 'nvme', options: { serial: 'disk', size: 64 << 20 } },
  ]);
  expect(kernel.readdir('/sys/kernel/iommu_groups')).toEqual(['0', '1']);
  expect(kernel.pci('0000:00:03.0')).toBeInstanceOf(RootPort);
  expect(() => of([{ at: '0000:00:03.0', model: 'toaster' }])).toThrow("no model 'toaster'");
  expect(() => of([{ at: '0000:05:00.0', model: 'edu' }])).toThrow('no bridge leads to this bus');
  expect(() => of([{ at: '3.0', model: 'edu' }])).toThrow('no PCI address');
});

test('coverage says which devices are only there', () => {
  const rows = openSim({ machine: 'lab-vtd-7.2' }).coverage();
  const device = (name: string) => rows.find((row) => row.area === 'device' && row.name === name);
  expect(device('edu')).toEqual({ area: 'device', name: 'edu' });
  expect(device('e1000e')?.except).toContain('configuration space');
});
