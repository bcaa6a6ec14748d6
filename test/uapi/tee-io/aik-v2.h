#define IOMMU_VDEVICE_TSM_BIND _IO(IOMMUFD_TYPE, 0x93)
#define IOMMU_VDEVICE_TSM_GUEST_REQUEST _IO(IOMMUFD_TYPE, 0x94)
#define IOMMU_VIOMMU_TYPE_TSM 2
#define KVM_SEV_SNP_MMIO_RMP_UPDATE 103
#define KVM_SEV_SNP_MMIO_RMP_UPDATE_PRIVATE (1 << 0)
#define KVM_EXIT_VMGEXIT 40
#define KVM_USER_VMGEXIT_TIO_REQ 4
#define KVM_USER_VMGEXIT_TIO_REQ_FLAG_STATUS (1 << 0)
#define KVM_USER_VMGEXIT_TIO_REQ_FLAG_MMIO_VALIDATE (1 << 1)
#define KVM_USER_VMGEXIT_TIO_REQ_FLAG_MMIO_CONFIG (1 << 2)
#define SVM_VMGEXIT_SEV_TIO_GUEST_REQUEST 0x80000020
struct iommu_vdevice_tsm_bind {
	__u32 size;
	__u32 viommu_id;
	__u32 dev_id;
	__u32 vdevice_id;
	__s32 kvmfd;
	__u32 pad;
} PACKED;
struct iommu_vdevice_tsm_guest_request {
	__u32 size;
	__u32 viommu_id;
	__u32 dev_id;
	__u32 vdevice_id;
	__u8 *req;
	__u8 *rsp;
	__u32 rsp_len;
	__u32 req_len;
	__s32 fw_err;
} PACKED;
struct kvm_sev_snp_mmio_rmp_update {
	__u32 flags;
	__u32 pad;
	__u64 useraddr;
	__u64 gpa;
	__u64 size;
};
struct kvm_user_vmgexit {
	__u32 type;
	struct {
		__u32 guest_rid;
		__u16 ret;
		__u8 flags;
		__u8 tdi_status;
		__u64 data_gpa;
		__u64 data_npages;
		__u64 req_spa;
		__u64 rsp_spa;
		__u64 mmio_gpa;
		__s32 fw_err;
	} tio_req;
} PACKED;
