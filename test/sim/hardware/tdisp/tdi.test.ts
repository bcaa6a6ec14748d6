import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { TdiEvent, TdispMessage, TdispState } from '../../../../src/sim/hardware/index.ts';
import {
  Dsm,
  decodeInterfaceReport,
  decodeTdisp,
  encodeTdisp,
  TDI_EVENTS,
  TDISP_CODE,
  TDISP_INTERFACE_INFO,
  TDISP_LOCK_FLAG,
  TDISP_MMIO,
  TdispRefusal,
} from '../../../../src/sim/hardware/index.ts';
import { CONFIG_LOCKED, CONFIG_UNLOCKED, ERROR, NON_TEE, PLAIN, RUN, STATES, TEE, UPDATABLE, World } from './kit.ts';

const codeOf = (call: () => unknown): number | undefined => {
  try {
    call();
  } catch (error) {
    if (error instanceof TdispRefusal) return error.errorCode;
    throw error;
  }
  return undefined;
};

/** The whole report, portion by portion. */
function reportOf({ tdi }: World, step = 0xffff): Uint8Array {
  const bytes: number[] = [];
  for (;;) {
    const { portion, remainder } = tdi.reportPortion(bytes.length, step);
    bytes.push(...portion);
    if (remainder === 0) return Uint8Array.from(bytes);
  }
}

describe('nonce', () => {
  test('a new one with every LOCK; the old one is worth nothing', () => {
    const world = new World().enter(CONFIG_LOCKED);
    const first = world.nonce;
    world.tdi.stop();
    expect(world.tdi.hasNonce).toBe(false);
    world.enter(CONFIG_LOCKED);
    expect(world.nonce).not.toEqual(first);
    expect(codeOf(() => world.tdi.start(first))).toBe(0x0102);
    world.tdi.start(world.nonce);
    expect(world.tdi.state).toBe(RUN);
  });

  test('after a wrong one the right one still starts the interface', () => {
    const world = new World().enter(CONFIG_LOCKED);
    for (let i = 0; i < 32; i++) expect(codeOf(() => world.tdi.start(world.nonce.with(i, 0xff)))).toBe(0x0102);
    expect(codeOf(() => world.tdi.start(world.nonce.subarray(1)))).toBe(0x0102);
    world.tdi.start(world.nonce);
  });

  test('lives from LOCK to what ends CONFIG_LOCKED, and is the device\u2019s own copy', () => {
    for (const end of ['start', 'stop', 'flr', 'conventional-reset'] as const) {
      const world = new World().enter(CONFIG_LOCKED);
      expect(world.tdi.hasNonce).toBe(true);
      const seen = world.nonce.slice();
      if (end === 'start') world.tdi.start(seen);
      else if (end === 'stop') world.tdi.stop();
      else world.tdi.happens(end);
      expect(world.tdi.hasNonce, end).toBe(false);
      expect(world.nonce).toEqual(seen);
    }
    const world = new World().enter(CONFIG_LOCKED);
    const right = world.nonce.slice();
    world.nonce.fill(0);
    world.tdi.start(right);
  });

  test('a refused LOCK leaves nothing behind', () => {
    const world = new World();
    world.faults = ['phantom-functions'];
    expect(codeOf(() => world.tdi.lock(PLAIN))).toBe(0x0104);
    expect([world.tdi.state, world.tdi.hasNonce, world.tdi.lockParameters, world.done]).toEqual([
      CONFIG_UNLOCKED,
      false,
      undefined,
      [],
    ]);
    world.faults = [];
    world.enter(RUN);
  });
});

