import * as r from '../../uapi/pci-regs.ts';
import type { PciDev } from './pci-dev.ts';

/** What pci_save_state keeps: registers by offset, in the order in which they go back. */
export interface SavedState {
  readonly registers: readonly (readonly [at: number, width: 2 | 4, value: number])[];
}

/** Control registers of the PCI Express capability (pci_save_pcie_state). */
const EXPRESS = [r.PCI_EXP_DEVCTL, r.PCI_EXP_LNKCTL, r.PCI_EXP_SLTCTL, r.PCI_EXP_RTCTL, r.PCI_EXP_DEVCTL2, r.PCI_EXP_LNKCTL2];

/** Registers of extended capabilities: id, offset, width. */
const EXTENDED: readonly (readonly [id: number, at: number, width: 2 | 4])[] = [
  [r.PCI_EXT_CAP_ID_ERR, r.PCI_ERR_UNCOR_MASK, 4],
  [r.PCI_EXT_CAP_ID_ERR, r.PCI_ERR_UNCOR_SEVER, 4],
  [r.PCI_EXT_CAP_ID_ERR, r.PCI_ERR_COR_MASK, 4],
  [r.PCI_EXT_CAP_ID_ERR, r.PCI_ERR_CAP, 4],
  [r.PCI_EXT_CAP_ID_ACS, r.PCI_ACS_CTRL, 2],
  [r.PCI_EXT_CAP_ID_ATS, 6, 2],
  [r.PCI_EXT_CAP_ID_PRI, 4, 2],
  [r.PCI_EXT_CAP_ID_PRI, 0x0c, 4],
  [r.PCI_EXT_CAP_ID_PASID, 6, 2],
  [r.PCI_EXT_CAP_ID_SRIOV, r.PCI_SRIOV_SYS_PGSIZE, 4],
  ...Array.from({ length: 6 }, (_, bar) => [r.PCI_EXT_CAP_ID_SRIOV, r.PCI_SRIOV_BAR + 4 * bar, 4] as const),
  [r.PCI_EXT_CAP_ID_SRIOV, r.PCI_SRIOV_NUM_VF, 2],
  [r.PCI_EXT_CAP_ID_SRIOV, r.PCI_SRIOV_CTRL, 2],
];

/** pci_save_state. The messages of MSI and MSI-X are not among it: the kernel knows them. */
export function saveState(dev: PciDev): SavedState {
  const registers: [number, 2 | 4, number][] = [];
  const keep = (at: number, width: 2 | 4): void => {
    registers.push([at, width, dev.readConfig(at, width)]);
  };
  const express = dev.findCapability(r.PCI_CAP_ID_EXP);
  if (express !== 0) for (const at of EXPRESS) keep(express + at, 2);
  for (const [id, at, width] of EXTENDED) {
    const capability = dev.findExtCapability(id);
    if (capability !== 0) keep(capability + at, width);
  }
  // BARs and windows before COMMAND: nothing is decoded at a wrong address.
  for (let at = 0x3c; at >= 0; at -= 4) keep(at, 4);
  return { registers };
}

export function restoreState(dev: PciDev, { registers }: SavedState): void {
  for (const [at, width, value] of registers) if (dev.readConfig(at, width) !== value) dev.writeConfig(at, width, value);
  dev.irq.program();
}
