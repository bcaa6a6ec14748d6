// What an SMMUv3 makes of a guest's context descriptors and tables: as its architecture has it, read.
import { bindDriver, pciDevice, VfioDevice } from 'kvio';
import { describe, expect, it } from 'vitest';
import { at, BLOCK, CD, GPA, guest, IOVA, LEAF, PAGE, registers, S1, TABLE } from './smmuv3-kit.ts';

const [C_BAD_STE, F_STREAM_DISABLED, C_BAD_SUBSTREAMID, C_BAD_CD] = [0x04, 0x06, 0x08, 0x0a];
const [F_TRANSLATION, F_ADDR_SIZE, F_ACCESS, F_PERMISSION] = [0x10, 0x11, 0x12, 0x13];
const [AF, READ_ONLY, UNPRIVILEGED, DBM] = [1n << 10n, 1n << 7n, 1n << 6n, 1n << 51n];

type Scene = ReturnType<typeof guest>;

/** Attached, with what an access to IOVA does: what came of it, and the events. */
function attached(more: Parameters<typeof guest>[0] = {}, first = S1 | GPA, second = 0n) {
  const vm = guest(more);
  vm.attach(first, second);
  const write = (iova = IOVA, pasid?: number): boolean =>
    vm.fn.dma.write(iova, Uint8Array.of(0xa5), pasid === undefined ? {} : { pasid });
  const read = (iova = IOVA, pasid?: number): boolean =>
    vm.fn.dma.read(iova, 1, pasid === undefined ? {} : { pasid }) !== undefined;
  return { ...vm, write, read };
}

/** Tables for `levels`, each a page from the first on, one for each level from `start`; the last descriptor is `leaf`. */
function tables({ ram, gpa }: Scene, granule: number, size: number, iova: bigint, stop: number, leaf: bigint): bigint {
  const stride = granule - 3;
  const start = 4 - Math.ceil((size - granule) / stride);
  const pages = 2 ** (granule - 12);
  const place = (level: number): number => 16 + pages * (level - start);
  for (let level = start; level <= stop; level++) {
    const shift = granule + (3 - level) * stride;
    const width = level === start ? size - shift : stride;
    const index = Number((iova >> BigInt(shift)) & ((1n << BigInt(width)) - 1n));
    ram.write64(place(level) * PAGE + index * 8, level === stop ? leaf : gpa(place(level + 1)) | TABLE);
  }
  return gpa(place(start));
}