describe('what LOCK and STOP imply', () => {
  test('LOCK quiesces; STOP quiesces and scrubs', () => {
    const world = new World();
    world.tdi.lock(PLAIN);
    expect(world.done).toEqual(['quiesce']);
    for (const state of [CONFIG_LOCKED, RUN, ERROR]) {
      const stopped = new World().enter(state);
      stopped.tdi.stop();
      expect(stopped.done).toEqual(['quiesce', 'scrub']);
      expect(stopped.moves).toEqual([{ from: state, to: CONFIG_UNLOCKED, cause: 'STOP_INTERFACE_REQUEST' }]);
    }
  });

  test('a reset scrubs, ERROR does not, and a device that has scrubbed need not again', () => {
    for (const [event, done] of [
      ['conventional-reset', ['scrub']],
      ['flr', []],
    ] as const) {
      const world = new World().enter(RUN);
      world.tdi.happens(event);
      expect(world.done).toEqual(done);
    }
    const world = new World().enter(ERROR);
    world.tdi.happens('data-scrubbed');
    expect(world.done).toEqual([]);
  });

  test('what the lock was for is known while locked only', () => {
    for (const state of STATES)
      expect(new World().enter(state).tdi.lockParameters).toEqual(
        [CONFIG_LOCKED, RUN].some((s) => s === state) ? PLAIN : undefined,
      );
  });
});

describe('the report', () => {
  test('says what the interface is, addresses shifted by the reporting offset', () => {
    const world = new World({ deviceSpecificInfo: Uint8Array.of(1, 2, 3), msixMessageControl: 7, tphControl: 5, lnrControl: 9 });
    world.enter(CONFIG_LOCKED, { ...PLAIN, flags: TDISP_LOCK_FLAG.NO_FW_UPDATE, mmioReportingOffset: -TEE });
    expect(decodeInterfaceReport(reportOf(world))).toEqual({
      interfaceInfo: TDISP_INTERFACE_INFO.NO_FW_UPDATE | TDISP_INTERFACE_INFO.DMA_WITHOUT_PASID,
      msixMessageControl: 7,
      lnrControl: 9,
      tphControl: 5,
      ranges: [
        { firstPage: 0n, pages: 4, attributes: 0, rangeId: 0 },
        { firstPage: 4n, pages: 1, attributes: TDISP_MMIO.IS_NON_TEE_MEM, rangeId: 0 },
        { firstPage: 0x1000n, pages: 8, attributes: TDISP_MMIO.IS_MEM_ATTR_UPDATABLE, rangeId: 2 },
      ],
      deviceSpecificInfo: Uint8Array.of(1, 2, 3),
    });
    const open = new World().enter(CONFIG_LOCKED, PLAIN);
    expect(decodeInterfaceReport(reportOf(open)).interfaceInfo).toBe(TDISP_INTERFACE_INFO.DMA_WITHOUT_PASID);
  });

  test('in pieces of any length it is the same', () => {
    const world = new World().enter(RUN);
    const whole = reportOf(world);
    for (const step of [1, 7, 16, whole.length - 1, whole.length]) expect(reportOf(world, step)).toEqual(whole);
    expect(codeOf(() => world.tdi.reportPortion(0, 0))).toBe(0x0001);
    expect(world.tdi.reportPortion(whole.length - 1, 9)).toEqual({ portion: whole.slice(-1), remainder: 0 });
  });

  test('is that of LOCK: what the device says later counts at the next', () => {
    const world = new World().enter(CONFIG_LOCKED);
    const before = reportOf(world);
    world.mmio = [{ bar: 4, address: 0xf000_0000n, pages: 1 }];
    expect(reportOf(world)).toEqual(before);
    world.tdi.stop();
    world.enter(CONFIG_LOCKED);
    expect(decodeInterfaceReport(reportOf(world)).ranges).toEqual([{ firstPage: 0xf0000n, pages: 1, attributes: 0, rangeId: 4 }]);
  });
});

