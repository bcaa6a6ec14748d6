import { describe, expect, test } from 'vitest';
import { DmaBufFile, type DmaBufImporter } from '../../../../src/sim/dma-buf.ts';
import { O_CLOEXEC, O_RDWR } from '../../../../src/uapi/sys.ts';
import * as v from '../../../../src/uapi/vfio.ts';
import { type Assigned, answer, assign, EDU, join, lab, NVME, openDevice, show, words } from './kit.ts';

const GET = v.VFIO_DEVICE_FEATURE_GET | v.VFIO_DEVICE_FEATURE_DMA_BUF;

function exported(device: Assigned, ranges: readonly (readonly [number, number])[], bar = 0): unknown {
  const data = join(words(4, bar, O_RDWR | O_CLOEXEC, 0, ranges.length), words(8, ...ranges.flat()));
  return device.feature(GET, data, 24);
}

function fileOf(device: Assigned, fd: number): DmaBufFile {
  const file = device.kernel.process.fds.get(fd);
  if (!(file instanceof DmaBufFile)) throw new Error('no dma-buf');
  return file;
}

class Importer implements DmaBufImporter {
  readonly allowPeer2Peer = true;
  notified = 0;
  moveNotify = (): void => {
    this.notified++;
  };
}

describe('a dma-buf of a BAR', () => {
  test('is a file of its size', () => {
    const device = assign(lab(), EDU);
    const fd = exported(device, [
      [0, 0x2000],
      [0x1000, 0x1000],
    ]) as number;
    expect(fd).toBeGreaterThan(0);
    expect(device.kernel.fstat(fd).size).toBe(0x3000n);
    expect(show(device.kernel, `/proc/self/fdinfo/${fd}`)).toMatch(/size:\t12288\ncount:\t1\nexp_name:\tvfio_pci_core\n$/);
    expect(answer(() => device.kernel.mmap({ fd, length: 4096, view: false }))).toBe('EINVAL');
    expect(device.kernel.readlink(`/proc/self/fd/${fd}`)).toBe('/dmabuf:');
    expect(exported(device, [[0, 0x1001]])).toBe('EINVAL');
    expect(exported(device, [[0xff000, 0x2000]])).toBe('EINVAL');
    expect(exported(device, [[0, 0x1000]], 1)).toBe('ENODEV');
    expect(exported(device, [])).toBe('EINVAL');
  });

  test('reaches the device, until it may not; importers are told both times', () => {
    const device = assign(lab(), EDU);
    const file = fileOf(device, exported(device, [[0, 0x1000]]) as number);
    const importer = new Importer();
    const attached = file.attach(importer);
    if (typeof attached === 'number') throw new Error(`errno ${attached}`);
    const pieces = attached.map();
    if (typeof pieces === 'number') throw new Error(`errno ${pieces}`);
    expect(pieces.map(({ offset, length }) => [offset, length])).toEqual([[0, 0x1000]]);
    expect(pieces[0]!.memory.load(0, 4)).toBe(0x010000ed);
    device.setConfig(4, '0001');
    expect([importer.notified, attached.map()]).toEqual([1, -19]);
    expect(file.attach(new Importer())).toBe(-19);
    device.setConfig(4, '0201');
    expect([importer.notified, typeof attached.map()]).toEqual([2, 'object']);
    attached.detach();
    device.setConfig(4, '0001');
    expect(importer.notified).toBe(2);
  });

  test('is for importers on the bus that let go', () => {
    const device = assign(lab(), EDU);
    const file = fileOf(device, exported(device, [[0, 0x1000]]) as number);
    expect(file.attach({ allowPeer2Peer: false, moveNotify: () => {} })).toBe(-95);
    expect(file.attach({ allowPeer2Peer: true })).toBe(-95);
  });

  test('is revoked for the time of a reset, of D3hot and of low power', () => {
    const device = assign(lab(), NVME);
    const file = fileOf(device, exported(device, [[0, 0x1000]]) as number);
    const importer = new Importer();
    expect(typeof file.attach(importer)).toBe('object');
    const told = (): number => importer.notified;
    device.call(v.VFIO_DEVICE_RESET);
    expect(told()).toBe(2);
    device.setConfig(0x64, '0300');
    expect(told()).toBe(3);
    device.setConfig(0x64, '0000');
    expect(told()).toBe(4);
    device.feature(v.VFIO_DEVICE_FEATURE_SET | v.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY);
    expect(told()).toBe(5);
    device.feature(v.VFIO_DEVICE_FEATURE_SET | v.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT);
    expect(told()).toBe(6);
  });

  test('the last close is final, and a dma-buf keeps nothing open', () => {
    const device = assign(lab(), EDU);
    const fd = exported(device, [[0, 0x1000]]) as number;
    const file = fileOf(device, fd);
    const importer = new Importer();
    const attached = file.attach(importer);
    device.close();
    expect(importer.notified).toBe(1);
    expect(answer(() => device.kernel.ioctl(device.group, v.VFIO_GROUP_UNSET_CONTAINER))).toBe(0);
    device.kernel.ioctl(device.group, v.VFIO_GROUP_SET_CONTAINER, words(4, device.container));
    device.kernel.ioctl(device.container, v.VFIO_SET_IOMMU, v.VFIO_TYPE1v2_IOMMU);
    openDevice(device.kernel, device.group, EDU);
    expect(typeof attached === 'number' ? attached : attached.map()).toBe(-19);
    device.kernel.close(fd);
  });

  test('made while memory is off it begins revoked', () => {
    const device = assign(lab(), EDU);
    device.setConfig(4, '0001');
    const file = fileOf(device, exported(device, [[0, 0x1000]]) as number);
    expect(file.attach(new Importer())).toBe(-19);
    device.setConfig(4, '0201');
    expect(typeof file.attach(new Importer())).toBe('object');
  });
});
