import { describe, expect, test } from 'vitest';
import type { TeeIo } from '../../../src/sim/hardware/tsm/switches.ts';
import * as u from '../../../src/uapi/index.ts';
import { E1000E } from '../vfio/pci/kit.ts';
import { answer, BIND, Guest, kernelOf, OTHER, Scene, words } from './scene.ts';
import { Cdev, rfc } from './vfio-kit.ts';

const COMMAND = 4;
const MEMORY = 2;
const MASTER = 4;
const bar = (n: number): bigint => BigInt(n) << 40n;

function bound(teeIo: Partial<TeeIo> = {}): Scene {
  const scene = new Scene({ teeIo });
  expect(scene.tsmBind()).toBe(0);
  return scene;
}

const map = (scene: Scene): unknown =>
  answer(() => scene.kernel.mmap({ fd: scene.fd, length: 4096, offset: bar(2), flags: u.MAP_SHARED, view: false }) && 'mapped');

describe('VFIO_DEVICE_TSM_BIND', () => {
  test('locks, once; UNBIND unlocks, any number of times', () => {
    const scene = new Scene();
    expect([scene.tsmBind(), scene.state, scene.tsmBind()]).toEqual([0, 'LOCKED bound', 'EBUSY']);
    expect([scene.tsmUnbind(), scene.state, scene.tsmUnbind()]).toEqual([0, 'UNLOCKED', 0]);
    expect([scene.tsmBind(), scene.state]).toEqual([0, 'LOCKED bound']);
  });

  test('the struct: 12 bytes are enough, no flag is known, and it must be there', () => {
    const scene = new Scene();
    expect([scene.tsmBind(scene.vdevice, 11), scene.tsmBind(scene.vdevice, 16, 1)]).toEqual(['EINVAL', 'EINVAL']);
    expect([scene.tsmUnbind(7), scene.tsmUnbind(8, 1)]).toEqual(['EINVAL', 'EINVAL']);
    const { VFIO_DEVICE_TSM_BIND, VFIO_DEVICE_TSM_UNBIND } = u.teeIo.xuMay25;
    const nowhere = (request: number): unknown => answer(() => scene.kernel.ioctl(scene.fd, request, 8n, { unsafe: true }));
    expect([nowhere(VFIO_DEVICE_TSM_BIND), nowhere(VFIO_DEVICE_TSM_UNBIND)]).toEqual(['EFAULT', 'EFAULT']);
    expect(scene.tsmBind(scene.vdevice, 12)).toBe(0);
  });

  test('needs a VM: the one of KVM_DEV_VFIO_FILE_ADD before BIND_IOMMUFD', () => {
    const scene = new Scene({ fileAdd: false });
    expect(scene.tsmBind()).toBe('ENOENT');
    scene.guest!.file(u.KVM_DEV_VFIO_FILE_ADD, scene.fd);
    expect(scene.tsmBind()).toBe('ENOENT');
  });

  test('needs BARs nobody has touched since the device was opened', () => {
    for (const touch of [
      (scene: Scene) => map(scene),
      (scene: Scene) => scene.read(bar(2), 4),
      (scene: Scene) => scene.write(bar(2), '00000000'),
    ]) {
      const scene = new Scene();
      touch(scene);
      expect([scene.tsmBind(), scene.state]).toEqual(['EBUSY', 'UNLOCKED']);
    }
    const scene = new Scene();
    expect([scene.tsmBind(), map(scene), scene.read(bar(2), 4), scene.read(bar(0), 4), scene.write(bar(2), '00')]).toEqual([
      ...[0, 'EBUSY', 'EBUSY', 'EBUSY', 'EBUSY'],
    ]);
    expect(scene.config(0, 2)).toBe(scene.config(0, 2));
    scene.tsmUnbind();
    expect([scene.read(bar(2), 4) !== 'EBUSY', map(scene)]).toEqual([true, 'mapped']);
    expect(scene.tsmBind()).toBe('EBUSY');
  });

  test('an ioeventfd touches a BAR, and cannot while it is bound', () => {
    const scene = new Scene();
    const { fd } = scene.eventfd();
    const ioeventfd = u.vfio_device_ioeventfd.encode({ argsz: 32, flags: 4, offset: bar(2) | 8n, data: 0n, fd, reserved: 0 });
    expect([scene.tsmBind(), scene.call(u.VFIO_DEVICE_IOEVENTFD, ioeventfd)]).toEqual([0, 'EBUSY']);
    scene.tsmUnbind();
    expect([scene.call(u.VFIO_DEVICE_IOEVENTFD, ioeventfd), scene.tsmBind()]).toEqual([0, 'EBUSY']);
  });

  test('needs a vDEVICE, of this device, none of them bound; a failure gives the claim back', () => {
    const kernel = kernelOf();
    const guest = new Guest(kernel);
    const scene = new Scene({ kernel, guest });
    expect([scene.tsmBind(scene.vdevice + 99), scene.tsmBind(scene.viommu)]).toEqual(['ENOENT', 'ENOENT']);
    expect(typeof scene.read(bar(2), 4)).toBe('string');
    const other = new Scene({ kernel, guest, bdf: OTHER });
    const foreign = words(4, 16, 0, scene.iommufd, 0);
    expect(other.call(u.VFIO_DEVICE_BIND_IOMMUFD, foreign)).toBe('EINVAL');
    expect([other.op(BIND), other.tsmBind(), other.state]).toEqual([0, 'EEXIST', 'LOCKED bound']);
  });

  test('a function without TEE-IO is ENXIO, one that is not connected EINVAL', () => {
    const scene = new Scene();
    scene.tdi.connected = false;
    expect([scene.tsmBind(), scene.op(BIND)]).toEqual(['EINVAL', 'EINVAL']);
    scene.tdi.connected = true;
    expect(scene.tsmBind()).toBe(0);
    const plain = new Cdev(rfc(), E1000E);
    expect(plain.bind()).toBeGreaterThan(0);
    expect(plain.call(u.teeIo.xuMay25.VFIO_DEVICE_TSM_BIND, words(4, 16, 0, 1, 0))).toBe('ENOENT');
  });

  test('is not there where the switch is off, nor before BIND_IOMMUFD', () => {
    const off = new Cdev(rfc('off'));
    const arg = words(4, 16, 0, 1, 0);
    expect(off.call(u.teeIo.xuMay25.VFIO_DEVICE_TSM_BIND, arg)).toBe('EINVAL');
    off.bind();
    expect(off.call(u.teeIo.xuMay25.VFIO_DEVICE_TSM_BIND, arg)).toBe('ENOTTY');
    expect(new Cdev(rfc()).call(u.teeIo.xuMay25.VFIO_DEVICE_TSM_BIND, arg)).toBe('EINVAL');
  });
});

