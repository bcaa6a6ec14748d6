// What switches change where no other test looks at them.
import { Kvm } from 'kvio';
import { openSim } from 'kvio/sim';
import * as u from 'kvio/uapi';
import { expect, it } from 'vitest';

const { guestMemfdV13 } = u.teeIo;

it('capNumbering v13: the capabilities of guest_memfd are one lower, and mainline’s numbers of them mean the next', () => {
  const names = [
    'KVM_CAP_USER_MEMORY2',
    'KVM_CAP_MEMORY_FAULT_INFO',
    'KVM_CAP_MEMORY_ATTRIBUTES',
    'KVM_CAP_GUEST_MEMFD',
    'KVM_CAP_VM_TYPES',
  ] as const;
  const asked = (capNumbering: 'mainline' | 'v13', numbers: readonly number[]): number[] => {
    const kernel = openSim({ machine: 'tee-io-7.2', teeIo: { capNumbering } });
    const kvm = Kvm.open(kernel);
    const values = numbers.map((number) => kvm.checkExtension(number));
    kernel.close();
    return values;
  };
  const merged = asked(
    'mainline',
    names.map((name) => u[name]),
  );
  expect(merged.every((value) => value > 0)).toBe(true);
  expect(
    asked(
      'v13',
      names.map((name) => guestMemfdV13[name]),
    ),
  ).toEqual(merged);
  expect(names.map((name) => u[name] - guestMemfdV13[name])).toEqual([1, 1, 1, 1, 1]);
  expect(asked('mainline', [230])).toEqual([0]);
  expect(asked('v13', [235])).toEqual([0]);
});

it('what nobody knows is no switch', () => {
  expect(() => openSim({ machine: 'tee-io-7.2', teeIo: { vendor: 'arm' as never } })).toThrow(
    /teeIo.vendor must be one of sim, tdx, sev, cca/,
  );
  expect(() => openSim({ machine: 'tee-io-7.2', teeIo: { vendors: 'sim' } as never })).toThrow(/has no switch 'vendors'/);
  expect(() => openSim({ machine: 'tee-io-7.2', teeIo: { dialects: ['aik-v3'] as never } })).toThrow(/teeIo.dialects takes/);
  expect(() => openSim({ machine: 'tee-io-7.2', teeIo: { dialects: 5 as never } })).toThrow(/teeIo.dialects must be an array/);
  expect(() => openSim({ machine: 'tee-io-7.2', teeIo: { dialects: ['aik-v2', 'aik-v2'] } })).toThrow(/has one twice/);
  expect(() => openSim({ machine: 'tee-io-7.2', teeIo: null as never })).toThrow(/must be 'off', 'rfc' or an object of switches/);
  expect(() => openSim({ machine: 'tee-io-7.2', teeIo: { constructor: 1 } as never })).toThrow(/has no switch 'constructor'/);
});
