import { beforeEach, describe, expect, it } from 'vitest';
import { KernelCore } from '../../src/kernel/core.ts';
import { isKvioError, VcpuBusy } from '../../src/kernel/errors.ts';
import type { Memory } from '../../src/kernel/memory.ts';
import { FakeBackend } from './fake-backend.ts';

const KVM_CREATE_VM = 0xae01;
const KVM_CREATE_VCPU = 0xae41;
const KVM_RUN = 0xae80;
const KVM_SET_USER_MEMORY_REGION = 0x4020ae46;

let backend: FakeBackend;
let kernel: KernelCore;

beforeEach(() => {
  backend = new FakeBackend();
  kernel = new KernelCore(backend, 'a test');
  for (const request of [KVM_CREATE_VM, KVM_CREATE_VCPU]) backend.answers.set(request, () => backend.next++);
});

function machine(): { vm: number; vcpu: number } {
  const system = kernel.open('/dev/kvm');
  const vm = kernel.ioctl(system, KVM_CREATE_VM);
  return { vm, vcpu: kernel.ioctl(vm, KVM_CREATE_VCPU) };
}

function region(slot: number, memory: Memory | bigint, size: bigint): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, slot, true);
  view.setBigUint64(16, size, true);
  view.setBigUint64(24, typeof memory === 'bigint' ? memory : memory.address, true);
  return bytes;
}

