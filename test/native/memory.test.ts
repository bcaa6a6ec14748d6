import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { Arenas } from '../../src/kernel/arena.ts';
import type { Kernel } from '../../src/kernel/kernel.ts';
import { loadAddon, openNative } from '../../src/native/index.ts';
import { child, workerSource } from './child.ts';
import { KVM_CREATE_VCPU, KVM_CREATE_VM, makeGuest, missing } from './guest.ts';

const PROT_NONE = 0;
const PROT_READ = 1;
const PROT_RW = 3;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 0x20;
const MAP_HUGETLB = 0x40000;
const MADV_DONTNEED = 4;
const KVM_CHECK_EXTENSION = 0xae03;
const KVM_ENABLE_CAP = 0x4068aea3;
const KVM_CAP_DIRTY_LOG_RING = 192;
const KVM_CREATE_GUEST_MEMFD = 0xc040aed4;

const loaded = loadAddon();

describe.skipIf('reason' in loaded)('memory through the addon', () => {
  let kernel: Kernel;
  beforeEach(() => {
    kernel = openNative('test');
  });
  afterEach(() => kernel.close());

  const memfd = (length: number): number => {
    const fd = kernel.memfd('kvio');
    kernel.ftruncate(fd, length);
    return fd;
  };
  const fault = expect.objectContaining({ code: 'EFAULT' });

  test('RAM of any size has bytes at its address, zeroed, shared', () => {
    for (const length of [0x1000, 0x3000, 1 << 20, 16 << 20, 64 << 20]) {
      const ram = kernel.guestRam(length);
      expect(ram.bytes).toHaveLength(length);
      expect(ram.bytes!.buffer).toBeInstanceOf(SharedArrayBuffer);
      expect(ram.address % 4096n).toBe(0n);
      expect(ram.bytes![length - 1]).toBe(0);
      ram.bytes![length - 1] = 5;
      expect(ram.read8(length - 1)).toBe(5);
    }
  });

  test('4 GiB of RAM has bytes, more has accessors', () => {
    const ram = kernel.guestRam(2 ** 32);
    expect(ram.bytes).toHaveLength(2 ** 32);
    ram.bytes![2 ** 32 - 1] = 1;
    ram.close();
    const more = kernel.mmap({ length: 2 ** 32 + 4096 });
    expect(more.bytes).toBe(undefined);
    more.write64(2 ** 32, 0x1122334455667788n);
    expect(more.read32(2 ** 32)).toBe(0x55667788);
    expect(more.read(2 ** 32 + 1, 11)).toEqual(Uint8Array.from([0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0]));
  });

  test('a stale view reads zeros, for ever', () => {
    const first = kernel.guestRam(0x1000);
    const stale = first.bytes!;
    stale.fill(7);
    first.close();
    for (let i = 0; i < 200; i++) kernel.guestRam(0x1000).bytes!.fill(9);
    expect(stale.every((byte) => byte === 0)).toBe(true);
    const fd = memfd(0x2000);
    const file = kernel.mmap({ length: 0x2000, fd });
    const view = file.bytes!.subarray(0x800, 0x1800);
    view.fill(3);
    file.close();
    expect(view.every((byte) => byte === 0)).toBe(true);
    const bytes = new Uint8Array(1);
    kernel.pread(fd, bytes, 0x1000);
    expect(bytes[0]).toBe(3);
  });

  test('physical memory goes with close(), not with the garbage', () => {
    const resident = (): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))![1]);
    const ram = kernel.guestRam(64 << 20);
    const kept = ram.bytes!;
    kept.fill(1);
    const before = resident();
    ram.close();
    expect(before - resident()).toBeGreaterThan(50_000);
    expect(kept[12345]).toBe(0);
  });

  test('two mappings of one memfd share bytes; a private one does not', () => {
    const fd = memfd(0x3000);
    const one = kernel.mmap({ length: 0x3000, fd });
    const two = kernel.mmap({ length: 0x1000, fd, offset: 0x2000 });
    const own = kernel.mmap({ length: 0x1000, fd, offset: 0x2000, flags: MAP_PRIVATE });
    one.bytes![0x2005] = 42;
    expect(two.bytes![5]).toBe(42);
    own.bytes![6] = 1;
    expect(two.bytes![6]).toBe(0);
  });

  test('a file truncated under a view leaves zeros, not a dead process', () => {
    const fd = memfd(0x4000);
    const file = kernel.mmap({ length: 0x4000, fd });
    file.bytes!.fill(1);
    kernel.ftruncate(fd, 0x1000);
    expect(file.bytes![0xfff]).toBe(1);
    expect(file.bytes![0x2000]).toBe(0);
    file.bytes![0x3fff] = 4;
    expect(file.bytes![0x3fff]).toBe(4);
    expect(file.bytes![0xfff]).toBe(1);
  });

  test('what may fault has accessors only, and they fault as errors', () => {
    const fd = memfd(0x1800);
    expect(kernel.mmap({ length: 0x2000, fd }).bytes).toBeDefined();
    const past = kernel.mmap({ length: 0x3000, fd });
    expect(past.bytes).toBe(undefined);
    for (const [offset, value] of [
      [0, 0x12],
      [0x17ff, 0x34],
    ] as const) {
      past.write8(offset, value);
      expect(past.read8(offset)).toBe(value);
    }
    for (const touch of [
      () => past.read8(0x2000),
      () => past.read16(0x2000),
      () => past.read32(0x2ffc),
      () => past.read64(0x2008),
      () => past.write8(0x2000, 1),
      () => past.write16(0x2000, 1),
      () => past.write32(0x2000, 1),
      () => past.write64(0x2000, 1n),
      () => past.read(0x1ff0, 0x20),
      () => past.write(0x1ff9, new Uint8Array(16)),
    ]) {
      expect(touch).toThrow(fault);
    }
    kernel.ftruncate(fd, 0x3000);
    past.write64(0x2001, 0x0102030405060708n);
    expect(past.read64(0x2001)).toBe(0x0102030405060708n);
    expect(past.read16(0x2001)).toBe(0x0708);
    expect(past.read32(0x2001)).toBe(0x05060708);
  });

  test('copies of any alignment are exact', () => {
    const plain = kernel.mmap({ length: 0x2000, view: false });
    const data = Uint8Array.from({ length: 0x2000 }, (_, i) => (i * 7 + 3) & 0xff);
    plain.write(0, data);
    for (let offset = 0; offset < 20; offset++)
      for (let length = 0; length < 40; length++)
        expect(plain.read(offset, length)).toEqual(data.subarray(offset, offset + length));
    for (let offset = 0; offset < 10; offset++) {
      plain.write(offset, data.subarray(100, 119));
      expect(plain.read(offset, 19)).toEqual(data.subarray(100, 119));
    }
  });

  test('mprotect: accessors know the protection of each part', () => {
    const plain = kernel.mmap({ length: 0x5000, flags: MAP_PRIVATE, view: false });
    plain.write8(0x2000, 9);
    kernel.mprotect(plain, PROT_NONE, { offset: 0x1000, length: 0x2000 });
    expect(() => plain.read8(0x1000)).toThrow(fault);
    expect(() => plain.read32(0xffe)).toThrow(fault);
    expect(() => plain.read(0, 0x5000)).toThrow(fault);
    plain.write8(0xfff, 1);
    plain.write8(0x3000, 1);
    kernel.mprotect(plain, PROT_READ, { offset: 0x2000, length: 0x1000 });
    expect(plain.read8(0x2000)).toBe(9);
    expect(() => plain.write8(0x2000, 1)).toThrow(fault);
    expect(() => plain.read8(0x1fff)).toThrow(fault);
    kernel.mprotect(plain, PROT_RW);
    expect(plain.read(0, 0x5000)[0x2000]).toBe(9);
    plain.write8(0x1fff, 2);
    const none = kernel.mmap({ length: 0x1000, prot: PROT_NONE });
    expect(none.bytes).toBe(undefined);
    expect(() => none.read8(0)).toThrow(fault);
    expect(() => kernel.mprotect(plain, PROT_RW, { offset: 1, length: 4096 })).toThrow(RangeError);
  });

  test('a read-only file is mapped with accessors that may not write', () => {
    const path = join(tmpdir(), `kvio-${process.pid}`);
    writeFileSync(path, 'hello');
    const file = kernel.mmap({ length: 5, fd: kernel.open(path, 0), prot: PROT_READ });
    expect(Buffer.from(file.read(0, 5)).toString()).toBe('hello');
    expect(() => file.write8(0, 1)).toThrow(fault);
    expect(() => kernel.mmap({ length: 5, fd: kernel.open(path, 0) })).toThrow(expect.objectContaining({ code: 'EACCES' }));
    const own = kernel.mmap({ length: 5, fd: kernel.open(path, 0), flags: MAP_PRIVATE });
    own.bytes![0] = 0x4a;
    expect(readFileSync(path, 'latin1')).toBe('hello');
  });

  test('madvise reaches the pages', () => {
    const own = kernel.mmap({ length: 0x2000, flags: MAP_PRIVATE | MAP_ANONYMOUS });
    own.bytes!.fill(5);
    kernel.madvise(own, MADV_DONTNEED, { offset: 0x1000, length: 0x1000 });
    expect(own.bytes![0xfff]).toBe(5);
    expect(own.bytes![0x1000]).toBe(0);
  });

  test('huge pages', (context) => {
    const pool = '/proc/sys/vm/nr_hugepages';
    const was = readFileSync(pool, 'utf8');
    try {
      if (Number(was) < 4) writeFileSync(pool, '4');
    } catch {}
    onTestFinished(() => {
      if (readFileSync(pool, 'utf8') !== was) writeFileSync(pool, was);
    });
    if (Number(readFileSync(pool, 'utf8')) < 2) return context.skip('no huge pages here');
    for (const log of [1, 11, 13, 63]) {
      const flags = MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | (log << 26);
      expect(() => kernel.mmap({ length: 2 << 20, flags })).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    }
    const huge = kernel.mmap({ length: 2 << 20, flags: MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB });
    expect(huge.address % BigInt(2 << 20)).toBe(0n);
    const view = huge.bytes!;
    view.fill(3);
    huge.close();
    expect(view[1 << 20]).toBe(0);
    const fd = kernel.memfd('huge', 4);
    kernel.ftruncate(fd, 2 << 20);
    const file = kernel.mmap({ length: 2 << 20, fd });
    file.bytes![5] = 1;
    kernel.ftruncate(fd, 0);
    expect(file.bytes![5]).toBe(0);
  });

  test('a failed mmap leaves no trace', () => {
    const pipe = kernel.eventfd();
    expect(() => kernel.mmap({ length: 0x1000, fd: pipe })).toThrow(expect.objectContaining({ code: 'ENODEV' }));
    expect(() => kernel.mmap({ length: 0x1000, fd: memfd(0x1000), flags: 0 })).toThrow(
      expect.objectContaining({ code: 'EINVAL' }),
    );
    expect(() => kernel.mmap({ length: 0x1000, fd: memfd(0x1000), offset: 5 })).toThrow(
      expect.objectContaining({ code: 'EINVAL' }),
    );
    expect(kernel.guestRam(0x1000).bytes!.every((byte) => byte === 0)).toBe(true);
  });

  test('views on sysfs and procfs are not offered', () => {
    const fd = kernel.open('/proc/self/exe', 0);
    expect(kernel.mmap({ length: 4096, fd, flags: MAP_PRIVATE }).bytes?.subarray(0, 4)).toEqual(
      Uint8Array.from([0x7f, 0x45, 0x4c, 0x46]),
    );
    if ('reason' in loaded) return;
    for (const path of ['/proc/self/maps', '/sys/kernel/notes']) {
      const special = loaded.addon.open(path, 0, 0);
      if (special < 0) continue;
      expect(loaded.addon.steady(special, 0n, 1, MAP_PRIVATE)).toBe(0);
      loaded.addon.close(special);
    }
  });

  test('workers touch a file that is truncated and unmapped under them', () => {
    const worker = workerSource(`
      const bytes = workerData;
      let sum = 0;
      const end = performance.now() + 700;
      while (performance.now() < end) for (let i = 0; i < bytes.length; i += 4096) { sum += bytes[i]; bytes[i] = sum; }
      parentPort.postMessage('done');`);
    const result = child(`
      const fd = kernel.memfd('x');
      kernel.ftruncate(fd, 1 << 20);
      const maps = Array.from({ length: 8 }, () => kernel.mmap({ length: 1 << 20, fd }));
      let left = 3;
      for (let i = 0; i < left; i++) {
        const worker = new Worker(${JSON.stringify(worker)}, { eval: true, workerData: maps[i].bytes });
        worker.on('message', () => { if (--left === 0) { console.log('survived'); process.exit(7); } });
      }
      let turn = 0;
      const step = () => {
        kernel.ftruncate(fd, turn % 2 ? 1 << 20 : 0);
        if (turn++ === 300) for (const map of maps) map.close();
        if (turn < 600) setImmediate(step);
      };
      setTimeout(step, 100);`);
    expect([result.status, result.signal, result.stdout, result.stderr]).toEqual([7, null, 'survived\n', '']);
  });

  test('SIGBUS that is not ours ends the process as ever, and reaches a handler that was there before', () => {
    const script = (handler: string): string => `
      const addon = require(${JSON.stringify('path' in loaded ? loaded.path : '')});
      ${handler}
      const id = addon.map(4096, 3, 0x22, -1, 0n);
      process.kill(process.pid, 'SIGBUS');
      setTimeout(() => {}, 1000);`;
    expect(spawnSync(process.execPath, ['-e', script('')], { timeout: 20_000 }).signal).toBe('SIGBUS');
    const handled = spawnSync(
      process.execPath,
      ['-e', script("process.on('SIGBUS', () => { console.log('mine'); process.exit(3); });")],
      {
        timeout: 20_000,
      },
    );
    expect([handled.status, String(handled.stdout)]).toEqual([3, 'mine\n']);
  });

  describe.skipIf(missing() !== undefined)('of KVM', () => {
    test('kvm_run has bytes; beyond its pages only accessors', () => {
      const { vcpu } = makeGuest(kernel, [0xf4]);
      expect(kernel.mmap({ length: 12288, fd: vcpu }).bytes).toBeDefined();
      expect(kernel.mmap({ length: 4096, fd: vcpu, offset: 8192 }).bytes).toBe(undefined);
      const beyond = kernel.mmap({ length: 16384, fd: vcpu });
      expect(beyond.bytes).toBe(undefined);
      expect(() => beyond.read8(12288)).toThrow(fault);
      expect(beyond.read8(1)).toBe(0);
      const nowhere = kernel.mmap({ length: 4096, fd: vcpu, offset: 64 * 4096 });
      expect(nowhere.bytes).toBe(undefined);
      expect(() => nowhere.read8(0)).toThrow(fault);
    });

    test('the dirty ring has bytes, exactly where it is', (context) => {
      const kvm = kernel.open('/dev/kvm');
      const vm = kernel.ioctl(kvm, KVM_CREATE_VM);
      if (kernel.ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING) === 0) return context.skip('no dirty ring here');
      const capability = new DataView(new ArrayBuffer(104));
      capability.setUint32(0, KVM_CAP_DIRTY_LOG_RING, true);
      capability.setBigUint64(8, 65536n, true);
      kernel.ioctl(vm, KVM_ENABLE_CAP, capability);
      const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU);
      const at = (page: number, length: number): Uint8Array | undefined =>
        kernel.mmap({ length, fd: vcpu, offset: page * 4096 }).bytes;
      expect(at(64, 65536)?.every((byte) => byte === 0)).toBe(true);
      expect(at(79, 4096)).toBeDefined();
      expect(at(64, 65536 + 4096)).toBe(undefined);
      expect(at(80, 4096)).toBe(undefined);
    });

    test('guest_memfd has accessors only', (context) => {
      const { vm } = makeGuest(kernel, [0xf4]);
      const struct = new DataView(new ArrayBuffer(64));
      struct.setBigUint64(0, 0x2000n, true);
      const fd = kernel.tryIoctl(vm, KVM_CREATE_GUEST_MEMFD, struct);
      if (fd < 0) return context.skip('no guest_memfd here');
      expect(() => kernel.mmap({ length: 0x2000, fd })).toThrow(expect.objectContaining({ code: 'ENODEV' }));
      // GUEST_MEMFD_FLAG_MMAP without INIT_SHARED: may be mapped, every touch faults.
      struct.setBigUint64(8, 1n, true);
      const mappable = kernel.tryIoctl(vm, KVM_CREATE_GUEST_MEMFD, struct);
      if (mappable < 0) return;
      const memory = kernel.mmap({ length: 0x2000, fd: mappable });
      expect(memory.bytes).toBe(undefined);
      expect(() => memory.read8(0)).toThrow(fault);
      struct.setBigUint64(8, 3n, true);
      const shared = kernel.mmap({ length: 0x2000, fd: kernel.ioctl(vm, KVM_CREATE_GUEST_MEMFD, struct) });
      expect(shared.bytes).toBe(undefined);
      shared.write32(0x1000, 5);
      expect(shared.read32(0x1000)).toBe(5);
    });
  });

  test('an arena never gives a page twice, keeps alignment, and knows its limit', () => {
    if ('reason' in loaded) return;
    const arenas = new Arenas(loaded.addon);
    const seen: [bigint, bigint][] = [];
    const kept: Uint8Array[] = [];
    for (let i = 0; i < 500; i++) {
      const length = 1 + ((i * 7919) % 0x40000);
      const alignment = [4096, 4096, 65536, 2 << 20][i % 4]!;
      const { address, pages } = arenas.take(length, alignment)!;
      expect(address % BigInt(alignment)).toBe(0n);
      expect(pages.length % alignment).toBe(0);
      expect(pages.length).toBeGreaterThanOrEqual(length);
      expect(loaded.addon.addressOf(pages)).toBe(address);
      seen.push([address, address + BigInt(pages.length)]);
      kept.push(pages);
    }
    seen.sort((a, b) => (a[0] < b[0] ? -1 : 1));
    for (let i = 1; i < seen.length; i++) expect(seen[i]![0] >= seen[i - 1]![1]).toBe(true);
    expect(kept.every((pages) => pages.buffer instanceof SharedArrayBuffer)).toBe(true);
    expect(arenas.take(2 ** 32 + 1)).toBe(undefined);
  });
});
