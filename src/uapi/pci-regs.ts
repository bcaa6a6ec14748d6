/** Offsets and bits of configuration space: the names of linux/pci_regs.h. */

export const PCI_VENDOR_ID = 0x00;
export const PCI_DEVICE_ID = 0x02;
export const PCI_COMMAND = 0x04;
export const PCI_COMMAND_IO = 0x1;
export const PCI_COMMAND_MEMORY = 0x2;
export const PCI_COMMAND_MASTER = 0x4;
export const PCI_COMMAND_SERR = 0x100;
export const PCI_COMMAND_INTX_DISABLE = 0x400;
export const PCI_STATUS = 0x06;
export const PCI_STATUS_INTERRUPT = 0x08;
export const PCI_STATUS_CAP_LIST = 0x10;
/** What a written one clears: parity, target and master aborts, SERR. */
export const PCI_STATUS_RW1C = 0xf900;
export const PCI_CLASS_REVISION = 0x08;
export const PCI_REVISION_ID = 0x08;
export const PCI_CLASS_PROG = 0x09;
export const PCI_CACHE_LINE_SIZE = 0x0c;
export const PCI_LATENCY_TIMER = 0x0d;
export const PCI_HEADER_TYPE = 0x0e;
export const PCI_HEADER_TYPE_BRIDGE = 1;
export const PCI_HEADER_TYPE_MULTI = 0x80;
export const PCI_BIST = 0x0f;
export const PCI_BASE_ADDRESS_0 = 0x10;
export const PCI_BASE_ADDRESS_SPACE_IO = 0x1;
export const PCI_BASE_ADDRESS_MEM_TYPE_64 = 0x4;
export const PCI_BASE_ADDRESS_MEM_PREFETCH = 0x8;
export const PCI_SUBSYSTEM_VENDOR_ID = 0x2c;
export const PCI_SUBSYSTEM_ID = 0x2e;
export const PCI_ROM_ADDRESS = 0x30;
export const PCI_ROM_ADDRESS1 = 0x38;
export const PCI_ROM_ADDRESS_ENABLE = 0x1;
export const PCI_CAPABILITY_LIST = 0x34;
export const PCI_INTERRUPT_LINE = 0x3c;
export const PCI_INTERRUPT_PIN = 0x3d;

// Header type 1
export const PCI_PRIMARY_BUS = 0x18;
export const PCI_SECONDARY_BUS = 0x19;
export const PCI_SUBORDINATE_BUS = 0x1a;
export const PCI_IO_BASE = 0x1c;
export const PCI_IO_LIMIT = 0x1d;
export const PCI_SEC_STATUS = 0x1e;
export const PCI_MEMORY_BASE = 0x20;
export const PCI_MEMORY_LIMIT = 0x22;
export const PCI_PREF_MEMORY_BASE = 0x24;
export const PCI_PREF_MEMORY_LIMIT = 0x26;
export const PCI_PREF_BASE_UPPER32 = 0x28;
export const PCI_PREF_LIMIT_UPPER32 = 0x2c;
export const PCI_IO_BASE_UPPER16 = 0x30;
export const PCI_BRIDGE_CONTROL = 0x3e;
export const PCI_BRIDGE_CTL_BUS_RESET = 0x40;

// Capabilities
export const PCI_CAP_ID_PM = 0x01;
export const PCI_CAP_ID_VPD = 0x03;
export const PCI_CAP_ID_MSI = 0x05;
export const PCI_CAP_ID_VNDR = 0x09;
export const PCI_CAP_ID_SSVID = 0x0d;
export const PCI_CAP_ID_EXP = 0x10;
export const PCI_CAP_ID_MSIX = 0x11;
export const PCI_CAP_ID_AF = 0x13;
export const PCI_CAP_ID_EA = 0x14;

export const PCI_PM_CTRL = 4;
export const PCI_PM_CTRL_STATE_MASK = 0x3;
export const PCI_PM_CTRL_NO_SOFT_RESET = 0x8;

