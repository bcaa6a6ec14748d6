// KVM: linux/kvm.h, asm/kvm.h, kvm_para.h. Generated from linux-libc-dev 7.2.13 by scripts/uapi/generate.mjs: do not edit.
import type { Struct, unionMembers } from './struct.ts';
import { struct } from './struct.ts';

export const KVM_SEV_INIT = 0;
export const KVM_SEV_ES_INIT = 1;
export const KVM_SEV_LAUNCH_START = 2;
export const KVM_SEV_LAUNCH_UPDATE_DATA = 3;
export const KVM_SEV_LAUNCH_UPDATE_VMSA = 4;
export const KVM_SEV_LAUNCH_SECRET = 5;
export const KVM_SEV_LAUNCH_MEASURE = 6;
export const KVM_SEV_LAUNCH_FINISH = 7;
export const KVM_SEV_SEND_START = 8;
export const KVM_SEV_SEND_UPDATE_DATA = 9;
export const KVM_SEV_SEND_UPDATE_VMSA = 10;
export const KVM_SEV_SEND_FINISH = 11;
export const KVM_SEV_RECEIVE_START = 12;
export const KVM_SEV_RECEIVE_UPDATE_DATA = 13;
export const KVM_SEV_RECEIVE_UPDATE_VMSA = 14;
export const KVM_SEV_RECEIVE_FINISH = 15;
export const KVM_SEV_GUEST_STATUS = 16;
export const KVM_SEV_DBG_DECRYPT = 17;
export const KVM_SEV_DBG_ENCRYPT = 18;
export const KVM_SEV_CERT_EXPORT = 19;
export const KVM_SEV_GET_ATTESTATION_REPORT = 20;
export const KVM_SEV_SEND_CANCEL = 21;
export const KVM_SEV_INIT2 = 22;
export const KVM_SEV_SNP_LAUNCH_START = 100;
export const KVM_SEV_SNP_LAUNCH_UPDATE = 101;
export const KVM_SEV_SNP_LAUNCH_FINISH = 102;
export const KVM_SEV_SNP_ENABLE_REQ_CERTS = 103;
export const KVM_SEV_NR_MAX = 104;
export const KVM_TDX_CAPABILITIES = 0;
export const KVM_TDX_INIT_VM = 1;
export const KVM_TDX_INIT_VCPU = 2;
export const KVM_TDX_INIT_MEM_REGION = 3;
export const KVM_TDX_FINALIZE_VM = 4;
export const KVM_TDX_GET_CPUID = 5;
export const KVM_TDX_CMD_NR_MAX = 6;
export const kvm_ioeventfd_flag_nr_datamatch = 0;
export const kvm_ioeventfd_flag_nr_pio = 1;
export const kvm_ioeventfd_flag_nr_deassign = 2;
export const kvm_ioeventfd_flag_nr_virtio_ccw_notify = 3;
export const kvm_ioeventfd_flag_nr_fast_mmio = 4;
export const kvm_ioeventfd_flag_nr_max = 5;
export const KVM_DEV_TYPE_FSL_MPIC_20 = 1;
export const KVM_DEV_TYPE_FSL_MPIC_42 = 2;
export const KVM_DEV_TYPE_XICS = 3;
export const KVM_DEV_TYPE_VFIO = 4;
export const KVM_DEV_TYPE_ARM_VGIC_V2 = 5;
export const KVM_DEV_TYPE_FLIC = 6;
export const KVM_DEV_TYPE_ARM_VGIC_V3 = 7;
export const KVM_DEV_TYPE_ARM_VGIC_ITS = 8;
export const KVM_DEV_TYPE_XIVE = 9;
export const KVM_DEV_TYPE_ARM_PV_TIME = 10;
export const KVM_DEV_TYPE_RISCV_AIA = 11;
export const KVM_DEV_TYPE_LOONGARCH_IPI = 12;
export const KVM_DEV_TYPE_LOONGARCH_EIOINTC = 13;
export const KVM_DEV_TYPE_LOONGARCH_PCHPIC = 14;
export const KVM_DEV_TYPE_LOONGARCH_DMSINTC = 15;
export const KVM_DEV_TYPE_ARM_VGIC_V5 = 16;
export const KVM_DEV_TYPE_MAX = 17;
export const KVM_PIO_PAGE_OFFSET = 1;
export const KVM_COALESCED_MMIO_PAGE_OFFSET = 2;
export const KVM_DIRTY_LOG_PAGE_OFFSET = 64;
export const DE_VECTOR = 0;
export const DB_VECTOR = 1;
export const BP_VECTOR = 3;
export const OF_VECTOR = 4;
export const BR_VECTOR = 5;
export const UD_VECTOR = 6;
export const NM_VECTOR = 7;
export const DF_VECTOR = 8;
export const TS_VECTOR = 10;
export const NP_VECTOR = 11;
export const SS_VECTOR = 12;
export const GP_VECTOR = 13;
export const PF_VECTOR = 14;
export const MF_VECTOR = 16;
export const AC_VECTOR = 17;
export const MC_VECTOR = 18;
export const XM_VECTOR = 19;
export const VE_VECTOR = 20;
export const CP_VECTOR = 21;
export const HV_VECTOR = 28;
export const VC_VECTOR = 29;
export const SX_VECTOR = 30;
export const KVM_NR_INTERRUPTS = 256;
export const KVM_IOAPIC_NUM_PINS = 24;
export const KVM_IRQCHIP_PIC_MASTER = 0;
export const KVM_IRQCHIP_PIC_SLAVE = 1;
export const KVM_IRQCHIP_IOAPIC = 2;
export const KVM_NR_IRQCHIPS = 3;
export const KVM_RUN_X86_SMM = 0x1;
export const KVM_RUN_X86_BUS_LOCK = 0x2;
export const KVM_RUN_X86_GUEST_MODE = 0x4;
export const KVM_APIC_REG_SIZE = 0x400;
export const KVM_SREGS2_FLAGS_PDPTRS_VALID = 1;
export const KVM_MSR_FILTER_MAX_BITMAP_SIZE = 0x600;
export const KVM_MSR_FILTER_READ = 0x1;
export const KVM_MSR_FILTER_WRITE = 0x2;
export const KVM_MSR_FILTER_RANGE_VALID_MASK = 3;
export const KVM_MSR_FILTER_MAX_RANGES = 16;
export const KVM_MSR_FILTER_DEFAULT_ALLOW = 0x0;
export const KVM_MSR_FILTER_DEFAULT_DENY = 0x1;
export const KVM_MSR_FILTER_VALID_MASK = 1;
export const KVM_CPUID_FLAG_SIGNIFCANT_INDEX = 0x1;
export const KVM_CPUID_FLAG_STATEFUL_FUNC = 0x2;
export const KVM_CPUID_FLAG_STATE_READ_NEXT = 0x4;
export const KVM_GUESTDBG_USE_SW_BP = 0x10000;
export const KVM_GUESTDBG_USE_HW_BP = 0x20000;
export const KVM_GUESTDBG_INJECT_DB = 0x40000;
export const KVM_GUESTDBG_INJECT_BP = 0x80000;
export const KVM_GUESTDBG_BLOCKIRQ = 0x100000;
export const KVM_PIT_FLAGS_HPET_LEGACY = 0x1;
export const KVM_PIT_FLAGS_SPEAKER_DATA_ON = 0x2;
export const KVM_VCPUEVENT_VALID_NMI_PENDING = 0x1;
export const KVM_VCPUEVENT_VALID_SIPI_VECTOR = 0x2;
export const KVM_VCPUEVENT_VALID_SHADOW = 0x4;
export const KVM_VCPUEVENT_VALID_SMM = 0x8;
export const KVM_VCPUEVENT_VALID_PAYLOAD = 0x10;
export const KVM_VCPUEVENT_VALID_TRIPLE_FAULT = 0x20;
export const KVM_X86_SHADOW_INT_MOV_SS = 0x1;
export const KVM_X86_SHADOW_INT_STI = 0x2;
export const KVM_MAX_XCRS = 16;
export const KVM_X86_REG_TYPE_MSR = 2;
export const KVM_X86_REG_TYPE_KVM = 3;
export const KVM_REG_GUEST_SSP = 0;
export const KVM_SYNC_X86_REGS = 0x1;
export const KVM_SYNC_X86_SREGS = 0x2;
export const KVM_SYNC_X86_EVENTS = 0x4;
export const KVM_SYNC_X86_VALID_FIELDS = 7;
export const KVM_X86_QUIRK_LINT0_REENABLED = 0x1;
export const KVM_X86_QUIRK_CD_NW_CLEARED = 0x2;
export const KVM_X86_QUIRK_LAPIC_MMIO_HOLE = 0x4;
export const KVM_X86_QUIRK_OUT_7E_INC_RIP = 0x8;
export const KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT = 0x10;
export const KVM_X86_QUIRK_FIX_HYPERCALL_INSN = 0x20;
export const KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS = 0x40;
export const KVM_X86_QUIRK_SLOT_ZAP_ALL = 0x80;
export const KVM_X86_QUIRK_STUFF_FEATURE_MSRS = 0x100;
export const KVM_X86_QUIRK_IGNORE_GUEST_PAT = 0x200;
export const KVM_X86_QUIRK_VMCS12_ALLOW_FREEZE_IN_SMM = 0x400;
export const KVM_X86_QUIRK_NESTED_SVM_SHARED_PAT = 0x800;
export const KVM_STATE_NESTED_FORMAT_VMX = 0;
export const KVM_STATE_NESTED_FORMAT_SVM = 1;
export const KVM_STATE_NESTED_GUEST_MODE = 0x1;
export const KVM_STATE_NESTED_RUN_PENDING = 0x2;
export const KVM_STATE_NESTED_EVMCS = 0x4;
export const KVM_STATE_NESTED_MTF_PENDING = 0x8;
export const KVM_STATE_NESTED_GIF_SET = 0x100;
export const KVM_STATE_NESTED_SMM_GUEST_MODE = 0x1;
export const KVM_STATE_NESTED_SMM_VMXON = 0x2;
export const KVM_STATE_NESTED_VMX_VMCS_SIZE = 0x1000;
export const KVM_STATE_NESTED_SVM_VMCB_SIZE = 0x1000;
export const KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE = 0x1;
export const KVM_X86_GRP_SYSTEM = 0;
export const KVM_X86_XCOMP_GUEST_SUPP = 0;
export const KVM_X86_GRP_SEV = 1;
export const KVM_X86_SEV_VMSA_FEATURES = 0;
export const KVM_X86_SNP_POLICY_BITS = 1;
export const KVM_X86_SEV_SNP_REQ_CERTS = 2;
export const KVM_PMU_EVENT_ALLOW = 0;
export const KVM_PMU_EVENT_DENY = 1;
export const KVM_PMU_EVENT_FLAG_MASKED_EVENTS = 0x1;
export const KVM_PMU_EVENT_FLAGS_VALID_MASK = 1;
export const KVM_XEN_HVM_CONFIG_HYPERCALL_MSR = 0x1;
export const KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL = 0x2;
export const KVM_XEN_HVM_CONFIG_SHARED_INFO = 0x4;
export const KVM_XEN_HVM_CONFIG_RUNSTATE = 0x8;
export const KVM_XEN_HVM_CONFIG_EVTCHN_2LEVEL = 0x10;
export const KVM_XEN_HVM_CONFIG_EVTCHN_SEND = 0x20;
export const KVM_XEN_HVM_CONFIG_RUNSTATE_UPDATE_FLAG = 0x40;
export const KVM_XEN_HVM_CONFIG_PVCLOCK_TSC_UNSTABLE = 0x80;
export const KVM_XEN_HVM_CONFIG_SHARED_INFO_HVA = 0x100;
export const KVM_XEN_MSR_MIN_INDEX = 0x40000000;
export const KVM_XEN_MSR_MAX_INDEX = 0x4fffffff;
export const KVM_XEN_INVALID_GFN = 0xffffffffffffffffn;
export const KVM_XEN_EVTCHN_DEASSIGN = 0x1;
export const KVM_XEN_EVTCHN_UPDATE = 0x2;
export const KVM_XEN_EVTCHN_RESET = 0x4;
export const KVM_XEN_ATTR_TYPE_LONG_MODE = 0x0;
export const KVM_XEN_ATTR_TYPE_SHARED_INFO = 0x1;
export const KVM_XEN_ATTR_TYPE_UPCALL_VECTOR = 0x2;
export const KVM_XEN_ATTR_TYPE_EVTCHN = 0x3;
export const KVM_XEN_ATTR_TYPE_XEN_VERSION = 0x4;
export const KVM_XEN_ATTR_TYPE_RUNSTATE_UPDATE_FLAG = 0x5;
export const KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA = 0x6;
export const KVM_XEN_INVALID_GPA = 0xffffffffffffffffn;
export const KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO = 0x0;
export const KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO = 0x1;
export const KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR = 0x2;
export const KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_CURRENT = 0x3;
export const KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_DATA = 0x4;
export const KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADJUST = 0x5;
export const KVM_XEN_VCPU_ATTR_TYPE_VCPU_ID = 0x6;
export const KVM_XEN_VCPU_ATTR_TYPE_TIMER = 0x7;
export const KVM_XEN_VCPU_ATTR_TYPE_UPCALL_VECTOR = 0x8;
export const KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO_HVA = 0x9;
export const KVM_SEV_PAGE_TYPE_INVALID = 0x0;
export const KVM_SEV_SNP_PAGE_TYPE_NORMAL = 0x1;
export const KVM_SEV_SNP_PAGE_TYPE_ZERO = 0x3;
export const KVM_SEV_SNP_PAGE_TYPE_UNMEASURED = 0x4;
export const KVM_SEV_SNP_PAGE_TYPE_SECRETS = 0x5;
export const KVM_SEV_SNP_PAGE_TYPE_CPUID = 0x6;
export const KVM_SEV_SNP_ID_BLOCK_SIZE = 96;
export const KVM_SEV_SNP_ID_AUTH_SIZE = 4096;
export const KVM_SEV_SNP_FINISH_DATA_SIZE = 32;
export const KVM_X2APIC_API_USE_32BIT_IDS = 0x1n;
export const KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK = 0x2n;
export const KVM_X2APIC_ENABLE_SUPPRESS_EOI_BROADCAST = 0x4n;
export const KVM_X2APIC_DISABLE_SUPPRESS_EOI_BROADCAST = 0x8n;
export const KVM_HYPERV_CONN_ID_MASK = 0xffffff;
export const KVM_HYPERV_EVENTFD_DEASSIGN = 0x1;
export const KVM_PMU_MASKED_ENTRY_EVENT_SELECT = 0xf000000ffn;
export const KVM_PMU_MASKED_ENTRY_UMASK_MASK = 0xff00000000000000n;
export const KVM_PMU_MASKED_ENTRY_UMASK_MATCH = 65280n;
export const KVM_PMU_MASKED_ENTRY_EXCLUDE = 0x80000000000000n;
export const KVM_PMU_MASKED_ENTRY_UMASK_MASK_SHIFT = 56;
export const KVM_VCPU_TSC_CTRL = 0;
export const KVM_VCPU_TSC_OFFSET = 0;
export const KVM_EXIT_HYPERCALL_LONG_MODE = 0x1n;
export const KVM_X86_DEFAULT_VM = 0;
export const KVM_X86_SW_PROTECTED_VM = 1;
export const KVM_X86_SEV_VM = 2;
export const KVM_X86_SEV_ES_VM = 3;
export const KVM_X86_SNP_VM = 4;
export const KVM_X86_TDX_VM = 5;
export const KVM_TDX_MEASURE_MEMORY_REGION = 0x1n;
export const KVM_API_VERSION = 12;
export const KVM_MEM_LOG_DIRTY_PAGES = 0x1;
export const KVM_MEM_READONLY = 0x2;
export const KVM_MEM_GUEST_MEMFD = 0x4;
export const KVM_PIT_SPEAKER_DUMMY = 1;
export const KVM_EXIT_HYPERV_SYNIC = 1;
export const KVM_EXIT_HYPERV_HCALL = 2;
export const KVM_EXIT_HYPERV_SYNDBG = 3;
export const KVM_EXIT_XEN_HCALL = 1;
export const KVM_S390_GET_SKEYS_NONE = 1;
export const KVM_S390_SKEYS_MAX = 0x100000;
export const KVM_EXIT_UNKNOWN = 0;
export const KVM_EXIT_EXCEPTION = 1;
export const KVM_EXIT_IO = 2;
export const KVM_EXIT_HYPERCALL = 3;
export const KVM_EXIT_DEBUG = 4;
export const KVM_EXIT_HLT = 5;
export const KVM_EXIT_MMIO = 6;
export const KVM_EXIT_IRQ_WINDOW_OPEN = 7;
export const KVM_EXIT_SHUTDOWN = 8;
export const KVM_EXIT_FAIL_ENTRY = 9;
export const KVM_EXIT_INTR = 10;
export const KVM_EXIT_SET_TPR = 11;
export const KVM_EXIT_TPR_ACCESS = 12;
export const KVM_EXIT_S390_SIEIC = 13;
export const KVM_EXIT_S390_RESET = 14;
export const KVM_EXIT_DCR = 15;
export const KVM_EXIT_NMI = 16;
export const KVM_EXIT_INTERNAL_ERROR = 17;
export const KVM_EXIT_OSI = 18;
export const KVM_EXIT_PAPR_HCALL = 19;
export const KVM_EXIT_S390_UCONTROL = 20;
export const KVM_EXIT_WATCHDOG = 21;
export const KVM_EXIT_S390_TSCH = 22;
export const KVM_EXIT_EPR = 23;
export const KVM_EXIT_SYSTEM_EVENT = 24;
export const KVM_EXIT_S390_STSI = 25;
export const KVM_EXIT_IOAPIC_EOI = 26;
export const KVM_EXIT_HYPERV = 27;
export const KVM_EXIT_ARM_NISV = 28;
export const KVM_EXIT_X86_RDMSR = 29;
export const KVM_EXIT_X86_WRMSR = 30;
export const KVM_EXIT_DIRTY_RING_FULL = 31;
export const KVM_EXIT_AP_RESET_HOLD = 32;
export const KVM_EXIT_X86_BUS_LOCK = 33;
export const KVM_EXIT_XEN = 34;
export const KVM_EXIT_RISCV_SBI = 35;
export const KVM_EXIT_RISCV_CSR = 36;
export const KVM_EXIT_NOTIFY = 37;
export const KVM_EXIT_LOONGARCH_IOCSR = 38;
export const KVM_EXIT_MEMORY_FAULT = 39;
export const KVM_EXIT_TDX = 40;
export const KVM_EXIT_ARM_SEA = 41;
export const KVM_EXIT_ARM_LDST64B = 42;
export const KVM_EXIT_SNP_REQ_CERTS = 43;
export const KVM_INTERNAL_ERROR_EMULATION = 1;
export const KVM_INTERNAL_ERROR_SIMUL_EX = 2;
export const KVM_INTERNAL_ERROR_DELIVERY_EV = 3;
export const KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON = 4;
export const KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES = 0x1n;
export const KVM_EXIT_IO_IN = 0;
export const KVM_EXIT_IO_OUT = 1;
export const KVM_SYSTEM_EVENT_SHUTDOWN = 1;
export const KVM_SYSTEM_EVENT_RESET = 2;
export const KVM_SYSTEM_EVENT_CRASH = 3;
export const KVM_SYSTEM_EVENT_WAKEUP = 4;
export const KVM_SYSTEM_EVENT_SUSPEND = 5;
export const KVM_SYSTEM_EVENT_SEV_TERM = 6;
export const KVM_SYSTEM_EVENT_TDX_FATAL = 7;
export const KVM_MSR_EXIT_REASON_INVAL = 0x1;
export const KVM_MSR_EXIT_REASON_UNKNOWN = 0x2;
export const KVM_MSR_EXIT_REASON_FILTER = 0x4;
export const KVM_MSR_EXIT_REASON_VALID_MASK = 7;
export const KVM_NOTIFY_CONTEXT_INVALID = 0x1;
export const KVM_MEMORY_EXIT_FLAG_PRIVATE = 0x8n;
export const KVM_EXIT_ARM_SEA_FLAG_GPA_VALID = 0x1n;
export const SYNC_REGS_SIZE_BYTES = 2048;
export const KVM_MP_STATE_RUNNABLE = 0;
export const KVM_MP_STATE_UNINITIALIZED = 1;
export const KVM_MP_STATE_INIT_RECEIVED = 2;
export const KVM_MP_STATE_HALTED = 3;
export const KVM_MP_STATE_SIPI_RECEIVED = 4;
export const KVM_MP_STATE_STOPPED = 5;
export const KVM_MP_STATE_CHECK_STOP = 6;
export const KVM_MP_STATE_OPERATING = 7;
export const KVM_MP_STATE_LOAD = 8;
export const KVM_MP_STATE_AP_RESET_HOLD = 9;
export const KVM_MP_STATE_SUSPENDED = 10;
export const KVM_GUESTDBG_ENABLE = 0x1;
export const KVM_GUESTDBG_SINGLESTEP = 0x2;
export const KVM_IOEVENTFD_FLAG_DATAMATCH = 0x1;
export const KVM_IOEVENTFD_FLAG_PIO = 0x2;
export const KVM_IOEVENTFD_FLAG_DEASSIGN = 0x4;
export const KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY = 0x8;
export const KVM_IOEVENTFD_VALID_FLAG_MASK = 0x1f;
export const KVM_X86_DISABLE_EXITS_MWAIT = 0x1;
export const KVM_X86_DISABLE_EXITS_HLT = 0x2;
export const KVM_X86_DISABLE_EXITS_PAUSE = 0x4;
export const KVM_X86_DISABLE_EXITS_CSTATE = 0x8;
export const KVM_X86_DISABLE_EXITS_APERFMPERF = 0x10;
export const KVMIO = 0xae;
export const KVM_VM_S390_UCONTROL = 1;
export const KVM_VM_PPC_HV = 1;
export const KVM_VM_PPC_PR = 2;
export const KVM_VM_MIPS_AUTO = 0;
export const KVM_VM_MIPS_VZ = 1;
export const KVM_VM_MIPS_TE = 2;
export const KVM_S390_SIE_PAGE_OFFSET = 1;
export const KVM_VM_TYPE_ARM_IPA_SIZE_MASK = 0xffn;
export const KVM_VM_TYPE_ARM_PROTECTED = 0x80000000;
export const KVM_VM_TYPE_ARM_MASK = 0x800000ffn;
export const KVM_GET_API_VERSION = 0xae00;
export const KVM_CREATE_VM = 0xae01;
export const KVM_GET_MSR_INDEX_LIST = 0xc004ae02;
export const KVM_S390_ENABLE_SIE = 0xae06;
export const KVM_CHECK_EXTENSION = 0xae03;
export const KVM_GET_VCPU_MMAP_SIZE = 0xae04;
export const KVM_GET_SUPPORTED_CPUID = 0xc008ae05;
export const KVM_GET_EMULATED_CPUID = 0xc008ae09;
export const KVM_GET_MSR_FEATURE_INDEX_LIST = 0xc004ae0a;
export const KVM_CAP_IRQCHIP = 0;
export const KVM_CAP_HLT = 1;
export const KVM_CAP_MMU_SHADOW_CACHE_CONTROL = 2;
export const KVM_CAP_USER_MEMORY = 3;
export const KVM_CAP_SET_TSS_ADDR = 4;
export const KVM_CAP_VAPIC = 6;
export const KVM_CAP_EXT_CPUID = 7;
export const KVM_CAP_CLOCKSOURCE = 8;
export const KVM_CAP_NR_VCPUS = 9;
export const KVM_CAP_NR_MEMSLOTS = 10;
export const KVM_CAP_PIT = 11;
export const KVM_CAP_NOP_IO_DELAY = 12;
export const KVM_CAP_PV_MMU = 13;
export const KVM_CAP_MP_STATE = 14;
export const KVM_CAP_COALESCED_MMIO = 15;
export const KVM_CAP_SYNC_MMU = 16;
export const KVM_CAP_IOMMU = 18;
export const KVM_CAP_DESTROY_MEMORY_REGION_WORKS = 21;
export const KVM_CAP_USER_NMI = 22;
export const KVM_CAP_SET_GUEST_DEBUG = 23;
export const KVM_CAP_REINJECT_CONTROL = 24;
export const KVM_CAP_IRQ_ROUTING = 25;
export const KVM_CAP_IRQ_INJECT_STATUS = 26;
export const KVM_CAP_ASSIGN_DEV_IRQ = 29;
export const KVM_CAP_JOIN_MEMORY_REGIONS_WORKS = 30;
export const KVM_CAP_MCE = 31;
export const KVM_CAP_IRQFD = 32;
export const KVM_CAP_PIT2 = 33;
export const KVM_CAP_SET_BOOT_CPU_ID = 34;
export const KVM_CAP_PIT_STATE2 = 35;
export const KVM_CAP_IOEVENTFD = 36;
export const KVM_CAP_SET_IDENTITY_MAP_ADDR = 37;
export const KVM_CAP_XEN_HVM = 38;
export const KVM_CAP_ADJUST_CLOCK = 39;
export const KVM_CAP_INTERNAL_ERROR_DATA = 40;
export const KVM_CAP_VCPU_EVENTS = 41;
export const KVM_CAP_S390_PSW = 42;
export const KVM_CAP_PPC_SEGSTATE = 43;
export const KVM_CAP_HYPERV = 44;
export const KVM_CAP_HYPERV_VAPIC = 45;
export const KVM_CAP_HYPERV_SPIN = 46;
export const KVM_CAP_PCI_SEGMENT = 47;
export const KVM_CAP_PPC_PAIRED_SINGLES = 48;
export const KVM_CAP_INTR_SHADOW = 49;
export const KVM_CAP_DEBUGREGS = 50;
export const KVM_CAP_X86_ROBUST_SINGLESTEP = 51;
export const KVM_CAP_PPC_OSI = 52;
export const KVM_CAP_PPC_UNSET_IRQ = 53;
export const KVM_CAP_ENABLE_CAP = 54;
export const KVM_CAP_XSAVE = 55;
export const KVM_CAP_XCRS = 56;
export const KVM_CAP_PPC_GET_PVINFO = 57;
export const KVM_CAP_PPC_IRQ_LEVEL = 58;
export const KVM_CAP_ASYNC_PF = 59;
export const KVM_CAP_TSC_CONTROL = 60;
export const KVM_CAP_GET_TSC_KHZ = 61;
export const KVM_CAP_PPC_BOOKE_SREGS = 62;
export const KVM_CAP_SPAPR_TCE = 63;
export const KVM_CAP_PPC_SMT = 64;
export const KVM_CAP_PPC_RMA = 65;
export const KVM_CAP_MAX_VCPUS = 66;
export const KVM_CAP_PPC_HIOR = 67;
export const KVM_CAP_PPC_PAPR = 68;
export const KVM_CAP_SW_TLB = 69;
export const KVM_CAP_ONE_REG = 70;
export const KVM_CAP_S390_GMAP = 71;
export const KVM_CAP_TSC_DEADLINE_TIMER = 72;
export const KVM_CAP_S390_UCONTROL = 73;
export const KVM_CAP_SYNC_REGS = 74;
export const KVM_CAP_PCI_2_3 = 75;
export const KVM_CAP_KVMCLOCK_CTRL = 76;
export const KVM_CAP_SIGNAL_MSI = 77;
export const KVM_CAP_PPC_GET_SMMU_INFO = 78;
export const KVM_CAP_S390_COW = 79;
export const KVM_CAP_PPC_ALLOC_HTAB = 80;
export const KVM_CAP_READONLY_MEM = 81;
export const KVM_CAP_IRQFD_RESAMPLE = 82;
export const KVM_CAP_PPC_BOOKE_WATCHDOG = 83;
export const KVM_CAP_PPC_HTAB_FD = 84;
export const KVM_CAP_S390_CSS_SUPPORT = 85;
export const KVM_CAP_PPC_EPR = 86;
export const KVM_CAP_ARM_PSCI = 87;
export const KVM_CAP_ARM_SET_DEVICE_ADDR = 88;
export const KVM_CAP_DEVICE_CTRL = 89;
export const KVM_CAP_IRQ_MPIC = 90;
export const KVM_CAP_PPC_RTAS = 91;
export const KVM_CAP_IRQ_XICS = 92;
export const KVM_CAP_ARM_EL1_32BIT = 93;
export const KVM_CAP_SPAPR_MULTITCE = 94;
export const KVM_CAP_EXT_EMUL_CPUID = 95;
export const KVM_CAP_HYPERV_TIME = 96;
export const KVM_CAP_IOAPIC_POLARITY_IGNORED = 97;
export const KVM_CAP_ENABLE_CAP_VM = 98;
export const KVM_CAP_S390_IRQCHIP = 99;
export const KVM_CAP_IOEVENTFD_NO_LENGTH = 100;
export const KVM_CAP_VM_ATTRIBUTES = 101;
export const KVM_CAP_ARM_PSCI_0_2 = 102;
export const KVM_CAP_PPC_FIXUP_HCALL = 103;
export const KVM_CAP_PPC_ENABLE_HCALL = 104;
export const KVM_CAP_CHECK_EXTENSION_VM = 105;
export const KVM_CAP_S390_USER_SIGP = 106;
export const KVM_CAP_S390_VECTOR_REGISTERS = 107;
export const KVM_CAP_S390_MEM_OP = 108;
export const KVM_CAP_S390_USER_STSI = 109;
export const KVM_CAP_S390_SKEYS = 110;
export const KVM_CAP_MIPS_FPU = 111;
export const KVM_CAP_MIPS_MSA = 112;
export const KVM_CAP_S390_INJECT_IRQ = 113;
export const KVM_CAP_S390_IRQ_STATE = 114;
export const KVM_CAP_PPC_HWRNG = 115;
export const KVM_CAP_DISABLE_QUIRKS = 116;
export const KVM_CAP_X86_SMM = 117;
export const KVM_CAP_MULTI_ADDRESS_SPACE = 118;
export const KVM_CAP_GUEST_DEBUG_HW_BPS = 119;
export const KVM_CAP_GUEST_DEBUG_HW_WPS = 120;
export const KVM_CAP_SPLIT_IRQCHIP = 121;
export const KVM_CAP_IOEVENTFD_ANY_LENGTH = 122;
export const KVM_CAP_HYPERV_SYNIC = 123;
export const KVM_CAP_S390_RI = 124;
export const KVM_CAP_SPAPR_TCE_64 = 125;
export const KVM_CAP_ARM_PMU_V3 = 126;
export const KVM_CAP_VCPU_ATTRIBUTES = 127;
export const KVM_CAP_MAX_VCPU_ID = 128;
export const KVM_CAP_X2APIC_API = 129;
export const KVM_CAP_S390_USER_INSTR0 = 130;
export const KVM_CAP_MSI_DEVID = 131;
export const KVM_CAP_PPC_HTM = 132;
export const KVM_CAP_SPAPR_RESIZE_HPT = 133;
export const KVM_CAP_PPC_MMU_RADIX = 134;
export const KVM_CAP_PPC_MMU_HASH_V3 = 135;
export const KVM_CAP_IMMEDIATE_EXIT = 136;
export const KVM_CAP_MIPS_VZ = 137;
export const KVM_CAP_MIPS_TE = 138;
export const KVM_CAP_MIPS_64BIT = 139;
export const KVM_CAP_S390_GS = 140;
export const KVM_CAP_S390_AIS = 141;
export const KVM_CAP_SPAPR_TCE_VFIO = 142;
export const KVM_CAP_X86_DISABLE_EXITS = 143;
export const KVM_CAP_ARM_USER_IRQ = 144;
export const KVM_CAP_S390_CMMA_MIGRATION = 145;
export const KVM_CAP_PPC_FWNMI = 146;
export const KVM_CAP_PPC_SMT_POSSIBLE = 147;
export const KVM_CAP_HYPERV_SYNIC2 = 148;
export const KVM_CAP_HYPERV_VP_INDEX = 149;
export const KVM_CAP_S390_AIS_MIGRATION = 150;
export const KVM_CAP_PPC_GET_CPU_CHAR = 151;
export const KVM_CAP_S390_BPB = 152;
export const KVM_CAP_GET_MSR_FEATURES = 153;
export const KVM_CAP_HYPERV_EVENTFD = 154;
export const KVM_CAP_HYPERV_TLBFLUSH = 155;
export const KVM_CAP_S390_HPAGE_1M = 156;
export const KVM_CAP_NESTED_STATE = 157;
export const KVM_CAP_ARM_INJECT_SERROR_ESR = 158;
export const KVM_CAP_MSR_PLATFORM_INFO = 159;
export const KVM_CAP_PPC_NESTED_HV = 160;
export const KVM_CAP_HYPERV_SEND_IPI = 161;
export const KVM_CAP_COALESCED_PIO = 162;
export const KVM_CAP_HYPERV_ENLIGHTENED_VMCS = 163;
export const KVM_CAP_EXCEPTION_PAYLOAD = 164;
export const KVM_CAP_ARM_VM_IPA_SIZE = 165;
export const KVM_CAP_MANUAL_DIRTY_LOG_PROTECT = 166;
export const KVM_CAP_HYPERV_CPUID = 167;
export const KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 = 168;
export const KVM_CAP_PPC_IRQ_XIVE = 169;
export const KVM_CAP_ARM_SVE = 170;
export const KVM_CAP_ARM_PTRAUTH_ADDRESS = 171;
export const KVM_CAP_ARM_PTRAUTH_GENERIC = 172;
export const KVM_CAP_PMU_EVENT_FILTER = 173;
export const KVM_CAP_ARM_IRQ_LINE_LAYOUT_2 = 174;
export const KVM_CAP_HYPERV_DIRECT_TLBFLUSH = 175;
export const KVM_CAP_PPC_GUEST_DEBUG_SSTEP = 176;
export const KVM_CAP_ARM_NISV_TO_USER = 177;
export const KVM_CAP_ARM_INJECT_EXT_DABT = 178;
export const KVM_CAP_S390_VCPU_RESETS = 179;
export const KVM_CAP_S390_PROTECTED = 180;
export const KVM_CAP_PPC_SECURE_GUEST = 181;
export const KVM_CAP_HALT_POLL = 182;
export const KVM_CAP_ASYNC_PF_INT = 183;
export const KVM_CAP_LAST_CPU = 184;
export const KVM_CAP_SMALLER_MAXPHYADDR = 185;
export const KVM_CAP_S390_DIAG318 = 186;
export const KVM_CAP_STEAL_TIME = 187;
export const KVM_CAP_X86_USER_SPACE_MSR = 188;
export const KVM_CAP_X86_MSR_FILTER = 189;
export const KVM_CAP_ENFORCE_PV_FEATURE_CPUID = 190;
export const KVM_CAP_SYS_HYPERV_CPUID = 191;
export const KVM_CAP_DIRTY_LOG_RING = 192;
export const KVM_CAP_X86_BUS_LOCK_EXIT = 193;
export const KVM_CAP_PPC_DAWR1 = 194;
export const KVM_CAP_SET_GUEST_DEBUG2 = 195;
export const KVM_CAP_SGX_ATTRIBUTE = 196;
export const KVM_CAP_VM_COPY_ENC_CONTEXT_FROM = 197;
export const KVM_CAP_PTP_KVM = 198;
export const KVM_CAP_HYPERV_ENFORCE_CPUID = 199;
export const KVM_CAP_SREGS2 = 200;
export const KVM_CAP_EXIT_HYPERCALL = 201;
export const KVM_CAP_PPC_RPT_INVALIDATE = 202;
export const KVM_CAP_BINARY_STATS_FD = 203;
export const KVM_CAP_EXIT_ON_EMULATION_FAILURE = 204;
export const KVM_CAP_ARM_MTE = 205;
export const KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM = 206;
export const KVM_CAP_VM_GPA_BITS = 207;
export const KVM_CAP_XSAVE2 = 208;
export const KVM_CAP_SYS_ATTRIBUTES = 209;
export const KVM_CAP_PPC_AIL_MODE_3 = 210;
export const KVM_CAP_S390_MEM_OP_EXTENSION = 211;
export const KVM_CAP_PMU_CAPABILITY = 212;
export const KVM_CAP_DISABLE_QUIRKS2 = 213;
export const KVM_CAP_VM_TSC_CONTROL = 214;
export const KVM_CAP_SYSTEM_EVENT_DATA = 215;
export const KVM_CAP_ARM_SYSTEM_SUSPEND = 216;
export const KVM_CAP_S390_PROTECTED_DUMP = 217;
export const KVM_CAP_X86_TRIPLE_FAULT_EVENT = 218;
export const KVM_CAP_X86_NOTIFY_VMEXIT = 219;
export const KVM_CAP_VM_DISABLE_NX_HUGE_PAGES = 220;
export const KVM_CAP_S390_ZPCI_OP = 221;
export const KVM_CAP_S390_CPU_TOPOLOGY = 222;
export const KVM_CAP_DIRTY_LOG_RING_ACQ_REL = 223;
export const KVM_CAP_S390_PROTECTED_ASYNC_DISABLE = 224;
export const KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP = 225;
export const KVM_CAP_PMU_EVENT_MASKED_EVENTS = 226;
export const KVM_CAP_COUNTER_OFFSET = 227;
export const KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE = 228;
export const KVM_CAP_ARM_SUPPORTED_BLOCK_SIZES = 229;
export const KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES = 230;
export const KVM_CAP_USER_MEMORY2 = 231;
export const KVM_CAP_MEMORY_FAULT_INFO = 232;
export const KVM_CAP_MEMORY_ATTRIBUTES = 233;
export const KVM_CAP_GUEST_MEMFD = 234;
export const KVM_CAP_VM_TYPES = 235;
export const KVM_CAP_PRE_FAULT_MEMORY = 236;
export const KVM_CAP_X86_APIC_BUS_CYCLES_NS = 237;
export const KVM_CAP_X86_GUEST_MODE = 238;
export const KVM_CAP_ARM_WRITABLE_IMP_ID_REGS = 239;
export const KVM_CAP_ARM_EL2 = 240;
export const KVM_CAP_ARM_EL2_E2H0 = 241;
export const KVM_CAP_RISCV_MP_STATE_RESET = 242;
export const KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED = 243;
export const KVM_CAP_GUEST_MEMFD_FLAGS = 244;
export const KVM_CAP_ARM_SEA_TO_USER = 245;
export const KVM_CAP_S390_USER_OPEREXEC = 246;
export const KVM_CAP_S390_KEYOP = 247;
export const KVM_CAP_S390_VSIE_ESAMODE = 248;
export const KVM_CAP_S390_HPAGE_2G = 249;
export const KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL = 0xffffffff;
export const KVM_IRQ_ROUTING_IRQCHIP = 1;
export const KVM_IRQ_ROUTING_MSI = 2;
export const KVM_IRQ_ROUTING_S390_ADAPTER = 3;
export const KVM_IRQ_ROUTING_HV_SINT = 4;
export const KVM_IRQ_ROUTING_XEN_EVTCHN = 5;
export const KVM_IRQFD_FLAG_DEASSIGN = 0x1;
export const KVM_IRQFD_FLAG_RESAMPLE = 0x2;
export const KVM_CLOCK_TSC_STABLE = 2;
export const KVM_CLOCK_REALTIME = 0x4;
export const KVM_CLOCK_HOST_TSC = 0x8;
export const KVM_MMU_FSL_BOOKE_NOHV = 0;
export const KVM_MMU_FSL_BOOKE_HV = 1;
export const KVM_REG_ARCH_MASK = 0xff00000000000000n;
export const KVM_REG_GENERIC = 0x0n;
export const KVM_REG_PPC = 0x1000000000000000n;
export const KVM_REG_X86 = 0x2000000000000000n;
export const KVM_REG_IA64 = 0x3000000000000000n;
export const KVM_REG_ARM = 0x4000000000000000n;
export const KVM_REG_S390 = 0x5000000000000000n;
export const KVM_REG_ARM64 = 0x6000000000000000n;
export const KVM_REG_MIPS = 0x7000000000000000n;
export const KVM_REG_RISCV = 0x8000000000000000n;
export const KVM_REG_LOONGARCH = 0x9000000000000000n;
export const KVM_REG_SIZE_SHIFT = 52;
export const KVM_REG_SIZE_MASK = 0xf0000000000000n;
export const KVM_REG_SIZE_U8 = 0x0n;
export const KVM_REG_SIZE_U16 = 0x10000000000000n;
export const KVM_REG_SIZE_U32 = 0x20000000000000n;
export const KVM_REG_SIZE_U64 = 0x30000000000000n;
export const KVM_REG_SIZE_U128 = 0x40000000000000n;
export const KVM_REG_SIZE_U256 = 0x50000000000000n;
export const KVM_REG_SIZE_U512 = 0x60000000000000n;
export const KVM_REG_SIZE_U1024 = 0x70000000000000n;
export const KVM_REG_SIZE_U2048 = 0x80000000000000n;
export const KVM_MSI_VALID_DEVID = 0x1;
export const KVM_CREATE_DEVICE_TEST = 1;
export const KVM_DEV_VFIO_FILE = 1;
export const KVM_DEV_VFIO_FILE_ADD = 1;
export const KVM_DEV_VFIO_FILE_DEL = 2;
export const KVM_DEV_VFIO_GROUP = 1;
export const KVM_DEV_VFIO_GROUP_ADD = 1;
export const KVM_DEV_VFIO_GROUP_DEL = 2;
export const KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE = 3;
export const KVM_S390_KEYOP_ISKE = 0x1;
export const KVM_S390_KEYOP_RRBE = 0x2;
export const KVM_S390_KEYOP_SSKE = 0x3;
export const KVM_CREATE_VCPU = 0xae41;
export const KVM_GET_DIRTY_LOG = 0x4010ae42;
export const KVM_SET_NR_MMU_PAGES = 0xae44;
export const KVM_GET_NR_MMU_PAGES = 0xae45;
export const KVM_SET_USER_MEMORY_REGION = 0x4020ae46;
export const KVM_SET_TSS_ADDR = 0xae47;
export const KVM_SET_IDENTITY_MAP_ADDR = 0x4008ae48;
export const KVM_SET_USER_MEMORY_REGION2 = 0x40a0ae49;
export const KVM_S390_VCPU_FAULT = 0x4008ae52;
export const KVM_S390_KEYOP = 0xc010ae53;
export const KVM_CREATE_IRQCHIP = 0xae60;
export const KVM_IRQ_LINE = 0x4008ae61;
export const KVM_GET_IRQCHIP = 0xc208ae62;
export const KVM_SET_IRQCHIP = 0x8208ae63;
export const KVM_CREATE_PIT = 0xae64;
export const KVM_GET_PIT = 0xc048ae65;
export const KVM_SET_PIT = 0x8048ae66;
export const KVM_IRQ_LINE_STATUS = 0xc008ae67;
export const KVM_REGISTER_COALESCED_MMIO = 0x4010ae67;
export const KVM_UNREGISTER_COALESCED_MMIO = 0x4010ae68;
export const KVM_SET_GSI_ROUTING = 0x4008ae6a;
export const KVM_REINJECT_CONTROL = 0xae71;
export const KVM_IRQFD = 0x4020ae76;
export const KVM_CREATE_PIT2 = 0x4040ae77;
export const KVM_SET_BOOT_CPU_ID = 0xae78;
export const KVM_IOEVENTFD = 0x4040ae79;
export const KVM_XEN_HVM_CONFIG = 0x4038ae7a;
export const KVM_SET_CLOCK = 0x4030ae7b;
export const KVM_GET_CLOCK = 0x8030ae7c;
export const KVM_GET_PIT2 = 0x8070ae9f;
export const KVM_SET_PIT2 = 0x4070aea0;
export const KVM_SET_TSC_KHZ = 0xaea2;
export const KVM_GET_TSC_KHZ = 0xaea3;
export const KVM_SIGNAL_MSI = 0x4020aea5;
export const KVM_PPC_ALLOCATE_HTAB = 0xc004aea7;
export const KVM_ARM_SET_DEVICE_ADDR = 0x4010aeab;
export const KVM_SET_PMU_EVENT_FILTER = 0x4020aeb2;
export const KVM_PPC_SVM_OFF = 0xaeb3;
export const KVM_CREATE_DEVICE = 0xc00caee0;
export const KVM_SET_DEVICE_ATTR = 0x4018aee1;
export const KVM_GET_DEVICE_ATTR = 0x4018aee2;
export const KVM_HAS_DEVICE_ATTR = 0x4018aee3;
export const KVM_RUN = 0xae80;
export const KVM_GET_REGS = 0x8090ae81;
export const KVM_SET_REGS = 0x4090ae82;
export const KVM_GET_SREGS = 0x8138ae83;
export const KVM_SET_SREGS = 0x4138ae84;
export const KVM_TRANSLATE = 0xc018ae85;
export const KVM_INTERRUPT = 0x4004ae86;
export const KVM_GET_MSRS = 0xc008ae88;
export const KVM_SET_MSRS = 0x4008ae89;
export const KVM_SET_CPUID = 0x4008ae8a;
export const KVM_SET_SIGNAL_MASK = 0x4004ae8b;
export const KVM_GET_FPU = 0x81a0ae8c;
export const KVM_SET_FPU = 0x41a0ae8d;
export const KVM_GET_LAPIC = 0x8400ae8e;
export const KVM_SET_LAPIC = 0x4400ae8f;
export const KVM_SET_CPUID2 = 0x4008ae90;
export const KVM_GET_CPUID2 = 0xc008ae91;
export const KVM_TPR_ACCESS_REPORTING = 0xc028ae92;
export const KVM_SET_VAPIC_ADDR = 0x4008ae93;
export const KVM_S390_STORE_STATUS_NOADDR = 0xffffffffffffffffn;
export const KVM_S390_STORE_STATUS_PREFIXED = 0xfffffffffffffffen;
export const KVM_S390_STORE_STATUS = 0x4008ae95;
export const KVM_S390_INITIAL_RESET = 0xae97;
export const KVM_GET_MP_STATE = 0x8004ae98;
export const KVM_SET_MP_STATE = 0x4004ae99;
export const KVM_NMI = 0xae9a;
export const KVM_SET_GUEST_DEBUG = 0x4048ae9b;
export const KVM_X86_SETUP_MCE = 0x4008ae9c;
export const KVM_X86_GET_MCE_CAP_SUPPORTED = 0x8008ae9d;
export const KVM_X86_SET_MCE = 0x4040ae9e;
export const KVM_GET_VCPU_EVENTS = 0x8040ae9f;
export const KVM_SET_VCPU_EVENTS = 0x4040aea0;
export const KVM_GET_DEBUGREGS = 0x8080aea1;
export const KVM_SET_DEBUGREGS = 0x4080aea2;
export const KVM_ENABLE_CAP = 0x4068aea3;
export const KVM_GET_XSAVE = 0x9000aea4;
export const KVM_SET_XSAVE = 0x5000aea5;
export const KVM_GET_XCRS = 0x8188aea6;
export const KVM_SET_XCRS = 0x4188aea7;
export const KVM_DIRTY_TLB = 0x4010aeaa;
export const KVM_GET_ONE_REG = 0x4010aeab;
export const KVM_SET_ONE_REG = 0x4010aeac;
export const KVM_KVMCLOCK_CTRL = 0xaead;
export const KVM_GET_REG_LIST = 0xc008aeb0;
export const KVM_SMI = 0xaeb7;
export const KVM_MEMORY_ENCRYPT_OP = 0xc008aeba;
export const KVM_MEMORY_ENCRYPT_REG_REGION = 0x8010aebb;
export const KVM_MEMORY_ENCRYPT_UNREG_REGION = 0x8010aebc;
export const KVM_HYPERV_EVENTFD = 0x4018aebd;
export const KVM_GET_NESTED_STATE = 0xc080aebe;
export const KVM_SET_NESTED_STATE = 0x4080aebf;
export const KVM_CLEAR_DIRTY_LOG = 0xc018aec0;
export const KVM_GET_SUPPORTED_HV_CPUID = 0xc008aec1;
export const KVM_ARM_VCPU_FINALIZE = 0x4004aec2;
export const KVM_S390_NORMAL_RESET = 0xaec3;
export const KVM_S390_CLEAR_RESET = 0xaec4;
export const KVM_X86_SET_MSR_FILTER = 0x4188aec6;
export const KVM_RESET_DIRTY_RINGS = 0xaec7;
export const KVM_XEN_HVM_GET_ATTR = 0xc048aec8;
export const KVM_XEN_HVM_SET_ATTR = 0x4048aec9;
export const KVM_XEN_VCPU_GET_ATTR = 0xc048aeca;
export const KVM_XEN_VCPU_SET_ATTR = 0x4048aecb;
export const KVM_XEN_HVM_EVTCHN_SEND = 0x400caed0;
export const KVM_GET_SREGS2 = 0x8140aecc;
export const KVM_SET_SREGS2 = 0x4140aecd;
export const KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE = 0x1;
export const KVM_DIRTY_LOG_INITIALLY_SET = 0x2;
export const KVM_DIRTY_GFN_F_DIRTY = 0x1;
export const KVM_DIRTY_GFN_F_RESET = 0x2;
export const KVM_DIRTY_GFN_F_MASK = 0x3;
export const KVM_BUS_LOCK_DETECTION_OFF = 0x1;
export const KVM_BUS_LOCK_DETECTION_EXIT = 0x2;
export const KVM_PMU_CAP_DISABLE = 0x1;
export const KVM_STATS_TYPE_SHIFT = 0;
export const KVM_STATS_TYPE_MASK = 0xf;
export const KVM_STATS_TYPE_CUMULATIVE = 0x0;
export const KVM_STATS_TYPE_INSTANT = 0x1;
export const KVM_STATS_TYPE_PEAK = 0x2;
export const KVM_STATS_TYPE_LINEAR_HIST = 0x3;
export const KVM_STATS_TYPE_LOG_HIST = 0x4;
export const KVM_STATS_TYPE_MAX = 4;
export const KVM_STATS_UNIT_SHIFT = 4;
export const KVM_STATS_UNIT_MASK = 0xf0;
export const KVM_STATS_UNIT_NONE = 0x0;
export const KVM_STATS_UNIT_BYTES = 0x10;
export const KVM_STATS_UNIT_SECONDS = 0x20;
export const KVM_STATS_UNIT_CYCLES = 0x30;
export const KVM_STATS_UNIT_BOOLEAN = 0x40;
export const KVM_STATS_UNIT_MAX = 64;
export const KVM_STATS_BASE_SHIFT = 8;
export const KVM_STATS_BASE_MASK = 0xf00;
export const KVM_STATS_BASE_POW10 = 0x0;
export const KVM_STATS_BASE_POW2 = 0x100;
export const KVM_STATS_BASE_MAX = 256;
export const KVM_GET_STATS_FD = 0xaece;
export const KVM_GET_XSAVE2 = 0x9000aecf;
export const KVM_X86_NOTIFY_VMEXIT_ENABLED = 0x1n;
export const KVM_X86_NOTIFY_VMEXIT_USER = 0x2n;
export const KVM_SET_MEMORY_ATTRIBUTES = 0x4020aed2;
export const KVM_MEMORY_ATTRIBUTE_PRIVATE = 0x8n;
export const KVM_CREATE_GUEST_MEMFD = 0xc040aed4;
export const GUEST_MEMFD_FLAG_MMAP = 0x1n;
export const GUEST_MEMFD_FLAG_INIT_SHARED = 0x2n;
export const KVM_PRE_FAULT_MEMORY = 0xc040aed5;
export const KVM_ENOSYS = 1000;
export const KVM_EFAULT = 14;
export const KVM_EINVAL = 22;
export const KVM_E2BIG = 7;
export const KVM_EPERM = 1;
export const KVM_EOPNOTSUPP = 95;
export const KVM_HC_VAPIC_POLL_IRQ = 1;
export const KVM_HC_MMU_OP = 2;
export const KVM_HC_FEATURES = 3;
export const KVM_HC_PPC_MAP_MAGIC_PAGE = 4;
export const KVM_HC_KICK_CPU = 5;
export const KVM_HC_MIPS_GET_CLOCK_FREQ = 6;
export const KVM_HC_MIPS_EXIT_VM = 7;
export const KVM_HC_MIPS_CONSOLE_OUTPUT = 8;
export const KVM_HC_CLOCK_PAIRING = 9;
export const KVM_HC_SEND_IPI = 10;
export const KVM_HC_SCHED_YIELD = 11;
export const KVM_HC_MAP_GPA_RANGE = 12;
export const KVM_CPUID_SIGNATURE = 0x40000000;
export const KVM_SIGNATURE = 'KVMKVMKVM\x00\x00\x00';
export const KVM_CPUID_FEATURES = 0x40000001;
export const KVM_FEATURE_CLOCKSOURCE = 0;
export const KVM_FEATURE_NOP_IO_DELAY = 1;
export const KVM_FEATURE_MMU_OP = 2;
export const KVM_FEATURE_CLOCKSOURCE2 = 3;
export const KVM_FEATURE_ASYNC_PF = 4;
export const KVM_FEATURE_STEAL_TIME = 5;
export const KVM_FEATURE_PV_EOI = 6;
export const KVM_FEATURE_PV_UNHALT = 7;
export const KVM_FEATURE_PV_TLB_FLUSH = 9;
export const KVM_FEATURE_ASYNC_PF_VMEXIT = 10;
export const KVM_FEATURE_PV_SEND_IPI = 11;
export const KVM_FEATURE_POLL_CONTROL = 12;
export const KVM_FEATURE_PV_SCHED_YIELD = 13;
export const KVM_FEATURE_ASYNC_PF_INT = 14;
export const KVM_FEATURE_MSI_EXT_DEST_ID = 15;
export const KVM_FEATURE_HC_MAP_GPA_RANGE = 16;
export const KVM_FEATURE_MIGRATION_CONTROL = 17;
export const KVM_HINTS_REALTIME = 0;
export const KVM_FEATURE_CLOCKSOURCE_STABLE_BIT = 24;
export const MSR_KVM_WALL_CLOCK = 0x11;
export const MSR_KVM_SYSTEM_TIME = 0x12;
export const KVM_MSR_ENABLED = 1;
export const MSR_KVM_WALL_CLOCK_NEW = 0x4b564d00;
export const MSR_KVM_SYSTEM_TIME_NEW = 0x4b564d01;
export const MSR_KVM_ASYNC_PF_EN = 0x4b564d02;
export const MSR_KVM_STEAL_TIME = 0x4b564d03;
export const MSR_KVM_PV_EOI_EN = 0x4b564d04;
export const MSR_KVM_POLL_CONTROL = 0x4b564d05;
export const MSR_KVM_ASYNC_PF_INT = 0x4b564d06;
export const MSR_KVM_ASYNC_PF_ACK = 0x4b564d07;
export const MSR_KVM_MIGRATION_CONTROL = 0x4b564d08;
export const KVM_VCPU_PREEMPTED = 0x1;
export const KVM_VCPU_FLUSH_TLB = 0x2;
export const KVM_CLOCK_PAIRING_WALLCLOCK = 0;
export const KVM_STEAL_ALIGNMENT_BITS = 5;
export const KVM_STEAL_VALID_BITS = 0xffffffffffffffc0n;
export const KVM_STEAL_RESERVED_MASK = 0x3e;
export const KVM_MAX_MMU_OP_BATCH = 32;
export const KVM_ASYNC_PF_ENABLED = 0x1;
export const KVM_ASYNC_PF_SEND_ALWAYS = 0x2;
export const KVM_ASYNC_PF_DELIVERY_AS_PF_VMEXIT = 0x4;
export const KVM_ASYNC_PF_DELIVERY_AS_INT = 0x8;
export const KVM_ASYNC_PF_VEC_MASK = 255;
export const KVM_MIGRATION_READY = 0x1;
export const KVM_MAP_GPA_RANGE_PAGE_SZ_4K = 0;
export const KVM_MAP_GPA_RANGE_PAGE_SZ_2M = 0x1;
export const KVM_MAP_GPA_RANGE_PAGE_SZ_1G = 0x2;
export const KVM_MAP_GPA_RANGE_ENCRYPTED = 16;
export const KVM_MAP_GPA_RANGE_DECRYPTED = 0;
export const KVM_MMU_OP_WRITE_PTE = 1;
export const KVM_MMU_OP_FLUSH_TLB = 2;
export const KVM_MMU_OP_RELEASE_PT = 3;
export const KVM_PV_REASON_PAGE_NOT_PRESENT = 1;
export const KVM_PV_REASON_PAGE_READY = 2;
export const KVM_PV_EOI_BIT = 0;
export const KVM_PV_EOI_MASK = 0x1;
export const KVM_PV_EOI_ENABLED = 1;
export const KVM_PV_EOI_DISABLED = 0x0;

