// VFIO: linux/vfio.h. Generated from linux-libc-dev 7.2.13 by scripts/uapi/generate.mjs: do not edit.
import type { Struct, unionMembers } from './struct.ts';
import { struct } from './struct.ts';

export const VFIO_PCI_BAR0_REGION_INDEX = 0;
export const VFIO_PCI_BAR1_REGION_INDEX = 1;
export const VFIO_PCI_BAR2_REGION_INDEX = 2;
export const VFIO_PCI_BAR3_REGION_INDEX = 3;
export const VFIO_PCI_BAR4_REGION_INDEX = 4;
export const VFIO_PCI_BAR5_REGION_INDEX = 5;
export const VFIO_PCI_ROM_REGION_INDEX = 6;
export const VFIO_PCI_CONFIG_REGION_INDEX = 7;
export const VFIO_PCI_VGA_REGION_INDEX = 8;
export const VFIO_PCI_NUM_REGIONS = 9;
export const VFIO_PCI_INTX_IRQ_INDEX = 0;
export const VFIO_PCI_MSI_IRQ_INDEX = 1;
export const VFIO_PCI_MSIX_IRQ_INDEX = 2;
export const VFIO_PCI_ERR_IRQ_INDEX = 3;
export const VFIO_PCI_REQ_IRQ_INDEX = 4;
export const VFIO_PCI_NUM_IRQS = 5;
export const VFIO_CCW_CONFIG_REGION_INDEX = 0;
export const VFIO_CCW_NUM_REGIONS = 1;
export const VFIO_CCW_IO_IRQ_INDEX = 0;
export const VFIO_CCW_CRW_IRQ_INDEX = 1;
export const VFIO_CCW_REQ_IRQ_INDEX = 2;
export const VFIO_CCW_NUM_IRQS = 3;
export const VFIO_AP_REQ_IRQ_INDEX = 0;
export const VFIO_AP_CFG_CHG_IRQ_INDEX = 1;
export const VFIO_AP_NUM_IRQS = 2;
export const VFIO_DEVICE_STATE_ERROR = 0;
export const VFIO_DEVICE_STATE_STOP = 1;
export const VFIO_DEVICE_STATE_RUNNING = 2;
export const VFIO_DEVICE_STATE_STOP_COPY = 3;
export const VFIO_DEVICE_STATE_RESUMING = 4;
export const VFIO_DEVICE_STATE_RUNNING_P2P = 5;
export const VFIO_DEVICE_STATE_PRE_COPY = 6;
export const VFIO_DEVICE_STATE_PRE_COPY_P2P = 7;
export const VFIO_DEVICE_STATE_NR = 8;
export const VFIO_API_VERSION = 0;
export const VFIO_TYPE1_IOMMU = 1;
export const VFIO_SPAPR_TCE_IOMMU = 2;
export const VFIO_TYPE1v2_IOMMU = 3;
export const VFIO_DMA_CC_IOMMU = 4;
export const VFIO_EEH = 5;
export const __VFIO_RESERVED_TYPE1_NESTING_IOMMU = 6;
export const VFIO_SPAPR_TCE_v2_IOMMU = 7;
export const VFIO_NOIOMMU_IOMMU = 8;
export const VFIO_UNMAP_ALL = 9;
export const VFIO_UPDATE_VADDR = 10;
export const VFIO_TYPE = 59;
export const VFIO_BASE = 100;
export const VFIO_GET_API_VERSION = 0x3b64;
export const VFIO_CHECK_EXTENSION = 0x3b65;
export const VFIO_SET_IOMMU = 0x3b66;
export const VFIO_GROUP_FLAGS_VIABLE = 0x1;
export const VFIO_GROUP_FLAGS_CONTAINER_SET = 0x2;
export const VFIO_GROUP_GET_STATUS = 0x3b67;
export const VFIO_GROUP_SET_CONTAINER = 0x3b68;
export const VFIO_GROUP_UNSET_CONTAINER = 0x3b69;
export const VFIO_GROUP_GET_DEVICE_FD = 0x3b6a;
export const VFIO_DEVICE_FLAGS_RESET = 0x1;
export const VFIO_DEVICE_FLAGS_PCI = 0x2;
export const VFIO_DEVICE_FLAGS_PLATFORM = 0x4;
export const VFIO_DEVICE_FLAGS_AMBA = 0x8;
export const VFIO_DEVICE_FLAGS_CCW = 0x10;
export const VFIO_DEVICE_FLAGS_AP = 0x20;
export const VFIO_DEVICE_FLAGS_FSL_MC = 0x40;
export const VFIO_DEVICE_FLAGS_CAPS = 0x80;
export const VFIO_DEVICE_FLAGS_CDX = 0x100;
export const VFIO_DEVICE_GET_INFO = 0x3b6b;
export const VFIO_DEVICE_API_PCI_STRING = 'vfio-pci';
export const VFIO_DEVICE_API_PLATFORM_STRING = 'vfio-platform';
export const VFIO_DEVICE_API_AMBA_STRING = 'vfio-amba';
export const VFIO_DEVICE_API_CCW_STRING = 'vfio-ccw';
export const VFIO_DEVICE_API_AP_STRING = 'vfio-ap';
export const VFIO_DEVICE_INFO_CAP_ZPCI_BASE = 1;
export const VFIO_DEVICE_INFO_CAP_ZPCI_GROUP = 2;
export const VFIO_DEVICE_INFO_CAP_ZPCI_UTIL = 3;
export const VFIO_DEVICE_INFO_CAP_ZPCI_PFIP = 4;
export const VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP = 5;
export const VFIO_PCI_ATOMIC_COMP32 = 0x1;
export const VFIO_PCI_ATOMIC_COMP64 = 0x2;
export const VFIO_PCI_ATOMIC_COMP128 = 0x4;
export const VFIO_REGION_INFO_FLAG_READ = 0x1;
export const VFIO_REGION_INFO_FLAG_WRITE = 0x2;
export const VFIO_REGION_INFO_FLAG_MMAP = 0x4;
export const VFIO_REGION_INFO_FLAG_CAPS = 0x8;
export const VFIO_DEVICE_GET_REGION_INFO = 0x3b6c;
export const VFIO_REGION_INFO_CAP_SPARSE_MMAP = 1;
export const VFIO_REGION_INFO_CAP_TYPE = 2;
export const VFIO_REGION_TYPE_PCI_VENDOR_TYPE = -0x80000000;
export const VFIO_REGION_TYPE_PCI_VENDOR_MASK = 0xffff;
export const VFIO_REGION_TYPE_GFX = 1;
export const VFIO_REGION_TYPE_CCW = 2;
export const VFIO_REGION_TYPE_MIGRATION_DEPRECATED = 3;
export const VFIO_REGION_SUBTYPE_INTEL_IGD_OPREGION = 1;
export const VFIO_REGION_SUBTYPE_INTEL_IGD_HOST_CFG = 2;
export const VFIO_REGION_SUBTYPE_INTEL_IGD_LPC_CFG = 3;
export const VFIO_REGION_SUBTYPE_NVIDIA_NVLINK2_RAM = 1;
export const VFIO_REGION_SUBTYPE_IBM_NVLINK2_ATSD = 1;
export const VFIO_REGION_SUBTYPE_GFX_EDID = 1;
export const VFIO_DEVICE_GFX_LINK_STATE_UP = 1;
export const VFIO_DEVICE_GFX_LINK_STATE_DOWN = 2;
export const VFIO_REGION_SUBTYPE_CCW_ASYNC_CMD = 1;
export const VFIO_REGION_SUBTYPE_CCW_SCHIB = 2;
export const VFIO_REGION_SUBTYPE_CCW_CRW = 3;
export const VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED = 1;
export const VFIO_DEVICE_STATE_V1_STOP = 0;
export const VFIO_DEVICE_STATE_V1_RUNNING = 0x1;
export const VFIO_DEVICE_STATE_V1_SAVING = 0x2;
export const VFIO_DEVICE_STATE_V1_RESUMING = 0x4;
export const VFIO_DEVICE_STATE_MASK = 7;
export const VFIO_REGION_INFO_CAP_MSIX_MAPPABLE = 3;
export const VFIO_REGION_INFO_CAP_NVLINK2_SSATGT = 4;
export const VFIO_REGION_INFO_CAP_NVLINK2_LNKSPD = 5;
export const VFIO_IRQ_INFO_EVENTFD = 0x1;
export const VFIO_IRQ_INFO_MASKABLE = 0x2;
export const VFIO_IRQ_INFO_AUTOMASKED = 0x4;
export const VFIO_IRQ_INFO_NORESIZE = 0x8;
export const VFIO_DEVICE_GET_IRQ_INFO = 0x3b6d;
export const VFIO_IRQ_SET_DATA_NONE = 0x1;
export const VFIO_IRQ_SET_DATA_BOOL = 0x2;
export const VFIO_IRQ_SET_DATA_EVENTFD = 0x4;
export const VFIO_IRQ_SET_ACTION_MASK = 0x8;
export const VFIO_IRQ_SET_ACTION_UNMASK = 0x10;
export const VFIO_IRQ_SET_ACTION_TRIGGER = 0x20;
export const VFIO_DEVICE_SET_IRQS = 0x3b6e;
export const VFIO_IRQ_SET_DATA_TYPE_MASK = 7;
export const VFIO_IRQ_SET_ACTION_TYPE_MASK = 56;
export const VFIO_DEVICE_RESET = 0x3b6f;
export const VFIO_PCI_DEVID_OWNED = 0;
export const VFIO_PCI_DEVID_NOT_OWNED = -1;
export const VFIO_PCI_HOT_RESET_FLAG_DEV_ID = 0x1;
export const VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED = 0x2;
export const VFIO_DEVICE_GET_PCI_HOT_RESET_INFO = 0x3b70;
export const VFIO_DEVICE_PCI_HOT_RESET = 0x3b71;
export const VFIO_GFX_PLANE_TYPE_PROBE = 0x1;
export const VFIO_GFX_PLANE_TYPE_DMABUF = 0x2;
export const VFIO_GFX_PLANE_TYPE_REGION = 0x4;
export const VFIO_DEVICE_QUERY_GFX_PLANE = 0x3b72;
export const VFIO_DEVICE_GET_GFX_DMABUF = 0x3b73;
export const VFIO_DEVICE_IOEVENTFD_8 = 0x1;
export const VFIO_DEVICE_IOEVENTFD_16 = 0x2;
export const VFIO_DEVICE_IOEVENTFD_32 = 0x4;
export const VFIO_DEVICE_IOEVENTFD_64 = 0x8;
export const VFIO_DEVICE_IOEVENTFD_SIZE_MASK = 0xf;
export const VFIO_DEVICE_IOEVENTFD = 0x3b74;
export const VFIO_DEVICE_FEATURE_MASK = 0xffff;
export const VFIO_DEVICE_FEATURE_GET = 0x10000;
export const VFIO_DEVICE_FEATURE_SET = 0x20000;
export const VFIO_DEVICE_FEATURE_PROBE = 0x40000;
export const VFIO_DEVICE_FEATURE = 0x3b75;
export const VFIO_DEVICE_BIND_FLAG_TOKEN = 0x1;
export const VFIO_DEVICE_BIND_IOMMUFD = 0x3b76;
export const VFIO_DEVICE_ATTACH_PASID = 0x1;
export const VFIO_DEVICE_ATTACH_IOMMUFD_PT = 0x3b77;
export const VFIO_DEVICE_DETACH_PASID = 0x1;
export const VFIO_DEVICE_DETACH_IOMMUFD_PT = 0x3b78;
export const VFIO_DEVICE_FEATURE_PCI_VF_TOKEN = 0;
export const VFIO_MIGRATION_STOP_COPY = 0x1;
export const VFIO_MIGRATION_P2P = 0x2;
export const VFIO_MIGRATION_PRE_COPY = 0x4;
export const VFIO_DEVICE_FEATURE_MIGRATION = 1;
export const VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE = 2;
export const VFIO_PRECOPY_INFO_REINIT = 0x1;
export const VFIO_MIG_GET_PRECOPY_INFO = 0x3b79;
export const VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY = 3;
export const VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP = 4;
export const VFIO_DEVICE_FEATURE_LOW_POWER_EXIT = 5;
export const VFIO_DEVICE_FEATURE_DMA_LOGGING_START = 6;
export const VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP = 7;
export const VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT = 8;
export const VFIO_DEVICE_FEATURE_MIG_DATA_SIZE = 9;
export const VFIO_DEVICE_FEATURE_CLEAR_MASTER = 0;
export const VFIO_DEVICE_FEATURE_SET_MASTER = 1;
export const VFIO_DEVICE_FEATURE_BUS_MASTER = 10;
export const VFIO_DEVICE_FEATURE_DMA_BUF = 11;
export const VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 = 12;
export const VFIO_IOMMU_INFO_PGSIZES = 0x1;
export const VFIO_IOMMU_INFO_CAPS = 0x2;
export const VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE = 1;
export const VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION = 2;
export const VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL = 3;
export const VFIO_IOMMU_GET_INFO = 0x3b70;
export const VFIO_DMA_MAP_FLAG_READ = 0x1;
export const VFIO_DMA_MAP_FLAG_WRITE = 0x2;
export const VFIO_DMA_MAP_FLAG_VADDR = 0x4;
export const VFIO_IOMMU_MAP_DMA = 0x3b71;
export const VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP = 0x1;
export const VFIO_DMA_UNMAP_FLAG_ALL = 0x2;
export const VFIO_DMA_UNMAP_FLAG_VADDR = 0x4;
export const VFIO_IOMMU_UNMAP_DMA = 0x3b72;
export const VFIO_IOMMU_ENABLE = 0x3b73;
export const VFIO_IOMMU_DISABLE = 0x3b74;
export const VFIO_IOMMU_DIRTY_PAGES_FLAG_START = 0x1;
export const VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP = 0x2;
export const VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP = 0x4;
export const VFIO_IOMMU_DIRTY_PAGES = 0x3b75;
export const VFIO_IOMMU_SPAPR_INFO_DDW = 0x1;
export const VFIO_IOMMU_SPAPR_TCE_GET_INFO = 0x3b70;
export const VFIO_EEH_PE_DISABLE = 0;
export const VFIO_EEH_PE_ENABLE = 1;
export const VFIO_EEH_PE_UNFREEZE_IO = 2;
export const VFIO_EEH_PE_UNFREEZE_DMA = 3;
export const VFIO_EEH_PE_GET_STATE = 4;
export const VFIO_EEH_PE_STATE_NORMAL = 0;
export const VFIO_EEH_PE_STATE_RESET = 1;
export const VFIO_EEH_PE_STATE_STOPPED = 2;
export const VFIO_EEH_PE_STATE_STOPPED_DMA = 4;
export const VFIO_EEH_PE_STATE_UNAVAIL = 5;
export const VFIO_EEH_PE_RESET_DEACTIVATE = 5;
export const VFIO_EEH_PE_RESET_HOT = 6;
export const VFIO_EEH_PE_RESET_FUNDAMENTAL = 7;
export const VFIO_EEH_PE_CONFIGURE = 8;
export const VFIO_EEH_PE_INJECT_ERR = 9;
export const VFIO_EEH_PE_OP = 0x3b79;
export const VFIO_IOMMU_SPAPR_REGISTER_MEMORY = 0x3b75;
export const VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY = 0x3b76;
export const VFIO_IOMMU_SPAPR_TCE_CREATE = 0x3b77;
export const VFIO_IOMMU_SPAPR_TCE_REMOVE = 0x3b78;

