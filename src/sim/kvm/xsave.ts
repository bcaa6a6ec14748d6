import { EFAULT, EINVAL } from '../../uapi/sys.ts';
import type { Machine } from '../machine.ts';
import type { Process } from '../process.ts';
import { viewOf } from './regs.ts';
import type { Vcpu } from './vcpu.ts';

/** The uABI size without a dynamic feature (AMX needs a permission nobody here asks for). */
const XSAVE_SIZE = 4096;

const X87 = 1n;
const SSE = 2n;
const YMM = 4n;
const PKRU = 1n << 9n;
const FPSSE: bigint = X87 | SSE;

/** The legacy region (FXSAVE), the host's XCR0 in bytes it does not use, and the header. */
const AT = { mxcsr: 24, mxcsrMask: 28, st: 32, xmm: 160, padding: 416, hostXcr0: 464, xfeatures: 512, xcomp: 520 };
const HEADER_END = 576;
const MXCSR_RESET = 0x1f80;

/** One extended component: its bytes in the uABI format, which is the standard one. */
interface Component {
  readonly bit: bigint;
  readonly offset: number;
  readonly size: number;
}

/** `struct fpstate` of a guest: as KVM keeps it between runs. Registers outside `xfeatures` are in their initial state, whatever the bytes are. */
export class FpuState {
  /** The legacy region's first 416 bytes: x87, MXCSR, XMM. KVM_GET_FPU and KVM_SET_FPU see these, in use or not. */
  readonly legacy: Uint8Array = new Uint8Array(AT.padding);
  /** XSTATE_BV: components not in their initial state. */
  xfeatures = 0n;
  /** Extended components by bit. */
  readonly extended: Map<bigint, Uint8Array> = new Map();

  constructor(mxcsrMask: number) {
    const view = viewOf(this.legacy);
    view.setUint16(0, 0x37f, true);
    view.setUint32(AT.mxcsr, MXCSR_RESET, true);
    view.setUint32(AT.mxcsrMask, mxcsrMask, true);
  }
}

function components(machine: Machine): Component[] {
  return machine.kvm.cpuid
    .filter((leaf) => leaf.function === 0xd && leaf.index >= 2 && !(leaf.ecx & 1))
    .map((leaf) => ({ bit: 1n << BigInt(leaf.index), offset: leaf.ebx, size: leaf.eax }));
}

/** Components of XCR0 this KVM can give a guest: leaf 0xD of its supported CPUID. */
export function supportedXcr0(machine: Machine): bigint {
  const leaf = machine.kvm.cpuid.find((entry) => entry.function === 0xd && entry.index === 0);
  return leaf === undefined ? 0n : (BigInt(leaf.edx >>> 0) << 32n) | BigInt(leaf.eax >>> 0);
}

/** kvm_vcpu_arch.guest_supported_xcr0: what the guest's CPUID has of it. */
export function guestXcr0(vcpu: Vcpu): bigint {
  const has = (register: 'eax' | 'edx'): bigint => BigInt(vcpu.cpuid.register(0xd, 0, register) >>> 0);
  return supportedXcr0(vcpu.vm.machine) & (has('eax') | (has('edx') << 32n));
}

/** Members of the legacy region, and bits of FSW: any unmasked exception, and what repeats it. */
const X87_STATE = { fcw: 0, fsw: 2, ftw: 4, fip: 8, registers: 8, registerBytes: 10, slot: 16 };
const FSW_ES = 0x80;
const FSW_B = 0x8000;

/**
 * kvm_load_guest_fpu, of every KVM_RUN, and what is saved afterwards, where the guest runs on hardware. XRSTOR puts components that are not in use
 * into their initial state, whatever KVM_SET_FPU has written there; MXCSR is loaded all the same. The rest is QEMU's processor, which the lab's
 * kernel runs on: it saves no FIP and no FDP, leaves FOP and reserved bytes as they are, and tells all components as in use.
 */
