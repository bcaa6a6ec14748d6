import { EFAULT, EINVAL } from '../../../uapi/sys.ts';
import { VFIO_REGION_INFO_FLAG_PRIVATE } from '../../../uapi/tee-io/xu-jan25.ts';
import * as v from '../../../uapi/vfio.ts';
import { has } from '../../changes.ts';
import type { PciDev } from '../../pci/pci-dev.ts';
import { romSize } from '../../pci/rom.ts';
import type { Process } from '../../process.ts';
import { capabilityChain, type InfoCapability, writtenOf } from '../info-caps.ts';
import type { VfioPciCoreDevice } from './core.ts';
import { barLength } from './rdwr.ts';

const GET_INFO_MINSZ = 16;
const CAP_EXPRESS = 0x10;
const DEVCAP2 = 0x24;
const DEVCTL2 = 0x28;
const ATOMIC_ROUTING = 0x40;
const ATOMIC_REQUESTER = 0x40;
const ATOMIC_EGRESS_BLOCK = 0x80;

/** VFIO_DEVICE_GET_INFO. What is behind the first 16 bytes is written as far as argsz goes. */
export function getInfo(device: VfioPciCoreDevice, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, GET_INFO_MINSZ);
  if (bytes === null) return -EFAULT;
  const argsz = new DataView(bytes.buffer).getUint32(0, true);
  if (argsz < GET_INFO_MINSZ) return -EINVAL;
  const info: v.vfio_device_info = {
    argsz,
    flags: v.VFIO_DEVICE_FLAGS_PCI | (device.resetWorks ? v.VFIO_DEVICE_FLAGS_RESET : 0),
    num_regions: v.VFIO_PCI_NUM_REGIONS,
    num_irqs: v.VFIO_PCI_NUM_IRQS,
    cap_offset: 0,
    pad: 0,
  };
  const { machine } = p.system;
  const { size } = v.vfio_device_info;
  const chain = capabilityChain(has(machine, 'atomicsTold') ? atomics(device.pdev) : [], size, machine);
  if (chain.length > 0) {
    info.flags |= v.VFIO_DEVICE_FLAGS_CAPS;
    if (argsz < size + chain.length) info.argsz = size + chain.length;
    else {
      if (!p.mm.copyTo(arg + BigInt(size), chain)) return -EFAULT;
      info.cap_offset = size;
    }
  }
  const written = writtenOf(machine, argsz, size);
  return p.mm.copyTo(arg, v.vfio_device_info.encode(info).subarray(0, written)) ? 0 : -EFAULT;
}

/** Atomic operations the device's requests may be: widths that every bridge routes and the root port completes. */
function atomics(pdev: PciDev): readonly InfoCapability[] {
  const widths = [
    [0x80, v.VFIO_PCI_ATOMIC_COMP32],
    [0x100, v.VFIO_PCI_ATOMIC_COMP64],
    [0x200, v.VFIO_PCI_ATOMIC_COMP128],
  ] as const;
  const flags = widths.reduce((sum, [width, flag]) => (enableAtomicOpsToRoot(pdev, width) ? sum | flag : sum), 0);
  if (flags === 0) return [];
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setUint32(0, flags, true);
  return [{ id: v.VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP, version: 1, bytes }];
}

/** pci_enable_atomic_ops_to_root: true where it can, and the device may then make such requests. */
function enableAtomicOpsToRoot(pdev: PciDev, width: number): boolean {
  const express = pdev.findCapability(CAP_EXPRESS);
  if (express === 0 || pdev.physfn !== undefined) return false;
  const type = (pdev.readConfig(express + 2, 2) >>> 4) & 0xf;
  if (type !== 0 && type !== 1 && type !== 9) return false;
  for (let bridge = pdev.parent; bridge !== undefined; bridge = bridge.parent) {
    const at = bridge.findCapability(CAP_EXPRESS);
    if (at === 0) return false;
    const capabilities = bridge.readConfig(at + DEVCAP2, 4);
    const kind = (bridge.readConfig(at + 2, 2) >>> 4) & 0xf;
    const upstream = kind === 5;
    if ((upstream || kind === 6) && (capabilities & ATOMIC_ROUTING) === 0) return false;
    if (kind === 4 && (capabilities & width) === 0) return false;
    if (!upstream && (bridge.readConfig(at + DEVCTL2, 2) & ATOMIC_EGRESS_BLOCK) !== 0) return false;
  }
  if (pdev.parent === undefined) return false;
  pdev.writeConfig(express + DEVCTL2, 2, pdev.readConfig(express + DEVCTL2, 2) | ATOMIC_REQUESTER);
  return true;
}

