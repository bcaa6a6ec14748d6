import { integer } from '../kernel/arguments.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { driverOf, vfioDeviceName } from './pci.ts';
import { findAttribute, namesIn } from './sysfs.ts';

/** Addresses of a group's address space that are not for DMA: `last` is inclusive. */
export interface ReservedRegion {
  readonly start: bigint;
  readonly last: bigint;
  /** `msi`, `direct`, `direct-relaxable`, `reserved`. */
  readonly type: string;
}

/** A device that keeps its group from being given away, by the driver of the host it is bound to. */
export interface Blocker {
  readonly bdf: string;
  readonly driver: string;
}

/** Devices that the IOMMU cannot tell apart, or that reach each other past it: they are given away together. */
export interface IommuGroup {
  readonly id: number;
  /** `vfio-noiommu` of groups that VFIO made. */
  readonly name: string | undefined;
  /** Of the domain the host's drivers use: `DMA`, `DMA-FQ`, `identity` …; undefined: not told. */
  readonly type: string | undefined;
  /** Addresses of PCI devices, names of others. */
  readonly devices: readonly string[];
  readonly reserved_regions: readonly ReservedRegion[];
  /** No driver of the host holds a device of it: VFIO_GROUP_SET_CONTAINER and VFIO_DEVICE_BIND_IOMMUFD would not be EPERM for that. */
  readonly viable: boolean;
  readonly blockers: readonly Blocker[];
  /** The same in a sentence. */
  readonly reason: string;
}

/** Drivers of the host that leave DMA alone, or have it managed by VFIO (`driver_managed_dma`); those of VFIO have a `vfio-dev` besides. */
const MANAGE_DMA: ReadonlySet<string> = new Set(['pcieport', 'pci-stub', 'vfio-pci']);

/** The IOMMU groups of this kernel, by number; none where there is no IOMMU. */
export function listIommuGroups(kernel: Kernel): IommuGroup[] {
  return namesIn(kernel, '/sys/kernel/iommu_groups')
    .map(Number)
    .sort((a, b) => a - b)
    .map((id) => iommuGroup(kernel, id));
}

/** One of them. KernelError ENOENT: there is none of this number. */
export function iommuGroup(kernel: Kernel, id: number): IommuGroup {
  const path = `/sys/kernel/iommu_groups/${integer(id, 'id', 0, 0x7fff_ffff)}`;
  const devices = kernel.readdir(`${path}/devices`).sort();
  const blockers = devices.flatMap((bdf) => blocker(kernel, bdf));
  return {
    id,
    name: findAttribute(kernel, `${path}/name`),
    type: findAttribute(kernel, `${path}/type`),
    devices,
    reserved_regions: (findAttribute(kernel, `${path}/reserved_regions`) ?? '').split('\n').filter(Boolean).map(reserved),
    viable: blockers.length === 0,
    blockers,
    reason: reasonOf(blockers),
  };
}

function blocker(kernel: Kernel, bdf: string): Blocker[] {
  const driver = /:/.test(bdf) ? driverOf(kernel, bdf) : undefined;
  if (driver === undefined || MANAGE_DMA.has(driver) || vfioDeviceName(kernel, bdf) !== undefined) return [];
  return [{ bdf, driver }];
}

function reasonOf(blockers: readonly Blocker[]): string {
  if (blockers.length === 0) return 'viable: no driver of the host holds a device of it';
  const which = blockers.map(({ bdf, driver }) => `${bdf} is bound to ${driver}`).join(', ');
  return `not viable: ${which}; bind all of them to a VFIO driver, or unbind them`;
}

function reserved(line: string): ReservedRegion {
  const [start = '0', last = '0', type = ''] = line.split(' ');
  return { start: BigInt(start), last: BigInt(last), type };
}
