/** RFC: KVM userfault (`SERIES.userfault`). Here for its collision with KVM_MEM_VFIO_DMABUF: nothing in the arguments tells the two apart. */

/** RFC, KVM userfault: `kvm_userspace_memory_region2.flags`. */
export const KVM_MEM_USERFAULT = 0x8;
