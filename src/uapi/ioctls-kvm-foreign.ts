/** KVM requests of arm64 and of the architectures kvio does not run on: for tracers, and so that the table is whole. */
import * as arm64 from './arm64.ts';
import type { Arch, IoctlRow } from './ioctl-row.ts';
import * as k from './kvm.ts';
import type { Struct } from './struct.ts';

const arm = (
  name: string,
  request: number,
  fds: IoctlRow['fds'],
  dir: 'in' | 'out' | 'inout',
  struct: Struct<unknown>,
  extra: Partial<IoctlRow> = {},
): IoctlRow => ({
  ...{ name, request, fds, arg: 'pointer', struct, dir, size: struct.size, arch: 'arm64' },
  ...extra,
});

const TAGS: readonly ['/', string, number] = ['/', 'length', 16];

/** Requests only arm64 has, and those whose number differs there because the struct does. */
export const arm64Ioctls = (): readonly IoctlRow[] => [
  arm('KVM_GET_REGS', arm64.KVM_GET_REGS, ['vcpu'], 'out', arm64.kvm_regs, {
    errnos: ['EINVAL'],
    note: 'arm64 has KVM_GET_ONE_REG instead',
  }),
  arm('KVM_SET_REGS', arm64.KVM_SET_REGS, ['vcpu'], 'in', arm64.kvm_regs, {
    errnos: ['EINVAL'],
    note: 'arm64 has KVM_SET_ONE_REG instead',
  }),
  arm('KVM_GET_SREGS', arm64.KVM_GET_SREGS, ['vcpu'], 'out', arm64.kvm_sregs, { errnos: ['EINVAL'] }),
  arm('KVM_SET_SREGS', arm64.KVM_SET_SREGS, ['vcpu'], 'in', arm64.kvm_sregs, { errnos: ['EINVAL'] }),
  arm('KVM_GET_FPU', arm64.KVM_GET_FPU, ['vcpu'], 'out', arm64.kvm_fpu, { errnos: ['EINVAL'] }),
  arm('KVM_SET_FPU', arm64.KVM_SET_FPU, ['vcpu'], 'in', arm64.kvm_fpu, { errnos: ['EINVAL'] }),
  arm('KVM_SET_GUEST_DEBUG', arm64.KVM_SET_GUEST_DEBUG, ['vcpu'], 'in', arm64.kvm_guest_debug, {
    capability: 'KVM_CAP_SET_GUEST_DEBUG',
    errnos: ['EINVAL'],
  }),
  arm('KVM_GET_VCPU_EVENTS', k.KVM_GET_VCPU_EVENTS, ['vcpu'], 'out', arm64.kvm_vcpu_events, {
    capability: 'KVM_CAP_VCPU_EVENTS',
  }),
  arm('KVM_SET_VCPU_EVENTS', k.KVM_SET_VCPU_EVENTS, ['vcpu'], 'in', arm64.kvm_vcpu_events, {
    capability: 'KVM_CAP_VCPU_EVENTS',
    errnos: ['EINVAL'],
  }),
  arm('KVM_SET_PMU_EVENT_FILTER', arm64.KVM_SET_PMU_EVENT_FILTER, ['vm'], 'in', arm64.kvm_pmu_event_filter, {
    errnos: ['EINVAL'],
    note: 'arm64 filters through KVM_ARM_VCPU_PMU_V3_FILTER instead',
  }),
  arm('KVM_ARM_VCPU_INIT', arm64.KVM_ARM_VCPU_INIT, ['vcpu'], 'in', arm64.kvm_vcpu_init, {
    since: '3.9',
    errnos: ['EINVAL', 'ENOENT'],
  }),
  arm('KVM_ARM_PREFERRED_TARGET', arm64.KVM_ARM_PREFERRED_TARGET, ['vm'], 'out', arm64.kvm_vcpu_init, {
    since: '3.13',
    errnos: ['ENODEV'],
  }),
  {
    name: 'KVM_ARM_VCPU_FINALIZE',
    request: k.KVM_ARM_VCPU_FINALIZE,
    fds: ['vcpu'],
    arg: 'pointer',
    dir: 'in',
    size: 4,
    arch: 'arm64',
    since: '5.2',
    capability: 'KVM_CAP_ARM_SVE',
    errnos: ['EPERM', 'EINVAL'],
    note: 'a pointer to the feature number',
  },
  arm('KVM_ARM_SET_DEVICE_ADDR', k.KVM_ARM_SET_DEVICE_ADDR, ['vm'], 'in', k.kvm_arm_device_addr, {
    since: '3.9',
    capability: 'KVM_CAP_ARM_SET_DEVICE_ADDR',
    errnos: ['ENODEV', 'ENXIO', 'EEXIST', 'E2BIG'],
  }),
  arm('KVM_ARM_MTE_COPY_TAGS', arm64.KVM_ARM_MTE_COPY_TAGS, ['vm'], 'in', arm64.kvm_arm_copy_mte_tags, {
    since: '5.14',
    capability: 'KVM_CAP_ARM_MTE',
    errnos: ['EINVAL', 'EOPNOTSUPP'],
    note: 'one byte for each 16; returns the bytes of guest memory done',
    pointers: [
      { field: 'addr', dir: 'in', length: TAGS, when: ['==', 'flags', arm64.KVM_ARM_TAGS_TO_GUEST] },
      { field: 'addr', dir: 'out', length: TAGS, when: ['==', 'flags', arm64.KVM_ARM_TAGS_FROM_GUEST] },
    ],
  }),
  arm('KVM_ARM_SET_COUNTER_OFFSET', arm64.KVM_ARM_SET_COUNTER_OFFSET, ['vm'], 'in', arm64.kvm_arm_counter_offset, {
    since: '6.4',
    capability: 'KVM_CAP_COUNTER_OFFSET',
    errnos: ['EINVAL', 'EBUSY'],
  }),
  arm('KVM_ARM_GET_REG_WRITABLE_MASKS', arm64.KVM_ARM_GET_REG_WRITABLE_MASKS, ['vm'], 'in', arm64.reg_mask_range, {
    since: '6.7',
    capability: 'KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES',
    errnos: ['EINVAL'],
    pointers: [{ field: 'addr', dir: 'out', length: arm64.KVM_ARM_FEATURE_ID_RANGE_SIZE * 8, when: ['==', 'range', 0] }],
  }),
];

