import { describe, expect, it } from 'vitest';
import { NotModelled } from '../../src/kernel/errors.ts';
import { DEFAULT_PROFILE, openSim, profiles } from '../../src/sim/index.ts';
import * as sys from '../../src/uapi/sys.ts';

describe('openSim', () => {
  it('boots the default machine', () => {
    const kernel = openSim();
    expect(kernel.machine.name).toBe(DEFAULT_PROFILE);
    expect(kernel).toMatchObject({ kind: 'sim', release: '6.18.44', closed: false });
    expect(kernel.features).toMatchObject({ async: true, kick: true, guard: false, exactAccess: true, simulated: true });
    kernel.close();
    kernel.close();
    expect(kernel.closed).toBe(true);
  });

  it('takes a machine of one’s own, and refuses what cannot be one', () => {
    const base = profiles[DEFAULT_PROFILE]!;
    const kernel = openSim({ machine: { ...base, name: 'mine', release: '6.1.0', devices: {} } });
    expect([kernel.release, kernel.machine.name]).toEqual(['6.1.0', 'mine']);
    expect(() => kernel.open('/dev/kvm')).toThrow(/ENOENT.*\/dev\/kvm/);
    expect(() => kernel.mmap({ length: 4096, flags: sys.MAP_DROPPABLE })).toThrow('EINVAL');
    expect(() => openSim({ machine: 'nowhere' })).toThrow(/no profile 'nowhere' \(there are: pvm-6.18/);
    expect(() => openSim({ machin: 'pvm-6.18' } as never)).toThrow(/no option machin$/);
    expect(() => openSim({ machine: { ...base, release: 'new' } })).toThrow(RangeError);
    expect(() => openSim({ machine: { ...base, limits: { ...base.limits, nofile: 0 } } })).toThrow(RangeError);
    expect(() => openSim({ seed: 1.5 })).toThrow(RangeError);
    expect(() => openSim({ notModelled: 'guess' as never })).toThrow(/'throw' or 'refuse'/);
  });

  it('has processes, each with descriptors and memory of its own, on one machine', () => {
    const kernel = openSim({ machine: 'lab-vtd-7.2' });
    const other = kernel.newProcess();
    const override = '/sys/bus/pci/devices/0000:00:02.0/driver_override';
    kernel.write(kernel.open(override, sys.O_WRONLY), Buffer.from('vfio-pci'));
    kernel.write(kernel.open('/sys/bus/pci/drivers_probe', sys.O_WRONLY), Buffer.from('0000:00:02.0'));
    const group = `/dev/vfio/${kernel.readlink('/sys/bus/pci/devices/0000:00:02.0/iommu_group').split('/').at(-1)}`;
    const fd = kernel.open(group);
    expect(() => other.open(group)).toThrow('EBUSY');
    expect(() => other.close(fd)).toThrow('EBADF');
    const { address } = kernel.guestRam(4096);
    expect([kernel.process.mm.resolve(address, false) === null, other.process.mm.resolve(address, false)]).toEqual([false, null]);
    expect(other.process.pid).not.toBe(kernel.process.pid);
    kernel.close();
    other.close(other.open(group));
    other.close();
  });

  it('names what it does not model, or refuses it', () => {
    const path = '/tmp/file';
    expect(() => openSim().open(path, sys.O_RDWR | sys.O_CREAT)).toThrow(NotModelled);
    expect(() => openSim({ notModelled: 'refuse' }).open(path, sys.O_RDWR | sys.O_CREAT)).toThrow('ENOENT');
    const strict = openSim();
    expect(() => strict.open('/', sys.O_PATH)).toThrow(NotModelled);
    expect(strict.eventfd(), 'no descriptor is lost').toBe(3);
  });

  it('lists what is modelled', () => {
    const rows = openSim().coverage();
    expect(rows.find((row) => row.name === 'eventfd2')).toEqual({ area: 'syscall', name: 'eventfd2' });
    expect(rows.filter((row) => row.area === 'ioctl').length).toBeGreaterThan(10);
    expect(new Set(rows.map((row) => `${row.area} ${row.name}`)).size).toBe(rows.length);
  });

  it('random numbers follow the seed', () => {
    const draw = (seed: number): number[] => {
      const { system } = openSim({ seed }).process;
      return [system.random(), system.random(), system.random()];
    };
    expect(draw(5)).toEqual(draw(5));
    expect(draw(5)).not.toEqual(draw(6));
  });
});
