import * as r from '../../uapi/pci-regs.ts';
import { PciBridge } from '../hardware/bridge.ts';
import type { PciFunction, Severity } from '../hardware/pci-function.ts';
import type { PciDev } from './pci-dev.ts';
import { resetSecondaryBus } from './reset.ts';

/** What a device has reported: sysfs aer_dev_*. */
export interface AerCounts {
  correctable: number;
  nonfatal: number;
  fatal: number;
}

/** The error message of a function arrives at its root port: drivers/pci/pcie/aer.c. Nobody listens where no root port collects them. */
export function errorMessage(dev: PciDev, severity: Severity): void {
  if (!rootPort(dev)?.spec.aer) return;
  count(dev, severity);
  if (severity !== 'correctable') recover(dev, severity);
  clearStatus(dev, severity);
}

/** pci_dev_aer_stats_incr: every bit that stands and is not masked. */
function count(dev: PciDev, severity: Severity): void {
  dev.aer[severity]++;
  const { aer } = dev.fn.positions;
  if (aer === 0) return;
  const correctable = severity === 'correctable';
  const [status, mask] = correctable
    ? [r.PCI_ERR_COR_STATUS, r.PCI_ERR_COR_MASK]
    : [r.PCI_ERR_UNCOR_STATUS, r.PCI_ERR_UNCOR_MASK];
  const standing = dev.readConfig(aer + status, 4) & ~dev.readConfig(aer + mask, 4);
  const bits = dev.aerBits[severity];
  for (let bit = 0; bit < (correctable ? 16 : 32); bit++) {
    if (((standing >>> bit) & 1) === 1) bits.set(bit, (bits.get(bit) ?? 0) + 1);
  }
}

function rootPort(dev: PciDev): PciFunction | undefined {
  return dev.parent === undefined ? (dev.fn instanceof PciBridge ? dev.fn : undefined) : rootPort(dev.parent);
}

/** pcie_do_recovery: everything below the bridge above is told; after a fatal error that bus is reset. */
function recover(dev: PciDev, severity: 'nonfatal' | 'fatal'): void {
  const bridge = dev.fn instanceof PciBridge ? dev : dev.parent;
  if (bridge === undefined) return;
  const below = dev.subsystem.devices.filter((other) => isBelow(other, bridge));
  for (const one of below) one.onError?.(severity);
  if (severity === 'fatal') resetSecondaryBus(bridge);
}

function isBelow(dev: PciDev, bridge: PciDev): boolean {
  return dev.parent !== undefined && (dev.parent === bridge || isBelow(dev.parent, bridge));
}

/** Writing ones clears what was reported. */
function clearStatus(dev: PciDev, severity: Severity): void {
  const { aer, express } = dev.fn.positions;
  const status = aer + (severity === 'correctable' ? r.PCI_ERR_COR_STATUS : r.PCI_ERR_UNCOR_STATUS);
  if (aer !== 0) dev.writeConfig(status, 4, dev.readConfig(status, 4));
  dev.writeConfig(express + r.PCI_EXP_DEVSTA, 2, 0xf);
}
