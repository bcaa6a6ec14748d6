import { wide } from '../kernel/arguments.ts';
import { typeError } from '../kernel/errors.ts';
import {
  IOMMU_HW_QUEUE_ALLOC,
  IOMMU_VDEVICE_ALLOC,
  IOMMU_VEVENTQ_ALLOC,
  iommu_hw_queue_alloc,
  iommu_vdevice_alloc,
  iommu_veventq_alloc,
} from '../uapi/iommufd.ts';
import { type InvalidateRequest, veventLength } from './data.ts';
import { VeventQueue } from './events.ts';
import { invalidate } from './hwpt.ts';
import { IommufdObject } from './object.ts';
import { Vdevice } from './vdevice.ts';

/** A queue in a VM's memory that the hardware reads itself (IOMMU_HW_QUEUE_ALLOC). What it lies in cannot be unmapped. */
export class HwQueue extends IommufdObject {}

/** The slice of an IOMMU that a VM has (IOMMU_VIOMMU_ALLOC). */
export class Viommu extends IommufdObject {
  /** IOMMU_VDEVICE_ALLOC: this device has that id in the VM. EEXIST: it has one, or another device has this. EINVAL: it is behind another IOMMU. */
  vdeviceAlloc({ dev_id, virt_id }: { dev_id: number; virt_id: bigint }): Vdevice {
    const struct = iommu_vdevice_alloc;
    const bytes = struct.encode({ size: struct.size, viommu_id: this.liveId, dev_id, out_vdevice_id: 0, virt_id });
    this.iommufd.ioctl(IOMMU_VDEVICE_ALLOC, bytes);
    return new Vdevice(this.iommufd, struct.decode(bytes).out_vdevice_id, { viommu_id: this.liveId, dev_id });
  }

  /**
   * IOMMU_VEVENTQ_ALLOC: events of this type (IOMMU_VEVENTQ_TYPE_*), of which `veventq_depth` are kept. Behind its header each is as long as its type has it: `dataLength` bytes, which
   * must be said of a type that is not the header's (linux/iommufd.h). EEXIST: there is one of this type.
   */
  veventqAlloc(request: { type: number; veventq_depth: number; dataLength?: number }): VeventQueue {
    const { type, veventq_depth, dataLength = veventLength(type) } = request;
    if (dataLength === undefined) throw typeError(`dataLength: how long is an event of type ${type}?`);
    const struct = iommu_veventq_alloc;
    const bytes = struct.encode({
      ...{ size: struct.size, flags: 0, viommu_id: this.liveId, type, veventq_depth },
      ...{ out_veventq_id: 0, out_veventq_fd: 0 },
    });
    this.iommufd.ioctl(IOMMU_VEVENTQ_ALLOC, bytes);
    const { out_veventq_id, out_veventq_fd } = struct.decode(bytes);
    return new VeventQueue(this.iommufd, out_veventq_id, out_veventq_fd, type, dataLength);
  }

  /** IOMMU_HW_QUEUE_ALLOC: memory at `nesting_parent_iova` in the IOAS below, which must lie in one piece (EFAULT). EOPNOTSUPP: no such queues. */
  hwQueueAlloc(queue: { type: number; index: number; nesting_parent_iova: bigint; length: number | bigint }): HwQueue {
    const length = wide(queue.length, 'length');
    const struct = iommu_hw_queue_alloc;
    const bytes = struct.encode({ size: struct.size, flags: 0, viommu_id: this.liveId, out_hw_queue_id: 0, ...queue, length });
    this.iommufd.ioctl(IOMMU_HW_QUEUE_ALLOC, bytes);
    return new HwQueue(this.iommufd, struct.decode(bytes).out_hw_queue_id);
  }

  /** IOMMU_HWPT_INVALIDATE of what the hardware has cached for this VM. Throws InvalidationIncomplete where it stopped half-way. */
  invalidate(request: InvalidateRequest): void {
    invalidate(this, request);
  }
}
