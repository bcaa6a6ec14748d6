// What arm64 defines otherwise than x86-64. Generated from linux-libc-dev 7.2.13 by scripts/uapi/generate.mjs: do not edit.
import { kvm_exit_snp_req_certs, kvm_hyperv_exit, kvm_xen_exit } from './kvm.ts';
import type { Struct, unionMembers } from './struct.ts';
import { struct } from './struct.ts';

export const KVM_REG_ARM_STD_BIT_TRNG_V1_0 = 0;
export const KVM_REG_ARM_STD_HYP_BIT_PV_TIME = 0;
export const KVM_REG_ARM_VENDOR_HYP_BIT_FUNC_FEAT = 0;
export const KVM_REG_ARM_VENDOR_HYP_BIT_PTP = 1;
export const KVM_REG_ARM_VENDOR_HYP_BIT_DISCOVER_IMPL_VER = 0;
export const KVM_REG_ARM_VENDOR_HYP_BIT_DISCOVER_IMPL_CPUS = 1;
export const KVM_SMCCC_FILTER_HANDLE = 0;
export const KVM_SMCCC_FILTER_DENY = 1;
export const KVM_SMCCC_FILTER_FWD_TO_USER = 2;
export const KVM_SPSR_EL1 = 0;
export const KVM_SPSR_SVC = 0;
export const KVM_SPSR_ABT = 1;
export const KVM_SPSR_UND = 2;
export const KVM_SPSR_IRQ = 3;
export const KVM_SPSR_FIQ = 4;
export const KVM_NR_SPSR = 5;
export const KVM_COALESCED_MMIO_PAGE_OFFSET = 1;
export const KVM_ARM_TARGET_AEM_V8 = 0;
export const KVM_ARM_TARGET_FOUNDATION_V8 = 1;
export const KVM_ARM_TARGET_CORTEX_A57 = 2;
export const KVM_ARM_TARGET_XGENE_POTENZA = 3;
export const KVM_ARM_TARGET_CORTEX_A53 = 4;
export const KVM_ARM_TARGET_GENERIC_V8 = 5;
export const KVM_ARM_NUM_TARGETS = 6;
export const KVM_ARM_DEVICE_TYPE_SHIFT = 0;
export const KVM_ARM_DEVICE_ID_SHIFT = 16;
export const KVM_ARM_DEVICE_VGIC_V2 = 0;
export const KVM_VGIC_V2_ADDR_TYPE_DIST = 0;
export const KVM_VGIC_V2_ADDR_TYPE_CPU = 1;
export const KVM_VGIC_V2_DIST_SIZE = 0x1000;
export const KVM_VGIC_V2_CPU_SIZE = 0x2000;
export const KVM_VGIC_V3_ADDR_TYPE_DIST = 2;
export const KVM_VGIC_V3_ADDR_TYPE_REDIST = 3;
export const KVM_VGIC_ITS_ADDR_TYPE = 4;
export const KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION = 5;
export const KVM_ARM_VCPU_POWER_OFF = 0;
export const KVM_ARM_VCPU_EL1_32BIT = 1;
export const KVM_ARM_VCPU_PSCI_0_2 = 2;
export const KVM_ARM_VCPU_PMU_V3 = 3;
export const KVM_ARM_VCPU_SVE = 4;
export const KVM_ARM_VCPU_PTRAUTH_ADDRESS = 5;
export const KVM_ARM_VCPU_PTRAUTH_GENERIC = 6;
export const KVM_ARM_VCPU_HAS_EL2 = 7;
export const KVM_ARM_VCPU_HAS_EL2_E2H0 = 8;
export const KVM_ARM_MAX_DBG_REGS = 16;
export const KVM_DEBUG_ARCH_HSR_HIGH_VALID = 0x1;
export const KVM_GUESTDBG_USE_HW = 0x20000;
export const KVM_ARM_DEV_EL1_VTIMER = 0x1;
export const KVM_ARM_DEV_EL1_PTIMER = 0x2;
export const KVM_ARM_DEV_PMU = 0x4;
export const KVM_ARM_TAGS_TO_GUEST = 0;
export const KVM_ARM_TAGS_FROM_GUEST = 1;
export const KVM_REG_ARM_COPROC_MASK = 0xfff0000;
export const KVM_REG_ARM_COPROC_SHIFT = 16;
export const KVM_REG_ARM_CORE = 0x100000;
export const KVM_REG_ARM_DEMUX = 0x110000;
export const KVM_REG_ARM_DEMUX_ID_MASK = 0xff00;
export const KVM_REG_ARM_DEMUX_ID_SHIFT = 8;
export const KVM_REG_ARM_DEMUX_ID_CCSIDR = 0x0;
export const KVM_REG_ARM_DEMUX_VAL_MASK = 0xff;
export const KVM_REG_ARM_DEMUX_VAL_SHIFT = 0;
export const KVM_REG_ARM64_SYSREG = 0x130000;
export const KVM_REG_ARM64_SYSREG_OP0_MASK = 0xc000;
export const KVM_REG_ARM64_SYSREG_OP0_SHIFT = 14;
export const KVM_REG_ARM64_SYSREG_OP1_MASK = 0x3800;
export const KVM_REG_ARM64_SYSREG_OP1_SHIFT = 11;
export const KVM_REG_ARM64_SYSREG_CRN_MASK = 0x780;
export const KVM_REG_ARM64_SYSREG_CRN_SHIFT = 7;
export const KVM_REG_ARM64_SYSREG_CRM_MASK = 0x78;
export const KVM_REG_ARM64_SYSREG_CRM_SHIFT = 3;
export const KVM_REG_ARM64_SYSREG_OP2_MASK = 0x7;
export const KVM_REG_ARM64_SYSREG_OP2_SHIFT = 0;
export const KVM_REG_ARM_PTIMER_CTL = 0x603000000013df11n;
export const KVM_REG_ARM_PTIMER_CVAL = 0x603000000013df12n;
export const KVM_REG_ARM_PTIMER_CNT = 0x603000000013df01n;
export const KVM_REG_ARM_TIMER_CTL = 0x603000000013df19n;
export const KVM_REG_ARM_TIMER_CVAL = 0x603000000013df02n;
export const KVM_REG_ARM_TIMER_CNT = 0x603000000013df1an;
export const KVM_REG_ARM_FW = 0x140000;
export const KVM_REG_ARM_PSCI_VERSION = 0x6030000000140000n;
export const KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1 = 0x6030000000140001n;
export const KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1_NOT_AVAIL = 0;
export const KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1_AVAIL = 1;
export const KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1_NOT_REQUIRED = 2;
export const KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2 = 0x6030000000140002n;
export const KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2_NOT_AVAIL = 0;
export const KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2_UNKNOWN = 1;
export const KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2_AVAIL = 2;
export const KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2_NOT_REQUIRED = 3;
export const KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2_ENABLED = 0x10;
export const KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_3 = 0x6030000000140003n;
export const KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_3_NOT_AVAIL = 0;
export const KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_3_AVAIL = 1;
export const KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_3_NOT_REQUIRED = 2;
export const KVM_REG_ARM64_SVE = 0x150000;
export const KVM_REG_ARM64_SVE_ZREG_BASE = 0;
export const KVM_REG_ARM64_SVE_PREG_BASE = 0x400;
export const KVM_REG_ARM64_SVE_FFR_BASE = 0x600;
export const KVM_ARM64_SVE_NUM_ZREGS = 32;
export const KVM_ARM64_SVE_NUM_PREGS = 16;
export const KVM_ARM64_SVE_MAX_SLICES = 32;
export const KVM_ARM64_SVE_VQ_MIN = 1;
export const KVM_ARM64_SVE_VQ_MAX = 512;
export const KVM_REG_ARM64_SVE_VLS = 0x606000000015ffffn;
export const KVM_ARM64_SVE_VLS_WORDS = 8;
export const KVM_REG_ARM_FW_FEAT_BMAP = 0x160000;
export const KVM_REG_ARM_STD_BMAP = 0x6030000000160000n;
export const KVM_REG_ARM_STD_HYP_BMAP = 0x6030000000160001n;
export const KVM_REG_ARM_VENDOR_HYP_BMAP = 0x6030000000160002n;
export const KVM_REG_ARM_VENDOR_HYP_BMAP_2 = 0x6030000000160003n;
export const KVM_ARM_VM_SMCCC_CTRL = 0;
export const KVM_ARM_VM_SMCCC_FILTER = 0;
export const KVM_DEV_ARM_VGIC_GRP_ADDR = 0;
export const KVM_DEV_ARM_VGIC_GRP_DIST_REGS = 1;
export const KVM_DEV_ARM_VGIC_GRP_CPU_REGS = 2;
export const KVM_DEV_ARM_VGIC_CPUID_SHIFT = 32;
export const KVM_DEV_ARM_VGIC_CPUID_MASK = 0xff00000000n;
export const KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT = 32;
export const KVM_DEV_ARM_VGIC_V3_MPIDR_MASK = 0xffffffff00000000n;
export const KVM_DEV_ARM_VGIC_OFFSET_SHIFT = 0;
export const KVM_DEV_ARM_VGIC_OFFSET_MASK = 0xffffffffn;
export const KVM_DEV_ARM_VGIC_SYSREG_INSTR_MASK = 0xffff;
export const KVM_DEV_ARM_VGIC_GRP_NR_IRQS = 3;
export const KVM_DEV_ARM_VGIC_GRP_CTRL = 4;
export const KVM_DEV_ARM_VGIC_GRP_REDIST_REGS = 5;
export const KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS = 6;
export const KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO = 7;
export const KVM_DEV_ARM_VGIC_GRP_ITS_REGS = 8;
export const KVM_DEV_ARM_VGIC_GRP_MAINT_IRQ = 9;
export const KVM_DEV_ARM_VGIC_LINE_LEVEL_INFO_SHIFT = 10;
export const KVM_DEV_ARM_VGIC_LINE_LEVEL_INFO_MASK = 0xfffffc00n;
export const KVM_DEV_ARM_VGIC_LINE_LEVEL_INTID_MASK = 0x3ff;
export const VGIC_LEVEL_INFO_LINE_LEVEL = 0;
export const KVM_DEV_ARM_VGIC_CTRL_INIT = 0;
export const KVM_DEV_ARM_ITS_SAVE_TABLES = 1;
export const KVM_DEV_ARM_ITS_RESTORE_TABLES = 2;
export const KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES = 3;
export const KVM_DEV_ARM_ITS_CTRL_RESET = 4;
export const KVM_DEV_ARM_VGIC_USERSPACE_PPIS = 5;
export const KVM_ARM_VCPU_PMU_V3_CTRL = 0;
export const KVM_ARM_VCPU_PMU_V3_IRQ = 0;
export const KVM_ARM_VCPU_PMU_V3_INIT = 1;
export const KVM_ARM_VCPU_PMU_V3_FILTER = 2;
export const KVM_ARM_VCPU_PMU_V3_SET_PMU = 3;
export const KVM_ARM_VCPU_PMU_V3_SET_NR_COUNTERS = 4;
export const KVM_ARM_VCPU_TIMER_CTRL = 1;
export const KVM_ARM_VCPU_TIMER_IRQ_VTIMER = 0;
export const KVM_ARM_VCPU_TIMER_IRQ_PTIMER = 1;
export const KVM_ARM_VCPU_TIMER_IRQ_HVTIMER = 2;
export const KVM_ARM_VCPU_TIMER_IRQ_HPTIMER = 3;
export const KVM_ARM_VCPU_PVTIME_CTRL = 2;
export const KVM_ARM_VCPU_PVTIME_IPA = 0;
export const KVM_ARM_IRQ_VCPU2_SHIFT = 28;
export const KVM_ARM_IRQ_VCPU2_MASK = 0xf;
export const KVM_ARM_IRQ_TYPE_SHIFT = 24;
export const KVM_ARM_IRQ_TYPE_MASK = 0xf;
export const KVM_ARM_IRQ_VCPU_SHIFT = 16;
export const KVM_ARM_IRQ_VCPU_MASK = 0xff;
export const KVM_ARM_IRQ_NUM_SHIFT = 0;
export const KVM_ARM_IRQ_NUM_MASK = 0xffff;
export const KVM_ARM_IRQ_TYPE_CPU = 0;
export const KVM_ARM_IRQ_TYPE_SPI = 1;
export const KVM_ARM_IRQ_TYPE_PPI = 2;
export const KVM_ARM_IRQ_CPU_IRQ = 0;
export const KVM_ARM_IRQ_CPU_FIQ = 1;
export const KVM_ARM_IRQ_GIC_MAX = 127;
export const KVM_NR_IRQCHIPS = 1;
export const KVM_PSCI_FN_BASE = 0x95c1ba5e;
export const KVM_PSCI_FN_CPU_SUSPEND = 0x95c1ba5e;
export const KVM_PSCI_FN_CPU_OFF = 0x95c1ba5f;
export const KVM_PSCI_FN_CPU_ON = 0x95c1ba60;
export const KVM_PSCI_FN_MIGRATE = 0x95c1ba61;
export const KVM_PSCI_RET_SUCCESS = 0;
export const KVM_PSCI_RET_NI = -1;
export const KVM_PSCI_RET_INVAL = -2;
export const KVM_PSCI_RET_DENIED = -3;
export const KVM_SYSTEM_EVENT_RESET_FLAG_PSCI_RESET2 = 0x1n;
export const KVM_SYSTEM_EVENT_SHUTDOWN_FLAG_PSCI_OFF2 = 0x1n;
export const KVM_EXIT_FAIL_ENTRY_CPU_UNSUPPORTED = 0x1n;
export const KVM_HYPERCALL_EXIT_SMC = 0x1;
export const KVM_HYPERCALL_EXIT_16BIT = 0x2;
export const KVM_ARM_FEATURE_ID_RANGE = 0;
export const KVM_ARM_FEATURE_ID_RANGE_SIZE = 192;
export const KVM_SET_PMU_EVENT_FILTER = 0x4008aeb2;
export const KVM_ARM_MTE_COPY_TAGS = 0x8030aeb4;
export const KVM_ARM_SET_COUNTER_OFFSET = 0x4010aeb5;
export const KVM_ARM_GET_REG_WRITABLE_MASKS = 0x8040aeb6;
export const KVM_GET_REGS = 0x8360ae81;
export const KVM_SET_REGS = 0x4360ae82;
export const KVM_GET_SREGS = 0x8000ae83;
export const KVM_SET_SREGS = 0x4000ae84;
export const KVM_GET_FPU = 0x8000ae8c;
export const KVM_SET_FPU = 0x4000ae8d;
export const KVM_SET_GUEST_DEBUG = 0x4208ae9b;
export const KVM_ARM_VCPU_INIT = 0x4020aeae;
export const KVM_ARM_PREFERRED_TARGET = 0x8020aeaf;
export const O_DIRECTORY = 0x4000;
export const O_NOFOLLOW = 0x8000;
export const O_DIRECT = 0x10000;
export const O_LARGEFILE = 0x20000;
export const O_TMPFILE = 0x404000;
export const PROT_BTI = 0x10;
export const PROT_MTE = 0x20;

