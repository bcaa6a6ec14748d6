import { integer, wide } from '../kernel/arguments.ts';
import { type Descriptor, fdOf } from '../kernel/descriptor.ts';
import { KernelError, rangeError, typeError } from '../kernel/errors.ts';
import { Handle } from '../kernel/handle.ts';
import type { Memory } from '../kernel/memory.ts';
import { addressOf } from '../kernel/memory-argument.ts';
import { rfcCall } from '../kernel/rfc.ts';
import { withMemory } from '../kernel/temporary.ts';
import type { Struct } from '../uapi/struct.ts';
import { O_CLOEXEC, O_RDWR } from '../uapi/sys.ts';
import { vfio_device_feature_dma_buf as rfc_feature_dma_buf } from '../uapi/tee-io/xu-jan25.ts';
import * as v from '../uapi/vfio.ts';
import { DmaBuf } from './dma-buf.ts';
import { MigrationData } from './migration-data.ts';

/** A piece of a BAR to be exported: whole pages. */
export interface DmaBufRequest {
  /** A BAR of memory: VFIO_PCI_BAR0_REGION_INDEX … */
  region_index: number;
  /** O_* of the new descriptor; default O_RDWR | O_CLOEXEC. */
  open_flags?: number;
  /** In the BAR; may overlap. iommufd takes those of one range only. */
  dma_ranges: readonly { offset: number | bigint; length: number | bigint }[];
}

/** RFC (xuJan25): pieces of several BARs. */
export interface RfcDmaBufRequest {
  open_flags?: number;
  /** `offset` and `length` 0: all of the BAR. */
  dma_ranges: readonly { region_index: number; offset: number | bigint; length: number | bigint }[];
}

/** Where DMA_LOGGING_REPORT writes a bit per page. */
export interface DmaLoggingReport {
  iova: bigint;
  length: number | bigint;
  page_size: number | bigint;
  bitmap: bigint | Memory;
}

/** VFIO_DEVICE_FEATURE, by feature. ENOTTY: the device has it not, and then `probeFeature` is false. */
export abstract class VfioDeviceFeatures extends Handle {
  /**
   * VFIO_DEVICE_FEATURE with these flags (VFIO_DEVICE_FEATURE_GET, …_SET, …_PROBE and the feature's number). `data` is read and written in place. Returns the kernel's
   * value, a descriptor for some features. ENOTTY: no such feature here. EINVAL: it cannot be got or set, or `data` is too short.
   */
  feature(flags: number, data: Uint8Array = new Uint8Array(0)): number {
    const argsz = v.vfio_device_feature.size + data.length;
    const bytes = v.vfio_device_feature.encode({ argsz, flags, data });
    try {
      return this.ioctl(v.VFIO_DEVICE_FEATURE, bytes);
    } catch (error) {
      throw KernelError.isKernelError(error) && error.note === undefined ? namingFeature(error, flags) : error;
    } finally {
      data.set(bytes.subarray(v.vfio_device_feature.size));
    }
  }

  /** VFIO_DEVICE_FEATURE with PROBE: can this feature be got, set (VFIO_DEVICE_FEATURE_GET, …_SET, or both; 0: is it there)? */
  probeFeature(feature: number, operations = 0): boolean {
    integer(feature, 'feature', 0, v.VFIO_DEVICE_FEATURE_MASK);
    const flags = feature | operations | v.VFIO_DEVICE_FEATURE_PROBE;
    const bytes = v.vfio_device_feature.encode({ argsz: v.vfio_device_feature.size, flags, data: new Uint8Array(0) });
    return this.tryIoctl(v.VFIO_DEVICE_FEATURE, bytes) >= 0;
  }

  /** VFIO_DEVICE_FEATURE, SET of PCI_VF_TOKEN: 16 bytes, or a UUID's text; who opens a virtual function must know it. ENOTTY: no physical function. */
  setPciVfToken(token: string | Uint8Array): void {
    this.#set(v.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN, uuidBytes(token));
  }

  /** VFIO_DEVICE_FEATURE, GET of MIGRATION: VFIO_MIGRATION_STOP_COPY, …_P2P, …_PRE_COPY. ENOTTY: it cannot migrate. */
  getMigration(): v.vfio_device_feature_migration {
    return this.#get(v.VFIO_DEVICE_FEATURE_MIGRATION, v.vfio_device_feature_migration);
  }