describe('descriptors', () => {
  it('are EBADF from us when nobody gave them to this kernel', () => {
    expect(() => kernel.read(5, new Uint8Array(8))).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'read', fd: 5 }));
    expect(kernel.tryIoctl(5, KVM_RUN)).toBe(-9);
    expect(() => kernel.ioctl(5, KVM_RUN)).toThrow(/EBADF: bad file descriptor, ioctl KVM_RUN — descriptor 5 was not opened/);
    expect(backend.log).toEqual([]);
  });

  it('keep their number out of reach after close', () => {
    const fd = kernel.eventfd();
    kernel.close(fd);
    expect(() => kernel.close(fd)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(backend.log.filter((line) => line.startsWith('close'))).toEqual([`close ${fd}`]);
  });

  it('a number is what it names now, also for an ioctl that repeats the last one', () => {
    const { vcpu } = machine();
    const asked = (): [number, string[]] => {
      backend.log.length = 0;
      return [kernel.tryIoctl(vcpu, KVM_RUN), [...backend.log]];
    };
    for (let again = 0; again < 2; again++) expect(asked()).toEqual([0, [`run ${vcpu} 0`]]);
    kernel.close(vcpu);
    for (let again = 0; again < 2; again++) expect(asked()).toEqual([-9, []]);
    backend.next = vcpu;
    expect(kernel.eventfd()).toBe(vcpu);
    for (let again = 0; again < 2; again++) expect(asked()).toEqual([0, [`ioctl ${vcpu} 0xae80`]]);
    kernel.close();
    expect(asked()).toEqual([-9, []]);
  });

  it('close(undefined) is an argument error, not the end of the kernel', () => {
    expect(() => kernel.close(undefined as never)).toThrow(TypeError);
    expect(kernel.closed).toBe(false);
  });

  it('adopted ones are used, and left open by kernel.close()', () => {
    expect(() => kernel.adopt(98)).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'adopt' }));
    kernel.close();
    expect(backend.log.filter((line) => line.startsWith('close'))).toEqual([]);
  });

  it('a duplicate of an adopted one was opened here, and is closed with the kernel', () => {
    const outside = kernel.adopt(99);
    const own = kernel.dup(outside);
    expect([kernel.owns(outside), kernel.owns(own), kernel.owns(98)]).toEqual([false, true, false]);
    kernel.close();
    expect(backend.log.filter((line) => line.startsWith('close'))).toEqual([`close ${own}`]);
  });

  it('disowned ones stay open, are EBADF here, and can come back', () => {
    backend.next = 99;
    const fd = kernel.eventfd();
    expect(kernel.disown(fd)).toBe(fd);
    expect(backend.log.at(-1)).toBe(`disown ${fd}`);
    expect(() => kernel.read(fd, new Uint8Array(8))).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => kernel.disown(fd)).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'disown' }));
    expect(kernel.adopt(fd)).toBe(fd);
    expect(() => kernel.adopt(fd)).toThrow(/belongs to this kernel already; to make an object of it: new Eventfd/);
    kernel.close();
    expect(backend.log.filter((line) => line.startsWith('close'))).toEqual([]);
  });

  it('fcntl refuses commands that take pointers', () => {
    const fd = kernel.eventfd();
    expect(() => kernel.fcntl(fd, 5)).toThrow(RangeError);
    expect(kernel.fcntl(kernel.fcntl(fd, 1030), 1)).toBe(0);
  });

  it('wrong arguments name the parameter', () => {
    const fd = kernel.eventfd();
    expect(() => kernel.read('3' as never, new Uint8Array(8))).toThrow(/fd must be an integer, not '3'/);
    expect(() => kernel.read(fd, 'x' as never)).toThrow(/into must be a Uint8Array/);
    expect(() => kernel.ioctl(-1, undefined as never)).toThrow(/request must be an integer, not undefined/);
    const detached = new Uint8Array(8);
    structuredClone(detached, { transfer: [detached.buffer] });
    // Resizable buffers are newer than our lib setting, not than Node 20.
    const Resizable = ArrayBuffer as unknown as new (length: number, options: { maxByteLength: number }) => ArrayBuffer;
    const shrunk = new Resizable(16, { maxByteLength: 16 });
    const beyond = new Uint8Array(shrunk, 8, 8);
    (shrunk as unknown as { resize(length: number): void }).resize(4);
    for (const view of [detached, new DataView(new ArrayBuffer(8)), beyond]) {
      if (view instanceof DataView) structuredClone(view.buffer, { transfer: [view.buffer] });
      expect(() => kernel.read(fd, view as Uint8Array)).toThrow(/into is a view on a detached or shrunk ArrayBuffer/);
    }
    expect(kernel.read(fd, new Uint8Array(0))).toBe(0);
    expect(() => kernel.ioctl(fd, -1)).toThrow(/request must be an integer from 0/);
    expect(() => kernel.ioctl(fd, 1, 2n ** 64n)).toThrow(/arg must fit 64 bits/);
    expect(() => kernel.ioctl(fd, 1, {} as never)).toThrow(TypeError);
    expect(() => kernel.open('a\0b')).toThrow(/path must not contain NUL/);
    expect(() => kernel.guestRam(100)).toThrow(/length must be a multiple of the page size/);
    expect(() => kernel.mmap({ length: 4096, flags: 0x11 })).toThrow(/MAP_FIXED/);
  });

  it('readdir gives names, or the errno with the path', () => {
    expect(kernel.readdir('/sys')).toEqual(['kernel', 'bus']);
    expect(() => kernel.readdir('/dev/null')).toThrow("ENOTDIR: not a directory, readdir '/dev/null'");
    expect(() => kernel.readdir(3 as never)).toThrow(/path must be a string/);
  });

  it('nothing works after kernel.close(), which is idempotent', () => {
    const { vcpu } = machine();
    kernel.close();
    kernel.close();
    for (const call of [
      () => kernel.open('/dev/kvm'),
      () => kernel.eventfd(),
      () => kernel.guestRam(4096),
      () => kernel.run(vcpu),
      () => kernel.memfd('x'),
      () => kernel.readdir('/sys'),
    ]) {
      expect(call).toThrow(expect.objectContaining({ code: 'EBADF' }));
    }
    expect(backend.log.filter((line) => line === 'dispose')).toHaveLength(1);
    expect(backend.log.indexOf(`forget ${vcpu}`)).toBeLessThan(backend.log.indexOf(`close ${vcpu}`));
  });
});

