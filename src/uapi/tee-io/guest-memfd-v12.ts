/** RFC: guest_memfd and memory attributes, v12 (`SERIES.guestMemfdV12`): the numbers that differ from what was merged in 6.8. */

/** RFC, guest_memfd v12, ioctl on a VM: mainline has it at 0xd2, with the same struct kvm_memory_attributes. */
export const KVM_SET_MEMORY_ATTRIBUTES = 0x4020aed3;
/** RFC, guest_memfd v12: mainline 231. */
export const KVM_CAP_USER_MEMORY2 = 230;
/** RFC, guest_memfd v12: mainline 233. */
export const KVM_CAP_MEMORY_ATTRIBUTES = 231;
/** RFC, guest_memfd v12: mainline 234. */
export const KVM_CAP_GUEST_MEMFD = 232;
/** RFC, guest_memfd v12: mainline 235. */
export const KVM_CAP_VM_TYPES = 233;