export interface vfio_info_cap_header {
  id: number;
  version: number;
  next: number;
}
export const vfio_info_cap_header: Struct<vfio_info_cap_header> = struct('vfio_info_cap_header', 'struct', 8, 4, `
  0 __u16 id;
  2 __u16 version;
  4 __u32 next;
`);

export interface vfio_group_status {
  argsz: number;
  flags: number;
}
export const vfio_group_status: Struct<vfio_group_status> = struct('vfio_group_status', 'struct', 8, 4, `
  0 __u32 argsz;
  4 __u32 flags;
`);

export interface vfio_device_info {
  argsz: number;
  flags: number;
  num_regions: number;
  num_irqs: number;
  cap_offset: number;
  pad: number;
}
export const vfio_device_info: Struct<vfio_device_info> = struct('vfio_device_info', 'struct', 24, 4, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u32 num_regions;
  12 __u32 num_irqs;
  16 __u32 cap_offset;
  20 __u32 pad;
`);

export interface vfio_device_info_cap_pci_atomic_comp {
  header: vfio_info_cap_header;
  flags: number;
  reserved: number;
}
export const vfio_device_info_cap_pci_atomic_comp: Struct<vfio_device_info_cap_pci_atomic_comp> = struct('vfio_device_info_cap_pci_atomic_comp', 'struct', 16, 4, `
  0 struct vfio_info_cap_header header;
  8 __u32 flags;
  12 __u32 reserved;
`, [vfio_info_cap_header]);

export interface vfio_region_info {
  argsz: number;
  flags: number;
  index: number;
  cap_offset: number;
  size: bigint;
  offset: bigint;
}
export const vfio_region_info: Struct<vfio_region_info> = struct('vfio_region_info', 'struct', 32, 8, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u32 index;
  12 __u32 cap_offset;
  16 __u64 size;
  24 __u64 offset;
`);

