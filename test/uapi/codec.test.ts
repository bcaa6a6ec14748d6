import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as u from '../../src/uapi/index.ts';
import type { Struct } from '../../src/uapi/struct.ts';
import { allStructs, anyValue, bytesOf, memberMask } from './structs.ts';

const flexLength = (struct: Struct<unknown>): number => struct.size + (struct.flexible ? 96 : 0);

describe('every struct', () => {
  test.each(allStructs)('%s: what was encoded is decoded again', (_name, struct) => {
    fc.assert(
      fc.property(anyValue(struct), (value) => {
        const bytes = struct.encode(value as never);
        const decoded = struct.decode(bytes) as Record<string, unknown>;
        const again = struct.encode(decoded as never);
        if (!isDeepStrictEqual(again.subarray(0, struct.size), bytes.subarray(0, struct.size))) throw new Error('other bytes');
        if (!struct.flexible && !isDeepStrictEqual(struct.decode(again), decoded)) throw new Error('other fields');
      }),
      { numRuns: struct.size > 1024 ? 5 : 25 },
    );
  });

  test.each(allStructs)('%s: what was decoded is encoded again, but for holes', (_name, struct) => {
    fc.assert(
      fc.property(bytesOf(flexLength(struct)), (bytes) => {
        const again = struct.encode(struct.decode(bytes) as never);
        const mask = memberMask(struct, Math.min(bytes.length, again.length));
        for (let i = 0; i < mask.length; i++) {
          if ((bytes[i]! & mask[i]!) !== (again[i]! & mask[i]!)) throw new Error(`byte ${i}: ${bytes[i]} became ${again[i]}`);
        }
      }),
      { numRuns: struct.size > 1024 ? 5 : 25 },
    );
  });

  test.each(allStructs)('%s: a view says what decode says, and writes what encode writes', (_name, struct) => {
    fc.assert(
      fc.property(bytesOf(struct.size), anyValue(struct), (bytes, value) => {
        const text = (x: unknown) => JSON.stringify(x, (_key, v: unknown) => (typeof v === 'bigint' ? `${v}n` : v));
        const shared = new Uint8Array(new SharedArrayBuffer(struct.size + 16));
        shared.set(bytes, 16);
        const view = struct.view(shared, 16) as Record<string, unknown>;
        const decoded = struct.decode(bytes) as typeof view;
        for (const { name, flex } of struct.fields) {
          if (!flex && text(view[name]) !== text(decoded[name])) throw new Error(`${name}: ${text(view[name])}`);
        }
        if (struct.flexible) return;
        for (const { name } of struct.fields) if (value[name] !== undefined) view[name] = value[name];
        const written = struct.decode(struct.encode(value as never)) as typeof view;
        const now = struct.decode(shared.slice(16)) as typeof view;
        for (const { name } of struct.fields) {
          if (value[name] !== undefined && text(now[name]) !== text(written[name]))
            throw new Error(`${name}: ${text(now[name])}`);
        }
      }),
      { numRuns: struct.size > 1024 ? 3 : 10 },
    );
  });

  test.each(allStructs)('%s: each field left out is a TypeError that names it', (name, struct) => {
    const [value] = fc.sample(anyValue(struct), { numRuns: 1, seed: 1 }) as [Record<string, unknown>];
    for (const field of struct.fields) {
      if (value[field.name] === undefined || field.pad) continue;
      const { [field.name]: _gone, ...rest } = value;
      if (field.union === undefined)
        expect(() => struct.encode(rest as never)).toThrow(`${name.replace('arm64.', '')}.${field.name} is missing`);
    }
    for (const field of struct.fields.filter(({ pad, union }) => pad && union === undefined)) {
      const { [field.name]: _gone, ...rest } = value;
      const bytes = struct.encode(rest as never);
      expect(bytes.subarray(field.offset, field.offset + field.size).every((byte) => byte === 0)).toBe(true);
    }
  });
});

