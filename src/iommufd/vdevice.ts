import { rfcIoctl } from '../kernel/rfc.ts';
import * as v1 from '../uapi/tee-io/aneesh-v1.ts';
import type { Iommufd } from './iommufd.ts';
import { IommufdObject } from './object.ts';
import { type BindSeries, bind, type TsmBindOptions, unbind } from './tsm-bind.ts';
import {
  type GuestRequest,
  type GuestResponse,
  guestRequest,
  type SevGuestRequest,
  type SevGuestResponse,
  sevGuestRequest,
  type TsmReq,
  type TsmReqResponse,
  tsmReq,
} from './tsm-request.ts';

/** A device under the id a VM knows it by (IOMMU_VDEVICE_ALLOC). The requests of confidential device assignment name it (RFC). */
export class Vdevice extends IommufdObject {
  /** The vIOMMU and the device it was made of; undefined where the id alone was given. */
  readonly madeFor: { readonly viommu_id: number; readonly dev_id: number } | undefined;

  constructor(iommufd: Iommufd, id: number, madeFor?: { readonly viommu_id: number; readonly dev_id: number }) {
    super(iommufd, id);
    this.madeFor = madeFor;
  }

  /**
   * IOMMU_VDEVICE_TSM_OP, BIND (RFC, aneeshV5): the TDI of the device becomes that of the VM; or IOMMU_VDEVICE_TSM_BIND of an older `series`. Bound to it already: nothing happens. ENODEV: no VM.
   * EBUSY: bound to another. EINVAL: not connected to the TSM. ENXIO: it cannot be trusted. EIO: the device refuses to be locked.
   */
  tsmBind(options: TsmBindOptions = {}): void {
    bind(this, options);
  }

  /**
   * IOMMU_VDEVICE_TSM_OP, UNBIND (RFC, aneeshV5): the TDI is CONFIG_UNLOCKED again, by whatever descriptor it was bound; or IOMMU_VDEVICE_TSM_UNBIND of an older `series`. Not bound: nothing
   * happens. NotAvailable: 'aikV2' has no such request, `destroy()` unbinds.
   */
  tsmUnbind({ series }: { series?: BindSeries } = {}): void {
    unbind(this, series);
  }

  /**
   * IOMMU_VDEVICE_TSM_GUEST_REQUEST (RFC, aneeshV1; or, by `series`, xuMay25 and aikV2): bytes of the guest for the TSM; what it answers. ENXIO: not bound; ENOENT, of xuMay25.
   */
  tsmGuestRequest(request: GuestRequest): GuestResponse;
  tsmGuestRequest(request: SevGuestRequest): SevGuestResponse;
  tsmGuestRequest(request: GuestRequest | SevGuestRequest): GuestResponse | SevGuestResponse {
    return request.series === 'aikV2' ? sevGuestRequest(this, request) : guestRequest(this, request);
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
    rfcIoctl(this.iommufd, rfc, struct.encode({ size: struct.size, flags: 0, start_gpa, end_gpa, vdevice_id: this.liveId }));
  }
}
