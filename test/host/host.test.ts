// Binding, and what is put back when it fails, against a /sys that can be made to fail at any step.
import { inspect } from 'node:util';
import {
  bindDriver,
  Iommufd,
  isKvioError,
  type Kernel,
  Kvm,
  listIommuGroups,
  listPciDevices,
  moduleParameter,
  pciDevice,
  RestoreError,
  setModuleParameter,
  VfioContainer,
  VfioDevice,
  VfioGroup,
} from 'kvio';
import { openSim } from 'kvio/sim';
import { KVM_DEV_TYPE_VFIO, VFIO_TYPE1v2_IOMMU } from 'kvio/uapi';
import { describe, expect, it } from 'vitest';
import { thrown } from '../vfio/fake.ts';
import { type FakeDevice, FakeHost } from './fake-host.ts';

const NIC = '0000:01:00.0';
const SIBLING = '0000:01:00.1';
const BRIDGE = '0000:00:01.0';
const EBUSY = 16;

const host = (more: Partial<Record<string, Partial<FakeDevice>>> = {}) =>
  new FakeHost({
    [NIC]: { id: '8086:10d3', group: 5, driver: 'e1000e', ...more[NIC] },
    [SIBLING]: { id: '8086:10d3', group: 5, driver: 'e1000e', ...more[SIBLING] },
    [BRIDGE]: { id: '1b36:000c', class: '060400', group: 1, driver: 'pcieport', ...more[BRIDGE] },
  });

const state = (fake: FakeHost) => structuredClone({ devices: [...fake.devices], noIommu: fake.noIommu });

describe('the inventory', () => {
  it('has devices with what /sys says of them', () => {
    const fake = host();
    const devices = listPciDevices(fake.kernel);
    expect(devices.map(({ bdf }) => bdf)).toEqual([BRIDGE, NIC, SIBLING]);
    expect(devices.map(({ bridge }) => bridge)).toEqual([true, false, false]);
    expect(devices[1]).toMatchObject({
      ...{ vendor: 0x8086, device: 0x10d3, class: 0x020000, driver: 'e1000e', driver_override: undefined, iommu_group: 5 },
      ...{ reset_method: [], vfio_group: undefined, vfio_device: undefined },
      resource: [{ start: 0xfe840000n, end: 0xfe85ffffn, flags: 0x40200n }, undefined],
    });
    expect(thrown(() => pciDevice(fake.kernel, '0000:07:00.0'))).toMatchObject({ code: 'ENOENT' });
    expect(thrown(() => pciDevice(fake.kernel, '../../etc')).message).toMatch(/is no PCI address/);
    expect(thrown(() => pciDevice(fake.kernel, 7 as never)).name).toBe('TypeError');
  });

  it('says which sibling keeps a group from being given away', () => {
    const fake = host({ [NIC]: { driver: 'vfio-pci' } });
    const [first, second] = listIommuGroups(fake.kernel);
    expect(first).toMatchObject({ id: 1, viable: true, blockers: [] });
    expect(second).toMatchObject({
      id: 5,
      devices: [NIC, SIBLING],
      type: 'DMA',
      reserved_regions: [{ start: 0xfee00000n, last: 0xfeefffffn, type: 'msi' }],
      viable: false,
      blockers: [{ bdf: SIBLING, driver: 'e1000e' }],
      reason: `not viable: ${SIBLING} is bound to e1000e; bind all of them to a VFIO driver, or unbind them`,
    });
  });
});

