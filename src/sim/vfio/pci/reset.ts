import { EAGAIN, EBADF, EFAULT, EINVAL, ENODEV, ENOSPC, EPERM } from '../../../uapi/sys.ts';
import * as v from '../../../uapi/vfio.ts';
import { has } from '../../changes.ts';
import type { PciDev } from '../../pci/pci-dev.ts';
import type { Process } from '../../process.ts';
import type { VfioDeviceFile } from '../device.ts';
import { VfioGroupFile } from '../group.ts';
import type { IommufdContext } from '../iommufd-context.ts';
import { VfioPciCoreDevice } from './core.ts';

const HEADER = 12;

/** VFIO_DEVICE_RESET. A device that could not be reset when it was opened is EINVAL. */
export function deviceReset(device: VfioPciCoreDevice): number {
  if (!device.resetWorks) return -EINVAL;
  const held = device.disturb();
  if (held < 0) return held;
  return device.withoutMemory(() => {
    device.setPowerState(0);
    return device.tryReset();
  });
}

/** One function of VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: whose it is. */
function ownerId(pdev: PciDev, context: IommufdContext | undefined, set: readonly VfioPciCoreDevice[]): number {
  const device = set.find((each) => each.pdev === pdev);
  if (device === undefined) return v.VFIO_PCI_DEVID_NOT_OWNED;
  return deviceId(device, context) ?? v.VFIO_PCI_DEVID_NOT_OWNED;
}

/** vfio_iommufd_get_dev_id: its id where it is bound to this iommufd; 0 where a device of its group is; undefined otherwise. */
function deviceId({ bound, pdev }: VfioPciCoreDevice, context: IommufdContext | undefined): number | undefined {
  if (context === undefined) return undefined;
  if (bound?.context === context) return bound.id;
  const group = pdev.iommuGroup?.devices ?? [];
  const siblings = [...group].map((each) => VfioPciCoreDevice.of(each)?.bound?.context);
  return siblings.includes(context) ? v.VFIO_PCI_DEVID_OWNED : undefined;
}

/** VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: the functions that a reset of the bus or slot would hit. */
export function hotResetInfo(device: VfioPciCoreDevice, file: VfioDeviceFile, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, HEADER);
  if (bytes === null) return -EFAULT;
  const header = new DataView(bytes.buffer);
  const argsz = header.getUint32(0, true);
  if (argsz < HEADER) return -EINVAL;
  const { pdev } = device;
  if (pdev.slotOrBusResettable() === undefined) return -ENODEV;
  const hit = pdev.busDevices();
  const answer = (flags: number): boolean => {
    header.setUint32(4, flags, true);
    header.setUint32(8, hit.length, true);
    return p.mm.copyTo(arg, bytes);
  };
  const { size } = v.vfio_pci_dependent_device;
  if (hit.length > Math.floor((argsz - HEADER) / size)) return answer(0) ? -ENOSPC : -EFAULT;
  const list = new Uint8Array(hit.length * size);
  let flags = file.from === 'cdev' ? v.VFIO_PCI_HOT_RESET_FLAG_DEV_ID | v.VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED : 0;
  for (const [i, each] of hit.entries()) {
    let id: number;
    if (file.from === 'cdev') {
      id = ownerId(each, device.bound?.context, device.deviceSet());
      if (id === v.VFIO_PCI_DEVID_NOT_OWNED) flags &= ~v.VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;
    } else {
      if (each.iommuGroup === undefined) return -EPERM;
      id = each.iommuGroup.id;
    }
    const row = new DataView(list.buffer, i * size);
    row.setUint32(0, id, true);
    row.setUint16(4, each.segment, true);
    row.setUint8(6, each.bus);
    row.setUint8(7, each.devfn);
  }
  if (!p.mm.copyTo(arg + BigInt(HEADER), list)) return -EFAULT;
  return answer(flags) ? 0 : -EFAULT;
}

/** VFIO_DEVICE_PCI_HOT_RESET: the user shows that all of them are his, by group descriptors or by his iommufd. */
export function hotReset(device: VfioPciCoreDevice, file: VfioDeviceFile, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, HEADER);
  if (bytes === null) return -EFAULT;
  const header = new DataView(bytes.buffer);
  const count = header.getUint32(8, true);
  if (header.getUint32(0, true) < HEADER || header.getUint32(4, true) !== 0) return -EINVAL;
  const miscounted = (count !== 0) === (file.from === 'cdev');
  if (miscounted && has(p.system.machine, 'hotResetByNode')) return -EINVAL;
  const { pdev } = device;
  if (pdev.slotOrBusResettable() === undefined) return -ENODEV;
  if (miscounted) return -EINVAL;
  if (count === 0) return resetSet(device, (each) => deviceId(each, device.bound?.context) !== undefined);
  const groups = copyGroups(p, arg + BigInt(HEADER), count, pdev.busDevices().length);
  if (typeof groups === 'number') return groups;
  return resetSet(device, (each) => groups.some(({ group }) => group === each.group));
}

function copyGroups(p: Process, address: bigint, count: number, most: number): VfioGroupFile[] | number {
  if (count > most) return -EINVAL;
  const bytes = p.mm.copyFrom(address, 4 * count);
  if (bytes === null) return -EFAULT;
  const view = new DataView(bytes.buffer);
  const files: VfioGroupFile[] = [];
  for (let i = 0; i < count; i++) {
    const file = p.fds.get(view.getInt32(4 * i, true));
    if (file === undefined) return -EBADF;
    if (!(file instanceof VfioGroupFile)) return -EINVAL;
    files.push(file);
  }
  return files;
}

/** vfio_pci_dev_set_hot_reset. */
function resetSet(device: VfioPciCoreDevice, owned: (each: VfioPciCoreDevice) => boolean): number {
  const set = device.deviceSet();
  if (!resettable(device.pdev, set)) return -EINVAL;
  for (const each of set) each.power.get();
  const stopped: VfioPciCoreDevice[] = [];
  let result = 0;
  for (const each of set) {
    result = owned(each) ? each.disturb() : -EINVAL;
    if (result < 0) break;
    each.memoryGoesDown();
    stopped.push(each);
  }
  if (result === 0) {
    for (const each of set) each.setPowerState(0);
    result = set.some(({ unregistering }) => unregistering) ? -EAGAIN : device.pdev.resetSlotOrBus();
  }
  for (const each of stopped.reverse()) if (each.openCount > 0) each.memoryComesUp();
  for (const each of set) each.power.put();
  return result;
}

/** vfio_pci_dev_set_resettable: every function it hits is bound to VFIO. */
function resettable(pdev: PciDev, set: readonly VfioPciCoreDevice[]): boolean {
  if (pdev.slotOrBusResettable() === undefined) return false;
  return pdev.busDevices().every((hit) => set.some((each) => each.pdev === hit));
}

/** vfio_pci_dev_set_try_reset, when the last of them is closed: those that could not be reset alone are reset together, if nobody is removing one. */
export function tryResetSet(device: VfioPciCoreDevice): void {
  const set = device.deviceSet();
  if (set.some(({ openCount, unregistering }) => openCount > 0 || unregistering) || !set.some(({ needsReset }) => needsReset))
    return;
  if (!resettable(device.pdev, set) || device.pdev.resetSlotOrBus() !== 0) return;
  for (const each of set) each.needsReset = false;
}
