/**
 * RFC: guest_memfd and memory attributes, v13 (`SERIES.guestMemfdV13`): the capability numbers that differ from what was merged in 6.8, each one less, because 230
 * went to KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES. Requests and structs are those of mainline.
 */

/** RFC, guest_memfd v13: mainline 231. */
export const KVM_CAP_USER_MEMORY2 = 230;
/** RFC, guest_memfd v13: mainline 232. */
export const KVM_CAP_MEMORY_FAULT_INFO = 231;
/** RFC, guest_memfd v13: mainline 233. */
export const KVM_CAP_MEMORY_ATTRIBUTES = 232;
/** RFC, guest_memfd v13: mainline 234. */
export const KVM_CAP_GUEST_MEMFD = 233;
/** RFC, guest_memfd v13: mainline 235. */
export const KVM_CAP_VM_TYPES = 234;
