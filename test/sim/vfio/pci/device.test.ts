import { describe, expect, test } from 'vitest';
import { type Edu, PciFunction } from '../../../../src/sim/index.ts';
import * as v from '../../../../src/uapi/vfio.ts';
import { assign, bind, E1000E, EDU, lab, NVME, openDevice, show, store, taken, words } from './kit.ts';

const TRIGGER = v.VFIO_IRQ_SET_ACTION_TRIGGER;
const MASK = v.VFIO_IRQ_SET_ACTION_MASK;
const UNMASK = v.VFIO_IRQ_SET_ACTION_UNMASK;
const NONE = v.VFIO_IRQ_SET_DATA_NONE;
const BOOL = v.VFIO_IRQ_SET_DATA_BOOL;
const EVENTFD = v.VFIO_IRQ_SET_DATA_EVENTFD;
const INTX = v.VFIO_PCI_INTX_IRQ_INDEX;
const MSI = v.VFIO_PCI_MSI_IRQ_INDEX;
const MSIX = v.VFIO_PCI_MSIX_IRQ_INDEX;
const ERR = v.VFIO_PCI_ERR_IRQ_INDEX;
const REQ = v.VFIO_PCI_REQ_IRQ_INDEX;

const EDU_RAISE = 0x60;
const EDU_ACK = 0x64;

describe('INTx', () => {
  test('is signalled once, and again when it is unmasked while it stands', () => {
    const device = assign(lab(), EDU);
    const event = device.eventfd();
    expect(device.setIrqs(EVENTFD | TRIGGER, INTX, 0, 1, [event.fd])).toBe(0);
    device.write(EDU_RAISE, '01000000');
    device.write(EDU_RAISE, '02000000');
    expect(event.taken()).toBe(1);
    expect(device.setIrqs(NONE | UNMASK, INTX, 0, 1)).toBe(0);
    expect(event.taken()).toBe(1);
    device.write(EDU_ACK, '03000000');
    expect(device.setIrqs(NONE | UNMASK, INTX, 0, 1)).toBe(0);
    expect(event.taken()).toBe(0);
    device.write(EDU_RAISE, '01000000');
    expect(event.taken()).toBe(1);
  });

  test('an eventfd unmasks; what it had before stays in its counter', () => {
    const device = assign(lab(), EDU);
    const [event, unmask] = [device.eventfd(), device.eventfd()];
    device.setIrqs(EVENTFD | TRIGGER, INTX, 0, 1, [event.fd]);
    device.write(EDU_RAISE, '01000000');
    device.kernel.write(unmask.fd, words(4, 1, 0));
    expect(device.setIrqs(EVENTFD | UNMASK, INTX, 0, 1, [unmask.fd])).toBe(0);
    expect(event.taken()).toBe(2);
    expect(unmask.taken()).toBe(1);
    expect(device.setIrqs(EVENTFD | UNMASK, INTX, 0, 1, [unmask.fd])).toBe('EBUSY');
    device.kernel.write(unmask.fd, words(4, 1, 0));
    expect([event.taken(), unmask.taken()]).toEqual([1, 0]);
    device.kernel.close(unmask.fd);
    const other = device.eventfd();
    expect(device.setIrqs(EVENTFD | UNMASK, INTX, 0, 1, [other.fd])).toBe(0);
  });

  test('virtual DisINTx masks it, and its trigger too', () => {
    const device = assign(lab(), EDU);
    const event = device.eventfd();
    device.setConfig(4, '0305');
    device.setIrqs(EVENTFD | TRIGGER, INTX, 0, 1, [event.fd]);
    device.write(EDU_RAISE, '01000000');
    device.setIrqs(NONE | TRIGGER, INTX, 0, 1);
    device.setIrqs(NONE | UNMASK, INTX, 0, 1);
    expect(event.taken()).toBe(0);
    device.setConfig(4, '0301');
    expect(event.taken()).toBe(1);
  });

  test('masks at the line where the module is told to', () => {
    const device = assign(lab({ machine: { ...lab().machine, parameters: { vfio_pci: { nointxmask: true } } } }), EDU);
    const event = device.eventfd();
    device.setConfig(4, '0305');
    device.setIrqs(EVENTFD | TRIGGER, INTX, 0, 1, [event.fd]);
    device.write(EDU_RAISE, '01000000');
    expect(event.taken()).toBe(0);
    device.setConfig(4, '0301');
    expect(event.taken()).toBe(1);
    expect(device.setIrqs(NONE | UNMASK, INTX, 0, 1)).toBe(0);
    expect(event.taken()).toBe(1);
  });

  test('its refusals', () => {
    const device = assign(lab(), EDU);
    const event = device.eventfd();
    expect(device.setIrqs(NONE | TRIGGER, INTX, 0, 0)).toBe('EINVAL');
    expect(device.setIrqs(NONE | MASK, INTX, 0, 1)).toBe('EINVAL');
    expect(device.setIrqs(EVENTFD | TRIGGER, INTX, 0, 1, [-1])).toBe(0);
    expect(device.setIrqs(EVENTFD | MASK, INTX, 0, 1, [event.fd])).toBe('ENOTTY');
    expect(device.setIrqs(NONE | TRIGGER | MASK, INTX, 0, 1)).toBe('ENOTTY');
    expect(device.setIrqs(NONE | BOOL | TRIGGER, INTX, 0, 1, [0])).toBe('EINVAL');
    expect(device.setIrqs(EVENTFD | TRIGGER, INTX, 0, 1, [999])).toBe('EBADF');
    expect(device.setIrqs(EVENTFD | TRIGGER, MSI, 0, 1, [event.fd])).toBe('EINVAL');
    expect(device.setIrqs(NONE | TRIGGER, INTX, 0, 0)).toBe(0);
    expect(device.setIrqs(EVENTFD | TRIGGER, MSI, 0, 1, [event.fd])).toBe(0);
  });
});