describe('bindDriver', () => {
  it('takes the device from its driver, the override first, and gives it back', () => {
    const fake = host({ [NIC]: { override: 'e1000e' } });
    const before = state(fake);
    const bound = bindDriver(fake.kernel, NIC, 'vfio-pci');
    expect(fake.writes).toEqual([
      `devices/${NIC}/driver_override vfio-pci`,
      `drivers/e1000e/unbind ${NIC}`,
      `drivers/vfio-pci/bind ${NIC}`,
    ]);
    expect(bound.devices()[0]).toMatchObject({ driver: 'vfio-pci', vfio_group: '/dev/vfio/5' });
    expect(inspect(bound)).toBe(`BoundDevices { ${NIC} to vfio-pci }`);
    bound.restore();
    expect(state(fake)).toEqual(before);
    const writes = fake.writes.length;
    bound.restore();
    bound[Symbol.dispose]();
    expect(fake.writes.length).toBe(writes);
  });

  it('gives back when an exception leaves the block', () => {
    const fake = host();
    const before = state(fake);
    expect(
      thrown(() => {
        using _ = bindDriver(fake.kernel, [NIC, SIBLING], 'vfio-pci');
        expect([...fake.devices.values()].map(({ driver }) => driver)).toEqual(['vfio-pci', 'vfio-pci', 'pcieport']);
        throw new Error('of the user');
      }).message,
    ).toBe('of the user');
    expect(state(fake)).toEqual(before);
  });

  it('of a group gives all back before the first driver of the host returns', () => {
    const fake = host();
    bindDriver(fake.kernel, [NIC, SIBLING], 'vfio-pci').restore();
    const order = fake.writes.filter((line) => /bind/.test(line)).slice(4);
    expect(order.map((line) => line.split(' ')[0])).toEqual([
      ...['drivers/vfio-pci/unbind', 'drivers/vfio-pci/unbind', 'drivers/e1000e/bind', 'drivers/e1000e/bind'],
    ]);
  });

  it('does all or nothing', () => {
    const fake = host({ [SIBLING]: { refuses: { 'vfio-pci': EBUSY } } });
    const before = state(fake);
    expect(thrown(() => bindDriver(fake.kernel, [NIC, SIBLING], 'vfio-pci'))).toMatchObject({
      code: 'EBUSY',
      path: '/sys/bus/pci/drivers/vfio-pci/bind',
      note: `"${SIBLING}": the device has a driver, or VFIO owns its IOMMU group and this driver would use it too`,
    });
    expect(state(fake)).toEqual(before);
  });

  it('reports what could not be undone besides what failed', () => {
    const fake = host({ [NIC]: { refuses: { e1000e: EBUSY } }, [SIBLING]: { refuses: { 'vfio-pci': EBUSY } } });
    const error = thrown(() => bindDriver(fake.kernel, [NIC, SIBLING], 'vfio-pci'));
    expect(error).toBeInstanceOf(AggregateError);
    expect((error['errors'] as Error[]).map(({ message }) => message)).toEqual([
      expect.stringContaining('vfio-pci/bind'),
      expect.stringContaining('e1000e/bind'),
    ]);
    expect(fake.devices.get(SIBLING)).toMatchObject({ driver: 'e1000e' });
  });

  it('says in one error what was not put back, how it is, and what was put back', () => {
    const fake = host({ [NIC]: { refuses: { e1000e: EBUSY } }, [SIBLING]: { override: 'e1000e' } });
    fake.drivers.add('pcieport');
    const bound = bindDriver(fake.kernel, [NIC, SIBLING, BRIDGE], 'vfio-pci');
    fake.drivers.delete('pcieport');
    const error = thrown(() => bound.restore());
    expect(error).toBeInstanceOf(RestoreError);
    expect(error).toBeInstanceOf(AggregateError);
    expect(isKvioError(error)).toBe(true);
    expect(error).toMatchObject({
      code: 'ERR_KVIO_RESTORE',
      left: [
        { what: BRIDGE, state: 'has no driver; had pcieport', error: { code: 'ENOENT' } },
        { what: NIC, state: 'has no driver; had e1000e', error: { code: 'EBUSY' } },
      ],
      restored: [SIBLING],
    });
    expect(error.message).toMatch(
      new RegExp(
        `^not put back: ${BRIDGE} has no driver; had pcieport \\(ENOENT: .*\\); ${NIC} has no driver; had e1000e \\(EBUSY: .*\\); put back: ${SIBLING}$`,
      ),
    );
    expect((error['errors'] as Error[]).map(({ message }) => message.slice(0, 6))).toEqual(['ENOENT', 'EBUSY:']);
    expect(fake.devices.get(SIBLING)).toMatchObject({ driver: 'e1000e', override: 'e1000e' });
    bound.restore();
  });

  it('a device that is not let go is not put back either: it is told once', () => {
    const fake = host();
    const bound = bindDriver(fake.kernel, NIC, 'vfio-pci');
    fake.drivers.delete('vfio-pci');
    const error = thrown(() => bound.restore());
    expect(error).toMatchObject({
      left: [{ what: NIC, state: 'has vfio-pci, driver_override vfio-pci; had e1000e', error: { code: 'ENOENT' } }],
      restored: [],
    });
    expect(error.message).toMatch(/; put back: nothing was$/);
  });

  it('names a driver that is not there, and a device that is not', () => {
    const fake = host();
    const before = state(fake);
    expect(thrown(() => bindDriver(fake.kernel, NIC, 'nosuch')).message).toMatch(
      /ENOENT.*drivers\/nosuch\/bind.*load its module/,
    );
    expect(thrown(() => bindDriver(fake.kernel, '0000:07:00.0', 'vfio-pci'))).toMatchObject({ code: 'ENOENT' });
    expect(thrown(() => bindDriver(fake.kernel, [NIC, NIC], 'vfio-pci')).name).toBe('RangeError');
    expect(state(fake)).toEqual(before);
  });

  it('leaves alone what is bound to it already', () => {
    const fake = host({ [NIC]: { driver: 'vfio-pci' } });
    fake.held.set(30, NIC);
    bindDriver(fake.kernel, NIC, 'vfio-pci').restore();
    expect(fake.writes).toEqual([]);
    expect(fake.devices.get(NIC)).toMatchObject({ driver: 'vfio-pci' });
  });

  it('does not wait for itself: a device this process has open is EBUSY, and can be given back later', () => {
    const fake = host();
    const before = state(fake);
    const bound = bindDriver(fake.kernel, NIC, 'vfio-pci');
    fake.held.set(30, NIC);
    expect(thrown(() => bound.restore())).toMatchObject({
      code: 'EBUSY',
      note: `this process has ${NIC} open (descriptor 30): unbinding it waits until that is closed`,
    });
    expect(fake.devices.get(NIC)).toMatchObject({ driver: 'vfio-pci' });
    fake.held.clear();
    bound.restore();
    expect(state(fake)).toEqual(before);
  });

  it('has nothing to put back of a device that was pulled out', () => {
    const fake = host();
    const bound = bindDriver(fake.kernel, [NIC, SIBLING], 'vfio-pci');
    fake.devices.delete(NIC);
    bound.restore();
    expect([...fake.devices.values()].map(({ driver }) => driver)).toEqual(['e1000e', 'pcieport']);
  });

  it('turns no-IOMMU mode on for a device without a group, if told, and off again', () => {
    const fake = new FakeHost({ [NIC]: { id: '8086:10d3' } });
    expect(thrown(() => bindDriver(fake.kernel, NIC, 'vfio-pci')).message).toMatch(/EINVAL.*enable_unsafe_noiommu_mode/);
    const bound = bindDriver(fake.kernel, NIC, 'vfio-pci', { noIommu: true });
    expect(fake.noIommu).toBe('Y');
    bound.restore();
    expect(fake.noIommu).toBe('N');
    expect(fake.writes.at(-1)).toMatch(/enable_unsafe_noiommu_mode N$/);
  });
});

