#define IOMMU_VDEVICE_TSM_OP _IO(IOMMUFD_TYPE, 0x95)
#define IOMMU_VDEVICE_TSM_GUEST_REQUEST _IO(IOMMUFD_TYPE, 0x96)
#define IOMMU_VIOMMU_KVM_FD (1 << 0)
struct iommu_viommu_alloc {
	__u32 size;
	__u32 flags;
	__u32 type;
	__u32 dev_id;
	__u32 hwpt_id;
	__u32 out_viommu_id;
	__u32 data_len;
	__u32 __reserved;
	__aligned_u64 data_uptr;
	__s32 kvm_vm_fd;
};
struct iommu_vdevice_tsm_op {
	__u32 size;
	__u32 op;
	__u32 flags;
	__u32 vdevice_id;
};
struct iommu_vdevice_tsm_guest_request {
	__u32 size;
	__u32 vdevice_id;
	__u32 scope;
	__u32 req_len;
	__u32 resp_len;
	__aligned_u64 req_uptr;
	__aligned_u64 resp_uptr;
};
