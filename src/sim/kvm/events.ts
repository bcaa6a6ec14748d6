import {
  KVM_CAP_X86_SMM,
  KVM_VCPUEVENT_VALID_NMI_PENDING,
  KVM_VCPUEVENT_VALID_PAYLOAD,
  KVM_VCPUEVENT_VALID_SHADOW,
  KVM_VCPUEVENT_VALID_SIPI_VECTOR,
  KVM_VCPUEVENT_VALID_SMM,
  KVM_VCPUEVENT_VALID_TRIPLE_FAULT,
  KVM_X86_SHADOW_INT_MOV_SS,
  KVM_X86_SHADOW_INT_STI,
  kvm_vcpu_events,
} from '../../uapi/kvm.ts';
import { EEXIST, EFAULT, EINVAL, ENXIO } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import type { Process } from '../process.ts';
import { capability } from './ioctl-table.ts';
import { viewOf } from './regs.ts';
import type { Vcpu } from './vcpu.ts';

const at = (path: string): number => kvm_vcpu_events.offsetOf(path);
const FLAGS: number = at('flags');
const SMI: number = at('smi');
const ALL_FLAGS = 0x3f;
const BOTH_SHADOWS: number = KVM_X86_SHADOW_INT_MOV_SS | KVM_X86_SHADOW_INT_STI;

const DB_VECTOR = 1;
const NMI_VECTOR = 2;
const BP_VECTOR = 3;
const OF_VECTOR = 4;
const PF_VECTOR = 14;
const DR6_TRAP_BITS = 0xe00fn;
/** DR6 bits that read 1 where nothing happened. */
const DR6_ACTIVE_LOW = 0xffff_0ff0n;

/** kvm_deliver_exception_payload: what a pending exception brings goes to DR6 or CR2 as it is injected. */
export function deliverPayload({ cpu }: Vcpu): void {
  const { exception } = cpu.events;
  if (!exception.pending || !exception.hasPayload) return;
  if (exception.nr === DB_VECTOR) {
    const dr6 = (cpu.dr[6]! & ~DR6_TRAP_BITS) | DR6_ACTIVE_LOW | exception.payload;
    cpu.dr[6] = dr6 ^ (exception.payload & DR6_ACTIVE_LOW);
  } else if (exception.nr === PF_VECTOR) cpu.cr2 = exception.payload;
  exception.hasPayload = false;
  exception.payload = 0n;
}

/** kvm_handle_exception_payload_quirk: without KVM_CAP_EXCEPTION_PAYLOAD, also as state it would change is saved. */
export function deliverPayloadToSave(vcpu: Vcpu): void {
  if (!vcpu.vm.caps.exceptionPayloadEnabled) deliverPayload(vcpu);
}

/** kvm_inject_exception: in real mode an exception has no error code. */
export function suppressErrorCode({ cpu }: Vcpu): void {
  const { exception } = cpu.events;
  if (!cpu.protectedMode && (exception.injected || exception.pending)) exception.hasErrorCode = false;
}

/** The guest cannot be entered: what was injected waits, on hardware as the VMCB told it (svm_cancel_injection): without a code, whose value is gone. */
export function cancelInjection({ cpu, backend }: Vcpu): void {
  cpu.acceptNmi();
  const { exception } = cpu.events;
  if (!backend.emulated && exception.injected && !exception.hasErrorCode) exception.errorCode = 0;
}

/** NMIs that can wait: two, or one while another is blocked. */
function pendingNmis(count: number, masked: boolean): number {
  return Math.min(count, masked ? 1 : 2);
}

/** KVM_GET_VCPU_EVENTS: what is on its way in. Every field but these is 0. */
export function storeEvents(vcpu: Vcpu, view: DataView, from: number): void {
  vcpu.nmiRequested = false;
  const { exception, interrupt, nmi } = vcpu.cpu.events;
  const { smi } = vcpu.cpu;
  if (smi.requested) Object.assign(smi, { requested: false, pending: true });
  const put = (path: string, value: boolean | number): void => view.setUint8(from + at(path), Number(value));
  new Uint8Array(view.buffer, view.byteOffset + from, kvm_vcpu_events.size).fill(0);
  const { caps } = vcpu.vm;
  deliverPayloadToSave(vcpu);
  // What INT3 and INTO raise is never told. Without KVM_CAP_EXCEPTION_PAYLOAD a pending exception is told as both.
  const soft = exception.nr === BP_VECTOR || exception.nr === OF_VECTOR;
  const both = exception.pending && !caps.exceptionPayloadEnabled;
  put('exception.injected', !soft && (exception.injected || both));
  put('exception.pending', !soft && exception.pending);
  put('exception.nr', exception.nr);
  put('exception.has_error_code', exception.hasErrorCode);
  view.setUint32(from + at('exception.error_code'), exception.errorCode, true);
  put('exception_has_payload', exception.hasPayload);
  view.setBigUint64(from + at('exception_payload'), exception.payload, true);
  put('interrupt.injected', interrupt.injected && !interrupt.soft);
  put('interrupt.nr', interrupt.nr);
  put('interrupt.shadow', vcpu.backend.oneShadow && vcpu.cpu.shadow !== 0 ? BOTH_SHADOWS : vcpu.cpu.shadow);
  put('nmi.injected', nmi.injected);
  put('smi.smm', smi.active);
  put('smi.pending', smi.pending);
  put('smi.smm_inside_nmi', smi.insideNmi);
  put('smi.latched_init', vcpu.lapic?.pendingInit ?? false);
  const pending = pendingNmis(nmi.pending, nmi.masked || nmi.injected);
  put('nmi.pending', has(vcpu.vm.machine, 'nmisCounted') ? pending : pending !== 0);
  put('nmi.masked', nmi.masked);
  let flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM;
  if (caps.exceptionPayloadEnabled) flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
  if (caps.tripleFaultEvent) {
    put('triple_fault.pending', vcpu.tripleFault);
    flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
  }
  view.setUint32(from + FLAGS, flags, true);
}

