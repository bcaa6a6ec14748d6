import { describe, expect, test } from 'vitest';
import type { Machine } from '../../../src/sim/machine.ts';
import { amdSvm72 } from '../../../src/sim/machines/amd-svm-7.2.ts';
import { intelVmx72 } from '../../../src/sim/machines/intel-vmx-7.2.ts';
import { pvm618 } from '../../../src/sim/machines/pvm-6.18.ts';
import { Kit, u } from './kit.ts';

const machines: readonly (readonly [string, Machine])[] = [pvm618, amdSvm72, intelVmx72].map((machine) => [
  machine.name,
  machine,
]);

const msr = (index: number, data: bigint): Uint8Array => u.kvm_msrs.encode({ nmsrs: 1, entries: [{ index, reserved: 0, data }] });
const cpuid = (entries: readonly Partial<u.kvm_cpuid_entry2>[]): Uint8Array =>
  u.kvm_cpuid2.encode({
    nent: entries.length,
    entries: entries.map((entry) => ({ function: 0, index: 0, flags: 0, eax: 0, ebx: 0, ecx: 0, edx: 0, ...entry })),
  });

/** GET_SUPPORTED_CPUID as it comes. */
function supported(kit: Kit): Uint8Array {
  const bytes = u.kvm_cpuid2.alloc(256);
  new DataView(bytes.buffer).setUint32(0, 256, true);
  kit.kernel.ioctl(kit.kvm, u.KVM_GET_SUPPORTED_CPUID, bytes);
  return bytes;
}

describe.each(machines)('%s', (_name, machine) => {
  test('every advertised MSR can be read, and takes back what was read', () => {
    const kit = new Kit({ machine });
    const vcpu = kit.vcpu(kit.vm());
    expect(kit.io(vcpu, u.KVM_SET_CPUID2, supported(kit))).toBe(0);
    const readOnly = [0x4b564d06];
    for (const index of [...machine.kvm.msrs, ...machine.kvm.featureMsrs.map(([feature]) => feature)]) {
      const bytes = msr(index, 0x55n);
      expect([index.toString(16), kit.io(vcpu, u.KVM_GET_MSRS, bytes)]).toEqual([index.toString(16), 1]);
      expect([index.toString(16), kit.io(vcpu, u.KVM_SET_MSRS, bytes)]).toEqual([
        index.toString(16),
        readOnly.includes(index) ? 0 : 1,
      ]);
    }
    kit.kernel.close();
  });

  test('a fresh vCPU has an empty CPUID; what the machine supports is accepted whole', () => {
    const kit = new Kit({ machine });
    const vcpu = kit.vcpu(kit.vm());
    const bytes = u.kvm_cpuid2.alloc(256);
    expect(kit.io(vcpu, u.KVM_GET_CPUID2, bytes)).toBe(0);
    expect(u.kvm_cpuid2.decode(bytes).nent).toBe(0);
    const table = supported(kit);
    expect(kit.io(vcpu, u.KVM_SET_CPUID2, table)).toBe(0);
    new DataView(bytes.buffer).setUint32(0, 256, true);
    expect(kit.io(vcpu, u.KVM_GET_CPUID2, bytes)).toBe(0);
    expect(u.kvm_cpuid2.decode(bytes).nent).toBe(machine.kvm.cpuid.length);
    kit.kernel.close();
  });
});

