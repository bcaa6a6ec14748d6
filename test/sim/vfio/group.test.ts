import { describe, expect, it } from 'vitest';
import { Deadlock } from '../../../src/kernel/errors.ts';
import { EventfdFile } from '../../../src/sim/eventfd.ts';
import { AnonFile, type File } from '../../../src/sim/file.ts';
import type { Process } from '../../../src/sim/process.ts';
import type { VfioDevice } from '../../../src/sim/vfio/device.ts';
import type { BoundDevice, IommufdContext } from '../../../src/sim/vfio/iommufd-context.ts';
import * as sys from '../../../src/uapi/sys.ts';
import * as v from '../../../src/uapi/vfio.ts';
import { answer, join, P, type Rig, rig, type TestDevice, type TestGroup, words } from './kit.ts';

const NAME = '0000:00:01.0';

interface Bench extends Rig {
  readonly iommu: TestGroup;
  readonly dev: TestDevice;
  readonly groupFd: number;
  readonly container: number;
}

function bench(options?: Parameters<typeof rig>[0]): Bench {
  const made = rig(options);
  const iommu = made.group();
  const dev = made.device(NAME, iommu);
  const groupFd = made.kernel.open(`/dev/vfio/${iommu.id}`);
  const container = made.kernel.open('/dev/vfio/vfio');
  return { ...made, iommu, dev, groupFd, container };
}

const setContainer = ({ kernel }: Rig, group: number, fd: number): unknown =>
  answer(() => kernel.ioctl(group, v.VFIO_GROUP_SET_CONTAINER, words(4, fd)));
const setIommu = ({ kernel }: Rig, fd: number, type: number): unknown => answer(() => kernel.ioctl(fd, v.VFIO_SET_IOMMU, type));
const unset = ({ kernel }: Rig, group: number): unknown => answer(() => kernel.ioctl(group, v.VFIO_GROUP_UNSET_CONTAINER));
const extension = ({ kernel }: Rig, fd: number, arg: number): unknown =>
  answer(() => kernel.ioctl(fd, v.VFIO_CHECK_EXTENSION, arg));
const getDevice = ({ kernel }: Rig, group: number, name = NAME): unknown =>
  answer(() => kernel.ioctl(group, v.VFIO_GROUP_GET_DEVICE_FD, new TextEncoder().encode(`${name}\0`)));
const status = ({ kernel }: Rig, group: number, argsz = 8): unknown => {
  const bytes = words(4, argsz, 0xff);
  const result = answer(() => kernel.ioctl(group, v.VFIO_GROUP_GET_STATUS, bytes));
  return result === 0 ? v.vfio_group_status.decode(bytes).flags : result;
};

describe('/dev/vfio/vfio', () => {
  it('answers three requests itself; what else there is depends on the backend', () => {
    const b = bench();
    const { kernel, groupFd, container } = b;
    const unknown = (): unknown => answer(() => kernel.ioctl(container, v.VFIO_IOMMU_ENABLE, 0));
    expect(kernel.ioctl(container, v.VFIO_GET_API_VERSION, 99)).toBe(0);
    expect(unknown()).toBe('EINVAL');
    expect([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11].map((arg) => extension(b, container, arg))).toEqual([
      1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0,
    ]);
    expect(setIommu(b, container, 3)).toBe('EINVAL');
    expect(setContainer(b, groupFd, container)).toBe(0);
    expect([0, 2, 4, 8, 9, 10].map((type) => setIommu(b, container, type))).toEqual([
      'ENODEV',
      'ENODEV',
      'ENODEV',
      'ENODEV',
      'EINVAL',
      'ENODEV',
    ]);
    expect(setIommu(b, container, 3)).toBe(0);
    expect(setIommu(b, container, 3)).toBe('EINVAL');
    expect([1, 3, 4, 8, 9, 10].map((arg) => extension(b, container, arg))).toEqual([1, 1, 0, 0, 1, 1]);
    expect(unknown()).toBe('ENOTTY');
    expect(answer(() => kernel.read(container, new Uint8Array(8)))).toBe('EINVAL');
    expect(answer(() => kernel.mmap({ fd: container, length: P, flags: sys.MAP_SHARED }))).toBe('ENODEV');
  });
});

