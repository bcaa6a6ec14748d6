import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Memory } from '../../../src/kernel/memory.ts';
import { type PageRef, PageStore } from '../../../src/sim/mm/pages.ts';
import type { PinnedRange } from '../../../src/sim/mm/pin.ts';
import * as sys from '../../../src/uapi/sys.ts';
import { boot, plainMachine } from '../machine.ts';

const P = 4096;
const RW = sys.PROT_READ | sys.PROT_WRITE;

function pinned(pieces: PinnedRange[] | number): PinnedRange[] {
  if (typeof pieces === 'number') throw new Error(`errno ${-pieces}`);
  return pieces;
}

const load = ({ u8, offset }: PageRef, at = 0): number => u8[offset + at]!;
const store = ({ u8, offset }: PageRef, value: number, at = 0): void => {
  u8[offset + at] = value;
};

describe('mm.pin', () => {
  it('shares pages with the process, in views and out of them', () => {
    const { kernel, process } = boot();
    const fd = kernel.memfd('m');
    kernel.ftruncate(fd, 8 * P);
    const memory = kernel.mmap({ fd, length: 8 * P });
    const [pin] = pinned(process.mm.pin(memory.address, 8 * P, true));
    expect(pin!.pages).toBe(8);
    memory.bytes![3 * P] = 5;
    expect(load(pin!.ref(3))).toBe(5);
    store(pin!.ref(3), 6, 1);
    expect(memory.bytes![3 * P + 1]).toBe(6);
    memory.close();
    expect(load(pin!.ref(3))).toBe(5);
    const again = kernel.mmap({ fd, length: 8 * P });
    expect(again.bytes![3 * P + 1]).toBe(6);
    store(pin!.ref(3), 7);
    expect(again.bytes![3 * P]).toBe(7);
    pin!.unpin();
  });

  const lose: Record<string, (kernel: ReturnType<typeof boot>['kernel'], fd: number, memory: Memory) => void> = {
    'a punched hole': (kernel, fd) =>
      kernel.fallocate(fd, sys.FALLOC_FL_PUNCH_HOLE | sys.FALLOC_FL_KEEP_SIZE, BigInt(P), BigInt(2 * P)),
    truncation: (kernel, fd) => {
      kernel.ftruncate(fd, P);
      kernel.ftruncate(fd, 8 * P);
    },
    MADV_REMOVE: (kernel, _fd, memory) => kernel.madvise(memory, sys.MADV_REMOVE, { offset: P, length: 2 * P }),
  };
  for (const [name, how] of Object.entries(lose)) {
    it(`${name} takes the page from the file, not from the device`, () => {
      const { kernel, process } = boot();
      const fd = kernel.memfd('m');
      kernel.ftruncate(fd, 8 * P);
      const memory = kernel.mmap({ fd, length: 8 * P });
      memory.bytes!.fill(9);
      const [first] = pinned(process.mm.pin(memory.address, 8 * P, true));
      const [second] = pinned(process.mm.pin(memory.address + BigInt(P), P, false));
      how(kernel, fd, memory);
      expect(memory.bytes![P]).toBe(0);
      expect(load(first!.ref(1))).toBe(9);
      store(first!.ref(1), 4);
      expect(load(second!.ref(0))).toBe(4);
      expect(memory.bytes![P]).toBe(0);
      memory.bytes![P] = 3;
      const [third] = pinned(process.mm.pin(memory.address + BigInt(P), P, false));
      expect([load(first!.ref(1)), load(second!.ref(0)), load(third!.ref(0))]).toEqual([4, 4, 3]);
      // What the file never lost is still shared.
      memory.bytes![0] = 8;
      expect(load(first!.ref(0))).toBe(8);
    });
  }

  it('anonymous memory lives on while it is pinned', () => {
    const { kernel, process } = boot();
    const ram = kernel.mmap({ length: 4 * P, prot: RW, flags: sys.MAP_PRIVATE | sys.MAP_ANONYMOUS });
    ram.bytes!.fill(2);
    const [pin] = pinned(process.mm.pin(ram.address, 4 * P, true));
    kernel.madvise(ram, sys.MADV_DONTNEED, { offset: 0, length: P });
    expect([ram.bytes![0], load(pin!.ref(0))]).toEqual([0, 2]);
    ram.close();
    expect(load(pin!.ref(3))).toBe(2);
    store(pin!.ref(3), 1);
    expect(load(pin!.ref(3))).toBe(1);
  });

  it('a private mapping is unshared from its file by a pin for reading', () => {
    const { kernel, process } = boot();
    const fd = kernel.memfd('m');
    kernel.ftruncate(fd, P);
    kernel.pwrite(fd, new Uint8Array([7]), 0);
    const memory = kernel.mmap({ fd, length: P, flags: sys.MAP_PRIVATE });
    const [pin] = pinned(process.mm.pin(memory.address, P, false));
    expect(load(pin!.ref(0))).toBe(7);
    kernel.pwrite(fd, new Uint8Array([8]), 0);
    expect(load(pin!.ref(0))).toBe(7);
    memory.write(0, new Uint8Array([9]));
    expect(load(pin!.ref(0))).toBe(9);
    memory.close();
    expect(load(pin!.ref(0))).toBe(9);
  });

  it('asks for the protection, and takes nothing where a page is missing', () => {
    const { kernel, process } = boot();
    const readable = kernel.mmap({ length: 2 * P, prot: sys.PROT_READ, flags: sys.MAP_PRIVATE | sys.MAP_ANONYMOUS });
    const none = kernel.mmap({ length: P, prot: sys.PROT_NONE, flags: sys.MAP_PRIVATE | sys.MAP_ANONYMOUS });
    const { mm } = process;
    expect(mm.pin(readable.address, P, true)).toBe(-sys.EFAULT);
    expect(pinned(mm.pin(readable.address, P, false))).toHaveLength(1);
    expect(mm.pin(none.address, P, false)).toBe(-sys.EFAULT);
    expect(mm.pin(1n << 63n, P, false)).toBe(-sys.EFAULT);
    const fd = kernel.memfd('m');
    kernel.ftruncate(fd, P);
    const long = kernel.mmap({ fd, length: 2 * P, prot: RW, flags: sys.MAP_SHARED });
    expect(mm.pin(long.address, 2 * P, true)).toBe(-sys.EFAULT);
    expect(pinned(mm.pin(long.address + BigInt(P - 1), 1, true))[0]!.pages).toBe(1);
  });

  it('a pin allocates: blocks of a file are counted, long ranges cost nothing', () => {
    const { kernel, process } = boot();
    const fd = kernel.memfd('m');
    const pages = 2 ** 20;
    kernel.ftruncate(fd, pages * P);
    const memory = kernel.mmap({ fd, length: pages * P, prot: RW, flags: sys.MAP_SHARED, view: false });
    const before = performance.now();
    const [pin] = pinned(process.mm.pin(memory.address, pages * P, true));
    expect(kernel.fstat(fd).blocks).toBe(BigInt(pages * 8));
    store(pin!.ref(pages - 1), 3);
    expect(kernel.fstat(fd).blocks).toBe(BigInt(pages * 8));
    kernel.fallocate(fd, sys.FALLOC_FL_PUNCH_HOLE | sys.FALLOC_FL_KEEP_SIZE, 0n, BigInt(pages * P));
    expect(kernel.fstat(fd).blocks).toBe(0n);
    expect(load(pin!.ref(pages - 1))).toBe(3);
    pin!.unpin();
    expect(performance.now() - before).toBeLessThan(2000);
  });

  it('counts locked pages against RLIMIT_MEMLOCK, with those of MAP_LOCKED', () => {
    const { kernel, process } = boot({ machine: { limits: { ...plainMachine.limits, memlock: 8 * P } } });
    const { mm } = process;
    expect(mm.chargeLocked(6)).toBe(0);
    const locked = kernel.mmap({ length: 2 * P, flags: sys.MAP_PRIVATE | sys.MAP_ANONYMOUS | sys.MAP_LOCKED });
    expect(mm.lockedVm).toBe(8);
    expect(mm.chargeLocked(1)).toBe(-sys.ENOMEM);
    locked.close();
    expect(mm.chargeLocked(1)).toBe(0);
    mm.unchargeLocked(7);
    expect(mm.lockedVm).toBe(0);
  });
});