export interface kvm_pic_state {
  last_irr: number;
  irr: number;
  imr: number;
  isr: number;
  priority_add: number;
  irq_base: number;
  read_reg_select: number;
  poll: number;
  special_mask: number;
  init_state: number;
  auto_eoi: number;
  rotate_on_auto_eoi: number;
  special_fully_nested_mode: number;
  init4: number;
  elcr: number;
  elcr_mask: number;
}
export const kvm_pic_state: Struct<kvm_pic_state> = struct('kvm_pic_state', 'struct', 16, 1, `
  0 __u8 last_irr;
  1 __u8 irr;
  2 __u8 imr;
  3 __u8 isr;
  4 __u8 priority_add;
  5 __u8 irq_base;
  6 __u8 read_reg_select;
  7 __u8 poll;
  8 __u8 special_mask;
  9 __u8 init_state;
  10 __u8 auto_eoi;
  11 __u8 rotate_on_auto_eoi;
  12 __u8 special_fully_nested_mode;
  13 __u8 init4;
  14 __u8 elcr;
  15 __u8 elcr_mask;
`);

export interface kvm_ioapic_state {
  base_address: bigint;
  ioregsel: number;
  id: number;
  irr: number;
  pad: number;
  redirtbl: {
    bits: bigint;
    fields: {
      vector: number;
      delivery_mode: number;
      dest_mode: number;
      delivery_status: number;
      polarity: number;
      remote_irr: number;
      trig_mode: number;
      mask: number;
      reserve: number;
      reserved: Uint8Array;
      dest_id: number;
    };
    readonly [unionMembers]?: 'bits' | 'fields';
  }[];
}
export const kvm_ioapic_state: Struct<kvm_ioapic_state> = struct('kvm_ioapic_state', 'struct', 216, 8, `
  0 __u64 base_address;
  8 __u32 ioregsel;
  12 __u32 id;
  16 __u32 irr;
  20 __u32 pad;
  24 union 8,8 {
    0 __u64 bits;
    0 struct 8,1 {
      0 __u8 vector;
      1 __u8 delivery_mode:0+3;
      1 __u8 dest_mode:3+1;
      1 __u8 delivery_status:4+1;
      1 __u8 polarity:5+1;
      1 __u8 remote_irr:6+1;
      1 __u8 trig_mode:7+1;
      2 __u8 mask:0+1;
      2 __u8 reserve:1+7;
      3 __u8 reserved[4];
      7 __u8 dest_id;
    } fields;
  } redirtbl[24];
`);

