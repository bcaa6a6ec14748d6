#define IOMMU_VDEVICE_TSM_BIND _IO(IOMMUFD_TYPE, 0x94)
#define IOMMU_VDEVICE_TSM_UNBIND _IO(IOMMUFD_TYPE, 0x95)
struct iommu_vdevice_id {
	__u32 size;
	__u32 vdevice_id;
} PACKED;
