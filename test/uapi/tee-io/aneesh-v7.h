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
#define IOMMU_VDEVICE_TSM_VALIDATE_MMIO 1
#define IOMMU_VDEVICE_TSM_SET_TDI_STATE 2
#define IOMMU_VDEVICE_TSM_SEV_ENABLE_DMA 3
#define IOMMU_VDEVICE_TSM_SEV_DISABLE_DMA 4
#define IOMMU_VDEVICE_TSM_READ_OBJECT 5
#define IOMMU_VDEVICE_TSM_REGEN_OBJECT 6
#define IOMMU_VDEVICE_TSM_OBJECT_INFO 7
#define IOMMU_VDEVICE_TSM_OBJECT_VCA 0
#define IOMMU_VDEVICE_TSM_OBJECT_CERT 1
#define IOMMU_VDEVICE_TSM_OBJECT_MEASUREMENT 2
#define IOMMU_VDEVICE_TSM_OBJECT_REPORT 3
#define IOMMU_VDEVICE_TSM_TDI_UNLOCKED 0
#define IOMMU_VDEVICE_TSM_TDI_LOCKED 1
#define IOMMU_VDEVICE_TSM_TDI_RUN 2
struct tsm_validate_mmio {
	__u64 gpa_base;
	__u64 gpa_top;
	__u64 pa_base;
};
struct tsm_read_object {
	__u32 type;
	__u32 rsvd;
	__u64 offset;
};
struct tsm_regen_object {
	__u32 type;
	__u32 rsvd;
	__u64 flags;
	__u8 *nonce;
};