export const PCI_MSI_FLAGS = 2;
export const PCI_MSI_FLAGS_ENABLE = 0x1;
export const PCI_MSI_FLAGS_QMASK = 0xe;
export const PCI_MSI_FLAGS_QSIZE = 0x70;
export const PCI_MSI_FLAGS_64BIT = 0x80;
export const PCI_MSI_FLAGS_MASKBIT = 0x100;
export const PCI_MSI_ADDRESS_LO = 4;

export const PCI_MSIX_FLAGS = 2;
export const PCI_MSIX_FLAGS_QSIZE = 0x7ff;
export const PCI_MSIX_FLAGS_MASKALL = 0x4000;
export const PCI_MSIX_FLAGS_ENABLE = 0x8000;
export const PCI_MSIX_ENTRY_SIZE = 16;
export const PCI_MSIX_ENTRY_DATA = 8;
export const PCI_MSIX_ENTRY_VECTOR_CTRL = 12;
export const PCI_MSIX_ENTRY_CTRL_MASKBIT = 1;

export const PCI_EXP_FLAGS = 2;
export const PCI_EXP_DEVCAP = 4;
export const PCI_EXP_DEVCAP_FLR = 0x1000_0000;
export const PCI_EXP_DEVCAP_TEE = 0x4000_0000;
export const PCI_EXP_DEVCTL = 8;
export const PCI_EXP_DEVCTL_CERE = 0x1;
export const PCI_EXP_DEVCTL_NFERE = 0x2;
export const PCI_EXP_DEVCTL_FERE = 0x4;
export const PCI_EXP_DEVCTL_EXT_TAG = 0x100;
export const PCI_EXP_DEVCTL_PHANTOM = 0x200;
export const PCI_EXP_DEVCTL_NOSNOOP_EN = 0x800;
export const PCI_EXP_DEVCTL_BCR_FLR = 0x8000;
export const PCI_EXP_DEVSTA = 0x0a;
export const PCI_EXP_DEVSTA_URD = 0x8;
export const PCI_EXP_LNKCAP = 0x0c;
export const PCI_EXP_LNKCTL = 0x10;
export const PCI_EXP_LNKSTA = 0x12;
export const PCI_EXP_SLTCAP = 0x14;
/** Attention Button, MRL Sensor, Attention Indicator Present; Hot-Plug Capable. */
export const PCI_EXP_SLTCAP_ABP = 0x1;
export const PCI_EXP_SLTCAP_MRLSP = 0x4;
export const PCI_EXP_SLTCAP_AIP = 0x8;
export const PCI_EXP_SLTCAP_HPC = 0x40;
/** Physical Slot Number. */
export const PCI_EXP_SLTCAP_PSN = 0xfff8_0000;
export const PCI_EXP_SLTCTL = 0x18;
export const PCI_EXP_SLTCTL_ABPE = 0x1;
export const PCI_EXP_SLTCTL_PDCE = 0x8;
export const PCI_EXP_SLTCTL_CCIE = 0x10;
export const PCI_EXP_SLTCTL_HPIE = 0x20;
export const PCI_EXP_SLTCTL_AIC = 0xc0;
export const PCI_EXP_SLTCTL_ATTN_IND_OFF = 0xc0;
export const PCI_EXP_SLTCTL_PIC = 0x300;
export const PCI_EXP_SLTCTL_PWR_IND_ON = 0x100;
export const PCI_EXP_SLTCTL_PWR_IND_OFF = 0x300;
export const PCI_EXP_SLTCTL_PCC = 0x400;
export const PCI_EXP_SLTSTA = 0x1a;
export const PCI_EXP_SLTSTA_ABP = 0x1;
export const PCI_EXP_SLTSTA_PDC = 0x8;
export const PCI_EXP_SLTSTA_CC = 0x10;
export const PCI_EXP_SLTSTA_MRLSS = 0x20;
export const PCI_EXP_SLTSTA_PDS = 0x40;
export const PCI_EXP_RTCTL = 0x1c;
export const PCI_EXP_DEVCTL2 = 0x28;
/** 10-Bit Tag Requester Enable. */
export const PCI_EXP_DEVCTL2_10BIT_TAG_REQ_EN = 0x1000;
export const PCI_EXP_LNKCTL2 = 0x30;
export const PCI_EXP_TYPE_ENDPOINT = 0;
export const PCI_EXP_TYPE_ROOT_PORT = 4;
export const PCI_EXP_TYPE_UPSTREAM = 5;
export const PCI_EXP_TYPE_DOWNSTREAM = 6;
export const PCI_EXP_TYPE_PCI_BRIDGE = 7;
export const PCI_EXP_TYPE_RC_END = 9;

