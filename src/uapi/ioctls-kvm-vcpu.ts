/** Requests of vCPU fds. All of them wait for a KVM_RUN in progress on the same vCPU: they share its mutex. */
import type { IoctlRow, PointerRule, Tail } from './ioctl-row.ts';
import * as k from './kvm.ts';
import type { Struct } from './struct.ts';

type Extra = Partial<IoctlRow>;
const get = (name: string, request: number, struct: Struct<unknown>, extra: Extra = {}): IoctlRow => ({
  ...{ name, request, fds: ['vcpu'], arg: 'pointer', struct, dir: 'out', size: struct.size },
  ...extra,
});
const set = (name: string, request: number, struct: Struct<unknown>, extra: Extra = {}): IoctlRow => ({
  ...{ name, request, fds: ['vcpu'], arg: 'pointer', struct, dir: 'in', size: struct.size },
  ...extra,
});
const x86 = { arch: 'x86' } as const;

/** The register's size is in its id: log2 of the bytes, in bits 52..55. */
const register = (dir: 'in' | 'out'): readonly PointerRule[] => [
  { field: 'addr', dir, length: ['<<', 1, ['&', ['>>', 'id', 52], 15]] },
];

/** kvm_nested_state: `size` counts the whole, header included. */
const nestedTail = (dir: 'in' | 'out'): Tail => ({ length: ['-', 'size', k.kvm_nested_state.size], dir });

/** The vCPU's uABI size of XSAVE state: 4096 unless a dynamic feature was permitted (KVM_CAP_XSAVE2 on the VM says). */
const xsaveTail = (dir: 'in' | 'out'): Tail => ({ length: ['-', ['state', 'xsave2-size', 4096], 4096], dir });

