import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { InterfaceReport, TdispMessage } from '../../../../src/sim/hardware/index.ts';
import {
  decodeInterfaceReport,
  decodeTdisp,
  decodeTdispHeader,
  encodeInterfaceReport,
  encodeTdisp,
  TDISP_CODE,
  TdispFormatError,
} from '../../../../src/sim/hardware/index.ts';
import { messageOf, messageTypes, mmioRange } from './messages.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const bytesOf = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'));
const nonce = Uint8Array.from({ length: 32 }, (_, i) => i);
const NONCE = hex(nonce);
const id = { requesterId: 0x0108, segment: 0x02 };
const ID = '0801 02 01 0000000000000000';

/** Header: protocol id, version, code, two reserved bytes, INTERFACE_ID. Then the payload, by hand. */
const WIRE: readonly [message: TdispMessage, code: string, payload: string][] = [
  [{ type: 'GET_TDISP_VERSION', interfaceId: id }, '81', ''],
  [{ type: 'TDISP_VERSION', interfaceId: id, versions: Uint8Array.of(0x10, 0x20) }, '01', '02 10 20'],
  [{ type: 'GET_TDISP_CAPABILITIES', interfaceId: id, tsmCaps: 0x11223344 }, '82', '44332211'],
  [
    {
      type: 'TDISP_CAPABILITIES',
      interfaceId: id,
      dsmCaps: 1,
      requestsSupported: Uint8Array.from({ length: 16 }, (_, i) => 0xa0 + i),
      lockFlagsSupported: 0x001f,
      addressWidth: 52,
      numReqThis: 3,
      numReqAll: 9,
    },
    '02',
    '01000000 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf 1f00 000000 34 03 09',
  ],
  [
    {
      type: 'LOCK_INTERFACE_REQUEST',
      interfaceId: id,
      flags: 0x0105,
      defaultStreamId: 7,
      mmioReportingOffset: -0x1000n,
      p2pAddressMask: 0x1122334455667788n,
    },
    '83',
    '0501 07 00 00f0ffffffffffff 8877665544332211',
  ],
  [{ type: 'LOCK_INTERFACE_RESPONSE', interfaceId: id, nonce }, '03', NONCE],
  [{ type: 'GET_DEVICE_INTERFACE_REPORT', interfaceId: id, offset: 0x0102, length: 0x0304 }, '84', '0201 0403'],
  [
    { type: 'DEVICE_INTERFACE_REPORT', interfaceId: id, portion: Uint8Array.of(1, 2, 3), remainder: 0x0506 },
    '04',
    '0300 0605 010203',
  ],
  [{ type: 'GET_DEVICE_INTERFACE_STATE', interfaceId: id }, '85', ''],
  [{ type: 'DEVICE_INTERFACE_STATE', interfaceId: id, state: 2 }, '05', '02'],
  [{ type: 'START_INTERFACE_REQUEST', interfaceId: id, nonce }, '86', NONCE],
  [{ type: 'START_INTERFACE_RESPONSE', interfaceId: id }, '06', ''],
  [{ type: 'STOP_INTERFACE_REQUEST', interfaceId: id }, '87', ''],
  [{ type: 'STOP_INTERFACE_RESPONSE', interfaceId: id }, '07', ''],
  [{ type: 'BIND_P2P_STREAM_REQUEST', interfaceId: id, streamId: 9 }, '88', '09'],
  [{ type: 'BIND_P2P_STREAM_RESPONSE', interfaceId: id }, '08', ''],
  [{ type: 'UNBIND_P2P_STREAM_REQUEST', interfaceId: id, streamId: 9 }, '89', '09'],
  [{ type: 'UNBIND_P2P_STREAM_RESPONSE', interfaceId: id }, '09', ''],
  [
    {
      type: 'SET_MMIO_ATTRIBUTE_REQUEST',
      interfaceId: id,
      range: { firstPage: 0x123456789n, pages: 16, attributes: 4, rangeId: 2 },
    },
    '8a',
    '8967452301000000 10000000 0400 0200',
  ],
  [{ type: 'SET_MMIO_ATTRIBUTE_RESPONSE', interfaceId: id }, '0a', ''],
  [{ type: 'VDM_REQUEST', interfaceId: id, data: Uint8Array.of(0xde, 0xad) }, '8b', 'dead'],
  [{ type: 'VDM_RESPONSE', interfaceId: id, data: Uint8Array.of(0xbe) }, '0b', 'be'],
  [
    { type: 'TDISP_ERROR', interfaceId: id, errorCode: 0x0104, errorData: 5, extended: new Uint8Array(0) },
    '7f',
    '04010000 05000000',
  ],
  [
    { type: 'TDISP_ERROR', interfaceId: id, errorCode: 0xff, errorData: 0, extended: Uint8Array.of(3, 0) },
    '7f',
    'ff000000 00000000 0300',
  ],
];

