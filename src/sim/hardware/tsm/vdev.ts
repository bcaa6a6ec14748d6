import { TDISP_STATE } from '../tdisp/vocabulary.ts';
import type { TdiContext } from './tdi-context.ts';

/** States of a vdev of Arm's RMM. NEW is left inside of BIND, when the device has been talked to. */
export const VDEV_STATE = { NEW: 0, UNLOCKED: 1, LOCKED: 2, STARTED: 3, ERROR: 4 } as const;

const STATES = {
  [TDISP_STATE.CONFIG_UNLOCKED]: VDEV_STATE.UNLOCKED,
  [TDISP_STATE.CONFIG_LOCKED]: VDEV_STATE.LOCKED,
  [TDISP_STATE.RUN]: VDEV_STATE.STARTED,
  [TDISP_STATE.ERROR]: VDEV_STATE.ERROR,
} as const;

/** The vdev of a TDI; undefined: it is not bound, and there is none. */
export function vdevState({ binding, tdi }: TdiContext): number | undefined {
  return binding === undefined ? undefined : STATES[tdi.state];
}
