import { describe, expect, test } from 'vitest';
import * as u from '../../../src/uapi/index.ts';
import { ACCELERATOR, answer, BIND, Guest, join, kernelOf, Scene, UNBIND, VIRT_ID, word, words } from './scene.ts';
import { Cdev, rfc } from './vfio-kit.ts';

const bar = (n: number): bigint => BigInt(n) << 40n;

describe('IOMMU_VIOMMU_ALLOC with a VM', () => {
  test('checks flags and type, the device, the driver, the table, then the descriptor', () => {
    const scene = new Scene();
    const { fd } = scene.guest!;
    expect(scene.viommuAlloc({ flags: 2 })).toBe('EOPNOTSUPP');
    expect(scene.viommuAlloc({ type: 0, flags: 1, kvm: fd })).toBe('EOPNOTSUPP');
    expect(scene.viommuAlloc({ type: 2 })).toBe('EOPNOTSUPP');
    expect(scene.viommuAlloc({ type: 3 })).toBe('EOPNOTSUPP');
    expect(scene.viommuAlloc({ flags: 1, kvm: 999 })).toBe('EBADF');
    expect(scene.viommuAlloc({ flags: 1, kvm: scene.iommufd })).toBe('EBADF');
    expect(scene.viommuAlloc({ flags: 1, kvm: scene.guest!.vfio })).toBe('EBADF');
    expect(scene.viommuAlloc({ flags: 1, kvm: fd })).toBe(0);
    expect(scene.viommuAlloc({ size: 24 })).toBe(0);
    expect(scene.viommuAlloc({ flags: 1, kvm: fd, size: 40 })).toBe('EBADF');
  });

  test('CCA has a type of its own, and so had SEV-TIO v2', () => {
    expect(new Scene({ teeIo: { vendor: 'cca' } }).viommuAlloc({ type: 3 })).toBe(0);
    expect(new Scene({ teeIo: { vendor: 'sev', dialects: ['aik-v2'] } }).viommuAlloc({ type: 2 })).toBe(0);
  });

  test('holds the VM until it is destroyed', () => {
    const scene = new Scene({ fileAdd: false });
    const { vm, fd, vfio } = scene.guest!;
    scene.viommuAlloc({ flags: 1, kvm: fd });
    scene.kernel.close(fd);
    scene.kernel.close(vfio);
    expect(vm.alive).toBe(true);
    expect([scene.destroy(scene.viommu), vm.alive]).toEqual([0, false]);
  });

  test('must agree with the VM the device was opened with', () => {
    const kernel = kernelOf();
    const scene = new Scene({ kernel });
    const stranger = new Guest(kernel);
    scene.destroy(scene.vdevice);
    scene.viommuAlloc({ flags: 1, kvm: stranger.fd });
    expect(scene.vdeviceAlloc()).toBe('EINVAL');
    scene.viommuAlloc({ flags: 1, kvm: scene.guest!.fd });
    expect(scene.vdeviceAlloc()).toBe(0);
  });

  test('is the VM of a device that was opened with none', () => {
    const scene = new Scene({ fileAdd: false });
    expect(scene.op(BIND)).toBe('ENODEV');
    scene.destroy(scene.vdevice);
    scene.viommuAlloc({ flags: 1, kvm: scene.guest!.fd });
    scene.vdeviceAlloc();
    expect([scene.op(BIND), scene.state, scene.tsmBind()]).toEqual([0, 'LOCKED bound', 'ENOENT']);
  });
});

