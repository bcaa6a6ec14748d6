struct kvm_memory_attributes { __u64 address, size, attributes, flags; };
#define KVM_SET_MEMORY_ATTRIBUTES _IOW(KVMIO, 0xd3, struct kvm_memory_attributes)
#define KVM_CAP_USER_MEMORY2 230
#define KVM_CAP_MEMORY_ATTRIBUTES (KVM_CAP_USER_MEMORY2 + 1)
#define KVM_CAP_GUEST_MEMFD (KVM_CAP_USER_MEMORY2 + 2)
#define KVM_CAP_VM_TYPES (KVM_CAP_USER_MEMORY2 + 3)