/** What is done to a bound device: its name, and how. The result is an errno or a value. */
const disturbances: Readonly<Record<string, (scene: Scene) => unknown>> = {
  'memory space is disabled': (scene) => scene.setConfig(COMMAND, '0000'),
  D3hot: (scene) => scene.setConfig(capability(scene, 1) + 4, '0300'),
  'function level reset': (scene) => {
    const at = capability(scene, 0x10) + 8;
    const control = Number.parseInt(scene.config(at + 1, 1) as string, 16);
    return scene.setConfig(at + 1, (control | 0x80).toString(16).padStart(2, '0'));
  },
  VFIO_DEVICE_RESET: (scene) => scene.call(u.VFIO_DEVICE_RESET),
  VFIO_DEVICE_PCI_HOT_RESET: (scene) => scene.call(u.VFIO_DEVICE_PCI_HOT_RESET, words(4, 12, 0, 0)),
  LOW_POWER_ENTRY: (scene) => scene.feature(u.VFIO_DEVICE_FEATURE_SET | u.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY),
};

function capability(scene: Scene, id: number): number {
  const byte = (at: number): number => Number.parseInt(scene.config(at, 1) as string, 16);
  let at = byte(0x34);
  while (at !== 0 && byte(at) !== id) at = byte(at + 1);
  if (at === 0) throw new Error(`no capability ${id}`);
  return at;
}