describe('IOMMU_VDEVICE_TSM_OP', () => {
  test('binds and unbinds, as often as it likes', () => {
    const scene = new Scene();
    expect([scene.op(UNBIND), scene.op(BIND), scene.state]).toEqual([0, 0, 'LOCKED bound']);
    expect([scene.op(BIND), scene.state, [...scene.guest!.vm.tdis].map(({ virtId, door }) => [virtId, door])]).toEqual([
      ...[0, 'LOCKED bound', [[VIRT_ID, 'iommufd']]],
    ]);
    expect([scene.op(UNBIND), scene.op(UNBIND), scene.state]).toEqual([0, 0, 'UNLOCKED']);
  });

  test('checks flags, the id, the VM, the operation', () => {
    const scene = new Scene({ fileAdd: false });
    expect([scene.op(9, 99, { flags: 1 }), scene.op(9, 99), scene.op(9, scene.hwpt), scene.op(9)]).toEqual([
      ...['EOPNOTSUPP', 'ENOENT', 'ENOENT', 'ENODEV'],
    ]);
    expect(new Scene().op(3)).toBe('EINVAL');
  });

  test('version 1 says ENODEV, whatever it is', () => {
    const scene = new Scene({ teeIo: { tsmOpErrno: 'v1' } });
    expect([scene.op(3), scene.op(BIND, 99), scene.op(BIND, scene.vdevice, { flags: 1 })]).toEqual([
      'ENODEV',
      'ENOENT',
      'EOPNOTSUPP',
    ]);
    scene.tdi.connected = false;
    expect(scene.op(BIND)).toBe('ENODEV');
  });

  test('of TDX it is VFIO that binds', () => {
    const scene = new Scene({ teeIo: { vendor: 'tdx' } });
    expect([scene.op(BIND), scene.tsmBind(), scene.op(BIND), scene.op(UNBIND), scene.state]).toEqual([
      'EOPNOTSUPP',
      0,
      0,
      0,
      'UNLOCKED',
    ]);
  });

  test('of CCA it does not lock', () => {
    const scene = new Scene({ teeIo: { vendor: 'cca' } });
    expect([scene.op(BIND), scene.state]).toEqual([0, 'UNLOCKED bound']);
  });

  test('a device that refuses to be locked is EIO, and not bound', () => {
    const scene = new Scene();
    scene.tdi.loseKeys();
    expect([scene.op(BIND), scene.state, scene.guest!.vm.tdis.size]).toEqual(['EIO', 'UNLOCKED', 0]);
  });

  test('either door ends what the other began', () => {
    const scene = new Scene();
    expect([scene.op(BIND), scene.tsmUnbind(), scene.state]).toEqual([0, 0, 'UNLOCKED']);
    expect([scene.tsmBind(), scene.op(UNBIND), scene.state, scene.tsmBind()]).toEqual([0, 0, 'UNLOCKED', 0]);
  });

  test('claims no BAR: the host’s accesses are refused by the device, or tear it down', () => {
    for (const [hostMmio, state] of [
      ['reject', 'LOCKED bound'],
      ['error', 'ERROR bound'],
    ] as const) {
      const scene = new Scene({ teeIo: { hostMmio } });
      expect(scene.read(bar(2), 4)).not.toBe('ffffffff');
      expect([scene.op(BIND), scene.read(bar(2), 4), scene.state]).toEqual([0, 'ffffffff', state]);
      expect([scene.op(UNBIND), scene.read(bar(2), 4) !== 'ffffffff']).toEqual([0, true]);
    }
  });
});

describe('IOMMU_OPTION_EXCLUSIVE_RANGES', () => {
  const option = (scene: Scene, op: number, value: bigint | number = 0, id = scene.devId, reserved = 0): unknown => {
    const bytes = join(words(4, 24, 2, op | (reserved << 16), id), words(8, value));
    const result = scene.iommu(u.IOMMU_OPTION, bytes);
    return op === 1 && result === 0 ? word(bytes, 16) : result;
  };

  test('is a bit of the device', () => {
    const scene = new Scene();
    expect([option(scene, 1), option(scene, 0, 1), option(scene, 1)]).toEqual([0, 0, 1]);
    expect([option(scene, 0, 2), option(scene, 0, 3), option(scene, 1)]).toEqual(['EINVAL', 0, 1]);
    expect([option(scene, 0, 0), option(scene, 1)]).toEqual([0, 0]);
    expect([option(scene, 2), option(scene, 1, 0, scene.ioas), option(scene, 1, 0, scene.devId, 1)]).toEqual([
      'EOPNOTSUPP',
      'ENOENT',
      'EOPNOTSUPP',
    ]);
  });

  test('claims the BARs for the time of a bind', () => {
    const scene = new Scene();
    option(scene, 0, 1);
    expect([scene.op(BIND), scene.read(bar(2), 4), scene.op(BIND), scene.op(UNBIND)]).toEqual([0, 'EBUSY', 0, 0]);
    expect([scene.read(bar(2), 4) === 'EBUSY', scene.op(BIND), scene.state]).toEqual([false, 'EBUSY', 'UNLOCKED']);
  });

  test('is unknown where the switch is off', () => {
    const device = new Cdev(rfc('off'));
    const id = device.bind() as number;
    const arg = join(words(4, 24, 2, 1, id), words(8, 0));
    expect(answer(() => device.kernel.ioctl(device.iommufd, u.IOMMU_OPTION, arg))).toBe('EOPNOTSUPP');
  });
});

