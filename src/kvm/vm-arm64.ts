import { wide, word } from '../kernel/arguments.ts';
import { getStruct, Handle, setStruct } from '../kernel/handle.ts';
import type { Memory } from '../kernel/memory.ts';
import { rangeOf } from '../kernel/memory-argument.ts';
import {
  KVM_ARM_GET_REG_WRITABLE_MASKS,
  KVM_ARM_MTE_COPY_TAGS,
  KVM_ARM_PREFERRED_TARGET,
  KVM_ARM_SET_COUNTER_OFFSET,
  KVM_ARM_TAGS_FROM_GUEST,
  KVM_ARM_TAGS_TO_GUEST,
  kvm_arm_copy_mte_tags,
  kvm_arm_counter_offset,
  kvm_vcpu_init,
  reg_mask_range,
} from '../uapi/arm64.ts';
import { KVM_ARM_SET_DEVICE_ADDR, KVM_GET_DEVICE_ATTR, KVM_SET_DEVICE_ATTR, kvm_arm_device_addr } from '../uapi/kvm.ts';
import type { Input } from '../uapi/struct.ts';
import { type DeviceAttr, encodeAttr, hasAttr } from './device-attr.ts';

/** Allocation tags of guest memory: a byte for each 16. */
export interface MteTags {
  guest_ipa: bigint;
  /** In bytes of guest memory, whole pages. */
  length: number | bigint;
  /** The tags, a byte each. */
  memory: Memory;
  offset?: number | bigint;
  /** To the guest, or (default) from it. */
  toGuest?: boolean;
}

/** What only a VM of arm64 has. On another architecture each of these throws NotAvailable. */
export abstract class VmArm64 extends Handle {
  /** KVM_ARM_PREFERRED_TARGET: what `vcpu.armVcpuInit` takes on this host, without features. arm64 only. */
  armPreferredTarget(): kvm_vcpu_init {
    return getStruct(this, KVM_ARM_PREFERRED_TARGET, kvm_vcpu_init);
  }

  /**
   * KVM_ARM_SET_DEVICE_ADDR: where a GICv2 of the kernel lies; `id` is KVM_ARM_DEVICE_VGIC_V2 << KVM_ARM_DEVICE_ID_SHIFT with a KVM_VGIC_V2_ADDR_TYPE_*.
   * Others are placed by attributes of their devices. ENODEV: unknown id, ENXIO: no such device here, EEXIST: it has an address, E2BIG: beyond the guest's. arm64 only.
   */
  armSetDeviceAddr(device: Input<kvm_arm_device_addr>): void {
    setStruct(this, KVM_ARM_SET_DEVICE_ADDR, kvm_arm_device_addr, device);
  }

  /** KVM_ARM_SET_COUNTER_OFFSET: what the guest's virtual and physical counters are behind the host's. EBUSY while a vCPU runs. KVM_CAP_COUNTER_OFFSET. arm64 only. */
  armSetCounterOffset(counter_offset: bigint): void {
    const value = { counter_offset: word(counter_offset, 'counter_offset'), reserved: 0n };
    setStruct(this, KVM_ARM_SET_COUNTER_OFFSET, kvm_arm_counter_offset, value);
  }

  /**
   * KVM_ARM_MTE_COPY_TAGS: allocation tags to or from guest memory; the bytes of guest memory done. EINVAL: no whole pages, or not in memslots. KVM_CAP_ARM_MTE.
   * arm64 only.
   */
  armMteCopyTags({ guest_ipa, length: bytes, memory, offset, toGuest = false }: MteTags): number {
    const length = wide(bytes, 'length');
    const flags = BigInt(toGuest ? KVM_ARM_TAGS_TO_GUEST : KVM_ARM_TAGS_FROM_GUEST);
    const addr = rangeOf(this.kernel, memory, offset, length / 16n).userspace_addr;
    return setStruct(this, KVM_ARM_MTE_COPY_TAGS, kvm_arm_copy_mte_tags, { guest_ipa, length, addr, flags, reserved: [0n, 0n] });
  }

  /**
   * KVM_ARM_GET_REG_WRITABLE_MASKS: for each feature id register (KVM_ARM_FEATURE_ID_RANGE_INDEX) the bits userspace may change, written into `memory`.
   * KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES. arm64 only.
   */
  armGetRegWritableMasks(memory: Memory, offset?: number | bigint): void {
    const addr = rangeOf(this.kernel, memory, offset).userspace_addr;
    const reserved = new Array<number>(13).fill(0);
    setStruct(this, KVM_ARM_GET_REG_WRITABLE_MASKS, reg_mask_range, { addr, range: 0, reserved });
  }

  /** KVM_SET_DEVICE_ATTR on the VM: KVM_ARM_VM_SMCCC_CTRL. ENXIO: no such attribute. KVM_CAP_VM_ATTRIBUTES; x86 has none. */
  setDeviceAttr(attr: DeviceAttr): void {
    this.ioctl(KVM_SET_DEVICE_ATTR, encodeAttr(this.kernel, attr));
  }

  /** KVM_GET_DEVICE_ATTR on the VM: writes the attribute where `addr` (or `memory`) says. ENXIO: no such attribute. x86 has none. */
  getDeviceAttr(attr: DeviceAttr): void {
    this.ioctl(KVM_GET_DEVICE_ATTR, encodeAttr(this.kernel, attr));
  }

  /** KVM_HAS_DEVICE_ATTR on the VM: false where the kernel says ENXIO. `addr` is not looked at. */
  hasDeviceAttr(attr: { flags?: number; group: number; attr: bigint; addr?: bigint }): boolean {
    return hasAttr(this, attr);
  }
}
