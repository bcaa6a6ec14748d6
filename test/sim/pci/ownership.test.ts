import { expect, it } from 'vitest';
import { openSim, profiles } from '../../../src/sim/index.ts';
import { VFIO_GROUP_GET_STATUS, VFIO_GROUP_SET_CONTAINER, VFIO_GROUP_UNSET_CONTAINER } from '../../../src/uapi/vfio.ts';
import { filesOf } from './files.ts';

const [EDU, SIBLING] = ['0000:00:09.0', '0000:00:09.1'] as const;

it('a driver of the host and VFIO keep each other out of a group', () => {
  const pci = [
    { at: '0000:00:00.0', model: 'host-bridge' },
    { at: EDU, model: 'edu', options: { multifunction: true } },
    { at: SIBLING, model: 'pci-testdev', driver: 'testdev' },
  ];
  const kernel = openSim({ machine: { ...profiles['lab-vtd-7.2']!, pci } });
  const { code, write, driver } = filesOf(kernel);
  expect(driver(SIBLING), 'as the machine says').toBe('testdev');
  write(`/sys/bus/pci/devices/${EDU}/driver_override`, 'vfio-pci');
  write('/sys/bus/pci/drivers_probe', EDU);
  const id = kernel.readlink(`/sys/bus/pci/devices/${EDU}/iommu_group`).split('/').at(-1);
  const container = kernel.open('/dev/vfio/vfio');
  const group = kernel.open(`/dev/vfio/${id}`);
  const status = (): number => {
    const bytes = Uint32Array.of(8, 0);
    kernel.ioctl(group, VFIO_GROUP_GET_STATUS, bytes);
    return bytes[1]!;
  };
  const set = (): unknown => code(() => kernel.ioctl(group, VFIO_GROUP_SET_CONTAINER, Int32Array.of(container)));
  expect([status(), set()]).toEqual([0, 'EPERM']);
  expect(write('/sys/bus/pci/drivers/testdev/unbind', SIBLING)).toBe(12);
  expect([status(), set(), status()]).toEqual([1, 0, 3]);
  expect(write('/sys/bus/pci/drivers/testdev/bind', SIBLING)).toBe('EBUSY');
  expect(write('/sys/bus/pci/drivers_probe', SIBLING)).toBe('EINVAL');
  expect(write(`/sys/kernel/iommu_groups/${id}/type`, 'identity')).toBe('EPERM');
  kernel.ioctl(group, VFIO_GROUP_UNSET_CONTAINER);
  expect(write('/sys/bus/pci/drivers_probe', SIBLING)).toBe(12);
  expect([driver(SIBLING), status()]).toEqual(['testdev', 0]);
});

it('a user who may not is refused by the modes of nodes and files', () => {
  const user = { uid: 1000, gid: 1000, capabilities: [] } as const;
  const kernel = openSim({ machine: { ...profiles['lab-vtd-7.2']!, user } });
  const code = (path: string, flags = 2): unknown => {
    try {
      kernel.close(kernel.open(path, flags));
      return 'ok';
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  const D = `/sys/bus/pci/devices/0000:00:02.0`;
  expect([code('/dev/vfio/vfio'), code('/dev/iommu'), code('/dev/kvm')]).toEqual(['ok', 'EACCES', 'EACCES']);
  expect([code(`${D}/driver_override`), code(`${D}/driver_override`, 0), code(`${D}/resource0`, 0)]).toEqual([
    'EACCES',
    'ok',
    'EACCES',
  ]);
  expect(code('/sys/bus/pci/drivers/vfio-pci/bind', 1)).toBe('EACCES');
  const config = kernel.open(`${D}/config`, 0);
  expect(kernel.pread(config, new Uint8Array(256), 0), 'the header alone').toBe(64);
  const iomem = new Uint8Array(8192);
  const count = kernel.read(kernel.open('/proc/iomem', 0), iomem);
  expect(Buffer.from(iomem.subarray(0, count)).toString()).toContain('00000000-00000000 : 0000:00:02.0\n');
});
