import { setStruct } from '../kernel/handle.ts';
import { KVM_ARM_VCPU_INIT, kvm_vcpu_init } from '../uapi/arm64.ts';
import { KVM_ARM_VCPU_FINALIZE } from '../uapi/kvm.ts';
import type { Input } from '../uapi/struct.ts';
import { VcpuNested } from './vcpu-nested.ts';

/** What only a vCPU of arm64 has. On another architecture each of these throws NotAvailable. Registers are `getOneReg` and `setOneReg` there. */
export abstract class VcpuArm64 extends VcpuNested {
  /**
   * KVM_ARM_VCPU_INIT, before the first run, and again as a reset: `{ ...vm.armPreferredTarget() }` with bits KVM_ARM_VCPU_* set in `features[0]`. EINVAL: another target,
   * or other features than before; ENOENT: a feature bit there is none of. arm64 only.
   */
  armVcpuInit(init: Input<kvm_vcpu_init>): void {
    setStruct(this, KVM_ARM_VCPU_INIT, kvm_vcpu_init, init);
  }

  /** KVM_ARM_VCPU_FINALIZE: a feature is configured as it shall be (KVM_ARM_VCPU_SVE, after its vector lengths). EPERM: it is already. EINVAL: not initialized with it. arm64 only. */
  armVcpuFinalize(feature: number): void {
    this.ioctl(KVM_ARM_VCPU_FINALIZE, Int32Array.of(feature));
  }
}
