import { describe, expect, test } from 'vitest';
import { decodeInterfaceReport } from '../../../../src/sim/hardware/tdisp/report.ts';
import { TDISP_MMIO } from '../../../../src/sim/hardware/tdisp/vocabulary.ts';
import { TSM_OBJECT } from '../../../../src/sim/hardware/tsm/requests.ts';
import type { TeeIo } from '../../../../src/sim/hardware/tsm/switches.ts';
import { VDEV_STATE, vdevState } from '../../../../src/sim/hardware/tsm/vdev.ts';
import { ERROR, LOCKED, PAGE, RUN, UNLOCKED, type World, world } from './kit.ts';

const EIO = -5;
const ENXIO = -6;
const EINVAL = -22;
const GPA = 0x40_0000n;
const VENDORS: readonly TeeIo['vendor'][] = ['sim', 'tdx', 'sev', 'cca'];

const read = (one: World, object: number, offset = 0n, length = 4096) => one.ask({ op: 'read-object', object, offset, length });

function whole(one: World, object: number, piece: number): Uint8Array {
  const { response } = one.ask({ op: 'object-info', object });
  const size = new DataView(response.buffer).getUint32(0, true);
  const bytes: number[] = [];
  while (bytes.length < size) bytes.push(...read(one, object, BigInt(bytes.length), piece).response);
  expect(bytes.length).toBe(size);
  return Uint8Array.from(bytes);
}

describe('states the guest asks for', () => {
  const cases: readonly (readonly [from: number, to: number, errno: number, after: number, code: number])[] = [
    [LOCKED, LOCKED, EINVAL, LOCKED, 0],
    [LOCKED, RUN, 0, RUN, 0],
    [LOCKED, UNLOCKED, 0, UNLOCKED, 0],
    [LOCKED, 3, EINVAL, LOCKED, 0],
    [RUN, LOCKED, EINVAL, RUN, 0],
    [RUN, RUN, EINVAL, RUN, 0],
    [RUN, UNLOCKED, 0, UNLOCKED, 0],
    [ERROR, RUN, EIO, ERROR, 4],
    [ERROR, UNLOCKED, 0, UNLOCKED, 0],
  ];
  test.each(
    VENDORS.flatMap((vendor) => cases.map((one) => [vendor, ...one] as const)),
  )('%s: from %i to %i', (vendor, from, to, errno, after, code) => {
    const { tdi, ask, enter } = world({ vendor });
    enter(from);
    expect(ask({ op: 'set-tdi-state', state: to })).toEqual({ errno, code, response: new Uint8Array(0) });
    expect(tdi.tdi.state).toBe(after);
    expect(tdi.binding).toBeDefined();
  });

  test('to lock is the guest\u2019s business where the vendor says so', () => {
    for (const [vendor, errno] of [
      ['sim', 0],
      ['cca', 0],
      ['tdx', EINVAL],
      ['sev', EINVAL],
    ] as const) {
      const { set, enter } = world({ vendor });
      enter(LOCKED);
      set(UNLOCKED);
      expect(set(LOCKED), vendor).toBe(errno);
    }
    const { enter, ask } = world({ vendor: 'cca' });
    enter(ERROR);
    expect(ask({ op: 'set-tdi-state', state: LOCKED })).toMatchObject({ errno: EIO, code: 4 });
  });

  test('unbound there is nobody to ask', () => {
    const { set, ask, binding, tdi } = world();
    expect(set(LOCKED)).toBe(ENXIO);
    tdi.bind(binding());
    tdi.unbind();
    expect(ask({ op: 'object-info', object: TSM_OBJECT.CERT }).errno).toBe(ENXIO);
  });

  test('cca: not locked by BIND, not started before it is locked', () => {
    const { tdi, set, enter } = world({ vendor: 'cca' });
    expect(vdevState(tdi)).toBeUndefined();
    enter(UNLOCKED);
    expect(vdevState(tdi)).toBe(VDEV_STATE.UNLOCKED);
    expect(set(RUN)).toBe(EINVAL);
    expect(set(LOCKED)).toBe(0);
    expect(vdevState(tdi)).toBe(VDEV_STATE.LOCKED);
    expect(set(RUN)).toBe(0);
    expect(vdevState(tdi)).toBe(VDEV_STATE.STARTED);
    expect(tdi.dmaEnabled).toBe(true);
    tdi.tdi.happens('flr');
    expect(vdevState(tdi)).toBe(VDEV_STATE.ERROR);
  });
});

