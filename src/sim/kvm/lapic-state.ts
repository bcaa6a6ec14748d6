/** What userspace and the MSRs of APIC base and x2APIC do to a local APIC. */
import { kvm_lapic_state, kvm_tpr_access_ctl } from '../../uapi/kvm.ts';
import { EFAULT, EINVAL } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import type { Process } from '../process.ts';
import {
  APIC_BASE_MSR,
  APIC_ICR2,
  APIC_ID,
  APIC_LDR,
  APIC_LVR,
  APIC_SPIV,
  APIC_TASKPRI,
  APIC_TMCCT,
  MSR_IA32_APICBASE_ENABLE,
  X2APIC_ENABLE,
} from './apic-regs.ts';
import { x2apicLdr } from './lapic-core.ts';
import type { MsrSpec } from './msrs.ts';
import { viewOf } from './regs.ts';
import type { Vcpu } from './vcpu.ts';

type Mode = 'disabled' | 'invalid' | 'xapic' | 'x2apic';

function modeOf(apicBase: bigint): Mode {
  const enabled = (apicBase & MSR_IA32_APICBASE_ENABLE) !== 0n;
  if (apicBase & X2APIC_ENABLE) return enabled ? 'x2apic' : 'invalid';
  return enabled ? 'xapic' : 'disabled';
}

/** kvm_apic_set_base. Userspace may make any transition; a guest has to disable the APIC between x2APIC and xAPIC. False: refused. */
export function setApicBase(vcpu: Vcpu, value: bigint, host: boolean): boolean {
  const old = vcpu.apicBase;
  if (value === old) return true;
  const x2apic = vcpu.cpuid.has(1, 0, 'ecx', 21);
  const reserved = BigInt.asUintN(64, (-1n << BigInt(vcpu.cpuid.maxphyaddr)) | 0x2ffn | (x2apic ? 0n : X2APIC_ENABLE));
  const mode = modeOf(value);
  if (value & reserved || mode === 'invalid') return false;
  if (!host && modeOf(old) === 'x2apic' && mode === 'xapic') return false;
  if (!host && modeOf(old) === 'disabled' && mode === 'x2apic') return false;
  vcpu.apicBase = value;
  const { lapic } = vcpu;
  if (lapic === undefined) return true;
  if ((old ^ value) & MSR_IA32_APICBASE_ENABLE) {
    if (value & MSR_IA32_APICBASE_ENABLE) lapic.setXapicId(vcpu.id);
    else vcpu.vm.apicMap.dirty = true;
  }
  if ((old ^ value) & X2APIC_ENABLE) {
    if (value & X2APIC_ENABLE) lapic.setX2apicId(vcpu.id);
    else if (value & MSR_IA32_APICBASE_ENABLE && has(vcpu.vm.machine, 'xapicIdRestored')) lapic.setXapicId(vcpu.id);
  }
  vcpu.vm.apicMap.rebuild(vcpu.vm);
  return true;
}

/** TSC_DEADLINE, which is 0 and ignored without a local APIC in that mode, and the x2APIC's registers, which are not there in another mode. */
export const APIC_MSRS: readonly MsrSpec[] = [
  [
    0x6e0,
    ({ vcpu: { lapic } }) => lapic?.timer.deadline ?? 0n,
    (value, { vcpu: { lapic } }) => {
      lapic?.timer.setDeadline(value);
      return value;
    },
  ],
  [
    [APIC_BASE_MSR, APIC_BASE_MSR + 0xff],
    ({ vcpu, index }) => vcpu.lapic?.readMsr(index),
    (value, { vcpu, index }) => (vcpu.lapic?.writeMsr(index, value) ? value : undefined),
  ],
];

/** KVM_GET_LAPIC: without one EINVAL, whatever the pointer. In x2APIC mode the id is given in the xAPIC's place unless 32-bit ids are agreed on. */
export function getLapic({ lapic, vm }: Vcpu, p: Process, arg: bigint): number {
  if (lapic === undefined) return -EINVAL;
  lapic.syncTpr();
  const bytes = new Uint8Array(lapic.regs.buffer.slice(0));
  const view = viewOf(bytes);
  view.setUint32(APIC_LVR, lapic.version, true);
  view.setUint32(APIC_TMCCT, lapic.timer.count, true);
  if (lapic.x2apic) {
    if (!vm.irqchip.x2apicFormat) view.setUint32(APIC_ID, lapic.get(APIC_ID) << 24, true);
    else if (lapic.get(APIC_ID) !== lapic.x2apicId) return -EINVAL;
    view.setUint32(APIC_ICR2, lapic.get(lapic.icrHigh), true);
  }
  return p.mm.copyTo(arg, bytes) ? 0 : -EFAULT;
}

/** KVM_SET_LAPIC: SPIV is taken before anything is checked. Version and LDR, and of newer kernels the id, of an x2APIC are KVM's own. */
export function setLapic({ lapic, vm }: Vcpu, p: Process, arg: bigint): number {
  if (lapic === undefined) return -EINVAL;
  const bytes = p.mm.copyFrom(arg, kvm_lapic_state.size);
  if (bytes === null) return -EFAULT;
  const image = viewOf(bytes);
  lapic.setSpiv(image.getUint32(APIC_SPIV, true));
  if (lapic.x2apic) {
    const readOnly = has(vm.machine, 'x2apicIdReadOnly');
    if (!vm.irqchip.x2apicFormat)
      image.setUint32(APIC_ID, readOnly ? lapic.x2apicId : image.getUint32(APIC_ID, true) >>> 24, true);
    else if (image.getUint32(APIC_ID, true) !== lapic.x2apicId) {
      vm.apicMap.rebuild(vm);
      return -EINVAL;
    }
    image.setUint32(APIC_LDR, x2apicLdr(image.getUint32(APIC_ID, true)), true);
    image.setUint32(lapic.icrHigh, image.getUint32(APIC_ICR2, true), true);
  }
  new Uint8Array(lapic.regs.buffer).set(bytes);
  vm.apicMap.dirty = true;
  vm.apicMap.rebuild(vm);
  lapic.vcpu.cpu.cr8 = BigInt((lapic.get(APIC_TASKPRI) >>> 4) & 0xf);
  lapic.updatePpr();
  lapic.timer.restore();
  lapic.recount();
  lapic.kick();
  return 0;
}

/** KVM_TPR_ACCESS_REPORTING; the struct is written back as it came. */
export function tprAccessReporting(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_tpr_access_ctl.size);
  if (bytes === null) return -EFAULT;
  const { enabled, flags } = kvm_tpr_access_ctl.decode(bytes);
  if (flags !== 0) return -EINVAL;
  vcpu.tprAccessReporting = enabled !== 0;
  return p.mm.copyTo(arg, bytes) ? 0 : -EFAULT;
}

/** KVM_SET_VAPIC_ADDR: the page in which a guest keeps its TPR; it has to be memory. 0 is off. */
export function setVapicAddr({ lapic, vm }: Vcpu, p: Process, arg: bigint): number {
  if (lapic === undefined) return -EINVAL;
  const address = p.mm.read64(arg);
  if (address === null) return -EFAULT;
  const backed = (at: bigint): boolean => vm.memslots.find(Number(at >> 12n)) !== undefined;
  if (address !== 0n && !(backed(address) && backed(address + 3n))) return -EINVAL;
  lapic.vapicAddr = address;
  return 0;
}