describe('memory', () => {
  it('is unmapped at once when nothing names it', () => {
    const ram = kernel.guestRam(4096);
    expect(kernel.memoryAt(ram.address + 4095n)).toBe(ram);
    expect(kernel.memoryAt(ram.address + 4095n, 2)).toBeUndefined();
    ram.close();
    ram.close();
    expect(backend.log.filter((line) => line.startsWith('munmap'))).toHaveLength(1);
    expect(ram.bytes).toBeUndefined();
    expect(() => ram.read8(0)).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });

  it('in a memslot stays until the slot goes', () => {
    const { vm } = machine();
    const ram = kernel.guestRam(4096);
    kernel.ioctl(vm, KVM_SET_USER_MEMORY_REGION, region(1, ram, 4096n));
    ram.close();
    expect(backend.log.some((line) => line.startsWith('munmap'))).toBe(false);
    kernel.ioctl(vm, KVM_SET_USER_MEMORY_REGION, region(1, 0n, 0n));
    expect(backend.log.some((line) => line.startsWith('munmap'))).toBe(true);
  });

  it('in a memslot stays until the last file of the VM is closed', () => {
    const { vm, vcpu } = machine();
    const ram = kernel.guestRam(4096);
    kernel.ioctl(vm, KVM_SET_USER_MEMORY_REGION, region(1, ram, 4096n));
    ram.close();
    kernel.close(vm);
    const twin = kernel.dup(vcpu);
    kernel.close(vcpu);
    expect(backend.log.some((line) => line.startsWith('munmap'))).toBe(false);
    kernel.close(twin);
    expect(backend.log.some((line) => line.startsWith('munmap'))).toBe(true);
  });

  it('a refused memslot pins nothing', () => {
    const { vm } = machine();
    const ram = kernel.guestRam(4096);
    backend.answers.set(KVM_SET_USER_MEMORY_REGION, () => -22);
    expect(() => kernel.ioctl(vm, KVM_SET_USER_MEMORY_REGION, region(1, ram, 4096n))).toThrow(
      /EINVAL: invalid argument, ioctl KVM_SET_USER_MEMORY_REGION/,
    );
    ram.close();
    expect(backend.log.some((line) => line.startsWith('munmap'))).toBe(true);
  });

  it('accessors check their range and give faults as errors', () => {
    const bar = kernel.mmap({ length: 8192, view: false });
    expect(bar.bytes).toBeUndefined();
    bar.write64(8, 0x1122334455667788n);
    expect(bar.read32(8)).toBe(0x55667788);
    expect(() => bar.read32(4096)).toThrow(expect.objectContaining({ code: 'EFAULT', syscall: 'read32' }));
    expect(() => bar.read32(8190)).toThrow(RangeError);
    expect(() => bar.write8(0, 256)).toThrow(/value must be an integer from 0 to 255/);
  });

  it('with bytes keeps its protection, and no advice may kill', () => {
    const ram = kernel.guestRam(8192);
    expect(() => kernel.mprotect(ram, 1)).toThrow(RangeError);
    expect(() => kernel.madvise(ram, 100)).toThrow(RangeError);
    kernel.madvise(ram, 4, { offset: 4096, length: 4096 });
    expect(backend.log.at(-1)).toBe('madvise 4096 4096 4');
    expect(() => kernel.madvise(ram, 4, { offset: 1, length: 4096 })).toThrow(/range.offset must be a multiple/);
  });
});

