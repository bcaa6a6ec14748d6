import { describe, expect, test } from 'vitest';
import { NotModelled } from '../../../src/kernel/errors.ts';
import { systemIoctls } from '../../../src/sim/kvm/dev-kvm.ts';
import type { Row } from '../../../src/sim/kvm/ioctl-table.ts';
import { vcpuIoctls } from '../../../src/sim/kvm/vcpu-file.ts';
import { vmIoctls } from '../../../src/sim/kvm/vm.ts';
import { profiles } from '../../../src/sim/profiles.ts';
import { Kit, u } from './kit.ts';

/** What still throws NotModelled, by profile-independent name. To be empty. */
const OPEN: readonly string[] = [];

/** Bytes that are given to a request: none at all, zeros, ones in each of the first words. */
const arguments_ = (size: number): readonly (0 | Uint8Array)[] => {
  const words = Array.from({ length: Math.min(8, Math.floor(size / 4)) }, (_, at) => {
    const bytes = new Uint8Array(Math.max(size, 8192));
    bytes[at * 4] = 1;
    return bytes;
  });
  return [0, new Uint8Array(Math.max(size, 8192)), ...words];
};

/** A VM with its vCPU: without an interrupt controller, with all of it, with local APICs alone. */
function machine(kit: Kit, irqchip: 'none' | 'kernel' | 'split'): { vm: number; vcpu: number } {
  const vm = kit.vm();
  if (irqchip === 'kernel') kit.io(vm, u.KVM_CREATE_IRQCHIP);
  if (irqchip === 'split') kit.io(vm, u.KVM_ENABLE_CAP, enableCap(u.KVM_CAP_SPLIT_IRQCHIP, 24n));
  return { vm, vcpu: kit.vcpu(vm) };
}

const enableCap = (cap: number, arg: bigint): Uint8Array =>
  u.kvm_enable_cap.encode({ cap, flags: 0, args: [arg, 0n, 0n, 0n], pad: new Uint8Array(64) });

/** The names of what throws NotModelled. Whatever else is answered is right or wrong elsewhere. */
function collect(found: Set<string>, what: string, call: () => unknown): void {
  try {
    call();
  } catch (error) {
    if (error instanceof NotModelled) found.add(`${what}: ${error.message}`);
  }
}

/** These make the caller wait, or take a file away; they are asked elsewhere. */
const NOT_WALKED = new Set(['KVM_RUN']);

describe.each(Object.entries(profiles).filter(([name]) => !name.startsWith('lab-')))('%s', (_name, profile) => {
  const found = new Set<string>();

  test.each(['none', 'kernel', 'split'] as const)('no request of any descriptor is left out, irqchip: %s', (irqchip) => {
    const kit = new Kit({ machine: profile });
    const { vm, vcpu } = machine(kit, irqchip);
    const walk = <T>(fd: number, rows: ReadonlyMap<number, Row<T>>): void => {
      for (const { name, request } of rows.values()) {
        if (NOT_WALKED.has(name)) continue;
        const { size } = u.ioctlByName(name)!;
        for (const arg of arguments_(size)) collect(found, name, () => kit.kernel.tryIoctl(fd, request, arg, { unsafe: true }));
      }
    };
    walk(kit.kvm, systemIoctls.rows);
    walk(vcpu, vcpuIoctls.rows);
    walk(vm, vmIoctls.rows);
    kit.kernel.close();
    expect([...found].sort()).toEqual([...OPEN].sort());
  });

  test.each([
    'none',
    'kernel',
  ] as const)('no capability that is advertised is left out of KVM_ENABLE_CAP, irqchip: %s', (irqchip) => {
    const kit = new Kit({ machine: profile });
    for (let cap = 0; cap < 260; cap++) {
      const { vm, vcpu } = machine(kit, irqchip);
      const value = BigInt(kit.kernel.ioctl(vm, u.KVM_CHECK_EXTENSION, cap));
      const early = kit.vm();
      for (const arg of [0n, 1n, 3n, 4096n, value]) {
        collect(found, `ENABLE_CAP ${cap}`, () => kit.kernel.tryIoctl(vm, u.KVM_ENABLE_CAP, enableCap(cap, arg)));
        collect(found, `ENABLE_CAP ${cap} (vcpu)`, () => kit.kernel.tryIoctl(vcpu, u.KVM_ENABLE_CAP, enableCap(cap, arg)));
        collect(found, `ENABLE_CAP ${cap} (no vCPU)`, () => kit.kernel.tryIoctl(early, u.KVM_ENABLE_CAP, enableCap(cap, arg)));
      }
      for (const fd of [vcpu, vm, early]) kit.kernel.close(fd);
    }
    kit.kernel.close();
    expect([...found].sort()).toEqual([...OPEN].sort());
  });

  test('no MSR that is listed is left out', () => {
    const kit = new Kit({ machine: profile });
    const { vcpu } = machine(kit, 'kernel');
    for (const index of [...profile.kvm.msrs, ...profile.kvm.featureMsrs.map(([feature]) => feature)]) {
      for (const data of [0n, 1n, 0xffffffffffffffffn]) {
        const bytes = (): Uint8Array => u.kvm_msrs.encode({ nmsrs: 1, entries: [{ index, reserved: 0, data }] });
        collect(found, `MSR 0x${index.toString(16)}`, () => kit.kernel.tryIoctl(vcpu, u.KVM_GET_MSRS, bytes()));
        collect(found, `MSR 0x${index.toString(16)}`, () => kit.kernel.tryIoctl(vcpu, u.KVM_SET_MSRS, bytes()));
      }
    }
    kit.kernel.close();
    expect([...found].sort()).toEqual([...OPEN].sort());
  });
});
