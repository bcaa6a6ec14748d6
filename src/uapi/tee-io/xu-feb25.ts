/** RFC: VFIO's bind as first sketched, 26 February 2025 (`SERIES.xuFeb25`): the TDI is named by the TSM's id. */
import type { Struct } from '../struct.ts';
import { struct } from '../struct.ts';

/** RFC, VFIO bind sketch, ioctl on a VFIO device: vfio_pci_tsm_bind. */
export const VFIO_DEVICE_TSM_BIND = 0x3b7a;

/** RFC, VFIO bind sketch: VFIO_DEVICE_TSM_BIND. */
export interface vfio_pci_tsm_bind {
  argsz: number;
  flags: number;
  /** In: the id that is suggested; out: the TSM's. */
  tdi_id: number;
  pad: number;
}
/** RFC, VFIO bind sketch: VFIO_DEVICE_TSM_BIND. */
export const vfio_pci_tsm_bind: Struct<vfio_pci_tsm_bind> = struct(
  'vfio_pci_tsm_bind',
  'struct',
  16,
  4,
  `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u32 tdi_id;
  12 __u32 pad;
`,
);
