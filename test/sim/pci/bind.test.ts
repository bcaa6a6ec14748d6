import { describe, expect, it } from 'vitest';
import { Completion } from '../../../src/sim/completion.ts';
import type { PciDriver } from '../../../src/sim/pci/driver.ts';
import { registerHostDrivers } from '../../../src/sim/pci/host-drivers.ts';
import type { PciDev } from '../../../src/sim/pci/pci-dev.ts';
import { EINVAL } from '../../../src/uapi/sys.ts';
import { fakePci } from './fake.ts';

const BRIDGE = { bdf: '0000:00:04.0', spec: { class: 0x060400, vendor: 0x1b36, device: 0xc }, group: 4 } as const;
const NVME = {
  bdf: '0000:01:00.0',
  spec: { class: 0x010802, vendor: 0x1b36, device: 0x10 },
  parent: '0000:00:04.0',
  group: 13,
} as const;
const [ONE, TWO] = ['0000:00:02.0', '0000:00:03.0'] as const;
const V = '/sys/bus/pci/drivers/vfio-pci';
const dir = (bdf: string): string => `/sys/bus/pci/devices/${bdf}`;

/** What vfio-pci is to the driver core: it takes no bridge, and lets go when its users have. */
class Assigner implements PciDriver {
  readonly name = 'vfio-pci';
  readonly managesDma = true;
  readonly users = new Map<PciDev, Completion>();
  match(): boolean {
    return false;
  }
  probe(_p: unknown, dev: PciDev): number {
    return dev.fn.spec.class >> 8 === 0x0604 ? -EINVAL : 0;
  }
  remove(_p: unknown, dev: PciDev): Completion | undefined {
    return this.users.get(dev);
  }
}

function machine() {
  const made = fakePci([{ bdf: ONE, group: 2 }, { bdf: TWO, group: 2 }, BRIDGE, NVME]);
  const assigner = new Assigner();
  made.bus.register(assigner);
  registerHostDrivers(made.bus, ['pcieport', 'pci-stub', 'nvme']);
  const driver = (bdf: string): unknown =>
    made.code(() =>
      made.kernel
        .readlink(`${dir(bdf)}/driver`)
        .split('/')
        .at(-1),
    );
  return { ...made, assigner, driver };
}

