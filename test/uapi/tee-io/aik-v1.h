#define KVM_DEV_VFIO_DEVICE 2
#define KVM_DEV_VFIO_DEVICE_TDI_BIND 1
#define KVM_DEV_VFIO_DEVICE_TDI_UNBIND 2
#define KVM_EXIT_VMGEXIT 40
#define KVM_USER_VMGEXIT_TIO_REQ 4
#define SVM_VMGEXIT_SEV_TIO_GUEST_REQUEST 0x80000020
struct kvm_vfio_tsm_bind {
	__u32 guest_rid;
	__s32 devfd;
} PACKED;
struct kvm_user_vmgexit {
	__u32 type;
	__u32 guest_rid;
	__u32 ret;
} PACKED;