export interface kvm_regs {
  rax: bigint;
  rbx: bigint;
  rcx: bigint;
  rdx: bigint;
  rsi: bigint;
  rdi: bigint;
  rsp: bigint;
  rbp: bigint;
  r8: bigint;
  r9: bigint;
  r10: bigint;
  r11: bigint;
  r12: bigint;
  r13: bigint;
  r14: bigint;
  r15: bigint;
  rip: bigint;
  rflags: bigint;
}
export const kvm_regs: Struct<kvm_regs> = struct('kvm_regs', 'struct', 144, 8, `
  0 __u64 rax;
  8 __u64 rbx;
  16 __u64 rcx;
  24 __u64 rdx;
  32 __u64 rsi;
  40 __u64 rdi;
  48 __u64 rsp;
  56 __u64 rbp;
  64 __u64 r8;
  72 __u64 r9;
  80 __u64 r10;
  88 __u64 r11;
  96 __u64 r12;
  104 __u64 r13;
  112 __u64 r14;
  120 __u64 r15;
  128 __u64 rip;
  136 __u64 rflags;
`);

export interface kvm_lapic_state {
  regs: Uint8Array;
}
export const kvm_lapic_state: Struct<kvm_lapic_state> = struct('kvm_lapic_state', 'struct', 1024, 1, `
  0 char regs[1024];
`);

