import { describe, expect, test } from 'vitest';
import type { KernelCore } from '../../../src/kernel/core.ts';
import { registerMtty } from '../../../src/sim/vfio/mtty.ts';
import { O_RDWR, O_WRONLY } from '../../../src/uapi/sys.ts';
import * as v from '../../../src/uapi/vfio.ts';
import { answer, join, rig, words } from './kit.ts';

const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
const TYPES = '/sys/class/mdev_bus/mtty/mdev_supported_types';
const CONFIG = 7n << 40n;

function store(kernel: KernelCore, path: string, text: string): unknown {
  return answer(() => {
    const fd = kernel.open(path, O_WRONLY);
    try {
      return kernel.write(fd, Buffer.from(text));
    } finally {
      kernel.close(fd);
    }
  });
}

function show(kernel: KernelCore, path: string): string {
  const fd = kernel.open(path, 0);
  const bytes = new Uint8Array(256);
  const length = kernel.read(fd, bytes);
  kernel.close(fd);
  return Buffer.from(bytes.subarray(0, length)).toString();
}

function bench(): { kernel: KernelCore; device(): number; feature(fd: number, flags: number, data: Uint8Array): unknown } {
  const { system, core, kernel } = rig();
  registerMtty(system, core);
  return {
    kernel,
    device() {
      expect(store(kernel, `${TYPES}/mtty-2/create`, UUID)).toBe(36);
      const group = kernel.open(
        `/dev/vfio/${kernel.readlink(`/sys/bus/mdev/devices/${UUID}/iommu_group`).split('/').at(-1)}`,
        O_RDWR,
      );
      const container = kernel.open('/dev/vfio/vfio', O_RDWR);
      kernel.ioctl(group, v.VFIO_GROUP_SET_CONTAINER, words(4, container));
      kernel.ioctl(container, v.VFIO_SET_IOMMU, v.VFIO_TYPE1v2_IOMMU);
      return kernel.ioctl(group, v.VFIO_GROUP_GET_DEVICE_FD, Buffer.from(`${UUID}\0`));
    },
    feature(fd, flags, data) {
      const bytes = join(words(4, 8 + data.length, flags), data);
      const result = answer(() => kernel.ioctl(fd, v.VFIO_DEVICE_FEATURE, bytes));
      data.set(bytes.subarray(8));
      return result;
    },
  };
}

describe('sysfs', () => {
  test('instances are made by UUID, out of 24 ports', () => {
    const { kernel } = bench();
    const create = `${TYPES}/mtty-2/create`;
    expect(show(kernel, `${TYPES}/mtty-1/available_instances`)).toBe('24\n');
    expect(store(kernel, create, '\n')).toBe('EINVAL');
    expect(store(kernel, create, `${UUID}00`)).toBe('EINVAL');
    expect(store(kernel, create, UUID.replace('8', 'x'))).toBe('EINVAL');
    expect(store(kernel, create, `${UUID}\n`)).toBe(37);
    expect(store(kernel, create, UUID)).toBe('EEXIST');
    expect(show(kernel, `${TYPES}/mtty-2/available_instances`)).toBe('11\n');
    expect(show(kernel, `/sys/bus/mdev/devices/${UUID}/vendor/sample_mdev_dev`)).toBe(`This is MDEV ${UUID}\n`);
    expect(kernel.readlink(`/sys/bus/mdev/devices/${UUID}/mdev_type`)).toBe('../mdev_supported_types/mtty-2');
    for (let i = 0; i < 11; i++) store(kernel, create, `00000000-0000-0000-0000-${String(i).padStart(12, '0')}`);
    expect(store(kernel, create, 'ffffffff-ffff-ffff-ffff-ffffffffffff')).toBe('ENOSPC');
    expect(store(kernel, `/sys/bus/mdev/devices/${UUID}/remove`, '1')).toBe(1);
    expect(show(kernel, `${TYPES}/mtty-1/available_instances`)).toBe('2\n');
    expect(answer(() => kernel.readlink(`/sys/bus/mdev/devices/${UUID}`))).toBe('ENOENT');
  });
});

