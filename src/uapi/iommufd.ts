// iommufd: linux/iommufd.h. Generated from linux-libc-dev 7.2.13 by scripts/uapi/generate.mjs: do not edit.
import type { Struct, unionMembers } from './struct.ts';
import { struct } from './struct.ts';

export const IOMMUFD_CMD_BASE = 128;
export const IOMMUFD_CMD_DESTROY = 128;
export const IOMMUFD_CMD_IOAS_ALLOC = 129;
export const IOMMUFD_CMD_IOAS_ALLOW_IOVAS = 130;
export const IOMMUFD_CMD_IOAS_COPY = 131;
export const IOMMUFD_CMD_IOAS_IOVA_RANGES = 132;
export const IOMMUFD_CMD_IOAS_MAP = 133;
export const IOMMUFD_CMD_IOAS_UNMAP = 134;
export const IOMMUFD_CMD_OPTION = 135;
export const IOMMUFD_CMD_VFIO_IOAS = 136;
export const IOMMUFD_CMD_HWPT_ALLOC = 137;
export const IOMMUFD_CMD_GET_HW_INFO = 138;
export const IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING = 139;
export const IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP = 140;
export const IOMMUFD_CMD_HWPT_INVALIDATE = 141;
export const IOMMUFD_CMD_FAULT_QUEUE_ALLOC = 142;
export const IOMMUFD_CMD_IOAS_MAP_FILE = 143;
export const IOMMUFD_CMD_VIOMMU_ALLOC = 144;
export const IOMMUFD_CMD_VDEVICE_ALLOC = 145;
export const IOMMUFD_CMD_IOAS_CHANGE_PROCESS = 146;
export const IOMMUFD_CMD_VEVENTQ_ALLOC = 147;
export const IOMMUFD_CMD_HW_QUEUE_ALLOC = 148;
export const IOMMU_IOAS_MAP_FIXED_IOVA = 1;
export const IOMMU_IOAS_MAP_WRITEABLE = 2;
export const IOMMU_IOAS_MAP_READABLE = 4;
export const IOMMU_OPTION_RLIMIT_MODE = 0;
export const IOMMU_OPTION_HUGE_PAGES = 1;
export const IOMMU_OPTION_OP_SET = 0;
export const IOMMU_OPTION_OP_GET = 1;
export const IOMMU_VFIO_IOAS_GET = 0;
export const IOMMU_VFIO_IOAS_SET = 1;
export const IOMMU_VFIO_IOAS_CLEAR = 2;
export const IOMMU_HWPT_ALLOC_NEST_PARENT = 1;
export const IOMMU_HWPT_ALLOC_DIRTY_TRACKING = 2;
export const IOMMU_HWPT_FAULT_ID_VALID = 4;
export const IOMMU_HWPT_ALLOC_PASID = 8;
export const IOMMU_VTD_S1_SRE = 1;
export const IOMMU_VTD_S1_EAFE = 2;
export const IOMMU_VTD_S1_WPE = 4;
export const IOMMU_HWPT_DATA_NONE = 0;
export const IOMMU_HWPT_DATA_VTD_S1 = 1;
export const IOMMU_HWPT_DATA_ARM_SMMUV3 = 2;
export const IOMMU_HWPT_DATA_AMD_GUEST = 3;
export const IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17 = 1;
export const IOMMU_HW_INFO_TYPE_NONE = 0;
export const IOMMU_HW_INFO_TYPE_DEFAULT = 0;
export const IOMMU_HW_INFO_TYPE_INTEL_VTD = 1;
export const IOMMU_HW_INFO_TYPE_ARM_SMMUV3 = 2;
export const IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV = 3;
export const IOMMU_HW_INFO_TYPE_AMD = 4;
export const IOMMU_HW_CAP_DIRTY_TRACKING = 1;
export const IOMMU_HW_CAP_PCI_PASID_EXEC = 2;
export const IOMMU_HW_CAP_PCI_PASID_PRIV = 4;
export const IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED = 8;
export const IOMMU_HW_INFO_FLAG_INPUT_TYPE = 1;
export const IOMMU_HWPT_DIRTY_TRACKING_ENABLE = 1;
export const IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR = 1;
export const IOMMU_HWPT_INVALIDATE_DATA_VTD_S1 = 0;
export const IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3 = 1;
export const IOMMU_VTD_INV_FLAGS_LEAF = 1;
export const IOMMU_PGFAULT_FLAGS_PASID_VALID = 1;
export const IOMMU_PGFAULT_FLAGS_LAST_PAGE = 2;
export const IOMMU_PGFAULT_PERM_READ = 1;
export const IOMMU_PGFAULT_PERM_WRITE = 2;
export const IOMMU_PGFAULT_PERM_EXEC = 4;
export const IOMMU_PGFAULT_PERM_PRIV = 8;
export const IOMMUFD_PAGE_RESP_SUCCESS = 0;
export const IOMMUFD_PAGE_RESP_INVALID = 1;
export const IOMMU_VIOMMU_TYPE_DEFAULT = 0;
export const IOMMU_VIOMMU_TYPE_ARM_SMMUV3 = 1;
export const IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV = 2;
export const IOMMU_VEVENTQ_FLAG_LOST_EVENTS = 1;
export const IOMMU_VEVENTQ_TYPE_DEFAULT = 0;
export const IOMMU_VEVENTQ_TYPE_ARM_SMMUV3 = 1;
export const IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV = 2;
export const IOMMU_HW_QUEUE_TYPE_DEFAULT = 0;
export const IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV = 1;
export const IOMMUFD_TYPE = 59;
export const IOMMU_DESTROY = 0x3b80;
export const IOMMU_IOAS_ALLOC = 0x3b81;
export const IOMMU_IOAS_IOVA_RANGES = 0x3b84;
export const IOMMU_IOAS_ALLOW_IOVAS = 0x3b82;
export const IOMMU_IOAS_MAP = 0x3b85;
export const IOMMU_IOAS_MAP_FILE = 0x3b8f;
export const IOMMU_IOAS_COPY = 0x3b83;
export const IOMMU_IOAS_UNMAP = 0x3b86;
export const IOMMU_OPTION = 0x3b87;
export const IOMMU_VFIO_IOAS = 0x3b88;
export const IOMMU_HWPT_ALLOC = 0x3b89;
export const IOMMU_GET_HW_INFO = 0x3b8a;
export const IOMMU_HWPT_SET_DIRTY_TRACKING = 0x3b8b;
export const IOMMU_HWPT_GET_DIRTY_BITMAP = 0x3b8c;
export const IOMMU_HWPT_INVALIDATE = 0x3b8d;
export const IOMMU_FAULT_QUEUE_ALLOC = 0x3b8e;
export const IOMMU_VIOMMU_ALLOC = 0x3b90;
export const IOMMU_VDEVICE_ALLOC = 0x3b91;
export const IOMMU_IOAS_CHANGE_PROCESS = 0x3b92;
export const IOMMU_VEVENTQ_ALLOC = 0x3b93;
export const IOMMU_HW_QUEUE_ALLOC = 0x3b94;

