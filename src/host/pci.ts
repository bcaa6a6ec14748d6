import { KernelError, rangeError, typeError } from '../kernel/errors.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { ENOENT } from '../uapi/sys.ts';
import { findAttribute, linkName, namesIn, readAttribute } from './sysfs.ts';

/** A BAR as the kernel has placed it: `end` is inclusive, `flags` are IORESOURCE_*. */
export interface PciResource {
  readonly start: bigint;
  readonly end: bigint;
  readonly flags: bigint;
}

/** A PCI device as /sys has it now. */
export interface PciDevice {
  /** `0000:01:00.0` */
  readonly bdf: string;
  readonly vendor: number;
  readonly device: number;
  readonly subsystem_vendor: number;
  readonly subsystem_device: number;
  /** 24 bits: class, subclass, programming interface. */
  readonly class: number;
  readonly revision: number;
  /** It leads to other devices, and belongs to the kernel. */
  readonly bridge: boolean;
  /** What it is bound to. */
  readonly driver: string | undefined;
  readonly driver_override: string | undefined;
  /** Number of its IOMMU group. */
  readonly iommu_group: number | undefined;
  /** In the kernel's order of preference: `flr`, `pm`, `bus` …; none: it cannot be reset. */
  readonly reset_method: readonly string[];
  /** BAR 0 to 5 and the ROM; undefined where there is none. */
  readonly resource: readonly (PciResource | undefined)[];
  /** Bound to a VFIO driver: the node of its group … */
  readonly vfio_group: string | undefined;
  /** … and its own, where the kernel has such. */
  readonly vfio_device: string | undefined;
}

const BDF = /^[\da-f]{4,}:[\da-f]{2}:[0-1][\da-f]\.[0-7]$/;
const BRIDGE = 0x06;
const RESOURCES = 7;

/** Where /sys has a device. Throws RangeError for what is no address. */
export function pciPath(bdf: string): string {
  if (typeof bdf !== 'string') throw typeError(`bdf must be a string such as '0000:01:00.0', not ${typeof bdf}`);
  if (!BDF.test(bdf)) throw rangeError(`'${bdf}' is no PCI address: domain:bus:device.function in hex, such as '0000:01:00.0'`);
  return `/sys/bus/pci/devices/${bdf}`;
}

/** The driver a device is bound to. */
export function driverOf(kernel: Kernel, bdf: string): string | undefined {
  return linkName(kernel, `${pciPath(bdf)}/driver`);
}

/** The PCI devices of this kernel, in the order of their addresses; none where it has no PCI. */
export function listPciDevices(kernel: Kernel): PciDevice[] {
  return namesIn(kernel, '/sys/bus/pci/devices')
    .sort()
    .map((bdf) => pciDevice(kernel, bdf));
}

/** A device by its address. KernelError ENOENT: there is none. */
export function pciDevice(kernel: Kernel, bdf: string): PciDevice {
  const path = pciPath(bdf);
  const vendor = findAttribute(kernel, `${path}/vendor`);
  if (vendor === undefined) throw new KernelError(ENOENT, 'open', { path, note: 'there is no such device' });
  const number = (name: string): number => Number(readAttribute(kernel, `${path}/${name}`));
  const classCode = number('class');
  const driver = driverOf(kernel, bdf);
  const group = linkName(kernel, `${path}/iommu_group`);
  return {
    bdf,
    vendor: Number(vendor),
    device: number('device'),
    subsystem_vendor: number('subsystem_vendor'),
    subsystem_device: number('subsystem_device'),
    class: classCode,
    revision: number('revision'),
    bridge: classCode >>> 16 === BRIDGE,
    driver,
    driver_override: driverOverride(kernel, bdf),
    iommu_group: group === undefined ? undefined : Number(group),
    reset_method: findAttribute(kernel, `${path}/reset_method`)?.split(' ').filter(Boolean) ?? [],
    resource: readAttribute(kernel, `${path}/resource`).split('\n').slice(0, RESOURCES).map(resource),
    ...vfioNodes(kernel, bdf, group),
  };
}

/** The kernel says `(null)` for none. */
export function driverOverride(kernel: Kernel, bdf: string): string | undefined {
  const override = findAttribute(kernel, `${pciPath(bdf)}/driver_override`);
  return override === '(null)' || override === '' ? undefined : override;
}

function resource(line: string): PciResource | undefined {
  const [start = 0n, end = 0n, flags = 0n] = line.split(' ').map(BigInt);
  return end === 0n && flags === 0n ? undefined : { start, end, flags };
}

/** A group without an IOMMU has a node of another name; that of a PCI device is told by the group's name. */
function vfioNodes(
  kernel: Kernel,
  bdf: string,
  group: string | undefined,
): { vfio_group: string | undefined; vfio_device: string | undefined } {
  const name = vfioDeviceName(kernel, bdf);
  if (name === undefined || group === undefined) return { vfio_group: undefined, vfio_device: undefined };
  const noIommu = findAttribute(kernel, `/sys/kernel/iommu_groups/${group}/name`) === 'vfio-noiommu';
  const hasNode = findAttribute(kernel, `/sys/class/vfio-dev/${name}/dev`) !== undefined;
  return {
    vfio_group: `/dev/vfio/${noIommu ? 'noiommu-' : ''}${group}`,
    vfio_device: hasNode ? `/dev/vfio/devices/${name}` : undefined,
  };
}

/** `vfioN` of a device that is bound to a VFIO driver. */
export function vfioDeviceName(kernel: Kernel, bdf: string): string | undefined {
  return namesIn(kernel, `${pciPath(bdf)}/vfio-dev`)[0];
}
