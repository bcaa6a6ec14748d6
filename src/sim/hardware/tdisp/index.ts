/** TDISP, on its own (docs/tdisp.md): the messages, the report, a TDI's states, a device that answers. */
export { decodeTdisp, decodeTdispHeader, encodeTdisp, TDISP_CODE, tdispError } from './codec.ts';
export { TdispFormatError, type TdispFormatReason } from './codec-error.ts';
export { type ConfigWrite, configWriteEvents } from './config-events.ts';
export { Dsm, type DsmOptions } from './dsm.ts';
export { TDI_EVENTS, type TdiEvent, type TdiEventRule } from './events.ts';
export { LOCK_FAULTS, type LockFault } from './lock.ts';
export type {
  DsmCapabilities,
  InterfaceId,
  LockParameters,
  TdispHeader,
  TdispMessage,
  TdispMessageType,
  TdispMmioRange,
} from './messages.ts';
export { TdispRefusal } from './refusal.ts';
export { decodeInterfaceReport, encodeInterfaceReport, type InterfaceReport } from './report.ts';
export { Tdi, type TdiDevice, type TdiMmio, type TdiMove, type TdiOptions } from './tdi.ts';
export {
  TDISP_ERROR_CODE,
  TDISP_INTERFACE_INFO,
  TDISP_LOCK_FLAG,
  TDISP_MMIO,
  TDISP_NONCE_LENGTH,
  TDISP_STATE,
  type TdispState,
} from './vocabulary.ts';