export interface iommu_destroy {
  size: number;
  id: number;
}
export const iommu_destroy: Struct<iommu_destroy> = struct('iommu_destroy', 'struct', 8, 4, `
  0 __u32 size;
  4 __u32 id;
`);

export interface iommu_ioas_alloc {
  size: number;
  flags: number;
  out_ioas_id: number;
}
export const iommu_ioas_alloc: Struct<iommu_ioas_alloc> = struct('iommu_ioas_alloc', 'struct', 12, 4, `
  0 __u32 size;
  4 __u32 flags;
  8 __u32 out_ioas_id;
`);

export interface iommu_iova_range {
  start: bigint;
  last: bigint;
}
export const iommu_iova_range: Struct<iommu_iova_range> = struct('iommu_iova_range', 'struct', 16, 8, `
  0 __u64 start;
  8 __u64 last;
`);

export interface iommu_ioas_iova_ranges {
  size: number;
  ioas_id: number;
  num_iovas: number;
  __reserved: number;
  allowed_iovas: bigint;
  out_iova_alignment: bigint;
}
export const iommu_ioas_iova_ranges: Struct<iommu_ioas_iova_ranges> = struct('iommu_ioas_iova_ranges', 'struct', 32, 8, `
  0 __u32 size;
  4 __u32 ioas_id;
  8 __u32 num_iovas;
  12 __u32 __reserved;
  16 __u64 @allowed_iovas;
  24 __u64 out_iova_alignment;
`);