export interface vfio_region_sparse_mmap_area {
  offset: bigint;
  size: bigint;
}
export const vfio_region_sparse_mmap_area: Struct<vfio_region_sparse_mmap_area> = struct('vfio_region_sparse_mmap_area', 'struct', 16, 8, `
  0 __u64 offset;
  8 __u64 size;
`);

export interface vfio_region_info_cap_sparse_mmap {
  header: vfio_info_cap_header;
  nr_areas: number;
  reserved: number;
  areas: vfio_region_sparse_mmap_area[];
}
export const vfio_region_info_cap_sparse_mmap: Struct<vfio_region_info_cap_sparse_mmap> = struct('vfio_region_info_cap_sparse_mmap', 'struct', 16, 8, `
  0 struct vfio_info_cap_header header;
  8 __u32 nr_areas;
  12 __u32 reserved;
  16 struct vfio_region_sparse_mmap_area areas[nr_areas];
`, [vfio_info_cap_header, vfio_region_sparse_mmap_area]);

export interface vfio_region_info_cap_type {
  header: vfio_info_cap_header;
  type: number;
  subtype: number;
}
export const vfio_region_info_cap_type: Struct<vfio_region_info_cap_type> = struct('vfio_region_info_cap_type', 'struct', 16, 4, `
  0 struct vfio_info_cap_header header;
  8 __u32 type;
  12 __u32 subtype;
`, [vfio_info_cap_header]);

