/** What the TDISP tests share: arbitraries of every message. */
import fc from 'fast-check';
import type { InterfaceId, TdispMessage, TdispMessageType } from '../../../../src/sim/hardware/index.ts';

const uint = (bits: number): fc.Arbitrary<number> => fc.integer({ min: 0, max: 2 ** bits - 1 });
const wide = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const octets = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });
const some = fc.uint8Array({ maxLength: 80 });

export const interfaceId: fc.Arbitrary<InterfaceId> = fc.oneof(
  fc.record({ requesterId: uint(16) }),
  fc.record({ requesterId: uint(16), segment: uint(8) }),
);
export const mmioRange = fc.record({ firstPage: wide, pages: uint(32), attributes: uint(16), rangeId: uint(16) });

const none = fc.constant({});
const nonce = fc.record({ nonce: octets(32) });
const streamId = fc.record({ streamId: uint(8) });
const data = fc.record({ data: some });

type Payload<T extends TdispMessageType> = Omit<TdispMessage<T>, 'type' | 'interfaceId'>;
const payloads: { [T in TdispMessageType]: fc.Arbitrary<Payload<T>> } = {
  GET_TDISP_VERSION: none,
  TDISP_VERSION: fc.record({ versions: fc.uint8Array({ maxLength: 255 }) }),
  GET_TDISP_CAPABILITIES: fc.record({ tsmCaps: uint(32) }),
  TDISP_CAPABILITIES: fc.record({
    dsmCaps: uint(32),
    requestsSupported: octets(16),
    lockFlagsSupported: uint(16),
    addressWidth: uint(8),
    numReqThis: uint(8),
    numReqAll: uint(8),
  }),
  LOCK_INTERFACE_REQUEST: fc.record({
    flags: uint(16),
    defaultStreamId: uint(8),
    mmioReportingOffset: fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }),
    p2pAddressMask: wide,
  }),
  LOCK_INTERFACE_RESPONSE: nonce,
  GET_DEVICE_INTERFACE_REPORT: fc.record({ offset: uint(16), length: uint(16) }),
  DEVICE_INTERFACE_REPORT: fc.record({ portion: some, remainder: uint(16) }),
  GET_DEVICE_INTERFACE_STATE: none,
  DEVICE_INTERFACE_STATE: fc.record({ state: uint(8) }),
  START_INTERFACE_REQUEST: nonce,
  START_INTERFACE_RESPONSE: none,
  STOP_INTERFACE_REQUEST: none,
  STOP_INTERFACE_RESPONSE: none,
  BIND_P2P_STREAM_REQUEST: streamId,
  BIND_P2P_STREAM_RESPONSE: none,
  UNBIND_P2P_STREAM_REQUEST: streamId,
  UNBIND_P2P_STREAM_RESPONSE: none,
  SET_MMIO_ATTRIBUTE_REQUEST: fc.record({ range: mmioRange }),
  SET_MMIO_ATTRIBUTE_RESPONSE: none,
  VDM_REQUEST: data,
  VDM_RESPONSE: data,
  TDISP_ERROR: fc.oneof(
    fc.record({ errorCode: uint(32).filter((code) => code !== 0xff), errorData: uint(32), extended: octets(0) }),
    fc.record({ errorCode: fc.constant(0xff), errorData: uint(32), extended: some }),
  ),
};

export const messageTypes = Object.keys(payloads) as TdispMessageType[];

/** Messages of a type. */
export const messageOf = (type: TdispMessageType): fc.Arbitrary<TdispMessage> =>
  fc
    .tuple(interfaceId, payloads[type] as fc.Arbitrary<object>)
    .map(([id, payload]) => ({ type, interfaceId: id, ...payload }) as TdispMessage);