describe('tables', () => {
  it('of four levels, of three, of two', () => {
    for (const size of [48, 39, 30, 25]) {
      const vm = attached();
      const iova = IOVA & ((1n << BigInt(size)) - 1n);
      vm.context((CD & ~0x3fn) | BigInt(64 - size), 0, tables(vm, 12, size, iova, 3, vm.gpa(at.data) | LEAF));
      expect([vm.write(iova), vm.ram.read8(at.data * PAGE)]).toEqual([true, 0xa5]);
      expect([vm.write(iova | (1n << BigInt(size))), vm.ids()]).toEqual([false, [F_TRANSLATION]]);
    }
  });

  it('of 16 and 64 KiB', () => {
    for (const [granule, tg] of [
      [14, 2n],
      [16, 1n],
    ] as const) {
      const vm = attached();
      vm.context(CD | (tg << 6n), 0, tables(vm, granule, 48, IOVA, 3, GPA | LEAF));
      expect(vm.write()).toBe(true);
      expect(vm.ram.read8(Number(IOVA & ((1n << BigInt(granule)) - 1n)))).toBe(0xa5);
    }
  });

  it('blocks, where a level has them', () => {
    for (const [granule, tg, level, good] of [
      [12, 0n, 2, true],
      [12, 0n, 1, true],
      [12, 0n, 0, false],
      [14, 2n, 2, true],
      [14, 2n, 1, false],
      [16, 1n, 2, true],
      [16, 1n, 1, false],
      [12, 0n, 3, false],
    ] as const) {
      const vm = attached();
      const shift = BigInt(granule + (3 - level) * (granule - 3));
      const block = GPA & -(1n << shift);
      const iova = (IOVA & -(1n << shift)) | ((GPA + 0x1000n) & ((1n << shift) - 1n));
      vm.context(CD | (tg << 6n), 0, tables(vm, granule, 48, iova, level, block | BLOCK));
      expect([granule, level, vm.write(iova)]).toEqual([granule, level, good]);
      if (good) expect(vm.ram.read8(PAGE)).toBe(0xa5);
      else expect(vm.ids()).toEqual([F_TRANSLATION]);
    }
  });

  it('what lies below a boundary of its table does not count', () => {
    const vm = attached();
    vm.context(CD, 0, vm.gpa(at.tables) | 0xff0n);
    expect(vm.write()).toBe(true);
  });

  it('a transfer over pages, in pieces', () => {
    const { ram, fn, entry, gpa } = attached();
    ram.write64(entry(3, IOVA + 0x1000n), gpa(20) | LEAF);
    const bytes = Uint8Array.from({ length: 600 }, (_, i) => i & 0xff);
    expect(fn.dma.write(IOVA + 0xf00n, bytes)).toBe(true);
    expect([ram.read(at.data * PAGE + 0xf00, 256), ram.read(20 * PAGE, 344)]).toEqual([bytes.slice(0, 256), bytes.slice(256)]);
  });

  it('the upper half has a table of its own', () => {
    const vm = attached();
    const high = 0xffff_0000_0000_0000n | IOVA;
    expect([vm.write(high), vm.ids()]).toEqual([false, [F_TRANSLATION]]);
    vm.context((CD & ~(1n << 30n)) | (16n << 16n) | (2n << 22n) | (1n << 14n));
    vm.ram.write64(at.contexts * PAGE + 16, vm.gpa(at.tables));
    expect([vm.write(high), vm.write(IOVA), vm.ids()]).toEqual([true, false, [F_TRANSLATION]]);
    expect([vm.write(0x00ff_0000_0000_0000n), vm.write(0xfeff_0000_0000_0000n | IOVA), vm.ids()]).toEqual([
      ...[false, false],
      [F_TRANSLATION, F_TRANSLATION],
    ]);
  });

  it('the top byte, where it is ignored', () => {
    const vm = attached();
    const tagged = IOVA | (0xabn << 56n);
    expect(vm.write(tagged)).toBe(false);
    vm.context(CD | (1n << 38n));
    expect([vm.write(tagged), vm.write(tagged | (1n << 50n)), vm.events().at(-1)![2]]).toEqual([
      ...[true, false],
      tagged | (1n << 50n),
    ]);
  });

  it('an address that the second stage has not, or not for this', () => {
    const vm = attached();
    const read = vm.kernel.guestRam(0x10000);
    vm.ioas.map(read, { iova: 0x5000_0000n, flags: 4 });
    vm.ram.write64(vm.entry(3, IOVA), 0x5000_0000n | LEAF);
    expect([vm.read(), vm.write()]).toEqual([true, false]);
    expect([vm.recorded()![0]! & 0xffn, vm.recorded()![3]]).toEqual([BigInt(F_PERMISSION), 0x5000_0000n]);
    // A table there: it can be read, but not be marked.
    vm.context(CD | (1n << 43n), 0, 0x5000_0000n);
    vm.fn.dma.write(IOVA, Uint8Array.of(1));
    expect(vm.ids()).toEqual([F_TRANSLATION]);
  });
});

