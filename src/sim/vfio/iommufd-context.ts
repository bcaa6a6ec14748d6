import type { File } from '../file.ts';
import type { Process } from '../process.ts';
import type { VfioDevice } from './device.ts';

/** What VFIO asks of an iommufd (drivers/iommu/iommufd, as drivers/vfio/iommufd.c uses it). A negative number is −errno. */
export interface IommufdContext {
  /** iommufd_ctx_get and iommufd_ctx_put: who binds a device, or gives it to a group as container, holds the file. */
  get(): this;
  put(p: Process): void;
  /** iommufd_device_bind: claims the group's DMA for this iommufd. Of a device without IOMMU of its own (mdev): iommufd_access_create. */
  bind(p: Process, device: VfioDevice): BoundDevice | number;
  /** iommufd_vfio_compat_ioas_create: 0, also where there is one already; −EINVAL in no-IOMMU mode. */
  createCompatIoas(p: Process): number;
  /** iommufd_vfio_compat_set_no_iommu: −EINVAL where there is a compat IOAS. */
  setNoIommu(): number;
  /** iommufd_vfio_compat_ioas_get_id; −ENODEV: there is none. */
  compatIoas(): number;
}

/** A device bound to an iommufd. `pasid` absent: the device's own DMA. */
export interface BoundDevice {
  readonly context: IommufdContext;
  /** The id of its object. */
  readonly id: number;
  /** iommufd_device_attach, or iommufd_device_replace where it is attached: the id of the table it then has (of an mdev: of the IOAS). */
  attach(p: Process, pt: number, pasid?: number): number;
  /** Nothing where it is not attached. */
  detach(p: Process, pasid?: number): void;
  /** RFC: what VFIO_DEVICE_TSM_BIND asks of the vDEVICE, and the bind itself: 0 or −errno. Absent: the device has none. */
  bindTdi?(vdevice: number): number;
  /** iommufd_device_unbind: detaches what is attached, releases the group's DMA. */
  unbind(p: Process): void;
}

interface IommufdFile extends File {
  readonly iommufd: IommufdContext;
}

/** iommufd_ctx_from_file. */
export function isIommufdFile(file: File): file is IommufdFile {
  return 'iommufd' in file;
}
