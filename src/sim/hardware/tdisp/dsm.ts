/** The device security manager: takes the TDISP requests that reach a device and answers them. Bytes in, bytes out. */
import { rangeError } from '../../../kernel/errors.ts';
import { decodeTdisp, encodeTdisp, TDISP_CODE, tdispError } from './codec.ts';
import { TdispFormatError, type TdispFormatReason } from './codec-error.ts';
import type { InterfaceId, TdispMessage, TdispMessageType } from './messages.ts';
import { TdispRefusal } from './refusal.ts';
import type { Tdi } from './tdi.ts';
import { TDISP_ERROR_CODE, TDISP_VERSION_1_0 } from './vocabulary.ts';

export interface DsmOptions {
  /** DSM_CAPS. Default 0. */
  readonly dsmCaps?: number;
  /** Width of the addresses the device masters. Default 52 bits. */
  readonly addressWidth?: number;
  /** The device's own messages: the answer to a VDM_REQUEST; TdispRefusal refuses. Default: there are none. */
  readonly vendor?: (data: Uint8Array, tdi: Tdi) => Uint8Array;
}

type Request = Extract<TdispMessageType, `GET_${string}` | `${string}_REQUEST`>;
type Answer = TdispMessage extends infer M ? (M extends unknown ? Omit<M, 'interfaceId'> : never) : never;
type Handlers = { readonly [K in Request]: (tdi: Tdi, request: TdispMessage<K>) => Answer };

/** What a message that cannot be read is answered with. */
const FORMAT_ERRORS: Readonly<Record<TdispFormatReason, number>> = {
  short: TDISP_ERROR_CODE.INVALID_REQUEST,
  protocol: TDISP_ERROR_CODE.INVALID_REQUEST,
  version: TDISP_ERROR_CODE.VERSION_MISMATCH,
  type: TDISP_ERROR_CODE.UNSUPPORTED_REQUEST,
  length: TDISP_ERROR_CODE.INVALID_REQUEST,
};

const FIRST_REQUEST = 0x80;

export class Dsm {
  readonly #options: DsmOptions;
  readonly #tdis = new Map<string, Tdi>();
  readonly #handlers: Partial<Handlers>;

  constructor(options: DsmOptions = {}) {
    this.#options = options;
    const { vendor } = options;
    this.#handlers = vendor
      ? { ...this.#own, VDM_REQUEST: (tdi, { data }) => ({ type: 'VDM_RESPONSE', data: vendor(data, tdi) }) }
      : this.#own;
  }

  /** Makes an interface one of this device. Throws a RangeError if its id is taken. */
  add(tdi: Tdi): void {
    const key = keyOf(tdi.interfaceId);
    if (this.#tdis.has(key)) throw rangeError(`the device has an interface ${key} already`);
    this.#tdis.set(key, tdi);
  }

  /** The interface of an id. */
  find(id: InterfaceId): Tdi | undefined {
    return this.#tdis.get(keyOf(id));
  }

  /**
   * The response to a request. Whatever the bytes are, it is a response or TDISP_ERROR: what cannot be read, then the interface, then what the TDI says.
   */
  respond(bytes: Uint8Array): Uint8Array {
    let request: TdispMessage;
    try {
      request = decodeTdisp(bytes);
    } catch (error) {
      if (!(error instanceof TdispFormatError)) throw error;
      const { reason, header } = error;
      const noRequest = reason === 'length' && header!.code < FIRST_REQUEST;
      const code = noRequest ? TDISP_ERROR_CODE.UNSUPPORTED_REQUEST : FORMAT_ERRORS[reason];
      return encodeTdisp(tdispError(header?.interfaceId ?? { requesterId: 0 }, code));
    }
    const { interfaceId } = request;
    const handler = this.#handlers[request.type as Request];
    if (handler === undefined) return encodeTdisp(tdispError(interfaceId, TDISP_ERROR_CODE.UNSUPPORTED_REQUEST));
    const tdi = this.find(interfaceId);
    if (tdi === undefined) return encodeTdisp(tdispError(interfaceId, TDISP_ERROR_CODE.INVALID_INTERFACE));
    try {
      return encodeTdisp({ ...handler(tdi, request as never), interfaceId } as TdispMessage);
    } catch (error) {
      if (!(error instanceof TdispRefusal)) throw error;
      return encodeTdisp(tdispError(interfaceId, error.errorCode));
    }
  }

  readonly #own: Omit<Handlers, 'VDM_REQUEST'> = {
    GET_TDISP_VERSION: () => ({ type: 'TDISP_VERSION', versions: Uint8Array.of(TDISP_VERSION_1_0) }),
    GET_TDISP_CAPABILITIES: (tdi) => ({
      type: 'TDISP_CAPABILITIES',
      dsmCaps: this.#options.dsmCaps ?? 0,
      requestsSupported: this.#requestsSupported(),
      lockFlagsSupported: tdi.lockFlagsSupported,
      addressWidth: this.#options.addressWidth ?? 52,
      numReqThis: 1,
      numReqAll: 1,
    }),
    LOCK_INTERFACE_REQUEST: (tdi, request) => ({ type: 'LOCK_INTERFACE_RESPONSE', nonce: tdi.lock(request) }),
    GET_DEVICE_INTERFACE_REPORT: (tdi, { offset, length }) => ({
      type: 'DEVICE_INTERFACE_REPORT',
      ...tdi.reportPortion(offset, length),
    }),
    GET_DEVICE_INTERFACE_STATE: (tdi) => ({ type: 'DEVICE_INTERFACE_STATE', state: tdi.state }),
    START_INTERFACE_REQUEST: (tdi, { nonce }) => {
      tdi.start(nonce);
      return { type: 'START_INTERFACE_RESPONSE' };
    },
    STOP_INTERFACE_REQUEST: (tdi) => {
      tdi.stop();
      return { type: 'STOP_INTERFACE_RESPONSE' };
    },
    BIND_P2P_STREAM_REQUEST: (tdi, { streamId }) => {
      tdi.bindP2pStream(streamId);
      return { type: 'BIND_P2P_STREAM_RESPONSE' };
    },
    UNBIND_P2P_STREAM_REQUEST: (tdi, { streamId }) => {
      tdi.unbindP2pStream(streamId);
      return { type: 'UNBIND_P2P_STREAM_RESPONSE' };
    },
    SET_MMIO_ATTRIBUTE_REQUEST: (tdi, { range }) => {
      tdi.setMmioAttribute(range);
      return { type: 'SET_MMIO_ATTRIBUTE_RESPONSE' };
    },
  };

  /** Bit n: request code 0x80 + n. */
  #requestsSupported(): Uint8Array {
    const bitmap = new Uint8Array(16);
    for (const type of Object.keys(this.#handlers) as Request[]) {
      const bit = TDISP_CODE[type] - FIRST_REQUEST;
      bitmap[bit >> 3]! |= 1 << (bit & 7);
    }
    return bitmap;
  }
}

const keyOf = ({ requesterId, segment }: InterfaceId): string =>
  `${segment === undefined ? '' : `${segment.toString(16)}:`}${requesterId.toString(16)}`;
