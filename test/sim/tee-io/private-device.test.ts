import { expect, test } from 'vitest';
import { MAP_SHARED } from '../../../src/uapi/sys.ts';
import * as v from '../../../src/uapi/vfio.ts';
import { answer, Cdev, rfc } from './vfio-kit.ts';

const PRIVATE = 1;
const map = (device: Cdev, offset = 0n): unknown =>
  answer(() => device.kernel.mmap({ fd: device.fd, length: 4096, offset, flags: MAP_SHARED, view: false }) && 'mapped');

test('a private device: its mappable BARs are neither mapped, read nor written; the rest of it is as ever', () => {
  const device = new Cdev(rfc());
  expect(device.bind(PRIVATE)).toBeGreaterThan(0);
  expect(device.region(0)).toBe('10:100000');
  expect([map(device), device.read(0, 4), device.write(0x20, '00000000')]).toEqual(['EINVAL', 'EINVAL', 'EINVAL']);
  expect(device.region(v.VFIO_PCI_CONFIG_REGION_INDEX)).toBe('3:100');
  expect(device.config(0, 4)).toBe('3412e811');
  const dmaBuf = v.VFIO_DEVICE_FEATURE_GET | v.VFIO_DEVICE_FEATURE_DMA_BUF;
  const data = new Uint8Array(new Uint32Array([0, 2, 0, 1, 0, 0, 0x1000, 0]).buffer);
  expect(device.feature(dmaBuf, data, 8 + 32)).toBeGreaterThan(0);
});

test('bit 0 is PRIVATE in 16 bytes, TOKEN in 24; any other bit is of neither', () => {
  const device = new Cdev(rfc());
  expect([device.bind(PRIVATE, 24), device.bind(2, 16), device.bind(PRIVATE, 15)]).toEqual(['EFAULT', 'EINVAL', 'EINVAL']);
  expect(device.bind(0, 16)).toBeGreaterThan(0);
  expect([device.region(0), map(device), device.bind(PRIVATE)]).toEqual(['7:100000', 'mapped', 'EINVAL']);
  expect(device.region(0)).toBe('7:100000');
});

test('private is the device until it is closed', () => {
  const kernel = rfc();
  const first = new Cdev(kernel);
  first.bind(PRIVATE);
  const second = new Cdev(kernel);
  expect(second.bind()).toBe('EINVAL');
  expect(first.region(0)).toBe('10:100000');
  first.close();
  expect(second.bind()).toBeGreaterThan(0);
  expect(second.region(0)).toBe('7:100000');
});

test('off, the flag is a token, which is read', () => {
  const device = new Cdev(rfc('off'));
  expect(device.bind(PRIVATE)).toBe('EFAULT');
});