export interface vfio_region_gfx_edid {
  edid_offset: number;
  edid_max_size: number;
  edid_size: number;
  max_xres: number;
  max_yres: number;
  link_state: number;
}
export const vfio_region_gfx_edid: Struct<vfio_region_gfx_edid> = struct('vfio_region_gfx_edid', 'struct', 24, 4, `
  0 __u32 edid_offset;
  4 __u32 edid_max_size;
  8 __u32 edid_size;
  12 __u32 max_xres;
  16 __u32 max_yres;
  20 __u32 link_state;
`);

export interface vfio_device_migration_info {
  device_state: number;
  reserved: number;
  pending_bytes: bigint;
  data_offset: bigint;
  data_size: bigint;
}
export const vfio_device_migration_info: Struct<vfio_device_migration_info> = struct('vfio_device_migration_info', 'struct', 32, 8, `
  0 __u32 device_state;
  4 __u32 reserved;
  8 __u64 pending_bytes;
  16 __u64 data_offset;
  24 __u64 data_size;
`);

export interface vfio_region_info_cap_nvlink2_ssatgt {
  header: vfio_info_cap_header;
  tgt: bigint;
}
export const vfio_region_info_cap_nvlink2_ssatgt: Struct<vfio_region_info_cap_nvlink2_ssatgt> = struct('vfio_region_info_cap_nvlink2_ssatgt', 'struct', 16, 8, `
  0 struct vfio_info_cap_header header;
  8 __u64 tgt;
`, [vfio_info_cap_header]);

