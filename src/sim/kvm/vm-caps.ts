import * as kvm from '../../uapi/kvm.ts';
import { EINVAL, ENXIO } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import type { EnableCap } from './enable-cap.ts';
import { capability } from './ioctl-table.ts';
import { ALLOW_ALL, type MsrFilter } from './msr-filter.ts';
import type { Vm } from './vm.ts';

/** Nanoseconds of one cycle of the APIC bus: a local APIC's timer at its default of 1 GHz. */
const APIC_BUS_CYCLE_NS_DEFAULT = 1n;
const MAX_HALT_POLL_NS = 0xffff_ffffn;

/** What KVM_ENABLE_CAP has set of `struct kvm_arch`, besides the interrupt controllers and dirty logging. Names are the kernel's. */
export class VmCaps {
  /** KVM_CAP_HALT_POLL: at most this long a halted vCPU is polled for before it sleeps; undefined: the module's default. */
  maxHaltPollNs: number | undefined = undefined;
  /** KVM_CAP_DISABLE_QUIRKS, KVM_CAP_DISABLE_QUIRKS2: KVM_X86_QUIRK_* that are off. */
  disabledQuirks = 0n;
  /** KVM_CAP_MSR_PLATFORM_INFO: the guest may read that MSR. */
  guestCanReadMsrPlatformInfo = true;
  /** KVM_CAP_EXCEPTION_PAYLOAD. */
  exceptionPayloadEnabled = false;
  /** KVM_CAP_X86_TRIPLE_FAULT_EVENT. */
  tripleFaultEvent = false;
  /** KVM_CAP_X86_USER_SPACE_MSR: KVM_MSR_EXIT_REASON_* for which a guest's access comes to userspace. */
  userSpaceMsrMask = 0;
  /** KVM_X86_SET_MSR_FILTER. */
  msrFilter: MsrFilter = ALLOW_ALL;
  /** KVM_CAP_X86_BUS_LOCK_EXIT with KVM_BUS_LOCK_DETECTION_EXIT, where the host can. */
  busLockDetectionEnabled = false;
  /** KVM_CAP_EXIT_HYPERCALL: bit n lets hypercall n come to userspace. */
  hypercallExitEnabled = 0n;
  /** KVM_CAP_EXIT_ON_EMULATION_FAILURE. */
  exitOnEmulationError = false;
  /** KVM_CAP_X86_DISABLE_EXITS: KVM_X86_DISABLE_EXITS_* the guest executes without KVM. */
  disabledExits = 0;
  /** KVM_CAP_X86_APIC_BUS_CYCLES_NS. */
  apicBusCycleNs: bigint = APIC_BUS_CYCLE_NS_DEFAULT;

  quirk(bit: number): boolean {
    return (this.disabledQuirks & BigInt(bit)) === 0n;
  }
}

type Enable = (vm: Vm, cap: EnableCap) => number;

const supportedQuirks = (vm: Vm): bigint => BigInt(capability(vm.machine, kvm.KVM_CAP_DISABLE_QUIRKS2));

/** A capability that is on for any args[0] but 0. */
const boolean =
  (name: 'exceptionPayloadEnabled' | 'tripleFaultEvent' | 'guestCanReadMsrPlatformInfo'): Enable =>
  (vm, { args: [on] }) => {
    vm.caps[name] = on !== 0n;
    return 0;
  };

/** KVM_CAP_HALT_POLL looks at the flags itself. */
export const setHaltPoll: Enable = (vm, { flags, args: [ns] }) => {
  if (flags !== 0 || ns > MAX_HALT_POLL_NS) return -EINVAL;
  vm.caps.maxHaltPollNs = Number(ns);
  return 0;
};

export const disableQuirks2: Enable = (vm, { args: [quirks] }) => {
  if (quirks & ~supportedQuirks(vm)) return -EINVAL;
  vm.caps.disabledQuirks |= quirks;
  return 0;
};

/** The old form takes what it knows of anything. */
export const disableQuirks: Enable = (vm, { args: [quirks] }) => {
  vm.caps.disabledQuirks |= quirks & supportedQuirks(vm);
  return 0;
};

export const setPlatformInfo: Enable = boolean('guestCanReadMsrPlatformInfo');
export const setExceptionPayload: Enable = boolean('exceptionPayloadEnabled');
export const setTripleFaultEvent: Enable = boolean('tripleFaultEvent');

const MSR_EXIT_REASONS =
  BigInt(kvm.KVM_MSR_EXIT_REASON_INVAL) | BigInt(kvm.KVM_MSR_EXIT_REASON_UNKNOWN) | BigInt(kvm.KVM_MSR_EXIT_REASON_FILTER);

