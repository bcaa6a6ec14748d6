#define KVM_MEM_VFIO_DMABUF (1UL << 3)
#define VFIO_DEVICE_FEATURE_DMA_BUF 11
#define VFIO_DEVICE_BIND_IOMMUFD_PRIVATE (1 << 0)
#define VFIO_REGION_INFO_FLAG_PRIVATE (1 << 4)
struct vfio_device_bind_iommufd {
	__u32 argsz;
	__u32 flags;
	__s32 iommufd;
	__u32 out_devid;
};
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