describe('descriptors', () => {
  const cases: [string, bigint, { read: boolean; write: boolean; event?: number }, bigint?][] = [
    ['not valid', LEAF & ~1n, { read: false, write: false, event: F_TRANSLATION }],
    ['for the privileged', LEAF & ~UNPRIVILEGED, { read: false, write: false, event: F_PERMISSION }],
    ['to read', LEAF | READ_ONLY, { read: true, write: false, event: F_PERMISSION }],
    ['not accessed', LEAF & ~AF, { read: false, write: false, event: F_ACCESS }],
    ['not accessed, which does not matter', LEAF & ~AF, { read: true, write: true }, CD | (1n << 35n)],
    ['clean, and nobody marks it', LEAF | READ_ONLY | DBM, { read: true, write: false, event: F_PERMISSION }],
    [
      'past the context’s addresses',
      LEAF | (1n << 40n),
      { read: false, write: false, event: F_ADDR_SIZE },
      (CD & ~(7n << 32n)) | (2n << 32n),
    ],
  ];
  it.each(cases)('a page that is %s', (_, bits, { read, write, event }, cd = CD) => {
    const vm = attached();
    vm.context(cd);
    vm.ram.write64(vm.entry(3, IOVA), vm.gpa(at.data) | bits);
    expect(vm.read()).toBe(read);
    expect(vm.ids()).toEqual(read ? [] : [event]);
    expect(vm.write()).toBe(write);
    expect(vm.ids()).toEqual(write ? [] : [event]);
  });

  it('what a table says of all below it', () => {
    for (const [bits, read, write] of [
      [1n << 61n, false, false],
      [1n << 62n, true, false],
    ] as const) {
      const vm = attached();
      vm.ram.write64(vm.entry(1, IOVA), vm.gpa(at.tables + 2) | TABLE | bits);
      expect([vm.read(), vm.write()]).toEqual([read, write]);
      vm.ram.write64(at.contexts * PAGE + 8, vm.gpa(at.tables) | 2n);
      expect([vm.read(), vm.write()]).toEqual([true, true]);
    }
  });

  it('a table past the context’s addresses', () => {
    const vm = attached();
    vm.context((CD & ~(7n << 32n)) | (2n << 32n));
    vm.ram.write64(vm.entry(1, IOVA), (1n << 41n) | TABLE);
    expect([vm.write(), vm.ids()]).toEqual([false, [F_ADDR_SIZE]]);
  });

  it('flags that the hardware keeps', () => {
    const vm = attached();
    const leaf = (): bigint => vm.ram.read64(vm.entry(3, IOVA)) & ~vm.gpa(at.data);
    const set = (bits: bigint): void => vm.ram.write64(vm.entry(3, IOVA), vm.gpa(at.data) | bits);
    vm.context(CD | (1n << 43n));
    set(LEAF & ~AF);
    expect([vm.read(), leaf()]).toEqual([true, LEAF]);
    set((LEAF & ~AF) | READ_ONLY | DBM);
    expect([vm.write(), leaf(), vm.ids()]).toEqual([false, (LEAF & ~AF) | READ_ONLY | DBM, [F_PERMISSION]]);
    vm.context(CD | (1n << 43n) | (1n << 42n));
    expect([vm.write(), leaf()]).toEqual([true, LEAF | DBM]);
    // Dirty state alone counts for nothing.
    vm.context(CD | (1n << 42n));
    set(LEAF | READ_ONLY | DBM);
    expect([vm.write(), vm.ids()]).toEqual([false, [F_PERMISSION]]);
  });

  it('tables in a device’s memory are not walked', () => {
    const vm = attached();
    const bdf = '0000:00:08.0';
    bindDriver(vm.kernel, bdf, 'vfio-pci');
    const other = VfioDevice.open(vm.kernel, pciDevice(vm.kernel, bdf).vfio_device!);
    other.bindIommufd({ iommufd: vm.iommufd });
    other.config.setCommand(2);
    const dmabuf = other.getDmaBuf({ region_index: 0, dma_ranges: [{ offset: 0n, length: 0x1000n }] });
    vm.ioas.mapFile(dmabuf, { length: 0x1000n, iova: 0x6000_0000n });
    vm.ram.write64(vm.entry(0, IOVA), 0x6000_0000n | TABLE);
    expect(vm.write()).toBe(false);
    const [word, cause, , ipa] = vm.recorded()!;
    expect([word! & 0xffn, cause]).toEqual([BigInt(F_PERMISSION), (1n << 39n) | (1n << 40n)]);
    expect(ipa).toBe(0x6000_0000n);
  });
});