export interface vfio_region_info_cap_nvlink2_lnkspd {
  header: vfio_info_cap_header;
  link_speed: number;
  __pad: number;
}
export const vfio_region_info_cap_nvlink2_lnkspd: Struct<vfio_region_info_cap_nvlink2_lnkspd> = struct('vfio_region_info_cap_nvlink2_lnkspd', 'struct', 16, 4, `
  0 struct vfio_info_cap_header header;
  8 __u32 link_speed;
  12 __u32 __pad;
`, [vfio_info_cap_header]);

export interface vfio_irq_info {
  argsz: number;
  flags: number;
  index: number;
  count: number;
}
export const vfio_irq_info: Struct<vfio_irq_info> = struct('vfio_irq_info', 'struct', 16, 4, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u32 index;
  12 __u32 count;
`);

export interface vfio_irq_set {
  argsz: number;
  flags: number;
  index: number;
  start: number;
  count: number;
  data: Uint8Array;
}
export const vfio_irq_set: Struct<vfio_irq_set> = struct('vfio_irq_set', 'struct', 20, 4, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u32 index;
  12 __u32 start;
  16 __u32 count;
  20 __u8 data[argsz-20];
`);

export interface vfio_pci_dependent_device {
  group_id: number;
  devid: number;
  segment: number;
  bus: number;
  devfn: number;
  readonly [unionMembers]?: 'group_id' | 'devid';
}
export const vfio_pci_dependent_device: Struct<vfio_pci_dependent_device> = struct('vfio_pci_dependent_device', 'struct', 8, 4, `
  0 union 4,1 {
    0 __u32 group_id;
    0 __u32 devid;
  };
  4 __u16 segment;
  6 __u8 bus;
  7 __u8 devfn;
`);

export interface vfio_pci_hot_reset_info {
  argsz: number;
  flags: number;
  count: number;
  devices: vfio_pci_dependent_device[];
}
export const vfio_pci_hot_reset_info: Struct<vfio_pci_hot_reset_info> = struct('vfio_pci_hot_reset_info', 'struct', 12, 4, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u32 count;
  12 struct vfio_pci_dependent_device devices[count];
`, [vfio_pci_dependent_device]);

export interface vfio_pci_hot_reset {
  argsz: number;
  flags: number;
  count: number;
  group_fds: number[];
}
export const vfio_pci_hot_reset: Struct<vfio_pci_hot_reset> = struct('vfio_pci_hot_reset', 'struct', 12, 4, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u32 count;
  12 __s32 group_fds[count];
`);

