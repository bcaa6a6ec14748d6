/** Device attributes of a vCPU (the TSC's offset), and what VM descriptors say to them. */
import type { Kernel } from 'kvio';
import {
  KVM_GET_DEVICE_ATTR,
  KVM_HAS_DEVICE_ATTR,
  KVM_SET_DEVICE_ATTR,
  KVM_VCPU_TSC_CTRL,
  KVM_VCPU_TSC_OFFSET,
  kvm_device_attr,
} from 'kvio/uapi';
import { type Case, define } from '../case.ts';
import { getMsr, newVcpu, setMsr, UNSAFE } from '../machine.ts';

const requests = [
  ['HAS', KVM_HAS_DEVICE_ATTR],
  ['GET', KVM_GET_DEVICE_ATTR],
  ['SET', KVM_SET_DEVICE_ATTR],
] as const;

const attribute = (group: number, attr: bigint, addr: bigint, flags = 0): Uint8Array =>
  kvm_device_attr.encode({ flags, group, attr, addr });

function offset(kernel: Kernel, vcpu: number, value?: bigint): bigint {
  const memory = kernel.guestRam(4096);
  if (value !== undefined) {
    memory.write64(0, value);
    kernel.ioctl(vcpu, KVM_SET_DEVICE_ATTR, attribute(KVM_VCPU_TSC_CTRL, BigInt(KVM_VCPU_TSC_OFFSET), memory.address));
  }
  memory.write64(0, 0n);
  kernel.ioctl(vcpu, KVM_GET_DEVICE_ATTR, attribute(KVM_VCPU_TSC_CTRL, BigInt(KVM_VCPU_TSC_OFFSET), memory.address));
  return memory.read64(0);
}

export const deviceAttrCases: Case[] = [
  define('kvm/device-attr/vcpu', 'Device attributes of a vCPU', (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    const memory = kernel.guestRam(4096);
    for (const [name, request] of requests) {
      see.call(`${name}, pointer 0`, () => kernel.ioctl(vcpu, request, 0));
      see.call(`${name}, pointer 0, on the VM`, () => kernel.ioctl(vm, request, 0));
      see.call(`${name}, on the VM`, () => kernel.ioctl(vm, request, attribute(0, 0n, memory.address)));
      see.call(`${name} group 1`, () => kernel.ioctl(vcpu, request, attribute(1, 0n, memory.address)));
      see.call(`${name} attribute 1`, () => kernel.ioctl(vcpu, request, attribute(0, 1n, memory.address)));
      see.call(`${name} attribute 1 << 32`, () => kernel.ioctl(vcpu, request, attribute(0, 1n << 32n, memory.address)));
      see.call(`${name} the offset`, () => kernel.ioctl(vcpu, request, attribute(0, 0n, memory.address)));
      see.call(`${name} the offset at 0`, () => kernel.ioctl(vcpu, request, attribute(0, 0n, 0n), UNSAFE));
      see.call(`${name} with flags`, () => kernel.ioctl(vcpu, request, attribute(0, 0n, memory.address, 0xffffffff)));
    }
  }),
  define('kvm/device-attr/tsc-offset', 'Device attributes of a vCPU', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    see.note('an offset of 2^40 is kept', offset(kernel, vcpu, 1n << 40n));
    see.note('one below 0 is kept', offset(kernel, vcpu, (1n << 64n) - (1n << 40n)));
    const before = getMsr(kernel, vcpu, 0x10)!;
    offset(kernel, vcpu, 1n << 50n);
    const after = getMsr(kernel, vcpu, 0x10)!;
    see.note('the guest reads the TSC with it', BigInt.asUintN(64, after - before) > 1n << 49n);
    see.note('TSC_ADJUST', getMsr(kernel, vcpu, 0x3b));
    see.note('a TSC that is written', setMsr(kernel, vcpu, 0x10, 1n << 52n));
    const now = getMsr(kernel, vcpu, 0x10)!;
    see.note('is read', now >= 1n << 52n && now < 1n << 53n);
  }),
];
