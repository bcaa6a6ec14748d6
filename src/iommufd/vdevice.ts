import { rfcIoctl } from '../kernel/rfc.ts';
import * as v1 from '../uapi/tee-io/aneesh-v1.ts';
import * as v5 from '../uapi/tee-io/aneesh-v5.ts';
import { IommufdObject } from './object.ts';
import { type GuestRequest, type GuestResponse, guestRequest, type TsmReq, type TsmReqResponse, tsmReq } from './tsm-request.ts';

/** A device under the id a VM knows it by (IOMMU_VDEVICE_ALLOC). The requests of confidential device assignment name it (RFC). */
export class Vdevice extends IommufdObject {
  /**
   * IOMMU_VDEVICE_TSM_OP, BIND (RFC, aneeshV5): the TDI of the device becomes that of the VM. Bound to it already: nothing happens. ENODEV: no VM. EBUSY: bound to another. EINVAL: not connected
   * to the TSM. ENXIO: it cannot be trusted. EIO: the device refuses to be locked.
   */
  tsmBind(): void {
    this.#op(v5.IOMMU_VDEVICE_TSM_BIND);
  }

  /** IOMMU_VDEVICE_TSM_OP, UNBIND (RFC, aneeshV5): the TDI is CONFIG_UNLOCKED again, by whatever descriptor it was bound. Not bound: nothing happens. */
  tsmUnbind(): void {
    this.#op(v5.IOMMU_VDEVICE_TSM_UNBIND);
  }

  /** IOMMU_VDEVICE_TSM_GUEST_REQUEST (RFC, aneeshV1): bytes of the guest for the TSM, by `type`; what it answers. ENXIO: not bound. */
  tsmGuestRequest(request: GuestRequest): GuestResponse {
    return guestRequest(this, request);
  }

  /**
   * IOMMU_VDEVICE_TSM_REQ: with a `scope` as of May 2026 (RFC, aneeshV5), with an operation and an architecture as of June (RFC, aneeshV7): one word, of which a kernel has one meaning. ENXIO:
   * not bound.
   */
  tsmReq(request: TsmReq): TsmReqResponse {
    return tsmReq(this, request);
  }

  /**
   * IOMMU_VDEVICE_TSM_MAP (RFC, aneeshV1): makes the private pages of [`start_gpa`, `end_gpa`), and lets the device reach them. Stops at the first page that cannot be: those before it stay.
   * EINVAL: no private memory there. ENODEV: no VM.
   */
  tsmMap({ start_gpa, end_gpa }: { start_gpa: bigint; end_gpa: bigint }): void {
    const struct = v1.iommu_vdevice_tsm_map;
    const rfc = { series: 'aneeshV1', name: 'IOMMU_VDEVICE_TSM_MAP', request: v1.IOMMU_VDEVICE_TSM_MAP } as const;
    rfcIoctl(this.iommufd, rfc, struct.encode({ size: struct.size, flags: 0, start_gpa, end_gpa, vdevice_id: this.id }));
  }

  #op(type: number): void {
    const struct = v5.iommu_vdevice_tsm_op;
    const rfc = { series: 'aneeshV5', name: 'IOMMU_VDEVICE_TSM_OP', request: v5.IOMMU_VDEVICE_TSM_OP } as const;
    rfcIoctl(this.iommufd, rfc, struct.encode({ size: struct.size, type, flags: 0, vdevice_id: this.id }));
  }
}