describe('every message', () => {
  test.each(
    WIRE.map(([message, ...rest]) => [message.type, message, ...rest] as const),
  )('%s: as bytes', (_type, message, code, payload) => {
    const bytes = bytesOf(`01 10 ${code} 0000 ${ID} ${payload}`);
    expect(hex(encodeTdisp(message))).toBe(hex(bytes));
    expect(decodeTdisp(bytes)).toEqual(message);
  });

  test('is among them', () => {
    expect([...new Set(WIRE.map(([{ type }]) => type))].sort()).toEqual([...messageTypes].sort());
    expect(Object.keys(TDISP_CODE).sort()).toEqual([...messageTypes].sort());
  });

  test.each(messageTypes)('%s: what was encoded is decoded again', (type) => {
    fc.assert(
      fc.property(messageOf(type), fc.nat(9), (message, before) => {
        const bytes = encodeTdisp(message);
        expect(decodeTdisp(bytes)).toEqual(message);
        const inside = new Uint8Array(before + bytes.length + 7).fill(0xa5);
        inside.set(bytes, before);
        expect(decodeTdisp(inside.subarray(before, before + bytes.length))).toEqual(message);
      }),
      { numRuns: 50 },
    );
  });

  test.each(messageTypes)('%s: cut short or too long, it is refused or another one', (type) => {
    fc.assert(
      fc.property(messageOf(type), (message) => {
        const bytes = encodeTdisp(message);
        const vendor = type.startsWith('VDM') || (message.type === 'TDISP_ERROR' && message.errorCode === 0xff);
        for (let length = 0; length < bytes.length; length++) {
          const reason = length < 17 ? 'short' : 'length';
          if (vendor && length >= (type === 'TDISP_ERROR' ? 25 : 17)) continue;
          expect(reasonOf(bytes.subarray(0, length)), `${length} bytes`).toBe(reason);
        }
        if (!vendor) expect(reasonOf(Uint8Array.of(...bytes, 0))).toBe('length');
      }),
      { numRuns: 5 },
    );
  });
});

/** Why bytes are refused. */
function reasonOf(bytes: Uint8Array): string {
  try {
    decodeTdisp(bytes);
  } catch (error) {
    if (error instanceof TdispFormatError) return error.reason;
    throw error;
  }
  return 'accepted';
}