describe('contexts', () => {
  const bad: [string, bigint, Parameters<typeof guest>[0]?][] = [
    ['not valid', CD & ~(1n << 31n)],
    ['of 32-bit tables', CD & ~(1n << 41n)],
    ['that stalls', CD | (1n << 44n)],
    ['big endian', CD | (1n << 15n)],
    ['of more than 48 bits', (CD & ~0x3fn) | 15n],
    ['of less than 16 bits', (CD & ~0x3fn) | 49n],
    ['of less than 25 bits, where there are no small tables', (CD & ~0x3fn) | 40n, { hwInfo: registers(3, 1 << 9, 0) }],
    ['of a reserved granule', CD | (3n << 6n)],
    ['of a granule it has not', CD | (1n << 6n), { hwInfo: registers(5, 1 << 6, 0) }],
    ['whose faults are answered, where they cannot be', CD & ~(1n << 46n), { hwInfo: registers(0, 0, 1 << 26) }],
    ['of a long ASID, where they are short', CD | (1n << 56n), { hwInfo: registers(0, 1 << 12, 0) }],
    ['that marks, where nothing does', CD | (1n << 43n), { hwInfo: registers(0, 3 << 6, 0) }],
    ['that marks what is dirty, where nothing does', CD | (3n << 42n), { hwInfo: registers(0, 3 << 6, 1 << 6) }],
  ];
  it.each(bad)('C_BAD_CD: one %s', (_, word, machine) => {
    const vm = attached(machine);
    expect(vm.write()).toBe(true);
    vm.context(word);
    expect([vm.write(), vm.events()]).toEqual([false, [[BigInt(C_BAD_CD) | (0x77n << 32n), 0n, 0n, 0n]]]);
  });

  it('C_BAD_CD: a table past its addresses', () => {
    const vm = attached();
    vm.context((CD & ~(7n << 32n)) | (1n << 32n), 0, 1n << 36n);
    expect([vm.write(), vm.ids()]).toEqual([false, [C_BAD_CD]]);
  });

  it('a half that is off is not looked at', () => {
    const vm = attached();
    vm.context((CD & ~0xffn) | (3n << 6n) | (1n << 14n));
    expect([vm.write(), vm.ids()]).toEqual([false, [F_TRANSLATION]]);
  });

  it('faults that nobody records, or that are answered by zeros', () => {
    const vm = attached();
    const none = 0n;
    const read = (iova: bigint) => vm.fn.dma.read(iova, 6);
    vm.context(CD & ~(1n << 45n));
    expect([read(none), vm.ids()]).toEqual([undefined, []]);
    vm.context(CD & ~(1n << 46n));
    expect([read(none), vm.ids()]).toEqual([new Uint8Array(6), [F_TRANSLATION]]);
    expect([vm.write(none), vm.ids()]).toEqual([true, [F_TRANSLATION]]);
    vm.context(CD & ~(3n << 45n));
    expect([read(none), vm.ids()]).toEqual([new Uint8Array(6), []]);
  });

  it('one that stalls, where that can be, is not modelled', () => {
    const vm = attached({ hwInfo: registers(0, 3 << 24, 0) });
    vm.context(CD | (1n << 44n));
    expect(vm.write()).toBe(true);
    expect(() => vm.write(0n)).toThrow(/stall/);
  });

  it('other formats of tables are not modelled', () => {
    const aarch32 = attached({ hwInfo: registers(0, 0, 1 << 2) });
    aarch32.context(CD & ~(1n << 41n));
    expect(() => aarch32.write()).toThrow(/VMSAv8-32/);
    const big = attached({ hwInfo: registers(0, 3 << 21, 0) });
    big.context(CD | (1n << 15n));
    expect(() => big.write()).toThrow(/endian/);
    const large = attached({ hwInfo: registers(5, 0, 1 << 10) });
    large.context((CD & ~0xffn) | 12n | (1n << 6n));
    expect(() => large.write()).toThrow(/52-bit/);
  });
});