describe('the guard', () => {
  it('wants the buffer as long as what the kernel touches', () => {
    const { vm } = machine();
    expect(() => kernel.ioctl(vm, KVM_SET_USER_MEMORY_REGION, new Uint8Array(31))).toThrow(
      /KVM_SET_USER_MEMORY_REGION touches 32 bytes, the buffer has 31/,
    );
    expect(() => kernel.ioctl(vm, KVM_CREATE_VCPU, new Uint8Array(8))).toThrow(/KVM_CREATE_VCPU takes an integer, not bytes/);
  });

  it('wants pointers inside to lie in live Memory, whole', () => {
    const { vm } = machine();
    const ram = kernel.guestRam(4096);
    expect(() => kernel.ioctl(vm, KVM_SET_USER_MEMORY_REGION, region(1, ram, 8192n))).toThrow(
      /userspace_addr = 0x[0-9a-f]+ with 8192 bytes/,
    );
    ram.close();
    expect(() => kernel.ioctl(vm, KVM_SET_USER_MEMORY_REGION, region(1, ram, 4096n))).toThrow(RangeError);
    expect(kernel.ioctl(vm, KVM_SET_USER_MEMORY_REGION, region(1, ram, 4096n), { unsafe: true })).toBe(0);
    expect(kernel.ioctl(vm, KVM_SET_USER_MEMORY_REGION, new Uint8Array(8), { unsafe: true })).toBe(0);
  });

  it('takes an integer as the address of a struct only inside Memory, or where nothing can be mapped', () => {
    const { vm } = machine();
    const ram = kernel.guestRam(4096);
    expect(kernel.tryIoctl(vm, KVM_SET_USER_MEMORY_REGION, 0)).toBe(0);
    expect(kernel.tryIoctl(vm, KVM_SET_USER_MEMORY_REGION, 2n ** 63n)).toBe(0);
    expect(() => kernel.ioctl(vm, KVM_SET_USER_MEMORY_REGION, 0x5555_0000_0000n)).toThrow(RangeError);
    expect(() => kernel.ioctl(vm, KVM_SET_USER_MEMORY_REGION, ram.address + 4080n)).toThrow(RangeError);
    expect(kernel.ioctl(vm, KVM_SET_USER_MEMORY_REGION, ram)).toBe(0);
    expect(() => kernel.ioctl(vm, 0x5401, ram.address)).toThrow(/request 0x5401 is unknown/);
    // Where the fixed part cannot be read, the kernel answers EFAULT itself; what has no pointers need not be read at all.
    const KVM_SET_IDENTITY_MAP_ADDR = 0x4008ae48;
    const device = kernel.mmap({ length: 8192, view: false });
    expect(kernel.ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, device)).toBe(0);
    // Only as much is read as the call touches: a TiB is not copied.
    const huge = kernel.mmap({ length: 2 ** 40, view: false });
    expect(kernel.tryIoctl(vm, KVM_SET_USER_MEMORY_REGION, huge)).toBe(0);
  });
});

describe('descriptors inside structs', () => {
  const KVM_IRQFD = 0x4020ae76;
  const irqfd = (fd: number): Uint8Array => {
    const bytes = new Uint8Array(32);
    new DataView(bytes.buffer).setInt32(0, fd, true);
    return bytes;
  };

  it("that are open but not of this kernel are EBADF from us; closed ones are the kernel's to judge", () => {
    const { vm } = machine();
    const asked = () => backend.log.filter((line) => line.endsWith('0x4020ae76')).length;
    expect(kernel.tryIoctl(vm, KVM_IRQFD, irqfd(99))).toBe(-9);
    expect(asked()).toBe(0);
    expect(kernel.tryIoctl(vm, KVM_IRQFD, irqfd(98))).toBe(0);
    expect(kernel.tryIoctl(vm, KVM_IRQFD, irqfd(kernel.eventfd()))).toBe(0);
    expect(kernel.tryIoctl(vm, KVM_IRQFD, irqfd(99), { unsafe: true })).toBe(0);
    expect(asked()).toBe(3);
  });

  it('that the kernel made are ours, and told to the back end', () => {
    const { vm } = machine();
    const KVM_CREATE_DEVICE = 0xc00caee0;
    backend.answers.set(KVM_CREATE_DEVICE, (arg) => {
      new DataView((arg as Uint8Array).buffer).setInt32(4, 77, true);
      return 0;
    });
    kernel.ioctl(vm, KVM_CREATE_DEVICE, new Uint8Array(12));
    expect(backend.log.at(-1)).toBe('own 77');
    kernel.close(77);
    const test = new Uint8Array(12);
    test[8] = 1;
    kernel.ioctl(vm, KVM_CREATE_DEVICE, test);
    expect(() => kernel.close(77)).toThrow(/EBADF/);
  });
});