export interface vfio_device_gfx_plane_info {
  argsz: number;
  flags: number;
  drm_plane_type: number;
  drm_format: number;
  drm_format_mod: bigint;
  width: number;
  height: number;
  stride: number;
  size: number;
  x_pos: number;
  y_pos: number;
  x_hot: number;
  y_hot: number;
  region_index: number;
  dmabuf_id: number;
  reserved: number;
  readonly [unionMembers]?: 'region_index' | 'dmabuf_id';
}
export const vfio_device_gfx_plane_info: Struct<vfio_device_gfx_plane_info> = struct('vfio_device_gfx_plane_info', 'struct', 64, 8, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u32 drm_plane_type;
  12 __u32 drm_format;
  16 __u64 drm_format_mod;
  24 __u32 width;
  28 __u32 height;
  32 __u32 stride;
  36 __u32 size;
  40 __u32 x_pos;
  44 __u32 y_pos;
  48 __u32 x_hot;
  52 __u32 y_hot;
  56 union 4,1 {
    0 __u32 region_index;
    0 __u32 dmabuf_id;
  };
  60 __u32 reserved;
`);

export interface vfio_device_ioeventfd {
  argsz: number;
  flags: number;
  offset: bigint;
  data: bigint;
  fd: number;
  reserved: number;
}
export const vfio_device_ioeventfd: Struct<vfio_device_ioeventfd> = struct('vfio_device_ioeventfd', 'struct', 32, 8, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u64 offset;
  16 __u64 data;
  24 __s32 fd;
  28 __u32 reserved;
`);

export interface vfio_device_feature {
  argsz: number;
  flags: number;
  data: Uint8Array;
}
export const vfio_device_feature: Struct<vfio_device_feature> = struct('vfio_device_feature', 'struct', 8, 4, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u8 data[argsz-8];
`);

export interface vfio_device_bind_iommufd {
  argsz: number;
  flags: number;
  iommufd: number;
  out_devid: number;
  token_uuid_ptr: bigint;
}
export const vfio_device_bind_iommufd: Struct<vfio_device_bind_iommufd> = struct('vfio_device_bind_iommufd', 'struct', 24, 8, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __s32 iommufd;
  12 __u32 out_devid;
  16 __u64 @token_uuid_ptr;
`);

export interface vfio_device_attach_iommufd_pt {
  argsz: number;
  flags: number;
  pt_id: number;
  pasid: number;
}
export const vfio_device_attach_iommufd_pt: Struct<vfio_device_attach_iommufd_pt> = struct('vfio_device_attach_iommufd_pt', 'struct', 16, 4, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u32 pt_id;
  12 __u32 pasid;
`);

export interface vfio_device_detach_iommufd_pt {
  argsz: number;
  flags: number;
  pasid: number;
}
export const vfio_device_detach_iommufd_pt: Struct<vfio_device_detach_iommufd_pt> = struct('vfio_device_detach_iommufd_pt', 'struct', 12, 4, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u32 pasid;
`);

export interface vfio_device_feature_migration {
  flags: bigint;
}
export const vfio_device_feature_migration: Struct<vfio_device_feature_migration> = struct('vfio_device_feature_migration', 'struct', 8, 8, `
  0 __u64 flags;
`);

export interface vfio_device_feature_mig_state {
  device_state: number;
  data_fd: number;
}
export const vfio_device_feature_mig_state: Struct<vfio_device_feature_mig_state> = struct('vfio_device_feature_mig_state', 'struct', 8, 4, `
  0 __u32 device_state;
  4 __s32 data_fd;
`);

