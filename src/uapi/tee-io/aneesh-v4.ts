/** RFC: "iommufd: TSM" v4, April 2026 (`SERIES.aneeshV4`): no KVM descriptor any more. The operation's word and layout; of its requests nothing is recorded. */

export { IOMMU_VDEVICE_TSM_OP, iommu_vdevice_tsm_op } from './aneesh-v5.ts';
