import * as r from '../../uapi/pci-regs.ts';
import type { PowerState } from '../hardware/pci-function.ts';
import type { PciDev } from './pci-dev.ts';

/** What a transition from or to D3hot takes, in nanoseconds. */
const D3HOT_DELAY = 10_000_000n;

/**
 * pci_set_power_state. A device without power management is always in D0, and D1 and D2 are optional. Coming back from D3hot it may have forgotten its
 * addresses, which are put back (pci_restore_bars); all else is the driver's to restore. One that does not answer is taken to be in D3cold.
 */
export function setPowerState(dev: PciDev, state: PowerState): void {
  const pm = dev.findCapability(r.PCI_CAP_ID_PM);
  const before = dev.powerState;
  if (pm === 0 || before === state) return;
  const capabilities = dev.fn.config.peek(pm + 2, 2);
  if ((state === 1 && (capabilities & 0x200) === 0) || (state === 2 && (capabilities & 0x400) === 0)) return;
  if (dev.removed) {
    dev.losePower();
    return;
  }
  const control = dev.readConfig(pm + r.PCI_PM_CTRL, 2);
  dev.writeConfig(pm + r.PCI_PM_CTRL, 2, (control & ~r.PCI_PM_CTRL_STATE_MASK) | state);
  if (before === 3 || state === 3) dev.system.runner.spend(D3HOT_DELAY);
  if (before === 3 && state === 0 && (control & r.PCI_PM_CTRL_NO_SOFT_RESET) === 0) restoreBars(dev);
}

function restoreBars(dev: PciDev): void {
  for (const [index, { start, flags }] of dev.resources.slice(0, 6).entries()) {
    if (flags === 0n) continue;
    const at = r.PCI_BASE_ADDRESS_0 + 4 * index;
    dev.writeConfig(at, 4, Number(start & 0xffff_ffffn));
    if ((flags & BigInt(r.PCI_BASE_ADDRESS_MEM_TYPE_64)) !== 0n) dev.writeConfig(at + 4, 4, Number(start >> 32n));
  }
}
