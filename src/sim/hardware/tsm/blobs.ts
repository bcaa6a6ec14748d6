/**
 * The requests a guest's bytes carry where the layout leaves them to the TSM (`type48`, `scope40`). A command in the first 32 bits: those of CCA's series, for every vendor, and
 * two that no posting has a number for.
 */

import * as cca from '../../../uapi/tee-io/cca-v3.ts';
import { cca_tsm_set_tdi_state, cca_tsm_vdev_map } from '../../../uapi/tee-io/cca-v3.ts';
import { TSM_OBJECT, TSM_TDI_STATE, type TsmRequest } from './requests.ts';
import type { TdiContext } from './tdi-context.ts';

/** Ours: private DMA by request (TDX's "accept DMA", SEV-TIO's SDTE_WRITE). */
export const TSM_BLOB_ENABLE_DMA = 0x100;
export const TSM_BLOB_DISABLE_DMA = 0x101;

interface Command {
  /** Bytes of the blob, command included. */
  readonly sizes: readonly number[];
  read(blob: DataView, tdi: TdiContext, responseLength: number): TsmRequest | undefined;
}

const OBJECT_AT = 4;
const OFFSET_AT = 8;
const NONCE_AT = 8;

const commands: Readonly<Record<number, Command>> = {
  [cca.CCA_TSM_REQ_OBJECT_SIZE]: {
    sizes: [8],
    read: (blob) => ({ op: 'object-info', object: blob.getUint32(OBJECT_AT, true) }),
  },
  [cca.CCA_TSM_REQ_OBJECT_READ]: {
    sizes: [16],
    read: (blob, _tdi, length) => ({
      op: 'read-object',
      object: blob.getUint32(OBJECT_AT, true),
      offset: blob.getBigUint64(OFFSET_AT, true),
      length,
    }),
  },
  [cca.CCA_TSM_REQ_UPDATE_IF_REPORT]: { sizes: [4], read: () => ({ op: 'regen-object', object: TSM_OBJECT.REPORT, flags: 0n }) },
  [cca.CCA_TSM_REQ_UPDATE_MEASUREMENTS]: {
    sizes: [8, 40],
    read: (blob) => ({
      op: 'regen-object',
      object: TSM_OBJECT.MEASUREMENT,
      flags: BigInt(blob.getUint32(4, true)),
      ...(blob.byteLength > NONCE_AT ? { nonce: new Uint8Array(blob.buffer, blob.byteOffset + NONCE_AT).slice(0, 32) } : {}),
    }),
  },
  [cca.CCA_TSM_REQ_VDEV_MAP]: {
    sizes: [cca_tsm_vdev_map.size],
    read: (blob) => {
      const { gpa_base, gpa_top, pa_base } = cca_tsm_vdev_map.decode(
        new Uint8Array(blob.buffer, blob.byteOffset, blob.byteLength),
      );
      return { op: 'validate-mmio', gpaBase: gpa_base, gpaTop: gpa_top, paBase: pa_base };
    },
  },
  /** RUN alone; where BIND does not lock, LOCKED too: in these series it rides on a call between guest and firmware that is not modelled. */
  [cca.CCA_TSM_REQ_SET_TDI_STATE]: {
    sizes: [cca_tsm_set_tdi_state.size],
    read: (blob, { tsm }) => {
      const state = blob.getUint32(4, true);
      const locks = state === TSM_TDI_STATE.LOCKED && !tsm.switches.bindLocks;
      return state === TSM_TDI_STATE.RUN || locks ? { op: 'set-tdi-state', state } : undefined;
    },
  },
  [TSM_BLOB_ENABLE_DMA]: { sizes: [4], read: () => ({ op: 'enable-dma' }) },
  [TSM_BLOB_DISABLE_DMA]: { sizes: [4], read: () => ({ op: 'disable-dma' }) },
};

/** The request in a blob; undefined: no command, or not of its size. */
export function blobRequest(tdi: TdiContext, blob: Uint8Array, responseLength: number): TsmRequest | undefined {
  if (blob.length < 4) return undefined;
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  const command = commands[view.getUint32(0, true)];
  return command?.sizes.includes(blob.length) === true ? command.read(view, tdi, responseLength) : undefined;
}
