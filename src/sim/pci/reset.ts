import * as r from '../../uapi/pci-regs.ts';
import { EINVAL, ENOTTY } from '../../uapi/sys.ts';
import { PciBridge } from '../hardware/bridge.ts';
import type { PciDev } from './pci-dev.ts';
import type { SavedState } from './save-state.ts';

const MILLISECOND = 1_000_000n;
/** What a function may take before it answers again after a function level reset; what its bus may. */
const FLR_DELAY = 100n * MILLISECOND;
const BUS_DELAY = 102n * MILLISECOND;

/** PCIE_RESET_READY_POLL_MS, and PCI_RESET_WAIT: how long it is waited for a function, and for one on a link that does not say whether it is up. */
const READY_POLL = 60_000n * MILLISECOND;
const RESET_WAIT = 1000n * MILLISECOND;

/** How to reset one function, in the order in which they are tried: whether it seems possible, and the reset: 0 or −errno. */
const methods: readonly (readonly [name: string, probe: (dev: PciDev) => boolean, reset: (dev: PciDev) => number])[] = [
  ['flr', hasFlr, (dev) => flr(dev)],
  ['af_flr', hasAfFlr, (dev) => afFlr(dev)],
  ['pm', hasPmReset, (dev) => pmReset(dev)],
  ['bus', (dev) => aloneBelow(dev), (dev) => parentBusReset(dev)],
];

/** pci_init_reset_methods: asked once, when the device is found. Functions of its bus that are found later do not count yet, nor does the bus behind it. */
export function resetMethods(dev: PciDev): string[] {
  return methods.filter(([, probe]) => probe(dev)).map(([name]) => name);
}

/** __pci_reset_function_locked: the first method that works; −ENOTTY. */
export function resetFunction(dev: PciDev): number {
  for (const wanted of dev.resetMethods) {
    const [, , reset] = methods.find(([name]) => name === wanted)!;
    const result = reset(dev);
    if (result !== -ENOTTY) return result;
  }
  return -ENOTTY;
}

function hasFlr(dev: PciDev): boolean {
  const express = dev.findCapability(r.PCI_CAP_ID_EXP);
  return express !== 0 && (dev.readConfig(express + r.PCI_EXP_DEVCAP, 4) & r.PCI_EXP_DEVCAP_FLR) !== 0;
}

function flr(dev: PciDev): number {
  const at = dev.findCapability(r.PCI_CAP_ID_EXP) + r.PCI_EXP_DEVCTL;
  dev.writeConfig(at, 2, dev.readConfig(at, 2) | r.PCI_EXP_DEVCTL_BCR_FLR);
  dev.system.runner.spend(FLR_DELAY);
  return answers(dev, READY_POLL);
}

/** pci_dev_wait: 0; −ENOTTY, all its registers read is ones, or it is known to be gone. */
function answers(dev: PciDev, timeout: bigint): number {
  if (!dev.removed) return 0;
  if (!dev.disconnected) dev.system.runner.spend(timeout);
  return -ENOTTY;
}

function hasAfFlr(dev: PciDev): boolean {
  const af = dev.findCapability(r.PCI_CAP_ID_AF);
  return af !== 0 && (dev.readConfig(af + r.PCI_AF_CAP, 1) & r.PCI_AF_CAP_TP_FLR) === r.PCI_AF_CAP_TP_FLR;
}

function afFlr(dev: PciDev): number {
  dev.writeConfig(dev.findCapability(r.PCI_CAP_ID_AF) + r.PCI_AF_CTRL, 1, r.PCI_AF_CTRL_FLR);
  dev.system.runner.spend(FLR_DELAY);
  return answers(dev, READY_POLL);
}

function hasPmReset(dev: PciDev): boolean {
  const pm = dev.findCapability(r.PCI_CAP_ID_PM);
  return pm !== 0 && (dev.readConfig(pm + r.PCI_PM_CTRL, 2) & r.PCI_PM_CTRL_NO_SOFT_RESET) === 0;
}

/** To D3hot and back, which loses everything. What does not answer seems to lose nothing. */
function pmReset(dev: PciDev): number {
  if (!hasPmReset(dev)) return -ENOTTY;
  if (dev.powerState !== 0) return -EINVAL;
  dev.setPowerState(3);
  dev.setPowerState(0);
  return 0;
}

