// What guest_memfd's capabilities are called: mainline's numbers, or v13's, which are one less.
import { describe, expect, test } from 'vitest';
import { teeIo } from '../../../src/uapi/index.ts';
import { TeeKit, u } from './kvm-kit.ts';

const NUMBERS = [229, 230, 231, 232, 233, 234, 235, 236];

const asked = (kit: TeeKit, fd: number): (number | string)[] => NUMBERS.map((cap) => kit.io(fd, u.KVM_CHECK_EXTENSION, cap));

describe('capNumbering', () => {
  test.each([['/dev/kvm'], ['a VM']])('on %s', (on) => {
    const of = (kit: TeeKit): (number | string)[] => asked(kit, on === 'a VM' ? kit.vm() : kit.kvm);
    const [before, arm, ...merged] = of(new TeeKit());
    const preFault = merged.pop();
    expect(merged.every((value) => value !== 0)).toBe(true);
    expect(of(new TeeKit({ capNumbering: 'v13' }))).toEqual([before, ...merged, arm, preFault]);
    expect(of(new TeeKit('off'))).toEqual([before, arm, ...merged, preFault]);
  });

  test('the numbers are those of the posting', () => {
    const kit = new TeeKit({ capNumbering: 'v13' });
    const { KVM_CAP_MEMORY_ATTRIBUTES, KVM_CAP_GUEST_MEMFD } = teeIo.guestMemfdV13;
    expect([KVM_CAP_MEMORY_ATTRIBUTES, KVM_CAP_GUEST_MEMFD]).toEqual([232, 233]);
    const vm = kit.vm();
    expect(kit.io(vm, u.KVM_CHECK_EXTENSION, KVM_CAP_MEMORY_ATTRIBUTES)).toBe(Number(u.KVM_MEMORY_ATTRIBUTE_PRIVATE));
    expect(kit.io(vm, u.KVM_CHECK_EXTENSION, KVM_CAP_GUEST_MEMFD)).toBe(1);
    // What needs a capability is there under either number.
    expect(kit.ram(vm).gmem).toBeGreaterThan(0);
  });
});

test('coverage tells of the series where the machine has them, and what of them is not simulated', () => {
  const told = (kit: TeeKit): string[] =>
    kit.kernel
      .coverage()
      .filter(({ area }) => area === 'RFC KVM')
      .map(({ name, except }) => `${name}: ${except ?? ''}`);
  expect(told(new TeeKit('off'))).toEqual([]);
  const rows = told(new TeeKit()).join('\n');
  expect(rows).toContain('KVM_MEM_VFIO_DMABUF: \n');
  expect(rows).toContain('no Arm CPU, no TDX module and no SNP launch');
});
