import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Kernel } from '../../src/kernel/kernel.ts';
import { kickNative, openNative } from '../../src/native/index.ts';
import { EINTR, hello, KVM_EXIT_HLT, KVM_EXIT_IO, makeGuest, missing, ports, spin } from './guest.ts';

const KVM_RUN = 0xae80;

describe.skipIf(missing() !== undefined)('running and kicking on /dev/kvm', () => {
  let kernel: Kernel;
  beforeEach(() => {
    kernel = openNative('test');
  });
  afterEach(() => kernel.close());

  test('a guest runs', () => {
    const guest = makeGuest(kernel, hello);
    expect(kernel.run(guest.vcpu)).toBe(0);
    expect(guest.exitReason).toBe(KVM_EXIT_IO);
    expect(guest.run.read8(4096)).toBe(0x48);
    expect(kernel.run(guest.vcpu)).toBe(0);
    expect(guest.exitReason).toBe(KVM_EXIT_HLT);
  });

  test('a kick between runs makes the next run return EINTR, once, and completes pending I/O', () => {
    const guest = makeGuest(kernel, hello);
    kernel.run(guest.vcpu);
    kernel.kick(guest.vcpu);
    kernel.kick(guest.vcpu);
    expect(guest.immediateExit).toBe(1);
    expect(kernel.run(guest.vcpu)).toBe(EINTR);
    expect(guest.immediateExit).toBe(0);
    expect(guest.exitReason).toBe(KVM_EXIT_IO);
    expect(kernel.run(guest.vcpu)).toBe(0);
    expect(guest.exitReason).toBe(KVM_EXIT_HLT);
  });

  test('no signal mask keeps a kick or a budget out', () => {
    const guest = makeGuest(kernel, spin);
    const mask = new Uint8Array(12).fill(0xff);
    new DataView(mask.buffer).setUint32(0, 8, true);
    kernel.ioctl(guest.vcpu, 0x4004ae8b, mask);
    expect(kernel.run(guest.vcpu, { budget: 20 })).toBe(EINTR);
    expect(mask.subarray(4).every((byte) => byte === 0xff)).toBe(true);
  });

  test('a kick is not lost where the run page is written as a whole in between', () => {
    const guest = makeGuest(kernel, hello);
    kernel.kick(guest.vcpu);
    guest.run.write8(1, 0);
    expect(kernel.run(guest.vcpu)).toBe(EINTR);
    expect(kernel.run(guest.vcpu)).toBe(0);
  });

  test("the caller's own immediate_exit is left alone", () => {
    const guest = makeGuest(kernel, hello);
    guest.run.write8(1, 1);
    kernel.kick(guest.vcpu);
    expect(kernel.run(guest.vcpu)).toBe(EINTR);
    expect(guest.immediateExit).toBe(1);
    expect(kernel.run(guest.vcpu)).toBe(EINTR);
    guest.run.write8(1, 0);
    expect(kernel.run(guest.vcpu)).toBe(0);
  });

  test('a kick holds for KVM_RUN by ioctl too', () => {
    const guest = makeGuest(kernel, hello);
    kernel.kick(guest.vcpu);
    expect(kernel.tryIoctl(guest.vcpu, KVM_RUN)).toBe(EINTR);
    expect(kernel.tryIoctl(guest.vcpu, KVM_RUN)).toBe(0);
  });

  test('a budget ends a synchronous run and leaves nothing behind', () => {
    const guest = makeGuest(kernel, spin);
    const start = performance.now();
    expect(kernel.run(guest.vcpu, { budget: 40 })).toBe(EINTR);
    const took = performance.now() - start;
    expect(took).toBeGreaterThan(35);
    expect(took).toBeLessThan(2000);
    expect(guest.immediateExit).toBe(0);
    const io = makeGuest(kernel, ports);
    // The budgets of runs that ended early must not end later ones.
    for (let i = 0; i < 100; i++) expect(kernel.run(io.vcpu, { budget: 100 })).toBe(0);
    const end = performance.now() + 150;
    while (performance.now() < end) expect(kernel.run(io.vcpu)).toBe(0);
  });

  test('an asynchronous run is ended by a kick, by a budget, by an abort', async () => {
    const guest = makeGuest(kernel, spin);
    const running = kernel.runAsync(guest.vcpu);
    setTimeout(() => kernel.kick(guest.vcpu), 20);
    expect(await running).toBe(EINTR);
    expect(await kernel.runAsync(guest.vcpu, { budget: 20 })).toBe(EINTR);
    expect(await kernel.runAsync(guest.vcpu, { signal: AbortSignal.timeout(20) })).toBe(EINTR);
    expect(guest.immediateExit).toBe(0);
  });

  test('a kick right after the start is not lost', async () => {
    const guest = makeGuest(kernel, spin);
    for (let i = 0; i < 300; i++) {
      const running = kernel.runAsync(guest.vcpu);
      for (let spinning = 0; spinning < i * 30; spinning++) Math.sqrt(spinning);
      kernel.kick(guest.vcpu);
      expect(await running).toBe(EINTR);
    }
    expect(guest.immediateExit).toBe(0);
  });

  test('each kick is answered by exactly one EINTR, wherever it hits', async () => {
    const guest = makeGuest(kernel, ports);
    let kicks = 0;
    let interrupted = 0;
    for (let i = 0; i < 3000; i++) {
      const running = kernel.runAsync(guest.vcpu);
      if (i % 3 === 0) {
        for (let spinning = 0; spinning < (i % 97) * 20; spinning++) Math.sqrt(spinning);
        kernel.kick(guest.vcpu);
        kicks++;
      }
      if ((await running) === EINTR) interrupted++;
      else expect(guest.exitReason).toBe(KVM_EXIT_IO);
      if (kicks > interrupted) {
        expect(await kernel.runAsync(guest.vcpu)).toBe(EINTR);
        interrupted++;
      }
      expect(interrupted).toBe(kicks);
    }
    expect(kernel.run(guest.vcpu)).toBe(0);
  });

  test('closing the vCPU ends its run', async () => {
    const guest = makeGuest(kernel, spin);
    const running = kernel.runAsync(guest.vcpu);
    await new Promise((resolve) => setTimeout(resolve, 10));
    kernel.close(guest.vcpu);
    expect(await running).toBe(EINTR);
  });

  test('a new vCPU under an old number has no kicks of the old one', () => {
    const first = makeGuest(kernel, hello);
    kernel.kick(first.vcpu);
    kernel.close(first.vcpu);
    first.run.close();
    const second = kernel.ioctl(first.vm, 0xae41, 1);
    expect(second).toBe(first.vcpu);
    expect(kernel.run(second, { budget: 5 })).not.toBe(undefined);
    const run = kernel.mmap({ length: 4096, fd: second });
    expect(run.read8(1)).toBe(0);
  });

  test('a kick reaches the vCPU through a dup of its descriptor', async () => {
    const guest = makeGuest(kernel, spin);
    const twin = kernel.dup(guest.vcpu);
    const running = kernel.runAsync(guest.vcpu);
    setTimeout(() => kernel.kick(twin), 10);
    expect(await running).toBe(EINTR);
    kernel.close(twin);
    kernel.kick(guest.vcpu);
    expect(kernel.run(guest.vcpu)).toBe(EINTR);
  });

  test('kicker: a token that outlives nothing', async () => {
    const guest = makeGuest(kernel, spin);
    const kicker = structuredClone(kernel.kicker(guest.vcpu));
    expect(kicker).toMatchObject({ kvio: 'kicker', kind: 'native', flag: null });
    const running = kernel.runAsync(guest.vcpu);
    expect(kickNative(kicker)).toBe(0);
    expect(await running).toBe(EINTR);
    kernel.close(guest.vcpu);
    expect(kickNative(kicker)).toBe(-3);
  });

  test('KVM_RUN on what is no vCPU says what the kernel says', () => {
    const kvm = kernel.open('/dev/kvm');
    const vm = kernel.ioctl(kvm, 0xae01);
    expect(kernel.tryIoctl(kvm, KVM_RUN)).toBe(-22);
    expect(kernel.tryIoctl(vm, KVM_RUN)).toBe(-25);
  });
});