/** Behind a bridge, and nothing else on that bus. */
function aloneBelow(dev: PciDev): boolean {
  return dev.parent !== undefined && !dev.subsystem.devices.some((other) => other !== dev && sameBus(other, dev));
}

function parentBusReset(dev: PciDev): number {
  return dev.fn instanceof PciBridge || !aloneBelow(dev) ? -ENOTTY : resetSecondaryBus(dev.parent!);
}

function sameBus(a: PciDev, b: PciDev): boolean {
  return a.segment === b.segment && a.bus === b.bus;
}

/** pci_bridge_secondary_bus_reset: 0; −ENOTTY, a link of more than 5 GT/s does not say that it is up again, or nothing answers behind it. */
export function resetSecondaryBus(bridge: PciDev): number {
  const control = bridge.readConfig(r.PCI_BRIDGE_CONTROL, 2);
  bridge.writeConfig(r.PCI_BRIDGE_CONTROL, 2, control | r.PCI_BRIDGE_CTL_BUS_RESET);
  bridge.writeConfig(r.PCI_BRIDGE_CONTROL, 2, control & ~r.PCI_BRIDGE_CTL_BUS_RESET);
  bridge.system.runner.spend(BUS_DELAY);
  const below = bridge.subsystem.devices.filter(({ parent }) => parent === bridge);
  // pci_bridge_wait_for_secondary_bus: how long is told with power management; for what has none it does not wait, nor look.
  if (!below.some((dev) => dev.findCapability(r.PCI_CAP_ID_PM) !== 0)) return 0;
  return linkReturns(bridge) ? answers(below[0]!, RESET_WAIT) : -ENOTTY;
}

function linkReturns(bridge: PciDev): boolean {
  const express = bridge.findCapability(r.PCI_CAP_ID_EXP);
  if (express === 0) return true;
  const speed = bridge.readConfig(express + r.PCI_EXP_LNKCAP, 4) & 0xf;
  return speed <= 2 || (bridge.readConfig(express + r.PCI_EXP_LNKSTA, 2) & 0x2000) !== 0;
}

/** pci_probe_reset_slot, then pci_probe_reset_bus: a slot of the kernel's hot-plug driver, else any bus but a root bus. */
export function slotOrBusResettable({ parent }: PciDev): 'slot' | 'bus' | undefined {
  if (parent === undefined) return undefined;
  const express = parent.findCapability(r.PCI_CAP_ID_EXP);
  const hotplug = express !== 0 && (parent.readConfig(express + 0x14, 4) & 0x40) !== 0;
  return hotplug && parent.system.machine.pciehp === true ? 'slot' : 'bus';
}

/** The functions on the device's bus, and behind their bridges. */
export function busDevices(dev: PciDev): PciDev[] {
  const { devices } = dev.subsystem;
  const below = (one: PciDev): PciDev[] => [one, ...devices.filter(({ parent }) => parent === one).flatMap(below)];
  return devices.filter((other) => sameBus(other, dev)).flatMap(below);
}

/** pci_reset_bus: every function is saved, silenced and restored around it. 0; −ENOTTY on a root bus. */
export function resetSlotOrBus(dev: PciDev): number {
  if (slotOrBusResettable(dev) === undefined) return -ENOTTY;
  const saved = busDevices(dev).map((one) => [one, saveAndDisable(one)] as const);
  const result = resetSecondaryBus(dev.parent!);
  for (const [one, state] of saved) restore(one, state);
  return result;
}

/** pci_dev_save_and_disable: awake, saved, and nothing but INTX_DISABLE left in COMMAND. */
function saveAndDisable(dev: PciDev): SavedState {
  dev.setPowerState(0);
  const state = dev.saveState();
  dev.writeConfig(r.PCI_COMMAND, 2, r.PCI_COMMAND_INTX_DISABLE);
  return state;
}

/** pci_dev_restore. */
function restore(dev: PciDev, state: SavedState): void {
  dev.restoreState(state);
  dev.driver?.resetDone?.(dev);
}

/** pci_reset_function, pci_try_reset_function: saved, silenced, reset and restored. 0; −ENOTTY without a method. */
export function saveAndReset(dev: PciDev): number {
  if (dev.resetMethods.length === 0) return -ENOTTY;
  const state = saveAndDisable(dev);
  const result = resetFunction(dev);
  restore(dev, state);
  return result;
}