describe('evidence', () => {
  test('in pieces of any size', () => {
    const one = world().enter(LOCKED);
    for (const object of Object.values(TSM_OBJECT)) {
      const all = read(one, object).response;
      expect(all.length).toBeGreaterThan(16);
      for (const piece of [1, 7, 64, 4096]) expect(whole(one, object, piece)).toEqual(all);
      expect(read(one, object, BigInt(all.length))).toMatchObject({ errno: 0, response: new Uint8Array(0) });
      expect(read(one, object, BigInt(all.length + 1)).errno).toBe(EINVAL);
    }
    expect(read(one, 4).errno).toBe(EINVAL);
    expect(one.ask({ op: 'object-info', object: 9 }).errno).toBe(EINVAL);
  });

  test('the report: BAR 0 but for the host\u2019s pages, and BAR 2', () => {
    const one = world().enter(LOCKED);
    const report = decodeInterfaceReport(whole(one, TSM_OBJECT.REPORT, 30));
    const { MSIX_TABLE, MSIX_PBA, IS_NON_TEE_MEM } = TDISP_MMIO;
    expect(report.ranges).toEqual([
      { rangeId: 0, firstPage: one.bar0 / PAGE, pages: 2, attributes: 0 },
      { rangeId: 0, firstPage: one.bar0 / PAGE + 2n, pages: 1, attributes: MSIX_TABLE | IS_NON_TEE_MEM },
      { rangeId: 0, firstPage: one.bar0 / PAGE + 3n, pages: 1, attributes: MSIX_PBA | IS_NON_TEE_MEM },
      { rangeId: 2, firstPage: one.bar2 / PAGE, pages: 16, attributes: 0 },
    ]);
  });

  test('there is no report before LOCK, nor after STOP; in ERROR the host has what it had', () => {
    const one = world({ vendor: 'cca' }).enter(UNLOCKED);
    expect(read(one, TSM_OBJECT.REPORT).errno).toBe(EINVAL);
    expect(one.ask({ op: 'regen-object', object: TSM_OBJECT.REPORT, flags: 0n }).errno).toBe(EINVAL);
    one.set(LOCKED);
    const report = read(one, TSM_OBJECT.REPORT).response;
    expect(one.ask({ op: 'regen-object', object: TSM_OBJECT.REPORT, flags: 0n }).errno).toBe(0);
    one.tdi.tdi.happens('flr');
    expect(read(one, TSM_OBJECT.REPORT).response).toEqual(report);
    expect(one.ask({ op: 'regen-object', object: TSM_OBJECT.REPORT, flags: 0n }).errno).toBe(EINVAL);
    one.set(UNLOCKED);
    expect(read(one, TSM_OBJECT.REPORT).errno).toBe(EINVAL);
  });

  test('LOCK measures anew: the configuration is in it', () => {
    const one = world({ vendor: 'cca' }).enter(UNLOCKED);
    const before = read(one, TSM_OBJECT.MEASUREMENT).response;
    one.set(LOCKED);
    const after = read(one, TSM_OBJECT.MEASUREMENT).response;
    expect(after.length).toBe(before.length);
    expect(after).not.toEqual(before);
  });

  test('measurements carry the nonce, and tell another firmware from this one', () => {
    const one = world().enter(LOCKED);
    const before = read(one, TSM_OBJECT.MEASUREMENT).response;
    const nonce = new Uint8Array(32).fill(0xa5);
    expect(one.ask({ op: 'regen-object', object: TSM_OBJECT.MEASUREMENT, nonce, flags: 1n }).errno).toBe(0);
    const after = read(one, TSM_OBJECT.MEASUREMENT).response;
    expect(after.slice(-34, -2)).toEqual(nonce);
    expect(after.slice(0, -34)).toEqual(before.slice(0, -34));
    one.tdi.evidence.firmware = '1.1';
    expect(one.ask({ op: 'regen-object', object: TSM_OBJECT.MEASUREMENT, nonce, flags: 0n }).errno).toBe(0);
    expect(read(one, TSM_OBJECT.MEASUREMENT).response).not.toEqual(after);
    for (const wrong of [
      { object: TSM_OBJECT.MEASUREMENT, nonce: new Uint8Array(31), flags: 0n },
      { object: TSM_OBJECT.MEASUREMENT, flags: 2n },
      { object: TSM_OBJECT.CERT, flags: 0n },
      { object: TSM_OBJECT.VCA, flags: 0n },
    ])
      expect(one.ask({ op: 'regen-object', ...wrong }).errno).toBe(EINVAL);
  });
});