  /** VFIO_DEVICE_FEATURE, GET of MIG_DEVICE_STATE: VFIO_DEVICE_STATE_*. */
  getMigDeviceState(): number {
    return this.#get(v.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, v.vfio_device_feature_mig_state).device_state;
  }

  /**
   * VFIO_DEVICE_FEATURE, SET of MIG_DEVICE_STATE: through all states on the way to this one; the stream, where a state that saves or resumes was entered. On an error the
   * device may stay in a state between, which `getMigDeviceState` tells; in VFIO_DEVICE_STATE_ERROR only `reset()` helps.
   */
  setMigDeviceState(device_state: number): MigrationData | undefined {
    const data = v.vfio_device_feature_mig_state.encode({ device_state, data_fd: -1 });
    this.#set(v.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, data);
    const { data_fd } = v.vfio_device_feature_mig_state.decode(data);
    return data_fd < 0 ? undefined : new MigrationData(this.kernel, data_fd);
  }

  /** VFIO_DEVICE_FEATURE, GET of MIG_DATA_SIZE: how long the stream of STOP_COPY would be, in bytes. */
  getMigDataSize(): bigint {
    return this.#get(v.VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, v.vfio_device_feature_mig_data_size).stop_copy_length;
  }

  /** VFIO_DEVICE_FEATURE, SET of MIG_PRECOPY_INFOv2: `getPrecopyInfo` says by a flag when it begins anew. EINVAL, also of a probe, where it is unknown. */
  setMigPrecopyInfov2(): void {
    this.#set(v.VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2);
  }

  /** VFIO_DEVICE_FEATURE, SET of LOW_POWER_ENTRY: the device may sleep; mappings of it fault until `lowPowerExit`. EINVAL: entered already. */
  lowPowerEntry(): void {
    this.#set(v.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY);
  }

  /** VFIO_DEVICE_FEATURE, SET of LOW_POWER_ENTRY_WITH_WAKEUP: the same; the eventfd is signalled when something else has woken the device. */
  lowPowerEntryWithWakeup(eventfd: Descriptor): void {
    const wakeup_eventfd = fdOf(eventfd, 'eventfd', this.kernel);
    const data = v.vfio_device_low_power_entry_with_wakeup.encode({ wakeup_eventfd });
    this.#set(v.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, data);
  }

  /** VFIO_DEVICE_FEATURE, SET of LOW_POWER_EXIT. */
  lowPowerExit(): void {
    this.#set(v.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT);
  }

  /**
   * VFIO_DEVICE_FEATURE, SET of DMA_LOGGING_START: the device notes where it writes to, in pages of `page_size` bytes at best; the size it notes in. E2BIG: more than 256
   * ranges. EINVAL: not whole pages, or ranges overlap.
   */
  dmaLoggingStart({
    page_size,
    ranges,
  }: {
    page_size: number | bigint;
    ranges: readonly { iova: bigint; length: number | bigint }[];
  }): bigint {
    const struct = v.vfio_device_feature_dma_logging_control;
    const list = concat(
      ranges.map((range) => v.vfio_device_feature_dma_logging_range.encode({ ...range, length: wide(range.length, 'length') })),
    );
    return withMemory(this.kernel, list, (address) => {
      const data = struct.encode({ page_size: wide(page_size, 'page_size'), num_ranges: ranges.length, ranges: address });
      this.#set(v.VFIO_DEVICE_FEATURE_DMA_LOGGING_START, data);
      return struct.decode(data).page_size;
    });
  }

  /** VFIO_DEVICE_FEATURE, SET of DMA_LOGGING_STOP. */
  dmaLoggingStop(): void {
    this.#set(v.VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP);
  }

  /** VFIO_DEVICE_FEATURE, GET of DMA_LOGGING_REPORT: sets a bit for each page the device wrote to since the last report; clears none. */
  dmaLoggingReport({ bitmap, length, page_size, ...range }: DmaLoggingReport): void {
    const data = v.vfio_device_feature_dma_logging_report.encode({
      ...{ ...range, length: wide(length, 'length'), page_size: wide(page_size, 'page_size') },
      bitmap: typeof bitmap === 'bigint' ? bitmap : addressOf(this.kernel, bitmap),
    });
    this.feature(v.VFIO_DEVICE_FEATURE_GET | v.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, data);
  }

  /** VFIO_DEVICE_FEATURE, SET of BUS_MASTER: VFIO_DEVICE_FEATURE_SET_MASTER or …_CLEAR_MASTER, of CDX devices. PCI has it in configuration space. */
  setBusMaster(op: number): void {
    this.#set(v.VFIO_DEVICE_FEATURE_BUS_MASTER, v.vfio_device_feature_bus_master.encode({ op }));
  }

