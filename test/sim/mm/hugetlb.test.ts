import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KernelError } from '../../../src/kernel/errors.ts';
import type { Kernel } from '../../../src/kernel/kernel.ts';
import type { Memory } from '../../../src/kernel/memory.ts';
import type { PinnedRange } from '../../../src/sim/mm/pin.ts';
import * as sys from '../../../src/uapi/sys.ts';
import { type Boot, boot, plainMachine } from '../machine.ts';

const P = 4096;
const H = 2 ** 21;
const GIB = 2 ** 30;
const { MAP_SHARED: SH, MAP_PRIVATE: PR, MAP_NORESERVE: NORESERVE, MAP_HUGETLB } = sys;
const HUGE = sys.MAP_ANONYMOUS | MAP_HUGETLB;
const PUNCH = sys.FALLOC_FL_PUNCH_HOLE | sys.FALLOC_FL_KEEP_SIZE;

const bootWith = (pages: number, giants = 0, more: object = {}): Boot =>
  boot({ machine: { hugePages: { [H]: pages, [GIB]: giants }, ...more } });
/** nr, free, resv, surplus. */
const counts = ({ system }: Boot, size = H): number[] => {
  const pool = system.hugePools.get(size)!;
  return [pool.total, pool.free, pool.reserved, pool.surplus];
};
const read = (kernel: Kernel, path: string): string => {
  const fd = kernel.open(path, sys.O_RDONLY);
  const bytes = new Uint8Array(64);
  const length = kernel.read(fd, bytes);
  kernel.close(fd);
  return Buffer.from(bytes.subarray(0, length)).toString();
};
const write = (kernel: Kernel, path: string, text: string): number | string => {
  const fd = kernel.open(path, sys.O_WRONLY);
  try {
    return kernel.write(fd, Buffer.from(text));
  } catch (error) {
    return (error as KernelError).code;
  } finally {
    kernel.close(fd);
  }
};
const pinned = (pieces: PinnedRange[] | number): PinnedRange => {
  if (typeof pieces === 'number') throw new Error(`errno ${-pieces}`);
  expect(pieces).toHaveLength(1);
  return pieces[0]!;
};

describe('views', () => {
  it('of a page that is promised no more, and is not there: nothing was stored', () => {
    const machine = bootWith(1);
    const { kernel } = machine;
    const overcommit = (pages: string) => write(kernel, '/proc/sys/vm/nr_overcommit_hugepages', pages);
    const own = kernel.mmap({ length: H, flags: PR | HUGE });
    own.bytes![0] = 1;
    expect(counts(machine)).toEqual([1, 0, 0, 0]);
    overcommit('1');
    const other = kernel.mmap({ length: H, flags: PR | HUGE });
    expect(counts(machine)).toEqual([2, 1, 1, 1]);
    kernel.madvise(own, sys.MADV_DONTNEED);
    expect(counts(machine)).toEqual([1, 1, 1, 0]);
    overcommit('0');
    own.bytes![0] = 2;
    own.bytes![H - 1] = 3;
    expect(counts(machine)).toEqual([1, 1, 1, 0]);
    expect([own.bytes![0], own.bytes![H - 1]]).toEqual([0, 0]);
    other.bytes![0] = 4;
    expect(counts(machine)).toEqual([1, 0, 0, 0]);
    other.close();
    own.bytes![0] = 5;
    expect(counts(machine)).toEqual([1, 0, 0, 0]);
    expect(own.bytes![0]).toBe(5);
  });

  it('of a page of a file that a hole took: nothing was stored where the pool has none', () => {
    const machine = bootWith(1);
    const { kernel } = machine;
    const fd = kernel.memfd('huge', sys.MFD_HUGETLB);
    kernel.ftruncate(fd, H);
    const memory = kernel.mmap({ fd, length: H });
    memory.bytes![0] = 1;
    kernel.fallocate(fd, PUNCH, 0n, BigInt(H));
    const other = kernel.mmap({ length: H, flags: SH | HUGE });
    memory.bytes![0] = 2;
    expect(counts(machine)).toEqual([1, 1, 1, 0]);
    expect(memory.bytes![0]).toBe(0);
    other.close();
  });

  it('of shared and private memory tell the pool of what was stored', () => {
    const machine = bootWith(6);
    const { kernel } = machine;
    const shared = kernel.mmap({ length: 3 * H, flags: SH | HUGE });
    const own = kernel.mmap({ length: 2 * H, flags: PR | HUGE });
    expect([shared.bytes!.length, own.bytes!.length, Number(shared.address % BigInt(H))]).toEqual([3 * H, 2 * H, 0]);
    expect(counts(machine)).toEqual([6, 6, 5, 0]);
    shared.bytes![H + 5] = 1;
    own.bytes![0] = 2;
    expect(counts(machine)).toEqual([6, 4, 3, 0]);
    const view = shared.bytes!;
    shared.close();
    own.close();
    expect(view[H + 5]).toBe(0);
    expect(counts(machine)).toEqual([6, 6, 0, 0]);
  });

  it('of a file keep their bytes, and holes take them', () => {
    const machine = bootWith(4);
    const { kernel } = machine;
    const fd = kernel.memfd('m', sys.MFD_HUGETLB);
    kernel.ftruncate(fd, 2 * H);
    const first = kernel.mmap({ fd, length: 2 * H });
    first.bytes![7] = 7;
    first.bytes![H] = 8;
    expect(kernel.fstat(fd)).toMatchObject({ blksize: H, blocks: 8192n });
    first.close();
    const second = kernel.mmap({ fd, length: 2 * H });
    expect([second.bytes![7], second.bytes![H]]).toEqual([7, 8]);
    kernel.fallocate(fd, PUNCH, 0n, BigInt(H));
    expect(second.bytes![7]).toBe(0);
    expect(counts(machine)).toEqual([4, 3, 0, 0]);
    kernel.close(fd);
    second.close();
    expect(counts(machine)).toEqual([4, 4, 0, 0]);
  });

  it('are not to be had where a touch may find no page, or the pages are partly the file’s', () => {
    const { kernel } = bootWith(4);
    const fd = kernel.memfd('m', sys.MFD_HUGETLB);
    kernel.ftruncate(fd, H);
    expect(kernel.mmap({ length: H, flags: SH | HUGE | NORESERVE }).bytes).toBeUndefined();
    expect(kernel.mmap({ length: H, flags: PR | HUGE | NORESERVE }).bytes).toBeUndefined();
    expect(kernel.mmap({ fd, length: H, flags: PR }).bytes).toBeUndefined();
  });
});

