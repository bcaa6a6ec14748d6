import { describe, expect, it } from 'vitest';
import { KernelError } from '../../../src/kernel/errors.ts';
import * as sys from '../../../src/uapi/sys.ts';
import { boot } from '../machine.ts';

const P = 4096;
const RW = sys.PROT_READ | sys.PROT_WRITE;
const errno = (body: () => unknown): string => {
  try {
    body();
  } catch (error) {
    return error instanceof KernelError ? error.code : String(error);
  }
  return 'nothing';
};

describe('views', () => {
  it('two mappings of one memfd, and its descriptor, share bytes', () => {
    const { kernel } = boot();
    const fd = kernel.memfd('m');
    kernel.ftruncate(fd, 8 * P);
    kernel.pwrite(fd, new Uint8Array([9]), 5 * P);
    const all = kernel.mmap({ fd, length: 8 * P });
    const part = kernel.mmap({ fd, length: 2 * P, offset: 4 * P });
    expect(part.bytes![P]).toBe(9);
    all.bytes![4 * P + 1] = 7;
    expect(part.bytes![1]).toBe(7);
    expect(all.bytes!.buffer).toBe(part.bytes!.buffer);
    part.bytes!.fill(5, 2, 4);
    const got = new Uint8Array(4);
    kernel.pread(fd, got, 4 * P);
    expect([...got]).toEqual([0, 7, 5, 5]);
  });

  it('a stale view reads zeros while the memfd keeps its bytes, and never sees what comes later', () => {
    const { kernel } = boot();
    const fd = kernel.memfd('m');
    kernel.ftruncate(fd, 4 * P);
    const memory = kernel.mmap({ fd, length: 4 * P });
    const view = memory.bytes!;
    view[3 * P] = 42;
    memory.close();
    expect(view.every((byte) => byte === 0)).toBe(true);
    const again = kernel.mmap({ fd, length: 4 * P });
    expect(again.bytes![3 * P]).toBe(42);
    view[3 * P] = 1;
    expect(again.bytes![3 * P]).toBe(42);
    again.bytes![0] = 77;
    expect(view[0]).toBe(0);
  });

  it('anonymous memory is zeroed when it is unmapped', () => {
    const { kernel } = boot();
    const ram = kernel.guestRam(3 * P);
    const view = ram.bytes!;
    view.fill(1);
    ram.close();
    expect(view.every((byte) => byte === 0)).toBe(true);
    const next = kernel.guestRam(3 * P);
    next.bytes!.fill(2);
    expect(view.every((byte) => byte === 0)).toBe(true);
  });

  it('mappings outlive the descriptor; the file goes with the last of them', () => {
    const { kernel, process } = boot();
    const fd = kernel.memfd('m');
    const file = process.fds.get(fd)!;
    kernel.ftruncate(fd, P);
    const dup = kernel.dup(fd);
    const first = kernel.mmap({ fd, length: P });
    const second = kernel.mmap({ fd, length: P, prot: sys.PROT_READ });
    expect(file.references).toBe(4);
    kernel.close(fd);
    first.bytes![0] = 3;
    kernel.close(dup);
    expect(file.references).toBe(2);
    expect(second.read8(0)).toBe(3);
    first.close();
    expect(second.read8(0)).toBe(3);
    second.close();
    expect(file.references).toBe(0);
  });

  it('bytes is absent where a touch could fault or a store must not reach the object', () => {
    const { kernel } = boot();
    const fd = kernel.memfd('m');
    kernel.ftruncate(fd, P);
    expect(kernel.mmap({ fd, length: P }).bytes).toBeDefined();
    expect(kernel.mmap({ fd, length: 2 * P }).bytes).toBeUndefined();
    expect(kernel.mmap({ fd, length: P, flags: sys.MAP_PRIVATE }).bytes).toBeUndefined();
    expect(kernel.mmap({ fd, length: P, prot: sys.PROT_READ }).bytes).toBeUndefined();
    expect(kernel.mmap({ fd, length: P, view: false }).bytes).toBeUndefined();
    expect(kernel.mmap({ length: P, flags: sys.MAP_PRIVATE }).bytes).toHaveLength(P);
    expect(kernel.mmap({ length: 100 }).bytes).toHaveLength(100);
  });

  it('a view taken after scattered writes has them; one taken after the file grew is apart from the old one only in place', () => {
    const { kernel } = boot();
    const fd = kernel.memfd('m');
    kernel.ftruncate(fd, 300 * P);
    for (const page of [0, 63, 64, 128, 299]) kernel.pwrite(fd, new Uint8Array([page]), page * P);
    const view = kernel.mmap({ fd, length: 300 * P });
    expect([0, 63, 64, 128, 299].map((page) => view.bytes![page * P])).toEqual([0, 63, 64, 128, 299 & 255]);
    kernel.ftruncate(fd, 600 * P);
    kernel.pwrite(fd, new Uint8Array([88]), 599 * P);
    const tail = kernel.mmap({ fd, length: 300 * P, offset: 300 * P });
    expect(tail.bytes![299 * P]).toBe(88);
    const all = kernel.mmap({ fd, length: 600 * P });
    expect(all.bytes).toBeUndefined();
    expect([all.read8(64 * P), all.read8(599 * P)]).toEqual([64, 88]);
    all.write8(299 * P, 5);
    expect(view.bytes![299 * P]).toBe(5);
  });

  it('what fallocate allocates is there, and takes no memory before it is written', () => {
    const { kernel } = boot();
    const fd = kernel.memfd('m');
    const before = process.memoryUsage().arrayBuffers;
    kernel.fallocate(fd, 0, 0, 2 ** 30);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 24);
    expect(kernel.fstat(fd)).toMatchObject({ size: 2n ** 30n, blocks: 2n ** 21n });
    kernel.fallocate(fd, 3, P, P);
    expect(kernel.fstat(fd).blocks).toBe(2n ** 21n - 8n);
  });

  it('a hole punched and a file truncated show in the views', () => {
    const { kernel } = boot();
    const fd = kernel.memfd('m');
    kernel.ftruncate(fd, 4 * P);
    const { bytes } = kernel.mmap({ fd, length: 4 * P });
    bytes!.fill(6);
    expect(kernel.fstat(fd).blocks).toBe(32n);
    kernel.fallocate(fd, 3, P, P);
    expect([bytes![P - 1], bytes![P], bytes![2 * P - 1], bytes![2 * P]]).toEqual([6, 0, 0, 6]);
    expect(kernel.fstat(fd).blocks).toBe(24n);
    kernel.ftruncate(fd, 2 * P + 1);
    expect([bytes![2 * P], bytes![2 * P + 1], bytes![3 * P]]).toEqual([6, 0, 0]);
    kernel.ftruncate(fd, 4 * P);
    bytes![3 * P] = 1;
    expect(kernel.fstat(fd).blocks).toBe(24n);
  });
});