export const setUserSpaceMsr: Enable = (vm, { args: [mask] }) => {
  if (mask & ~MSR_EXIT_REASONS) return -EINVAL;
  vm.caps.userSpaceMsrMask = Number(mask);
  return 0;
};

/** Where the host detects no bus locks the mode is taken all the same, and nothing happens. */
export const setBusLockExit: Enable = (vm, { args: [mode] }) => {
  const [off, exit] = [BigInt(kvm.KVM_BUS_LOCK_DETECTION_OFF), BigInt(kvm.KVM_BUS_LOCK_DETECTION_EXIT)];
  if (mode & ~(off | exit) || mode === (off | exit)) return -EINVAL;
  if (capability(vm.machine, kvm.KVM_CAP_X86_BUS_LOCK_EXIT) !== 0 && mode & exit) vm.caps.busLockDetectionEnabled = true;
  return 0;
};

export const setExitHypercall: Enable = (vm, { args: [mask] }) => {
  if (mask & ~BigInt(capability(vm.machine, kvm.KVM_CAP_EXIT_HYPERCALL))) return -EINVAL;
  vm.caps.hypercallExitEnabled = mask;
  return 0;
};

export const setExitOnEmulationFailure: Enable = (vm, { args: [on] }) => {
  if (on & ~1n) return -EINVAL;
  vm.caps.exitOnEmulationError = on !== 0n;
  return 0;
};

/** Bits of the capability's own value only; before the first vCPU. */
export const setDisabledExits: Enable = (vm, { args: [exits] }) => {
  if (exits & ~BigInt(capability(vm.machine, kvm.KVM_CAP_X86_DISABLE_EXITS))) return -EINVAL;
  if (vm.vcpus.size > 0 && has(vm.machine, 'disableExitsBeforeVcpus')) return -EINVAL;
  vm.caps.disabledExits |= Number(exits);
  return 0;
};

/** Only where there is a virtual PMU to be switched off. */
export const setPmuCapability: Enable = (vm, { args: [caps] }) => {
  if (capability(vm.machine, kvm.KVM_CAP_PMU_CAPABILITY) === 0 || caps & ~BigInt(kvm.KVM_PMU_CAP_DISABLE)) return -EINVAL;
  return vm.vcpus.size > 0 ? -EINVAL : 0;
};

/** Once, before the first vCPU, which otherwise sets it; the same value again is fine. The boot id must stay possible. */
export const setMaxVcpuId: Enable = (vm, { args: [ids] }) => {
  if (ids > BigInt(capability(vm.machine, kvm.KVM_CAP_MAX_VCPU_ID))) return -EINVAL;
  if (BigInt(vm.bootId) > ids) return -EINVAL;
  if (BigInt(vm.maxVcpuIds) === ids) return 0;
  if (vm.maxVcpuIds !== 0) return -EINVAL;
  vm.maxVcpuIds = Number(ids);
  return 0;
};

/** Only some Intel processors can. No simulated guest holds up its vCPU for so long. */
export const setNotifyVmexit: Enable = (vm, { args: [mode] }) => {
  const valid = BigInt(kvm.KVM_X86_NOTIFY_VMEXIT_ENABLED) | BigInt(kvm.KVM_X86_NOTIFY_VMEXIT_USER);
  if (mode & 0xffff_ffffn & ~valid) return -EINVAL;
  if (capability(vm.machine, kvm.KVM_CAP_X86_NOTIFY_VMEXIT) === 0) return -EINVAL;
  if (!(mode & BigInt(kvm.KVM_X86_NOTIFY_VMEXIT_ENABLED))) return -EINVAL;
  return vm.vcpus.size > 0 ? -EINVAL : 0;
};

/** The caller has CAP_SYS_BOOT: the simulated process may do anything. */
export const disableNxHugePages: Enable = (vm, { args: [reserved] }) => (reserved !== 0n || vm.vcpus.size > 0 ? -EINVAL : 0);

/** The longest timer of a local APIC, TMICT of 32 bits divided by 128, must not overflow 64 bits of nanoseconds. */
export const setApicBusCycles: Enable = (vm, { args: [ns] }) => {
  if (capability(vm.machine, kvm.KVM_CAP_X86_APIC_BUS_CYCLES_NS) === 0) return -EINVAL;
  if (ns === 0n || ns * 0xffff_ffffn * 128n >= 1n << 64n) return -EINVAL;
  if (!vm.irqchip.inKernel) return -ENXIO;
  if (vm.vcpus.size > 0) return -EINVAL;
  vm.caps.apicBusCycleNs = ns;
  return 0;
};