describe('IOMMU_VDEVICE_TSM_MAP', () => {
  const GPA = 0x10_0000n;
  const TSM_MAP = u.teeIo.aneeshV1.IOMMU_VDEVICE_TSM_MAP;
  const tsmMap = (
    scene: Scene,
    start: bigint,
    end: bigint,
    { flags = 0, size = 32, id = scene.vdevice, tail = 0 } = {},
  ): unknown => scene.iommu(TSM_MAP, join(words(4, size, flags), words(8, start, end), words(4, id, 0, tail, 0)));
  const ready = (scene: Scene, from: number, count: number): string =>
    Array.from({ length: count }, (_, i) => (scene.guest!.vm.isCommitted(from + i) ? 'x' : '.')).join('');

  test('commits page by page, and stops at the first that is not there', () => {
    const scene = new Scene();
    scene.guest!.memory(1, GPA, 3);
    scene.guest!.memory(2, GPA + 0x4000n, 2);
    expect(tsmMap(scene, GPA + 0x1000n, GPA + 0x6000n)).toBe('EINVAL');
    expect(ready(scene, 0x100, 6)).toBe('.xx...');
    expect([tsmMap(scene, GPA + 0x4800n, GPA + 0x5801n), ready(scene, 0x100, 6)]).toEqual([0, '.xx.xx']);
  });

  test('an empty range is nothing', () => {
    const scene = new Scene();
    expect([tsmMap(scene, GPA, GPA), tsmMap(scene, GPA, 0n)]).toEqual([0, 0]);
  });

  test('checks its struct, flags, the id, the VM', () => {
    const scene = new Scene({ fileAdd: false });
    expect([tsmMap(scene, 0n, 0n, { size: 24 }), tsmMap(scene, 0n, 0n, { size: 40, tail: 1 })]).toEqual(['EINVAL', 'E2BIG']);
    expect([tsmMap(scene, 0n, 0n, { flags: 1, id: 99 }), tsmMap(scene, 0n, 0n, { id: 99 }), tsmMap(scene, 0n, 0n)]).toEqual([
      ...['EOPNOTSUPP', 'ENOENT', 'ENODEV'],
    ]);
  });

  test('28 bytes are enough; it may be bound or not', () => {
    const scene = new Scene();
    scene.guest!.memory(1, GPA, 1);
    expect([tsmMap(scene, GPA, GPA + 0x1000n, { size: 28 }), ready(scene, 0x100, 1)]).toEqual([0, 'x']);
    scene.op(BIND);
    expect(tsmMap(scene, GPA, GPA + 0x1000n, { size: 40 })).toBe(0);
  });
});

describe('vDEVICEs of a bound TDI', () => {
  test('their destruction unbinds, and the vIOMMU stays busy before', () => {
    for (const bound of [(scene: Scene) => scene.op(BIND), (scene: Scene) => scene.tsmBind()]) {
      const scene = new Scene();
      bound(scene);
      expect([scene.destroy(scene.viommu), scene.destroy(scene.hwpt), scene.state]).toEqual(['EBUSY', 'EBUSY', 'LOCKED bound']);
      expect([scene.destroy(scene.vdevice), scene.state, scene.destroy(scene.viommu)]).toEqual([0, 'UNLOCKED', 0]);
    }
  });

  test('or is refused (bindRefPolicy)', () => {
    for (const bound of [(scene: Scene) => scene.op(BIND), (scene: Scene) => scene.tsmBind()]) {
      const scene = new Scene({ teeIo: { bindRefPolicy: 'xm' } });
      bound(scene);
      expect([scene.destroy(scene.vdevice), scene.op(BIND), scene.state]).toEqual(['EBUSY', 0, 'LOCKED bound']);
      expect([scene.op(UNBIND), scene.destroy(scene.vdevice), scene.destroy(scene.viommu)]).toEqual([0, 0, 0]);
    }
  });

  test('their ids stay taken when the device is closed', () => {
    const scene = new Scene();
    scene.op(BIND);
    const { tdi, guest } = scene;
    guest!.file(u.KVM_DEV_VFIO_FILE_DEL, scene.fd);
    scene.close();
    expect([tdi.binding, tdi.tdi.state, scene.destroy(scene.vdevice), scene.destroy(scene.viommu)]).toEqual([
      undefined,
      0,
      'ENOENT',
      0,
    ]);
  });
});

test('with the switch off a vIOMMU of x86 there is none, and the numbers are nobody’s', () => {
  const kernel = kernelOf('off');
  const scene = new Scene({ kernel, guest: null, bdf: ACCELERATOR });
  expect([scene.viommu, scene.viommuAlloc({ flags: 1 })]).toEqual([0, 'EOPNOTSUPP']);
  for (const request of [0x3b95, 0x3b96, 0x3b97]) expect(scene.iommu(request, words(4, 48, ...Array(11).fill(0)))).toBe('ENOTTY');
});
