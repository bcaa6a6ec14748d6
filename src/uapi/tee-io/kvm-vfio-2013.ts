/** RFC: the KVM-VFIO pseudo device as posted in September 2013 (`SERIES.kvmVfio2013`). Groups where mainline has attributes; `addr` is the descriptor itself. */

/** RFC, KVM-VFIO 2013: `kvm_create_device.type`. Merged with this value. */
export const KVM_DEV_TYPE_VFIO = 4;
/** RFC, KVM-VFIO 2013: `kvm_device_attr.group`; `attr` is ignored. In mainline group 1 is KVM_DEV_VFIO_FILE. */
export const KVM_DEV_VFIO_ADD_GROUP = 1;
/** RFC, KVM-VFIO 2013: `kvm_device_attr.group`; `attr` is ignored. Not in mainline. */
export const KVM_DEV_VFIO_DEL_GROUP = 2;