describe('MSI and MSI-X', () => {
  test('arrive once the device may master the bus', () => {
    const device = assign(lab(), EDU);
    const event = device.eventfd();
    expect(device.setIrqs(EVENTFD | TRIGGER, MSI, 0, 1, [event.fd])).toBe(0);
    device.write(EDU_RAISE, '01000000');
    expect(event.taken()).toBe(0);
    device.setConfig(4, '0701');
    device.write(EDU_ACK, '01000000');
    device.write(EDU_RAISE, '01000000');
    expect(event.taken()).toBe(1);
  });

  test('vectors are added to MSI-X; an error takes the triggers up to the one that failed', () => {
    const device = assign(lab(), NVME);
    const events = [0, 1, 2, 3].map(() => device.eventfd());
    expect(device.setIrqs(EVENTFD | TRIGGER, MSIX, 0, 2, [events[0]!.fd, events[1]!.fd])).toBe(0);
    expect(device.setIrqs(EVENTFD | TRIGGER, MSIX, 3, 1, [events[3]!.fd])).toBe(0);
    expect(device.setIrqs(EVENTFD | TRIGGER, MSIX, 1, 2, [events[1]!.fd, 999])).toBe('EBADF');
    expect(device.setIrqs(NONE | TRIGGER, MSIX, 0, 4)).toBe(0);
    expect(events.map((event) => event.taken())).toEqual([1, 0, 0, 1]);
    expect(device.config(0x40, 4)).toBe('118040' + '80');
    expect(device.setIrqs(NONE | TRIGGER, MSIX, 0, 0)).toBe(0);
    expect(device.config(0x40, 4)).toBe('11804000');
    expect(device.setIrqs(EVENTFD | TRIGGER, MSIX, 0, 0)).toBe('ERANGE');
  });

  test('fewer vectors than asked for: their number, and none is enabled', () => {
    const device = assign(lab({ machine: 'lab-amd-7.2' }), E1000E);
    const event = device.eventfd();
    device.setConfig(0xcc, '0300');
    expect(device.setIrqs(EVENTFD | TRIGGER, MSI, 0, 1, [event.fd])).toBe('EINVAL');
    device.setConfig(0xcc, '0000');
    expect(device.setIrqs(EVENTFD | TRIGGER, MSI, 0, 1, [event.fd])).toBe(0);
    expect(device.setIrqs(EVENTFD | TRIGGER, MSI, 0, 0)).toBe(0);
  });
});

