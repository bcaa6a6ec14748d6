import { EFAULT, EINVAL, ENOTTY } from '../../../uapi/sys.ts';
import * as v from '../../../uapi/vfio.ts';
import { type EventfdFile, eventfdOf } from '../../eventfd.ts';
import { atLeast } from '../../machine.ts';
import type { Process } from '../../process.ts';
import { checkFeature, type FeatureRequest } from '../feature.ts';
import type { VfioPciCoreDevice } from './core.ts';
import { exportDmaBuf } from './dma-buf.ts';
import { exportRfcDmaBuf, RFC_DMA_BUF_SIZE } from './dma-buf-rfc.ts';

const GET = v.VFIO_DEVICE_FEATURE_GET;
const SET = v.VFIO_DEVICE_FEATURE_SET;
const UUID_SIZE = 16;

type Feature = (p: Process, device: VfioPciCoreDevice, request: FeatureRequest) => number;

/** It cannot be read back: it might be the last user's. */
function vfToken(p: Process, { vfToken: token }: VfioPciCoreDevice, request: FeatureRequest): number {
  if (token === undefined) return -ENOTTY;
  const checked = checkFeature(request, SET, UUID_SIZE);
  if (checked !== 1) return checked;
  const uuid = p.mm.copyFrom(request.arg, UUID_SIZE);
  if (uuid === null) return -EFAULT;
  token.uuid = uuid;
  return 0;
}

/** Mappings go, dma-bufs are revoked, the user's count of the device's power goes. In low power already: all that happens but for the count. */
function enter(device: VfioPciCoreDevice, wakeup: EventfdFile | undefined): number {
  const held = device.disturb();
  if (held < 0) return held;
  device.memoryGoesDown();
  return device.power.enter(wakeup) ? 0 : -EINVAL;
}

function lowPowerEntry(_p: Process, device: VfioPciCoreDevice, request: FeatureRequest): number {
  const checked = checkFeature(request, SET, 0);
  return checked === 1 ? enter(device, undefined) : checked;
}

function lowPowerEntryWithWakeup(p: Process, device: VfioPciCoreDevice, request: FeatureRequest): number {
  const { size } = v.vfio_device_low_power_entry_with_wakeup;
  const checked = checkFeature(request, SET, size);
  if (checked !== 1) return checked;
  const bytes = p.mm.copyFrom(request.arg, size);
  if (bytes === null) return -EFAULT;
  const { wakeup_eventfd } = v.vfio_device_low_power_entry_with_wakeup.decode(bytes);
  if (wakeup_eventfd < 0) return -EINVAL;
  const eventfd = eventfdOf(p, wakeup_eventfd);
  return typeof eventfd === 'number' ? eventfd : enter(device, eventfd);
}

function lowPowerExit(_p: Process, device: VfioPciCoreDevice, request: FeatureRequest): number {
  const checked = checkFeature(request, SET, 0);
  if (checked !== 1) return checked;
  device.power.exit();
  device.memoryComesUp();
  return 0;
}

function dmaBuf(p: Process, device: VfioPciCoreDevice, request: FeatureRequest): number {
  if (!atLeast(p.system.machine, '6.19')) return -ENOTTY;
  const rfc = p.system.machine.teeIo?.dmaBufLayout === 'rfc';
  const checked = checkFeature(request, GET, rfc ? RFC_DMA_BUF_SIZE : v.vfio_device_feature_dma_buf.size);
  if (checked !== 1) return checked;
  return (rfc ? exportRfcDmaBuf : exportDmaBuf)(p, device, request.arg);
}

const features: ReadonlyMap<number, Feature> = new Map<number, Feature>([
  [v.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN, vfToken],
  [v.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, lowPowerEntry],
  [v.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, lowPowerEntryWithWakeup],
  [v.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT, lowPowerExit],
  [v.VFIO_DEVICE_FEATURE_DMA_BUF, dmaBuf],
]);

/** vfio_pci_core_ioctl_feature. */
export function pciFeature(p: Process, device: VfioPciCoreDevice, request: FeatureRequest): number {
  return features.get(request.feature)?.(p, device, request) ?? -ENOTTY;
}