export interface user_pt_regs {
  regs: bigint[];
  sp: bigint;
  pc: bigint;
  pstate: bigint;
}
export const user_pt_regs: Struct<user_pt_regs> = struct('user_pt_regs', 'struct', 272, 8, `
  0 __u64 regs[31];
  248 __u64 sp;
  256 __u64 pc;
  264 __u64 pstate;
`);

export interface user_fpsimd_state {
  vregs: bigint[];
  fpsr: number;
  fpcr: number;
  __reserved: number[];
}
export const user_fpsimd_state: Struct<user_fpsimd_state> = struct('user_fpsimd_state', 'struct', 528, 16, `
  0 __uint128_t vregs[32];
  512 __u32 fpsr;
  516 __u32 fpcr;
  520 __u32 __reserved[2];
`);

export interface kvm_regs {
  regs: user_pt_regs;
  sp_el1: bigint;
  elr_el1: bigint;
  spsr: bigint[];
  fp_regs: user_fpsimd_state;
}
export const kvm_regs: Struct<kvm_regs> = struct('kvm_regs', 'struct', 864, 16, `
  0 struct user_pt_regs regs;
  272 __u64 sp_el1;
  280 __u64 elr_el1;
  288 __u64 spsr[5];
  336 struct user_fpsimd_state fp_regs;
`, [user_pt_regs, user_fpsimd_state]);

