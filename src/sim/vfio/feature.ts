import { EFAULT, EINVAL, ENOTTY } from '../../uapi/sys.ts';
import {
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
  VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2,
  VFIO_DEVICE_FEATURE_MIGRATION,
  VFIO_DEVICE_FEATURE_PROBE,
  VFIO_DEVICE_FEATURE_SET,
  VFIO_MIGRATION_PRE_COPY,
  vfio_device_feature,
  vfio_device_feature_dma_logging_control,
  vfio_device_feature_dma_logging_report,
  vfio_device_feature_mig_data_size,
  vfio_device_feature_mig_state,
  vfio_device_feature_migration,
} from '../../uapi/vfio.ts';
import { has } from '../changes.ts';
import type { WriteLog } from '../hardware/migratable.ts';
import type { Process } from '../process.ts';
import { reportLogging, startLogging } from './dma-logging.ts';
import type { MigrationOps } from './migration.ts';

const GET = VFIO_DEVICE_FEATURE_GET;
const SET = VFIO_DEVICE_FEATURE_SET;

/** A device as VFIO_DEVICE_FEATURE sees it. */
export interface FeatureDevice {
  readonly migration?: MigrationOps | undefined;
  readonly logging?: WriteLog | undefined;
  precopyInfoV2: boolean;
  /** The driver's own features. −ENOTTY: it has no such. */
  deviceFeature(p: Process, request: FeatureRequest): number;
}

/** One VFIO_DEVICE_FEATURE: the header is checked, the data not yet. */
export interface FeatureRequest {
  readonly feature: number;
  readonly flags: number;
  /** The data, behind the header. */
  readonly arg: bigint;
  /** How many bytes the user says it has. */
  readonly size: number;
}

/** vfio_check_feature: 1, the data is to be looked at; else the result. `operations`: GET and SET as the feature has them. */
export function checkFeature({ flags, size }: FeatureRequest, operations: number, needed: number): number {
  if (flags & (GET | SET) & ~operations) return -EINVAL;
  if (flags & VFIO_DEVICE_FEATURE_PROBE) return 0;
  if ((flags & (GET | SET)) === 0) return -EINVAL;
  return size < needed ? -EINVAL : 1;
}

type Feature = (p: Process, device: FeatureDevice, request: FeatureRequest) => number;

function migration(p: Process, { migration: ops }: FeatureDevice, request: FeatureRequest): number {
  if (ops === undefined) return -ENOTTY;
  const checked = checkFeature(request, GET, vfio_device_feature_migration.size);
  if (checked !== 1) return checked;
  return p.mm.copyTo(request.arg, vfio_device_feature_migration.encode({ flags: BigInt(ops.flags) })) ? 0 : -EFAULT;
}

/** Also after an error the struct is written back: the state as it was asked for, no descriptor. */
function deviceState(p: Process, { migration: ops }: FeatureDevice, request: FeatureRequest): number {
  if (ops === undefined) return -ENOTTY;
  const checked = checkFeature(request, GET | SET, vfio_device_feature_mig_state.size);
  if (checked !== 1) return checked;
  const bytes = p.mm.copyFrom(request.arg, vfio_device_feature_mig_state.size);
  if (bytes === null) return -EFAULT;
  const answer = (device_state: number, data_fd: number): boolean =>
    p.mm.copyTo(request.arg, vfio_device_feature_mig_state.encode({ device_state, data_fd }));
  if (request.flags & GET) {
    const state = ops.getState();
    if (state < 0) return state;
    return answer(state, -1) ? 0 : -EFAULT;
  }
  const { device_state } = vfio_device_feature_mig_state.decode(bytes);
  const result = ops.setState(p, device_state);
  if (typeof result === 'number') return answer(device_state, -1) ? result : -EFAULT;
  const fd = p.fds.reserve(true);
  const told = fd >= 0 && answer(device_state, fd);
  if (told) {
    p.fds.set(fd, result);
    return 0;
  }
  result.unref(p);
  if (fd < 0) return fd;
  p.fds.unreserve(fd);
  return -EFAULT;
}

function dataSize(p: Process, { migration: ops }: FeatureDevice, request: FeatureRequest): number {
  if (ops === undefined) return -ENOTTY;
  const checked = checkFeature(request, GET, vfio_device_feature_mig_data_size.size);
  if (checked !== 1) return checked;
  const answer = vfio_device_feature_mig_data_size.encode({ stop_copy_length: ops.dataSize() });
  return p.mm.copyTo(request.arg, answer) ? 0 : -EFAULT;
}

function loggingStart(p: Process, { logging }: FeatureDevice, request: FeatureRequest): number {
  if (logging === undefined) return -ENOTTY;
  const checked = checkFeature(request, SET, vfio_device_feature_dma_logging_control.size);
  return checked === 1 ? startLogging(p, logging, request.arg) : checked;
}

function loggingStop(_p: Process, { logging }: FeatureDevice, request: FeatureRequest): number {
  if (logging === undefined) return -ENOTTY;
  const checked = checkFeature(request, SET, 0);
  return checked === 1 ? logging.stop() : checked;
}

function loggingReport(p: Process, { logging }: FeatureDevice, request: FeatureRequest): number {
  if (logging === undefined) return -ENOTTY;
  const checked = checkFeature(request, GET, vfio_device_feature_dma_logging_report.size);
  return checked === 1 ? reportLogging(p, logging, request.arg) : checked;
}

/** A device that cannot pre-copy refuses it as a wrong argument, where it does not know other features of migration. */
function precopyInfoV2(p: Process, device: FeatureDevice, request: FeatureRequest): number {
  if (!has(p.system.machine, 'precopyInfoV2')) return -ENOTTY;
  if (((device.migration?.flags ?? 0) & VFIO_MIGRATION_PRE_COPY) === 0) return -EINVAL;
  const checked = checkFeature(request, SET, 0);
  if (checked === 1) device.precopyInfoV2 = true;
  return checked === 1 ? 0 : checked;
}

/** What VFIO itself answers, for any driver. */
const features: ReadonlyMap<number, Feature> = new Map<number, Feature>([
  [VFIO_DEVICE_FEATURE_MIGRATION, migration],
  [VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, deviceState],
  [VFIO_DEVICE_FEATURE_DMA_LOGGING_START, loggingStart],
  [VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, loggingStop],
  [VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, loggingReport],
  [VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, dataSize],
  [VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, precopyInfoV2],
]);

/** VFIO_DEVICE_FEATURE. */
export function deviceFeature(p: Process, device: FeatureDevice, arg: bigint): number {
  const header = p.mm.copyFrom(arg, vfio_device_feature.size);
  if (header === null) return -EFAULT;
  const { argsz, flags } = vfio_device_feature.decode(header);
  if (argsz < vfio_device_feature.size) return -EINVAL;
  if (flags & ~(VFIO_DEVICE_FEATURE_MASK | GET | SET | VFIO_DEVICE_FEATURE_PROBE)) return -EINVAL;
  if (!(flags & VFIO_DEVICE_FEATURE_PROBE) && (flags & GET) !== 0 && (flags & SET) !== 0) return -EINVAL;
  const feature = flags & VFIO_DEVICE_FEATURE_MASK;
  const size = argsz - vfio_device_feature.size;
  const request: FeatureRequest = { feature, flags, arg: arg + BigInt(vfio_device_feature.size), size };
  return features.get(feature)?.(p, device, request) ?? device.deviceFeature(p, request);
}
