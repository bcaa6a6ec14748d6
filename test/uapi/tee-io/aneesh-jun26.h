#define IOMMU_VDEVICE_TSM_REQ _IO(IOMMUFD_TYPE, 0x96)
#define IOMMU_VDEVICE_TSM_TVM_ARCH_CCA 1
#define IOMMU_VDEVICE_TSM_TVM_ARCH_SEV 2
#define IOMMU_VDEVICE_TSM_TVM_ARCH_TDX 3
struct iommu_vdevice_tsm_req {
	__u32 size;
	__u32 vdevice_id;
	__u32 op;
	__u32 tvm_arch;
	__u32 req_len;
	__u32 resp_len;
	__aligned_u64 req_uptr;
	__aligned_u64 resp_uptr;
	__aligned_u64 tsm_code;
};
#define IOMMU_VDEVICE_TSM_READ_OBJECT 1
#define IOMMU_VDEVICE_TSM_REGEN_OBJECT 2
#define IOMMU_VDEVICE_TSM_OBJECT_INFO 3
#define IOMMU_VDEVICE_TSM_VALIDATE_MMIO 4
#define IOMMU_VDEVICE_TSM_SET_TDI_STATE 5
#define IOMMU_VDEVICE_TSM_SEV_ENABLE_DMA 6
#define IOMMU_VDEVICE_TSM_SEV_DISABLE_DMA 7
