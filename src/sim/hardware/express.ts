import * as r from '../../uapi/pci-regs.ts';
import type { RegisterBits } from './config-space.ts';

/** The PCI Express capability where the default does not do. Masks are the bits a driver can write. */
export interface ExpressSpec {
  readonly at?: number;
  /** Version 1 ends after the registers of the root; 2, the default, has the second set. */
  readonly version?: 1 | 2;
  /** PCI_EXP_TYPE_*; default: an endpoint, or what kind of bridge it is. */
  readonly type?: number;
  /** Slot Implemented. */
  readonly slot?: boolean;
  readonly deviceCapabilities?: number;
  readonly deviceControl?: number;
  readonly linkCapabilities?: number;
  readonly linkControl?: number;
  readonly linkStatus?: number;
  readonly slotCapabilities?: number;
  readonly slotControl?: number;
  readonly rootControl?: number;
  readonly deviceCapabilities2?: number;
  readonly deviceControl2?: number;
}

/** Bytes after id and next. A function that can reset itself says so, and its control bit reads as zero. */
export function expressRegisters(spec: ExpressSpec, flr: boolean): RegisterBits {
  const { version = 2, type = r.PCI_EXP_TYPE_ENDPOINT, slot = false } = spec;
  const length = version === 1 ? 0x14 : 0x3c;
  const bytes = new Uint8Array(length - 2);
  const writable = new Uint8Array(length - 2);
  const clearable = new Uint8Array(length - 2);
  const put = (into: Uint8Array, at: number, width: 2 | 4, value: number): void => {
    if (at + width > length) return;
    const view = new DataView(into.buffer);
    if (width === 2) view.setUint16(at - 2, value, true);
    else view.setUint32(at - 2, value, true);
  };
  put(bytes, r.PCI_EXP_FLAGS, 2, version | (type << 4) | (slot ? 0x100 : 0));
  put(bytes, r.PCI_EXP_DEVCAP, 4, ((spec.deviceCapabilities ?? 0x8020) | (flr ? r.PCI_EXP_DEVCAP_FLR : 0)) >>> 0);
  put(writable, r.PCI_EXP_DEVCTL, 2, (spec.deviceControl ?? 0x7fff) | (flr ? r.PCI_EXP_DEVCTL_BCR_FLR : 0));
  put(clearable, r.PCI_EXP_DEVSTA, 2, 0xf);
  put(bytes, r.PCI_EXP_LNKCAP, 4, spec.linkCapabilities ?? 0x411);
  put(writable, r.PCI_EXP_LNKCTL, 2, spec.linkControl ?? 0x0fcb);
  put(bytes, r.PCI_EXP_LNKSTA, 2, spec.linkStatus ?? 0x11);
  put(bytes, 0x14, 4, spec.slotCapabilities ?? 0);
  put(writable, r.PCI_EXP_SLTCTL, 2, spec.slotControl ?? 0);
  put(writable, r.PCI_EXP_RTCTL, 2, spec.rootControl ?? 0);
  put(bytes, 0x24, 4, spec.deviceCapabilities2 ?? 0);
  put(writable, r.PCI_EXP_DEVCTL2, 2, spec.deviceControl2 ?? 0x47ff);
  return { bytes, writable, clearable };
}