/** An Express endpoint that tells of errors. */
class Reporter extends PciFunction {
  constructor() {
    super({ vendor: 0x1234, device: 1, class: 0xff0000, express: true, aer: true, bars: { 0: { size: 4096, space: 'mem32' } } });
  }
}

test('errors and requests', () => {
  const reporter = new Reporter();
  const { machine } = lab();
  const pci = machine.pci!.filter(({ at }) => at !== NVME);
  const kernel = lab({ machine: { ...machine, pci }, pci: [{ at: NVME, device: reporter }] });
  const device = assign(kernel, NVME);
  const [error, request] = [device.eventfd(), device.eventfd()];
  expect(device.setIrqs(NONE | TRIGGER, ERR, 0, 1)).toBe('EINVAL');
  expect(device.setIrqs(EVENTFD | TRIGGER, ERR, 0, 1, [error.fd])).toBe(0);
  expect(device.setIrqs(EVENTFD | TRIGGER, REQ, 0, 1, [request.fd])).toBe(0);
  expect(device.setIrqs(EVENTFD | TRIGGER, ERR, 0, 1, [-2])).toBe('EINVAL');
  expect(device.setIrqs(BOOL | TRIGGER, REQ, 0, 1, [1])).toBe(0);
  expect([error.taken(), request.taken()]).toEqual([0, 1]);
  reporter.reportError('correctable', 0);
  expect(error.taken()).toBe(0);
  reporter.reportError('nonfatal', 14);
  expect(error.taken()).toBe(1);
  expect(device.setIrqs(NONE | TRIGGER, ERR, 0, 0)).toBe(0);
  reporter.reportError('nonfatal', 14);
  expect(error.taken()).toBe(0);
});

describe('memory', () => {
  test('decode off: EIO, and a fault where it is mapped, until it is on again', () => {
    const device = assign(lab(), EDU);
    const bar = device.kernel.mmap({ fd: device.fd, length: 4096, view: false });
    bar.write32(4, 0x12345678);
    expect(device.read(4, 4)).toBe('87a9cbed');
    device.setConfig(4, '0001');
    expect(device.read(4, 4)).toBe('EIO');
    expect(() => bar.read32(4)).toThrow(/EFAULT/);
    device.setConfig(4, '0201');
    expect(bar.read32(4)).toBe(0xedcba987);
    device.close();
    expect(bar.read32(4)).toBe(0xedcba987);
    expect(() => device.kernel.ioctl(device.group, v.VFIO_GROUP_UNSET_CONTAINER)).toThrow(/EBUSY/);
    bar.close();
    device.kernel.ioctl(device.group, v.VFIO_GROUP_UNSET_CONTAINER);
  });

  test('widths, ends and the MSI-X table', () => {
    const device = assign(lab(), NVME);
    expect(device.read(0x3ffc, 8)).toMatch(/^.{8}$/);
    expect(device.read(0x4000, 1)).toBe('EINVAL');
    expect(device.read(1n << 40n, 1)).toBe('EINVAL');
    expect(device.read(0x2000, 8)).toBe('ff'.repeat(8));
    expect(device.write(0x2000, '00'.repeat(16))).toBe(16);
    expect(device.read((9n << 40n) + 1n, 1)).toBe('EINVAL');
    expect(device.read(9n << 40n, 0)).toBe('');
    expect(device.write(6n << 40n, '00')).toBe('EINVAL');
  });

  test('an ioeventfd stores once for each signal', () => {
    const kernel = lab();
    const device = assign(kernel, EDU);
    const event = device.eventfd();
    const set = (flags: number, offset: number, data: number, fd: number): unknown =>
      device.call(v.VFIO_DEVICE_IOEVENTFD, words(4, 32, flags, offset, 0, data, 0, fd, 0));
    expect(set(8, 4, 1, event.fd)).toBe('EINVAL');
    expect(set(4, 4, 0x55, -1)).toBe('ENODEV');
    expect(set(4, 4, 0x55, event.fd)).toBe(0);
    expect(set(4, 4, 0x55, event.fd)).toBe('EEXIST');
    kernel.write(event.fd, words(4, 3, 0));
    expect(event.taken()).toBe(0);
    expect(device.read(4, 4)).toBe('aaffffff');
    expect(set(4, 4, 0x55, -1)).toBe(0);
  });
});