describe('bind and unbind', () => {
  it('wants a device the driver is for, that has none', () => {
    const { write, driver, kernel, read } = machine();
    expect(write(`${V}/bind`, 'nope\n')).toBe('ENODEV');
    expect(write(`${V}/bind`, ONE)).toBe('ENODEV');
    expect(write(`${dir(ONE)}/driver_override`, 'vfio-pci\n')).toBe(9);
    expect(driver(ONE), 'an override binds nothing by itself').toBe('ENOENT');
    expect(write(`${V}/bind`, `${ONE} `)).toBe('ENODEV');
    expect(write(`${V}/bind`, `${ONE}\n`)).toBe(13);
    expect(driver(ONE)).toBe('vfio-pci');
    expect(kernel.readlink(`${V}/${ONE}`)).toBe('../../../../devices/pci0000:00/0000:00:02.0');
    expect(read(`${dir(ONE)}/uevent`)).toMatch(/^DRIVER=vfio-pci\nPCI_CLASS=FF00\n/);
    expect(write(`${V}/bind`, ONE)).toBe('EBUSY');
    expect(write('/sys/bus/pci/drivers/pcieport/unbind', ONE)).toBe('ENODEV');
    expect(write(`${V}/unbind`, TWO)).toBe('ENODEV');
    expect(write(`${V}/unbind`, ONE)).toBe(12);
    expect(driver(ONE)).toBe('ENOENT');
  });

  it('gives the errno of the probe; drivers_probe does not', () => {
    const { write, driver } = machine();
    expect(driver(BRIDGE.bdf)).toBe('pcieport');
    write(`${dir(BRIDGE.bdf)}/driver_override`, 'vfio-pci');
    expect(write(`${V}/bind`, BRIDGE.bdf)).toBe('EBUSY');
    write('/sys/bus/pci/drivers/pcieport/unbind', BRIDGE.bdf);
    expect(write(`${V}/bind`, BRIDGE.bdf)).toBe('EINVAL');
    expect(write('/sys/bus/pci/drivers_probe', BRIDGE.bdf)).toBe(12);
    expect(driver(BRIDGE.bdf)).toBe('ENOENT');
    write(`${dir(BRIDGE.bdf)}/driver_override`, '\n');
    expect(write('/sys/bus/pci/drivers_probe', BRIDGE.bdf)).toBe(12);
    expect(driver(BRIDGE.bdf)).toBe('pcieport');
    expect(write('/sys/bus/pci/drivers_probe', 'nope')).toBe('ENODEV');
  });

  it('a host driver holds a count of its group, and is refused while somebody owns it', () => {
    const { write, driver, groups } = machine();
    expect(driver(NVME.bdf)).toBe('nvme');
    const group = groups.get(13)!;
    expect(group.counts).toBe(1);
    expect(write('/sys/kernel/iommu_groups/13/type', 'identity')).toBe('EPERM');
    write('/sys/bus/pci/drivers/nvme/unbind', NVME.bdf);
    expect(group.counts).toBe(0);
    expect(write('/sys/kernel/iommu_groups/13/type', 'identity\n')).toBe(9);
    expect(group.claimDma({})).toBe(0);
    expect(write('/sys/bus/pci/drivers/nvme/bind', NVME.bdf)).toBe('EBUSY');
    expect(write('/sys/bus/pci/drivers_probe', NVME.bdf)).toBe('EINVAL');
    expect(driver(NVME.bdf)).toBe('ENOENT');
    write(`${dir(NVME.bdf)}/driver_override`, 'pci-stub');
    expect(write('/sys/bus/pci/drivers_probe', NVME.bdf), 'it manages DMA itself').toBe(12);
    expect(driver(NVME.bdf)).toBe('pci-stub');
  });

  it('new_id binds what it matches at once, remove_id leaves it bound', () => {
    const { write, driver } = machine();
    const steps: [file: string, text: string, answer: unknown][] = [
      ['new_id', '1234', 'EINVAL'],
      ['new_id', 'zz 11e9', 'EINVAL'],
      ['new_id', '1234:11eb', 'EINVAL'],
      ['new_id', '1234 11e8', 9],
      ['new_id', '1234 11e8\n', 'EEXIST'],
      ['new_id', '1234 11e8 1af4 1100', 'EEXIST'],
      ['new_id', '1234 11e9 ffffffff ffffffff 0 0 1', 'EINVAL'],
      ['new_id', '1234 11e9 ffffffff ffffffff 0 0 0', 33],
      ['new_id', '0x1234 0x11ea', 13],
      ['remove_id', '1234', 'EINVAL'],
      ['remove_id', '1234 11e8', 9],
      ['remove_id', '1234 11e8', 'ENODEV'],
    ];
    for (const [file, text, answer] of steps) expect([file, text, write(`${V}/${file}`, text)]).toEqual([file, text, answer]);
    expect([driver(ONE), driver(TWO), driver(NVME.bdf)]).toEqual(['vfio-pci', 'vfio-pci', 'nvme']);
    write(`${V}/unbind`, TWO);
    expect(write(`${V}/bind`, TWO)).toBe('ENODEV');
  });

  it('driver_override', () => {
    const { read, write } = machine();
    const file = `${dir(ONE)}/driver_override`;
    expect(read(file)).toBe('(null)\n');
    expect([write(file, 'x y'), read(file), write(file, 'ab\ncd\n'), read(file)]).toEqual([3, 'x y\n', 6, 'ab\n']);
    expect([write(file, 'a'.repeat(4095)), write(file, '\0'), read(file)]).toEqual(['EINVAL', 1, '(null)\n']);
    expect(write(file, 'a'.repeat(4094))).toBe(4094);
  });

  it('drivers_autoprobe off: nothing is probed by itself', () => {
    const { write, read, driver } = machine();
    const file = '/sys/bus/pci/drivers_autoprobe';
    expect([read(file), write(file, '0'), read(file)]).toEqual(['1\n', 1, '0\n']);
    write(`${dir(NVME.bdf)}/remove`, '1');
    write('/sys/bus/pci/rescan', '1');
    expect(driver(NVME.bdf)).toBe('ENOENT');
    expect([write(file, 'x'), read(file)]).toEqual([1, '1\n']);
  });
});