/** KVM_SET_VCPU_EVENTS once copied in: the SMM and triple fault flags are looked at when the rest is applied already. */
export function loadEvents(vcpu: Vcpu, view: DataView, from: number): number {
  const get = (path: string): number => view.getUint8(from + at(path));
  const flags = view.getUint32(from + FLAGS, true);
  if (flags & ~ALL_FLAGS) return -EINVAL;
  const { caps } = vcpu.vm;
  let injected = get('exception.injected') !== 0;
  let pending = false;
  let hasPayload = false;
  if (flags & KVM_VCPUEVENT_VALID_PAYLOAD) {
    if (!caps.exceptionPayloadEnabled) return -EINVAL;
    pending = get('exception.pending') !== 0;
    hasPayload = pending && get('exception_has_payload') !== 0;
    if (pending) injected = false;
  }
  const nr = get('exception.nr');
  if ((injected || pending) && (nr > 31 || nr === NMI_VECTOR)) return -EINVAL;
  vcpu.nmiRequested = false;
  vcpu.lapic?.refresh();
  const { exception, interrupt, nmi } = vcpu.cpu.events;
  Object.assign(exception, {
    injected,
    pending,
    nr,
    hasErrorCode: get('exception.has_error_code') !== 0,
    errorCode: view.getUint32(from + at('exception.error_code'), true),
    hasPayload,
    // Kept whatever the flags say.
    payload: view.getBigUint64(from + at('exception_payload'), true),
  });
  Object.assign(interrupt, {
    injected: get('interrupt.injected') !== 0,
    nr: get('interrupt.nr'),
    soft: get('interrupt.soft') !== 0,
  });
  if (flags & KVM_VCPUEVENT_VALID_SHADOW) vcpu.cpu.shadow = get('interrupt.shadow');
  nmi.injected = get('nmi.injected') !== 0;
  nmi.masked = get('nmi.masked') !== 0;
  if (flags & KVM_VCPUEVENT_VALID_NMI_PENDING) nmi.pending = pendingNmis(get('nmi.pending'), nmi.masked || nmi.injected);
  if (flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR && vcpu.lapic !== undefined) {
    vcpu.lapic.sipiVector = view.getUint32(from + at('sipi_vector'), true);
  }
  if (flags & KVM_VCPUEVENT_VALID_SMM) {
    // smm, pending, smm_inside_nmi.
    const smi = [0, 1, 2].some((i) => view.getUint8(from + SMI + i) !== 0);
    if (smi && capability(vcpu.vm.machine, KVM_CAP_X86_SMM) === 0) return -EINVAL;
    const inSmm = get('smi.smm') !== 0;
    vcpu.cpu.setSmm(inSmm);
    vcpu.cpu.smi.pending = get('smi.pending') !== 0;
    vcpu.cpu.smi.insideNmi = inSmm && get('smi.smm_inside_nmi') !== 0;
    if (vcpu.lapic !== undefined) vcpu.lapic.pendingInit = get('smi.latched_init') !== 0;
  }
  if (flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) {
    if (!caps.tripleFaultEvent) return -EINVAL;
    vcpu.tripleFault = get('triple_fault.pending') !== 0;
  }
  return 0;
}

export function getEvents(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = kvm_vcpu_events.alloc();
  storeEvents(vcpu, viewOf(bytes), 0);
  return p.mm.copyTo(arg, bytes) ? 0 : -EFAULT;
}

export function setEvents(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_vcpu_events.size);
  return bytes === null ? -EFAULT : loadEvents(vcpu, viewOf(bytes), 0);
}

/**
 * KVM_INTERRUPT without an in-kernel irqchip: the vector is injected at the next entry whatever IF says, and replaces another. With a split one
 * it is an ExtINT, of which one can wait; with a PIC in the kernel there is no place for it.
 */
export function interrupt(vcpu: Vcpu, p: Process, arg: bigint): number {
  const vector = p.mm.read32(arg);
  if (vector === null) return -EFAULT;
  if (vector >= 256) return -EINVAL;
  const { lapic } = vcpu;
  const { mode } = vcpu.vm.irqchip;
  if (mode === 'none' || lapic === undefined) {
    vcpu.cpu.inject(vector, 'interrupt');
    return 0;
  }
  if (mode === 'kernel') return -ENXIO;
  if (lapic.pendingExternalVector >= 0) return -EEXIST;
  lapic.pendingExternalVector = vector;
  lapic.kick();
  return 0;
}

/** KVM_NMI. */
export function nmi(vcpu: Vcpu): number {
  const { nmi: events } = vcpu.cpu.events;
  events.pending = pendingNmis(events.pending + 1, events.masked || events.injected);
  vcpu.nmiRequested = true;
  vcpu.system.runner.wake();
  return 0;
}
