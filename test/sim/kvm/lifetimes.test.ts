import { describe, expect, test } from 'vitest';
import { pvm618 } from '../../../src/sim/machines/pvm-6.18.ts';
import { Kit, u } from './kit.ts';

const HLT = 0xf4;

describe('lifetimes', () => {
  test('a vCPU runs on after its VM descriptor is closed', () => {
    const kit = new Kit();
    const guest = kit.guest([HLT, HLT]);
    kit.kernel.close(guest.vm);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    expect(kit.inside(guest.vcpu).vm.alive).toBe(true);
    kit.kernel.close();
  });

  test('closing a vCPU descriptor does not free its id; the VM goes with the last descriptor', () => {
    const kit = new Kit();
    const vm = kit.vm();
    const vcpu = kit.vcpu(vm, 5);
    const inside = kit.inside(vcpu).vm;
    const copy = kit.kernel.dup(vcpu);
    kit.kernel.close(vcpu);
    expect(kit.io(vm, u.KVM_CREATE_VCPU, 5)).toBe('EEXIST');
    expect(kit.io(copy, u.KVM_GET_REGS, u.kvm_regs.alloc())).toBe(0);
    kit.kernel.close(vm);
    expect(inside.alive).toBe(true);
    kit.kernel.close(copy);
    expect(inside.alive).toBe(false);
    kit.kernel.close();
  });

  test('a mapping outlives descriptors and keeps the VM', () => {
    const kit = new Kit();
    const guest = kit.guest([HLT]);
    const vm = kit.inside(guest.vcpu).vm;
    guest.step();
    kit.kernel.close(guest.vm);
    kit.kernel.close(guest.vcpu);
    expect(vm.alive).toBe(true);
    expect(guest.reason).toBe(u.KVM_EXIT_HLT);
    const view = guest.run.bytes!;
    guest.run.close();
    expect(vm.alive).toBe(false);
    // A view left behind reads zeros.
    expect(view.every((byte) => byte === 0)).toBe(true);
    kit.kernel.close();
  });

  test('munmap of kvm_run does not disturb KVM_RUN, and a new mapping shows the same page', () => {
    const kit = new Kit();
    const guest = kit.guest([0xe6, 0x10, HLT]);
    guest.run.write8(u.kvm_run.offsetOf('request_interrupt_window'), 0);
    guest.run.close();
    expect(kit.kernel.run(guest.vcpu)).toBe(0);
    const again = kit.kernel.mmap({ length: 4096, fd: guest.vcpu });
    expect(again.read32(u.kvm_run.offsetOf('exit_reason'))).toBe(u.KVM_EXIT_IO);
    kit.kernel.close();
  });

  test('any length maps; pages other than the three are SIGBUS; the ring is the same page in every vCPU', () => {
    const kit = new Kit();
    const vm = kit.vm();
    const [a, b] = [kit.vcpu(vm, 0), kit.vcpu(vm, 1)];
    const long = kit.kernel.mmap({ length: 100 * 4096, fd: a, view: false });
    expect(long.read8(2 * 4096)).toBe(0);
    for (const page of [3, 64, 99]) expect(() => long.read8(page * 4096)).toThrow('EFAULT');
    const rings = [a, b].map((fd) => kit.kernel.mmap({ length: 4096, fd, offset: 8192 }));
    rings[0]!.write32(0, 0x1234);
    expect(rings[1]!.read32(0)).toBe(0x1234);
    expect(() => kit.kernel.mmap({ length: 4096, prot: u.PROT_EXEC | u.PROT_READ, fd: a, view: false })).toThrow('EPERM');
    kit.kernel.close();
  });

  test('a private mapping diverges with its first store', () => {
    const kit = new Kit();
    const guest = kit.guest([HLT]);
    const own = kit.kernel.mmap({ length: 4096, fd: guest.vcpu, flags: u.MAP_PRIVATE });
    own.write8(u.kvm_run.offsetOf('immediate_exit'), 1);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    kit.kernel.close();
  });
});

describe('the order of refusals', () => {
  /** A machine with room for one descriptor besides /dev/kvm, `free` of them left. */
  const full = (): Kit => new Kit({ machine: { ...pvm618, limits: { ...pvm618.limits, nofile: 6 } } });

  test('CREATE_VM: EMFILE before a bad type', () => {
    const kit = full();
    expect(kit.io(kit.kvm, u.KVM_CREATE_VM, 99)).toBe('EINVAL');
    kit.vm();
    kit.vm();
    expect(kit.io(kit.kvm, u.KVM_CREATE_VM, 99)).toBe('EMFILE');
    kit.kernel.close();
  });

  test('CREATE_VCPU: EINVAL, then EEXIST, then EMFILE; what failed can be tried again', () => {
    const kit = full();
    const vm = kit.vm();
    const vcpu = kit.vcpu(vm, 0);
    expect(kit.io(vm, u.KVM_CREATE_VCPU, 4096)).toBe('EINVAL');
    expect(kit.io(vm, u.KVM_CREATE_VCPU, 0)).toBe('EEXIST');
    expect(kit.io(vm, u.KVM_CREATE_VCPU, 1)).toBe('EMFILE');
    kit.kernel.close(vcpu);
    expect(kit.io(vm, u.KVM_CREATE_VCPU, 0)).toBe('EEXIST');
    expect(kit.io(vm, u.KVM_CREATE_VCPU, 1)).toBe(vcpu);
    kit.kernel.close();
  });

  test('1024 vCPUs, then EINVAL', () => {
    const kit = new Kit();
    const vm = kit.vm();
    for (let id = 0; id < 1024; id++) expect(kit.io(vm, u.KVM_CREATE_VCPU, 4095 - id)).not.toBe('EINVAL');
    expect(kit.io(vm, u.KVM_CREATE_VCPU, 0)).toBe('EINVAL');
    kit.kernel.close();
  });

  test('after a vCPU: SET_BOOT_CPU_ID is EBUSY, SET_IDENTITY_MAP_ADDR EINVAL before its pointer is read', () => {
    const kit = new Kit();
    const vm = kit.vm();
    expect(kit.io(vm, u.KVM_SET_IDENTITY_MAP_ADDR, 0)).toBe('EFAULT');
    expect(kit.io(vm, u.KVM_SET_BOOT_CPU_ID, 4096)).toBe(0);
    expect(kit.io(vm, u.KVM_SET_BOOT_CPU_ID, 1)).toBe(0);
    const vcpu = kit.vcpu(vm, 1);
    expect(kit.io(vm, u.KVM_SET_IDENTITY_MAP_ADDR, 0)).toBe('EINVAL');
    expect(kit.io(vm, u.KVM_SET_BOOT_CPU_ID, 5000)).toBe('EBUSY');
    expect(kit.sregs(vcpu).apic_base).toBe(0xfee00900n);
    expect(kit.sregs(kit.vcpu(vm, 0)).apic_base).toBe(0xfee00800n);
    kit.kernel.close();
  });
});