describe('a group', () => {
  it('is opened once, tells its status, and takes one container', () => {
    const b = bench();
    const { kernel, groupFd, container, iommu } = b;
    expect(answer(() => kernel.open(`/dev/vfio/${iommu.id}`))).toBe('EBUSY');
    expect(answer(() => kernel.ioctl(groupFd, v.VFIO_GET_API_VERSION, 0))).toBe('ENOTTY');
    expect([status(b, groupFd, 7), status(b, groupFd)]).toEqual(['EINVAL', 1]);
    expect(unset(b, groupFd)).toBe('EINVAL');
    expect(answer(() => kernel.ioctl(groupFd, v.VFIO_GROUP_SET_CONTAINER, 0))).toBe('EFAULT');
    expect([setContainer(b, groupFd, 999), setContainer(b, groupFd, groupFd)]).toEqual(['EBADF', 'EBADFD']);
    iommu.hostDriver = true;
    expect([status(b, groupFd), setContainer(b, groupFd, container)]).toEqual([0, 'EPERM']);
    iommu.hostDriver = false;
    expect([setContainer(b, groupFd, container), setContainer(b, groupFd, container), status(b, groupFd)]).toEqual([
      0,
      'EINVAL',
      3,
    ]);
    expect(iommu.domain).toBe('blocked');
    expect([unset(b, groupFd), status(b, groupFd), iommu.domain]).toEqual([0, 1, 'default']);
  });

  it('GET_DEVICE_FD: the name first, then a free descriptor, then the container', () => {
    const b = bench();
    const { kernel, groupFd, container, dev, process } = b;
    expect([getDevice(b, groupFd, 'x'), getDevice(b, groupFd)]).toEqual(['ENODEV', 'EINVAL']);
    expect(answer(() => kernel.ioctl(groupFd, v.VFIO_GROUP_GET_DEVICE_FD, 0))).toBe('EFAULT');
    expect([getDevice(b, groupFd, 'x'.repeat(4095)), getDevice(b, groupFd, 'x'.repeat(4096))]).toEqual(['ENODEV', 'EINVAL']);
    setContainer(b, groupFd, container);
    expect(getDevice(b, groupFd)).toBe('EINVAL');
    const spare: number[] = [];
    while (answer(() => spare.push(kernel.eventfd())) !== 'EMFILE');
    expect([getDevice(b, groupFd, 'x'), getDevice(b, groupFd)]).toEqual(['ENODEV', 'EMFILE']);
    for (const fd of spare) kernel.close(fd);
    setIommu(b, container, 3);
    dev.openError = -sys.EAGAIN;
    expect(getDevice(b, groupFd)).toBe('EAGAIN');
    dev.openError = 0;
    const fd = getDevice(b, groupFd) as number;
    expect(process.fds.cloexec(fd)).toBe(true);
    const again = getDevice(b, groupFd) as number;
    expect(dev.asked).toEqual(['open', 'open']);
    expect([
      unset(b, groupFd),
      answer(() => kernel.ioctl(fd, v.VFIO_DEVICE_BIND_IOMMUFD, new Uint8Array(24).fill(24, 0, 1))),
    ]).toEqual(['EBUSY', 'EINVAL']);
    expect(answer(() => kernel.ioctl(fd, v.VFIO_DEVICE_ATTACH_IOMMUFD_PT, new Uint8Array(12)))).toBe('ENOTTY');
    kernel.close(fd);
    expect(unset(b, groupFd)).toBe('EBUSY');
    kernel.close(again);
    expect([dev.asked, unset(b, groupFd)]).toEqual([['open', 'open', 'ioctl 3b77', 'close'], 0]);
  });

  it('lives as long as an open device and its mappings', () => {
    const b = bench();
    const { kernel, groupFd, container, iommu, dev, system } = b;
    setContainer(b, groupFd, container);
    setIommu(b, container, 3);
    const ram = kernel.guestRam(P);
    kernel.ioctl(container, v.VFIO_IOMMU_MAP_DMA, join(words(4, 32, 3), words(8, ram.address, 0, P)));
    kernel.close(container);
    const fd = getDevice(b, groupFd) as number;
    expect(iommu.load(0n)).toBe(0);
    dev.backing = { page: () => null, notifiers: new Set(), load: () => 42, store: () => 0 };
    const mapped = kernel.mmap({ fd, length: P, flags: sys.MAP_SHARED });
    expect(mapped.read32(0)).toBe(42);
    kernel.close(groupFd);
    kernel.close(fd);
    expect(answer(() => kernel.open(`/dev/vfio/${iommu.id}`))).toBe('EBUSY');
    expect(dev.asked).toEqual(['open']);
    mapped.close();
    expect([dev.asked, iommu.domain, b.process.mm.lockedVm]).toEqual([['open', 'close'], 'default', 0]);
    const reopened = kernel.open(`/dev/vfio/${iommu.id}`);
    expect(system.device('/dev/vfio/vfio')).toBeDefined();
    expect(status(b, reopened)).toBe(1);
  });

  it('several share a container; the last one takes mappings and type with it', () => {
    const b = bench();
    const { kernel, groupFd, container } = b;
    const second = b.group();
    b.device('0000:00:02.0', second);
    const secondFd = kernel.open(`/dev/vfio/${second.id}`);
    setContainer(b, groupFd, container);
    setContainer(b, secondFd, container);
    setIommu(b, container, 3);
    kernel.close(groupFd);
    expect(setIommu(b, container, 3)).toBe('EINVAL');
    expect(unset(b, secondFd)).toBe(0);
    expect(setContainer(b, secondFd, container)).toBe(0);
    expect(setIommu(b, container, 1)).toBe(0);
  });
});

