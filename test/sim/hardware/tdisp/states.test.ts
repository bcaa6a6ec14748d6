/** The table of states and events of PCI Express Base Specification chapter 11: every cell. Requests go through a DSM, as bytes. */
import { describe, expect, test } from 'vitest';
import type { LockFault, TdiEvent, TdispMessage, TdispState } from '../../../../src/sim/hardware/index.ts';
import { Dsm, decodeTdisp, encodeTdisp, LOCK_FAULTS, TDI_EVENTS, TDISP_LOCK_FLAG } from '../../../../src/sim/hardware/index.ts';
import { ALL_FLAGS, CONFIG_LOCKED, CONFIG_UNLOCKED, ERROR, PLAIN, RUN, STATE_NAMES, STATES, UPDATABLE, World } from './kit.ts';

type Payload = Omit<TdispMessage, 'interfaceId'>;
/** The state after it, and what comes back: 'ok', or the code of a TDISP_ERROR. */
type Cell = readonly [after: TdispState, answer: 'ok' | number];
interface Row {
  readonly what: string;
  readonly request: (world: World) => Payload;
  readonly prepare?: (world: World) => void;
  readonly lockFlags?: number;
  readonly cells: Readonly<Record<TdispState, Cell>>;
}

const [U, L, R, E] = [CONFIG_UNLOCKED, CONFIG_LOCKED, RUN, ERROR];
const cells = (u: Cell, l: Cell, r: Cell, e: Cell): Row['cells'] => ({ [U]: u, [L]: l, [R]: r, [E]: e }) as Row['cells'];
const stay = (answer: 'ok' | number): Row['cells'] => cells([U, answer], [L, answer], [R, answer], [E, answer]);
const lock = (): Payload => ({ type: 'LOCK_INTERFACE_REQUEST', ...PLAIN }) as Payload;
const range = (firstPage: bigint, pages: number, rangeId = 2): (() => Payload) => {
  return () => ({ type: 'SET_MMIO_ATTRIBUTE_REQUEST', range: { firstPage, pages, attributes: 4, rangeId } }) as Payload;
};
const badLock = (answer: number): Row['cells'] => cells([U, answer], [L, 4], [R, 4], [E, 4]);
const onlyRun = (answer: 'ok' | number): Row['cells'] => cells([U, 4], [L, 4], [R, answer], [E, 4]);
const PAGE = UPDATABLE >> 12n;

