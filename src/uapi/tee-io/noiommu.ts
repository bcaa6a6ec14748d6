/** RFC: iommufd without an IOMMU (`SERIES.noiommu`). Known from a secondary source only, which gives the number, not the layout. */

/** RFC, 2026, ioctl on an iommufd: the number IOMMU_VDEVICE_TSM_OP has in other series. */
export const IOMMU_IOAS_NOIOMMU_GET_PA = 0x3b95;