export interface kvm_segment {
  base: bigint;
  limit: number;
  selector: number;
  type: number;
  present: number;
  dpl: number;
  db: number;
  s: number;
  l: number;
  g: number;
  avl: number;
  unusable: number;
  padding: number;
}
export const kvm_segment: Struct<kvm_segment> = struct('kvm_segment', 'struct', 24, 8, `
  0 __u64 base;
  8 __u32 limit;
  12 __u16 selector;
  14 __u8 type;
  15 __u8 present;
  16 __u8 dpl;
  17 __u8 db;
  18 __u8 s;
  19 __u8 l;
  20 __u8 g;
  21 __u8 avl;
  22 __u8 unusable;
  23 __u8 padding;
`);

export interface kvm_dtable {
  base: bigint;
  limit: number;
  padding: number[];
}
export const kvm_dtable: Struct<kvm_dtable> = struct('kvm_dtable', 'struct', 16, 8, `
  0 __u64 base;
  8 __u16 limit;
  10 __u16 padding[3];
`);

export interface kvm_sregs {
  cs: kvm_segment;
  ds: kvm_segment;
  es: kvm_segment;
  fs: kvm_segment;
  gs: kvm_segment;
  ss: kvm_segment;
  tr: kvm_segment;
  ldt: kvm_segment;
  gdt: kvm_dtable;
  idt: kvm_dtable;
  cr0: bigint;
  cr2: bigint;
  cr3: bigint;
  cr4: bigint;
  cr8: bigint;
  efer: bigint;
  apic_base: bigint;
  interrupt_bitmap: bigint[];
}
export const kvm_sregs: Struct<kvm_sregs> = struct('kvm_sregs', 'struct', 312, 8, `
  0 struct kvm_segment cs;
  24 struct kvm_segment ds;
  48 struct kvm_segment es;
  72 struct kvm_segment fs;
  96 struct kvm_segment gs;
  120 struct kvm_segment ss;
  144 struct kvm_segment tr;
  168 struct kvm_segment ldt;
  192 struct kvm_dtable gdt;
  208 struct kvm_dtable idt;
  224 __u64 cr0;
  232 __u64 cr2;
  240 __u64 cr3;
  248 __u64 cr4;
  256 __u64 cr8;
  264 __u64 efer;
  272 __u64 apic_base;
  280 __u64 interrupt_bitmap[4];
`, [kvm_segment, kvm_dtable]);

export interface kvm_sregs2 {
  cs: kvm_segment;
  ds: kvm_segment;
  es: kvm_segment;
  fs: kvm_segment;
  gs: kvm_segment;
  ss: kvm_segment;
  tr: kvm_segment;
  ldt: kvm_segment;
  gdt: kvm_dtable;
  idt: kvm_dtable;
  cr0: bigint;
  cr2: bigint;
  cr3: bigint;
  cr4: bigint;
  cr8: bigint;
  efer: bigint;
  apic_base: bigint;
  flags: bigint;
  pdptrs: bigint[];
}
export const kvm_sregs2: Struct<kvm_sregs2> = struct('kvm_sregs2', 'struct', 320, 8, `
  0 struct kvm_segment cs;
  24 struct kvm_segment ds;
  48 struct kvm_segment es;
  72 struct kvm_segment fs;
  96 struct kvm_segment gs;
  120 struct kvm_segment ss;
  144 struct kvm_segment tr;
  168 struct kvm_segment ldt;
  192 struct kvm_dtable gdt;
  208 struct kvm_dtable idt;
  224 __u64 cr0;
  232 __u64 cr2;
  240 __u64 cr3;
  248 __u64 cr4;
  256 __u64 cr8;
  264 __u64 efer;
  272 __u64 apic_base;
  280 __u64 flags;
  288 __u64 pdptrs[4];
`, [kvm_segment, kvm_dtable]);

export interface kvm_fpu {
  fpr: Uint8Array[];
  fcw: number;
  fsw: number;
  ftwx: number;
  pad1: number;
  last_opcode: number;
  last_ip: bigint;
  last_dp: bigint;
  xmm: Uint8Array[];
  mxcsr: number;
  pad2: number;
}
export const kvm_fpu: Struct<kvm_fpu> = struct('kvm_fpu', 'struct', 416, 8, `
  0 __u8 fpr[8][16];
  128 __u16 fcw;
  130 __u16 fsw;
  132 __u8 ftwx;
  133 __u8 pad1;
  134 __u16 last_opcode;
  136 __u64 last_ip;
  144 __u64 last_dp;
  152 __u8 xmm[16][16];
  408 __u32 mxcsr;
  412 __u32 pad2;
`);

