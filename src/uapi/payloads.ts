/** Structs that lie behind a flexible `data[]` and are named by the ioctl table. */
import type { Struct } from './struct.ts';
import {
  vfio_bitmap,
  vfio_device_feature_dma_logging_control,
  vfio_device_feature_dma_logging_report,
  vfio_device_feature_mig_state,
  vfio_iommu_type1_dirty_bitmap_get,
} from './vfio.ts';

export function payloadStructs(): Readonly<Record<string, Struct<unknown>>> {
  return {
    vfio_bitmap,
    vfio_device_feature_dma_logging_control,
    vfio_device_feature_dma_logging_report,
    vfio_device_feature_mig_state,
    vfio_iommu_type1_dirty_bitmap_get,
  };
}