describe('pins', () => {
  it('keep a huge page from the pool, whatever part of it they have', () => {
    const machine = bootWith(3);
    const { kernel, process } = machine;
    const fd = kernel.memfd('m', sys.MFD_HUGETLB);
    kernel.ftruncate(fd, 3 * H);
    const memory = kernel.mmap({ fd, length: 3 * H, view: false });
    memory.write(H + 3 * P, Uint8Array.of(5));
    const pin = pinned(process.mm.pin(memory.address + BigInt(H - P), 4 * P, true));
    expect(counts(machine)).toEqual([3, 1, 1, 0]);
    kernel.fallocate(fd, PUNCH, 0n, BigInt(2 * H));
    expect(counts(machine)).toEqual([3, 1, 1, 0]);
    const [low, high] = pin.split(2);
    memory.close();
    kernel.close(fd);
    expect(counts(machine)).toEqual([3, 1, 0, 0]);
    low.unpin();
    expect(counts(machine)).toEqual([3, 2, 0, 0]);
    high.unpin();
    expect(counts(machine)).toEqual([3, 3, 0, 0]);
  });

  it('know what is next to each other', () => {
    const { kernel, process } = bootWith(3);
    const memory = kernel.mmap({ length: 2 * H, flags: SH | HUGE });
    const pin = pinned(process.mm.pin(memory.address + BigInt(3 * P), H, true));
    expect([pin.run(0), pin.run(508), pin.run(509)]).toEqual([
      { first: -3, count: 512 },
      { first: -3, count: 512 },
      { first: 509, count: 512 },
    ]);
  });

  it('of a private mapping take a copy of the file’s page, once', () => {
    const machine = bootWith(3);
    const { kernel, process } = machine;
    const fd = kernel.memfd('m', sys.MFD_HUGETLB);
    kernel.ftruncate(fd, H);
    kernel.mmap({ fd, length: H, view: false }).write(0, Uint8Array.of(3));
    const memory = kernel.mmap({ fd, length: H, flags: PR });
    const pin = pinned(process.mm.pin(memory.address, P, false));
    const { u8, offset } = pin.ref(0);
    expect([u8[offset], ...counts(machine)]).toEqual([3, 3, 1, 0, 0]);
    memory.write(0, Uint8Array.of(4));
    expect(pin.ref(0).u8[pin.ref(0).offset]).toBe(4);
    pin.unpin();
  });

  it('end where the pool does', () => {
    const { kernel, process } = bootWith(2);
    const memory = kernel.mmap({ length: 4 * H, flags: SH | HUGE | NORESERVE });
    expect(process.mm.pin(memory.address, 4 * H, true)).toBe(-sys.EFAULT);
    expect(process.mm.pinnable(memory.address + BigInt(H), 3 * H, true)).toBe(512);
  });
});