export interface vfio_precopy_info {
  argsz: number;
  flags: number;
  initial_bytes: bigint;
  dirty_bytes: bigint;
}
export const vfio_precopy_info: Struct<vfio_precopy_info> = struct('vfio_precopy_info', 'struct', 24, 8, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u64 initial_bytes;
  16 __u64 dirty_bytes;
`);

export interface vfio_device_low_power_entry_with_wakeup {
  wakeup_eventfd: number;
  reserved: number;
}
export const vfio_device_low_power_entry_with_wakeup: Struct<vfio_device_low_power_entry_with_wakeup> = struct('vfio_device_low_power_entry_with_wakeup', 'struct', 8, 4, `
  0 __s32 wakeup_eventfd;
  4 __u32 reserved;
`);

export interface vfio_device_feature_dma_logging_control {
  page_size: bigint;
  num_ranges: number;
  __reserved: number;
  ranges: bigint;
}
export const vfio_device_feature_dma_logging_control: Struct<vfio_device_feature_dma_logging_control> = struct('vfio_device_feature_dma_logging_control', 'struct', 24, 8, `
  0 __u64 page_size;
  8 __u32 num_ranges;
  12 __u32 __reserved;
  16 __u64 @ranges;
`);

export interface vfio_device_feature_dma_logging_range {
  iova: bigint;
  length: bigint;
}
export const vfio_device_feature_dma_logging_range: Struct<vfio_device_feature_dma_logging_range> = struct('vfio_device_feature_dma_logging_range', 'struct', 16, 8, `
  0 __u64 iova;
  8 __u64 length;
`);

export interface vfio_device_feature_dma_logging_report {
  iova: bigint;
  length: bigint;
  page_size: bigint;
  bitmap: bigint;
}
export const vfio_device_feature_dma_logging_report: Struct<vfio_device_feature_dma_logging_report> = struct('vfio_device_feature_dma_logging_report', 'struct', 32, 8, `
  0 __u64 iova;
  8 __u64 length;
  16 __u64 page_size;
  24 __u64 @bitmap;
`);

export interface vfio_device_feature_mig_data_size {
  stop_copy_length: bigint;
}
export const vfio_device_feature_mig_data_size: Struct<vfio_device_feature_mig_data_size> = struct('vfio_device_feature_mig_data_size', 'struct', 8, 8, `
  0 __u64 stop_copy_length;
`);

export interface vfio_device_feature_bus_master {
  op: number;
}
export const vfio_device_feature_bus_master: Struct<vfio_device_feature_bus_master> = struct('vfio_device_feature_bus_master', 'struct', 4, 4, `
  0 __u32 op;
`);

export interface vfio_region_dma_range {
  offset: bigint;
  length: bigint;
}
export const vfio_region_dma_range: Struct<vfio_region_dma_range> = struct('vfio_region_dma_range', 'struct', 16, 8, `
  0 __u64 offset;
  8 __u64 length;
`);

export interface vfio_device_feature_dma_buf {
  region_index: number;
  open_flags: number;
  flags: number;
  nr_ranges: number;
  dma_ranges: vfio_region_dma_range[];
}
export const vfio_device_feature_dma_buf: Struct<vfio_device_feature_dma_buf> = struct('vfio_device_feature_dma_buf', 'struct', 16, 8, `
  0 __u32 region_index;
  4 __u32 open_flags;
  8 __u32 flags;
  12 __u32 nr_ranges;
  16 struct vfio_region_dma_range dma_ranges[nr_ranges];
`, [vfio_region_dma_range]);

export interface vfio_iommu_type1_info {
  argsz: number;
  flags: number;
  iova_pgsizes: bigint;
  cap_offset: number;
  pad: number;
}
export const vfio_iommu_type1_info: Struct<vfio_iommu_type1_info> = struct('vfio_iommu_type1_info', 'struct', 24, 8, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u64 iova_pgsizes;
  16 __u32 cap_offset;
  20 __u32 pad;
`);

export interface vfio_iova_range {
  start: bigint;
  end: bigint;
}
export const vfio_iova_range: Struct<vfio_iova_range> = struct('vfio_iova_range', 'struct', 16, 8, `
  0 __u64 start;
  8 __u64 end;
`);

export interface vfio_iommu_type1_info_cap_iova_range {
  header: vfio_info_cap_header;
  nr_iovas: number;
  reserved: number;
  iova_ranges: vfio_iova_range[];
}
export const vfio_iommu_type1_info_cap_iova_range: Struct<vfio_iommu_type1_info_cap_iova_range> = struct('vfio_iommu_type1_info_cap_iova_range', 'struct', 16, 8, `
  0 struct vfio_info_cap_header header;
  8 __u32 nr_iovas;
  12 __u32 reserved;
  16 struct vfio_iova_range iova_ranges[nr_iovas];
`, [vfio_info_cap_header, vfio_iova_range]);

export interface vfio_iommu_type1_info_cap_migration {
  header: vfio_info_cap_header;
  flags: number;
  pgsize_bitmap: bigint;
  max_dirty_bitmap_size: bigint;
}
export const vfio_iommu_type1_info_cap_migration: Struct<vfio_iommu_type1_info_cap_migration> = struct('vfio_iommu_type1_info_cap_migration', 'struct', 32, 8, `
  0 struct vfio_info_cap_header header;
  8 __u32 flags;
  16 __u64 pgsize_bitmap;
  24 __u64 max_dirty_bitmap_size;
`, [vfio_info_cap_header]);

export interface vfio_iommu_type1_info_dma_avail {
  header: vfio_info_cap_header;
  avail: number;
}
export const vfio_iommu_type1_info_dma_avail: Struct<vfio_iommu_type1_info_dma_avail> = struct('vfio_iommu_type1_info_dma_avail', 'struct', 12, 4, `
  0 struct vfio_info_cap_header header;
  8 __u32 avail;
`, [vfio_info_cap_header]);

export interface vfio_iommu_type1_dma_map {
  argsz: number;
  flags: number;
  vaddr: bigint;
  iova: bigint;
  size: bigint;
}
export const vfio_iommu_type1_dma_map: Struct<vfio_iommu_type1_dma_map> = struct('vfio_iommu_type1_dma_map', 'struct', 32, 8, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u64 @vaddr;
  16 __u64 iova;
  24 __u64 size;
`);

export interface vfio_bitmap {
  pgsize: bigint;
  size: bigint;
  data: bigint;
}
export const vfio_bitmap: Struct<vfio_bitmap> = struct('vfio_bitmap', 'struct', 24, 8, `
  0 __u64 pgsize;
  8 __u64 size;
  16 __u64 * data;
`);

export interface vfio_iommu_type1_dma_unmap {
  argsz: number;
  flags: number;
  iova: bigint;
  size: bigint;
  data: Uint8Array;
}
export const vfio_iommu_type1_dma_unmap: Struct<vfio_iommu_type1_dma_unmap> = struct('vfio_iommu_type1_dma_unmap', 'struct', 24, 8, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u64 iova;
  16 __u64 size;
  24 __u8 data[argsz-24];
`);