describe('substreams', () => {
  const many = (log2: bigint, format = 0n): bigint => S1 | (log2 << 59n) | (format << 4n) | GPA;
  const [TERMINATE, BYPASS, FIRST] = [0n, 1n, 2n];

  it('C_BAD_SUBSTREAMID: there are none, or not so many', () => {
    const one = attached();
    expect([one.write(IOVA, 0), one.write(IOVA, 5)]).toEqual([false, false]);
    expect(one.events()).toEqual(
      [0n, 5n].map((pasid) => [BigInt(C_BAD_SUBSTREAMID) | (pasid << 12n) | (0x77n << 32n), 0n, 0n, 0n]),
    );
    const eight = attached({}, many(3n), FIRST);
    eight.context(CD, 7);
    expect([eight.write(IOVA, 7), eight.write(IOVA, 8), eight.ids()]).toEqual([true, false, [C_BAD_SUBSTREAMID]]);
    const bypass = attached({}, 1n | (4n << 1n));
    expect([bypass.write(GPA, 1), bypass.ids()]).toEqual([false, [C_BAD_SUBSTREAMID]]);
  });

  it('each has a context, and its events say which', () => {
    const vm = attached({}, many(3n), FIRST);
    vm.context(CD, 2, vm.gpa(30));
    expect([vm.write(IOVA), vm.write(IOVA, 2)]).toEqual([true, false]);
    expect(vm.events()).toEqual([[BigInt(F_TRANSLATION) | (1n << 11n) | (2n << 12n) | (0x77n << 32n), 2n << 40n, IOVA, 0n]]);
    expect([vm.write(IOVA, 3), vm.events()[0]![0]! & 0xffff_ffffn]).toEqual([
      false,
      BigInt(C_BAD_CD) | (1n << 11n) | (3n << 12n),
    ]);
  });

  it('an access without one: no way, past the first stage, by the first context', () => {
    for (const dss of [TERMINATE, 3n]) {
      const vm = attached({}, many(3n), dss);
      expect([vm.write(), vm.write(IOVA, 0), vm.ids()]).toEqual([false, true, [F_STREAM_DISABLED]]);
    }
    const past = attached({}, many(3n), BYPASS);
    expect([past.write(GPA + 0x8000n), past.write(IOVA, 0), past.ids()]).toEqual([true, true, []]);
    expect([past.write(1n << 48n), past.ids()]).toEqual([false, [F_ADDR_SIZE]]);
    const first = attached({}, many(3n), FIRST);
    expect([first.write(), first.write(IOVA, 0), first.ids()]).toEqual([true, false, [F_STREAM_DISABLED]]);
  });

  it('tables of two levels', () => {
    for (const [format, bits] of [
      [1n, 6],
      [2n, 10],
    ] as const) {
      const vm = attached({}, many(12n, format), FIRST);
      const pasid = (2 << bits) + 5;
      vm.ram.write64(at.contexts * PAGE, 0n);
      expect([vm.write(IOVA, pasid), vm.ids()]).toEqual([false, [C_BAD_SUBSTREAMID]]);
      vm.ram.write64(at.contexts * PAGE + 2 * 8, vm.gpa(0x20) | 1n);
      vm.ram.write64(0x20 * PAGE + 5 * 64, CD);
      vm.ram.write64(0x20 * PAGE + 5 * 64 + 8, vm.gpa(at.tables));
      expect([vm.write(IOVA, pasid), vm.write(IOVA, pasid + 1), vm.ids()]).toEqual([true, false, [C_BAD_CD]]);
    }
  });

  it('C_BAD_STE: more than the hardware has, two levels it has not, stalls turned off where there are none', () => {
    for (const [machine, first, second] of [
      [{ hwInfo: registers(1, 0x1f << 6, 8 << 6) }, many(9n), FIRST],
      [{ hwInfo: registers(0, 1 << 19, 0) }, many(3n, 1n), FIRST],
      [{}, many(0n), 1n << 27n],
    ] as const) {
      const vm = attached(machine, first, second);
      expect([vm.write(), vm.ids()]).toEqual([false, [C_BAD_STE]]);
    }
  });

  it('none where the hardware has none, whatever the entry says', () => {
    const vm = attached({ hwInfo: registers(1, 0x1f << 6, 0) }, many(3n), TERMINATE);
    expect([vm.write(), vm.write(IOVA, 1), vm.ids()]).toEqual([true, false, [C_BAD_SUBSTREAMID]]);
  });
});