export interface kvm_msr_entry {
  index: number;
  reserved: number;
  data: bigint;
}
export const kvm_msr_entry: Struct<kvm_msr_entry> = struct('kvm_msr_entry', 'struct', 16, 8, `
  0 __u32 index;
  4 __u32 reserved;
  8 __u64 data;
`);

export interface kvm_msrs {
  nmsrs: number;
  pad: number;
  entries: kvm_msr_entry[];
}
export const kvm_msrs: Struct<kvm_msrs> = struct('kvm_msrs', 'struct', 8, 8, `
  0 __u32 nmsrs;
  4 __u32 pad;
  8 struct 0,1 {
    0 struct kvm_msr_entry entries[nmsrs];
  };
`, [kvm_msr_entry]);

export interface kvm_msr_list {
  nmsrs: number;
  indices: number[];
}
export const kvm_msr_list: Struct<kvm_msr_list> = struct('kvm_msr_list', 'struct', 4, 4, `
  0 __u32 nmsrs;
  4 struct 0,1 {
    0 __u32 indices[nmsrs];
  };
`);

export interface kvm_msr_filter_range {
  flags: number;
  nmsrs: number;
  base: number;
  bitmap: bigint;
}
export const kvm_msr_filter_range: Struct<kvm_msr_filter_range> = struct('kvm_msr_filter_range', 'struct', 24, 8, `
  0 __u32 flags;
  4 __u32 nmsrs;
  8 __u32 base;
  16 __u8 * bitmap;
`);

export interface kvm_msr_filter {
  flags: number;
  ranges: kvm_msr_filter_range[];
}
export const kvm_msr_filter: Struct<kvm_msr_filter> = struct('kvm_msr_filter', 'struct', 392, 8, `
  0 __u32 flags;
  8 struct kvm_msr_filter_range ranges[16];
`, [kvm_msr_filter_range]);

export interface kvm_cpuid_entry {
  function: number;
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
  padding: number;
}
export const kvm_cpuid_entry: Struct<kvm_cpuid_entry> = struct('kvm_cpuid_entry', 'struct', 24, 4, `
  0 __u32 function;
  4 __u32 eax;
  8 __u32 ebx;
  12 __u32 ecx;
  16 __u32 edx;
  20 __u32 padding;
`);

export interface kvm_cpuid {
  nent: number;
  padding: number;
  entries: kvm_cpuid_entry[];
}
export const kvm_cpuid: Struct<kvm_cpuid> = struct('kvm_cpuid', 'struct', 8, 4, `
  0 __u32 nent;
  4 __u32 padding;
  8 struct 0,1 {
    0 struct kvm_cpuid_entry entries[nent];
  };
`, [kvm_cpuid_entry]);

export interface kvm_cpuid_entry2 {
  function: number;
  index: number;
  flags: number;
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
  padding: number[];
}
export const kvm_cpuid_entry2: Struct<kvm_cpuid_entry2> = struct('kvm_cpuid_entry2', 'struct', 40, 4, `
  0 __u32 function;
  4 __u32 index;
  8 __u32 flags;
  12 __u32 eax;
  16 __u32 ebx;
  20 __u32 ecx;
  24 __u32 edx;
  28 __u32 padding[3];
`);

export interface kvm_cpuid2 {
  nent: number;
  padding: number;
  entries: kvm_cpuid_entry2[];
}
export const kvm_cpuid2: Struct<kvm_cpuid2> = struct('kvm_cpuid2', 'struct', 8, 4, `
  0 __u32 nent;
  4 __u32 padding;
  8 struct 0,1 {
    0 struct kvm_cpuid_entry2 entries[nent];
  };
`, [kvm_cpuid_entry2]);

export interface kvm_pit_channel_state {
  count: number;
  latched_count: number;
  count_latched: number;
  status_latched: number;
  status: number;
  read_state: number;
  write_state: number;
  write_latch: number;
  rw_mode: number;
  mode: number;
  bcd: number;
  gate: number;
  count_load_time: bigint;
}
export const kvm_pit_channel_state: Struct<kvm_pit_channel_state> = struct('kvm_pit_channel_state', 'struct', 24, 8, `
  0 __u32 count;
  4 __u16 latched_count;
  6 __u8 count_latched;
  7 __u8 status_latched;
  8 __u8 status;
  9 __u8 read_state;
  10 __u8 write_state;
  11 __u8 write_latch;
  12 __u8 rw_mode;
  13 __u8 mode;
  14 __u8 bcd;
  15 __u8 gate;
  16 __s64 count_load_time;
`);

export interface kvm_debug_exit_arch {
  exception: number;
  pad: number;
  pc: bigint;
  dr6: bigint;
  dr7: bigint;
}
export const kvm_debug_exit_arch: Struct<kvm_debug_exit_arch> = struct('kvm_debug_exit_arch', 'struct', 32, 8, `
  0 __u32 exception;
  4 __u32 pad;
  8 __u64 pc;
  16 __u64 dr6;
  24 __u64 dr7;
`);

export interface kvm_guest_debug_arch {
  debugreg: bigint[];
}
export const kvm_guest_debug_arch: Struct<kvm_guest_debug_arch> = struct('kvm_guest_debug_arch', 'struct', 64, 8, `
  0 __u64 debugreg[8];
`);

export interface kvm_pit_state {
  channels: kvm_pit_channel_state[];
}
export const kvm_pit_state: Struct<kvm_pit_state> = struct('kvm_pit_state', 'struct', 72, 8, `
  0 struct kvm_pit_channel_state channels[3];
`, [kvm_pit_channel_state]);

export interface kvm_pit_state2 {
  channels: kvm_pit_channel_state[];
  flags: number;
  reserved: number[];
}
export const kvm_pit_state2: Struct<kvm_pit_state2> = struct('kvm_pit_state2', 'struct', 112, 8, `
  0 struct kvm_pit_channel_state channels[3];
  72 __u32 flags;
  76 __u32 reserved[9];
`, [kvm_pit_channel_state]);

export interface kvm_reinject_control {
  pit_reinject: number;
  reserved: Uint8Array;
}
export const kvm_reinject_control: Struct<kvm_reinject_control> = struct('kvm_reinject_control', 'struct', 32, 1, `
  0 __u8 pit_reinject;
  1 __u8 reserved[31];
`);

export interface kvm_vcpu_events {
  exception: {
    injected: number;
    nr: number;
    has_error_code: number;
    pending: number;
    error_code: number;
  };
  interrupt: {
    injected: number;
    nr: number;
    soft: number;
    shadow: number;
  };
  nmi: {
    injected: number;
    pending: number;
    masked: number;
    pad: number;
  };
  sipi_vector: number;
  flags: number;
  smi: {
    smm: number;
    pending: number;
    smm_inside_nmi: number;
    latched_init: number;
  };
  triple_fault: {
    pending: number;
  };
  reserved: Uint8Array;
  exception_has_payload: number;
  exception_payload: bigint;
}
export const kvm_vcpu_events: Struct<kvm_vcpu_events> = struct('kvm_vcpu_events', 'struct', 64, 8, `
  0 struct 8,4 {
    0 __u8 injected;
    1 __u8 nr;
    2 __u8 has_error_code;
    3 __u8 pending;
    4 __u32 error_code;
  } exception;
  8 struct 4,1 {
    0 __u8 injected;
    1 __u8 nr;
    2 __u8 soft;
    3 __u8 shadow;
  } interrupt;
  12 struct 4,1 {
    0 __u8 injected;
    1 __u8 pending;
    2 __u8 masked;
    3 __u8 pad;
  } nmi;
  16 __u32 sipi_vector;
  20 __u32 flags;
  24 struct 4,1 {
    0 __u8 smm;
    1 __u8 pending;
    2 __u8 smm_inside_nmi;
    3 __u8 latched_init;
  } smi;
  28 struct 1,1 {
    0 __u8 pending;
  } triple_fault;
  29 __u8 reserved[26];
  55 __u8 exception_has_payload;
  56 __u64 exception_payload;
`);

export interface kvm_debugregs {
  db: bigint[];
  dr6: bigint;
  dr7: bigint;
  flags: bigint;
  reserved: bigint[];
}
export const kvm_debugregs: Struct<kvm_debugregs> = struct('kvm_debugregs', 'struct', 128, 8, `
  0 __u64 db[4];
  32 __u64 dr6;
  40 __u64 dr7;
  48 __u64 flags;
  56 __u64 reserved[9];
`);

export interface kvm_xsave {
  region: number[];
  extra: number[];
}
export const kvm_xsave: Struct<kvm_xsave> = struct('kvm_xsave', 'struct', 4096, 4, `
  0 __u32 region[1024];
  4096 struct 0,1 {
    0 __u32 extra[];
  };
`);

export interface kvm_xcr {
  xcr: number;
  reserved: number;
  value: bigint;
}
export const kvm_xcr: Struct<kvm_xcr> = struct('kvm_xcr', 'struct', 16, 8, `
  0 __u32 xcr;
  4 __u32 reserved;
  8 __u64 value;
`);

export interface kvm_xcrs {
  nr_xcrs: number;
  flags: number;
  xcrs: kvm_xcr[];
  padding: bigint[];
}
export const kvm_xcrs: Struct<kvm_xcrs> = struct('kvm_xcrs', 'struct', 392, 8, `
  0 __u32 nr_xcrs;
  4 __u32 flags;
  8 struct kvm_xcr xcrs[16];
  264 __u64 padding[16];
`, [kvm_xcr]);

export interface kvm_sync_regs {
  regs: kvm_regs;
  sregs: kvm_sregs;
  events: kvm_vcpu_events;
}
export const kvm_sync_regs: Struct<kvm_sync_regs> = struct('kvm_sync_regs', 'struct', 520, 8, `
  0 struct kvm_regs regs;
  144 struct kvm_sregs sregs;
  456 struct kvm_vcpu_events events;
`, [kvm_regs, kvm_sregs, kvm_vcpu_events]);

export interface kvm_vmx_nested_state_data {
  vmcs12: Uint8Array;
  shadow_vmcs12: Uint8Array;
}
export const kvm_vmx_nested_state_data: Struct<kvm_vmx_nested_state_data> = struct('kvm_vmx_nested_state_data', 'struct', 8192, 1, `
  0 __u8 vmcs12[4096];
  4096 __u8 shadow_vmcs12[4096];
`);

export interface kvm_vmx_nested_state_hdr {
  vmxon_pa: bigint;
  vmcs12_pa: bigint;
  smm: {
    flags: number;
  };
  pad: number;
  flags: number;
  preemption_timer_deadline: bigint;
}
export const kvm_vmx_nested_state_hdr: Struct<kvm_vmx_nested_state_hdr> = struct('kvm_vmx_nested_state_hdr', 'struct', 32, 8, `
  0 __u64 vmxon_pa;
  8 __u64 vmcs12_pa;
  16 struct 2,2 {
    0 __u16 flags;
  } smm;
  18 __u16 pad;
  20 __u32 flags;
  24 __u64 preemption_timer_deadline;
`);

export interface kvm_svm_nested_state_data {
  vmcb12: Uint8Array;
}
export const kvm_svm_nested_state_data: Struct<kvm_svm_nested_state_data> = struct('kvm_svm_nested_state_data', 'struct', 4096, 1, `
  0 __u8 vmcb12[4096];
`);

export interface kvm_svm_nested_state_hdr {
  vmcb_pa: bigint;
  gpat: bigint;
}
export const kvm_svm_nested_state_hdr: Struct<kvm_svm_nested_state_hdr> = struct('kvm_svm_nested_state_hdr', 'struct', 16, 8, `
  0 __u64 vmcb_pa;
  8 __u64 gpat;
`);

export interface kvm_nested_state {
  flags: number;
  format: number;
  size: number;
  hdr: {
    vmx: kvm_vmx_nested_state_hdr;
    svm: kvm_svm_nested_state_hdr;
    pad: Uint8Array;
    readonly [unionMembers]?: 'vmx' | 'svm' | 'pad';
  };
  data: {
    vmx: kvm_vmx_nested_state_data[];
    svm: kvm_svm_nested_state_data[];
    readonly [unionMembers]?: 'vmx' | 'svm';
  };
}
export const kvm_nested_state: Struct<kvm_nested_state> = struct('kvm_nested_state', 'struct', 128, 8, `
  0 __u16 flags;
  2 __u16 format;
  4 __u32 size;
  8 union 120,8 {
    0 struct kvm_vmx_nested_state_hdr vmx;
    0 struct kvm_svm_nested_state_hdr svm;
    0 __u8 pad[120];
  } hdr;
  128 union 0,1 {
    0 struct 0,1 {
      0 struct kvm_vmx_nested_state_data vmx[];
    };
    0 struct 0,1 {
      0 struct kvm_svm_nested_state_data svm[];
    };
  } data;
`, [kvm_vmx_nested_state_hdr, kvm_svm_nested_state_hdr, kvm_vmx_nested_state_data, kvm_svm_nested_state_data]);

export interface kvm_pmu_event_filter {
  action: number;
  nevents: number;
  fixed_counter_bitmap: number;
  flags: number;
  pad: number[];
  events: bigint[];
}
export const kvm_pmu_event_filter: Struct<kvm_pmu_event_filter> = struct('kvm_pmu_event_filter', 'struct', 32, 8, `
  0 __u32 action;
  4 __u32 nevents;
  8 __u32 fixed_counter_bitmap;
  12 __u32 flags;
  16 __u32 pad[4];
  32 struct 0,1 {
    0 __u64 events[nevents];
  };
`);

export interface kvm_x86_mce {
  status: bigint;
  addr: bigint;
  misc: bigint;
  mcg_status: bigint;
  bank: number;
  pad1: Uint8Array;
  pad2: bigint[];
}
export const kvm_x86_mce: Struct<kvm_x86_mce> = struct('kvm_x86_mce', 'struct', 64, 8, `
  0 __u64 status;
  8 __u64 addr;
  16 __u64 misc;
  24 __u64 mcg_status;
  32 __u8 bank;
  33 __u8 pad1[7];
  40 __u64 pad2[3];
`);

export interface kvm_xen_hvm_config {
  flags: number;
  msr: number;
  blob_addr_32: bigint;
  blob_addr_64: bigint;
  blob_size_32: number;
  blob_size_64: number;
  pad2: Uint8Array;
}
export const kvm_xen_hvm_config: Struct<kvm_xen_hvm_config> = struct('kvm_xen_hvm_config', 'struct', 56, 8, `
  0 __u32 flags;
  4 __u32 msr;
  8 __u64 @blob_addr_32;
  16 __u64 @blob_addr_64;
  24 __u8 blob_size_32;
  25 __u8 blob_size_64;
  26 __u8 pad2[30];
`);

export interface kvm_xen_hvm_attr {
  type: number;
  pad: number[];
  u: {
    long_mode: number;
    vector: number;
    runstate_update_flag: number;
    shared_info: {
      gfn: bigint;
      hva: bigint;
      readonly [unionMembers]?: 'gfn' | 'hva';
    };
    evtchn: {
      send_port: number;
      type: number;
      flags: number;
      deliver: {
        port: {
          port: number;
          vcpu: number;
          priority: number;
        };
        eventfd: {
          port: number;
          fd: number;
        };
        padding: number[];
        readonly [unionMembers]?: 'port' | 'eventfd' | 'padding';
      };
    };
    xen_version: number;
    pad: bigint[];
    readonly [unionMembers]?: 'long_mode' | 'vector' | 'runstate_update_flag' | 'shared_info' | 'evtchn' | 'xen_version' | 'pad';
  };
}
export const kvm_xen_hvm_attr: Struct<kvm_xen_hvm_attr> = struct('kvm_xen_hvm_attr', 'struct', 72, 8, `
  0 __u16 type;
  2 __u16 pad[3];
  8 union 64,8 {
    0 __u8 long_mode;
    0 __u8 vector;
    0 __u8 runstate_update_flag;
    0 union 8,8 {
      0 __u64 gfn;
      0 __u64 @hva;
    } shared_info;
    0 struct 28,4 {
      0 __u32 send_port;
      4 __u32 type;
      8 __u32 flags;
      12 union 16,4 {
        0 struct 12,4 {
          0 __u32 port;
          4 __u32 vcpu;
          8 __u32 priority;
        } port;
        0 struct 8,4 {
          0 __u32 port;
          4 __s32 fd;
        } eventfd;
        0 __u32 padding[4];
      } deliver;
    } evtchn;
    0 __u32 xen_version;
    0 __u64 pad[8];
  } u;
`);

