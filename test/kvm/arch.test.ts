// Requests of one architecture on a kernel of the other. No arm64 host is within reach: its calls go to a back end that writes them down.
import { Kvm } from 'kvio';
import * as uapi from 'kvio/uapi';
import { describe, expect, it } from 'vitest';
import { KernelCore } from '../../src/kernel/core.ts';
import type { KernelArch } from '../../src/kernel/index.ts';
import { FakeBackend } from '../kernel/fake-backend.ts';
import { thrown } from './each-kernel.ts';

const { arm64 } = uapi;

function machine(arch: KernelArch) {
  const backend = Object.assign(new FakeBackend(), { arch, features: { ...new FakeBackend().features, guard: false } });
  const seen: { request: number; bytes: number[] }[] = [];
  const answers = new Map<number, (bytes: Uint8Array) => number>();
  let fds = 50;
  backend.ioctl = (_fd, request, arg) => {
    if ([uapi.KVM_CREATE_VM, uapi.KVM_CREATE_VCPU].includes(request)) return fds++;
    if (request === uapi.KVM_GET_VCPU_MMAP_SIZE) return 4096;
    const bytes = arg instanceof Uint8Array ? arg : new Uint8Array();
    seen.push({ request, bytes: [...bytes] });
    return answers.get(request)?.(bytes) ?? 0;
  };
  const kernel = new KernelCore(backend, 'test');
  const kvm = Kvm.open(kernel);
  const vm = kvm.createVm(arch === 'arm64' ? uapi.KVM_VM_TYPE_ARM_IPA_SIZE(40) : 0);
  return { kernel, kvm, vm, vcpu: vm.createVcpu(0), seen, answers };
}

describe('an x86 kernel', () => {
  const { vm, vcpu, seen } = machine('x86');
  it.each([
    ['KVM_ARM_PREFERRED_TARGET', () => vm.armPreferredTarget()],
    ['KVM_ARM_SET_DEVICE_ADDR', () => vm.armSetDeviceAddr({ id: 0n, addr: 0n })],
    ['KVM_ARM_SET_COUNTER_OFFSET', () => vm.armSetCounterOffset(0n)],
    ['KVM_ARM_VCPU_INIT', () => vcpu.armVcpuInit({ target: 5, features: [0, 0, 0, 0, 0, 0, 0] })],
    ['KVM_ARM_VCPU_FINALIZE', () => vcpu.armVcpuFinalize(4)],
  ])('refuses %s by its architecture', (name, call) => {
    expect(thrown(call)).toMatchObject({
      code: 'ERR_KVIO_NOT_AVAILABLE',
      message: `${name} is arm64's only, and this kernel is x86's`,
    });
    expect(seen).toEqual([]);
  });
});

describe('an arm64 kernel', () => {
  it('refuses what is x86’s by its architecture', () => {
    const { kvm, vm, vcpu, seen } = machine('arm64');
    const x86: Readonly<Record<string, () => unknown>> = {
      KVM_GET_REGS: () => vcpu.getRegs(),
      KVM_GET_SREGS: () => vcpu.getSregs(),
      KVM_GET_MSRS: () => vcpu.getMsrs([0x10]),
      KVM_SET_TSS_ADDR: () => vm.setTssAddr(0),
      KVM_CREATE_PIT2: () => vm.createPit2(),
      KVM_GET_SUPPORTED_CPUID: () => kvm.getSupportedCpuid(),
      KVM_GET_NESTED_STATE: () => vcpu.getNestedState(),
    };
    for (const [name, call] of Object.entries(x86))
      expect(thrown(call).message).toBe(`${name} is x86's only, and this kernel is arm64's`);
    expect(seen).toEqual([]);
  });

  it('makes and initializes a vCPU', () => {
    const { vm, vcpu, seen, answers } = machine('arm64');
    answers.set(arm64.KVM_ARM_PREFERRED_TARGET, (bytes) => {
      bytes[0] = 5;
      return 0;
    });
    const init = vm.armPreferredTarget();
    expect(init).toEqual({ target: 5, features: [0, 0, 0, 0, 0, 0, 0] });
    init.features[0] = 1 << arm64.KVM_ARM_VCPU_SVE;
    vcpu.armVcpuInit(init);
    vcpu.armVcpuFinalize(arm64.KVM_ARM_VCPU_SVE);
    vm.armSetDeviceAddr({ id: 0x1234n, addr: 0x800_0000n });
    vm.armSetCounterOffset(-1n);
    expect(seen.slice(1)).toEqual([
      { request: 0x4020aeae, bytes: [5, 0, 0, 0, 16, ...new Array(27).fill(0)] },
      { request: 0x4004aec2, bytes: [4, 0, 0, 0] },
      { request: 0x4010aeab, bytes: [0x34, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0] },
      { request: 0x4010aeb5, bytes: [...new Array(8).fill(255), ...new Array(8).fill(0)] },
    ]);
  });

  it('registers have the size of their id', () => {
    const { kernel, vcpu, answers } = machine('arm64');
    const at = (bytes: Uint8Array) => {
      const { addr } = uapi.kvm_one_reg.decode(bytes);
      const memory = kernel.memoryAt(addr)!;
      return { memory, offset: Number(addr - memory.address) };
    };
    const written: bigint[] = [];
    answers.set(uapi.KVM_GET_ONE_REG, (bytes) => {
      const { memory, offset } = at(bytes);
      memory.write64(offset, 0x1122n);
      memory.write64(offset + 8, 0x3344n);
      return 0;
    });
    answers.set(uapi.KVM_SET_ONE_REG, (bytes) => {
      const { memory, offset } = at(bytes);
      for (let i = 0; i < 4; i++) written.push(memory.read64(offset + 8 * i));
      return 0;
    });
    const id = (size: bigint): bigint => uapi.KVM_REG_ARM64 | size | 0x10_0000n;
    expect(vcpu.getOneReg(id(uapi.KVM_REG_SIZE_U64))).toBe(0x1122n);
    expect(vcpu.getOneReg(id(uapi.KVM_REG_SIZE_U32))).toBe(0x1122n);
    expect(vcpu.getOneReg(id(uapi.KVM_REG_SIZE_U128))).toBe((0x3344n << 64n) | 0x1122n);
    vcpu.setOneReg(id(uapi.KVM_REG_SIZE_U128), (7n << 64n) | 9n);
    expect(written).toEqual([9n, 7n, 0n, 0n]);
  });

  it('the list of registers is as long as the kernel says', () => {
    const { vcpu, answers } = machine('arm64');
    answers.set(uapi.KVM_GET_REG_LIST, (bytes) => {
      const list = new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8);
      const enough = list[0]! >= 2000n;
      list[0] = 2000n;
      if (enough) list.fill(3n, 1);
      return enough ? 0 : -7;
    });
    expect(vcpu.getRegList()).toEqual(new Array(2000).fill(3n));
  });
});