describe('PageStore.pin', () => {
  it('agrees with a model in which every page is an object', () => {
    const pages = 200;
    const span = fc
      .tuple(fc.nat(pages - 1), fc.integer({ min: 1, max: 80 }))
      .map(([first, length]) => [first, Math.min(pages, first + length)] as const);
    const step = fc.oneof(
      fc.record({ kind: fc.constant('pin' as const), span }),
      fc.record({ kind: fc.constant('unpin' as const), which: fc.nat() }),
      fc.record({ kind: fc.constant('punch' as const), span }),
      fc.record({ kind: fc.constant('store' as const), page: fc.nat(pages - 1), value: fc.integer({ min: 1, max: 255 }) }),
      fc.record({ kind: fc.constant('dma' as const), which: fc.nat(), page: fc.nat(), value: fc.integer({ min: 1, max: 255 }) }),
      fc.record({ kind: fc.constant('view' as const), span }),
      fc.record({ kind: fc.constant('unview' as const), which: fc.nat() }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const real = new PageStore(pages);
        let model: { value: number }[] = Array.from({ length: pages }, () => ({ value: 0 }));
        const pins: { pin: PinnedRange; pages: { value: number }[] }[] = [];
        const views: (readonly [number, number])[] = [];
        for (const one of steps) {
          if (one.kind === 'pin') {
            const [first, end] = one.span;
            pins.push({ pin: real.pin(first, end - first), pages: model.slice(first, end) });
          } else if (one.kind === 'unpin' && pins.length > 0) pins.splice(one.which % pins.length, 1)[0]!.pin.unpin();
          else if (one.kind === 'punch') {
            const [first, end] = one.span;
            real.punch(first * P, end * P);
            model = model.map((page, index) => (index >= first && index < end ? { value: 0 } : page));
          } else if (one.kind === 'store') {
            store(real.page(one.page, true)!, one.value);
            model[one.page]!.value = one.value;
          } else if (one.kind === 'dma' && pins.length > 0) {
            const { pin, pages: own } = pins[one.which % pins.length]!;
            store(pin.ref(one.page % own.length), one.value);
            own[one.page % own.length]!.value = one.value;
          } else if (one.kind === 'view') {
            const [first, end] = one.span;
            if (real.openView(first, end - first) !== undefined) views.push(one.span);
          } else if (one.kind === 'unview' && views.length > 0) {
            const [first, end] = views.splice(one.which % views.length, 1)[0]!;
            real.closeView(first, end - first);
          }
          for (const { pin, pages: own } of pins) {
            for (const index of [0, own.length >> 1, own.length - 1]) expect(load(pin.ref(index))).toBe(own[index]!.value);
          }
        }
        for (const [index, page] of model.entries()) expect(load(real.page(index, false)!)).toBe(page.value);
        for (const { pin, pages: own } of pins)
          for (const [index, page] of own.entries()) expect(load(pin.ref(index))).toBe(page.value);
      }),
      { numRuns: 200 },
    );
  });

  it('takes many pages one by one', () => {
    const store = new PageStore(2 ** 30);
    const before = performance.now();
    const pins = Array.from({ length: 300_000 }, (_, page) => store.pin(page * 3, 1));
    for (const pin of pins) pin.unpin();
    expect(performance.now() - before).toBeLessThan(10_000);
    expect(store.has(899_997)).toBe(true);
    expect(store.has(1)).toBe(false);
  });
});