export interface kvm_xen_vcpu_attr {
  type: number;
  pad: number[];
  u: {
    gpa: bigint;
    hva: bigint;
    pad: bigint[];
    runstate: {
      state: bigint;
      state_entry_time: bigint;
      time_running: bigint;
      time_runnable: bigint;
      time_blocked: bigint;
      time_offline: bigint;
    };
    vcpu_id: number;
    timer: {
      port: number;
      priority: number;
      expires_ns: bigint;
    };
    vector: number;
    readonly [unionMembers]?: 'gpa' | 'hva' | 'pad' | 'runstate' | 'vcpu_id' | 'timer' | 'vector';
  };
}
export const kvm_xen_vcpu_attr: Struct<kvm_xen_vcpu_attr> = struct('kvm_xen_vcpu_attr', 'struct', 72, 8, `
  0 __u16 type;
  2 __u16 pad[3];
  8 union 64,8 {
    0 __u64 gpa;
    0 __u64 @hva;
    0 __u64 pad[8];
    0 struct 48,8 {
      0 __u64 state;
      8 __u64 state_entry_time;
      16 __u64 time_running;
      24 __u64 time_runnable;
      32 __u64 time_blocked;
      40 __u64 time_offline;
    } runstate;
    0 __u32 vcpu_id;
    0 struct 16,8 {
      0 __u32 port;
      4 __u32 priority;
      8 __u64 expires_ns;
    } timer;
    0 __u8 vector;
  } u;
`);

export interface kvm_sev_cmd {
  id: number;
  pad0: number;
  data: bigint;
  error: number;
  sev_fd: number;
}
export const kvm_sev_cmd: Struct<kvm_sev_cmd> = struct('kvm_sev_cmd', 'struct', 24, 8, `
  0 __u32 id;
  4 __u32 pad0;
  8 __u64 @data;
  16 __u32 error;
  20 __u32 sev_fd;
`);

export interface kvm_sev_init {
  vmsa_features: bigint;
  flags: number;
  ghcb_version: number;
  pad1: number;
  pad2: number[];
}
export const kvm_sev_init: Struct<kvm_sev_init> = struct('kvm_sev_init', 'struct', 48, 8, `
  0 __u64 vmsa_features;
  8 __u32 flags;
  12 __u16 ghcb_version;
  14 __u16 pad1;
  16 __u32 pad2[8];
`);

export interface kvm_sev_launch_start {
  handle: number;
  policy: number;
  dh_uaddr: bigint;
  dh_len: number;
  pad0: number;
  session_uaddr: bigint;
  session_len: number;
  pad1: number;
}
export const kvm_sev_launch_start: Struct<kvm_sev_launch_start> = struct('kvm_sev_launch_start', 'struct', 40, 8, `
  0 __u32 handle;
  4 __u32 policy;
  8 __u64 @dh_uaddr;
  16 __u32 dh_len;
  20 __u32 pad0;
  24 __u64 @session_uaddr;
  32 __u32 session_len;
  36 __u32 pad1;
`);

export interface kvm_sev_launch_update_data {
  uaddr: bigint;
  len: number;
  pad0: number;
}
export const kvm_sev_launch_update_data: Struct<kvm_sev_launch_update_data> = struct('kvm_sev_launch_update_data', 'struct', 16, 8, `
  0 __u64 @uaddr;
  8 __u32 len;
  12 __u32 pad0;
`);

export interface kvm_sev_launch_secret {
  hdr_uaddr: bigint;
  hdr_len: number;
  pad0: number;
  guest_uaddr: bigint;
  guest_len: number;
  pad1: number;
  trans_uaddr: bigint;
  trans_len: number;
  pad2: number;
}
export const kvm_sev_launch_secret: Struct<kvm_sev_launch_secret> = struct('kvm_sev_launch_secret', 'struct', 48, 8, `
  0 __u64 @hdr_uaddr;
  8 __u32 hdr_len;
  12 __u32 pad0;
  16 __u64 @guest_uaddr;
  24 __u32 guest_len;
  28 __u32 pad1;
  32 __u64 @trans_uaddr;
  40 __u32 trans_len;
  44 __u32 pad2;
`);

export interface kvm_sev_launch_measure {
  uaddr: bigint;
  len: number;
  pad0: number;
}
export const kvm_sev_launch_measure: Struct<kvm_sev_launch_measure> = struct('kvm_sev_launch_measure', 'struct', 16, 8, `
  0 __u64 @uaddr;
  8 __u32 len;
  12 __u32 pad0;
`);

export interface kvm_sev_guest_status {
  handle: number;
  policy: number;
  state: number;
}
export const kvm_sev_guest_status: Struct<kvm_sev_guest_status> = struct('kvm_sev_guest_status', 'struct', 12, 4, `
  0 __u32 handle;
  4 __u32 policy;
  8 __u32 state;
`);

export interface kvm_sev_dbg {
  src_uaddr: bigint;
  dst_uaddr: bigint;
  len: number;
  pad0: number;
}
export const kvm_sev_dbg: Struct<kvm_sev_dbg> = struct('kvm_sev_dbg', 'struct', 24, 8, `
  0 __u64 @src_uaddr;
  8 __u64 @dst_uaddr;
  16 __u32 len;
  20 __u32 pad0;
`);

export interface kvm_sev_attestation_report {
  mnonce: Uint8Array;
  uaddr: bigint;
  len: number;
  pad0: number;
}
export const kvm_sev_attestation_report: Struct<kvm_sev_attestation_report> = struct('kvm_sev_attestation_report', 'struct', 32, 8, `
  0 __u8 mnonce[16];
  16 __u64 @uaddr;
  24 __u32 len;
  28 __u32 pad0;
`);

export interface kvm_sev_send_start {
  policy: number;
  pad0: number;
  pdh_cert_uaddr: bigint;
  pdh_cert_len: number;
  pad1: number;
  plat_certs_uaddr: bigint;
  plat_certs_len: number;
  pad2: number;
  amd_certs_uaddr: bigint;
  amd_certs_len: number;
  pad3: number;
  session_uaddr: bigint;
  session_len: number;
  pad4: number;
}
export const kvm_sev_send_start: Struct<kvm_sev_send_start> = struct('kvm_sev_send_start', 'struct', 72, 8, `
  0 __u32 policy;
  4 __u32 pad0;
  8 __u64 @pdh_cert_uaddr;
  16 __u32 pdh_cert_len;
  20 __u32 pad1;
  24 __u64 @plat_certs_uaddr;
  32 __u32 plat_certs_len;
  36 __u32 pad2;
  40 __u64 @amd_certs_uaddr;
  48 __u32 amd_certs_len;
  52 __u32 pad3;
  56 __u64 @session_uaddr;
  64 __u32 session_len;
  68 __u32 pad4;
`);

export interface kvm_sev_send_update_data {
  hdr_uaddr: bigint;
  hdr_len: number;
  pad0: number;
  guest_uaddr: bigint;
  guest_len: number;
  pad1: number;
  trans_uaddr: bigint;
  trans_len: number;
  pad2: number;
}
export const kvm_sev_send_update_data: Struct<kvm_sev_send_update_data> = struct('kvm_sev_send_update_data', 'struct', 48, 8, `
  0 __u64 @hdr_uaddr;
  8 __u32 hdr_len;
  12 __u32 pad0;
  16 __u64 @guest_uaddr;
  24 __u32 guest_len;
  28 __u32 pad1;
  32 __u64 @trans_uaddr;
  40 __u32 trans_len;
  44 __u32 pad2;
`);

export interface kvm_sev_receive_start {
  handle: number;
  policy: number;
  pdh_uaddr: bigint;
  pdh_len: number;
  pad0: number;
  session_uaddr: bigint;
  session_len: number;
  pad1: number;
}
export const kvm_sev_receive_start: Struct<kvm_sev_receive_start> = struct('kvm_sev_receive_start', 'struct', 40, 8, `
  0 __u32 handle;
  4 __u32 policy;
  8 __u64 @pdh_uaddr;
  16 __u32 pdh_len;
  20 __u32 pad0;
  24 __u64 @session_uaddr;
  32 __u32 session_len;
  36 __u32 pad1;
`);

export interface kvm_sev_receive_update_data {
  hdr_uaddr: bigint;
  hdr_len: number;
  pad0: number;
  guest_uaddr: bigint;
  guest_len: number;
  pad1: number;
  trans_uaddr: bigint;
  trans_len: number;
  pad2: number;
}
export const kvm_sev_receive_update_data: Struct<kvm_sev_receive_update_data> = struct('kvm_sev_receive_update_data', 'struct', 48, 8, `
  0 __u64 @hdr_uaddr;
  8 __u32 hdr_len;
  12 __u32 pad0;
  16 __u64 @guest_uaddr;
  24 __u32 guest_len;
  28 __u32 pad1;
  32 __u64 @trans_uaddr;
  40 __u32 trans_len;
  44 __u32 pad2;
`);

export interface kvm_sev_snp_launch_start {
  policy: bigint;
  gosvw: Uint8Array;
  flags: number;
  pad0: Uint8Array;
  pad1: bigint[];
}
export const kvm_sev_snp_launch_start: Struct<kvm_sev_snp_launch_start> = struct('kvm_sev_snp_launch_start', 'struct', 64, 8, `
  0 __u64 policy;
  8 __u8 gosvw[16];
  24 __u16 flags;
  26 __u8 pad0[6];
  32 __u64 pad1[4];
`);

export interface kvm_sev_snp_launch_update {
  gfn_start: bigint;
  uaddr: bigint;
  len: bigint;
  type: number;
  pad0: number;
  flags: number;
  pad1: number;
  pad2: bigint[];
}
export const kvm_sev_snp_launch_update: Struct<kvm_sev_snp_launch_update> = struct('kvm_sev_snp_launch_update', 'struct', 64, 8, `
  0 __u64 gfn_start;
  8 __u64 @uaddr;
  16 __u64 len;
  24 __u8 type;
  25 __u8 pad0;
  26 __u16 flags;
  28 __u32 pad1;
  32 __u64 pad2[4];
`);

export interface kvm_sev_snp_launch_finish {
  id_block_uaddr: bigint;
  id_auth_uaddr: bigint;
  id_block_en: number;
  auth_key_en: number;
  vcek_disabled: number;
  host_data: Uint8Array;
  pad0: Uint8Array;
  flags: number;
  pad1: bigint[];
}
export const kvm_sev_snp_launch_finish: Struct<kvm_sev_snp_launch_finish> = struct('kvm_sev_snp_launch_finish', 'struct', 88, 8, `
  0 __u64 @id_block_uaddr;
  8 __u64 @id_auth_uaddr;
  16 __u8 id_block_en;
  17 __u8 auth_key_en;
  18 __u8 vcek_disabled;
  19 __u8 host_data[32];
  51 __u8 pad0[3];
  54 __u16 flags;
  56 __u64 pad1[4];
`);

export interface kvm_hyperv_eventfd {
  conn_id: number;
  fd: number;
  flags: number;
  padding: number[];
}
export const kvm_hyperv_eventfd: Struct<kvm_hyperv_eventfd> = struct('kvm_hyperv_eventfd', 'struct', 24, 4, `
  0 __u32 conn_id;
  4 __s32 fd;
  8 __u32 flags;
  12 __u32 padding[3];
`);

export interface kvm_tdx_cmd {
  id: number;
  flags: number;
  data: bigint;
  hw_error: bigint;
}
export const kvm_tdx_cmd: Struct<kvm_tdx_cmd> = struct('kvm_tdx_cmd', 'struct', 24, 8, `
  0 __u32 id;
  4 __u32 flags;
  8 __u64 @data;
  16 __u64 hw_error;
`);

export interface kvm_tdx_capabilities {
  supported_attrs: bigint;
  supported_xfam: bigint;
  kernel_tdvmcallinfo_1_r11: bigint;
  user_tdvmcallinfo_1_r11: bigint;
  kernel_tdvmcallinfo_1_r12: bigint;
  user_tdvmcallinfo_1_r12: bigint;
  reserved: bigint[];
  cpuid: kvm_cpuid2;
}
export const kvm_tdx_capabilities: Struct<kvm_tdx_capabilities> = struct('kvm_tdx_capabilities', 'struct', 2056, 8, `
  0 __u64 supported_attrs;
  8 __u64 supported_xfam;
  16 __u64 kernel_tdvmcallinfo_1_r11;
  24 __u64 user_tdvmcallinfo_1_r11;
  32 __u64 kernel_tdvmcallinfo_1_r12;
  40 __u64 user_tdvmcallinfo_1_r12;
  48 __u64 reserved[250];
  2048 struct kvm_cpuid2 cpuid;
`, [kvm_cpuid2]);

export interface kvm_tdx_init_vm {
  attributes: bigint;
  xfam: bigint;
  mrconfigid: bigint[];
  mrowner: bigint[];
  mrownerconfig: bigint[];
  reserved: bigint[];
  cpuid: kvm_cpuid2;
}
export const kvm_tdx_init_vm: Struct<kvm_tdx_init_vm> = struct('kvm_tdx_init_vm', 'struct', 264, 8, `
  0 __u64 attributes;
  8 __u64 xfam;
  16 __u64 mrconfigid[6];
  64 __u64 mrowner[6];
  112 __u64 mrownerconfig[6];
  160 __u64 reserved[12];
  256 struct kvm_cpuid2 cpuid;
`, [kvm_cpuid2]);

export interface kvm_tdx_init_mem_region {
  source_addr: bigint;
  gpa: bigint;
  nr_pages: bigint;
}
export const kvm_tdx_init_mem_region: Struct<kvm_tdx_init_mem_region> = struct('kvm_tdx_init_mem_region', 'struct', 24, 8, `
  0 __u64 @source_addr;
  8 __u64 gpa;
  16 __u64 nr_pages;
`);

export interface kvm_userspace_memory_region {
  slot: number;
  flags: number;
  guest_phys_addr: bigint;
  memory_size: bigint;
  userspace_addr: bigint;
}
export const kvm_userspace_memory_region: Struct<kvm_userspace_memory_region> = struct('kvm_userspace_memory_region', 'struct', 32, 8, `
  0 __u32 slot;
  4 __u32 flags;
  8 __u64 guest_phys_addr;
  16 __u64 memory_size;
  24 __u64 @userspace_addr;
`);

export interface kvm_userspace_memory_region2 {
  slot: number;
  flags: number;
  guest_phys_addr: bigint;
  memory_size: bigint;
  userspace_addr: bigint;
  guest_memfd_offset: bigint;
  guest_memfd: number;
  pad1: number;
  pad2: bigint[];
}
export const kvm_userspace_memory_region2: Struct<kvm_userspace_memory_region2> = struct('kvm_userspace_memory_region2', 'struct', 160, 8, `
  0 __u32 slot;
  4 __u32 flags;
  8 __u64 guest_phys_addr;
  16 __u64 memory_size;
  24 __u64 @userspace_addr;
  32 __u64 guest_memfd_offset;
  40 __u32 guest_memfd;
  44 __u32 pad1;
  48 __u64 pad2[14];
`);

export interface kvm_irq_level {
  irq: number;
  status: number;
  level: number;
  readonly [unionMembers]?: 'irq' | 'status';
}
export const kvm_irq_level: Struct<kvm_irq_level> = struct('kvm_irq_level', 'struct', 8, 4, `
  0 union 4,1 {
    0 __u32 irq;
    0 __s32 status;
  };
  4 __u32 level;
`);

export interface kvm_irqchip {
  chip_id: number;
  pad: number;
  chip: {
    dummy: Uint8Array;
    pic: kvm_pic_state;
    ioapic: kvm_ioapic_state;
    readonly [unionMembers]?: 'dummy' | 'pic' | 'ioapic';
  };
}
export const kvm_irqchip: Struct<kvm_irqchip> = struct('kvm_irqchip', 'struct', 520, 8, `
  0 __u32 chip_id;
  4 __u32 pad;
  8 union 512,8 {
    0 char dummy[512];
    0 struct kvm_pic_state pic;
    0 struct kvm_ioapic_state ioapic;
  } chip;
`, [kvm_pic_state, kvm_ioapic_state]);

export interface kvm_pit_config {
  flags: number;
  pad: number[];
}
export const kvm_pit_config: Struct<kvm_pit_config> = struct('kvm_pit_config', 'struct', 64, 4, `
  0 __u32 flags;
  4 __u32 pad[15];
`);