const other = (arch: Arch, name: string, request: number, extra: Partial<IoctlRow>): IoctlRow => ({
  ...{ name, request, fds: ['vm'], arg: 'none', size: 0, arch },
  ...extra,
});

/** Requests of s390 and powerpc the generic header can express. The words are those of x86-64's encoding. */
export const otherKvmIoctls = (): readonly IoctlRow[] => [
  other('s390', 'KVM_S390_ENABLE_SIE', k.KVM_S390_ENABLE_SIE, { fds: ['kvm'] }),
  other('s390', 'KVM_S390_VCPU_FAULT', k.KVM_S390_VCPU_FAULT, {
    fds: ['vcpu'],
    arg: 'int',
    note: 'the argument is a guest address',
  }),
  other('s390', 'KVM_S390_KEYOP', k.KVM_S390_KEYOP, {
    arg: 'pointer',
    struct: k.kvm_s390_keyop,
    dir: 'inout',
    size: k.kvm_s390_keyop.size,
  }),
  other('s390', 'KVM_S390_STORE_STATUS', k.KVM_S390_STORE_STATUS, {
    fds: ['vcpu'],
    arg: 'int',
    note: 'the argument is a guest address',
  }),
  other('s390', 'KVM_S390_INITIAL_RESET', k.KVM_S390_INITIAL_RESET, { fds: ['vcpu'] }),
  other('s390', 'KVM_S390_NORMAL_RESET', k.KVM_S390_NORMAL_RESET, { fds: ['vcpu'], capability: 'KVM_CAP_S390_VCPU_RESETS' }),
  other('s390', 'KVM_S390_CLEAR_RESET', k.KVM_S390_CLEAR_RESET, { fds: ['vcpu'], capability: 'KVM_CAP_S390_VCPU_RESETS' }),
  other('powerpc', 'KVM_PPC_ALLOCATE_HTAB', k.KVM_PPC_ALLOCATE_HTAB, {
    arg: 'pointer',
    dir: 'inout',
    size: 4,
    capability: 'KVM_CAP_PPC_ALLOC_HTAB',
  }),
  other('powerpc', 'KVM_PPC_SVM_OFF', k.KVM_PPC_SVM_OFF, {}),
  other('powerpc', 'KVM_DIRTY_TLB', k.KVM_DIRTY_TLB, {
    fds: ['vcpu'],
    arg: 'pointer',
    struct: k.kvm_dirty_tlb,
    dir: 'in',
    size: k.kvm_dirty_tlb.size,
    capability: 'KVM_CAP_SW_TLB',
    pointers: [{ field: 'bitmap', dir: 'in', length: ['state', 'shared-tlb-bitmap', 8] }],
  }),
];

/** Requests whose struct only their own architecture's headers define: they have no number on x86-64 or arm64. */
export const unnumberedIoctls: Readonly<Record<string, Arch>> = {
  KVM_S390_UCAS_MAP: 's390',
  KVM_S390_UCAS_UNMAP: 's390',
  KVM_S390_INTERRUPT: 's390',
  KVM_S390_SET_INITIAL_PSW: 's390',
  KVM_S390_MEM_OP: 's390',
  KVM_S390_GET_SKEYS: 's390',
  KVM_S390_SET_SKEYS: 's390',
  KVM_S390_IRQ: 's390',
  KVM_S390_SET_IRQ_STATE: 's390',
  KVM_S390_GET_IRQ_STATE: 's390',
  KVM_S390_GET_CMMA_BITS: 's390',
  KVM_S390_SET_CMMA_BITS: 's390',
  KVM_S390_PV_COMMAND: 's390',
  KVM_S390_PV_CPU_COMMAND: 's390',
  KVM_S390_ZPCI_OP: 's390',
  KVM_PPC_GET_PVINFO: 'powerpc',
  KVM_PPC_GET_SMMU_INFO: 'powerpc',
  KVM_CREATE_SPAPR_TCE: 'powerpc',
  KVM_CREATE_SPAPR_TCE_64: 'powerpc',
  KVM_ALLOCATE_RMA: 'powerpc',
  KVM_PPC_GET_HTAB_FD: 'powerpc',
  KVM_PPC_RTAS_DEFINE_TOKEN: 'powerpc',
  KVM_PPC_RESIZE_HPT_PREPARE: 'powerpc',
  KVM_PPC_RESIZE_HPT_COMMIT: 'powerpc',
  KVM_PPC_CONFIGURE_V3_MMU: 'powerpc',
  KVM_PPC_GET_RMMU_INFO: 'powerpc',
  KVM_PPC_GET_CPU_CHAR: 'powerpc',
};