describe('the device', () => {
  test('loops back what is written, and knows its interrupts only once it was asked what it is', () => {
    const { kernel, device } = bench();
    const fd = device();
    const irq = (): unknown => answer(() => kernel.ioctl(fd, v.VFIO_DEVICE_GET_IRQ_INFO, words(4, 16, 0, 0, 0)));
    expect(irq()).toBe('EINVAL');
    kernel.ioctl(fd, v.VFIO_DEVICE_GET_INFO, words(4, 16, 0, 0, 0));
    expect(irq()).toBe(0);
    const byte = (offset: number): number => {
      const into = new Uint8Array(1);
      kernel.pread(fd, into, offset);
      return into[0]!;
    };
    expect([byte(5), byte(6), byte(2)]).toEqual([0x60, 0xb3, 0xc1]);
    kernel.pwrite(fd, Buffer.from([0x41]), 0);
    expect([byte(5), byte(0), byte(5)]).toEqual([0x01, 0x41, 0x60]);
    const ids = new Uint8Array(4);
    kernel.pread(fd, ids, CONFIG);
    expect(Buffer.from(ids).toString('hex')).toBe('48435332');
    expect(answer(() => kernel.pread(fd, ids, 8n << 40n))).toBe('EFAULT');
  });

  test('INTx masks itself with each interrupt, and loses what comes meanwhile', () => {
    const { kernel, device } = bench();
    const fd = device();
    kernel.ioctl(fd, v.VFIO_DEVICE_GET_INFO, words(4, 16, 0, 0, 0));
    const event = kernel.eventfd();
    const set = (flags: number, ...data: number[]): unknown =>
      answer(() => kernel.ioctl(fd, v.VFIO_DEVICE_SET_IRQS, words(4, 20 + 4 * data.length, flags, 0, 0, 1, ...data)));
    expect(set(0x24, event)).toBe(0);
    expect(set(0x21)).toBe(0);
    expect(set(0x21)).toBe(0);
    const count = new Uint8Array(8);
    kernel.read(event, count);
    expect(count[0]).toBe(1);
    expect(set(0x11)).toBe(0);
    expect(set(0x21)).toBe(0);
    kernel.read(event, count);
    expect(count[0]).toBe(1);
    expect(set(0x01)).toBe(0);
  });

  test('migrates what lies in its FIFO', () => {
    const { kernel, device, feature } = bench();
    const fd = device();
    kernel.pwrite(fd, Buffer.from([0x55]), 0);
    const go = (state: number): [unknown, number] => {
      const data = words(4, state, 0);
      const result = feature(fd, v.VFIO_DEVICE_FEATURE_SET | v.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, data);
      return [result, new DataView(data.buffer).getInt32(4, true)];
    };
    const [saved, out] = go(v.VFIO_DEVICE_STATE_STOP_COPY);
    expect(saved).toBe(0);
    const stream = new Uint8Array(256);
    expect(kernel.read(out, stream)).toBe(96);
    expect(answer(() => kernel.pread(out, stream, 0))).toBe('ESPIPE');
    expect(go(v.VFIO_DEVICE_STATE_STOP)).toEqual([0, -1]);
    expect(answer(() => kernel.read(out, stream))).toBe('ENODEV');
    const [, into] = go(v.VFIO_DEVICE_STATE_RESUMING);
    expect(go(v.VFIO_DEVICE_STATE_RUNNING)).toEqual(['EINVAL', -1]);
    expect(answer(() => kernel.write(into, new Uint8Array(24)))).toBe('EFAULT');
    expect(kernel.write(into, stream.subarray(0, 96))).toBe(96);
    expect(answer(() => kernel.write(into, new Uint8Array(1)))).toBe('ENOMEM');
    expect(go(v.VFIO_DEVICE_STATE_RUNNING)).toEqual([0, -1]);
    const byte = new Uint8Array(1);
    kernel.pread(fd, byte, 0);
    expect(byte[0]).toBe(0x55);
    expect(go(v.VFIO_DEVICE_STATE_ERROR)).toEqual(['EINVAL', -1]);
  });
});