describe('the pool', () => {
  it('is as large as the machine has memory for', () => {
    const machine = bootWith(0, 0, { limits: { ...plainMachine.limits, memory: 3 * GIB } });
    const { kernel } = machine;
    expect(write(kernel, '/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages', '2')).toBe(1);
    expect(write(kernel, '/proc/sys/vm/nr_hugepages', '1000000')).toBe(7);
    expect(read(kernel, '/proc/sys/vm/nr_hugepages')).toBe('512\n');
    expect(counts(machine, GIB)).toEqual([2, 2, 0, 0]);
  });

  it('makes 512 pages of one of 1 GiB', () => {
    const machine = bootWith(1, 2);
    const { kernel } = machine;
    const giant = kernel.mmap({ length: 5, flags: SH | HUGE | sys.MAP_HUGE_1GB, view: false });
    giant.write(4, Uint8Array.of(1));
    expect(write(kernel, '/sys/kernel/mm/hugepages/hugepages-1048576kB/demote', '5')).toBe(1);
    expect([counts(machine, GIB), counts(machine)]).toEqual([
      [1, 0, 0, 0],
      [513, 513, 0, 0],
    ]);
  });

  it('has all its pages again in the end, whatever was done', () => {
    const flags = fc.constantFrom(SH, PR, SH | NORESERVE, PR | NORESERVE);
    const small = fc.nat(7);
    const step = fc.oneof(
      fc.record({ do: fc.constant('map'), flags, length: fc.integer({ min: 1, max: 4 }), page: small, file: fc.boolean() }),
      fc.record({
        do: fc.constantFrom('touch', 'look', 'dontneed', 'remove', 'pin', 'unmap', 'view'),
        which: small,
        page: small,
      }),
      fc.record({ do: fc.constantFrom('punch', 'truncate', 'allocate', 'resize', 'overcommit'), page: small, count: small }),
      fc.record({ do: fc.constantFrom('unpin', 'split'), which: small, page: small }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const machine = bootWith(5);
        const { kernel, process, system } = machine;
        const fd = kernel.memfd('m', sys.MFD_HUGETLB);
        const maps: Memory[] = [];
        const pins: PinnedRange[] = [];
        const pool = system.hugePools.get(H)!;
        const tried = (act: () => void): void => {
          try {
            act();
          } catch (error) {
            if (!(error instanceof KernelError)) throw error;
          }
        };
        const mapped = (which: number, act: (memory: Memory) => void): void => {
          const memory = maps[which % Math.max(1, maps.length)];
          if (memory !== undefined) tried(() => act(memory));
        };
        const acts: Record<string, (one: Record<string, number>) => void> = {
          map: ({ flags: given, length, page, file }) =>
            tried(() => {
              const how = file ? { fd, offset: BigInt(page! * H), flags: given! } : { flags: given! | HUGE };
              maps.push(kernel.mmap({ length: length! * H, ...how }));
            }),
          touch: ({ which, page }) => mapped(which!, (memory) => memory.write((page! * H) % memory.length, Uint8Array.of(1))),
          look: ({ which, page }) => mapped(which!, (memory) => memory.read((page! * H) % memory.length, 1)),
          view: ({ which, page }) =>
            mapped(which!, ({ bytes, length }) => bytes?.fill(9, (page! * H) % length, ((page! * H) % length) + 3)),
          dontneed: ({ which }) => mapped(which!, (memory) => kernel.madvise(memory, sys.MADV_DONTNEED)),
          remove: ({ which }) => mapped(which!, (memory) => kernel.madvise(memory, sys.MADV_REMOVE)),
          unmap: ({ which }) =>
            mapped(which!, (memory) => {
              memory.close();
              maps.splice(maps.indexOf(memory), 1);
            }),
          pin: ({ which, page }) =>
            mapped(which!, (memory) => {
              const pieces = process.mm.pin(memory.address, Math.min(memory.length, page! * 300 * P + P), (page! & 1) === 0);
              if (typeof pieces !== 'number') pins.push(...pieces);
            }),
          unpin: ({ which }) => pins.splice(which! % Math.max(1, pins.length), 1)[0]?.unpin(),
          split: ({ which, page }) => {
            const pin = pins[which! % Math.max(1, pins.length)];
            if (pin !== undefined && pin.pages > page! + 1) pins.splice(pins.indexOf(pin), 1, ...pin.split(page! + 1));
          },
          punch: ({ page, count }) => tried(() => kernel.fallocate(fd, PUNCH, BigInt(page! * H), BigInt(count! * H))),
          truncate: ({ page }) => tried(() => kernel.ftruncate(fd, page! * H)),
          allocate: ({ page, count }) =>
            tried(() => kernel.fallocate(fd, count! & 1, BigInt(page! * H), BigInt((count! * H) / 2))),
          resize: ({ page }) => pool.resize(page!),
          overcommit: ({ page }) => {
            pool.overcommit = page! >> 1;
          },
        };
        for (const one of steps) {
          acts[one.do]!(one as never);
          expect(pool.total).toBeGreaterThanOrEqual(pool.free);
          expect(pool.free).toBeGreaterThanOrEqual(0);
        }
        for (const memory of maps) memory.close();
        kernel.close(fd);
        for (const pin of pins) pin.unpin();
        expect(counts(machine)).toEqual([pool.total, pool.total, 0, 0]);
      }),
      { numRuns: 300 },
    );
  });
});