describe('what happens to a bound device', () => {
  test.each(Object.keys(disturbances))('auto-unbind: %s unbinds it first, and does not bind it again', (name) => {
    const scene = bound({ whileBound: 'auto-unbind' });
    const result = disturbances[name]!(scene);
    expect(typeof result === 'number' ? scene.state : result).toBe('UNLOCKED');
    scene.setConfig(COMMAND, '0200');
    expect([scene.state, scene.guest!.vm.tdis.size]).toEqual(['UNLOCKED', 0]);
  });

  test.each(Object.keys(disturbances))('block: %s is EBUSY, or nothing, by a register', (name) => {
    const scene = bound({ whileBound: 'block' });
    const kept = (): unknown => [Number.parseInt(scene.config(COMMAND, 1) as string, 16) & MEMORY, scene.config(16, 24)];
    const before = kept();
    const result = disturbances[name]!(scene);
    expect(typeof result === 'number' || result === 'EBUSY').toBe(true);
    expect([scene.state, kept()]).toEqual(['LOCKED bound', before]);
    expect(scene.tsmUnbind()).toBe(0);
  });

  /** The accelerator keeps its state in D3hot (No_Soft_Reset); a reset of its bus unlocks it. */
  const afterwards: Readonly<Record<string, string>> = {
    D3hot: 'LOCKED bound',
    LOW_POWER_ENTRY: 'LOCKED bound',
    VFIO_DEVICE_PCI_HOT_RESET: 'UNLOCKED bound',
  };

  test.each(Object.keys(disturbances))('error: %s is done, and the TDI finds its state', (name) => {
    const scene = bound({ whileBound: 'error' });
    const result = disturbances[name]!(scene);
    expect(typeof result).toBe('number');
    expect(scene.state).toBe(afterwards[name] ?? 'ERROR bound');
    expect([scene.tsmUnbind(), scene.state]).toEqual([0, 'UNLOCKED']);
  });

  test('bus mastering is let go of, but where that is blocked', () => {
    const states = (['auto-unbind', 'error', 'block'] as const).map((whileBound) => {
      const scene = new Scene({ teeIo: { whileBound } });
      scene.setConfig(COMMAND, '0600');
      scene.tsmBind();
      scene.setConfig(COMMAND, '0200');
      return [scene.state, Number.parseInt(scene.config(COMMAND, 1) as string, 16) & (MEMORY | MASTER)];
    });
    expect(states).toEqual([
      ['ERROR bound', MEMORY],
      ['ERROR bound', MEMORY],
      ['LOCKED bound', MEMORY | MASTER],
    ]);
  });

  test('interrupts are set up as ever: the table of MSI-X is no secret', () => {
    const scene = bound();
    expect(scene.tdi.request({ op: 'set-tdi-state', state: 2 }).errno).toBe(0);
    const { fd } = scene.eventfd();
    const vector = u.VFIO_IRQ_SET_DATA_EVENTFD | u.VFIO_IRQ_SET_ACTION_TRIGGER;
    const off = u.VFIO_IRQ_SET_DATA_NONE | u.VFIO_IRQ_SET_ACTION_TRIGGER;
    expect([scene.setIrqs(vector, 2, 0, 1, [fd]), scene.state, scene.setIrqs(off, 2, 0, 0), scene.state]).toEqual([
      ...[0, 'RUN bound', 0, 'RUN bound'],
    ]);
  });

  test('a dma-buf is revoked for the time of the bind, and of the unbind', () => {
    const scene = new Scene();
    const data = new Uint8Array(new Uint32Array([2, 2, 0, 1, 0, 0, 0x1000, 0]).buffer);
    const fd = scene.feature(u.VFIO_DEVICE_FEATURE_GET | u.VFIO_DEVICE_FEATURE_DMA_BUF, data) as number;
    const file = scene.kernel.process.fds.get(fd) as import('../../../src/sim/dma-buf.ts').DmaBufFile;
    const told: string[] = [];
    file.attach({
      allowPeer2Peer: true,
      byPage: true,
      moveNotify: () => told.push(`${typeof file.exporter.place!(0)} ${scene.state}`),
    });
    expect([scene.tsmBind(), told.splice(0)]).toEqual([0, ['number UNLOCKED', 'object LOCKED bound']]);
    expect([scene.tsmUnbind(), told.splice(0)]).toEqual([0, ['number UNLOCKED bound', 'object UNLOCKED']]);
    scene.tsmBind();
    told.length = 0;
    scene.setConfig(COMMAND, '0000');
    expect(told).toEqual(['number UNLOCKED bound', 'object UNLOCKED', 'number UNLOCKED']);
  });
});
