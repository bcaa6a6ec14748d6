import { describe, expect, test } from 'vitest';
import { NotModelled } from '../../../src/kernel/errors.ts';
import { systemIoctls } from '../../../src/sim/kvm/dev-kvm.ts';
import { vcpuIoctls } from '../../../src/sim/kvm/vcpu-file.ts';
import { vmIoctls } from '../../../src/sim/kvm/vm.ts';
import { amdSvm72 } from '../../../src/sim/machines/amd-svm-7.2.ts';
import { Kit, u } from './kit.ts';

/** In the headers for x86 too, but no x86 kernel knows them there. */
const UNKNOWN: Readonly<Record<string, readonly string[]>> = {
  kvm: [],
  vm: ['KVM_GET_NR_MMU_PAGES', 'KVM_SET_DEVICE_ATTR', 'KVM_GET_DEVICE_ATTR', 'KVM_HAS_DEVICE_ATTR'],
  vcpu: [],
};

describe('ioctl tables', () => {
  test.each([
    ['kvm', systemIoctls.rows],
    ['vm', vmIoctls.rows],
    ['vcpu', vcpuIoctls.rows],
  ] as const)('%s: each request of the vocabulary is in the table, modelled or not, or known to be unknown', (kind, rows) => {
    const vocabulary = u.ioctls().filter((row) => row.fds.includes(kind) && (row.arch === undefined || row.arch === 'x86'));
    const missing = vocabulary.filter((row) => !rows.has(row.request)).map((row) => row.name);
    expect(missing.sort()).toEqual([...UNKNOWN[kind]!].sort());
    const known = new Set(vocabulary.map((row) => row.request));
    expect([...rows.values()].filter((row) => !known.has(row.request)).map((row) => row.name)).toEqual([]);
  });

  test('what is not modelled throws and names itself; told to refuse, it is unknown', () => {
    const kit = new Kit({ machine: amdSvm72 });
    const vm = kit.vm();
    expect(() => kit.kernel.tryIoctl(vm, u.KVM_SET_PMU_EVENT_FILTER)).toThrow(NotModelled);
    expect(() => kit.kernel.tryIoctl(vm, u.KVM_SET_PMU_EVENT_FILTER)).toThrow('KVM_SET_PMU_EVENT_FILTER');
    kit.kernel.close();
    const old = new Kit({ machine: amdSvm72, notModelled: 'refuse' });
    const oldVm = old.vm();
    expect(old.io(oldVm, u.KVM_SET_PMU_EVENT_FILTER)).toBe('ENOTTY');
    expect(old.io(old.vcpu(oldVm), u.KVM_GET_LAPIC, new Uint8Array(1024))).toBe('EINVAL');
    old.kernel.close();
  });

  test('ioctls of a feature the machine does not have are unknown, not unmodelled', () => {
    const kit = new Kit();
    const vm = kit.vm();
    const attributes = u.kvm_memory_attributes.alloc();
    expect(kit.io(vm, u.KVM_SET_MEMORY_ATTRIBUTES, attributes)).toBe('ENOTTY');
    expect(kit.io(kit.kvm, u.KVM_GET_SUPPORTED_HV_CPUID, new Uint8Array(8))).toBe('EINVAL');
    expect(kit.io(vm, u.KVM_CREATE_GUEST_MEMFD, u.kvm_create_guest_memfd.alloc())).toBe('EINVAL');
    kit.kernel.close();
    const hardware = new Kit({ machine: amdSvm72 });
    expect(hardware.io(hardware.vm(), u.KVM_SET_MEMORY_ATTRIBUTES, attributes)).toBe('EINVAL');
    hardware.kernel.close();
  });

  test('coverage lists what has a handler and nothing else', () => {
    const kit = new Kit();
    const names = kit.kernel.coverage().map((row) => row.name);
    expect(names).toContain('KVM_RUN (vcpu)');
    expect(names).toContain('KVM_CHECK_EXTENSION (vm)');
    expect(names.some((name) => name.startsWith('KVM_SET_PMU_EVENT_FILTER'))).toBe(false);
    kit.kernel.close();
  });
});