describe('sparse', () => {
  it('a short view into a huge file takes a short piece', () => {
    const { kernel } = boot();
    const fd = kernel.memfd('m');
    kernel.ftruncate(fd, 2 ** 42);
    const low = kernel.mmap({ fd, length: 4 * P, offset: 2 ** 41 });
    const other = kernel.mmap({ fd, length: 4 * P });
    expect(low.bytes!.buffer.byteLength).toBe(4 * P);
    low.bytes![1] = 9;
    expect([other.bytes![1], kernel.mmap({ fd, length: P, offset: 2 ** 41 }).bytes![1]]).toEqual([0, 9]);
  });

  it('a 1 TiB mapping costs nothing until touched', () => {
    const { kernel } = boot();
    const started = performance.now();
    const before = process.memoryUsage().arrayBuffers;
    const memory = kernel.mmap({ length: 2 ** 40, flags: sys.MAP_SHARED | sys.MAP_NORESERVE });
    for (let i = 0; i < 64; i++) memory.write32(i * 2 ** 34 + 5 * i, i + 1);
    for (let i = 0; i < 64; i++) expect(memory.read32(i * 2 ** 34 + 5 * i)).toBe(i + 1);
    expect(memory.read64(2 ** 39 + 8)).toBe(0n);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 2 ** 20);
    memory.close();
    expect(performance.now() - started).toBeLessThan(500);
  });

  it('1 GiB of guest RAM in one view, freed without being committed', () => {
    const { kernel } = boot();
    const before = process.memoryUsage().rss;
    const ram = kernel.guestRam(2 ** 30);
    ram.bytes![2 ** 29] = 1;
    ram.close();
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * 2 ** 20);
  });

  it('a memfd of 2^63 − 1 bytes', () => {
    const { kernel } = boot();
    const fd = kernel.memfd('m');
    kernel.ftruncate(fd, 2n ** 63n - 1n);
    kernel.pwrite(fd, new Uint8Array([1, 2, 3]), 2n ** 62n + 4095n);
    const got = new Uint8Array(5);
    kernel.pread(fd, got, 2n ** 62n + 4094n);
    expect([...got]).toEqual([0, 1, 2, 3, 0]);
    const page = kernel.mmap({ fd, length: P, offset: 2n ** 62n, view: false });
    expect(page.read8(4095)).toBe(1);
    kernel.ftruncate(fd, 0);
    expect(kernel.fstat(fd)).toMatchObject({ size: 0n, blocks: 0n });
    expect(errno(() => page.read8(0))).toBe('EFAULT');
  });
});

