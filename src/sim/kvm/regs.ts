import { kvm_fpu, kvm_regs } from '../../uapi/kvm.ts';
import { EFAULT } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import type { Vcpu } from './vcpu.ts';

const RFLAGS: number = kvm_regs.offsetOf('rflags');
const FCW: number = kvm_fpu.offsetOf('fcw');
const PAD1: number = kvm_fpu.offsetOf('pad1');
const MXCSR: number = kvm_fpu.offsetOf('mxcsr');

/** `struct kvm_regs` as KVM_GET_REGS and `kvm_run.s.regs.regs` have it. */
export function storeRegs(vcpu: Vcpu, view: DataView, at: number): void {
  vcpu.cpu.storeRegs(view, at);
  view.setUint32(at + RFLAGS + 4, vcpu.rflagsHigh, true);
}

/** No check of any kind: a RIP that is not canonical and reserved RFLAGS bits are taken. A pending exception is dropped, an injected one stays. */
export function loadRegs(vcpu: Vcpu, view: DataView, at: number): void {
  const { cpu, backend } = vcpu;
  const rflags = view.getBigUint64(at + RFLAGS, true) & ~backend.hiddenRflags;
  const regs = new DataView(new ArrayBuffer(kvm_regs.size));
  for (let i = 0; i < kvm_regs.size; i += 8) regs.setBigUint64(i, view.getBigUint64(at + i, true), true);
  regs.setBigUint64(RFLAGS, rflags, true);
  const { completion } = vcpu;
  if (completion !== undefined && completion.regsAtExit === undefined) {
    completion.regsAtExit = new DataView(new ArrayBuffer(kvm_regs.size));
    storeRegs(vcpu, completion.regsAtExit, 0);
  }
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

/** `struct kvm_fpu` at reset: FCW 0x37f. */
export function resetFpu(): Uint8Array {
  const fpu = kvm_fpu.alloc();
  viewOf(fpu).setUint16(FCW, 0x37f, true);
  return fpu;
}

export function getFpu(vcpu: Vcpu, p: Process, arg: bigint): number {
  return p.mm.copyTo(arg, vcpu.fpu) ? 0 : -EFAULT;
}

/** MXCSR is neither checked nor taken, and reads back as 0: XSAVE is the way to it. Nor is the padding. */
export function setFpu(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_fpu.size);
  if (bytes === null) return -EFAULT;
  bytes[PAD1] = 0;
  bytes.fill(0, MXCSR);
  vcpu.fpu = bytes;
  return 0;
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