describe('restore() of a device that something still holds', () => {
  const BDF = '0000:00:02.0';
  const opened = (way: 'group' | 'cdev', kernel: Kernel) => {
    const { vfio_group, vfio_device } = pciDevice(kernel, BDF);
    if (way === 'cdev') {
      const device = VfioDevice.open(kernel, vfio_device!);
      device.bindIommufd({ iommufd: Iommufd.open(kernel) });
      return device;
    }
    const group = VfioGroup.open(kernel, vfio_group!);
    const container = VfioContainer.open(kernel);
    group.setContainer(container);
    container.setIommu(VFIO_TYPE1v2_IOMMU);
    const device = group.getDeviceFd(BDF);
    group.close();
    return device;
  };

  it.each([
    'group',
    'cdev',
  ] as const)('a mapping, and a memslot of one, by %s: EBUSY, where the kernel would wait for ever', (way) => {
    using kernel = openSim({ machine: 'lab-vtd-7.2' });
    const bound = bindDriver(kernel, BDF, 'vfio-pci');
    const device = opened(way, kernel);
    const memory = device.region(0).mmap();
    const vm = Kvm.open(kernel).createVm();
    vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0x1000_0000n, memory });
    const held = () => thrown(() => bound.restore());
    expect(held()).toMatchObject({ code: 'EBUSY', note: expect.stringMatching(/\(descriptor \d+, a mapping at 0x[\da-f]+\)/) });
    device.close();
    expect(held()).toMatchObject({ code: 'EBUSY', note: expect.stringMatching(/\(a mapping at 0x[\da-f]+\)/) });
    memory.close();
    expect(held().message).toMatch(/a mapping at 0x[\da-f]+, closed but still named by a memslot/);
    vm.close();
    bound.restore();
    expect(pciDevice(kernel, BDF).driver).toBeUndefined();
  });

  it.each(['group', 'cdev'] as const)('KVM-VFIO, which has its file, by %s: until that is taken out, or closed', (way) => {
    using kernel = openSim({ machine: 'lab-vtd-7.2' });
    const vm = Kvm.open(kernel).createVm();
    for (const letGo of ['delFile', 'close'] as const) {
      const bound = bindDriver(kernel, BDF, 'vfio-pci');
      const device = opened(way, kernel);
      const kvmVfio = vm.createDevice(KVM_DEV_TYPE_VFIO);
      kvmVfio.addFile(letGo === 'close' ? device.fd : device);
      if (letGo === 'delFile') kvmVfio.delFile(device);
      else {
        device.close();
        expect(thrown(() => bound.restore())).toMatchObject({
          code: 'EBUSY',
          note: expect.stringMatching(/\(the KVM-VFIO device, descriptor \d+\)/),
        });
      }
      kvmVfio.close();
      device.close();
      bound.restore();
    }
    expect(pciDevice(kernel, BDF).driver).toBeUndefined();
  });

  it('a mapping by a descriptor whose device nobody named', () => {
    using kernel = openSim({ machine: 'lab-vtd-7.2' });
    const bound = bindDriver(kernel, BDF, 'vfio-pci');
    const device = opened('cdev', kernel);
    const other = new VfioDevice(kernel, kernel.dup(device.fd));
    const memory = other.region(0).mmap();
    for (const one of [device, other]) one.close();
    expect(thrown(() => bound.restore())).toMatchObject({ code: 'EBUSY', note: expect.stringMatching(/\(a mapping at/) });
    memory.close();
    bound.restore();
  });
});

describe('a module parameter', () => {
  it('is changed until it is restored, and not written where it is as it should be', () => {
    const fake = host();
    {
      using parameter = setModuleParameter(fake.kernel, 'vfio', 'enable_unsafe_noiommu_mode', 'Y');
      expect(parameter.before).toBe('N');
      expect(moduleParameter(fake.kernel, 'vfio', 'enable_unsafe_noiommu_mode')).toBe('Y');
      using _same = setModuleParameter(fake.kernel, 'vfio', 'enable_unsafe_noiommu_mode', 'Y');
    }
    expect(fake.noIommu).toBe('N');
    expect(fake.writes.length).toBe(2);
    expect(thrown(() => setModuleParameter(fake.kernel, 'vfio', 'nosuch', 1))).toMatchObject({ code: 'ENOENT' });
  });
});
