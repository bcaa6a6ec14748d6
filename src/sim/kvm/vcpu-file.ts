import { _IOC_TYPE } from '../../uapi/ioc.ts';
import * as kvm from '../../uapi/kvm.ts';
import { EINVAL, EIO, ENOTTY, O_RDWR, PROT_EXEC } from '../../uapi/sys.ts';
import { AnonFile, type Backing, type FileMap } from '../file.ts';
import type { Process } from '../process.ts';
import type { Pending, Slice, VcpuLike } from '../vcpu-like.ts';
import { vcpuDeviceAttr } from './clock.ts';
import { getDebugregs, getXcrs, setDebugregs, setXcrs } from './debugregs.ts';
import { enableVcpuCap } from './enable-cap.ts';
import { getEvents, interrupt, nmi, setEvents } from './events.ts';
import { setGuestDebug } from './guest-debug.ts';
import { IoctlTable } from './ioctl-table.ts';
import { getLapic, setLapic, setVapicAddr, tprAccessReporting } from './lapic-state.ts';
import { setMce, setupMce } from './mce.ts';
import { preFaultMemory } from './memory-fault.ts';
import { getMpState, setMpState } from './mp-state.ts';
import { msrIo } from './msr-io.ts';
import { getMsr, setMsr } from './msrs.ts';
import { getOneReg, getRegList, setOneReg } from './one-reg.ts';
import { kvmclockCtrl } from './paravirt.ts';
import { getFpu, getRegs, setFpu, setRegs } from './regs.ts';
import { runSlice } from './run.ts';
import { getSregs, getSregs2, setSregs, setSregs2 } from './sregs.ts';
import { getVcpuStatsFd } from './stats.ts';
import { translate } from './translate.ts';
import { setSignalMask, setVcpuTscKhz, type Vcpu } from './vcpu.ts';
import { getXsave, setXsave } from './xsave.ts';

/** A descriptor made by KVM_CREATE_VCPU. Closing it ends neither the vCPU nor the use of its id. */
export class VcpuFile extends AnonFile implements VcpuLike {
  readonly isVcpu = true;
  readonly vcpu: Vcpu;

  constructor(vcpu: Vcpu) {
    super(`anon_inode:kvm-vcpu:${vcpu.id}`, O_RDWR);
    this.vcpu = vcpu;
    vcpu.vm.get();
  }

  override release(_p: Process): void {
    this.vcpu.vm.put();
  }

  override ioctl(p: Process, request: number, arg: bigint): number {
    if (p.mm !== this.vcpu.vm.mm || this.vcpu.vm.dead) return -EIO;
    if (_IOC_TYPE(request) !== kvm.KVMIO) return -EINVAL;
    return vcpuIoctls.dispatch(this, p, request, arg);
  }

  /** Any length and offset: pages there are none of are SIGBUS when touched. A mapping that begins or ends in the dirty ring must be shared. */
  override mmap(_p: Process, { page, pages, prot, shared }: FileMap): Backing | number {
    const { run } = this.vcpu;
    if ((!shared || (prot & PROT_EXEC) !== 0) && (run.inDirtyRing(page) || run.inDirtyRing(page + pages - 1))) return -EINVAL;
    return run;
  }

  slice(p: Process, fuel: number, first: boolean, pending: Pending): Slice {
    if (first && (p.mm !== this.vcpu.vm.mm || this.vcpu.vm.dead)) return -EIO;
    return runSlice(this.vcpu, fuel, first, pending);
  }

  get executed(): number {
    return this.vcpu.cpu.executed;
  }
}

type VcpuHandler = (vcpu: Vcpu, p: Process, arg: bigint) => number;
const on =
  (handler: VcpuHandler) =>
  (file: VcpuFile, p: Process, arg: bigint): number =>
    handler(file.vcpu, p, arg);

function setCpuid(vcpu: Vcpu, p: Process, arg: bigint, old: boolean): number {
  const result = vcpu.cpuid.set(p, arg, old, vcpu.cpuidRuntime, vcpu.entered);
  if (result === 0) vcpu.lapic?.timer.useCpuid();
  return result;
}

/** KVM_SMI: known without CONFIG_KVM_SMM too, and refused there. */
function smi({ vcpu }: VcpuFile): number {
  return vcpu.requestSmi() ? 0 : -ENOTTY;
}

/** KVM_GET_NESTED_STATE, KVM_SET_NESTED_STATE: the vendor module has no nested virtualisation. */
const nestedState = (): number => -EINVAL;