describe('what is read', () => {
  test('reserved fields are ignored', () => {
    const bytes = bytesOf('01 10 83 aabb 0801 02 ff a1a2a3a4a5a6a7a8 0100 02 cc 0000000000000000 0000000000000000');
    expect(decodeTdisp(bytes)).toMatchObject({ interfaceId: id, flags: 1, defaultStreamId: 2 });
    expect(decodeTdisp(bytesOf('01 10 85 0000 0801 77 fe 0000000000000000'))).toEqual({
      type: 'GET_DEVICE_INTERFACE_STATE',
      interfaceId: { requesterId: 0x0108 },
    });
  });

  test('protocol, version and code are looked at, in that order', () => {
    expect(reasonOf(new Uint8Array(0))).toBe('short');
    expect(reasonOf(bytesOf(`00 11 99 0000 ${ID}`))).toBe('protocol');
    expect(reasonOf(bytesOf(`01 11 99 0000 ${ID}`))).toBe('version');
    expect(reasonOf(bytesOf(`01 10 99 0000 ${ID}`))).toBe('type');
    expect(decodeTdispHeader(bytesOf(`01 11 99 0000 ${ID}`))).toEqual({ version: 0x11, code: 0x99, interfaceId: id });
  });

  test('bytes are copied', () => {
    const bytes = encodeTdisp({ type: 'VDM_REQUEST', interfaceId: id, data: Uint8Array.of(1) });
    const message = decodeTdisp(bytes) as TdispMessage<'VDM_REQUEST'>;
    bytes.fill(0);
    expect(message.data).toEqual(Uint8Array.of(1));
    expect(() => decodeTdisp('bytes' as never)).toThrow(TypeError);
  });
});

describe('what does not fit is not written', () => {
  const lock = {
    type: 'LOCK_INTERFACE_REQUEST',
    interfaceId: id,
    flags: 0,
    defaultStreamId: 0,
    mmioReportingOffset: 0n,
  } as const;
  test.each<[string, object, ErrorConstructor]>([
    ['a number too large', { type: 'DEVICE_INTERFACE_STATE', interfaceId: id, state: 256 }, RangeError],
    ['a fraction', { type: 'DEVICE_INTERFACE_STATE', interfaceId: id, state: 0.5 }, RangeError],
    ['a missing field', { type: 'DEVICE_INTERFACE_STATE', interfaceId: id }, TypeError],
    ['a nonce of 31 bytes', { type: 'START_INTERFACE_REQUEST', interfaceId: id, nonce: new Uint8Array(31) }, RangeError],
    ['bytes that are none', { type: 'VDM_REQUEST', interfaceId: id, data: [1] }, TypeError],
    ['too many versions', { type: 'TDISP_VERSION', interfaceId: id, versions: new Uint8Array(256) }, RangeError],
    ['a number for a bigint', { ...lock, p2pAddressMask: 1 }, TypeError],
    ['a negative mask', { ...lock, p2pAddressMask: -1n }, RangeError],
    ['an offset of 65 bits', { ...lock, p2pAddressMask: 0n, mmioReportingOffset: 1n << 63n }, RangeError],
    ['a requester id of 17 bits', { type: 'GET_TDISP_VERSION', interfaceId: { requesterId: 0x10000 } }, RangeError],
    [
      'bytes after an error that has none',
      { type: 'TDISP_ERROR', interfaceId: id, errorCode: 1, errorData: 0, extended: new Uint8Array(1) },
      RangeError,
    ],
    ['no message', { type: 'toString', interfaceId: id }, TypeError],
  ])('%s', (_what, message, error) => {
    expect(() => encodeTdisp(message as TdispMessage)).toThrow(error);
  });
});

const report: fc.Arbitrary<InterfaceReport> = fc.record({
  interfaceInfo: fc.nat(0xffff),
  msixMessageControl: fc.nat(0xffff),
  lnrControl: fc.nat(0xffff),
  tphControl: fc.nat(0xffffffff),
  ranges: fc.array(mmioRange, { maxLength: 8 }),
  deviceSpecificInfo: fc.uint8Array({ maxLength: 60 }),
});