export interface kvm_hyperv_exit {
  type: number;
  pad1: number;
  u: {
    synic: {
      msr: number;
      pad2: number;
      control: bigint;
      evt_page: bigint;
      msg_page: bigint;
    };
    hcall: {
      input: bigint;
      result: bigint;
      params: bigint[];
    };
    syndbg: {
      msr: number;
      pad2: number;
      control: bigint;
      status: bigint;
      send_page: bigint;
      recv_page: bigint;
      pending_page: bigint;
    };
    readonly [unionMembers]?: 'synic' | 'hcall' | 'syndbg';
  };
}
export const kvm_hyperv_exit: Struct<kvm_hyperv_exit> = struct('kvm_hyperv_exit', 'struct', 56, 8, `
  0 __u32 type;
  4 __u32 pad1;
  8 union 48,8 {
    0 struct 32,8 {
      0 __u32 msr;
      4 __u32 pad2;
      8 __u64 control;
      16 __u64 evt_page;
      24 __u64 msg_page;
    } synic;
    0 struct 32,8 {
      0 __u64 input;
      8 __u64 result;
      16 __u64 params[2];
    } hcall;
    0 struct 48,8 {
      0 __u32 msr;
      4 __u32 pad2;
      8 __u64 control;
      16 __u64 status;
      24 __u64 send_page;
      32 __u64 recv_page;
      40 __u64 pending_page;
    } syndbg;
  } u;
`);

export interface kvm_xen_exit {
  type: number;
  u: {
    hcall: {
      longmode: number;
      cpl: number;
      input: bigint;
      result: bigint;
      params: bigint[];
    };
    readonly [unionMembers]?: 'hcall';
  };
}
export const kvm_xen_exit: Struct<kvm_xen_exit> = struct('kvm_xen_exit', 'struct', 80, 8, `
  0 __u32 type;
  8 union 72,8 {
    0 struct 72,8 {
      0 __u32 longmode;
      4 __u32 cpl;
      8 __u64 input;
      16 __u64 result;
      24 __u64 params[6];
    } hcall;
  } u;
`);

export interface kvm_exit_snp_req_certs {
  gpa: bigint;
  npages: bigint;
  ret: bigint;
}
export const kvm_exit_snp_req_certs: Struct<kvm_exit_snp_req_certs> = struct('kvm_exit_snp_req_certs', 'struct', 24, 8, `
  0 __u64 gpa;
  8 __u64 npages;
  16 __u64 ret;
`);

export interface kvm_run {
  request_interrupt_window: number;
  immediate_exit: number;
  padding1: Uint8Array;
  exit_reason: number;
  ready_for_interrupt_injection: number;
  if_flag: number;
  flags: number;
  cr8: bigint;
  apic_base: bigint;
  hw: {
    hardware_exit_reason: bigint;
  };
  fail_entry: {
    hardware_entry_failure_reason: bigint;
    cpu: number;
  };
  ex: {
    exception: number;
    error_code: number;
  };
  io: {
    direction: number;
    size: number;
    port: number;
    count: number;
    data_offset: bigint;
  };
  debug: {
    arch: kvm_debug_exit_arch;
  };
  mmio: {
    phys_addr: bigint;
    data: Uint8Array;
    len: number;
    is_write: number;
  };
  iocsr_io: {
    phys_addr: bigint;
    data: Uint8Array;
    len: number;
    is_write: number;
  };
  hypercall: {
    nr: bigint;
    args: bigint[];
    ret: bigint;
    longmode: number;
    flags: bigint;
    readonly [unionMembers]?: 'longmode' | 'flags';
  };
  tpr_access: {
    rip: bigint;
    is_write: number;
    pad: number;
  };
  s390_sieic: {
    icptcode: number;
    ipa: number;
    ipb: number;
  };
  s390_reset_flags: bigint;
  s390_ucontrol: {
    trans_exc_code: bigint;
    pgm_code: number;
  };
  dcr: {
    dcrn: number;
    data: number;
    is_write: number;
  };
  internal: {
    suberror: number;
    ndata: number;
    data: bigint[];
  };
  emulation_failure: {
    suberror: number;
    ndata: number;
    flags: bigint;
    insn_size: number;
    insn_bytes: Uint8Array;
    readonly [unionMembers]?: 'insn_size' | 'insn_bytes';
  };
  osi: {
    gprs: bigint[];
  };
  papr_hcall: {
    nr: bigint;
    ret: bigint;
    args: bigint[];
  };
  s390_tsch: {
    subchannel_id: number;
    subchannel_nr: number;
    io_int_parm: number;
    io_int_word: number;
    ipb: number;
    dequeued: number;
  };
  epr: {
    epr: number;
  };
  system_event: {
    type: number;
    ndata: number;
    flags: bigint;
    data: bigint[];
    readonly [unionMembers]?: 'flags' | 'data';
  };
  s390_stsi: {
    addr: bigint;
    ar: number;
    reserved: number;
    fc: number;
    sel1: number;
    sel2: number;
  };
  eoi: {
    vector: number;
  };
  hyperv: kvm_hyperv_exit;
  arm_nisv: {
    esr_iss: bigint;
    fault_ipa: bigint;
  };
  msr: {
    error: number;
    pad: Uint8Array;
    reason: number;
    index: number;
    data: bigint;
  };
  xen: kvm_xen_exit;
  riscv_sbi: {
    extension_id: bigint;
    function_id: bigint;
    args: bigint[];
    ret: bigint[];
  };
  riscv_csr: {
    csr_num: bigint;
    new_value: bigint;
    write_mask: bigint;
    ret_value: bigint;
  };
  notify: {
    flags: number;
  };
  memory_fault: {
    flags: bigint;
    gpa: bigint;
    size: bigint;
  };
  tdx: {
    flags: bigint;
    nr: bigint;
    unknown: {
      ret: bigint;
      data: bigint[];
    };
    get_quote: {
      ret: bigint;
      gpa: bigint;
      size: bigint;
    };
    get_tdvmcall_info: {
      ret: bigint;
      leaf: bigint;
      r11: bigint;
      r12: bigint;
      r13: bigint;
      r14: bigint;
    };
    setup_event_notify: {
      ret: bigint;
      vector: bigint;
    };
    readonly [unionMembers]?: 'unknown' | 'get_quote' | 'get_tdvmcall_info' | 'setup_event_notify';
  };
  arm_sea: {
    flags: bigint;
    esr: bigint;
    gva: bigint;
    gpa: bigint;
  };
  snp_req_certs: kvm_exit_snp_req_certs;
  padding: Uint8Array;
  kvm_valid_regs: bigint;
  kvm_dirty_regs: bigint;
  s: {
    regs: kvm_sync_regs;
    padding: Uint8Array;
    readonly [unionMembers]?: 'regs' | 'padding';
  };
  readonly [unionMembers]?: 'hw' | 'fail_entry' | 'ex' | 'io' | 'debug' | 'mmio' | 'iocsr_io' | 'hypercall' | 'tpr_access' | 's390_sieic' | 's390_reset_flags' | 's390_ucontrol' | 'dcr' | 'internal' | 'emulation_failure' | 'osi' | 'papr_hcall' | 's390_tsch' | 'epr' | 'system_event' | 's390_stsi' | 'eoi' | 'hyperv' | 'arm_nisv' | 'msr' | 'xen' | 'riscv_sbi' | 'riscv_csr' | 'notify' | 'memory_fault' | 'tdx' | 'arm_sea' | 'snp_req_certs' | 'padding';
}
export const kvm_run: Struct<kvm_run> = struct('kvm_run', 'struct', 2352, 8, `
  0 __u8 request_interrupt_window;
  1 __u8 immediate_exit;
  2 __u8 padding1[6];
  8 __u32 exit_reason;
  12 __u8 ready_for_interrupt_injection;
  13 __u8 if_flag;
  14 __u16 flags;
  16 __u64 cr8;
  24 __u64 apic_base;
  32 union 256,1 {
    0 struct 8,8 {
      0 __u64 hardware_exit_reason;
    } hw;
    0 struct 16,8 {
      0 __u64 hardware_entry_failure_reason;
      8 __u32 cpu;
    } fail_entry;
    0 struct 8,4 {
      0 __u32 exception;
      4 __u32 error_code;
    } ex;
    0 struct 16,8 {
      0 __u8 direction;
      1 __u8 size;
      2 __u16 port;
      4 __u32 count;
      8 __u64 data_offset;
    } io;
    0 struct 32,8 {
      0 struct kvm_debug_exit_arch arch;
    } debug;
    0 struct 24,8 {
      0 __u64 phys_addr;
      8 __u8 data[8];
      16 __u32 len;
      20 __u8 is_write;
    } mmio;
    0 struct 24,8 {
      0 __u64 phys_addr;
      8 __u8 data[8];
      16 __u32 len;
      20 __u8 is_write;
    } iocsr_io;
    0 struct 72,8 {
      0 __u64 nr;
      8 __u64 args[6];
      56 __u64 ret;
      64 union 8,1 {
        0 __u32 longmode;
        0 __u64 flags;
      };
    } hypercall;
    0 struct 16,8 {
      0 __u64 rip;
      8 __u32 is_write;
      12 __u32 pad;
    } tpr_access;
    0 struct 8,4 {
      0 __u8 icptcode;
      2 __u16 ipa;
      4 __u32 ipb;
    } s390_sieic;
    0 __u64 s390_reset_flags;
    0 struct 16,8 {
      0 __u64 trans_exc_code;
      8 __u32 pgm_code;
    } s390_ucontrol;
    0 struct 12,4 {
      0 __u32 dcrn;
      4 __u32 data;
      8 __u8 is_write;
    } dcr;
    0 struct 136,8 {
      0 __u32 suberror;
      4 __u32 ndata;
      8 __u64 data[16];
    } internal;
    0 struct 32,8 {
      0 __u32 suberror;
      4 __u32 ndata;
      8 __u64 flags;
      16 union 16,1 {
        0 struct 16,1 {
          0 __u8 insn_size;
          1 __u8 insn_bytes[15];
        };
      };
    } emulation_failure;
    0 struct 256,8 {
      0 __u64 gprs[32];
    } osi;
    0 struct 88,8 {
      0 __u64 nr;
      8 __u64 ret;
      16 __u64 args[9];
    } papr_hcall;
    0 struct 20,4 {
      0 __u16 subchannel_id;
      2 __u16 subchannel_nr;
      4 __u32 io_int_parm;
      8 __u32 io_int_word;
      12 __u32 ipb;
      16 __u8 dequeued;
    } s390_tsch;
    0 struct 4,4 {
      0 __u32 epr;
    } epr;
    0 struct 136,8 {
      0 __u32 type;
      4 __u32 ndata;
      8 union 128,1 {
        0 __u64 flags;
        0 __u64 data[16];
      };
    } system_event;
    0 struct 16,8 {
      0 __u64 addr;
      8 __u8 ar;
      9 __u8 reserved;
      10 __u8 fc;
      11 __u8 sel1;
      12 __u16 sel2;
    } s390_stsi;
    0 struct 1,1 {
      0 __u8 vector;
    } eoi;
    0 struct kvm_hyperv_exit hyperv;
    0 struct 16,8 {
      0 __u64 esr_iss;
      8 __u64 fault_ipa;
    } arm_nisv;
    0 struct 24,8 {
      0 __u8 error;
      1 __u8 pad[7];
      8 __u32 reason;
      12 __u32 index;
      16 __u64 data;
    } msr;
    0 struct kvm_xen_exit xen;
    0 struct 80,8 {
      0 unsigned long extension_id;
      8 unsigned long function_id;
      16 unsigned long args[6];
      64 unsigned long ret[2];
    } riscv_sbi;
    0 struct 32,8 {
      0 unsigned long csr_num;
      8 unsigned long new_value;
      16 unsigned long write_mask;
      24 unsigned long ret_value;
    } riscv_csr;
    0 struct 4,4 {
      0 __u32 flags;
    } notify;
    0 struct 24,8 {
      0 __u64 flags;
      8 __u64 gpa;
      16 __u64 size;
    } memory_fault;
    0 struct 64,8 {
      0 __u64 flags;
      8 __u64 nr;
      16 union 48,1 {
        0 struct 48,8 {
          0 __u64 ret;
          8 __u64 data[5];
        } unknown;
        0 struct 24,8 {
          0 __u64 ret;
          8 __u64 gpa;
          16 __u64 size;
        } get_quote;
        0 struct 48,8 {
          0 __u64 ret;
          8 __u64 leaf;
          16 __u64 r11;
          24 __u64 r12;
          32 __u64 r13;
          40 __u64 r14;
        } get_tdvmcall_info;
        0 struct 16,8 {
          0 __u64 ret;
          8 __u64 vector;
        } setup_event_notify;
      };
    } tdx;
    0 struct 32,8 {
      0 __u64 flags;
      8 __u64 esr;
      16 __u64 gva;
      24 __u64 gpa;
    } arm_sea;
    0 struct kvm_exit_snp_req_certs snp_req_certs;
    0 char padding[256];
  };
  288 __u64 kvm_valid_regs;
  296 __u64 kvm_dirty_regs;
  304 union 2048,8 {
    0 struct kvm_sync_regs regs;
    0 char padding[2048];
  } s;
`, [kvm_debug_exit_arch, kvm_hyperv_exit, kvm_xen_exit, kvm_exit_snp_req_certs, kvm_sync_regs]);

export interface kvm_coalesced_mmio_zone {
  addr: bigint;
  size: number;
  pad: number;
  pio: number;
  readonly [unionMembers]?: 'pad' | 'pio';
}
export const kvm_coalesced_mmio_zone: Struct<kvm_coalesced_mmio_zone> = struct('kvm_coalesced_mmio_zone', 'struct', 16, 8, `
  0 __u64 addr;
  8 __u32 size;
  12 union 4,1 {
    0 __u32 pad;
    0 __u32 pio;
  };
`);

export interface kvm_coalesced_mmio {
  phys_addr: bigint;
  len: number;
  pad: number;
  pio: number;
  data: Uint8Array;
  readonly [unionMembers]?: 'pad' | 'pio';
}
export const kvm_coalesced_mmio: Struct<kvm_coalesced_mmio> = struct('kvm_coalesced_mmio', 'struct', 24, 8, `
  0 __u64 phys_addr;
  8 __u32 len;
  12 union 4,1 {
    0 __u32 pad;
    0 __u32 pio;
  };
  16 __u8 data[8];
`);

export interface kvm_coalesced_mmio_ring {
  first: number;
  last: number;
  coalesced_mmio: kvm_coalesced_mmio[];
}
export const kvm_coalesced_mmio_ring: Struct<kvm_coalesced_mmio_ring> = struct('kvm_coalesced_mmio_ring', 'struct', 8, 8, `
  0 __u32 first;
  4 __u32 last;
  8 struct 0,1 {
    0 struct kvm_coalesced_mmio coalesced_mmio[];
  };
`, [kvm_coalesced_mmio]);

export interface kvm_translation {
  linear_address: bigint;
  physical_address: bigint;
  valid: number;
  writeable: number;
  usermode: number;
  pad: Uint8Array;
}
export const kvm_translation: Struct<kvm_translation> = struct('kvm_translation', 'struct', 24, 8, `
  0 __u64 linear_address;
  8 __u64 physical_address;
  16 __u8 valid;
  17 __u8 writeable;
  18 __u8 usermode;
  19 __u8 pad[5];
`);

export interface kvm_interrupt {
  irq: number;
}
export const kvm_interrupt: Struct<kvm_interrupt> = struct('kvm_interrupt', 'struct', 4, 4, `
  0 __u32 irq;
`);

export interface kvm_dirty_log {
  slot: number;
  padding1: number;
  dirty_bitmap: bigint;
  padding2: bigint;
  readonly [unionMembers]?: 'dirty_bitmap' | 'padding2';
}
export const kvm_dirty_log: Struct<kvm_dirty_log> = struct('kvm_dirty_log', 'struct', 16, 8, `
  0 __u32 slot;
  4 __u32 padding1;
  8 union 8,1 {
    0 void * dirty_bitmap;
    0 __u64 padding2;
  };
`);

export interface kvm_clear_dirty_log {
  slot: number;
  num_pages: number;
  first_page: bigint;
  dirty_bitmap: bigint;
  padding2: bigint;
  readonly [unionMembers]?: 'dirty_bitmap' | 'padding2';
}
export const kvm_clear_dirty_log: Struct<kvm_clear_dirty_log> = struct('kvm_clear_dirty_log', 'struct', 24, 8, `
  0 __u32 slot;
  4 __u32 num_pages;
  8 __u64 first_page;
  16 union 8,1 {
    0 void * dirty_bitmap;
    0 __u64 padding2;
  };
`);

