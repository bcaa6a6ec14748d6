#define KVM_EXIT_ARM64_TIO 44
#define CCA_TSM_REQ_OBJECT_SIZE 1
#define CCA_TSM_REQ_OBJECT_READ 2
#define CCA_TSM_REQ_UPDATE_IF_REPORT 3
#define CCA_TSM_REQ_UPDATE_MEASUREMENTS 4
#define CCA_TSM_REQ_VDEV_MAP 5
#define CCA_TSM_REQ_SET_TDI_STATE 6
#define ARM64_TIO_VALIDATE 0x09
struct cca_tsm_vdev_map {
	__u32 req_type;
	__u32 rsvd;
	__u64 gpa_base;
	__u64 gpa_top;
	__u64 pa_base;
};
struct cca_tsm_set_tdi_state {
	__u32 req_type;
	__u32 tdi_state;
};
struct arm64_tio {
	__u64 flags;
	__u64 nr;
	__u64 vdev_id;
	__u64 gpa_base;
	__u64 gpa_top;
	__u64 pa_base;
	__u64 response;
};
#define IOMMU_VIOMMU_TYPE_ARM_REALM_SMMUV3 3