describe('memory requests', () => {
  /** TEE memory: [T set, T clear]; memory that is none: always. */
  const served: Readonly<Record<TdispState, readonly [boolean, boolean]>> = {
    [CONFIG_UNLOCKED]: [false, true],
    [CONFIG_LOCKED]: [false, false],
    [RUN]: [true, false],
    [ERROR]: [false, false],
  };

  test.each(STATES)('in state %i', (state) => {
    const { tdi } = new World().enter(state);
    expect([tdi.serves(TEE, { t: true }), tdi.serves(TEE, { t: false })]).toEqual(served[state]);
    expect(tdi.serves(TEE, { t: true, rightStream: false })).toBe(false);
    for (const t of [true, false]) expect(tdi.serves(NON_TEE + 0xfffn, { t })).toBe(true);
    for (const outside of [TEE - 1n, NON_TEE + 0x1000n, UPDATABLE - 1n, UPDATABLE + 0x8000n])
      for (const t of [true, false]) expect(tdi.serves(outside, { t })).toBe(false);
  });

  test('SET_MMIO_ATTRIBUTE changes its pages, until the interface is unlocked', () => {
    const world = new World().enter(RUN, { ...PLAIN, mmioReportingOffset: -UPDATABLE });
    const before = reportOf(world);
    const { tdi } = world;
    const page = (n: bigint): bigint => UPDATABLE + n * 0x1000n;
    const open = (): number[] => Array.from({ length: 8 }, (_, n) => Number(tdi.serves(page(BigInt(n)), { t: false })));
    tdi.setMmioAttribute({ firstPage: 1n, pages: 4, attributes: TDISP_MMIO.IS_NON_TEE_MEM, rangeId: 2 });
    expect(open()).toEqual([0, 1, 1, 1, 1, 0, 0, 0]);
    tdi.setMmioAttribute({ firstPage: 2n, pages: 2, attributes: 0, rangeId: 2 });
    expect(open()).toEqual([0, 1, 0, 0, 1, 0, 0, 0]);
    expect(reportOf(world)).toEqual(before);
    tdi.stop();
    world.enter(RUN);
    expect(open()).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  });

  test('DMA is ordinary, none, with the T bit, none', () => {
    expect(STATES.map((state) => new World().enter(state).tdi.dma)).toEqual(['ordinary', 'none', 'tee', 'none']);
  });

  test('streams between devices last as long as RUN', () => {
    for (const event of ['flr', 'conventional-reset'] as const) {
      const { tdi } = new World().enter(RUN);
      tdi.bindP2pStream(4);
      expect(codeOf(() => tdi.bindP2pStream(4))).toBe(0x0001);
      expect([...tdi.p2pStreams]).toEqual([4]);
      tdi.happens(event);
      expect(tdi.p2pStreams.size).toBe(0);
    }
  });
});

