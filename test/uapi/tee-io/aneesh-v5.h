#define IOMMU_VDEVICE_TSM_OP _IO(IOMMUFD_TYPE, 0x95)
#define IOMMU_VDEVICE_TSM_REQ _IO(IOMMUFD_TYPE, 0x96)
#define IOMMU_VDEVICE_TSM_BIND 0x1
#define IOMMU_VDEVICE_TSM_UNBIND 0x2
#define PCI_TSM_REQ_INFO 0
#define PCI_TSM_REQ_STATE_CHANGE 1
#define PCI_TSM_REQ_DEBUG_READ 2
#define PCI_TSM_REQ_DEBUG_WRITE 3
struct iommu_vdevice_tsm_op {
	__u32 size;
	__u32 type;
	__u32 flags;
	__u32 vdevice_id;
};
struct iommu_vdevice_tsm_req {
	__u32 size;
	__u32 vdevice_id;
	__u32 scope;
	__u32 req_len;
	__u32 resp_len;
	__u32 __reserved;
	__aligned_u64 req_uptr;
	__aligned_u64 resp_uptr;
};
