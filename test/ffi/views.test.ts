import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { FfiBackend } from '../../src/ffi/backend.ts';
import { loadFfi } from '../../src/ffi/index.ts';
import type { Mapping } from '../../src/kernel/memory.ts';

const [EFAULT, EPERM] = [14, 1] as const;
const [PROT_RW, MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_POPULATE] = [3, 1, 2, 0x20, 0x8000] as const;
const [O_RDWR, O_RDONLY, O_TRUNC] = [2, 0, 0x200] as const;
const [F_ADD_SEALS, F_SEAL_SHRINK] = [1033, 2] as const;

const found = loadFfi();
let backend: FfiBackend;

beforeEach((context) => {
  if ('reason' in found) context.skip(found.reason);
  else backend = new FfiBackend(found.libc);
});

const memfd = (length: bigint): number => {
  const fd = backend.memfdCreate('kvio', 2);
  expect(backend.ftruncate(fd, length)).toBe(0);
  return fd;
};
const map = (
  fd: number,
  length: number,
  more: { prot?: number; flags?: number; offset?: bigint; view?: boolean } = {},
): Mapping => {
  const mapping = backend.mmap({
    length,
    prot: PROT_RW,
    flags: fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED,
    fd,
    offset: 0n,
    view: true,
    ...more,
  });
  if (typeof mapping === 'number') throw new Error(`mmap: ${mapping}`);
  return mapping;
};

describe('mappings with a view, through ffi', () => {
  it('anonymous memory: zeroed, shared, page-aligned, where the kernel says', () => {
    const one = map(-1, 0x3000);
    const two = map(-1, 5, { flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE });
    for (const mapping of [one, two]) {
      expect(mapping.bytes!.buffer).toBeInstanceOf(SharedArrayBuffer);
      expect(mapping.bytes!.byteLength).toBe(mapping.length);
      expect(mapping.address % 4096n).toBe(0n);
      expect(mapping.bytes!.every((byte) => byte === 0)).toBe(true);
      mapping.bytes!.fill(7);
    }
    // The kernel reads at that address what the view holds.
    const [fd, out] = [memfd(0x1000n), new Uint8Array(4)];
    expect(('libc' in found ? found.libc : undefined)!.addressOf(one.bytes!)).toBe(one.address);
    expect(backend.pwrite(fd, one.bytes!.subarray(0, 4), 0n)).toBe(4);
    backend.pread(fd, out, 0n);
    expect([...out]).toEqual([7, 7, 7, 7]);
    backend.close(fd);
    one.unmap();
    two.unmap();
  });

  it('a stale view reads zeros, and its pages are never given out again', () => {
    const mapping = map(-1, 0x2000);
    const view = mapping.bytes!;
    view.fill(9);
    mapping.unmap();
    mapping.unmap();
    expect(view.every((byte) => byte === 0)).toBe(true);
    view.fill(1);
    const next = map(-1, 0x2000);
    expect(next.address).not.toBe(mapping.address);
    expect(next.bytes!.every((byte) => byte === 0)).toBe(true);
    next.unmap();
  });

  it('a memfd: shared with the file, from any offset, two views share bytes', () => {
    const fd = memfd(0x3000n);
    const [whole, last] = [map(fd, 0x3000), map(fd, 0x1000, { offset: 0x2000n })];
    whole.bytes![0x2004] = 0x5a;
    expect(last.bytes![4]).toBe(0x5a);
    const read = new Uint8Array(1);
    backend.pread(fd, read, 0x2004n);
    expect(read[0]).toBe(0x5a);
    backend.close(fd);
    last.bytes![5] = 1;
    expect(whole.load(0x2004, 2)).toBe(0x015a);
    for (const mapping of [whole, last]) mapping.unmap();
  });

  it('has none where a touch may fault', () => {
    const fd = memfd(0x1800n);
    expect(map(fd, 0x2000).bytes).toBeDefined();
    expect(map(fd, 0x2001).bytes).toBeUndefined();
    expect(map(fd, 0x1000, { offset: 0x2000n }).bytes).toBeUndefined();
    expect(map(fd, 0x1000, { view: false }).bytes).toBeUndefined();
    expect(map(fd, 0x1000, { prot: 1 }).bytes).toBeUndefined();
    backend.close(fd);
    const folder = mkdtempSync(join(tmpdir(), 'kvio views '));
    writeFileSync(join(folder, 'file'), new Uint8Array(0x1000));
    const file = backend.open(join(folder, 'file'), O_RDWR, 0);
    expect(map(file, 0x1000).bytes).toBeUndefined();
    backend.close(file);
    rmSync(folder, { recursive: true });
  });

  it('a file made shorter under its view: zeros, never SIGBUS', () => {
    const fd = memfd(0x3000n);
    const view = map(fd, 0x3000);
    const tail = map(fd, 0x1000, { offset: 0x2000n });
    view.bytes!.fill(3);
    expect(backend.ftruncate(fd, 0x1001n)).toBe(0);
    expect([view.bytes![0], view.bytes![0x1000], view.bytes![0x1001], view.bytes![0x2000], tail.bytes![0]]).toEqual([
      3, 3, 0, 0, 0,
    ]);
    view.bytes![0x2fff] = 1;
    expect(view.store(0, 1, 4)).toBe(0);
    expect(map(fd, 0x3000).load(0x2000, 1)).toBe(-EFAULT);
    // The same through a second open of the same file.
    const again = backend.open(`/proc/self/fd/${fd}`, O_RDWR | O_TRUNC, 0);
    expect(again).toBeGreaterThan(0);
    expect([...view.bytes!.subarray(0, 2)]).toEqual([0, 0]);
    for (const each of [fd, again]) backend.close(each);
    view.unmap();
    tail.unmap();
  });

  it('a truncation that fails leaves the view on the file', () => {
    const fd = memfd(0x2000n);
    const view = map(fd, 0x2000);
    view.bytes![0x1000] = 5;
    const readonly = backend.open(`/proc/self/fd/${fd}`, O_RDONLY, 0);
    expect(backend.ftruncate(readonly, 0n)).toBeLessThan(0);
    expect(backend.ftruncate(fd, -1n)).toBeLessThan(0);
    expect(backend.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)).toBe(0);
    expect(backend.ftruncate(fd, 0n)).toBe(-EPERM);
    expect(view.bytes![0x1000]).toBe(5);
    const byte = new Uint8Array([6]);
    backend.pwrite(fd, byte, 0x1000n);
    expect(view.bytes![0x1000]).toBe(6);
    for (const each of [fd, readonly]) backend.close(each);
    view.unmap();
  });

  it('larger than an arena, and larger than any view', () => {
    const large = map(-1, 96 * 1024 * 1024);
    large.bytes![large.length - 1] = 1;
    expect(large.load(large.length - 1, 1)).toBe(1);
    large.unmap();
    const huge = map(-1, backend.features.maxView + 4096, { flags: MAP_SHARED | MAP_ANONYMOUS | 0x4000 });
    expect(huge.bytes).toBeUndefined();
    expect(huge.store(backend.features.maxView, 8, 0x0102030405060708n)).toBe(0);
    expect(huge.load(backend.features.maxView, 8)).toBe(0x0102030405060708n);
    huge.unmap();
  });
});