describe('values that do not fit', () => {
  const level = { irq: 1, level: 1 };
  const cases: [string, () => unknown, new (m: string) => Error, RegExp][] = [
    [
      'number for u64',
      () => u.kvm_msr_entry.encode({ index: 1, data: 1 as never }),
      TypeError,
      /kvm_msr_entry\.data is __u64: a bigint is needed, not number 1/,
    ],
    [
      'bigint for u32',
      () => u.kvm_irq_level.encode({ ...level, level: 1n as never }),
      TypeError,
      /kvm_irq_level\.level is __u32: a number is needed/,
    ],
    ['NaN', () => u.kvm_irq_level.encode({ ...level, level: Number.NaN }), TypeError, /kvm_irq_level\.level/],
    ['fraction', () => u.kvm_irq_level.encode({ ...level, level: 1.5 }), RangeError, /1\.5 is not an integer/],
    ['infinity', () => u.kvm_irq_level.encode({ ...level, level: Number.POSITIVE_INFINITY }), RangeError, /Infinity/],
    ['2^32', () => u.kvm_irq_level.encode({ ...level, level: 2 ** 32 }), RangeError, /4294967296 is outside 0\.\.4294967295/],
    ['negative', () => u.kvm_irq_level.encode({ ...level, level: -1 }), RangeError, /-1 is outside/],
    ['2^64', () => u.kvm_msr_entry.encode({ index: 1, data: 1n << 64n }), RangeError, /18446744073709551616n is outside/],
    ['string', () => u.kvm_irq_level.encode({ ...level, level: '1' as never }), TypeError, /not string 1/],
    [
      'u8 256',
      () => u.kvm_segment.encode({ ...u.kvm_segment.decode(u.kvm_segment.alloc()), g: 256 }),
      RangeError,
      /kvm_segment\.g is __u8: 256 is outside 0\.\.255/,
    ],
    [
      'nested',
      () =>
        u.kvm_sregs.encode({
          ...u.kvm_sregs.decode(u.kvm_sregs.alloc()),
          cs: { ...u.kvm_segment.decode(u.kvm_segment.alloc()), limit: -1 },
        }),
      RangeError,
      /kvm_sregs\.cs\.limit/,
    ],
    [
      'element',
      () => u.kvm_sregs.encode({ ...u.kvm_sregs.decode(u.kvm_sregs.alloc()), interrupt_bitmap: [0n, 0n, 1 as never, 0n] }),
      TypeError,
      /kvm_sregs\.interrupt_bitmap\[2\]/,
    ],
    [
      'array too short',
      () => u.kvm_sregs.encode({ ...u.kvm_sregs.decode(u.kvm_sregs.alloc()), interrupt_bitmap: [0n] }),
      RangeError,
      /interrupt_bitmap is __u64\[4\]: 1 elements/,
    ],
    [
      'array for bytes',
      () => u.kvm_lapic_state.encode({ regs: new Array(1024).fill(0) as never }),
      TypeError,
      /kvm_lapic_state\.regs.*Uint8Array/,
    ],
    ['bytes of wrong length', () => u.kvm_lapic_state.encode({ regs: new Uint8Array(1023) }), RangeError, /1023/],
    [
      'unknown key',
      () => u.kvm_irq_level.encode({ ...level, levle: 1 } as never),
      TypeError,
      /kvm_irq_level has no field levle: did you mean level\?/,
    ],
    [
      'no union member',
      () => u.kvm_irq_level.encode({ level: 1 } as never),
      TypeError,
      /one member of the union is needed: irq, status/,
    ],
    [
      'union members that disagree',
      () => u.kvm_irq_level.encode({ ...level, status: 2 }),
      TypeError,
      /irq and status disagree at byte 0/,
    ],
    ['no object', () => u.kvm_irq_level.encode(null as never), TypeError, /kvm_irq_level: an object/],
    ['no array', () => u.kvm_msrs.encode({ nmsrs: 0 } as never), TypeError, /kvm_msrs\.entries is missing/],
    ['short bytes', () => u.kvm_regs.decode(new Uint8Array(143)), RangeError, /kvm_regs is 144 bytes, 143 bytes were given/],
    ['no bytes', () => u.kvm_regs.decode([] as never), TypeError, /ArrayBufferView/],
    ['no room', () => u.kvm_irq_level.encode(level, new Uint8Array(12), 5), RangeError, /needs 8 bytes at 5/],
    ['no such path', () => u.kvm_run.offsetOf('io.ports'), RangeError, /kvm_run has no member io\.ports/],
    ['no flexible array', () => u.kvm_regs.alloc(1), RangeError, /no flexible array/],
    [
      'view, out of range',
      () => Object.assign(u.kvm_irq_level.view(new Uint8Array(8)), { level: -1 }),
      RangeError,
      /kvm_irq_level\.level/,
    ],
    ['view, beyond an array', () => (u.kvm_sregs.view(u.kvm_sregs.alloc()).interrupt_bitmap[4] = 0n), RangeError, /4 elements/],
  ];
  test.each(cases)('%s', (_what, run, kind, message) => {
    expect(run).toThrow(kind);
    expect(run).toThrow(message);
  });

  test('an error leaves the buffer as it was', () => {
    const into = new Uint8Array(8).fill(7);
    expect(() => u.kvm_irq_level.encode({ irq: 1, level: -1 }, into)).toThrow(RangeError);
    expect(into).toEqual(new Uint8Array(8).fill(7));
  });
});