describe('MMIO the guest accepts', () => {
  test.each(VENDORS)('%s: pages of a range of the report', (vendor) => {
    const one = world({ vendor }).enter(LOCKED);
    one.vm.mapMmio(GPA, one.bar0, 4);
    one.vm.mapMmio(GPA + 0x10000n, one.bar2 + PAGE, 15);
    expect(one.validate(GPA, one.bar0, 2)).toMatchObject({ errno: 0, code: 0 });
    expect(one.validate(GPA + 0x10000n, one.bar2 + PAGE, 15)).toMatchObject({ errno: 0 });
    expect(one.tdi.accepted).toEqual(
      [
        { op: 'validate-mmio', gpaBase: GPA, gpaTop: GPA + 2n * PAGE, paBase: one.bar0 },
        { op: 'validate-mmio', gpaBase: GPA + 0x10000n, gpaTop: GPA + 0x1f000n, paBase: one.bar2 + PAGE },
      ].map(({ op: _, ...range }) => range),
    );
    one.set(RUN);
    expect(one.tdi.accepted.length).toBe(2);
    one.set(UNLOCKED);
    expect(one.tdi.accepted).toEqual([]);
  });

  test.each(VENDORS)('%s: what is no such range is refused', (vendor) => {
    const one = world({ vendor }).enter(LOCKED);
    const notInReport = { errno: EINVAL, code: 8 };
    expect(one.validate(GPA, one.bar0, 3)).toMatchObject(notInReport);
    expect(one.validate(GPA, one.bar0 + 2n * PAGE)).toMatchObject(notInReport);
    expect(one.validate(GPA, one.bar2 - PAGE, 2)).toMatchObject(notInReport);
    expect(one.validate(GPA, one.bar2, 17)).toMatchObject(notInReport);
    expect(one.validate(GPA, one.bar0, 0)).toMatchObject({ errno: EINVAL, code: 0 });
    expect(one.validate(GPA + 1n, one.bar0)).toMatchObject({ errno: EINVAL, code: 0 });
    expect(one.validate(GPA, one.bar0 + 1n)).toMatchObject({ errno: EINVAL, code: 0 });
    expect(one.tdi.accepted).toEqual([]);
  });

  test.each(VENDORS)('%s: asked a thousand times, it is what it was; a page is accepted at one place', (vendor) => {
    const one = world({ vendor }).enter(LOCKED);
    for (let i = 0; i < 1000; i++) {
      const gpa = GPA + BigInt(i % 50) * 0x10000n;
      one.vm.mapMmio(gpa, one.bar2, 4);
      expect(one.validate(gpa, one.bar2, 4).errno).toBe(0);
      expect(one.validate(gpa + PAGE, one.bar2 + PAGE, 1).errno).toBe(0);
      expect(one.tdi.accepted).toEqual([{ gpaBase: gpa, gpaTop: gpa + 4n * PAGE, paBase: one.bar2 }]);
    }
  });

  test('before LOCK there is no report', () => {
    const one = world({ vendor: 'cca' }).enter(UNLOCKED);
    one.vm.mapMmio(GPA, one.bar0, 1);
    expect(one.validate(GPA, one.bar0)).toMatchObject({ errno: EINVAL });
    one.set(LOCKED);
    expect(one.validate(GPA, one.bar0)).toMatchObject({ errno: 0 });
  });

  test('sev and cca: only where all frames are the guest\u2019s already, and have these pages', () => {
    for (const [vendor, refused] of [
      ['sim', false],
      ['tdx', false],
      ['sev', true],
      ['cca', true],
    ] as const) {
      const one = world({ vendor }).enter(LOCKED);
      const answer = (code: number): object => (refused ? { errno: EINVAL, code } : { errno: 0, code: 0 });
      one.vm.mapMmio(GPA, one.bar0, 1);
      one.vm.mapMmio(GPA + PAGE, one.bar0, 1);
      expect(one.validate(GPA, one.bar0, 2), vendor).toMatchObject(answer(7));
      one.vm.mapMmio(GPA, one.bar0, 2);
      one.vm.shared.add(Number(GPA / PAGE) + 1);
      expect(one.validate(GPA, one.bar0, 2), vendor).toMatchObject(answer(3));
      one.vm.shared.clear();
      expect(one.validate(GPA, one.bar0, 2), vendor).toMatchObject({ errno: 0, code: 0 });
    }
  });

  test('KVM takes it away: forgotten, but by tdx, whose firmware refuses and whose VM is dead', () => {
    for (const vendor of VENDORS) {
      const one = world({ vendor }).enter(LOCKED);
      one.vm.mapMmio(GPA, one.bar0, 1);
      one.vm.mapMmio(GPA + 0x10000n, one.bar2, 1);
      one.validate(GPA, one.bar0, 1);
      one.validate(GPA + 0x10000n, one.bar2, 1);
      one.tdi.mmioUnmapped(GPA, GPA + PAGE);
      expect([one.vm.killed, one.tdi.accepted.length], vendor).toEqual(vendor === 'tdx' ? [true, 2] : [false, 1]);
    }
  });

  test('tdx: of a TDI that is stopped, or was never bound, the firmware lets go', () => {
    const one = world({ vendor: 'tdx' });
    one.tdi.mmioUnmapped();
    one.enter(RUN);
    one.set(UNLOCKED);
    one.tdi.mmioUnmapped();
    expect(one.vm.killed).toBe(false);
  });
});

