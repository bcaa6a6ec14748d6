import { readdirSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Kernel } from '../../src/kernel/kernel.ts';
import { loadAddon, openNative } from '../../src/native/index.ts';
import { missing } from './guest.ts';

const POLLIN = 1;
const POLLOUT = 4;
const EFD_NONBLOCK = 0x800;
const one = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);

describe.skipIf('reason' in loadAddon())('waiting for descriptors', () => {
  let kernel: Kernel;
  beforeEach(() => {
    kernel = openNative('test');
  });
  afterEach(() => kernel.close());

  const descriptors = (): number => readdirSync('/proc/self/fd').length;

  test('an eventfd becomes readable', async () => {
    const fd = kernel.eventfd();
    const waiting = kernel.waitAsync(fd);
    setTimeout(() => kernel.write(fd, one), 10);
    expect(await waiting).toBe(POLLIN);
    // The counter was not touched.
    expect(await kernel.waitAsync(fd)).toBe(POLLIN);
    expect(await kernel.waitAsync(fd, POLLOUT)).toBe(POLLOUT);
    const count = new Uint8Array(8);
    kernel.read(fd, count);
    expect(count[0]).toBe(1);
  });

  test('several waits for one descriptor, each answered once; no descriptor is left', async () => {
    const fd = kernel.eventfd();
    await kernel.waitAsync(fd, POLLOUT);
    const before = descriptors();
    const waits = Array.from({ length: 20 }, () => kernel.waitAsync(fd));
    expect(descriptors()).toBe(before + 20);
    kernel.write(fd, one);
    expect(await Promise.all(waits)).toEqual(Array(20).fill(POLLIN));
    expect(descriptors()).toBe(before);
  });

  test('an aborted wait is over at once, and its descriptor may be reused', async () => {
    const fd = kernel.eventfd(0, EFD_NONBLOCK);
    const abort = new AbortController();
    const waiting = kernel.waitAsync(fd, POLLIN, { signal: abort.signal });
    const before = descriptors();
    abort.abort();
    expect(descriptors()).toBe(before - 1);
    await expect(waiting).rejects.toThrow(expect.objectContaining({ name: 'AbortError' }));
    kernel.write(fd, one);
    expect(await kernel.waitAsync(fd)).toBe(POLLIN);
  });

  test('an abort that races with the event', async () => {
    for (let i = 0; i < 500; i++) {
      const fd = kernel.eventfd();
      const abort = new AbortController();
      const waiting = kernel.waitAsync(fd, POLLIN, { signal: abort.signal }).catch((error: Error) => error.name);
      kernel.write(fd, one);
      for (let spinning = 0; spinning < i * 20; spinning++) Math.sqrt(spinning);
      abort.abort();
      expect(await waiting).toBe('AbortError');
      kernel.close(fd);
    }
  });

  test('closing the descriptor ends its waits', async () => {
    const fd = kernel.eventfd();
    const waiting = kernel.waitAsync(fd);
    kernel.close(fd);
    await expect(waiting).rejects.toThrow(expect.objectContaining({ code: 'EBADF' }));
  });

  test('a wait that the kernel refuses', async () => {
    const fd = kernel.memfd('file');
    await expect(kernel.waitAsync(fd)).rejects.toThrow(expect.objectContaining({ code: 'EPERM' }));
  });

  test.skipIf(missing() !== undefined)("KVM's descriptors cannot be waited for", async () => {
    const kvm = kernel.open('/dev/kvm');
    const vm = kernel.ioctl(kvm, 0xae01);
    const vcpu = kernel.ioctl(vm, 0xae41);
    for (const fd of [kvm, vm, vcpu]) {
      await expect(kernel.waitAsync(fd)).rejects.toThrow(expect.objectContaining({ code: 'EPERM' }));
    }
  });

  test('poll: ready, not ready, in time', () => {
    const [idle, ready] = [kernel.eventfd(), kernel.eventfd(1)];
    const fds = [{ fd: idle }, { fd: ready }, { fd: ready, events: POLLIN | POLLOUT }];
    expect(kernel.poll(fds)).toEqual([0, POLLIN, POLLIN | POLLOUT]);
    const start = performance.now();
    expect(kernel.poll([{ fd: idle }], 30)).toEqual([0]);
    expect(performance.now() - start).toBeGreaterThan(25);
    const many = Array.from({ length: 40 }, () => ({ fd: ready }));
    expect(kernel.poll(many, -1)).toEqual(Array(40).fill(POLLIN));
  });
});