describe('kvm_run, through ffi', () => {
  it('is mapped over shared memory and written by KVM_RUN', (context) => {
    try {
      closeSync(openSync('/dev/kvm', 'r+'));
    } catch (error) {
      context.skip(`/dev/kvm cannot be opened (${(error as NodeJS.ErrnoException).code})`);
    }
    const kvm = backend.open('/dev/kvm', O_RDWR, 0);
    const vm = backend.ioctl(kvm, 0xae01, 0);
    const vcpu = backend.ioctl(vm, 0xae41, 0);
    const size = backend.ioctl(kvm, 0xae04, 0);
    // mov al,0x55; out 0x80,al; hlt at the reset vector
    const ram = map(-1, 0x1000);
    ram.bytes!.set([0xb0, 0x55, 0xe6, 0x80, 0xf4], 0xff0);
    const region = new BigUint64Array([0n, 0xffff_f000n, 0x1000n, ram.address]);
    expect(backend.ioctl(vm, 0x4020ae46, new Uint8Array(region.buffer))).toBe(0);
    const run = map(vcpu, size);
    expect(run.bytes).toBeDefined();
    const page = run.bytes!;
    const [KVM_EXIT_IO, KVM_EXIT_HLT] = [2, 5];
    expect([backend.run(vcpu), page[8]]).toEqual([0, KVM_EXIT_IO]);
    expect(page[run.load(40, 4) as number]).toBe(0x55);
    expect([backend.run(vcpu), page[8]]).toEqual([0, KVM_EXIT_HLT]);
    page[1] = 1; // immediate_exit
    expect(backend.run(vcpu)).toBe(-4);
    expect(map(vcpu, 4 * 4096).bytes).toBeUndefined();
    run.unmap();
    ram.unmap();
    expect(page[8]).toBe(0);
    for (const fd of [vcpu, vm, kvm]) expect(backend.close(fd)).toBe(0);
  });
});