/** Every request the kernel knows on a vCPU descriptor of x86. */
export const vcpuIoctls: IoctlTable<VcpuFile> = new IoctlTable<VcpuFile>('vcpu', EINVAL, {
  KVM_RUN: (file, p, arg) => (arg !== 0n ? -EINVAL : p.system.runner.run(p, file)),
  KVM_GET_REGS: on(getRegs),
  KVM_SET_REGS: on(setRegs),
  KVM_GET_SREGS: on(getSregs),
  KVM_SET_SREGS: on(setSregs),
  KVM_GET_SREGS2: { needs: kvm.KVM_CAP_SREGS2, handler: on(getSregs2) },
  KVM_SET_SREGS2: { needs: kvm.KVM_CAP_SREGS2, handler: on(setSregs2) },
  KVM_GET_MSRS: on((vcpu, p, arg) => msrIo(p, arg, { get: (index) => getMsr(vcpu, index, true) })),
  KVM_SET_MSRS: on((vcpu, p, arg) => msrIo(p, arg, { set: (index, value) => setMsr(vcpu, index, value, true) })),
  KVM_SET_CPUID: on((vcpu, p, arg) => setCpuid(vcpu, p, arg, true)),
  KVM_SET_CPUID2: on((vcpu, p, arg) => setCpuid(vcpu, p, arg, false)),
  KVM_GET_CPUID2: on((vcpu, p, arg) => vcpu.cpuid.get(p, arg, vcpu.cpuidRuntime)),
  KVM_GET_FPU: on(getFpu),
  KVM_SET_FPU: on(setFpu),
  KVM_GET_MP_STATE: on(getMpState),
  KVM_SET_MP_STATE: on(setMpState),
  KVM_GET_VCPU_EVENTS: on(getEvents),
  KVM_SET_VCPU_EVENTS: on(setEvents),
  KVM_INTERRUPT: on(interrupt),
  KVM_NMI: on(nmi),
  KVM_GET_DEBUGREGS: on(getDebugregs),
  KVM_SET_DEBUGREGS: on(setDebugregs),
  KVM_GET_XCRS: on(getXcrs),
  KVM_SET_XCRS: on(setXcrs),
  KVM_SET_TSC_KHZ: on(setVcpuTscKhz),
  KVM_GET_TSC_KHZ: on((vcpu) => vcpu.tscKhz),
  KVM_SMI: smi,
  // TDX's; before it, unknown here.
  KVM_MEMORY_ENCRYPT_OP: { since: '6.16', handler: () => -ENOTTY },
  KVM_TRANSLATE: on(translate),
  KVM_SET_SIGNAL_MASK: on(setSignalMask),
  KVM_GET_LAPIC: on(getLapic),
  KVM_SET_LAPIC: on(setLapic),
  KVM_TPR_ACCESS_REPORTING: on(tprAccessReporting),
  KVM_SET_VAPIC_ADDR: on(setVapicAddr),
  KVM_SET_GUEST_DEBUG: on(setGuestDebug),
  KVM_X86_SETUP_MCE: on(setupMce),
  KVM_X86_SET_MCE: on(setMce),
  KVM_ENABLE_CAP: on(enableVcpuCap),
  KVM_GET_XSAVE: on(getXsave),
  KVM_SET_XSAVE: on(setXsave),
  KVM_GET_XSAVE2: on(getXsave),
  KVM_GET_ONE_REG: { needs: kvm.KVM_CAP_ONE_REG, handler: on(getOneReg) },
  KVM_SET_ONE_REG: { needs: kvm.KVM_CAP_ONE_REG, handler: on(setOneReg) },
  KVM_GET_REG_LIST: { needs: kvm.KVM_CAP_ONE_REG, handler: on(getRegList) },
  KVM_KVMCLOCK_CTRL: on(kvmclockCtrl),
  KVM_GET_NESTED_STATE: nestedState,
  KVM_SET_NESTED_STATE: nestedState,
  KVM_GET_SUPPORTED_HV_CPUID: { needs: kvm.KVM_CAP_HYPERV_CPUID },
  KVM_XEN_VCPU_GET_ATTR: { needs: kvm.KVM_CAP_XEN_HVM },
  KVM_XEN_VCPU_SET_ATTR: { needs: kvm.KVM_CAP_XEN_HVM },
  KVM_GET_STATS_FD: on(getVcpuStatsFd),
  KVM_PRE_FAULT_MEMORY: on(preFaultMemory),
  KVM_SET_DEVICE_ATTR: on(vcpuDeviceAttr('set')),
  KVM_GET_DEVICE_ATTR: on(vcpuDeviceAttr('get')),
  KVM_HAS_DEVICE_ATTR: on(vcpuDeviceAttr('has')),
});
