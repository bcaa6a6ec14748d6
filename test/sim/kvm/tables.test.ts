import { describe, expect, test } from 'vitest';
import { NotModelled } from '../../../src/kernel/errors.ts';
import { systemIoctls } from '../../../src/sim/kvm/dev-kvm.ts';
import { IoctlTable, NOT_MODELLED } from '../../../src/sim/kvm/ioctl-table.ts';
import { vcpuIoctls } from '../../../src/sim/kvm/vcpu-file.ts';
import { vmIoctls } from '../../../src/sim/kvm/vm.ts';
import { amdSvm72 } from '../../../src/sim/machines/amd-svm-7.2.ts';
import type { SystemOptions } from '../../../src/sim/system.ts';
import { ENOTTY } from '../../../src/uapi/sys.ts';
import { boot } from '../machine.ts';
import { Kit, u } from './kit.ts';

/** In the headers for x86 too, but no x86 kernel knows them there. */
const UNKNOWN: Readonly<Record<string, readonly string[]>> = {
  kvm: [],
  vm: ['KVM_SET_DEVICE_ATTR', 'KVM_GET_DEVICE_ATTR', 'KVM_HAS_DEVICE_ATTR'],
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
    const table = new IoctlTable<undefined>('vm', ENOTTY, { KVM_RESET_DIRTY_RINGS: NOT_MODELLED });
    const ask = (options: SystemOptions) => (): number =>
      table.dispatch(undefined, boot(options).process, u.KVM_RESET_DIRTY_RINGS, 0n);
    expect(ask({})).toThrow(NotModelled);
    expect(ask({})).toThrow('KVM_RESET_DIRTY_RINGS');
    expect(ask({ notModelled: 'refuse' })()).toBe(-ENOTTY);
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
    const names = new Set(kit.kernel.coverage().flatMap(({ area, name }) => (area === 'absent ioctl' ? [] : [name])));
    for (const { kind, rows } of [systemIoctls, vmIoctls, vcpuIoctls])
      for (const { name, handler } of rows.values())
        expect(names.has(`${name} (${kind})`), `${name} (${kind})`).toBe(handler !== undefined);
    kit.kernel.close();
  });
});
