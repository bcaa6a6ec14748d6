/** docs/device-models.md, statement by statement: what the author of a device model is told, seen by a driver on VFIO. */
import {
  bindDriver,
  type Kernel,
  listIommuGroups,
  PCI_CAP_ID_EXP,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  pciDevice,
  VfioContainer,
  type VfioDevice,
  VfioGroup,
} from 'kvio';
import {
  type Accelerator,
  type Edu,
  type FunctionSpec,
  type Machine,
  openSim,
  PciFunction,
  profiles,
  type ResetKind,
  type SimKernel,
} from 'kvio/sim';
import { POLLIN, VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_TYPE1v2_IOMMU } from 'kvio/uapi';
import { describe, expect, it, test } from 'vitest';
import { thrown } from '../../vfio/fake.ts';

const ROOT = '0000:00:10.0';
const IOVA = 0x10_0000n;

/** Says what it is asked. */
class Witness extends PciFunction {
  readonly seen: unknown[] = [];
  lateCalls = 0;

  constructor(more: Partial<FunctionSpec> = {}) {
    super({
      ...{ vendor: 0x1234, device: 0xbeef, class: 0xff0000 },
      bars: { 0: { size: 0x1000, space: 'mem32' } },
      msix: { vectors: 2, tableBar: 0, table: 0x800, pbaBar: 0, pba: 0xc00 },
      ...{ express: true, flr: true, pm: {}, aer: true, ...more },
    });
  }

  override read(bar: number, offset: number, width: number): number | bigint {
    this.seen.push(['read', bar, offset, width]);
    return width === 8 ? 0x1122_3344_5566_7788n : 0x55;
  }

  override write(bar: number, offset: number, width: number, value: number | bigint): void {
    this.seen.push(['write', bar, offset, width, value]);
    if (offset === 0x10) this.after(5000, () => this.lateCalls++);
  }

  override reset(kind: ResetKind): void {
    this.seen.push(['reset', kind, this.config.peek(4, 2)]);
  }

  /** What it has been asked since the last time. */
  take(): unknown[] {
    return this.seen.splice(0);
  }
}

function open(kernel: Kernel, bdf: string): { container: VfioContainer; group: VfioGroup; device: VfioDevice } {
  bindDriver(kernel, bdf, 'vfio-pci');
  const container = VfioContainer.open(kernel);
  const group = VfioGroup.open(kernel, pciDevice(kernel, bdf).vfio_group!);
  group.setContainer(container);
  container.setIommu(VFIO_TYPE1v2_IOMMU);
  return { container, group, device: group.getDeviceFd(bdf) };
}

const vtd = (pci: readonly { at: string; device: PciFunction }[], options: { seed?: number } = {}): SimKernel =>
  openSim({ machine: 'lab-vtd-7.2', pci, ...options });

/** A root port, and what is behind it. */
function behindPort(device: PciFunction): SimKernel {
  const base = profiles['lab-vtd-7.2']!;
  const machine: Machine = { ...base, pci: [{ at: '0000:00:03.0', model: 'pcie-root-port', driver: 'pcieport' }] };
  return openSim({ machine, pci: [{ at: '0000:01:00.0', device }] });
}

describe('what a function says of itself', () => {
  it('is any device: /sys, vfio-pci, a group', () => {
    const kernel = vtd([{ at: ROOT, device: new Witness() }]);
    expect(pciDevice(kernel, ROOT)).toMatchObject({
      vendor: 0x1234,
      device: 0xbeef,
      class: 0xff0000,
      iommu_group: expect.any(Number),
    });
    const { device } = open(kernel, ROOT);
    expect(pciDevice(kernel, ROOT).driver).toBe('vfio-pci');
    // No interruptPin: no INTx.
    expect([0, 2].map((index) => device.getIrqInfo(index).count)).toEqual([0, 2]);
  });

  it('BARs answer a write of all ones with their size', () => {
    const { config } = new Witness();
    config.write(0x10, 4, 0xffff_ffff);
    expect(config.read(0x10, 4)).toBe(0xffff_f000);
  });

  it.each<[string, Partial<FunctionSpec>]>([
    ['a BAR of 3000 bytes', { bars: { 0: { size: 3000, space: 'mem32' } } }],
    ['two capabilities in one place', { capabilities: [0, 1].map(() => ({ id: 9, at: 0x60, bytes: new Uint8Array(8) })) }],
  ])('%s is a RangeError at once', (_name, spec) => {
    expect(thrown(() => new Witness(spec))).toBeInstanceOf(RangeError);
  });
});