export interface kvm_vcpu_init {
  target: number;
  features: number[];
}
export const kvm_vcpu_init: Struct<kvm_vcpu_init> = struct('kvm_vcpu_init', 'struct', 32, 4, `
  0 __u32 target;
  4 __u32 features[7];
`);

export interface kvm_sregs {

}
export const kvm_sregs: Struct<kvm_sregs> = struct('kvm_sregs', 'struct', 0, 1, `
`);

export interface kvm_fpu {

}
export const kvm_fpu: Struct<kvm_fpu> = struct('kvm_fpu', 'struct', 0, 1, `
`);

export interface kvm_guest_debug_arch {
  dbg_bcr: bigint[];
  dbg_bvr: bigint[];
  dbg_wcr: bigint[];
  dbg_wvr: bigint[];
}
export const kvm_guest_debug_arch: Struct<kvm_guest_debug_arch> = struct('kvm_guest_debug_arch', 'struct', 512, 8, `
  0 __u64 dbg_bcr[16];
  128 __u64 dbg_bvr[16];
  256 __u64 dbg_wcr[16];
  384 __u64 dbg_wvr[16];
`);

export interface kvm_debug_exit_arch {
  hsr: number;
  hsr_high: number;
  far: bigint;
}
export const kvm_debug_exit_arch: Struct<kvm_debug_exit_arch> = struct('kvm_debug_exit_arch', 'struct', 16, 8, `
  0 __u32 hsr;
  4 __u32 hsr_high;
  8 __u64 far;
`);