const REQUESTS: readonly Row[] = [
  { what: 'GET_TDISP_VERSION', request: () => ({ type: 'GET_TDISP_VERSION' }), cells: stay('ok') },
  {
    what: 'GET_TDISP_CAPABILITIES',
    request: () => ({ type: 'GET_TDISP_CAPABILITIES', tsmCaps: 0 }) as Payload,
    cells: stay('ok'),
  },
  { what: 'LOCK_INTERFACE_REQUEST', request: lock, cells: cells([L, 'ok'], [L, 4], [R, 4], [E, 4]) },
  ...(Object.keys(LOCK_FAULTS) as LockFault[]).map(
    (fault): Row => ({
      what: `LOCK_INTERFACE_REQUEST, ${fault}`,
      request: lock,
      prepare: (world) => (world.faults = [fault, 'device-specific']),
      cells: badLock(fault.startsWith('ide-') ? 0x0001 : 0x0104),
    }),
  ),
  {
    what: 'LOCK_INTERFACE_REQUEST, no entropy',
    request: lock,
    prepare: (world) => (world.entropy = 0),
    cells: badLock(0x0103),
  },
  {
    what: 'LOCK_INTERFACE_REQUEST, a flag that is not supported',
    request: () => ({ ...lock(), flags: 0x20 }) as Payload,
    cells: badLock(0x0001),
  },
  {
    what: 'GET_DEVICE_INTERFACE_REPORT',
    request: () => ({ type: 'GET_DEVICE_INTERFACE_REPORT', offset: 0, length: 0xffff }) as Payload,
    cells: cells([U, 4], [L, 'ok'], [R, 'ok'], [E, 4]),
  },
  {
    what: 'GET_DEVICE_INTERFACE_REPORT, past it',
    request: () => ({ type: 'GET_DEVICE_INTERFACE_REPORT', offset: 16 + 3 * 16 + 4, length: 1 }) as Payload,
    cells: cells([U, 4], [L, 1], [R, 1], [E, 4]),
  },
  { what: 'GET_DEVICE_INTERFACE_STATE', request: () => ({ type: 'GET_DEVICE_INTERFACE_STATE' }), cells: stay('ok') },
  {
    what: 'START_INTERFACE_REQUEST, nonce right',
    request: ({ nonce }) => ({ type: 'START_INTERFACE_REQUEST', nonce }) as Payload,
    cells: cells([U, 4], [R, 'ok'], [R, 4], [E, 4]),
  },
  {
    what: 'START_INTERFACE_REQUEST, nonce wrong',
    request: ({ nonce }) => ({ type: 'START_INTERFACE_REQUEST', nonce: nonce.with(31, nonce[31]! ^ 1) }) as Payload,
    cells: cells([U, 4], [L, 0x0102], [R, 4], [E, 4]),
  },
  {
    what: 'STOP_INTERFACE_REQUEST',
    request: () => ({ type: 'STOP_INTERFACE_REQUEST' }),
    cells: cells([U, 'ok'], [U, 'ok'], [U, 'ok'], [U, 'ok']),
  },
  {
    what: 'BIND_P2P_STREAM_REQUEST',
    request: () => ({ type: 'BIND_P2P_STREAM_REQUEST', streamId: 5 }) as Payload,
    cells: onlyRun('ok'),
  },
  {
    what: 'BIND_P2P_STREAM_REQUEST of the default stream',
    request: () => ({ type: 'BIND_P2P_STREAM_REQUEST', streamId: PLAIN.defaultStreamId }) as Payload,
    cells: onlyRun(1),
  },
  {
    what: 'BIND_P2P_STREAM_REQUEST, locked without BIND_P2P',
    request: () => ({ type: 'BIND_P2P_STREAM_REQUEST', streamId: 5 }) as Payload,
    lockFlags: 0,
    cells: onlyRun(1),
  },
  {
    what: 'UNBIND_P2P_STREAM_REQUEST',
    request: () => ({ type: 'UNBIND_P2P_STREAM_REQUEST', streamId: 6 }) as Payload,
    prepare: ({ tdi }) => tdi.state === RUN && tdi.bindP2pStream(6),
    cells: onlyRun('ok'),
  },
  {
    what: 'UNBIND_P2P_STREAM_REQUEST, not bound',
    request: () => ({ type: 'UNBIND_P2P_STREAM_REQUEST', streamId: 6 }) as Payload,
    cells: onlyRun(1),
  },
  { what: 'SET_MMIO_ATTRIBUTE_REQUEST', request: range(PAGE + 2n, 6), cells: onlyRun('ok') },
  { what: 'SET_MMIO_ATTRIBUTE_REQUEST, a page too many', request: range(PAGE + 2n, 7), cells: onlyRun(1) },
  { what: 'SET_MMIO_ATTRIBUTE_REQUEST, no pages', request: range(PAGE, 0), cells: onlyRun(1) },
  { what: 'SET_MMIO_ATTRIBUTE_REQUEST, before the range', request: range(PAGE - 1n, 2), cells: onlyRun(1) },
  { what: 'SET_MMIO_ATTRIBUTE_REQUEST, another id', request: range(PAGE, 1, 0), cells: onlyRun(1) },
  { what: 'SET_MMIO_ATTRIBUTE_REQUEST, not updatable', request: range(0xe0000n, 1, 0), cells: onlyRun(1) },
  {
    what: 'VDM_REQUEST, no vendor',
    request: () => ({ type: 'VDM_REQUEST', data: new Uint8Array(3) }) as Payload,
    cells: stay(7),
  },
];

const ID = { requesterId: 0x0100 };

/** The error code of an answer, or 'ok' when it is the response that belongs to the request. */
function verdict(request: Uint8Array, answer: Uint8Array): 'ok' | number {
  const message = decodeTdisp(answer);
  if (message.type === 'TDISP_ERROR') return message.errorCode;
  expect(answer[2]).toBe(request[2]! - 0x80);
  return 'ok';
}

describe.each(REQUESTS)('$what', ({ request, prepare, lockFlags, cells }) => {
  test.each(STATES.map((state) => [STATE_NAMES[state], state] as const))('in %s', (_name, state) => {
    const world = new World().enter(state, { ...PLAIN, flags: lockFlags ?? PLAIN.flags });
    prepare?.(world);
    const dsm = new Dsm();
    dsm.add(world.tdi);
    const bytes = encodeTdisp({ ...request(world), interfaceId: ID } as TdispMessage);
    const answer = dsm.respond(bytes);
    expect([world.tdi.state, verdict(bytes, answer)]).toEqual(cells[state]);
    expect(decodeTdisp(answer).interfaceId).toEqual(ID);
  });

  test('an interface that is not there', () => {
    const world = new World();
    const dsm = new Dsm();
    dsm.add(world.tdi);
    const bytes = encodeTdisp({ ...request(world), interfaceId: { requesterId: 0x0100, segment: 0 } } as TdispMessage);
    expect(verdict(bytes, dsm.respond(bytes))).toBe(request(world).type === 'VDM_REQUEST' ? 0x0007 : 0x0101);
  });
});

