/**
 * TDISP messages into bytes and back. The bytes are what SPDM's vendor-defined messages carry: the protocol id, the header of 16 bytes, the payload. Reserved fields are
 * zero when written and ignored when read.
 */
import { rangeError, typeError } from '../../../kernel/errors.ts';
import { TdispFormatError } from './codec-error.ts';
import type { InterfaceId, TdispHeader, TdispMessage, TdispMessageType } from './messages.ts';
import { TDISP_ERROR_CODE, TDISP_HEADER_LENGTH, TDISP_NONCE_LENGTH, TDISP_PROTOCOL_ID, TDISP_VERSION_1_0 } from './vocabulary.ts';
import type { Form } from './wire.ts';
import { checkBytes, copyOf, interfaceId, mmioRange, octets, putBytes, s64, u8, u16, u32, u64 } from './wire.ts';

type Values = Record<string, unknown>;

interface Field {
  readonly name: string;
  /** From the start of the header. */
  readonly at: number;
  readonly form: Form<never>;
}

/** Bytes of no fixed number, at the end. */
interface Tail {
  readonly name: string;
  readonly at: number;
  /** The field that says how many; absent: all there are. */
  readonly count?: { readonly at: number; readonly form: Form<number> };
  /** Whether there may be any; default yes. */
  readonly allowed?: (values: Values) => boolean;
}

interface Layout {
  readonly code: number;
  /** Header and payload without the tail. */
  readonly size: number;
  readonly fields: readonly Field[];
  readonly tail?: Tail;
}

const field = <T>(at: number, name: string, form: Form<T>): Field => ({ at, name, form: form as Form<never> });
const layout = (code: number, size: number, fields: readonly Field[] = [], tail?: Tail): Layout =>
  tail ? { code, size, fields, tail } : { code, size, fields };

const nonce = [field(16, 'nonce', octets(TDISP_NONCE_LENGTH))];
const streamId = [field(16, 'streamId', u8)];
const vendorData: Tail = { name: 'data', at: 16 };

const LAYOUTS: Readonly<Record<TdispMessageType, Layout>> = {
  TDISP_VERSION: layout(0x01, 17, [], { name: 'versions', at: 17, count: { at: 16, form: u8 } }),
  TDISP_CAPABILITIES: layout(0x02, 44, [
    field(16, 'dsmCaps', u32),
    field(20, 'requestsSupported', octets(16)),
    field(36, 'lockFlagsSupported', u16),
    field(41, 'addressWidth', u8),
    field(42, 'numReqThis', u8),
    field(43, 'numReqAll', u8),
  ]),
  LOCK_INTERFACE_RESPONSE: layout(0x03, 48, nonce),
  DEVICE_INTERFACE_REPORT: layout(0x04, 20, [field(18, 'remainder', u16)], {
    name: 'portion',
    at: 20,
    count: { at: 16, form: u16 },
  }),
  DEVICE_INTERFACE_STATE: layout(0x05, 17, [field(16, 'state', u8)]),
  START_INTERFACE_RESPONSE: layout(0x06, 16),
  STOP_INTERFACE_RESPONSE: layout(0x07, 16),
  BIND_P2P_STREAM_RESPONSE: layout(0x08, 16),
  UNBIND_P2P_STREAM_RESPONSE: layout(0x09, 16),
  SET_MMIO_ATTRIBUTE_RESPONSE: layout(0x0a, 16),
  VDM_RESPONSE: layout(0x0b, 16, [], vendorData),
  TDISP_ERROR: layout(0x7f, 24, [field(16, 'errorCode', u32), field(20, 'errorData', u32)], {
    name: 'extended',
    at: 24,
    allowed: ({ errorCode }) => errorCode === TDISP_ERROR_CODE.VENDOR_SPECIFIC_ERROR,
  }),
  GET_TDISP_VERSION: layout(0x81, 16),
  GET_TDISP_CAPABILITIES: layout(0x82, 20, [field(16, 'tsmCaps', u32)]),
  LOCK_INTERFACE_REQUEST: layout(0x83, 36, [
    field(16, 'flags', u16),
    field(18, 'defaultStreamId', u8),
    field(20, 'mmioReportingOffset', s64),
    field(28, 'p2pAddressMask', u64),
  ]),
  GET_DEVICE_INTERFACE_REPORT: layout(0x84, 20, [field(16, 'offset', u16), field(18, 'length', u16)]),
  GET_DEVICE_INTERFACE_STATE: layout(0x85, 16),
  START_INTERFACE_REQUEST: layout(0x86, 48, nonce),
  STOP_INTERFACE_REQUEST: layout(0x87, 16),
  BIND_P2P_STREAM_REQUEST: layout(0x88, 17, streamId),
  UNBIND_P2P_STREAM_REQUEST: layout(0x89, 17, streamId),
  SET_MMIO_ATTRIBUTE_REQUEST: layout(0x8a, 32, [field(16, 'range', mmioRange)]),
  VDM_REQUEST: layout(0x8b, 16, [], vendorData),
};