export interface kvm_sync_regs {
  device_irq_level: bigint;
}
export const kvm_sync_regs: Struct<kvm_sync_regs> = struct('kvm_sync_regs', 'struct', 8, 8, `
  0 __u64 device_irq_level;
`);

export interface kvm_pmu_event_filter {
  base_event: number;
  nevents: number;
  action: number;
  pad: Uint8Array;
}
export const kvm_pmu_event_filter: Struct<kvm_pmu_event_filter> = struct('kvm_pmu_event_filter', 'struct', 8, 2, `
  0 __u16 base_event;
  2 __u16 nevents;
  4 __u8 action;
  5 __u8 pad[3];
`);

export interface kvm_vcpu_events {
  exception: {
    serror_pending: number;
    serror_has_esr: number;
    ext_dabt_pending: number;
    pad: Uint8Array;
    serror_esr: bigint;
  };
  reserved: number[];
}
export const kvm_vcpu_events: Struct<kvm_vcpu_events> = struct('kvm_vcpu_events', 'struct', 64, 8, `
  0 struct 16,8 {
    0 __u8 serror_pending;
    1 __u8 serror_has_esr;
    2 __u8 ext_dabt_pending;
    3 __u8 pad[5];
    8 __u64 serror_esr;
  } exception;
  16 __u32 reserved[12];
`);

