/** What a guest asks the TSM about its TDI, whatever the layout in which the request came (include/uapi/linux/iommufd.h of the posted series). */

/** Object ids: the negotiated SPDM versions, capabilities and algorithms; the certificate chain; the measurements; the interface report. */
export const TSM_OBJECT = { VCA: 0, CERT: 1, MEASUREMENT: 2, REPORT: 3 } as const;
export type TsmObject = (typeof TSM_OBJECT)[keyof typeof TSM_OBJECT];

/** States a guest can ask for. */
export const TSM_TDI_STATE = { UNLOCKED: 0, LOCKED: 1, RUN: 2 } as const;

export type TsmRequest =
  /** At most `length` bytes of an object from `offset`. */
  | { readonly op: 'read-object'; readonly object: number; readonly offset: bigint; readonly length: number }
  /** The size of an object: 4 bytes. */
  | { readonly op: 'object-info'; readonly object: number }
  /** A fresh object; `nonce`: 32 bytes that measurements then carry. */
  | { readonly op: 'regen-object'; readonly object: number; readonly nonce?: Uint8Array; readonly flags: bigint }
  /** The guest accepts device memory [`paBase`, …) at [`gpaBase`, `gpaTop`). */
  | { readonly op: 'validate-mmio'; readonly gpaBase: bigint; readonly gpaTop: bigint; readonly paBase: bigint }
  /** TSM_TDI_STATE. */
  | { readonly op: 'set-tdi-state'; readonly state: number }
  | { readonly op: 'enable-dma' }
  | { readonly op: 'disable-dma' }
  /** Bytes that only the TSM understands. */
  | { readonly op: 'vendor'; readonly blob: Uint8Array; readonly responseLength: number };

export interface TsmResponse {
  /** 0 or −errno. */
  readonly errno: number;
  readonly response: Uint8Array;
  /** What the TSM or the device says of it: a TDISP_ERROR code, a status of the vendor's; 0: nothing. */
  readonly code: number;
}