export interface kvm_signal_mask {
  len: number;
  sigset: Uint8Array;
}
export const kvm_signal_mask: Struct<kvm_signal_mask> = struct('kvm_signal_mask', 'struct', 4, 4, `
  0 __u32 len;
  4 struct 0,1 {
    0 __u8 sigset[len];
  };
`);

export interface kvm_tpr_access_ctl {
  enabled: number;
  flags: number;
  reserved: number[];
}
export const kvm_tpr_access_ctl: Struct<kvm_tpr_access_ctl> = struct('kvm_tpr_access_ctl', 'struct', 40, 4, `
  0 __u32 enabled;
  4 __u32 flags;
  8 __u32 reserved[8];
`);

export interface kvm_vapic_addr {
  vapic_addr: bigint;
}
export const kvm_vapic_addr: Struct<kvm_vapic_addr> = struct('kvm_vapic_addr', 'struct', 8, 8, `
  0 __u64 vapic_addr;
`);

export interface kvm_mp_state {
  mp_state: number;
}
export const kvm_mp_state: Struct<kvm_mp_state> = struct('kvm_mp_state', 'struct', 4, 4, `
  0 __u32 mp_state;
`);

export interface kvm_guest_debug {
  control: number;
  pad: number;
  arch: kvm_guest_debug_arch;
}
export const kvm_guest_debug: Struct<kvm_guest_debug> = struct('kvm_guest_debug', 'struct', 72, 8, `
  0 __u32 control;
  4 __u32 pad;
  8 struct kvm_guest_debug_arch arch;
`, [kvm_guest_debug_arch]);

export interface kvm_ioeventfd {
  datamatch: bigint;
  addr: bigint;
  len: number;
  fd: number;
  flags: number;
  pad: Uint8Array;
}
export const kvm_ioeventfd: Struct<kvm_ioeventfd> = struct('kvm_ioeventfd', 'struct', 64, 8, `
  0 __u64 datamatch;
  8 __u64 addr;
  16 __u32 len;
  20 __s32 fd;
  24 __u32 flags;
  28 __u8 pad[36];
`);

export interface kvm_enable_cap {
  cap: number;
  flags: number;
  args: bigint[];
  pad: Uint8Array;
}
export const kvm_enable_cap: Struct<kvm_enable_cap> = struct('kvm_enable_cap', 'struct', 104, 8, `
  0 __u32 cap;
  4 __u32 flags;
  8 __u64 args[4];
  40 __u8 pad[64];
`);

export interface kvm_irq_routing_irqchip {
  irqchip: number;
  pin: number;
}
export const kvm_irq_routing_irqchip: Struct<kvm_irq_routing_irqchip> = struct('kvm_irq_routing_irqchip', 'struct', 8, 4, `
  0 __u32 irqchip;
  4 __u32 pin;
`);

export interface kvm_irq_routing_msi {
  address_lo: number;
  address_hi: number;
  data: number;
  pad: number;
  devid: number;
  readonly [unionMembers]?: 'pad' | 'devid';
}
export const kvm_irq_routing_msi: Struct<kvm_irq_routing_msi> = struct('kvm_irq_routing_msi', 'struct', 16, 4, `
  0 __u32 address_lo;
  4 __u32 address_hi;
  8 __u32 data;
  12 union 4,1 {
    0 __u32 pad;
    0 __u32 devid;
  };
`);

export interface kvm_irq_routing_s390_adapter {
  ind_addr: bigint;
  summary_addr: bigint;
  ind_offset: bigint;
  summary_offset: number;
  adapter_id: number;
}
export const kvm_irq_routing_s390_adapter: Struct<kvm_irq_routing_s390_adapter> = struct('kvm_irq_routing_s390_adapter', 'struct', 32, 8, `
  0 __u64 ind_addr;
  8 __u64 summary_addr;
  16 __u64 ind_offset;
  24 __u32 summary_offset;
  28 __u32 adapter_id;
`);

export interface kvm_irq_routing_hv_sint {
  vcpu: number;
  sint: number;
}
export const kvm_irq_routing_hv_sint: Struct<kvm_irq_routing_hv_sint> = struct('kvm_irq_routing_hv_sint', 'struct', 8, 4, `
  0 __u32 vcpu;
  4 __u32 sint;
`);

export interface kvm_irq_routing_xen_evtchn {
  port: number;
  vcpu: number;
  priority: number;
}
export const kvm_irq_routing_xen_evtchn: Struct<kvm_irq_routing_xen_evtchn> = struct('kvm_irq_routing_xen_evtchn', 'struct', 12, 4, `
  0 __u32 port;
  4 __u32 vcpu;
  8 __u32 priority;
`);

export interface kvm_irq_routing_entry {
  gsi: number;
  type: number;
  flags: number;
  pad: number;
  u: {
    irqchip: kvm_irq_routing_irqchip;
    msi: kvm_irq_routing_msi;
    adapter: kvm_irq_routing_s390_adapter;
    hv_sint: kvm_irq_routing_hv_sint;
    xen_evtchn: kvm_irq_routing_xen_evtchn;
    pad: number[];
    readonly [unionMembers]?: 'irqchip' | 'msi' | 'adapter' | 'hv_sint' | 'xen_evtchn' | 'pad';
  };
}
export const kvm_irq_routing_entry: Struct<kvm_irq_routing_entry> = struct('kvm_irq_routing_entry', 'struct', 48, 8, `
  0 __u32 gsi;
  4 __u32 type;
  8 __u32 flags;
  12 __u32 pad;
  16 union 32,8 {
    0 struct kvm_irq_routing_irqchip irqchip;
    0 struct kvm_irq_routing_msi msi;
    0 struct kvm_irq_routing_s390_adapter adapter;
    0 struct kvm_irq_routing_hv_sint hv_sint;
    0 struct kvm_irq_routing_xen_evtchn xen_evtchn;
    0 __u32 pad[8];
  } u;
`, [kvm_irq_routing_irqchip, kvm_irq_routing_msi, kvm_irq_routing_s390_adapter, kvm_irq_routing_hv_sint, kvm_irq_routing_xen_evtchn]);

export interface kvm_irq_routing {
  nr: number;
  flags: number;
  entries: kvm_irq_routing_entry[];
}
export const kvm_irq_routing: Struct<kvm_irq_routing> = struct('kvm_irq_routing', 'struct', 8, 8, `
  0 __u32 nr;
  4 __u32 flags;
  8 struct 0,1 {
    0 struct kvm_irq_routing_entry entries[nr];
  };
`, [kvm_irq_routing_entry]);

export interface kvm_irqfd {
  fd: number;
  gsi: number;
  flags: number;
  resamplefd: number;
  pad: Uint8Array;
}
export const kvm_irqfd: Struct<kvm_irqfd> = struct('kvm_irqfd', 'struct', 32, 4, `
  0 __u32 fd;
  4 __u32 gsi;
  8 __u32 flags;
  12 __u32 resamplefd;
  16 __u8 pad[16];
`);

export interface kvm_clock_data {
  clock: bigint;
  flags: number;
  pad0: number;
  realtime: bigint;
  host_tsc: bigint;
  pad: number[];
}
export const kvm_clock_data: Struct<kvm_clock_data> = struct('kvm_clock_data', 'struct', 48, 8, `
  0 __u64 clock;
  8 __u32 flags;
  12 __u32 pad0;
  16 __u64 realtime;
  24 __u64 host_tsc;
  32 __u32 pad[4];
`);

export interface kvm_config_tlb {
  params: bigint;
  array: bigint;
  mmu_type: number;
  array_len: number;
}
export const kvm_config_tlb: Struct<kvm_config_tlb> = struct('kvm_config_tlb', 'struct', 24, 8, `
  0 __u64 @params;
  8 __u64 @array;
  16 __u32 mmu_type;
  20 __u32 array_len;
`);

export interface kvm_dirty_tlb {
  bitmap: bigint;
  num_dirty: number;
}
export const kvm_dirty_tlb: Struct<kvm_dirty_tlb> = struct('kvm_dirty_tlb', 'struct', 16, 8, `
  0 __u64 @bitmap;
  8 __u32 num_dirty;
`);

export interface kvm_reg_list {
  n: bigint;
  reg: bigint[];
}
export const kvm_reg_list: Struct<kvm_reg_list> = struct('kvm_reg_list', 'struct', 8, 8, `
  0 __u64 n;
  8 struct 0,1 {
    0 __u64 reg[n];
  };
`);

export interface kvm_one_reg {
  id: bigint;
  addr: bigint;
}
export const kvm_one_reg: Struct<kvm_one_reg> = struct('kvm_one_reg', 'struct', 16, 8, `
  0 __u64 id;
  8 __u64 @addr;
`);

export interface kvm_msi {
  address_lo: number;
  address_hi: number;
  data: number;
  flags: number;
  devid: number;
  pad: Uint8Array;
}
export const kvm_msi: Struct<kvm_msi> = struct('kvm_msi', 'struct', 32, 4, `
  0 __u32 address_lo;
  4 __u32 address_hi;
  8 __u32 data;
  12 __u32 flags;
  16 __u32 devid;
  20 __u8 pad[12];
`);

export interface kvm_arm_device_addr {
  id: bigint;
  addr: bigint;
}
export const kvm_arm_device_addr: Struct<kvm_arm_device_addr> = struct('kvm_arm_device_addr', 'struct', 16, 8, `
  0 __u64 id;
  8 __u64 addr;
`);

export interface kvm_create_device {
  type: number;
  fd: number;
  flags: number;
}
export const kvm_create_device: Struct<kvm_create_device> = struct('kvm_create_device', 'struct', 12, 4, `
  0 __u32 type;
  4 __u32 fd;
  8 __u32 flags;
`);

export interface kvm_device_attr {
  flags: number;
  group: number;
  attr: bigint;
  addr: bigint;
}
export const kvm_device_attr: Struct<kvm_device_attr> = struct('kvm_device_attr', 'struct', 24, 8, `
  0 __u32 flags;
  4 __u32 group;
  8 __u64 attr;
  16 __u64 @addr;
`);

export interface kvm_vfio_spapr_tce {
  groupfd: number;
  tablefd: number;
}
export const kvm_vfio_spapr_tce: Struct<kvm_vfio_spapr_tce> = struct('kvm_vfio_spapr_tce', 'struct', 8, 4, `
  0 __s32 groupfd;
  4 __s32 tablefd;
`);

export interface kvm_s390_keyop {
  guest_addr: bigint;
  key: number;
  operation: number;
  pad: Uint8Array;
}
export const kvm_s390_keyop: Struct<kvm_s390_keyop> = struct('kvm_s390_keyop', 'struct', 16, 8, `
  0 __u64 guest_addr;
  8 __u8 key;
  9 __u8 operation;
  10 __u8 pad[6];
`);

export interface kvm_enc_region {
  addr: bigint;
  size: bigint;
}
export const kvm_enc_region: Struct<kvm_enc_region> = struct('kvm_enc_region', 'struct', 16, 8, `
  0 __u64 @addr;
  8 __u64 size;
`);

export interface kvm_dirty_gfn {
  flags: number;
  slot: number;
  offset: bigint;
}
export const kvm_dirty_gfn: Struct<kvm_dirty_gfn> = struct('kvm_dirty_gfn', 'struct', 16, 8, `
  0 __u32 flags;
  4 __u32 slot;
  8 __u64 offset;
`);

export interface kvm_stats_header {
  flags: number;
  name_size: number;
  num_desc: number;
  id_offset: number;
  desc_offset: number;
  data_offset: number;
}
export const kvm_stats_header: Struct<kvm_stats_header> = struct('kvm_stats_header', 'struct', 24, 4, `
  0 __u32 flags;
  4 __u32 name_size;
  8 __u32 num_desc;
  12 __u32 id_offset;
  16 __u32 desc_offset;
  20 __u32 data_offset;
`);

export interface kvm_stats_desc {
  flags: number;
  exponent: number;
  size: number;
  offset: number;
  bucket_size: number;
  name: Uint8Array;
}
export const kvm_stats_desc: Struct<kvm_stats_desc> = struct('kvm_stats_desc', 'struct', 16, 4, `
  0 __u32 flags;
  4 __s16 exponent;
  6 __u16 size;
  8 __u32 offset;
  12 __u32 bucket_size;
  16 struct 0,1 {
    0 char name[];
  };
`);

export interface kvm_memory_attributes {
  address: bigint;
  size: bigint;
  attributes: bigint;
  flags: bigint;
}
export const kvm_memory_attributes: Struct<kvm_memory_attributes> = struct('kvm_memory_attributes', 'struct', 32, 8, `
  0 __u64 address;
  8 __u64 size;
  16 __u64 attributes;
  24 __u64 flags;
`);

export interface kvm_create_guest_memfd {
  size: bigint;
  flags: bigint;
  reserved: bigint[];
}
export const kvm_create_guest_memfd: Struct<kvm_create_guest_memfd> = struct('kvm_create_guest_memfd', 'struct', 64, 8, `
  0 __u64 size;
  8 __u64 flags;
  16 __u64 reserved[6];
`);

export interface kvm_pre_fault_memory {
  gpa: bigint;
  size: bigint;
  flags: bigint;
  padding: bigint[];
}
export const kvm_pre_fault_memory: Struct<kvm_pre_fault_memory> = struct('kvm_pre_fault_memory', 'struct', 64, 8, `
  0 __u64 gpa;
  8 __u64 size;
  16 __u64 flags;
  24 __u64 padding[5];
`);

export interface kvm_steal_time {
  steal: bigint;
  version: number;
  flags: number;
  preempted: number;
  u8_pad: Uint8Array;
  pad: number[];
}
export const kvm_steal_time: Struct<kvm_steal_time> = struct('kvm_steal_time', 'struct', 64, 8, `
  0 __u64 steal;
  8 __u32 version;
  12 __u32 flags;
  16 __u8 preempted;
  17 __u8 u8_pad[3];
  20 __u32 pad[11];
`);

export interface kvm_clock_pairing {
  sec: bigint;
  nsec: bigint;
  tsc: bigint;
  flags: number;
  pad: number[];
}
export const kvm_clock_pairing: Struct<kvm_clock_pairing> = struct('kvm_clock_pairing', 'struct', 64, 8, `
  0 __s64 sec;
  8 __s64 nsec;
  16 __u64 tsc;
  24 __u32 flags;
  28 __u32 pad[9];
`);

export interface kvm_mmu_op_header {
  op: number;
  pad: number;
}
export const kvm_mmu_op_header: Struct<kvm_mmu_op_header> = struct('kvm_mmu_op_header', 'struct', 8, 4, `
  0 __u32 op;
  4 __u32 pad;
`);

export interface kvm_mmu_op_write_pte {
  header: kvm_mmu_op_header;
  pte_phys: bigint;
  pte_val: bigint;
}
export const kvm_mmu_op_write_pte: Struct<kvm_mmu_op_write_pte> = struct('kvm_mmu_op_write_pte', 'struct', 24, 8, `
  0 struct kvm_mmu_op_header header;
  8 __u64 pte_phys;
  16 __u64 pte_val;
`, [kvm_mmu_op_header]);

export interface kvm_mmu_op_flush_tlb {
  header: kvm_mmu_op_header;
}
export const kvm_mmu_op_flush_tlb: Struct<kvm_mmu_op_flush_tlb> = struct('kvm_mmu_op_flush_tlb', 'struct', 8, 4, `
  0 struct kvm_mmu_op_header header;
`, [kvm_mmu_op_header]);

export interface kvm_mmu_op_release_pt {
  header: kvm_mmu_op_header;
  pt_phys: bigint;
}
export const kvm_mmu_op_release_pt: Struct<kvm_mmu_op_release_pt> = struct('kvm_mmu_op_release_pt', 'struct', 16, 8, `
  0 struct kvm_mmu_op_header header;
  8 __u64 pt_phys;
`, [kvm_mmu_op_header]);

export interface kvm_vcpu_pv_apf_data {
  flags: number;
  token: number;
  pad: Uint8Array;
}
export const kvm_vcpu_pv_apf_data: Struct<kvm_vcpu_pv_apf_data> = struct('kvm_vcpu_pv_apf_data', 'struct', 64, 4, `
  0 __u32 flags;
  4 __u32 token;
  8 __u8 pad[56];
`);
