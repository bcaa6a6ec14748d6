import { ioctlByName } from '../../uapi/ioctls.ts';
import * as uapi from '../../uapi/iommufd.ts';
import { E2BIG, EFAULT, EINVAL, ENOTTY } from '../../uapi/sys.ts';
import { CharFile } from '../char-device.ts';
import type { Backing, FileMap } from '../file.ts';
import { atLeast } from '../machine.ts';
import type { Process } from '../process.ts';
import type { CharDevice, System } from '../system.ts';
import { Call, type Handler } from './call.ts';
import { IommufdContext } from './context.ts';
import { getHwInfo } from './device.ts';
import { faultQueueAlloc } from './fault-queue.ts';
import { hwptAlloc, hwptGetDirtyBitmap, hwptInvalidate, hwptSetDirtyTracking } from './hw-pagetable.ts';
import {
  ioasAlloc,
  ioasAllowIovas,
  ioasChangeProcess,
  ioasCopy,
  ioasIovaRanges,
  ioasMap,
  ioasMapFile,
  ioasUnmap,
  option,
} from './ioas.ts';
import { type NumberedRow, type Row, row } from './row.ts';
import { testCommand } from './selftest.ts';
import { coverTsm, tsmRows } from './tsm-rows.ts';
import { VfioContext } from './vfio.ts';
import { vfioCompatIoctl, vfioCompatRequests, vfioIoas } from './vfio-compat.ts';
import { hwQueueAlloc, vdeviceAlloc, veventqAlloc, viommuAlloc } from './viommu.ts';

/** Below: VFIO's numbers. */
const BASE = 0x80;

const destroy: Handler<uapi.iommu_destroy> = ({ ctx, p }, { id }) => ctx.objects.destroy(p, id);

/** iommufd_ioctl_ops. */
const rows: readonly Row[] = [
  row('IOMMU_DESTROY', uapi.iommu_destroy, 'id', destroy),
  row('IOMMU_IOAS_ALLOC', uapi.iommu_ioas_alloc, 'out_ioas_id', ioasAlloc),
  row('IOMMU_IOAS_ALLOW_IOVAS', uapi.iommu_ioas_allow_iovas, 'allowed_iovas', ioasAllowIovas),
  row('IOMMU_IOAS_COPY', uapi.iommu_ioas_copy, 'src_iova', ioasCopy),
  row('IOMMU_IOAS_IOVA_RANGES', uapi.iommu_ioas_iova_ranges, 'out_iova_alignment', ioasIovaRanges),
  row('IOMMU_IOAS_MAP', uapi.iommu_ioas_map, 'iova', ioasMap),
  row('IOMMU_IOAS_UNMAP', uapi.iommu_ioas_unmap, 'length', ioasUnmap),
  row('IOMMU_OPTION', uapi.iommu_option, 'val64', option),
  row('IOMMU_VFIO_IOAS', uapi.iommu_vfio_ioas, '__reserved', vfioIoas),
  row('IOMMU_HWPT_ALLOC', uapi.iommu_hwpt_alloc, '__reserved', hwptAlloc),
  row('IOMMU_GET_HW_INFO', uapi.iommu_hw_info, '__reserved', getHwInfo),
  row('IOMMU_HWPT_SET_DIRTY_TRACKING', uapi.iommu_hwpt_set_dirty_tracking, '__reserved', hwptSetDirtyTracking),
  row('IOMMU_HWPT_GET_DIRTY_BITMAP', uapi.iommu_hwpt_get_dirty_bitmap, 'data', hwptGetDirtyBitmap),
  row('IOMMU_HWPT_INVALIDATE', uapi.iommu_hwpt_invalidate, '__reserved', hwptInvalidate),
  row('IOMMU_FAULT_QUEUE_ALLOC', uapi.iommu_fault_alloc, 'out_fault_fd', faultQueueAlloc),
  row('IOMMU_IOAS_MAP_FILE', uapi.iommu_ioas_map_file, 'iova', ioasMapFile),
  row('IOMMU_VIOMMU_ALLOC', uapi.iommu_viommu_alloc, 'out_viommu_id', viommuAlloc),
  row('IOMMU_VDEVICE_ALLOC', uapi.iommu_vdevice_alloc, 'virt_id', vdeviceAlloc),
  row('IOMMU_IOAS_CHANGE_PROCESS', uapi.iommu_ioas_change_process, '__reserved', ioasChangeProcess),
  row('IOMMU_VEVENTQ_ALLOC', uapi.iommu_veventq_alloc, 'out_veventq_fd', veventqAlloc),
  row('IOMMU_HW_QUEUE_ALLOC', uapi.iommu_hw_queue_alloc, 'length', hwQueueAlloc),
];

