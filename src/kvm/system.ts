import { word } from '../kernel/arguments.ts';
import { KernelError } from '../kernel/errors.ts';
import { Handle, withWord } from '../kernel/handle.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { FdKind } from '../uapi/ioctls.ts';
import {
  KVM_CAP_VM_TYPES,
  KVM_CHECK_EXTENSION,
  KVM_CREATE_VM,
  KVM_GET_API_VERSION,
  KVM_GET_DEVICE_ATTR,
  KVM_GET_EMULATED_CPUID,
  KVM_GET_MSR_FEATURE_INDEX_LIST,
  KVM_GET_MSR_INDEX_LIST,
  KVM_GET_SUPPORTED_CPUID,
  KVM_GET_SUPPORTED_HV_CPUID,
  KVM_GET_VCPU_MMAP_SIZE,
  KVM_X86_GET_MCE_CAP_SUPPORTED,
  kvm_cpuid2,
  kvm_msr_list,
} from '../uapi/kvm.ts';
import { type DeviceAttr, encodeAttr, hasAttr } from './device-attr.ts';
import { type Msrs, readMsrs } from './msrs.ts';
import { Vm } from './vm.ts';

/** KVM_MAX_CPUID_ENTRIES: larger counts are clamped to it. */
const MAX_CPUID_ENTRIES = 256;

/** `/dev/kvm`: what the host's KVM can do, and the maker of VMs. */
export class Kvm extends Handle {
  /** Opens `/dev/kvm` of this kernel. Throws KernelError (ENOENT, EACCES …). */
  static open(kernel: Kernel, path = '/dev/kvm'): Kvm {
    return new Kvm(kernel, kernel.open(path));
  }

  protected override get kind(): FdKind {
    return 'kvm';
  }

  /** A `/dev/kvm` descriptor from outside (inherited, passed over a socket). `close()` closes it; `kernel.close()` does not. */
  static fromFd(kernel: Kernel, fd: number): Kvm {
    return new Kvm(kernel, kernel.adopt(fd));
  }

  /** KVM_GET_API_VERSION: 12 since 2007, on every kernel. */
  getApiVersion(): number {
    return this.ioctl(KVM_GET_API_VERSION);
  }

  /**
   * KVM_CREATE_VM. `type`: 0 (default) or a KVM_X86_* type that KVM_CAP_VM_TYPES announces; on arm64 the IPA size.
   * EINVAL for an unknown type (the error says which there are), EMFILE first.
   */
  createVm(type: number | bigint = 0): Vm {
    return new Vm(this.kernel, this.#createVm(type), this, word(type, 'type'));
  }

  #createVm(type: number | bigint): number {
    try {
      return withWord(this, KVM_CREATE_VM, type, 'type');
    } catch (error) {
      const types = KernelError.isKernelError(error) && error.code === 'EINVAL' ? this.checkExtension(KVM_CAP_VM_TYPES) : 0;
      if (types === 0) throw error;
      const { errno, syscall, request, fd } = error as KernelError;
      const known = Array.from({ length: 32 }, (_, bit) => bit).filter((bit) => ((types >>> bit) & 1) !== 0);
      throw new KernelError(errno, syscall, {
        request,
        fd,
        note: `this kernel has VMs of type ${known.join(', ')} (KVM_CAP_VM_TYPES)`,
      });
    }
  }

  /** KVM_CHECK_EXTENSION: 0 for what is absent or unknown; never fails. Some answers differ per VM: `vm.checkExtension`. */
  checkExtension(capability: number): number {
    return withWord(this, KVM_CHECK_EXTENSION, capability, 'capability');
  }

  /** KVM_GET_VCPU_MMAP_SIZE, in bytes: `kvm_run`, the PIO data page, the coalesced MMIO ring. 12288 on x86. */
  getVcpuMmapSize(): number {
    return this.ioctl(KVM_GET_VCPU_MMAP_SIZE);
  }

