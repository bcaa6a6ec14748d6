import { ClassDevice } from '../fs/class-device.ts';
import type { Directory } from '../fs/directory.ts';
import type { CharDevice, System } from '../system.ts';

/** Dynamic major numbers of VFIO, taken when its first device needs one. */
const majors: WeakMap<System, { vfio?: number; 'vfio-dev'?: number }> = new WeakMap();

function majorOf(system: System, name: 'vfio' | 'vfio-dev'): number {
  let taken = majors.get(system);
  if (taken === undefined) majors.set(system, (taken = {}));
  return (taken[name] ??= system.allocMajor(name));
}

/** vfio_group_init, vfio_cdev_init: the numbers are there before any device is. */
export function allocVfioMajors(system: System): void {
  majorOf(system, 'vfio');
  majorOf(system, 'vfio-dev');
}

/** A class device with the character device that opens it. */
export interface VfioNode {
  readonly device: CharDevice | undefined;
  readonly entry: ClassDevice;
  remove(): void;
}

/** /dev/vfio/NAME ('5', 'noiommu-5') and /sys/class/vfio/NAME. `minor`: the lowest free one. */
export function addGroupNode(system: System, name: string, minor: number, open: CharDevice['open']): VfioNode {
  const device = { path: `/dev/vfio/${name}`, major: majorOf(system, 'vfio'), minor, mode: 0o600, open };
  return node(new ClassDevice(system, { class: 'vfio', name, device }), device);
}

/**
 * vfio-dev/vfioX in the directory of its device, /sys/class/vfio-dev/vfioX; with `open`, /dev/vfio/devices/vfioX too (a device of a no-IOMMU group has
 * none).
 */
export function addDeviceNode(system: System, index: number, parent: Directory, open: CharDevice['open'] | undefined): VfioNode {
  const name = `vfio${index}`;
  const device =
    open === undefined
      ? undefined
      : { path: `/dev/vfio/devices/${name}`, major: majorOf(system, 'vfio-dev'), minor: index, mode: 0o600, open };
  return node(new ClassDevice(system, { class: 'vfio-dev', name, parent, ...(device === undefined ? {} : { device }) }), device);
}

function node(entry: ClassDevice, device: CharDevice | undefined): VfioNode {
  return { entry, device, remove: () => entry.remove() };
}