describe('reset', () => {
  test('keeps configuration and interrupts; without a way to reset it is EINVAL', () => {
    const device = assign(lab(), NVME);
    const event = device.eventfd();
    device.setIrqs(EVENTFD | TRIGGER, MSIX, 0, 1, [event.fd]);
    device.setConfig(0x10, 'ffffffff');
    device.setConfig(4, '0601');
    expect(device.call(v.VFIO_DEVICE_RESET)).toBe(0);
    expect([device.config(4, 2), device.config(0x10, 4)]).toEqual(['0601', '04c0ffff']);
    device.setIrqs(NONE | TRIGGER, MSIX, 0, 1);
    expect(event.taken()).toBe(1);
    expect(assign(lab(), EDU).call(v.VFIO_DEVICE_RESET)).toBe('EINVAL');
  });

  test('hot reset: by the groups of all functions it hits', () => {
    const kernel = lab();
    const device = assign(kernel, '0000:04:01.0');
    const info = new Uint8Array(64);
    info.set(words(4, 12));
    expect(device.call(v.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info.subarray(0, 12))).toBe('ENOSPC');
    expect(info[8]).toBe(2);
    info.set(words(4, 64));
    expect(device.call(v.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info)).toBe(0);
    const reset = (...groups: number[]): unknown =>
      device.call(v.VFIO_DEVICE_PCI_HOT_RESET, words(4, 12, 0, groups.length, ...groups));
    expect(reset()).toBe('EINVAL');
    expect(reset(999)).toBe('EBADF');
    expect(reset(device.fd)).toBe('EINVAL');
    expect(reset(device.group)).toBe('EINVAL');
    bind(kernel, '0000:04:01.1');
    device.write(4, '78563412');
    expect(reset(device.group)).toBe(0);
    expect(device.config(4, 2)).toBe('0301');
  });
});

describe('power', () => {
  test('low power ends with the first access where an eventfd is to be told of it', () => {
    const device = assign(lab(), EDU);
    const event = device.eventfd();
    const bar = device.kernel.mmap({ fd: device.fd, length: 4096, view: false });
    const set = v.VFIO_DEVICE_FEATURE_SET;
    expect(device.feature(set | v.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT)).toBe(0);
    expect(device.feature(set | v.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY)).toBe(0);
    expect(device.feature(set | v.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY)).toBe('EINVAL');
    expect(device.read(0, 4)).toBe('ed000001');
    expect(() => bar.read32(0)).toThrow(/EFAULT/);
    expect(device.feature(set | v.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT)).toBe(0);
    expect(bar.read32(0)).toBe(0x010000ed);
    expect(device.feature(set | v.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, words(4, -1, 0))).toBe('EINVAL');
    expect(device.feature(set | v.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, words(4, event.fd, 0))).toBe(0);
    expect(device.read(0, 4)).toBe('ed000001');
    expect(event.taken()).toBe(1);
    expect(bar.read32(0)).toBe(0x010000ed);
  });

  test('a device nobody has open sleeps in D3hot', () => {
    const kernel = lab();
    bind(kernel, NVME);
    const state = (): string => show(kernel, `/sys/bus/pci/devices/${NVME}/power_state`);
    expect(state()).toBe('D3hot\n');
    const device = assign(kernel, NVME);
    expect(state()).toBe('D0\n');
    device.setConfig(0x64, '0300');
    expect(state()).toBe('D3hot\n');
    expect(device.config(0x64, 1)).toBe('0b');
    expect(device.read(0, 4)).toBe('EIO');
    expect(device.call(v.VFIO_DEVICE_RESET)).toBe(0);
    expect(state()).toBe('D0\n');
    device.close();
    expect(state()).toBe('D3hot\n');
  });
});

