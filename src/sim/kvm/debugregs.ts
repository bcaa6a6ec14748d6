import { kvm_debugregs, kvm_xcrs } from '../../uapi/kvm.ts';
import { EFAULT, EINVAL } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import { deliverPayloadToSave } from './events.ts';
import { viewOf } from './regs.ts';
import type { Vcpu } from './vcpu.ts';
import { guestXcr0 } from './xsave.ts';

const DR6: number = kvm_debugregs.offsetOf('dr6');
const DR7: number = kvm_debugregs.offsetOf('dr7');
const FLAGS: number = kvm_debugregs.offsetOf('flags');
const XCRS: number = kvm_xcrs.offsetOf('xcrs');
const KVM_MAX_XCRS = 16;

export function getDebugregs(vcpu: Vcpu, p: Process, arg: bigint): number {
  deliverPayloadToSave(vcpu);
  const bytes = kvm_debugregs.alloc();
  const view = viewOf(bytes);
  for (let n = 0; n < 4; n++) view.setBigUint64(n * 8, vcpu.cpu.dr[n]!, true);
  view.setBigUint64(DR6, vcpu.cpu.dr[6]!, true);
  view.setBigUint64(DR7, vcpu.cpu.dr[7]!, true);
  return p.mm.copyTo(arg, bytes) ? 0 : -EFAULT;
}

/** KVM_SET_DEBUGREGS: stored verbatim, bits the processor fixes included. */
export function setDebugregs(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_debugregs.size);
  if (bytes === null) return -EFAULT;
  const view = viewOf(bytes);
  const dr6 = view.getBigUint64(DR6, true);
  const dr7 = view.getBigUint64(DR7, true);
  if (view.getBigUint64(FLAGS, true) !== 0n) return -EINVAL;
  if (dr6 >> 32n || dr7 >> 32n) return -EINVAL;
  for (let n = 0; n < 4; n++) vcpu.cpu.dr[n] = view.getBigUint64(n * 8, true);
  vcpu.cpu.dr[6] = dr6;
  vcpu.cpu.dr[7] = dr7;
  vcpu.cpu.debugChanged(false);
  return 0;
}

export function getXcrs(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = kvm_xcrs.alloc();
  const view = viewOf(bytes);
  view.setUint32(0, 1, true);
  view.setBigUint64(XCRS + 8, vcpu.xcr0, true);
  return p.mm.copyTo(arg, bytes) ? 0 : -EFAULT;
}

/** KVM_SET_XCRS: of the entries only the first for XCR0 counts. */
export function setXcrs(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_xcrs.size);
  if (bytes === null) return -EFAULT;
  const view = viewOf(bytes);
  const count = view.getUint32(0, true);
  if (count > KVM_MAX_XCRS || view.getUint32(4, true) !== 0) return -EINVAL;
  for (let i = 0; i < count; i++) {
    if (view.getUint32(XCRS + i * 16, true) !== 0) continue;
    const value = view.getBigUint64(XCRS + i * 16 + 8, true);
    if (!legalXcr0(vcpu, value)) return -EINVAL;
    vcpu.xcr0 = value;
    break;
  }
  return 0;
}

/** x87 always; AVX needs SSE; BNDREGS with BNDCSR; AVX-512 whole and with AVX; AMX whole; all within guest CPUID and host. */
export function legalXcr0(vcpu: Vcpu, value: bigint): boolean {
  const has = (bits: bigint): boolean => (value & bits) !== 0n;
  const whole = (bits: bigint): boolean => !has(bits) || (value & bits) === bits;
  if (!has(1n) || (has(4n) && !has(2n))) return false;
  if (value & ~(guestXcr0(vcpu) | 1n)) return false;
  return whole(0x18n) && whole(0xe0n) && !(has(0xe0n) && !has(4n)) && whole(0x60000n);
}