describe('bytes that the TSM understands', () => {
  const words = (...values: readonly number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
  const send = (one: World, blob: Uint8Array, responseLength = 4096) => one.ask({ op: 'vendor', blob, responseLength });

  test('commands 1 to 6 of CCA', () => {
    const one = world().enter(LOCKED);
    const report = read(one, TSM_OBJECT.REPORT).response;
    expect(send(one, words(1, TSM_OBJECT.REPORT))).toEqual({ errno: 0, code: 0, response: words(report.length) });
    expect(send(one, words(2, TSM_OBJECT.REPORT, 4, 0), 8).response).toEqual(report.slice(4, 12));
    expect(send(one, words(3)).errno).toBe(0);
    expect(send(one, Uint8Array.of(...words(4, 0), ...new Uint8Array(32).fill(7))).errno).toBe(0);
    expect(read(one, TSM_OBJECT.MEASUREMENT).response.slice(-34, -2)).toEqual(new Uint8Array(32).fill(7));
    expect(send(one, words(4, 0)).errno).toBe(0);
    expect(read(one, TSM_OBJECT.MEASUREMENT).response.slice(-34, -2)).toEqual(new Uint8Array(32));
    const map = new Uint8Array(BigUint64Array.of(5n, GPA, GPA + PAGE, one.bar0).buffer);
    expect(send(one, map).errno).toBe(0);
    expect(one.tdi.accepted).toEqual([{ gpaBase: GPA, gpaTop: GPA + PAGE, paBase: one.bar0 }]);
    expect(send(one, words(6, RUN)).errno).toBe(0);
    expect(one.tdi.tdi.state).toBe(RUN);
  });

  test('SET_TDI_STATE is for RUN, and for LOCKED where BIND has not locked', () => {
    for (const vendor of VENDORS) {
      const one = world({ vendor }).enter(LOCKED);
      for (const state of [UNLOCKED, LOCKED, 3]) expect(send(one, words(6, state)).errno).toBe(EINVAL);
      expect(one.tdi.tdi.state).toBe(LOCKED);
    }
    const one = world({ vendor: 'cca' }).enter(UNLOCKED);
    expect(send(one, words(6, LOCKED)).errno).toBe(0);
    expect(one.tdi.tdi.state).toBe(LOCKED);
  });

  test('of another size, or no command: EINVAL', () => {
    const one = world().enter(LOCKED);
    for (const blob of [[], [1], [1, 0, 0], [2, 0, 0], [3, 0], [4], [5, 0, 0, 0], [6], [6, 2, 0], [7, 0], [0]])
      expect(send(one, words(...blob)).errno, String(blob)).toBe(EINVAL);
    expect(send(one, Uint8Array.of(3, 0, 0)).errno).toBe(EINVAL);
    expect(one.tdi.tdi.state).toBe(LOCKED);
  });

  test('somebody else\u2019s TSM may answer first', () => {
    const one = world().enter(LOCKED);
    one.system.tsm!.forward = (tdi, blob, length) =>
      blob[0] === 0xee ? { errno: 0, code: length, response: Uint8Array.of(tdi.tdi.state) } : undefined;
    expect(send(one, Uint8Array.of(0xee), 5)).toEqual({ errno: 0, code: 5, response: Uint8Array.of(LOCKED) });
    expect(send(one, words(6, RUN)).errno).toBe(0);
  });

  test('DMA by request has commands of ours', () => {
    const one = world({ vendor: 'tdx' }).enter(LOCKED);
    expect(send(one, words(0x100)).errno).toBe(0);
    expect(one.tdi.dmaEnabled).toBe(true);
    expect(send(one, words(0x101)).errno).toBe(0);
    expect(one.tdi.dmaEnabled).toBe(false);
  });
});
