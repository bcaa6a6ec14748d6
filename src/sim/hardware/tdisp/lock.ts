/** Why a device refuses LOCK_INTERFACE_REQUEST, and with which error: PCI Express Base Specification, chapter 11. */
import { TDISP_ERROR_CODE } from './vocabulary.ts';

const { INVALID_REQUEST, INVALID_DEVICE_CONFIGURATION } = TDISP_ERROR_CODE;

export type LockFault =
  | 'ide-default-stream-mismatch'
  | 'ide-several-default-streams'
  | 'ide-default-stream-not-tc0'
  | 'ide-keys-missing'
  | 'ide-keys-of-other-session'
  | 'phantom-functions'
  | 'overlapping-bars'
  | 'resizable-bar-size'
  | 'sriov-page-size'
  | 'cache-line-size'
  | 'steering-tag-mode'
  | 'device-specific';

/** TDISP_ERROR_CODE of each. */
export const LOCK_FAULTS: Readonly<Record<LockFault, number>> = {
  /** The request's default stream is not the one that is configured. */
  'ide-default-stream-mismatch': INVALID_REQUEST,
  'ide-several-default-streams': INVALID_REQUEST,
  'ide-default-stream-not-tc0': INVALID_REQUEST,
  'ide-keys-missing': INVALID_REQUEST,
  /** The keys were programmed by another SPDM session. */
  'ide-keys-of-other-session': INVALID_REQUEST,
  'phantom-functions': INVALID_DEVICE_CONFIGURATION,
  /** BARs, or a BAR and the ROM. */
  'overlapping-bars': INVALID_DEVICE_CONFIGURATION,
  'resizable-bar-size': INVALID_DEVICE_CONFIGURATION,
  'sriov-page-size': INVALID_DEVICE_CONFIGURATION,
  'cache-line-size': INVALID_DEVICE_CONFIGURATION,
  'steering-tag-mode': INVALID_DEVICE_CONFIGURATION,
  'device-specific': INVALID_DEVICE_CONFIGURATION,
};