describe('a device that answers', () => {
  const ID = { requesterId: 0x0100 };
  const ask = (dsm: Dsm, message: TdispMessage): TdispMessage => decodeTdisp(dsm.respond(encodeTdisp(message)));

  test('its version and capabilities', () => {
    const { tdi } = new World({ lockFlagsSupported: TDISP_LOCK_FLAG.LOCK_MSIX });
    const dsm = new Dsm({ dsmCaps: 3, addressWidth: 48, vendor: (data) => data.toReversed() });
    dsm.add(tdi);
    expect(ask(dsm, { type: 'GET_TDISP_VERSION', interfaceId: ID })).toMatchObject({ versions: Uint8Array.of(0x10) });
    const { requestsSupported, ...rest } = ask(dsm, {
      type: 'GET_TDISP_CAPABILITIES',
      interfaceId: ID,
      tsmCaps: 0,
    }) as TdispMessage<'TDISP_CAPABILITIES'>;
    expect(rest).toMatchObject({
      dsmCaps: 3,
      addressWidth: 48,
      lockFlagsSupported: TDISP_LOCK_FLAG.LOCK_MSIX,
      numReqThis: 1,
      numReqAll: 1,
    });
    const requests = Object.values(TDISP_CODE).filter((code) => code > 0x80);
    const offered = Array.from({ length: 128 }, (_, bit) => bit).filter((bit) => requestsSupported[bit >> 3]! & (1 << (bit & 7)));
    expect(offered.map((bit) => bit + 0x80)).toEqual(requests.sort((a, b) => a - b));
    expect(ask(dsm, { type: 'VDM_REQUEST', interfaceId: ID, data: Uint8Array.of(1, 2) })).toMatchObject({
      type: 'VDM_RESPONSE',
      data: Uint8Array.of(2, 1),
    });
    expect(codeOf(() => tdi.lock(PLAIN))).toBe(0x0001);
  });

  test('each interface on its own, an id once', () => {
    const dsm = new Dsm();
    const first = new World().tdi;
    const second = new World({ interfaceId: { requesterId: 0x0100, segment: 3 } }).tdi;
    dsm.add(first);
    dsm.add(second);
    expect(() => dsm.add(new World().tdi)).toThrow(RangeError);
    expect(dsm.find({ requesterId: 0x0100, segment: 3 })).toBe(second);
    ask(dsm, { type: 'LOCK_INTERFACE_REQUEST', interfaceId: { requesterId: 0x0100, segment: 3 }, ...PLAIN });
    expect([first.state, second.state]).toEqual([CONFIG_UNLOCKED, CONFIG_LOCKED]);
  });

  test('the way of a guest: lock, report, start, stop', () => {
    const world = new World();
    const dsm = new Dsm();
    dsm.add(world.tdi);
    const { nonce } = ask(dsm, {
      type: 'LOCK_INTERFACE_REQUEST',
      interfaceId: ID,
      ...PLAIN,
    }) as TdispMessage<'LOCK_INTERFACE_RESPONSE'>;
    expect(ask(dsm, { type: 'GET_DEVICE_INTERFACE_REPORT', interfaceId: ID, offset: 0, length: 16 })).toMatchObject({
      portion: reportOf(world).slice(0, 16),
      remainder: reportOf(world).length - 16,
    });
    ask(dsm, { type: 'START_INTERFACE_REQUEST', interfaceId: ID, nonce });
    expect(ask(dsm, { type: 'GET_DEVICE_INTERFACE_STATE', interfaceId: ID })).toMatchObject({ state: RUN });
    ask(dsm, { type: 'STOP_INTERFACE_REQUEST', interfaceId: ID });
    expect(world.moves.map(({ to }) => to)).toEqual([CONFIG_LOCKED, RUN, CONFIG_UNLOCKED]);
  });
});

test('whatever comes: a request or an event, the invariants hold', () => {
  const events = Object.keys(TDI_EVENTS) as TdiEvent[];
  const step = fc.oneof(fc.constantFrom('lock', 'start', 'wrong', 'stop', 'bind', 'open'), fc.constantFrom(...events));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30, size: 'max' }), (steps) => {
      const world = new World();
      const { tdi } = world;
      for (const name of steps) {
        const acts: Record<string, () => void> = {
          lock: () => (world.nonce = tdi.lock({ ...PLAIN, flags: 0x1f })),
          start: () => tdi.start(world.nonce),
          wrong: () => tdi.start(new Uint8Array(32)),
          stop: () => tdi.stop(),
          bind: () => tdi.bindP2pStream(9),
          open: () => tdi.setMmioAttribute({ firstPage: UPDATABLE >> 12n, pages: 1, attributes: 4, rangeId: 2 }),
        };
        const before = tdi.state;
        const refused = codeOf(acts[name] ?? (() => tdi.happens(name as TdiEvent)));
        if (refused !== undefined) expect(tdi.state).toBe(before);
        expect(tdi.hasNonce).toBe(tdi.state === CONFIG_LOCKED);
        if (tdi.state === RUN) expect(before === RUN || (before === CONFIG_LOCKED && name === 'start')).toBe(true);
        if (tdi.state !== RUN) expect(tdi.p2pStreams.size).toBe(0);
        expect(tdi.serves(TEE, { t: false })).toBe(tdi.state === CONFIG_UNLOCKED);
        expect(tdi.serves(TEE, { t: true })).toBe(tdi.state === RUN);
        if (tdi.state === CONFIG_UNLOCKED) expect(tdi.serves(UPDATABLE, { t: true })).toBe(false);
      }
      tdi.stop();
      expect(tdi.state).toBe(CONFIG_UNLOCKED);
    }),
    { numRuns: 500 },
  );
});