describe('MSRs', () => {
  test('the count stops at the first failure; a GET zeroes the failing entry and writes all back', () => {
    const kit = new Kit();
    const vcpu = kit.vcpu(kit.vm());
    const entries = [0x174, 0x99999, 0x176].map((index) => ({ index, reserved: 0, data: 0x55n }));
    const bytes = u.kvm_msrs.encode({ nmsrs: 3, entries });
    expect(kit.io(vcpu, u.KVM_SET_MSRS, bytes)).toBe(1);
    expect(kit.io(vcpu, u.KVM_GET_MSRS, bytes)).toBe(1);
    expect(u.kvm_msrs.decode(bytes).entries.map((entry) => entry.data)).toEqual([0x55n, 0n, 0x55n]);
    expect(kit.io(vcpu, u.KVM_GET_MSRS, u.kvm_msrs.encode({ nmsrs: 0, entries: [] }))).toBe(0);
    kit.kernel.close();
  });

  test('feature MSRs freeze with the first entry into the guest; UCODE_REV does not', () => {
    const kit = new Kit();
    const guest = kit.guest([0xf4, 0xf4]);
    expect(kit.io(guest.vcpu, u.KVM_SET_MSRS, msr(0xce, 0n))).toBe(1);
    guest.step();
    expect(kit.io(guest.vcpu, u.KVM_SET_MSRS, msr(0xce, 0n))).toBe(1);
    expect(kit.io(guest.vcpu, u.KVM_SET_MSRS, msr(0xce, 0x8000_0000n))).toBe(0);
    expect(kit.io(guest.vcpu, u.KVM_SET_MSRS, msr(0x8b, 5n))).toBe(1);
    kit.kernel.close();
  });

  test('the TSC of hardware starts near 0 and follows writes; that of pvm is the host’s', () => {
    for (const [machine, written] of [
      [amdSvm72, true],
      [pvm618, false],
    ] as const) {
      const kit = new Kit({ machine });
      const guest = kit.guest([0xeb, 0xfe]);
      kit.kernel.run(guest.vcpu, { budget: 5 });
      const bytes = msr(0x10, 1n << 40n);
      expect(kit.io(guest.vcpu, u.KVM_SET_MSRS, bytes)).toBe(1);
      kit.io(guest.vcpu, u.KVM_GET_MSRS, bytes);
      const read = u.kvm_msrs.decode(bytes).entries[0]!.data;
      expect(read).toBe(written ? 1n << 40n : BigInt(machine.kvm.tscKhz) * (10_000n + 5n));
      kit.kernel.close();
    }
  });

  test('what the hardware backends check and pvm does not', () => {
    for (const [machine, result] of [
      [amdSvm72, 0],
      [intelVmx72, 0],
      [pvm618, 1],
    ] as const) {
      const kit = new Kit({ machine });
      const vcpu = kit.vcpu(kit.vm());
      expect(kit.io(vcpu, u.KVM_SET_MSRS, msr(0x277, 0x0202_0202_0202_0202n))).toBe(result);
      expect(kit.setSregs(vcpu, (sregs) => (sregs.cr4 = 1n << 20n))).toBe(result === 1 ? 0 : 'EINVAL');
      expect(kit.setSregs(vcpu, (sregs) => (sregs.efer = 1n << 11n))).toBe(result === 1 ? 0 : 'EINVAL');
      kit.io(vcpu, u.KVM_SET_CPUID2, supported(kit));
      expect(kit.setSregs(vcpu, (sregs) => (sregs.cr4 = 1n << 20n))).toBe(0);
      kit.kernel.close();
    }
  });
});

describe('CPUID', () => {
  test('after the first entry only the same table is accepted', () => {
    const kit = new Kit({ machine: amdSvm72 });
    const guest = kit.guest([0xf4, 0xf4]);
    const table = cpuid([
      { function: 0, eax: 1 },
      { function: 1, ecx: 5 },
    ]);
    expect(kit.io(guest.vcpu, u.KVM_SET_CPUID2, table)).toBe(0);
    guest.step();
    expect(kit.io(guest.vcpu, u.KVM_SET_CPUID2, table)).toBe(0);
    expect(kit.io(guest.vcpu, u.KVM_SET_CPUID2, cpuid([{ function: 0, eax: 1 }]))).toBe('EINVAL');
    // Bits that are KVM's own do not count.
    expect(
      kit.io(
        guest.vcpu,
        u.KVM_SET_CPUID2,
        cpuid([
          { function: 0, eax: 1 },
          { function: 1, ecx: 5, edx: 1 << 9 },
        ]),
      ),
    ).toBe(0);
    kit.kernel.close();
  });

  test('leaves out of range: the highest basic leaf for Intel, zeros for AMD and without leaf 0', () => {
    const intel = { function: 0, eax: 2, ebx: 0x756e6547, ecx: 0x6c65746e, edx: 0x49656e69 };
    const amd = { function: 0, eax: 2, ebx: 0x68747541, ecx: 0x444d4163, edx: 0x69746e65 };
    for (const [leaf0, eax] of [
      [intel, 0x77],
      [amd, 0],
      [{ function: 9 }, 0],
    ] as const) {
      const kit = new Kit({ machine: intelVmx72 });
      const vcpu = kit.vcpu(kit.vm());
      expect(kit.io(vcpu, u.KVM_SET_CPUID2, cpuid([leaf0, { function: 2, eax: 0x77 }]))).toBe(0);
      const inside = kit.inside(vcpu);
      expect(inside.cpuid.execute(0x1234, 0, inside.cpuidRuntime).eax).toBe(eax);
      expect(inside.cpuid.execute(2, 5, inside.cpuidRuntime).eax).toBe(0x77);
      kit.kernel.close();
    }
  });

  test('refusals leave the old table', () => {
    const kit = new Kit();
    const vcpu = kit.vcpu(kit.vm());
    expect(kit.io(vcpu, u.KVM_SET_CPUID2, cpuid([{ function: 5, eax: 1 }]))).toBe(0);
    expect(kit.io(vcpu, u.KVM_SET_CPUID2, cpuid([{ function: 0x80000008, eax: 0x2030 }]))).toBe('EINVAL');
    expect(kit.io(vcpu, u.KVM_SET_CPUID2, cpuid([{ function: 0xd, flags: 1, eax: 1 << 18 }]))).toBe('EPERM');
    expect(kit.io(vcpu, u.KVM_GET_CPUID2, u.kvm_cpuid2.alloc(0))).toBe('E2BIG');
    const bytes = u.kvm_cpuid2.alloc(4);
    bytes[0] = 4;
    expect(kit.io(vcpu, u.KVM_GET_CPUID2, bytes)).toBe(0);
    expect(u.kvm_cpuid2.decode(bytes)).toMatchObject({ nent: 1, entries: [{ function: 5, eax: 1 }] });
    kit.kernel.close();
  });
});