describe('no-IOMMU', () => {
  it('groups of a device without IOMMU: one type, nothing to map', () => {
    const b = bench({ parameters: { vfio: { enable_unsafe_noiommu_mode: true } } });
    const { kernel, system, groupFd } = b;
    const dev = b.device('0000:00:09.0', 'none');
    expect(system.tainted).toBe(64n);
    const path = `/dev/vfio/noiommu-${dev.group.iommuGroup!.id}`;
    expect(system.device('/dev/vfio/devices/vfio1')).toBeUndefined();
    const fd = kernel.open('/dev/vfio/vfio');
    expect(extension(b, fd, 8)).toBe(1);
    const noiommu = kernel.open(path);
    expect(setContainer(b, noiommu, fd)).toBe(0);
    expect(setContainer(b, groupFd, fd)).toBe('EPERM');
    expect([1, 3, 9, 0].map((type) => setIommu(b, fd, type))).toEqual(['ENODEV', 'ENODEV', 'ENODEV', 'ENODEV']);
    expect(setIommu(b, fd, 8)).toBe(0);
    expect([1, 8, 10].map((arg) => extension(b, fd, arg))).toEqual([0, 1, 0]);
    expect(answer(() => kernel.ioctl(fd, v.VFIO_IOMMU_MAP_DMA, new Uint8Array(32)))).toBe('ENOTTY');
    expect(getDevice(b, noiommu, '0000:00:09.0')).toBeGreaterThan(0);
  });

  it('asks for CAP_SYS_RAWIO', () => {
    const user = { uid: 0, gid: 0, capabilities: ['CAP_DAC_OVERRIDE'] } as const;
    const b = rig({ parameters: { vfio: { enable_unsafe_noiommu_mode: true } }, machine: { user } });
    const dev = b.device('0000:00:09.0', 'none');
    expect(answer(() => b.kernel.open(`/dev/vfio/noiommu-${dev.group.iommuGroup!.id}`))).toBe('EPERM');
  });

  it('is off by default', () => {
    expect(() => rig().device('0000:00:09.0', 'none')).toThrow('errno 22');
  });
});

describe('vfio_unregister_group_dev', () => {
  it('nobody opens the device any more, and its users are asked until they let go', () => {
    const b = bench();
    const { kernel, groupFd, container, dev, process, core, system } = b;
    setContainer(b, groupFd, container);
    setIommu(b, container, 3);
    const fd = getDevice(b, groupFd) as number;
    expect(system.device('/dev/vfio/devices/vfio0')).toBeDefined();
    const gone = core.unregisterDevice(process, dev);
    expect([gone.done, dev.asked]).toEqual([false, ['open', 'request 0']]);
    expect(system.device('/dev/vfio/devices/vfio0')).toBeUndefined();
    expect(getDevice(b, groupFd)).toBe('ENODEV');
    const event = kernel.eventfd();
    expect(kernel.poll([{ fd: event, events: sys.POLLIN }], 25_000)).toEqual([0]);
    expect(dev.asked).toEqual(['open', 'request 0', 'request 1', 'request 2']);
    expect(() => kernel.read(event, new Uint8Array(8))).toThrow(Deadlock);
    kernel.close(fd);
    expect([gone.done, dev.asked.at(-1)]).toEqual([true, 'close']);
    expect(core.groups).toEqual([]);
    expect([status(b, groupFd), setContainer(b, groupFd, container), getDevice(b, groupFd), unset(b, groupFd)]).toEqual([
      'ENODEV',
      'ENODEV',
      'ENODEV',
      'EINVAL',
    ]);
    kernel.close(groupFd);
  });

  it('an unbound character device holds it too; the index is free again after', () => {
    const b = bench();
    const { kernel, dev, process, core } = b;
    const cdev = kernel.open('/dev/vfio/devices/vfio0');
    const gone = core.unregisterDevice(process, dev);
    expect(gone.done).toBe(false);
    b.device('0000:00:05.0', b.group());
    kernel.close(cdev);
    expect(gone.done).toBe(true);
    expect(b.device('0000:00:06.0', b.group()).index).toBe(0);
  });
});