describe('what it does', () => {
  it('an access has exactly one width', () => {
    const witness = new Witness();
    const kernel = vtd([{ at: ROOT, device: witness }]);
    const { device } = open(kernel, ROOT);
    const [bar, mapped] = [device.region(0), device.region(0).mmap({ length: 0x800 })];
    witness.take();
    for (const one of [bar, mapped]) {
      expect([one.read8(1), one.read16(2), one.read32(4), one.read64(8)]).toEqual([0x55, 0x55, 0x55, 0x1122_3344_5566_7788n]);
      one.write8(1, 1);
      one.write64(8, 2n);
      expect(witness.take()).toEqual([
        ...[1, 2, 4, 8].map((width) => ['read', 0, width, width]),
        ['write', 0, 1, 1, 1],
        ['write', 0, 8, 8, 2n],
      ]);
    }
    expect(bar.read32(0x800)).not.toBe(0x55);
    expect(witness.take()).toEqual([]);
  });

  it('is asked while it decodes, is awake, and the bridges above let it through', () => {
    const witness = new Witness();
    const kernel = behindPort(witness);
    const { fabric } = kernel.process.system.pci;
    const base = BigInt(witness.config.peek(0x10, 4));
    const load = (): unknown => {
      witness.take();
      return [fabric.load(witness, 0, base, 0, 4), witness.take().length];
    };
    witness.config.poke(4, 2, PCI_COMMAND_MEMORY);
    const port = kernel.pci('0000:00:03.0')!;
    port.config.write(4, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    expect(load()).toEqual([0x55, 1]);
    witness.config.write(4, 2, 0);
    expect(load()).toEqual([0xffff_ffff, 0]);
    witness.config.write(4, 2, PCI_COMMAND_MEMORY);
    port.config.write(4, 2, 0);
    expect(load()).toEqual([0xffff_ffff, 0]);
    port.config.write(4, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    witness.config.write(witness.positions.pm + 4, 2, 3);
    expect([witness.powerState, load()]).toEqual([3, [0xffff_ffff, 0]]);
  });

  it('resets tell their kind, after configuration space was reset, and cancel timers', () => {
    const witness = new Witness();
    const kernel = behindPort(witness);
    expect(witness.take()).toEqual([['reset', 'power', 0]]);
    const { device, group } = open(kernel, '0000:01:00.0');
    witness.take();
    const kinds = (): unknown[] => witness.take().filter((one) => (one as unknown[])[0] === 'reset');
    device.region(0).write32(0x10, 1);
    device.reset();
    expect(kinds()).toEqual([['reset', 'flr', 0]]);
    device.pciHotReset([group]);
    expect(kinds()).toEqual([['reset', 'bus', 0]]);
    const pm = witness.positions.pm + 4;
    witness.config.write(pm, 2, 3);
    witness.config.write(pm, 2, 0);
    expect(kinds()).toEqual([['reset', 'pm', 0]]);
    device.config.setCommand(PCI_COMMAND_MEMORY);
    device.region(0).read32(0);
    kernel.poll([{ fd: kernel.eventfd(0, 0), events: POLLIN }], 10);
    expect(witness.lateCalls).toBe(0);
  });

  it('DMA is the bus master’s, through the IOMMU', () => {
    const witness = new Witness();
    const kernel = vtd([{ at: ROOT, device: witness }]);
    const { container, device } = open(kernel, ROOT);
    const ram = kernel.guestRam(0x1000);
    container.mapDma({ memory: ram, iova: IOVA });
    const go = (iova = IOVA): unknown => [witness.dma.write(iova, Uint8Array.of(7)), witness.dma.read(iova, 1)];
    expect(go()).toEqual([false, undefined]);
    device.config.setCommand(PCI_COMMAND_MASTER);
    expect([go(), ram.bytes[0]]).toEqual([[true, Uint8Array.of(7)], 7]);
    const { iommu } = kernel.process.system.pci;
    const told: unknown[] = [];
    iommu!.onFault((fault) => told.push(fault));
    expect(go(0x5000_0000n)).toEqual([false, undefined]);
    expect([told.length, iommu!.faults.length]).toEqual([2, 2]);
  });

  it('an interrupt that is off goes nowhere; one that is masked is pending', () => {
    const witness = new Witness();
    const kernel = vtd([{ at: ROOT, device: witness }]);
    const { device } = open(kernel, ROOT);
    expect([witness.messages, witness.raise(0)]).toEqual([false, false]);
    const [first] = device.irqs(VFIO_PCI_MSIX_IRQ_INDEX).enable(1);
    expect([witness.messages, witness.raise(0)]).toEqual([true, false]);
    device.config.setCommand(PCI_COMMAND_MASTER);
    expect([witness.raise(0), first!.take()]).toEqual([true, 1n]);
    const { msix } = witness.positions;
    const control = witness.config.peek(msix + 2, 2);
    witness.config.write(msix + 2, 2, control | 0x4000);
    expect([witness.raise(0), first!.take()]).toEqual([false, 0n]);
    witness.config.write(msix + 2, 2, control);
    expect(first!.take()).toBe(1n);
  });

  it('a timer can be cancelled; the seed decides what is random', () => {
    const numbers = (seed: number): number[] => {
      const witness = new Witness();
      vtd([{ at: ROOT, device: witness }], { seed });
      return [witness.random(), witness.random()];
    };
    expect(numbers(5)).toEqual(numbers(5));
    expect(numbers(5)).not.toEqual(numbers(6));
    const witness = new Witness();
    const kernel = vtd([{ at: ROOT, device: witness }]);
    let calls = 0;
    const cancel = witness.after(1000, () => calls++);
    witness.after(1000, () => (calls += 10));
    cancel();
    kernel.poll([{ fd: kernel.eventfd(0, 0), events: POLLIN }], 1);
    expect(calls).toBe(10);
  });

  it('an error is told to a root port above, and by it to the device’s ERR eventfd; where there is none nobody is told', () => {
    const [above, alone] = [new Witness(), new Witness()];
    const told = (kernel: SimKernel, bdf: string, witness: Witness): bigint[] => {
      const { device } = open(kernel, bdf);
      const [error] = device.irqs(VFIO_PCI_ERR_IRQ_INDEX).enable(1);
      return (['correctable', 'nonfatal', 'fatal'] as const).map((severity) => {
        witness.reportError(severity, severity === 'correctable' ? 0 : 14);
        return error!.take();
      });
    };
    expect(told(behindPort(above), '0000:01:00.0', above)).toEqual([0n, 1n, 1n]);
    expect(told(vtd([{ at: ROOT, device: alone }]), ROOT, alone)).toEqual([0n, 0n, 0n]);
  });

  it('an access takes 1 µs, and memory alone takes no time', () => {
    const witness = new Witness();
    const kernel = vtd([{ at: ROOT, device: witness }]);
    const { device } = open(kernel, ROOT);
    const bar = device.region(0);
    const before = kernel.now;
    bar.read32(0);
    expect(kernel.now - before).toBe(1000n);
    const ram = kernel.guestRam(0x1000);
    for (let i = 0; i < 1000; i++) ram.read32(0);
    expect(kernel.now - before).toBe(1000n);
    bar.write32(0x10, 1);
    kernel.poll([{ fd: kernel.eventfd(0, 0), events: POLLIN }], 1);
    expect(witness.lateCalls).toBe(1);
  });
});

describe('being the test', () => {
  it('to another process what the first has open is busy', () => {
    const kernel = openSim({ machine: 'lab-vtd-7.2' });
    open(kernel, '0000:00:02.0');
    const path = pciDevice(kernel, '0000:00:02.0').vfio_group!;
    expect(thrown(() => kernel.newProcess().open(path))).toMatchObject({ code: 'EBUSY' });
  });

  it('what is pulled out reads as ones, and the kernel asks its user to go', () => {
    const witness = new Witness();
    const kernel = vtd([{ at: ROOT, device: witness }]);
    const { device } = open(kernel, ROOT);
    const bar = device.region(0).mmap({ length: 0x800 });
    const [request] = device.irqs(4).enable(1);
    kernel.unplug(witness);
    expect([bar.read32(0), request!.take()]).toEqual([0xffff_ffff, 1n]);
  });

  it('an unbind that nobody can end is a Deadlock', () => {
    const kernel = openSim({ machine: 'lab-vtd-7.2' });
    open(kernel, '0000:00:02.0');
    const fd = kernel.open('/sys/bus/pci/drivers/vfio-pci/unbind', 1);
    expect(thrown(() => kernel.write(fd, Buffer.from('0000:00:02.0')))).toMatchObject({ code: 'ERR_KVIO_DEADLOCK' });
  });
});

describe('machines, models, drivers', () => {
  const base = profiles['lab-vtd-7.2']!;
  const of = (more: Partial<Machine>): SimKernel => openSim({ machine: { ...base, ...more } });

  it('tee-io-7.2 has two trusted accelerators, each behind a root port', () => {
    const kernel = openSim({ machine: 'tee-io-7.2' });
    const names = kernel.readdir('/sys/bus/pci/devices').filter((bdf) => pciDevice(kernel, bdf).device === 0xacc1);
    expect(names.length).toBe(2);
    for (const bdf of names) {
      const port = kernel.readlink(`/sys/bus/pci/devices/${bdf}`).split('/').at(-2)!;
      expect(pciDevice(kernel, port)).toMatchObject({ vendor: 0x1b36, device: 0x000c });
    }
  });

  it('edu has 28 bits of DMA unless told otherwise', () => {
    const kernel = of({ pci: [{ at: '0000:00:02.0', model: 'edu' }] });
    const { container, device } = open(kernel, '0000:00:02.0');
    const ram = kernel.guestRam(0x1000);
    container.mapDma({ memory: ram, iova: 0n });
    device.config.setCommand(PCI_COMMAND_MASTER);
    (kernel.pci('0000:00:02.0') as Edu).buffer.fill(9);
    const bar = device.region(0);
    for (const [at, value] of [
      [0x80, 0x40000n],
      [0x88, 1n << 28n],
      [0x90, 8n],
    ] as const)
      bar.write64(at, value);
    bar.write64(0x98, 3n);
    kernel.poll([{ fd: kernel.eventfd(0, 0), events: POLLIN }], 500);
    expect(ram.bytes[0]).toBe(9);
  });

  it('the registers of e1000e and igb read as all ones', () => {
    const kernel = of({ pci: (['e1000e', 'igb'] as const).map((model, at) => ({ at: `0000:00:0${2 + at}.0`, model })) });
    for (const bdf of ['0000:00:02.0', '0000:00:03.0']) expect(open(kernel, bdf).device.region(0).read32(8)).toBe(0xffff_ffff);
  });

  it('of nec-usb-xhci what says what it is can be read, and no more', () => {
    const kernel = of({ pci: [{ at: '0000:00:02.0', model: 'nec-usb-xhci' }] });
    const bar = open(kernel, '0000:00:02.0').device.region(0);
    expect([bar.read32(0), bar.read8(0), bar.read16(2)]).toEqual([0x0100_0040, 0x40, 0]);
    bar.write32(4, 1);
    expect(thrown(() => bar.read32(0x40))).toMatchObject({ code: 'ERR_KVIO_NOT_MODELLED' });
    expect(thrown(() => bar.write32(0x40, 0))).toMatchObject({ code: 'ERR_KVIO_NOT_MODELLED' });
  });

  it('a port without access control shares its group with what is below', () => {
    const groups = (acs: boolean): number[] => {
      const kernel = of({
        pci: [
          { at: '0000:00:03.0', model: 'pcie-root-port', options: { acs } },
          { at: '0000:01:00.0', model: 'nvme' },
        ],
      });
      return listIommuGroups(kernel).map(({ devices }) => devices.length);
    };
    expect([groups(true), groups(false)]).toEqual([[1, 1], [2]]);
  });

  it('without an IOMMU an address is one of a BAR, and RAM has none', () => {
    const [first, second] = [new Witness(), new Witness()];
    const { iommu: _, ...without } = base;
    const kernel = openSim({
      machine: without,
      pci: [
        { at: ROOT, device: first },
        { at: '0000:00:11.0', device: second },
      ],
    });
    for (const one of [first, second]) one.config.write(4, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    second.take();
    expect(first.dma.write(BigInt(second.config.peek(0x10, 4)), Uint8Array.of(3))).toBe(true);
    expect(second.take()).toEqual([['write', 0, 0, 1, 3]]);
    expect(first.dma.read(kernel.guestRam(0x1000).address, 4)).toBeUndefined();
  });

  it('a driver of the host is in the way, of a known name or of any', () => {
    const pci: Machine['pci'] = [
      { at: '0000:00:09.0', model: 'edu', options: { multifunction: true } },
      { at: '0000:00:09.1', model: 'pci-testdev', driver: 'somebodys' },
    ];
    const kernel = of({ pci, pciDrivers: ['somebodys'] });
    expect(pciDevice(kernel, '0000:00:09.1').driver).toBe('somebodys');
    bindDriver(kernel, '0000:00:09.0', 'vfio-pci');
    expect(listIommuGroups(kernel)[0]).toMatchObject({ viable: false, blockers: [{ bdf: '0000:00:09.1' }] });
    const group = VfioGroup.open(kernel, pciDevice(kernel, '0000:00:09.0').vfio_group!);
    expect(thrown(() => group.setContainer(VfioContainer.open(kernel)))).toMatchObject({ code: 'EPERM' });
  });

  it('drivers take at boot what they are for; pcieport and pci-stub are there unless others are named', () => {
    const pci: Machine['pci'] = [
      { at: '0000:00:02.0', model: 'nvme' },
      { at: '0000:00:03.0', model: 'nec-usb-xhci' },
      { at: '0000:00:04.0', model: 'ahci' },
      { at: '0000:00:05.0', model: 'virtio-pci' },
      { at: '0000:00:06.0', model: 'fixture', options: { vendor: 0x1af4, device: 0x1110, class: 0x050000 } },
    ];
    const { pciDrivers: _, ...plain } = base;
    expect(
      openSim({ machine: { ...plain, pci } })
        .readdir('/sys/bus/pci/drivers')
        .sort(),
    ).toEqual(['pci-stub', 'pcieport', 'vfio-pci']);
    const kernel = of({ pci, pciDrivers: ['nvme', 'xhci_hcd', 'ahci', 'virtio-pci'] });
    const drivers = [2, 3, 4, 5, 6].map((slot) => pciDevice(kernel, `0000:00:0${slot}.0`).driver);
    expect(drivers).toEqual(['nvme', 'xhci_hcd', 'ahci', 'virtio-pci', undefined]);
  });

  it('vfio-pci is there where the machine has /dev/vfio/vfio', () => {
    const kernel = of({ devices: { '/dev/kvm': true } });
    expect(kernel.readdir('/sys/bus/pci/drivers')).not.toContain('vfio-pci');
  });

  it('the command line sets parameters, and binds by ids', () => {
    const parameters = { vfio_iommu_type1: { dma_entry_limit: 2 }, vfio_pci: { ids: '1234:11e8' } };
    const kernel = of({ parameters });
    expect(pciDevice(kernel, '0000:00:02.0').driver).toBe('vfio-pci');
    const { container } = open(kernel, '0000:00:02.0');
    const ram = kernel.guestRam(0x3000);
    const map = (page: number) => () =>
      container.mapDma({ vaddr: ram.address, iova: IOVA + BigInt(page * 0x1000), size: 0x1000n });
    map(0)();
    map(1)();
    expect(thrown(map(2))).toMatchObject({ code: 'ENOSPC' });
  });

  it('whoever the program is, the modes of files are for him', () => {
    const kernel = of({ user: { uid: 1000, gid: 1000, capabilities: [] } });
    expect(thrown(() => kernel.open('/sys/bus/pci/drivers_probe', 1))).toMatchObject({ code: 'EACCES' });
  });
});

test('the accelerator’s registers', () => {
  const kernel = openSim({ machine: { ...profiles['lab-vtd-7.2']!, pci: [{ at: '0000:00:02.0', model: 'accelerator' }] } });
  const { device } = open(kernel, '0000:00:02.0');
  const bar = device.region(0);
  expect([bar.read32(0), bar.read32(4), bar.read32(0x28)]).toEqual([0x4341_564b, 1, 0x10000]);
  expect(Buffer.from(bar.read(0, 4)).toString('latin1')).toBe('KVAC');
  expect(kernel.pci('0000:00:02.0') as Accelerator).toHaveProperty('failNext');
  const express = device.config.findCapability(PCI_CAP_ID_EXP)!;
  expect(device.config.read32(express + 4) & (1 << 30)).toBe(1 << 30);
});