/** What a region is, without its place. */
interface Region {
  readonly flags: number;
  readonly size: number;
  readonly capabilities?: readonly InfoCapability[];
}

const NOTHING: Region = { flags: 0, size: 0 };
const READ_WRITE = v.VFIO_REGION_INFO_FLAG_READ | v.VFIO_REGION_INFO_FLAG_WRITE;

/** VFIO_DEVICE_GET_REGION_INFO. Without capabilities `cap_offset` comes back as it was given. */
export function getRegionInfo(device: VfioPciCoreDevice, p: Process, arg: bigint): number {
  const { size } = v.vfio_region_info;
  const bytes = p.mm.copyFrom(arg, size);
  if (bytes === null) return -EFAULT;
  const info = v.vfio_region_info.decode(bytes);
  if (info.argsz < size) return -EINVAL;
  const region = regionOf(device, info.index);
  if (typeof region === 'number') return region;
  info.offset = BigInt(info.index) << 40n;
  info.size = BigInt(region.size);
  info.flags = region.flags;
  const chain = capabilityChain(region.capabilities ?? [], size, p.system.machine);
  if (chain.length > 0) {
    info.flags |= v.VFIO_REGION_INFO_FLAG_CAPS;
    if (info.argsz < size + chain.length) {
      info.argsz = size + chain.length;
      info.cap_offset = 0;
    } else {
      if (!p.mm.copyTo(arg + BigInt(size), chain)) return -EFAULT;
      info.cap_offset = size;
    }
  }
  return p.mm.copyTo(arg, v.vfio_region_info.encode(info)) ? 0 : -EFAULT;
}

function regionOf(device: VfioPciCoreDevice, index: number): Region | number {
  const { pdev } = device;
  if (index < v.VFIO_PCI_ROM_REGION_INDEX) return barRegion(device, index);
  if (index === v.VFIO_PCI_ROM_REGION_INDEX) return romRegion(device);
  if (index === v.VFIO_PCI_CONFIG_REGION_INDEX) return { flags: READ_WRITE, size: pdev.configSize };
  return -EINVAL;
}

function barRegion(device: VfioPciCoreDevice, bar: number): Region {
  const size = barLength(device.pdev, bar);
  if (size === 0) return NOTHING;
  if (!device.mappable(bar)) return { flags: READ_WRITE, size };
  if (device.isPrivateBar(bar)) return { flags: VFIO_REGION_INFO_FLAG_PRIVATE, size };
  const flags = READ_WRITE | v.VFIO_REGION_INFO_FLAG_MMAP;
  if (device.msixTable?.bar !== bar) return { flags, size };
  const msix = { id: v.VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, version: 1, bytes: new Uint8Array(0) };
  return { flags, size, capabilities: [msix] };
}

/** The BAR's size, where there is a ROM in it. */
function romRegion(device: VfioPciCoreDevice): Region {
  const size = barLength(device.pdev, v.VFIO_PCI_ROM_REGION_INDEX);
  if (size === 0 || device.withMemory(() => romSize(device.pdev)) === 0) return NOTHING;
  return { flags: v.VFIO_REGION_INFO_FLAG_READ, size };
}

/** VFIO_DEVICE_GET_IRQ_INFO. */
export function getIrqInfo(device: VfioPciCoreDevice, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, v.vfio_irq_info.size);
  if (bytes === null) return -EFAULT;
  const { argsz, index } = v.vfio_irq_info.decode(bytes);
  if (argsz < v.vfio_irq_info.size || index >= v.VFIO_PCI_NUM_IRQS) return -EINVAL;
  if (index === v.VFIO_PCI_ERR_IRQ_INDEX && !device.isExpress) return -EINVAL;
  let flags: number = v.VFIO_IRQ_INFO_EVENTFD;
  if (index === v.VFIO_PCI_INTX_IRQ_INDEX) flags |= v.VFIO_IRQ_INFO_MASKABLE | v.VFIO_IRQ_INFO_AUTOMASKED;
  // Only vectors of MSI-X can be added to those that are enabled.
  else if (index !== v.VFIO_PCI_MSIX_IRQ_INDEX || device.msixTable === undefined || !device.growsMsix)
    flags |= v.VFIO_IRQ_INFO_NORESIZE;
  const count = device.irqs.count(index);
  return p.mm.copyTo(arg, v.vfio_irq_info.encode({ argsz, flags, index, count })) ? 0 : -EFAULT;
}
