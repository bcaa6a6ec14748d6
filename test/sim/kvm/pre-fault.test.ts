import { expect, test } from 'vitest';
import { NotModelled } from '../../../src/kernel/errors.ts';
import { profiles } from '../../../src/sim/profiles.ts';
import { Kit, u } from './kit.ts';

test.each([
  ['amd-svm-7.2', 0],
  ['amd-svm-6.12', undefined],
])('%s: KVM_PRE_FAULT_MEMORY once a memslot has gone', (name, answer) => {
  using kernel = new Kit({ machine: profiles[name]! }).kernel;
  const vm = kernel.ioctl(kernel.open('/dev/kvm'), u.KVM_CREATE_VM, 0);
  const ram = kernel.guestRam(0x4000);
  const slot = (memory_size: bigint): number => {
    const region = { slot: 0, flags: 0, guest_phys_addr: 0n, memory_size, userspace_addr: ram.address };
    return kernel.ioctl(vm, u.KVM_SET_USER_MEMORY_REGION, u.kvm_userspace_memory_region.encode(region));
  };
  const vcpu = kernel.ioctl(vm, u.KVM_CREATE_VCPU, 0);
  const ask = (): number =>
    kernel.ioctl(vcpu, u.KVM_PRE_FAULT_MEMORY, u.kvm_pre_fault_memory.encode({ gpa: 0n, size: 0x4000n, flags: 0n }));
  slot(0x4000n);
  expect([ask(), ask()]).toEqual([0, 0]);
  slot(0n);
  slot(0x4000n);
  if (answer === undefined) expect(ask).toThrow(NotModelled);
  else expect(ask()).toBe(answer);
});