/** An iommufd, as far as VFIO asks it. */
class TestIommufd extends AnonFile {
  readonly log: string[] = [];
  ioas = -sys.ENODEV;
  refuse = 0;
  readonly iommufd: IommufdContext = {
    get: () => {
      this.ref();
      return this.iommufd;
    },
    put: (p) => this.unref(p),
    bind: (_p, device) => (this.refuse < 0 ? this.refuse : this.#bound(device)),
    createCompatIoas: () => {
      this.ioas = 5;
      return 0;
    },
    setNoIommu: () => (this.ioas < 0 ? 0 : -sys.EINVAL),
    compatIoas: () => this.ioas,
  };

  constructor() {
    super('/dev/iommu', sys.O_RDWR);
  }

  #bound(device: VfioDevice): BoundDevice {
    this.log.push(`bind ${device.name}`);
    const log = (what: string, pasid?: number): void => {
      this.log.push(pasid === undefined ? what : `${what} pasid ${pasid}`);
    };
    return {
      context: this.iommufd,
      id: 3,
      attach: (_p, pt, pasid) => {
        log(`attach ${pt}`, pasid);
        return pt === 99 ? -sys.ENOENT : pt + 1;
      },
      detach: (_p, pasid) => log('detach', pasid),
      unbind: () => log('unbind'),
    };
  }
}

const install = (p: Process, file: File): number => p.fds.install(file, true);