  /** KVM_GET_MSR_INDEX_LIST: the MSRs `vcpu.getMsrs` can read and a migration must carry. x86 only. */
  getMsrIndexList(): number[] {
    return msrList(this, KVM_GET_MSR_INDEX_LIST);
  }

  /** KVM_GET_MSR_FEATURE_INDEX_LIST: the MSRs `kvm.getMsrs` can read without a vCPU. x86 only. */
  getMsrFeatureIndexList(): number[] {
    return msrList(this, KVM_GET_MSR_FEATURE_INDEX_LIST);
  }

  /**
   * KVM_GET_MSRS on the system descriptor: values of feature MSRs. Throws MsrsIncomplete, with what was read, where the kernel
   * stops; KernelError E2BIG for 256 indices or more.
   */
  getMsrs(indices: readonly number[]): Msrs {
    return readMsrs(this, indices);
  }

  /** KVM_GET_SUPPORTED_CPUID: what this host and KVM can give a guest. Fit for `vcpu.setCpuid2` as it is. x86 only. */
  getSupportedCpuid(): kvm_cpuid2 {
    return cpuid(this, KVM_GET_SUPPORTED_CPUID);
  }

  /** KVM_GET_EMULATED_CPUID: what KVM can emulate in software besides. x86 only. */
  getEmulatedCpuid(): kvm_cpuid2 {
    return cpuid(this, KVM_GET_EMULATED_CPUID);
  }

  /** KVM_GET_SUPPORTED_HV_CPUID: the Hyper-V leaves. EINVAL on a kernel built without KVM_HYPERV. x86 only. */
  getSupportedHvCpuid(): kvm_cpuid2 {
    return cpuid(this, KVM_GET_SUPPORTED_HV_CPUID);
  }

  /** KVM_X86_GET_MCE_CAP_SUPPORTED: the MCG_CAP bits that KVM_X86_SETUP_MCE accepts. x86 only. */
  x86GetMceCapSupported(): bigint {
    const bytes = new Uint8Array(8);
    this.ioctl(KVM_X86_GET_MCE_CAP_SUPPORTED, bytes);
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }

  /** KVM_GET_DEVICE_ATTR on the system descriptor: writes the attribute where `addr` (or `memory`) says. ENXIO: no such attribute. */
  getDeviceAttr(attr: DeviceAttr): void {
    this.ioctl(KVM_GET_DEVICE_ATTR, encodeAttr(this.kernel, attr));
  }

  /** KVM_HAS_DEVICE_ATTR on the system descriptor: false where the kernel says ENXIO. `addr` is not looked at. */
  hasDeviceAttr(attr: { flags?: number; group: number; attr: bigint; addr?: bigint }): boolean {
    return hasAttr(this, attr);
  }
}

const isTooBig = (error: unknown): boolean => KernelError.isKernelError(error) && error.code === 'E2BIG';

/** E2BIG says "too few entries" and, for CPUID, not how many: grow up to the kernel's own limit. */
function cpuid(kvm: Kvm, request: number): kvm_cpuid2 {
  for (let nent = 64; ; nent = Math.min(2 * nent, MAX_CPUID_ENTRIES)) {
    const bytes = kvm_cpuid2.alloc(nent);
    kvm_cpuid2.view(bytes).nent = nent;
    try {
      kvm.ioctl(request, bytes);
      return kvm_cpuid2.decode(bytes);
    } catch (error) {
      if (!isTooBig(error) || nent === MAX_CPUID_ENTRIES) throw error;
    }
  }
}

/** E2BIG writes the true count into `nmsrs`. */
function msrList(kvm: Kvm, request: number): number[] {
  for (let nmsrs = 0; ; ) {
    const bytes = kvm_msr_list.alloc(nmsrs);
    const list = kvm_msr_list.view(bytes);
    list.nmsrs = nmsrs;
    try {
      kvm.ioctl(request, bytes);
      return kvm_msr_list.decode(bytes).indices;
    } catch (error) {
      if (!isTooBig(error) || list.nmsrs <= nmsrs) throw error;
      nmsrs = list.nmsrs;
    }
  }
}
