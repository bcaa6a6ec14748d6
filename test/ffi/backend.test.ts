import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FfiBackend } from '../../src/ffi/backend.ts';
import { loadFfi } from '../../src/ffi/index.ts';
import type { Libc } from '../../src/ffi/libc.ts';
import type { Mapping } from '../../src/kernel/memory.ts';

const [ENOENT, EBADF, EAGAIN, EFAULT, ENOTDIR, EINVAL, ENOTTY, EPERM, ENOSYS] = [2, 9, 11, 14, 20, 22, 25, 1, 38] as const;
const [O_RDONLY, O_RDWR, O_CLOEXEC, O_NONBLOCK] = [0, 2, 0x80000, 0x800] as const;
const [PROT_READ, PROT_RW, MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS] = [1, 3, 1, 2, 0x20] as const;
const [KVM_GET_API_VERSION, KVM_CREATE_VM] = [0xae00, 0xae01] as const;

const found = loadFfi();
const kvmOpens = ((): boolean => {
  try {
    closeSync(openSync('/dev/kvm', 'r+'));
    return true;
  } catch {
    return false;
  }
})();

let libc: Libc;
let backend: FfiBackend;
let folder = '';

beforeEach((context) => {
  if ('reason' in found) context.skip(found.reason);
  else {
    libc = found.libc;
    backend = new FfiBackend(libc);
  }
});
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kvio ffi é '));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const memfd = (length: bigint): number => {
  const fd = backend.memfdCreate('kvio', 3);
  expect(fd).toBeGreaterThanOrEqual(0);
  expect(backend.ftruncate(fd, length)).toBe(0);
  return fd;
};
const map = (fd: number, length: number, more: { prot?: number; flags?: number; offset?: bigint } = {}): Mapping => {
  const request = { length, prot: PROT_RW, flags: MAP_SHARED, fd, offset: 0n, view: false, ...more };
  const mapping = backend.mmap(request);
  if (typeof mapping === 'number') throw new Error(`mmap: ${mapping}`);
  return mapping;
};

describe('libc through ffi-rs', () => {
  it('looks at errno only where the value is −1', () => {
    const fd = memfd(10n);
    expect(backend.close(-1)).toBe(-EBADF);
    expect(backend.pread(fd, new Uint8Array(4), 8n)).toBe(2);
    expect(backend.pread(fd, new Uint8Array(4), 10n)).toBe(0);
    expect(backend.close(fd)).toBe(0);
    expect(backend.close(fd)).toBe(-EBADF);
  });

  it('has the right errno thousands of times, whatever the garbage collector does meanwhile', () => {
    const file = backend.open('/dev/null', O_RDWR, 0);
    const wrong: unknown[] = [];
    for (let round = 0; round < 3000; round++) {
      const garbage = Array.from({ length: 300 }, () => ({ round }));
      const expected = [-ENOENT, -EBADF, -ENOTTY, -EFAULT, garbage.length - 300];
      const got = [
        backend.open('/nonexistent', O_RDONLY, 0),
        backend.ioctl(-1, KVM_GET_API_VERSION, 0),
        backend.ioctl(file, KVM_GET_API_VERSION, new Uint8Array(1 << 16)),
        backend.ioctl(file, 0x5421, 8n), // FIONBIO reads an int at its argument
        backend.read(file, new Uint8Array(16)),
      ];
      if (expected.join() !== got.join()) wrong.push(got);
    }
    expect(wrong).toEqual([]);
    backend.close(file);
  });

  it('64-bit integers arrive with all their bits', () => {
    for (const length of [(1n << 53n) + 1n, (1n << 62n) + 12345n, (1n << 63n) - 1n]) {
      const fd = memfd(length);
      const stat = backend.fstat(fd);
      expect(stat).toMatchObject({ size: length });
      backend.close(fd);
    }
    const fd = memfd(0n);
    expect(backend.ftruncate(fd, -1n)).toBe(-EINVAL);
    backend.close(fd);
  });

  it('an ioctl argument is not cut to 32 bits', (context) => {
    context.skip(!kvmOpens, '/dev/kvm cannot be opened');
    const kvm = backend.open('/dev/kvm', O_RDWR | O_CLOEXEC, 0);
    expect(backend.ioctl(kvm, KVM_GET_API_VERSION, 0)).toBe(12);
    // Machine type 2^32, 2^63, 2^64 − 1: cut, the first two would be type 0, which exists.
    for (const type of [1n << 32n, 1n << 63n, (1n << 64n) - 1n, 2 ** 32])
      expect(backend.ioctl(kvm, KVM_CREATE_VM, type)).toBe(-EINVAL);
    backend.close(kvm);
  });

  it('addresses of views: offset included, ordinary and shared', () => {
    const shared = new Uint8Array(new SharedArrayBuffer(1 << 26));
    const base = libc.addressOf(shared);
    expect(base).toBeGreaterThan(1n << 32n);
    expect(libc.addressOf(shared.subarray(4096 + 17))).toBe(base + 4113n);
    for (const plain of [new Uint8Array(5), new Uint8Array(1 << 20), Buffer.from('kvio')]) {
      expect(libc.addressOf(plain.subarray(3))).toBe(libc.addressOf(plain) + 3n);
    }
  });

  it('the very bytes are read and written, in any kind of buffer', () => {
    const path = join(folder, 'datei ü');
    writeFileSync(path, 'hello world');
    const fd = backend.open(path, O_RDWR, 0);
    const buffers = [new Uint8Array(11), new Uint8Array(new SharedArrayBuffer(32), 5, 11), new Uint8Array(64).subarray(7, 18)];
    for (const bytes of buffers) {
      expect(backend.pread(fd, bytes, 0n)).toBe(11);
      expect(String.fromCharCode(...bytes)).toBe('hello world');
      bytes[0] = 0x4a;
      expect(backend.pwrite(fd, bytes, 0n)).toBe(11);
      expect(readFileSync(path, 'latin1')).toBe('Jello world');
      bytes[0] = 0x68;
      backend.pwrite(fd, bytes, 0n);
    }
    expect(backend.read(fd, new Uint8Array(0))).toBe(0);
    backend.close(fd);
  });
});