describe('the report', () => {
  test('as bytes', () => {
    const bytes = encodeInterfaceReport({
      interfaceInfo: 0x3,
      msixMessageControl: 0x8007,
      lnrControl: 0x0102,
      tphControl: 0x01020304,
      ranges: [{ firstPage: 0xfeb00n, pages: 4, attributes: 1, rangeId: 3 }],
      deviceSpecificInfo: Uint8Array.of(0xaa, 0xbb),
    });
    expect(hex(bytes)).toBe(
      hex(bytesOf('0300 0000 0780 0201 04030201 01000000  00eb0f0000000000 04000000 0100 0300  02000000 aabb')),
    );
  });

  test('what was encoded is decoded again, and no other length', () => {
    fc.assert(
      fc.property(report, (value) => {
        const bytes = encodeInterfaceReport(value);
        expect(decodeInterfaceReport(bytes)).toEqual(value);
        for (const other of [bytes.subarray(0, -1), Uint8Array.of(...bytes, 0), bytes.subarray(0, 19)])
          expect(() => decodeInterfaceReport(other)).toThrow(TdispFormatError);
      }),
      { numRuns: 100 },
    );
  });

  test('a count beyond the bytes costs nothing', () => {
    const bytes = new Uint8Array(64);
    bytes.fill(0xff, 12, 16);
    expect(() => decodeInterfaceReport(bytes)).toThrow(TdispFormatError);
  });
});

/** xorshift32: the same strings every time. */
function randomBytes(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** KVIO_TDISP_STRINGS: how many; a million takes half a minute. */
const STRINGS = Number(process.env.KVIO_TDISP_STRINGS ?? 100_000);
const CODES = Object.values(TDISP_CODE);

test(`${STRINGS} random byte strings: a message or a TdispFormatError, and never a byte from outside`, {
  timeout: 3 * STRINGS + 300_000,
}, () => {
  const next = randomBytes(0x7d15);
  const arena = new Uint8Array(96);
  let accepted = 0;
  const reasons: Record<string, number> = {};
  for (let n = 0; n < STRINGS; n++) {
    for (let i = 0; i < arena.length; i += 4) {
      const word = next();
      arena[i] = word;
      arena[i + 1] = word >>> 8;
      arena[i + 2] = word >>> 16;
      arena[i + 3] = word >>> 24;
    }
    const choice = next();
    const from = choice % 16;
    const length = (choice >>> 4) % 64;
    const bytes = arena.subarray(from, from + length);
    // Most strings are given a header, or none would come past it.
    const kind = choice >>> 29;
    if (kind === 1) bytes.set([0x01].slice(0, length));
    if (kind === 2) bytes.set([0x01, 0x10].slice(0, length));
    if (kind > 2) bytes.set([0x01, 0x10, CODES[(choice >>> 12) % CODES.length]!].slice(0, length));
    if (kind === 3 && length >= 21) bytes.set([0xff, 0, 0, 0], 17);
    if (kind === 4 && length >= 21) bytes.set([length - (bytes[2] === TDISP_CODE.TDISP_VERSION ? 18 : 21), 0], 17);
    let message: TdispMessage;
    try {
      message = decodeTdisp(bytes);
    } catch (error) {
      if (!(error instanceof TdispFormatError)) throw new Error(`${hex(bytes)}: ${error}`);
      reasons[error.reason] = (reasons[error.reason] ?? 0) + 1;
      continue;
    }
    accepted++;
    const again = encodeTdisp(message);
    if (again.length !== length) throw new Error(`${hex(bytes)} became ${hex(again)}`);
    // Alone in a buffer of its own length, whose neighbours cannot be read, it means the same.
    const alone = encodeTdisp(decodeTdisp(bytes.slice()));
    if (Buffer.compare(alone, again) !== 0 || Buffer.compare(encodeTdisp(decodeTdisp(again)), again) !== 0)
      throw new Error(`${hex(bytes)}: ${hex(alone)}, ${hex(again)}`);
  }
  console.log(`${accepted} messages, ${JSON.stringify(reasons)}`);
  expect(accepted).toBeGreaterThan(STRINGS / 50);
  expect(Object.keys(reasons).sort()).toEqual(
    ['length', 'protocol', 'short', 'type', 'version'].filter((reason) => reasons[reason]),
  );
  for (const reason of ['length', 'protocol', 'short']) expect(reasons[reason], reason).toBeGreaterThan(STRINGS / 100);
});
