/**
 * Which kernel this is, by what it answers: release (major.minor), backend, and what its configuration adds. The same questions
 * are put to real and simulated kernels, so a golden is found for either in the same way.
 */
import { isKvioError, type Kernel } from 'kvio';
import { KVM_CHECK_EXTENSION, KVM_CREATE_VCPU, KVM_CREATE_VM } from 'kvio/uapi';
import { getMsr, getSregs } from './machine.ts';

const MISC_ENABLE = 0x1a0;

/** What a build may have or lack, each seen in a capability: `[suffix, capability, bits]`. */
const configuration: readonly (readonly [string, number, number])[] = [
  ['smm', 117 /* KVM_CAP_X86_SMM */, 1],
  ['tdp', 236 /* KVM_CAP_PRE_FAULT_MEMORY: only with TDP */, 1],
  ['hyperv', 44 /* KVM_CAP_HYPERV */, 1],
  ['xen', 38 /* KVM_CAP_XEN_HVM */, -1],
  ['swprot', 235 /* KVM_CAP_VM_TYPES */, 2],
  ['sev', 235, 4],
  ['sev-es', 235, 8],
  ['snp', 235, 16],
  ['tdx', 235, 32],
];

/**
 * `6.18-pvm`, `7.2-svm+smm+tdp+swprot`, `6.8-arm64`; `unknown` for what a kernel does not let itself be asked. undefined without
 * /dev/kvm.
 */
export function identify(kernel: Kernel, arch = 'x64'): string | undefined {
  let kvm: number;
  try {
    kvm = kernel.open('/dev/kvm');
  } catch {
    return undefined;
  }
  const release = /^\d+\.\d+/.exec(kernel.release)?.[0] ?? 'unknown';
  const has = configuration.filter(([, capability, bits]) => {
    const value = kernel.tryIoctl(kvm, KVM_CHECK_EXTENSION, capability);
    return arch === 'x64' && value > 0 && (value & bits) !== 0;
  });
  const identity = [`${release}-${arch === 'x64' ? backend(kernel, kvm) : arch}`, ...has.map(([suffix]) => suffix)].join('+');
  kernel.close(kvm);
  return identity;
}

/** The reset state tells: SVM's code segment is type a (VMX and PVM: b), PVM's MISC_ENABLE is 1 (VMX: 0x1800). */
function backend(kernel: Kernel, kvm: number): string {
  const opened: number[] = [];
  try {
    const vm = kernel.ioctl(kvm, KVM_CREATE_VM, 0);
    opened.push(vm);
    const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
    opened.push(vcpu);
    if (getSregs(kernel, vcpu).cs.type === 0xa) return 'svm';
    return getMsr(kernel, vcpu, MISC_ENABLE) === 1n ? 'pvm' : 'vmx';
  } catch (error) {
    if (!isKvioError(error)) throw error;
    return 'unknown';
  } finally {
    for (const fd of opened.reverse()) kernel.close(fd);
  }
}