export interface kvm_arm_copy_mte_tags {
  guest_ipa: bigint;
  length: bigint;
  addr: bigint;
  flags: bigint;
  reserved: bigint[];
}
export const kvm_arm_copy_mte_tags: Struct<kvm_arm_copy_mte_tags> = struct('kvm_arm_copy_mte_tags', 'struct', 48, 8, `
  0 __u64 guest_ipa;
  8 __u64 length;
  16 void * @addr;
  24 __u64 flags;
  32 __u64 reserved[2];
`);

export interface kvm_arm_counter_offset {
  counter_offset: bigint;
  reserved: bigint;
}
export const kvm_arm_counter_offset: Struct<kvm_arm_counter_offset> = struct('kvm_arm_counter_offset', 'struct', 16, 8, `
  0 __u64 counter_offset;
  8 __u64 reserved;
`);

export interface kvm_smccc_filter {
  base: number;
  nr_functions: number;
  action: number;
  pad: Uint8Array;
}
export const kvm_smccc_filter: Struct<kvm_smccc_filter> = struct('kvm_smccc_filter', 'struct', 24, 4, `
  0 __u32 base;
  4 __u32 nr_functions;
  8 __u8 action;
  9 __u8 pad[15];
`);

export interface reg_mask_range {
  addr: bigint;
  range: number;
  reserved: number[];
}
export const reg_mask_range: Struct<reg_mask_range> = struct('reg_mask_range', 'struct', 64, 8, `
  0 __u64 @addr;
  8 __u32 range;
  12 __u32 reserved[13];
`);

export interface kvm_irqchip {
  chip_id: number;
  pad: number;
  chip: {
    dummy: Uint8Array;
    readonly [unionMembers]?: 'dummy';
  };
}
export const kvm_irqchip: Struct<kvm_irqchip> = struct('kvm_irqchip', 'struct', 520, 4, `
  0 __u32 chip_id;
  4 __u32 pad;
  8 union 512,1 {
    0 char dummy[512];
  } chip;
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
    0 struct 16,8 {
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

export interface kvm_guest_debug {
  control: number;
  pad: number;
  arch: kvm_guest_debug_arch;
}
export const kvm_guest_debug: Struct<kvm_guest_debug> = struct('kvm_guest_debug', 'struct', 520, 8, `
  0 __u32 control;
  4 __u32 pad;
  8 struct kvm_guest_debug_arch arch;
`, [kvm_guest_debug_arch]);
