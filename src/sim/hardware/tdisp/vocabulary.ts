/** The numbers of TDISP 1.0: PCI Express Base Specification, chapter 11. */

/** First byte of a message, after SPDM's vendor-defined header. */
export const TDISP_PROTOCOL_ID = 0x01;
/** Version 1.0, the only one. */
export const TDISP_VERSION_1_0 = 0x10;
/** Bytes of the TDISP header, which follows the protocol id. */
export const TDISP_HEADER_LENGTH = 16;
export const TDISP_NONCE_LENGTH = 32;

/** The states of a TDI, as DEVICE_INTERFACE_STATE has them and the kernel's enum tsm_tdisp_state. */
export const TDISP_STATE = { CONFIG_UNLOCKED: 0, CONFIG_LOCKED: 1, RUN: 2, ERROR: 3 } as const;
export type TdispState = (typeof TDISP_STATE)[keyof typeof TDISP_STATE];

/** The codes of TDISP_ERROR. */
export const TDISP_ERROR_CODE = {
  INVALID_REQUEST: 0x0001,
  BUSY: 0x0003,
  INVALID_INTERFACE_STATE: 0x0004,
  UNSPECIFIED: 0x0005,
  UNSUPPORTED_REQUEST: 0x0007,
  VERSION_MISMATCH: 0x0041,
  VENDOR_SPECIFIC_ERROR: 0x00ff,
  INVALID_INTERFACE: 0x0101,
  INVALID_NONCE: 0x0102,
  INSUFFICIENT_ENTROPY: 0x0103,
  INVALID_DEVICE_CONFIGURATION: 0x0104,
} as const;

/** LOCK_INTERFACE_FLAGS. */
export const TDISP_LOCK_FLAG = {
  NO_FW_UPDATE: 0x1,
  /** The system's cache lines have 128 bytes, not 64. */
  CACHE_LINE_SIZE: 0x2,
  LOCK_MSIX: 0x4,
  BIND_P2P: 0x8,
  ALL_REQUEST_REDIRECT: 0x10,
} as const;

/** INTERFACE_INFO of a report. */
export const TDISP_INTERFACE_INFO = {
  NO_FW_UPDATE: 0x1,
  DMA_WITHOUT_PASID: 0x2,
  DMA_WITH_PASID: 0x4,
  ATS: 0x8,
  PRS: 0x10,
} as const;

/** Attributes of an MMIO range, bits 15:0 of its last word. */
export const TDISP_MMIO = {
  MSIX_TABLE: 0x1,
  MSIX_PBA: 0x2,
  IS_NON_TEE_MEM: 0x4,
  /** SET_MMIO_ATTRIBUTE may change IS_NON_TEE_MEM. */
  IS_MEM_ATTR_UPDATABLE: 0x8,
} as const;
