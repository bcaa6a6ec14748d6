/** TDISP messages as values: PCI Express Base Specification, chapter 11. `type` is the specification's name; reserved fields are not there. */

/** INTERFACE_ID: the function whose interface it is. */
export interface InterfaceId {
  /** Bus, device and function, 16 bits. */
  readonly requesterId: number;
  /** Absent: the segment is not given (Requester Segment Valid clear). */
  readonly segment?: number;
}

export interface TdispHeader {
  readonly version: number;
  /** The code on the wire: below 0x80 a response. */
  readonly code: number;
  readonly interfaceId: InterfaceId;
}

/** Pages of 4 KiB in a BAR, as reports and SET_MMIO_ATTRIBUTE_REQUEST have them. */
export interface TdispMmioRange {
  /** Address divided by 4096, MMIO_REPORTING_OFFSET added to the address before. */
  readonly firstPage: bigint;
  readonly pages: number;
  /** Bits 15:0: TDISP_MMIO. */
  readonly attributes: number;
  /** Bits 31:16: the BAR's number. */
  readonly rangeId: number;
}

/** What LOCK_INTERFACE_REQUEST asks for. */
export interface LockParameters {
  /** TDISP_LOCK_FLAG, 16 bits. */
  readonly flags: number;
  readonly defaultStreamId: number;
  /** Added to addresses in the report; signed, bytes. */
  readonly mmioReportingOffset: bigint;
  readonly p2pAddressMask: bigint;
}

/** What TDISP_CAPABILITIES answers. */
export interface DsmCapabilities {
  readonly dsmCaps: number;
  /** 16 bytes: bit n is request code 0x80 + n. */
  readonly requestsSupported: Uint8Array;
  /** TDISP_LOCK_FLAG. */
  readonly lockFlagsSupported: number;
  /** Width of the addresses the device masters, in bits. */
  readonly addressWidth: number;
  /** Requests that may be outstanding for this interface, and for all of the device. */
  readonly numReqThis: number;
  readonly numReqAll: number;
}

interface Payloads {
  GET_TDISP_VERSION: object;
  TDISP_VERSION: { readonly versions: Uint8Array };
  GET_TDISP_CAPABILITIES: { readonly tsmCaps: number };
  TDISP_CAPABILITIES: DsmCapabilities;
  LOCK_INTERFACE_REQUEST: LockParameters;
  /** 32 bytes. */
  LOCK_INTERFACE_RESPONSE: { readonly nonce: Uint8Array };
  GET_DEVICE_INTERFACE_REPORT: { readonly offset: number; readonly length: number };
  /** `remainder`: bytes of the report after this portion. */
  DEVICE_INTERFACE_REPORT: { readonly portion: Uint8Array; readonly remainder: number };
  GET_DEVICE_INTERFACE_STATE: object;
  /** TDISP_STATE; other values may come from outside. */
  DEVICE_INTERFACE_STATE: { readonly state: number };
  START_INTERFACE_REQUEST: { readonly nonce: Uint8Array };
  START_INTERFACE_RESPONSE: object;
  STOP_INTERFACE_REQUEST: object;
  STOP_INTERFACE_RESPONSE: object;
  BIND_P2P_STREAM_REQUEST: { readonly streamId: number };
  BIND_P2P_STREAM_RESPONSE: object;
  UNBIND_P2P_STREAM_REQUEST: { readonly streamId: number };
  UNBIND_P2P_STREAM_RESPONSE: object;
  SET_MMIO_ATTRIBUTE_REQUEST: { readonly range: TdispMmioRange };
  SET_MMIO_ATTRIBUTE_RESPONSE: object;
  VDM_REQUEST: { readonly data: Uint8Array };
  VDM_RESPONSE: { readonly data: Uint8Array };
  /** TDISP_ERROR_CODE. `extended` has bytes with VENDOR_SPECIFIC_ERROR only. */
  TDISP_ERROR: { readonly errorCode: number; readonly errorData: number; readonly extended: Uint8Array };
}

export type TdispMessageType = keyof Payloads;
/** A message, discriminated by `type`. */
export type TdispMessage<T extends TdispMessageType = TdispMessageType> = {
  [K in T]: { readonly type: K; readonly interfaceId: InterfaceId } & Payloads[K];
}[T];