export const PCI_AF_CAP = 3;
export const PCI_AF_CAP_TP_FLR = 0x3;
export const PCI_AF_CTRL = 4;
export const PCI_AF_CTRL_FLR = 0x1;

// Extended capabilities
export const PCI_CFG_SPACE_SIZE = 0x100;
export const PCI_EXT_CAP_ID_ERR = 0x01;
export const PCI_EXT_CAP_ID_DSN = 0x03;
export const PCI_EXT_CAP_ID_ACS = 0x0d;
export const PCI_EXT_CAP_ID_ARI = 0x0e;
export const PCI_EXT_CAP_ID_ATS = 0x0f;
export const PCI_EXT_CAP_ID_SRIOV = 0x10;
export const PCI_EXT_CAP_ID_MCAST = 0x12;
export const PCI_EXT_CAP_ID_PRI = 0x13;
export const PCI_EXT_CAP_ID_REBAR = 0x15;
export const PCI_EXT_CAP_ID_PASID = 0x1b;
export const PCI_EXT_CAP_ID_DVSEC = 0x23;
export const PCI_EXT_CAP_ID_VF_REBAR = 0x24;
export const PCI_EXT_CAP_ID_DEV3 = 0x2f;
export const PCI_EXT_CAP_ID_IDE = 0x30;

export const PCI_ERR_UNCOR_STATUS = 4;
export const PCI_ERR_UNCOR_MASK = 8;
export const PCI_ERR_UNCOR_SEVER = 0x0c;
export const PCI_ERR_COR_STATUS = 0x10;
export const PCI_ERR_COR_MASK = 0x14;
export const PCI_ERR_CAP = 0x18;
export const PCI_ERR_ROOT_COMMAND = 0x2c;
export const PCI_ERR_ROOT_STATUS = 0x30;
export const PCI_ERR_ROOT_ERR_SRC = 0x34;

export const PCI_ACS_CAP = 4;
export const PCI_ACS_CTRL = 6;
/** Source validation, request redirect, completion redirect, upstream forwarding: what keeps functions apart (REQ_ACS_FLAGS). */
export const REQ_ACS_FLAGS = 0x1d;

export const PCI_SRIOV_CTRL = 0x08;
export const PCI_SRIOV_CTRL_VFE = 0x1;
export const PCI_SRIOV_CTRL_MSE = 0x8;
export const PCI_SRIOV_INITIAL_VF = 0x0c;
export const PCI_SRIOV_TOTAL_VF = 0x0e;
export const PCI_SRIOV_NUM_VF = 0x10;
export const PCI_SRIOV_VF_OFFSET = 0x14;
export const PCI_SRIOV_VF_STRIDE = 0x16;
export const PCI_SRIOV_VF_DID = 0x1a;
export const PCI_SRIOV_SUP_PGSIZE = 0x1c;
export const PCI_SRIOV_SYS_PGSIZE = 0x20;
export const PCI_SRIOV_BAR = 0x24;

export const PCI_DEV3_CTL = 0x08;
/** 14-Bit Tag Requester Enable. */
export const PCI_DEV3_CTL_14BIT_TAG_REQ_EN = 0x4;
