#define IOMMU_VDEVICE_TSM_OP _IO(IOMMUFD_TYPE, 0x95)
struct iommu_vdevice_tsm_op {
	__u32 size;
	__u32 type;
	__u32 flags;
	__u32 vdevice_id;
};
