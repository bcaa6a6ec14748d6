/** What happens to a TDI besides its messages, and where that leads: PCI Express Base Specification, chapter 11, "TDISP interface states". */
import { TDISP_LOCK_FLAG, TDISP_STATE, type TdispState } from './vocabulary.ts';

export type TdiEvent =
  | 'memory-space-clear'
  | 'bus-master-clear'
  | 'bar-write'
  | 'capability-change'
  | 'tag-change'
  | 'flr'
  | 'power-loss'
  | 'requester-id-change'
  | 'msix-change'
  | 'ide-insecure'
  | 'spdm-session-end'
  | 'unrecoverable'
  | 'firmware-update'
  | 'forced-firmware-update'
  | 'debug-authorization'
  | 'conventional-reset'
  | 'host-access'
  | 'device-specific-change'
  | 'data-scrubbed'
  | 'free-change';

export interface TdiEventRule {
  /** States that are left, and for which. */
  readonly moves: Readonly<Partial<Record<TdispState, TdispState>>>;
  /** The lock flag without which it leaves the state as it is. */
  readonly onlyWith?: number;
  /** The lock flag with which the device refuses it while locked. */
  readonly refusedWith?: number;
  /** Of a physical function: it happens to its virtual functions too. */
  readonly virtualFunctions?: true;
}

const { CONFIG_UNLOCKED, CONFIG_LOCKED, RUN, ERROR } = TDISP_STATE;
/** A locked configuration is no longer what the guest has attested. */
const toError = { [CONFIG_LOCKED]: ERROR, [RUN]: ERROR } as const;

export const TDI_EVENTS: Readonly<Record<TdiEvent, TdiEventRule>> = {
  /** Memory Space Enable cleared. */
  'memory-space-clear': { moves: toError },
  /** Bus Master Enable cleared. */
  'bus-master-clear': { moves: toError },
  /** A BAR, the ROM BAR or BIST written. */
  'bar-write': { moves: toError },
  /** Resizable BAR, VF Resizable BAR, Enhanced Allocation, ARI, PASID, PRI, SR-IOV or multicast registers changed. */
  'capability-change': { moves: toError },
  /** Extended Tag, Phantom Functions, No Snoop, 10-bit or 14-bit tag enables changed. */
  'tag-change': { moves: toError },
  /** Function level reset. */
  flr: { moves: toError, virtualFunctions: true },
  /** A power state that loses the function's: D3hot without No_Soft_Reset, D3cold. */
  'power-loss': { moves: toError },
  /** Another bus number. */
  'requester-id-change': { moves: toError },
  /** The MSI-X table or capability changed. */
  'msix-change': { moves: toError, onlyWith: TDISP_LOCK_FLAG.LOCK_MSIX },
  /** The bound IDE stream went insecure, its link down, or its registers changed. */
  'ide-insecure': { moves: toError },
  /** The SPDM session that locked the TDI ended. */
  'spdm-session-end': { moves: toError },
  /** A poisoned TLP, or a completion that failed or never came, beyond recovery. */
  unrecoverable: { moves: toError },
  'firmware-update': { moves: {}, refusedWith: TDISP_LOCK_FLAG.NO_FW_UPDATE },
  'forced-firmware-update': { moves: toError },
  'debug-authorization': { moves: toError },
  /** Cold, warm or hot reset, secondary bus reset. */
  'conventional-reset': {
    moves: { [CONFIG_LOCKED]: CONFIG_UNLOCKED, [RUN]: CONFIG_UNLOCKED, [ERROR]: CONFIG_UNLOCKED },
    virtualFunctions: true,
  },
  /** Somebody without the T bit reached for memory of the guest's. Not the specification's: a device may be that strict. */
  'host-access': { moves: toError },
  'device-specific-change': { moves: toError },
  /** The device has scrubbed the TVM's data on its own: it may then leave ERROR. */
  'data-scrubbed': { moves: { [ERROR]: CONFIG_UNLOCKED } },
  /** Status, cache line, latency, interrupt line, MSI, ACS, ATS, AER, DOE and link control registers. */
  'free-change': { moves: {} },
};
