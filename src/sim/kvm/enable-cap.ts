import * as kvm from '../../uapi/kvm.ts';
import { EFAULT, EINVAL } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import { enableManualProtect } from './dirty-log.ts';
import { enableDirtyRing } from './dirty-ring.ts';
import { notModelled } from './ioctl-table.ts';
import { setX2apicApi, splitIrqchip } from './irqchip.ts';
import type { Vcpu } from './vcpu.ts';
import type { Vm } from './vm.ts';
import * as settings from './vm-caps.ts';

/** `struct kvm_enable_cap` as a handler sees it. */
export interface EnableCap {
  readonly flags: number;
  readonly args: readonly [bigint, bigint, bigint, bigint];
}

type Enable<T> = (self: T, cap: EnableCap, p: Process) => number;
/** 'not modelled': the kernel knows it, this simulator does not yet. */
type EnableRows<T> = Readonly<Record<number, Enable<T> | 'not modelled'>>;

/** Known, and refused whatever is asked. */
const refused = (): number => -EINVAL;

/** What `kvm_vm_ioctl_enable_cap_generic` takes: before any test of flags, which each makes itself. */
const generic: EnableRows<Vm> = {
  [kvm.KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2]: enableManualProtect,
  [kvm.KVM_CAP_HALT_POLL]: settings.setHaltPoll,
  [kvm.KVM_CAP_DIRTY_LOG_RING]: enableDirtyRing,
  [kvm.KVM_CAP_DIRTY_LOG_RING_ACQ_REL]: enableDirtyRing,
  [kvm.KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP]: refused,
};

/** `kvm_vm_ioctl_enable_cap` of x86: no flags. What is not here is unknown. */
const vmCaps: EnableRows<Vm> = {
  [kvm.KVM_CAP_DISABLE_QUIRKS2]: settings.disableQuirks2,
  [kvm.KVM_CAP_DISABLE_QUIRKS]: settings.disableQuirks,
  [kvm.KVM_CAP_SPLIT_IRQCHIP]: splitIrqchip,
  [kvm.KVM_CAP_X2APIC_API]: setX2apicApi,
  [kvm.KVM_CAP_X86_DISABLE_EXITS]: settings.setDisabledExits,
  [kvm.KVM_CAP_MSR_PLATFORM_INFO]: settings.setPlatformInfo,
  [kvm.KVM_CAP_EXCEPTION_PAYLOAD]: settings.setExceptionPayload,
  [kvm.KVM_CAP_X86_TRIPLE_FAULT_EVENT]: settings.setTripleFaultEvent,
  [kvm.KVM_CAP_X86_USER_SPACE_MSR]: settings.setUserSpaceMsr,
  [kvm.KVM_CAP_X86_BUS_LOCK_EXIT]: settings.setBusLockExit,
  [kvm.KVM_CAP_EXIT_HYPERCALL]: settings.setExitHypercall,
  [kvm.KVM_CAP_EXIT_ON_EMULATION_FAILURE]: settings.setExitOnEmulationFailure,
  [kvm.KVM_CAP_PMU_CAPABILITY]: settings.setPmuCapability,
  [kvm.KVM_CAP_MAX_VCPU_ID]: settings.setMaxVcpuId,
  [kvm.KVM_CAP_X86_NOTIFY_VMEXIT]: settings.setNotifyVmexit,
  [kvm.KVM_CAP_VM_DISABLE_NX_HUGE_PAGES]: settings.disableNxHugePages,
  [kvm.KVM_CAP_X86_APIC_BUS_CYCLES_NS]: settings.setApicBusCycles,
  [kvm.KVM_CAP_SGX_ATTRIBUTE]: refused,
  [kvm.KVM_CAP_VM_COPY_ENC_CONTEXT_FROM]: refused,
  [kvm.KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM]: refused,
};

/** Paravirtual features the guest's CPUID does not have are not there. */
function enforcePvFeatureCpuid(vcpu: Vcpu, { args: [on] }: EnableCap): number {
  vcpu.pvCpuidEnforced = on !== 0n;
  return 0;
}

/** `kvm_vcpu_ioctl_enable_cap`: no flags; every capability of the VM is unknown here. */
const vcpuCaps: EnableRows<Vcpu> = {
  [kvm.KVM_CAP_ENFORCE_PV_FEATURE_CPUID]: enforcePvFeatureCpuid,
};

function read(p: Process, arg: bigint): (EnableCap & { readonly cap: number }) | null {
  const bytes = p.mm.copyFrom(arg, kvm.kvm_enable_cap.size);
  if (bytes === null) return null;
  const { cap, flags, args } = kvm.kvm_enable_cap.decode(bytes);
  return { cap, flags, args: [args[0]!, args[1]!, args[2]!, args[3]!] };
}

function enable<T>(row: Enable<T> | 'not modelled', self: T, cap: EnableCap & { readonly cap: number }, p: Process): number {
  return row === 'not modelled' ? notModelled(`KVM_ENABLE_CAP of capability ${cap.cap}`) : row(self, cap, p);
}

/** KVM_ENABLE_CAP on a VM descriptor. */
export function enableVmCap(vm: Vm, p: Process, arg: bigint): number {
  const cap = read(p, arg);
  if (cap === null) return -EFAULT;
  const first = generic[cap.cap];
  if (first !== undefined) return enable(first, vm, cap, p);
  if (cap.flags !== 0) return -EINVAL;
  const row = vmCaps[cap.cap];
  return row === undefined ? -EINVAL : enable(row, vm, cap, p);
}

/** KVM_ENABLE_CAP on a vCPU descriptor. */
export function enableVcpuCap(vcpu: Vcpu, p: Process, arg: bigint): number {
  const cap = read(p, arg);
  if (cap === null) return -EFAULT;
  if (cap.flags !== 0) return -EINVAL;
  const row = vcpuCaps[cap.cap];
  return row === undefined ? -EINVAL : enable(row, vcpu, cap, p);
}