/** What a kernel's table has, by the low byte of the request. */
class IoctlOps {
  readonly #rows: ReadonlyMap<number, NumberedRow>;
  readonly #last: number;
  /** It has IOMMU_TEST_CMD. */
  readonly testing: boolean;

  /** RFC: what confidential device assignment has takes the place of what has the same number. */
  constructor({ machine }: System) {
    this.testing = machine.iommufdTest === true;
    const mainline = rows.flatMap((one) => {
      const { request, since } = ioctlByName(one.name, 'iommufd')!;
      return atLeast(machine, since!) ? [{ ...one, request }] : [];
    });
    const posted = machine.teeIo === undefined ? [] : tsmRows(machine.teeIo);
    const present = [...mainline, ...posted, ...(this.testing ? [testCommand] : [])];
    this.#rows = new Map(present.map((one) => [one.request & 0xff, one]));
    this.#last = Math.max(...this.#rows.keys());
  }

  /** iommufd_fops_ioctl. */
  dispatch(ctx: IommufdContext, p: Process, request: number, arg: bigint): number {
    const nr = request & 0xff;
    if (nr < BASE || nr > this.#last) return vfioCompatIoctl(ctx, p, request, arg);
    const size = p.mm.read32(arg);
    if (size === null) return -EFAULT;
    const op = this.#rows.get(nr);
    if (op === undefined || op.request !== request) return -ENOTTY;
    if (size < op.least) return -EINVAL;
    const bytes = new Uint8Array(op.struct.size);
    const tail = zeroTail(p, arg + BigInt(bytes.length), size - bytes.length);
    if (tail < 0) return tail;
    if (!p.mm.readInto(arg, bytes.subarray(0, Math.min(size, bytes.length)))) return -EFAULT;
    return op.handler(new Call(ctx, p, arg, bytes, size), op.struct.view(bytes) as never);
  }
}

/** check_zeroed_user of what the user knows and this kernel does not. */
function zeroTail(p: Process, address: bigint, length: number): number {
  for (let at = 0; at < length; ) {
    const part = Math.min(length - at, 4096 - ((Number(address % 4096n) + at) % 4096));
    const bytes = p.mm.copyFrom(address + BigInt(at), part);
    if (bytes === null) return -EFAULT;
    if (bytes.some((byte) => byte !== 0)) return -E2BIG;
    at += part;
  }
  return 0;
}

/** An open /dev/iommu. */
export class IommufdFile extends CharFile {
  readonly ctx: IommufdContext;
  /** What VFIO sees of it. */
  readonly iommufd: VfioContext;
  readonly #ops: IoctlOps;

  constructor(device: CharDevice, flags: number, system: System, ops: IoctlOps, processAccounting: boolean) {
    super(device, flags);
    this.#ops = ops;
    this.ctx = new IommufdContext(system, this, processAccounting, ops.testing);
    this.iommufd = new VfioContext(this.ctx);
  }

  override ioctl(p: Process, request: number, arg: bigint): number {
    return this.#ops.dispatch(this.ctx, p, request, arg);
  }

  override mmap(_p: Process, map: FileMap): Backing | number {
    return this.ctx.regions.mmap(map);
  }

  override release(p: Process): void {
    this.ctx.release(p);
  }
}

/** Registers /dev/iommu, where the machine has it. */
export function registerIommufd(system: System): void {
  const path = '/dev/iommu';
  if (system.device(path) === undefined) return;
  const ops = new IoctlOps(system);
  const node: CharDevice = {
    path,
    major: 10,
    minor: 122,
    mode: 0o660,
    open: (_p, flags) => new IommufdFile(node, flags, system, ops, false),
  };
  system.register(node);
  for (const { name } of [...rows, testCommand, ...vfioCompatRequests]) system.coverage.add('ioctl', `${name} (iommufd)`);
  coverTsm(system);
}