  /**
   * VFIO_DEVICE_FEATURE, GET of DMA_BUF: pieces of a BAR as a dma-buf. EINVAL: a port BAR, not whole pages, beyond its end. ENODEV: no such BAR.
   * RFC (xuJan25): where each range has its own `region_index`, the payload is that of the posting. EINVAL: a kernel without the series.
   */
  getDmaBuf(request: DmaBufRequest | RfcDmaBufRequest): DmaBuf {
    const { open_flags = O_RDWR | O_CLOEXEC } = request;
    const nr_ranges = request.dma_ranges.length;
    if ('region_index' in request) {
      const { region_index } = request;
      const dma_ranges = request.dma_ranges.map(widened);
      const data = v.vfio_device_feature_dma_buf.encode({ region_index, open_flags, flags: 0, nr_ranges, dma_ranges });
      return new DmaBuf(this.kernel, this.feature(GET_DMA_BUF, data), sizeOf(dma_ranges));
    }
    const ranges = request.dma_ranges.map((range) => ({ ...widened(range), __pad: 0 }));
    const data = rfc_feature_dma_buf.encode({ open_flags, nr_ranges, dma_ranges: ranges });
    return new DmaBuf(
      this.kernel,
      rfcCall(RFC_DMA_BUF, () => this.feature(GET_DMA_BUF, data)),
      sizeOf(ranges),
    );
  }

  #get<T>(feature: number, struct: Struct<T>): T {
    const data = struct.alloc();
    this.feature(feature | v.VFIO_DEVICE_FEATURE_GET, data);
    return struct.decode(data);
  }

  #set(feature: number, data?: Uint8Array): void {
    this.feature(feature | v.VFIO_DEVICE_FEATURE_SET, data);
  }
}

const PREFIX = 'VFIO_DEVICE_FEATURE_';

/** Looked for only where something went wrong. The mask itself is the highest number there is room for. */
function nameOfFeature(feature: number): string {
  const found = Object.entries(v).find(
    ([name, value]) => value === feature && name.startsWith(PREFIX) && name !== `${PREFIX}MASK`,
  );
  return found === undefined ? `feature ${feature}` : found[0].slice(PREFIX.length);
}

/** The request is one, and what was asked of the device one of many. */
function namingFeature({ errno, syscall, request, fd }: KernelError, flags: number): KernelError {
  const operations = [
    [v.VFIO_DEVICE_FEATURE_PROBE, 'PROBE'],
    [v.VFIO_DEVICE_FEATURE_GET, 'GET'],
    [v.VFIO_DEVICE_FEATURE_SET, 'SET'],
  ] as const;
  const operation = operations.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name);
  const feature = flags & v.VFIO_DEVICE_FEATURE_MASK;
  const note = [...operation, 'of', nameOfFeature(feature)].join(' ');
  return new KernelError(errno, syscall, { request, fd, note });
}

const GET_DMA_BUF: number = v.VFIO_DEVICE_FEATURE_GET | v.VFIO_DEVICE_FEATURE_DMA_BUF;
const RFC_DMA_BUF = {
  series: 'xuJan25',
  what: 'VFIO_DEVICE_FEATURE_DMA_BUF with a BAR for each range',
  unknown: ['EINVAL', 'ENOTTY'],
} as const;

const widened = <R extends { offset: number | bigint; length: number | bigint }>(range: R) => ({
  ...range,
  offset: wide(range.offset, 'offset'),
  length: wide(range.length, 'length'),
});

/** The sum of the ranges; undefined where one of them is all of a BAR, whose length only the device knows. */
const sizeOf = (ranges: readonly { length: bigint }[]): bigint | undefined =>
  ranges.some(({ length }) => length === 0n) ? undefined : ranges.reduce((sum, { length }) => sum + length, 0n);

const concat = (parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]));

/** The 16 bytes of a UUID, in the order of its text. */
export function uuidBytes(token: string | Uint8Array): Uint8Array {
  if (token instanceof Uint8Array) {
    if (token.length !== 16) throw rangeError(`a token is 16 bytes, not ${token.length}`);
    return token;
  }
  if (typeof token !== 'string') throw typeError('a token is the text of a UUID, or its 16 bytes');
  if (!/^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i.test(token)) throw rangeError(`'${token}' is no UUID`);
  return new Uint8Array(Buffer.from(token.replaceAll('-', ''), 'hex'));
}