export interface iommu_ioas_allow_iovas {
  size: number;
  ioas_id: number;
  num_iovas: number;
  __reserved: number;
  allowed_iovas: bigint;
}
export const iommu_ioas_allow_iovas: Struct<iommu_ioas_allow_iovas> = struct('iommu_ioas_allow_iovas', 'struct', 24, 8, `
  0 __u32 size;
  4 __u32 ioas_id;
  8 __u32 num_iovas;
  12 __u32 __reserved;
  16 __u64 @allowed_iovas;
`);

export interface iommu_ioas_map {
  size: number;
  flags: number;
  ioas_id: number;
  __reserved: number;
  user_va: bigint;
  length: bigint;
  iova: bigint;
}
export const iommu_ioas_map: Struct<iommu_ioas_map> = struct('iommu_ioas_map', 'struct', 40, 8, `
  0 __u32 size;
  4 __u32 flags;
  8 __u32 ioas_id;
  12 __u32 __reserved;
  16 __u64 @user_va;
  24 __u64 length;
  32 __u64 iova;
`);

export interface iommu_ioas_map_file {
  size: number;
  flags: number;
  ioas_id: number;
  fd: number;
  start: bigint;
  length: bigint;
  iova: bigint;
}
export const iommu_ioas_map_file: Struct<iommu_ioas_map_file> = struct('iommu_ioas_map_file', 'struct', 40, 8, `
  0 __u32 size;
  4 __u32 flags;
  8 __u32 ioas_id;
  12 __s32 fd;
  16 __u64 start;
  24 __u64 length;
  32 __u64 iova;
`);

export interface iommu_ioas_copy {
  size: number;
  flags: number;
  dst_ioas_id: number;
  src_ioas_id: number;
  length: bigint;
  dst_iova: bigint;
  src_iova: bigint;
}
export const iommu_ioas_copy: Struct<iommu_ioas_copy> = struct('iommu_ioas_copy', 'struct', 40, 8, `
  0 __u32 size;
  4 __u32 flags;
  8 __u32 dst_ioas_id;
  12 __u32 src_ioas_id;
  16 __u64 length;
  24 __u64 dst_iova;
  32 __u64 src_iova;
`);

export interface iommu_ioas_unmap {
  size: number;
  ioas_id: number;
  iova: bigint;
  length: bigint;
}
export const iommu_ioas_unmap: Struct<iommu_ioas_unmap> = struct('iommu_ioas_unmap', 'struct', 24, 8, `
  0 __u32 size;
  4 __u32 ioas_id;
  8 __u64 iova;
  16 __u64 length;
`);

export interface iommu_option {
  size: number;
  option_id: number;
  op: number;
  __reserved: number;
  object_id: number;
  val64: bigint;
}
export const iommu_option: Struct<iommu_option> = struct('iommu_option', 'struct', 24, 8, `
  0 __u32 size;
  4 __u32 option_id;
  8 __u16 op;
  10 __u16 __reserved;
  12 __u32 object_id;
  16 __u64 val64;
`);

export interface iommu_vfio_ioas {
  size: number;
  ioas_id: number;
  op: number;
  __reserved: number;
}
export const iommu_vfio_ioas: Struct<iommu_vfio_ioas> = struct('iommu_vfio_ioas', 'struct', 12, 4, `
  0 __u32 size;
  4 __u32 ioas_id;
  8 __u16 op;
  10 __u16 __reserved;
`);

export interface iommu_hwpt_vtd_s1 {
  flags: bigint;
  pgtbl_addr: bigint;
  addr_width: number;
  __reserved: number;
}
export const iommu_hwpt_vtd_s1: Struct<iommu_hwpt_vtd_s1> = struct('iommu_hwpt_vtd_s1', 'struct', 24, 8, `
  0 __u64 flags;
  8 __u64 pgtbl_addr;
  16 __u32 addr_width;
  20 __u32 __reserved;
`);