describe('system calls', () => {
  it('fstat is what Node has', () => {
    const paths = ['/dev/null', '/dev/zero', '/proc/self/status', folder, process.execPath];
    for (const path of paths) {
      const fd = openSync(path, 'r');
      const { dev, ino, mode, nlink, uid, gid, rdev, size, blksize, blocks } = fstatSync(fd, { bigint: true });
      expect(backend.fstat(fd), path).toEqual({
        dev,
        ino,
        rdev,
        size,
        blocks,
        mode: Number(mode),
        nlink: Number(nlink),
        uid: Number(uid),
        gid: Number(gid),
        blksize: Number(blksize),
      });
      closeSync(fd);
    }
    expect(backend.fstat(-1)).toBe(-EBADF);
  });

  it('readlink, readdir, dup, fcntl', () => {
    symlinkSync('/some/wh\u00e9re', join(folder, 'link'));
    expect(backend.readlink(join(folder, 'link'))).toBe('/some/wh\u00e9re');
    expect(backend.readlink(folder)).toBe(-EINVAL);
    expect(backend.readlink(join(folder, 'nothing'))).toBe(-ENOENT);
    expect(backend.readdir(folder)).toContain('link');
    expect(backend.readdir(join(folder, 'nothing'))).toBe(-ENOENT);
    expect(backend.readdir('/dev/null')).toBe(-ENOTDIR);
    const fd = backend.open(folder, O_RDONLY | O_CLOEXEC, 0);
    const copy = backend.dup(fd);
    expect([backend.fcntl(fd, 1, 0), backend.fcntl(copy, 1, 0)]).toEqual([1, 0]);
    expect(backend.fcntl(copy, 2, 1)).toBe(0);
    expect(backend.fcntl(copy, 1, 0)).toBe(1);
    expect([backend.close(fd), backend.close(copy), backend.dup(copy)]).toEqual([0, 0, -EBADF]);
  });

  it('eventfd and poll', () => {
    const fd = backend.eventfd(3, O_NONBLOCK | O_CLOEXEC);
    const idle = backend.eventfd(0, O_NONBLOCK);
    const fds = Int32Array.of(fd, 1 | 4, -1, idle, 1, -1, 999_999, 1, 0);
    expect(backend.poll(fds, 0)).toBe(2);
    expect([...fds]).toEqual([fd, 5, 5, idle, 1, 0, 999_999, 1, 0x20]);
    const counter = new Uint8Array(8);
    expect(backend.read(fd, counter)).toBe(8);
    expect(counter[0]).toBe(3);
    expect(backend.read(fd, counter)).toBe(-EAGAIN);
    expect(backend.write(fd, new Uint8Array(8).fill(0xff))).toBe(-EINVAL);
    const start = performance.now();
    expect(backend.poll(Int32Array.of(idle, 1, 0), 30)).toBe(0);
    expect(performance.now() - start).toBeGreaterThan(25);
    const most = backend.eventfd(0xffff_ffff, O_NONBLOCK);
    backend.read(most, counter);
    expect([...counter]).toEqual([255, 255, 255, 255, 0, 0, 0, 0]);
    for (const each of [fd, idle, most]) backend.close(each);
  });

  it('memfd: fallocate and seals', () => {
    const fd = memfd(0x3000n);
    expect(backend.fallocate(fd, 0, 0n, 0x5000n)).toBe(0);
    expect(backend.fstat(fd)).toMatchObject({ size: 0x5000n });
    expect(backend.fallocate(fd, 0, 0n, 0n)).toBe(-EINVAL);
    expect(backend.fcntl(fd, 1033, 4)).toBe(0); // F_ADD_SEALS, F_SEAL_GROW
    expect(backend.fcntl(fd, 1034, 0)).toBe(4);
    expect(backend.ftruncate(fd, 0x6000n)).toBe(-EPERM);
    backend.close(fd);
  });

  it('is synchronous only, and says so', () => {
    expect(backend.features).toMatchObject({ async: false, kick: false, guard: true, exactAccess: false, simulated: false });
    expect([backend.runAsync(), backend.kick(), backend.wait(), backend.kicker()]).toEqual([
      -ENOSYS,
      -ENOSYS,
      -ENOSYS,
      undefined,
    ]);
    expect(backend.release).toBe(release());
  });
});