export function enterFpu({ fpu, vm: { machine } }: Vcpu): void {
  const all = FPSSE | supportedXcr0(machine);
  const { legacy } = fpu;
  const view = viewOf(legacy);
  if (!(fpu.xfeatures & X87)) {
    view.setUint16(X87_STATE.fcw, 0x37f, true);
    view.setUint16(X87_STATE.fsw, 0, true);
    legacy[X87_STATE.ftw] = 0;
    for (let n = 0, at = AT.st; n < X87_STATE.registers; n++, at += X87_STATE.slot)
      legacy.fill(0, at, at + X87_STATE.registerBytes);
  }
  const fsw = view.getUint16(X87_STATE.fsw, true);
  view.setUint16(X87_STATE.fsw, fsw & FSW_ES ? fsw | FSW_B : fsw & ~FSW_B, true);
  legacy[X87_STATE.ftw + 1] = 0;
  legacy.fill(0, X87_STATE.fip, AT.mxcsr);
  view.setUint32(AT.mxcsrMask, machine.kvm.mxcsrMask, true);
  if (!(fpu.xfeatures & SSE)) legacy.fill(0, AT.xmm, AT.padding);
  for (const { bit, size } of components(machine)) if (!(fpu.xfeatures & bit)) fpu.extended.set(bit, new Uint8Array(size));
  fpu.xfeatures |= all;
}

/**
 * The same where KVM emulates. PKRU is not loaded with the rest: the register stays the host's, whose value is not the initial one, so that it is
 * saved as in use.
 */
export function enterEmulatedFpu({ fpu, vm: { machine } }: Vcpu): void {
  if (fpu.xfeatures & PKRU || !(supportedXcr0(machine) & PKRU)) return;
  fpu.xfeatures |= PKRU;
  if (!fpu.extended.has(PKRU)) fpu.extended.set(PKRU, new Uint8Array(8));
}

/** KVM_GET_XSAVE, and KVM_GET_XSAVE2, whose size is the same here. What the guest's CPUID does not have is told as not in use. */
export function getXsave(vcpu: Vcpu, p: Process, arg: bigint): number {
  const { fpu, vm } = vcpu;
  const { machine } = vm;
  const bytes = new Uint8Array(XSAVE_SIZE);
  const view = viewOf(bytes);
  const initial = new FpuState(machine.kvm.mxcsrMask);
  const inUse = fpu.xfeatures & (guestXcr0(vcpu) | FPSSE);
  const legacy = (needs: bigint, from: number, to: number): void => {
    const source = inUse & needs ? fpu.legacy : initial.legacy;
    bytes.set(source.subarray(from, to), from);
  };
  legacy(X87, 0, AT.mxcsr);
  legacy(SSE | YMM, AT.mxcsr, AT.st);
  legacy(X87, AT.st, AT.xmm);
  legacy(SSE, AT.xmm, AT.padding);
  view.setBigUint64(AT.hostXcr0, machine.kvm.hostXcr0, true);
  view.setBigUint64(AT.xfeatures, inUse, true);
  for (const { bit, offset } of components(machine)) if (inUse & bit) bytes.set(fpu.extended.get(bit)!, offset);
  return p.mm.copyTo(arg, bytes) ? 0 : -EFAULT;
}

/** KVM_SET_XSAVE: MXCSR is looked at only with a component that has it; what is not named goes back to its initial state, but for PKRU. */
export function setXsave(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, XSAVE_SIZE);
  if (bytes === null) return -EFAULT;
  const { fpu, vm } = vcpu;
  const { machine } = vm;
  const view = viewOf(bytes);
  const xfeatures = view.getBigUint64(AT.xfeatures, true);
  if (xfeatures & ~(supportedXcr0(machine) | FPSSE)) return -EINVAL;
  for (let at = AT.xcomp; at < HEADER_END; at++) if (bytes[at] !== 0) return -EINVAL;
  if (xfeatures & (FPSSE | YMM) && view.getUint32(AT.mxcsr, true) & ~machine.kvm.mxcsrMask) return -EINVAL;
  const take = (from: number, to: number): void => fpu.legacy.set(bytes.subarray(from, to), from);
  if (xfeatures & X87) take(0, AT.xmm);
  else if (xfeatures & (SSE | YMM)) take(AT.mxcsr, AT.st);
  if (xfeatures & SSE) take(AT.xmm, AT.padding);
  for (const { bit, offset, size } of components(machine)) {
    if (xfeatures & bit) fpu.extended.set(bit, bytes.slice(offset, offset + size));
  }
  fpu.xfeatures = xfeatures | (fpu.xfeatures & PKRU);
  return 0;
}