describe("the kernel's own access", () => {
  it('copies across pages and mappings, and stops at a gap', () => {
    const {
      kernel,
      process: { mm },
    } = boot();
    const high = kernel.mmap({ length: 2 * P });
    const low = kernel.mmap({ length: P });
    expect(high.address - low.address).toBe(BigInt(P));
    const data = Uint8Array.from({ length: 3 * P }, (_, i) => i & 0xff);
    expect(mm.copyTo(low.address, data)).toBe(true);
    expect([...high.bytes!.subarray(0, 4)]).toEqual([0, 1, 2, 3]);
    expect(mm.copyFrom(low.address + 10n, 2 * P)).toEqual(data.slice(10, 10 + 2 * P));
    expect(mm.copyFrom(low.address, 3 * P + 1)).toBeNull();
    expect(mm.copyTo(high.address + BigInt(2 * P) - 2n, new Uint8Array([7, 8, 9]))).toBe(false);
    expect([...high.bytes!.subarray(2 * P - 2)]).toEqual([7, 8]);
    expect(mm.copyFrom(0n, 1)).toBeNull();
    expect(mm.copyFrom(0n, 0)).toHaveLength(0);
    expect(mm.copyFrom(2n ** 64n - 8n, 8)).toBeNull();
    expect(mm.copyFrom(0x7fff_ffff_f000n - 1n, 2)).toBeNull();
  });

  it('resolve honours protection, allocates, and its answers expire with `generation`', () => {
    const {
      kernel,
      process: { mm },
    } = boot();
    const fd = kernel.memfd('m');
    kernel.ftruncate(fd, 2 * P);
    const map = kernel.mmap({ fd, length: 3 * P, view: false });
    const read = mm.resolve(map.address, false)!;
    const write = mm.resolve(map.address + 100n, true)!;
    expect([read.buffer, read.offset]).toEqual([write.buffer, write.offset]);
    write.u8[write.offset + 7] = 3;
    expect(map.read8(7)).toBe(3);
    expect(mm.resolve(map.address + BigInt(2 * P), false)).toBeNull();
    let generation = mm.generation;
    const moved = (): boolean => {
      const yes = mm.generation !== generation;
      generation = mm.generation;
      return yes;
    };
    kernel.mprotect(map, sys.PROT_READ);
    expect(moved()).toBe(true);
    expect(mm.resolve(map.address, true)).toBeNull();
    kernel.mprotect(map, sys.PROT_NONE);
    expect(mm.resolve(map.address, false)).toBeNull();
    kernel.mprotect(map, RW);
    moved();
    kernel.ftruncate(fd, P);
    expect(moved()).toBe(true);
    expect(mm.resolve(map.address + BigInt(P), false)).toBeNull();
    const view = kernel.mmap({ fd, length: P });
    expect(moved()).toBe(true);
    expect(mm.resolve(map.address, false)!.buffer).toBe(view.bytes!.buffer);
    view.close();
    expect(moved()).toBe(true);
    expect(mm.resolve(map.address, false)!.u8[mm.resolve(map.address, false)!.offset + 7]).toBe(3);
    map.close();
    expect(moved()).toBe(true);
    expect(mm.resolve(map.address, false)).toBeNull();
  });

  it('a private page is copied on the first write, and `generation` tells', () => {
    const {
      kernel,
      process: { mm },
    } = boot();
    const fd = kernel.memfd('m');
    kernel.ftruncate(fd, P);
    const map = kernel.mmap({ fd, length: P, flags: sys.MAP_PRIVATE });
    const shared = mm.resolve(map.address, false)!;
    const { generation } = mm;
    const own = mm.resolve(map.address, true)!;
    expect(own.buffer === shared.buffer && own.offset === shared.offset).toBe(false);
    expect(mm.generation).not.toBe(generation);
    expect(mm.resolve(map.address, false)).toMatchObject({ offset: own.offset, buffer: own.buffer });
  });

  it('bytes of an argument are there for one call, to the byte, on any kind of buffer', () => {
    const {
      process: { mm },
    } = boot();
    const bytes = new Uint8Array(new ArrayBuffer(20), 5, 10);
    let address = 0n;
    mm.withScratch(bytes, (a) => {
      address = a;
      expect(mm.copyTo(a, new Uint8Array([1, 2]))).toBe(true);
      expect(mm.copyFrom(a + 1n, 9)![0]).toBe(2);
      expect(mm.copyFrom(a + 1n, 10)).toBeNull();
      expect(mm.copyTo(a + 9n, new Uint8Array([3, 4]))).toBe(false);
      mm.withScratch(new Uint8Array([9]), (b) => {
        expect(mm.copyFrom(b, 1)![0]).toBe(9);
        expect(mm.copyFrom(a, 1)![0]).toBe(1);
      });
    });
    expect([...bytes]).toEqual([1, 2, 0, 0, 0, 0, 0, 0, 0, 3]);
    expect(mm.copyFrom(address, 1)).toBeNull();
  });

  it('reuses address space from the top', () => {
    const { kernel } = boot();
    const a = kernel.mmap({ length: P });
    const b = kernel.mmap({ length: P });
    const c = kernel.mmap({ length: P });
    const where = b.address;
    expect([a.address - b.address, b.address - c.address]).toEqual([4096n, 4096n]);
    b.close();
    expect(kernel.mmap({ length: 2 * P }).address).toBe(c.address - BigInt(2 * P));
    expect(kernel.mmap({ length: P }).address).toBe(where);
  });
});
