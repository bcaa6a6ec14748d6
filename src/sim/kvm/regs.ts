import { kvm_fpu, kvm_regs } from '../../uapi/kvm.ts';
import { EFAULT } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import type { Vcpu } from './vcpu.ts';

const RFLAGS: number = kvm_regs.offsetOf('rflags');

/** `struct kvm_regs` as KVM_GET_REGS and `kvm_run.s.regs.regs` have it. */
export function storeRegs(vcpu: Vcpu, view: DataView, at: number): void {
  vcpu.cpu.storeRegs(view, at);
  view.setUint32(at + RFLAGS + 4, vcpu.rflagsHigh, true);
  const kept = vcpu.completion?.rflags;
  if (kept !== undefined) view.setUint32(at + RFLAGS, kept, true);
}

/** No check of any kind: a RIP that is not canonical and reserved RFLAGS bits are taken. A pending exception is dropped, an injected one stays. */
export function loadRegs(vcpu: Vcpu, view: DataView, at: number): void {
  const { cpu, backend } = vcpu;
  const rflags = view.getBigUint64(at + RFLAGS, true) & ~backend.hiddenRflags;
  const regs = new DataView(new ArrayBuffer(kvm_regs.size));
  for (let i = 0; i < kvm_regs.size; i += 8) regs.setBigUint64(i, view.getBigUint64(at + i, true), true);
  regs.setBigUint64(RFLAGS, rflags, true);
  vcpu.lapic?.refresh();
  const { completion } = vcpu;
  if (completion !== undefined && completion.regsAtExit === undefined) {
    completion.regsAtExit = new DataView(new ArrayBuffer(kvm_regs.size));
    cpu.storeRegs(completion.regsAtExit, 0);
    completion.regsAtExit.setUint32(RFLAGS + 4, vcpu.rflagsHigh, true);
  }
  if (completion?.rflags !== undefined) completion.rflags = Number((rflags & 0xffffffffn) | 2n);
  cpu.loadRegs(regs, 0);
  vcpu.rflagsHigh = Number(rflags >> 32n);
  cpu.events.exception.pending = false;
}

export function getRegs(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = kvm_regs.alloc();
  storeRegs(vcpu, viewOf(bytes), 0);
  return p.mm.copyTo(arg, bytes) ? 0 : -EFAULT;
}

export function setRegs(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_regs.size);
  if (bytes === null) return -EFAULT;
  loadRegs(vcpu, viewOf(bytes), 0);
  return 0;
}

/** `struct kvm_fpu`: field, size, and where it is in the legacy region of XSAVE. */
const FPU: readonly (readonly [at: number, size: number, legacy: number])[] = [
  [kvm_fpu.offsetOf('fpr'), 128, 32],
  [kvm_fpu.offsetOf('fcw'), 2, 0],
  [kvm_fpu.offsetOf('fsw'), 2, 2],
  [kvm_fpu.offsetOf('ftwx'), 1, 4],
  [kvm_fpu.offsetOf('last_opcode'), 2, 6],
  [kvm_fpu.offsetOf('last_ip'), 8, 8],
  [kvm_fpu.offsetOf('last_dp'), 8, 16],
  [kvm_fpu.offsetOf('xmm'), 256, 160],
];

/** KVM_GET_FPU: the bytes of the legacy region, whether the component is in use or not. MXCSR is not filled in. */
export function getFpu({ fpu }: Vcpu, p: Process, arg: bigint): number {
  const bytes = kvm_fpu.alloc();
  for (const [at, size, legacy] of FPU) bytes.set(fpu.legacy.subarray(legacy, legacy + size), at);
  return p.mm.copyTo(arg, bytes) ? 0 : -EFAULT;
}

/** KVM_SET_FPU: no check. A component in its initial state stays so: XSAVE is the way out of it, and to MXCSR. */
export function setFpu({ fpu }: Vcpu, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_fpu.size);
  if (bytes === null) return -EFAULT;
  for (const [at, size, legacy] of FPU) fpu.legacy.set(bytes.subarray(at, at + size), legacy);
  return 0;
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