export interface iommu_hwpt_arm_smmuv3 {
  ste: bigint[];
}
export const iommu_hwpt_arm_smmuv3: Struct<iommu_hwpt_arm_smmuv3> = struct('iommu_hwpt_arm_smmuv3', 'struct', 16, 8, `
  0 __u64 ste[2];
`);

export interface iommu_hwpt_amd_guest {
  dte: bigint[];
}
export const iommu_hwpt_amd_guest: Struct<iommu_hwpt_amd_guest> = struct('iommu_hwpt_amd_guest', 'struct', 32, 8, `
  0 __u64 dte[4];
`);

export interface iommu_hwpt_alloc {
  size: number;
  flags: number;
  dev_id: number;
  pt_id: number;
  out_hwpt_id: number;
  __reserved: number;
  data_type: number;
  data_len: number;
  data_uptr: bigint;
  fault_id: number;
  __reserved2: number;
}
export const iommu_hwpt_alloc: Struct<iommu_hwpt_alloc> = struct('iommu_hwpt_alloc', 'struct', 48, 8, `
  0 __u32 size;
  4 __u32 flags;
  8 __u32 dev_id;
  12 __u32 pt_id;
  16 __u32 out_hwpt_id;
  20 __u32 __reserved;
  24 __u32 data_type;
  28 __u32 data_len;
  32 __u64 @data_uptr;
  40 __u32 fault_id;
  44 __u32 __reserved2;
`);

export interface iommu_hw_info_vtd {
  flags: number;
  __reserved: number;
  cap_reg: bigint;
  ecap_reg: bigint;
}
export const iommu_hw_info_vtd: Struct<iommu_hw_info_vtd> = struct('iommu_hw_info_vtd', 'struct', 24, 8, `
  0 __u32 flags;
  4 __u32 __reserved;
  8 __u64 cap_reg;
  16 __u64 ecap_reg;
`);

export interface iommu_hw_info_arm_smmuv3 {
  flags: number;
  __reserved: number;
  idr: number[];
  iidr: number;
  aidr: number;
}
export const iommu_hw_info_arm_smmuv3: Struct<iommu_hw_info_arm_smmuv3> = struct('iommu_hw_info_arm_smmuv3', 'struct', 40, 4, `
  0 __u32 flags;
  4 __u32 __reserved;
  8 __u32 idr[6];
  32 __u32 iidr;
  36 __u32 aidr;
`);

export interface iommu_hw_info_tegra241_cmdqv {
  flags: number;
  version: number;
  log2vcmdqs: number;
  log2vsids: number;
  __reserved: number;
}
export const iommu_hw_info_tegra241_cmdqv: Struct<iommu_hw_info_tegra241_cmdqv> = struct('iommu_hw_info_tegra241_cmdqv', 'struct', 8, 4, `
  0 __u32 flags;
  4 __u8 version;
  5 __u8 log2vcmdqs;
  6 __u8 log2vsids;
  7 __u8 __reserved;
`);

export interface iommu_hw_info_amd {
  efr: bigint;
  efr2: bigint;
}
export const iommu_hw_info_amd: Struct<iommu_hw_info_amd> = struct('iommu_hw_info_amd', 'struct', 16, 8, `
  0 __u64 efr;
  8 __u64 efr2;
`);

export interface iommu_hw_info {
  size: number;
  flags: number;
  dev_id: number;
  data_len: number;
  data_uptr: bigint;
  in_data_type: number;
  out_data_type: number;
  out_max_pasid_log2: number;
  __reserved: Uint8Array;
  out_capabilities: bigint;
  readonly [unionMembers]?: 'in_data_type' | 'out_data_type';
}
export const iommu_hw_info: Struct<iommu_hw_info> = struct('iommu_hw_info', 'struct', 40, 8, `
  0 __u32 size;
  4 __u32 flags;
  8 __u32 dev_id;
  12 __u32 data_len;
  16 __u64 @data_uptr;
  24 union 4,1 {
    0 __u32 in_data_type;
    0 __u32 out_data_type;
  };
  28 __u8 out_max_pasid_log2;
  29 __u8 __reserved[3];
  32 __u64 out_capabilities;
`);

