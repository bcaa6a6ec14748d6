#define KVM_MEM_VFIO_DMABUF (1UL << 3)
#define VFIO_DEVICE_FEATURE_DMA_BUF 11
struct vfio_region_dma_range {
	__u32 region_index;
	__u32 __pad;
	__u64 offset;
	__u64 length;
};
struct vfio_device_feature_dma_buf {
	__u32 open_flags;
	__u32 nr_ranges;
	struct vfio_region_dma_range dma_ranges[];
};
#define VFIO_DEVICE_TSM_BIND _IO(VFIO_TYPE, VFIO_BASE + 22)
#define VFIO_DEVICE_TSM_UNBIND _IO(VFIO_TYPE, VFIO_BASE + 23)
#define IOMMU_VDEVICE_TSM_GUEST_REQUEST _IO(IOMMUFD_TYPE, 0x94)
#define PCI_TSM_GUEST_REQ_TDXC 0
struct vfio_pci_tsm_bind {
	__u32 argsz;
	__u32 flags;
	__u32 vdevice_id;
	__u32 pad;
};
struct vfio_pci_tsm_unbind {
	__u32 argsz;
	__u32 flags;
};
struct iommu_vdevice_tsm_guest_request {
	__u32 size;
	__u32 vdevice_id;
	__u32 type;
	__u32 type_info_len;
	__u32 req_len;
	__u32 resp_len;
	__aligned_u64 type_info_uptr;
	__aligned_u64 req_uptr;
	__aligned_u64 resp_uptr;
};
