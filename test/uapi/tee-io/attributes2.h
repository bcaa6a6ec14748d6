struct kvm_memory_attributes2 { __u64 space[16]; };
#define KVM_SET_MEMORY_ATTRIBUTES2 _IOWR(KVMIO, 0xd6, struct kvm_memory_attributes2)