describe('vCPUs', () => {
  it('a plain KVM_RUN goes the way of run()', () => {
    const { vm, vcpu } = machine();
    kernel.ioctl(vcpu, KVM_RUN);
    kernel.ioctl(vcpu, KVM_RUN, 0n);
    kernel.run(vcpu, { budget: 5 });
    expect(backend.log.slice(-3)).toEqual([`run ${vcpu} 0`, `run ${vcpu} 0`, `run ${vcpu} 5`]);
    expect(() => kernel.run(vm)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('is busy inside runAsync; the async form queues; a close kicks', async () => {
    const { vcpu } = machine();
    const first = kernel.runAsync(vcpu);
    const second = kernel.runAsync(vcpu);
    expect(() => kernel.run(vcpu)).toThrow(VcpuBusy);
    expect(() => kernel.ioctl(vcpu, KVM_RUN)).toThrow(VcpuBusy);
    expect(backend.runs).toHaveLength(1);
    backend.runs[0]!.done(0);
    expect(await first).toBe(0);
    await Promise.resolve();
    expect(backend.runs).toHaveLength(2);
    backend.runs[1]!.done(-4);
    expect(await second).toBe(-4);
    expect(kernel.run(vcpu)).toBe(0);
  });

  it('a queued run whose vCPU was closed is refused, not made', async () => {
    const { vcpu } = machine();
    const first = kernel.runAsync(vcpu);
    const second = kernel.runAsync(vcpu);
    kernel.close(vcpu);
    expect(backend.log).toContain(`forget ${vcpu}`);
    backend.runs[0]!.done(-4);
    expect(await first).toBe(-4);
    await expect(second).rejects.toMatchObject({ code: 'EBADF' });
    expect(backend.runs).toHaveLength(1);
  });

  it('an aborted signal kicks; one aborted before refuses', async () => {
    const { vcpu } = machine();
    const controller = new AbortController();
    const run = kernel.runAsync(vcpu, { signal: controller.signal });
    controller.abort();
    expect(backend.log.at(-1)).toBe(`kick ${vcpu}`);
    backend.runs[0]!.done(-4);
    expect(await run).toBe(-4);
    await expect(kernel.runAsync(vcpu, { signal: controller.signal })).rejects.toMatchObject({ name: 'AbortError' });
  });

  it('what a simulated run throws comes out of the promise', async () => {
    const { vcpu } = machine();
    const run = kernel.runAsync(vcpu);
    backend.runs[0]!.done(0, new Error('not modelled'));
    await expect(run).rejects.toThrow('not modelled');
    expect(kernel.run(vcpu)).toBe(0);
  });

  it('one that cannot be started is rejected, and the vCPU is free again', async () => {
    const { vcpu } = machine();
    backend.runAsync = () => {
      throw new Error('no such run');
    };
    await expect(kernel.runAsync(vcpu)).rejects.toThrow('no such run');
    expect(kernel.run(vcpu)).toBe(0);
  });
});

describe('waiting', () => {
  it('resolves with revents, is cancelled by a signal, ends with EBADF on close', async () => {
    const fd = kernel.eventfd();
    const ready = kernel.waitAsync(fd);
    backend.waits[0]!.done(1);
    expect(await ready).toBe(1);
    const controller = new AbortController();
    const aborted = kernel.waitAsync(fd, 1, { signal: controller.signal });
    controller.abort();
    await expect(aborted).rejects.toMatchObject({ name: 'AbortError' });
    expect(backend.waits[1]!.cancelled).toBe(true);
    const closed = kernel.waitAsync(fd);
    kernel.close(fd);
    await expect(closed).rejects.toMatchObject({ code: 'EBADF' });
    expect(backend.waits[2]!.cancelled).toBe(true);
  });
});

it('errors are branded, and shaped like those of Node', () => {
  const error = (() => {
    try {
      kernel.open('/nowhere');
    } catch (caught) {
      return caught;
    }
    return undefined;
  })();
  expect(isKvioError(error)).toBe(true);
  expect(error).toMatchObject({
    errno: -2,
    code: 'ENOENT',
    syscall: 'open',
    path: '/nowhere',
    message: "ENOENT: no such file or directory, open '/nowhere'",
  });
  expect(isKvioError(new Error('x'))).toBe(false);
});