/** What cannot be read leaves every state as it is. */
describe.each<[string, (bytes: Uint8Array) => Uint8Array, number]>([
  ['another version', (bytes) => bytes.with(1, 0x20), 0x0041],
  ['a request that does not exist', (bytes) => bytes.with(2, 0x8c), 0x0007],
  ['a response', (bytes) => bytes.with(2, 0x07), 0x0007],
  ['a response of another length', (bytes) => bytes.with(2, 0x05), 0x0007],
  ['a byte too many', (bytes) => Uint8Array.of(...bytes, 0), 0x0001],
  ['half a header', (bytes) => bytes.subarray(0, 9), 0x0001],
  ['another protocol', (bytes) => bytes.with(0, 0), 0x0001],
])('%s', (_what, change, code) => {
  test.each(STATES.map((state) => [STATE_NAMES[state], state] as const))('in %s', (_name, state) => {
    const { tdi } = new World().enter(state);
    const dsm = new Dsm();
    dsm.add(tdi);
    const stop = encodeTdisp({ type: 'STOP_INTERFACE_REQUEST', interfaceId: ID });
    const bytes = change(stop);
    expect(verdict(bytes, dsm.respond(bytes))).toBe(code);
    expect(tdi.state).toBe(state);
  });
});

/** State after: from CONFIG_UNLOCKED, CONFIG_LOCKED, RUN, ERROR. */
const toError = [U, E, E, E] as const;
const nothing = [U, L, R, E] as const;
const EVENTS: Readonly<Record<TdiEvent, readonly TdispState[]>> = {
  'memory-space-clear': toError,
  'bus-master-clear': toError,
  'bar-write': toError,
  'capability-change': toError,
  'tag-change': toError,
  flr: toError,
  'power-loss': toError,
  'requester-id-change': toError,
  'msix-change': nothing,
  'ide-insecure': toError,
  'spdm-session-end': toError,
  unrecoverable: toError,
  'firmware-update': nothing,
  'forced-firmware-update': toError,
  'debug-authorization': toError,
  'conventional-reset': [U, U, U, U],
  'host-access': toError,
  'device-specific-change': toError,
  'data-scrubbed': [U, L, R, U],
  'free-change': nothing,
};
const EVENT_NAMES = Object.keys(EVENTS) as TdiEvent[];

describe('what happens to the function', () => {
  test('is all in the table', () => expect(Object.keys(TDI_EVENTS).sort()).toEqual([...EVENT_NAMES].sort()));

  const cases = EVENT_NAMES.flatMap((event) => STATES.map((state) => [event, STATE_NAMES[state], state] as const));
  test.each(cases)('%s in %s', (event, _name, state) => {
    const { tdi, moves } = new World().enter(state);
    const after = EVENTS[event][state]!;
    expect(tdi.happens(event)).toBe(true);
    expect(tdi.state).toBe(after);
    expect(moves).toEqual(after === state ? [] : [{ from: state, to: after, cause: event }]);
  });

  test.each(STATES.map((state) => [STATE_NAMES[state], state] as const))('with every lock flag, in %s', (_name, state) => {
    for (const event of EVENT_NAMES) {
      const { tdi } = new World().enter(state, { ...PLAIN, flags: ALL_FLAGS });
      const locked = state === L || state === R;
      const refused = event === 'firmware-update' && locked;
      expect(tdi.happens(event), event).toBe(!refused);
      expect(tdi.state, event).toBe(event === 'msix-change' && locked ? E : EVENTS[event][state]);
    }
  });

  test('each lock flag does what it is there for, and no more', () => {
    for (const [name, flag] of Object.entries(TDISP_LOCK_FLAG)) {
      const update = new World().enter(R, { ...PLAIN, flags: flag }).tdi;
      expect(update.happens('firmware-update'), name).toBe(name !== 'NO_FW_UPDATE');
      const table = new World().enter(R, { ...PLAIN, flags: flag }).tdi;
      table.happens('msix-change');
      expect(table.state, name).toBe(name === 'LOCK_MSIX' ? E : R);
    }
  });

  test('reset of a physical function is its virtual functions\u2019 too', () => {
    for (const event of EVENT_NAMES) {
      const pf = new World().tdi;
      const vf = new World({ physicalFunction: pf }).enter(R).tdi;
      pf.happens(event);
      expect(vf.state, event).toBe(event === 'flr' ? E : event === 'conventional-reset' ? U : R);
      const other = new World({ physicalFunction: pf }).enter(R).tdi;
      vf.happens('flr');
      expect([pf.state, other.state]).toEqual([U, R]);
    }
  });
});