export interface iommu_hwpt_set_dirty_tracking {
  size: number;
  flags: number;
  hwpt_id: number;
  __reserved: number;
}
export const iommu_hwpt_set_dirty_tracking: Struct<iommu_hwpt_set_dirty_tracking> = struct('iommu_hwpt_set_dirty_tracking', 'struct', 16, 4, `
  0 __u32 size;
  4 __u32 flags;
  8 __u32 hwpt_id;
  12 __u32 __reserved;
`);

export interface iommu_hwpt_get_dirty_bitmap {
  size: number;
  hwpt_id: number;
  flags: number;
  __reserved: number;
  iova: bigint;
  length: bigint;
  page_size: bigint;
  data: bigint;
}
export const iommu_hwpt_get_dirty_bitmap: Struct<iommu_hwpt_get_dirty_bitmap> = struct('iommu_hwpt_get_dirty_bitmap', 'struct', 48, 8, `
  0 __u32 size;
  4 __u32 hwpt_id;
  8 __u32 flags;
  12 __u32 __reserved;
  16 __u64 iova;
  24 __u64 length;
  32 __u64 page_size;
  40 __u64 @data;
`);

export interface iommu_hwpt_vtd_s1_invalidate {
  addr: bigint;
  npages: bigint;
  flags: number;
  __reserved: number;
}
export const iommu_hwpt_vtd_s1_invalidate: Struct<iommu_hwpt_vtd_s1_invalidate> = struct('iommu_hwpt_vtd_s1_invalidate', 'struct', 24, 8, `
  0 __u64 addr;
  8 __u64 npages;
  16 __u32 flags;
  20 __u32 __reserved;
`);

export interface iommu_viommu_arm_smmuv3_invalidate {
  cmd: bigint[];
}
export const iommu_viommu_arm_smmuv3_invalidate: Struct<iommu_viommu_arm_smmuv3_invalidate> = struct('iommu_viommu_arm_smmuv3_invalidate', 'struct', 16, 8, `
  0 __u64 cmd[2];
`);

export interface iommu_hwpt_invalidate {
  size: number;
  hwpt_id: number;
  data_uptr: bigint;
  data_type: number;
  entry_len: number;
  entry_num: number;
  __reserved: number;
}
export const iommu_hwpt_invalidate: Struct<iommu_hwpt_invalidate> = struct('iommu_hwpt_invalidate', 'struct', 32, 8, `
  0 __u32 size;
  4 __u32 hwpt_id;
  8 __u64 @data_uptr;
  16 __u32 data_type;
  20 __u32 entry_len;
  24 __u32 entry_num;
  28 __u32 __reserved;
`);

export interface iommu_hwpt_pgfault {
  flags: number;
  dev_id: number;
  pasid: number;
  grpid: number;
  perm: number;
  __reserved: number;
  addr: bigint;
  length: number;
  cookie: number;
}
export const iommu_hwpt_pgfault: Struct<iommu_hwpt_pgfault> = struct('iommu_hwpt_pgfault', 'struct', 40, 8, `
  0 __u32 flags;
  4 __u32 dev_id;
  8 __u32 pasid;
  12 __u32 grpid;
  16 __u32 perm;
  20 __u32 __reserved;
  24 __u64 addr;
  32 __u32 length;
  36 __u32 cookie;
`);

export interface iommu_hwpt_page_response {
  cookie: number;
  code: number;
}
export const iommu_hwpt_page_response: Struct<iommu_hwpt_page_response> = struct('iommu_hwpt_page_response', 'struct', 8, 4, `
  0 __u32 cookie;
  4 __u32 code;
`);

export interface iommu_fault_alloc {
  size: number;
  flags: number;
  out_fault_id: number;
  out_fault_fd: number;
}
export const iommu_fault_alloc: Struct<iommu_fault_alloc> = struct('iommu_fault_alloc', 'struct', 16, 4, `
  0 __u32 size;
  4 __u32 flags;
  8 __u32 out_fault_id;
  12 __u32 out_fault_fd;
`);