describe('mappings without a view', () => {
  it('every width, little endian, at odd offsets too', () => {
    const fd = memfd(0x2000n);
    const mapping = map(fd, 0x2000);
    expect(mapping.bytes).toBeUndefined();
    expect(mapping.store(0xffd, 8, 0xfedc_ba98_7654_3210n)).toBe(0);
    expect(mapping.load(0xffd, 8)).toBe(0xfedc_ba98_7654_3210n);
    expect([mapping.load(0xffd, 1), mapping.load(0xffd, 2), mapping.load(0xffd, 4)]).toEqual([0x10, 0x3210, 0x7654_3210]);
    expect(mapping.store(0x1001, 4, 0xffff_ffff)).toBe(0);
    expect(mapping.load(0xffd, 8)).toBe(0xffff_ffff_7654_3210n);
    const file = new Uint8Array(8);
    backend.pread(fd, file, 0xffdn);
    expect([...file]).toEqual([0x10, 0x32, 0x54, 0x76, 255, 255, 255, 255]);
    mapping.unmap();
    backend.close(fd);
  });

  it('what would be SIGBUS or SIGSEGV is EFAULT', () => {
    const fd = memfd(0x1000n);
    const mapping = map(fd, 0x3000);
    expect(mapping.store(0xffc, 4, 0x11223344)).toBe(0);
    expect(mapping.load(0x1000, 1)).toBe(-EFAULT);
    expect(mapping.load(0xffe, 4)).toBe(-EFAULT);
    expect(mapping.store(0x2000, 1, 0)).toBe(-EFAULT);
    expect(mapping.copyOut(0xff0, new Uint8Array(0x20))).toBe(-EFAULT);
    expect(mapping.copyIn(0xff0, new Uint8Array(0x20))).toBe(-EFAULT);
    expect(backend.ftruncate(fd, 0x3000n)).toBe(0);
    expect(mapping.load(0x2ff8, 8)).toBe(0n);
    expect(mapping.protect(0x1000, 0x1000, PROT_READ)).toBe(0);
    expect([mapping.load(0x1000, 1), mapping.store(0x1000, 1, 1), mapping.store(0, 1, 1)]).toEqual([0, -EFAULT, 0]);
    expect(mapping.protect(0x1000, 0x1000, 0)).toBe(0);
    expect(mapping.load(0x1000, 1)).toBe(-EFAULT);
    mapping.unmap();
    expect(mapping.load(0, 1)).toBe(-EFAULT);
    backend.close(fd);
  });

  it('copies megabytes, and nothing at all', () => {
    const mapping = map(-1, 0x40_0000, { flags: MAP_PRIVATE | MAP_ANONYMOUS });
    const bytes = Uint8Array.from({ length: 0x20_0001 }, (_, index) => index * 7);
    expect(mapping.copyIn(0x0f_fff1, bytes)).toBe(0);
    const back = new Uint8Array(bytes.length);
    expect(mapping.copyOut(0x0f_fff1, back)).toBe(0);
    expect(Buffer.compare(back, bytes)).toBe(0);
    expect(mapping.copyOut(0, new Uint8Array(0))).toBe(0);
    expect(mapping.advise(0, 0x40_0000, 4)).toBe(0); // MADV_DONTNEED
    expect(mapping.load(0x10_0000, 4)).toBe(0);
    mapping.unmap();
  });

  it('mmap fails as the kernel says', () => {
    const request = { length: 0x1000, prot: PROT_RW, flags: MAP_SHARED, fd: -1, offset: 0n, view: false };
    expect(backend.mmap(request)).toBe(-EBADF);
    const fd = memfd(0x1000n);
    expect(backend.mmap({ ...request, fd, offset: 1n })).toBe(-EINVAL);
    expect(backend.mmap({ ...request, fd, flags: 0 })).toBe(-EINVAL);
    backend.close(fd);
  });
});