export interface vfio_iommu_type1_dirty_bitmap {
  argsz: number;
  flags: number;
  data: Uint8Array;
}
export const vfio_iommu_type1_dirty_bitmap: Struct<vfio_iommu_type1_dirty_bitmap> = struct('vfio_iommu_type1_dirty_bitmap', 'struct', 8, 4, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u8 data[argsz-8];
`);

export interface vfio_iommu_type1_dirty_bitmap_get {
  iova: bigint;
  size: bigint;
  bitmap: vfio_bitmap;
}
export const vfio_iommu_type1_dirty_bitmap_get: Struct<vfio_iommu_type1_dirty_bitmap_get> = struct('vfio_iommu_type1_dirty_bitmap_get', 'struct', 40, 8, `
  0 __u64 iova;
  8 __u64 size;
  16 struct vfio_bitmap bitmap;
`, [vfio_bitmap]);

export interface vfio_iommu_spapr_tce_ddw_info {
  pgsizes: bigint;
  max_dynamic_windows_supported: number;
  levels: number;
}
export const vfio_iommu_spapr_tce_ddw_info: Struct<vfio_iommu_spapr_tce_ddw_info> = struct('vfio_iommu_spapr_tce_ddw_info', 'struct', 16, 8, `
  0 __u64 pgsizes;
  8 __u32 max_dynamic_windows_supported;
  12 __u32 levels;
`);

export interface vfio_iommu_spapr_tce_info {
  argsz: number;
  flags: number;
  dma32_window_start: number;
  dma32_window_size: number;
  ddw: vfio_iommu_spapr_tce_ddw_info;
}
export const vfio_iommu_spapr_tce_info: Struct<vfio_iommu_spapr_tce_info> = struct('vfio_iommu_spapr_tce_info', 'struct', 32, 8, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u32 dma32_window_start;
  12 __u32 dma32_window_size;
  16 struct vfio_iommu_spapr_tce_ddw_info ddw;
`, [vfio_iommu_spapr_tce_ddw_info]);

export interface vfio_eeh_pe_err {
  type: number;
  func: number;
  addr: bigint;
  mask: bigint;
}
export const vfio_eeh_pe_err: Struct<vfio_eeh_pe_err> = struct('vfio_eeh_pe_err', 'struct', 24, 8, `
  0 __u32 type;
  4 __u32 func;
  8 __u64 addr;
  16 __u64 mask;
`);

export interface vfio_eeh_pe_op {
  argsz: number;
  flags: number;
  op: number;
  err: vfio_eeh_pe_err;
  readonly [unionMembers]?: 'err';
}
export const vfio_eeh_pe_op: Struct<vfio_eeh_pe_op> = struct('vfio_eeh_pe_op', 'struct', 40, 8, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u32 op;
  16 union 24,1 {
    0 struct vfio_eeh_pe_err err;
  };
`, [vfio_eeh_pe_err]);

export interface vfio_iommu_spapr_register_memory {
  argsz: number;
  flags: number;
  vaddr: bigint;
  size: bigint;
}
export const vfio_iommu_spapr_register_memory: Struct<vfio_iommu_spapr_register_memory> = struct('vfio_iommu_spapr_register_memory', 'struct', 24, 8, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u64 @vaddr;
  16 __u64 size;
`);

export interface vfio_iommu_spapr_tce_create {
  argsz: number;
  flags: number;
  page_shift: number;
  __resv1: number;
  window_size: bigint;
  levels: number;
  __resv2: number;
  start_addr: bigint;
}
export const vfio_iommu_spapr_tce_create: Struct<vfio_iommu_spapr_tce_create> = struct('vfio_iommu_spapr_tce_create', 'struct', 40, 8, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u32 page_shift;
  12 __u32 __resv1;
  16 __u64 window_size;
  24 __u32 levels;
  28 __u32 __resv2;
  32 __u64 start_addr;
`);

export interface vfio_iommu_spapr_tce_remove {
  argsz: number;
  flags: number;
  start_addr: bigint;
}
export const vfio_iommu_spapr_tce_remove: Struct<vfio_iommu_spapr_tce_remove> = struct('vfio_iommu_spapr_tce_remove', 'struct', 16, 8, `
  0 __u32 argsz;
  4 __u32 flags;
  8 __u64 start_addr;
`);
