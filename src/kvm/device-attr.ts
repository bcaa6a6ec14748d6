import { KernelError } from '../kernel/errors.ts';
import type { Handle } from '../kernel/handle.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Memory } from '../kernel/memory.ts';
import { addressOf } from '../kernel/memory-argument.ts';
import { KVM_HAS_DEVICE_ATTR, kvm_device_attr } from '../uapi/kvm.ts';
import type { Input } from '../uapi/struct.ts';

/** `struct kvm_device_attr`, or the same with `memory` (and an `offset` into it) in place of `addr`; `flags` defaults to 0 there. */
export type DeviceAttr =
  | Input<kvm_device_attr>
  | { flags?: number; group: number; attr: bigint; memory: Memory; offset?: number | bigint };

/** The struct's bytes, for this kernel. */
export function encodeAttr(kernel: Kernel, attr: DeviceAttr): Uint8Array {
  if (!('memory' in attr)) return kvm_device_attr.encode(attr);
  const { memory, offset, ...rest } = attr;
  return kvm_device_attr.encode({ flags: 0, ...rest, addr: addressOf(kernel, memory, offset) });
}

/** KVM_HAS_DEVICE_ATTR: false where the kernel says ENXIO. */
export function hasAttr(handle: Handle, attr: { flags?: number; group: number; attr: bigint; addr?: bigint }): boolean {
  try {
    handle.ioctl(KVM_HAS_DEVICE_ATTR, kvm_device_attr.encode({ flags: 0, addr: 0n, ...attr }));
    return true;
  } catch (error) {
    if (KernelError.isKernelError(error) && error.code === 'ENXIO') return false;
    throw error;
  }
}