describe('a character device', () => {
  const bind = ({ kernel }: Rig, cdev: number, iommufd: number, argsz = 24, flags = 0, tail: number[] = []): unknown => {
    const bytes = join(words(4, argsz, flags, iommufd, 0), words(8, 0), new Uint8Array(tail));
    const result = answer(() => kernel.ioctl(cdev, v.VFIO_DEVICE_BIND_IOMMUFD, bytes));
    return result === 0 ? v.vfio_device_bind_iommufd.decode(bytes).out_devid : result;
  };

  it('grants nothing before BIND', () => {
    const { kernel } = bench();
    const cdev = kernel.open('/dev/vfio/devices/vfio0');
    expect(answer(() => kernel.ioctl(cdev, 0x3bff, 0))).toBe('EINVAL');
    expect(answer(() => kernel.read(cdev, new Uint8Array(0)))).toBe('EINVAL');
    expect(answer(() => kernel.pwrite(cdev, new Uint8Array(4), 0))).toBe('EINVAL');
    expect(answer(() => kernel.mmap({ fd: cdev, length: P, flags: sys.MAP_SHARED }))).toBe('EINVAL');
  });

  it('BIND: in the order of the kernel’s checks', () => {
    const b = bench();
    const { kernel, process, groupFd, dev } = b;
    const cdev = kernel.open('/dev/vfio/devices/vfio0');
    const file = new TestIommufd();
    const iommufd = install(process, file);
    const event = install(process, new EventfdFile(0, 0));
    expect(answer(() => kernel.ioctl(cdev, v.VFIO_DEVICE_BIND_IOMMUFD, 0))).toBe('EFAULT');
    expect(bind(b, cdev, iommufd, 15)).toBe('EINVAL');
    expect(bind(b, cdev, iommufd, 28, 0, [0, 0, 1, 0])).toBe('E2BIG');
    expect([bind(b, cdev, -1), bind(b, cdev, iommufd, 24, 2)]).toEqual(['EINVAL', 'EINVAL']);
    expect(bind(b, cdev, 999)).toBe('EBUSY');
    kernel.close(groupFd);
    expect([bind(b, cdev, iommufd, 24, 1), bind(b, cdev, 999), bind(b, cdev, event)]).toEqual(['EINVAL', 'EBADF', 'EBADFD']);
    file.refuse = -sys.EPERM;
    expect(bind(b, cdev, iommufd)).toBe('EPERM');
    file.refuse = 0;
    dev.openError = -sys.EAGAIN;
    expect([bind(b, cdev, iommufd), file.log]).toEqual(['EAGAIN', ['bind 0000:00:01.0', 'unbind']]);
    dev.openError = 0;
    expect([bind(b, cdev, iommufd, 28, 0, [0, 0, 0, 0]), bind(b, cdev, 999)]).toEqual([3, 'EINVAL']);
    const other = kernel.open('/dev/vfio/devices/vfio0');
    expect([bind(b, other, 999), bind(b, other, iommufd)]).toEqual(['EBADF', 'EINVAL']);
    expect(answer(() => kernel.open('/dev/vfio/0'))).toBe('EBUSY');
    process.fds.close(iommufd);
    expect(file.references).toBe(1);
    kernel.close(cdev);
    expect([file.references, file.log.at(-1)]).toEqual([0, 'unbind']);
    expect(answer(() => kernel.open('/dev/vfio/0'))).toBeGreaterThan(0);
  });

  it('ATTACH and DETACH', () => {
    const b = bench();
    const { kernel, process, groupFd } = b;
    kernel.close(groupFd);
    const cdev = kernel.open('/dev/vfio/devices/vfio0');
    const file = new TestIommufd();
    bind(b, cdev, install(process, file));
    const attach = (...fields: number[]): unknown => {
      const bytes = words(4, ...fields);
      const result = answer(() => kernel.ioctl(cdev, v.VFIO_DEVICE_ATTACH_IOMMUFD_PT, bytes));
      return result === 0 ? new Uint32Array(bytes.buffer)[2] : result;
    };
    const detach = (...fields: number[]): unknown =>
      answer(() => kernel.ioctl(cdev, v.VFIO_DEVICE_DETACH_IOMMUFD_PT, words(4, ...fields)));
    expect([attach(11, 0, 5), attach(12, 2, 5), attach(12, 1, 5)]).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
    expect([attach(12, 0, 5), attach(16, 1, 7, 4), attach(12, 0, 99)]).toEqual([6, 8, 'ENOENT']);
    expect([detach(7, 0), detach(8, 2), detach(8, 1), detach(8, 0), detach(12, 1, 4)]).toEqual([
      'EINVAL',
      'EINVAL',
      'EINVAL',
      0,
      0,
    ]);
    expect(file.log).toEqual(['bind 0000:00:01.0', 'attach 5', 'attach 7 pasid 4', 'attach 99', 'detach', 'detach pasid 4']);
  });

  it('for reading only: mappings are private ones to the driver', () => {
    const b = bench();
    const { kernel, process, groupFd, dev } = b;
    kernel.close(groupFd);
    const cdev = kernel.open('/dev/vfio/devices/vfio0', sys.O_RDONLY);
    bind(b, cdev, install(process, new TestIommufd()));
    dev.backing = { page: () => null, notifiers: new Set(), load: () => 1, store: () => 0 };
    expect(answer(() => kernel.pwrite(cdev, new Uint8Array(4), 0))).toBe('EBADF');
    expect(answer(() => kernel.mmap({ fd: cdev, length: P, flags: sys.MAP_SHARED, prot: 3 }))).toBe('EACCES');
    expect(answer(() => kernel.mmap({ fd: cdev, length: P, flags: sys.MAP_SHARED, prot: 1 }))).toBe('EINVAL');
  });
});

describe('an iommufd as container', () => {
  it('devices are bound at their first open, do not hold the group, and UNSET never waits', () => {
    const b = bench();
    const { kernel, process, groupFd, dev, iommu } = b;
    const file = new TestIommufd();
    const iommufd = install(process, file);
    expect([setContainer(b, groupFd, iommufd), status(b, groupFd), iommu.domain]).toEqual([0, 3, 'default']);
    file.refuse = -sys.EPERM;
    expect(getDevice(b, groupFd)).toBe('EPERM');
    file.refuse = 0;
    const fd = getDevice(b, groupFd) as number;
    expect(file.log).toEqual(['bind 0000:00:01.0', 'attach 5']);
    expect(getDevice(b, groupFd)).toBeGreaterThan(fd);
    expect(unset(b, groupFd)).toBe(0);
    kernel.close(groupFd);
    const reopened = kernel.open(`/dev/vfio/${iommu.id}`);
    expect([getDevice(b, reopened), dev.asked]).toEqual(['EINVAL', ['open']]);
  });

  it('attaches to no compat IOAS: ENODEV, and the device is closed again', () => {
    const b = bench();
    const file = new TestIommufd();
    setContainer(b, b.groupFd, install(b.process, file));
    file.ioas = -sys.ENODEV;
    expect([getDevice(b, b.groupFd), b.dev.asked]).toEqual(['ENODEV', ['open', 'close']]);
  });
});
