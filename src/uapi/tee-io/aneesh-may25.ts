/** RFC: bind and unbind as iommufd ioctls, May 2025 (`SERIES.aneeshMay25`). */
import type { Struct } from '../struct.ts';
import { struct } from '../struct.ts';

/** RFC, iommufd bind, ioctl on an iommufd: iommu_vdevice_id. In mainline 0x94 is IOMMU_HW_QUEUE_ALLOC. */
export const IOMMU_VDEVICE_TSM_BIND = 0x3b94;
/** RFC, iommufd bind, ioctl on an iommufd: iommu_vdevice_id. */
export const IOMMU_VDEVICE_TSM_UNBIND = 0x3b95;

/** RFC, iommufd bind: IOMMU_VDEVICE_TSM_BIND and IOMMU_VDEVICE_TSM_UNBIND. Packed. */
export interface iommu_vdevice_id {
  size: number;
  vdevice_id: number;
}
/** RFC, iommufd bind: IOMMU_VDEVICE_TSM_BIND and IOMMU_VDEVICE_TSM_UNBIND. Packed. */
export const iommu_vdevice_id: Struct<iommu_vdevice_id> = struct(
  'iommu_vdevice_id',
  'struct',
  8,
  1,
  `
  0 __u32 size;
  4 __u32 vdevice_id;
`,
);