describe('a driver whose users stay', () => {
  function used() {
    const made = machine();
    const { write, assigner, devices } = made;
    for (const bdf of [ONE, TWO]) write(`${dir(bdf)}/driver_override`, 'vfio-pci');
    write(`${V}/bind`, ONE);
    const users = new Completion();
    const dev = devices.find(({ bdf }) => bdf === ONE)!;
    assigner.users.set(dev, users);
    return { ...made, users, dev };
  }

  it('unbind waits for them while the machine runs', () => {
    const { write, users, dev, driver, system } = used();
    const seen: unknown[] = [];
    system.runner.at(system.runner.ticks + 1000, () => {
      seen.push(driver(ONE), dev.driver?.name);
      users.complete();
    });
    expect(write(`${V}/unbind`, ONE)).toBe(12);
    expect(seen, 'the link is gone at once, the driver is not').toEqual(['ENOENT', 'vfio-pci']);
    expect(dev.driver).toBeUndefined();
  });

  it('nobody can release them: a deadlock, which ends when somebody does', () => {
    const { write, users, dev, system } = used();
    expect(write(`${V}/unbind`, ONE)).toBe('ERR_KVIO_DEADLOCK');
    // Who binds it meanwhile waits for the device's lock.
    expect(write(`${V}/bind`, ONE)).toBe('ERR_KVIO_DEADLOCK');
    system.runner.at(system.runner.ticks + 1000, () => users.complete());
    expect(write(`${V}/unbind`, ONE)).toBe(12);
    // Both writes are still there: the bind took it, and the second unbind gave it up again.
    expect(dev.driver).toBeUndefined();
  });

  it('remove waits too, and then the device is gone; rescan finds it', () => {
    const { write, users, system, code, kernel, read } = used();
    const file = kernel.open(`${dir(ONE)}/vendor`, 0);
    expect(write(`${dir(ONE)}/remove`, '0')).toBe(1);
    system.runner.at(system.runner.ticks + 1000, () => {
      expect(read(`${dir(ONE)}/vendor`)).toBe('0x1234\n');
      users.complete();
    });
    expect(write(`${dir(ONE)}/remove`, '1')).toBe(1);
    expect(code(() => kernel.readdir(dir(ONE)))).toBe('ENOENT');
    expect(code(() => kernel.pread(file, new Uint8Array(8), 0))).toBe('ENODEV');
    expect(kernel.readdir('/sys/kernel/iommu_groups/2/devices')).toEqual([TWO]);
    expect(write('/sys/bus/pci/rescan', '1')).toBe(1);
    expect(read(`${dir(ONE)}/vendor`)).toBe('0x1234\n');
  });

  it('removing a bridge removes what is behind it', () => {
    const { write, kernel, bus } = machine();
    expect(write(`${dir(BRIDGE.bdf)}/remove`, '1')).toBe(1);
    expect(kernel.readdir('/sys/bus/pci/devices').sort()).toEqual([ONE, TWO]);
    expect(kernel.readdir('/sys/kernel/iommu_groups')).toEqual(['2']);
    write('/sys/bus/pci/rescan', '1');
    expect(bus.find(NVME.bdf)?.driver?.name).toBe('nvme');
  });
});
