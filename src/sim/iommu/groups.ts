import * as r from '../../uapi/pci-regs.ts';
import type { PciFabric } from '../hardware/fabric.ts';
import type { IommuHardware } from '../hardware/iommu.ts';
import type { PciFunction } from '../hardware/pci-function.ts';
import { IommuGroup, type IommuMember } from './group.ts';

/** The groups of a system by number, the lowest free one first: of PCI devices, and those VFIO makes for others. */
export class IommuGroups {
  readonly #groups = new Map<number, IommuGroup>();

  /** iommu_group_alloc: for an IOMMU's devices, or (VFIO without one, mediated devices) for none's. */
  create<D extends IommuMember>(name?: string, iommu?: IommuHardware): IommuGroup<D> {
    let id = 0;
    while (this.#groups.has(id)) id++;
    const group = new IommuGroup<D>(id, name, iommu);
    this.#groups.set(id, group);
    return group;
  }

  /** iommu_group_remove_device: an empty group is gone. */
  remove<D extends IommuMember>(group: IommuGroup<D>, dev: D): void {
    group.remove(dev);
    if (group.devices.size === 0) this.#groups.delete(group.id);
  }
}

/**
 * pci_device_group: whose group a function shares, because the IOMMU sees them as one requester (behind a PCIe-to-PCI bridge), or because requests
 * could pass between them without it (a path without ACS, functions of one device). Undefined: a group of its own.
 */
export function sharedGroup<G>(fabric: PciFabric, fn: PciFunction, groupOf: (fn: PciFunction) => G | undefined): G | undefined {
  let requester = fn;
  for (const bridge of fabric.bridgesAbove(fn)) {
    if (expressType(bridge) !== r.PCI_EXP_TYPE_PCI_BRIDGE && expressType(bridge) !== undefined) continue;
    requester = bridge;
    const group = groupOf(bridge);
    if (group !== undefined) return group;
  }
  for (const bridge of fabric.bridgesAbove(requester)) {
    if ([bridge, ...fabric.bridgesAbove(bridge)].every((one) => acsEnabled(fabric, one))) break;
    requester = bridge;
    const group = groupOf(bridge);
    if (group !== undefined) return group;
  }
  return multifunction(fabric, requester) && !acsEnabled(fabric, requester)
    ? siblingGroup(fabric, requester, groupOf)
    : undefined;
}

/** pci_for_each_dma_alias: the requester ids of a function, its own first; a bridge between PCI and PCI Express puts one of its own in its place. */
export function requesterIds(fabric: PciFabric, fn: PciFunction): number[] {
  const ids = [fabric.slot(fn)?.requester ?? 0];
  for (const bridge of fabric.bridgesAbove(fn)) {
    const type = expressType(bridge);
    const { requester = 0 } = fabric.slot(bridge) ?? {};
    if (type === r.PCI_EXP_TYPE_PCI_BRIDGE) ids.push((requester & ~0xffff) | (bridge.secondary.number << 8));
    else if (type === undefined || type === r.PCI_EXP_TYPE_PCI_BRIDGE + 1) ids.push(requester);
  }
  return ids;
}

/** pci_enable_acs: as far as the device can. */
export function enableAcs(fn: PciFunction): void {
  const at = fn.positions.acs;
  if (at === 0) return;
  const wanted = fn.config.read(at + r.PCI_ACS_CAP, 2) & r.REQ_ACS_FLAGS;
  fn.config.write(at + r.PCI_ACS_CTRL, 2, fn.config.read(at + r.PCI_ACS_CTRL, 2) | wanted);
}

/** Type of an Express function; undefined: conventional PCI. */
function expressType(fn: PciFunction): number | undefined {
  const { express } = fn.positions;
  return express === 0 ? undefined : (fn.config.peek(express + r.PCI_EXP_FLAGS, 2) >> 4) & 0xf;
}

function multifunction(fabric: PciFabric, fn: PciFunction): boolean {
  const header = fn.config.peek(r.PCI_HEADER_TYPE, 1);
  return (header & r.PCI_HEADER_TYPE_MULTI) !== 0 || (fn.spec.virtual !== true && ((fabric.slot(fn)?.devfn ?? 0) & 7) !== 0);
}

/** pci_acs_enabled for REQ_ACS_FLAGS: ports by their control register, functions alone in their slot always, a conventional bus never. */
function acsEnabled(fabric: PciFabric, fn: PciFunction): boolean {
  const type = expressType(fn);
  if (type === undefined || type === r.PCI_EXP_TYPE_PCI_BRIDGE || type === r.PCI_EXP_TYPE_PCI_BRIDGE + 1) return false;
  const port = type === r.PCI_EXP_TYPE_ROOT_PORT || type === r.PCI_EXP_TYPE_DOWNSTREAM;
  if (!port && !multifunction(fabric, fn)) return true;
  const at = fn.positions.acs;
  if (at === 0) return false;
  const wanted = r.REQ_ACS_FLAGS & fn.config.peek(at + r.PCI_ACS_CAP, 2);
  return (fn.config.peek(at + r.PCI_ACS_CTRL, 2) & wanted) === wanted;
}

/** Another function of the same slot that nothing keeps apart either. */
function siblingGroup<G>(fabric: PciFabric, fn: PciFunction, groupOf: (fn: PciFunction) => G | undefined): G | undefined {
  const slot = fabric.slot(fn);
  for (const [devfn, other] of slot?.bus.functions ?? []) {
    if (other === fn || devfn >> 3 !== slot!.devfn >> 3) continue;
    const group = acsEnabled(fabric, other) ? undefined : groupOf(other);
    if (group !== undefined) return group;
  }
  return undefined;
}