export const vcpuIoctls = (): readonly IoctlRow[] => [
  {
    name: 'KVM_RUN',
    request: k.KVM_RUN,
    fds: ['vcpu'],
    arg: 'none',
    zero: true,
    size: 0,
    blocks: true,
    since: '2.6.20',
    errnos: ['EINTR', 'EAGAIN', 'EINVAL', 'EFAULT', 'EHWPOISON', 'ENOEXEC', 'ENOSYS', 'EPERM'],
    note: 'EINTR: a signal or immediate_exit. EFAULT or EHWPOISON with exit reason MEMORY_FAULT is an exit',
  },
  get('KVM_GET_REGS', k.KVM_GET_REGS, k.kvm_regs, { ...x86, since: '2.6.20' }),
  set('KVM_SET_REGS', k.KVM_SET_REGS, k.kvm_regs, { ...x86, since: '2.6.20' }),
  get('KVM_GET_SREGS', k.KVM_GET_SREGS, k.kvm_sregs, { ...x86, since: '2.6.20' }),
  set('KVM_SET_SREGS', k.KVM_SET_SREGS, k.kvm_sregs, { ...x86, since: '2.6.20', errnos: ['EINVAL'] }),
  get('KVM_GET_SREGS2', k.KVM_GET_SREGS2, k.kvm_sregs2, { ...x86, since: '5.14', capability: 'KVM_CAP_SREGS2' }),
  set('KVM_SET_SREGS2', k.KVM_SET_SREGS2, k.kvm_sregs2, {
    ...x86,
    since: '5.14',
    capability: 'KVM_CAP_SREGS2',
    errnos: ['EINVAL'],
  }),
  set('KVM_TRANSLATE', k.KVM_TRANSLATE, k.kvm_translation, { ...x86, dir: 'inout', since: '2.6.20' }),
  set('KVM_INTERRUPT', k.KVM_INTERRUPT, k.kvm_interrupt, { ...x86, since: '2.6.20', errnos: ['EINVAL', 'ENXIO', 'EEXIST'] }),
  {
    ...set('KVM_SET_MSRS', k.KVM_SET_MSRS, k.kvm_msrs, x86),
    since: '2.6.20',
    errnos: ['E2BIG'],
    tail: { length: ['if', ['<=', 'nmsrs', 255], ['*', 'nmsrs', k.kvm_msr_entry.size], 0], dir: 'in' },
    note: 'returns how many were set before the first that could not be',
  },
  {
    ...set('KVM_SET_CPUID', k.KVM_SET_CPUID, k.kvm_cpuid, x86),
    since: '2.6.20',
    errnos: ['E2BIG', 'EINVAL'],
    tail: { length: ['if', ['<=', 'nent', 256], ['*', 'nent', k.kvm_cpuid_entry.size], 0], dir: 'in' },
  },
  {
    ...set('KVM_SET_CPUID2', k.KVM_SET_CPUID2, k.kvm_cpuid2, x86),
    since: '2.6.25',
    capability: 'KVM_CAP_EXT_CPUID',
    errnos: ['E2BIG', 'EINVAL'],
    tail: { length: ['if', ['<=', 'nent', 256], ['*', 'nent', k.kvm_cpuid_entry2.size], 0], dir: 'in' },
  },
  {
    ...get('KVM_GET_CPUID2', k.KVM_GET_CPUID2, k.kvm_cpuid2, x86),
    dir: 'inout',
    since: '2.6.25',
    capability: 'KVM_CAP_EXT_CPUID',
    errnos: ['E2BIG'],
    tail: { length: ['*', ['min', 'nent', 256], k.kvm_cpuid_entry2.size], dir: 'out' },
  },
  {
    ...set('KVM_SET_SIGNAL_MASK', k.KVM_SET_SIGNAL_MASK, k.kvm_signal_mask),
    nullable: true,
    since: '2.6.20',
    errnos: ['EINVAL'],
    tail: { length: ['if', ['==', 'len', 8], 8, 0], dir: 'in' },
    note: 'NULL drops the mask; len other than 8 is EINVAL',
  },
  get('KVM_GET_FPU', k.KVM_GET_FPU, k.kvm_fpu, { ...x86, since: '2.6.20' }),
  set('KVM_SET_FPU', k.KVM_SET_FPU, k.kvm_fpu, { ...x86, since: '2.6.20' }),
  get('KVM_GET_LAPIC', k.KVM_GET_LAPIC, k.kvm_lapic_state, {
    ...x86,
    since: '2.6.24',
    capability: 'KVM_CAP_IRQCHIP',
    errnos: ['EINVAL'],
  }),
  set('KVM_SET_LAPIC', k.KVM_SET_LAPIC, k.kvm_lapic_state, {
    ...x86,
    since: '2.6.24',
    capability: 'KVM_CAP_IRQCHIP',
    errnos: ['EINVAL'],
  }),
  set('KVM_TPR_ACCESS_REPORTING', k.KVM_TPR_ACCESS_REPORTING, k.kvm_tpr_access_ctl, {
    ...x86,
    dir: 'inout',
    since: '2.6.25',
    capability: 'KVM_CAP_VAPIC',
    errnos: ['EINVAL'],
  }),
  set('KVM_SET_VAPIC_ADDR', k.KVM_SET_VAPIC_ADDR, k.kvm_vapic_addr, {
    ...x86,
    since: '2.6.25',
    capability: 'KVM_CAP_VAPIC',
    errnos: ['EINVAL'],
    note: 'a guest physical address',
  }),
  get('KVM_GET_MP_STATE', k.KVM_GET_MP_STATE, k.kvm_mp_state, { since: '2.6.26', capability: 'KVM_CAP_MP_STATE' }),
  set('KVM_SET_MP_STATE', k.KVM_SET_MP_STATE, k.kvm_mp_state, {
    since: '2.6.26',
    capability: 'KVM_CAP_MP_STATE',
    errnos: ['EINVAL'],
  }),
  {
    name: 'KVM_NMI',
    request: k.KVM_NMI,
    fds: ['vcpu'],
    arg: 'none',
    size: 0,
    capability: 'KVM_CAP_USER_NMI',
    arch: 'x86',
    since: '2.6.28',
  },
  {
    name: 'KVM_SMI',
    request: k.KVM_SMI,
    fds: ['vcpu'],
    arg: 'none',
    size: 0,
    capability: 'KVM_CAP_X86_SMM',
    errnos: ['ENOTTY'],
    arch: 'x86',
    since: '4.2',
  },
  set('KVM_SET_GUEST_DEBUG', k.KVM_SET_GUEST_DEBUG, k.kvm_guest_debug, {
    ...x86,
    since: '2.6.30',
    capability: 'KVM_CAP_SET_GUEST_DEBUG',
    errnos: ['EBUSY'],
  }),
  {
    name: 'KVM_X86_SETUP_MCE',
    request: k.KVM_X86_SETUP_MCE,
    fds: ['vcpu'],
    arg: 'pointer',
    dir: 'in',
    size: 8,
    capability: 'KVM_CAP_MCE',
    errnos: ['EINVAL'],
    arch: 'x86',
    since: '2.6.31',
  },
  set('KVM_X86_SET_MCE', k.KVM_X86_SET_MCE, k.kvm_x86_mce, {
    ...x86,
    since: '2.6.31',
    capability: 'KVM_CAP_MCE',
    errnos: ['EINVAL'],
  }),
  get('KVM_GET_VCPU_EVENTS', k.KVM_GET_VCPU_EVENTS, k.kvm_vcpu_events, {
    ...x86,
    since: '2.6.33',
    capability: 'KVM_CAP_VCPU_EVENTS',
  }),
  set('KVM_SET_VCPU_EVENTS', k.KVM_SET_VCPU_EVENTS, k.kvm_vcpu_events, {
    ...x86,
    since: '2.6.33',
    capability: 'KVM_CAP_VCPU_EVENTS',
    errnos: ['EINVAL'],
  }),
  get('KVM_GET_DEBUGREGS', k.KVM_GET_DEBUGREGS, k.kvm_debugregs, { ...x86, since: '2.6.35', capability: 'KVM_CAP_DEBUGREGS' }),
  set('KVM_SET_DEBUGREGS', k.KVM_SET_DEBUGREGS, k.kvm_debugregs, {
    ...x86,
    since: '2.6.35',
    capability: 'KVM_CAP_DEBUGREGS',
    errnos: ['EINVAL'],
  }),
  get('KVM_GET_XSAVE', k.KVM_GET_XSAVE, k.kvm_xsave, {
    ...x86,
    since: '2.6.36',
    capability: 'KVM_CAP_XSAVE',
    errnos: ['EINVAL'],
  }),
  set('KVM_SET_XSAVE', k.KVM_SET_XSAVE, k.kvm_xsave, {
    ...x86,
    since: '2.6.36',
    capability: 'KVM_CAP_XSAVE',
    errnos: ['EINVAL'],
    tail: xsaveTail('in'),
  }),
  get('KVM_GET_XSAVE2', k.KVM_GET_XSAVE2, k.kvm_xsave, {
    ...x86,
    since: '5.17',
    capability: 'KVM_CAP_XSAVE2',
    tail: xsaveTail('out'),
  }),
  get('KVM_GET_XCRS', k.KVM_GET_XCRS, k.kvm_xcrs, { ...x86, since: '2.6.36', capability: 'KVM_CAP_XCRS', errnos: ['EINVAL'] }),
  set('KVM_SET_XCRS', k.KVM_SET_XCRS, k.kvm_xcrs, { ...x86, since: '2.6.36', capability: 'KVM_CAP_XCRS', errnos: ['EINVAL'] }),
  set('KVM_GET_ONE_REG', k.KVM_GET_ONE_REG, k.kvm_one_reg, {
    since: '3.5',
    capability: 'KVM_CAP_ONE_REG',
    errnos: ['EINVAL', 'ENOENT'],
    pointers: register('out'),
  }),
  set('KVM_SET_ONE_REG', k.KVM_SET_ONE_REG, k.kvm_one_reg, {
    since: '3.5',
    capability: 'KVM_CAP_ONE_REG',
    errnos: ['EINVAL', 'ENOENT', 'EBUSY'],
    pointers: register('in'),
  }),
  {
    ...get('KVM_GET_REG_LIST', k.KVM_GET_REG_LIST, k.kvm_reg_list),
    dir: 'inout',
    since: '3.10',
    capability: 'KVM_CAP_ONE_REG',
    errnos: ['E2BIG'],
    tail: { length: ['*', 'n', 8], dir: 'out' },
    note: 'E2BIG leaves the needed count in n',
  },
  {
    name: 'KVM_KVMCLOCK_CTRL',
    request: k.KVM_KVMCLOCK_CTRL,
    fds: ['vcpu'],
    arg: 'none',
    size: 0,
    capability: 'KVM_CAP_KVMCLOCK_CTRL',
    errnos: ['EINVAL'],
    arch: 'x86',
    since: '3.5',
  },
  get('KVM_GET_NESTED_STATE', k.KVM_GET_NESTED_STATE, k.kvm_nested_state, {
    ...x86,
    dir: 'inout',
    since: '4.19',
    capability: 'KVM_CAP_NESTED_STATE',
    errnos: ['EINVAL', 'E2BIG'],
    tail: nestedTail('out'),
  }),
  set('KVM_SET_NESTED_STATE', k.KVM_SET_NESTED_STATE, k.kvm_nested_state, {
    ...x86,
    since: '4.19',
    capability: 'KVM_CAP_NESTED_STATE',
    errnos: ['EINVAL'],
    tail: nestedTail('in'),
  }),
  set('KVM_PRE_FAULT_MEMORY', k.KVM_PRE_FAULT_MEMORY, k.kvm_pre_fault_memory, {
    dir: 'inout',
    since: '6.11',
    capability: 'KVM_CAP_PRE_FAULT_MEMORY',
    errnos: ['EINVAL', 'EINTR', 'EOPNOTSUPP', 'ENOENT', 'EFAULT', 'EHWPOISON'],
    note: 'gpa and size are moved on by what was done, also when it stops early',
  }),
  set('KVM_XEN_VCPU_GET_ATTR', k.KVM_XEN_VCPU_GET_ATTR, k.kvm_xen_vcpu_attr, {
    ...x86,
    dir: 'inout',
    since: '5.12',
    capability: 'KVM_CAP_XEN_HVM',
    errnos: ['ENOTTY', 'ENOENT', 'EOPNOTSUPP'],
  }),
  set('KVM_XEN_VCPU_SET_ATTR', k.KVM_XEN_VCPU_SET_ATTR, k.kvm_xen_vcpu_attr, {
    ...x86,
    since: '5.12',
    capability: 'KVM_CAP_XEN_HVM',
    errnos: ['ENOTTY', 'EINVAL', 'ENOENT', 'ENXIO', 'EOPNOTSUPP'],
    pointers: [
      {
        field: 'u.hva',
        dir: 'inout',
        length: 64,
        when: ['and', ['==', 'type', k.KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO_HVA], 'u.hva'],
      },
    ],
    note: 'vcpu_info is 64 bytes',
  }),
];