/** The code of each message on the wire. */
export const TDISP_CODE: Readonly<Record<TdispMessageType, number>> = Object.fromEntries(
  Object.entries(LAYOUTS).map(([type, { code }]) => [type, code]),
) as Record<TdispMessageType, number>;

const BY_CODE: ReadonlyMap<number, TdispMessageType> = new Map(
  Object.entries(TDISP_CODE).map(([type, code]) => [code, type as TdispMessageType]),
);

/** The protocol id comes before the header. */
const HEADER_AT = 1;

/**
 * The header of a message, whatever its version and code are.
 *
 * Throws TdispFormatError (`short`, `protocol`), and a TypeError for what is no Uint8Array.
 */
export function decodeTdispHeader(bytes: Uint8Array): TdispHeader {
  checkBytes(bytes, 'bytes');
  if (bytes.length > 0 && bytes[0] !== TDISP_PROTOCOL_ID)
    throw new TdispFormatError('protocol', `protocol id 0x${bytes[0]!.toString(16)} is not 0x${TDISP_PROTOCOL_ID.toString(16)}`);
  if (bytes.length < HEADER_AT + TDISP_HEADER_LENGTH)
    throw new TdispFormatError('short', `a header has ${HEADER_AT + TDISP_HEADER_LENGTH} bytes, ${bytes.length} were given`);
  const view = viewOf(bytes);
  return { version: u8.get(view, 0), code: u8.get(view, 1), interfaceId: interfaceId.get(view, 4) };
}

/**
 * The message bytes are. Byte arrays in it are copies.
 *
 * Throws TdispFormatError, and a TypeError for what is no Uint8Array.
 */
export function decodeTdisp(bytes: Uint8Array): TdispMessage {
  checkBytes(bytes, 'bytes');
  const header = decodeTdispHeader(bytes);
  if (header.version !== TDISP_VERSION_1_0)
    throw new TdispFormatError('version', `version 0x${header.version.toString(16)} is not 0x10`, header);
  const type = BY_CODE.get(header.code);
  if (type === undefined) throw new TdispFormatError('type', `there is no message 0x${header.code.toString(16)}`, header);
  const { size, fields, tail } = LAYOUTS[type];
  const view = viewOf(bytes);
  const misfit = (expected: number): TdispFormatError =>
    new TdispFormatError('length', `${type} has ${HEADER_AT + expected} bytes, ${bytes.length} were given`, header);
  if (view.byteLength < size) throw misfit(size);
  const values: Values = { type, interfaceId: header.interfaceId };
  for (const { name, at, form } of fields) values[name] = form.get(view, at);
  if (tail === undefined) {
    if (view.byteLength !== size) throw misfit(size);
    return values as unknown as TdispMessage;
  }
  const given = view.byteLength - tail.at;
  const wanted = tail.count?.form.get(view, tail.count.at) ?? (tail.allowed?.(values) === false ? 0 : given);
  if (given !== wanted) throw misfit(tail.at + wanted);
  values[tail.name] = copyOf(view, tail.at, given);
  return values as unknown as TdispMessage;
}

/**
 * The bytes of a message.
 *
 * Throws a TypeError for a field that is missing or of another type, a RangeError for one that does not fit.
 */
export function encodeTdisp(message: TdispMessage): Uint8Array {
  const { type } = message;
  if (!Object.hasOwn(LAYOUTS, type)) throw typeError(`TDISP has no message ${String(type)}`);
  const { code, size, fields, tail } = LAYOUTS[type];
  const values = message as unknown as Values;
  const rest = tail ? values[tail.name] : undefined;
  if (tail) {
    checkBytes(rest, `${type}.${tail.name}`);
    if (rest.length > 0 && tail.allowed?.(values) === false) throw rangeError(`${type}.${tail.name}: none with this error code`);
  }
  const bytes = new Uint8Array(HEADER_AT + size + ((rest as Uint8Array | undefined)?.length ?? 0));
  const view = viewOf(bytes);
  bytes[0] = TDISP_PROTOCOL_ID;
  u8.set(view, 0, TDISP_VERSION_1_0, type);
  u8.set(view, 1, code, type);
  interfaceId.set(view, 4, message.interfaceId, `${type}.interfaceId`);
  for (const { name, at, form } of fields) form.set(view, at, values[name] as never, `${type}.${name}`);
  if (tail) {
    tail.count?.form.set(view, tail.count.at, (rest as Uint8Array).length, `${type}.${tail.name}: length`);
    putBytes(view, tail.at, rest as Uint8Array);
  }
  return bytes;
}

/** A TDISP_ERROR, without vendor's bytes. */
export const tdispError = (interfaceId: InterfaceId, errorCode: number, errorData = 0): TdispMessage<'TDISP_ERROR'> => ({
  type: 'TDISP_ERROR',
  interfaceId,
  errorCode,
  errorData,
  extended: new Uint8Array(0),
});

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset + HEADER_AT, bytes.length - HEADER_AT);
