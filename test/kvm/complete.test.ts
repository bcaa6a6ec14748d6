// The object layer against the ioctl table: every request of a KVM descriptor has a method, and every method says which request it is.
import { GuestMemfd, Kvm, KvmDevice, KvmStats, KvmVfio, Vcpu, Vm } from 'kvio';
import { describe, expect, it } from 'vitest';
import { type Class, documented, lineage, member, methodsOf, type Pair, pairsOf, undocumented } from '../kernel/methods.ts';

const methods = methodsOf('kvm');

/** The class of each kind of descriptor. */
const classes: Readonly<Record<string, Class>> = {
  kvm: Kvm,
  vm: Vm,
  vcpu: Vcpu,
  'kvm-device': KvmDevice,
  'kvm-stats': KvmStats,
  'guest-memfd': GuestMemfd,
};

/** Requests without a method, and why. `handle.ioctl` takes them. */
const reasons: readonly (readonly [pattern: RegExp, reason: string])[] = [
  [/^KVM_(CREATE|GET|SET)_PIT$/, 'KVM_CREATE_PIT2, KVM_GET_PIT2 and KVM_SET_PIT2 do the same and more'],
  [/^KVM_SET_CPUID$/, 'KVM_SET_CPUID2 does the same and more'],
  [/^KVM_MEMORY_ENCRYPT_/, 'SEV and TDX: a protocol of its own with firmware and quotes, not a request'],
  [/^KVM_XEN_/, 'Xen guests'],
  [/^KVM_HYPERV_/, 'Hyper-V guests'],
  [/^KVM_GET_SUPPORTED_HV_CPUID vcpu$/, 'Hyper-V guests; kvm.getSupportedHvCpuid tells what the host has'],
];
const reasonOf = (pair: Pair): string | undefined => reasons.find(([pattern]) => appliesTo(pattern, pair))?.[1];

const appliesTo = (pattern: RegExp, { name, kind }: Pair): boolean => pattern.test(name) || pattern.test(`${name} ${kind}`);

const pairs = pairsOf('KVM_', classes);

describe('the ioctl table', () => {
  it('has KVM requests of every kind', () => {
    expect(pairs.length).toBeGreaterThan(110);
    expect(new Set(pairs.map(({ kind }) => kind))).toEqual(new Set(['kvm', 'vm', 'vcpu', 'kvm-device']));
  });

  it.each(pairs.filter(({ name, kind }) => reasonOf({ name, kind }) === undefined))('$name is a method of a $kind', ({
    name,
    kind,
  }) => {
    const method = documented(methods, classes[kind]!, name);
    expect(method, `${name} of a ${kind}`).toBeDefined();
    expect(typeof member(classes[kind]!, method!.name)).toBe('function');
  });

  it('has each request that is said to have no method, and none of them has one', () => {
    for (const [pattern] of reasons)
      expect(
        pairs.some((pair) => appliesTo(pattern, pair)),
        String(pattern),
      ).toBe(true);
    expect(
      pairs.filter(
        ({ name, kind }) => reasonOf({ name, kind }) !== undefined && documented(methods, classes[kind]!, name) !== undefined,
      ),
    ).toEqual([]);
  });
});

describe('docstrings', () => {
  const public_ = [...new Set(Object.values({ ...classes, 'kvm-vfio': KvmVfio }).flatMap(lineage))].filter(
    (name) => name !== 'Handle',
  );

  it('are found for every method there is', () => {
    expect([...Object.values(classes), KvmVfio].flatMap((type) => undocumented(methods, type))).toEqual([]);
  });

  // What is no request: how a handle comes from a descriptor, iteration, turns, and what is inherited with its text.
  const other = new Set(['fromFd', 'exits', 'queue', 'ioctl', 'tryIoctl', 'kick', 'describe']);
  const asked = methods.filter(({ of, name }) => public_.includes(of) && !other.has(name));

  it.each(asked)('$of.$name names its ioctl or system call first', ({ doc, name, of }) => {
    const overload = methods.some((one) => one.of === of && one.name === name && one.doc !== '');
    if (doc === '') expect(overload, 'another signature has the text').toBe(true);
    else expect(doc).toMatch(/^(?:Opens `\/dev\/kvm`|(?:KVM_[A-Z0-9_]+|[a-z]+\(2\))|The)/);
  });
});
