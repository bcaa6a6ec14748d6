import { KernelError } from '../kernel/errors.ts';
import { KVM_GET_NESTED_STATE, KVM_SET_NESTED_STATE, kvm_nested_state } from '../uapi/kvm.ts';
import { VcpuState } from './vcpu-state.ts';

/** What a guest hypervisor has made of a vCPU. */
export abstract class VcpuNested extends VcpuState {
  /**
   * KVM_GET_NESTED_STATE: `struct kvm_nested_state` and what follows it, as bytes: a VMCS or VMCB. EINVAL where there is no nested virtualization
   * (KVM_CAP_NESTED_STATE is 0), as on the simulator. x86 only.
   */
  getNestedState(): Uint8Array {
    for (let size = kvm_nested_state.size; ; ) {
      const bytes = new Uint8Array(size);
      const header = kvm_nested_state.view(bytes);
      header.size = size;
      try {
        this.ioctl(KVM_GET_NESTED_STATE, bytes);
        return bytes.subarray(0, header.size);
      } catch (error) {
        // E2BIG says how many bytes it takes.
        if (!KernelError.isKernelError(error) || error.code !== 'E2BIG' || header.size <= size) throw error;
        size = header.size;
      }
    }
  }

  /** KVM_SET_NESTED_STATE: what `getNestedState` gave, after KVM_SET_CPUID2 and KVM_SET_SREGS. EINVAL for what does not fit together, or without nested virtualization. x86 only. */
  setNestedState(state: Uint8Array): void {
    this.ioctl(KVM_SET_NESTED_STATE, state);
  }
}