test('two descriptors share the device; the last close restores it', () => {
  const kernel = lab();
  const device = assign(kernel, EDU);
  const second = openDevice(kernel, device.group, EDU);
  device.setConfig(0x10, 'ffffffff');
  device.close();
  const bytes = new Uint8Array(4);
  kernel.pread(second, bytes, (7n << 40n) + 0x10n);
  expect(Buffer.from(bytes).toString('hex')).toBe('0000f0ff');
  kernel.close(second);
  const again = openDevice(kernel, device.group, EDU);
  kernel.pread(again, bytes, (7n << 40n) + 0x10n);
  expect(Buffer.from(bytes).toString('hex')).not.toBe('0000f0ff');
});

test('a device that is pulled out reads as ones, and its user is asked to let go', () => {
  const kernel = lab();
  const device = assign(kernel, EDU);
  const request = device.eventfd();
  device.setIrqs(EVENTFD | TRIGGER, REQ, 0, 1, [request.fd]);
  kernel.unplug(kernel.pci(EDU) as Edu);
  expect(request.taken()).toBe(1);
  expect(device.read(0, 4)).toBe('ffffffff');
  expect(device.config(0, 4)).toBe('3412e811');
  expect(device.config(8, 4)).toBe('ffffffff');
  expect(() => openDevice(kernel, device.group, EDU)).toThrow(/ENODEV/);
  device.close();
  expect(taken(kernel, request.fd)).toBe(0);
});

test('what vfio-pci does not take', () => {
  const kernel = lab();
  expect(bind(kernel, '0000:03:00.0')).toBe('EINVAL');
  expect(store(kernel, '/sys/bus/pci/drivers/vfio-pci/bind', EDU)).toBe('ENODEV');
  expect(bind(kernel, EDU)).toBe(EDU.length);
  expect(store(kernel, '/sys/bus/pci/drivers/vfio-pci/unbind', EDU)).toBe(EDU.length);
});

/** Two memory BARs shorter than a page, and one of I/O. */
class Small extends PciFunction {
  constructor() {
    super({
      ...{ vendor: 0x1234, device: 2, class: 0xff0000 },
      bars: { 0: { size: 256, space: 'mem32' }, 1: { size: 0x2000, space: 'mem32' }, 2: { size: 64, space: 'io' } },
    });
  }

  override read(_bar: number, offset: number, width: 1 | 2 | 4 | 8): number | bigint {
    return width === 8 ? 0n : offset & 0xff;
  }
}

test('a BAR shorter than a page is mappable where it has the page for itself', () => {
  const kernel = lab({ pci: [{ at: '0000:00:10.0', device: new Small() }] });
  const device = assign(kernel, '0000:00:10.0');
  const { resources } = kernel.process.system.pci.find('0000:00:10.0')!;
  const alone = resources[0]!.start % 4096n === 0n;
  expect(device.region(0)).toBe(alone ? '7:100' : '3:100');
  expect(device.region(1)).toBe('7:2000');
  expect(device.region(2)).toBe('3:40');
  const map = (offset: number, length: number): string => {
    try {
      device.kernel.mmap({ fd: device.fd, length, offset, view: false }).close();
      return 'mapped';
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  expect(map(0, 4096)).toBe(alone ? 'mapped' : 'EINVAL');
  expect(map(0, 8192)).toBe('EINVAL');
  expect(map(2 ** 40, 8192)).toBe('mapped');
  expect(map(2 ** 40 + 4096, 8192)).toBe('EINVAL');
  expect(map(2 * 2 ** 40, 4096)).toBe('EINVAL');
  expect(map(7 * 2 ** 40, 4096)).toBe('EINVAL');
});