export interface iommu_viommu_tegra241_cmdqv {
  out_vintf_mmap_offset: bigint;
  out_vintf_mmap_length: bigint;
}
export const iommu_viommu_tegra241_cmdqv: Struct<iommu_viommu_tegra241_cmdqv> = struct('iommu_viommu_tegra241_cmdqv', 'struct', 16, 8, `
  0 __u64 out_vintf_mmap_offset;
  8 __u64 out_vintf_mmap_length;
`);

export interface iommu_viommu_alloc {
  size: number;
  flags: number;
  type: number;
  dev_id: number;
  hwpt_id: number;
  out_viommu_id: number;
  data_len: number;
  __reserved: number;
  data_uptr: bigint;
}
export const iommu_viommu_alloc: Struct<iommu_viommu_alloc> = struct('iommu_viommu_alloc', 'struct', 40, 8, `
  0 __u32 size;
  4 __u32 flags;
  8 __u32 type;
  12 __u32 dev_id;
  16 __u32 hwpt_id;
  20 __u32 out_viommu_id;
  24 __u32 data_len;
  28 __u32 __reserved;
  32 __u64 @data_uptr;
`);

export interface iommu_vdevice_alloc {
  size: number;
  viommu_id: number;
  dev_id: number;
  out_vdevice_id: number;
  virt_id: bigint;
}
export const iommu_vdevice_alloc: Struct<iommu_vdevice_alloc> = struct('iommu_vdevice_alloc', 'struct', 24, 8, `
  0 __u32 size;
  4 __u32 viommu_id;
  8 __u32 dev_id;
  12 __u32 out_vdevice_id;
  16 __u64 virt_id;
`);

export interface iommu_ioas_change_process {
  size: number;
  __reserved: number;
}
export const iommu_ioas_change_process: Struct<iommu_ioas_change_process> = struct('iommu_ioas_change_process', 'struct', 8, 4, `
  0 __u32 size;
  4 __u32 __reserved;
`);

export interface iommufd_vevent_header {
  flags: number;
  sequence: number;
}
export const iommufd_vevent_header: Struct<iommufd_vevent_header> = struct('iommufd_vevent_header', 'struct', 8, 4, `
  0 __u32 flags;
  4 __u32 sequence;
`);

export interface iommu_vevent_arm_smmuv3 {
  evt: bigint[];
}
export const iommu_vevent_arm_smmuv3: Struct<iommu_vevent_arm_smmuv3> = struct('iommu_vevent_arm_smmuv3', 'struct', 32, 8, `
  0 __u64 evt[4];
`);

export interface iommu_vevent_tegra241_cmdqv {
  lvcmdq_err_map: bigint[];
}
export const iommu_vevent_tegra241_cmdqv: Struct<iommu_vevent_tegra241_cmdqv> = struct('iommu_vevent_tegra241_cmdqv', 'struct', 16, 8, `
  0 __u64 lvcmdq_err_map[2];
`);

export interface iommu_veventq_alloc {
  size: number;
  flags: number;
  viommu_id: number;
  type: number;
  veventq_depth: number;
  out_veventq_id: number;
  out_veventq_fd: number;
  __reserved: number;
}
export const iommu_veventq_alloc: Struct<iommu_veventq_alloc> = struct('iommu_veventq_alloc', 'struct', 32, 4, `
  0 __u32 size;
  4 __u32 flags;
  8 __u32 viommu_id;
  12 __u32 type;
  16 __u32 veventq_depth;
  20 __u32 out_veventq_id;
  24 __u32 out_veventq_fd;
  28 __u32 __reserved;
`);

export interface iommu_hw_queue_alloc {
  size: number;
  flags: number;
  viommu_id: number;
  type: number;
  index: number;
  out_hw_queue_id: number;
  nesting_parent_iova: bigint;
  length: bigint;
}
export const iommu_hw_queue_alloc: Struct<iommu_hw_queue_alloc> = struct('iommu_hw_queue_alloc', 'struct', 40, 8, `
  0 __u32 size;
  4 __u32 flags;
  8 __u32 viommu_id;
  12 __u32 type;
  16 __u32 index;
  20 __u32 out_hw_queue_id;
  24 __u64 nesting_parent_iova;
  32 __u64 length;
`);