describe('shapes', () => {
  test('flexible arrays hold what the count says, never more than the bytes', () => {
    const entry = (index: number) => ({ index, reserved: 0, data: BigInt(index) });
    const bytes = u.kvm_msrs.encode({ nmsrs: 2, entries: [entry(1), entry(2), entry(3)] });
    expect(bytes.length).toBe(8 + 3 * 16);
    expect(u.kvm_msrs.decode(bytes).entries).toEqual([entry(1), entry(2)]);
    new DataView(bytes.buffer).setUint32(0, 100, true);
    expect(u.kvm_msrs.decode(bytes).entries).toEqual([entry(1), entry(2), entry(3)]);
    expect(u.kvm_msrs.decode(bytes.subarray(0, 30)).entries).toEqual([entry(1)]);
    expect(u.kvm_msrs.alloc(5).length).toBe(88);
  });

  test('byte counts: argsz less the header', () => {
    const bytes = u.vfio_irq_set.encode({ argsz: 24, flags: 0, index: 0, start: 0, count: 1, data: Uint8Array.of(1, 2, 3, 4) });
    expect(u.vfio_irq_set.decode(Uint8Array.of(...bytes, 9, 9)).data).toEqual(Uint8Array.of(1, 2, 3, 4));
  });

  test('kvm_run: promoted union members, nested paths', () => {
    expect(u.kvm_run.offsetOf('io.port')).toBe(34);
    expect(u.kvm_run.offsetOf('mmio.data')).toBe(u.kvm_run.offsetOf('mmio') + 8);
    expect(u.kvm_run.sizeOf('internal.data[3]')).toBe(8);
    expect(u.kvm_run.offsetOf('internal.data[3]')).toBe(u.kvm_run.offsetOf('internal.data') + 24);
    const run = u.kvm_run.view(new Uint8Array(new SharedArrayBuffer(4096)));
    run.exit_reason = u.KVM_EXIT_IO;
    run.io.port = 0x3f8;
    run.io.data_offset = 4096n;
    expect(run.io.port).toBe(0x3f8);
    expect(run.mmio.phys_addr & 0xffff0000n).toBe(0x3f80000n);
    run.internal.data[15] = 5n;
    expect([...run.internal.data].at(-1)).toBe(5n);
  });

  test('bit-fields', () => {
    const chip = u.kvm_ioapic_state.view(u.kvm_ioapic_state.alloc());
    const fields = chip.redirtbl[1]!.fields;
    fields.mask = 1;
    fields.delivery_mode = 7;
    expect(chip.redirtbl[1]!.bits).toBe((1n << 16n) | (7n << 8n));
    expect(() => (fields.delivery_mode = 8)).toThrow(/0\.\.7/);
  });

  test('128-bit registers of arm64', () => {
    const fp = u.arm64.user_fpsimd_state;
    const value = fp.decode(fp.alloc());
    value.vregs[3] = (1n << 127n) | 5n;
    expect(fp.decode(fp.encode(value)).vregs[3]).toBe((1n << 127n) | 5n);
  });

  test('padding given is kept', () => {
    expect(
      u.kvm_segment.decode(u.kvm_segment.encode({ ...u.kvm_segment.decode(u.kvm_segment.alloc()), padding: 9 })).padding,
    ).toBe(9);
  });
});

describe('ioc', () => {
  test('takes words apart and puts them together', () => {
    fc.assert(
      fc.property(fc.nat(3), fc.nat(255), fc.nat(255), fc.nat(0x3fff), (dir, type, nr, size) => {
        const word = u._IOC(dir, type, nr, size);
        expect(word).toBeGreaterThanOrEqual(0);
        expect([u._IOC_DIR(word), u._IOC_TYPE(word), u._IOC_NR(word), u._IOC_SIZE(word)]).toEqual([dir, type, nr, size]);
      }),
    );
    expect(u._IOR(0xae, 0x81, 144)).toBe(u.KVM_GET_REGS);
    expect(u._IO(';', 0x80)).toBe(u.IOMMU_DESTROY);
    expect(() => u._IOC(0, 0, 256, 0)).toThrow(/nr 256 does not fit 8 bits/);
    expect(u.describeRequest(u.KVM_GET_REGS)).toBe('_IOR(0xae, 0x81, 144)');
    expect(u.describeRequest(u.IOMMU_DESTROY)).toBe("_IO(';', 0x80)");
  });
});
